//! The seeds of the fuzz targets, and some thousand mutations of them that are the same in every
//! run, on the ordinary toolchain. What the fuzzer finds becomes a seed and is held here from then
//! on.
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::print_stdout, reason = "figures belong to the output of a test")]
#![allow(clippy::disallowed_methods, reason = "the seeds are files of the repository")]
#![allow(unreachable_pub, reason = "the targets are a library of the fuzzer too")]

use std::path::PathBuf;
use std::sync::atomic::Ordering;

mod targets;

/// All seeds of a target stay below this, in bytes.
const SEEDS_MAX: usize = 100 * 1024;
const MUTATIONS_PER_SEED: u64 = 10;

fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % bound.max(1)
    }
}

fn mutated(seed: &[u8], chance: &mut Xorshift) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        let byte = [0, 1, 0x7f, 0x80, 0xff, chance.below(256) as u8][chance.below(6)];
        match chance.below(5) {
            0 => bytes.insert(at, byte),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(at..),
            _ if bytes.is_empty() => bytes.push(byte),
            _ => bytes[at] = byte,
        }
    }
    bytes
}

fn replay(name: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mut seeds = files(&format!("tests/fuzz/seeds/{name}"));
    assert!(!seeds.is_empty());
    assert!(seeds.iter().map(Vec::len).sum::<usize>() <= SEEDS_MAX, "seeds are few and small");
    if name == "requests" {
        seeds.extend(files("tests/wire/corpus"));
    }
    let mut runs = 0;
    for (seed, number) in seeds.iter().zip(1..) {
        run(seed);
        let mut chance = Xorshift(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number));
        for _ in 0..MUTATIONS_PER_SEED {
            run(&mutated(seed, &mut chance));
            runs += 1;
        }
    }
    let largest = targets::LARGEST.load(Ordering::Relaxed);
    println!("{name}: {} seeds, {runs} mutations; at most {largest} bytes", seeds.len());
}

#[test]
fn frames() {
    replay("frames");
}

#[test]
fn requests() {
    replay("requests");
}

#[test]
fn responses() {
    replay("responses");
}

#[test]
fn batches() {
    replay("batches");
}

#[test]
fn codecs() {
    replay("codecs");
}

#[test]
fn wal() {
    replay("wal");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn stored() {
    replay("stored");
}

#[test]
fn tier() {
    replay("tier");
}

#[test]
fn rewrites() {
    replay("rewrites");
}

#[test]
fn answers() {
    replay("answers");
}

#[test]
fn every_target_is_replayed() {
    let source = include_str!("replay.rs");
    for (name, _) in targets::TARGETS {
        assert!(source.contains(&format!("fn {name}() {{\n    replay(\"{name}\");")), "{name}");
    }
}

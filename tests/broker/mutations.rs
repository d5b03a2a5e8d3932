//! The wire suite's corpus and thousands of mutations of it, against the real process.

use std::path::PathBuf;

use tidegate::protocol::guard::shape::message;

use crate::harness::Broker;
use crate::hostile::{assert_pools_are_empty, frame};
use crate::requests::{assert_served, create_topic, noise};

const MIB: u64 = 1 << 20;
const RSS_GROWTH_MAX: u64 = 64 * MIB;
const MUTATIONS: u64 = 4_000;
/// One connection stays open to see that it is not harmed.
const BYSTANDERS: f64 = 1.0;

/// Every file of the corpus as a frame with its length: name and bytes.
pub fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/corpus");
    let mut frames: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let key = i16::from_be_bytes([bytes[0], bytes[1]]);
            let version = i16::from_be_bytes([bytes[2], bytes[3]]);
            let flexible = message(key).unwrap().flexible.contains(version);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, frame(key, version, flexible, &bytes[4..]))
        })
        .collect();
    frames.sort();
    assert!(frames.len() > 100);
    frames
}

/// A frame of the corpus with a few bytes changed; `seed` alone decides all of it.
pub fn mutation(corpus: &[(String, Vec<u8>)], seed: u64) -> Vec<u8> {
    let mut chance = Chance(noise(seed, 64));
    let (_, original) = &corpus[chance.below(corpus.len())];
    let mut bytes = original.clone();
    for _ in 0..=chance.below(4) {
        mutate(&mut bytes, &mut chance);
    }
    // Mostly the length is right, so that what is behind it is looked at.
    if chance.below(8) > 0
        && let Some(length) = bytes.len().checked_sub(4)
    {
        bytes[..4].copy_from_slice(&(length as i32).to_be_bytes());
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    const EXTREMES: [u32; 8] =
        [0, 1, 0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    let at = chance.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
    match chance.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, chance.next()),
        2 => {
            let copy = bytes[at..].to_vec();
            bytes.extend(copy);
        }
        3 if bytes.len() >= at + 4 => {
            let extreme = EXTREMES[chance.below(EXTREMES.len())].to_be_bytes();
            bytes[at..at + 4].copy_from_slice(&extreme);
        }
        4 => bytes.extend([0xff; 5]),
        // The key, the version and the client id are in the header.
        5 if bytes.len() > 14 => bytes[4 + at % 10] = chance.next(),
        _ if !bytes.is_empty() => bytes[at] = chance.next(),
        _ => {}
    }
}

struct Chance(Vec<u8>);

impl Chance {
    fn next(&mut self) -> u8 {
        self.0.pop().unwrap_or(0)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_be_bytes([self.next(), self.next()])) % bound
    }
}

/// Sends each of `frames` on a connection of its own and holds that the process is as well as
/// before: alive, no panic, all memory given back, resident memory bounded.
fn assert_harmless(frames: impl Iterator<Item = Vec<u8>>) {
    let mut broker = Broker::start();
    let mut bystander = broker.connect();
    create_topic(&mut bystander, "a", 1);
    assert_served(&mut bystander);
    let before = broker.resident();
    let mut sent = 0.0;
    for frame in frames {
        let mut wire = broker.connect();
        // What is answered is not read: the connection ends when its requests are handled.
        let _ = wire.send_raw(&frame);
        sent += 1.0;
    }
    broker.wait_until("every connection has ended", |broker| {
        let metrics = broker.metrics();
        metrics.get("tidegate_server_connections_open") <= BYSTANDERS
            && metrics.get("tidegate_server_connections_accepted_total") >= sent + BYSTANDERS
    });
    assert!(broker.is_running());
    assert_served(&mut bystander);
    let panics = "tidegate_server_connections_closed_total{cause=\"panic\"}";
    assert_eq!(broker.metrics().get(panics), 0.0);
    assert!(!broker.log().contains("ERROR"), "{}", broker.log());
    let grown = broker.resident_max().saturating_sub(before);
    println!("{grown} bytes more are resident");
    assert!(grown <= RSS_GROWTH_MAX, "{grown} bytes more are resident");
    assert_pools_are_empty(&broker);
}

#[test]
fn every_file_of_the_corpus_does_no_harm_over_a_socket() {
    assert_harmless(corpus().into_iter().map(|(_, frame)| frame));
}

#[test]
fn thousands_of_mutated_requests_do_no_harm_over_sockets() {
    let corpus = corpus();
    assert_harmless((0..MUTATIONS).map(|seed| mutation(&corpus, seed)));
}

#[test]
fn a_mutation_depends_on_its_seed_alone() {
    let corpus = corpus();
    assert_eq!(mutation(&corpus, 7), mutation(&corpus, 7));
    let different =
        (0..100).filter(|seed| mutation(&corpus, *seed) != mutation(&corpus, 7)).count();
    assert!(different >= 98);
}

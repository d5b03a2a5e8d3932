//! The checked-in corpus: one legal body per API and version, and every body that once did harm.
//! The fuzz target starts from the same files.
//!
//! A file is `i16 key | i16 version | body`. `WRITE_CORPUS=1 cargo test --test wire corpus` writes
//! the files anew.

#![allow(clippy::disallowed_methods, reason = "the corpus is a directory of the repository")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Once;

use bytes::Bytes;
use tidegate::protocol::guard::shape::message;
use tidegate::protocol::guard::{GuardError, Limits};

use crate::content::{Chance, body, served};
use crate::requests::round_trip;

/// The whole corpus stays below this, in bytes.
const MAX_BYTES: usize = 200 * 1024;

/// Bodies that the crate alone does not survive, or that Kafka refuses.
const HOSTILE: [(&str, i16, i16, &[u8]); 9] = [
    ("metadata-v4-count", 3, 4, &[0x7f, 0xff, 0xff, 0xff, 0, 0]),
    ("metadata-v9-count", 3, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ("metadata-v9-varint", 3, 9, &[0x80, 0x80, 0x80, 0x80, 0x80, 0]),
    ("metadata-v9-tags", 3, 9, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ("metadata-v9-tag", 3, 9, &[0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
    ("metadata-v1-length", 3, 1, &[0xff, 0xff, 0xff, 0xfe]),
    ("metadata-v1-utf8", 3, 1, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28]),
    ("produce-v7-count", 0, 7, &[255, 255, 255, 255, 0, 0, 0x75, 0x30, 0x7f, 255, 255, 255]),
    ("offsetfetch-v1-count", 9, 1, &[0, 0, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0]),
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/corpus")
}

fn sample(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes(), &version.to_be_bytes(), body].concat()
}

/// Chance that is the same on every machine (xorshift).
fn chance(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::new();
    while bytes.len() < 200 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes
}

/// What the corpus consists of, by file name.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (api, version) in served() {
        let key = api.key as i16;
        let shape = message(key).expect("every served API has a shape");
        let chance = chance((key as u64) << 16 | version as u64);
        let body = body(shape, version, &mut Chance::new(&chance));
        let name = format!("{}-v{version}", api.name.to_lowercase());
        files.insert(name, sample(key, version, &body));
    }
    for (name, key, version, body) in HOSTILE {
        files.insert(format!("hostile-{name}"), sample(key, version, body));
    }
    files
}

/// Writes the corpus if the environment says so, before either test reads it.
fn write_if_asked() {
    static WRITE: Once = Once::new();
    WRITE.call_once(|| {
        if std::env::var_os("WRITE_CORPUS").is_none() {
            return;
        }
        fs::create_dir_all(directory()).expect("create the corpus directory");
        for (name, bytes) in corpus() {
            fs::write(directory().join(name), bytes).expect("write a sample");
        }
    });
}

#[test]
fn corpus_is_what_the_generator_gives() {
    write_if_asked();
    let mut present = BTreeMap::new();
    for entry in fs::read_dir(directory()).expect("list the corpus") {
        let entry = entry.expect("list the corpus");
        let name = entry.file_name().into_string().expect("names are ASCII");
        present.insert(name, fs::read(entry.path()).expect("read a sample"));
    }
    for (name, bytes) in corpus() {
        assert_eq!(present.get(&name), Some(&bytes), "{name}");
    }
    assert!(present.values().map(Vec::len).sum::<usize>() < MAX_BYTES);
}

#[test]
fn every_file_of_the_corpus_is_decoded_or_refused() {
    write_if_asked();
    let (mut legal, mut refused) = (0, 0);
    for entry in fs::read_dir(directory()).expect("list the corpus") {
        let path = entry.expect("list the corpus").path();
        let bytes = Bytes::from(fs::read(&path).expect("read a sample"));
        let (key, version) = (i16::from_be_bytes([bytes[0], bytes[1]]), bytes.slice(2..4));
        let version = i16::from_be_bytes([version[0], version[1]]);
        match round_trip(key, version, &bytes.slice(4..), Limits::CONTROL) {
            Ok(()) => legal += 1,
            Err(GuardError::Malformed { .. }) => refused += 1,
            Err(other) => panic!("{}: {other}", path.display()),
        }
    }
    assert!(legal >= served().count());
    assert!(refused >= HOSTILE.len());
}

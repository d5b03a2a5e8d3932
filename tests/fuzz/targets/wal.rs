//! Any bytes as the files of a write-ahead log, and logs that were written and then damaged.
//!
//! Held here: nothing panics; memory is bounded by the files' size; a log that is opened has dense
//! record numbers; and every record that is replayed is one that was written, byte for byte, unless
//! the checksums were forged together with the bytes. The check beside it says the same.
//!
//! Input: what to start from, then edits of eight bytes; or whole files.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tidegate::wal::check::check;
use tidegate::wal::disk::Disk;
use tidegate::wal::local::{self, CheckpointKind, Env, Options, inspect};
use tidegate::wal::{Class, Kind, Lsn, Owner, ReserveError, Stream, memory};

use super::chance::Chance;
use super::disk::{Files, Folder};
use super::within;

/// Buffers of a walk, of a copy into a fresh file, and of the log's own blocks.
const STATE: usize = 8 << 20;
const FACTOR: usize = 8;
const PAGE: usize = 4096;
const DATA: Kind = Kind(1);

#[derive(Debug)]
struct Nobody;

impl Owner for Nobody {
    fn durable(&self, _: Lsn) {}

    fn evict(&self, _: Lsn) {}
}

/// A log as it was left, and what was written to it.
struct Sample {
    files: Files,
    records: BTreeMap<Lsn, Vec<u8>>,
}

fn options() -> Options {
    Options {
        file_bytes: 32 << 10,
        step_bytes: 8 << 10,
        first_file_bytes: 16 << 10,
        group_bytes: 8 << 10,
        ..memory::options()
    }
}

/// Made once: metrics take longer to make than a log to open.
fn env() -> Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(memory::env).clone()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn payload(index: usize) -> Vec<u8> {
    (0..=(index * 37) % 700).map(|at| (index * 31 + at * 7) as u8).collect()
}

async fn append(stream: &Stream, payload: &[u8]) -> Lsn {
    let owner: Arc<dyn Owner> = Arc::new(Nobody);
    let mut admission = stream.admit(payload.len()).await.expect("the pool is large enough");
    loop {
        match stream.reserve(&mut admission, Class::Data, DATA, payload.len(), &owner) {
            Ok(mut reservation) => {
                reservation.put(payload);
                let lsn = reservation.lsn();
                reservation.fill();
                return lsn;
            }
            Err(ReserveError::NoRoom) => {
                let room = stream.wait_for_room(Class::Data, payload.len());
                room.await.expect("the disk has no end");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A log of `count` records in `sessions` starts, with a checkpoint at the end of each but the last.
async fn written(count: usize, sessions: usize) -> Sample {
    let folder = Folder::of(&Files::new());
    let disk: Arc<dyn Disk> = folder.clone();
    let mut records = BTreeMap::new();
    for session in 0..sessions {
        let opened = local::open(&disk, &options(), &env()).expect("a sound log");
        let (stream, mut last) = (opened.stream, Lsn::ZERO);
        for index in 0..count {
            let bytes = payload(session * count + index);
            last = append(&stream, &bytes).await;
            records.insert(last, bytes);
        }
        stream.wait_durable(last).await.expect("the disk does not fail");
        if session + 1 < sessions {
            let kind = [CheckpointKind::Base, CheckpointKind::Delta][session % 2];
            let parts = vec![bytes::Bytes::from(payload(99)); 5];
            let published = stream.checkpoint(kind, last, parts.into_iter());
            published.expect("the disk does not fail");
        }
        stream.close().await.expect("the disk does not fail");
    }
    Sample { files: folder.copy(), records }
}

fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let runtime = runtime();
        [(3, 1), (60, 1), (40, 2), (20, 3)]
            .map(|(count, sessions)| runtime.block_on(written(count, sessions)))
            .into()
    })
}

/// One change to a file.
fn edit(files: &mut Files, chance: &mut Chance<'_>) {
    let names: Vec<String> = files.keys().cloned().collect();
    let Some(name) = names.get(chance.below(names.len().max(1))) else { return };
    let kind = chance.below(8);
    let (at, len) = (usize::from(chance.u16()), usize::from(chance.u16()));
    let (value, shift) = (chance.u8(), chance.u8());
    let Some(bytes) = files.get_mut(name) else { return };
    let at = if bytes.is_empty() { 0 } else { at % bytes.len() };
    match kind {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= value.max(1),
        2 if !bytes.is_empty() => bytes[at] = value,
        3 => {
            let end = (at + len % 5_000).min(bytes.len());
            bytes[at..end].fill(value & shift);
        }
        4 => bytes.truncate(at),
        5 => {
            // What lies in one place lies in another too.
            let copy = bytes[at..(at + len % 5_000).min(bytes.len())].to_vec();
            let to = (usize::from(shift) * 64).min(bytes.len());
            let end = (to + copy.len()).min(bytes.len());
            bytes[to..end].copy_from_slice(&copy[..end - to]);
        }
        6 => {
            files.remove(name);
        }
        7 if bytes.len() >= at + 8 => {
            let number = [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX)][usize::from(value) % 5];
            bytes[at..at + 8].copy_from_slice(&number.wrapping_sub(u64::from(shift)).to_le_bytes());
        }
        _ => {}
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..at + 4)
        .map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

/// Writes the checksum of `len` bytes behind them.
fn reseal_header(bytes: &mut [u8], at: usize, len: usize) {
    if let Some(header) = bytes.get_mut(at..at + len) {
        let (covered, crc) = header.split_at_mut(len - 4);
        crc.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    }
}

/// Gives every header and record of a log's file the checksum that fits what it says now: what a
/// bug would write, or somebody who means harm.
fn forge(bytes: &mut [u8]) {
    const FILE: usize = 84;
    const GROUP: usize = 72;
    const RECORD: usize = 24;
    reseal_header(bytes, 0, FILE);
    reseal_header(bytes, PAGE, FILE);
    let Some(seed) = bytes.get(8..24).map(crc32c::crc32c) else { return };
    let mut at = 2 * PAGE;
    while at + GROUP <= bytes.len() {
        if bytes.get(at..at + 4) != Some(b"TGWG") {
            at += 64;
            continue;
        }
        reseal_header(bytes, at, GROUP);
        let mut record = at + GROUP;
        for _ in 0..u32_at(bytes, at + 32).min(1_000) {
            let end = record + RECORD + u32_at(bytes, record + 4);
            let Some(whole) = bytes.get_mut(record..end) else { break };
            let crc = crc32c::crc32c_append(seed, &whole[4..]);
            whole[..4].copy_from_slice(&crc.to_le_bytes());
            record = end;
        }
        at += 64;
    }
}

/// Opens the log and replays it: the records, or nothing when it is refused.
fn replay(folder: &Arc<Folder>) -> Option<Vec<(Lsn, Vec<u8>)>> {
    let disk: Arc<dyn Disk> = folder.clone();
    let opened = local::open(&disk, &options(), &env()).ok()?;
    let recovered = opened.recovered;
    let parts = recovered.checkpoints.iter().flat_map(local::Checkpoint::parts);
    let whole = parts.filter(Result::is_err).count() == 0;
    let mut records = Vec::new();
    let mut next = recovered.covered.0.saturating_add(1);
    for entry in recovered.replay {
        let Ok(entry) = entry else { break };
        assert!(entry.lsn.0 >= next && entry.lsn <= recovered.end);
        next = entry.lsn.0.saturating_add(1);
        let read = opened.stream.read_record(entry.location).expect("it was read a moment ago");
        assert_eq!(read, entry.payload);
        records.push((entry.lsn, entry.payload.to_vec()));
    }
    runtime().block_on(opened.stream.close()).expect("the disk does not fail");
    whole.then_some(records)
}

fn damaged(chance: &mut Chance<'_>) {
    let choices = chance.u8();
    let sample = &samples()[usize::from(choices >> 2 & 0x1f) % samples().len()];
    let mut files = sample.files.clone();
    while !chance.is_empty() {
        edit(&mut files, chance);
    }
    let forged = choices & 1 == 1;
    if forged {
        files.values_mut().filter(|bytes| bytes.starts_with(b"TGWF")).for_each(|file| forge(file));
    }
    let Some(records) = judge(&files, choices & 0x80 != 0) else { return };
    for (lsn, payload) in records {
        assert!(forged || sample.records.get(&lsn) == Some(&payload), "record {lsn} is another");
    }
}

/// Looks at a log and, unless `only_looks`, opens it: its records then. Opening starts threads,
/// which takes most of the time.
fn judge(files: &Files, only_looks: bool) -> Option<Vec<(Lsn, Vec<u8>)>> {
    let size: usize = files.values().map(Vec::len).sum();
    let folder = Folder::of(files);
    let cap = STATE + FACTOR * size;
    let report = within(cap, || check(&*folder));
    let state = within(cap, || inspect(&*folder));
    assert!(folder.copy() == *files, "looking changes nothing");
    if only_looks {
        return None;
    }
    let records = within(cap, || replay(&folder));
    let sound = report.is_ok_and(|report| report.is_sound());
    assert!(!sound || state.is_ok());
    if records.is_some() {
        // Opening has made it whole: once more gives the same.
        assert!(replay(&folder) == records, "opened again it holds something else");
    }
    records
}

fn arbitrary(chance: &mut Chance<'_>) {
    const NAMES: [&str; 5] = [
        "00000001.wal",
        "00000002.wal",
        "checkpoint-00000001.base",
        "checkpoint-00000002.delta",
        "00000003.wal.tmp",
    ];
    let choices = chance.u8();
    let count = usize::from(choices >> 1 & 0x3f) % 3 + 1;
    let mut files = Files::new();
    for _ in 0..count {
        let name = NAMES[chance.below(NAMES.len())];
        let len = usize::from(chance.u16());
        let mut bytes = chance.bytes(len).to_vec();
        if choices & 1 == 1 {
            // Both copies of a header, whose magic is there.
            bytes.resize(bytes.len().max(3 * PAGE), 0);
            bytes[..6].copy_from_slice(b"TGWF\x01\0");
            bytes.copy_within(..84, PAGE);
            forge(&mut bytes);
        }
        files.insert(name.to_owned(), bytes);
    }
    judge(&files, choices & 0x80 != 0);
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    if chance.bool() { arbitrary(&mut chance) } else { damaged(&mut chance) }
}

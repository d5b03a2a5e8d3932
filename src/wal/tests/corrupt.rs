//! Damage behind the log's back: what was proven synced is refused, the rest is a torn tail, and no
//! damaged byte is ever handed out.

use std::sync::Arc;

use super::sim::SimDisk;
use super::{Watcher, append};
use crate::clock::Random;
use crate::wal::check::{Ending, check};
use crate::wal::disk::Disk;
use crate::wal::format::{FIRST_GROUP, GROUP_HEADER};
use crate::wal::local::{self, CheckpointKind, OpenError, Options};
use crate::wal::{Class, Location, Lsn, Owner, ReadError, Stream, memory};

fn options() -> Options {
    Options {
        file_bytes: 32 << 10,
        step_bytes: 8 << 10,
        first_file_bytes: 20 << 10,
        group_bytes: 8 << 10,
        ..memory::options()
    }
}

fn try_open(disk: &Arc<SimDisk>) -> Result<local::Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    local::open(&disk, &options(), &memory::env())
}

fn payload(lsn: u64) -> Vec<u8> {
    (0..100 + lsn * 13 % 400).map(|at| (at + lsn) as u8).collect()
}

/// A log of `count` records, each synced alone, on a disk that nobody uses any more.
async fn written(count: u64) -> (Arc<SimDisk>, Vec<Location>) {
    let disk = SimDisk::new();
    let stream = try_open(&disk).unwrap().stream;
    let owner: Arc<dyn Owner> = Arc::new(Watcher::default());
    let mut locations = Vec::new();
    for lsn in 1..=count {
        let (lsn, location) = append(&stream, Class::Data, &owner, &payload(lsn)).await;
        stream.wait_durable(lsn).await.unwrap();
        locations.push(location);
    }
    stream.close().await.unwrap();
    (disk.copy(), locations)
}

fn name_of(disk: &SimDisk, location: Location) -> String {
    let report = check(disk).unwrap();
    report.files.into_iter().find(|file| file.number == location.file).unwrap().name
}

/// Every record that the log hands out must be as it was written.
fn read_all(opened: local::Opened) -> (Stream, Vec<Lsn>) {
    let replayed = opened.recovered.replay.map(|entry| {
        let entry = entry.unwrap();
        assert_eq!(entry.payload, payload(entry.lsn.0));
        entry.lsn
    });
    let replayed = replayed.collect();
    (opened.stream, replayed)
}

#[tokio::test]
async fn a_flipped_byte_in_a_proven_record_is_refused_with_its_place() {
    let (disk, locations) = written(120).await;
    let random = Random::seeded(4);
    assert!(check(&*disk).unwrap().is_sound());
    for _ in 0..200 {
        let index = random.below(119) as usize;
        let location = locations[index];
        // Every record was synced alone, so that its group's header is right before it.
        let group = location.position - GROUP_HEADER as u64;
        let at = group + random.below(location.end() - group);
        let place = if at < location.position { group } else { location.position };
        let disk = disk.copy();
        let name = name_of(&disk, location);
        disk.corrupt(&name, at, 1 << random.below(8));
        let Err(OpenError::Corrupt { file, position, lsn, proven }) = try_open(&disk) else {
            panic!("byte {at} of {name} is damaged");
        };
        assert_eq!((file, position, lsn), (name, place, Lsn(index as u64 + 1)));
        assert!(proven >= lsn);
        let report = check(&*disk).unwrap();
        assert!(!report.is_sound() && report.to_string().contains("CORRUPT at byte"));
    }
}

#[tokio::test]
async fn a_flipped_byte_in_the_unproven_record_is_a_torn_tail() {
    let (disk, locations) = written(20).await;
    let last = locations[19];
    let name = name_of(&disk, last);
    for at in last.position..last.end() {
        let disk = disk.copy();
        disk.corrupt(&name, at, 0x10);
        let report = check(&*disk).unwrap();
        assert!(report.is_sound());
        assert_eq!(report.files.last().unwrap().ending, Ending::Torn(last.position));
        let opened = try_open(&disk).unwrap();
        assert!(opened.recovered.torn);
        let (stream, replayed) = read_all(opened);
        assert!(replayed.into_iter().eq((1..=19).map(Lsn)));
        assert_eq!(stream.durable(), Lsn(19));
    }
}

#[tokio::test]
async fn one_flipped_byte_in_a_file_header_changes_nothing() {
    let (disk, locations) = written(120).await;
    for at in (0..FIRST_GROUP).step_by(3) {
        let disk = disk.copy();
        let name = name_of(&disk, locations[119]);
        disk.corrupt(&name, at, 0x40);
        let (_, replayed) = read_all(try_open(&disk).unwrap());
        assert_eq!(replayed.len(), 120);
    }
}

#[tokio::test]
async fn a_missing_file_is_refused() {
    let (disk, _) = written(200).await;
    let report = check(&*disk).unwrap();
    assert!(report.files.len() >= 3);
    for file in &report.files[..report.files.len() - 1] {
        let disk = disk.copy();
        disk.remove(&file.name).unwrap();
        let refused = try_open(&disk);
        assert!(matches!(refused, Err(OpenError::Missing { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_damaged_or_lost_checkpoint_is_refused() {
    let disk = SimDisk::new();
    let stream = try_open(&disk).unwrap().stream;
    let owner: Arc<dyn Owner> = Arc::new(Watcher::default());
    for (kind, lsn) in [(CheckpointKind::Base, 1), (CheckpointKind::Delta, 2)] {
        append(&stream, Class::Data, &owner, &payload(lsn)).await;
        let log = stream.clone();
        let parts = vec![payload(77).into(); 9];
        let done = crate::task::blocking(move || log.checkpoint(kind, Lsn(lsn), parts.into_iter()));
        done.await.unwrap().unwrap();
    }
    stream.close().await.unwrap();
    let names = disk.list().unwrap();
    let checkpoints: Vec<_> = names.iter().filter(|name| name.starts_with("check")).collect();
    assert_eq!(checkpoints.len(), 2);
    for name in checkpoints {
        for at in (0..disk.file(name).len()).step_by(11) {
            let disk = disk.copy();
            disk.corrupt(name, at as u64, 2);
            assert!(!check(&*disk).is_ok_and(|report| report.is_sound()), "byte {at}");
            let refused = match try_open(&disk) {
                Err(error) => Some(error),
                Ok(opened) => {
                    let mut parts =
                        opened.recovered.checkpoints.iter().flat_map(|found| found.parts());
                    parts.find_map(Result::err)
                }
            };
            assert!(matches!(refused, Some(OpenError::CorruptCheckpoint { .. })), "byte {at}");
        }
        let disk = disk.copy();
        disk.remove(name).unwrap();
        let refused = try_open(&disk);
        let expected = matches!(
            refused,
            Err(OpenError::CorruptCheckpoint { .. } | OpenError::LostCheckpoint { .. })
        );
        assert!(expected, "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn a_record_damaged_while_the_log_runs_is_not_handed_out() {
    let disk = SimDisk::new();
    let stream = try_open(&disk).unwrap().stream;
    let owner: Arc<dyn Owner> = Arc::new(Watcher::default());
    let (lsn, location) = append(&stream, Class::Data, &owner, &payload(1)).await;
    stream.wait_durable(lsn).await.unwrap();
    disk.corrupt("00000001.wal", location.end() - 1, 1);
    let read = stream.read_record(location);
    let Err(ReadError::Corrupt { position, .. }) = read else { panic!("{read:?}") };
    assert_eq!(position, location.position);
    let wrong = Location { len: location.len - 1, ..location };
    assert!(stream.read_record(wrong).is_err());
}

#[tokio::test]
async fn random_damage_never_gives_a_record_that_was_not_written() {
    let (disk, _) = written(60).await;
    let random = Random::seeded(8);
    let names = disk.list().unwrap();
    for _ in 0..300 {
        let disk = disk.copy();
        for _ in 0..=random.below(20) {
            let name = &names[random.below(names.len() as u64) as usize];
            let len = disk.file(name).len() as u64;
            disk.corrupt(name, random.below(len), random.below(256) as u8);
        }
        if let Ok(opened) = try_open(&disk) {
            let (_, replayed) = read_all(opened);
            assert!(replayed.iter().zip(1..).all(|(lsn, number)| *lsn == Lsn(number)));
        }
    }
}

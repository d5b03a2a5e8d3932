//! What every log promises, on files in memory and on disk.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::{DATA, Watcher, append};
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::local::{self, CheckpointKind, OpenError, Opened, Options};
use crate::wal::memory::{self, MemoryDisk};
use crate::wal::{Class, Location, Lsn, Owner, ReadError, ReserveError, Stream};

/// The disks that the contract is checked on.
fn disks() -> Vec<(Arc<dyn Disk>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let real: Arc<dyn Disk> = RealDisk::new(dir.path().join("wal"));
    let memory: Arc<dyn Disk> = MemoryDisk::new();
    vec![(memory, None), (real, Some(dir))]
}

fn options() -> Options {
    Options {
        file_bytes: 128 << 10,
        step_bytes: 16 << 10,
        first_file_bytes: 32 << 10,
        group_bytes: 16 << 10,
        ..memory::options()
    }
}

fn open(disk: &Arc<dyn Disk>) -> Opened {
    local::open(disk, &options(), &memory::env()).unwrap()
}

/// Closes the log and opens it again.
async fn reopen(disk: &Arc<dyn Disk>, stream: Stream) -> Opened {
    stream.close().await.unwrap();
    open(disk)
}

fn owner() -> Arc<dyn Owner> {
    Arc::new(Watcher::default())
}

fn payload(id: usize) -> Vec<u8> {
    (0..id * 37 % 2000).map(|at| (at + id) as u8).collect()
}

/// Appends `count` records and waits until they are durable.
async fn fill(stream: &Stream, count: usize) -> Vec<(Lsn, Location)> {
    let owner = owner();
    let mut placed = Vec::new();
    for id in 0..count {
        placed.push(append(stream, Class::Data, &owner, &payload(id)).await);
    }
    stream.flush().await.unwrap();
    placed
}

#[tokio::test]
async fn records_keep_number_order_and_bytes_across_files_and_a_restart() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let placed = fill(&stream, 400).await;
        assert!(placed.iter().zip(1..).all(|((lsn, _), number)| *lsn == Lsn(number)));
        assert!(placed.last().unwrap().1.file > placed[0].1.file, "several files are in use");
        for (id, (_, location)) in placed.iter().enumerate() {
            assert_eq!(stream.read_record(*location).unwrap(), payload(id));
        }
        let opened = reopen(&disk, stream).await;
        assert_eq!(opened.recovered.end, Lsn(400));
        let mut replayed = 0;
        for (id, entry) in opened.recovered.replay.enumerate() {
            let entry = entry.unwrap();
            assert_eq!((entry.lsn, entry.kind), (Lsn(id as u64 + 1), DATA));
            assert_eq!(entry.payload, payload(id));
            assert_eq!(opened.stream.read_record(entry.location).unwrap(), payload(id));
            replayed += 1;
        }
        assert_eq!(replayed, 400);
        assert_eq!(fill(&opened.stream, 1).await[0].0, Lsn(401));
    }
}

#[tokio::test]
async fn a_span_is_walked_from_a_record_or_a_group_to_its_end() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let placed = fill(&stream, 100).await;
        let file = placed[10].1.file;
        let in_file: Vec<_> = placed.iter().filter(|(_, at)| at.file == file).collect();
        for first in [0, 3, in_file.len() - 1] {
            let (last_lsn, last) = in_file[in_file.len() - 1];
            let mut seen = Vec::new();
            let end = stream
                .read_span(file, in_file[first].1.position, last.end(), |entry| {
                    assert_eq!(entry.payload, payload(entry.lsn.0 as usize - 1));
                    seen.push((entry.lsn, entry.location));
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(end, last.end());
            assert!(seen.iter().eq(in_file[first..].iter().copied()));
            assert_eq!(seen.last().unwrap().0, *last_lsn);
        }
        let mut count = 0;
        let from = in_file[0].1.position;
        let stopped = stream.read_span(file, from, u64::MAX, |_| {
            count += 1;
            if count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped.unwrap(), in_file[1].1.end());
        let between = stream.read_span(file, from + 1, u64::MAX, |_| ControlFlow::Continue(()));
        assert!(matches!(between, Err(ReadError::Corrupt { .. })));
    }
}

async fn checkpoint(stream: &Stream, kind: CheckpointKind, covers: Lsn, parts: Vec<Bytes>) {
    let stream = stream.clone();
    let done = crate::task::blocking(move || stream.checkpoint(kind, covers, parts.into_iter()));
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn records_that_a_checkpoint_may_know_stay_where_its_parts_say() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let owner: Arc<dyn Owner> = Arc::new(Watcher::default());
        let (lsn, placed) = append(&stream, Class::Data, &owner, b"known to a part").await;
        // The part was taken after the record, which is above what the checkpoint covers.
        checkpoint(&stream, CheckpointKind::Base, Lsn::ZERO, vec![Bytes::new()]).await;
        let opened = reopen(&disk, stream).await;
        let replayed: Vec<_> = opened.recovered.replay.map(Result::unwrap).collect();
        assert_eq!(replayed.first().map(|entry| (entry.lsn, entry.location)), Some((lsn, placed)));
        assert_eq!(&opened.stream.read_record(placed).unwrap()[..], b"known to a part");
    }
}

#[tokio::test]
async fn a_start_gets_base_and_deltas_and_only_the_records_after_them() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        fill(&stream, 50).await;
        assert_eq!(stream.next_checkpoint(), CheckpointKind::Base);
        let base = vec![Bytes::from(vec![1; 1000]), Bytes::new(), Bytes::from_static(b"end")];
        checkpoint(&stream, CheckpointKind::Base, Lsn(30), base.clone()).await;
        assert_eq!(stream.next_checkpoint(), CheckpointKind::Delta);
        assert!(stream.bytes_since_checkpoint() < 1000);
        checkpoint(&stream, CheckpointKind::Delta, Lsn(40), vec![Bytes::from_static(b"d")]).await;
        let large = vec![Bytes::from(vec![2; 900])];
        checkpoint(&stream, CheckpointKind::Delta, Lsn(41), large.clone()).await;
        assert_eq!(stream.next_checkpoint(), CheckpointKind::Base);
        let opened = reopen(&disk, stream).await;
        let found = &opened.recovered.checkpoints;
        let read =
            |index: usize| -> Vec<Bytes> { found[index].parts().map(Result::unwrap).collect() };
        let kinds: Vec<_> = found.iter().map(|one| (one.kind, one.covers)).collect();
        let delta = CheckpointKind::Delta;
        let expected = [(CheckpointKind::Base, Lsn(30)), (delta, Lsn(40)), (delta, Lsn(41))];
        assert_eq!(kinds, expected);
        assert_eq!((read(0), read(2)), (base, large.clone()));
        let replayed: Vec<_> = opened.recovered.replay.map(|entry| entry.unwrap().lsn).collect();
        assert!(replayed.into_iter().eq((42..=50).map(Lsn)));
        checkpoint(&opened.stream, CheckpointKind::Base, Lsn(45), large).await;
        let names = disk.list().unwrap();
        let left = names.iter().filter(|name| name.starts_with("checkpoint")).count();
        assert_eq!(left, 1, "what the new base replaces is deleted: {names:?}");
    }
}

#[tokio::test]
async fn a_file_is_used_again_only_without_need_and_without_readers() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let placed = fill(&stream, 300).await;
        let (first, last) = (placed[0].1, placed[299].0);
        stream.trim(last).await.unwrap();
        assert_eq!(stream.oldest_file().0, first.file, "no checkpoint covers it");
        let pin = stream.pin(first.file).unwrap();
        checkpoint(&stream, CheckpointKind::Base, last, Vec::new()).await;
        assert_eq!(stream.oldest_file().0, first.file, "a reader holds it");
        assert_eq!(pin.read_record(first).unwrap(), payload(0));
        drop(pin);
        assert!(stream.oldest_file().0 > first.file);
        assert!(matches!(stream.read_record(first), Err(ReadError::Recycled { .. })));
        let before = stream.disk_bytes();
        for _ in 0..10 {
            let (last, _) = *fill(&stream, 200).await.last().unwrap();
            stream.trim(last).await.unwrap();
            checkpoint(&stream, CheckpointKind::Base, last, Vec::new()).await;
            assert!(matches!(stream.read_record(first), Err(ReadError::Recycled { .. })));
        }
        let most = before + 2 * options().file_bytes;
        assert!(stream.disk_bytes() <= most, "files are used again");
        let floor = stream.floor();
        let opened = reopen(&disk, stream).await;
        assert!(opened.stream.floor() >= floor);
        assert!(opened.stream.oldest_file().1 <= floor);
    }
}

#[tokio::test]
async fn a_directory_has_one_user_and_one_identity() {
    for (disk, _dir) in disks() {
        assert_eq!(local::inspect(&*disk).unwrap(), None);
        let stream = open(&disk).stream;
        let again = local::open(&disk, &options(), &memory::env());
        assert!(matches!(again, Err(OpenError::Locked)));
        let state = local::inspect(&*disk).unwrap().unwrap();
        assert_eq!((state.has_records, state.metadata_number), (false, 0));
        stream.set_metadata_number(17);
        stream.set_metadata_number(3);
        fill(&stream, 3).await;
        let opened = reopen(&disk, stream).await;
        assert_eq!(opened.recovered.metadata_number, 17);
        let state = local::inspect(&*disk).unwrap().unwrap();
        assert_eq!(state.identity, options().identity);
        assert_eq!((state.has_records, state.metadata_number), (true, 17));
        opened.stream.close().await.unwrap();
        let foreign = Options { identity: *b"somebody else's.", ..options() };
        let refused = local::open(&disk, &foreign, &memory::env());
        assert!(matches!(refused, Err(OpenError::Foreign { .. })));
    }
}

#[tokio::test]
async fn restarts_do_not_pile_up_files() {
    for (disk, _dir) in disks() {
        let mut stream = open(&disk).stream;
        fill(&stream, 5).await;
        for _ in 0..10 {
            let opened = reopen(&disk, stream).await;
            assert_eq!(opened.recovered.replay.count(), 5);
            stream = opened.stream;
        }
        stream.close().await.unwrap();
        let files = disk.list().unwrap();
        assert!(files.len() <= 5, "{files:?}");
    }
}

#[tokio::test]
async fn a_large_record_has_a_group_of_its_own_and_a_larger_one_is_refused() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let owner = owner();
        let large: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        for _ in 0..3 {
            let (lsn, location) = append(&stream, Class::Data, &owner, &large).await;
            append(&stream, Class::Data, &owner, b"small").await;
            stream.wait_durable(lsn).await.unwrap();
            assert_eq!(stream.read_record(location).unwrap(), large);
        }
        let mut admission = stream.admit(200_000).await.unwrap();
        let refused = stream.reserve(&mut admission, Class::Data, DATA, 200_000, &owner);
        assert!(matches!(refused, Err(ReserveError::TooLarge { .. })));
        assert_eq!(admission.bytes(), 200_000, "nothing was taken");
        let refused = stream.reserve(&mut admission, Class::Data, DATA, 200, &owner);
        drop(refused.unwrap().fill());
        assert_eq!(admission.bytes(), 199_800);
    }
}

#[tokio::test]
async fn a_known_crc_gives_the_same_record() {
    for (disk, _dir) in disks() {
        let stream = open(&disk).stream;
        let owner = owner();
        for (head, tail) in [(10, 50_000), (0, 40_000), (5, 100), (0, 0)] {
            let bytes: Vec<u8> = (0..head + tail).map(|at| (at * 3) as u8).collect();
            let mut admission = stream.admit(bytes.len()).await.unwrap();
            stream.wait_for_room(Class::Data, bytes.len()).await.unwrap();
            let mut reservation =
                stream.reserve(&mut admission, Class::Data, DATA, bytes.len(), &owner).unwrap();
            let (lsn, location) = (reservation.lsn(), reservation.location());
            reservation.put(&bytes);
            let filled = reservation.fill_with_tail_crc(tail, crc32c::crc32c(&bytes[head..]));
            assert_eq!(filled, bytes);
            stream.wait_durable(lsn).await.unwrap();
            assert_eq!(stream.read_record(location).unwrap(), bytes);
        }
    }
}

/// DESIGN D8: append times are what ages are measured by across a restart.
#[tokio::test]
async fn append_times_do_not_follow_a_wall_clock_that_jumps() {
    const DAY_MS: i64 = 86_400_000;
    for (disk, _dir) in disks() {
        let env = memory::env();
        let env = local::Env { clock: crate::clock::Clock::manual(5 * DAY_MS), ..env };
        for jump in [0, 2 * DAY_MS, -9 * DAY_MS] {
            env.clock.shift_wall(jump);
            let stream = local::open(&disk, &options(), &env).unwrap().stream;
            fill(&stream, 2).await;
            env.clock.shift_wall(jump);
            fill(&stream, 2).await;
            stream.close().await.unwrap();
        }
        let opened = local::open(&disk, &options(), &env).unwrap();
        let times: Vec<_> = opened.recovered.replay.map(|entry| entry.unwrap().append_ms).collect();
        assert_eq!(times.len(), 12);
        assert!(times.is_sorted(), "{times:?}");
        assert!(times.iter().all(|ms| (5 * DAY_MS..6 * DAY_MS).contains(ms)), "{times:?}");
        assert!(opened.stream.log_clock().now_ms() < 6 * DAY_MS);
        opened.stream.close().await.unwrap();
    }
}

use proptest::prelude::*;

use super::*;
use crate::partition::producers::PRODUCER_BYTES;
use crate::protocol::batch::empty_batch;

/// What replay must restore: everything but the times that states age by.
fn summary(partition: &Partition) -> String {
    let state = partition.lock_advanced();
    let producers: Vec<_> = state
        .producers
        .sorted()
        .into_iter()
        .map(|(id, producer)| (id, producer.epoch, producer.run, producer.batches().to_vec()))
        .collect();
    let runs: Vec<_> = state
        .index
        .runs()
        .map(|run| {
            (run.file, run.first_lsn, run.max_timestamp, run.entries.clone(), run.holes.clone())
        })
        .collect();
    let offsets = (state.log_start(), state.high_watermark(), state.log_end());
    let epochs = (state.leader_epoch, state.epochs.starts().to_vec());
    format!(
        "{offsets:?} {:?} {epochs:?} {:?} {producers:?} {runs:?}",
        state.lsn,
        state.index.bytes()
    )
}

#[derive(Clone, Debug)]
enum Step {
    Append(i32, usize),
    Sequenced(i32, i64),
    Delete(i32, i64),
    RaiseEpoch(i32),
    /// Parts of both partitions are taken here.
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..2i32;
    let step = prop_oneof![
        4 => (partition.clone(), 10..30_000usize).prop_map(|(at, size)| Step::Append(at, size)),
        4 => (partition.clone(), 1..4i64).prop_map(|(at, id)| Step::Sequenced(at, id)),
        1 => (partition.clone(), 0..101i64).prop_map(|(at, share)| Step::Delete(at, share)),
        1 => partition.prop_map(Step::RaiseEpoch),
        1 => Just(Step::Checkpoint),
    ];
    prop::collection::vec(step, 1..60)
}

/// Plays the steps and returns the parts of every checkpoint that was taken.
async fn play(broker: &Broker, steps: &[Step]) -> Vec<Vec<Vec<u8>>> {
    let partitions = [0, 1].map(|at| broker.partition(at));
    let mut next = [[0; 4]; 2];
    let mut checkpoints = vec![Vec::new()];
    for step in steps {
        match step {
            Step::Append(at, size) => {
                broker.append(&partitions[*at as usize], &batch(2, *size)).await;
            }
            Step::Sequenced(at, id) => {
                let sequence = &mut next[*at as usize][*id as usize];
                let sent = sequenced(*id, 0, *sequence);
                broker.append(&partitions[*at as usize], &sent).await;
                *sequence += 1;
            }
            Step::Delete(at, share) => {
                broker.flush().await;
                let partition = &partitions[*at as usize];
                let before = partition.offsets().high_watermark * share / 100;
                broker.delete_records(partition, before).await;
            }
            Step::RaiseEpoch(at) => {
                let partition = &partitions[*at as usize];
                partition.set_leader_epoch(partition.leader_epoch() + 1);
            }
            // Taken while records are in flight: the WAL publishes it later.
            Step::Checkpoint => checkpoints
                .push(partitions.iter().map(|partition| partition.checkpoint_part().1).collect()),
        }
    }
    broker.flush().await;
    checkpoints
}

/// New partitions over the same WAL, from these parts and all records.
fn restarted(broker: &Broker, parts: &[Vec<u8>]) -> Partitions {
    restarted_in(broker, parts, shared(&broker.stream))
}

fn restarted_in(broker: &Broker, parts: &[Vec<u8>], shared: Arc<Shared>) -> Partitions {
    let partitions = Partitions::new(shared);
    let mut replay = Replay::new(&partitions, |id| id == topic());
    for part in parts {
        replay.load_part(part).unwrap();
    }
    for record in broker.wal_records() {
        replay.apply(record).unwrap();
    }
    assert_eq!(replay.skipped(), 0);
    drop(replay);
    for partition in broker.partitions.all() {
        partitions.get_or_create(partition.id(), partition.leader_epoch());
    }
    partitions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn replay_after_any_checkpoint_gives_the_live_state(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = Broker::new();
            for parts in play(&broker, &steps).await {
                let again = restarted(&broker, &parts);
                for live in broker.partitions.all() {
                    let replayed = again.get(live.id()).unwrap();
                    assert_eq!(summary(&replayed), summary(&live), "{} parts", parts.len());
                    assert_eq!(read_all(&replayed), read_all(&live));
                }
            }
        });
    }
}

#[tokio::test]
async fn a_duplicate_is_known_after_a_restart() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for sequence in 0..3 {
        broker.append(&partition, &sequenced(9, 0, sequence)).await;
    }
    broker.flush().await;
    let again = restarted(&broker, &[]);
    let partition = again.get(of(0)).unwrap();
    let duplicate = broker.append(&partition, &sequenced(9, 0, 1)).await;
    assert_eq!((duplicate.duplicate, duplicate.base_offset), (true, 1));
    assert!(duplicate.lsn <= broker.stream.durable());
    let sent = sequenced(9, 0, 4);
    let gap = broker.try_append(&partition, &request(&sent, &broker.clock)).await;
    assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 3, got: 4, .. })));
}

/// The whole way: published checkpoints, the WAL's own recovery, trimmed files.
#[tokio::test]
async fn a_broker_comes_back_from_its_disk() {
    let mut broker = Broker::new();
    let mut sent = 0;
    for round in 0..4 {
        let (partition, other) = (broker.partition(0), broker.partition(1));
        for _ in 0..12 {
            let next = sequenced(9, 0, sent);
            assert_eq!(broker.append(&partition, &next).await.base_offset, i64::from(sent));
            broker.append(&other, &batch(1, 20_000)).await;
            sent += 1;
        }
        broker.flush().await;
        if round % 2 == 0 {
            let (stream, kind) = (broker.stream.clone(), broker.stream.next_checkpoint());
            let parts = [&partition, &other].map(|partition| partition.checkpoint_part().1);
            let covers = stream.reserved();
            let parts = parts.map(Bytes::from).into_iter();
            stream.checkpoint(kind, covers, parts).unwrap();
        }
        // Only the small partition keeps what it has.
        broker.delete_records(&other, -1).await;
        let needed = broker.partitions.oldest_needed().unwrap();
        assert_eq!(needed.of, of(0));
        broker.stream.trim(needed.lsn).await.unwrap();
        // Recovery may have moved records into another file: what they are must be the same.
        let content = |partition: &Arc<Partition>| {
            let all = read_all(partition);
            (partition.offsets(), partition.producer_count(), partition.size_bytes(), all)
        };
        let before = [&partition, &other].map(content);
        drop((partition, other));
        broker = broker.restart().await;
        let after = [0, 1].map(|at| content(&broker.partition(at)));
        assert!(after == before, "round {round}");
    }
    let partition = broker.partition(0);
    assert_eq!(read_all(&partition).len(), sent as usize);
    let again = broker.append(&partition, &sequenced(9, 0, sent - 5)).await;
    assert_eq!((again.duplicate, again.base_offset), (true, i64::from(sent - 5)));
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_across_the_seam() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..3 {
        broker.append(&partition, &batch(1, 200)).await;
    }
    broker.flush().await;
    let again = restarted(&broker, &[]);
    let partition = again.get(of(0)).unwrap();
    broker.disk.hold();
    broker.append(&partition, &batch(1, 200)).await;
    // The new batch shares a stretch with old ones and is not in the file yet.
    assert_eq!(read(&partition, &from(1, 1 << 20)).unwrap().len(), 2);
    assert_eq!(offset_for_timestamp(&partition, 10, MOST).unwrap().unwrap().offset, 0);
    broker.disk.release();
    broker.flush().await;
    assert_eq!(read(&partition, &from(1, 1 << 20)).unwrap().len(), 3);
}

#[tokio::test]
async fn records_of_unknown_and_dropped_topics_are_skipped() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &batch(1, 100)).await;
    let (_, part) = partition.checkpoint_part();
    let fresh = || Partitions::new(shared(&broker.stream));
    broker.flush().await;
    let unknown = fresh();
    let mut replay = Replay::new(&unknown, |_| false);
    replay.load_part(&part).unwrap();
    broker.wal_records().into_iter().for_each(|record| replay.apply(record).unwrap());
    assert_eq!((replay.skipped(), replay.applied(), unknown.len()), (2, 0, 0));

    assert_eq!(broker.partitions.close_topic(topic()), 1);
    let mut admission = broker.stream.admit(record::DROP_LEN).await.unwrap();
    broker.partitions.append_drop(&mut admission, topic()).unwrap();
    broker.flush().await;
    let dropped = fresh();
    let mut replay = Replay::new(&dropped, |_| true);
    replay.load_part(&part).unwrap();
    broker.wal_records().into_iter().for_each(|record| replay.apply(record).unwrap());
    assert!(dropped.is_empty() && broker.partitions.is_empty());
}

#[tokio::test]
async fn an_epoch_start_and_an_announced_gap_are_applied() {
    let broker = Broker::new();
    let partitions = &broker.partitions;
    let mut replay = Replay::new(partitions, |_| true);
    let gap = empty_batch(0, 999_999_999, EPOCH, -1, ProducerRef::NONE);
    let data = [&record::data_head(of(0))[..], &gap].concat();
    let records =
        [(record::DATA, data), (record::EPOCH_START, record::epoch_start(of(0), 9, 1_000_000_000))];
    for (lsn, (kind, payload)) in (1..).zip(records) {
        let len = payload.len() as u32;
        let location = crate::wal::Location { file: FileNumber(1), position: 4_096, len };
        let payload = payload.into();
        let append_ms = 5_000;
        let record = ReplayedRecord { lsn: Lsn(lsn), kind, location, payload, append_ms };
        replay.apply(record).unwrap();
    }
    let partition = partitions.get(of(0)).unwrap();
    assert_eq!(partition.offsets().high_watermark, 1_000_000_000);
    assert_eq!(partition.leader_epoch(), 9);
    assert_eq!(partition.epoch_end_offset(EPOCH), Some((EPOCH, 1_000_000_000)));
    assert_eq!(partition.epoch_end_offset(9), Some((9, 1_000_000_000)));
}

#[tokio::test]
async fn the_oldest_byte_that_is_needed_pins_its_file() {
    let broker = Broker::new();
    let (idle, busy) = (broker.partition(0), broker.partition(1));
    assert_eq!(broker.partitions.oldest_needed(), None);
    let first = broker.append(&idle, &batch(1, 100)).await;
    for _ in 0..20 {
        broker.append(&busy, &batch(1, 60_000)).await;
    }
    broker.flush().await;
    let pinned = broker.partitions.oldest_needed().unwrap();
    assert_eq!((pinned.file, pinned.lsn, pinned.of), (FileNumber(1), first.lsn, of(0)));
    broker.delete_records(&idle, -1).await;
    broker.delete_records(&busy, 15).await;
    let pinned = broker.partitions.oldest_needed().unwrap();
    assert!(pinned.file > FileNumber(2) && pinned.of == of(1));
    let locations = broker.wal_records();
    let needed = locations.iter().find(|record| record.location.file == pinned.file).unwrap();
    assert!(pinned.lsn >= needed.lsn);
}

#[tokio::test]
async fn a_partition_is_dirty_until_its_last_record_is_in_a_checkpoint() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    assert!(!partition.is_dirty());
    broker.append(&partition, &batch(1, 100)).await;
    let (lsn, _) = partition.checkpoint_part();
    broker.append(&partition, &batch(1, 100)).await;
    partition.checkpointed(lsn);
    assert!(partition.is_dirty());
    let (lsn, part) = partition.checkpoint_part();
    partition.checkpointed(lsn);
    assert!(!partition.is_dirty());
    let again = restarted(&broker, &[part]);
    assert!(!again.get(of(0)).unwrap().is_dirty());
}

/// DESIGN D8: producers age by the log clock, and a wall clock that jumps changes nothing.
#[tokio::test(start_paused = true)]
async fn producers_expire_by_monotonic_time_alone() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &sequenced(9, 0, 0)).await;
    broker.clock.shift_wall(1 << 40);
    assert_eq!(partition.expire_producers(1_000), 0);
    broker.clock.sleep(std::time::Duration::from_millis(999)).await;
    assert_eq!(partition.expire_producers(1_000), 0);
    broker.clock.sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(partition.expire_producers(1_000), 1);
    assert_eq!((partition.producer_count(), broker.metrics().expired_producers.get()), (0, 1));
    // Its state gone, it goes on where it was.
    assert_eq!(broker.append(&partition, &sequenced(9, 0, 7)).await.base_offset, 1);
}

#[test]
fn an_idle_partition_is_about_a_kibibyte() {
    assert!(size_of::<Partition>() <= 1_024, "{} bytes", size_of::<Partition>());
}

#[tokio::test]
async fn a_part_taken_while_the_log_start_moves_needs_no_byte_below_it() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &batch(3, 100)).await;
    broker.flush().await;
    broker.disk.hold();
    let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
    partition.delete_records(&mut admission, -1).unwrap();
    let (_, part) = partition.checkpoint_part();
    broker.disk.release();
    broker.flush().await;
    let restored = Partitions::new(shared(&broker.stream));
    Replay::new(&restored, |_| true).load_part(&part).unwrap();
    assert!(broker.partitions.oldest_needed().is_none());
    assert!(restored.oldest_needed().is_none());
    assert_eq!(summary(&restored.get(of(0)).unwrap()), summary(&partition));
}

/// DESIGN D8, across restarts: what was written after a jump does not carry it over.
#[tokio::test]
async fn a_wall_clock_that_jumped_makes_nothing_older_across_restarts() {
    const DAY_MS: i64 = 86_400_000;
    let mut broker = Broker::new();
    let without_timestamp = timed(&[-1], 70_000, Compression::None);
    for (producer, jump) in (9..).zip([0, 2 * DAY_MS, -30 * DAY_MS, 400 * DAY_MS]) {
        broker.clock.shift_wall(jump);
        let partition = broker.partition(0);
        broker.append(&partition, &sequenced(producer, 0, 0)).await;
        let partition = broker.partition(1);
        broker.append(&partition, &without_timestamp).await;
        broker.clock.shift_wall(jump);
        broker.append(&partition, &without_timestamp).await;
        broker.flush().await;
        broker = broker.restart().await;
        assert_eq!(broker.partition(0).expire_producers(DAY_MS), 0, "after {jump} ms");
        let limits = RetentionLimits { retention_ms: Some(DAY_MS), retention_bytes: None };
        let candidate = broker.partition(1).retention_candidate(broker.clock.wall_ms(), limits);
        assert_eq!(candidate, None, "after {jump} ms");
    }
    assert_eq!(broker.partition(0).producer_count(), 4);
}

/// Producers that anybody can make up must not fill the memory, nor come back to it at a start.
#[tokio::test(start_paused = true)]
async fn the_memory_for_producers_is_bounded_over_all_partitions_and_after_a_start() {
    const MOST: usize = 64;
    let room = MOST * PRODUCER_BYTES;
    let Broker { stream, disk, clock, .. } = Broker::new();
    let partitions = Partitions::new(shared_with(&stream, room));
    let broker = Broker { stream, disk, clock, partitions };
    for id in 0..300 {
        broker.append(&broker.partition(id % 3), &sequenced(i64::from(id), 0, 0)).await;
        broker.clock.sleep(std::time::Duration::from_millis(1)).await;
    }
    let known = |partitions: &Partitions| -> Vec<usize> {
        partitions.all().iter().map(|partition| partition.producer_count()).collect()
    };
    let live = known(&broker.partitions);
    assert!(live.iter().sum::<usize>() <= MOST + 3, "{live:?}");
    assert_eq!(
        broker.metrics().forgotten_producers.get() as usize,
        300 - live.iter().sum::<usize>()
    );
    broker.flush().await;
    let parts: Vec<_> = broker.partitions.all().iter().map(|one| one.checkpoint_part().1).collect();
    for parts in [&parts[..], &[]] {
        let again = restarted_in(&broker, parts, shared_with(&broker.stream, room / 2));
        let restored = known(&again);
        assert!(restored.iter().sum::<usize>() <= MOST / 2 + 3, "{restored:?}");
        // Of what is only in the log, a replay at once sees all in the same millisecond.
        let no_less = if parts.is_empty() { 1 } else { 5 };
        assert!(restored.iter().all(|count| *count >= no_less), "{restored:?}");
        assert!(again.has_room_for_producers());
        assert!(again.shared().metrics.forgotten_producers.get() > 0);
        let newest = sequenced(299, 0, 0);
        let known = broker.append(&again.get(of(2)).unwrap(), &newest).await;
        assert!(known.duplicate, "who was heard last is known");
    }
}

#[tokio::test(start_paused = true)]
async fn of_all_partitions_those_are_forgotten_that_were_silent_longest() {
    const MOST: usize = 64;
    let Broker { stream, disk, clock, .. } = Broker::new();
    let partitions = Partitions::new(shared_with(&stream, MOST * PRODUCER_BYTES));
    let broker = Broker { stream, disk, clock, partitions };
    for (partition, ids) in [(0, 0..20), (1, 20..58), (2, 58..59)] {
        for id in ids {
            broker.append(&broker.partition(partition), &sequenced(id, 0, 0)).await;
            broker.clock.sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    assert!(broker.partitions.has_room_for_producers());
    broker.append(&broker.partition(1), &sequenced(70, 0, 0)).await;
    broker.append(&broker.partition(1), &sequenced(71, 0, 0)).await;
    assert!(!broker.partitions.has_room_for_producers());
    assert_eq!(broker.partitions.forget_silent_producers(), 10);
    assert!(broker.partitions.has_room_for_producers());
    let left = [0, 1, 2].map(|at| broker.partition(at).producer_count());
    assert_eq!(left, [10, 40, 1]);
}

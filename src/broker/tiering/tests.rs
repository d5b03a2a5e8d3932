//! A broker that brings its logs into a bucket and reads them there.

mod histories;

use std::sync::Arc;

use bytes::Bytes;

use super::gather::gather;
use super::plan::SEGMENT_BYTES_MAX;
use super::{TierError, Waiting};
use crate::broker::offsets::OffsetsTopic;
use crate::broker::tests::Bench;
use crate::broker::{Broker, OFFSETS_TOPIC};
use crate::group::{LoadError, LoadedRecord, OffsetsLog, Record};
use crate::partition::{
    Isolation, Partition, Plan, ReadPiece, ReadPlan, ReadRequest, TierKind, TierStep, record,
};
use crate::protocol::batch::{Batch, BatchBuilder, BatchHeader};
use crate::wal::FileNumber;

/// Appends a batch of two records with values of `size` bytes.
async fn append(broker: &Broker, partition: &Arc<Partition>, seed: u8, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for at in 0..2u8 {
        builder.append(1_000 + i64::from(seed), None, Some(&vec![seed ^ at; size]), &[]);
    }
    let batch = Batch::parse_one(builder.build()).unwrap();
    let appended = broker.append(partition, &batch).await;
    let mut bytes = batch.bytes().to_vec();
    crate::protocol::batch::patch_in_place(
        &mut bytes,
        appended.base_offset,
        partition.leader_epoch(),
    );
    bytes.into()
}

pub(super) fn waiting(broker: &Broker) -> Vec<Waiting> {
    let untiered = |partition: Arc<Partition>| {
        let untiered = partition.untiered(u64::MAX)?;
        Some(Waiting { partition, untiered })
    };
    broker.partitions.all().into_iter().filter_map(untiered).collect()
}

/// What a consumer gets from the log start to the end, through the cache where it must.
pub(super) async fn read_all(broker: &Broker, partition: &Arc<Partition>) -> Vec<Bytes> {
    let (mut next, end) = (partition.offsets().log_start, partition.offsets().high_watermark);
    let mut all = Vec::new();
    while next < end {
        let request = ReadRequest {
            offset: next,
            max_bytes: 50_000,
            isolation: Isolation::ReadUncommitted,
            at_least_one: true,
            at_hand_bytes: 1 << 20,
        };
        let plan = follow(broker, partition.read(&request).unwrap()).await;
        for piece in plan.pieces {
            let batches = match piece {
                ReadPiece::Ready(bytes) => vec![bytes],
                ReadPiece::Later(later) => later.read().unwrap(),
            };
            for mut rest in batches {
                while let Ok(header) = BatchHeader::parse(&rest) {
                    let batch = rest.split_to(header.size());
                    if header.last_offset() >= next {
                        next = header.next_offset();
                        all.push(batch);
                    }
                }
            }
        }
    }
    all
}

async fn follow(broker: &Broker, mut plan: Plan) -> ReadPlan {
    loop {
        plan = match plan {
            Plan::Done(plan) => return plan,
            Plan::NeedsDisk(disk) => return disk.run().unwrap(),
            Plan::Tiered(tier) => match tier.run(broker.cache()).await.unwrap() {
                TierStep::Done(plan) => return plan,
                TierStep::Next(plan) => plan,
            },
        };
    }
}

#[tokio::test]
async fn a_pack_is_read_when_nothing_is_left_on_this_machine() {
    let bench = Bench::new();
    let broker = bench.start().await;
    broker.topic("t", 3).await;
    let mut sent = vec![Vec::new(); 3];
    for seed in 0..40u8 {
        let at = usize::from(seed) % 3;
        let partition = broker.partition_of("t", at as i32);
        sent[at].push(append(&broker, &partition, seed, 4_000).await);
    }
    broker.flush(waiting(&broker), 7).await.unwrap();
    assert!(waiting(&broker).is_empty(), "the bucket has all");
    let more = broker.partition_of("t", 1);
    sent[1].push(append(&broker, &more, 99, 100).await);
    broker.kill().await;

    let broker = bench.start().await;
    let objects = &broker.partitions.shared().objects;
    assert_eq!((objects.used(), objects.garbage()), (1, Vec::new()));
    broker.partitions.forget_files(FileNumber(u64::MAX));
    for (at, sent) in sent.iter().enumerate() {
        let partition = broker.partition_of("t", at as i32);
        let refs = partition.tier_refs();
        assert_eq!((refs.len(), refs[0].kind), (1, TierKind::Pack));
        assert!(read_all(&broker, &partition).await == *sent, "partition {at}");
        let left = partition.untiered(u64::MAX).map(|untiered| (untiered.from, untiered.to));
        assert_eq!(left, (at == 1).then_some((26, 28)));
    }
    assert!(broker.partitions.shared().metrics.tiered_bytes.get() > 0);
    broker.stop().await;
}

#[tokio::test]
async fn what_waits_is_all_there_is_also_when_it_goes_in_several_objects() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    let mut sent = 0;
    while sent <= 2 * SEGMENT_BYTES_MAX {
        sent += append(&broker, &partition, 1, 30_000).await.len() as u64;
    }
    let (_, planned) = broker.untiered();
    assert!(planned[0].bytes < sent, "{} bytes are planned at once", planned[0].bytes);
    assert_eq!(partition.untiered_bytes(), sent);
    broker.flush(waiting(&broker), 7).await.unwrap();
    assert_eq!((broker.untiered().1, partition.untiered_bytes()), (Vec::new(), 0));
    broker.stop().await;
}

/// A plan's span covers neighbouring batches, the last of which may not be written yet.
#[tokio::test]
async fn what_is_not_written_yet_is_not_taken_for_damage() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    let sent = append(&broker, &partition, 1, 100).await;
    let mut planned = waiting(&broker);
    planned.retain(|it| it.partition.id() == partition.id());
    planned[0].untiered.spans[0].end += 4_096;
    let gathered = gather(&broker.stream, &planned).unwrap().remove(0);
    assert!(gathered.into_batches().eq([sent]));
    broker.stop().await;
}

#[tokio::test]
async fn a_segment_follows_a_segment_and_goes_with_the_log_start() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    let mut sent = Vec::new();
    for round in 0..3u8 {
        for seed in 0..10 {
            sent.push(append(&broker, &partition, 10 * round + seed, 30_000).await);
        }
        broker.flush(waiting(&broker), 7).await.unwrap();
    }
    let refs = partition.tier_refs();
    assert_eq!(refs.iter().map(|tier| tier.start_offset).collect::<Vec<_>>(), [0, 20, 40]);
    assert_eq!(partition.size_bytes(), sent.iter().map(|batch| batch.len() as u64).sum::<u64>());
    let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
    let (_, lsn) = partition.delete_records(&mut admission, 25).unwrap();
    broker.stream.wait_durable(lsn).await.unwrap();
    assert_eq!(partition.tier_refs().len(), 2, "what holds the log start stays");
    assert_eq!(broker.partitions.shared().objects.garbage().len(), 1);
    broker.kill().await;

    let broker = bench.start().await;
    broker.partitions.forget_files(FileNumber(u64::MAX));
    let partition = broker.partition_of("t", 0);
    assert_eq!((partition.tier_refs().len(), partition.local_start()), (2, 60));
    assert!(read_all(&broker, &partition).await == sent[12..]);
    let garbage = broker.partitions.shared().objects.garbage();
    assert_eq!((garbage.len(), garbage[0].object.id), (1, refs[0].object.id));
    broker.stop().await;
}

#[tokio::test]
async fn packs_are_merged_into_a_segment_that_reads_the_same() {
    let bench = Bench::new();
    let broker = bench.start().await;
    broker.topic("t", 2).await;
    let mut sent = vec![Vec::new(); 2];
    for round in 0..3u8 {
        for (at, sent) in sent.iter_mut().enumerate() {
            let partition = broker.partition_of("t", at as i32);
            sent.push(append(&broker, &partition, 2 * round + at as u8, 9_000).await);
        }
        broker.flush(waiting(&broker), 7).await.unwrap();
    }
    let partition = broker.partition_of("t", 0);
    let refs = partition.tier_refs();
    assert_eq!(refs.len(), 3);
    assert!(broker.merge(&partition, &refs, 8).await.unwrap());
    assert!(!broker.merge(&partition, &refs, 9).await.unwrap(), "they are not there any more");
    broker.kill().await;

    let broker = bench.start().await;
    broker.partitions.forget_files(FileNumber(u64::MAX));
    let partition = broker.partition_of("t", 0);
    let merged = partition.tier_refs();
    assert_eq!((merged.len(), merged[0].kind), (1, TierKind::Segment));
    assert_eq!((merged[0].start_offset, merged[0].end_offset), (0, 6));
    for (at, sent) in sent.iter().enumerate() {
        let partition = broker.partition_of("t", at as i32);
        assert!(read_all(&broker, &partition).await == *sent, "partition {at}");
    }
    let objects = &broker.partitions.shared().objects;
    assert_eq!(objects.used(), 4, "the packs are still the other partition's");
    broker.stop().await;
}

#[tokio::test]
async fn what_a_deleted_topic_had_in_the_bucket_is_garbage() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1, 1_000).await;
    let planned = waiting(&broker).remove(0);
    broker.flush(vec![planned], 7).await.unwrap();
    append(&broker, &partition, 2, 1_000).await;
    let late = waiting(&broker);
    broker.delete_topic(broker.image().topic("t").unwrap().id).await.unwrap();
    broker.flush(late, 7).await.unwrap();
    let objects = &broker.partitions.shared().objects;
    assert_eq!((objects.used(), objects.garbage().len()), (0, 2));
    broker.stop().await;
}

#[tokio::test]
async fn a_log_that_starts_within_a_batch_goes_with_the_whole_batch() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    let mut sent = Vec::new();
    for seed in 0..4 {
        sent.push(append(&broker, &partition, seed, 40_000).await);
    }
    let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
    let (_, lsn) = partition.delete_records(&mut admission, 3).unwrap();
    broker.stream.wait_durable(lsn).await.unwrap();
    broker.flush(waiting(&broker), 7).await.unwrap();
    broker.kill().await;

    let broker = bench.start().await;
    broker.partitions.forget_files(FileNumber(u64::MAX));
    let partition = broker.partition_of("t", 0);
    assert_eq!((partition.offsets().log_start, partition.untiered_bytes()), (3, 0));
    assert!(read_all(&broker, &partition).await == sent[1..]);
    broker.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_read_keeps_no_other_from_the_bucket() {
    let bench = Bench::new();
    let broker = bench.start().await;
    broker.topic("t", 3).await;
    for at in 0..3 {
        let partition = broker.partition_of("t", at);
        append(&broker, &partition, at as u8, 1_000).await;
    }
    let mut planned = waiting(&broker);
    // As if the log ended before what was acknowledged.
    planned[1].untiered.to += 1;
    let error = broker.flush_readable(planned, 7).await.unwrap_err();
    assert_eq!(error.partition(), Some(broker.partition_of("t", 1).id()));
    let left: Vec<_> = waiting(&broker).iter().map(|it| it.partition.id().partition).collect();
    assert_eq!(left, [1]);
    broker.stop().await;
}

/// As when retention moves the log's start between the plan and the reading: what follows is more
/// than waits between the reader and the upload.
#[tokio::test]
async fn a_log_that_is_not_as_planned_is_given_up_however_much_follows() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    for seed in 0..8 {
        append(&broker, &partition, seed, 1_000).await;
    }
    let mut planned = waiting(&broker);
    planned[0].untiered.from += 1;
    let error = broker.flush_segment(&planned[0], 7).await.unwrap_err();
    assert!(matches!(error, TierError::Incomplete { expected: 16, found: 1, .. }), "{error}");
    broker.flush(waiting(&broker), 7).await.unwrap();
    assert_eq!(partition.untiered_bytes(), 0);
    broker.stop().await;
}

fn topic_of(broker: &Broker) -> OffsetsTopic {
    OffsetsTopic {
        cluster: broker.cluster.clone(),
        stream: broker.stream.clone(),
        partitions: Arc::clone(&broker.partitions),
        cache: broker.cache.clone(),
        clock: broker.clock.clone(),
    }
}

async fn commit(log: &OffsetsTopic, number: u8) {
    let value = number.is_multiple_of(2).then(|| Bytes::from(vec![number; 700]));
    let record = Record { key: Bytes::from(vec![number; 9]), value };
    log.append(0, vec![record]).await.unwrap().await.unwrap();
}

/// Keys and values, and when they were appended.
async fn loaded(log: &OffsetsTopic) -> Result<Vec<(Record, i64)>, LoadError> {
    let mut all = Vec::new();
    let mut sink = |loaded: LoadedRecord| all.push((loaded.record, loaded.append_time_ms));
    log.load(0, &mut sink).await?;
    Ok(all)
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the test's own bucket goes away")]
async fn a_partition_that_begins_in_the_bucket_is_loaded_whole_or_not_at_all() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let topic = broker.default_topic(OFFSETS_TOPIC);
    broker.create_topics(vec![topic]).await.remove(0).unwrap();
    let log = topic_of(&broker);
    for number in 0..20 {
        commit(&log, number).await;
    }
    let before = loaded(&log).await.unwrap();
    assert_eq!(before.len(), 20);
    broker.flush(waiting(&broker), 7).await.unwrap();
    drop(log);
    broker.kill().await;

    let broker = bench.start().await;
    broker.partitions.forget_files(FileNumber(u64::MAX));
    let log = topic_of(&broker);
    for number in 20..25 {
        commit(&log, number).await;
    }
    let bucket = broker.data_dir().join("bucket");
    let away = broker.data_dir().join("away");
    std::fs::rename(&bucket, &away).unwrap();
    let missing = loaded(&log).await;
    assert!(missing.is_err(), "{missing:?}");
    std::fs::rename(&away, &bucket).unwrap();
    let again = loaded(&log).await.unwrap();
    assert_eq!(again.len(), 25);
    // Never earlier than they were, so that nothing expires too soon.
    for ((record, was), (again, is)) in before.iter().zip(&again) {
        assert!(record == again && is >= was);
    }
    assert_eq!(again[0].1, before[19].1, "the youngest of its section");
    broker.stop().await;
}

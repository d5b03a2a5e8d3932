//! A broker that compacts what it has in the bucket.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::*;
use crate::broker::tests::Bench;
use crate::broker::tiering::tests::{read_all, waiting};
use crate::broker::{NewTopic, OFFSETS_TOPIC};
use crate::protocol::batch::{Batch, BatchBuilder, ProducerRef};
use crate::wal::FileNumber;

/// A compacted topic of one partition, which is cleaned as soon as there is anything to clean.
async fn compacted(broker: &Broker, configs: &[(&str, &str)]) -> Arc<Partition> {
    let mut all = BTreeMap::from([("cleanup.policy", "compact")]);
    all.insert("min.cleanable.dirty.ratio", "0");
    all.extend(configs.iter().copied());
    let topic = NewTopic {
        partitions: 1,
        configs: all.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        ..broker.default_topic("t")
    };
    broker.create_topics(vec![topic]).await.remove(0).unwrap();
    broker.partition_of("t", 0)
}

/// A key and its value; `None` is a tombstone.
type Pair<'a> = (&'a str, Option<&'a str>);

async fn append(broker: &Broker, partition: &Arc<Partition>, pairs: &[Pair<'_>]) {
    append_as(broker, partition, pairs, ProducerRef::NONE).await;
}

async fn append_as(
    broker: &Broker,
    partition: &Arc<Partition>,
    pairs: &[Pair<'_>],
    producer: ProducerRef,
) {
    let mut builder = BatchBuilder::new().producer(producer);
    for (key, value) in pairs {
        builder.append(1_000, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    let batch = Batch::parse_one(builder.build()).unwrap();
    broker.append(partition, &batch).await;
}

async fn flush(broker: &Broker) {
    broker.flush(waiting(broker), broker.stream.log_clock().now_ms()).await.unwrap();
}

/// Offset, key and value of every record, as a consumer gets them.
async fn records(
    broker: &Broker,
    partition: &Arc<Partition>,
) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    for batch in read_all(broker, partition).await {
        let batch = Batch::parse_one(batch).unwrap();
        batch.verify_crc().unwrap();
        let payload = batch.payload(0).unwrap();
        for record in batch.records(&payload).map(Result::unwrap) {
            let offset = batch.header().offset_of(&record);
            all.push((offset, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    all
}

fn record(offset: i64, key: &str, value: Option<&str>) -> (i64, String, Option<String>) {
    (offset, key.to_owned(), value.map(str::to_owned))
}

fn kinds(partition: &Partition) -> Vec<(i64, i64, TierKind)> {
    let place = |tier: &TierRef| (tier.start_offset, tier.end_offset, tier.kind);
    partition.tier_refs().iter().map(place).collect()
}

#[tokio::test]
async fn readers_find_the_last_record_of_each_key_at_once_and_after_a_restart() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    for value in ["1", "2", "3"] {
        append(&broker, &partition, &[("a", Some(value)), ("b", Some(value))]).await;
        append(&broker, &partition, &[("c", Some(value))]).await;
        flush(&broker).await;
    }
    append(&broker, &partition, &[("a", Some("4"))]).await;
    let mut state = CleanerState::default();
    broker.clean_all(&mut state).await;
    assert_eq!(kinds(&partition), [(0, 9, TierKind::Compacted)]);
    let expected = [
        record(6, "a", Some("3")),
        record(7, "b", Some("3")),
        record(8, "c", Some("3")),
        record(9, "a", Some("4")),
    ];
    // The WAL still has everything that was written.
    assert_eq!(records(&broker, &partition).await, expected);
    assert_eq!(partition.local_start(), 9);
    assert!(broker.filthiest(&mut state).is_none());
    broker.kill().await;

    let broker = bench.start().await;
    let partition = broker.partition_of("t", 0);
    assert_eq!(records(&broker, &partition).await, expected);
    assert!(broker.filthiest(&mut CleanerState::default()).is_none());

    // What comes later makes more of it obsolete.
    flush(&broker).await;
    broker.clean_all(&mut CleanerState::default()).await;
    assert_eq!(kinds(&partition), [(0, 10, TierKind::Compacted)]);
    assert_eq!(records(&broker, &partition).await, expected[1..]);
    let objects = &broker.partitions.shared().objects;
    assert_eq!((objects.used(), objects.garbage().len()), (1, 5));
    broker.stop().await;
}

#[tokio::test]
async fn tombstones_stay_for_their_time_and_go() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[("delete.retention.ms", "3600000")]).await;
    append(&broker, &partition, &[("a", Some("1")), ("b", Some("1"))]).await;
    append(&broker, &partition, &[("a", None)]).await;
    flush(&broker).await;
    let mut state = CleanerState::default();
    broker.clean_all(&mut state).await;
    let kept = [record(1, "b", Some("1")), record(2, "a", None)];
    assert_eq!(records(&broker, &partition).await, kept);
    // The tombstone's time is that of the pass that met it first, whatever the topic says later.
    for (at, hours) in [(3, 0), (4, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_hours(hours)).await;
        tokio::time::resume();
        append(&broker, &partition, &[("c", Some("1"))]).await;
        flush(&broker).await;
        broker.clean_all(&mut state).await;
        let last = record(at, "c", Some("1"));
        let [b, a] = kept.clone();
        let expected = if hours == 0 { vec![b, a, last] } else { vec![b, last] };
        assert_eq!(records(&broker, &partition).await, expected, "{hours}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_pass_that_is_cut_is_done_again() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    let large = "x".repeat(40_000);
    for key in ["a", "b", "a", "c", "b", "d"] {
        append(&broker, &partition, &[(key, Some(&large))]).await;
        flush(&broker).await;
    }
    let expected: Vec<_> = [(2, "a"), (3, "c"), (4, "b"), (5, "d")]
        .map(|(offset, key)| record(offset, key, Some(&large)))
        .into();
    for (place, clean) in [
        ("tier: before the object is uploaded", 0),
        ("tier: after the object was uploaded", 0),
        ("tier: a section was committed", 1),
    ] {
        let armed = failpoint::arm(place, || panic!("cut"));
        let mut state = CleanerState::default();
        let cut = AssertUnwindSafe(broker.clean_all(&mut state)).catch_unwind().await;
        assert!(cut.is_err(), "{place}");
        drop(armed);
        broker.stream.flush().await.unwrap();
        let compacted =
            kinds(&partition).iter().filter(|(.., kind)| *kind == TierKind::Compacted).count();
        assert!(compacted >= clean, "{place}");
        let found = records(&broker, &partition).await;
        assert!(expected.iter().all(|record| found.contains(record)), "{place}");
    }
    broker.kill().await;

    let broker = bench.start().await;
    let partition = broker.partition_of("t", 0);
    broker.clean_all(&mut CleanerState::default()).await;
    assert_eq!(records(&broker, &partition).await, expected);
    assert!(kinds(&partition).iter().all(|(.., kind)| *kind == TierKind::Compacted));
    assert!(kinds(&partition).len() > 1, "several objects");
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_with_more_keys_than_the_memory_has_room_for_is_cleaned_in_several_passes() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    let room = KeyMap::new(broker.budget.pool(Pool::Cleaner).capacity(), &broker.bucket.random);
    let keys: Vec<String> = (0..room.capacity() * 3 / 2).map(|key| key.to_string()).collect();
    drop(room);
    // Once in one section, once in two.
    for value in ["1", "2"] {
        for (at, keys) in keys.chunks(5_000).enumerate() {
            let pairs: Vec<_> = keys.iter().map(|key| (&**key, Some(value))).collect();
            append(&broker, &partition, &pairs).await;
            if value == "2" && at == 5 {
                flush(&broker).await;
            }
        }
        flush(&broker).await;
    }
    let mut state = CleanerState::default();
    broker.clean_all(&mut state).await;
    assert!(state.resumed.is_empty() && state.failed.is_empty());
    let passes = broker.tiering.cleaner.passes();
    assert!(passes > 2, "{passes}");
    let found = records(&broker, &partition).await;
    assert!(found.iter().map(|(_, key, _)| key).eq(&keys));
    assert!(found.iter().all(|(.., value)| value.as_deref() == Some("2")));
    broker.stop().await;
}

#[tokio::test]
async fn the_last_batch_of_a_producer_stays_for_its_sequence() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    for sequence in 0..3 {
        let producer = ProducerRef { id: 7, epoch: 0, sequence };
        append_as(&broker, &partition, &[("a", Some("1"))], producer).await;
    }
    append(&broker, &partition, &[("a", Some("2"))]).await;
    flush(&broker).await;
    broker.clean_all(&mut CleanerState::default()).await;
    let batches = read_all(&broker, &partition).await;
    let headers = batches.into_iter().map(|batch| *Batch::parse_one(batch).unwrap().header());
    let left: Vec<_> =
        headers.map(|it| (it.base_offset, it.base_sequence, it.record_count)).collect();
    assert_eq!(left, [(2, 2, 0), (3, -1, 1)]);
    broker.stop().await;
}

#[tokio::test]
async fn committed_offsets_are_compacted_and_topics_that_delete_are_not() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let offsets = broker.topic(OFFSETS_TOPIC, 1).await;
    let other = broker.topic("other", 1).await;
    for partition in [&offsets, &other] {
        for value in ["1", "2", "3"] {
            append(&broker, partition, &[("a", Some(value))]).await;
        }
    }
    flush(&broker).await;
    broker.clean_all(&mut CleanerState::default()).await;
    assert_eq!(records(&broker, &offsets).await, [record(2, "a", Some("3"))]);
    assert_eq!(records(&broker, &other).await.len(), 3);
    broker.stop().await;
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_is_left_alone_for_a_while() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    append(&broker, &partition, &[("a", Some("1")), ("a", Some("2"))]).await;
    flush(&broker).await;
    let object = partition.tier_refs()[0].object.id;
    broker.tiering.store.delete(&object.key()).await.unwrap();
    let mut state = CleanerState::default();
    broker.clean_all(&mut state).await;
    assert_eq!(state.failed.len(), 1);
    assert!(broker.filthiest(&mut state).is_none());
    tokio::time::pause();
    tokio::time::advance(FAILED_PAUSE).await;
    tokio::time::resume();
    assert!(broker.filthiest(&mut state).is_some());
    broker.stop().await;
}

#[tokio::test]
async fn the_wal_gives_back_what_compaction_has_replaced() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = compacted(&broker, &[]).await;
    append(&broker, &partition, &[("a", Some("1")), ("a", Some("2"))]).await;
    flush(&broker).await;
    broker.clean_all(&mut CleanerState::default()).await;
    broker.partitions.forget_files(FileNumber(u64::MAX));
    assert_eq!(records(&broker, &partition).await, [record(1, "a", Some("2"))]);
    broker.stop().await;
}

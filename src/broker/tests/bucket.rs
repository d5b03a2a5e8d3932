//! What the broker keeps in the bucket beside the metadata: checkpoints, and no garbage.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Bench, append};
use crate::broker::bucket_log::{CheckpointReader, Item, Summary};
use crate::broker::garbage::list;
use crate::broker::{Broker, PartKey};
use crate::failpoint;
use crate::object::{Key, NumberedLog, ObjectError, Writer, WriterId};
use crate::partition::{Partition, TierChange, TierKind, TierRef, record};
use crate::tier::{ObjectId, ObjectRef};
use crate::wal::Lsn;

impl Broker {
    /// Puts an object of this run that a partition refers to for some offsets.
    async fn tier(&self, partition: &Arc<Partition>, offsets: std::ops::Range<i64>) -> ObjectId {
        let in_flight = self.object_ids().begin();
        let id = in_flight.id();
        self.bucket.store.put(&id.key(), "object".into()).await.unwrap();
        let added = TierRef {
            object: ObjectRef { id, bytes: 6, end_bytes: 1 },
            start_offset: offsets.start,
            end_offset: offsets.end,
            bytes: 5,
            max_timestamp: self.clock.wall_ms(),
            append_time_ms: 1,
            kind: TierKind::Segment,
        };
        let change = TierChange { removed: Vec::new(), added: vec![added] };
        let mut admission = self.stream.try_admit(Partition::commit_len(&change)).unwrap();
        let lsn = partition.commit_tier(&mut admission, change, 0).unwrap();
        self.stream.wait_durable_blocking(lsn).unwrap();
        self.view_changed(lsn);
        id
    }

    /// Deletes the records before an offset.
    fn delete_before(&self, partition: &Arc<Partition>, offset: i64) -> Lsn {
        let mut admission = self.stream.try_admit(record::LOG_START_LEN).unwrap();
        let (_, lsn) = partition.delete_records(&mut admission, offset).unwrap();
        self.stream.wait_durable_blocking(lsn).unwrap();
        self.view_changed(lsn);
        lsn
    }

    async fn has(&self, id: ObjectId) -> bool {
        match self.bucket.store.get(&id.key(), 100).await {
            Ok(_) => true,
            Err(ObjectError::NotFound { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn reader(&self) -> CheckpointReader {
        let cluster = self.image().cluster_id().0;
        CheckpointReader::new(self.bucket.store.clone(), 1, cluster)
    }

    /// The last checkpoint's summary, its items in order, and the number behind its last entry.
    async fn loaded(&self) -> (Option<Summary>, Vec<(PartKey, Option<bytes::Bytes>)>, u64) {
        let reader = self.reader();
        let found = reader.find().await.unwrap();
        let (mut items, mut all) = (reader.items(&found), Vec::new());
        while let Some(item) = items.next().await.unwrap() {
            all.push(match item {
                Item::Part { key, part } => (PartKey::decode(&key).unwrap(), Some(part)),
                Item::Removal { key } => (PartKey::decode(&key).unwrap(), None),
            });
        }
        (found.summary(), all, found.end)
    }
}

/// Where nothing is brought into the bucket but what the test brings.
fn bench() -> Bench {
    Bench::with(&[("tier.max.age.ms", "9223372036854775807")])
}

/// Waits until something holds. Paused time runs on while the log's threads work, so that how long
/// it takes says nothing.
pub(super) async fn until(bench: &Bench, holds: impl AsyncFn() -> bool) {
    for _ in 0..100_000 {
        if holds().await {
            return;
        }
        bench.clock.sleep(Duration::from_secs(10)).await;
    }
    panic!("it never holds");
}

/// Waits until every change of the view is in a checkpoint of the bucket.
pub(super) async fn until_covered(bench: &Bench, broker: &Broker) {
    let view = || Lsn(broker.view_lsn.load(Ordering::Relaxed));
    until(bench, async || broker.checkpointed_in_bucket() >= view()).await;
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_follows_each_change_of_the_view_and_none_without() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 2).await;
    for producer in 0..3 {
        append(&broker, &partition, producer);
    }
    bench.clock.sleep(minutes(10)).await;
    assert_eq!(broker.loaded().await.0, None, "records alone make no checkpoint");

    broker.tier(&partition, 0..1).await;
    until_covered(&bench, &broker).await;
    bench.clock.sleep(minutes(10)).await;
    let (summary, parts, end) = broker.loaded().await;
    assert!(summary.unwrap().covers >= broker.view_lsn.load(Ordering::Relaxed));
    let keys: Vec<_> = parts.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [PartKey::Partition(partition.id()), PartKey::Garbage, PartKey::Writers]);
    assert_eq!(end, 2, "one entry");

    // What is dropped is listed, and a topic that is deleted is removed.
    let dropped = broker.tier(&partition, 1..2).await;
    broker.delete_before(&partition, 2);
    until_covered(&bench, &broker).await;
    let (_, parts, _) = broker.loaded().await;
    let listed = |parts: &[(PartKey, Option<bytes::Bytes>)]| {
        let lists = parts.iter().filter(|(key, _)| *key == PartKey::Garbage);
        list::decode(lists.last().unwrap().1.as_ref().unwrap()).unwrap()
    };
    assert!(listed(&parts).iter().any(|object| object.id == dropped));
    broker.delete_topic(partition.id().topic).await.unwrap();
    until(&bench, async || {
        let (_, parts, _) = broker.loaded().await;
        let last = parts.iter().rfind(|(key, _)| *key == PartKey::Partition(partition.id()));
        last.is_none_or(|(_, part)| part.is_none())
    })
    .await;

    // Idle from here on: the garbage goes, and nothing is written.
    until(&bench, async || !broker.has(dropped).await).await;
    until_covered(&bench, &broker).await;
    let (_, _, end) = broker.loaded().await;
    bench.clock.sleep(minutes(120)).await;
    assert_eq!(broker.loaded().await.2, end);
    broker.stop().await;
}

/// In real time: the last checkpoint waits for the log's threads, and only so long.
#[tokio::test]
async fn the_last_change_of_a_run_is_covered_when_it_stops() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    broker.tier(&partition, 0..1).await;
    let lsn = broker.delete_before(&partition, 1);
    broker.stop().await;
    assert!(broker.loaded().await.0.unwrap().covers >= lsn.0);
}

#[tokio::test(start_paused = true)]
async fn an_object_goes_15_minutes_after_the_record_and_the_checkpoint_that_drop_it() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    for producer in 0..2 {
        append(&broker, &partition, producer);
    }
    let (first, second) =
        (broker.tier(&partition, 0..1).await, broker.tier(&partition, 1..2).await);
    bench.clock.sleep(minutes(60)).await;
    assert!(broker.has(first).await);
    broker.delete_before(&partition, 1);
    bench.clock.sleep(minutes(14)).await;
    assert!(broker.has(first).await);
    until(&bench, async || !broker.has(first).await).await;
    assert!(broker.has(second).await);
    assert_eq!(broker.partitions.shared().objects.garbage(), []);
    broker.stop().await;
}

/// In real time but for the wait: a kill waits for the log's threads.
#[tokio::test]
async fn garbage_survives_a_kill_before_and_after_the_checkpoint_beside_the_log() {
    for checkpoints in 0..3 {
        let bench = bench();
        let broker = bench.start().await;
        let partition = broker.topic("t", 1).await;
        append(&broker, &partition, 1);
        let id = broker.tier(&partition, 0..1).await;
        if checkpoints > 1 {
            broker.checkpoint().await.unwrap();
        }
        broker.delete_before(&partition, 1);
        if checkpoints > 0 {
            broker.checkpoint().await.unwrap();
        }
        broker.kill().await;
        let broker = bench.start().await;
        assert!(broker.has(id).await);
        tokio::time::pause();
        until(&bench, async || !broker.has(id).await).await;
        tokio::time::resume();
        // Deleted, and no longer listed by the next checkpoint.
        broker.checkpoint().await.unwrap();
        broker.kill().await;
        let broker = bench.start().await;
        assert_eq!(broker.partitions.shared().objects.garbage(), []);
        broker.stop().await;
    }
}

/// A part of a checkpoint counts as dropped what a record on its way drops: when that is durable, a
/// start from the checkpoint does not meet the record again.
#[tokio::test]
async fn what_is_dropped_while_a_checkpoint_is_taken_is_garbage_after_a_kill() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    let id = broker.tier(&partition, 0..1).await;
    let armed = {
        let (broker, partition) = (Arc::clone(&broker), Arc::clone(&partition));
        failpoint::arm("checkpoint: scope", move || {
            let mut admission = broker.stream.try_admit(record::LOG_START_LEN).unwrap();
            partition.delete_records(&mut admission, 1).unwrap();
        })
    };
    broker.checkpoint().await.unwrap();
    drop(armed);
    // Nobody has looked at the partition since.
    broker.checkpoint().await.unwrap();
    broker.kill().await;
    let broker = bench.start().await;
    let garbage = broker.partitions.shared().objects.garbage();
    assert_eq!(garbage.iter().map(|garbage| garbage.object.id).collect::<Vec<_>>(), [id]);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_dropped_while_a_checkpoint_of_the_bucket_is_taken_is_in_its_list() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    let id = broker.tier(&partition, 0..1).await;
    let armed = {
        let (broker, partition) = (Arc::clone(&broker), Arc::clone(&partition));
        failpoint::arm("bucket checkpoint: begun", move || {
            let mut admission = broker.stream.try_admit(record::LOG_START_LEN).unwrap();
            partition.delete_records(&mut admission, 1).unwrap();
        })
    };
    broker.last_bucket_checkpoint().await;
    drop(armed);
    let (_, parts, _) = broker.loaded().await;
    let lists = parts.iter().filter(|(key, _)| *key == PartKey::Garbage);
    let list = list::decode(lists.last().unwrap().1.as_ref().unwrap()).unwrap();
    assert_eq!(list.iter().map(|object| object.id).collect::<Vec<_>>(), [id]);
    broker.stop().await;
}

/// What is on this machine is the truth: the next base says all of it.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_log_that_is_damaged_is_begun_anew() {
    for damage in ["a byte", "the base", "all"] {
        let bench = bench();
        let broker = bench.start().await;
        let partition = broker.topic("t", 1).await;
        for offset in 0..2 {
            append(&broker, &partition, offset);
            broker.tier(&partition, offset..offset + 1).await;
            until_covered(&bench, &broker).await;
        }
        assert_eq!(broker.loaded().await.2, 3, "a base and a delta");
        broker.kill().await;
        let (store, entry) = (&broker.bucket.store, |number| Key::numbered("c/1", number));
        match damage {
            "a byte" => {
                let mut bytes = store.get(&entry(2), 1 << 20).await.unwrap().to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                store.put(&entry(2), bytes.into()).await.unwrap();
            }
            "the base" => store.delete(&entry(1)).await.unwrap(),
            _ => {
                store.delete(&entry(1)).await.unwrap();
                store.delete(&entry(2)).await.unwrap();
            }
        }
        broker.reader().find().await.unwrap_err();

        let broker = bench.start().await;
        until_covered(&bench, &broker).await;
        let (summary, parts, _) = broker.loaded().await;
        assert!(summary.is_some(), "{damage}");
        assert!(parts.iter().any(|(key, _)| *key == PartKey::Partition(partition.id())));
        broker.stop().await;
        // What is damaged is gone, so that the next run goes on from there.
        let left = broker.reader().find().await.unwrap();
        assert!(left.summary().is_some(), "{damage}");
    }
}

/// What another release or another cluster has written is not damage.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_log_that_is_not_understood_is_left_alone() {
    let bench = bench();
    let broker = bench.start().await;
    let writer = Writer::new(WriterId { cluster: [9; 16], incarnation: [9; 16] }, 0);
    let log = NumberedLog::new(broker.bucket.store.clone(), "c/1", *b"CKPT", 100);
    log.create(&log.seal(&writer, 1, b"another's")).await.unwrap();
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    broker.tier(&partition, 0..1).await;
    until(&bench, async || broker.metrics.bucket_checkpoint_failures.get() > 2).await;
    assert_eq!(log.read_on(1, 9).await.unwrap().len(), 1);
    broker.kill().await;
}

/// Or a checkpoint that is taken in between has neither the partition nor its objects.
#[tokio::test]
async fn what_a_deleted_topic_had_is_garbage_before_its_partitions_are_forgotten() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    let id = broker.tier(&partition, 0..1).await;
    let looked = Rc::new(Cell::new(false));
    let armed = {
        let (broker, looked) = (Arc::clone(&broker), Rc::clone(&looked));
        failpoint::arm("topic deletion: halfway", move || {
            looked.set(true);
            let garbage = broker.partitions.shared().objects.garbage();
            assert!(garbage.iter().any(|garbage| garbage.object.id == id));
        })
    };
    broker.delete_topic(partition.id().topic).await.unwrap();
    drop(armed);
    assert!(looked.get());
    assert!(broker.partitions.is_empty());
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_sweep_takes_what_ended_runs_and_uploads_left_and_nothing_else() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    append(&broker, &partition, 2);
    let used = broker.tier(&partition, 0..1).await;
    let put = async |broker: &Broker, id: ObjectId| {
        broker.bucket.store.put(&id.key(), "object".into()).await.unwrap();
        id
    };
    let orphan = put(&broker, broker.object_ids().begin().id()).await;
    broker.kill().await;

    let broker = bench.start().await;
    let partition = broker.partition_of("t", 0);
    let dropped = broker.tier(&partition, 1..2).await;
    let other = put(&broker, ObjectId { incarnation: [9; 16], sequence: 0 }).await;
    let ended = put(&broker, broker.object_ids().begin().id()).await;
    let in_flight = broker.object_ids().begin();
    put(&broker, in_flight.id()).await;
    let behind = put(&broker, broker.object_ids().begin().id()).await;
    let strange = Key::new("t/00/not-an-object");
    broker.bucket.store.put(&strange, "x".into()).await.unwrap();
    broker.delete_before(&partition, 2);
    broker.sweep().await.unwrap();
    for (id, stays) in [
        // Both went by the log start: garbage is not for the sweep.
        (used, true),
        (dropped, true),
        (orphan, false),
        (other, true),
        (ended, false),
        (in_flight.id(), true),
        (behind, true),
    ] {
        assert_eq!(broker.has(id).await, stays, "{id}");
    }
    drop(in_flight);
    broker.sweep().await.unwrap();
    assert!(!broker.has(behind).await);
    broker.bucket.store.get(&strange, 10).await.unwrap();
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_whose_checkpoints_another_writes_ends() {
    let bench = bench();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    append(&broker, &partition, 1);
    append(&broker, &partition, 2);
    broker.tier(&partition, 0..1).await;
    until_covered(&bench, &broker).await;
    let (_, _, end) = broker.loaded().await;
    let cluster = broker.image().cluster_id().0;
    let writer = Writer::new(WriterId { cluster, incarnation: [9; 16] }, 0);
    let log = NumberedLog::new(broker.bucket.store.clone(), "c/1", *b"CKPT", 100);
    log.create(&log.seal(&writer, end, b"another's")).await.unwrap();
    broker.tier(&partition, 1..2).await;
    let fence = broker.cluster.fenced().await;
    assert!(fence.to_string().contains("checkpoint \"c/1/"), "{fence}");
    assert!(bench.folder.path().join("fenced").exists());
    broker.kill().await;
}

#[test]
fn keys_are_read_as_they_were_written() {
    let topic = crate::protocol::types::TopicId(uuid::Uuid::from_u128(7));
    let of = crate::protocol::types::TopicPartition { topic, partition: 258 };
    let key = PartKey::Partition(of).encode();
    let mut frozen = b"p".to_vec();
    frozen.extend_from_slice(&7_u128.to_be_bytes());
    frozen.extend_from_slice(&[0, 0, 1, 2]);
    assert_eq!(key, frozen);
    for key in [PartKey::Partition(of), PartKey::Garbage, PartKey::Writers] {
        assert_eq!(PartKey::decode(&key.encode()), Some(key));
    }
    for other in [&b""[..], b"p", b"gg", b"x", &frozen[..20], &[&frozen[..], b"x"].concat()] {
        assert_eq!(PartKey::decode(other), None);
    }
}

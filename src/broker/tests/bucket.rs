//! What the broker keeps in the bucket beside the metadata: checkpoints, and no garbage.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, append};
use crate::broker::bucket_log::{CheckpointReader, Item, Summary};
use crate::broker::garbage::list;
use crate::broker::{Broker, PartKey};
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
    bench.clock.sleep(minutes(10)).await;
    let (summary, parts, end) = broker.loaded().await;
    assert!(summary.unwrap().covers >= broker.view_lsn.load(std::sync::atomic::Ordering::Relaxed));
    let keys: Vec<_> = parts.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [PartKey::Partition(partition.id()), PartKey::Garbage, PartKey::Writers]);
    assert_eq!(end, 2, "one entry");

    // What is dropped is listed, and a topic that is deleted is removed.
    let dropped = broker.tier(&partition, 1..2).await;
    broker.delete_before(&partition, 2);
    bench.clock.sleep(minutes(2)).await;
    let (_, parts, _) = broker.loaded().await;
    let listed = |parts: &[(PartKey, Option<bytes::Bytes>)]| {
        let lists = parts.iter().filter(|(key, _)| *key == PartKey::Garbage);
        list::decode(lists.last().unwrap().1.as_ref().unwrap()).unwrap()
    };
    assert!(listed(&parts).iter().any(|object| object.id == dropped));
    broker.delete_topic(partition.id().topic).await.unwrap();
    bench.clock.sleep(minutes(2)).await;
    let (_, parts, _) = broker.loaded().await;
    let last = parts.iter().rfind(|(key, _)| *key == PartKey::Partition(partition.id()));
    assert!(last.is_none_or(|(_, part)| part.is_none()), "{last:?}");

    // Idle from here on: the garbage goes, and nothing is written.
    bench.clock.sleep(minutes(30)).await;
    assert!(!broker.has(dropped).await);
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
    bench.clock.sleep(minutes(2)).await;
    assert!(!broker.has(first).await);
    assert!(broker.has(second).await);
    assert_eq!(broker.partitions.shared().objects.garbage(), []);
    broker.stop().await;
}

#[tokio::test(start_paused = true)]
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
        bench.clock.sleep(minutes(17)).await;
        assert!(!broker.has(id).await, "{checkpoints} checkpoints");
        // Deleted, and no longer listed by the next checkpoint.
        broker.checkpoint().await.unwrap();
        broker.kill().await;
        let broker = bench.start().await;
        assert_eq!(broker.partitions.shared().objects.garbage(), []);
        broker.stop().await;
    }
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
    bench.clock.sleep(minutes(2)).await;
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

//! `__consumer_offsets` as the group coordinator sees it: an ordinary topic of this broker.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::OFFSETS_TOPIC;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::group::{
    AppendRefused, LoadError, LoadedRecord, LogLost, OffsetsLog, Record, Topic, Topics,
};
use crate::partition::MAX_DECOMPRESSED_BYTES;
use crate::partition::{
    AppendError, AppendRequest, LogError, Partition, Partitions, TierRef, record,
};
use crate::protocol::batch::{Batch, BatchBuilder, BatchError, BatchIter};
use crate::protocol::types::TopicPartition;
use crate::task;
use crate::tier::{self, Age, Cache};
use crate::wal::{Class, Stream};

/// Batches on their way from the thread that reads the log to the task that applies them.
const LOAD_QUEUE: usize = 4;
/// How often an append that found no room waits for it.
const ROOM_ATTEMPTS: usize = 8;

/// What the group coordinator needs of the broker.
#[derive(Debug)]
pub(super) struct OffsetsTopic {
    pub(super) cluster: Cluster,
    pub(super) stream: Stream,
    pub(super) partitions: Arc<Partitions>,
    pub(super) cache: Cache,
    pub(super) clock: Clock,
}

type Durable = BoxFuture<'static, Result<(), LogLost>>;

impl OffsetsTopic {
    fn partition(&self, partition: i32) -> Option<Arc<Partition>> {
        let image = self.cluster.image();
        let topic = image.topic(OFFSETS_TOPIC)?.id;
        self.partitions.get(TopicPartition { topic, partition })
    }

    async fn append_batch(
        &self,
        partition: i32,
        records: Vec<Record>,
    ) -> Result<Durable, AppendRefused> {
        let partition = self.partition(partition).ok_or(AppendRefused::Unavailable)?;
        let now_ms = self.clock.wall_ms();
        let batch = batch_of(&records, now_ms).map_err(|_| AppendRefused::TooLarge)?;
        let needed = record::data_len(batch.bytes().len());
        let mut admission =
            self.stream.admit(needed).await.map_err(|_| AppendRefused::Unavailable)?;
        for _ in 0..ROOM_ATTEMPTS {
            match partition.append(&mut admission, &AppendRequest::internal(&batch, now_ms)) {
                Ok(appended) => {
                    let durable = self.stream.wait_durable(appended.lsn);
                    return Ok(durable.map(|outcome| outcome.map_err(|_| LogLost)).boxed());
                }
                Err(AppendError::NoRoom) => {}
                Err(AppendError::MessageTooLarge { .. }) => return Err(AppendRefused::TooLarge),
                Err(_) => return Err(AppendRefused::Unavailable),
            }
            let room = self.stream.wait_for_room(Class::Internal, needed).await;
            room.map_err(|_| AppendRefused::Unavailable)?;
        }
        Err(AppendRefused::Unavailable)
    }
}

impl OffsetsLog for OffsetsTopic {
    fn partitions(&self) -> Option<i32> {
        let image = self.cluster.image();
        let topic = image.topic(OFFSETS_TOPIC)?;
        let count = topic.partition_count();
        // An image names a new topic a moment before its partitions are opened, the last one last.
        let last = TopicPartition { topic: topic.id, partition: count - 1 };
        self.partitions.get(last).map(|_| count)
    }

    fn append(
        &self,
        partition: i32,
        records: Vec<Record>,
    ) -> BoxFuture<'_, Result<Durable, AppendRefused>> {
        self.append_batch(partition, records).boxed()
    }

    fn load<'a>(
        &'a self,
        index: i32,
        sink: &'a mut (dyn FnMut(LoadedRecord) + Send),
    ) -> BoxFuture<'a, Result<i64, LoadError>> {
        let failed = move |reason: String| LoadError { partition: index, reason };
        async move {
            let partition =
                self.partition(index).ok_or_else(|| failed("it does not exist".to_owned()))?;
            read_records(partition, self.cache.clone(), sink).await.map_err(failed)?;
            Ok(self.stream.log_clock().now_ms())
        }
        .boxed()
    }
}

/// One batch of records, stamped with `now_ms`.
pub(super) fn batch_of(records: &[Record], now_ms: i64) -> Result<Batch, BatchError> {
    let mut builder = BatchBuilder::new();
    for Record { key, value } in records {
        builder.append(now_ms, Some(key), value.as_deref(), &[]);
    }
    Batch::parse_one(builder.build())
}

/// Reads a partition of the topic from its log start to its end, wherever that is, and gives each
/// record to `sink`. The error is in words: a part of the records is not the group.
pub(super) async fn read_records(
    partition: Arc<Partition>,
    cache: Cache,
    sink: &mut (dyn FnMut(LoadedRecord) + Send),
) -> Result<(), String> {
    let (sender, mut batches) = mpsc::channel(LOAD_QUEUE);
    let loader = Loader { partition, cache, sender };
    let reading = task::spawn("group-load-read", loader.read_all());
    while let Some(batch) = batches.recv().await {
        for record in batch {
            sink(record);
        }
    }
    reading.await.map_err(|panicked| panicked.to_string())?
}

/// Reads a partition batch by batch and sends the records on. A receiver that is gone ends it.
struct Loader {
    partition: Arc<Partition>,
    cache: Cache,
    sender: mpsc::Sender<Vec<LoadedRecord>>,
}

impl Loader {
    /// From the log start to the high watermark of now, wherever that is. An error where the bucket
    /// does not answer: a part of the records is not the group.
    async fn read_all(self) -> Result<(), String> {
        let offsets = self.partition.offsets();
        let (mut next, until) = (offsets.log_start, offsets.high_watermark);
        while next < until {
            let behind = match self.partition.tiered_at(next) {
                Some(section) => self.read_tiered(&section, next, until).await?,
                None => self.read_local(next, until).await?,
            };
            let log_start = self.partition.offsets().log_start;
            let has_moved = self.partition.tiered_at(next).is_some();
            if behind <= next && log_start <= next && !has_moved {
                let of = self.partition.id();
                let local_start = self.partition.local_start();
                return Err(LogError::Gap { of, offset: next, next: local_start }.to_string());
            }
            next = behind.max(log_start);
        }
        Ok(())
    }

    /// Returns the offset behind the last, where what is in the bucket alone begins, or `until`.
    async fn read_local(&self, from: i64, until: i64) -> Result<i64, String> {
        let (partition, sender) = (Arc::clone(&self.partition), self.sender.clone());
        let reading = move || {
            let visit =
                |batch: &Batch, append_time_ms| send(&partition, batch, append_time_ms, &sender);
            partition.load(from, until, visit)
        };
        blocking(reading).await
    }

    /// Reads up to the end of one chunk and returns the offset behind it; `from` if the section has
    /// been replaced by another one meanwhile. A record counts as appended with the youngest of its
    /// section: what expires by that expires too late, and never too early.
    async fn read_tiered(&self, section: &TierRef, from: i64, until: i64) -> Result<i64, String> {
        let (of, append_time_ms) = (self.partition.id(), section.append_time_ms);
        let missing = || tier::ReadError::Missing { key: section.object.id.key() };
        let found = self.cache.read(&section.object, of, from, Age::CatchUp).await;
        let found = match found.and_then(|found| found.ok_or_else(missing)) {
            Ok(found) => found,
            Err(source) => {
                let is_replaced = matches!(source, tier::ReadError::Missing { .. })
                    && self.partition.tiered_at(from).is_none_or(|now| now.id() != section.id());
                let error = LogError::Tier { of, offset: from, source };
                return if is_replaced { Ok(from) } else { Err(error.to_string()) };
            }
        };
        let (partition, sender) = (Arc::clone(&self.partition), self.sender.clone());
        let reading = move || {
            for batch in BatchIter::new(found.batches).map_while(Result::ok) {
                if batch.header().base_offset < until {
                    send(&partition, &batch, append_time_ms, &sender)?;
                }
            }
            Ok(found.next_offset)
        };
        blocking(reading).await
    }
}

/// Runs what blocks; the load is tried again if it fails.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, String> {
    let outcome = task::blocking(work).await.map_err(|panicked| panicked.to_string())?;
    outcome.map_err(|error| error.to_string())
}

/// Sends a batch's records on. Blocks.
fn send(
    partition: &Partition,
    batch: &Batch,
    append_time_ms: i64,
    sender: &mpsc::Sender<Vec<LoadedRecord>>,
) -> Result<(), LogError> {
    if !batch.header().is_control() && !sender.is_closed() {
        // Whoever receives may be gone a moment later.
        drop(sender.blocking_send(records(partition, batch, append_time_ms)?));
    }
    Ok(())
}

fn records(
    partition: &Partition,
    batch: &Batch,
    append_time_ms: i64,
) -> Result<Vec<LoadedRecord>, LogError> {
    let broken =
        |source| LogError::Batch { of: partition.id(), offset: batch.header().base_offset, source };
    let payload = batch.payload(MAX_DECOMPRESSED_BYTES).map_err(broken)?;
    let mut records = Vec::new();
    for (index, record) in (0..).zip(batch.records(&payload)) {
        let record = record.map_err(|source| broken(BatchError::Record { index, source }))?;
        let Some(key) = record.key else { continue };
        let record = Record {
            key: payload.slice_ref(key),
            value: record.value.map(|value| payload.slice_ref(value)),
        };
        records.push(LoadedRecord { append_time_ms, record });
    }
    Ok(records)
}

impl Topics for Cluster {
    fn topic(&self, name: &str) -> Option<Topic> {
        let image = self.image();
        let topic = image.topic(name)?;
        Some(Topic { id: topic.id, partitions: topic.partition_count() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;
    use crate::cluster::Change;

    #[tokio::test]
    async fn the_topic_has_no_partitions_for_the_coordinator_until_they_are_open() {
        let bench = Bench::new();
        let broker = bench.start().await;
        let log = OffsetsTopic {
            cluster: broker.cluster.clone(),
            stream: broker.stream.clone(),
            partitions: Arc::clone(&broker.partitions),
            cache: broker.cache.clone(),
            clock: broker.clock.clone(),
        };
        assert_eq!(log.partitions(), None);
        let change = Change::CreateTopic(broker.default_topic(OFFSETS_TOPIC));
        let committed = broker.cluster.commit(vec![change]).await.unwrap();
        assert_eq!(log.partitions(), None, "the image has it, the broker not yet");
        let topic = committed.image.topic(OFFSETS_TOPIC).unwrap();
        broker.open_topic(&committed.image, topic);
        assert_eq!(log.partitions(), Some(50));
        broker.stop().await;
    }
}

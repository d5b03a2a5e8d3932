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
use crate::partition::{AppendError, AppendRequest, LogError, Partition, Partitions, record};
use crate::protocol::batch::{Batch, BatchBuilder};
use crate::protocol::types::TopicPartition;
use crate::task;
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
        let mut builder = BatchBuilder::new();
        for Record { key, value } in &records {
            builder.append(now_ms, Some(key), value.as_deref(), &[]);
        }
        let batch = Batch::parse_one(builder.build()).map_err(|_| AppendRefused::TooLarge)?;
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
            let (sender, mut batches) = mpsc::channel(LOAD_QUEUE);
            let reading = task::blocking(move || read_all(&partition, &sender));
            while let Some(batch) = batches.recv().await {
                for record in batch {
                    sink(record);
                }
            }
            match reading.await {
                Ok(Ok(())) => Ok(self.stream.log_clock().now_ms()),
                Ok(Err(cause)) => Err(failed(cause.to_string())),
                Err(panicked) => Err(failed(panicked.to_string())),
            }
        }
        .boxed()
    }
}

/// Reads a partition batch by batch and sends the records on. Blocks. A receiver that is gone ends
/// it.
fn read_all(
    partition: &Partition,
    batches: &mpsc::Sender<Vec<LoadedRecord>>,
) -> Result<(), LogError> {
    let mut gone = false;
    partition.load::<LogError>(|batch, append_time_ms| {
        if gone || batch.header().is_control() {
            return Ok(());
        }
        gone = batches.blocking_send(records(partition, batch, append_time_ms)?).is_err();
        Ok(())
    })?;
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
        let record = record.map_err(|source| {
            broken(crate::protocol::batch::BatchError::Record { index, source })
        })?;
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

//! A whole broker in a directory of its own, and what must hold between its rooms.

mod bucket;
mod bucket_check;
mod checkpoints;
mod observe;
mod times;

use std::sync::Arc;

use tempfile::TempDir;

use super::{Broker, Environment, StartError};
use crate::budget::Budget;
use crate::clock::{Clock, Random};
use crate::config::Sources;
use crate::metrics::Registry;
use crate::partition::{AppendError, AppendRequest, Appended, Partition, record};
use crate::protocol::batch::{Batch, BatchBuilder, ProducerRef};
use crate::protocol::types::TopicPartition;
use crate::shutdown::Shutdown;
use crate::wal::Class;
use crate::wal::local::OpenError;

/// A directory and a clock that outlive the brokers started in them.
pub(super) struct Bench {
    folder: TempDir,
    pub(super) clock: Clock,
    /// Configuration beside the directory.
    flags: Vec<(&'static str, &'static str)>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(&[])
    }

    pub(super) fn with(flags: &[(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: Clock::manual(1_700_000_000_000), flags: flags.to_vec() }
    }

    /// Starts a broker in the directory; the one before must have ended.
    pub(super) async fn start(&self) -> Arc<Broker> {
        loop {
            match Broker::start(self.environment()).await {
                // The log's threads hold the directory for a moment after they have ended.
                Err(StartError::Wal(OpenError::Locked)) => tokio::task::yield_now().await,
                started => return started.unwrap().0,
            }
        }
    }

    fn environment(&self) -> Environment {
        let mut flags = self.flags.clone();
        // The configuration refuses a directory of its own beside a bucket in memory.
        if !flags.contains(&("object.url", "memory://")) {
            flags.push(("data.dir", self.folder.path().to_str().unwrap()));
        }
        Environment {
            config: Arc::new(Sources::of_flags(&flags).load().unwrap()),
            clock: self.clock.clone(),
            random: Random::system(),
            budget: Budget::new(64 << 20),
            registry: Registry::new(),
            shutdown: Shutdown::new(),
            data_dir: self.folder.path().to_owned(),
            take_over: false,
            waiting: Box::new(|_| {}),
        }
    }
}

impl Broker {
    /// Ends as a killed process does, with what is in the log and no last checkpoint.
    pub(super) async fn kill(&self) {
        self.groups.close();
        self.cluster.close().await;
        self.stream.close().await.unwrap();
    }

    /// Creates a topic, of which partition 0 is returned.
    pub(super) async fn topic(&self, name: &str, partitions: i32) -> Arc<Partition> {
        let wanted = super::NewTopic { partitions, ..self.default_topic(name) };
        let topic = self.create_topics(vec![wanted]).await.remove(0).unwrap();
        self.partition(TopicPartition { topic: topic.id, partition: 0 }).unwrap()
    }

    /// Appends a batch once the log has grown enough for it, and waits until it is durable.
    pub(super) async fn append(&self, partition: &Arc<Partition>, batch: &Batch) -> Appended {
        let needed = record::data_len(batch.bytes().len());
        let request = AppendRequest::internal(batch, self.clock.wall_ms());
        let appended = loop {
            let mut admission = self.stream.admit(needed).await.unwrap();
            match partition.append(&mut admission, &request) {
                Err(AppendError::NoRoom) => {}
                other => break other.unwrap(),
            }
            drop(admission);
            self.stream.wait_for_room(Class::Data, needed).await.unwrap();
        };
        self.stream.wait_durable(appended.lsn).await.unwrap();
        appended
    }

    /// A partition by its topic's name.
    pub(super) fn partition_of(&self, name: &str, partition: i32) -> Arc<Partition> {
        let topic = self.image().topic(name).unwrap().id;
        self.partition(TopicPartition { topic, partition }).unwrap()
    }
}

/// Appends one record of an idempotent producer and waits until it is durable. Blocks.
fn append(broker: &Broker, partition: &Arc<Partition>, producer: i64) -> Appended {
    let mut builder =
        BatchBuilder::new().producer(ProducerRef { id: producer, epoch: 0, sequence: 0 });
    builder.append(broker.clock.wall_ms(), None, Some(b"value"), &[]);
    let batch = Batch::parse_one(builder.build()).unwrap();
    let mut admission = broker.stream.try_admit(record::data_len(batch.bytes().len())).unwrap();
    let request = AppendRequest::internal(&batch, broker.clock.wall_ms());
    let appended = partition.append(&mut admission, &request).unwrap();
    broker.stream.wait_durable_blocking(appended.lsn).unwrap();
    appended
}

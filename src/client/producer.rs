//! A producer of one topic: records go into batches of their partitions, batches to the partitions'
//! leaders, and what became of each record is reported.
//!
//! As in Kafka's own producer a batch leaves when it is full or its linger time is over, is tried
//! again until `delivery.timeout.ms` while what is wrong passes, and with acks=all carries a
//! producer id and sequences, so that a batch whose answer was lost is not appended twice. Here at
//! most one batch of a partition is on its way at a time, and one request to a node.
//!
//! A batch that is refused for one of its records is tried again without it, or in halves where
//! the leader does not tell which it is: the others are delivered.
//!
//! **Invariant:** what waits to be delivered is bounded by [`ProducerOptions::buffer_bytes`]; who
//! has more waits in [`Producer::send`]. Every record is reported exactly once, unless the producer
//! is dropped before.

mod queue;
mod request;
mod sender;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use self::queue::{Pending, Queues};
use self::sender::Sender;
use super::partitioner::{Sticky, partition_of_key};
use super::{Cluster, ClusterError, Leaders, NewRecord};
use crate::clock::{Clock, Random};
use crate::protocol::compression::Compression;
use crate::protocol::error::ErrorCode;
use crate::task;

/// What a waiting record is charged beside key, value and headers.
const RECORD_OVERHEAD: usize = 96;

/// What must have happened before a leader answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: there is no answer.
    None,
    /// The leader has the batch.
    Leader,
    /// All in-sync replicas have it.
    All,
}

/// How records are produced.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// What must have happened before a leader answers.
    pub acks: Acks,
    /// The codec of batches.
    pub compression: Compression,
    /// A batch has no more bytes of records, unless it is a single record (`batch.size`).
    pub batch_bytes: usize,
    /// How long a batch waits to be filled (`linger.ms`).
    pub linger: Duration,
    /// Records that wait have no more bytes than this together (`buffer.memory`).
    pub buffer_bytes: usize,
    /// A request has no more bytes of records, unless it is a single batch (`max.request.size`).
    pub request_bytes: usize,
    /// How long a record is tried to be delivered (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    /// As Kafka's producer, with larger batches: what is piped has no latency to lose.
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            request_bytes: 1 << 20,
            delivery_timeout: Duration::from_mins(2),
        }
    }
}

/// Why a record is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The partition's leader refused it.
    #[error("partition {topic}-{partition}: {}{}", name(*.code), said(.message.as_deref()))]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Kafka's error code.
        code: i16,
        /// What the leader says besides.
        message: Option<String>,
    },
    /// It was tried for as long as it may be.
    #[error(
        "partition {topic}-{partition}: not delivered in {} s{}; the last try: {last}",
        .after.as_secs(), if *.is_unknown { " (it may have been written)" } else { "" }
    )]
    Expired {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How long it was tried.
        after: Duration,
        /// Whether a try had no answer, so that it may be in the log.
        is_unknown: bool,
        /// What became of the last try.
        last: String,
    },
    /// There was no answer that could be understood.
    #[error("{0}")]
    Cluster(ClusterError),
    /// The topic does not have the partition.
    #[error("topic {topic} has no partition {partition}; it has {count}, from 0 on")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The topic is not known to have any partition.
    #[error("topic {topic}: {}", name(*.code))]
    NoTopic {
        /// The topic.
        topic: String,
        /// What metadata have for it.
        code: i16,
    },
    /// It does not fit into what records may wait in.
    #[error("the record has {bytes} bytes, and no more than {max} can wait at a time")]
    TooLarge {
        /// What it is charged.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The producer has ended.
    #[error("the producer has ended")]
    Closed,
}

impl ProduceError {
    /// Kafka's error code, where a leader refused with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ProduceError::Refused { code, .. } | ProduceError::NoTopic { code, .. } => {
                ErrorCode::from_code(*code)
            }
            ProduceError::Cluster(error) => error.code(),
            _ => None,
        }
    }
}

fn name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error code {code}"), |it| it.name().into())
}

fn said(message: Option<&str>) -> String {
    let message = message.map(str::trim).filter(|message| !message.is_empty());
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// Where a record is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 where the leader does not tell: with acks=0, or if it knows only that the
    /// record is there.
    pub offset: i64,
    /// Milliseconds since 1970, as the log has it.
    pub timestamp: i64,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What [`Producer::send`] was given with it.
    pub tag: u64,
    /// Where it is, or why not.
    pub outcome: Result<Delivered, ProduceError>,
}

/// What takes reports. It is called by the task that sends, and holds it up.
type OnReport = Box<dyn FnMut(Report) + Send>;

/// What the handle and the task that sends share.
#[derive(Debug)]
struct Shared {
    topic: String,
    leaders: Leaders,
    options: ProducerOptions,
    clock: Clock,
    /// Bytes that may still wait.
    room: Semaphore,
    queues: Mutex<Queues>,
    /// There is a batch that was not there, or one that is full.
    work: Notify,
    /// Nothing waits any more.
    idle: Notify,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Produces records to a topic.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Producer {
    /// A producer to `topic`, over connections of its own. `leaders` should know the topic.
    /// `on_report` is told what becomes of each record, in the order of its partition; it must not
    /// block.
    pub fn new(
        cluster: &Cluster,
        leaders: &Leaders,
        topic: &str,
        options: ProducerOptions,
        on_report: impl FnMut(Report) + Send + 'static,
    ) -> Producer {
        let sticky = Sticky::new(options.batch_bytes, Random::system());
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            leaders: leaders.clone(),
            clock: cluster.clock().clone(),
            room: Semaphore::new(options.buffer_bytes),
            queues: Mutex::new(Queues::new(sticky, options.batch_bytes)),
            work: Notify::new(),
            idle: Notify::new(),
            options,
        });
        let sender = Sender::new(Arc::clone(&shared), cluster.separate(), Box::new(on_report));
        let task = task::spawn("producer", sender.run());
        Producer { shared, task }
    }

    /// Hands a record over, waiting while too many wait. What is wrong with it at once is the
    /// error; what becomes of it later is reported with `tag`.
    ///
    /// A call that is dropped has handed nothing over.
    pub async fn send(&self, tag: u64, record: NewRecord) -> Result<(), ProduceError> {
        let shared = &self.shared;
        let bytes = charge(&record);
        let max = shared.options.buffer_bytes;
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= max);
        let permits = permits.ok_or(ProduceError::TooLarge { bytes, max })?;
        // A partition that cannot be is told before the wait.
        self.check(&record)?;
        let room = shared.room.acquire_many(permits).await.map_err(|_| ProduceError::Closed)?;
        let timestamp = record.timestamp.unwrap_or_else(|| shared.clock.wall_ms());
        let mut queues = shared.queues();
        let partition = self.partition(&mut queues, &record, bytes)?;
        // The sender gives it back.
        room.forget();
        let pending = Pending { tag, record, timestamp, bytes };
        let wakes = queues.push(partition, pending, shared.clock.now());
        drop(queues);
        if wakes {
            shared.work.notify_one();
        }
        Ok(())
    }

    fn check(&self, record: &NewRecord) -> Result<(), ProduceError> {
        let Some(partition) = record.partition else { return Ok(()) };
        let all = self.shared.leaders.partitions(&self.shared.topic);
        if all.contains(&partition) {
            return Ok(());
        }
        let topic = self.shared.topic.clone();
        Err(ProduceError::NoPartition { topic, partition, count: all.len() })
    }

    fn partition(
        &self,
        queues: &mut Queues,
        record: &NewRecord,
        bytes: usize,
    ) -> Result<i32, ProduceError> {
        if let Some(partition) = record.partition {
            return Ok(partition);
        }
        let Shared { topic, leaders, .. } = &*self.shared;
        let all = leaders.partitions(topic);
        let chosen = match &record.key {
            Some(key) if !all.is_empty() => Some(partition_of_key(key, all.len())),
            _ => queues.sticky.next(&leaders.led_partitions(topic), &all, bytes),
        };
        let none = || ProduceError::NoTopic { topic: topic.clone(), code: leaders.code(topic) };
        chosen.ok_or_else(none)
    }

    /// Waits until everything that was handed over is reported, without regard to linger times.
    pub async fn flush(&self) {
        self.shared.queues().flushing += 1;
        self.shared.work.notify_one();
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.shared.queues().is_idle() {
                break;
            }
            idle.await;
        }
        self.shared.queues().flushing -= 1;
    }

    /// Waits as [`Producer::flush`] does, and ends the producer.
    pub async fn close(mut self) {
        self.flush().await;
        self.shared.queues().is_closed = true;
        self.shared.work.notify_one();
        // What it panics with was logged.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Producer {
    /// What waits is given up.
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn charge(record: &NewRecord) -> usize {
    let bytes = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter().map(|(key, value)| key.len() + bytes(value) + 32);
    RECORD_OVERHEAD + bytes(&record.key) + bytes(&record.value) + headers.sum::<usize>()
}

//! What the coordinator needs from below: the partitions of `__consumer_offsets`, and what topics
//! there are. The broker room implements both.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::protocol::types::TopicId;

/// A record of `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// A record as it comes back from the log.
#[derive(Debug, Clone)]
pub struct LoadedRecord {
    /// When it was appended, in milliseconds on the log's own clock, which goes on across restarts
    /// and does not follow the wall clock; never the record's timestamp.
    pub append_time_ms: i64,
    /// The record.
    pub record: Record,
}

/// Resolves when the records of an append, and all before them in the partition, are durable.
pub type Durable = BoxFuture<'static, Result<(), LogLost>>;

/// The outcome of an append is unknown: the log failed before it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log failed before the records were durable")]
pub struct LogLost;

/// An append changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// The log cannot take records now.
    #[error("the log takes no records at present")]
    Unavailable,
    /// The batch is larger than the partition's `max.message.bytes`.
    #[error("the batch is larger than a batch may be")]
    TooLarge,
}

/// A partition could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read __consumer_offsets-{partition}: {reason}")]
pub struct LoadError {
    /// The partition of `__consumer_offsets`.
    pub partition: i32,
    /// What went wrong, in words.
    pub reason: String,
}

/// The internal topic `__consumer_offsets`.
pub trait OffsetsLog: Send + Sync + 'static {
    /// How many partitions the topic has; `None` while it does not exist.
    fn partitions(&self) -> Option<i32>;

    /// Appends `records` as one batch. The order of calls for a group is the order in the log.
    /// Waits, within a bound of the implementation, for room, but never for durability; a refusal
    /// has changed nothing. Dropping the future before it resolves must leave the log whole.
    fn append(
        &self,
        partition: i32,
        records: Vec<Record>,
    ) -> BoxFuture<'_, Result<Durable, AppendRefused>>;

    /// Reads the partition from its log start to its end, batch by batch in bounded memory, and
    /// gives each record to `sink`. Returns what the log's clock shows at the end: ages are
    /// measured from there.
    fn load<'a>(
        &'a self,
        partition: i32,
        sink: &'a mut (dyn FnMut(LoadedRecord) + Send),
    ) -> BoxFuture<'a, Result<i64, LoadError>>;
}

/// A topic as far as commits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// The id of its present incarnation.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The topics there are. It must know them all before the coordinator is asked anything: offsets
/// of a topic that it does not know count as those of a deleted topic, and the next sweep removes
/// them.
pub trait Topics: Send + Sync + 'static {
    /// The topic of that name.
    fn topic(&self, name: &str) -> Option<Topic>;
}

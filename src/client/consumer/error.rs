//! Why a consumer cannot go on.

use crate::client::ClusterError;
use crate::protocol::batch::BatchError;

/// Why a consumer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A server refused for good, or there is none to ask.
    #[error("{0}")]
    Cluster(ClusterError),
    /// The partition has nothing at the position, and [`Reset::Error`](super::Reset::Error) was
    /// asked for.
    #[error(
        "partition {topic}-{partition} has no offset {offset} (any more); begin with another one, \
         or with the earliest or latest"
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position.
        offset: i64,
    },
    /// A batch is not what it should be.
    #[error("partition {topic}-{partition} at offset {offset}: {fault}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that would have been next.
        offset: i64,
        /// What is wrong.
        fault: BatchError,
    },
    /// A batch is of a format that Kafka stopped writing with version 0.11.
    #[error(
        "partition {topic}-{partition} at offset {offset}: the records are in message format \
         {magic}, and only 2 (of Kafka 0.11 and later) is read; begin behind them"
    )]
    OldFormat {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that would have been next.
        offset: i64,
        /// The format's number.
        magic: i8,
    },
    /// A record has more headers than are read.
    #[error(
        "partition {topic}-{partition} at offset {offset}: the record has {headers} headers, and \
         at most {max} are read; begin behind it"
    )]
    Headers {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// How many it has.
        headers: usize,
        /// How many are read.
        max: usize,
    },
}

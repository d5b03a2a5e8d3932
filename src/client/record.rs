//! Records as the command line has them: with their place when they come out of a log, without one
//! before they go in.

use bytes::Bytes;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or those of the append where the topic is so
    /// configured.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; without one the record deletes its key on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in their order, keys perhaps several times.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A record that is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The partition, if it is not left to the key.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; without, it is the time at which the record was handed over.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; without one the record deletes its key on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in their order, keys perhaps several times.
    pub headers: Vec<(String, Option<Bytes>)>,
}

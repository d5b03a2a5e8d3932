//! What one entry of the metadata log says.
//!
//! The payload of entry `meta/<n>` (after the envelope of [`crate::object`]); integers are
//! big-endian, a string is its length as u16 and UTF-8:
//!
//! | bytes  | field   | meaning                                                        |
//! |--------|---------|----------------------------------------------------------------|
//! | 0..2   | version | 1; a greater one is refused                                    |
//! | 2..10  | wall    | when it was written, ms since the epoch, i64; never relied on  |
//! | 10..14 | count   | how many records follow, u32                                   |
//! | 14..   | records | each: kind u16, version u16 (as above), body length u32, body  |
//!
//! | kind | record                 | body                                                    |
//! |------|------------------------|---------------------------------------------------------|
//! | 1    | `ClusterCreated`       | cluster id 16                                           |
//! | 2    | `FeatureLevel`         | level u16                                               |
//! | 3    | `BrokerBound`          | node id i32, identity 16                                |
//! | 4    | `BrokerIncarnation`    | node id i32, incarnation 16                             |
//! | 5    | `BrokerConfigsSet`     | node id i32, -1 for all brokers; count u32, each as in  |
//! |      |                        | `TopicConfigsSet`                                       |
//! | 16   | `TopicCreated`         | id 16, name string, partitions i32, replication factor  |
//! |      |                        | i16, owner i32, epoch base i32, config count u32, each: |
//! |      |                        | key string, value string                                |
//! | 17   | `TopicDeleted`         | id 16                                                   |
//! | 18   | `PartitionsAdded`      | id 16, new count i32, owner i32                         |
//! | 19   | `TopicConfigsSet`      | id 16, count u32, each: key string, present u8, value   |
//! |      |                        | string if present is 1                                  |
//! | 32   | `ProducerIdsAllocated` | first i64, count i32                                    |
//! | 96   | `RestoreOpened`        | node id i32                                             |
//! | 97   | `RestoreClosed`        | node id i32                                             |
//!
//! Kinds 48 to 63 are kept for ACLs, 64 to 79 for SCRAM credentials, 80 to 95 for quotas, 98 to
//! 111 for ownership. A kind that is not in the table refuses the start: a release
//! that does not know a record cannot know what it would get wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::{ClusterId, Identity, Incarnation};
use crate::object::{Cursor, Truncated};
use crate::protocol::types::TopicId;

/// The version of the payload and of every record that this build writes.
const VERSION: u16 = 1;

/// How many bytes stand before a record's body.
const RECORD_HEADER_BYTES: usize = 8;

/// Stands for every broker where a record names one.
pub const ALL_BROKERS: i32 = -1;

/// One fact in the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The cluster exists; in the first entry and in no other.
    ClusterCreated {
        /// Its id.
        cluster_id: ClusterId,
    },
    /// Releases that know less than `level` must not open the cluster any more.
    FeatureLevel {
        /// The level.
        level: u16,
    },
    /// The broker id belongs to a data directory.
    BrokerBound {
        /// The broker's id.
        node_id: i32,
        /// The directory's identity.
        identity: Identity,
    },
    /// A new run of the broker; what ran before is fenced.
    BrokerIncarnation {
        /// The broker's id.
        node_id: i32,
        /// The run.
        incarnation: Incarnation,
    },
    /// Configuration of a broker changed that it takes at run time.
    BrokerConfigsSet {
        /// The broker's id, or [`ALL_BROKERS`].
        node_id: i32,
        /// New values by key; `None` removes the key.
        configs: BTreeMap<String, Option<String>>,
    },
    /// A topic exists.
    TopicCreated {
        /// Its id.
        topic: TopicId,
        /// Its name.
        name: Arc<str>,
        /// How many partitions it has.
        partitions: i32,
        /// What the creator asked for.
        replication_factor: i16,
        /// The broker that owns the partitions.
        owner: i32,
        /// What is added to entry numbers to give its leader epochs.
        epoch_base: i32,
        /// Its configuration.
        configs: BTreeMap<String, String>,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Its id.
        topic: TopicId,
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Its id.
        topic: TopicId,
        /// How many it has now.
        count: i32,
        /// The broker that owns the new ones.
        owner: i32,
    },
    /// A topic's configuration changed.
    TopicConfigsSet {
        /// Its id.
        topic: TopicId,
        /// New values by key; `None` removes the key.
        configs: BTreeMap<String, Option<String>>,
    },
    /// Producer ids `first..first + count` are given out by whoever wrote this.
    ProducerIdsAllocated {
        /// The first.
        first: i64,
        /// How many.
        count: i32,
    },
    /// The data directory that the broker id was bound to is being filled from the bucket; until
    /// [`Record::RestoreClosed`] no run of it starts.
    RestoreOpened {
        /// The broker's id.
        node_id: i32,
    },
    /// The data directory is filled.
    RestoreClosed {
        /// The broker's id.
        node_id: i32,
    },
}

/// An entry's payload cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends too early.
    #[error("metadata record is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// A newer release wrote the entry or a record of it.
    #[error(
        "metadata has version {found} of {what} and this release reads up to {VERSION}; use a \
         newer release"
    )]
    Newer {
        /// What has the version.
        what: &'static str,
        /// The version.
        found: u16,
    },
    /// A newer release wrote a record of a kind unknown here.
    #[error("metadata record has the unknown kind {kind}; use a newer release")]
    UnknownKind {
        /// The kind.
        kind: u16,
    },
    /// A string is not UTF-8.
    #[error("metadata record has a string that is not UTF-8")]
    NotUtf8,
    /// Bytes are left over.
    #[error("metadata record has {bytes} bytes too many")]
    Excess {
        /// How many.
        bytes: usize,
    },
}

/// Writes the payload of an entry. Strings longer than [`MAX_STRING_BYTES`] are the caller's
/// mistake.
pub(super) fn encode_entry(wall_ms: i64, records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&wall_ms.to_be_bytes());
    out.extend_from_slice(&(records.len() as u32).to_be_bytes());
    for record in records {
        let mut body = Vec::new();
        encode_body(record, &mut body);
        out.extend_from_slice(&kind_of(record).to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(&body);
    }
    out
}

/// About how many bytes a record takes in an entry.
pub(super) fn encoded_bytes(record: &Record) -> usize {
    let mut body = Vec::new();
    encode_body(record, &mut body);
    RECORD_HEADER_BYTES + body.len()
}

/// Reads the payload of an entry.
pub(super) fn decode_entry(payload: &[u8]) -> Result<(i64, Vec<Record>), RecordError> {
    let mut cursor = Cursor::new(payload);
    let version = cursor.u16()?;
    if version > VERSION {
        return Err(RecordError::Newer { what: "an entry", found: version });
    }
    let wall_ms = cursor.i64()?;
    let count = cursor.u32()?;
    let mut records = Vec::new();
    for _ in 0..count {
        let kind = cursor.u16()?;
        let version = cursor.u16()?;
        let length = cursor.u32()?;
        let mut body = Cursor::new(cursor.take(length as usize)?);
        if version > VERSION {
            return Err(RecordError::Newer { what: "a record", found: version });
        }
        records.push(decode_body(kind, &mut body)?);
        all_read(&body)?;
    }
    all_read(&cursor)?;
    Ok((wall_ms, records))
}

fn kind_of(record: &Record) -> u16 {
    match record {
        Record::ClusterCreated { .. } => 1,
        Record::FeatureLevel { .. } => 2,
        Record::BrokerBound { .. } => 3,
        Record::BrokerIncarnation { .. } => 4,
        Record::BrokerConfigsSet { .. } => 5,
        Record::TopicCreated { .. } => 16,
        Record::TopicDeleted { .. } => 17,
        Record::PartitionsAdded { .. } => 18,
        Record::TopicConfigsSet { .. } => 19,
        Record::ProducerIdsAllocated { .. } => 32,
        Record::RestoreOpened { .. } => 96,
        Record::RestoreClosed { .. } => 97,
    }
}

fn encode_body(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::ClusterCreated { cluster_id } => out.extend_from_slice(&cluster_id.0),
        Record::FeatureLevel { level } => out.extend_from_slice(&level.to_be_bytes()),
        Record::BrokerBound { node_id, identity } => {
            out.extend_from_slice(&node_id.to_be_bytes());
            out.extend_from_slice(&identity.0);
        }
        Record::BrokerIncarnation { node_id, incarnation } => {
            out.extend_from_slice(&node_id.to_be_bytes());
            out.extend_from_slice(&incarnation.0);
        }
        Record::BrokerConfigsSet { node_id, configs } => {
            out.extend_from_slice(&node_id.to_be_bytes());
            put_changes(out, configs);
        }
        Record::TopicCreated {
            topic,
            name,
            partitions,
            replication_factor,
            owner,
            epoch_base,
            configs,
        } => {
            out.extend_from_slice(topic.0.as_bytes());
            put_string(out, name);
            out.extend_from_slice(&partitions.to_be_bytes());
            out.extend_from_slice(&replication_factor.to_be_bytes());
            out.extend_from_slice(&owner.to_be_bytes());
            out.extend_from_slice(&epoch_base.to_be_bytes());
            put_configs(out, configs);
        }
        Record::TopicDeleted { topic } => out.extend_from_slice(topic.0.as_bytes()),
        Record::PartitionsAdded { topic, count, owner } => {
            out.extend_from_slice(topic.0.as_bytes());
            out.extend_from_slice(&count.to_be_bytes());
            out.extend_from_slice(&owner.to_be_bytes());
        }
        Record::TopicConfigsSet { topic, configs } => {
            out.extend_from_slice(topic.0.as_bytes());
            put_changes(out, configs);
        }
        Record::ProducerIdsAllocated { first, count } => {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&count.to_be_bytes());
        }
        Record::RestoreOpened { node_id } | Record::RestoreClosed { node_id } => {
            out.extend_from_slice(&node_id.to_be_bytes());
        }
    }
}

fn decode_body(kind: u16, body: &mut Cursor<'_>) -> Result<Record, RecordError> {
    Ok(match kind {
        1 => Record::ClusterCreated { cluster_id: ClusterId(body.array()?) },
        2 => Record::FeatureLevel { level: body.u16()? },
        3 => Record::BrokerBound { node_id: body.i32()?, identity: Identity(body.array()?) },
        4 => Record::BrokerIncarnation {
            node_id: body.i32()?,
            incarnation: Incarnation(body.array()?),
        },
        5 => Record::BrokerConfigsSet { node_id: body.i32()?, configs: changes(body)? },
        16 => Record::TopicCreated {
            topic: topic_id(body)?,
            name: string(body)?.into(),
            partitions: body.i32()?,
            replication_factor: body.i16()?,
            owner: body.i32()?,
            epoch_base: body.i32()?,
            configs: configs(body)?,
        },
        17 => Record::TopicDeleted { topic: topic_id(body)? },
        18 => Record::PartitionsAdded {
            topic: topic_id(body)?,
            count: body.i32()?,
            owner: body.i32()?,
        },
        19 => Record::TopicConfigsSet { topic: topic_id(body)?, configs: changes(body)? },
        32 => Record::ProducerIdsAllocated { first: body.i64()?, count: body.i32()? },
        96 => Record::RestoreOpened { node_id: body.i32()? },
        97 => Record::RestoreClosed { node_id: body.i32()? },
        kind => return Err(RecordError::UnknownKind { kind }),
    })
}

/// The most bytes of a string in the metadata.
pub(super) const MAX_STRING_BYTES: usize = u16::MAX as usize;

pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    debug_assert!(string.len() <= MAX_STRING_BYTES, "checked when the change was evaluated");
    out.extend_from_slice(&(string.len() as u16).to_be_bytes());
    out.extend_from_slice(string.as_bytes());
}

pub(super) fn put_configs(out: &mut Vec<u8>, configs: &BTreeMap<String, String>) {
    out.extend_from_slice(&(configs.len() as u32).to_be_bytes());
    for (key, value) in configs {
        put_string(out, key);
        put_string(out, value);
    }
}

/// Writes new values by key.
fn put_changes(out: &mut Vec<u8>, configs: &BTreeMap<String, Option<String>>) {
    out.extend_from_slice(&(configs.len() as u32).to_be_bytes());
    for (key, value) in configs {
        put_string(out, key);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put_string(out, value);
        }
    }
}

fn changes(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, Option<String>>, RecordError> {
    let mut configs = BTreeMap::new();
    for _ in 0..cursor.u32()? {
        let key = string(cursor)?.to_owned();
        let value = if cursor.u8()? == 0 { None } else { Some(string(cursor)?.to_owned()) };
        configs.insert(key, value);
    }
    Ok(configs)
}

pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, RecordError> {
    let length = cursor.u16()?;
    let bytes = cursor.take(usize::from(length))?;
    std::str::from_utf8(bytes).map_err(|_| RecordError::NotUtf8)
}

pub(super) fn configs(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>, RecordError> {
    let mut configs = BTreeMap::new();
    for _ in 0..cursor.u32()? {
        configs.insert(string(cursor)?.to_owned(), string(cursor)?.to_owned());
    }
    Ok(configs)
}

pub(super) fn topic_id(cursor: &mut Cursor<'_>) -> Result<TopicId, RecordError> {
    Ok(TopicId(uuid::Uuid::from_bytes(cursor.array()?)))
}

pub(super) fn all_read(cursor: &Cursor<'_>) -> Result<(), RecordError> {
    match cursor.remaining() {
        0 => Ok(()),
        bytes => Err(RecordError::Excess { bytes }),
    }
}

#[cfg(test)]
mod tests;

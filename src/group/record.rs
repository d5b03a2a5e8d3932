//! The records of `__consumer_offsets`, byte for byte as Kafka 4.3 has them (`OffsetCommitKey`,
//! `OffsetCommitValue`, `GroupMetadataKey`, `GroupMetadataValue`), so that its tools read ours and
//! we read its. All integers are big-endian.
//!
//! | part | bytes |
//! |---|---|
//! | key | type i16 (0, 1 offset; 2 group), group str; an offset's goes on with topic str, partition i32 |
//! | offset value 0-3 | version i16, offset i64, leader epoch i32 (3), metadata str, commit time i64, expire time i64 (1) |
//! | offset value 4 | version i16, offset i64, leader epoch i32, metadata cstr, commit time i64, tags (0: topic id, 16 bytes) |
//! | group value 0-3 | version i16, protocol type str, generation i32, protocol str?, leader str?, state time i64 (2, 3), members count i32 |
//! | member 0-3 | id str, instance id str? (3), client id str, host str, rebalance timeout i32 (1-3), session timeout i32, subscription bytes, assignment bytes |
//! | group value 4 | the same with compact strings, bytes and count, and tags after each member and at the end |
//!
//! `str` is an i16 length (-1 for null where `?`) and UTF-8, `bytes` an i32 length; compact forms
//! have a varint of the length plus one (0 for null). A missing value is a tombstone.
//!
//! As Kafka 4.3 does, an offset is written as version 4, or 1 if it has a retention of its own
//! (which has no room for leader epoch and topic id), and a group as version 3.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::types::Name;
use crate::protocol::types::TopicId;

mod cursor;

use cursor::Cursor;
pub(super) use cursor::subscribed_topics;

/// The longest name that fits into a record.
pub(super) const MAX_NAME: usize = i16::MAX as usize;

/// A record is not what Kafka writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends inside a field.
    #[error("the record ends inside a field")]
    Short,
    /// A length is negative or above what a record can have.
    #[error("a length in the record is out of range")]
    Length,
    /// A string is not UTF-8.
    #[error("a string in the record is not UTF-8")]
    Utf8,
    /// A value's version is not one we read.
    #[error("value version {0} is not known; a newer broker wrote it")]
    Version(i16),
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A committed offset.
    Offset {
        /// The group.
        group: Name,
        /// The topic's name.
        topic: Name,
        /// The partition's index.
        partition: i32,
    },
    /// A classic group's generation.
    Group {
        /// The group.
        group: Name,
    },
    /// A type of ours or of Kafka's that this room does not know (3 and up are those of other
    /// group types); such records are left alone, as KIP-915 asks.
    Unknown(i16),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: i32,
    /// What the client kept.
    pub metadata: Name,
    /// Wall time of the commit in milliseconds.
    pub commit_timestamp_ms: i64,
    /// Wall time at which the offset expires, if the client asked for a retention of its own.
    pub expire_timestamp_ms: Option<i64>,
    /// The id of the topic's incarnation.
    pub topic_id: Option<TopicId>,
}

/// A generation of a classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// The protocol type; empty for none.
    pub protocol_type: Name,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol; `None` in a group without members.
    pub protocol: Option<Name>,
    /// The leader's member id.
    pub leader: Option<Name>,
    /// Wall time of the last change of state in milliseconds; -1 before version 2.
    pub state_timestamp_ms: i64,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// The member's id.
    pub member_id: Name,
    /// The instance id of a static member.
    pub instance_id: Option<Name>,
    /// The client's id.
    pub client_id: Name,
    /// The client's address.
    pub client_host: Name,
    /// Milliseconds; -1 before version 1.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// The key of a committed offset.
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(1);
    put_str(&mut out, group);
    put_str(&mut out, topic);
    out.put_i32(partition);
    out.freeze()
}

/// The key of a group.
pub fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(2);
    put_str(&mut out, group);
    out.freeze()
}

impl OffsetValue {
    /// The value, as version 1 if it has a retention of its own, otherwise as version 4.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(48 + self.metadata.len());
        if let Some(expire) = self.expire_timestamp_ms {
            out.put_i16(1);
            out.put_i64(self.offset);
            put_str(&mut out, &self.metadata);
            out.put_i64(self.commit_timestamp_ms);
            out.put_i64(expire);
            return out.freeze();
        }
        out.put_i16(4);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        put_varint(&mut out, self.metadata.len() + 1);
        out.put_slice(self.metadata.as_bytes());
        out.put_i64(self.commit_timestamp_ms);
        match self.topic_id {
            None => out.put_u8(0),
            Some(TopicId(id)) => {
                out.put_slice(&[1, 0, 16]);
                out.put_slice(id.as_bytes());
            }
        }
        out.freeze()
    }

    /// Reads versions 0 to 4.
    pub fn decode(value: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let version = cursor.version(4)?;
        let offset = cursor.i64()?;
        let leader_epoch = if version >= 3 { cursor.i32()? } else { -1 };
        let metadata = cursor.string()?;
        let commit_timestamp_ms = cursor.i64()?;
        let expire = if version == 1 { cursor.i64()? } else { -1 };
        let mut topic_id = None;
        cursor.tags(|tag, bytes| {
            if tag == 0 {
                topic_id = Some(Uuid::from_slice(bytes).map_err(|_| Malformed::Length)?);
            }
            Ok(())
        })?;
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: (expire != -1).then_some(expire),
            topic_id: topic_id.filter(|id| !id.is_nil()).map(TopicId),
        })
    }
}

impl GroupValue {
    /// The value as version 3.
    pub fn encode(&self) -> Bytes {
        let members: usize = self.members.iter().map(MemberValue::size_hint).sum();
        let mut out = BytesMut::with_capacity(64 + members);
        out.put_i16(3);
        put_str(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable(&mut out, self.protocol.as_deref());
        put_nullable(&mut out, self.leader.as_deref());
        out.put_i64(self.state_timestamp_ms);
        out.put_i32(self.members.len() as i32);
        for member in &self.members {
            put_str(&mut out, &member.member_id);
            put_nullable(&mut out, member.instance_id.as_deref());
            put_str(&mut out, &member.client_id);
            put_str(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out.freeze()
    }

    /// Reads versions 0 to 4.
    pub fn decode(value: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let version = cursor.version(4)?;
        let protocol_type = cursor.string()?;
        let generation = cursor.i32()?;
        let protocol = cursor.nullable_string()?;
        let leader = cursor.nullable_string()?;
        let state_timestamp_ms = if version >= 2 { cursor.i64()? } else { -1 };
        let count = cursor.count()?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(MemberValue::decode(&mut cursor, version)?);
        }
        cursor.tags(|_, _| Ok(()))?;
        Ok(Self { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
    }
}

impl MemberValue {
    fn size_hint(&self) -> usize {
        let names = self.member_id.len() + self.client_id.len() + self.client_host.len();
        let instance = self.instance_id.as_ref().map_or(0, |id| id.len());
        24 + names + instance + self.subscription.len() + self.assignment.len()
    }

    fn decode(cursor: &mut Cursor<'_>, version: i16) -> Result<Self, Malformed> {
        let member = Self {
            member_id: cursor.string()?,
            instance_id: if version >= 3 { cursor.nullable_string()? } else { None },
            client_id: cursor.string()?,
            client_host: cursor.string()?,
            rebalance_timeout_ms: if version >= 1 { cursor.i32()? } else { -1 },
            session_timeout_ms: cursor.i32()?,
            subscription: cursor.bytes()?,
            assignment: cursor.bytes()?,
        };
        cursor.tags(|_, _| Ok(()))?;
        Ok(member)
    }
}

impl Key {
    /// Reads a key of any type.
    pub fn decode(key: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(key);
        match cursor.i16()? {
            0 | 1 => Ok(Key::Offset {
                group: cursor.string()?,
                topic: cursor.string()?,
                partition: cursor.i32()?,
            }),
            2 => Ok(Key::Group { group: cursor.string()? }),
            other => Ok(Key::Unknown(other)),
        }
    }
}

fn put_str(out: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).expect("names are bounded when a request comes in");
    out.put_i16(length);
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_str(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("requests are below 2 GiB");
    out.put_i32(length);
    out.put_slice(bytes);
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A copy of `bytes` that does not keep the request frame it came in alive.
pub(super) fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A shared copy of UTF-8 bytes.
fn name(bytes: &[u8]) -> Result<Name, Malformed> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Malformed::Utf8)
}

#[cfg(test)]
mod tests;

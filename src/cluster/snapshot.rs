//! An image as bytes: the snapshots in the bucket, so that a start does not read the whole log,
//! and the copy in the data directory, by which a start notices another or an older bucket.
//!
//! Integers are big-endian, a string is its length as u16 and UTF-8:
//!
//! | field        | bytes | meaning                                                          |
//! |--------------|-------|------------------------------------------------------------------|
//! | header       | 12    | [`Format`], magic `TGIM`, version 1.0, or 2.0 with the last row  |
//! | number       | 8     | of the last entry covered                                        |
//! | entry        | 64    | the first bytes of that entry's object                           |
//! | cluster id   | 16    |                                                                  |
//! | level        | 2     | feature level                                                    |
//! | base         | 4     | greatest epoch base, i32                                         |
//! | producer id  | 8     | the next not given out, i64                                      |
//! | brokers      | 4 + … | count; each: node id i32, identity 16, incarnation 16, entry u64 |
//! | topics       | 4 + … | count; each: id 16, name string, replication factor i16,         |
//! |              |       | epoch base i32, span count u32, each (count i32, owner i32,      |
//! |              |       | entry u64), config count u32, each (key string, value string)    |
//! | broker       | 4 + … | count; each: node id i32 (-1 for all), config count u32, each    |
//! | configs      |       | (key string, value string); only where one is set                |
//!
//! An image without broker configs is written as version 1, which older releases open, too.

use std::collections::BTreeMap;

use super::ids::{ClusterId, Identity, Incarnation};
use super::image::{ApplyError, Broker, BrokerConfigs, ClusterImage};
use super::record::{RecordError, all_read, configs, put_configs, put_string, string, topic_id};
use super::topic::{Span, Topic};
use crate::object::{Cursor, ENVELOPE_BYTES, Format, FormatError, HEADER_BYTES, Truncated};

const SNAPSHOT: Format = Format { magic: *b"TGIM", name: "metadata image", major: 2, minor: 0 };

/// What is written when no broker config is set.
const WITHOUT_BROKER_CONFIGS: Format = Format { major: 1, ..SNAPSHOT };

/// The most bytes of a stored image that are read. Changes keep what is written well below it
/// ([`Limits`](super::Limits)).
pub(super) const IMAGE_BYTES: u64 = 256 << 20;

/// The bytes of a stored image without brokers, topics and broker configs.
const FIXED_BYTES: usize = HEADER_BYTES + 8 + ENVELOPE_BYTES + 16 + 2 + 4 + 8 + 4 + 4;
/// The bytes of a broker.
const BROKER_BYTES: usize = 4 + 16 + 16 + 8;
/// The bytes of a topic without its name, spans and configs.
const TOPIC_BYTES: usize = 16 + 2 + 2 + 4 + 4;
/// The bytes of a span. No record makes an image larger by more than its own bytes in the log and
/// these.
pub(super) const SPAN_BYTES: usize = 4 + 4 + 8;

/// How many bytes an image takes when it is stored.
pub(super) fn stored_bytes(image: &ClusterImage) -> u64 {
    let brokers = image.brokers().count() * BROKER_BYTES;
    let configs = image.all_broker_configs();
    let configs: usize = configs.values().map(|configs| 4 + configs_bytes(configs)).sum();
    let counted = if configs == 0 { 0 } else { 4 };
    (FIXED_BYTES + brokers + configs + counted) as u64 + image.topic_bytes()
}

/// How many bytes a topic takes in a stored image.
pub(super) fn topic_bytes(topic: &Topic) -> u64 {
    let spans = topic.spans.len() * SPAN_BYTES;
    (TOPIC_BYTES + topic.name.len() + spans + configs_bytes(&topic.configs)) as u64
}

fn configs_bytes(configs: &BTreeMap<String, String>) -> usize {
    4 + configs.iter().map(|(key, value)| 2 + key.len() + 2 + value.len()).sum::<usize>()
}

/// An image and the beginning of the entry that it ends with, which tells whether a log is the one
/// that the image was made from.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) image: ClusterImage,
    pub(super) entry: [u8; ENVELOPE_BYTES],
}

/// A stored image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another format, a newer version, or corrupt.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Its fields cannot be read.
    #[error(transparent)]
    Fields(#[from] RecordError),
    /// Its fields contradict each other.
    #[error(transparent)]
    Contents(#[from] ApplyError),
}

pub(super) fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let image = &snapshot.image;
    let mut out = Vec::with_capacity(usize::try_from(stored_bytes(image)).unwrap_or(0));
    out.extend_from_slice(&image.number().to_be_bytes());
    out.extend_from_slice(&snapshot.entry);
    out.extend_from_slice(&image.cluster_id().0);
    out.extend_from_slice(&image.feature_level().to_be_bytes());
    out.extend_from_slice(&image.greatest_epoch_base().to_be_bytes());
    out.extend_from_slice(&image.next_producer_id().to_be_bytes());
    out.extend_from_slice(&(image.brokers().count() as u32).to_be_bytes());
    for (node_id, broker) in image.brokers() {
        debug_assert!(!broker.is_restoring, "no run that stores images starts meanwhile");
        out.extend_from_slice(&node_id.to_be_bytes());
        out.extend_from_slice(&broker.identity.0);
        out.extend_from_slice(&broker.incarnation.0);
        out.extend_from_slice(&broker.incarnation_entry.to_be_bytes());
    }
    out.extend_from_slice(&(image.topic_count() as u32).to_be_bytes());
    for topic in image.topics() {
        out.extend_from_slice(topic.id.0.as_bytes());
        put_string(&mut out, &topic.name);
        out.extend_from_slice(&topic.replication_factor.to_be_bytes());
        out.extend_from_slice(&topic.epoch_base.to_be_bytes());
        out.extend_from_slice(&(topic.spans.len() as u32).to_be_bytes());
        let mut first = 0;
        for span in &topic.spans {
            out.extend_from_slice(&(span.end - first).to_be_bytes());
            first = span.end;
            out.extend_from_slice(&span.owner.to_be_bytes());
            out.extend_from_slice(&span.entry.to_be_bytes());
        }
        put_configs(&mut out, &topic.configs);
    }
    let broker_configs = image.all_broker_configs();
    if broker_configs.is_empty() {
        return WITHOUT_BROKER_CONFIGS.seal(&out);
    }
    out.extend_from_slice(&(broker_configs.len() as u32).to_be_bytes());
    for (node_id, configs) in broker_configs {
        out.extend_from_slice(&node_id.to_be_bytes());
        put_configs(&mut out, configs);
    }
    SNAPSHOT.seal(&out)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let mut cursor = Cursor::new(SNAPSHOT.open(bytes)?);
    let mut snapshot = decode_head(&mut cursor)?;
    let topics = cursor.u32().map_err(RecordError::from)?;
    for _ in 0..topics {
        let topic = decode_topic(&mut cursor)?;
        if snapshot.image.topic_by_id(topic.id).is_some()
            || snapshot.image.topic(&topic.name).is_some()
        {
            return Err(ApplyError::TopicExists { name: topic.name, topic: topic.id }.into());
        }
        snapshot.image.insert(topic)?;
    }
    if WITHOUT_BROKER_CONFIGS.check_version(bytes).is_err() {
        snapshot.image.set_all_broker_configs(decode_broker_configs(&mut cursor)?);
    }
    all_read(&cursor)?;
    Ok(snapshot)
}

fn decode_broker_configs(cursor: &mut Cursor<'_>) -> Result<BrokerConfigs, RecordError> {
    let mut all = BTreeMap::new();
    for _ in 0..cursor.u32()? {
        all.insert(cursor.i32()?, configs(cursor)?);
    }
    Ok(all)
}

/// Everything before the topics.
fn decode_head(cursor: &mut Cursor<'_>) -> Result<Snapshot, SnapshotError> {
    let mut read = || {
        let number = cursor.u64()?;
        let entry = cursor.array()?;
        let cluster_id = ClusterId(cursor.array()?);
        let feature_level = cursor.u16()?;
        let base = cursor.i32()?;
        let next_producer_id = cursor.i64()?;
        let brokers = decode_brokers(cursor)?;
        let image = ClusterImage::restored(
            number,
            cluster_id,
            feature_level,
            brokers,
            base,
            next_producer_id,
        );
        Ok::<_, Truncated>(image.map(|image| Snapshot { image, entry }))
    };
    Ok(read().map_err(RecordError::from)??)
}

fn decode_brokers(cursor: &mut Cursor<'_>) -> Result<BTreeMap<i32, Broker>, Truncated> {
    let mut brokers = BTreeMap::new();
    for _ in 0..cursor.u32()? {
        let node_id = cursor.i32()?;
        let broker = Broker {
            identity: Identity(cursor.array()?),
            incarnation: Incarnation(cursor.array()?),
            incarnation_entry: cursor.u64()?,
            is_restoring: false,
        };
        brokers.insert(node_id, broker);
    }
    Ok(brokers)
}

fn decode_topic(cursor: &mut Cursor<'_>) -> Result<Topic, RecordError> {
    let id = topic_id(cursor)?;
    let name = string(cursor)?.into();
    let replication_factor = cursor.i16()?;
    let epoch_base = cursor.i32()?;
    let mut spans = Vec::new();
    let mut end = 0_i32;
    for _ in 0..cursor.u32()? {
        // What is no count gives an end that is not above the one before, which is refused.
        end = end.wrapping_add(cursor.i32()?);
        spans.push(Span { end, owner: cursor.i32()?, entry: cursor.u64()? });
    }
    let configs = configs(cursor)?;
    Ok(Topic { id, name, replication_factor, configs, epoch_base, spans })
}

#[cfg(test)]
mod tests;

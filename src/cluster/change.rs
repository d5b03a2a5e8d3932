//! What can be asked of the metadata, and whether the present state allows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::image::{ApplyError, ClusterImage};
use super::limits::{
    BUDGET_BYTES_PER_PARTITION, IMAGE_SHARE, Limits, MAX_IMAGE_BYTES, MAX_PARTITIONS,
};
use super::load::ENTRY_BYTES;
use super::record::{MAX_STRING_BYTES, Record, encoded_bytes};
use super::snapshot::{SPAN_BYTES, stored_bytes};
use super::topic::{NameError, Topic, validate_name};
use crate::protocol::types::TopicId;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions, at least 1; a default is the caller's to fill in.
    pub partitions: i32,
    /// The replication factor to be shown, at least 1.
    pub replication_factor: i16,
    /// Its configuration; whether keys and values make sense is the caller's to check.
    pub configs: BTreeMap<String, String>,
}

/// A topic by its name or its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By its name.
    Name(String),
    /// By its id.
    Id(TopicId),
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicRef::Name(name) => write!(f, "\"{}\"", name.escape_default()),
            TopicRef::Id(id) => write!(f, "id {id}"),
        }
    }
}

/// One thing asked of the metadata. The changes of one commit take effect together or, each for
/// its own reason, not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create a topic.
    CreateTopic(NewTopic),
    /// Delete a topic.
    DeleteTopic(TopicRef),
    /// Give a topic more partitions.
    CreatePartitions {
        /// The topic.
        topic: TopicRef,
        /// How many it shall have.
        count: i32,
    },
    /// Set or remove configuration of a topic.
    SetTopicConfigs {
        /// The topic.
        topic: TopicRef,
        /// New values by key; `None` removes the key.
        configs: BTreeMap<String, Option<String>>,
    },
    /// Set or remove configuration of a broker.
    SetBrokerConfigs {
        /// The broker's id, or [`ALL_BROKERS`](super::ALL_BROKERS).
        node_id: i32,
        /// New values by key; `None` removes the key.
        configs: BTreeMap<String, Option<String>>,
    },
    /// Take the next block of producer ids.
    AllocateProducerIds {
        /// How many, at least 1.
        count: i32,
    },
}

/// What a change that took effect came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The topic as it is after the change; a deleted one as it was before.
    Topic(Arc<Topic>),
    /// The first of the producer ids taken.
    ProducerIds(i64),
    /// The brokers' configuration is as it was asked for.
    BrokerConfigs,
}

/// Why a change has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not a name for a topic.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A topic of that name exists.
    #[error("topic \"{name}\" already exists")]
    TopicExists {
        /// The name.
        name: String,
    },
    /// A topic exists whose name differs only in '.' and '_'.
    #[error(
        "topic \"{name}\" collides with the existing topic \"{existing}\": names that differ \
         only in '.' and '_' cannot be told apart in metrics"
    )]
    NameCollision {
        /// The name.
        name: String,
        /// The topic it collides with.
        existing: Arc<str>,
    },
    /// There is no such topic.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// The topic.
        topic: TopicRef,
    },
    /// Not a number of partitions for a topic.
    #[error("number of partitions is {count} and must be at least {least}")]
    Partitions {
        /// The number.
        count: i32,
        /// The least that is allowed here.
        least: i32,
    },
    /// More partitions than a broker can hold.
    #[error(
        "{wanted} partitions more would be {total} in the cluster and at most {limit} are allowed: \
         one for each {BUDGET_BYTES_PER_PARTITION} bytes of memory.budget.bytes, and \
         {MAX_PARTITIONS} at the most"
    )]
    TooManyPartitions {
        /// How many more.
        wanted: i32,
        /// How many there would be.
        total: i64,
        /// The limit.
        limit: i64,
    },
    /// Not a replication factor.
    #[error("replication factor is {factor} and must be at least 1")]
    ReplicationFactor {
        /// The factor.
        factor: i16,
    },
    /// A key or a value of a configuration is too long.
    #[error("configuration \"{key}\" has {bytes} bytes and at most {MAX_STRING_BYTES} are allowed")]
    ConfigTooLong {
        /// The beginning of the key.
        key: String,
        /// The length of the key or the value.
        bytes: usize,
    },
    /// More metadata than a broker can hold.
    #[error(
        "the cluster's metadata would take {bytes} bytes and at most {limit} are allowed: \
         1/{IMAGE_SHARE} of memory.budget.bytes, and {MAX_IMAGE_BYTES} at the most; delete topics \
         or raise the budget"
    )]
    ImageTooLarge {
        /// What it would take.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The commit holds more than fits one entry of the log.
    #[error("the request changes more than fits one metadata entry; split it")]
    TooLarge,
    /// The state does not allow it.
    #[error(transparent)]
    State(#[from] ApplyError),
}

/// What every change is judged by, beside the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The broker that owns new partitions.
    pub(super) owner: i32,
    /// How large the cluster may become.
    pub(super) limits: Limits,
}

/// Judges a change by the state that those before it in the entry left in `image`, and applies it
/// there. `bytes` is the size of the entry so far; `new_id` is for a new topic.
pub(super) fn fold(
    image: &mut ClusterImage,
    terms: Terms,
    bytes: &mut usize,
    change: &Change,
    new_id: TopicId,
) -> Result<(Record, Outcome), ChangeError> {
    let record = plan(image, terms, change, new_id)?;
    let size = encoded_bytes(&record);
    // The header of an entry is the reason for the slack.
    if bytes.saturating_add(size) > ENTRY_BYTES - 1024 {
        return Err(ChangeError::TooLarge);
    }
    check_image(image, terms, &record, size)?;
    let deleted = to_be_deleted(image, &record);
    image.apply(&record)?;
    *bytes += size;
    let outcome = outcome(image, &record, deleted);
    Ok((record, outcome.expect("every change gives a record that has an outcome")))
}

/// The record that gives `change` its effect, if `image` allows it. `new_id` is for a new topic.
fn plan(
    image: &ClusterImage,
    terms: Terms,
    change: &Change,
    new_id: TopicId,
) -> Result<Record, ChangeError> {
    match change {
        Change::CreateTopic(new) => plan_topic(image, terms, new, new_id),
        Change::DeleteTopic(topic) => Ok(Record::TopicDeleted { topic: find(image, topic)?.id }),
        Change::CreatePartitions { topic, count } => {
            let topic = find(image, topic)?;
            let present = topic.partition_count();
            let (count, least) = (*count, present.saturating_add(1));
            if count < least {
                return Err(ChangeError::Partitions { count, least });
            }
            check_partitions(image, terms, count - present)?;
            Ok(Record::PartitionsAdded { topic: topic.id, count, owner: terms.owner })
        }
        Change::SetTopicConfigs { topic, configs } => {
            let topic = find(image, topic)?.id;
            check_configs(configs)?;
            Ok(Record::TopicConfigsSet { topic, configs: configs.clone() })
        }
        Change::SetBrokerConfigs { node_id, configs } => {
            check_configs(configs)?;
            Ok(Record::BrokerConfigsSet { node_id: *node_id, configs: configs.clone() })
        }
        Change::AllocateProducerIds { count } => {
            let first = image.next_producer_id();
            Ok(Record::ProducerIdsAllocated { first, count: *count })
        }
    }
}

fn plan_topic(
    image: &ClusterImage,
    terms: Terms,
    new: &NewTopic,
    topic: TopicId,
) -> Result<Record, ChangeError> {
    let name = &new.name;
    validate_name(name)?;
    if image.topic(name).is_some() {
        return Err(ChangeError::TopicExists { name: name.clone() });
    }
    if let Some(existing) = image.colliding_topic(name) {
        let existing = existing.clone();
        return Err(ChangeError::NameCollision { name: name.clone(), existing });
    }
    if new.partitions < 1 {
        return Err(ChangeError::Partitions { count: new.partitions, least: 1 });
    }
    if new.replication_factor < 1 {
        return Err(ChangeError::ReplicationFactor { factor: new.replication_factor });
    }
    check_partitions(image, terms, new.partitions)?;
    for (key, value) in &new.configs {
        check_config(key, value)?;
    }
    Ok(Record::TopicCreated {
        topic,
        name: name.as_str().into(),
        partitions: new.partitions,
        replication_factor: new.replication_factor,
        owner: terms.owner,
        epoch_base: 0,
        configs: new.configs.clone(),
    })
}

/// What a record came to that was applied to `image`; `deleted` is the topic that it removed.
fn outcome(image: &ClusterImage, record: &Record, deleted: Option<Arc<Topic>>) -> Option<Outcome> {
    match record {
        Record::ProducerIdsAllocated { first, .. } => Some(Outcome::ProducerIds(*first)),
        Record::TopicDeleted { .. } => deleted.map(Outcome::Topic),
        Record::BrokerConfigsSet { .. } => Some(Outcome::BrokerConfigs),
        Record::TopicCreated { topic, .. }
        | Record::PartitionsAdded { topic, .. }
        | Record::TopicConfigsSet { topic, .. } => {
            image.topic_by_id(*topic).cloned().map(Outcome::Topic)
        }
        Record::RestoreOpened { .. }
        | Record::RestoreClosed { .. }
        | Record::ClusterCreated { .. }
        | Record::FeatureLevel { .. }
        | Record::BrokerBound { .. }
        | Record::BrokerIncarnation { .. } => None,
    }
}

/// The topic that a record is going to remove.
fn to_be_deleted(image: &ClusterImage, record: &Record) -> Option<Arc<Topic>> {
    match record {
        Record::TopicDeleted { topic } => image.topic_by_id(*topic).cloned(),
        _ => None,
    }
}

fn find<'a>(image: &'a ClusterImage, topic: &TopicRef) -> Result<&'a Arc<Topic>, ChangeError> {
    let found = match topic {
        TopicRef::Name(name) => image.topic(name),
        TopicRef::Id(id) => image.topic_by_id(*id),
    };
    found.ok_or_else(|| ChangeError::UnknownTopic { topic: topic.clone() })
}

fn check_partitions(image: &ClusterImage, terms: Terms, wanted: i32) -> Result<(), ChangeError> {
    let (total, limit) = (image.partition_count() + i64::from(wanted), terms.limits.partitions);
    if total > limit {
        return Err(ChangeError::TooManyPartitions { wanted, total, limit });
    }
    Ok(())
}

/// Refuses a record, of `size` bytes in the log, that would make a large image larger.
fn check_image(
    image: &ClusterImage,
    terms: Terms,
    record: &Record,
    size: usize,
) -> Result<(), ChangeError> {
    let (before, limit) = (stored_bytes(image), terms.limits.image_bytes);
    if before.saturating_add((size + SPAN_BYTES) as u64) <= limit {
        return Ok(());
    }
    // Close to the limit it is worth a copy to know exactly.
    let mut after = image.clone();
    after.apply(record)?;
    let bytes = stored_bytes(&after);
    if bytes > limit && bytes > before {
        return Err(ChangeError::ImageTooLarge { bytes, limit });
    }
    Ok(())
}

fn check_configs(configs: &BTreeMap<String, Option<String>>) -> Result<(), ChangeError> {
    let mut all = configs.iter();
    all.try_for_each(|(key, value)| check_config(key, value.as_deref().unwrap_or_default()))
}

fn check_config(key: &str, value: &str) -> Result<(), ChangeError> {
    let bytes = key.len().max(value.len());
    if bytes > MAX_STRING_BYTES {
        let key = key.chars().take(100).collect();
        return Err(ChangeError::ConfigTooLong { key, bytes });
    }
    Ok(())
}

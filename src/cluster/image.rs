//! All that the metadata log says up to one entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::{ClusterId, Identity, Incarnation};
use super::record::Record;
use super::shards::Shards;
use super::snapshot::topic_bytes;
use super::topic::{Span, Topic, collision_key};
use crate::protocol::types::TopicId;

/// The first producer id of every cluster. Ids below are left to clusters that a topic may be
/// taken over from, so that no producer's sequences there are mistaken for one's here.
pub const FIRST_PRODUCER_ID: i64 = 1 << 48;

/// The feature level that this release writes and the greatest that it opens.
pub const FEATURE_LEVEL: u16 = 1;

/// An immutable view of the cluster. What is handed around is an `Arc` of one, so that a request
/// sees one state from its beginning to its end; a new one shares with the old what is the same.
#[derive(Debug, Clone)]
pub struct ClusterImage {
    number: u64,
    cluster_id: ClusterId,
    feature_level: u16,
    brokers: BTreeMap<i32, Broker>,
    /// What was set for brokers at run time, by node id or
    /// [`ALL_BROKERS`](super::ALL_BROKERS); none of them empty.
    broker_configs: BrokerConfigs,
    by_name: Shards<Arc<str>, Arc<Topic>>,
    by_id: Shards<TopicId, Arc<Topic>>,
    /// Names that contain a dot or an underscore, by their collision key.
    collisions: Shards<Arc<str>, Arc<str>>,
    partition_count: i64,
    /// What all topics take in a stored image.
    topic_bytes: u64,
    /// At least the greatest epoch base that any topic ever had.
    greatest_epoch_base: i32,
    next_producer_id: i64,
}

/// Configuration by broker.
pub(super) type BrokerConfigs = BTreeMap<i32, BTreeMap<String, String>>;

/// A broker of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broker {
    /// The data directory that the broker's id belongs to.
    pub identity: Identity,
    /// Its last run.
    pub incarnation: Incarnation,
    /// The entry that began that run.
    pub incarnation_entry: u64,
    /// Whether the directory is being filled from the bucket. Only the process that does so sees
    /// it: no run starts meanwhile, so that no image that says it is ever stored.
    pub is_restoring: bool,
}

/// The records of an entry do not fit the image: the log is not one that a Tidegate wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not the next entry.
    #[error("metadata entry {found} follows entry {number}")]
    OutOfOrder {
        /// The image's number.
        number: u64,
        /// The entry's.
        found: u64,
    },
    /// The first entry did not create the cluster, or a later one did.
    #[error("metadata entry {number} creates the cluster where it cannot")]
    ClusterCreation {
        /// The entry.
        number: u64,
    },
    /// Leader epochs would not fit 31 bits.
    #[error(
        "metadata entry {number} would give a leader epoch above {}; no further change is possible",
        i32::MAX
    )]
    EpochsExhausted {
        /// The entry.
        number: u64,
    },
    /// A topic of that name or id exists.
    #[error("topic \"{name}\" ({topic}) is created twice")]
    TopicExists {
        /// The name.
        name: Arc<str>,
        /// The id.
        topic: TopicId,
    },
    /// There is no such topic.
    #[error("topic {topic} is changed but does not exist")]
    UnknownTopic {
        /// The id.
        topic: TopicId,
    },
    /// Not a number of partitions that the topic can have.
    #[error("topic {topic} cannot have {count} partitions")]
    Partitions {
        /// The id.
        topic: TopicId,
        /// The number.
        count: i32,
    },
    /// There is no such broker.
    #[error("broker {node_id} is named but not bound")]
    UnknownBroker {
        /// The broker's id.
        node_id: i32,
    },
    /// A block of producer ids overlaps one given out before.
    #[error("producer ids from {first} are given out although {next} is next")]
    ProducerIds {
        /// The block's first.
        first: i64,
        /// The next that may be given out.
        next: i64,
    },
    /// The cluster needs a newer release.
    #[error(
        "the cluster has feature level {level} and this release knows {FEATURE_LEVEL}; use a \
         newer release"
    )]
    FeatureLevel {
        /// The level.
        level: u16,
    },
}

impl ClusterImage {
    /// The state before the first entry.
    pub(super) fn empty() -> Self {
        Self {
            number: 0,
            cluster_id: ClusterId([0; 16]),
            feature_level: 0,
            brokers: BTreeMap::new(),
            broker_configs: BTreeMap::new(),
            by_name: Shards::default(),
            by_id: Shards::default(),
            collisions: Shards::default(),
            partition_count: 0,
            topic_bytes: 0,
            greatest_epoch_base: 0,
            next_producer_id: FIRST_PRODUCER_ID,
        }
    }

    /// The number of the last entry it covers; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// What a release must know to open the cluster.
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// A broker.
    pub fn broker(&self, node_id: i32) -> Option<&Broker> {
        self.brokers.get(&node_id)
    }

    /// Every broker with its id, in order of the ids.
    pub fn brokers(&self) -> impl Iterator<Item = (i32, &Broker)> {
        self.brokers.iter().map(|(node_id, broker)| (*node_id, broker))
    }

    /// What was set at run time for the broker `node_id`, or with
    /// [`ALL_BROKERS`](super::ALL_BROKERS) for all.
    pub fn broker_configs(&self, node_id: i32) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.broker_configs.get(&node_id).unwrap_or(&NONE)
    }

    /// All that was set for brokers at run time.
    pub(super) fn all_broker_configs(&self) -> &BrokerConfigs {
        &self.broker_configs
    }

    /// Puts back what a stored image has for brokers.
    pub(super) fn set_all_broker_configs(&mut self, configs: BrokerConfigs) {
        self.broker_configs = configs;
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// Every topic, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_id.values()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.by_id.len()
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> i64 {
        self.partition_count
    }

    /// How many bytes all topics take in a stored image.
    pub(super) fn topic_bytes(&self) -> u64 {
        self.topic_bytes
    }

    /// The first producer id that no block holds yet.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The name of the topic that `name` cannot be told from in Kafka's metric names, itself
    /// included.
    pub(super) fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions.get(&collision_key(name)?)
    }

    /// A partition's leader epoch: the number of the entry that gave its present ownership, which
    /// is that of its creation or of its owner's last start, whichever is later, plus the topic's
    /// epoch base. `None` if the topic has no such partition.
    pub fn leader_epoch(&self, topic: &Topic, partition: i32) -> Option<i32> {
        let span = topic.span(partition)?;
        let start = self.brokers.get(&span.owner).map_or(0, |owner| owner.incarnation_entry);
        let epoch = i64::try_from(span.entry.max(start)).ok()? + i64::from(topic.epoch_base);
        Some(i32::try_from(epoch).expect("an entry that would pass it is refused"))
    }

    /// Applies a whole entry. After an error the image is of no use.
    pub(super) fn apply_entry(
        &mut self,
        number: u64,
        records: &[Record],
    ) -> Result<(), ApplyError> {
        self.begin_entry(number)?;
        let creates = matches!(records.first(), Some(Record::ClusterCreated { .. }));
        if creates != (number == 1) {
            return Err(ApplyError::ClusterCreation { number });
        }
        records.iter().try_for_each(|record| self.apply(record))
    }

    /// Begins the next entry, whose records are applied one by one after this.
    pub(super) fn begin_entry(&mut self, number: u64) -> Result<(), ApplyError> {
        if self.number.checked_add(1) != Some(number) {
            return Err(ApplyError::OutOfOrder { number: self.number, found: number });
        }
        check_epochs(number, self.greatest_epoch_base)?;
        self.number = number;
        Ok(())
    }

    /// Applies a record of the entry that has begun. After an error the image is unchanged.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::ClusterCreated { cluster_id } => self.cluster_id = *cluster_id,
            Record::FeatureLevel { level } if *level > FEATURE_LEVEL => {
                return Err(ApplyError::FeatureLevel { level: *level });
            }
            Record::FeatureLevel { level } => self.feature_level = *level,
            Record::BrokerBound { node_id, identity } => {
                let incarnation = Incarnation([0; 16]);
                let broker = Broker {
                    identity: *identity,
                    incarnation,
                    incarnation_entry: self.number,
                    is_restoring: false,
                };
                self.brokers.insert(*node_id, broker);
            }
            Record::BrokerIncarnation { node_id, incarnation } => {
                let number = self.number;
                let broker = self.known_broker(*node_id)?;
                broker.incarnation = *incarnation;
                broker.incarnation_entry = number;
            }
            Record::RestoreOpened { node_id } => self.known_broker(*node_id)?.is_restoring = true,
            Record::RestoreClosed { node_id } => self.known_broker(*node_id)?.is_restoring = false,
            Record::BrokerConfigsSet { node_id, configs } => {
                let set = self.broker_configs.entry(*node_id).or_default();
                merge(set, configs);
                if set.is_empty() {
                    self.broker_configs.remove(node_id);
                }
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
                if self.topic(name).is_some() || self.topic_by_id(*topic).is_some() {
                    return Err(ApplyError::TopicExists { name: name.clone(), topic: *topic });
                }
                let span = Span { end: *partitions, owner: *owner, entry: self.number };
                self.insert(Topic {
                    id: *topic,
                    name: name.clone(),
                    replication_factor: *replication_factor,
                    configs: configs.clone(),
                    epoch_base: *epoch_base,
                    spans: vec![span],
                })?;
            }
            Record::TopicDeleted { topic } => self.delete(*topic)?,
            Record::PartitionsAdded { topic, count, owner } => self.grow(*topic, *count, *owner)?,
            Record::TopicConfigsSet { topic, configs } => self.set_configs(*topic, configs)?,
            Record::ProducerIdsAllocated { first, count } => self.allocate(*first, *count)?,
        }
        Ok(())
    }

    fn known_broker(&mut self, node_id: i32) -> Result<&mut Broker, ApplyError> {
        self.brokers.get_mut(&node_id).ok_or(ApplyError::UnknownBroker { node_id })
    }

    fn grow(&mut self, id: TopicId, count: i32, owner: i32) -> Result<(), ApplyError> {
        let mut topic = self.copy_of(id)?;
        if count <= topic.partition_count() {
            return Err(ApplyError::Partitions { topic: id, count });
        }
        topic.spans.push(Span { end: count, owner, entry: self.number });
        self.insert(topic)
    }

    fn set_configs(
        &mut self,
        id: TopicId,
        configs: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ApplyError> {
        let mut topic = self.copy_of(id)?;
        merge(&mut topic.configs, configs);
        self.insert(topic)
    }

    fn allocate(&mut self, first: i64, count: i32) -> Result<(), ApplyError> {
        let next = self.next_producer_id;
        match first.checked_add(i64::from(count)) {
            Some(end) if first >= next && end > first => self.next_producer_id = end,
            _ => return Err(ApplyError::ProducerIds { first, next }),
        }
        Ok(())
    }

    fn copy_of(&self, id: TopicId) -> Result<Topic, ApplyError> {
        let topic = self.topic_by_id(id).ok_or(ApplyError::UnknownTopic { topic: id })?;
        Ok(Topic::clone(topic))
    }

    /// Adds or replaces a topic.
    pub(super) fn insert(&mut self, topic: Topic) -> Result<(), ApplyError> {
        let mut count = 0;
        for span in &topic.spans {
            if span.end <= count || span.entry > self.number {
                return Err(ApplyError::Partitions { topic: topic.id, count: span.end });
            }
            count = span.end;
        }
        if count == 0 {
            return Err(ApplyError::Partitions { topic: topic.id, count });
        }
        check_epochs(self.number, topic.epoch_base)?;
        self.greatest_epoch_base = self.greatest_epoch_base.max(topic.epoch_base);
        let before = self.topic_by_id(topic.id);
        let (count_before, bytes_before) =
            before.map_or((0, 0), |topic| (topic.partition_count(), topic_bytes(topic)));
        self.partition_count += i64::from(count) - i64::from(count_before);
        self.topic_bytes = self.topic_bytes - bytes_before + topic_bytes(&topic);
        if let Some(key) = collision_key(&topic.name) {
            self.collisions.insert(key, topic.name.clone());
        }
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
        Ok(())
    }

    fn delete(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::UnknownTopic { topic: id })?;
        self.by_name.remove(&topic.name);
        if let Some(key) = collision_key(&topic.name) {
            self.collisions.remove(&key);
        }
        self.partition_count -= i64::from(topic.partition_count());
        self.topic_bytes -= topic_bytes(&topic);
        Ok(())
    }

    /// Puts the parts of a stored image together; topics are added with `insert`.
    pub(super) fn restored(
        number: u64,
        cluster_id: ClusterId,
        feature_level: u16,
        brokers: BTreeMap<i32, Broker>,
        greatest_epoch_base: i32,
        next_producer_id: i64,
    ) -> Result<Self, ApplyError> {
        if feature_level > FEATURE_LEVEL {
            return Err(ApplyError::FeatureLevel { level: feature_level });
        }
        check_epochs(number, greatest_epoch_base)?;
        let last = brokers.values().map(|broker| broker.incarnation_entry).max().unwrap_or(0);
        if last > number {
            return Err(ApplyError::OutOfOrder { number, found: last });
        }
        Ok(Self {
            number,
            cluster_id,
            feature_level,
            brokers,
            greatest_epoch_base,
            next_producer_id,
            ..Self::empty()
        })
    }

    pub(super) fn greatest_epoch_base(&self) -> i32 {
        self.greatest_epoch_base
    }
}

fn merge(into: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (key, value) in changes {
        match value {
            Some(value) => into.insert(key.clone(), value.clone()),
            None => into.remove(key),
        };
    }
}

/// Whether an entry of this number leaves every leader epoch within 0..2^31.
fn check_epochs(number: u64, base: i32) -> Result<(), ApplyError> {
    let greatest = i64::try_from(number).ok().and_then(|n| n.checked_add(i64::from(base)));
    match greatest {
        Some(epoch) if base >= 0 && epoch <= i64::from(i32::MAX) => Ok(()),
        _ => Err(ApplyError::EpochsExhausted { number }),
    }
}

#[cfg(test)]
mod tests;

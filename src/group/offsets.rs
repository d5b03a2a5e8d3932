//! A group's committed offsets. The records are made first and appended; only then are the offsets
//! changed ([`Offsets::apply`]).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::expiry::Age;
use super::log::{Record, Topic, Topics};
use super::memory;
use super::record::{self, MAX_NAME, OffsetValue};
use super::types::{
    CommitPartition, CommitRequest, Error, FetchedOffset, FetchedTopic, GroupConfig, Name,
    TopicResults,
};
use crate::protocol::types::TopicId;

/// A committed offset.
#[derive(Debug, Clone)]
pub(super) struct CommittedOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Name,
    /// The topic's incarnation; `None` if the record did not say.
    pub(super) topic_id: Option<TopicId>,
    /// The retention that the client asked for; otherwise the configuration's.
    pub(super) retention: Option<Duration>,
    /// How long ago it was committed.
    pub(super) age: Age,
}

/// What to do to the offset of a partition: commit it, or remove it.
pub(super) type Change = (Name, i32, Option<CommittedOffset>);

/// What an offset weighs beside its metadata: nodes of its map may be half empty.
const OFFSET: usize = 2 * size_of::<(i32, CommittedOffset)>();

/// What a topic weighs beside its name and offsets: its place among the topics, and a map's first
/// node, which has 11 places.
const TOPIC: usize = 2 * size_of::<(Name, BTreeMap<i32, CommittedOffset>)>()
    + 11 * size_of::<(i32, CommittedOffset)>();

/// The greatest commit, as keys and values together. No request is larger, but each offset's key
/// repeats the group's id, so that a request can stand for records of a thousand times its size.
const MAX_COMMIT_BYTES: usize = 8 << 20;

/// A group's offsets by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Name, BTreeMap<i32, CommittedOffset>>,
    count: usize,
    metadata_bytes: usize,
    weight: usize,
}

/// A commit that has been checked: what to answer, append and apply.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) results: Vec<TopicResults>,
    pub(super) records: Vec<Record>,
    pub(super) changes: Vec<Change>,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Every offset there is.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, i32, &CommittedOffset)> {
        let topics = self.topics.iter();
        topics.flat_map(|(name, offsets)| offsets.iter().map(move |(at, it)| (name, *at, it)))
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    /// How many offsets there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The bytes of all metadata that clients keep with them.
    pub(super) fn metadata_bytes(&self) -> usize {
        self.metadata_bytes
    }

    /// The topics with offsets.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Name> {
        self.topics.keys()
    }

    /// What the offsets weigh.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// How many bytes more there are at most after `changes`. An offset that replaces one with as
    /// much metadata needs nothing.
    pub(super) fn needs(&self, changes: &[Change]) -> usize {
        let mut last = None;
        let mut needed = 0_usize;
        for (topic, partition, change) in changes {
            let Some(offset) = change else { continue };
            let offsets = self.topics.get(topic);
            if offsets.is_none() && last.replace(topic) != Some(topic) {
                needed += topic_weight(topic);
            }
            let held = offsets.and_then(|offsets| offsets.get(partition));
            needed += offset.weight().saturating_sub(held.map_or(0, CommittedOffset::weight));
        }
        needed
    }

    /// Makes changes that the log has taken.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for (topic, partition, change) in changes {
            match change {
                Some(offset) => self.insert(topic, partition, offset),
                None => self.remove(&topic, partition),
            }
        }
    }

    fn insert(&mut self, topic: Name, partition: i32, offset: CommittedOffset) {
        self.count += 1;
        self.metadata_bytes += offset.metadata.len();
        self.weight += offset.weight();
        if !self.topics.contains_key(&topic) {
            self.weight += topic_weight(&topic);
        }
        let replaced = self.topics.entry(topic).or_default().insert(partition, offset);
        self.forget(replaced.as_ref());
    }

    fn forget(&mut self, gone: Option<&CommittedOffset>) {
        let Some(gone) = gone else { return };
        self.count -= 1;
        self.metadata_bytes -= gone.metadata.len();
        self.weight -= gone.weight();
    }

    fn remove(&mut self, topic: &Name, partition: i32) {
        let Some(offsets) = self.topics.get_mut(topic) else { return };
        let removed = offsets.remove(&partition);
        if offsets.is_empty() {
            self.topics.remove(topic);
            self.weight -= topic_weight(topic);
        }
        self.forget(removed.as_ref());
    }

    /// The offsets of the listed partitions, or all; one of another incarnation of its topic is
    /// not there. Each is answered once, however often it is listed: an answer must not hold more
    /// metadata than the group.
    pub(super) fn fetch(
        &self,
        asked: Option<&[(Name, Vec<i32>)]>,
        topics: &dyn Topics,
    ) -> Vec<FetchedTopic> {
        let Some(asked) = asked else { return self.fetch_all(topics) };
        let mut seen = HashSet::new();
        let mut found = Vec::with_capacity(asked.len());
        for (name, partitions) in asked {
            let present = topics.topic(name);
            let held = self.topics.get(name);
            let mut listed = Vec::with_capacity(partitions.len());
            for partition in partitions {
                let offset = held.and_then(|offsets| offsets.get(partition));
                let offset = offset.filter(|offset| offset.is_present(present));
                if offset.is_none() || seen.insert((&**name, *partition)) {
                    listed.push(fetched(*partition, offset));
                }
            }
            found.push(FetchedTopic { name: name.clone(), partitions: listed });
        }
        found
    }

    fn fetch_all(&self, topics: &dyn Topics) -> Vec<FetchedTopic> {
        let mut all = Vec::new();
        for (name, offsets) in &self.topics {
            let present = topics.topic(name);
            let offsets = offsets.iter().filter(|(_, offset)| offset.is_present(present));
            let partitions: Vec<_> = offsets.map(|(at, it)| fetched(*at, Some(it))).collect();
            if !partitions.is_empty() {
                all.push(FetchedTopic { name: name.clone(), partitions });
            }
        }
        all
    }
}

impl CommittedOffset {
    /// Whether it is of the topic's present incarnation. Without an id nothing can be said.
    pub(super) fn is_present(&self, topic: Option<Topic>) -> bool {
        self.topic_id.is_none() || self.topic_id == topic.map(|topic| topic.id)
    }

    /// What the offset weighs.
    fn weight(&self) -> usize {
        OFFSET + memory::name(&self.metadata)
    }

    /// What the log says, committed `age` ago.
    pub(super) fn loaded(value: OffsetValue, age: Age) -> Self {
        let retention = value.expire_timestamp_ms.map(|expire| {
            let millis = expire.saturating_sub(value.commit_timestamp_ms);
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata,
            topic_id: value.topic_id,
            retention,
            age,
        }
    }
}

fn topic_weight(topic: &str) -> usize {
    TOPIC + memory::name(topic)
}

fn fetched(partition: i32, offset: Option<&CommittedOffset>) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: offset.map_or(-1, |offset| offset.offset),
        leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: offset.map(|offset| offset.metadata.clone()).unwrap_or_default(),
    }
}

/// The record that removes an offset.
pub(super) fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record { key: record::offset_key(group, topic, partition), value: None }
}

/// Checks a commit partition by partition; whether the member may commit is checked before. One
/// that no batch could hold is refused as a whole.
pub(super) fn commit(
    request: &CommitRequest,
    topics: &dyn Topics,
    config: &GroupConfig,
    wall_ms: i64,
    age: Age,
) -> Result<Commit, Error> {
    let mut commit = Commit::default();
    let mut bytes = 0;
    for topic in &request.topics {
        let present = topics.topic(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let checked = check(partition, present, config);
            if let Ok(id) = checked {
                let (value, offset) = committed(partition, id, request, wall_ms, age);
                let key = record::offset_key(&request.group, &topic.name, partition.partition);
                let value = value.encode();
                bytes += key.len() + value.len();
                if bytes > MAX_COMMIT_BYTES {
                    return Err(Error::InvalidCommitOffsetSize);
                }
                commit.records.push(Record { key, value: Some(value) });
                commit.changes.push((topic.name.clone(), partition.partition, Some(offset)));
            }
            partitions.push((partition.partition, checked.map(drop)));
        }
        commit.results.push(TopicResults { name: topic.name.clone(), partitions });
    }
    Ok(commit)
}

fn check(
    partition: &CommitPartition,
    topic: Option<Topic>,
    config: &GroupConfig,
) -> Result<TopicId, Error> {
    let topic = topic.filter(|topic| (0..topic.partitions).contains(&partition.partition));
    let topic = topic.ok_or(Error::UnknownTopicOrPartition)?;
    let metadata = &partition.metadata;
    // Kafka counts UTF-16 units, of which there are never more than bytes.
    let is_large = metadata.len() > config.offset_metadata_max_bytes
        && metadata.encode_utf16().count() > config.offset_metadata_max_bytes;
    if is_large || metadata.len() > MAX_NAME {
        return Err(Error::OffsetMetadataTooLarge);
    }
    Ok(topic.id)
}

fn committed(
    partition: &CommitPartition,
    id: TopicId,
    request: &CommitRequest,
    wall_ms: i64,
    age: Age,
) -> (OffsetValue, CommittedOffset) {
    let value = OffsetValue {
        offset: partition.offset,
        leader_epoch: partition.leader_epoch.max(-1),
        metadata: partition.metadata.clone(),
        commit_timestamp_ms: wall_ms,
        expire_timestamp_ms: request.retention_ms.map(|ms| wall_ms.saturating_add(ms.max(0))),
        topic_id: Some(id),
    };
    let offset = CommittedOffset::loaded(value.clone(), age);
    (value, offset)
}

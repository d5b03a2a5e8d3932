//! What is asked of one leader, and what it answered of each partition.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::ConsumerOptions;
use crate::client::Place;
use crate::protocol::topic::FIRST_TOPIC_ID_VERSION;
use crate::protocol::versions::VersionRange;

/// How long a leader may wait for records before it answers without any (Kafka's default of
/// `fetch.max.wait.ms`), in milliseconds.
const WAIT_MS: i32 = 500;
/// No session: each request names all its partitions (KIP-227).
const NO_SESSION: (i32, i32) = (0, -1);

/// A topic and its partitions with what is asked of each.
type AskedTopic = (String, Uuid, Vec<(i32, Asked)>);

/// What is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The first offset that is wanted.
    pub(super) offset: i64,
    /// The leader's epoch, -1 if it is unknown.
    pub(super) epoch: i32,
}

/// A Fetch of one leader.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    /// In the order in which the leader fills its answer.
    topics: Vec<AskedTopic>,
    options: ConsumerOptions,
}

impl Fetch {
    /// Asks for `places`, in their order; `id` gives a topic's id, nil for one that has none.
    pub(super) fn new(
        places: impl Iterator<Item = (Place, Asked)>,
        id: impl Fn(&str) -> Uuid,
        options: ConsumerOptions,
    ) -> Self {
        let mut topics: Vec<AskedTopic> = Vec::new();
        for ((topic, index), asked) in places {
            let known = topics.iter_mut().find(|(name, _, _)| *name == topic);
            if let Some((_, _, partitions)) = known {
                partitions.push((index, asked));
            } else {
                let id = id(&topic);
                topics.push((topic, id, vec![(index, asked)]));
            }
        }
        Self { topics, options }
    }

    /// The versions in which it can be asked: topics have only ids from 13 on (KIP-516).
    pub(super) fn versions(&self) -> VersionRange {
        let has_ids = self.topics.iter().all(|(_, id, _)| !id.is_nil());
        let max = if has_ids { i16::MAX } else { FIRST_TOPIC_ID_VERSION - 1 };
        VersionRange::new(0, max)
    }

    pub(super) fn request(&self) -> FetchRequest {
        let topics = self.topics.iter().map(|(name, id, partitions)| {
            let partitions = partitions.iter().map(|(index, asked)| {
                FetchPartition::default()
                    .with_partition(*index)
                    .with_current_leader_epoch(asked.epoch)
                    .with_fetch_offset(asked.offset)
                    .with_last_fetched_epoch(-1)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(self.options.partition_max_bytes)
            });
            FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_string(name.clone())))
                .with_topic_id(*id)
                .with_partitions(partitions.collect())
        });
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(self.options.max_bytes)
            .with_isolation_level(i8::from(self.options.is_committed))
            .with_session_id(NO_SESSION.0)
            .with_session_epoch(NO_SESSION.1)
            .with_topics(topics.collect())
    }

    /// What was asked, by partition.
    pub(super) fn places(&self) -> BTreeMap<Place, Asked> {
        let all = self.topics.iter().flat_map(|(name, _, partitions)| {
            partitions.iter().map(move |(index, asked)| ((name.clone(), *index), *asked))
        });
        all.collect()
    }

    /// What the leader answered, by partition; topics that nobody asked for are left out.
    pub(super) fn answered(&self, answer: FetchResponse) -> BTreeMap<Place, PartitionData> {
        let mut found = BTreeMap::new();
        for topic in answer.responses {
            let is_it = |(name, id, _): &&AskedTopic| {
                if topic.topic_id.is_nil() {
                    topic.topic.as_str() == name
                } else {
                    topic.topic_id == *id
                }
            };
            let Some((name, _, _)) = self.topics.iter().find(is_it) else { continue };
            for data in topic.partitions {
                found.insert((name.clone(), data.partition_index), data);
            }
        }
        found
    }
}

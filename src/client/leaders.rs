//! Which node leads a partition, as far as is known, and what leaders are asked about offsets.
//!
//! A leader may move at any time, and whoever asks the wrong node is told so. What is known here is
//! therefore only where to try: after an answer or a fault that passes, callers ask again
//! ([`Leaders::refresh`]) and try again, for as long as they have patience.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use super::{Cluster, ClusterError, Target};
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

/// The timestamp that `ListOffsets` takes for the end of the log.
pub const LATEST: i64 = -1;
/// The timestamp that `ListOffsets` takes for the start of the log.
pub const EARLIEST: i64 = -2;

/// Before the first of several refreshes in a row (Kafka's `retry.backoff.ms`); each further pause
/// is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer (Kafka's `retry.backoff.max.ms`).
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A topic's partition.
pub type Place = (String, i32);

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The node's id.
    pub node: i32,
    /// The leader's epoch, -1 if the cluster does not tell.
    pub epoch: i32,
}

/// How offsets are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Whether the end is the last stable offset (`read_committed`) instead of the high watermark.
    pub is_committed: bool,
    /// How long what passes is tried again.
    pub patience: Duration,
}

/// What a leader tells of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset, -1 if there is none.
    pub offset: i64,
    /// The timestamp of the record there, -1 if there is none or it was not asked for.
    pub timestamp: i64,
}

/// What metadata had of a topic.
#[derive(Clone, Debug)]
struct Topic {
    id: Uuid,
    /// Kafka's error code.
    code: i16,
    /// Every partition; without a leader where there is none at present.
    partitions: BTreeMap<i32, Option<Leader>>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    /// How many answers of metadata came in.
    answers: u64,
    /// The last pause, if nothing succeeded since.
    pause: Option<Duration>,
}

struct Inner {
    /// With connections of its own: metadata do not wait behind a fetch.
    cluster: Cluster,
    state: Mutex<State>,
    /// Held by whoever refreshes.
    refreshing: AsyncMutex<()>,
}

/// Leaders of partitions; cheap to clone, and all clones know the same.
#[derive(Clone)]
pub struct Leaders {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Leaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaders").field("cluster", &self.inner.cluster).finish_non_exhaustive()
    }
}

impl Leaders {
    /// Knows nothing yet. It asks `cluster` over connections of its own.
    pub fn new(cluster: &Cluster) -> Leaders {
        let cluster = cluster.separate();
        let inner = Inner { cluster, state: Mutex::default(), refreshing: AsyncMutex::default() };
        Leaders { inner: Arc::new(inner) }
    }

    /// Asks for those of the topics that were not asked for before. What is wrong with a topic is
    /// [`Leaders::code`]'s to tell.
    pub async fn learn(&self, topics: &[&str]) -> Result<(), ClusterError> {
        let unknown: Vec<&str> = {
            let state = self.state();
            topics.iter().filter(|topic| !state.topics.contains_key(**topic)).copied().collect()
        };
        if unknown.is_empty() { Ok(()) } else { self.ask(&unknown).await }
    }

    /// Asks again after a pause: for when a node said that it does not lead, or did not answer.
    /// Several that ask at once share one answer.
    pub async fn refresh(&self, topics: &[&str]) -> Result<(), ClusterError> {
        let before = self.state().answers;
        let _held = self.inner.refreshing.lock().await;
        let pause = {
            let mut state = self.state();
            let known = topics.iter().all(|topic| state.topics.contains_key(*topic));
            // One more than an answer that was perhaps under way already.
            if known && state.answers > before + 1 {
                return Ok(());
            }
            let pause = state.pause.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
            *state.pause.insert(pause)
        };
        self.inner.cluster.clock().sleep(pause).await;
        self.ask(topics).await
    }

    /// Asks again, once, if nothing is known of who leads any partition of a topic.
    pub async fn refresh_if_leaderless(&self, topic: &str) -> Result<(), ClusterError> {
        if self.led_partitions(topic).is_empty() { self.refresh(&[topic]).await } else { Ok(()) }
    }

    /// Says that a leader did what it was asked: the next pause is the first again.
    pub fn settled(&self) {
        self.state().pause = None;
    }

    /// Who leads a partition, as far as is known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.state().topics.get(topic)?.partitions.get(&partition).copied().flatten()
    }

    /// The indexes of a topic's partitions, in their order; empty if nothing is known.
    pub fn partitions(&self, topic: &str) -> Vec<i32> {
        let state = self.state();
        let found = state.topics.get(topic);
        found.map(|topic| topic.partitions.keys().copied().collect()).unwrap_or_default()
    }

    /// The indexes of those partitions that have a leader, in their order.
    pub fn led_partitions(&self, topic: &str) -> Vec<i32> {
        let state = self.state();
        let partitions = state.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions);
        partitions.filter(|(_, leader)| leader.is_some()).map(|(index, _)| *index).collect()
    }

    /// A topic's id; nil if it is unknown or the cluster has no ids.
    pub fn topic_id(&self, topic: &str) -> Uuid {
        self.state().topics.get(topic).map_or(Uuid::nil(), |topic| topic.id)
    }

    /// The name of the topic with this id.
    pub fn topic_name(&self, id: Uuid) -> Option<String> {
        let state = self.state();
        let mut topics = state.topics.iter().filter(|_| !id.is_nil());
        topics.find(|(_, topic)| topic.id == id).map(|(name, _)| name.clone())
    }

    /// Kafka's error code that metadata had for a topic, 0 if it is in order.
    pub fn code(&self, topic: &str) -> i16 {
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        self.state().topics.get(topic).map_or(unknown, |topic| topic.code)
    }

    /// The offsets that leaders tell for timestamps, each partition by its leader. What passes is
    /// tried again for as long as `listing` has patience; what is wrong then stands beside the
    /// partition.
    pub async fn list_offsets(
        &self,
        asked: &BTreeMap<Place, i64>,
        listing: Listing,
    ) -> BTreeMap<Place, Result<ListedOffset, ClusterError>> {
        let deadline = self.inner.cluster.clock().now() + listing.patience;
        let names = |places: &BTreeMap<Place, i64>| -> BTreeSet<String> {
            places.keys().map(|(topic, _)| topic.clone()).collect()
        };
        let mut left = asked.clone();
        let mut found = BTreeMap::new();
        let all = names(&left);
        let topics: Vec<&str> = all.iter().map(String::as_str).collect();
        if let Err(error) = self.learn(&topics).await {
            return left.into_keys().map(|place| (place, Err(error.clone()))).collect();
        }
        loop {
            let answers = self.list_offsets_once(&left, listing).await;
            let is_late = self.inner.cluster.clock().now() >= deadline;
            let mut again = BTreeMap::new();
            for (place, answer) in answers {
                let passes = answer.as_ref().is_err_and(ClusterError::is_passing);
                match left.get(&place).filter(|_| passes && !is_late) {
                    Some(timestamp) => drop(again.insert(place, *timestamp)),
                    None => drop(found.insert(place, answer)),
                }
            }
            if again.is_empty() {
                self.settled();
                return found;
            }
            left = again;
            let stale = names(&left);
            let topics: Vec<&str> = stale.iter().map(String::as_str).collect();
            // What is wrong shows when the leaders are asked.
            let _ = self.refresh(&topics).await;
        }
    }

    /// The same once: what passes stands beside the partition, too.
    pub async fn list_offsets_once(
        &self,
        asked: &BTreeMap<Place, i64>,
        listing: Listing,
    ) -> Vec<(Place, Result<ListedOffset, ClusterError>)> {
        let mut by_node: BTreeMap<i32, Vec<(&Place, i64)>> = BTreeMap::new();
        let mut answers = Vec::new();
        for (place, timestamp) in asked {
            match self.leader(&place.0, place.1) {
                Some(leader) => by_node.entry(leader.node).or_default().push((place, *timestamp)),
                None => answers.push((place.clone(), Err(self.no_leader(place)))),
            }
        }
        let nodes = by_node.into_iter().map(|(node, asked)| self.ask_leader(node, asked, listing));
        answers.extend(join_all(nodes).await.into_iter().flatten());
        answers
    }

    async fn ask_leader(
        &self,
        node: i32,
        asked: Vec<(&Place, i64)>,
        listing: Listing,
    ) -> Vec<(Place, Result<ListedOffset, ClusterError>)> {
        let build = |version: i16| list_offsets_request(version, &asked, listing);
        let cluster = &self.inner.cluster;
        let answered = Box::pin(cluster.ask(Target::Node(node), ANY_VERSION, build)).await;
        let told: Result<BTreeMap<_, _>, _> = match &answered {
            Ok(answer) => Ok(answer
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |row| (topic, row)))
                .map(|(topic, row)| {
                    let place = (topic.name.as_str(), row.partition_index);
                    let listed = ListedOffset { offset: row.offset, timestamp: row.timestamp };
                    (place, (row.error_code, listed))
                })
                .collect()),
            Err(error) => Err(error),
        };
        let of = |place: &Place| match &told {
            Err(error) => Err((*error).clone()),
            Ok(told) => match told.get(&(place.0.as_str(), place.1)) {
                Some((0, listed)) => Ok(*listed),
                Some((code, _)) => Err(refused(place, *code)),
                None => Err(refused(place, ErrorCode::UnknownServerError.code())),
            },
        };
        asked.iter().map(|(place, _)| ((*place).clone(), of(place))).collect()
    }

    /// Why a partition is nobody's: the topic's fault if it has one.
    fn no_leader(&self, place: &Place) -> ClusterError {
        let state = self.state();
        let topic = state.topics.get(&place.0);
        let code = match topic {
            Some(topic) if topic.code != 0 => topic.code,
            Some(topic) if topic.partitions.contains_key(&place.1) => {
                ErrorCode::LeaderNotAvailable.code()
            }
            _ => ErrorCode::UnknownTopicOrPartition.code(),
        };
        refused(place, code)
    }

    async fn ask(&self, topics: &[&str]) -> Result<(), ClusterError> {
        let response = Box::pin(self.inner.cluster.metadata(Some(topics), false)).await?;
        self.state().answers += 1;
        let is_asked = |row: &&MetadataResponseTopic| {
            row.name.as_ref().is_some_and(|name| topics.contains(&name.0.as_str()))
        };
        self.remember(response.topics.iter().filter(is_asked));
        Ok(())
    }

    /// Takes in what metadata that somebody else asked for have of topics.
    pub fn remember<'a>(&self, topics: impl IntoIterator<Item = &'a MetadataResponseTopic>) {
        let mut state = self.state();
        for row in topics {
            let Some(name) = row.name.as_ref().map(|name| name.0.to_string()) else { continue };
            let topic = topic(row, state.topics.get(&name));
            state.topics.insert(name, topic);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every version that both sides have.
const ANY_VERSION: VersionRange = VersionRange::new(0, i16::MAX);

/// What metadata have of a topic. A node that lags behind tells of a leader's earlier epoch; what
/// was known then stays, as in Kafka's own client (KIP-320).
fn topic(row: &MetadataResponseTopic, known: Option<&Topic>) -> Topic {
    let known = known.filter(|known| !known.id.is_nil() && known.id == row.topic_id);
    let partitions = row.partitions.iter().map(|row| {
        let leader = Leader { node: row.leader_id.0, epoch: row.leader_epoch };
        let told = (leader.node >= 0).then_some(leader);
        let before = known.and_then(|known| known.partitions.get(&row.partition_index)).copied();
        let newer = before.flatten().filter(|before| before.epoch > leader.epoch);
        (row.partition_index, newer.or(told))
    });
    Topic { id: row.topic_id, code: row.error_code, partitions: partitions.collect() }
}

fn list_offsets_request(
    version: i16,
    asked: &[(&Place, i64)],
    listing: Listing,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for ((topic, index), timestamp) in asked {
        let row = ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_current_leader_epoch(-1)
            .with_timestamp(*timestamp);
        topics.entry(topic).or_default().push(row);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
    });
    // Version 2 brought the isolation level.
    let isolation = i8::from(listing.is_committed && version >= 2);
    let patience = i32::try_from(listing.patience.as_millis()).unwrap_or(i32::MAX);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation)
        .with_timeout_ms(patience)
        .with_topics(topics.collect())
}

fn refused((topic, index): &Place, code: i16) -> ClusterError {
    ClusterError::Refused { what: format!("partition {topic}-{index}"), code }
}

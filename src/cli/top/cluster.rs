//! What any cluster tells by the Kafka protocol, asked of all nodes at once. What a node does not
//! tell is a note, and what the others told stands.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::super::session::{self, Place, Session, Topic, explain};
use super::groups::{self, Group};
use crate::client::{ClusterError, Target};
use crate::clock::Instant;

/// Sizes are asked for no more often than this: a broker may have to look at all its files.
const SIZES_EVERY: Duration = Duration::from_secs(10);

/// A cluster at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) cluster_id: Option<String>,
    pub(super) controller: Option<i32>,
    pub(super) nodes: Vec<Node>,
    pub(super) topics: Vec<Topic>,
    /// The high watermarks of partitions whose leader told.
    pub(super) ends: BTreeMap<Place, i64>,
    /// Bytes of each replica, by node.
    pub(super) sizes: Sizes,
    pub(super) groups: Vec<Group>,
    /// How many groups were not asked for.
    pub(super) groups_omitted: usize,
    /// What could not be learnt, in words.
    pub(super) notes: Vec<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) rack: Option<String>,
}

/// What log directories hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    /// By node and partition.
    pub(super) replicas: BTreeMap<(i32, Place), i64>,
    /// By node, of all its volumes: bytes that are free, and all.
    pub(super) volumes: BTreeMap<i32, (i64, i64)>,
}

/// Asks a cluster again and again.
#[derive(Debug)]
pub(super) struct Asker {
    session: Session,
    /// What was told of sizes, and when.
    sizes: Option<(Instant, Sizes, Vec<String>)>,
}

impl Asker {
    /// Nothing is asked yet.
    pub(super) fn new(session: Session) -> Self {
        Self { session, sizes: None }
    }

    /// What the cluster is now. It fails only if nobody tells of its topics.
    pub(super) async fn ask(&mut self, now: Instant) -> Result<Told, ClusterError> {
        let cluster = self.session.cluster();
        let metadata = match Box::pin(cluster.metadata(None, false)).await {
            // The connection may be one that a restart of the node has ended.
            Err(_) => Box::pin(cluster.metadata(None, false)).await?,
            Ok(metadata) => metadata,
        };
        let host = |host: &str| {
            if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
        };
        let mut nodes: Vec<Node> = metadata
            .brokers
            .iter()
            .map(|row| Node {
                id: row.node_id.0,
                address: format!("{}:{}", host(&row.host), row.port),
                rack: row.rack.as_ref().map(ToString::to_string),
            })
            .collect();
        nodes.sort_by_key(|node| node.id);
        let mut topics: Vec<Topic> = metadata.topics.iter().filter_map(session::topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let mut told = Told {
            cluster_id: metadata.cluster_id.map(|id| id.to_string()),
            controller: Some(metadata.controller_id.0).filter(|id| *id >= 0),
            nodes,
            topics,
            ..Told::default()
        };
        let ids: Vec<i32> = told.nodes.iter().map(|node| node.id).collect();
        self.ends(&metadata.topics, &mut told).await;
        groups::ask(&self.session, &ids, &mut told).await;
        self.sizes(&ids, now, &mut told).await;
        Ok(told)
    }

    async fn ends(&self, topics: &[MetadataResponseTopic], told: &mut Told) {
        let led = told.topics.iter().flat_map(|topic| {
            let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
            led.map(|partition| (topic.name.clone(), partition.index))
        });
        let led: Vec<Place> = led.collect();
        let answers = Box::pin(self.session.ends_once(topics, led)).await;
        let mut refused: BTreeMap<String, usize> = BTreeMap::new();
        for (place, answer) in answers {
            match answer {
                Ok(end) => {
                    told.ends.insert(place, end);
                }
                Err(ClusterError::Refused { code, .. }) => {
                    *refused.entry(explain(code, None)).or_default() += 1;
                }
                Err(error) => *refused.entry(error.to_string()).or_default() += 1,
            }
        }
        let notes = refused.into_iter();
        told.notes.extend(notes.map(|(why, count)| format!("ends of {count} partitions: {why}")));
    }

    async fn sizes(&mut self, nodes: &[i32], now: Instant, told: &mut Told) {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < SIZES_EVERY;
        if !self.sizes.as_ref().is_some_and(|(at, ..)| is_fresh(at)) {
            let (sizes, notes) = ask_sizes(&self.session, nodes).await;
            self.sizes = Some((now, sizes, notes));
        }
        if let Some((_, sizes, notes)) = &self.sizes {
            told.sizes = sizes.clone();
            told.notes.extend(notes.iter().cloned());
        }
    }
}

async fn ask_sizes(session: &Session, nodes: &[i32]) -> (Sizes, Vec<String>) {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let request = &request;
    let asked = nodes.iter().map(|&node| async move {
        (node, Box::pin(session.ask(Target::Node(node), request)).await)
    });
    let (mut sizes, mut notes) = (Sizes::default(), Vec::new());
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(answer) if answer.error_code == 0 => sizes.add(node, answer),
            Ok(answer) => {
                let reason = explain(answer.error_code, None);
                notes.push(format!("sizes on node {node}: {reason}"));
            }
            // Nothing is wrong with a node that does not know the request.
            Err(ClusterError::Version { .. }) => {}
            Err(error) => notes.push(format!("sizes on node {node}: {error}")),
        }
    }
    (sizes, notes)
}

impl Sizes {
    fn add(&mut self, node: i32, answer: DescribeLogDirsResponse) {
        for dir in answer.results {
            if dir.usable_bytes >= 0 && dir.total_bytes >= 0 {
                let (free, total) = self.volumes.entry(node).or_default();
                *free = free.saturating_add(dir.usable_bytes);
                *total = total.saturating_add(dir.total_bytes);
            }
            for topic in dir.topics {
                for row in topic.partitions.iter().filter(|row| !row.is_future_key) {
                    let place = (topic.name.to_string(), row.partition_index);
                    self.replicas.insert((node, place), row.partition_size);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };

    use super::*;

    #[test]
    fn log_directories_of_a_node_are_added_up() {
        let row = |index: i32, size: i64, future: bool| {
            DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(size)
                .with_is_future_key(future)
        };
        let topic = |rows| {
            let name = TopicName(session::text("t"));
            DescribeLogDirsTopic::default().with_name(name).with_partitions(rows)
        };
        let dir = |free, total, rows| {
            DescribeLogDirsResult::default()
                .with_usable_bytes(free)
                .with_total_bytes(total)
                .with_topics(vec![topic(rows)])
        };
        let results = vec![
            dir(10, 100, vec![row(0, 7, false)]),
            // An old broker, and a replica on its way here.
            dir(-1, -1, vec![row(1, 8, false), row(0, 3, true)]),
            dir(i64::MAX, 100, Vec::new()),
        ];
        let mut sizes = Sizes::default();
        sizes.add(1, DescribeLogDirsResponse::default().with_results(results));
        assert_eq!(sizes.volumes, [(1, (i64::MAX, 200))].into());
        let replicas = [((1, ("t".to_owned(), 0)), 7), ((1, ("t".to_owned(), 1)), 8)];
        assert_eq!(sizes.replicas, replicas.into());
    }
}

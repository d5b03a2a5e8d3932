//! `tidegate topic describe`.

use std::collections::BTreeMap;

use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use serde::Serialize;

use super::super::configs::{self, Entry};
use super::super::output::{Align, Answer, Failure, Output, Table, column, warn};
use super::super::session::{EARLIEST, LATEST, Place, Session, Topic, explain, topic_name};
use crate::client::Target;

/// So many topics' settings are asked for at a time.
const TOPICS_AT_ONCE: usize = 500;

#[derive(Serialize)]
struct Described {
    topics: Vec<DescribedTopic>,
}

#[derive(Serialize)]
struct DescribedTopic {
    name: String,
    id: Option<String>,
    internal: bool,
    replication_factor: usize,
    /// What is set for the topic itself.
    configs: BTreeMap<String, Option<String>>,
    partitions: Vec<DescribedPartition>,
}

#[derive(Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    offline: Vec<i32>,
    /// The log's start offset.
    start_offset: Option<i64>,
    /// The high watermark.
    end_offset: Option<i64>,
    /// What the leader's replica takes, as its log directory counts it.
    size_bytes: Option<i64>,
}

impl DescribedPartition {
    fn is_healthy(&self) -> bool {
        self.leader.is_some() && self.isr.len() == self.replicas.len() && self.offline.is_empty()
    }
}

impl Answer for Described {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        self.topics.iter().map(|topic| (Some(title(topic)), partitions(topic))).collect()
    }
}

fn title(topic: &DescribedTopic) -> String {
    let id = topic.id.as_ref().map(|id| format!("  id {id}")).unwrap_or_default();
    let configs = topic.configs.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}=?"),
    });
    let configs = configs.collect::<Vec<_>>().join(" ");
    let configs = if configs.is_empty() { configs } else { format!("  {configs}") };
    format!("topic {}{id}{configs}", topic.name)
}

fn partitions(topic: &DescribedTopic) -> Table {
    let mut table = Table::new(vec![
        column("PARTITION", Align::Right),
        column("LEADER", Align::Right),
        column("REPLICAS", Align::Left),
        column("IN SYNC", Align::Left),
        column("START", Align::Right),
        column("END", Align::Right),
        column("OFFSETS", Align::Right),
        column("BYTES", Align::Right),
    ]);
    table.rows(topic.partitions.iter().map(|row| {
        let held = row.end_offset.zip(row.start_offset).map(|(end, start)| end - start);
        vec![
            row.partition.to_string(),
            or_dash(row.leader),
            ids(&row.replicas),
            ids(&row.isr),
            or_dash(row.start_offset),
            or_dash(row.end_offset),
            or_dash(held),
            or_dash(row.size_bytes),
        ]
    }));
    table
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn ids(nodes: &[i32]) -> String {
    if nodes.is_empty() {
        return "-".to_owned();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Shows topics, all that are not internal without names.
pub(super) async fn describe(
    session: &Session,
    output: Output,
    names: &[String],
    unhealthy: bool,
) -> Result<(), Failure> {
    let topics = if names.is_empty() {
        let all = session.all_topics().await?;
        all.into_iter().filter(|topic| !topic.internal).collect()
    } else {
        session.topics(names).await?
    };
    let (starts, ends) = (at(&topics, EARLIEST), at(&topics, LATEST));
    let starts = Box::pin(session.offsets(&starts)).await;
    let ends = Box::pin(session.offsets(&ends)).await;
    let sizes = sizes(session, &topics).await;
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let mut configs = BTreeMap::new();
    for some in names.chunks(TOPICS_AT_ONCE) {
        configs.extend(configs::of_topics(session, some).await?);
    }
    let known = |offsets: &super::super::session::Offsets, place: &Place| {
        offsets.get(place).and_then(|found| found.as_ref().ok()).copied()
    };
    let described = topics.into_iter().map(|topic| {
        let configs = configs.remove(&topic.name).unwrap_or_default();
        let of_partition = |partition: super::super::session::Partition| {
            let place = (topic.name.clone(), partition.index);
            DescribedPartition {
                partition: partition.index,
                start_offset: known(&starts, &place),
                end_offset: known(&ends, &place),
                size_bytes: partition
                    .leader
                    .and_then(|leader| sizes.get(&(leader, place.0.clone(), place.1)).copied()),
                leader: partition.leader,
                replicas: partition.replicas,
                isr: partition.isr,
                offline: partition.offline,
            }
        };
        let partitions: Vec<_> = topic.partitions.iter().cloned().map(of_partition).collect();
        DescribedTopic {
            replication_factor: partitions.iter().map(|it| it.replicas.len()).max().unwrap_or(0),
            configs: configs.into_iter().filter(Entry::is_own).map(Entry::into_pair).collect(),
            partitions,
            name: topic.name,
            id: topic.id,
            internal: topic.internal,
        }
    });
    let mut described: Vec<DescribedTopic> = described.collect();
    if unhealthy {
        for topic in &mut described {
            topic.partitions.retain(|row| !row.is_healthy());
        }
        described.retain(|topic| !topic.partitions.is_empty());
    }
    output.print(&Described { topics: described })
}

fn at(topics: &[Topic], timestamp: i64) -> BTreeMap<Place, i64> {
    let places = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.clone(), partition.index))
    });
    places.map(|place| (place, timestamp)).collect()
}

/// What each replica takes, by broker and partition. A broker that does not tell is left out: the
/// sizes are a courtesy.
async fn sizes(session: &Session, topics: &[Topic]) -> BTreeMap<(i32, String, i32), i64> {
    let mut found = BTreeMap::new();
    let wanted = topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.index).collect();
        DescribableLogDirTopic::default()
            .with_topic(topic_name(&topic.name))
            .with_partitions(indexes)
    });
    let request = DescribeLogDirsRequest::default().with_topics(Some(wanted.collect()));
    let leaders = topics.iter().flat_map(|topic| &topic.partitions).filter_map(|it| it.leader);
    let leaders: std::collections::BTreeSet<i32> = leaders.collect();
    for node in leaders {
        let answer = match session.ask(Target::Node(node), &request).await {
            Ok(answer) => answer,
            Err(error) => {
                warn(format_args!("the sizes of partitions on node {node} are unknown: {error}"));
                continue;
            }
        };
        if answer.error_code != 0 {
            let reason = explain(answer.error_code, None);
            warn(format_args!("the sizes of partitions on node {node} are unknown: {reason}"));
        }
        for topic in answer.results.into_iter().flat_map(|result| result.topics) {
            for row in topic.partitions.iter().filter(|row| !row.is_future_key) {
                let key = (node, topic.name.to_string(), row.partition_index);
                found.insert(key, row.partition_size);
            }
        }
    }
    found
}

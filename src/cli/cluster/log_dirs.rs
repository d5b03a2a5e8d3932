//! `tidegate cluster log-dirs`.

use std::collections::BTreeMap;

use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use serde::Serialize;

use super::super::output::{Align, Answer, Failure, Output, Table, column};
use super::super::session::{Session, explain, topic_name};
use crate::client::Target;

#[derive(Serialize)]
struct Shown {
    log_dirs: Vec<LogDir>,
}

#[derive(Serialize)]
struct LogDir {
    broker: i32,
    path: String,
    /// Of the volume; nothing from brokers before Kafka 3.3.
    total_bytes: Option<i64>,
    /// What of the volume is free.
    usable_bytes: Option<i64>,
    error: Option<String>,
    partitions: Vec<Replica>,
}

#[derive(Serialize)]
struct Replica {
    topic: String,
    partition: i32,
    size_bytes: i64,
    /// How far it is behind, in offsets.
    offset_lag: i64,
    /// Whether it is on its way from another directory and will take its place.
    future: bool,
}

impl Answer for Shown {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        self.log_dirs.iter().map(|dir| (Some(title(dir)), by_topic(dir))).collect()
    }
}

fn title(dir: &LogDir) -> String {
    let of = |name: &str, bytes: Option<i64>| {
        bytes.map(|bytes| format!("  {name} bytes {bytes}")).unwrap_or_default()
    };
    let (total, free) = (of("total", dir.total_bytes), of("free", dir.usable_bytes));
    let error = dir.error.as_ref().map(|error| format!("  {error}")).unwrap_or_default();
    format!("broker {}  {}{total}{free}{error}", dir.broker, dir.path)
}

fn by_topic(dir: &LogDir) -> Table {
    let mut topics: BTreeMap<&str, (usize, i64, i64)> = BTreeMap::new();
    for replica in &dir.partitions {
        let (count, bytes, lag) = topics.entry(&replica.topic).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(replica.size_bytes);
        *lag = (*lag).max(replica.offset_lag);
    }
    let mut table = Table::new(vec![
        column("TOPIC", Align::Left),
        column("PARTITIONS", Align::Right),
        column("BYTES", Align::Right),
        column("LAG", Align::Right),
    ]);
    table.rows(topics.into_iter().map(|(topic, (count, bytes, lag))| {
        vec![topic.to_owned(), count.to_string(), bytes.to_string(), lag.to_string()]
    }));
    table
}

/// Shows log directories.
pub(super) async fn log_dirs(
    session: &Session,
    output: Output,
    brokers: &[i32],
    topics: &[String],
) -> Result<(), Failure> {
    let nodes = super::nodes(session, brokers).await?;
    let wanted = if topics.is_empty() {
        None
    } else {
        let found = session.topics(topics).await?.into_iter().map(|topic| {
            DescribableLogDirTopic::default()
                .with_topic(topic_name(&topic.name))
                .with_partitions(topic.partitions.iter().map(|it| it.index).collect())
        });
        Some(found.collect())
    };
    let request = DescribeLogDirsRequest::default().with_topics(wanted);
    let mut log_dirs = Vec::new();
    for broker in nodes {
        let answer = Box::pin(session.ask(Target::Node(broker), &request)).await;
        let answer = answer.map_err(Failure::failed)?;
        if answer.error_code != 0 {
            let reason = explain(answer.error_code, None);
            return Err(Failure::Failed(format!("broker {broker}: {reason}")));
        }
        log_dirs.extend(answer.results.into_iter().map(|result| log_dir(broker, result)));
    }
    output.print(&Shown { log_dirs })
}

fn log_dir(broker: i32, result: DescribeLogDirsResult) -> LogDir {
    let mut partitions: Vec<Replica> = Vec::new();
    for topic in result.topics {
        let name = topic.name.to_string();
        partitions.extend(topic.partitions.into_iter().map(|row| Replica {
            topic: name.clone(),
            partition: row.partition_index,
            size_bytes: row.partition_size,
            offset_lag: row.offset_lag,
            future: row.is_future_key,
        }));
    }
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let known = |bytes: i64| (bytes >= 0).then_some(bytes);
    LogDir {
        broker,
        path: result.log_dir.to_string(),
        total_bytes: known(result.total_bytes),
        usable_bytes: known(result.usable_bytes),
        error: (result.error_code != 0).then(|| explain(result.error_code, None)),
        partitions,
    }
}

//! `tidegate topic …`: topics by the Kafka protocol, of any cluster that speaks it.

mod change;
mod config;
mod describe;
mod records;

use std::process::ExitCode;

use serde::Serialize;

pub(super) use change::{Like, create, remove};

use super::Remote;
use super::args::topic::TopicAction;
use super::output::{Align, Answer, Failure, Output, Table, column};
use super::session::{Session, Topic, carry_out};

/// Does what is asked with topics and gives the exit code: 0 done, 1 failed, 2 asked wrongly.
pub fn topic(remote: &Remote<TopicAction>) -> ExitCode {
    let work = async |session: &Session| run(session, remote.output, &remote.action).await;
    carry_out(&remote.connection, work)
}

async fn run(session: &Session, output: Output, action: &TopicAction) -> Result<(), Failure> {
    match action {
        TopicAction::List { internal } => list(session, output, *internal).await,
        TopicAction::Describe { topics, unhealthy } => {
            describe::describe(session, output, topics, *unhealthy).await
        }
        TopicAction::Create {
            topics,
            partitions,
            replication_factor,
            config,
            if_not_exists,
            dry_run,
        } => {
            let like = change::Like {
                partitions: *partitions,
                replication_factor: *replication_factor,
                config,
            };
            change::create(session, topics, &like, *if_not_exists, *dry_run).await
        }
        TopicAction::Alter { topic, partitions, dry_run } => {
            change::alter(session, topic, *partitions, *dry_run).await
        }
        TopicAction::Delete { topics, if_exists, execute } => {
            change::delete(session, output, topics, *if_exists, *execute).await
        }
        TopicAction::Config(action) => config::config(session, output, action).await,
        TopicAction::DeleteRecords { places, until, execute } => {
            records::delete(session, output, places, until, *execute).await
        }
    }
}

#[derive(Serialize)]
struct Listed {
    topics: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    id: Option<String>,
    internal: bool,
    partitions: usize,
    replication_factor: usize,
}

impl Answer for Listed {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("TOPIC", Align::Left),
            column("PARTITIONS", Align::Right),
            column("REPLICAS", Align::Right),
        ]);
        table.rows(self.topics.iter().map(|row| {
            let counts = [row.partitions, row.replication_factor].map(|count| count.to_string());
            std::iter::once(row.name.clone()).chain(counts).collect()
        }));
        vec![(None, table)]
    }
}

async fn list(session: &Session, output: Output, internal: bool) -> Result<(), Failure> {
    let topics = session.all_topics().await?;
    let shown = topics.into_iter().filter(|topic| internal || !topic.internal);
    output.print(&Listed { topics: shown.map(row).collect() })
}

fn row(topic: Topic) -> Row {
    let replicas = topic.partitions.iter().map(|partition| partition.replicas.len());
    Row {
        replication_factor: replicas.max().unwrap_or(0),
        partitions: topic.partitions.len(),
        name: topic.name,
        id: topic.id,
        internal: topic.internal,
    }
}

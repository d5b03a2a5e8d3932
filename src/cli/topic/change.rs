//! `tidegate topic create`, `alter` and `delete`.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use serde::Serialize;

use super::super::output::{Align, Answer, Failure, Output, Table, column, complain, note};
use super::super::session::{
    ANY_VERSION, EARLIEST, LATEST, Session, Topic, explain, text, topic_name,
};
use crate::client::Target;
use crate::protocol::error::ErrorCode;

/// What topics are to be like.
pub(in super::super) struct Like<'a> {
    pub(in super::super) partitions: Option<i32>,
    pub(in super::super) replication_factor: Option<i16>,
    pub(in super::super) config: &'a [(String, String)],
}

/// Creates topics.
pub(in super::super) async fn create(
    session: &Session,
    names: &[String],
    like: &Like<'_>,
    if_not_exists: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    let configs = like.config.iter().map(|(key, value)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    });
    let configs: Vec<_> = configs.collect();
    let topics = names.iter().map(|name| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            // -1 is what the cluster has for topics that say nothing (KIP-464).
            .with_num_partitions(like.partitions.unwrap_or(-1))
            .with_replication_factor(like.replication_factor.unwrap_or(-1))
            .with_configs(configs.clone())
    });
    let request = CreateTopicsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(session.timeout_ms())
        .with_validate_only(dry_run);
    let answer = Box::pin(session.ask(Target::Controller, &request)).await;
    let answer = answer.map_err(Failure::failed)?;
    let mut outcome = Ok(());
    for row in answer.topics {
        let name = row.name.as_str();
        let exists = row.error_code == ErrorCode::TopicAlreadyExists.code();
        match row.error_code {
            0 => {
                let done = if dry_run { "could be created" } else { "created" };
                let shape = match (row.num_partitions, row.replication_factor) {
                    (1.., 1..) => format!(
                        " with partitions: {}, replicas: {}",
                        row.num_partitions, row.replication_factor
                    ),
                    _ => String::new(),
                };
                note(format_args!("topic {name} {done}{shape}"));
            }
            _ if exists && if_not_exists => note(format_args!("topic {name} is there already")),
            code => {
                let reason = explain(code, row.error_message.as_ref());
                let hint = if exists { "; --if-not-exists takes it as it is" } else { "" };
                complain(format_args!("topic {name} is not created: {reason}{hint}"));
                outcome = Err(Failure::Told);
            }
        }
    }
    outcome
}

/// Adds partitions.
pub(super) async fn alter(
    session: &Session,
    name: &str,
    count: i32,
    dry_run: bool,
) -> Result<(), Failure> {
    let found = session.topics(&[name.to_owned()]).await?;
    let has = found.first().map_or(0, |topic| topic.partitions.len());
    if usize::try_from(count).unwrap_or(0) <= has {
        return Err(Failure::Usage(format!(
            "topic {name} has {has} partitions already; --partitions {count} adds none, and they \
             cannot be taken away"
        )));
    }
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(session.timeout_ms())
        .with_validate_only(dry_run);
    let answer = Box::pin(session.ask(Target::Controller, &request)).await;
    let answer = answer.map_err(Failure::failed)?;
    if let Some(row) = answer.results.iter().find(|row| row.error_code != 0) {
        let reason = explain(row.error_code, row.error_message.as_ref());
        return Err(Failure::Failed(format!("topic {name} keeps {has} partitions: {reason}")));
    }
    let done = if dry_run { "could have" } else { "has" };
    note(format_args!("topic {name} {done} {count} partitions; it had {has}"));
    Ok(())
}

#[derive(Serialize)]
struct Deleted {
    /// Whether it was done, and not only told.
    executed: bool,
    topics: Vec<Gone>,
}

#[derive(Serialize)]
struct Gone {
    name: String,
    partitions: usize,
    /// How many offsets its partitions have together; nothing where a leader does not tell.
    offsets: Option<i64>,
    error: Option<String>,
}

impl Answer for Deleted {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("TOPIC", Align::Left),
            column("PARTITIONS", Align::Right),
            column("OFFSETS", Align::Right),
            column("RESULT", Align::Left),
        ]);
        table.rows(self.topics.iter().map(|topic| {
            let result = match &topic.error {
                Some(error) => error.clone(),
                None if self.executed => "deleted".to_owned(),
                None => "would be deleted".to_owned(),
            };
            let offsets = topic.offsets.map_or_else(|| "-".to_owned(), |it| it.to_string());
            vec![topic.name.clone(), topic.partitions.to_string(), offsets, result]
        }));
        vec![(None, table)]
    }
}

/// Deletes topics, or says which would go.
pub(super) async fn delete(
    session: &Session,
    output: Output,
    names: &[String],
    if_exists: bool,
    execute: bool,
) -> Result<(), Failure> {
    let topics = if if_exists {
        let all = session.all_topics().await?;
        all.into_iter().filter(|topic| names.contains(&topic.name)).collect()
    } else {
        session.topics(names).await?
    };
    let mut gone = what_goes(session, &topics).await;
    if execute && !gone.is_empty() {
        carry_out(session, &mut gone).await?;
    }
    let failed = gone.iter().any(|topic| topic.error.is_some());
    output.print(&Deleted { executed: execute, topics: gone })?;
    if !execute {
        note("nothing was deleted; --execute does it");
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

async fn what_goes(session: &Session, topics: &[Topic]) -> Vec<Gone> {
    let places = |timestamp: i64| {
        let all = topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.clone(), partition.index))
        });
        all.map(|place| (place, timestamp)).collect()
    };
    let starts = Box::pin(session.offsets(&places(EARLIEST))).await;
    let ends = Box::pin(session.offsets(&places(LATEST))).await;
    let of_topic = |topic: &Topic| {
        let held = topic.partitions.iter().map(|partition| {
            let place = (topic.name.clone(), partition.index);
            let end = ends.get(&place)?.as_ref().ok()?;
            let start = starts.get(&place)?.as_ref().ok()?;
            Some(end - start)
        });
        let (name, partitions) = (topic.name.clone(), topic.partitions.len());
        Gone { name, partitions, offsets: held.sum(), error: None }
    };
    topics.iter().map(of_topic).collect()
}

async fn carry_out(session: &Session, gone: &mut [Gone]) -> Result<(), Failure> {
    let names: Vec<&str> = gone.iter().map(|topic| topic.name.as_str()).collect();
    let errors = remove(session, &names).await?;
    for (topic, error) in gone.iter_mut().zip(errors) {
        topic.error = error;
    }
    Ok(())
}

/// Deletes topics: for each why it could not be, if it could not.
pub(in super::super) async fn remove(
    session: &Session,
    topics: &[&str],
) -> Result<Vec<Option<String>>, Failure> {
    let names: Vec<_> = topics.iter().map(|topic| topic_name(topic)).collect();
    let build = |version: i16| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(session.timeout_ms());
        // Names are in structures of their own from version 6 on.
        if version < 6 {
            return request.with_topic_names(names.clone());
        }
        let state = |name| DeleteTopicState::default().with_name(Some(name));
        request.with_topics(names.iter().cloned().map(state).collect())
    };
    let cluster = session.cluster();
    let answer = Box::pin(cluster.ask(Target::Controller, ANY_VERSION, build)).await;
    let answer = answer.map_err(Failure::failed)?;
    let outcome = |topic: &&str| {
        let is_it = |name: &kafka_protocol::messages::TopicName| name.as_str() == *topic;
        let row = answer.responses.iter().find(|row| row.name.as_ref().is_some_and(is_it));
        match row {
            Some(row) if row.error_code == 0 => None,
            Some(row) => Some(explain(row.error_code, row.error_message.as_ref())),
            None => Some("the cluster did not say what became of it".to_owned()),
        }
    };
    Ok(topics.iter().map(outcome).collect())
}

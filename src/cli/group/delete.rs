//! `tidegate group delete` and `delete-offsets`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{DeleteGroupsRequest, OffsetDeleteRequest};
use serde::Serialize;

use super::super::args::group::Groups;
use super::super::output::{Align, Answer, Failure, Output, Table, column, note};
use super::super::places;
use super::super::session::{Place, Session, explain, group_id, topic_name};
use super::model::{self, Committed, Description};
use crate::client::Target;

#[derive(Serialize)]
struct Groupless {
    /// Whether it was done, and not only told.
    executed: bool,
    groups: Vec<Gone>,
}

#[derive(Serialize)]
struct Gone {
    group: String,
    state: String,
    members: usize,
    /// How many partitions it has committed.
    committed_partitions: usize,
    error: Option<String>,
}

impl Answer for Groupless {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("GROUP", Align::Left),
            column("STATE", Align::Left),
            column("COMMITTED PARTITIONS", Align::Right),
            column("RESULT", Align::Left),
        ]);
        table.rows(self.groups.iter().map(|row| {
            let result = result(row.error.as_ref(), self.executed);
            vec![row.group.clone(), row.state.clone(), row.committed_partitions.to_string(), result]
        }));
        vec![(None, table)]
    }
}

fn result(error: Option<&String>, executed: bool) -> String {
    match error {
        Some(error) => error.clone(),
        None if executed => "deleted".to_owned(),
        None => "would be deleted".to_owned(),
    }
}

/// Deletes groups, or says which would go.
pub(super) async fn groups(
    session: &Session,
    output: Output,
    groups: &Groups,
    execute: bool,
) -> Result<(), Failure> {
    let mut gone = Vec::new();
    for (group, node) in model::meant(session, groups).await? {
        let Some(found) = Box::pin(model::describe(session, &group, node)).await? else {
            if groups.all_groups {
                continue;
            }
            return Err(model::missing(session, &group).await);
        };
        let committed = model::committed(session, &group, found.coordinator).await?;
        gone.push((found, committed.len()));
    }
    let mut rows = Vec::new();
    for (found, committed) in gone {
        let error = match (found.is_inactive(), execute) {
            (false, _) => Some(format!("has {} members; stop them first", found.members.len())),
            (true, true) => delete(session, &found).await?,
            (true, false) => None,
        };
        let members = found.members.len();
        let Description { group, state, .. } = found;
        rows.push(Gone { group, state, members, committed_partitions: committed, error });
    }
    let failed = rows.iter().any(|row| row.error.is_some());
    output.print(&Groupless { executed: execute, groups: rows })?;
    if !execute {
        note("nothing was deleted; --execute does it");
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// Deletes a group if it is there: why it could not be, if it could not.
pub(in super::super) async fn remove(
    session: &Session,
    group: &str,
) -> Result<Option<String>, Failure> {
    match Box::pin(model::describe(session, group, None)).await? {
        Some(found) => delete(session, &found).await,
        None => Ok(None),
    }
}

/// Why it could not be, if it could not.
async fn delete(session: &Session, group: &Description) -> Result<Option<String>, Failure> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(&group.group)]);
    let target = Target::Node(group.coordinator);
    let answer = Box::pin(session.ask_patiently(target, &request, |answer| {
        answer.results.first().map_or(0, |row| row.error_code)
    }))
    .await
    .map_err(Failure::failed)?;
    Ok(match answer.results.first() {
        Some(row) if row.error_code == 0 => None,
        Some(row) => Some(explain(row.error_code, None)),
        None => Some("the coordinator did not say what became of it".to_owned()),
    })
}

#[derive(Serialize)]
struct Forgotten {
    /// Whether it was done, and not only told.
    executed: bool,
    group: String,
    offsets: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    error: Option<String>,
}

impl Answer for Forgotten {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("TOPIC", Align::Left),
            column("PARTITION", Align::Right),
            column("COMMITTED", Align::Right),
            column("RESULT", Align::Left),
        ]);
        table.rows(self.offsets.iter().map(|row| {
            let committed =
                row.committed_offset.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let result = result(row.error.as_ref(), self.executed);
            vec![row.topic.clone(), row.partition.to_string(), committed, result]
        }));
        vec![(None, table)]
    }
}

/// Deletes committed offsets, or says which would go.
pub(super) async fn offsets(
    session: &Session,
    output: Output,
    group: &str,
    texts: &[String],
    execute: bool,
) -> Result<(), Failure> {
    let Some(found) = Box::pin(model::describe(session, group, None)).await? else {
        return Err(model::missing(session, group).await);
    };
    let committed = model::committed(session, group, found.coordinator).await?;
    let places = meant(texts, &committed)?;
    let mut rows: Vec<Row> = places
        .into_iter()
        .map(|place| Row {
            committed_offset: committed.get(&place).map(|it| it.offset),
            error: None,
            topic: place.0,
            partition: place.1,
        })
        .collect();
    if execute && !rows.is_empty() {
        forget(session, &found, &mut rows).await?;
    }
    let failed = rows.iter().any(|row| row.error.is_some());
    output.print(&Forgotten { executed: execute, group: group.to_owned(), offsets: rows })?;
    if !execute {
        note("nothing was deleted; --execute does it");
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// The committed partitions that are meant: the topic itself may be gone long since.
fn meant(
    texts: &[String],
    committed: &BTreeMap<Place, Committed>,
) -> Result<BTreeSet<Place>, Failure> {
    let mut meant = BTreeSet::new();
    for text in texts {
        let named = places::parse(text)?;
        let of_topic = committed.keys().filter(|(topic, _)| *topic == named.topic);
        let found: BTreeSet<Place> = of_topic
            .filter(|(_, index)| named.partitions.is_empty() || named.partitions.contains(index))
            .cloned()
            .collect();
        if found.is_empty() || found.len() < named.partitions.len() {
            return Err(Failure::Failed(format!(
                "the group has not committed all of {text}; `tidegate group describe` shows what \
                 it has"
            )));
        }
        meant.extend(found);
    }
    Ok(meant)
}

async fn forget(session: &Session, group: &Description, rows: &mut [Row]) -> Result<(), Failure> {
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for row in rows.iter() {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(row.partition);
        topics.entry(&row.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id(&group.group))
        .with_topics(topics.collect());
    let target = Target::Node(group.coordinator);
    let answer =
        Box::pin(session.ask_patiently(target, &request, |answer| answer.error_code)).await;
    let answer = answer.map_err(Failure::failed)?;
    if answer.error_code != 0 {
        let reason = explain(answer.error_code, None);
        return Err(Failure::Failed(format!("group {}: {reason}", group.group)));
    }
    for row in rows {
        let topic = answer.topics.iter().find(|topic| topic.name.as_str() == row.topic);
        let told = topic.into_iter().flat_map(|topic| &topic.partitions);
        let told = told.into_iter().find(|told| told.partition_index == row.partition);
        row.error = match told.map(|told| told.error_code) {
            Some(0) => None,
            Some(code) => Some(explain(code, None)),
            None => Some("the coordinator did not say what became of it".to_owned()),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_committed_can_be_deleted() {
        let place = |topic: &str, index| (topic.to_owned(), index);
        let at = Committed { offset: 1, metadata: String::new() };
        let places = [place("a", 0), place("a", 1), place("b", 0)];
        let committed = places.iter().map(|it| (it.clone(), at.clone())).collect();
        let meant = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            meant(&texts, &committed)
        };
        assert_eq!(meant(&["a"]), Ok([place("a", 0), place("a", 1)].into()));
        assert_eq!(meant(&["a:1", "b"]), Ok([place("a", 1), place("b", 0)].into()));
        assert!(matches!(meant(&["a:1,2"]), Err(Failure::Failed(_))));
        assert!(matches!(meant(&["c"]), Err(Failure::Failed(_))));
    }
}

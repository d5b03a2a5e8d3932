//! `tidegate group reset-offsets`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use serde::Serialize;

use super::super::args::group::Reset;
use super::super::input::read_file;
use super::super::output::{Align, Answer, Failure, Output, Table, column, complain, note, write};
use super::super::places;
use super::super::session::{
    EARLIEST, LATEST, Offsets, Place, Session, explain, group_id, text, topic_name,
};
use super::model;
use super::plan::{self, Known, Scenario};
use crate::client::Target;
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

#[derive(Serialize)]
struct Planned {
    /// Whether it was done, and not only told.
    executed: bool,
    offsets: Vec<Row>,
}

#[derive(Clone, Serialize)]
struct Row {
    group: String,
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    new_offset: Option<i64>,
    /// Why it is not what was asked for.
    note: Option<&'static str>,
    error: Option<String>,
}

impl Answer for Planned {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("GROUP", Align::Left),
            column("TOPIC", Align::Left),
            column("PARTITION", Align::Right),
            column("COMMITTED", Align::Right),
            column("NEW", Align::Right),
            column("NOTE", Align::Left),
        ]);
        let or_dash =
            |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
        table.rows(self.offsets.iter().map(|row| {
            vec![
                row.group.clone(),
                row.topic.clone(),
                row.partition.to_string(),
                or_dash(row.committed_offset),
                or_dash(row.new_offset),
                row.error.clone().or(row.note.map(str::to_owned)).unwrap_or_default(),
            ]
        }));
        vec![(None, table)]
    }
}

/// Moves the offsets of groups, or says where they would be moved.
pub(super) async fn reset(
    session: &Session,
    output: Output,
    wanted: &Reset,
) -> Result<(), Failure> {
    let is_one_group = wanted.groups.groups.len() == 1;
    let file = wanted.to.from_file.as_ref();
    let csv = file.map(|path| plan::from_csv(path, &read_file(path)?, is_one_group)).transpose()?;
    let scenario = Scenario::read(&wanted.to, session.now_ms(), csv)?;
    let mut rows = Vec::new();
    let mut outcome = Ok(());
    for (group, node) in model::meant(session, &wanted.groups).await? {
        match Box::pin(of_group(session, wanted, &scenario, &group, node)).await {
            Ok(planned) => {
                // A group moves as a whole or not at all.
                if planned.iter().any(|row| row.error.is_some()) {
                    outcome = Err(Failure::Told);
                }
                rows.extend(planned);
            }
            Err(Failure::Failed(reason)) => {
                complain(reason);
                outcome = Err(Failure::Told);
            }
            Err(failure) => return Err(failure),
        }
    }
    if rows.is_empty() && outcome.is_err() {
        return outcome;
    }
    let rows_of_plan = rows.iter().filter_map(|row| Some((row, row.new_offset?)));
    if wanted.export {
        let places: Vec<(&Row, Place, i64)> =
            rows_of_plan.map(|(row, at)| (row, (row.topic.clone(), row.partition), at)).collect();
        let exported = places.iter().map(|(row, place, at)| (row.group.as_str(), place, *at));
        write(&plan::to_csv(exported, is_one_group))?;
        for (row, error) in rows.iter().filter_map(|row| Some((row, row.error.as_ref()?))) {
            complain(format_args!("{} {}-{}: {error}", row.group, row.topic, row.partition));
        }
    } else {
        output.print(&Planned { executed: wanted.execute, offsets: rows })?;
    }
    if !wanted.execute {
        note("no offset was moved; --execute does it");
    }
    outcome
}

/// Plans for one group, and carries it out if that is wanted.
async fn of_group(
    session: &Session,
    wanted: &Reset,
    scenario: &Scenario,
    group: &str,
    node: Option<i32>,
) -> Result<Vec<Row>, Failure> {
    let node = match model::describe(session, group, node).await? {
        Some(found) if found.is_inactive() => found.coordinator,
        Some(found) => {
            return Err(Failure::Failed(format!(
                "group {group} is {} and has {} members, so its offsets cannot be moved; stop its \
                 consumers first",
                found.state,
                found.members.len()
            )));
        }
        // Offsets may be committed for a group that is yet to come.
        None => session.coordinator(group).await?,
    };
    let committed = model::committed(session, group, node).await?;
    let places = meant(session, wanted, scenario, group, committed.keys()).await?;
    let mut asked = Vec::new();
    for timestamp in scenario.timestamps() {
        let at = places.iter().map(|place| (place.clone(), timestamp)).collect();
        asked.push((timestamp, Box::pin(session.offsets(&at)).await));
    }
    let mut rows: Vec<Row> = Vec::new();
    for place in &places {
        let current = committed.get(place).map(|it| it.offset);
        let moved = known(&asked, place, current)
            .and_then(|known| scenario.target(group, place, known).map_err(str::to_owned));
        let (target, error) = match moved {
            Ok(moved) => (Some(moved), None),
            Err(reason) => (None, Some(reason)),
        };
        rows.push(Row {
            group: group.to_owned(),
            topic: place.0.clone(),
            partition: place.1,
            committed_offset: current,
            new_offset: target.as_ref().map(|moved| moved.offset),
            note: target.and_then(|moved| moved.because),
            error,
        });
    }
    if wanted.execute && rows.iter().all(|row| row.error.is_none()) {
        commit(session, group, node, &mut rows).await?;
    }
    Ok(rows)
}

/// The partitions that are meant: those of topics, of the file, or all that are committed.
async fn meant<'a>(
    session: &Session,
    wanted: &Reset,
    scenario: &Scenario,
    group: &str,
    committed: impl Iterator<Item = &'a Place>,
) -> Result<BTreeSet<Place>, Failure> {
    let places: BTreeSet<Place> = match scenario {
        Scenario::Plans(plans) => {
            plan::of_group(plans, group).into_iter().flat_map(BTreeMap::keys).cloned().collect()
        }
        _ if wanted.all_topics => committed.cloned().collect(),
        _ => places::find(session, &wanted.topics).await?.1,
    };
    Ok(places)
}

/// What leaders told of a partition.
fn known(asked: &[(i64, Offsets)], place: &Place, committed: Option<i64>) -> Result<Known, String> {
    let at = |wanted: i64| {
        let of = asked.iter().find(|(timestamp, _)| *timestamp == wanted);
        match of.and_then(|(_, offsets)| offsets.get(place)) {
            Some(told) => told.clone(),
            None => Err("the partition is not there".to_owned()),
        }
    };
    let at_time = asked.iter().map(|(timestamp, _)| *timestamp).find(|it| *it >= 0);
    let at_time = at_time.map_or(Ok(-1), &at)?;
    Ok(Known { start: at(EARLIEST)?, end: at(LATEST)?, committed, at_time })
}

/// Commits the new offsets, as nobody of the group.
async fn commit(
    session: &Session,
    group: &str,
    node: i32,
    rows: &mut [Row],
) -> Result<(), Failure> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (row, offset) in rows.iter().filter_map(|row| Some((row, row.new_offset?))) {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(row.partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        topics.entry(&row.topic).or_default().push(partition);
    }
    if topics.is_empty() {
        return Ok(());
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(topics.collect());
    let asked = async || {
        let build = |_| request.clone();
        session.cluster().ask(Target::Node(node), VersionRange::new(2, 9), build).await
    };
    let passes = |code: i16| ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable);
    let answer = Box::pin(session.patiently(asked, |answer| {
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.any(|row| passes(row.error_code))
    }))
    .await
    .map_err(|error| Failure::Failed(format!("group {group}: {error}")))?;
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

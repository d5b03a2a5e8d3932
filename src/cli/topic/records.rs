//! `tidegate topic delete-records`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use serde::{Deserialize, Serialize};

use super::super::args::topic::Until;
use super::super::input::read_file;
use super::super::output::{Align, Answer, Failure, Output, Table, column, note};
use super::super::places;
use super::super::session::{
    EARLIEST, LATEST, Offsets, Place, Session, Topic, explain, topic_name,
};
use super::super::when;
use crate::client::Target;

#[derive(Serialize)]
struct Deleted {
    /// Whether it was done, and not only told.
    executed: bool,
    partitions: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: i32,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    /// What stays begins here.
    new_start_offset: Option<i64>,
    error: Option<String>,
}

impl Answer for Deleted {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("TOPIC", Align::Left),
            column("PARTITION", Align::Right),
            column("START", Align::Right),
            column("END", Align::Right),
            column("NEW START", Align::Right),
            column("RESULT", Align::Left),
        ]);
        let or_dash =
            |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
        table.rows(self.partitions.iter().map(|row| {
            let gone = row.new_start_offset.zip(row.start_offset).map(|(new, start)| new - start);
            let gone = gone.unwrap_or(0).max(0);
            let result = match &row.error {
                Some(error) => error.clone(),
                None if self.executed => format!("{gone} offsets deleted"),
                None => format!("{gone} offsets would be deleted"),
            };
            let (topic, index) = (row.topic.clone(), row.partition.to_string());
            let (start, end) = (or_dash(row.start_offset), or_dash(row.end_offset));
            vec![topic, index, start, end, or_dash(row.new_start_offset), result]
        }));
        vec![(None, table)]
    }
}

/// What of a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Offset(i64),
    End,
    Time(i64),
}

/// Deletes records, or says which would go.
pub(super) async fn delete(
    session: &Session,
    output: Output,
    texts: &[String],
    until: &Until,
    execute: bool,
) -> Result<(), Failure> {
    let (topics, wanted) = wanted(session, texts, until).await?;
    let at = |timestamp: i64| wanted.keys().map(|place| (place.clone(), timestamp)).collect();
    let starts = Box::pin(session.offsets(&at(EARLIEST))).await;
    let ends = Box::pin(session.offsets(&at(LATEST))).await;
    let times = wanted.iter().filter_map(|(place, before)| match before {
        Before::Time(ms) => Some((place.clone(), *ms)),
        Before::Offset(_) | Before::End => None,
    });
    let times = Box::pin(session.offsets(&times.collect())).await;
    let mut rows: Vec<Row> = Vec::new();
    for (place, before) in &wanted {
        rows.push(row(place, *before, &starts, &ends, &times));
    }
    if execute {
        carry_out(session, &topics, &mut rows).await;
    }
    let failed = rows.iter().any(|row| row.error.is_some());
    output.print(&Deleted { executed: execute, partitions: rows })?;
    if !execute {
        note("nothing was deleted; --execute does it");
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

async fn wanted(
    session: &Session,
    texts: &[String],
    until: &Until,
) -> Result<(Vec<Topic>, BTreeMap<Place, Before>), Failure> {
    if let Some(file) = &until.from_file {
        let wanted = from_json(file, &read_file(file)?)?;
        let names: BTreeSet<String> = wanted.keys().map(|(topic, _)| topic.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        return Ok((session.topics(&names).await?, wanted));
    }
    let before = match (until.to_offset, &until.to_datetime) {
        (Some(offset), _) => Before::Offset(offset),
        (None, Some(text)) => Before::Time(when::datetime(text).ok_or_else(|| {
            Failure::Usage(format!("--to-datetime \"{text}\" {}", when::DATETIME))
        })?),
        (None, None) => Before::End,
    };
    let (topics, places) = places::find(session, texts).await?;
    Ok((topics, places.into_iter().map(|place| (place, before)).collect()))
}

/// The file of `kafka-delete-records --offset-json-file`.
#[derive(Deserialize)]
struct File {
    partitions: Vec<InFile>,
}

#[derive(Deserialize)]
struct InFile {
    topic: String,
    partition: i32,
    offset: i64,
}

fn from_json(path: &Path, text: &str) -> Result<BTreeMap<Place, Before>, Failure> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        Failure::Usage(format!(
            "{}: {error}; it must be such as {{\"partitions\": [{{\"topic\": \"orders\", \
             \"partition\": 0, \"offset\": 100}}]}}",
            path.display()
        ))
    })?;
    let mut wanted = BTreeMap::new();
    for InFile { topic, partition, offset } in file.partitions {
        // -1 is the end there.
        let before = if offset == -1 { Before::End } else { Before::Offset(offset) };
        if offset < -1 || wanted.insert((topic.clone(), partition), before).is_some() {
            return Err(Failure::Usage(format!(
                "{}: {topic}-{partition} with offset {offset}: each partition stands once, with an \
                 offset or -1 for its end",
                path.display()
            )));
        }
    }
    Ok(wanted)
}

fn row(place: &Place, before: Before, starts: &Offsets, ends: &Offsets, times: &Offsets) -> Row {
    let of = |offsets: &Offsets| match offsets.get(place) {
        Some(Ok(offset)) => Ok(*offset),
        Some(Err(reason)) => Err(reason.clone()),
        None => Err("the partition is not there".to_owned()),
    };
    let (start, end) = (of(starts), of(ends));
    let new = match before {
        Before::Offset(offset) => Ok(offset),
        Before::End => end.clone(),
        // Without a record of that time or later all go.
        Before::Time(_) => of(times).and_then(|it| if it < 0 { end.clone() } else { Ok(it) }),
    };
    let checked = new.and_then(|new| match end {
        Ok(end) if new > end => Err(format!("the partition ends at {end}, before {new}")),
        Ok(_) => Ok(new),
        Err(ref reason) => Err(reason.clone()),
    });
    Row {
        topic: place.0.clone(),
        partition: place.1,
        start_offset: start.ok(),
        end_offset: end.ok(),
        new_start_offset: checked.as_ref().ok().copied(),
        error: checked.err(),
    }
}

/// Asks each leader for its part.
async fn carry_out(session: &Session, topics: &[Topic], rows: &mut [Row]) {
    let mut by_node: BTreeMap<i32, Vec<&mut Row>> = BTreeMap::new();
    for row in rows.iter_mut().filter(|row| row.new_start_offset.is_some()) {
        let topic = topics.iter().find(|topic| topic.name == row.topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let partition = partitions.into_iter().find(|it| it.index == row.partition);
        match partition.and_then(|it| it.leader) {
            Some(leader) => by_node.entry(leader).or_default().push(row),
            None => row.error = Some("the partition has no leader".to_owned()),
        }
    }
    for (node, mut rows) in by_node {
        let mut wanted: BTreeMap<&str, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for row in &rows {
            let partition = DeleteRecordsPartition::default()
                .with_partition_index(row.partition)
                .with_offset(row.new_start_offset.unwrap_or(0));
            wanted.entry(&row.topic).or_default().push(partition);
        }
        let wanted = wanted.into_iter().map(|(topic, partitions)| {
            DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
        });
        let request = DeleteRecordsRequest::default()
            .with_topics(wanted.collect())
            .with_timeout_ms(session.timeout_ms());
        let answer = Box::pin(session.ask(Target::Node(node), &request)).await;
        for row in &mut rows {
            let told = answer.as_ref().map_err(ToString::to_string).map(|answer| {
                let topic = answer.topics.iter().find(|it| it.name.as_str() == row.topic);
                let partitions = topic.into_iter().flat_map(|it| &it.partitions);
                partitions.into_iter().find(|it| it.partition_index == row.partition)
            });
            row.error = match told {
                Ok(Some(told)) if told.error_code == 0 => {
                    row.new_start_offset = Some(told.low_watermark);
                    None
                }
                Ok(Some(told)) => Some(explain(told.error_code, None)),
                Ok(None) => Some("the leader did not say what became of it".to_owned()),
                Err(error) => Some(error),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        ("t".to_owned(), 0)
    }

    fn one(offset: i64) -> Offsets {
        [(place(), Ok(offset))].into()
    }

    #[test]
    fn records_go_up_to_what_was_said_and_never_behind_the_end() {
        let new = |before, time| {
            let row = row(&place(), before, &one(2), &one(10), &one(time));
            (row.new_start_offset, row.error.is_some())
        };
        assert_eq!(new(Before::Offset(5), -1), (Some(5), false));
        assert_eq!(new(Before::End, -1), (Some(10), false));
        assert_eq!(new(Before::Time(99), 7), (Some(7), false));
        assert_eq!(new(Before::Time(99), -1), (Some(10), false));
        assert_eq!(new(Before::Offset(11), -1), (None, true));
        let gone = row(&place(), Before::End, &Offsets::new(), &Offsets::new(), &Offsets::new());
        assert!(gone.error.is_some() && gone.start_offset.is_none());
    }

    #[test]
    fn the_file_is_the_one_of_kafkas_tool() {
        let path = Path::new("f.json");
        let text =
            r#"{"version": 1, "partitions": [{"topic": "t", "partition": 0, "offset": -1}]}"#;
        assert_eq!(from_json(path, text).unwrap(), [(place(), Before::End)].into());
        for wrong in [
            "",
            r#"{"partitions": [{"topic": "t", "partition": 0}]}"#,
            r#"{"partitions": [{"topic": "t", "partition": 0, "offset": -2}]}"#,
            r#"{"partitions": [{"topic": "t", "partition": 0, "offset": 1},
                               {"topic": "t", "partition": 0, "offset": 2}]}"#,
        ] {
            let Err(Failure::Usage(words)) = from_json(path, wrong) else { panic!("{wrong}") };
            assert!(words.starts_with("f.json: "), "{words}");
        }
    }
}

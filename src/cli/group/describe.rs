//! `tidegate group describe`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::args::group::Groups;
use super::super::output::{Align, Answer, Failure, Output, Table, column, complain};
use super::super::session::{LATEST, Place, Session};
use super::model::{self, Committed, Description, Member};

/// What is shown of a group to people; programs are shown everything.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) members: bool,
    pub(super) verbose: bool,
}

#[derive(Serialize)]
struct Described {
    groups: Vec<Group>,
    #[serde(skip)]
    shown: Shown,
}

#[derive(Serialize)]
struct Group {
    #[serde(flatten)]
    description: Description,
    /// What all partitions lag together, as far as it is known.
    lag: i64,
    offsets: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    /// The high watermark.
    end_offset: Option<i64>,
    lag: Option<i64>,
    metadata: Option<String>,
    /// Who reads it.
    member_id: Option<String>,
}

impl Answer for Described {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let table = |group: &Group| {
            let table = if self.shown.members {
                members(&group.description.members, self.shown.verbose)
            } else {
                offsets(group)
            };
            (Some(title(group, self.shown.verbose)), table)
        };
        self.groups.iter().map(table).collect()
    }
}

fn title(group: &Group, verbose: bool) -> String {
    let it = &group.description;
    let (members, lag) = (it.members.len(), group.lag);
    let more = if verbose {
        let assignor = it.assignor.as_deref().unwrap_or("-");
        format!("  type {}  coordinator {}  assignor {assignor}", it.kind, it.coordinator)
    } else {
        String::new()
    };
    format!("group {}  state {}  members {members}  lag {lag}{more}", it.group, it.state)
}

fn offsets(group: &Group) -> Table {
    let mut table = Table::new(vec![
        column("TOPIC", Align::Left),
        column("PARTITION", Align::Right),
        column("COMMITTED", Align::Right),
        column("END", Align::Right),
        column("LAG", Align::Right),
        column("MEMBER", Align::Left),
        column("HOST", Align::Left),
        column("CLIENT", Align::Left),
    ]);
    let members: BTreeMap<&str, &Member> =
        group.description.members.iter().map(|it| (it.member_id.as_str(), it)).collect();
    let or_dash = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    table.rows(group.offsets.iter().map(|row| {
        let member = row.member_id.as_deref().and_then(|id| members.get(id));
        let of_member = |field: fn(&Member) -> &String| {
            member.map_or_else(|| "-".to_owned(), |it| field(it).clone())
        };
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed_offset),
            or_dash(row.end_offset),
            or_dash(row.lag),
            of_member(|it| &it.member_id),
            of_member(|it| &it.host),
            of_member(|it| &it.client_id),
        ]
    }));
    table
}

fn members(members: &[Member], verbose: bool) -> Table {
    let mut columns = vec![
        column("MEMBER", Align::Left),
        column("INSTANCE", Align::Left),
        column("HOST", Align::Left),
        column("CLIENT", Align::Left),
        column("PARTITIONS", Align::Right),
    ];
    if verbose {
        columns.push(column("ASSIGNMENT", Align::Left));
    }
    let mut table = Table::new(columns);
    table.rows(members.iter().map(|it| {
        let count: usize = it.assignment.values().map(BTreeSet::len).sum();
        let instance = it.instance_id.clone().unwrap_or_else(|| "-".to_owned());
        let (id, host, client) = (it.member_id.clone(), it.host.clone(), it.client_id.clone());
        let mut cells = vec![id, instance, host, client, count.to_string()];
        if verbose {
            cells.push(assignment(it));
        }
        cells
    }));
    table
}

/// `orders:0,1 payments:3`, as `--topic` takes it.
fn assignment(member: &Member) -> String {
    let topics = member.assignment.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{topic}:{}", partitions.join(","))
    });
    let all = topics.collect::<Vec<_>>().join(" ");
    if all.is_empty() { "-".to_owned() } else { all }
}

/// Shows groups.
pub(super) async fn describe(
    session: &Session,
    output: Output,
    groups: &Groups,
    states: &[String],
    shown: Shown,
) -> Result<(), Failure> {
    let mut described = Vec::new();
    let mut outcome = Ok(());
    for (group, node) in model::meant(session, groups).await? {
        match one(session, &group, node).await {
            Ok(Some(found)) => described.push(found),
            // One that is listed and gone when it is asked for is no fault.
            Ok(None) if groups.all_groups => {}
            Ok(None) => return Err(model::missing(session, &group).await),
            Err(Failure::Failed(reason)) if groups.all_groups => {
                complain(reason);
                outcome = Err(Failure::Told);
            }
            Err(failure) => return Err(failure),
        }
    }
    let is_wanted = |group: &Group| {
        let state = &group.description.state;
        states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state))
    };
    described.retain(is_wanted);
    output.print(&Described { groups: described, shown })?;
    outcome
}

async fn one(session: &Session, group: &str, node: Option<i32>) -> Result<Option<Group>, Failure> {
    let Some(description) = Box::pin(model::describe(session, group, node)).await? else {
        return Ok(None);
    };
    let committed = model::committed(session, group, description.coordinator).await?;
    let members = readers(&description);
    let places: BTreeSet<Place> = committed.keys().chain(members.keys()).cloned().collect();
    let asked = places.iter().map(|place| (place.clone(), LATEST)).collect();
    let ends = Box::pin(session.offsets(&asked)).await;
    let end = |place: &Place| ends.get(place).and_then(|end| end.as_ref().ok()).copied();
    let offsets: Vec<Row> = places
        .iter()
        .map(|place| row(place, committed.get(place), end(place), members.get(place)))
        .collect();
    let lag = offsets.iter().filter_map(|row| row.lag).sum();
    Ok(Some(Group { description, lag, offsets }))
}

/// Who reads which partition.
fn readers(description: &Description) -> BTreeMap<Place, String> {
    let mut readers = BTreeMap::new();
    for member in &description.members {
        for (topic, partitions) in &member.assignment {
            for index in partitions {
                readers.insert((topic.clone(), *index), member.member_id.clone());
            }
        }
    }
    readers
}

fn row(
    (topic, index): &Place,
    committed: Option<&Committed>,
    end: Option<i64>,
    member: Option<&String>,
) -> Row {
    let offset = committed.map(|it| it.offset);
    Row {
        topic: topic.clone(),
        partition: *index,
        committed_offset: offset,
        end_offset: end,
        lag: end.zip(offset).map(|(end, offset)| end - offset),
        metadata: committed.map(|it| it.metadata.clone()).filter(|text| !text.is_empty()),
        member_id: member.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let member = |id: &str, partitions: &[i32]| Member {
            member_id: id.to_owned(),
            instance_id: None,
            client_id: "app".to_owned(),
            host: "/10.0.0.1".to_owned(),
            assignment: [("t".to_owned(), partitions.iter().copied().collect())].into(),
        };
        let description = Description {
            group: "g".to_owned(),
            kind: "classic",
            state: "Stable".to_owned(),
            assignor: Some("range".to_owned()),
            coordinator: 1,
            members: vec![member("m-1", &[0, 1])],
        };
        let readers = readers(&description);
        let place = |index: i32| ("t".to_owned(), index);
        let committed = Committed { offset: 7, metadata: String::new() };
        let rows = vec![
            row(&place(0), Some(&committed), Some(10), readers.get(&place(0))),
            row(&place(1), None, Some(4), readers.get(&place(1))),
            row(&place(2), Some(&committed), None, readers.get(&place(2))),
        ];
        Group { description, lag: 3, offsets: rows }
    }

    fn tables(shown: Shown) -> (String, String) {
        let described = Described { groups: vec![group()], shown };
        let (title, table) = described.tables().remove(0);
        (title.unwrap(), format!("{table:?}"))
    }

    #[test]
    fn lag_is_known_where_both_ends_of_it_are() {
        let lags: Vec<Option<i64>> = group().offsets.iter().map(|row| row.lag).collect();
        assert_eq!(lags, [Some(3), None, None]);
        let readers: Vec<bool> =
            group().offsets.iter().map(|row| row.member_id.is_some()).collect();
        assert_eq!(readers, [true, true, false]);
    }

    #[test]
    fn a_title_says_more_where_more_is_asked_for() {
        let (title, _) = tables(Shown { members: false, verbose: false });
        assert_eq!(title, "group g  state Stable  members 1  lag 3");
        let (title, table) = tables(Shown { members: true, verbose: true });
        assert!(title.ends_with("type classic  coordinator 1  assignor range"), "{title}");
        assert!(table.contains("t:0,1"), "{table}");
    }

    #[test]
    fn programs_are_told_by_documented_names() {
        let shown = Shown { members: false, verbose: false };
        let told = serde_json::to_value(Described { groups: vec![group()], shown }).unwrap();
        let group = &told["groups"][0];
        let fields: Vec<&String> = group.as_object().unwrap().keys().collect();
        let expected =
            ["assignor", "coordinator", "group", "lag", "members", "offsets", "state", "type"];
        assert_eq!(fields, expected);
        let fields: Vec<&String> = group["offsets"][0].as_object().unwrap().keys().collect();
        let expected = [
            "committed_offset",
            "end_offset",
            "lag",
            "member_id",
            "metadata",
            "partition",
            "topic",
        ];
        assert_eq!(fields, expected);
    }
}

//! Groups: which there are, who is in them, what they have committed. Each node is asked for all of
//! its groups at a time, since there may be many.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest, ListGroupsResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};

use super::super::session::{Place, Session, explain, group_id};
use super::cluster::Told;
use crate::client::{ClusterError, Target};
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

/// No more groups than this are asked for, the first by name.
const GROUPS_MAX: usize = 2_000;
/// So many are named in one request.
const GROUPS_AT_ONCE: usize = 200;
/// From this version on one request asks for the offsets of several groups.
const OFFSETS_OF_MANY: i16 = 8;

/// A group at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// Nothing from brokers before Kafka 3.8.
    pub(super) kind: Option<String>,
    /// Nothing where nobody told.
    pub(super) state: Option<String>,
    /// Nothing where nobody told.
    pub(super) members: Option<usize>,
    /// The node that has it.
    pub(super) coordinator: i32,
    /// Nothing where nobody told.
    pub(super) committed: Option<BTreeMap<Place, i64>>,
}

impl Group {
    /// Groups of other kinds have neither members nor offsets that these requests tell.
    fn is_of_consumers(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("classic" | "consumer"))
    }

    fn is_consumer(&self) -> bool {
        self.kind.as_deref() == Some("consumer")
    }
}

/// Asks `nodes` for their groups.
pub(super) async fn ask(session: &Session, nodes: &[i32], told: &mut Told) {
    let request = ListGroupsRequest::default();
    let request = &request;
    let listed = nodes.iter().map(|&node| async move {
        (node, Box::pin(session.ask(Target::Node(node), request)).await)
    });
    let mut groups = BTreeMap::new();
    for (node, answer) in join_all(listed).await {
        match answer {
            Ok(answer) if answer.error_code == 0 => {
                groups.extend(of_node(node, answer).map(|group| (group.name.clone(), group)));
            }
            Ok(answer) => {
                let reason = explain(answer.error_code, None);
                told.notes.push(format!("groups of node {node}: {reason}"));
            }
            Err(error) => told.notes.push(format!("groups of node {node}: {error}")),
        }
    }
    told.groups_omitted = groups.len().saturating_sub(GROUPS_MAX);
    let mut by_node: BTreeMap<i32, Vec<Group>> = BTreeMap::new();
    for group in groups.into_values().take(GROUPS_MAX) {
        by_node.entry(group.coordinator).or_default().push(group);
    }
    let asked = by_node.into_iter().map(|(node, groups)| of_coordinator(session, node, groups));
    for (groups, notes) in join_all(asked).await {
        told.groups.extend(groups);
        told.notes.extend(notes);
    }
    told.groups.sort_by(|a, b| a.name.cmp(&b.name));
}

fn of_node(node: i32, answer: ListGroupsResponse) -> impl Iterator<Item = Group> {
    answer.groups.into_iter().map(move |row| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Group {
            name: row.group_id.to_string(),
            // Kafka has written it in capitals, too.
            kind: some(&row.group_type).map(|kind| kind.to_ascii_lowercase()),
            state: some(&row.group_state),
            coordinator: node,
            ..Group::default()
        }
    })
}

/// Fills in what the coordinator of all these knows of them.
async fn of_coordinator(
    session: &Session,
    node: i32,
    mut groups: Vec<Group>,
) -> (Vec<Group>, Vec<String>) {
    let mut notes = Vec::new();
    for some in groups.chunks_mut(GROUPS_AT_ONCE) {
        let mut some: Vec<&mut Group> =
            some.iter_mut().filter(|group| group.is_of_consumers()).collect();
        let described = Box::pin(describe(session, node, &mut some)).await;
        let fetched = Box::pin(committed(session, node, &mut some)).await;
        for (what, outcome) in [("members", described), ("offsets", fetched)] {
            if let Err(error) = outcome {
                notes.push(format!("{what} of groups of node {node}: {error}"));
            }
        }
    }
    notes.sort();
    notes.dedup();
    (groups, notes)
}

/// States and numbers of members.
async fn describe(
    session: &Session,
    node: i32,
    groups: &mut [&mut Group],
) -> Result<(), ClusterError> {
    let target = Target::Node(node);
    let ids = |consumers: bool| {
        let wanted = groups.iter().filter(|group| group.is_consumer() == consumers);
        wanted.map(|group| group_id(&group.name)).collect::<Vec<_>>()
    };
    let (classic, consumers) = (ids(false), ids(true));
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    if !classic.is_empty() {
        let request = DescribeGroupsRequest::default().with_groups(classic);
        let answer = Box::pin(session.ask(target, &request)).await?;
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let told = (group.group_state.to_string(), group.members.len());
            found.insert(group.group_id.to_string(), told);
        }
    }
    if !consumers.is_empty() {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(consumers);
        let answer = Box::pin(session.ask(target, &request)).await?;
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let told = (group.group_state.to_string(), group.members.len());
            found.insert(group.group_id.to_string(), told);
        }
    }
    for group in groups {
        if let Some((state, members)) = found.remove(&group.name) {
            group.state = Some(state);
            group.members = Some(members);
        }
    }
    Ok(())
}

/// What groups have committed.
async fn committed(
    session: &Session,
    node: i32,
    groups: &mut [&mut Group],
) -> Result<(), ClusterError> {
    let all: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
    if all.is_empty() {
        return Ok(());
    }
    let of_many = VersionRange::new(OFFSETS_OF_MANY, 9);
    let build = |_| {
        let wanted = |name: &String| {
            OffsetFetchRequestGroup::default().with_group_id(group_id(name)).with_topics(None)
        };
        OffsetFetchRequest::default().with_groups(all.iter().map(wanted).collect())
    };
    let cluster = session.cluster();
    let mut found = match Box::pin(cluster.ask(Target::Node(node), of_many, build)).await {
        Ok(answer) => of_groups(answer),
        Err(ClusterError::Version { .. }) => one_by_one(session, node, &all).await?,
        Err(error) => return Err(error),
    };
    for group in groups {
        group.committed = found.remove(&group.name);
    }
    Ok(())
}

/// What brokers before Kafka 3.0 are asked.
async fn one_by_one(
    session: &Session,
    node: i32,
    groups: &[String],
) -> Result<BTreeMap<String, BTreeMap<Place, i64>>, ClusterError> {
    // Before version 2 not every topic could be asked for at once.
    let versions = VersionRange::new(2, OFFSETS_OF_MANY - 1);
    let mut found = BTreeMap::new();
    for group in groups {
        let build =
            |_| OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
        let asked = session.cluster().ask(Target::Node(node), versions, build);
        let answer = Box::pin(asked).await?;
        found.extend(alone(answer).map(|offsets| (group.clone(), offsets)));
    }
    Ok(found)
}

/// The offsets of each group that the coordinator tells of.
fn of_groups(answer: OffsetFetchResponse) -> BTreeMap<String, BTreeMap<Place, i64>> {
    let told = answer.groups.into_iter().filter_map(|group| {
        // A group without offsets may be one that is not there, in the eyes of some.
        let is_told =
            group.error_code == 0 || group.error_code == ErrorCode::GroupIdNotFound.code();
        is_told.then_some(())?;
        let rows = group.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let rows = topic.partitions.into_iter();
            rows.map(move |row| ((name.clone(), row.partition_index), row.committed_offset))
        });
        Some((group.group_id.to_string(), rows.filter(|(_, offset)| *offset >= 0).collect()))
    });
    told.collect()
}

/// The same of an answer that is about one group.
fn alone(answer: OffsetFetchResponse) -> Option<BTreeMap<Place, i64>> {
    if answer.error_code != 0 {
        return None;
    }
    let rows = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        let rows = topic.partitions.into_iter();
        rows.map(move |row| ((name.clone(), row.partition_index), row.committed_offset))
    });
    Some(rows.filter(|(_, offset)| *offset >= 0).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_groups_response::ListedGroup;
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };

    use super::super::super::session::{text, topic_name};
    use super::*;

    #[test]
    fn a_listed_group_is_as_much_as_the_broker_tells() {
        let old = ListedGroup::default().with_group_id(group_id("old"));
        let new = ListedGroup::default()
            .with_group_id(group_id("new"))
            .with_group_type(text("Consumer"))
            .with_group_state(text("Stable"));
        let share =
            ListedGroup::default().with_group_id(group_id("s")).with_group_type(text("share"));
        let answer = ListGroupsResponse::default().with_groups(vec![old, new, share]);
        let groups: Vec<Group> = of_node(3, answer).collect();
        assert_eq!((&groups[0].kind, &groups[0].state), (&None, &None));
        assert!(groups[0].is_of_consumers() && !groups[0].is_consumer());
        assert!(groups[1].is_of_consumers() && groups[1].is_consumer());
        assert_eq!(groups[1].state.as_deref(), Some("Stable"));
        assert!(!groups[2].is_of_consumers());
        assert!(groups.iter().all(|group| group.coordinator == 3));
    }

    #[test]
    fn offsets_that_are_none_are_left_out() {
        let rows = [(0, 7), (1, -1)];
        let new = rows.map(|(index, offset)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
        });
        let old = rows.map(|(index, offset)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
        });
        let topic = OffsetFetchResponseTopics::default()
            .with_name(topic_name("t"))
            .with_partitions(new.to_vec());
        let told = OffsetFetchResponseGroup::default()
            .with_group_id(group_id("g"))
            .with_topics(vec![topic]);
        let refused =
            OffsetFetchResponseGroup::default().with_group_id(group_id("h")).with_error_code(30);
        let expected: BTreeMap<Place, i64> = [(("t".to_owned(), 0), 7)].into();
        let many = OffsetFetchResponse::default().with_groups(vec![told, refused]);
        assert_eq!(of_groups(many), [("g".to_owned(), expected.clone())].into());
        let topic = OffsetFetchResponseTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(old.to_vec());
        let one = OffsetFetchResponse::default().with_topics(vec![topic]);
        assert_eq!(alone(one.clone()), Some(expected));
        assert_eq!(alone(one.with_error_code(30)), None);
    }
}

//! What groups are and where they are: asked of every node, of coordinators, and read from what
//! members say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::consumer_group_describe_response as consumer;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetFetchRequest,
    OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;

use super::super::args::group::Groups;
use super::super::output::{Failure, complain};
use super::super::session::{Place, Session, explain, group_id, text};
use crate::client::{ClusterError, Target};
use crate::config::nearest;
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

/// A group as a node lists it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listed {
    pub(super) group: String,
    /// Nothing from brokers before Kafka 3.8.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// Nothing from brokers before Kafka 2.6.
    pub(super) state: Option<String>,
    pub(super) protocol: String,
    /// The node that has it.
    pub(super) coordinator: i32,
}

/// Where a group is and who is in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Description {
    pub(super) group: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) state: String,
    /// How partitions are shared out.
    pub(super) assignor: Option<String>,
    pub(super) coordinator: i32,
    pub(super) members: Vec<Member>,
}

/// A member.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "Kafka's names, and those of the output")]
pub(super) struct Member {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    /// What it reads, by topic.
    pub(super) assignment: BTreeMap<String, BTreeSet<i32>>,
}

impl Description {
    /// Whether nobody is in it, so that its offsets are its own.
    pub(super) fn is_inactive(&self) -> bool {
        self.state == "Empty" || self.state == "Dead"
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    pub(super) metadata: String,
}

/// Every group in one of these states and of one of these types, or in any. What a node did not
/// tell is said, and makes the second part an error.
pub(super) async fn list(
    session: &Session,
    states: &[String],
    types: &[String],
) -> Result<(Vec<Listed>, Result<(), Failure>), Failure> {
    session.cluster().metadata(Some(&[]), false).await.map_err(Failure::failed)?;
    let words = |words: &[String]| words.iter().map(|word| text(word)).collect::<Vec<StrBytes>>();
    let mut found = BTreeMap::new();
    let mut told = Ok(());
    for node in session.cluster().nodes().into_keys() {
        // Filters are of versions 4 and 5; what older brokers answer is looked at below.
        let build = |version: i16| {
            let request = ListGroupsRequest::default();
            let request =
                if version < 4 { request } else { request.with_states_filter(words(states)) };
            if version < 5 { request } else { request.with_types_filter(words(types)) }
        };
        let versions = VersionRange::new(0, 5);
        let asked = async || session.cluster().ask(Target::Node(node), versions, build).await;
        let is_loading = |code: i16| code == ErrorCode::CoordinatorLoadInProgress.code();
        let answer = session.patiently(asked, |answer| is_loading(answer.error_code)).await;
        let answer = match answer {
            Ok(answer) if answer.error_code == 0 => answer,
            Ok(answer) => {
                complain(format_args!(
                    "the groups of node {node} are unknown: {}",
                    explain(answer.error_code, None)
                ));
                told = Err(Failure::Told);
                continue;
            }
            Err(error) => {
                complain(format_args!("the groups of node {node} are unknown: {error}"));
                told = Err(Failure::Told);
                continue;
            }
        };
        for group in answer.groups {
            let some = |text: &StrBytes| (!text.is_empty()).then(|| text.to_string());
            let listed = Listed {
                group: group.group_id.to_string(),
                kind: some(&group.group_type),
                state: some(&group.group_state),
                protocol: group.protocol_type.to_string(),
                coordinator: node,
            };
            if is_one_of(listed.state.as_ref(), states) && is_one_of(listed.kind.as_ref(), types) {
                found.insert(listed.group.clone(), listed);
            }
        }
    }
    Ok((found.into_values().collect(), told))
}

/// Whether it is among those that are wanted, if any are. Nobody knows of what was not told.
fn is_one_of(text: Option<&String>, wanted: &[String]) -> bool {
    let is = |wanted: &String| text.is_none_or(|text| text.eq_ignore_ascii_case(wanted));
    wanted.is_empty() || wanted.iter().any(is)
}

/// The groups that are meant, with the node that has each where that is known.
pub(super) async fn meant(
    session: &Session,
    groups: &Groups,
) -> Result<Vec<(String, Option<i32>)>, Failure> {
    if !groups.all_groups {
        return Ok(groups.groups.iter().map(|group| (group.clone(), None)).collect());
    }
    let (listed, told) = list(session, &[], &[]).await?;
    told?;
    let consumers =
        listed.into_iter().filter(|it| it.protocol == "consumer" || it.protocol.is_empty());
    Ok(consumers.map(|it| (it.group, Some(it.coordinator))).collect())
}

/// Asks a group's coordinator, at `node` where that is known. `None` is a group that is not there.
pub(super) async fn describe(
    session: &Session,
    group: &str,
    node: Option<i32>,
) -> Result<Option<Description>, Failure> {
    let coordinator = match node {
        Some(node) => node,
        None => session.coordinator(group).await?,
    };
    let target = Target::Node(coordinator);
    if let Some(found) = describe_consumers(session, group, coordinator).await? {
        return Ok(Some(found));
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let answer = Box::pin(session.ask_patiently(target, &request, |answer| {
        answer.groups.first().map_or(0, |group| group.error_code)
    }))
    .await
    .map_err(Failure::failed)?;
    match answer.groups.into_iter().next() {
        Some(found) if found.error_code == 0 && found.group_state.as_str() != "Dead" => {
            Ok(Some(classic(found, coordinator)))
        }
        Some(found) if found.error_code != 0 && !is_missing(found.error_code) => {
            let reason = explain(found.error_code, found.error_message.as_ref());
            Err(Failure::Failed(format!("group {group}: {reason}")))
        }
        _ => Ok(None),
    }
}

fn is_missing(code: i16) -> bool {
    code == ErrorCode::GroupIdNotFound.code()
}

/// A group of the protocol that brokers share partitions out in (KIP-848), if it is one.
async fn describe_consumers(
    session: &Session,
    group: &str,
    node: i32,
) -> Result<Option<Description>, Failure> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let asked = Box::pin(session.ask_patiently(Target::Node(node), &request, |answer| {
        answer.groups.first().map_or(0, |group| group.error_code)
    }))
    .await;
    let answer = match asked {
        Ok(answer) => answer,
        Err(ClusterError::Version { .. }) => return Ok(None),
        Err(error) => return Err(Failure::failed(error)),
    };
    let Some(found) = answer.groups.into_iter().next() else { return Ok(None) };
    let other = [ErrorCode::GroupIdNotFound, ErrorCode::UnsupportedVersion];
    if other.iter().any(|code| code.code() == found.error_code) {
        return Ok(None);
    }
    if found.error_code != 0 {
        let reason = explain(found.error_code, found.error_message.as_ref());
        return Err(Failure::Failed(format!("group {group}: {reason}")));
    }
    let members = found.members.into_iter().map(|member| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: of_consumer(member.assignment),
    });
    Ok(Some(Description {
        group: group.to_owned(),
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: some(&found.assignor_name),
        coordinator: node,
        members: members.collect(),
    }))
}

fn of_consumer(assignment: consumer::Assignment) -> BTreeMap<String, BTreeSet<i32>> {
    let topics = assignment.topic_partitions.into_iter();
    topics.map(|it| (it.topic_name.to_string(), it.partitions.into_iter().collect())).collect()
}

fn some(text: &StrBytes) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

fn classic(group: DescribedGroup, coordinator: i32) -> Description {
    let is_consumers = group.protocol_type.as_str() == "consumer";
    let member = |member: DescribedGroupMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        // What other protocols put there, such as Connect's, is theirs to read.
        assignment: Some(member.member_assignment)
            .filter(|_| is_consumers)
            .and_then(assignment)
            .unwrap_or_default(),
    };
    Description {
        group: group.group_id.to_string(),
        kind: "classic",
        state: group.group_state.to_string(),
        assignor: some(&group.protocol_data),
        coordinator,
        members: group.members.into_iter().map(member).collect(),
    }
}

/// Reads what a consumer was assigned: `ConsumerProtocolAssignment` of Kafka, of which every
/// version begins as version 0. Nothing where it is none.
fn assignment(mut bytes: Bytes) -> Option<BTreeMap<String, BTreeSet<i32>>> {
    let _version = bytes.try_get_i16().ok()?;
    let topics = bytes.try_get_i32().ok()?;
    let mut found = BTreeMap::new();
    for _ in 0..topics {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if bytes.remaining() < length {
            return None;
        }
        let topic = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
        let count = bytes.try_get_i32().ok()?;
        let mut partitions = BTreeSet::new();
        // Each takes bytes, so a count that is a lie ends with them.
        for _ in 0..count {
            partitions.insert(bytes.try_get_i32().ok()?);
        }
        found.insert(topic, partitions);
    }
    Some(found)
}

/// What a group has committed, by partition.
pub(super) async fn committed(
    session: &Session,
    group: &str,
    node: i32,
) -> Result<BTreeMap<Place, Committed>, Failure> {
    // Before version 2 not every topic could be asked for at once.
    let versions = VersionRange::new(2, 9);
    let build = |version: i16| {
        if version < 8 {
            return OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
        }
        let of =
            OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
        OffsetFetchRequest::default().with_groups(vec![of])
    };
    let asked = async || session.cluster().ask(Target::Node(node), versions, build).await;
    let is_passing = |answer: &OffsetFetchResponse| {
        ErrorCode::from_code(fault(answer)).is_some_and(ErrorCode::is_retriable)
    };
    let answer = Box::pin(session.patiently(asked, is_passing)).await.map_err(Failure::failed)?;
    let code = fault(&answer);
    if is_missing(code) {
        return Ok(BTreeMap::new());
    }
    if code != 0 {
        return Err(Failure::Failed(format!("group {group}: {}", explain(code, None))));
    }
    Ok(rows(answer).filter(|(_, committed)| committed.offset >= 0).collect())
}

/// The error of all, or the first of a partition.
fn fault(answer: &OffsetFetchResponse) -> i16 {
    let of_group = answer.groups.iter().flat_map(|group| {
        let rows = group.topics.iter().flat_map(|topic| &topic.partitions);
        std::iter::once(group.error_code).chain(rows.map(|row| row.error_code))
    });
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let of_rows = rows.map(|row| row.error_code);
    let all = std::iter::once(answer.error_code).chain(of_group).chain(of_rows);
    all.into_iter().find(|code| *code != 0).unwrap_or(0)
}

fn rows(answer: OffsetFetchResponse) -> impl Iterator<Item = (Place, Committed)> {
    let row = |topic: String, index, offset, metadata: Option<StrBytes>| {
        let metadata = metadata.map(|text| text.to_string()).unwrap_or_default();
        ((topic, index), Committed { offset, metadata })
    };
    let of_groups =
        answer.groups.into_iter().flat_map(|group| group.topics).flat_map(move |topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |it| {
                row(name.clone(), it.partition_index, it.committed_offset, it.metadata)
            })
        });
    let of_one = answer.topics.into_iter().flat_map(move |topic| {
        let name = topic.name.to_string();
        topic
            .partitions
            .into_iter()
            .map(move |it| row(name.clone(), it.partition_index, it.committed_offset, it.metadata))
    });
    of_groups.chain(of_one)
}

/// That a group is not there, with the one that was meant.
pub(super) async fn missing(session: &Session, group: &str) -> Failure {
    let known = match list(session, &[], &[]).await {
        Ok((known, _)) => known,
        Err(_) => Vec::new(),
    };
    let hint = match nearest(group, known.iter().map(|it| it.group.as_str())) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`tidegate group list` names those that are".to_owned(),
    };
    Failure::Failed(format!("group {group} is not there; {hint}"))
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn assigned(topics: i32, partitions: i32, given: &[i32]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(3);
        bytes.put_i32(topics);
        bytes.put_i16(1);
        bytes.put_slice(b"t");
        bytes.put_i32(partitions);
        for index in given {
            bytes.put_i32(*index);
        }
        bytes.freeze()
    }

    #[test]
    fn an_assignment_is_read_and_what_lies_is_none() {
        let mut with_user_data = BytesMut::from(&assigned(1, 2, &[4, 1])[..]);
        with_user_data.put_i32(-1);
        let expected = [("t".to_owned(), [1, 4].into())].into();
        assert_eq!(assignment(with_user_data.freeze()), Some(expected));
        assert_eq!(assignment(Bytes::new()), None);
        assert_eq!(assignment(assigned(1, i32::MAX, &[1])), None);
        assert_eq!(assignment(assigned(i32::MAX, 1, &[1])), None);
        assert_eq!(assignment(assigned(0, 0, &[])), Some(BTreeMap::new()));
    }

    #[test]
    fn a_filter_takes_what_it_names_and_what_nobody_knows() {
        let wanted = ["Stable".to_owned()];
        let stable = "stable".to_owned();
        assert!(is_one_of(Some(&stable), &wanted) && is_one_of(None, &wanted));
        assert!(!is_one_of(Some(&"Empty".to_owned()), &wanted));
        assert!(is_one_of(Some(&stable), &[]));
    }
}

//! A group of one member.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::client::Client;
use crate::harness::topology::topic_name;

const MEMBER_ID_REQUIRED: i16 = 79;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Joins, is given work, commits, asks what was committed, and leaves.
pub fn a_member_comes_commits_and_goes(client: &mut Client, topic: &str) {
    let group = format!("group-of-{topic}");
    let coordinator = client.coordinator(&group, 0);
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"what a member says"));
    let join = JoinGroupRequest::default()
        .with_group_id(group_id(&group))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("harness"))
        .with_protocols(vec![protocol]);
    let first = client.until_ready(&coordinator, 5, &join, |answer| answer.error_code);
    assert_eq!(first.error_code, MEMBER_ID_REQUIRED, "{first:?}");
    let member = first.member_id;
    let joined = client.ask_at(&coordinator, 5, &join.with_member_id(member.clone()));
    assert_eq!((joined.error_code, &joined.leader), (0, &member), "{joined:?}");
    let generation = joined.generation_id;

    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"what it is given"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group_id(&group))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    let synced = client.ask_at(&coordinator, 3, &sync);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"what it is given"[..]));
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(group_id(&group))
        .with_generation_id(generation)
        .with_member_id(member.clone());
    assert_eq!(client.ask_at(&coordinator, 3, &heartbeat).error_code, 0);

    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(41)
        .with_committed_metadata(Some(text("read")));
    let of_topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group_id(&group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member.clone())
        .with_topics(vec![of_topic]);
    let committed = client.ask_at(&coordinator, 7, &commit);
    assert_eq!(committed.topics[0].partitions[0].error_code, 0, "{committed:?}");
    assert_eq!(committed_offset(client, &group, topic), 41);

    let identity = MemberIdentity::default().with_member_id(member);
    let leave =
        LeaveGroupRequest::default().with_group_id(group_id(&group)).with_members(vec![identity]);
    assert_eq!(client.ask_at(&coordinator, 3, &leave).error_code, 0);
}

/// What a group has committed for partition 0.
pub fn committed_offset(client: &mut Client, group: &str, topic: &str) -> i64 {
    let coordinator = client.coordinator(group, 0);
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_require_stable(true)
        .with_topics(Some(vec![asked]));
    let answer = client.ask_at(&coordinator, 7, &request);
    assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{answer:?}");
    answer.topics[0].partitions[0].committed_offset
}

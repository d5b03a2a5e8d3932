//! No API is advertised without an answer: every key and version that `ApiVersions` lists gets one
//! live call, whose response is decoded to its last byte ([`Wire::receive`] holds that).

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProducerId, SyncGroupRequest,
};
use tidegate::protocol::versions::{APIS, Api};
use uuid::Uuid;

use crate::admin;
use crate::harness::{Broker, Options, Wire};
use crate::hostile::frame;
use crate::requests::{
    Fetch, NONE, api_versions, create_topic, produce, produce_request, produced, record, text,
    topic_name,
};

const MEMBER_ID_REQUIRED: i16 = 79;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const LOAD_TRIES: usize = 10_000;
const GROUP: &str = "g";
pub(crate) const TOPIC: &str = "a";

/// What the calls work with.
pub(crate) struct Bench {
    /// The connection.
    pub(crate) wire: Wire,
    /// The id of [`TOPIC`].
    pub(crate) topic_id: Uuid,
}

/// A member of a group in its first generation.
struct Member {
    group: GroupId,
    id: String,
    generation: i32,
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn join_request(version: i16, name: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 { request.with_rebalance_timeout_ms(60_000) } else { request }
}

impl Bench {
    /// Joins a new group as its only member.
    fn join(&mut self, version: i16, name: &str) -> Member {
        let mut id = String::new();
        let joined = (0..LOAD_TRIES)
            .map(|_| {
                let joined = self.wire.call(version, &join_request(version, name, &id));
                if joined.error_code == MEMBER_ID_REQUIRED {
                    assert!(version >= 4);
                    id = joined.member_id.to_string();
                }
                joined
            })
            .find(|joined| {
                ![MEMBER_ID_REQUIRED, COORDINATOR_LOAD_IN_PROGRESS].contains(&joined.error_code)
            })
            .expect("the coordinator loads");
        assert_eq!(joined.error_code, NONE);
        assert_eq!(joined.leader, joined.member_id);
        let (id, generation) = (joined.member_id.to_string(), joined.generation_id);
        Member { group: group(name), id, generation }
    }

    fn sync(&mut self, version: i16, member: &Member) {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text(&member.id))
            .with_assignment(Bytes::from_static(b"all"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(member.group.clone())
            .with_generation_id(member.generation)
            .with_member_id(text(&member.id))
            .with_assignments(vec![assignment]);
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        let synced = self.wire.call(version, &request);
        assert_eq!((synced.error_code, &synced.assignment[..]), (NONE, b"all".as_slice()));
    }

    /// A member of a group that is stable.
    fn stable(&mut self, name: &str) -> Member {
        let member = self.join(9, name);
        self.sync(5, &member);
        member
    }

    fn leave(&mut self, version: i16, member: &Member) {
        let request = LeaveGroupRequest::default().with_group_id(member.group.clone());
        let request = if version >= 3 {
            let leaver = MemberIdentity::default().with_member_id(text(&member.id));
            request.with_members(vec![leaver])
        } else {
            request.with_member_id(text(&member.id))
        };
        let left = self.wire.call(version, &request);
        assert_eq!(left.error_code, NONE);
        assert!(left.members.iter().all(|member| member.error_code == NONE));
    }

    fn commit(&mut self, version: i16, name: &str) {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("here")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let code = (0..LOAD_TRIES)
            .map(|_| self.wire.call(version, &request).topics[0].partitions[0].error_code)
            .find(|code| *code != COORDINATOR_LOAD_IN_PROGRESS);
        assert_eq!(code, Some(NONE));
    }
}

fn call_produce(bench: &mut Bench, version: i16) {
    let mut request = produce_request(TOPIC, 0, -1, record(10));
    if version >= 13 {
        request.topic_data[0].name = topic_name("");
        request.topic_data[0].topic_id = bench.topic_id;
    }
    assert_eq!(produced(&bench.wire.call(version, &request)).error_code, NONE);
}

fn call_fetch(bench: &mut Bench, version: i16) {
    let mut request = Fetch::at(0).request(TOPIC);
    if version >= 13 {
        request.topics[0].topic = topic_name("");
        request.topics[0].topic_id = bench.topic_id;
    }
    if version < 7 {
        request.session_epoch = 0;
    }
    let response = bench.wire.call(version, &request);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((response.error_code, partition.error_code), (NONE, NONE));
    assert!(partition.records.as_ref().is_some_and(|records| records.len() > 61));
}

fn call_list_offsets(bench: &mut Bench, version: i16) {
    let partition =
        ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(-2);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let response = bench.wire.call(version, &request);
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.offset), (NONE, 0));
}

fn call_metadata(bench: &mut Bench, version: i16) {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(version < 4);
    let response = bench.wire.call(version, &request);
    assert_eq!((response.brokers.len(), response.topics[0].partitions.len()), (1, 1));
    assert_eq!(response.topics[0].error_code, NONE);
}

fn call_offset_commit(bench: &mut Bench, version: i16) {
    bench.commit(version, &format!("commit-{version}"));
}

fn call_offset_fetch(bench: &mut Bench, version: i16) {
    bench.commit(9, GROUP);
    let request = if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name(TOPIC))
            .with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(GROUP))
            .with_topics(Some(vec![topic]));
        OffsetFetchRequest::default().with_groups(vec![asked])
    } else {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partition_indexes(vec![0]);
        OffsetFetchRequest::default().with_group_id(group(GROUP)).with_topics(Some(vec![topic]))
    };
    let response = bench.wire.call(version, &request);
    let offset = if version >= 8 {
        response.groups[0].topics[0].partitions[0].committed_offset
    } else {
        response.topics[0].partitions[0].committed_offset
    };
    assert_eq!(offset, 1);
}

fn call_find_coordinator(bench: &mut Bench, version: i16) {
    let request = FindCoordinatorRequest::default();
    let request = if version >= 4 {
        request.with_coordinator_keys(vec![text(GROUP)])
    } else {
        request.with_key(text(GROUP))
    };
    let response = bench.wire.call(version, &request);
    let (code, port) = match response.coordinators.first() {
        Some(found) if version >= 4 => (found.error_code, found.port),
        _ => (response.error_code, response.port),
    };
    assert_eq!(code, NONE);
    assert!(port > 0);
}

fn call_join_group(bench: &mut Bench, version: i16) {
    bench.join(version, &format!("join-{version}"));
}

fn call_heartbeat(bench: &mut Bench, version: i16) {
    let member = bench.stable(&format!("heartbeat-{version}"));
    let request = HeartbeatRequest::default()
        .with_group_id(member.group)
        .with_generation_id(member.generation)
        .with_member_id(text(&member.id));
    assert_eq!(bench.wire.call(version, &request).error_code, NONE);
}

fn call_leave_group(bench: &mut Bench, version: i16) {
    let member = bench.stable(&format!("leave-{version}"));
    bench.leave(version, &member);
}

fn call_sync_group(bench: &mut Bench, version: i16) {
    let member = bench.join(9, &format!("sync-{version}"));
    bench.sync(version, &member);
}

fn call_describe_groups(bench: &mut Bench, version: i16) {
    let member = bench.stable(&format!("describe-{version}"));
    let request = DescribeGroupsRequest::default().with_groups(vec![member.group]);
    let response = bench.wire.call(version, &request);
    let group = &response.groups[0];
    assert_eq!((group.error_code, group.members.len()), (NONE, 1));
    assert_eq!(group.group_state.as_str(), "Stable");
}

fn call_list_groups(bench: &mut Bench, version: i16) {
    bench.commit(9, GROUP);
    // Every coordinator partition loads first, which admin clients wait for.
    let response = (0..LOAD_TRIES)
        .map(|_| bench.wire.call(version, &ListGroupsRequest::default()))
        .find(|response| response.error_code != COORDINATOR_LOAD_IN_PROGRESS)
        .expect("the coordinator loads");
    assert_eq!(response.error_code, NONE);
    assert!(response.groups.iter().any(|listed| listed.group_id == group(GROUP)));
}

fn call_api_versions(bench: &mut Bench, version: i16) {
    let request = if version >= 3 { api_versions() } else { ApiVersionsRequest::default() };
    let response = bench.wire.call(version, &request);
    assert_eq!((response.error_code, response.api_keys.len()), (NONE, APIS.len()));
}

fn call_create_topics(bench: &mut Bench, version: i16) {
    let name = format!("create-{version}");
    let topic = CreatableTopic::default()
        .with_name(topic_name(&name))
        .with_num_partitions(2)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = bench.wire.call(version, &request);
    assert_eq!(response.topics[0].error_code, NONE);
    assert_eq!(response.topics[0].name, topic_name(&name));
}

fn call_delete_topics(bench: &mut Bench, version: i16) {
    let name = format!("delete-{version}");
    create_topic(&mut bench.wire, &name, 1);
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
    let request = if version >= 6 {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(&name)));
        request.with_topics(vec![topic])
    } else {
        request.with_topic_names(vec![topic_name(&name)])
    };
    assert_eq!(bench.wire.call(version, &request).responses[0].error_code, NONE);
}

fn call_delete_records(bench: &mut Bench, version: i16) {
    let name = format!("records-{version}");
    create_topic(&mut bench.wire, &name, 1);
    assert_eq!(produce(&mut bench.wire, &name, record(10)), (NONE, 0));
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = bench.wire.call(version, &request);
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.low_watermark), (NONE, 1));
}

fn call_init_producer_id(bench: &mut Bench, version: i16) {
    let mut request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);
    if version >= 3 {
        request.producer_id = ProducerId(-1);
        request.producer_epoch = -1;
    }
    let response = bench.wire.call(version, &request);
    assert_eq!((response.error_code, response.producer_epoch), (NONE, 0));
    assert!(response.producer_id.0 >= 1 << 48);
}

fn call_offset_for_leader_epoch(bench: &mut Bench, version: i16) {
    let partition = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(-1)
        .with_leader_epoch(i32::MAX - 1);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    if version >= 3 {
        request.replica_id = BrokerId(-1);
    }
    let response = bench.wire.call(version, &request);
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.end_offset), (NONE, -1));
}

fn call_create_partitions(bench: &mut Bench, version: i16) {
    let name = format!("partitions-{version}");
    create_topic(&mut bench.wire, &name, 1);
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(&name))
        .with_count(3)
        .with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(bench.wire.call(version, &request).results[0].error_code, NONE);
}

fn call_delete_groups(bench: &mut Bench, version: i16) {
    let name = format!("gone-{version}");
    bench.commit(9, &name);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
    assert_eq!(bench.wire.call(version, &request).results[0].error_code, NONE);
}

fn call_offset_delete(bench: &mut Bench, version: i16) {
    let name = format!("offsets-{version}");
    bench.commit(9, &name);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    let request =
        OffsetDeleteRequest::default().with_group_id(group(&name)).with_topics(vec![topic]);
    let response = bench.wire.call(version, &request);
    assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (NONE, NONE));
}

fn call_describe_cluster(bench: &mut Bench, version: i16) {
    let response = bench.wire.call(version, &DescribeClusterRequest::default());
    assert_eq!((response.error_code, response.brokers.len()), (NONE, 1));
    assert_eq!(response.controller_id, response.brokers[0].broker_id);
}

/// Calls a version of an API and judges the answer.
type Call = fn(&mut Bench, i16);

/// The call of each API.
const CALLS: [(ApiKey, Call); 34] = [
    (ApiKey::Produce, call_produce),
    (ApiKey::Fetch, call_fetch),
    (ApiKey::ListOffsets, call_list_offsets),
    (ApiKey::Metadata, call_metadata),
    (ApiKey::OffsetCommit, call_offset_commit),
    (ApiKey::OffsetFetch, call_offset_fetch),
    (ApiKey::FindCoordinator, call_find_coordinator),
    (ApiKey::JoinGroup, call_join_group),
    (ApiKey::Heartbeat, call_heartbeat),
    (ApiKey::LeaveGroup, call_leave_group),
    (ApiKey::SyncGroup, call_sync_group),
    (ApiKey::DescribeGroups, call_describe_groups),
    (ApiKey::ListGroups, call_list_groups),
    (ApiKey::ApiVersions, call_api_versions),
    (ApiKey::CreateTopics, call_create_topics),
    (ApiKey::DeleteTopics, call_delete_topics),
    (ApiKey::DeleteRecords, call_delete_records),
    (ApiKey::InitProducerId, call_init_producer_id),
    (ApiKey::OffsetForLeaderEpoch, call_offset_for_leader_epoch),
    (ApiKey::DescribeConfigs, admin::describe_configs),
    (ApiKey::AlterConfigs, admin::alter_configs),
    (ApiKey::DescribeLogDirs, admin::describe_log_dirs),
    (ApiKey::CreatePartitions, call_create_partitions),
    (ApiKey::DeleteGroups, call_delete_groups),
    (ApiKey::ElectLeaders, admin::elect_leaders),
    (ApiKey::IncrementalAlterConfigs, admin::incremental_alter_configs),
    (ApiKey::AlterPartitionReassignments, admin::alter_partition_reassignments),
    (ApiKey::ListPartitionReassignments, admin::list_partition_reassignments),
    (ApiKey::OffsetDelete, call_offset_delete),
    (ApiKey::DescribeQuorum, admin::describe_quorum),
    (ApiKey::UpdateFeatures, admin::update_features),
    (ApiKey::DescribeCluster, call_describe_cluster),
    (ApiKey::ListConfigResources, admin::list_config_resources),
    (ApiKey::DescribeTopicPartitions, admin::describe_topic_partitions),
];

fn bench(broker: &Broker) -> Bench {
    let mut wire = broker.connect();
    create_topic(&mut wire, TOPIC, 1);
    assert_eq!(produce(&mut wire, TOPIC, record(10)), (NONE, 0));
    // As every client does before it speaks to a group's coordinator; it creates the offsets' topic.
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, NONE);
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let described = wire.call(12, &MetadataRequest::default().with_topics(Some(vec![topic])));
    Bench { wire, topic_id: described.topics[0].topic_id }
}

#[test]
fn every_advertised_version_of_every_api_is_answered() {
    let options = Options::new().set("group.initial.rebalance.delay.ms", 0);
    let broker = Broker::start_with(options);
    let mut bench = bench(&broker);
    let listed = bench.wire.call(4, &api_versions()).api_keys;
    assert_eq!(listed.len(), APIS.len());
    for api in &listed {
        let Api { name, advertised, served, key } = *APIS
            .iter()
            .find(|known| known.key as i16 == api.api_key)
            .expect("nothing is advertised beside the table");
        assert_eq!((api.min_version, api.max_version), (advertised.min, advertised.max));
        let (_, call) = CALLS.iter().find(|(called, _)| *called == key).expect("an API has a call");
        for version in served.min..=served.max {
            println!("{name} v{version}");
            call(&mut bench, version);
        }
    }
}

#[test]
fn only_produce_below_3_is_advertised_without_being_served() {
    for api in &APIS {
        if api.key != ApiKey::Produce {
            assert_eq!(api.advertised, api.served, "{}", api.name);
        }
    }
    let broker = Broker::start();
    for version in 0..3 {
        let mut wire = broker.connect();
        // acks, timeout and no topic.
        let body = [0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 0];
        wire.send_raw(&frame(ApiKey::Produce as i16, version, false, &body)).unwrap();
        assert!(wire.is_closed_by_broker(), "as Apache Kafka 4 does");
    }
}

//! One live call of each version of the APIs that administrators use: the part of `versions.rs`
//! about them.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, ListConfigResourcesRequest,
    ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
};

use crate::requests::{NONE, text, topic_name};
use crate::versions::{Bench, TOPIC};

const ELECTION_NOT_NEEDED: i16 = 84;
const INVALID_UPDATE_VERSION: i16 = 95;

pub(crate) fn describe_log_dirs(bench: &mut Bench, version: i16) {
    let topic =
        DescribableLogDirTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![0]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
    let response = bench.wire.call(version, &request);
    let directory = &response.results[0];
    assert_eq!((response.error_code, directory.error_code), (NONE, NONE));
    assert!(directory.log_dir.starts_with('/'), "{}", directory.log_dir.as_str());
    assert!(directory.topics[0].partitions[0].partition_size > 61);
    let known = directory.total_bytes >= directory.usable_bytes && directory.usable_bytes >= 0;
    assert_eq!(known, version >= 4, "{directory:?}");
}

pub(crate) fn elect_leaders(bench: &mut Bench, version: i16) {
    let topic = TopicPartitions::default().with_topic(topic_name(TOPIC)).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    let response = bench.wire.call(version, &request);
    let result = &response.replica_election_results[0].partition_result[0];
    assert_eq!((response.error_code, result.error_code), (NONE, ELECTION_NOT_NEEDED));
}

pub(crate) fn alter_partition_reassignments(bench: &mut Bench, version: i16) {
    let partition = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(1)]));
    let topic =
        ReassignableTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let response = bench.wire.call(version, &request);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((response.error_code, partition.error_code), (NONE, NONE));
}

pub(crate) fn list_partition_reassignments(bench: &mut Bench, version: i16) {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = bench.wire.call(version, &request);
    assert_eq!((response.error_code, response.topics.len()), (NONE, 0));
}

pub(crate) fn describe_quorum(bench: &mut Bench, version: i16) {
    let topic = TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let response = bench.wire.call(version, &request);
    let log = &response.topics[0].partitions[0];
    assert_eq!((response.error_code, log.error_code, log.leader_id), (NONE, NONE, BrokerId(1)));
    let voter = &log.current_voters[0];
    assert_eq!((voter.replica_id, voter.log_end_offset), (BrokerId(1), log.high_watermark));
    assert_eq!(voter.replica_directory_id.is_nil(), version < 2);
    assert_eq!(response.nodes.len(), usize::from(version >= 2));
}

pub(crate) fn update_features(bench: &mut Bench, version: i16) {
    let update = FeatureUpdateKey::default()
        .with_feature(text("metadata.version"))
        .with_max_version_level(7);
    let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
    let response = bench.wire.call(version, &request);
    assert_eq!(response.error_code, INVALID_UPDATE_VERSION);
}

pub(crate) fn list_config_resources(bench: &mut Bench, version: i16) {
    let response = bench.wire.call(version, &ListConfigResourcesRequest::default());
    assert_eq!(response.error_code, NONE);
    let named = response.config_resources.iter().any(|found| found.resource_name == text(TOPIC));
    assert_eq!(named, version >= 1);
}

pub(crate) fn describe_topic_partitions(bench: &mut Bench, version: i16) {
    let topic = TopicRequest::default().with_name(topic_name(TOPIC));
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic]);
    let response = bench.wire.call(version, &request);
    let topic = &response.topics[0];
    assert_eq!((topic.error_code, topic.topic_id), (NONE, bench.topic_id));
    let partition = &topic.partitions[0];
    assert_eq!(
        (partition.leader_id, &partition.replica_nodes[..]),
        (BrokerId(1), &[BrokerId(1)][..])
    );
}

//! The APIs that administrators use: one live call of each version, for `versions.rs`, and what a
//! comparison with Kafka cannot show.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, BrokerId, DeleteRecordsRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::{Broker, Wire};
use crate::requests::{NONE, create_topic, produce, record, text, topic_name};
use crate::versions::{Bench, TOPIC};

/// The type of a topic among Kafka's configured resources.
const TOPIC_RESOURCE: i8 = 2;
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

/// Asks for the value of a key of [`TOPIC`].
fn retention(bench: &mut Bench, version: i16) -> Option<StrBytes> {
    let topic = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(TOPIC))
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![topic]);
    let mut response = bench.wire.call(version, &request);
    assert_eq!((response.results[0].error_code, response.results[0].configs.len()), (NONE, 1));
    response.results.remove(0).configs.remove(0).value
}

pub(crate) fn describe_configs(bench: &mut Bench, version: i16) {
    assert!(retention(bench, version).is_some());
}

pub(crate) fn alter_configs(bench: &mut Bench, version: i16) {
    let value = text(&format!("{}", 1_000_000 + i32::from(version)));
    let config =
        AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(value.clone()));
    let topic = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(TOPIC))
        .with_configs(vec![config]);
    let request = AlterConfigsRequest::default().with_resources(vec![topic]);
    assert_eq!(bench.wire.call(version, &request).responses[0].error_code, NONE);
    assert_eq!(retention(bench, 4), Some(value));
}

pub(crate) fn incremental_alter_configs(bench: &mut Bench, version: i16) {
    let value = text(&format!("{}", 2_000_000 + i32::from(version)));
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("retention.ms"))
        .with_value(Some(value.clone()));
    let topic = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(TOPIC))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic]);
    assert_eq!(bench.wire.call(version, &request).responses[0].error_code, NONE);
    assert_eq!(retention(bench, 4), Some(value));
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

#[test]
fn a_page_of_topics_has_at_most_2000_partitions_and_says_where_the_next_begins() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "wide", 2_005);
    create_topic(&mut wire, "yet-another", 3);
    let mut request =
        DescribeTopicPartitionsRequest::default().with_response_partition_limit(9_999);
    let first = wire.call(0, &request);
    assert_eq!((first.topics.len(), first.topics[0].partitions.len()), (1, 2_000));
    let next = first.next_cursor.expect("another page");
    assert_eq!((next.topic_name.as_str(), next.partition_index), ("wide", 2_000));
    request.cursor =
        Some(Cursor::default().with_topic_name(next.topic_name).with_partition_index(2_000));
    let second = wire.call(0, &request);
    let counts: Vec<usize> = second.topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!((counts, second.next_cursor), (vec![5, 3], None));
}

#[test]
fn log_dirs_give_the_size_of_what_can_be_read() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, TOPIC, 2);
    let batch = record(100);
    let size = batch.len() as i64;
    for _ in 0..3 {
        assert_eq!(produce(&mut wire, TOPIC, batch.clone()).0, NONE);
    }
    assert_eq!(sizes(&mut wire), [3 * size, 0]);
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(2, &request).topics[0].partitions[0].error_code, NONE);
    assert_eq!(sizes(&mut wire), [0, 0]);
}

/// The sizes of the partitions of [`TOPIC`].
fn sizes(wire: &mut Wire) -> Vec<i64> {
    let response = wire.call(4, &DescribeLogDirsRequest::default().with_topics(None));
    let topic = &response.results[0].topics[0];
    assert_eq!(topic.name, topic_name(TOPIC));
    topic.partitions.iter().map(|partition| partition.partition_size).collect()
}

//! What a cluster says of its nodes, topics and leaders, and how leaders are moved.

use std::collections::HashSet;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, ElectLeadersRequest,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Wire, until};

const METADATA_VERSION: i16 = 12;
const NOT_LEADER: i16 = 6;
const LEADER_NOT_AVAILABLE: i16 = 5;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
const ELECTION_NOT_NEEDED: i16 = 84;

/// A topic's name for a message.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// What Metadata says of all topics, or of these.
pub fn metadata(wire: &mut Wire, topics: Option<&[&str]>) -> MetadataResponse {
    wire.call(METADATA_VERSION, &metadata_request(topics))
}

/// The request that creates no topic.
pub fn metadata_request(topics: Option<&[&str]>) -> MetadataRequest {
    let asked = |topic: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    MetadataRequest::default()
        .with_topics(topics.map(|topics| topics.iter().map(asked).collect()))
        .with_allow_auto_topic_creation(false)
}

/// The `host:port` of each node that is known; `None` when the connection was closed.
pub fn addresses(wire: &mut Wire) -> Option<HashSet<String>> {
    let answer = wire.try_call(METADATA_VERSION, &metadata_request(Some(&[])))?;
    let address = |host: &StrBytes, port| format!("{host}:{port}");
    Some(answer.brokers.iter().map(|node| address(&node.host, node.port)).collect())
}

/// Whether each partition has a leader, and all its replicas in sync.
pub fn is_in_sync(wire: &mut Wire) -> bool {
    let answer = metadata(wire, None);
    let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.all(|partition| {
        partition.leader_id.0 >= 0 && partition.isr_nodes.len() == partition.replica_nodes.len()
    })
}

/// Creates a topic with `replicas` of each partition and waits until the node knows all leaders.
pub fn create(
    wire: &mut Wire,
    topic: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = |(key, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let asked = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
    let answer = wire.call(7, &request);
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    until(&format!("leaders of {topic}"), || {
        let found = self::partitions(wire, topic);
        let led = found.iter().filter(|partition| partition.leader_id.0 >= 0).count();
        (led as i32 == partitions).then_some(())
    });
}

/// The partitions of a topic, in their order; none while it is not known.
pub fn partitions(wire: &mut Wire, topic: &str) -> Vec<MetadataResponsePartition> {
    let mut found = metadata(wire, Some(&[topic])).topics.remove(0);
    assert!(matches!(found.error_code, 0 | UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE));
    found.partitions.sort_by_key(|partition| partition.partition_index);
    found.partitions
}

/// The node that leads a partition.
pub fn leader(wire: &mut Wire, topic: &str, partition: usize) -> i32 {
    until(&format!("a leader of {topic}-{partition}"), || {
        let found = partitions(wire, topic);
        Some(found.get(partition)?.leader_id.0).filter(|leader| *leader >= 0)
    })
}

/// Makes `to`, which has a replica, the leader of a partition: the first of its replicas, and then
/// elected. Waits until this node says so.
pub fn move_leader(wire: &mut Wire, topic: &str, partition: usize, to: i32) {
    let mut replicas = partitions(wire, topic)[partition].replica_nodes.clone();
    replicas.retain(|replica| replica.0 != to);
    replicas.insert(0, BrokerId(to));
    let asked = ReassignablePartition::default()
        .with_partition_index(partition as i32)
        .with_replicas(Some(replicas));
    let asked =
        ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_topics(vec![asked])
        .with_timeout_ms(30_000);
    let answer = wire.call(0, &request);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    assert_eq!(answer.responses[0].partitions[0].error_code, 0, "{answer:?}");
    until(&format!("node {to} leads {topic}-{partition}"), || {
        elect(wire, topic, partition);
        (leader(wire, topic, partition) == to).then_some(())
    });
}

/// Asks for the election of the preferred replica.
fn elect(wire: &mut Wire, topic: &str, partition: usize) {
    let asked = TopicPartitions::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition as i32]);
    let request = ElectLeadersRequest::default()
        .with_election_type(0)
        .with_topic_partitions(Some(vec![asked]))
        .with_timeout_ms(30_000);
    let answer = wire.call(2, &request);
    let results = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    for result in results {
        let is_in_time = matches!(result.error_code, 0 | ELECTION_NOT_NEEDED);
        let is_early = matches!(result.error_code, PREFERRED_LEADER_NOT_AVAILABLE | NOT_LEADER);
        assert!(is_in_time || is_early, "{answer:?}");
    }
}

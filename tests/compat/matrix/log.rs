//! What stands in the log, read by our own reader: the judge of what clients wrote and read.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, ConsumerProtocolAssignment, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeGroupsRequest, GroupId, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use serde_json::{Value, json};
use tidegate::protocol::batch::{Batch, BatchBuilder, BatchHeader, BatchIter};
use tidegate::protocol::record::Record;

use super::context::wait_until;
use crate::harness::Wire;
use crate::judge::{end_offset, fetch, topic_name};

/// Keys and values up to this many bytes are given as text.
const TEXT_BYTES: usize = 256;
const PAYLOAD_BYTES: usize = 64 << 20;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const NOT_COORDINATOR: i16 = 16;

/// A partition as it is stored: its batches.
pub fn batches(wire: &mut Wire, topic: &str, partition: i32, from: i64) -> Vec<Batch> {
    let end = end_offset(wire, topic, partition);
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = from;
    while at < end {
        let bytes = fetch(wire, topic, partition, at);
        for batch in BatchIter::new(bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            assert!(batch.header().next_offset() > at, "a batch behind the one asked for");
            at = batch.header().next_offset();
            batches.push(batch);
        }
    }
    batches
}

/// A partition's records as drivers give them, in the order of their offsets.
pub fn records(wire: &mut Wire, topic: &str, partition: i32) -> Vec<Value> {
    let mut found = Vec::new();
    for batch in batches(wire, topic, partition, 0) {
        let payload = batch.payload(PAYLOAD_BYTES).unwrap();
        for record in batch.records(&payload) {
            found.push(described(topic, partition, batch.header(), &record.unwrap()));
        }
    }
    found
}

/// The records of all partitions of a topic.
pub fn all_records(wire: &mut Wire, topic: &str, partitions: i32) -> Vec<Value> {
    (0..partitions).flat_map(|partition| records(wire, topic, partition)).collect()
}

fn described(topic: &str, partition: i32, header: &BatchHeader, record: &Record<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers
        .clone()
        .map(|header| json!([text(Some(header.key)), text(header.value)]))
        .collect();
    json!({
        "topic": topic,
        "partition": partition,
        "offset": header.offset_of(record),
        "timestamp": header.timestamp_of(record),
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers,
    })
}

/// A key or value as drivers give it.
pub fn text(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    if bytes.len() <= TEXT_BYTES {
        return json!(String::from_utf8_lossy(bytes));
    }
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    json!(format!("crc32:{:08x}:{}", crc.sum(), bytes.len()))
}

/// Appends records of our own, each with its time and value, as one batch.
pub fn append(wire: &mut Wire, topic: &str, partition: i32, records: &[(i64, String)]) {
    let mut batch = BatchBuilder::new();
    for (timestamp, value) in records {
        batch.append(*timestamp, None, Some(value.as_bytes()), &[]);
    }
    let partition =
        PartitionProduceData::default().with_index(partition).with_records(Some(batch.build()));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let response = wire.call(9, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// The high watermarks of all partitions of topics, in their order.
pub fn end_offsets(wire: &mut Wire, topics: &[&str], partitions: i32) -> Vec<i64> {
    let names: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let topics_asked = topics.len();
    let asked = (0..partitions).map(|partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(-1)
    });
    let asked: Vec<_> = asked.collect();
    let topics = topics.iter().map(|topic| {
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(asked.clone())
    });
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    let mut found = HashMap::new();
    // Kafka's metadata is ahead of a partition's leader by a moment.
    wait_until("each partition is led", || {
        let response = wire.call(7, &request);
        for topic in &response.topics {
            for answer in &topic.partitions {
                let is_early = matches!(
                    answer.error_code,
                    UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER
                );
                assert!(is_early || answer.error_code == 0, "{answer:?}");
                if answer.error_code == 0 {
                    let at = (topic.name.to_string(), answer.partition_index);
                    found.insert(at, answer.offset);
                }
            }
        }
        found.len() == topics_asked * partitions as usize
    });
    // Kafka answers in an order of its own.
    let each = names.iter().flat_map(|topic| (0..partitions).map(move |at| (topic.clone(), at)));
    each.map(|at| found[&at]).collect()
}

/// Whether a topic is there.
pub fn exists(wire: &mut Wire, topic: &str) -> bool {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    wire.call(12, &request).topics[0].error_code == 0
}

/// Commits an offset for a group that nobody is in.
pub fn commit(wire: &mut Wire, group: &str, topic: &str, partition: i32, offset: i64) {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    // The coordinator first loads what it knows of the group.
    wait_until("the group's offset is committed", || {
        let response = wire.call(8, &request);
        let code = response.topics[0].partitions[0].error_code;
        assert!([0, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS].contains(&code), "{code}");
        code == 0
    });
}

/// Creates topics with as many partitions, and settings of the topic.
pub fn create_topics(wire: &mut Wire, names: &[String], partitions: i32, configs: &[(&str, &str)]) {
    let configs: Vec<_> = configs
        .iter()
        .map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        })
        .collect();
    let topics = names.iter().map(|name| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.clone())
    });
    let request =
        CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(30_000);
    let response = wire.call(7, &request);
    let refused: Vec<_> = response.topics.iter().filter(|topic| topic.error_code != 0).collect();
    assert!(refused.is_empty(), "{refused:?}");
    for name in names {
        end_offsets(wire, &[name], partitions);
    }
}

/// Deletes topics.
pub fn delete_topics(wire: &mut Wire, names: &[String]) {
    let topics = names
        .iter()
        .map(|name| DeleteTopicState::default().with_name(Some(topic_name(name))))
        .collect();
    let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    let response = wire.call(6, &request);
    assert!(response.responses.iter().all(|topic| topic.error_code == 0), "{response:?}");
}

/// Removes what lies before `offset`, as retention would.
pub fn delete_records(wire: &mut Wire, topic: &str, partition: i32, offset: i64) {
    let partition =
        DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = wire.call(2, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// What a group has committed for a partition: offset (-1 for nothing) and metadata.
pub fn committed(wire: &mut Wire, group: &str, topic: &str, partition: i32) -> (i64, String) {
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![partition]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![asked]));
    let response = wire.call(5, &request);
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0);
    (answer.committed_offset, answer.metadata.as_deref().unwrap_or_default().to_owned())
}

/// A member of a group, as the coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its instance id, if it is static.
    pub instance: Option<String>,
    /// The partitions that its leader gave it.
    pub partitions: Vec<(String, i32)>,
}

/// A group's state, protocol and members, as the coordinator describes it.
pub fn describe(wire: &mut Wire, group: &str) -> (String, String, Vec<Member>) {
    let group = GroupId(StrBytes::from_string(group.to_owned()));
    let request = DescribeGroupsRequest::default().with_groups(vec![group]);
    let mut response = wire.call(5, &request);
    let group: DescribedGroup = response.groups.remove(0);
    let members = group.members.iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        partitions: assigned(&member.member_assignment),
    });
    let members = members.collect();
    (group.group_state.to_string(), group.protocol_data.to_string(), members)
}

/// The partitions of an assignment: a version and, unless it is empty, the consumer protocol's body.
fn assigned(assignment: &Bytes) -> Vec<(String, i32)> {
    let mut bytes = assignment.clone();
    let Some(version) = bytes.get(..2).map(|two| i16::from_be_bytes([two[0], two[1]])) else {
        return Vec::new();
    };
    let mut body = bytes.split_off(2);
    let decoded = ConsumerProtocolAssignment::decode(&mut body, version.min(3)).unwrap();
    let mut partitions: Vec<(String, i32)> = decoded
        .assigned_partitions
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic.to_string(), *at)))
        .collect();
    partitions.sort();
    partitions
}

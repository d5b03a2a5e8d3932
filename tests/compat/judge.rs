//! Judges a log: reads partitions by assignment and compares with what producers were told.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, GroupId, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tidegate::protocol::batch::{Batch, BatchIter};

use crate::harness::Wire;

const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 10;
const OFFSET_FETCH_VERSION: i16 = 5;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const LATEST: i64 = -1;
const LATEST_TIERED: i64 = -5;

/// A topic's name as the crate's messages have it.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Creates `topic` by asking for its metadata, and returns how many partitions it has.
pub fn partition_count(wire: &mut Wire, topic: &str) -> i32 {
    let asked = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![asked]))
        .with_allow_auto_topic_creation(true);
    let response = wire.call(12, &request);
    let topic = response.topics.first().unwrap();
    assert_eq!(topic.error_code, 0);
    topic.partitions.len() as i32
}

/// The partition's high watermark.
pub fn end_offset(wire: &mut Wire, topic: &str, partition: i32) -> i64 {
    offset_at(wire, topic, partition, LATEST)
}

/// The partition's last offset in the bucket, -1 if there is none.
pub fn last_tiered_offset(wire: &mut Wire, topic: &str, partition: i32) -> i64 {
    offset_at(wire, topic, partition, LATEST_TIERED)
}

fn offset_at(wire: &mut Wire, topic: &str, partition: i32, timestamp: i64) -> i64 {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]),
    ]);
    let request = request.with_timeout_ms(30_000);
    let response = wire.call(LIST_OFFSETS_VERSION, &request);
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0);
    answer.offset
}

/// What the group has committed, by partition; nothing while its coordinator still loads it.
pub fn committed_offsets(wire: &mut Wire, group: &str, topic: &str, count: i32) -> Vec<i64> {
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes((0..count).collect());
    let group = GroupId(StrBytes::from_string(group.to_owned()));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![asked]));
    let response = wire.call(OFFSET_FETCH_VERSION, &request);
    assert!(matches!(response.error_code, 0 | COORDINATOR_LOAD_IN_PROGRESS), "{response:?}");
    let topic = response.topics.into_iter().next();
    let mut partitions = topic.map(|topic| topic.partitions).unwrap_or_default();
    partitions.sort_by_key(|partition| partition.partition_index);
    partitions.iter().map(|partition| partition.committed_offset).collect()
}

/// Reads a whole partition: the values by offset, which must be gapless from 0.
pub fn read_partition(wire: &mut Wire, topic: &str, partition: i32) -> Vec<Bytes> {
    let end = end_offset(wire, topic, partition);
    let mut values = Vec::new();
    while (values.len() as i64) < end {
        let at = values.len() as i64;
        let records = fetch(wire, topic, partition, at);
        assert!(!records.is_empty(), "nothing at offset {at} of {topic}-{partition} below {end}");
        for batch in BatchIter::new(records) {
            add_values(&batch.unwrap(), at, &mut values);
        }
    }
    values
}

/// Adds the values of a batch; the first batch of an answer may begin before the offset asked for.
fn add_values(batch: &Batch, from: i64, values: &mut Vec<Bytes>) {
    batch.verify_crc().unwrap();
    let payload = batch.payload(64 << 20).unwrap();
    for record in batch.records(&payload) {
        let record = record.unwrap();
        let offset = batch.header().offset_of(&record);
        if offset < from {
            continue;
        }
        assert_eq!(offset, values.len() as i64, "offsets have no gap");
        values.push(record.value.map(|value| payload.slice_ref(value)).unwrap_or_default());
    }
}

/// The batches from the one that holds `offset` on, as they are stored.
pub fn fetch(wire: &mut Wire, topic: &str, partition: i32, offset: i64) -> Bytes {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let request =
        FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_max_bytes(1 << 20);
    let request = request.with_topics(vec![
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked]),
    ]);
    let mut response = wire.call(FETCH_VERSION, &request);
    let answer = response.responses.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, 0);
    answer.records.unwrap_or_default()
}

/// An acknowledged record: where its producer was told it is.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Checks the log of `topic` against the acknowledged values: each stands in the log exactly once,
/// where its producer was told, and offsets have no gap. A value that was never acknowledged may
/// stand there, also exactly once.
pub fn judge(wire: &mut Wire, topic: &str, acked: &HashMap<u64, Position>) {
    let mut seen: HashMap<u64, Position> = HashMap::new();
    for partition in 0..partition_count(wire, topic) {
        for (offset, value) in read_partition(wire, topic, partition).iter().enumerate() {
            let value: u64 = std::str::from_utf8(value).unwrap().parse().unwrap();
            let position = Position { partition, offset: offset as i64 };
            let before = seen.insert(value, position);
            assert_eq!(before, None, "value {value} stands twice, also at {position:?}");
        }
    }
    for (value, told) in acked {
        assert_eq!(seen.get(value), Some(told), "acknowledged value {value} is not where it was");
    }
}

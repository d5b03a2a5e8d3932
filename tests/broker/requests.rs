//! The requests that most tests make, and what their answers say.

use std::time::SystemTime;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse,
    InitProducerIdRequest, MetadataRequest, ProduceRequest, ProduceResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tidegate::protocol::batch::{BatchBuilder, ProducerRef};

use crate::harness::Wire;

/// The last version of Produce that names topics.
pub const PRODUCE: i16 = 12;
/// The last version of Fetch that names topics.
pub const FETCH: i16 = 12;
/// A version of Metadata.
pub const METADATA: i16 = 12;

/// No error.
pub const NONE: i16 = 0;
/// Kafka's code of `INVALID_REQUIRED_ACKS`.
pub const INVALID_REQUIRED_ACKS: i16 = 21;
/// Kafka's code of `UNSUPPORTED_VERSION`.
pub const UNSUPPORTED_VERSION: i16 = 35;
/// Kafka's code of `KAFKA_STORAGE_ERROR`.
pub const KAFKA_STORAGE_ERROR: i16 = 56;

/// A text of the protocol.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// Creates a topic.
pub fn create_topic(wire: &mut Wire, topic: &str, partitions: i32) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = wire.call(7, &request);
    assert_eq!(response.topics[0].error_code, NONE, "{:?}", response.topics[0].error_message);
}

/// Whether the connection still gets answers.
pub fn assert_served(wire: &mut Wire) {
    assert_eq!(wire.call(4, &api_versions()).error_code, NONE);
    assert_eq!(wire.call(METADATA, &all_topics()).brokers.len(), 1);
}

/// `ApiVersions` as a client sends it first.
pub fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("harness"))
        .with_client_software_version(text("1.0"))
}

/// Metadata of all topics.
pub fn all_topics() -> MetadataRequest {
    MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false)
}

/// A batch of one record of `bytes` bytes that do not compress.
pub fn record(bytes: usize) -> Bytes {
    batch(ProducerRef::NONE, bytes)
}

/// A batch of one record, from `producer`.
pub fn batch(producer: ProducerRef, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new().producer(producer);
    builder.append(now_ms(), None, Some(&noise(bytes as u64, bytes)), &[]);
    builder.build()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

/// Bytes without a pattern, the same for the same seed (xorshift).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A Produce of one batch.
pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// The one partition of a Produce response.
pub fn produced(response: &ProduceResponse) -> &PartitionProduceResponse {
    &response.responses[0].partition_responses[0]
}

/// Produces a batch to partition 0 with acks=all: error code and base offset.
pub fn produce(wire: &mut Wire, topic: &str, batch: Bytes) -> (i16, i64) {
    let response = wire.call(PRODUCE, &produce_request(topic, 0, -1, batch));
    let partition = produced(&response);
    (partition.error_code, partition.base_offset)
}

/// A producer id.
pub fn producer_id(wire: &mut Wire) -> ProducerRef {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let response = wire.call(5, &request);
    assert_eq!(response.error_code, NONE);
    ProducerRef { id: response.producer_id.0, epoch: response.producer_epoch, sequence: 0 }
}

/// How a Fetch of partition 0 is made.
pub struct Fetch {
    /// From where.
    pub offset: i64,
    /// How much is waited for.
    pub min_bytes: i32,
    /// How long.
    pub max_wait_ms: i32,
    /// How much is wanted at most.
    pub max_bytes: i32,
}

impl Fetch {
    /// Whatever is there from `offset` on, without waiting.
    pub fn at(offset: i64) -> Self {
        Self { offset, min_bytes: 0, max_wait_ms: 0, max_bytes: 1 << 20 }
    }

    /// Waits for `min_bytes` as long as no test runs.
    pub fn parked(offset: i64, min_bytes: i32) -> Self {
        Self { offset, min_bytes, max_wait_ms: i32::MAX, max_bytes: 50 << 20 }
    }

    /// The request.
    pub fn request(&self, topic: &str) -> FetchRequest {
        let partition = FetchPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_fetch_offset(self.offset)
            .with_partition_max_bytes(self.max_bytes);
        let topic =
            FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_min_bytes(self.min_bytes)
            .with_max_wait_ms(self.max_wait_ms)
            .with_max_bytes(self.max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![topic])
    }
}

/// The records of the one partition of a Fetch response.
pub fn fetched(response: FetchResponse) -> Bytes {
    let topic = response.responses.into_iter().next().expect("the topic asked for");
    let partition = topic.partitions.into_iter().next().expect("the partition asked for");
    assert_eq!(partition.error_code, NONE);
    partition.records.unwrap_or_default()
}

/// Base offsets and sizes of the batches in `records`, which must be whole.
pub fn batches(records: &Bytes) -> Vec<(i64, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < records.len() {
        let offset = i64::from_be_bytes(records[at..at + 8].try_into().unwrap());
        let length = i32::from_be_bytes(records[at + 8..at + 12].try_into().unwrap());
        let size = 12 + length as usize;
        assert!(at + size <= records.len(), "the last batch is cut");
        found.push((offset, size));
        at += size;
    }
    found
}

//! What every client does: records written and read, in every version.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use tidegate::protocol::batch::{BatchBuilder, BatchIter, ProducerRef};
use uuid::Uuid;

use crate::client::Client;
use crate::harness::topology::{self, topic_name};
use crate::harness::until;

/// From this version on topics go by their ids.
const PRODUCE_BY_ID: i16 = 13;
const FETCH_BY_ID: i16 = 13;
/// The newest version of Fetch that no follower answers (KIP-392).
pub const LEADER_ONLY: i16 = 10;

/// A batch of these values.
pub fn batch(values: &[&str]) -> Bytes {
    batch_of(BatchBuilder::new(), values)
}

/// A batch of a transaction.
pub fn transactional_batch(producer: ProducerRef, values: &[&str]) -> Bytes {
    batch_of(BatchBuilder::new().producer(producer).transactional(), values)
}

/// The records are of now: Kafka rolls a segment, and deletes one, by what its records say.
fn batch_of(mut batch: BatchBuilder, values: &[&str]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for value in values {
        batch.append(now, None, Some(value.as_bytes()), &[]);
    }
    batch.build()
}

/// A topic's name and id.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
}

impl Topic {
    /// Creates it.
    pub fn create(client: &mut Client, bootstrap: &str, name: &str, replicas: i16) -> Self {
        topology::create(client.wire(bootstrap), name, 1, replicas, &[]);
        let found = client.ask(12, &topology::metadata_request(Some(&[name])));
        let topic = Self { name: name.to_owned(), id: found.topics[0].topic_id };
        // The metadata is ahead of the leader itself by a moment.
        let (_, leader) = client.leader(name, 0);
        until(&format!("{name} is led"), || {
            (read(client, &leader, &topic, LEADER_ONLY, 0).error_code == 0).then_some(())
        });
        topic
    }
}

/// A Produce request for partition 0.
pub fn produce(topic: &Topic, version: i16, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(records));
    let data = TopicProduceData::default().with_partition_data(vec![data]);
    let data = match version {
        PRODUCE_BY_ID.. => data.with_topic_id(topic.id),
        _ => data.with_name(topic_name(&topic.name)),
    };
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000);
    request.with_topic_data(vec![data])
}

/// A Fetch request for partition 0, outside of any session, which waits for a byte.
pub fn fetch(topic: &Topic, version: i16, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_partitions(vec![partition]);
    let asked = match version {
        FETCH_BY_ID.. => asked.with_topic_id(topic.id),
        _ => asked.with_topic(topic_name(&topic.name)),
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1);
    request.with_topics(vec![asked])
}

/// Sends a batch to a node in `version`.
pub fn send(
    client: &mut Client,
    node: &str,
    topic: &Topic,
    version: i16,
    records: Bytes,
) -> PartitionProduceResponse {
    let mut answer = client.ask_at(node, version, &produce(topic, version, -1, records));
    answer.responses.remove(0).partition_responses.remove(0)
}

/// Reads from a node in `version`.
pub fn read(
    client: &mut Client,
    node: &str,
    topic: &Topic,
    version: i16,
    offset: i64,
) -> PartitionData {
    let mut answer = client.ask_at(node, version, &fetch(topic, version, offset));
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.responses.remove(0).partitions.remove(0)
}

/// All values of a partition, in the order of their offsets, which have no gap.
pub fn values(client: &mut Client, node: &str, topic: &Topic) -> Vec<String> {
    let mut values = Vec::new();
    loop {
        let answer = read(client, node, topic, 12, values.len() as i64);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        if values.len() as i64 == answer.high_watermark {
            return values;
        }
        for batch in BatchIter::new(answer.records.unwrap()) {
            let batch = batch.unwrap();
            let payload = batch.payload(1 << 20).unwrap();
            for record in batch.records(&payload) {
                let record = record.unwrap();
                // The first batch may begin before the offset that was asked for.
                if batch.header().offset_of(&record) == values.len() as i64 {
                    let value = record.value.unwrap_or_default();
                    values.push(String::from_utf8(value.to_vec()).unwrap());
                }
            }
        }
    }
}

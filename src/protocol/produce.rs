//! The Produce API's own codec, versions 3 to 13 (key 0).
//!
//! The request is walked, not decoded: its records stay slices of the frame, and nothing is
//! allocated for topics or partitions. The response is written straight into a buffer.
//!
//! Versions: 5 adds the log start offset, 7 allows zstd, 8 adds record errors (KIP-467), 9 is
//! flexible, 10 adds leaders and endpoints (KIP-951), 13 names topics by id (KIP-516). Versions 0
//! to 2 are advertised for old librdkafka, but not spoken (KAFKA-18659).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::leader::{LeaderIdAndEpoch, NodeEndpoint, endpoints_max_len, put_endpoints, put_leader};
use super::topic::{FIRST_TOPIC_ID_VERSION, TopicRef};
use super::wire::{Reader, WireError, put_length, put_nullable_string};

#[cfg(test)]
mod tests;

/// The first version that this codec speaks.
pub const MIN_VERSION: i16 = 3;

/// The last version that this codec speaks.
pub const MAX_VERSION: i16 = 13;

const FIRST_LOG_START_VERSION: i16 = 5;
const FIRST_RECORD_ERRORS_VERSION: i16 = 8;
const FIRST_FLEXIBLE_VERSION: i16 = 9;
const FIRST_LEADER_VERSION: i16 = 10;

fn flexible(version: i16) -> bool {
    version >= FIRST_FLEXIBLE_VERSION
}

/// The acks of a request's body, of any version; nothing else of it is looked at.
pub fn acks(version: i16, body: &[u8]) -> Result<i16, WireError> {
    let mut reader = Reader::new(body);
    if version >= MIN_VERSION {
        reader.nullable_string("transactional_id", flexible(version))?;
    }
    reader.i16("acks")
}

fn known(version: i16) -> Result<(), WireError> {
    if (MIN_VERSION..=MAX_VERSION).contains(&version) {
        return Ok(());
    }
    Err(WireError::UnknownVersion { message: "Produce", version })
}

/// A Produce request.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The request's version.
    pub version: i16,
    /// The id of the transaction that transactional batches belong to.
    pub transactional_id: Option<StrBytes>,
    /// When to answer: 0 never, 1 and -1 when the records are durable. Not checked here.
    pub acks: i16,
    /// How long to wait for durability, in milliseconds.
    pub timeout_ms: i32,
    body: Bytes,
    /// What of the body follows the topics' count.
    topics_len: usize,
    topic_count: usize,
    partition_count: usize,
}

impl ProduceRequest {
    /// Walks a body, without the header. All of it is checked here, so that
    /// [`ProduceRequest::partitions`] cannot fail midway. Bytes behind the message are ignored, as
    /// Kafka does.
    pub fn parse(version: i16, body: Bytes) -> Result<ProduceRequest, WireError> {
        known(version)?;
        let flexible = flexible(version);
        let mut reader = Reader::new(&body);
        let transactional_id = reader.nullable_string("transactional_id", flexible)?;
        let transactional_id = transactional_id.map(|id| {
            StrBytes::try_from(body.slice_ref(id.as_bytes())).expect("the reader checked the utf-8")
        });
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout_ms")?;
        let least = if version >= FIRST_TOPIC_ID_VERSION { 18 } else { 3 };
        let topic_count = reader.count("topic_data", flexible, least)?;
        let topics_len = reader.remaining();
        let mut walk = Walk::new(version, reader, topic_count);
        let mut partition_count = 0;
        while walk.step()?.is_some() {
            partition_count += 1;
        }
        if flexible {
            walk.reader.skip_tagged_fields("tagged fields")?;
        }
        Ok(ProduceRequest {
            version,
            transactional_id,
            acks,
            timeout_ms,
            body,
            topics_len,
            topic_count,
            partition_count,
        })
    }

    /// How many topics the request names, those without partitions included.
    pub fn topic_count(&self) -> usize {
        self.topic_count
    }

    /// How many partitions the request names, duplicates included.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The partitions in the request's order, topic by topic. Whether one is named twice is for
    /// the caller to find out. Topics without partitions do not appear, as in Kafka's response.
    pub fn partitions(&self) -> ProducePartitions<'_> {
        let start = self.body.len() - self.topics_len;
        let reader = Reader::new(self.body.get(start..).unwrap_or_default());
        let walk = Walk::new(self.version, reader, self.topic_count);
        ProducePartitions { body: &self.body, walk, left: self.partition_count }
    }
}

/// What a Produce request has for one partition.
#[derive(Clone, Debug)]
pub struct ProducePartition<'a> {
    /// The topic.
    pub topic: TopicRef<'a>,
    /// The topic's position in the request, from 0: partitions with the same one stood together.
    pub topic_position: usize,
    /// The partition's index.
    pub index: i32,
    /// The records: a slice of the frame, to hold exactly one batch.
    pub records: Option<Bytes>,
}

/// Iterates over [`ProduceRequest::partitions`].
#[derive(Clone, Debug)]
pub struct ProducePartitions<'a> {
    body: &'a Bytes,
    walk: Walk<'a>,
    left: usize,
}

impl<'a> Iterator for ProducePartitions<'a> {
    type Item = ProducePartition<'a>;

    fn next(&mut self) -> Option<ProducePartition<'a>> {
        self.left = self.left.checked_sub(1)?;
        let found = self.walk.step().expect("parse walked the same bytes to the end")?;
        Some(ProducePartition {
            topic: found.topic,
            topic_position: found.topic_position,
            index: found.index,
            records: found.records.map(|records| self.body.slice_ref(records)),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ProducePartitions<'_> {}

/// Where a walk over the topics is.
#[derive(Clone, Debug)]
struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    topics_left: usize,
    topic_position: usize,
    /// The topic whose partitions are being walked, and how many of them are left.
    topic: Option<(TopicRef<'a>, usize)>,
}

/// A partition as the walk finds it.
struct Found<'a> {
    topic: TopicRef<'a>,
    topic_position: usize,
    index: i32,
    records: Option<&'a [u8]>,
}

impl<'a> Walk<'a> {
    /// A walk that starts behind the topics' count.
    fn new(version: i16, reader: Reader<'a>, topic_count: usize) -> Walk<'a> {
        Walk { reader, version, topics_left: topic_count, topic_position: 0, topic: None }
    }

    /// The next partition, `None` behind the last one.
    fn step(&mut self) -> Result<Option<Found<'a>>, WireError> {
        let flexible = flexible(self.version);
        loop {
            match self.topic {
                Some((_, 0)) => {
                    if flexible {
                        self.reader.skip_tagged_fields("topic_data tagged fields")?;
                    }
                    self.topic = None;
                    self.topic_position += 1;
                }
                Some((topic, left)) => {
                    self.topic = Some((topic, left - 1));
                    return self.partition(topic, flexible).map(Some);
                }
                None if self.topics_left == 0 => return Ok(None),
                None => {
                    self.topics_left -= 1;
                    let topic = TopicRef::read(&mut self.reader, self.version, flexible)?;
                    let least = if flexible { 6 } else { 8 };
                    let count = self.reader.count("partition_data", flexible, least)?;
                    self.topic = Some((topic, count));
                }
            }
        }
    }

    fn partition(&mut self, topic: TopicRef<'a>, flexible: bool) -> Result<Found<'a>, WireError> {
        let index = self.reader.i32("index")?;
        let records = self.reader.nullable_bytes("records", flexible)?;
        if flexible {
            self.reader.skip_tagged_fields("partition_data tagged fields")?;
        }
        Ok(Found { topic, topic_position: self.topic_position, index, records })
    }
}

/// A Produce response. Fields that a version does not have are left out.
#[derive(Clone, Copy, Debug)]
pub struct ProduceResponse<'a> {
    /// The topics in the request's order.
    pub topics: &'a [ProduceTopicResponse<'a>],
    /// How long the client is held back, in milliseconds.
    pub throttle_time_ms: i32,
    /// The addresses of the leaders that partitions name, version 10 and later.
    pub node_endpoints: &'a [NodeEndpoint],
}

/// A topic in a Produce response.
#[derive(Clone, Copy, Debug)]
pub struct ProduceTopicResponse<'a> {
    /// The topic as the request named it.
    pub topic: TopicRef<'a>,
    /// What became of its partitions.
    pub partitions: &'a [ProducePartitionResponse],
}

/// What became of a partition's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The first record's offset, -1 after an error.
    pub base_offset: i64,
    /// The time of the append, -1 when the topic has create time.
    pub log_append_time_ms: i64,
    /// The partition's log start offset, -1 if it is not known; version 5 and later.
    pub log_start_offset: i64,
    /// The records at fault, version 8 and later.
    pub record_errors: Vec<ProduceRecordError>,
    /// Why the whole batch was refused, version 8 and later.
    pub error_message: Option<String>,
    /// Who leads the partition instead, version 10 and later.
    pub current_leader: Option<LeaderIdAndEpoch>,
}

impl ProducePartitionResponse {
    /// A refused partition.
    pub fn error(
        index: i32,
        error_code: i16,
        error_message: Option<String>,
    ) -> ProducePartitionResponse {
        ProducePartitionResponse {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message,
            current_leader: None,
        }
    }
}

/// A record that made the broker refuse its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRecordError {
    /// The record's index in the batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<String>,
}

impl ProduceResponse<'_> {
    /// Writes the body as `version` has it, behind what `out` holds already; reserves once.
    pub fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), WireError> {
        known(version)?;
        let flexible = flexible(version);
        out.reserve(self.max_len());
        put_length(out, flexible, self.topics.len());
        for topic in self.topics {
            topic.topic.write(out, version, flexible);
            put_length(out, flexible, topic.partitions.len());
            for partition in topic.partitions {
                put_partition(out, version, partition);
            }
            if flexible {
                out.put_u8(0);
            }
        }
        out.put_i32(self.throttle_time_ms);
        if flexible {
            let speaks = version >= FIRST_LEADER_VERSION;
            put_endpoints(out, if speaks { self.node_endpoints } else { &[] });
        }
        Ok(())
    }

    /// At most what the body takes in any version.
    fn max_len(&self) -> usize {
        let topics = self.topics.iter().map(|topic| {
            topic.topic.max_len()
                + 6
                + topic.partitions.iter().map(partition_max_len).sum::<usize>()
        });
        10 + topics.sum::<usize>() + endpoints_max_len(self.node_endpoints)
    }
}

fn partition_max_len(partition: &ProducePartitionResponse) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len) + 3;
    let errors = partition.record_errors.iter().map(|error| 5 + text(&error.message));
    // 30 bytes of numbers, 5 for the errors' count, 12 for the leader and its tags.
    50 + text(&partition.error_message) + errors.sum::<usize>()
}

fn put_partition(out: &mut BytesMut, version: i16, partition: &ProducePartitionResponse) {
    let flexible = flexible(version);
    out.put_i32(partition.index);
    out.put_i16(partition.error_code);
    out.put_i64(partition.base_offset);
    out.put_i64(partition.log_append_time_ms);
    if version >= FIRST_LOG_START_VERSION {
        out.put_i64(partition.log_start_offset);
    }
    if version >= FIRST_RECORD_ERRORS_VERSION {
        put_length(out, flexible, partition.record_errors.len());
        for error in &partition.record_errors {
            out.put_i32(error.batch_index);
            put_nullable_string(out, flexible, error.message.as_deref());
            if flexible {
                out.put_u8(0);
            }
        }
        put_nullable_string(out, flexible, partition.error_message.as_deref());
    }
    if !flexible {
        return;
    }
    match partition.current_leader {
        Some(leader) if version >= FIRST_LEADER_VERSION => {
            out.put_u8(1);
            put_leader(out, 0, leader);
        }
        _ => out.put_u8(0),
    }
}

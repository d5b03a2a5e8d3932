//! The Fetch API's own response encoder, versions 4 to 18 (key 1).
//!
//! A response is mostly records that lie in memory already, or still on disk. So it is not written
//! into one buffer: the encoder gives the bytes between the records, with a place for each
//! partition's records in between, and the caller puts slices there, or reads them when the socket
//! takes more. No record byte is copied here.
//!
//! ```text
//! Head: throttle, error, session, topic, partition 0's fields, length of its records
//! Records { index: 0, len }
//! Head: tags of partition 0, partition 1's fields, length of its records
//! Records { index: 1, len }
//! Head: tags, throttle ...
//! ```
//!
//! Versions: 5 adds the log start offset, 7 sessions (KIP-227), 11 the preferred read replica
//! (KIP-392), 12 is flexible and adds diverging epoch and leader (KIP-595), 13 names topics by id
//! (KIP-516), 16 adds endpoints (KIP-951).

use bytes::{BufMut, Bytes, BytesMut};

use super::leader::{LeaderIdAndEpoch, NodeEndpoint, endpoints_max_len, put_endpoints, put_leader};
use super::topic::TopicRef;
use super::varint;
use super::wire::{WireError, put_length};

#[cfg(test)]
mod tests;

/// The first version that this codec speaks.
pub const MIN_VERSION: i16 = 4;

/// The last version that this codec speaks.
pub const MAX_VERSION: i16 = 18;

const FIRST_LOG_START_VERSION: i16 = 5;
const FIRST_SESSION_VERSION: i16 = 7;
const FIRST_READ_REPLICA_VERSION: i16 = 11;
const FIRST_FLEXIBLE_VERSION: i16 = 12;
const FIRST_ENDPOINTS_VERSION: i16 = 16;

/// A Fetch response. Fields that a version does not have are left out.
#[derive(Clone, Copy, Debug)]
pub struct FetchResponse<'a> {
    /// How long the client is held back, in milliseconds.
    pub throttle_time_ms: i32,
    /// Kafka's error code for the whole request, 0 for none; version 7 and later.
    pub error_code: i16,
    /// The fetch session, 0 for none; version 7 and later.
    pub session_id: i32,
    /// The topics.
    pub topics: &'a [FetchTopicResponse<'a>],
    /// The addresses of the leaders that partitions name, version 16 and later.
    pub node_endpoints: &'a [NodeEndpoint],
}

/// A topic in a Fetch response.
#[derive(Clone, Copy, Debug)]
pub struct FetchTopicResponse<'a> {
    /// The topic as the request named it.
    pub topic: TopicRef<'a>,
    /// What is fetched of its partitions.
    pub partitions: &'a [FetchPartitionResponse],
}

/// A partition in a Fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The partition's high watermark, -1 if it is not known.
    pub high_watermark: i64,
    /// The partition's last stable offset, -1 if it is not known.
    pub last_stable_offset: i64,
    /// The partition's log start offset, -1 if it is not known; version 5 and later.
    pub log_start_offset: i64,
    /// Where the fetcher's log parts from this one, version 12 and later.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads the partition instead, version 12 and later.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The aborted transactions among the records; `None` (null) unless the fetcher reads
    /// committed records only.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Where to fetch from instead, -1 for nowhere; version 11 and later.
    pub preferred_read_replica: i32,
    /// The bytes of records that will follow, below 2 GiB.
    pub records_len: usize,
}

impl FetchPartitionResponse {
    /// A partition that answers with an error and no records.
    pub fn error(index: i32, error_code: i16) -> FetchPartitionResponse {
        FetchPartitionResponse {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records_len: 0,
        }
    }
}

/// The end of the greatest epoch that both logs share (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

/// An aborted transaction: the producer's records from the offset to its next abort marker are
/// not to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer's id.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: i64,
}

/// A part of an encoded response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchPiece {
    /// Bytes as they are sent.
    Head(Bytes),
    /// The place of a partition's records.
    Records {
        /// Their bytes, exactly; never 0.
        len: usize,
        /// The partition's position among all partitions of the response, from 0.
        index: usize,
    },
}

/// An encoded response body.
#[derive(Clone, Debug)]
pub struct EncodedFetch {
    /// The parts, in the order in which they are sent.
    pub pieces: Vec<FetchPiece>,
    /// The bytes of all parts together, records included.
    pub len: usize,
}

impl FetchResponse<'_> {
    /// Encodes the body as `version` has it. All heads share one allocation.
    pub fn encode(&self, version: i16) -> Result<EncodedFetch, WireError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(WireError::UnknownVersion { message: "Fetch", version });
        }
        let partitions = self.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        let mut encoder = Encoder {
            version,
            flexible: version >= FIRST_FLEXIBLE_VERSION,
            head: BytesMut::with_capacity(self.heads_max_len()),
            pieces: Vec::with_capacity(2 * partitions + 1),
            len: 0,
            next_index: 0,
        };
        encoder.response(self);
        encoder.close_head();
        Ok(EncodedFetch { pieces: encoder.pieces, len: encoder.len })
    }

    /// At most what the body takes in any version, without records.
    fn heads_max_len(&self) -> usize {
        let topics = self.topics.iter().map(|topic| {
            topic.topic.max_len()
                + 6
                + topic.partitions.iter().map(partition_max_len).sum::<usize>()
        });
        16 + topics.sum::<usize>() + endpoints_max_len(self.node_endpoints)
    }
}

fn partition_max_len(partition: &FetchPartitionResponse) -> usize {
    // 34 bytes of numbers, 5 for each of two lengths, 28 for the tagged fields.
    80 + 17 * partition.aborted_transactions.as_ref().map_or(0, Vec::len)
}

/// A response on its way into pieces.
struct Encoder {
    version: i16,
    flexible: bool,
    /// What has been written since the last records.
    head: BytesMut,
    pieces: Vec<FetchPiece>,
    len: usize,
    next_index: usize,
}

impl Encoder {
    fn response(&mut self, response: &FetchResponse<'_>) {
        self.head.put_i32(response.throttle_time_ms);
        if self.version >= FIRST_SESSION_VERSION {
            self.head.put_i16(response.error_code);
            self.head.put_i32(response.session_id);
        }
        put_length(&mut self.head, self.flexible, response.topics.len());
        for topic in response.topics {
            topic.topic.write(&mut self.head, self.version, self.flexible);
            put_length(&mut self.head, self.flexible, topic.partitions.len());
            for partition in topic.partitions {
                self.partition(partition);
            }
            if self.flexible {
                self.head.put_u8(0);
            }
        }
        if self.flexible {
            let speaks = self.version >= FIRST_ENDPOINTS_VERSION;
            put_endpoints(&mut self.head, if speaks { response.node_endpoints } else { &[] });
        }
    }

    fn partition(&mut self, partition: &FetchPartitionResponse) {
        let head = &mut self.head;
        head.put_i32(partition.index);
        head.put_i16(partition.error_code);
        head.put_i64(partition.high_watermark);
        head.put_i64(partition.last_stable_offset);
        if self.version >= FIRST_LOG_START_VERSION {
            head.put_i64(partition.log_start_offset);
        }
        put_aborted(head, self.flexible, partition.aborted_transactions.as_deref());
        if self.version >= FIRST_READ_REPLICA_VERSION {
            head.put_i32(partition.preferred_read_replica);
        }
        put_length(head, self.flexible, partition.records_len);
        let index = self.next_index;
        self.next_index += 1;
        if partition.records_len > 0 {
            self.close_head();
            self.len += partition.records_len;
            self.pieces.push(FetchPiece::Records { len: partition.records_len, index });
        }
        if self.flexible {
            self.tagged_fields(partition);
        }
    }

    fn tagged_fields(&mut self, partition: &FetchPartitionResponse) {
        let head = &mut self.head;
        let FetchPartitionResponse { diverging_epoch, current_leader, .. } = partition;
        head.put_u8(u8::from(diverging_epoch.is_some()) + u8::from(current_leader.is_some()));
        if let Some(EpochEndOffset { epoch, end_offset }) = diverging_epoch {
            varint::put_u32(head, 0);
            // An INT32, an INT64 and no tagged fields.
            varint::put_u32(head, 13);
            head.put_i32(*epoch);
            head.put_i64(*end_offset);
            head.put_u8(0);
        }
        if let Some(leader) = current_leader {
            put_leader(head, 1, *leader);
        }
    }

    /// Makes what was written since the last records a piece.
    fn close_head(&mut self) {
        if self.head.is_empty() {
            return;
        }
        let bytes = self.head.split().freeze();
        self.len += bytes.len();
        self.pieces.push(FetchPiece::Head(bytes));
    }
}

fn put_aborted(head: &mut BytesMut, flexible: bool, aborted: Option<&[AbortedTransaction]>) {
    let Some(aborted) = aborted else {
        if flexible {
            head.put_u8(0);
        } else {
            head.put_i32(-1);
        }
        return;
    };
    put_length(head, flexible, aborted.len());
    for AbortedTransaction { producer_id, first_offset } in aborted {
        head.put_i64(*producer_id);
        head.put_i64(*first_offset);
        if flexible {
            head.put_u8(0);
        }
    }
}

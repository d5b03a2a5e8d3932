//! The payloads of a partition's WAL records (DESIGN §5); numbers are big-endian.
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | Data | topic id 16 · partition i32 · a record batch, base offset and leader epoch patched |
//! | 2 | `CommitTier` | topic id 16 · partition i32 · what [`TierChange`] takes away and adds |
//! | 3 | `LogStart` | topic id 16 · partition i32 · log start offset i64 |
//! | 4 | Drop | topic id 16 |
//! | 5 | `EpochStart` | topic id 16 · partition i32 · leader epoch i32 · start offset i64 |
//!
//! The WAL's own records (kinds 254 and 255) are not this room's. A record names its partition by
//! (topic id, partition): a name is reused by the next incarnation
//! of a topic, an id never is. The kind is the version: a payload of another shape gets a new kind,
//! and a start refuses a kind that it does not know.

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::tiered::TierChange;
use crate::protocol::types::{TopicId, TopicPartition};
use crate::wal::Kind;

/// A record batch of a partition; control batches too.
pub const DATA: Kind = Kind(1);
/// References to tiered objects that a partition gains and loses.
pub const COMMIT_TIER: Kind = Kind(2);
/// A partition's log starts at a later offset (retention, `DeleteRecords`).
pub const LOG_START: Kind = Kind(3);
/// A topic is gone.
pub const DROP: Kind = Kind(4);
/// A leader epoch starts without a batch (only after a restore).
pub const EPOCH_START: Kind = Kind(5);

/// The bytes before the batch in a Data record.
pub const DATA_HEAD: usize = 20;

/// The payload of a `LogStart` record.
pub const LOG_START_LEN: usize = 28;
/// The payload of an `EpochStart` record.
pub const EPOCH_START_LEN: usize = 32;
/// The payload of a Drop record.
pub const DROP_LEN: usize = 16;

/// The payload of a WAL record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// [`DATA`].
    Data {
        /// The partition.
        of: TopicPartition,
        /// The whole batch.
        batch: Bytes,
    },
    /// [`COMMIT_TIER`].
    CommitTier {
        /// The partition.
        of: TopicPartition,
        /// What changes.
        change: TierChange,
    },
    /// [`LOG_START`].
    LogStart {
        /// The partition.
        of: TopicPartition,
        /// Its new log start offset.
        offset: i64,
    },
    /// [`DROP`].
    Drop {
        /// The topic.
        topic: TopicId,
    },
    /// [`EPOCH_START`].
    EpochStart {
        /// The partition.
        of: TopicPartition,
        /// The epoch.
        epoch: i32,
        /// Its first offset.
        offset: i64,
    },
}

/// A WAL record's payload is not what its kind says. The WAL checks every record's crc before, so
/// this is a record of another version or a bug, never a torn write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The kind is none of this room's.
    #[error("wal record kind {0} is not known; this data directory needs a newer tidegate")]
    UnknownKind(u8),
    /// The payload's length does not fit the kind.
    #[error("wal record of kind {kind} has {len} bytes of payload, which does not fit its kind")]
    Length {
        /// The kind.
        kind: u8,
        /// The payload's length.
        len: usize,
    },
}

/// The payload of a Data record with a batch of `batch_len` bytes.
pub const fn data_len(batch_len: usize) -> usize {
    DATA_HEAD + batch_len
}

/// The first [`DATA_HEAD`] bytes of a Data record: its partition.
pub fn data_head(of: TopicPartition) -> [u8; DATA_HEAD] {
    let mut head = [0; DATA_HEAD];
    let (topic, partition) = head.split_at_mut(16);
    topic.copy_from_slice(of.topic.0.as_bytes());
    partition.copy_from_slice(&of.partition.to_be_bytes());
    head
}

/// The payload of a `CommitTier` record.
pub fn commit_tier(of: TopicPartition, change: &TierChange) -> Vec<u8> {
    let mut payload = Vec::with_capacity(DATA_HEAD + change.len());
    payload.extend_from_slice(&data_head(of));
    change.put(&mut payload);
    payload
}

/// The payload of a `LogStart` record.
pub fn log_start(of: TopicPartition, offset: i64) -> Vec<u8> {
    [&data_head(of)[..], &offset.to_be_bytes()].concat()
}

/// The payload of a Drop record.
pub fn drop_topic(topic: TopicId) -> Vec<u8> {
    topic.0.as_bytes().to_vec()
}

/// The payload of an `EpochStart` record.
pub fn epoch_start(of: TopicPartition, epoch: i32, offset: i64) -> Vec<u8> {
    [&data_head(of)[..], &epoch.to_be_bytes(), &offset.to_be_bytes()].concat()
}

impl Record {
    /// Reads the payload of a record of kind `kind`.
    pub fn decode(kind: Kind, mut payload: Bytes) -> Result<Self, RecordError> {
        let wrong = RecordError::Length { kind: kind.0, len: payload.len() };
        let exactly = |len| if payload.len() == len { Ok(()) } else { Err(wrong) };
        match kind {
            DATA | COMMIT_TIER if payload.len() >= DATA_HEAD => {}
            DATA | COMMIT_TIER => return Err(wrong),
            LOG_START => exactly(LOG_START_LEN)?,
            DROP => exactly(DROP_LEN)?,
            EPOCH_START => exactly(EPOCH_START_LEN)?,
            Kind(other) => return Err(RecordError::UnknownKind(other)),
        }
        let topic = TopicId(Uuid::from_u128(payload.get_u128()));
        if kind == DROP {
            return Ok(Record::Drop { topic });
        }
        let of = TopicPartition { topic, partition: payload.get_i32() };
        Ok(match kind {
            DATA => Record::Data { of, batch: payload },
            COMMIT_TIER => {
                Record::CommitTier { of, change: TierChange::get(&payload).ok_or(wrong)? }
            }
            LOG_START => Record::LogStart { of, offset: payload.get_i64() },
            _ => Record::EpochStart { of, epoch: payload.get_i32(), offset: payload.get_i64() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        let topic = TopicId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
        TopicPartition { topic, partition: 7 }
    }

    /// The bytes as the first release wrote them: a change here is a change of the format.
    #[test]
    fn payloads_are_what_the_first_release_wrote() {
        const ID: &str = "00112233445566778899aabbccddeeff";
        let of = partition();
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        };
        assert_eq!(hex(&data_head(of)), format!("{ID}00000007"));
        assert_eq!(hex(&log_start(of, 258)), format!("{ID}000000070000000000000102"));
        assert_eq!(hex(&drop_topic(of.topic)), ID);
        assert_eq!(hex(&epoch_start(of, 3, 258)), format!("{ID}00000007000000030000000000000102"));
        let kinds = [DATA, COMMIT_TIER, LOG_START, DROP, EPOCH_START];
        assert_eq!(kinds.map(|kind| kind.0), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn payloads_come_back() {
        let of = partition();
        let mut data = data_head(of).to_vec();
        data.extend_from_slice(b"batch");
        let batch = Bytes::from_static(b"batch");
        let none = TierChange::default();
        let cases = [
            (COMMIT_TIER, commit_tier(of, &none), Record::CommitTier { of, change: none.clone() }),
            (DATA, data, Record::Data { of, batch }),
            (LOG_START, log_start(of, -9), Record::LogStart { of, offset: -9 }),
            (DROP, drop_topic(of.topic), Record::Drop { topic: of.topic }),
            (
                EPOCH_START,
                epoch_start(of, 4, 1 << 40),
                Record::EpochStart { of, epoch: 4, offset: 1 << 40 },
            ),
        ];
        for (kind, payload, record) in cases {
            assert_eq!(Record::decode(kind, payload.into()), Ok(record));
        }
    }

    #[test]
    fn a_payload_of_the_wrong_length_and_an_unknown_kind_are_refused() {
        for kind in [DATA, COMMIT_TIER, LOG_START, DROP, EPOCH_START] {
            let wrong = Record::decode(kind, Bytes::from_static(&[0; 7]));
            assert_eq!(wrong, Err(RecordError::Length { kind: kind.0, len: 7 }));
        }
        let unknown = Record::decode(Kind(6), Bytes::new());
        assert_eq!(unknown, Err(RecordError::UnknownKind(6)));
    }
}

//! Why a batch is refused, and how that is answered.

use crate::protocol::compression::DecompressError;
use crate::protocol::record::RecordError;

/// Why bytes are not a batch, or not one that a producer may send. [`BatchError::fault`] says how
/// it is answered.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does, or hold none.
    #[error("a record batch needs {needed} bytes, but {bytes} were sent")]
    TooShort {
        /// What the batch takes, as far as known.
        needed: usize,
        /// What there is.
        bytes: usize,
    },
    /// More follows the batch.
    #[error("{bytes} bytes follow the one record batch that a partition may have in a request")]
    MoreThanOneBatch {
        /// How many bytes follow.
        bytes: usize,
    },
    /// The batch length cannot be one.
    #[error("a record batch has a length of at least 49 bytes, this one has {length}")]
    BadLength {
        /// The length as it was sent.
        length: i32,
    },
    /// The batch is of another format version.
    #[error(
        "record batches have magic 2, this one has {magic}; use a client of Kafka 0.11 or newer"
    )]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// The checksum does not fit the bytes.
    #[error(
        "the record batch has the checksum {stored:#010x}, but its bytes have {computed:#010x}"
    )]
    CrcMismatch {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The codec is unknown.
    #[error("the record batch has the unknown compression codec {id}")]
    UnknownCompression {
        /// The codec's number.
        id: i16,
    },
    /// Zstandard came in a request whose version does not know it (KIP-110).
    #[error("produce version {version} does not allow zstd; it needs version 7")]
    ZstdTooEarly {
        /// The request's version.
        version: i16,
    },
    /// A fresh batch does not start at offset 0.
    #[error("the base offset of a produced batch is 0, not {base_offset}")]
    BaseOffset {
        /// The base offset as it was sent.
        base_offset: i64,
    },
    /// The record count is not positive, above the limit, or not the number of offsets.
    #[error(
        "the record batch counts {count} records for a last offset delta of {last_offset_delta}"
    )]
    RecordCount {
        /// The record count.
        count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// The batch is marked as a control batch, which only the broker writes.
    #[error("clients may not write control records")]
    ControlBatch,
    /// The batch is marked with a log append time, which only the broker sets.
    #[error("producers may not set the timestamp type to log append time")]
    LogAppendTime,
    /// The batch is part of a transaction where none is possible.
    #[error("the record batch is transactional, but the request has no transactional id")]
    Transactional,
    /// A producer id comes with a negative epoch or sequence, or a transaction without one.
    #[error("producer id {producer_id} comes with epoch {producer_epoch} and sequence {sequence}")]
    Producer {
        /// The producer id.
        producer_id: i64,
        /// The producer's epoch.
        producer_epoch: i16,
        /// The sequence of the first record.
        sequence: i32,
    },
    /// The records are not as many, or not such, as the header says.
    #[error("record {index}: {source}")]
    Record {
        /// The record's index in the batch.
        index: i32,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The records' offset deltas are not 0, 1, 2 and so on.
    #[error("record {index} has the offset delta {offset_delta}")]
    OffsetDelta {
        /// The record's index in the batch.
        index: i32,
        /// Its offset delta.
        offset_delta: i32,
    },
    /// A record for a compacted topic has no key.
    #[error("record {index} has no key, which a compacted topic needs")]
    NoKey {
        /// The record's index in the batch.
        index: i32,
    },
    /// A timestamp is outside of what the topic accepts.
    #[error("record {index} has the timestamp {timestamp}, outside of {earliest} to {latest}")]
    TimestampOutOfRange {
        /// The record's index in the batch.
        index: i32,
        /// Its timestamp, in milliseconds.
        timestamp: i64,
        /// The earliest timestamp that is accepted.
        earliest: i64,
        /// The latest timestamp that is accepted.
        latest: i64,
    },
    /// The payload cannot be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// How a [`BatchError`] is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchFault {
    /// `CORRUPT_MESSAGE`, which a producer retries.
    Corrupt,
    /// `INVALID_RECORD`.
    InvalidRecord,
    /// `INVALID_TIMESTAMP`.
    InvalidTimestamp,
    /// `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCompression,
    /// `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`, Kafka's answer to a transactional batch in a
    /// request without a transactional id.
    TransactionNotAllowed,
}

impl BatchError {
    /// Whether the payload decompresses to more than the caller allowed.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Decompress(DecompressError::TooLarge { .. }))
    }

    /// How the error is answered, as `ProduceRequest.validateRecords`, `UnifiedLog` and
    /// `LogValidator` do.
    pub fn fault(&self) -> BatchFault {
        match self {
            BatchError::BadLength { .. } | BatchError::CrcMismatch { .. } => BatchFault::Corrupt,
            BatchError::UnsupportedMagic { magic } if !(0..=1).contains(magic) => {
                BatchFault::Corrupt
            }
            BatchError::UnknownCompression { .. } | BatchError::ZstdTooEarly { .. } => {
                BatchFault::UnsupportedCompression
            }
            BatchError::LogAppendTime | BatchError::TimestampOutOfRange { .. } => {
                BatchFault::InvalidTimestamp
            }
            BatchError::Transactional => BatchFault::TransactionNotAllowed,
            BatchError::TooShort { .. }
            | BatchError::MoreThanOneBatch { .. }
            | BatchError::UnsupportedMagic { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::RecordCount { .. }
            | BatchError::ControlBatch
            | BatchError::Producer { .. }
            | BatchError::Record { .. }
            | BatchError::OffsetDelta { .. }
            | BatchError::NoKey { .. }
            // The checksum was good: this is what the producer wrote, and retrying sends it again.
            | BatchError::Decompress(_) => BatchFault::InvalidRecord,
        }
    }

    /// The index of the record that is at fault, for the response's record errors (KIP-467).
    pub fn record_index(&self) -> Option<i32> {
        match self {
            BatchError::Record { index, .. }
            | BatchError::OffsetDelta { index, .. }
            | BatchError::NoKey { index }
            | BatchError::TimestampOutOfRange { index, .. } => Some(*index),
            _ => None,
        }
    }
}

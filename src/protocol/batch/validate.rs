//! What a broker checks of a produced batch before it gives it offsets.

use super::{Batch, BatchError, BatchHeader, TimestampType};
use crate::protocol::compression::Compression;

/// The most records a batch may have (DESIGN D2).
pub const MAX_RECORDS_PER_BATCH: i32 = 1_000_000;

/// The first version of Produce that allows Zstandard (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

/// What a batch must be to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    /// The version of the Produce request.
    pub version: i16,
    /// Whether the request has a transactional id that its sender may use.
    pub transactional_allowed: bool,
    /// Whether every record needs a key: the topic is compacted. Only records that are walked are
    /// checked for it.
    pub keys_required: bool,
    /// The timestamps that are accepted, `None` for a topic with log append time, which replaces
    /// them.
    pub timestamps: Option<TimestampBounds>,
}

/// The timestamps that are accepted, both included: now less `message.timestamp.before.max.ms` to
/// now plus `message.timestamp.after.max.ms`. A record without a timestamp (-1) passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampBounds {
    /// The earliest, in milliseconds.
    pub earliest: i64,
    /// The latest, in milliseconds.
    pub latest: i64,
}

impl TimestampBounds {
    /// Accepts every timestamp.
    pub const ANY: TimestampBounds = TimestampBounds { earliest: i64::MIN, latest: i64::MAX };

    fn check(self, index: i32, timestamp: i64) -> Result<(), BatchError> {
        let TimestampBounds { earliest, latest } = self;
        if timestamp == -1 || (earliest..=latest).contains(&timestamp) {
            return Ok(());
        }
        Err(BatchError::TimestampOutOfRange { index, timestamp, earliest, latest })
    }
}

/// What checking a batch found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceCheck {
    /// The greatest timestamp of the records, -1 if none has one; of a compressed batch what its
    /// header says. Kafka corrects a header that says something else
    /// ([`set_max_timestamp`](super::set_max_timestamp)).
    pub max_timestamp: i64,
}

impl Batch {
    /// Checks a batch from a producer, without decompressing it: header, checksum and, when there
    /// is no codec, every record. A compressed batch whose records matter is checked further with
    /// [`Batch::validate_records`].
    pub fn validate_for_produce(&self, rules: &ProduceRules) -> Result<ProduceCheck, BatchError> {
        let header = self.header();
        let codec = header.compression()?;
        if codec == Compression::Zstd && rules.version < FIRST_ZSTD_VERSION {
            return Err(BatchError::ZstdTooEarly { version: rules.version });
        }
        if header.base_offset != 0 {
            return Err(BatchError::BaseOffset { base_offset: header.base_offset });
        }
        self.verify_crc()?;
        check_header(header, rules)?;
        if codec == Compression::None {
            let payload = self.bytes().get(super::HEADER_BYTES..).unwrap_or_default();
            return self.validate_records(payload, rules);
        }
        if let Some(bounds) = rules.timestamps {
            bounds.check(0, header.base_timestamp)?;
            bounds.check(header.last_offset_delta, header.max_timestamp)?;
        }
        Ok(ProduceCheck { max_timestamp: header.max_timestamp })
    }

    /// Walks the records of a payload that [`Batch::payload`] gave, of a batch that passed
    /// [`Batch::validate_for_produce`]: as many as counted, offset deltas 0, 1, 2 and so on,
    /// nothing behind the last, and what the topic asks of keys and timestamps.
    pub fn validate_records(
        &self,
        payload: &[u8],
        rules: &ProduceRules,
    ) -> Result<ProduceCheck, BatchError> {
        let header = self.header();
        let mut max_timestamp = -1;
        for (index, record) in (0i32..).zip(self.records(payload)) {
            let record = record.map_err(|source| BatchError::Record { index, source })?;
            if record.offset_delta != index {
                let offset_delta = record.offset_delta;
                return Err(BatchError::OffsetDelta { index, offset_delta });
            }
            if rules.keys_required && record.key.is_none() {
                return Err(BatchError::NoKey { index });
            }
            let timestamp = header.timestamp_of(&record);
            if let Some(bounds) = rules.timestamps {
                bounds.check(index, timestamp)?;
            }
            max_timestamp = max_timestamp.max(timestamp);
        }
        Ok(ProduceCheck { max_timestamp })
    }
}

/// `LogValidator.validateBatch`, and what `MemoryRecordsBuilder` asks of every producer.
fn check_header(header: &BatchHeader, rules: &ProduceRules) -> Result<(), BatchError> {
    let BatchHeader { record_count: count, last_offset_delta, .. } = *header;
    let counted = last_offset_delta.checked_add(1) == Some(count);
    if !counted || !(1..=MAX_RECORDS_PER_BATCH).contains(&count) {
        return Err(BatchError::RecordCount { count, last_offset_delta });
    }
    if header.is_control() {
        return Err(BatchError::ControlBatch);
    }
    // Kafka rewrites such a batch when its topic has create time; bytes that are not rewritten
    // cannot be accepted.
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::LogAppendTime);
    }
    if header.is_transactional() && !rules.transactional_allowed {
        return Err(BatchError::Transactional);
    }
    let sound = if header.has_producer_id() {
        header.producer_epoch >= 0 && header.base_sequence >= 0
    } else {
        !header.is_transactional()
    };
    if !sound {
        return Err(BatchError::Producer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence: header.base_sequence,
        });
    }
    Ok(())
}

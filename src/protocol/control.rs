//! Control records: how the end of a transaction is written into a partition's log.
//!
//! A control batch has the control bit and one record; it takes an offset, clients receive it and
//! do not show it. Key and value, all big endian (`ControlRecordType`, `EndTransactionMarker`):
//!
//! ```text
//! key:   version INT16 = 0 | type INT16: 0 abort, 1 commit, 2 and above: quorum records
//! value: version INT16 = 0 | coordinator epoch INT32
//! ```
//!
//! Later versions only append fields, so a reader takes what it knows from the front.

use bytes::Bytes;

use super::batch::{BatchBuilder, ProducerRef};

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction is aborted.
    Abort,
    /// The producer's transaction is committed.
    Commit,
    /// A type that ends no transaction.
    Other(i16),
}

impl ControlType {
    /// The type's number in the record's key.
    pub fn id(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::Other(id) => id,
        }
    }

    /// Reads the type from a control record's key.
    pub fn parse(key: &[u8]) -> Result<ControlType, ControlError> {
        let (version, rest) = int16(key).ok_or(ControlError::KeyTooShort { bytes: key.len() })?;
        if version < 0 {
            return Err(ControlError::NegativeVersion { version });
        }
        let (id, _) = int16(rest).ok_or(ControlError::KeyTooShort { bytes: key.len() })?;
        Ok(match id {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            other => ControlType::Other(other),
        })
    }
}

fn int16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    bytes.split_first_chunk::<2>().map(|(chunk, rest)| (i16::from_be_bytes(*chunk), rest))
}

/// Why a control record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The key is shorter than its two numbers.
    #[error("a control record's key has 4 bytes at least, this one has {bytes}")]
    KeyTooShort {
        /// The key's length.
        bytes: usize,
    },
    /// The value is shorter than its two numbers.
    #[error("an end-of-transaction marker's value has 6 bytes at least, this one has {bytes}")]
    ValueTooShort {
        /// The value's length.
        bytes: usize,
    },
    /// The version is negative, which no writer produces.
    #[error("a control record has the version {version}")]
    NegativeVersion {
        /// The version as read.
        version: i16,
    },
    /// The record is a control record, but ends no transaction.
    #[error("a control record of type {id} ends no transaction")]
    NotAMarker {
        /// The type's number.
        id: i16,
    },
}

/// The marker that ends a transaction on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// True for a commit, false for an abort.
    pub committed: bool,
    /// The epoch of the coordinator that decided it; an older one is fenced.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads a marker from the key and value of a control record.
    pub fn parse(key: &[u8], value: &[u8]) -> Result<EndTxnMarker, ControlError> {
        let committed = match ControlType::parse(key)? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            ControlType::Other(id) => return Err(ControlError::NotAMarker { id }),
        };
        let short = ControlError::ValueTooShort { bytes: value.len() };
        let (version, rest) = int16(value).ok_or(short)?;
        if version < 0 {
            return Err(ControlError::NegativeVersion { version });
        }
        let epoch = rest.first_chunk::<4>().ok_or(short)?;
        Ok(EndTxnMarker { committed, coordinator_epoch: i32::from_be_bytes(*epoch) })
    }

    /// The batch that writes this marker for a producer. Its base offset and leader epoch are 0
    /// and -1, to be patched on append; its sequence is -1, as markers are not sequenced.
    pub fn batch(self, timestamp: i64, producer_id: i64, producer_epoch: i16) -> Bytes {
        let kind = if self.committed { ControlType::Commit } else { ControlType::Abort };
        let [type_high, type_low] = kind.id().to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        let producer = ProducerRef { id: producer_id, epoch: producer_epoch, sequence: -1 };
        let mut builder = BatchBuilder::new().producer(producer).transactional().control();
        builder.append(
            timestamp,
            Some(&[0, 0, type_high, type_low]),
            Some(&[0, 0, e0, e1, e2, e3]),
            &[],
        );
        builder.build()
    }
}

/// The most offsets that one [`gap_batch`] covers.
pub const GAP_OFFSETS_MAX: i64 = i32::MAX as i64;

/// A batch over `offsets` offsets (1 to [`GAP_OFFSETS_MAX`]) that holds nothing: a commit marker of
/// no producer at the last of them, which ends no transaction and which no client shows.
///
/// A batch without any record, as compaction leaves one, would say the same in fewer words, but not
/// every client gets over it: `KafkaJS` 2 stays where it is until a response brings a record too,
/// and Sarama 1 goes on by one offset with each response.
pub fn gap_batch(offsets: i64) -> Bytes {
    let last = offsets.clamp(1, GAP_OFFSETS_MAX) - 1;
    let mut builder = BatchBuilder::new().control().skip_offsets(last as i32);
    // Without a timestamp, so that no look-up by time finds it.
    builder.append(-1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::tests::{JAVA_COMMIT, unhex};
    use crate::protocol::batch::{Batch, patch_in_place};

    #[test]
    fn a_gap_has_one_marker_of_nobody_at_its_last_offset() {
        for offsets in [1, 2, 1_000_000_000, GAP_OFFSETS_MAX] {
            let batch = Batch::parse_one(gap_batch(offsets)).unwrap();
            batch.verify_crc().unwrap();
            let header = *batch.header();
            assert!(header.is_control() && !header.is_transactional());
            assert!(!header.has_producer_id());
            assert_eq!(header.next_offset(), offsets);
            assert_eq!((header.record_count, header.max_timestamp), (1, -1));
            let payload = batch.payload(100).unwrap();
            let record = batch.records(&payload).next().unwrap().unwrap();
            assert_eq!(header.offset_of(&record), offsets - 1);
            let (key, value) = (record.key.unwrap(), record.value.unwrap());
            assert!(EndTxnMarker::parse(key, value).unwrap().committed);
        }
    }

    const MARKER: EndTxnMarker = EndTxnMarker { committed: true, coordinator_epoch: 42 };

    #[test]
    fn a_marker_is_byte_for_byte_what_java_writes() {
        let mut ours = MARKER.batch(1_700_000_000_000, 4711, 3).to_vec();
        patch_in_place(&mut ours, 1234, 9);
        assert_eq!(ours, unhex(JAVA_COMMIT));
    }

    #[test]
    fn a_marker_is_read_from_its_batch() {
        let batch = Batch::parse_one(unhex(JAVA_COMMIT).into()).unwrap();
        assert!(batch.header().is_control() && batch.header().is_transactional());
        let payload = batch.payload(0).unwrap();
        let record = batch.records(&payload).next().unwrap().unwrap();
        let read = EndTxnMarker::parse(record.key.unwrap(), record.value.unwrap());
        assert_eq!(read, Ok(MARKER));
    }

    #[test]
    fn other_types_are_no_markers_and_short_bytes_are_refused() {
        let leader_change = EndTxnMarker::parse(&[0, 0, 0, 2], &[0; 6]);
        assert_eq!(leader_change, Err(ControlError::NotAMarker { id: 2 }));
        assert_eq!(ControlType::parse(&[0, 0, 0]), Err(ControlError::KeyTooShort { bytes: 3 }));
        let short = EndTxnMarker::parse(&[0, 0, 0, 1], &[0; 5]);
        assert_eq!(short, Err(ControlError::ValueTooShort { bytes: 5 }));
        let negative = ControlType::parse(&[0xff, 0xff, 0, 1]);
        assert_eq!(negative, Err(ControlError::NegativeVersion { version: -1 }));
    }

    #[test]
    fn a_later_version_is_read_from_the_front() {
        let read = EndTxnMarker::parse(&[0, 1, 0, 0, 9], &[0, 1, 0, 0, 0, 7, 9, 9]);
        assert_eq!(read, Ok(EndTxnMarker { committed: false, coordinator_epoch: 7 }));
    }
}

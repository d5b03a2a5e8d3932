//! Record batches, format version 2: what is written, stored and fetched as opaque bytes.
//!
//! Only the header is parsed. Offsets are assigned by patching 12 bytes that no checksum covers,
//! so that a batch is stored as its producer sent it, and one copy is all it costs.
//!
//! ```text
//!  0 base offset     INT64    patched on append
//!  8 batch length    INT32    bytes behind this field
//! 12 leader epoch    INT32    patched on append
//! 16 magic           INT8     2
//! 17 crc             UINT32   CRC-32C of everything from byte 21 on
//! 21 attributes      INT16    0-2 codec, 3 log append time, 4 transactional, 5 control,
//!                             6 delete horizon
//! 23 last offset delta INT32  kept by compaction, so not always the record count less one
//! 27 base timestamp  INT64    of the first record; the delete horizon if bit 6 is set
//! 35 max timestamp   INT64
//! 43 producer id     INT64    -1 for none
//! 51 producer epoch  INT16
//! 53 base sequence   INT32
//! 57 record count    INT32
//! 61 records, compressed as a whole
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

use super::compression::{Compression, compress_at, decompress};
use super::crc;
use super::record::{Record, Records};

mod builder;
mod error;
mod retain;
#[cfg(test)]
pub(super) mod tests;
mod validate;

pub use builder::{BatchBuilder, ProducerRef, empty_batch};
pub use error::{BatchError, BatchFault};
pub use validate::{MAX_RECORDS_PER_BATCH, ProduceCheck, ProduceRules, TimestampBounds};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes of base offset and batch length, which the batch length does not count.
pub const LOG_OVERHEAD: usize = 12;

/// The one format version that is written and read.
pub const MAGIC: i8 = 2;

/// Where the bytes that the checksum covers begin.
pub const CRC_START: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;

/// What a batch's timestamps mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record has the time its producer gave it.
    CreateTime,
    /// All records have the batch's max timestamp, the time of their append.
    LogAppendTime,
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record, also if compaction removed it.
    pub base_offset: i64,
    /// The bytes behind the length field: the batch's size less 12.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// The CRC-32C of everything from byte 21 on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The last offset less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in milliseconds.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, or the time of the append.
    pub max_timestamp: i64,
    /// The producer's id, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// How many records the batch has.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end right behind it.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let too_short = BatchError::TooShort { needed: HEADER_BYTES, bytes: bytes.len() };
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            // The magic of an older format comes before its header ends: say that instead.
            return match bytes.get(16) {
                Some(&magic) if magic as i8 != MAGIC => {
                    Err(BatchError::UnsupportedMagic { magic: magic as i8 })
                }
                _ => Err(too_short),
            };
        };
        let magic = head[16] as i8;
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let batch_length = i32::from_be_bytes(at(head, 8));
        if batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::BadLength { length: batch_length });
        }
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(at(head, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(at(head, 12)),
            crc: u32::from_be_bytes(at(head, 17)),
            attributes: i16::from_be_bytes(at(head, 21)),
            last_offset_delta: i32::from_be_bytes(at(head, 23)),
            base_timestamp: i64::from_be_bytes(at(head, 27)),
            max_timestamp: i64::from_be_bytes(at(head, 35)),
            producer_id: i64::from_be_bytes(at(head, 43)),
            producer_epoch: i16::from_be_bytes(at(head, 51)),
            base_sequence: i32::from_be_bytes(at(head, 53)),
            record_count: i32::from_be_bytes(at(head, 57)),
        })
    }

    /// The bytes of the whole batch.
    pub fn size(&self) -> usize {
        // `parse` refuses a negative length.
        self.batch_length as usize + LOG_OVERHEAD
    }

    /// The offset of the last record, also if compaction removed it.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset behind the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The codec of the records.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = self.attributes & COMPRESSION_MASK;
        Compression::from_id(id).ok_or(BatchError::UnknownCompression { id })
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds a control record, which clients do not show.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When compaction may remove the batch's tombstones, in milliseconds, once it is known.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether the producer is idempotent.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// The sequence of the last record, or -1. Sequences go on with 0 after 2^31-1.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The offset of a record of this batch.
    pub fn offset_of(&self, record: &Record<'_>) -> i64 {
        self.base_offset.saturating_add(i64::from(record.offset_delta))
    }

    /// The timestamp of a record of this batch, in milliseconds.
    pub fn timestamp_of(&self, record: &Record<'_>) -> i64 {
        match self.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

/// The `N` bytes at a position that the compiler knows to be inside the header.
#[inline]
fn at<const N: usize>(head: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
    *head[from..].first_chunk().expect("the header's fields lie inside of it")
}

/// A batch and its parsed header.
#[derive(Clone, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes bytes that should be exactly one batch, as a partition of a Produce request has it.
    /// Looks at the structure only; [`Batch::validate_for_produce`] does the rest.
    pub fn parse_one(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let needed = header.size();
        if bytes.len() < needed {
            return Err(BatchError::TooShort { needed, bytes: bytes.len() });
        }
        if bytes.len() > needed {
            return Err(BatchError::MoreThanOneBatch { bytes: bytes.len() - needed });
        }
        Ok(Batch { header, bytes })
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the checksum with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        let stored = self.header.crc;
        if computed == stored { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
    }

    /// The records' bytes, decompressed to at most `max_output`. Without a codec it is a slice of
    /// the batch, and the bound does not matter.
    pub fn payload(&self, max_output: usize) -> Result<Bytes, BatchError> {
        let stored = self.bytes.slice(HEADER_BYTES..);
        match self.header.compression()? {
            Compression::None => Ok(stored),
            codec => Ok(decompress(codec, &stored, max_output)?),
        }
    }

    /// The batch with its records in another codec. `payload` is what [`Batch::payload`] gave; the
    /// records stay byte for byte, and of the header only codec, length and checksum change.
    ///
    /// The batch must be below 2 GiB, as [`Batch::payload`]'s bound sees to.
    pub fn recompressed(
        &self,
        payload: &[u8],
        codec: Compression,
        level: Option<i32>,
    ) -> Result<Batch, BatchError> {
        let records = match codec {
            Compression::None => Bytes::new(),
            codec => compress_at(codec, level, payload),
        };
        let records = if codec == Compression::None { payload } else { &records[..] };
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
        batch.put_slice(self.bytes.get(..HEADER_BYTES).unwrap_or_default());
        batch.put_slice(records);
        let length = (batch.len() - LOG_OVERHEAD) as i32;
        let attributes = (self.header.attributes & !COMPRESSION_MASK) | codec.id();
        let head = batch.first_chunk_mut::<HEADER_BYTES>().expect("a batch has a whole header");
        head[8..12].copy_from_slice(&length.to_be_bytes());
        head[21..23].copy_from_slice(&attributes.to_be_bytes());
        write_crc(&mut batch);
        Batch::parse_one(batch.freeze())
    }

    /// The records of a payload that [`Batch::payload`] gave.
    pub fn records<'a>(&self, payload: &'a [u8]) -> Records<'a> {
        Records::new(payload, self.header.record_count)
    }

    /// The CRC-32C of the part that patching leaves alone, bytes 21 to the end, and its length. It
    /// is the header's checksum: true once [`Batch::verify_crc`] said so. With
    /// [`crc::combine`] it saves a second pass over the bytes.
    pub fn tail_crc(&self) -> (u32, usize) {
        (self.header.crc, self.bytes.len() - CRC_START)
    }

    /// Continues `crc`, a CRC-32C of what precedes the batch, over the whole batch as
    /// [`patch_into`] would write it, without reading more than 21 bytes of it.
    pub fn patched_crc(&self, crc: u32, base_offset: i64, leader_epoch: i32) -> u32 {
        let mut head = [0u8; CRC_START];
        head.copy_from_slice(self.bytes.get(..CRC_START).expect("a batch is longer"));
        write_patch(&mut head, base_offset, leader_epoch);
        let (tail, len) = self.tail_crc();
        crc::combine(crc32c_append(crc, &head), tail, len)
    }
}

/// Copies a whole batch and gives the copy its offset and epoch: the one copy that a produced byte
/// costs, and a step that cannot fail.
///
/// `src` is a [`Batch`]'s bytes; `dst` has the same length.
pub fn patch_into(dst: &mut [u8], src: &[u8], base_offset: i64, leader_epoch: i32) {
    dst.copy_from_slice(src);
    patch_in_place(dst, base_offset, leader_epoch);
}

/// Gives a batch its offset and epoch. `batch` starts with a whole header.
pub fn patch_in_place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    let head = batch.first_chunk_mut::<CRC_START>().expect("a batch is longer than its header");
    write_patch(head, base_offset, leader_epoch);
}

fn write_patch(head: &mut [u8; CRC_START], base_offset: i64, leader_epoch: i32) {
    head[0..8].copy_from_slice(&base_offset.to_be_bytes());
    head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets a batch's timestamp type and max timestamp, renews the checksum and returns it: for topics
/// with log append time, and where a producer's max timestamp is not that of its records. `batch`
/// is a whole batch; costs a pass over its bytes, unless it says so already
/// (`DefaultRecordBatch.setMaxTimestamp`).
pub fn set_max_timestamp(batch: &mut [u8], kind: TimestampType, max_timestamp: i64) -> u32 {
    let head = batch.first_chunk_mut::<HEADER_BYTES>().expect("a batch has a whole header");
    let before = i16::from_be_bytes(at(head, 21));
    let attributes = match kind {
        TimestampType::CreateTime => before & !LOG_APPEND_TIME_BIT,
        TimestampType::LogAppendTime => before | LOG_APPEND_TIME_BIT,
    };
    if attributes == before && i64::from_be_bytes(at(head, 35)) == max_timestamp {
        return u32::from_be_bytes(at(head, 17));
    }
    head[21..23].copy_from_slice(&attributes.to_be_bytes());
    head[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    write_crc(batch)
}

fn write_crc(batch: &mut [u8]) -> u32 {
    let (head, covered) = batch.split_at_mut(CRC_START);
    let crc = crc32c(covered);
    head[17..21].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// Walks whole batches, one behind the other, as the log and Fetch responses have them.
///
/// Bytes at the end that are no whole batch, as Fetch may have them, end the walk and stay in
/// [`BatchIter::rest`]. A header that cannot be one is an error and the last item. Checksums are
/// not looked at.
#[derive(Clone, Debug)]
pub struct BatchIter {
    rest: Bytes,
}

impl BatchIter {
    /// A walk over `bytes`, which start with a batch.
    pub fn new(bytes: Bytes) -> BatchIter {
        BatchIter { rest: bytes }
    }

    /// What has not been walked yet; at the end, the torn tail.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for BatchIter {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < HEADER_BYTES {
            return None;
        }
        match BatchHeader::parse(&self.rest) {
            Ok(header) if header.size() > self.rest.len() => None,
            Ok(header) => {
                let bytes = self.rest.split_to(header.size());
                Some(Ok(Batch { header, bytes }))
            }
            Err(error) => {
                self.rest = Bytes::new();
                Some(Err(error))
            }
        }
    }
}

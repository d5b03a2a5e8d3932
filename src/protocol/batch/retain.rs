//! What compaction leaves of a batch (Kafka's `MemoryRecords.filterTo`).
//!
//! Offsets and sequences keep their meaning: base offset, last offset delta, producer, epoch and
//! base sequence stay, and so does every kept record's offset, timestamp, key, value and headers.

use bytes::{BufMut, BytesMut};

use super::{
    Batch, BatchError, BatchHeader, COMPRESSION_MASK, DELETE_HORIZON_BIT, HEADER_BYTES,
    LOG_OVERHEAD, write_crc,
};
use crate::protocol::compression::{Compression, compress};

/// The base timestamp of a batch without records (`RecordBatch.NO_TIMESTAMP`).
const NO_TIMESTAMP: i64 = -1;

impl Batch {
    /// The batch with those of its records that `keep` says, one entry each, compressed by the
    /// codec that it has. `payload` is what [`Batch::payload`] gave.
    ///
    /// Timestamps are relative to the delete horizon where there is one, otherwise to the first
    /// record that is kept (KIP-534, `MemoryRecordsBuilder`). The result may take more bytes than
    /// the batch had: a horizon makes each record up to nine bytes longer.
    ///
    /// The payload must be so far below 2 GiB that this does not matter.
    pub fn retain_records(
        &self,
        payload: &[u8],
        keep: &[bool],
        delete_horizon: Option<i64>,
    ) -> Result<Batch, BatchError> {
        let codec = self.header.compression()?;
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + payload.len());
        batch.put_slice(self.head());
        let mut base_timestamp = delete_horizon;
        let mut max_timestamp = NO_TIMESTAMP;
        let mut record_count = 0;
        for (index, (record, keep)) in (0i32..).zip(self.records(payload).zip(keep)) {
            let refused = |source| BatchError::Record { index, source };
            let record = record.map_err(refused)?;
            if !keep {
                continue;
            }
            let timestamp = self.header.timestamp_of(&record);
            let base = *base_timestamp.get_or_insert(timestamp);
            let delta = timestamp.wrapping_sub(base);
            record.put_with_timestamp_delta(&mut batch, delta).map_err(refused)?;
            max_timestamp = max_timestamp.max(timestamp);
            record_count += 1;
        }
        if codec != Compression::None {
            let records = batch.split_off(HEADER_BYTES);
            batch.put(compress(codec, &records));
        }
        let horizon = if delete_horizon.is_some() { DELETE_HORIZON_BIT } else { 0 };
        let header = BatchHeader {
            attributes: (self.header.attributes & !DELETE_HORIZON_BIT) | horizon,
            base_timestamp: base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp,
            record_count,
            ..self.header
        };
        with_header(batch, &header)
    }

    /// The batch without any record, which is kept for its offsets and its producer's sequence
    /// (`DefaultRecordBatch.writeEmptyHeader`).
    pub fn emptied(&self) -> Result<Batch, BatchError> {
        let header = BatchHeader {
            attributes: self.header.attributes & !(COMPRESSION_MASK | DELETE_HORIZON_BIT),
            base_timestamp: NO_TIMESTAMP,
            record_count: 0,
            ..self.header
        };
        with_header(BytesMut::from(self.head()), &header)
    }

    fn head(&self) -> &[u8] {
        self.bytes.get(..HEADER_BYTES).unwrap_or_default()
    }
}

/// Gives a batch, which begins with the head of the one that it was, the attributes, timestamps and
/// record count of `header`, and the length and checksum that its bytes have.
fn with_header(mut batch: BytesMut, header: &BatchHeader) -> Result<Batch, BatchError> {
    let length = (batch.len() - LOG_OVERHEAD) as i32;
    let head = batch.first_chunk_mut::<HEADER_BYTES>().expect("a batch has a whole header");
    head[8..12].copy_from_slice(&length.to_be_bytes());
    head[21..23].copy_from_slice(&header.attributes.to_be_bytes());
    head[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
    head[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
    head[57..61].copy_from_slice(&header.record_count.to_be_bytes());
    write_crc(&mut batch);
    Batch::parse_one(batch.freeze())
}

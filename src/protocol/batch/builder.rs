//! Writes batches as Kafka's Java producer does (`MemoryRecordsBuilder`): for coordinators,
//! markers, holes, and tests.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    CONTROL_BIT, HEADER_BYTES, LOG_OVERHEAD, MAGIC, TRANSACTIONAL_BIT, patch_in_place, write_crc,
};
use crate::protocol::compression::{Compression, compress};
use crate::protocol::record::Header;
use crate::protocol::varint::{len_i32, len_i64, put_i32, put_i64};

/// Who wrote a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRef {
    /// The producer's id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the batch's first record.
    pub sequence: i32,
}

impl ProducerRef {
    /// A producer that is not idempotent.
    pub const NONE: ProducerRef = ProducerRef { id: -1, epoch: -1, sequence: -1 };
}

/// Collects records into one batch.
///
/// Base offset and leader epoch are 0 and -1, as a client sends them; the append patches them.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records as they are appended.
    buffer: BytesMut,
    attributes: i16,
    producer: ProducerRef,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    /// The offset delta of the next record: the count, and what was skipped.
    next_delta: i32,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// A batch without producer, transaction or records.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            buffer: BytesMut::zeroed(HEADER_BYTES),
            attributes: 0,
            producer: ProducerRef::NONE,
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
            next_delta: 0,
        }
    }

    /// Names the producer.
    pub fn producer(mut self, producer: ProducerRef) -> BatchBuilder {
        self.producer = producer;
        self
    }

    /// Makes the batch part of the producer's transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes it a control batch.
    pub fn control(mut self) -> BatchBuilder {
        self.attributes |= CONTROL_BIT;
        self
    }

    /// Leaves out `count` offsets, below 2^31-1 together with the records: the next record comes
    /// behind them, as if compaction had removed those between.
    pub fn skip_offsets(mut self, count: i32) -> BatchBuilder {
        self.next_delta += count;
        self
    }

    /// Appends a record. The first one's timestamp is the batch's base timestamp.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        let header_len =
            |header: &Header<'_>| bytes_len(Some(header.key)) + bytes_len(header.value);
        let len = 1
            + len_i64(delta)
            + len_i32(self.next_delta)
            + bytes_len(key)
            + bytes_len(value)
            + len_i32(headers.len() as i32)
            + headers.iter().map(header_len).sum::<usize>();
        let out = &mut self.buffer;
        out.reserve(len + 5);
        put_i32(out, len as i32);
        out.put_u8(0);
        put_i64(out, delta);
        put_i32(out, self.next_delta);
        put_bytes(out, key);
        put_bytes(out, value);
        put_i32(out, headers.len() as i32);
        for header in headers {
            put_bytes(out, Some(header.key));
            put_bytes(out, header.value);
        }
        self.count += 1;
        self.next_delta += 1;
    }

    /// How many records there are.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// The bytes of the batch so far, uncompressed.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The batch, uncompressed; no bytes at all if nothing was appended.
    pub fn build(self) -> Bytes {
        self.build_compressed(Compression::None)
    }

    /// The batch, compressed; no bytes at all if nothing was appended.
    pub fn build_compressed(mut self, codec: Compression) -> Bytes {
        if self.count == 0 {
            return Bytes::new();
        }
        if codec != Compression::None {
            let records = self.buffer.split_off(HEADER_BYTES);
            self.buffer.put(compress(codec, &records));
        }
        let header = Fields {
            attributes: self.attributes | codec.id(),
            last_offset_delta: self.next_delta - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            record_count: self.count,
        };
        header.write(&mut self.buffer);
        self.buffer.freeze()
    }
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| len_i32(bytes.len() as i32) + bytes.len())
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else { return put_i32(out, -1) };
    put_i32(out, bytes.len() as i32);
    out.put_slice(bytes);
}

/// A batch without records that covers the offsets `base_offset` to `base_offset +
/// last_offset_delta`, as Kafka's cleaner leaves one for a producer's last batch
/// (`DefaultRecordBatch.writeEmptyHeader`). A client's position passes over it.
pub fn empty_batch(
    base_offset: i64,
    last_offset_delta: i32,
    leader_epoch: i32,
    max_timestamp: i64,
    producer: ProducerRef,
) -> Bytes {
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    let header = Fields {
        attributes: 0,
        last_offset_delta,
        base_timestamp: -1,
        max_timestamp,
        producer,
        record_count: 0,
    };
    header.write(&mut buffer);
    patch_in_place(&mut buffer, base_offset, leader_epoch);
    buffer.freeze()
}

/// What a new batch's header says.
struct Fields {
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: ProducerRef,
    record_count: i32,
}

impl Fields {
    /// Writes the header over the first bytes of a whole batch.
    fn write(&self, batch: &mut [u8]) {
        let batch_length = (batch.len() - LOG_OVERHEAD) as i32;
        let mut out = &mut batch[..HEADER_BYTES];
        out.put_i64(0);
        out.put_i32(batch_length);
        out.put_i32(-1);
        out.put_i8(MAGIC);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer.id);
        out.put_i16(self.producer.epoch);
        out.put_i32(self.producer.sequence);
        out.put_i32(self.record_count);
        write_crc(batch);
    }
}

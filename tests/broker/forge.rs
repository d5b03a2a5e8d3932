//! Record batches byte by byte, so that each part of them can be false.

use bytes::{BufMut, Bytes};
use tidegate::protocol::batch::CRC_START;
use tidegate::protocol::compression::Compression;
use tidegate::protocol::varint::{put_i32, put_i64};

/// Where the fields of a batch's header are, as far as they are forged.
pub mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const PRODUCER_ID: usize = 43;
    pub const COUNT: usize = 57;
}

/// A time that every topic accepts.
const TIME: i64 = 1_700_000_000_000;

/// A batch that counts `count` records and has `payload` in their place; `attributes` names the
/// codec that made it.
pub fn batch(attributes: i16, count: i32, payload: &[u8]) -> Vec<u8> {
    let mut batch = Vec::new();
    batch.put_i64(0);
    batch.put_i32(49 + payload.len() as i32);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(0);
    batch.put_i16(attributes);
    batch.put_i32(count.wrapping_sub(1));
    batch.put_i64(TIME);
    batch.put_i64(TIME);
    batch.put_i64(-1);
    batch.put_i16(-1);
    batch.put_i32(-1);
    batch.put_i32(count);
    batch.put_slice(payload);
    seal(&mut batch);
    batch
}

/// A batch of `count` records of which nothing is false.
pub fn good(count: i32) -> Vec<u8> {
    let payload: Vec<u8> = (0..count).flat_map(|delta| record(delta, b"value")).collect();
    batch(0, count, &payload)
}

/// A good batch of three records with `bytes` from `from` on, and the checksum that belongs to it.
pub fn edited(from: usize, bytes: &[u8]) -> Bytes {
    let mut batch = good(3);
    batch[from..from + bytes.len()].copy_from_slice(bytes);
    if from != at::CRC {
        seal(&mut batch);
    }
    batch.into()
}

/// One record in a batch that counts it, whose body is `body` and whose length is `len`.
pub fn lone(len: i32, body: &[u8]) -> Bytes {
    let mut payload = Vec::new();
    put_i32(&mut payload, len);
    payload.put_slice(body);
    batch(0, 1, &payload).into()
}

/// A record's body from its parts: key, value and headers are given with their lengths.
pub fn body(offset_delta: i32, key: &[u8], value: &[u8], headers: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    put_i64(&mut body, 0);
    put_i32(&mut body, offset_delta);
    body.put_slice(key);
    body.put_slice(value);
    body.put_slice(headers);
    body
}

/// A record with a key.
pub fn record(offset_delta: i32, value: &[u8]) -> Vec<u8> {
    let mut sized = Vec::new();
    put_i32(&mut sized, value.len() as i32);
    sized.put_slice(value);
    let body = body(offset_delta, &[2, b'k'], &sized, &[0]);
    let mut record = Vec::new();
    put_i32(&mut record, body.len() as i32);
    record.put_slice(&body);
    record
}

/// A zig-zagged number.
pub fn zigzag(value: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_i32(&mut bytes, value);
    bytes
}

/// A batch whose payload is compressed already.
pub fn compressed(codec: Compression, count: i32, payload: &[u8]) -> Bytes {
    batch(codec.id(), count, payload).into()
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[at::CRC..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

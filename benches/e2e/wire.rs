//! The few requests that the cells send, encoded once, and frames cut from a stream.
//!
//! Only versions before the flexible headers are used: they are the newest whose bytes need no tag
//! sections, both brokers answer them, and a response's fields lie at places that cost nothing to
//! find. Nothing here is shared with the broker under test but the writer of record batches, whose
//! output Apache Kafka checks.

use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use tidegate::protocol::batch::BatchBuilder;
use tokio::net::TcpStream;

/// The last version of Produce without flexible headers.
const PRODUCE_VERSION: i16 = 8;
/// The last version of Fetch without flexible headers.
const FETCH_VERSION: i16 = 11;
/// The last version of `CreateTopics` without flexible headers.
const CREATE_TOPICS_VERSION: i16 = 4;
/// The last version of `DeleteTopics` without flexible headers.
const DELETE_TOPICS_VERSION: i16 = 3;

/// Produce's API key.
pub(crate) const PRODUCE: i16 = 0;
/// Fetch's API key.
pub(crate) const FETCH: i16 = 1;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;

/// Where the correlation id lies in a frame: after length, API key and version.
const CORRELATION_AT: usize = 8;

/// A frame above this is received alone, so that no part of the next one has to be moved.
const LARGE_FRAME: usize = 64 << 10;

/// The size of a record of the produce cells on the wire, in bytes.
const RECORD_BYTES: usize = 1 << 10;
/// What a record of about [`RECORD_BYTES`] has beside its value: lengths, deltas, no key.
const RECORD_OVERHEAD: usize = 10;

/// A fault of the driver or of the peer that ends the run.
pub(crate) fn fault(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

/// One batch and how many records it has.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// The batch as a client sends it.
    pub(crate) bytes: Bytes,
    /// Its record count: how far the next base offset is.
    pub(crate) count: i64,
}

/// A batch of exactly `size` bytes, of records of about 1 KiB; no producer id, so that it may be
/// sent any number of times.
pub(crate) fn batch_of(size: usize) -> io::Result<Records> {
    let values = noise(2 * RECORD_BYTES);
    let mut builder = BatchBuilder::new();
    let append = |builder: &mut BatchBuilder, length: usize| {
        builder.append(1_700_000_000_000, None, values.get(..length), &[]);
    };
    while builder.size() + 2 * RECORD_BYTES <= size {
        append(&mut builder, RECORD_BYTES - RECORD_OVERHEAD);
    }
    // The lengths before a value grow with it, so the last value is found by trying.
    let left = size.saturating_sub(builder.size());
    let last = (0..=left).rev().find(|value| last_record(builder.record_count(), *value) == left);
    append(&mut builder, last.ok_or_else(|| fault(format!("no batch has {size} bytes")))?);
    let count = i64::from(builder.record_count());
    let bytes = builder.build();
    if bytes.len() != size {
        return Err(fault(format!("a batch of {size} bytes came out with {}", bytes.len())));
    }
    Ok(Records { bytes, count })
}

/// A batch of one record whose value has `size` bytes.
pub(crate) fn single_record(size: usize) -> Records {
    let mut builder = BatchBuilder::new();
    builder.append(1_700_000_000_000, None, noise(size).get(..size), &[]);
    Records { bytes: builder.build(), count: 1 }
}

/// The bytes that record number `index` of a batch takes with a value of `value` bytes.
fn last_record(index: i32, value: usize) -> usize {
    let varint = |value: usize| (1..10).find(|n| value << 1 >> (7 * n) == 0).unwrap_or(10);
    let body = 3 + varint(index as usize) + varint(value) + value + 1;
    varint(body) + body
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A request that is encoded once and sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    fn new(key: i16, version: i16) -> Frame {
        let mut bytes = Vec::new();
        bytes.put_i32(0);
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(0);
        put_string(&mut bytes, "e2e");
        Frame { bytes }
    }

    /// A request whose body `encode` writes.
    pub(crate) fn of(
        key: i16,
        version: i16,
        encode: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Frame> {
        let mut frame = Frame::new(key, version);
        encode(&mut frame.bytes)?;
        Ok(frame.finish())
    }

    fn finish(mut self) -> Frame {
        let length = self.bytes.len() as i32 - 4;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self
    }

    /// The bytes to send as request number `correlation`.
    pub(crate) fn stamped(&mut self, correlation: i32) -> &[u8] {
        self.bytes[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        &self.bytes
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// Produce of one batch to one partition, acknowledged by all replicas as clients ask by default.
pub(crate) fn produce(topic: &str, partition: i32, records: &Records) -> Frame {
    let mut frame = Frame::new(PRODUCE, PRODUCE_VERSION);
    let out = &mut frame.bytes;
    out.put_i16(-1); // no transactional id
    out.put_i16(-1); // acks=all
    out.put_i32(30_000);
    out.put_i32(1);
    put_string(out, topic);
    out.put_i32(1);
    out.put_i32(partition);
    out.put_i32(records.bytes.len() as i32);
    out.put_slice(&records.bytes);
    frame.finish()
}

/// Fetch of at most `max_bytes` of partition 0 from `offset`.
pub(crate) fn fetch(topic: &str, offset: i64, max_bytes: i32) -> Frame {
    fetch_from(topic, 0, offset, max_bytes, 500)
}

/// Fetch that returns at once, also from an empty partition: asks whether it has a leader.
pub(crate) fn fetch_nothing(topic: &str, partition: i32) -> Frame {
    fetch_from(topic, partition, 0, 1, 0)
}

/// Fetch without a session.
pub(crate) fn fetch_from(
    topic: &str,
    partition: i32,
    offset: i64,
    max_bytes: i32,
    wait_ms: i32,
) -> Frame {
    let mut frame = Frame::new(FETCH, FETCH_VERSION);
    let out = &mut frame.bytes;
    out.put_i32(-1); // a consumer
    out.put_i32(wait_ms);
    out.put_i32(1); // min bytes
    out.put_i32(max_bytes);
    out.put_i8(0); // read_uncommitted
    out.put_i32(0); // no session
    out.put_i32(-1);
    out.put_i32(1);
    put_string(out, topic);
    out.put_i32(1);
    out.put_i32(partition);
    out.put_i32(-1); // leader epoch unknown
    out.put_i64(offset);
    out.put_i64(-1);
    out.put_i32(max_bytes);
    out.put_i32(0); // nothing forgotten
    put_string(out, "");
    frame.finish()
}

/// `CreateTopics` of one topic with one replica.
pub(crate) fn create_topic(topic: &str, partitions: i32) -> Frame {
    let mut frame = Frame::new(CREATE_TOPICS, CREATE_TOPICS_VERSION);
    let out = &mut frame.bytes;
    out.put_i32(1);
    put_string(out, topic);
    out.put_i32(partitions);
    out.put_i16(1);
    out.put_i32(0);
    out.put_i32(0);
    out.put_i32(30_000);
    out.put_i8(0);
    frame.finish()
}

/// `DeleteTopics` of one topic.
pub(crate) fn delete_topic(topic: &str) -> Frame {
    let mut frame = Frame::new(DELETE_TOPICS, DELETE_TOPICS_VERSION);
    let out = &mut frame.bytes;
    out.put_i32(1);
    put_string(out, topic);
    out.put_i32(30_000);
    frame.finish()
}

/// The error code of a `CreateTopics` or `DeleteTopics` response with one topic.
pub(crate) fn topic_error(mut body: &[u8]) -> io::Result<i16> {
    body.try_get_i32()?; // throttle time
    body.try_get_i32()?;
    skip_string(&mut body)?;
    Ok(body.try_get_i16()?)
}

/// What a Produce response says of its one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Produced {
    /// Kafka's error code.
    pub(crate) error: i16,
    /// The offset of the batch's first record.
    pub(crate) base_offset: i64,
}

/// Reads a Produce response, without its correlation id.
pub(crate) fn produced(mut body: &[u8]) -> io::Result<Produced> {
    body.try_get_i32()?;
    skip_string(&mut body)?;
    body.try_get_i32()?;
    body.try_get_i32()?;
    Ok(Produced { error: body.try_get_i16()?, base_offset: body.try_get_i64()? })
}

/// Writes a Produce response as the floor probe sends it.
pub(crate) fn put_produced(out: &mut Vec<u8>, correlation: i32, topic: &[u8], base_offset: i64) {
    let length = 4 + 4 + 2 + topic.len() + 4 + 4 + 2 + 8 + 8 + 8 + 4 + 2 + 4;
    out.put_i32(length as i32);
    out.put_i32(correlation);
    out.put_i32(1);
    out.put_i16(topic.len() as i16);
    out.put_slice(topic);
    out.put_i32(1);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i64(base_offset);
    out.put_i64(-1);
    out.put_i64(0);
    out.put_i32(0);
    out.put_i16(-1);
    out.put_i32(0);
}

/// Reads a Fetch response, without its correlation id: the error code and the record bytes.
pub(crate) fn fetched(mut body: &[u8]) -> io::Result<(i16, &[u8])> {
    body.try_get_i32()?; // throttle time
    let error = body.try_get_i16()?;
    body.try_get_i32()?;
    let topics = body.try_get_i32()?;
    if error != 0 || topics != 1 {
        return Ok((error, &[]));
    }
    skip_string(&mut body)?;
    body.try_get_i32()?;
    body.try_get_i32()?;
    let error = body.try_get_i16()?;
    body.try_get_i64()?; // high watermark
    body.try_get_i64()?; // last stable offset
    body.try_get_i64()?; // log start
    for _ in 0..body.try_get_i32()? {
        body.try_get_i64()?;
        body.try_get_i64()?;
    }
    body.try_get_i32()?; // preferred replica
    let length = usize::try_from(body.try_get_i32()?).unwrap_or(0);
    let records = body.get(..length).ok_or_else(|| fault("a fetch response is cut short"))?;
    Ok((error, records))
}

/// Writes what stands before the `length` record bytes of a Fetch response.
pub(crate) fn put_fetched(out: &mut Vec<u8>, correlation: i32, topic: &[u8], length: usize) {
    let body = 4 + 4 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4 + length;
    out.put_i32(body as i32);
    out.put_i32(correlation);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i32(0);
    out.put_i32(1);
    out.put_i16(topic.len() as i16);
    out.put_slice(topic);
    out.put_i32(1);
    out.put_i32(0);
    out.put_i16(0);
    out.put_i64(1 << 40);
    out.put_i64(1 << 40);
    out.put_i64(0);
    out.put_i32(-1);
    out.put_i32(-1);
    out.put_i32(length as i32);
}

fn skip_string(body: &mut &[u8]) -> io::Result<()> {
    let length = usize::try_from(body.try_get_i16()?).unwrap_or(0);
    *body = body.get(length..).ok_or_else(|| fault("a response is cut short"))?;
    Ok(())
}

/// Sends both parts in as few calls as the socket allows.
pub(crate) async fn send(stream: &TcpStream, mut head: &[u8], mut tail: &[u8]) -> io::Result<()> {
    while !head.is_empty() || !tail.is_empty() {
        stream.writable().await?;
        match stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
            Ok(count) => {
                let from_head = count.min(head.len());
                head = &head[from_head..];
                tail = &tail[count - from_head..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A reused buffer from which whole frames are cut.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameBuffer {
    /// A buffer whose memory has been touched.
    pub(crate) fn new(size: usize) -> FrameBuffer {
        FrameBuffer { bytes: vec![1; size], start: 0, end: 0 }
    }

    /// Takes the next complete frame: where it lies, without its length. It stays there until
    /// [`FrameBuffer::room`] is called.
    pub(crate) fn take(&mut self) -> Option<Range<usize>> {
        let length = self.length()?;
        let frame = self.start + 4..self.start + 4 + length;
        if frame.end > self.end {
            return None;
        }
        self.start = frame.end;
        Some(frame)
    }

    /// The bytes of a frame that was taken.
    pub(crate) fn get(&self, frame: Range<usize>) -> &[u8] {
        &self.bytes[frame]
    }

    /// Where to receive: for a large frame no more than it still needs.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let frame = 4 + self.length().unwrap_or(0);
        if self.start > 0 && (self.start == self.end || self.start + frame >= self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if frame > self.bytes.len() {
            self.bytes.resize(frame, 1);
        }
        let until = if frame > LARGE_FRAME { self.start + frame } else { self.bytes.len() };
        &mut self.bytes[self.end..until]
    }

    /// Notes that `count` bytes were received.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// The length of the first frame, as soon as it is known.
    fn length(&self) -> Option<usize> {
        let prefix = self.bytes[self.start..self.end].first_chunk::<4>()?;
        usize::try_from(i32::from_be_bytes(*prefix)).ok()
    }
}

//! A partition's part of a checkpoint: its whole state as of one LSN, taken under its lock.
//!
//! Numbers are big-endian; counts stand before what they count. The checkpoint's file, its crc and
//! its publication are the WAL's.
//!
//! | field | type |
//! |---|---|
//! | major version = 2, minor version = 0 | u8, u8 |
//! | topic id, partition | 16 bytes, i32 |
//! | LSN of the partition's last record | u64 |
//! | log clock in ms, leader epoch | i64, i32 |
//! | log start offset, log end offset | i64, i64 |
//! | epochs: count, each epoch and start offset | u32, (i32, i64) |
//! | producers: count, each below | u32 |
//! | · id, epoch, last seen in ms, run | i64, i16, i64, u32 |
//! | · batches: count, each base and last sequence, last offset, offset delta, max timestamp, LSN | u8, (i32, i32, i64, i32, i64, u64) |
//! | WAL files: count, each below | u32 |
//! | · number, LSN of its first record here, last append in ms | u64, u64, i64 |
//! | · entries: count, each base offset, max timestamp, start, span, bytes | u32, (i64, i64, u32, u32, u32) |
//! | · holes: count, each start and end | u32, (u32, u32) |
//! | since version 2: time on the log clock since when something is not in the bucket | i64 |
//! | · references to tiered objects: count, each as in a `CommitTier` record | u32, 77 bytes |
//!
//! A higher minor version only adds fields at the end, which this version skips; another major
//! version is refused.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use uuid::Uuid;

use super::Partition;
use super::index::{Entry, Run};
use super::objects::Objects;
use super::producers::{Producer, ProducerBatch, WINDOW};
use super::state::State;
use super::tiered::{REF_BYTES, TierRef, get_ref, put_ref};
use crate::budget::{BytePool, Pool};
use crate::protocol::types::{TopicId, TopicPartition};
use crate::wal::{FileNumber, Lsn};

const MAJOR: u8 = 2;
const MINOR: u8 = 0;
/// What was written before logs went to the bucket. Another major version, because a release that
/// skipped the references would take for lost what only the bucket has.
const UNTIERED: [u8; 2] = [1, 0];

/// A partition's part of a checkpoint cannot be read. The file's crc was right, so this is how it
/// was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Another version wrote it.
    #[error("checkpoint part of version {found}, this tidegate reads version {MAJOR}")]
    Version {
        /// The major version.
        found: u8,
    },
    /// It ends early, or a count does not fit.
    #[error("checkpoint part is malformed at \"{field}\"")]
    Malformed {
        /// The field that cannot be read.
        field: &'static str,
    },
}

/// What a part says of a partition's log, for who looks at a bucket without running a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartView {
    /// The partition.
    pub of: TopicPartition,
    /// Its first offset.
    pub log_start: i64,
    /// The offset behind its last record, also of those that are not in the bucket.
    pub log_end: i64,
    /// What of the log is in the bucket, oldest first.
    pub refs: Vec<TierRef>,
}

impl PartView {
    /// Reads a part.
    pub fn decode(part: &[u8]) -> Result<Self, CheckpointError> {
        // Nobody asks for producers here, and objects are counted for nobody.
        let part = decode(part, &BytePool::new(Pool::Producers, 0), &Arc::default())?;
        let state = &part.state;
        let refs = state.tier().refs().copied().collect();
        let (log_start, log_end) = (state.latest_start().0, state.log_end());
        Ok(Self { of: part.of, log_start, log_end, refs })
    }
}

/// A part that was read.
#[derive(Debug)]
pub(super) struct Part {
    pub of: TopicPartition,
    pub log_clock_ms: i64,
    pub state: State,
    /// How many of its producers were left out.
    pub forgotten: usize,
}

impl Partition {
    /// The partition's part of a checkpoint and the LSN it is as of: its records up to there are
    /// covered. The checkpoint may be published when the WAL is synced up to that LSN.
    pub fn checkpoint_part(&self) -> (Lsn, Vec<u8>) {
        let now_ms = self.shared().stream.log_clock().now_ms();
        let state = self.lock_advanced();
        let mut part = Vec::new();
        encode(&mut part, self.id(), now_ms, &state, true);
        (state.lsn, part)
    }

    /// The same for the bucket, without where the log lies on this disk.
    pub fn bucket_part(&self) -> (Lsn, Vec<u8>) {
        let now_ms = self.shared().stream.log_clock().now_ms();
        let state = self.lock_advanced();
        let mut part = Vec::new();
        encode(&mut part, self.id(), now_ms, &state, false);
        (state.lsn, part)
    }

    /// Whether a record of the partition is not covered by the last published checkpoint. One that
    /// was never written to is not dirty and needs no part.
    pub fn is_dirty(&self) -> bool {
        let state = self.lock();
        state.checkpointed != state.lsn
    }

    /// A checkpoint with the part of `lsn` was published.
    pub fn checkpointed(&self, lsn: Lsn) {
        let mut state = self.lock();
        state.checkpointed = state.checkpointed.max(lsn);
    }
}

fn encode(out: &mut Vec<u8>, of: TopicPartition, now_ms: i64, state: &State, places: bool) {
    out.put_u8(MAJOR);
    out.put_u8(MINOR);
    out.put_slice(of.topic.0.as_bytes());
    out.put_i32(of.partition);
    out.put_u64(state.lsn.0);
    out.put_i64(now_ms);
    out.put_i32(state.leader_epoch);
    // What is pending is durable when the checkpoint may be published.
    out.put_i64(state.latest_start().0);
    out.put_i64(state.log_end());
    let epochs = state.epochs.starts();
    out.put_u32(epochs.len() as u32);
    for (epoch, start) in epochs {
        out.put_i32(*epoch);
        out.put_i64(*start);
    }
    let producers = state.producers.sorted();
    out.put_u32(producers.len() as u32);
    for (id, producer) in producers {
        encode_producer(out, id, producer);
    }
    let runs = if places { state.index.runs().len() } else { 0 };
    out.put_u32(runs as u32);
    for run in state.index.runs().take(runs) {
        encode_run(out, run);
    }
    out.put_i64(state.untiered().1);
    let refs = state.latest_refs();
    out.put_u32(refs.len() as u32);
    for tier in &refs {
        put_ref(out, tier);
    }
}

fn encode_producer(out: &mut Vec<u8>, id: i64, producer: &Producer) {
    out.put_i64(id);
    out.put_i16(producer.epoch);
    out.put_i64(producer.last_seen_ms);
    out.put_u32(producer.run);
    out.put_u8(producer.batches().len() as u8);
    for batch in producer.batches() {
        out.put_i32(batch.base_sequence);
        out.put_i32(batch.last_sequence);
        out.put_i64(batch.last_offset);
        out.put_i32(batch.offset_delta);
        out.put_i64(batch.max_timestamp);
        out.put_u64(batch.lsn.0);
    }
}

fn encode_run(out: &mut Vec<u8>, run: &Run) {
    out.put_u64(run.file.0);
    out.put_u64(run.first_lsn.0);
    out.put_i64(run.append_time_ms);
    out.put_u32(run.entries.len() as u32);
    for entry in &run.entries {
        out.put_i64(entry.base_offset);
        out.put_i64(entry.max_timestamp);
        out.put_u32(entry.start);
        out.put_u32(entry.span);
        out.put_u32(entry.bytes);
    }
    out.put_u32(run.holes.len() as u32);
    for (start, end) in &run.holes {
        out.put_u32(*start);
        out.put_u32(*end);
    }
}

/// Reads a part. Its producers are charged to their pool; those that were silent longest are left
/// out where it is full.
pub(super) fn decode(
    bytes: &[u8],
    producers: &BytePool,
    objects: &Arc<Objects>,
) -> Result<Part, CheckpointError> {
    let mut input = Input(bytes);
    let version @ [major, minor] = input.take("version")?;
    if major != MAJOR && version != UNTIERED {
        return Err(CheckpointError::Version { found: major });
    }
    let topic = TopicId(Uuid::from_bytes(input.take("topic id")?));
    let of = TopicPartition { topic, partition: input.i32("partition")? };
    let lsn = Lsn(input.u64("lsn")?);
    let log_clock_ms = input.i64("log clock")?;
    let mut state = State::new(input.i32("leader epoch")?, objects);
    state.lsn = lsn;
    state.checkpointed = lsn;
    let (log_start, log_end) = (input.i64("log start")?, input.i64("log end")?);
    for _ in 0..input.count("epochs", 12)? {
        state.epochs.note(input.i32("epoch")?, input.i64("epoch start")?);
    }
    let mut forgotten = 0;
    for _ in 0..input.count("producers", 23)? {
        let (id, producer) = decode_producer(&mut input)?;
        forgotten += state.producers.restore(id, producer, producers);
    }
    for _ in 0..input.count("files", 32)? {
        state.index.restore(decode_run(&mut input)?);
    }
    state.restore_offsets(log_start, log_end);
    if version == UNTIERED {
        state.restore_tier(Vec::new(), log_clock_ms);
    } else {
        decode_tier(&mut input, &mut state)?;
    }
    let is_known = version == UNTIERED || minor == MINOR;
    if is_known && !input.0.is_empty() {
        return Err(CheckpointError::Malformed { field: "end" });
    }
    Ok(Part { of, log_clock_ms, state, forgotten })
}

fn decode_producer(input: &mut Input<'_>) -> Result<(i64, Producer), CheckpointError> {
    let id = input.i64("producer id")?;
    let epoch = input.i16("producer epoch")?;
    let last_seen_ms = input.i64("producer last seen")?;
    let mut producer = Producer::new(epoch, last_seen_ms, input.u32("producer run")?);
    let [count] = input.take("producer batches")?;
    if usize::from(count) > WINDOW {
        return Err(CheckpointError::Malformed { field: "producer batches" });
    }
    for _ in 0..count {
        producer.push(ProducerBatch {
            base_sequence: input.i32("base sequence")?,
            last_sequence: input.i32("last sequence")?,
            last_offset: input.i64("last offset")?,
            offset_delta: input.i32("offset delta")?,
            max_timestamp: input.i64("max timestamp")?,
            lsn: Lsn(input.u64("batch lsn")?),
        });
    }
    Ok((id, producer))
}

fn decode_run(input: &mut Input<'_>) -> Result<Run, CheckpointError> {
    let file = FileNumber(input.u64("file")?);
    let first_lsn = Lsn(input.u64("first lsn")?);
    let append_time_ms = input.i64("append time")?;
    let count = input.count("entries", 28)?;
    if count == 0 {
        return Err(CheckpointError::Malformed { field: "entries" });
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = Entry {
            base_offset: input.i64("base offset")?,
            max_timestamp: input.i64("entry timestamp")?,
            start: input.u32("start")?,
            span: input.u32("span")?,
            bytes: input.u32("bytes")?,
        };
        if entry.start.checked_add(entry.span).is_none() {
            return Err(CheckpointError::Malformed { field: "span" });
        }
        entries.push(entry);
    }
    let holes = (0..input.count("holes", 8)?)
        .map(|_| Ok((input.u32("hole start")?, input.u32("hole end")?)))
        .collect::<Result<_, _>>()?;
    // `restore` finds the greatest timestamp itself.
    Ok(Run { file, first_lsn, append_time_ms, max_timestamp: -1, entries, holes })
}

fn decode_tier(input: &mut Input<'_>, state: &mut State) -> Result<(), CheckpointError> {
    let untiered_since_ms = input.i64("untiered since")?;
    let count = input.count("tier references", REF_BYTES)?;
    let mut refs = Vec::with_capacity(count);
    for _ in 0..count {
        let malformed = CheckpointError::Malformed { field: "tier reference" };
        refs.push(get_ref(&mut input.0).ok_or(malformed)?);
    }
    state.restore_tier(refs, untiered_since_ms);
    Ok(())
}

/// What is left of a part.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CheckpointError> {
        let malformed = CheckpointError::Malformed { field };
        let mut taken = [0; N];
        self.0.try_copy_to_slice(&mut taken).map_err(|_| malformed)?;
        Ok(taken)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, CheckpointError> {
        self.take(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, CheckpointError> {
        self.take(field).map(i32::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, CheckpointError> {
        self.take(field).map(u32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, CheckpointError> {
        self.take(field).map(i64::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, CheckpointError> {
        self.take(field).map(u64::from_be_bytes)
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, field: &'static str, least: usize) -> Result<usize, CheckpointError> {
        let count = self.u32(field)? as usize;
        if count > self.0.len() / least {
            return Err(CheckpointError::Malformed { field });
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;

//! Reading: which bytes answer a Fetch. The first batches in memory are slices of the WAL's blocks;
//! further ones and whole stretches of the index become [`LaterRead`]s of a known length, which
//! are resolved when the socket has room; only a stretch that must be cut is read while the answer
//! is planned.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::{LogError, ReadMemory, Span};
use super::index::Stretch;
use super::state::State;
use super::tier_read::TierRead;
use super::{Offsets, Partition};
use crate::wal::ReadError as WalError;

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

/// What a Fetch asks of one partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The first offset wanted; the answer starts with the batch that holds it.
    pub offset: i64,
    /// How many bytes of whole batches are wanted at most.
    pub max_bytes: usize,
    /// Which records may be seen.
    pub isolation: Isolation,
    /// Whether the first batch is wanted also when it is above `max_bytes` (KIP-74): for the first
    /// partition of a Fetch that has something.
    pub at_least_one: bool,
    /// How many bytes in memory the plan may hold at hand; what is beyond is left for later.
    pub at_hand_bytes: usize,
}

/// The offset lies outside of what the partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "offset {offset} is outside of {} to {}", offsets.log_start, offsets.log_end
)]
pub struct OffsetOutOfRange {
    /// The offset that was asked for.
    pub offset: i64,
    /// The partition's offsets.
    pub offsets: Offsets,
}

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing at the offset.
    #[error(transparent)]
    OutOfRange(#[from] OffsetOutOfRange),
    /// The log cannot be read there.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The WAL file was given back since the read was planned, because the bucket has what was in
    /// it: plan again.
    #[error("the log has moved to the bucket since the read was planned")]
    Moved,
}

/// The bytes that answer one partition of a Fetch.
#[derive(Debug)]
pub struct ReadPlan {
    /// The partition's offsets when the plan was begun.
    pub offsets: Offsets,
    /// What [`super::FetchWait::new`] takes to count what came after this plan.
    pub mark: u64,
    /// Whole batches in order.
    pub pieces: Vec<ReadPiece>,
    /// How many bytes all pieces have.
    pub bytes: usize,
}

/// Some batches of an answer.
#[derive(Debug)]
pub enum ReadPiece {
    /// At hand.
    Ready(Bytes),
    /// To be resolved when they can be sent; their length is known.
    Later(LaterRead),
}

impl ReadPiece {
    /// How many bytes the piece has, exactly.
    pub fn len(&self) -> usize {
        match self {
            ReadPiece::Ready(bytes) => bytes.len(),
            ReadPiece::Later(later) => later.len(),
        }
    }

    /// Whether the piece has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Neighbouring batches that are taken from where they are when they can be sent.
#[derive(Debug)]
pub struct LaterRead {
    partition: Arc<Partition>,
    source: Source,
    len: usize,
}

#[derive(Debug)]
enum Source {
    /// A WAL file.
    Disk(Span),
    /// Memory, or a WAL file if the memory is taken back before; from the first offset up to the
    /// second, both between batches.
    Tail(i64, i64),
}

/// At most this many bytes are read at once: what a connection holds of an answer (DESIGN §3).
const LATER_BYTES: usize = 1024 * 1024;
/// At most this many bytes in memory are resolved at once, unless a batch alone is larger: a part
/// of what a connection may hold, so that the socket is fed while it empties.
const LATER_TAIL_BYTES: usize = LATER_BYTES / 4;
/// Stretches that lie farther apart in their file are read one by one.
const LATER_GAP: u32 = 4 * 1024;
/// Neighbouring stretches are read at once only if they reach over at most this much of the file.
const LATER_SPAN: u32 = 2 * LATER_BYTES as u32;

impl LaterRead {
    /// How many bytes [`LaterRead::read`] gives, exactly.
    pub fn len(&self) -> usize {
        self.len
    }

    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// From the first offset up to the second, both between batches.
    pub(super) fn offsets(&self) -> (i64, i64) {
        match &self.source {
            Source::Disk(span) => (span.base_offset, span.end_offset),
            Source::Tail(from, to) => (*from, *to),
        }
    }

    /// What [`LaterRead::read`] takes.
    pub fn memory(&self) -> ReadMemory {
        match &self.source {
            Source::Disk(span) => span.memory(self.len),
            Source::Tail(..) => ReadMemory { meanwhile: self.len, after: self.len },
        }
    }

    /// Whether there is nothing to read; an index entry has a batch at least.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The batches, if all of them are in memory.
    pub fn in_memory(&self) -> Option<Vec<Bytes>> {
        let Source::Tail(from, to) = self.source else { return None };
        let batches: Vec<Bytes> = self.partition.lock().slices(from, to).collect();
        if batches.iter().map(Bytes::len).sum::<usize>() != self.len {
            return None;
        }
        self.partition.shared().metrics.tail_bytes.inc_by(self.len as u64);
        Some(batches)
    }

    /// Reads the batches from their file, as far as they are not in memory. Blocks: for
    /// `task::blocking`. An error too if the log start has passed them meanwhile.
    pub fn read(&self) -> Result<Vec<Bytes>, LogError> {
        let (batches, offset) = match &self.source {
            Source::Disk(span) => (self.read_span(span)?, span.base_offset),
            Source::Tail(from, to) => (self.read_evicted(*from, *to)?, *from),
        };
        let read: usize = batches.iter().map(Bytes::len).sum();
        if read != self.len {
            let of = self.partition.id();
            return Err(LogError::Missing { of, offset, expected: self.len, read });
        }
        Ok(batches)
    }

    /// Batches that were in memory and of which at least the first ones are not any more. What is
    /// in the file is the same to the byte: a batch is patched before it is written.
    fn read_evicted(&self, from: i64, to: i64) -> Result<Vec<Bytes>, LogError> {
        let state = self.partition.lock();
        let on_disk = state.tail_start().min(to);
        let stretches = state.index.from(from, state.log_end());
        let spans: Vec<Span> = stretches
            .take_while(|stretch| from < on_disk && stretch.base_offset < on_disk)
            .map(|stretch| state.on_disk(&stretch))
            .collect();
        let in_memory: Vec<Bytes> = state.slices(from, to).collect();
        drop(state);
        let mut batches = Vec::new();
        for span in spans {
            // Stretches may reach beyond what is wanted, at both ends.
            batches.extend(self.read_between(&span, from, on_disk)?);
        }
        batches.extend(in_memory);
        Ok(batches)
    }

    fn read_span(&self, span: &Span) -> Result<Vec<Bytes>, LogError> {
        self.read_between(span, span.base_offset, span.end_offset)
    }

    /// The batches in a span whose base offsets lie between two offsets.
    fn read_between(&self, span: &Span, from: i64, to: i64) -> Result<Vec<Bytes>, LogError> {
        let mut batches = self.partition.read_span(span)?;
        let metrics = &self.partition.shared().metrics;
        metrics.disk_read_bytes.inc_by(span.file_bytes() as u64);
        batches.retain(|batch| (from..to).contains(&batch.base_offset));
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        metrics.disk_bytes.inc_by(bytes as u64);
        Ok(batches.into_iter().map(|batch| batch.bytes).collect())
    }
}

/// What a plan has come to.
#[derive(Debug)]
pub enum Plan {
    /// It is whole.
    Done(ReadPlan),
    /// A stretch on disk must be cut: [`DiskRead::run`] goes on.
    NeedsDisk(DiskRead),
    /// It begins with what only the bucket has: [`TierRead::run`] goes on.
    Tiered(TierRead),
}

/// A plan that reads from disk before it is whole.
#[derive(Debug)]
pub struct DiskRead {
    partition: Arc<Partition>,
    progress: Progress,
    cut: Span,
    bytes: usize,
}

/// A plan on its way.
#[derive(Debug)]
struct Progress {
    plan: ReadPlan,
    asked: i64,
    /// The first offset that is not in the plan.
    next: i64,
    /// The first offset that must not be in it.
    until: i64,
    /// How many bytes still fit.
    room: usize,
    at_least_one: bool,
    /// How many bytes may still be at hand.
    at_hand: usize,
}

impl Progress {
    /// Whether a batch or stretch of `bytes` may be added.
    fn fits(&self, bytes: usize) -> bool {
        bytes <= self.room
    }

    /// Whether one batch of `bytes` may be added.
    fn takes(&self, bytes: usize) -> bool {
        self.fits(bytes) || (self.at_least_one && self.plan.bytes == 0)
    }

    fn add(&mut self, bytes: usize, next: i64) {
        self.plan.bytes += bytes;
        self.room = self.room.saturating_sub(bytes);
        self.next = next;
    }
}

/// What a look at the state says of a plan.
enum Step {
    Done,
    /// This part of a stretch of so many bytes must be read now.
    Read(Span, u32),
}

impl Partition {
    /// Plans the answer to a read. Nothing here blocks: what is in memory is in the plan, whole
    /// stretches on disk are in it as [`LaterRead`]s, and where a stretch must be cut the rest is
    /// up to [`DiskRead::run`].
    pub fn read(self: &Arc<Self>, request: &ReadRequest) -> Result<Plan, OffsetOutOfRange> {
        let state = self.lock_advanced();
        let offsets = Offsets {
            log_start: state.log_start(),
            high_watermark: state.high_watermark(),
            last_stable: state.high_watermark(),
            log_end: state.log_end(),
        };
        let until = match request.isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        // Up to the log's end there is nothing yet, as in Kafka's `UnifiedLog.read`: a reader may
        // know of an offset that was acknowledged while this partition is about to see it durable.
        if request.offset < offsets.log_start || request.offset > offsets.log_end {
            return Err(OffsetOutOfRange { offset: request.offset, offsets });
        }
        let mark = state.readable_bytes();
        if request.offset < state.local_start()
            && let Some(section) = state.tier().at(request.offset).copied()
        {
            let (partition, request) = (Arc::clone(self), *request);
            return Ok(Plan::Tiered(TierRead {
                partition,
                request,
                offsets,
                mark,
                until,
                section,
            }));
        }
        let mut progress = Progress {
            plan: ReadPlan { offsets, mark, pieces: Vec::new(), bytes: 0 },
            asked: request.offset,
            next: request.offset,
            until,
            room: request.max_bytes,
            at_least_one: request.at_least_one,
            at_hand: request.at_hand_bytes,
        };
        let step = self.step(&state, &mut progress);
        drop(state);
        Ok(match planned(Arc::clone(self), progress, step) {
            Planned::Done(plan) => Plan::Done(plan),
            Planned::Disk(disk) => Plan::NeedsDisk(*disk),
        })
    }

    /// Adds what can be added without reading a file.
    fn step(self: &Arc<Self>, state: &State, progress: &mut Progress) -> Step {
        let full = progress.room == 0 && !progress.at_least_one;
        // What has moved to the bucket since the plan was begun is left for the next one.
        let moved = progress.next < state.local_start();
        if full || moved || progress.next >= progress.until {
            return Step::Done;
        }
        let on_disk = state.tail_start().min(progress.until);
        if progress.next < on_disk
            && let Some(step) = self.add_stretches(state, progress, on_disk)
        {
            return step;
        }
        if progress.next >= state.tail_start() {
            self.add_chunks(state, progress);
        }
        Step::Done
    }

    /// Adds whole stretches up to `on_disk`; `None` when that was reached.
    fn add_stretches(
        self: &Arc<Self>,
        state: &State,
        progress: &mut Progress,
        on_disk: i64,
    ) -> Option<Step> {
        for stretch in state.index.from(progress.next, state.log_end()) {
            if stretch.base_offset >= on_disk {
                return None;
            }
            let whole = stretch.base_offset >= progress.next && stretch.end_offset <= on_disk;
            if whole && progress.fits(stretch.bytes as usize) {
                self.add_later(state, progress, &stretch);
                continue;
            }
            if progress.plan.bytes > 0 {
                return Some(Step::Done);
            }
            return Some(Step::Read(state.on_disk(&stretch), stretch.bytes));
        }
        None
    }

    fn add_later(self: &Arc<Self>, state: &State, progress: &mut Progress, stretch: &Stretch) {
        let bytes = stretch.bytes as usize;
        progress.add(bytes, stretch.end_offset);
        let span = state.on_disk(stretch);
        if let Some(ReadPiece::Later(last)) = progress.plan.pieces.last_mut()
            && let Source::Disk(last_span) = &mut last.source
            && last_span.file == stretch.file
            && last.len + bytes <= LATER_BYTES
            && stretch.start - last_span.end <= LATER_GAP
            && stretch.end - last_span.start <= LATER_SPAN
        {
            last_span.extend(span);
            last.len += bytes;
            return;
        }
        let (partition, source) = (Arc::clone(self), Source::Disk(span));
        progress.plan.pieces.push(ReadPiece::Later(LaterRead { partition, source, len: bytes }));
    }

    fn add_chunks(self: &Arc<Self>, state: &State, progress: &mut Progress) {
        let mut at_hand = 0;
        let first = state.tail.partition_point(|chunk| chunk.base_offset <= progress.next);
        let mut chunks = state.tail.iter().skip(first.saturating_sub(1)).peekable();
        while let Some(chunk) = chunks.next() {
            let bytes = chunk.bytes.len();
            // A batch without bytes is still being copied, and above the high watermark.
            if chunk.base_offset >= progress.until || bytes == 0 || !progress.takes(bytes) {
                break;
            }
            let next = chunks.peek().map_or(state.log_end(), |next| next.base_offset);
            progress.add(bytes, next);
            if bytes <= progress.at_hand {
                progress.at_hand -= bytes;
                at_hand += bytes;
                progress.plan.pieces.push(ReadPiece::Ready(chunk.bytes.clone()));
            } else {
                progress.at_hand = 0;
                self.add_later_chunk(progress, chunk.base_offset, next, bytes);
            }
        }
        self.shared().metrics.tail_bytes.inc_by(at_hand as u64);
    }

    fn add_later_chunk(
        self: &Arc<Self>,
        progress: &mut Progress,
        from: i64,
        to: i64,
        bytes: usize,
    ) {
        if let Some(ReadPiece::Later(last)) = progress.plan.pieces.last_mut()
            && let Source::Tail(_, end) = &mut last.source
            && last.len + bytes <= LATER_TAIL_BYTES
        {
            *end = to;
            last.len += bytes;
            return;
        }
        let (partition, source) = (Arc::clone(self), Source::Tail(from, to));
        progress.plan.pieces.push(ReadPiece::Later(LaterRead { partition, source, len: bytes }));
    }
}

/// A plan of what is on this machine.
enum Planned {
    Done(ReadPlan),
    Disk(Box<DiskRead>),
}

fn planned(partition: Arc<Partition>, progress: Progress, step: Step) -> Planned {
    match step {
        Step::Done => Planned::Done(progress.plan),
        Step::Read(cut, bytes) => {
            let bytes = bytes as usize;
            Planned::Disk(Box::new(DiskRead { partition, progress, cut, bytes }))
        }
    }
}

impl DiskRead {
    /// What [`DiskRead::run`] takes.
    pub fn memory(&self) -> ReadMemory {
        self.cut.memory(self.bytes)
    }

    /// How many bytes of a file are read, whatever of them is taken.
    pub fn file_bytes(&self) -> usize {
        self.cut.file_bytes()
    }

    /// Makes the plan whole. Blocks: for `task::blocking`.
    pub fn run(mut self) -> Result<ReadPlan, ReadError> {
        loop {
            let read = self.partition.read_span(&self.cut);
            let metrics = &self.partition.shared().metrics;
            metrics.disk_read_bytes.inc_by(self.cut.file_bytes() as u64);
            let state = self.partition.lock_advanced();
            if self.progress.next < state.log_start() {
                // The log start passed by while the file was read, and may have been why it failed.
                let offsets =
                    Offsets { log_start: state.log_start(), ..self.progress.plan.offsets };
                let offset = self.progress.asked;
                return Err(OffsetOutOfRange { offset, offsets }.into());
            }
            drop(state);
            let read = match read {
                Err(LogError::Wal(WalError::Recycled { .. })) if self.progress.plan.bytes > 0 => {
                    return Ok(self.progress.plan);
                }
                Err(LogError::Wal(WalError::Recycled { .. })) => return Err(ReadError::Moved),
                read => read?,
            };
            if !self.take(&read) {
                return Ok(self.progress.plan);
            }
            // Every round ends at a higher offset.
            self.progress.next = self.progress.next.max(self.cut.end_offset);
            let state = self.partition.lock_advanced();
            let step = self.partition.step(&state, &mut self.progress);
            drop(state);
            match planned(self.partition, self.progress, step) {
                Planned::Done(plan) => return Ok(plan),
                Planned::Disk(next) => self = *next,
            }
        }
    }

    /// Adds the batches from the one that holds the offset on; false when the plan is full.
    fn take(&mut self, batches: &[super::disk::StoredBatch]) -> bool {
        let progress = &mut self.progress;
        for batch in batches {
            let bytes = batch.bytes.len();
            if batch.end_offset <= progress.next {
                continue;
            }
            if batch.base_offset >= progress.until || !progress.takes(bytes) {
                return false;
            }
            progress.add(bytes, batch.end_offset);
            progress.at_hand = progress.at_hand.saturating_sub(bytes);
            progress.plan.pieces.push(ReadPiece::Ready(batch.bytes.clone()));
            self.partition.shared().metrics.disk_bytes.inc_by(bytes as u64);
        }
        true
    }
}

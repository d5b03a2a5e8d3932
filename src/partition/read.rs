//! Reading: which bytes answer a Fetch. Batches in memory are slices of the WAL's blocks; whole
//! stretches of the index become [`LaterRead`]s of a known length, which are read when the socket
//! has room; only a stretch that must be cut is read while the answer is planned.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::{LogError, Span};
use super::index::Stretch;
use super::state::State;
use super::{Offsets, Partition};

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
}

/// The offset lies outside of what the partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "offset {offset} is outside of {} to {}", offsets.log_start, offsets.high_watermark
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
    /// In a WAL file; their length is known.
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

/// Neighbouring batches in a WAL file, to be read when they can be sent.
#[derive(Debug)]
pub struct LaterRead {
    partition: Arc<Partition>,
    span: Span,
    len: usize,
}

/// At most this many bytes are read at once: what a connection holds of an answer (DESIGN §3).
const LATER_BYTES: usize = 1024 * 1024;
/// Stretches that lie farther apart in their file are read one by one.
const LATER_GAP: u32 = 4 * 1024;

impl LaterRead {
    /// How many bytes [`LaterRead::read`] gives, exactly.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to read; an index entry has a batch at least.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the batches. Blocks: for `task::blocking`.
    pub fn read(&self) -> Result<Vec<Bytes>, LogError> {
        let batches = self.partition.read_span(&self.span)?;
        let read: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        if read != self.len {
            let of = self.partition.id();
            let offset = self.span.base_offset;
            return Err(LogError::Missing { of, offset, expected: self.len, read });
        }
        self.partition.shared().metrics.disk_bytes.inc_by(read as u64);
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
        if request.offset < offsets.log_start || request.offset > offsets.high_watermark {
            return Err(OffsetOutOfRange { offset: request.offset, offsets });
        }
        let mark = state.readable_bytes();
        let mut progress = Progress {
            plan: ReadPlan { offsets, mark, pieces: Vec::new(), bytes: 0 },
            asked: request.offset,
            next: request.offset,
            until,
            room: request.max_bytes,
            at_least_one: request.at_least_one,
        };
        let step = self.step(&state, &mut progress);
        drop(state);
        Ok(planned(self, progress, step))
    }

    /// Adds what can be added without reading a file.
    fn step(self: &Arc<Self>, state: &State, progress: &mut Progress) -> Step {
        let full = progress.room == 0 && !progress.at_least_one;
        if full || progress.next >= progress.until {
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
            && last.span.file == stretch.file
            && last.len + bytes <= LATER_BYTES
            && stretch.start - last.span.end <= LATER_GAP
        {
            last.span.extend(span);
            last.len += bytes;
            return;
        }
        let partition = Arc::clone(self);
        progress.plan.pieces.push(ReadPiece::Later(LaterRead { partition, span, len: bytes }));
    }

    fn add_chunks(&self, state: &State, progress: &mut Progress) {
        let before = progress.plan.bytes;
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
            progress.plan.pieces.push(ReadPiece::Ready(chunk.bytes.clone()));
        }
        self.shared().metrics.tail_bytes.inc_by((progress.plan.bytes - before) as u64);
    }
}

fn planned(partition: &Arc<Partition>, progress: Progress, step: Step) -> Plan {
    match step {
        Step::Done => Plan::Done(progress.plan),
        Step::Read(cut, bytes) => {
            let (partition, bytes) = (Arc::clone(partition), bytes as usize);
            Plan::NeedsDisk(DiskRead { partition, progress, cut, bytes })
        }
    }
}

impl DiskRead {
    /// About how many bytes are read, for the byte budget.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the plan whole. Blocks: for `task::blocking`.
    pub fn run(mut self) -> Result<ReadPlan, ReadError> {
        loop {
            let read = self.partition.read_span(&self.cut);
            let state = self.partition.lock_advanced();
            if self.progress.next < state.log_start() {
                // The log start passed by while the file was read, and may have been why it failed.
                let offsets =
                    Offsets { log_start: state.log_start(), ..self.progress.plan.offsets };
                let offset = self.progress.asked;
                return Err(OffsetOutOfRange { offset, offsets }.into());
            }
            drop(state);
            if !self.take(&read?) {
                return Ok(self.progress.plan);
            }
            // Every round ends at a higher offset.
            self.progress.next = self.progress.next.max(self.cut.end_offset);
            let state = self.partition.lock_advanced();
            let step = self.partition.step(&state, &mut self.progress);
            drop(state);
            match planned(&self.partition, self.progress, step) {
                Plan::Done(plan) => return Ok(plan),
                Plan::NeedsDisk(next) => self = next,
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
            progress.plan.pieces.push(ReadPiece::Ready(batch.bytes.clone()));
            self.partition.shared().metrics.disk_bytes.inc_by(bytes as u64);
        }
        true
    }
}

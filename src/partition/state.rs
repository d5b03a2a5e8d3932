//! What a partition's lock guards: offsets, the chunks in memory, the index, epochs and producers.
//! Nothing here waits, reads a file or refuses; what is applied was decided before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::Span;
use super::epochs::Epochs;
use super::index::{Index, Indexed, Stretch};
use super::objects::Objects;
use super::producers::{ProducerBatch, Producers, Sequenced};
use super::tiered::{self, Tier, TierChange, TierRef};
use super::wait::{WaiterKey, Waiting};
use crate::budget::BytePool;
use crate::wal::{FileNumber, Location, Lsn};

/// A batch in memory, from its append until the WAL takes the memory back; 64 bytes.
#[derive(Debug)]
pub(super) struct Chunk {
    pub base_offset: i64,
    pub lsn: Lsn,
    /// On the log clock.
    pub append_time_ms: i64,
    /// Where its record ends in its file.
    pub end: u32,
    /// The batch; empty until it is filled, and nobody sees it before.
    pub bytes: Bytes,
}

/// A batch that was appended and is not known to be durable.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    lsn: Lsn,
    end_offset: i64,
    /// [`State::appended_bytes`] after it.
    end_bytes: u64,
    filled: bool,
}

/// A batch as the state takes note of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    pub leader_epoch: i32,
    /// The batch's own; negative if it has none.
    pub max_timestamp: i64,
    /// On the log clock.
    pub append_time_ms: i64,
    pub bytes: u32,
    pub producer: Option<Sequenced>,
    pub lsn: Lsn,
    pub location: Location,
}

/// The state of one partition.
#[derive(Debug)]
pub(super) struct State {
    /// The first offset that may be read. Written when a `LogStart` record is durable.
    log_start: i64,
    /// Log starts whose records are not known to be durable, oldest first.
    pending_starts: VecDeque<(Lsn, i64)>,
    /// What of the log is in the bucket, by durable records.
    tier: Tier,
    /// Changes of that whose records are not known to be durable, oldest first, each with the time
    /// on the log clock at which the bytes it brings were looked at.
    pending_tier: VecDeque<(Lsn, TierChange, i64)>,
    /// Bytes from the end of what is in the bucket on; the stretch of the index that holds it
    /// counts whole.
    untiered_bytes: u64,
    /// At or after the append of the oldest of these, on the log clock.
    untiered_since_ms: i64,
    /// The offset of the next record.
    log_end: i64,
    /// The first offset that is not known to be durable.
    high_watermark: i64,
    /// Bytes below the high watermark since the partition was opened.
    readable_bytes: u64,
    /// Bytes appended since the partition was opened.
    appended_bytes: u64,
    in_flight: VecDeque<InFlight>,
    /// Where the record before the first one in memory ends in its file.
    evicted_end: u32,
    /// A gapless suffix of the log.
    pub tail: VecDeque<Chunk>,
    pub index: Index,
    pub epochs: Epochs,
    pub producers: Producers,
    /// The epoch of the present ownership; written by the broker.
    pub leader_epoch: i32,
    /// The last record of this partition.
    pub lsn: Lsn,
    /// What the last published checkpoint holds of this partition.
    pub checkpointed: Lsn,
    /// The requests that wait for records, each once.
    pub waiting: HashMap<WaiterKey, Waiting>,
    pub closed: bool,
}

impl State {
    pub(super) fn new(leader_epoch: i32, objects: &Arc<Objects>) -> Self {
        Self {
            log_start: 0,
            pending_starts: VecDeque::new(),
            tier: Tier::new(objects),
            pending_tier: VecDeque::new(),
            untiered_bytes: 0,
            untiered_since_ms: 0,
            log_end: 0,
            high_watermark: 0,
            readable_bytes: 0,
            appended_bytes: 0,
            in_flight: VecDeque::new(),
            evicted_end: 0,
            tail: VecDeque::new(),
            index: Index::default(),
            epochs: Epochs::default(),
            producers: Producers::default(),
            leader_epoch,
            lsn: Lsn::default(),
            checkpointed: Lsn::ZERO,
            waiting: HashMap::new(),
            closed: false,
        }
    }

    /// The offset of the next record.
    pub(super) fn log_end(&self) -> i64 {
        self.log_end
    }

    /// The first offset that is not durable, as of the last [`State::advance`].
    pub(super) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The first readable offset, as of the last [`State::advance`].
    pub(super) fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The log start that holds when all records are durable, and which record must be.
    pub(super) fn latest_start(&self) -> (i64, Lsn) {
        let pending = self.pending_starts.back().copied();
        pending.map_or((self.log_start, Lsn::ZERO), |(lsn, offset)| (offset, lsn))
    }

    /// How many bytes could be read since the partition was opened.
    pub(super) fn readable_bytes(&self) -> u64 {
        self.readable_bytes
    }

    /// The first offset that is in memory, the log's end if none is.
    pub(super) fn tail_start(&self) -> i64 {
        self.tail.front().map_or(self.log_end, |chunk| chunk.base_offset)
    }

    /// The batches in memory whose base offsets lie between two offsets.
    pub(super) fn slices(&self, from: i64, to: i64) -> impl Iterator<Item = Bytes> + '_ {
        let first = self.tail.partition_point(|chunk| chunk.base_offset < from);
        let chunks = self.tail.iter().skip(first);
        chunks.take_while(move |chunk| chunk.base_offset < to).map(|chunk| chunk.bytes.clone())
    }

    /// What of a stretch is not in memory. Where its last batches are, the file may not have them
    /// yet, so that the part in the file ends before them.
    pub(super) fn on_disk(&self, stretch: &Stretch) -> Span {
        let holes = self.index.holes(stretch);
        match self.tail.front() {
            Some(first) if first.base_offset < stretch.end_offset => {
                Span::new(stretch, self.evicted_end, first.base_offset, holes)
            }
            _ => Span::new(stretch, stretch.end, stretch.end_offset, holes),
        }
    }

    /// Takes note that the WAL is durable up to `durable`. The high watermark does not pass a batch
    /// that its appender is still copying, although the WAL may already have written a later one.
    pub(super) fn advance(&mut self, durable: Lsn) {
        while let Some(first) = self.in_flight.front()
            && first.filled
            && first.lsn <= durable
        {
            self.high_watermark = first.end_offset;
            self.readable_bytes = first.end_bytes;
            self.in_flight.pop_front();
        }
        if self.in_flight.is_empty() && self.in_flight.capacity() > IDLE_CAPACITY {
            self.in_flight = VecDeque::new();
        }
        while let Some((lsn, offset)) = self.pending_starts.front().copied()
            && lsn <= durable
        {
            self.pending_starts.pop_front();
            self.start_at(offset, lsn);
        }
        while let Some((lsn, change, planned_ms)) =
            self.pending_tier.pop_front_if(|(lsn, ..)| *lsn <= durable)
        {
            self.apply_tier(&change, lsn, planned_ms);
        }
    }

    /// Takes note of an appended batch whose record is reserved but not yet filled. Returns how
    /// many producers were forgotten for its producer.
    pub(super) fn append(&mut self, batch: Appended, now_ms: i64, producers: &BytePool) -> usize {
        if self.tail.is_empty() {
            self.evicted_end = self.index.last_end();
        }
        let forgotten = self.note(batch, now_ms, producers);
        self.in_flight.push_back(InFlight {
            lsn: batch.lsn,
            end_offset: self.log_end,
            end_bytes: self.appended_bytes,
            filled: false,
        });
        self.tail.push_back(Chunk {
            base_offset: batch.base_offset,
            lsn: batch.lsn,
            append_time_ms: batch.append_time_ms,
            end: u32::try_from(batch.location.end()).expect("a WAL file is smaller than 4 GiB"),
            bytes: Bytes::new(),
        });
        forgotten
    }

    /// The batch's bytes are in the WAL's memory.
    pub(super) fn filled(&mut self, lsn: Lsn, bytes: Bytes) {
        if let Ok(at) = self.in_flight.binary_search_by_key(&lsn, |entry| entry.lsn)
            && let Some(entry) = self.in_flight.get_mut(at)
        {
            entry.filled = true;
        }
        if let Ok(at) = self.tail.binary_search_by_key(&lsn, |chunk| chunk.lsn)
            && let Some(chunk) = self.tail.get_mut(at)
        {
            chunk.bytes = bytes;
        }
    }

    /// Plays an appender that has not handed over its bytes.
    #[cfg(test)]
    pub(super) fn unfill(&mut self, lsn: Lsn) {
        self.in_flight.iter_mut().filter(|entry| entry.lsn == lsn).for_each(|e| e.filled = false);
    }

    /// Takes note of a batch that replay found: it is durable and not in memory. Returns how many
    /// producers were forgotten for its producer.
    pub(super) fn replay(&mut self, batch: Appended, now_ms: i64, producers: &BytePool) -> usize {
        let forgotten = self.note(batch, now_ms, producers);
        self.high_watermark = self.log_end;
        self.readable_bytes = self.appended_bytes;
        forgotten
    }

    fn note(&mut self, batch: Appended, now_ms: i64, producers: &BytePool) -> usize {
        if self.untiered_bytes == 0 {
            self.untiered_since_ms = batch.append_time_ms;
        }
        self.untiered_bytes += u64::from(batch.bytes);
        self.lsn = batch.lsn;
        self.log_end = batch.last_offset + 1;
        self.appended_bytes += u64::from(batch.bytes);
        self.epochs.note(batch.leader_epoch, batch.base_offset);
        self.index.push(&Indexed {
            base_offset: batch.base_offset,
            max_timestamp: batch.max_timestamp.max(-1),
            append_time_ms: batch.append_time_ms,
            bytes: batch.bytes,
            lsn: batch.lsn,
            location: batch.location,
        });
        self.remember(&batch, now_ms, producers)
    }

    /// Takes note of the producer of a batch. Returns how many were forgotten for it.
    fn remember(&mut self, batch: &Appended, now_ms: i64, producers: &BytePool) -> usize {
        let Some(producer) = batch.producer else { return 0 };
        let remembered = ProducerBatch {
            base_sequence: producer.base_sequence,
            last_sequence: producer.last_sequence,
            last_offset: batch.last_offset,
            offset_delta: (batch.last_offset - batch.base_offset) as i32,
            max_timestamp: batch.max_timestamp,
            lsn: batch.lsn,
        };
        self.producers.appended(producer, remembered, now_ms, producers)
    }

    /// A `LogStart` record was reserved: the start moves when it is durable.
    pub(super) fn start_pending(&mut self, lsn: Lsn, offset: i64) {
        self.lsn = lsn;
        self.pending_starts.push_back((lsn, offset));
    }

    /// The log starts at `offset`. Batches in memory stay until the WAL takes them back: they are
    /// not readable any more, and their memory is the WAL's to count.
    pub(super) fn start_at(&mut self, offset: i64, lsn: Lsn) {
        if offset <= self.log_start {
            return;
        }
        let tiered_end = self.tiered_end();
        self.log_start = offset;
        // A restore may start a log beyond what it found.
        self.log_end = self.log_end.max(offset);
        self.high_watermark = self.high_watermark.max(offset.min(self.log_end));
        self.index.trim(offset, self.log_end);
        self.epochs.trim(offset);
        self.tier.trim(offset, lsn);
        if self.tiered_end() > tiered_end {
            self.recount_untiered();
        }
    }

    /// Puts back the offsets that a checkpoint held.
    pub(super) fn restore_offsets(&mut self, log_start: i64, log_end: i64) {
        self.log_start = log_start;
        self.log_end = log_end;
        self.high_watermark = log_end;
        // The part may have been taken between a LogStart and the moment it was durable.
        self.index.trim(log_start, log_end);
        self.epochs.trim(log_start);
    }

    /// Puts back what of the log is in the bucket, after the offsets.
    pub(super) fn restore_tier(&mut self, refs: Vec<TierRef>, untiered_since_ms: i64) {
        for tier in refs {
            self.tier.restore(tier);
        }
        self.tier.trim(self.log_start, Lsn::ZERO);
        self.recount_untiered();
        self.untiered_since_ms = untiered_since_ms;
    }

    /// Drops the chunks in memory whose records are at or below `upto`.
    pub(super) fn evict(&mut self, upto: Lsn) {
        let gone = self.tail.partition_point(|chunk| chunk.lsn <= upto);
        if let Some(last) = self.tail.drain(..gone).next_back() {
            self.evicted_end = last.end;
        }
        if self.tail.is_empty() && self.tail.capacity() > IDLE_CAPACITY {
            self.tail = VecDeque::new();
        }
    }

    /// Tells the waiting requests what became readable.
    pub(super) fn wake(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.tell(self.readable_bytes);
        }
    }
}

impl State {
    /// What of the log is in the bucket, by durable records.
    pub(super) fn tier(&self) -> &Tier {
        &self.tier
    }

    /// The references when all records are durable.
    pub(super) fn latest_refs(&self) -> Vec<TierRef> {
        tiered::latest(&self.tier, self.pending_tier(), self.latest_start().0)
    }

    /// Changes that are not known to be durable, oldest first.
    pub(super) fn pending_tier(&self) -> impl Iterator<Item = &TierChange> {
        self.pending_tier.iter().map(|(_, change, _)| change)
    }

    /// Where what is not in the bucket begins.
    pub(super) fn tiered_end(&self) -> i64 {
        self.tier.end().map_or(self.log_start, |end| end.max(self.log_start))
    }

    /// Bytes that are not in the bucket, and at or after which time on the log clock the oldest of
    /// them was appended.
    pub(super) fn untiered(&self) -> (u64, i64) {
        (self.untiered_bytes, self.untiered_since_ms)
    }

    /// The first offset that is read from memory or from a WAL file; below it the bucket has the
    /// log. What is compacted is read there, also while the WAL still has what it was made of.
    pub(super) fn local_start(&self) -> i64 {
        self.indexed_start().min(self.tail_start()).max(self.tier.compacted_end())
    }

    /// The first offset that is looked up here by time: what is compacted is looked up as it is
    /// read, and of what is in memory without its file the index knows nothing.
    pub(super) fn searched_start(&self) -> i64 {
        self.indexed_start().max(self.tier.compacted_end())
    }

    /// The first offset that the index has. Before it there may be batches in memory whose file was
    /// given back; what goes by the index finds them in the bucket.
    pub(super) fn indexed_start(&self) -> i64 {
        self.index.first_offset().unwrap_or(self.log_end)
    }

    /// Whether a change of the references is under way.
    pub(super) fn is_tiering(&self) -> bool {
        !self.pending_tier.is_empty()
    }

    /// A `CommitTier` record was reserved: it holds when it is durable.
    pub(super) fn tier_pending(&mut self, lsn: Lsn, change: TierChange, planned_ms: i64) {
        self.lsn = lsn;
        self.pending_tier.push_back((lsn, change, planned_ms));
    }

    /// A `CommitTier` record is durable.
    pub(super) fn apply_tier(&mut self, change: &TierChange, lsn: Lsn, planned_ms: i64) {
        let tier_end = self.tiered_end();
        self.tier.apply(change, self.log_start, lsn);
        if self.tiered_end() != tier_end {
            self.recount_untiered();
            self.untiered_since_ms = planned_ms;
        }
        if self.pending_tier.is_empty() {
            self.pending_tier = VecDeque::new();
        }
    }

    /// The topic was deleted: refers to no object any more.
    pub(super) fn drop_tier(&mut self) {
        self.tier.clear(Lsn::ZERO);
        for (_, change, _) in std::mem::take(&mut self.pending_tier) {
            self.tier.discard(&change);
        }
    }

    /// Forgets where WAL files below `file` have the log, as far as the bucket has it too.
    pub(super) fn forget_files(&mut self, file: FileNumber) {
        self.index.forget_files(file, self.tiered_end(), self.log_end);
    }

    fn recount_untiered(&mut self) {
        let stretches = self.index.from(self.tiered_end(), self.log_end);
        let behind = stretches.filter(|stretch| stretch.end_offset > self.tiered_end());
        self.untiered_bytes = behind.map(|stretch| u64::from(stretch.bytes)).sum();
    }
}

/// What a restore does, which has nothing but the bucket.
impl State {
    /// Forgets where things were in a log that is lost.
    pub(super) fn forget_log(&mut self) {
        self.lsn = Lsn::ZERO;
        self.checkpointed = Lsn::ZERO;
        self.producers.forget_log();
    }

    /// Takes note of a batch behind the log's end that only the bucket has. Returns how many
    /// producers were forgotten for its producer.
    pub(super) fn adopt(&mut self, batch: &Appended, now_ms: i64, producers: &BytePool) -> usize {
        self.log_end = batch.last_offset + 1;
        self.epochs.note(batch.leader_epoch, batch.base_offset);
        self.remember(batch, now_ms, producers)
    }

    /// Ends the log where the bucket's part of it ends. Returns where that is.
    pub(super) fn cut(&mut self) -> i64 {
        let end = self.tiered_end();
        self.log_end = end;
        self.high_watermark = end;
        self.untiered_bytes = 0;
        self.epochs.cut(end);
        self.producers.cut(end);
        end
    }
}

/// A queue of an idle partition keeps room for this many elements (DESIGN D12).
const IDLE_CAPACITY: usize = 4;

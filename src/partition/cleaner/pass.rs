//! The second half of a pass: every batch up to its end is written again without what is obsolete
//! (`Cleaner.cleanInto`, `MemoryRecords.filterTo`).

use std::collections::HashMap;

use bytes::Bytes;

use super::{KeyMap, unpack};
use crate::protocol::batch::{Batch, BatchError, BatchHeader, BatchIter, HEADER_BYTES};
use crate::protocol::record::Record;

/// What a partition knows last of one of its live producers (Kafka's `LastRecord`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRecord {
    /// The offset of its last record; `None` if a marker is all that is known of it.
    pub data_offset: Option<i64>,
    /// Its epoch.
    pub epoch: i16,
}

/// What is kept beside the last record of each key.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Now, in milliseconds, by the clock of the log: a jump of the wall clock must not let
    /// tombstones go early.
    pub now_ms: i64,
    /// `delete.retention.ms`: how long a tombstone stays after the pass that first met it.
    pub delete_retention_ms: i64,
    /// The producers whose sequences are checked; the last batch of each stays, if need be without
    /// records.
    pub producers: HashMap<i64, LastRecord>,
}

/// What a pass did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Batches that came in.
    pub batches_in: u64,
    /// Batches that were kept, as they were or written again.
    pub batches_out: u64,
    /// Batches that were dropped or written again.
    pub changed: u64,
    /// The bytes of the batches that came in.
    pub bytes_in: u64,
    /// The bytes of those that were kept.
    pub bytes_out: u64,
    /// Records that were dropped for a later one of their key.
    pub obsolete: u64,
    /// Tombstones that were dropped because their time had come.
    pub tombstones: u64,
    /// Records that were dropped because they have no key (`CleanerStats.invalidMessage`).
    pub keyless: u64,
    /// Batches that could not be read and were kept byte for byte.
    pub unreadable: u64,
}

/// Cleans batches from the log start to [`Pass::end`].
#[derive(Debug)]
pub struct Pass {
    map: KeyMap,
    end: i64,
    /// Behind the last batch that could be cleaned.
    last: i64,
    payload_max: usize,
    retention: Retention,
    cleaned: Cleaned,
}

/// What becomes of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Obsolete,
    Tombstone,
    Keyless,
}

impl Pass {
    pub(super) fn new(
        map: KeyMap,
        end: i64,
        last: i64,
        payload_max: usize,
        retention: Retention,
    ) -> Self {
        let cleaned = Cleaned::default();
        Self { map, end, last, payload_max, retention, cleaned }
    }

    /// Where the pass ends: the first dirty offset once all of it is committed. Below the first
    /// uncleanable offset, another pass has to follow. It lies inside of a batch only if that
    /// batch alone has more keys than the map has room for; such a batch is to be cleaned by both
    /// passes.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// How many keys were noted.
    pub fn keys(&self) -> usize {
        self.map.len()
    }

    /// What the pass did so far.
    pub fn cleaned(&self) -> Cleaned {
        self.cleaned
    }

    /// The map, to be used again.
    pub fn into_map(self) -> KeyMap {
        self.map
    }

    /// Cleans whole batches, one behind the other. The error is the last item: bytes that are no
    /// batch, of which nothing may be dropped.
    pub fn batches(&mut self, bytes: Bytes) -> impl Iterator<Item = Result<Bytes, BatchError>> {
        let mut batches = BatchIter::new(bytes);
        std::iter::from_fn(move || {
            for batch in batches.by_ref() {
                match batch.map(|batch| self.batch(&batch)) {
                    Ok(None) => {}
                    Ok(Some(kept)) => return Some(Ok(kept)),
                    Err(error) => return Some(Err(error)),
                }
            }
            let rest = batches.rest().clone();
            batches = BatchIter::new(Bytes::new());
            let needed = BatchHeader::parse(&rest).map_or(HEADER_BYTES, |header| header.size());
            let torn = BatchError::TooShort { needed, bytes: rest.len() };
            (!rest.is_empty()).then_some(Err(torn))
        })
    }

    /// Cleans the next batch, in the order of the log from its start on; `None` if nothing of it
    /// stays.
    pub fn batch(&mut self, batch: &Batch) -> Option<Bytes> {
        let kept = self.clean(batch);
        self.cleaned.batches_in += 1;
        self.cleaned.bytes_in += batch.bytes().len() as u64;
        // What is kept as it is shares the memory of what came in.
        let is_same = |kept: &Bytes| kept.as_ptr() == batch.bytes().as_ptr();
        self.cleaned.changed += u64::from(!kept.as_ref().is_some_and(is_same));
        if let Some(kept) = &kept {
            self.cleaned.batches_out += 1;
            self.cleaned.bytes_out += kept.len() as u64;
        }
        kept
    }

    fn clean(&mut self, batch: &Batch) -> Option<Bytes> {
        let header = batch.header();
        // Markers stay. Transactions will drop them here, after their records and the range in the
        // list of aborted ones, and give them a delete horizon of their own.
        if header.base_offset >= self.end || header.is_control() {
            return Some(batch.bytes().clone());
        }
        if header.record_count == 0 {
            return self.is_kept_empty(header).then(|| batch.bytes().clone());
        }
        match self.filter(batch) {
            Ok(kept) => kept,
            Err(_unreadable) => {
                self.cleaned.unreadable += 1;
                Some(batch.bytes().clone())
            }
        }
    }

    /// `MemoryRecords.filterTo` for one batch with records. Nothing is counted of one that cannot
    /// be read.
    fn filter(&mut self, batch: &Batch) -> Result<Option<Bytes>, BatchError> {
        let header = batch.header();
        let payload = unpack(batch, self.payload_max)?;
        let (mut keep, mut has_tombstone) = (Vec::new(), false);
        let mut tally = self.cleaned;
        for record in batch.records(&payload).map_while(Result::ok) {
            let fate = self.fate(header, &record);
            match fate {
                Fate::Kept => has_tombstone |= record.value.is_none(),
                Fate::Obsolete => tally.obsolete += 1,
                Fate::Tombstone => tally.tombstones += 1,
                Fate::Keyless => tally.keyless += 1,
            }
            keep.push(fate == Fate::Kept);
        }
        let horizon = header.delete_horizon().or_else(|| self.horizon(header, has_tombstone));
        let kept = if keep.iter().all(|keep| !keep) {
            let empty = || batch.emptied().map(|batch| batch.bytes().clone());
            self.is_kept_empty(header).then(empty).transpose()?
        } else if keep.contains(&false) || horizon != header.delete_horizon() {
            Some(batch.retain_records(&payload, &keep, horizon)?.bytes().clone())
        } else {
            Some(batch.bytes().clone())
        };
        self.cleaned = tally;
        Ok(kept)
    }

    /// `Cleaner.shouldRetainRecord`.
    fn fate(&self, header: &BatchHeader, record: &Record<'_>) -> Fate {
        let offset = header.offset_of(record);
        if offset >= self.end {
            return Fate::Kept;
        }
        let Some(key) = record.key else { return Fate::Keyless };
        if self.map.last_offset(key).is_some_and(|last| offset < last) {
            return Fate::Obsolete;
        }
        let has_passed = |horizon| self.retention.now_ms >= horizon;
        // What could not be read may hold an older value, which the tombstone hides.
        let is_over = header.delete_horizon().is_some_and(has_passed);
        let goes = record.value.is_none() && is_over && self.cleaned.unreadable == 0;
        if goes { Fate::Tombstone } else { Fate::Kept }
    }

    /// When the tombstones of a batch may go that has no such time yet. One that a pass covers in
    /// part gets it from the pass that covers the rest: each tombstone stays as long as it should
    /// behind the pass that first looked at it.
    fn horizon(&self, header: &BatchHeader, has_tombstone: bool) -> Option<i64> {
        let Retention { now_ms, delete_retention_ms, .. } = self.retention;
        let is_due = has_tombstone && header.next_offset() <= self.end;
        is_due.then(|| now_ms.saturating_add(delete_retention_ms).max(0))
    }

    /// Whether a batch stays without records (Kafka's `RETAIN_EMPTY`): the last one of a live
    /// producer, for its sequence, and the last one that could be cleaned, which may be the log's
    /// last: readers get to the end of the log by it.
    fn is_kept_empty(&self, header: &BatchHeader) -> bool {
        let is_last = |last: &LastRecord| last.data_offset == Some(header.last_offset());
        let producer = header.has_producer_id().then_some(&header.producer_id);
        header.next_offset() == self.last
            || producer.and_then(|id| self.retention.producers.get(id)).is_some_and(is_last)
    }
}

//! Bringing a partition's log into the bucket: what there is to bring, its batches, and the record
//! that says that it is there.
//!
//! The order is the broker's to keep (DESIGN §6): what is brought is synced before it leaves, and
//! the record is written when the object is known to be in the bucket.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::LogError;
use super::index::Stretch;
use super::tiered::{TierChange, TierRef, is_gapless, latest};
use super::{Partition, record};
use crate::tier::EpochStart;
use crate::wal::{Admission, Class, FileNumber, Lsn, ReserveError};

/// A part of a WAL file, from a record's start to a record's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalSpan {
    /// The file.
    pub file: FileNumber,
    /// Where it starts.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

/// What of a partition's log is not in the bucket and may go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untiered {
    /// Its first offset.
    pub from: i64,
    /// Behind its last offset, which is durable.
    pub to: i64,
    /// About how many bytes its batches have; a little of what lies before may be counted.
    pub bytes: u64,
    /// At or after the append of its first batch, on the log clock.
    pub since_ms: i64,
    /// Where its records are in the WAL, with a few more at both ends: one for each file, oldest
    /// first.
    pub spans: Vec<WalSpan>,
}

impl Untiered {
    /// Takes in what follows.
    fn extend(&mut self, stretch: &Stretch, high_watermark: i64) {
        self.to = stretch.end_offset.min(high_watermark);
        self.bytes += u64::from(stretch.bytes);
        match self.spans.last_mut() {
            Some(last) if last.file == stretch.file => last.end = stretch.end,
            _ => {
                let &Stretch { file, start, end, .. } = stretch;
                self.spans.push(WalSpan { file, start, end });
            }
        }
    }
}

/// Why a change of what is in the bucket was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitTierError {
    /// The topic was deleted.
    #[error("the partition was deleted")]
    Closed,
    /// Something else has changed it since it was planned, or the log start has passed it by.
    #[error("what the bucket has of the partition changed meanwhile")]
    Stale,
    /// The WAL has no space ready. Wait with `Stream::wait_for_room` and try again.
    #[error("the write-ahead log has no room ready")]
    NoRoom,
    /// The WAL has stopped.
    #[error("the write-ahead log has stopped")]
    Poisoned,
    /// The admission does not cover the record: a bug of the caller.
    #[error("a record of {bytes} bytes was committed with {admitted} admitted")]
    Unadmitted {
        /// What [`Partition::commit_len`] says.
        bytes: usize,
        /// What the admission had left.
        admitted: usize,
    },
}

impl Partition {
    /// What may go to the bucket, about `max_bytes` of it at most; `None` if there is nothing, or
    /// while a change is under way.
    pub fn untiered(&self, max_bytes: u64) -> Option<Untiered> {
        let state = self.lock_advanced();
        let (tiered_end, high_watermark) = (state.tiered_end(), state.high_watermark());
        let (_, since_ms) = state.untiered();
        if state.closed || state.is_tiering() || tiered_end >= high_watermark {
            return None;
        }
        // The log may start within a batch, which goes whole.
        let first = state.index.from(tiered_end, state.log_end()).next()?;
        let from = state.tier().end().unwrap_or(first.base_offset);
        let mut untiered = Untiered { from, to: from, bytes: 0, since_ms, spans: Vec::new() };
        for stretch in state.index.from(from, state.log_end()) {
            let is_behind = stretch.base_offset >= high_watermark;
            let is_enough = untiered.to > from && untiered.bytes >= max_bytes;
            if is_behind || is_enough {
                break;
            }
            if stretch.end_offset > from {
                untiered.extend(&stretch, high_watermark);
            }
        }
        (untiered.to > from).then_some(untiered)
    }

    /// How many bytes are not in the bucket, also those that are not durable.
    pub fn untiered_bytes(&self) -> u64 {
        self.lock().untiered().0
    }

    /// At or after which time on the log clock the oldest batch was appended that is not in the
    /// bucket; `None` if all are there.
    pub fn untiered_since_ms(&self) -> Option<i64> {
        let (bytes, since_ms) = self.lock().untiered();
        (bytes > 0).then_some(since_ms)
    }

    /// What of the log is in the bucket, oldest first.
    pub fn tier_refs(&self) -> Vec<TierRef> {
        self.lock_advanced().tier().refs().copied().collect()
    }

    /// Behind the last offset in the bucket; `None` if nothing of the log is there.
    pub fn tiered_end(&self) -> Option<i64> {
        self.lock_advanced().tier().end()
    }

    /// The first offset that is on this machine (`ListOffsets` -4): the log start, or where the
    /// log begins that the bucket alone has no longer.
    pub fn local_start(&self) -> i64 {
        let state = self.lock_advanced();
        state.local_start().clamp(state.log_start(), state.high_watermark())
    }

    /// The leader epochs of the offsets from `from` up to `to`, the first of which may start
    /// before.
    pub fn epochs_within(&self, from: i64, to: i64) -> Vec<EpochStart> {
        let state = self.lock();
        let starts = state.epochs.starts();
        let first = starts.partition_point(|(_, start)| *start <= from).saturating_sub(1);
        let within = starts.iter().skip(first).take_while(|(_, start)| *start < to);
        within.map(|(epoch, offset)| EpochStart { epoch: *epoch, offset: *offset }).collect()
    }

    /// Visits the batches that begin from `from` up to `to`, each with the time of its append on
    /// the log clock, a stretch of the index in memory at a time. The visitor's error ends the
    /// visit. Blocks: for `task::blocking`.
    pub fn visit_local<E: From<LogError>>(
        &self,
        from: i64,
        to: i64,
        mut visit: impl FnMut(Bytes, i64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = from;
        while next < to {
            let found: Option<Stretch> = {
                let state = self.lock();
                let local_start = state.indexed_start();
                // What is not in the bucket is given back by nobody, unless it was deleted.
                if next.max(state.log_start()) < local_start {
                    let (of, offset) = (self.id(), next);
                    return Err(LogError::Gap { of, offset, next: local_start }.into());
                }
                state.index.from(next, state.log_end()).find(|stretch| stretch.end_offset > next)
            };
            let Some(stretch) = found else { break };
            for stored in self.stored(&stretch)? {
                if stored.base_offset >= next && stored.base_offset < to {
                    visit(stored.bytes, stored.append_time_ms)?;
                }
            }
            next = stretch.end_offset;
        }
        Ok(())
    }

    /// The bytes that [`Partition::commit_tier`] wants admitted.
    pub fn commit_len(change: &TierChange) -> usize {
        record::DATA_HEAD + change.len()
    }

    /// Says that the bucket has what `change` adds, and that what it removes is not needed. It
    /// holds when the returned LSN is durable. `planned_ms` is when on the log clock it was looked
    /// at what there is to bring.
    pub fn commit_tier(
        self: &Arc<Self>,
        admission: &mut Admission,
        change: TierChange,
        planned_ms: i64,
    ) -> Result<Lsn, CommitTierError> {
        let payload = record::commit_tier(self.id(), &change);
        let mut state = self.lock_advanced();
        if state.closed {
            return Err(CommitTierError::Closed);
        }
        let before = state.latest_refs();
        let known = |id| before.iter().any(|tier| tier.id() == id);
        let (start, _) = state.latest_start();
        let after = latest(state.tier(), state.pending_tier().chain([&change]), start);
        let end = after.last().map_or(start, |last| last.end_offset);
        let begins = match (before.first(), after.first()) {
            (Some(before), Some(after)) => after.start_offset <= before.start_offset.max(start),
            (None, Some(after)) => after.start_offset <= start,
            (before, None) => before.is_none() && change.added.is_empty(),
        };
        let ends = before.last().is_none_or(|last| end >= last.end_offset);
        let holds = is_gapless(&after) && begins && ends && end <= state.high_watermark();
        if !holds || !change.removed.iter().all(|id| known(*id)) {
            return Err(CommitTierError::Stale);
        }
        let (class, kind) = (Class::Housekeeping, record::COMMIT_TIER);
        let stream = &self.shared().stream;
        let mut reservation = stream
            .reserve(admission, class, kind, payload.len(), &self.owner)
            .map_err(|error| refused(&error, payload.len()))?;
        let lsn = reservation.lsn();
        state.tier_pending(lsn, change, planned_ms);
        // Some hundred bytes, copied under the lock: cheaper than to take it twice.
        reservation.put(&payload);
        drop(reservation.fill());
        Ok(lsn)
    }
}

fn refused(error: &ReserveError, bytes: usize) -> CommitTierError {
    match error {
        ReserveError::NoRoom => CommitTierError::NoRoom,
        ReserveError::Poisoned(_) => CommitTierError::Poisoned,
        // A change of so many references is none that anybody plans.
        ReserveError::TooLarge { limit, .. } => {
            CommitTierError::Unadmitted { bytes, admitted: *limit }
        }
        ReserveError::Unadmitted { admitted, .. } => {
            CommitTierError::Unadmitted { bytes, admitted: *admitted }
        }
    }
}

//! Moving the log start: retention and `DeleteRecords`. The data stays where it is; a `LogStart`
//! record says that nobody needs it, and the WAL is trimmed by the oldest byte that somebody does.

use std::sync::Arc;

use super::index::Stretch;
use super::{Partition, record};
use crate::wal::{Admission, Class, FileNumber, Lsn, ReserveError};

/// How long and how much of a partition is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// `retention.ms`; `None` keeps for ever, and so does a caller that distrusts its wall clock
    /// (DESIGN D8).
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` keeps everything.
    pub retention_bytes: Option<u64>,
}

/// Why the log start was not moved. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogStartError {
    /// The offset is above the high watermark.
    #[error("offset {offset} is above the high watermark {high_watermark}")]
    OutOfRange {
        /// The offset.
        offset: i64,
        /// The high watermark.
        high_watermark: i64,
    },
    /// The topic was deleted.
    #[error("the partition was deleted")]
    Closed,
    /// The WAL has no space ready. Wait with `Stream::wait_for_room` and try again.
    #[error("the write-ahead log has no room ready")]
    NoRoom,
    /// The WAL has stopped.
    #[error("the write-ahead log has stopped")]
    Poisoned,
    /// The admission does not cover the record: a bug of the caller.
    #[error("a log start record needs {} bytes admitted", record::LOG_START_LEN)]
    Unadmitted,
}

impl Partition {
    /// Deletes the records before `before`, -1 for all below the high watermark (`DeleteRecords`).
    ///
    /// Returns the log start and the LSN that must be durable before it is answered. The start
    /// moves when that is durable; it never goes back. `admission` has room for
    /// [`record::LOG_START_LEN`] bytes.
    pub fn delete_records(
        self: &Arc<Self>,
        admission: &mut Admission,
        before: i64,
    ) -> Result<(i64, Lsn), LogStartError> {
        self.move_log_start(admission, Class::Data, before)
    }

    /// Moves the log start to `offset`, which [`Partition::retention_candidate`] gave. As
    /// [`Partition::delete_records`], but may use the WAL's last reserve, since it frees space.
    pub fn retain_from(
        self: &Arc<Self>,
        admission: &mut Admission,
        offset: i64,
    ) -> Result<(i64, Lsn), LogStartError> {
        self.move_log_start(admission, Class::Housekeeping, offset)
    }

    fn move_log_start(
        self: &Arc<Self>,
        admission: &mut Admission,
        class: Class,
        offset: i64,
    ) -> Result<(i64, Lsn), LogStartError> {
        let mut state = self.lock_advanced();
        if state.closed {
            return Err(LogStartError::Closed);
        }
        let high_watermark = state.high_watermark();
        let offset = if offset == -1 { high_watermark } else { offset };
        if !(0..=high_watermark).contains(&offset) {
            return Err(LogStartError::OutOfRange { offset, high_watermark });
        }
        let (start, lsn) = state.latest_start();
        if offset <= start {
            return Ok((start, lsn));
        }
        let payload = record::log_start(self.id(), offset);
        let mut reservation = self
            .shared()
            .stream
            .reserve(admission, class, record::LOG_START, payload.len(), &self.owner)
            .map_err(|error| match error {
                ReserveError::NoRoom => LogStartError::NoRoom,
                ReserveError::Poisoned(_) => LogStartError::Poisoned,
                ReserveError::TooLarge { .. } | ReserveError::Unadmitted { .. } => {
                    LogStartError::Unadmitted
                }
            })?;
        let lsn = reservation.lsn();
        state.start_pending(lsn, offset);
        // 28 bytes are copied under the lock: cheaper than to take it twice.
        reservation.put(&payload);
        drop(reservation.fill());
        Ok((offset, lsn))
    }

    /// What of the log is to be kept on this machine by these limits, as the oldest WAL file with a
    /// byte of it and an LSN at or before the first record there. What is not in the bucket is
    /// always kept.
    pub fn local_wanted(&self, now_ms: i64, limits: RetentionLimits) -> Option<(FileNumber, Lsn)> {
        let log_now_ms = self.shared().stream.log_clock().now_ms();
        let state = self.lock_advanced();
        let (mut kept, mut from) = (state.index.bytes(), 0);
        for stretch in state.index.from(i64::MIN, state.log_end()) {
            let part = Part::from(&stretch);
            let is_needed = part.end_offset > state.tiered_end();
            if is_needed || !limits.drops(&part, &mut kept, now_ms, log_now_ms) {
                break;
            }
            from = part.end_offset;
        }
        state.index.oldest_from(from, state.log_end())
    }

    /// Where the log should start by its limits, if that is later than it does. Whole sections in
    /// the bucket go, then whole stretches of the index, oldest first, as Kafka's segments: by
    /// time while their greatest timestamp is older at `now_ms` (wall time) than the limit, by
    /// size while what stays is not below it. Never beyond the high watermark.
    pub fn retention_candidate(&self, now_ms: i64, limits: RetentionLimits) -> Option<i64> {
        let log_now_ms = self.shared().stream.log_clock().now_ms();
        let state = self.lock_advanced();
        let tiered_end = state.tiered_end();
        let tiered = state.tier().refs().map(|tier| Part {
            end_offset: tier.end_offset,
            max_timestamp: tier.max_timestamp,
            append_time_ms: tier.append_time_ms,
            bytes: tier.bytes,
        });
        let untiered = state.index.from(tiered_end, state.log_end());
        let untiered = untiered.map(|stretch| Part::from(&stretch));
        let mut kept = state.tier().bytes() + state.untiered().0;
        let (present, _) = state.latest_start();
        let mut start = present;
        for part in tiered.chain(untiered.filter(|part| part.end_offset > tiered_end)) {
            let beyond = part.end_offset > state.high_watermark();
            if beyond || !limits.drops(&part, &mut kept, now_ms, log_now_ms) {
                break;
            }
            start = start.max(part.end_offset);
        }
        (start > present).then_some(start)
    }
}

/// A part of a log that goes as a whole.
struct Part {
    end_offset: i64,
    max_timestamp: i64,
    append_time_ms: i64,
    bytes: u64,
}

impl From<&Stretch> for Part {
    fn from(stretch: &Stretch) -> Self {
        let &Stretch { end_offset, max_timestamp, append_time_ms, bytes, .. } = stretch;
        Self { end_offset, max_timestamp, append_time_ms, bytes: u64::from(bytes) }
    }
}

impl RetentionLimits {
    /// Whether the oldest part goes, where `kept` bytes are left with it; if so they are without it
    /// afterwards.
    fn drops(&self, part: &Part, kept: &mut u64, now_ms: i64, log_now_ms: i64) -> bool {
        // A batch without a timestamp ages from its append, on the clock that stamped that.
        let age = if part.max_timestamp < 0 {
            log_now_ms.saturating_sub(part.append_time_ms)
        } else {
            now_ms.saturating_sub(part.max_timestamp)
        };
        let after = kept.saturating_sub(part.bytes);
        let expired = self.retention_ms.is_some_and(|limit| age > limit);
        let too_much = self.retention_bytes.is_some_and(|limit| after >= limit);
        if expired || too_much {
            *kept = after;
        }
        expired || too_much
    }
}

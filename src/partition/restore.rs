//! Putting a partition back from the bucket alone (DESIGN §6), when the log is lost that its last
//! checkpoint counts in.
//!
//! In this order, and before anybody else sees the partition: its part of the checkpoint is loaded
//! as by a start ([`Replay::load_part`](super::Replay::load_part)); [`Partition::begin_restore`];
//! the sections behind it that the checkpoint does not know, batch by batch
//! ([`Partition::adopt_batch`]) and then as a whole ([`Partition::adopt_section`]);
//! [`Partition::cut_to_bucket`]. What follows are records of the new log: the gap, appended as any
//! batch, and the epoch behind it ([`Partition::start_epoch`]).

use std::sync::Arc;

use super::append::sequenced;
use super::checkpoint::{CheckpointError, decode};
use super::state::Appended;
use super::tiered::{TierChange, TierRef};
use super::{Partition, record};
use crate::budget::{BytePool, Pool};
use crate::protocol::batch::BatchHeader;
use crate::wal::{Admission, Class, FileNumber, Location, Lsn, ReserveError};

/// What a checkpoint in the bucket says of a log that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The offset behind the last record that it knows of.
    pub log_end: i64,
    /// Where the newest leader epoch starts that it knows of.
    pub newest_epoch_start: Option<i64>,
}

/// What the log clock showed when a part of a checkpoint was taken.
pub fn part_log_clock(part: &[u8]) -> Result<i64, CheckpointError> {
    // Nobody asks for producers here, and objects are counted for nobody.
    let part = decode(part, &BytePool::new(Pool::Producers, 0), &Arc::default())?;
    Ok(part.log_clock_ms)
}

impl Partition {
    /// Forgets where things were in the log that is lost. Returns what the checkpoint says of it.
    pub fn begin_restore(&self) -> Recorded {
        let mut state = self.lock();
        state.forget_log();
        let newest = state.epochs.starts().last();
        Recorded { log_end: state.log_end(), newest_epoch_start: newest.map(|(_, start)| *start) }
    }

    /// Takes note of a batch that the checkpoint does not know and only the bucket has; nothing of
    /// one that it knows.
    pub fn adopt_batch(&self, header: &BatchHeader) {
        let shared = self.shared();
        let now_ms = shared.stream.log_clock().now_ms();
        let mut state = self.lock();
        if header.base_offset < state.log_end() {
            return;
        }
        let batch = Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            leader_epoch: header.partition_leader_epoch,
            max_timestamp: header.max_timestamp,
            append_time_ms: now_ms,
            bytes: 0,
            producer: sequenced(header),
            // In no log.
            lsn: Lsn::ZERO,
            location: Location { file: FileNumber(0), position: 0, len: 0 },
        };
        let forgotten = state.adopt(&batch, now_ms, &shared.producers);
        shared.metrics.forgotten_producers.inc_by(forgotten as u64);
    }

    /// Refers to a section that continues what the bucket has of the log.
    pub fn adopt_section(&self, tier: TierRef) {
        let change = TierChange { removed: Vec::new(), added: vec![tier] };
        self.lock().apply_tier(&change, Lsn::ZERO, tier.append_time_ms);
    }

    /// Where a section must begin that continues what the bucket has of the log; `None` if it has
    /// nothing.
    pub fn bucket_end(&self) -> Option<i64> {
        self.lock().tier().end()
    }

    /// Ends the log where the bucket's part of it ends: epochs and producers behind that are
    /// forgotten. What is appended next is of the last epoch that is left, or of `first_epoch`,
    /// that of the partition's creation: so every epoch that a reader may know ends behind it.
    /// Returns the end.
    pub fn cut_to_bucket(&self, first_epoch: i32) -> i64 {
        let mut state = self.lock();
        let end = state.cut();
        let last = state.epochs.starts().last();
        state.leader_epoch = last.map_or(first_epoch, |(epoch, _)| *epoch);
        end
    }

    /// Begins a leader epoch at the log's end without a batch. `admission` has room for
    /// [`record::EPOCH_START_LEN`] bytes.
    pub fn start_epoch(&self, admission: &mut Admission, epoch: i32) -> Result<Lsn, ReserveError> {
        let mut state = self.lock();
        let offset = state.log_end();
        let payload = record::epoch_start(self.id(), epoch, offset);
        let (class, kind) = (Class::Internal, record::EPOCH_START);
        let stream = &self.shared().stream;
        let mut reservation = stream.reserve(admission, class, kind, payload.len(), &self.owner)?;
        let lsn = reservation.lsn();
        state.lsn = lsn;
        state.epochs.note(epoch, offset);
        state.leader_epoch = state.leader_epoch.max(epoch);
        reservation.put(&payload);
        drop(reservation.fill());
        Ok(lsn)
    }
}

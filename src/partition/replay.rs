//! Building the partitions again at start: parts of the checkpoint first, then the WAL's records in
//! order. Replay applies and never validates: what was written was decided when it was appended.

use std::fmt;

use bytes::Bytes;

use super::append::sequenced;
use super::checkpoint::{CheckpointError, decode};
use super::record::{Record, RecordError};
use super::state::Appended;
use super::{Partition, Partitions};
use crate::protocol::batch::{Batch, BatchError};
use crate::protocol::types::{TopicId, TopicPartition};
use crate::wal::{Kind, Location, Lsn};

/// A WAL record as replay gets it.
#[derive(Clone, Debug)]
pub struct ReplayedRecord {
    /// Its number.
    pub lsn: Lsn,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub location: Location,
    /// Its payload, checked by the WAL.
    pub payload: Bytes,
    /// When its group was written, in milliseconds.
    pub append_ms: i64,
}

impl From<crate::wal::Entry> for ReplayedRecord {
    fn from(entry: crate::wal::Entry) -> Self {
        let crate::wal::Entry { lsn, kind, location, payload, append_ms } = entry;
        Self { lsn, kind, location, payload, append_ms }
    }
}

/// Why a start cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A record is not what its kind says.
    #[error("wal record {lsn} at byte {} of file {}", .location.position, .location.file)]
    Record {
        /// Its number.
        lsn: Lsn,
        /// Where it is.
        location: Location,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A Data record holds no batch.
    #[error("{of}: wal record {lsn} holds no batch")]
    Batch {
        /// Its partition.
        of: TopicPartition,
        /// Its number.
        lsn: Lsn,
        /// What is wrong with it.
        source: BatchError,
    },
}

/// Rebuilds [`Partitions`].
pub struct Replay<'a> {
    partitions: &'a Partitions,
    /// Whether the metadata knows a topic; the records of others are skipped, as deleted.
    known: Box<dyn Fn(TopicId) -> bool + Send + 'a>,
    /// Records and parts of unknown topics.
    skipped: u64,
    applied: u64,
}

impl<'a> Replay<'a> {
    /// Starts a replay into `partitions`, which are empty. `known` says whether the metadata has a
    /// topic with this id.
    pub fn new(
        partitions: &'a Partitions,
        known: impl Fn(TopicId) -> bool + Send + 'a,
    ) -> Replay<'a> {
        Replay { partitions, known: Box::new(known), skipped: 0, applied: 0 }
    }

    /// Puts back a partition's part of the checkpoint. Parts come in the order in which they were
    /// written: a later one of the same partition replaces the earlier one.
    pub fn load_part(&mut self, part: &[u8]) -> Result<(), CheckpointError> {
        let shared = self.partitions.shared();
        let part = decode(part, &shared.producers, &shared.objects)?;
        if !(self.known)(part.of.topic) {
            self.skipped += 1;
            return Ok(());
        }
        shared.metrics.forgotten_producers.inc_by(part.forgotten as u64);
        shared.stream.log_clock().advance_to(part.log_clock_ms);
        let partition = self.partitions.get_or_create(part.of, part.state.leader_epoch);
        let mut state = partition.lock();
        *state = part.state;
        drop(state);
        self.make_room_for_producers();
        Ok(())
    }

    /// Applies a record, unless the checkpoint covers it or its topic is not known.
    pub fn apply(&mut self, record: ReplayedRecord) -> Result<(), ReplayError> {
        let ReplayedRecord { lsn, kind, location, payload, append_ms } = record;
        self.partitions.shared().stream.log_clock().advance_to(append_ms);
        let record = Record::decode(kind, payload).map_err(|source| ReplayError::Record {
            lsn,
            location,
            source,
        })?;
        match record {
            Record::Data { of, batch } => {
                let batch = Batch::parse_one(batch).map_err(|source| ReplayError::Batch {
                    of,
                    lsn,
                    source,
                })?;
                self.on_partition(of, lsn, |partition| {
                    apply_batch(partition, &batch, lsn, location, append_ms);
                });
            }
            Record::CommitTier { of, change } => {
                let known = self.on_partition(of, lsn, |partition| {
                    let mut state = partition.lock();
                    state.lsn = lsn;
                    state.apply_tier(&change, lsn, append_ms);
                });
                if !known {
                    let objects = &self.partitions.shared().objects;
                    change.added.iter().for_each(|added| objects.discard(added.object));
                }
            }
            Record::LogStart { of, offset } => {
                self.on_partition(of, lsn, |partition| {
                    let mut state = partition.lock();
                    state.lsn = lsn;
                    state.start_at(offset, lsn);
                });
            }
            Record::EpochStart { of, epoch, offset } => {
                self.on_partition(of, lsn, |partition| {
                    let mut state = partition.lock();
                    state.lsn = lsn;
                    state.epochs.note(epoch, offset);
                    state.leader_epoch = state.leader_epoch.max(epoch);
                });
            }
            Record::Drop { topic } => {
                self.applied += 1;
                self.partitions.remove_topic(topic);
            }
        }
        Ok(())
    }

    /// How many records were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many records and parts were skipped because the metadata does not know their topic.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// False if the partition's topic is not known.
    fn on_partition(
        &mut self,
        of: TopicPartition,
        lsn: Lsn,
        apply: impl FnOnce(&Partition),
    ) -> bool {
        if !(self.known)(of.topic) {
            self.skipped += 1;
            return false;
        }
        let partition = self.partitions.get_or_create(of, 0);
        let covered = partition.lock().lsn >= lsn;
        if !covered {
            self.applied += 1;
            apply(&partition);
            self.make_room_for_producers();
        }
        true
    }

    /// So that what is restored first does not keep what is restored last out.
    fn make_room_for_producers(&self) {
        if !self.partitions.has_room_for_producers() {
            self.partitions.forget_silent_producers();
        }
    }
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("applied", &self.applied)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

fn apply_batch(partition: &Partition, batch: &Batch, lsn: Lsn, location: Location, append_ms: i64) {
    let header = batch.header();
    let mut state = partition.lock();
    state.leader_epoch = state.leader_epoch.max(header.partition_leader_epoch);
    let appended = Appended {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        leader_epoch: header.partition_leader_epoch,
        max_timestamp: header.max_timestamp,
        append_time_ms: append_ms,
        bytes: batch.bytes().len() as u32,
        producer: sequenced(header),
        lsn,
        location,
    };
    // The log clock, not the append time: it does not go back where the wall clock did.
    let shared = partition.shared();
    let forgotten = state.replay(appended, shared.stream.log_clock().now_ms(), &shared.producers);
    shared.metrics.forgotten_producers.inc_by(forgotten as u64);
}

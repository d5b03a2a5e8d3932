//! The partitions of a broker, by topic id and index.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::producers::{PRODUCER_BYTES, Silent};
use super::{Partition, Shared, record};
use crate::failpoint;
use crate::protocol::types::{TopicId, TopicPartition};
use crate::wal::{Admission, Class, FileNumber, Lsn, Owner, ReserveError};

/// All partitions that this broker owns.
///
/// Ordered by topic, so that a topic's partitions are found without a look at the others. Readers
/// hold the lock for one look-up.
#[derive(Debug)]
pub struct Partitions {
    shared: Arc<Shared>,
    map: RwLock<BTreeMap<TopicPartition, Arc<Partition>>>,
}

/// What keeps the oldest WAL file from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestNeeded {
    /// The oldest file with a byte that a partition needs.
    pub file: FileNumber,
    /// At or before the first record there that is needed: nothing below it is.
    pub lsn: Lsn,
    /// The partition that needs it.
    pub of: TopicPartition,
}

impl Partitions {
    /// No partitions yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, map: RwLock::default() }
    }

    /// What the partitions share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The partition, if this broker has it.
    pub fn get(&self, of: TopicPartition) -> Option<Arc<Partition>> {
        self.read().get(&of).cloned()
    }

    /// The partition, created empty if it is not there; its leader epoch is at least
    /// `leader_epoch` afterwards.
    pub fn get_or_create(&self, of: TopicPartition, leader_epoch: i32) -> Arc<Partition> {
        if let Some(partition) = self.get(of) {
            partition.set_leader_epoch(leader_epoch);
            return partition;
        }
        let mut map = self.write();
        let fresh = || Partition::new(of, &self.shared, leader_epoch);
        let partition = Arc::clone(map.entry(of).or_insert_with(fresh));
        drop(map);
        partition.set_leader_epoch(leader_epoch);
        partition
    }

    /// Closes a topic's partitions and forgets them; returns how many there were. Second step of
    /// a deletion, after the metadata; [`Partitions::append_drop`] is the third.
    pub fn close_topic(&self, topic: TopicId) -> usize {
        // Before they are forgotten: a checkpoint that has no part of them is to list what was
        // theirs.
        for partition in self.of_topic(topic) {
            partition.close();
        }
        failpoint::pass("topic deletion: halfway");
        let mut map = self.write();
        let of: Vec<_> = map.range(whole(topic)).map(|(of, _)| *of).collect();
        let forgotten: Vec<_> = of.iter().filter_map(|of| map.remove(of)).collect();
        drop(map);
        // Those that were opened meanwhile.
        for partition in &forgotten {
            partition.close();
        }
        forgotten.len()
    }

    /// Writes that a topic is gone, so that replay skips its records even where the metadata still
    /// knows the id. `admission` has room for [`record::DROP_LEN`] bytes. Returns the record's LSN.
    pub fn append_drop(
        &self,
        admission: &mut Admission,
        topic: TopicId,
    ) -> Result<Lsn, ReserveError> {
        let owner: Arc<dyn Owner> = Arc::new(Nobody);
        let payload = record::drop_topic(topic);
        let (class, kind) = (Class::Housekeeping, record::DROP);
        let mut reservation =
            self.shared.stream.reserve(admission, class, kind, payload.len(), &owner)?;
        reservation.put(&payload);
        let lsn = reservation.lsn();
        drop(reservation.fill());
        Ok(lsn)
    }

    /// A topic's partitions, by index.
    pub fn of_topic(&self, topic: TopicId) -> Vec<Arc<Partition>> {
        self.read().range(whole(topic)).map(|(_, partition)| Arc::clone(partition)).collect()
    }

    /// Every partition of this moment, for checkpoints and housekeeping.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.read().values().cloned().collect()
    }

    /// Has every partition take note of what is durable: not before is what it has dropped garbage.
    pub fn apply_durable(&self) {
        for partition in self.all() {
            drop(partition.lock_advanced());
        }
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// What keeps the oldest WAL file: the partition whose first byte that is not in the bucket
    /// lies in it, the first of several. `None` when the bucket has all. Looks at every partition.
    pub fn oldest_needed(&self) -> Option<OldestNeeded> {
        let needed = |partition: Arc<Partition>| {
            let state = partition.lock_advanced();
            let oldest = state.index.oldest_from(state.tiered_end(), state.log_end());
            drop(state);
            failpoint::pass("oldest needed: looked at a partition");
            let (file, lsn) = oldest?;
            Some(OldestNeeded { file, lsn, of: partition.id() })
        };
        self.all().into_iter().filter_map(needed).min_by_key(|needed| (needed.file, needed.lsn))
    }

    /// Forgets where WAL files below `file` have the log, before they are given back.
    pub fn forget_files(&self, file: FileNumber) {
        for partition in self.all() {
            partition.lock_advanced().forget_files(file);
        }
    }

    /// Whether an eighth of the memory for producers is free.
    pub fn has_room_for_producers(&self) -> bool {
        let pool = &self.shared.producers;
        pool.used() <= pool.capacity() / 8 * 7
    }

    /// Forgets of all partitions the producers that were silent longest, until a quarter of the
    /// memory for them is free; returns how many. To be called before that is full: a partition
    /// that finds it full forgets of its own.
    pub fn forget_silent_producers(&self) -> usize {
        let pool = &self.shared.producers;
        let surplus = pool.used().saturating_sub(pool.capacity() / 4 * 3);
        let count = surplus.div_ceil(PRODUCER_BYTES);
        let all = self.all();
        let mut seen = Vec::new();
        for partition in &all {
            seen.extend(partition.lock().producers.seen());
        }
        let Some(mut silent) = Silent::longest(seen, count) else { return 0 };
        let mut forgotten = 0;
        for partition in &all {
            let mut state = partition.lock();
            if state.producers.len() > 1 {
                forgotten += state.producers.forget(&mut silent);
            }
        }
        self.shared.metrics.forgotten_producers.inc_by(forgotten as u64);
        forgotten
    }

    pub(super) fn remove_topic(&self, topic: TopicId) {
        self.close_topic(topic);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TopicPartition, Arc<Partition>>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<TopicPartition, Arc<Partition>>> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every partition that a topic can have.
fn whole(topic: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
    let at = |partition| TopicPartition { topic, partition };
    at(i32::MIN)..=at(i32::MAX)
}

/// The owner of records that are nobody's to read.
#[derive(Debug)]
struct Nobody;

impl Owner for Nobody {
    fn durable(&self, _durable: Lsn) {}

    fn evict(&self, _upto: Lsn) {}
}

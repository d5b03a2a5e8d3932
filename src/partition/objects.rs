//! Which tiered objects partitions refer to, and which nobody refers to any more.
//!
//! An object is counted once for each section that some partition's view has. What counts nothing
//! is garbage, until it is referred to again: replay takes records in the order of the log, so the
//! first section of a pack may be dropped before the last one is found.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tier::{ObjectId, ObjectRef};
use crate::wal::Lsn;

/// An object that nobody refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Which object.
    pub object: ObjectRef,
    /// The record that dropped its last section: until that is synced, a restart may refer to the
    /// object again. [`Lsn::ZERO`] where the metadata or nobody ever did.
    pub dropped: Lsn,
}

/// The objects of all partitions of a broker.
#[derive(Debug, Default)]
pub struct Objects {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Sections in use.
    sections: HashMap<ObjectId, u32>,
    garbage: BTreeMap<ObjectId, Garbage>,
}

impl Objects {
    /// A section of `object` came into use.
    pub(super) fn retain(&self, object: &ObjectRef) {
        let mut counts = self.lock();
        *counts.sections.entry(object.id).or_insert(0) += 1;
        counts.garbage.remove(&object.id);
    }

    /// A section of `object` went out of use by the record `dropped`.
    pub(super) fn release(&self, object: &ObjectRef, dropped: Lsn) {
        let mut counts = self.lock();
        let Some(sections) = counts.sections.get_mut(&object.id) else { return };
        *sections = sections.saturating_sub(1);
        if *sections == 0 {
            counts.sections.remove(&object.id);
            counts.garbage.insert(object.id, Garbage { object: *object, dropped });
        }
    }

    /// Takes an object that is in the bucket for garbage unless somebody refers to it: one that was
    /// uploaded in vain, or that a checkpoint lists.
    pub fn discard(&self, object: ObjectRef) {
        let mut counts = self.lock();
        if !counts.sections.contains_key(&object.id) {
            let garbage = Garbage { object, dropped: Lsn::ZERO };
            counts.garbage.entry(object.id).or_insert(garbage);
        }
    }

    /// Whether some partition refers to the object.
    pub fn is_used(&self, id: ObjectId) -> bool {
        self.lock().sections.contains_key(&id)
    }

    /// How many objects are referred to.
    pub fn used(&self) -> usize {
        self.lock().sections.len()
    }

    /// What nobody refers to, by id.
    pub fn garbage(&self) -> Vec<Garbage> {
        self.lock().garbage.values().copied().collect()
    }

    /// Objects of the garbage were deleted.
    pub fn deleted(&self, ids: &[ObjectId]) {
        let mut counts = self.lock();
        for id in ids {
            counts.garbage.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(sequence: u64) -> ObjectRef {
        let id = ObjectId { incarnation: [7; 16], sequence };
        ObjectRef { id, bytes: 100, end_bytes: 10 }
    }

    #[test]
    fn an_object_is_garbage_when_its_last_section_goes_and_no_longer_when_one_comes_back() {
        let objects = Objects::default();
        let pack = object(1);
        objects.retain(&pack);
        objects.retain(&pack);
        objects.release(&pack, Lsn(5));
        assert!(objects.is_used(pack.id));
        assert_eq!(objects.garbage(), []);
        objects.release(&pack, Lsn(6));
        let garbage = Garbage { object: pack, dropped: Lsn(6) };
        assert_eq!((objects.used(), objects.garbage()), (0, vec![garbage]));
        objects.discard(pack);
        assert_eq!(objects.garbage(), [garbage], "the record still counts");
        objects.retain(&pack);
        assert_eq!((objects.used(), objects.garbage()), (1, Vec::new()));
        objects.discard(pack);
        assert_eq!(objects.garbage(), []);
    }

    #[test]
    fn what_was_deleted_is_forgotten() {
        let objects = Objects::default();
        objects.discard(object(1));
        objects.discard(object(2));
        objects.deleted(&[object(1).id]);
        let left: Vec<_> = objects.garbage().iter().map(|garbage| garbage.object).collect();
        assert_eq!(left, [object(2)]);
    }
}

//! Which sessions there are, and which of them makes room for a new one (Kafka's
//! `FetchSessionCacheShard`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::session::Session;
use crate::clock::Instant;

/// A session that was not used for so long goes first; one that is younger than this is not pushed
/// out by a larger one (Kafka's `ServerConfigs.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const MIN_EVICTION: Duration = Duration::from_mins(2);

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Cache {
    sessions: HashMap<i32, Slot>,
    /// By last use.
    last_used: BTreeSet<(Instant, i32)>,
    /// Sessions that were old enough when last used, by number of partitions.
    evictable: BTreeSet<(usize, i32)>,
    /// Partitions of all sessions.
    partitions: usize,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Session>,
    created: Instant,
    last_used: Instant,
    partitions: usize,
}

impl Cache {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(super) fn contains(&self, id: i32) -> bool {
        self.sessions.contains_key(&id)
    }

    pub(super) fn get(&self, id: i32) -> Option<Arc<Session>> {
        self.sessions.get(&id).map(|slot| Arc::clone(&slot.session))
    }

    pub(super) fn insert(
        &mut self,
        id: i32,
        session: Arc<Session>,
        partitions: usize,
        now: Instant,
    ) {
        self.last_used.insert((now, id));
        self.partitions += partitions;
        self.sessions.insert(id, Slot { session, created: now, last_used: now, partitions });
    }

    /// Notes that a session was used and how many partitions it has now.
    pub(super) fn touch(&mut self, id: i32, partitions: usize, now: Instant) {
        let Some(slot) = self.sessions.get_mut(&id) else { return };
        self.last_used.remove(&(slot.last_used, id));
        self.evictable.remove(&(slot.partitions, id));
        self.partitions = self.partitions - slot.partitions + partitions;
        (slot.last_used, slot.partitions) = (now, partitions);
        self.last_used.insert((now, id));
        if now.saturating_duration_since(slot.created) > MIN_EVICTION {
            self.evictable.insert((partitions, id));
        }
    }

    pub(super) fn remove(&mut self, id: i32) {
        let Some(slot) = self.sessions.remove(&id) else { return };
        self.last_used.remove(&(slot.last_used, id));
        self.evictable.remove(&(slot.partitions, id));
        self.partitions -= slot.partitions;
    }

    /// Evicts one session in favour of a new one with so many partitions: the one that was not used
    /// for longest, if that is long, else the smallest of those that are not new, if it is smaller.
    pub(super) fn evict(&mut self, partitions: usize, now: Instant) -> bool {
        let Some((used, oldest)) = self.last_used.first().copied() else { return false };
        if now.saturating_duration_since(used) > MIN_EVICTION {
            self.remove(oldest);
            return true;
        }
        let Some((size, smallest)) = self.evictable.first().copied() else { return false };
        if partitions <= size {
            return false;
        }
        self.remove(smallest);
        true
    }
}

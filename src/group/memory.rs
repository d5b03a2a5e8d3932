//! What groups hold in memory, charged to the budget's pool for them (DESIGN D10). A request that
//! would make its group hold more is refused when the pool is exhausted; one that needs no more
//! than before goes on. What the log holds was accepted once: it is loaded and charged beyond the
//! pool if it must be, and then nothing new is taken until there is less than the pool again.
//!
//! Weights are what the allocations come to, rounded up, with the places in maps and indexes.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::metrics::GroupMetrics;
use super::types::Error;
use crate::budget::{BytePool, Charge};
use crate::clock::Instant;

/// A name or bytes of their own: counts of references and what the allocator adds.
const ALLOCATION: usize = 48;

/// Refusals are logged at most this often.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The weight of a name.
pub(super) fn name(name: &str) -> usize {
    ALLOCATION + name.len()
}

/// The weight of a name that may be missing.
pub(super) fn optional(text: Option<&str>) -> usize {
    text.map_or(0, name)
}

/// The weight of bytes that have an allocation of their own.
pub(super) fn bytes(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { ALLOCATION + bytes.len() }
}

/// The memory of all groups.
#[derive(Debug)]
pub(super) struct Memory {
    pool: BytePool,
    /// Bytes held beyond the pool.
    excess: AtomicUsize,
    warned: Mutex<Option<Instant>>,
}

impl Memory {
    pub(super) fn new(pool: BytePool) -> Arc<Self> {
        Arc::new(Self { pool, excess: AtomicUsize::new(0), warned: Mutex::default() })
    }

    /// Notes that a request was refused.
    pub(super) fn refused(&self, metrics: &GroupMetrics, now: Instant) {
        metrics.refused_memory.inc();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| now.saturating_duration_since(at) < WARN_EVERY) {
            return;
        }
        *warned = Some(now);
        warn!(pool_bytes = self.pool.capacity(), error = %Error::GroupMemoryExhausted,
            "group request refused");
    }
}

/// What one group holds, charged until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<Memory>,
    charge: Charge,
    /// Held beyond the pool.
    excess: usize,
}

impl Held {
    /// Nothing yet.
    pub(super) fn none(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), charge: Charge::none(), excess: 0 }
    }

    /// What is charged.
    pub(super) fn bytes(&self) -> usize {
        self.charge.bytes() + self.excess
    }

    /// Charges `bytes` more, if the pool has them beside what is held beyond it.
    pub(super) fn try_grow(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let excess = self.memory.excess.load(Ordering::Relaxed);
        let taken = self.memory.pool.try_take(bytes.saturating_add(excess));
        let mut taken = taken.ok_or(Error::GroupMemoryExhausted)?;
        if let Some(charge) = taken.split(bytes) {
            self.charge.merge(charge);
        }
        Ok(())
    }

    /// Charges exactly `bytes`, beyond the pool if it must be.
    pub(super) fn set(&mut self, bytes: usize) {
        let held = self.bytes();
        if let Some(more) = bytes.checked_sub(held).filter(|more| *more > 0) {
            if let Some(charge) = self.memory.pool.try_take(more) {
                self.charge.merge(charge);
            } else {
                self.excess += more;
                self.memory.excess.fetch_add(more, Ordering::Relaxed);
            }
            return;
        }
        let less = held - bytes;
        let beyond = less.min(self.excess);
        self.excess -= beyond;
        self.memory.excess.fetch_sub(beyond, Ordering::Relaxed);
        drop(self.charge.split(less - beyond));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.excess.fetch_sub(mem::take(&mut self.excess), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Pool;

    #[test]
    fn what_is_held_beyond_the_pool_is_given_back_before_anybody_gets_more() {
        let pool = BytePool::new(Pool::Groups, 100);
        let memory = Memory::new(pool.clone());
        let (mut loaded, mut first) = (Held::none(&memory), Held::none(&memory));
        first.try_grow(60).unwrap();
        loaded.set(70);
        assert_eq!((pool.used(), loaded.bytes()), (60, 70));
        assert_eq!(first.try_grow(1), Err(Error::GroupMemoryExhausted));
        assert_eq!(first.try_grow(0), Ok(()));
        first.set(20);
        // 70 are held beside the pool, 20 in it: 10 are free.
        assert_eq!(first.try_grow(11), Err(Error::GroupMemoryExhausted));
        first.try_grow(10).unwrap();
        assert_eq!((pool.used(), first.bytes()), (30, 30));
        drop(loaded);
        first.try_grow(70).unwrap();
        drop(first);
        assert_eq!(pool.used(), 0);
    }
}

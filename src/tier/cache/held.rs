//! What is kept of objects, and to whom its bytes are charged until the last reader lets go.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::budget::{BytePool, Charge};

use super::super::metrics::CacheMetrics;

/// Something from an object, with the bytes that it takes.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    bytes: usize,
    metrics: Arc<CacheMetrics>,
    evicted: AtomicBool,
    /// Given back when the value is gone, which may be long after it left the cache.
    charge: Mutex<Charge>,
    /// Of what was evicted, the bytes that are charged to the cache's pool still.
    stuck: Arc<AtomicUsize>,
    is_stuck: AtomicUsize,
}

impl<T> Held<T> {
    /// Takes a value of `bytes` in, which counts as cached from now on.
    pub(super) fn new(
        value: T,
        bytes: usize,
        charge: Charge,
        metrics: &Arc<CacheMetrics>,
        stuck: &Arc<AtomicUsize>,
    ) -> Arc<Self> {
        metrics.cached(bytes);
        Arc::new(Self {
            value,
            bytes,
            metrics: Arc::clone(metrics),
            evicted: AtomicBool::new(false),
            charge: Mutex::new(charge),
            stuck: Arc::clone(stuck),
            is_stuck: AtomicUsize::new(0),
        })
    }

    /// The cache keeps it no longer. Who has it still does, and is charged for it from now on, if
    /// there is room. Returns how many bytes that frees.
    fn evict(&self, is_held: bool, readers: &BytePool) -> usize {
        if self.evicted.swap(true, Ordering::Relaxed) {
            return 0;
        }
        self.metrics.evicted(self.bytes);
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = charge.bytes();
        if !is_held {
            return bytes;
        }
        if let Some(theirs) = readers.try_take(bytes) {
            *charge = theirs;
            return bytes;
        }
        self.is_stuck.store(bytes, Ordering::Relaxed);
        self.stuck.fetch_add(bytes, Ordering::Relaxed);
        0
    }

    /// What the cache weighs it with: its bytes and what it takes to find them.
    fn weight(&self) -> u32 {
        u32::try_from(self.bytes.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
    }
}

/// About what an entry takes beside its value.
const ENTRY_BYTES: usize = 128;

/// What moka has in place of a value: it drops what it evicted some time later, and a load may wait
/// for the bytes.
pub(super) struct Slot<T> {
    held: Mutex<Option<Arc<Held<T>>>>,
    weight: u32,
}

impl<T> Slot<T> {
    pub(super) fn new(held: Arc<Held<T>>) -> Arc<Self> {
        let weight = held.weight();
        Arc::new(Self { held: Mutex::new(Some(held)), weight })
    }

    /// The value, unless it was evicted just now.
    pub(super) fn get(&self) -> Option<Arc<Held<T>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Lets go of the value. Returns how many bytes that frees, once whoever is about to take a
    /// look has.
    pub(super) fn evict(&self, readers: &BytePool) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.map_or(0, |held| held.evict(Arc::strong_count(&held) > 1, readers))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.metrics.released(self.bytes, *self.evicted.get_mut());
        self.stuck.fetch_sub(*self.is_stuck.get_mut(), Ordering::Relaxed);
    }
}

/// A chunk's bytes as its readers get them: slices keep the chunk and its charge.
pub(super) fn slice(chunk: &Arc<Held<Bytes>>) -> Bytes {
    struct Owner(Arc<Held<Bytes>>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0.value
        }
    }

    Bytes::from_owner(Owner(Arc::clone(chunk)))
}

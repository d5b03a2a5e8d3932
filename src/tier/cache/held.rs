//! What is kept of objects, and to whom its bytes are charged until the last reader lets go.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::budget::Charge;

use super::super::metrics::CacheMetrics;

/// Something from an object, with the bytes that it takes.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    bytes: usize,
    metrics: Arc<CacheMetrics>,
    evicted: AtomicBool,
    /// Given back when the value is gone, which may be long after it left the cache.
    charge: Charge,
}

impl<T> Held<T> {
    /// Takes a value of `bytes` in, which counts as cached from now on.
    pub(super) fn new(
        value: T,
        bytes: usize,
        charge: Charge,
        metrics: &Arc<CacheMetrics>,
    ) -> Arc<Self> {
        metrics.cached(bytes);
        let (metrics, evicted) = (Arc::clone(metrics), AtomicBool::new(false));
        Arc::new(Self { value, bytes, metrics, evicted, charge })
    }

    /// The cache keeps it no longer; who has it still does.
    fn evict(&self) {
        if !self.evicted.swap(true, Ordering::Relaxed) {
            self.metrics.evicted(self.bytes);
        }
    }

    /// What of a pool it has.
    pub(super) fn charged(&self) -> usize {
        self.charge.bytes()
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

    /// Lets go of the value.
    pub(super) fn evict(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(held) = held {
            held.evict();
        }
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

//! A part of the cache, with its own memory.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use crate::budget::{BytePool, Charge};

use super::super::metrics::CacheMetrics;
use super::held::{Held, Slot};
use super::streams::GREATEST_WINDOW;
use super::{Chunk, ChunkKey};

/// What is kept, and the pool that everything is charged to that is kept, on its way, or held by a
/// reader though it is kept no longer.
pub(super) struct Part<K, T> {
    kept: Moka<K, Arc<Slot<T>>>,
    pub(super) pool: BytePool,
    /// What of the pool is never filled by what is kept.
    pub(super) headroom: usize,
    pub(super) metrics: Arc<CacheMetrics>,
    /// What is held by readers alone is charged here, as far as there is room.
    readers: BytePool,
    /// The rest of it, charged to `pool`.
    stuck: Arc<AtomicUsize>,
}

impl<K, T> Part<K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// A part that keeps what three quarters of `pool` have room for, or less, but at least half,
    /// if that makes room for so many of the longest `runs` on their way.
    pub(super) fn new(
        pool: BytePool,
        runs: usize,
        readers: &BytePool,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        let runs = (runs * GREATEST_WINDOW as usize).min(pool.capacity() / 2);
        let headroom = runs.max(pool.capacity() / 4);
        let (readers, stuck) = (readers.clone(), Arc::default());
        let theirs = readers.clone();
        let kept = Moka::builder()
            .max_capacity((pool.capacity() - headroom) as u64)
            .weigher(|_, slot: &Arc<Slot<T>>| slot.weight())
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, slot: Arc<Slot<T>>, _| {
                slot.evict(&theirs);
            })
            .build();
        Self { kept, pool, headroom, metrics, readers, stuck }
    }

    /// What is kept under `key`, which makes it the one used last.
    pub(super) fn get(&self, key: &K) -> Option<Arc<Held<T>>> {
        self.kept.get(key)?.get()
    }

    /// Whether something is kept under `key`.
    pub(super) fn has(&self, key: &K) -> bool {
        self.kept.contains_key(key)
    }

    /// Waits for `bytes`. What could never be had besides all that is kept goes with less: a chunk
    /// of one huge batch, one at a time.
    pub(super) async fn take(&self, bytes: usize) -> Charge {
        let bytes = bytes.min(self.headroom);
        if let Some(charge) = self.pool.try_take(bytes) {
            return charge;
        }
        self.make_room(bytes);
        self.pool.take_up_to(bytes).await
    }

    /// How many of `bytes` can be had when the loads before it have ended, though readers let go of
    /// nothing.
    pub(super) fn reach(&self, bytes: usize) -> usize {
        let bytes = bytes.min(self.headroom);
        if self.pool.capacity() - self.pool.used() < bytes {
            self.make_room(bytes);
        }
        bytes.min(self.pool.capacity().saturating_sub(self.stuck.load(Ordering::Relaxed)))
    }

    /// What readers hold that somebody waits for.
    pub(super) fn stuck(&self) -> usize {
        if self.pool.is_exhausted() { self.stuck.load(Ordering::Relaxed) } else { 0 }
    }

    /// Keeps what was loaded.
    pub(super) fn keep(&self, key: K, value: T, bytes: usize, charge: Charge) -> Arc<Held<T>> {
        let held = Held::new(value, bytes, charge, &self.metrics, &self.stuck);
        self.kept.insert(key, Slot::new(Arc::clone(&held)));
        held
    }

    /// Lets go at once of what has to make place for what was kept last, so that it is charged to
    /// nobody, and of more if a load waits for bytes: those that it freed are kept now.
    pub(super) fn settle(&self) {
        self.kept.run_pending_tasks();
        if self.pool.is_exhausted() {
            self.make_room(self.headroom);
        }
    }

    /// Readers hold so much of what is kept no longer that a load does not find `bytes`: lets go of
    /// so much, in no order. What a reader holds goes too, and if the readers' pool has no room its
    /// bytes come when the reader lets go of it; else a load might wait for bytes that are only
    /// kept.
    fn make_room(&self, bytes: usize) {
        let free = self.pool.capacity() - self.pool.used();
        let mut missing = bytes.saturating_sub(free);
        for (key, slot) in &self.kept {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(slot.evict(&self.readers));
            self.kept.invalidate(&*key);
        }
        self.kept.run_pending_tasks();
    }
}

impl Part<ChunkKey, Bytes> {
    /// Keeps a chunk of a run with its part of the run's charge.
    pub(super) fn keep_chunk(&self, key: ChunkKey, chunk: Bytes, charge: &mut Charge) -> Chunk {
        let bytes = chunk.len();
        // A charge that was cut to what the pool can have ends before the chunks do.
        let part = charge.split(bytes.min(charge.bytes())).unwrap_or_default();
        let held = self.keep(key, chunk, bytes, part);
        self.kept.run_pending_tasks();
        held
    }
}

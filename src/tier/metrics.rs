//! What the cache of tiered objects counts, by whose memory it is: `hot` for readers of young data,
//! `catch_up` for readers of old data, `footers` for both.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use super::reader::ReadError;
use crate::metrics::Registry;

/// How a load ended, as a metric label.
const OUTCOMES: [&str; 4] = ["ok", "missing", "corrupt", "failed"];

/// The parts of the cache, as metric labels.
const CACHES: [&str; 3] = ["hot", "catch_up", "footers"];

/// Metric handles of one part of the cache.
#[derive(Debug)]
pub(super) struct CacheMetrics {
    hits: IntCounter,
    misses: IntCounter,
    loads: [IntCounter; 4],
    loaded_bytes: IntCounter,
    evictions: IntCounter,
    evicted_bytes: IntCounter,
    bytes: IntGauge,
    pinned_bytes: IntGauge,
}

/// Registers the metrics of all parts, in the order hot, catch-up, footers.
pub(super) fn register(registry: &Registry) -> [Arc<CacheMetrics>; 3] {
    let counters = |name, help| registry.counters(name, help, &["cache"]);
    let gauges = |name, help| registry.gauges(name, help, &["cache"]);
    let hits = counters("tier_cache_hits_total", "Chunks and footers wanted that were there.");
    let misses =
        counters("tier_cache_misses_total", "Chunks and footers wanted that had to be waited for.");
    let loads = registry.counters(
        "tier_cache_loads_total",
        "Loads from the bucket by outcome, read-ahead included.",
        &["cache", "outcome"],
    );
    let loaded_bytes =
        counters("tier_cache_loaded_bytes_total", "Bytes of chunks and footers loaded.");
    let evictions =
        counters("tier_cache_evictions_total", "Chunks and footers that others took the place of.");
    let evicted_bytes =
        counters("tier_cache_evicted_bytes_total", "Bytes that others took the place of.");
    let bytes = gauges("tier_cache_bytes", "Bytes kept for whoever wants them.");
    let pinned_bytes =
        gauges("tier_cache_pinned_bytes", "Bytes no longer kept that only their readers hold.");
    CACHES.map(|cache| {
        let label = [cache];
        Arc::new(CacheMetrics {
            hits: hits.with_label_values(&label),
            misses: misses.with_label_values(&label),
            loads: OUTCOMES.map(|outcome| loads.with_label_values(&[cache, outcome])),
            loaded_bytes: loaded_bytes.with_label_values(&label),
            evictions: evictions.with_label_values(&label),
            evicted_bytes: evicted_bytes.with_label_values(&label),
            bytes: bytes.with_label_values(&label),
            pinned_bytes: pinned_bytes.with_label_values(&label),
        })
    })
}

impl CacheMetrics {
    /// Something was wanted, and was there or was not.
    pub(super) fn wanted(&self, there: bool) {
        if there {
            self.hits.inc();
        } else {
            self.misses.inc();
        }
    }

    /// A load has ended that brought `bytes`, and failed after that if there is an error.
    pub(super) fn loaded(&self, bytes: usize, error: Option<&ReadError>) {
        let index = match error {
            None => 0,
            Some(ReadError::Missing { .. }) => 1,
            Some(ReadError::Corrupt { .. }) => 2,
            Some(ReadError::Bucket(_)) => 3,
        };
        self.loads[index].inc();
        self.loaded_bytes.inc_by(bytes as u64);
    }

    /// So many bytes are kept now.
    pub(super) fn cached(&self, bytes: usize) {
        self.bytes.add(bytes as i64);
    }

    /// So many bytes are not kept any more; readers may hold them.
    pub(super) fn evicted(&self, bytes: usize) {
        self.evictions.inc();
        self.evicted_bytes.inc_by(bytes as u64);
        self.bytes.sub(bytes as i64);
        self.pinned_bytes.add(bytes as i64);
    }

    /// So many bytes are held by nobody any more.
    pub(super) fn released(&self, bytes: usize, evicted: bool) {
        let gauge = if evicted { &self.pinned_bytes } else { &self.bytes };
        gauge.sub(bytes as i64);
    }
}

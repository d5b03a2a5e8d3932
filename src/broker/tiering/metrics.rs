//! What bringing logs into the bucket counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::metrics::Registry;
use crate::partition::Untiered;
use crate::tier::Origin;

/// Handles of the metrics.
#[derive(Debug, Clone)]
pub(in crate::broker) struct TierMetrics {
    objects: IntCounterVec,
    bytes: IntCounterVec,
    sections: IntCounterVec,
    lag_bytes: IntGauge,
    lag_seconds: IntGauge,
    /// Sections that were uploaded and whose partition did not want them any more.
    pub(super) stale: IntCounter,
}

impl TierMetrics {
    /// Registers the metrics.
    pub(in crate::broker) fn new(registry: &Registry) -> Self {
        Self {
            objects: registry.counters(
                "broker_tier_objects_total",
                "Objects brought into the bucket, by what they were made of and outcome.",
                &["origin", "outcome"],
            ),
            bytes: registry.counters(
                "broker_tier_bytes_total",
                "Bytes of objects brought into the bucket, by what they were made of.",
                &["origin"],
            ),
            sections: registry.counters(
                "broker_tier_sections_total",
                "Sections of partitions in objects brought into the bucket.",
                &["origin"],
            ),
            lag_bytes: registry
                .gauge("broker_tier_lag_bytes", "Bytes of batches that are not in the bucket."),
            lag_seconds: registry.gauge(
                "broker_tier_lag_seconds",
                "How long the oldest batch that is not in the bucket has waited, at most.",
            ),
            stale: registry.counter(
                "broker_tier_stale_sections_total",
                "Sections brought into the bucket whose partition had changed meanwhile.",
            ),
        }
    }

    /// Notes that so many bytes wait, and what would go next.
    pub(super) fn lag(&self, bytes: u64, waiting: &[Untiered], now_ms: i64) {
        let oldest = waiting.iter().map(|it| it.since_ms).min().unwrap_or(now_ms);
        self.lag_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.lag_seconds.set(now_ms.saturating_sub(oldest).max(0) / 1_000);
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(super) fn lag_bytes(&self) -> i64 {
        self.lag_bytes.get()
    }

    /// Counts an object that was brought, or was not.
    pub(super) fn ended(&self, origin: Origin, is_ok: bool) {
        let outcome = if is_ok { "ok" } else { "failed" };
        self.objects.with_label_values(&[name(origin), outcome]).inc();
    }

    /// Counts what an object has.
    pub(super) fn brought(&self, origin: Origin, sections: usize, bytes: u64) {
        self.bytes.with_label_values(&[name(origin)]).inc_by(bytes);
        self.sections.with_label_values(&[name(origin)]).inc_by(sections as u64);
    }
}

/// An origin as a metric label.
fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::Flushed => "flushed",
        Origin::Merged => "merged",
        Origin::Compacted => "compacted",
    }
}

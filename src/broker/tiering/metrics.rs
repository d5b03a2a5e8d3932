//! What bringing logs into the bucket counts.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Registry;
use crate::tier::Origin;

/// Handles of the metrics.
#[derive(Debug, Clone)]
pub(in crate::broker) struct TierMetrics {
    objects: IntCounterVec,
    bytes: IntCounterVec,
    sections: IntCounterVec,
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
            stale: registry.counter(
                "broker_tier_stale_sections_total",
                "Sections brought into the bucket whose partition had changed meanwhile.",
            ),
        }
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

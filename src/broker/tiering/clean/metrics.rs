//! What compaction counts.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::metrics::Registry;
use crate::partition::cleaner::Cleaned;

/// Handles of the metrics.
#[derive(Debug, Clone)]
pub(in crate::broker) struct CleanerMetrics {
    passes: IntCounterVec,
    seconds: Histogram,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    records: IntCounterVec,
    keys: IntCounter,
    unreadable: IntCounter,
    dirty_bytes: IntGauge,
    due: IntGauge,
    uncleanable: IntGauge,
    recopied: Gauge,
}

impl CleanerMetrics {
    /// Registers the metrics.
    pub(in crate::broker) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        Self {
            passes: registry.counters(
                "broker_cleaner_passes_total",
                "Passes of compaction over a partition, by outcome.",
                &["outcome"],
            ),
            seconds: registry.histogram(
                "broker_cleaner_pass_seconds",
                "How long a pass of compaction over a partition took.",
                &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0],
            ),
            bytes_in: counter(
                "broker_cleaner_read_bytes_total",
                "Bytes of batches that compaction looked at to write them again.",
            ),
            bytes_out: counter(
                "broker_cleaner_kept_bytes_total",
                "Bytes of batches that compaction kept.",
            ),
            records: registry.counters(
                "broker_cleaner_dropped_records_total",
                "Records that compaction dropped, by reason.",
                &["reason"],
            ),
            keys: counter("broker_cleaner_keys_total", "Keys of dirty records that were noted."),
            unreadable: counter(
                "broker_cleaner_unreadable_batches_total",
                "Batches that compaction met and kept as they are, because it cannot read them.",
            ),
            dirty_bytes: gauge(
                "broker_cleaner_dirty_bytes",
                "Bytes of compacted topics in the bucket that could be compacted.",
            ),
            due: gauge("broker_cleaner_due_partitions", "Partitions that wait for compaction."),
            uncleanable: gauge(
                "broker_cleaner_uncleanable_partitions",
                "Partitions whose last compaction failed, and which are left alone for a while.",
            ),
            recopied: registry.float_gauge(
                "broker_cleaner_recopy_ratio",
                "The share of its bytes that the last pass of compaction kept.",
            ),
        }
    }

    /// How many passes there were.
    #[cfg(test)]
    pub(super) fn passes(&self) -> u64 {
        self.passes.with_label_values(&["ok"]).get()
    }

    /// Notes what was found when a partition was looked for.
    pub(super) fn found(&self, dirty_bytes: u64, due: usize, uncleanable: usize) {
        self.dirty_bytes.set(i64::try_from(dirty_bytes).unwrap_or(i64::MAX));
        self.due.set(due as i64);
        self.uncleanable.set(uncleanable as i64);
    }

    /// Counts the keys that a pass has noted.
    pub(super) fn keys(&self, keys: usize) {
        self.keys.inc_by(keys as u64);
    }

    /// Counts a pass; nothing is known of one that failed.
    pub(super) fn ended(&self, cleaned: Option<&Cleaned>, seconds: f64) {
        let outcome = if cleaned.is_some() { "ok" } else { "failed" };
        self.passes.with_label_values(&[outcome]).inc();
        self.seconds.observe(seconds);
        let Some(cleaned) = cleaned else { return };
        self.bytes_in.inc_by(cleaned.bytes_in);
        self.bytes_out.inc_by(cleaned.bytes_out);
        self.unreadable.inc_by(cleaned.unreadable);
        let dropped = |reason| self.records.with_label_values(&[reason]);
        dropped("obsolete").inc_by(cleaned.obsolete);
        dropped("tombstone").inc_by(cleaned.tombstones);
        dropped("keyless").inc_by(cleaned.keyless);
        if cleaned.bytes_in > 0 {
            self.recopied.set(cleaned.bytes_out as f64 / cleaned.bytes_in as f64);
        }
    }
}

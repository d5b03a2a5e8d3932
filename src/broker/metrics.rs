//! What the broker itself counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::metrics::Registry;

/// Handles of the broker's metrics.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    /// Checkpoints published.
    pub(super) checkpoints: IntCounter,
    /// Partitions that the broker has.
    pub(super) partitions: IntGauge,
    /// WAL files that lie between the oldest needed byte and the newest one.
    pub(super) pinned_files: IntGauge,
    /// 1 for the partition that keeps the oldest WAL file from being used again.
    pub(super) oldest_file_pin: IntGaugeVec,
    /// Fetch sessions in the cache.
    pub(super) fetch_sessions: IntGauge,
    /// Partitions of all fetch sessions.
    pub(super) fetch_session_partitions: IntGauge,
    /// Fetch sessions that made room for others, or that had none left.
    pub(super) fetch_session_evictions: IntCounter,
    /// Fetches that asked for a session and got none.
    pub(super) fetch_sessions_refused: IntCounter,
    /// Log starts that retention moved.
    pub(super) retained: IntCounter,
    /// 1 while time-based deletion pauses after a clock jump.
    pub(super) deletion_paused: IntGauge,
    /// Checkpoints published in the bucket, by kind.
    pub(super) bucket_checkpoints: IntCounterVec,
    /// Checkpoints that the bucket did not take.
    pub(super) bucket_checkpoint_failures: IntCounter,
    /// Tiered objects that nobody refers to and that are not deleted yet.
    pub(super) garbage_objects: IntGauge,
    /// Their bytes.
    pub(super) garbage_bytes: IntGauge,
    /// Tiered objects deleted, by what they were and outcome.
    pub(super) deleted_objects: IntCounterVec,
    /// Sweeps for orphans that went through the whole bucket.
    pub(super) sweeps: IntCounter,
}

impl BrokerMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Self {
        Self {
            checkpoints: registry.counter("broker_checkpoints_total", "Checkpoints published."),
            partitions: registry.gauge("broker_partitions", "Partitions that the broker has."),
            pinned_files: registry.gauge(
                "broker_wal_pinned_files",
                "WAL files between the oldest needed byte and the newest one.",
            ),
            oldest_file_pin: registry.gauges(
                "broker_wal_oldest_file_pin",
                "1 for the partition that keeps the oldest WAL file from being used again.",
                &["topic", "partition"],
            ),
            fetch_sessions: registry
                .gauge("broker_fetch_sessions", "Fetch sessions in the cache (KIP-227)."),
            fetch_session_partitions: registry
                .gauge("broker_fetch_session_partitions", "Partitions of all fetch sessions."),
            fetch_session_evictions: registry.counter(
                "broker_fetch_session_evictions_total",
                "Fetch sessions that made room for others, or had no memory to grow.",
            ),
            fetch_sessions_refused: registry.counter(
                "broker_fetch_sessions_refused_total",
                "Fetches that asked for a session and got none: the cache is full.",
            ),
            retained: registry
                .counter("broker_retention_moves_total", "Log starts that retention moved."),
            deletion_paused: registry.gauge(
                "broker_deletion_paused",
                "1 while time-based deletion pauses after a clock jump.",
            ),
            bucket_checkpoints: registry.counters(
                "broker_bucket_checkpoints_total",
                "Checkpoints published in the bucket, by kind.",
                &["kind"],
            ),
            bucket_checkpoint_failures: registry.counter(
                "broker_bucket_checkpoint_failures_total",
                "Checkpoints that the bucket did not take; they are tried again.",
            ),
            garbage_objects: registry.gauge(
                "broker_garbage_objects",
                "Tiered objects that nobody refers to and that are not deleted yet.",
            ),
            garbage_bytes: registry.gauge(
                "broker_garbage_bytes",
                "Bytes of tiered objects that nobody refers to and that are not deleted yet.",
            ),
            deleted_objects: registry.counters(
                "broker_deleted_objects_total",
                "Tiered objects deleted, by what they were (garbage, orphan) and outcome.",
                &["what", "outcome"],
            ),
            sweeps: registry.counter(
                "broker_orphan_sweeps_total",
                "Looks for orphans that went through the whole bucket.",
            ),
        }
    }
}

//! What the log counts.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{Class, Lsn};
use crate::metrics::{LATENCY_SECONDS, Registry};

/// Upper bounds for bytes of a group.
const GROUP_BYTES: &[f64] =
    &[512.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Upper bounds for records of a group.
const GROUP_RECORDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// Handles to the log's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    groups: IntCounter,
    records: IntCounter,
    bytes: IntCounter,
    copied: IntCounter,
    syncs: IntCounter,
    sync_seconds: Histogram,
    group_bytes: Histogram,
    group_records: Histogram,
    durable_lsn: IntGauge,
    reserved_lsn: IntGauge,
    files: IntGauge,
    disk_bytes: IntGauge,
    room_refused: IntCounterVec,
    growth_failures: IntCounter,
    poisoned: IntGauge,
    corrupt_reads: IntCounter,
    replayed_records: IntCounter,
    replay_seconds: Histogram,
    tail_bytes: IntGauge,
    lingering_bytes: IntGauge,
    checkpoints: IntCounterVec,
    checkpoint_bytes: IntGauge,
}

/// The log's histograms: of a sync's time, a group's bytes and records, and a recovery's time.
fn histograms(registry: &Registry) -> [Histogram; 4] {
    [
        registry.histogram(
            "wal_sync_seconds",
            "How long a sync of the write-ahead log took.",
            LATENCY_SECONDS,
        ),
        registry.histogram(
            "wal_group_bytes",
            "Bytes of a group of the write-ahead log.",
            GROUP_BYTES,
        ),
        registry.histogram(
            "wal_group_records",
            "Records of a group of the write-ahead log.",
            GROUP_RECORDS,
        ),
        registry.histogram(
            "wal_recovery_seconds",
            "How long opening the write-ahead log took, without replaying its records.",
            LATENCY_SECONDS,
        ),
    ]
}

impl Metrics {
    /// Registers the log's metrics. Once per registry.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        let [sync_seconds, group_bytes, group_records, replay_seconds] = histograms(registry);
        Self {
            groups: counter("wal_groups_total", "Groups written to the write-ahead log."),
            records: counter("wal_records_total", "Records written to the write-ahead log."),
            bytes: counter(
                "wal_written_bytes_total",
                "Bytes written to the write-ahead log, headers included.",
            ),
            copied: counter(
                "wal_copied_bytes_total",
                "Payload bytes copied in user space into the write-ahead log's memory.",
            ),
            syncs: counter("wal_syncs_total", "Syncs of the write-ahead log by its writer."),
            sync_seconds,
            group_bytes,
            group_records,
            durable_lsn: gauge("wal_durable_lsn", "Number (LSN) of the last durable record."),
            reserved_lsn: gauge(
                "wal_reserved_lsn",
                "Number (LSN) of the last record that was given a place.",
            ),
            files: gauge("wal_files", "Files of the write-ahead log in use."),
            disk_bytes: gauge(
                "wal_disk_bytes",
                "Bytes of the write-ahead log's files, the reserve included.",
            ),
            room_refused: registry.counters(
                "wal_room_refused_total",
                "Records refused because the write-ahead log can have no more file space.",
                &["class"],
            ),
            growth_failures: counter(
                "wal_growth_failures_total",
                "Failed attempts of the write-ahead log to grow.",
            ),
            poisoned: gauge("wal_poisoned", "1 after the write-ahead log has stopped for good."),
            corrupt_reads: counter(
                "wal_corrupt_reads_total",
                "Reads of the write-ahead log that found damaged bytes.",
            ),
            replayed_records: counter(
                "wal_replayed_records_total",
                "Records of the write-ahead log replayed at start.",
            ),
            replay_seconds,
            tail_bytes: gauge(
                "wal_tail_bytes",
                "Durable bytes of the write-ahead log kept in memory for readers.",
            ),
            lingering_bytes: gauge(
                "wal_lingering_bytes",
                "Bytes of the write-ahead log's memory that only responses still hold.",
            ),
            checkpoints: registry.counters(
                "wal_checkpoints_total",
                "Checkpoints published, by kind (base, delta).",
                &["kind"],
            ),
            checkpoint_bytes: gauge(
                "wal_checkpoint_bytes",
                "Bytes of the last checkpoint, base and deltas.",
            ),
        }
    }

    pub(super) fn copied(&self, bytes: usize) {
        self.copied.inc_by(bytes as u64);
    }

    /// Payload bytes copied in user space so far.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.get()
    }

    /// Groups written so far.
    pub fn groups(&self) -> u64 {
        self.groups.get()
    }

    /// Syncs made by the writer so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.get()
    }

    pub(super) fn group(&self, records: usize, bytes: usize) {
        self.groups.inc();
        self.records.inc_by(records as u64);
        self.bytes.inc_by(bytes as u64);
        self.group_bytes.observe(bytes as f64);
        self.group_records.observe(records as f64);
    }

    pub(super) fn synced(&self, took: Duration) {
        self.syncs.inc();
        self.sync_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn durable(&self, lsn: Lsn) {
        self.durable_lsn.set(lsn.0 as i64);
    }

    pub(super) fn reserved(&self, lsn: Lsn) {
        self.reserved_lsn.set(lsn.0 as i64);
    }

    pub(super) fn disk(&self, files: usize, bytes: u64) {
        self.files.set(files as i64);
        self.disk_bytes.set(bytes as i64);
    }

    pub(super) fn refused(&self, class: Class) {
        self.room_refused.with_label_values(&[class.name()]).inc();
    }

    pub(super) fn growth_failed(&self) {
        self.growth_failures.inc();
    }

    pub(super) fn poisoned(&self) {
        self.poisoned.set(1);
    }

    pub(super) fn corrupt_read(&self) {
        self.corrupt_reads.inc();
    }

    pub(super) fn replayed(&self) {
        self.replayed_records.inc();
    }

    pub(super) fn recovered(&self, took: Duration) {
        self.replay_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn memory(&self, tail: usize, lingering: usize) {
        self.tail_bytes.set(tail as i64);
        self.lingering_bytes.set(lingering as i64);
    }

    pub(super) fn checkpoint(&self, kind: &str, bytes: u64) {
        self.checkpoints.with_label_values(&[kind]).inc();
        self.checkpoint_bytes.set(bytes as i64);
    }
}

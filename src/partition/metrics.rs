//! What this room counts. No series per partition (DESIGN D12).

use prometheus::{IntCounter, IntGauge};

use crate::metrics::Registry;

/// The room's metric handles, resolved once.
#[derive(Debug)]
pub struct Metrics {
    /// Records appended, by the batches' own counts.
    pub appended_records: IntCounter,
    /// Bytes of batches appended.
    pub appended_bytes: IntCounter,
    /// Bytes copied in user space on the way from a request to the WAL: with
    /// `appended_bytes` the copies per produced byte.
    pub copied_bytes: IntCounter,
    /// Bytes copied in user space on the way from the log to a response: small batches that a read
    /// from disk found among much else.
    pub fetch_copied_bytes: IntCounter,
    /// Times that a Produce named a partition.
    pub produces: IntCounter,
    /// Those that were answered with an error.
    pub produce_failures: IntCounter,
    /// Times that a Fetch asked for a partition.
    pub fetches: IntCounter,
    /// Those that were answered with an error.
    pub fetch_failures: IntCounter,
    /// Bytes of batches in responses to Fetch.
    pub fetched_bytes: IntCounter,
    /// Batches answered as duplicates.
    pub duplicates: IntCounter,
    /// Bytes of batches served from memory.
    pub tail_bytes: IntCounter,
    /// Bytes of batches served from WAL files.
    pub disk_bytes: IntCounter,
    /// Bytes of batches served from the bucket, or from what is kept of it.
    pub tiered_bytes: IntCounter,
    /// Bytes read from WAL files to serve `disk_bytes`: what lies between is other partitions'.
    pub disk_read_bytes: IntCounter,
    /// Fetch requests that wait for records now.
    pub waiters: IntGauge,
    /// Producers whose state was forgotten after `producer.id.expiration.ms`.
    pub expired_producers: IntCounter,
    /// Producers whose state was forgotten before that, because the memory for it was full.
    pub forgotten_producers: IntCounter,
}

impl Metrics {
    /// Registers the room's metrics.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help);
        Self {
            appended_records: counter(
                "partition_appended_records_total",
                "Records appended, by the batches' own counts.",
            ),
            appended_bytes: counter(
                "partition_appended_bytes_total",
                "Bytes of record batches appended.",
            ),
            copied_bytes: counter(
                "partition_copied_bytes_total",
                "Bytes copied in user space between a request and the write-ahead log.",
            ),
            fetch_copied_bytes: counter(
                "partition_fetch_copied_bytes_total",
                "Bytes copied in user space between the log and a response.",
            ),
            produces: counter("partition_produces_total", "Partitions named by Produce requests."),
            produce_failures: counter(
                "partition_produce_failures_total",
                "Times that a Produce request was answered with an error for a partition.",
            ),
            fetches: counter("partition_fetches_total", "Partitions asked for by Fetch requests."),
            fetch_failures: counter(
                "partition_fetch_failures_total",
                "Times that a Fetch request was answered with an error for a partition, but for \
                 an offset out of range.",
            ),
            fetched_bytes: counter(
                "partition_fetched_bytes_total",
                "Bytes of record batches in responses to Fetch requests.",
            ),
            duplicates: counter(
                "partition_duplicate_batches_total",
                "Batches of idempotent producers that were appended before.",
            ),
            tail_bytes: counter(
                "partition_tail_bytes_total",
                "Bytes of record batches read from memory.",
            ),
            disk_bytes: counter(
                "partition_disk_bytes_total",
                "Bytes of record batches read from write-ahead log files.",
            ),
            tiered_bytes: counter(
                "partition_tiered_bytes_total",
                "Bytes of record batches read from tiered objects, cached or not.",
            ),
            disk_read_bytes: counter(
                "partition_disk_read_bytes_total",
                "Bytes of write-ahead log files passed over to read record batches.",
            ),
            waiters: registry
                .gauge("partition_fetch_waiters", "Fetch requests that wait for records."),
            expired_producers: counter(
                "partition_expired_producers_total",
                "Producers whose state expired after producer.id.expiration.ms.",
            ),
            forgotten_producers: counter(
                "partition_forgotten_producers_total",
                "Producers whose state was forgotten early because the memory for it was full.",
            ),
        }
    }
}

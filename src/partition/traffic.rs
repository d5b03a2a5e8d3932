//! What clients do at a partition and what it holds, for metrics: counted in the partition itself,
//! and read when somebody asks (DESIGN D12: no metric series per partition).

use std::sync::atomic::{AtomicU64, Ordering};

use super::state::State;
use super::{Offsets, Partition};
use crate::protocol::batch::{BatchHeader, TimestampType};

/// What clients did at a partition since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    received_bytes: AtomicU64,
    received_records: AtomicU64,
    sent_bytes: AtomicU64,
    produces: AtomicU64,
    produce_failures: AtomicU64,
    fetches: AtomicU64,
    fetch_failures: AtomicU64,
}

/// [`Counters`] at one moment, of one partition or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of batches appended.
    pub received_bytes: u64,
    /// Records appended, by the batches' own counts.
    pub received_records: u64,
    /// Bytes of batches in responses to Fetch.
    pub sent_bytes: u64,
    /// Times that a Produce named the partition.
    pub produces: u64,
    /// Those that were answered with an error.
    pub produce_failures: u64,
    /// Times that a Fetch asked for the partition, also by its session.
    pub fetches: u64,
    /// Those that were answered with an error, but for an offset out of range.
    pub fetch_failures: u64,
}

impl Traffic {
    /// Adds what another partition had.
    pub fn add(&mut self, other: &Traffic) {
        self.received_bytes += other.received_bytes;
        self.received_records += other.received_records;
        self.sent_bytes += other.sent_bytes;
        self.produces += other.produces;
        self.produce_failures += other.produce_failures;
        self.fetches += other.fetches;
        self.fetch_failures += other.fetch_failures;
    }
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Its offsets.
    pub offsets: Offsets,
    /// Bytes of batches that are not in the bucket.
    pub wal_bytes: u64,
    /// Bytes of batches that are there.
    pub bucket_bytes: u64,
}

/// How far a reader is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Offsets below the high watermark that it has not read.
    pub records: i64,
    /// The timestamp of the first record that it has not read, in milliseconds, as far as it is
    /// known without reading a file or looking into a batch: its own if it begins a batch in
    /// memory, otherwise the greatest of the batch or stretch of the log that has it. `None` if it
    /// has read all, or if the records have no timestamps.
    pub since_ms: Option<i64>,
}

impl Counters {
    pub(super) fn received(&self, records: u64, bytes: u64) {
        self.received_records.fetch_add(records, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Partition {
    /// A Produce named the partition, and was answered with an error or not.
    pub fn note_produce(&self, is_ok: bool) {
        let metrics = &self.shared().metrics;
        metrics.produces.inc();
        self.counters.produces.fetch_add(1, Ordering::Relaxed);
        if !is_ok {
            metrics.produce_failures.inc();
            self.counters.produce_failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A Fetch asked for the partition and gets so many bytes of batches.
    pub fn note_fetch(&self, bytes: usize) {
        let metrics = &self.shared().metrics;
        metrics.fetches.inc();
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        if bytes > 0 {
            metrics.fetched_bytes.inc_by(bytes as u64);
            self.counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// That Fetch was answered with an error.
    pub fn note_fetch_failure(&self) {
        self.shared().metrics.fetch_failures.inc();
        self.counters.fetch_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What clients did here since the partition was opened.
    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Traffic {
            received_bytes: read(&counters.received_bytes),
            received_records: read(&counters.received_records),
            sent_bytes: read(&counters.sent_bytes),
            produces: read(&counters.produces),
            produce_failures: read(&counters.produce_failures),
            fetches: read(&counters.fetches),
            fetch_failures: read(&counters.fetch_failures),
        }
    }

    /// What the partition holds now.
    pub fn holdings(&self) -> Holdings {
        let state = self.lock_advanced();
        let offsets = Offsets {
            log_start: state.log_start(),
            high_watermark: state.high_watermark(),
            last_stable: state.high_watermark(),
            log_end: state.log_end(),
        };
        let (wal_bytes, bucket_bytes) = (state.untiered().0, state.tier().bytes());
        Holdings { offsets, wal_bytes, bucket_bytes }
    }

    /// How far a reader is behind that has read what lies below `offset`. Looks only at what is in
    /// memory.
    pub fn behind(&self, offset: i64) -> Behind {
        let state = self.lock_advanced();
        let end = state.high_watermark();
        let first = offset.max(state.log_start());
        let since_ms = if first < end { timestamp_at(&state, first) } else { None };
        Behind { records: end.saturating_sub(offset).max(0), since_ms }
    }
}

/// About when the record at `offset` was written, by the log's own timestamps.
fn timestamp_at(state: &State, offset: i64) -> Option<i64> {
    let in_memory = || {
        let behind = state.tail.partition_point(|chunk| chunk.base_offset <= offset);
        let chunk = state.tail.get(behind.checked_sub(1)?)?;
        let header = BatchHeader::parse(&chunk.bytes).ok()?;
        let is_first = header.base_offset == offset;
        Some(match header.timestamp_type() {
            TimestampType::CreateTime if is_first => header.base_timestamp,
            TimestampType::CreateTime | TimestampType::LogAppendTime => header.max_timestamp,
        })
    };
    let in_files = || {
        let mut stretches = state.index.from(offset, state.log_end());
        let holds = stretches.next().filter(|stretch| stretch.base_offset <= offset);
        holds.map(|stretch| stretch.max_timestamp)
    };
    let in_bucket = || state.tier().at(offset).map(|section| section.max_timestamp);
    in_memory().or_else(in_files).or_else(in_bucket).filter(|timestamp| *timestamp >= 0)
}

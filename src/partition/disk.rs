//! Reading a partition's batches back from WAL files.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Partition;
use super::index::{ENTRY_SPAN, Hole, Stretch};
use super::record;
use crate::protocol::batch::{BatchError, BatchHeader};
use crate::protocol::types::TopicPartition;
use crate::wal::{CHUNK_BYTES, Entry, FileNumber, Lsn, ReadError as WalError};

/// Batches below this size are copied out of a read that passed over much else, so that a few bytes
/// do not hold a large buffer.
const COPY_BELOW: usize = 16 * 1024;

/// Why a partition's log cannot be read. No bytes were handed out.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The WAL cannot give the record.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The bucket cannot give the section.
    #[error("{of}: offset {offset}: {source}")]
    Tier {
        /// The partition.
        of: TopicPartition,
        /// The offset that was wanted.
        offset: i64,
        /// Why not.
        source: crate::tier::ReadError,
    },
    /// A record is not the one that the index names.
    #[error("{of}: wal record {lsn} where offset {offset} must be holds offset {found}")]
    WrongOffset {
        /// The partition.
        of: TopicPartition,
        /// The record's number.
        lsn: Lsn,
        /// The offset that must be there.
        offset: i64,
        /// The offset that is there.
        found: i64,
    },
    /// The records between two positions are not as many bytes as the index says.
    #[error("{of}: {read} bytes of batches from offset {offset} on where {expected} must be")]
    Missing {
        /// The partition.
        of: TopicPartition,
        /// The first offset that was read.
        offset: i64,
        /// How many bytes the index counts.
        expected: usize,
        /// How many bytes there are.
        read: usize,
    },
    /// A record holds no batch.
    #[error("{of}: the batch at offset {offset} cannot be read")]
    Batch {
        /// The partition.
        of: TopicPartition,
        /// The offset, -1 if it is not known.
        offset: i64,
        /// What is wrong with it.
        source: BatchError,
    },
}

impl LogError {
    /// Whether what was looked for in the WAL may be in the bucket alone by now.
    pub fn may_have_moved(&self) -> bool {
        matches!(self, LogError::Wal(WalError::Recycled { .. }) | LogError::Missing { .. })
    }
}

/// About how many bytes a read holds, for the byte budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadMemory {
    /// While it is read.
    pub meanwhile: usize,
    /// From then on, with its batches.
    pub after: usize,
}

/// A part of a WAL file and the offsets whose batches it holds, among records of others.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub file: FileNumber,
    pub start: u32,
    pub end: u32,
    /// The first batch's base offset.
    pub base_offset: i64,
    /// The offset behind the last batch.
    pub end_offset: i64,
    /// Whether batches are copied out of the read.
    copies: bool,
    /// Parts that are not read.
    holes: Vec<Hole>,
}

impl Span {
    /// The part of a stretch up to a position and an offset.
    pub(super) fn new(stretch: &Stretch, end: u32, end_offset: i64, holes: Vec<Hole>) -> Self {
        let &Stretch { file, start, base_offset, bytes, .. } = stretch;
        let span = stretch.end - start;
        let copies = span > ENTRY_SPAN && bytes < span / 2;
        Self { file, start, end, base_offset, end_offset, copies, holes }
    }

    /// What reading the span holds at once, at most, with `bytes` of this partition's batches in
    /// it.
    pub(super) fn read_bytes(&self, bytes: usize) -> usize {
        let span = (self.end - self.start) as usize;
        if self.copies {
            return span.min(2 * CHUNK_BYTES) + bytes;
        }
        // While a record that goes beyond what was read is made whole, both are there.
        span + if span > CHUNK_BYTES { CHUNK_BYTES } else { 0 }
    }

    /// Takes in the span that follows in the same file.
    pub(super) fn extend(&mut self, next: Span) {
        self.end = next.end;
        self.end_offset = next.end_offset;
        self.copies |= next.copies;
        self.holes.extend(next.holes);
    }

    /// How many bytes of the file are read.
    pub(super) fn file_bytes(&self) -> usize {
        self.segments().iter().map(|(start, end)| (end - start) as usize).sum()
    }

    /// What it takes to read the span, of which `bytes` are its batches. They are parts of what was
    /// read, unless they are copied out of it.
    pub(super) fn memory(&self, bytes: usize) -> ReadMemory {
        let meanwhile = self.read_bytes(bytes);
        let copied = self.copies && bytes < COPY_BELOW;
        ReadMemory { meanwhile, after: if copied { bytes } else { meanwhile } }
    }

    /// What is read: from a record's start to a record's end each.
    fn segments(&self) -> Vec<(u32, u32)> {
        let mut segments = Vec::with_capacity(self.holes.len() + 1);
        let mut start = self.start;
        for (hole_start, hole_end) in &self.holes {
            if *hole_end >= self.end {
                break;
            }
            segments.push((start, *hole_start));
            start = *hole_end;
        }
        segments.push((start, self.end));
        segments
    }
}

/// A batch of the log, with what its record says of it.
#[derive(Clone, Debug)]
pub(super) struct StoredBatch {
    pub base_offset: i64,
    pub end_offset: i64,
    pub append_time_ms: i64,
    pub bytes: Bytes,
}

impl Partition {
    /// Reads this partition's batches in a span. The WAL checks the file's generation and every
    /// record's crc; here the partition and the offsets are checked, which must be without a gap.
    /// Blocks.
    pub(super) fn read_span(&self, span: &Span) -> Result<Vec<StoredBatch>, LogError> {
        let head = record::data_head(self.id());
        let mut batches = Vec::new();
        let mut next = span.base_offset;
        let mut failed = None;
        let mut visit = |entry: Entry| {
            if entry.kind != record::DATA || !entry.payload.starts_with(&head) {
                return ControlFlow::Continue(());
            }
            match self.stored_batch(&entry, span, next) {
                Ok(batch) => {
                    next = batch.end_offset;
                    batches.push(batch);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let pin = self.shared().stream.pin(span.file)?;
        for (start, end) in span.segments() {
            pin.read_span(u64::from(start), u64::from(end), &mut visit)?;
        }
        failed.map_or(Ok(batches), Err)
    }

    fn stored_batch(&self, entry: &Entry, span: &Span, next: i64) -> Result<StoredBatch, LogError> {
        let of = self.id();
        let bytes = entry.payload.slice(record::DATA_HEAD..);
        let header = BatchHeader::parse(&bytes).map_err(|source| LogError::Batch {
            of,
            offset: next,
            source,
        })?;
        let (base_offset, end_offset) = (header.base_offset, header.next_offset());
        if base_offset != next || end_offset > span.end_offset {
            let lsn = entry.lsn;
            return Err(LogError::WrongOffset { of, lsn, offset: next, found: base_offset });
        }
        let bytes = if span.copies && bytes.len() < COPY_BELOW {
            self.shared().metrics.fetch_copied_bytes.inc_by(bytes.len() as u64);
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes
        };
        Ok(StoredBatch { base_offset, end_offset, append_time_ms: entry.append_ms, bytes })
    }
}

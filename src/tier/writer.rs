//! Makes the bytes of a tiered object out of batches.
//!
//! It asks for no I/O: what it has made is taken in parts as it goes, so that it holds one part,
//! the batch that it is given and the footer, however large the object becomes.

use bytes::{Bytes, BytesMut};

use crate::protocol::batch::{self, BatchError, BatchHeader};
use crate::protocol::crc;
use crate::protocol::types::TopicPartition;

use super::footer::{Aborted, Chunk, EpochStart, Footer, Section, Snapshot};
use super::format::{
    Counts, FOOTER_BYTES_MAX, Head, TRAILER_BYTES, TierFormatError, Trailer, encode_footer, layout,
};

/// How large a chunk is, unless a single batch is larger.
pub const CHUNK_BYTES: usize = 1 << 20;

/// No more is allocated before there is something to write.
const ROOM_BYTES_MAX: usize = 132 << 20;

/// A chunk of several batches is never larger.
const CHUNK_BYTES_MAX: usize = 1 << 30;

/// The size of a chunk and of a part, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A chunk is closed before a batch that would make it larger than this.
    pub chunk: usize,
    /// Every part has this size but the last one.
    pub part: usize,
}

/// What a [`Writer`] was given is no tiered object. The writer is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A batch is not one, or not what was written.
    #[error("a batch of partition {of} cannot be tiered: {source}")]
    Batch {
        /// The partition.
        of: TopicPartition,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
    /// A batch is below the offset behind the one before it, or ends beyond its section.
    #[error("partition {of} goes on at offset {expected}, not with a batch of {first} to {last}")]
    Offsets {
        /// The partition.
        of: TopicPartition,
        /// The least offset that may come.
        expected: i64,
        /// The batch's first offset.
        first: i64,
        /// The batch's last offset.
        last: i64,
    },
    /// The footer would be longer than a reader takes.
    #[error("the footer would take {bytes} bytes and at most {FOOTER_BYTES_MAX} are read")]
    FooterTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A producer snapshot is too long for its field.
    #[error("the producer snapshot of partition {of} has {bytes} bytes and at most 2^32-1 fit")]
    SnapshotTooLong {
        /// The partition.
        of: TopicPartition,
        /// Its length.
        bytes: usize,
    },
    /// Sections, aborted transactions or epochs are out of order, or a section has no batch.
    #[error(transparent)]
    Layout(#[from] TierFormatError),
}

impl WriteError {
    /// The one partition that it is about.
    pub fn partition(&self) -> Option<TopicPartition> {
        match self {
            WriteError::Batch { of, .. }
            | WriteError::Offsets { of, .. }
            | WriteError::SnapshotTooLong { of, .. } => Some(*of),
            WriteError::FooterTooLong { .. } | WriteError::Layout(_) => None,
        }
    }
}

/// What a section's batches do not say themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct SectionEnd<'a> {
    /// Up to where the section holds all that its partition has.
    pub end_offset: i64,
    /// The aborted transactions that touch it, by last offset.
    pub aborted: &'a [Aborted],
    /// Its leader epochs.
    pub epochs: &'a [EpochStart],
    /// The partition's producers as of its end.
    pub producers: &'a [u8],
}

/// An object that has been made.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The parts not yet taken, in order. All have the size that was asked for but the last.
    pub parts: Vec<Bytes>,
    /// The object's last bytes, footer and trailer, to hold against what the bucket has.
    pub end: Bytes,
    /// The size of the object.
    pub bytes: u64,
    /// Its footer.
    pub footer: Footer,
}

/// Makes one object, section by section.
#[derive(Debug)]
pub struct Writer {
    sizes: Sizes,
    footer: Footer,
    counts: Counts,
    /// What no part has been made of.
    buffer: BytesMut,
    /// The memory of parts on their way, taken again once they have arrived: what is freed may go
    /// back to the system, and the first touch of a page costs as much as all else that happens to
    /// it.
    before: BytesMut,
    taken: u64,
    open: Option<Open>,
}

/// The section and the chunk that are being written.
#[derive(Debug)]
struct Open {
    of: TopicPartition,
    position: u64,
    start_offset: i64,
    /// Behind the last batch.
    next_offset: i64,
    first_chunk: u32,
    chunk: Option<Chunk>,
}

impl Writer {
    /// A writer of an object that says `head` of itself.
    pub fn new(head: Head, sizes: Sizes) -> Self {
        let sizes = Sizes { chunk: sizes.chunk.clamp(1, CHUNK_BYTES_MAX), part: sizes.part.max(1) };
        let footer = Footer {
            head,
            sections: Vec::new(),
            chunks: Vec::new(),
            aborted: Vec::new(),
            epochs: Vec::new(),
        };
        let mut buffer = BytesMut::with_capacity(room(sizes));
        buffer.extend_from_slice(&head.encode());
        Self {
            sizes,
            footer,
            counts: Counts::default(),
            buffer,
            before: BytesMut::new(),
            taken: 0,
            open: None,
        }
    }

    /// How long the object is so far, without its footer.
    pub fn bytes(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }

    /// How long its footer is so far.
    pub fn footer_bytes(&self) -> usize {
        self.counts.footer_bytes()
    }

    /// Begins the section of a partition, which is above that of the section before it. From
    /// `start_offset` on it will hold all that the partition has.
    ///
    /// # Panics
    /// Within a section.
    pub fn begin(&mut self, of: TopicPartition, start_offset: i64) -> Result<(), WriteError> {
        assert!(self.open.is_none(), "a section begins when the one before it has ended");
        if self.footer.sections.last().is_some_and(|before| before.of >= of) {
            return Err(layout("its sections are not in order").into());
        }
        self.count(Counts { sections: self.counts.sections + 1, ..self.counts })?;
        self.open = Some(Open {
            of,
            position: self.bytes(),
            start_offset,
            next_offset: start_offset,
            first_chunk: self.footer.chunks.len() as u32,
            chunk: None,
        });
        Ok(())
    }

    /// Takes the next batch of the section, as it lies in the log. Its checksum is looked at: what
    /// is damaged must not take the place of what is not.
    ///
    /// # Panics
    /// Outside of a section.
    pub fn push(&mut self, batch: &[u8]) -> Result<(), WriteError> {
        let position = self.bytes();
        let open = self.open.as_mut().expect("batches are pushed between begin and end");
        let of = open.of;
        let (header, tail_crc) = check(batch).map_err(|source| WriteError::Batch { of, source })?;
        let (first, last) = (header.base_offset, header.last_offset());
        if first < open.next_offset || last < first || last == i64::MAX {
            return Err(WriteError::Offsets { of, expected: open.next_offset, first, last });
        }
        let full = |chunk: &mut Chunk| chunk.bytes as usize + batch.len() > self.sizes.chunk;
        self.footer.chunks.extend(open.chunk.take_if(full));
        let is_new = open.chunk.is_none();
        let chunk = open.chunk.get_or_insert(Chunk {
            position,
            bytes: 0,
            crc: 0,
            first_offset: open.next_offset,
            max_timestamp: header.max_timestamp,
        });
        let (head, tail) = batch.split_at(batch::CRC_START);
        let head_crc = crc32c::crc32c_append(chunk.crc, head);
        chunk.crc = crc::combine(head_crc, tail_crc, tail.len());
        chunk.bytes += batch.len() as u32;
        chunk.max_timestamp = chunk.max_timestamp.max(header.max_timestamp);
        open.next_offset = header.next_offset();
        self.make_room(batch.len());
        self.buffer.extend_from_slice(batch);
        if is_new {
            self.count(Counts { chunks: self.counts.chunks + 1, ..self.counts })?;
        }
        Ok(())
    }

    /// Ends the section.
    ///
    /// # Panics
    /// Outside of a section.
    pub fn end(&mut self, end: &SectionEnd<'_>) -> Result<(), WriteError> {
        let mut open = self.open.take().expect("a section ends once, after it has begun");
        let (of, next) = (open.of, open.next_offset);
        if end.end_offset < next {
            let (expected, last) = (end.end_offset, next - 1);
            return Err(WriteError::Offsets { of, expected, first: open.start_offset, last });
        }
        self.footer.chunks.extend(open.chunk.take());
        let too_long = |_| WriteError::SnapshotTooLong { of, bytes: end.producers.len() };
        let snapshot = Snapshot {
            position: self.bytes(),
            bytes: u32::try_from(end.producers.len()).map_err(too_long)?,
            crc: crc32c::crc32c(end.producers),
        };
        self.count(Counts {
            aborted: self.counts.aborted + end.aborted.len(),
            epochs: self.counts.epochs + end.epochs.len(),
            ..self.counts
        })?;
        self.buffer.extend_from_slice(end.producers);
        let section = Section {
            of,
            start_offset: open.start_offset,
            end_offset: end.end_offset,
            chunks: open.first_chunk..self.footer.chunks.len() as u32,
            aborted: extend(&mut self.footer.aborted, end.aborted),
            epochs: extend(&mut self.footer.epochs, end.epochs),
            snapshot,
        };
        self.footer.check_section(&section, open.position)?;
        self.footer.sections.push(section);
        Ok(())
    }

    /// The next part, once there is one of full size.
    pub fn next_part(&mut self) -> Option<Bytes> {
        if self.buffer.len() < self.sizes.part {
            return None;
        }
        self.taken += self.sizes.part as u64;
        Some(self.buffer.split_to(self.sizes.part).freeze())
    }

    /// Ends the object, which has a section at least.
    ///
    /// # Panics
    /// Within a section.
    pub fn finish(mut self) -> Result<Finished, WriteError> {
        assert!(self.open.is_none(), "an object ends when its last section has ended");
        let footer_position = self.bytes();
        self.footer.check(footer_position)?;
        let footer = encode_footer(&self.footer);
        // Its length was held against the greatest one with every row.
        let trailer = Trailer { footer_position, footer_bytes: footer.len() as u32 };
        let end = Bytes::from([&footer[..], &trailer.encode()].concat());
        debug_assert_eq!(end.len(), self.counts.footer_bytes() + TRAILER_BYTES);
        self.buffer.extend_from_slice(&end);
        let mut parts = Vec::new();
        while let Some(part) = self.next_part() {
            parts.push(part);
        }
        if !self.buffer.is_empty() {
            self.taken += self.buffer.len() as u64;
            parts.push(self.buffer.freeze());
        }
        Ok(Finished { parts, end, bytes: self.taken, footer: self.footer })
    }

    /// Makes room for `more` bytes, in memory that was used before if its parts are gone.
    fn make_room(&mut self, more: usize) {
        if self.buffer.try_reclaim(more) {
            return;
        }
        let wanted = room(self.sizes).max(self.buffer.len() + more);
        let mut next = std::mem::take(&mut self.before);
        if !next.try_reclaim(wanted) {
            next = BytesMut::with_capacity(wanted);
        }
        next.extend_from_slice(&self.buffer);
        self.buffer.clear();
        self.before = std::mem::replace(&mut self.buffer, next);
    }

    fn count(&mut self, counts: Counts) -> Result<(), WriteError> {
        let bytes = counts.footer_bytes();
        if bytes > FOOTER_BYTES_MAX {
            return Err(WriteError::FooterTooLong { bytes });
        }
        self.counts = counts;
        Ok(())
    }
}

/// Checks that `bytes` are one whole batch; gives its header and the checksum of what the header's
/// covers.
fn check(bytes: &[u8]) -> Result<(BatchHeader, u32), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let needed = header.size();
    if bytes.len() < needed {
        return Err(BatchError::TooShort { needed, bytes: bytes.len() });
    }
    if bytes.len() > needed {
        return Err(BatchError::MoreThanOneBatch { bytes: bytes.len() - needed });
    }
    let computed = crc32c::crc32c(bytes.get(batch::CRC_START..).unwrap_or_default());
    if computed != header.crc {
        return Err(BatchError::CrcMismatch { stored: header.crc, computed });
    }
    Ok((header, computed))
}

/// What a buffer has from the start, so that what is there is not copied each time it doubles.
fn room(sizes: Sizes) -> usize {
    sizes.part.saturating_add(sizes.chunk).min(ROOM_BYTES_MAX)
}

fn extend<T: Copy>(rows: &mut Vec<T>, more: &[T]) -> std::ops::Range<u32> {
    let start = rows.len() as u32;
    rows.extend_from_slice(more);
    start..rows.len() as u32
}

#[cfg(test)]
pub(super) mod tests;

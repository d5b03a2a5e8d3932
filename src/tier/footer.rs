//! The footer of a tiered object: where each partition's batches are, and what a reader must know
//! of them before it reads any.

use std::ops::Range;

use crate::protocol::types::TopicPartition;

use super::format::{
    CHUNK_BYTES_MIN, Counts, HEAD_BYTES, Head, TierFormatError, decode_footer, layout,
};

/// A run of whole batches of one partition: what is read and kept in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins in the object.
    pub position: u64,
    /// How long it is.
    pub bytes: u32,
    /// The crc32c of its bytes.
    pub crc: u32,
    /// The offset behind the chunk before it; a reader at this offset or above, and below the next
    /// chunk's, begins here.
    pub first_offset: i64,
    /// The greatest timestamp of its records, in ms.
    pub max_timestamp: i64,
}

impl Chunk {
    /// The chunk's place in the object.
    pub fn range(&self) -> Range<u64> {
        self.position..self.position.saturating_add(u64::from(self.bytes))
    }

    /// Holds the bytes against the checksum.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), TierFormatError> {
        verify("chunk", self.position, self.bytes, self.crc, bytes)
    }
}

/// A partition's producers as of a section's end. The room that keeps producers knows the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it begins in the object.
    pub position: u64,
    /// How long it is; 0 if there is none.
    pub bytes: u32,
    /// The crc32c of its bytes.
    pub crc: u32,
}

impl Snapshot {
    /// The snapshot's place in the object.
    pub fn range(&self) -> Range<u64> {
        self.position..self.position.saturating_add(u64::from(self.bytes))
    }

    /// Holds the bytes against the checksum.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), TierFormatError> {
        verify("producer snapshot", self.position, self.bytes, self.crc, bytes)
    }
}

fn verify(
    what: &'static str,
    position: u64,
    expected: u32,
    stored: u32,
    bytes: &[u8],
) -> Result<(), TierFormatError> {
    let computed = crc32c::crc32c(bytes);
    if bytes.len() == expected as usize && computed == stored {
        return Ok(());
    }
    Err(TierFormatError::Checksum { what, position, bytes: bytes.len(), stored, computed })
}

/// An aborted transaction whose records are not to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset, which may lie before the section.
    pub first_offset: i64,
    /// The offset of its abort marker.
    pub last_offset: i64,
}

/// Where a leader epoch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: i32,
    /// Its first offset.
    pub offset: i64,
}

/// A partition's part of an object. The ranges are rows of the footer's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The partition.
    pub of: TopicPartition,
    /// The section holds all that the partition has from this offset on.
    pub start_offset: i64,
    /// Up to this offset, which it does not hold.
    pub end_offset: i64,
    /// Its chunks, by number in the object.
    pub chunks: Range<u32>,
    pub(super) aborted: Range<u32>,
    pub(super) epochs: Range<u32>,
    /// Its producer snapshot.
    pub snapshot: Snapshot,
}

/// The footer of an object, checked.
///
/// **Invariant:** sections rise by partition and are never empty; within one, chunks lie one behind
/// the other and their offsets rise from its start to below its end; no range of a section leaves
/// the footer's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    pub(super) head: Head,
    pub(super) sections: Vec<Section>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) aborted: Vec<Aborted>,
    pub(super) epochs: Vec<EpochStart>,
}

impl Footer {
    /// Checks a footer that begins at `position` of its object and takes it apart.
    pub fn decode(bytes: &[u8], position: u64) -> Result<Self, TierFormatError> {
        decode_footer(bytes, position)
    }

    /// What the object says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Every section, by topic id and partition.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// A partition's section.
    pub fn section(&self, of: TopicPartition) -> Option<&Section> {
        let at = self.sections.binary_search_by_key(&of, |section| section.of).ok()?;
        self.sections.get(at)
    }

    /// A chunk, by number in the object.
    pub fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(number as usize)
    }

    /// The chunks of a section of this footer.
    pub fn chunks_of(&self, section: &Section) -> &[Chunk] {
        part(&self.chunks, &section.chunks)
    }

    /// The aborted transactions of a section of this footer, by last offset.
    pub fn aborted_of(&self, section: &Section) -> &[Aborted] {
        part(&self.aborted, &section.aborted)
    }

    /// The epochs of a section of this footer, the first of which may start before it.
    pub fn epochs_of(&self, section: &Section) -> &[EpochStart] {
        part(&self.epochs, &section.epochs)
    }

    /// The number of the chunk where a reader at `offset` begins; `None` outside the section.
    pub fn chunk_at(&self, section: &Section, offset: i64) -> Option<u32> {
        if !(section.start_offset..section.end_offset).contains(&offset) {
            return None;
        }
        let chunks = self.chunks_of(section);
        let behind = chunks.partition_point(|chunk| chunk.first_offset <= offset);
        Some(section.chunks.start + behind.checked_sub(1)? as u32)
    }

    /// The number of the first chunk with a record of `timestamp` or later, from the one on where
    /// a reader at offset `from` begins.
    pub fn chunk_since(&self, section: &Section, timestamp: i64, from: i64) -> Option<u32> {
        let mut numbers = self.chunks_from(section, from);
        numbers.find(|number| self.timestamp_of(*number) >= timestamp)
    }

    /// The number of the chunk with the greatest timestamp, the first of several, from the one on
    /// where a reader at offset `from` begins.
    pub fn chunk_greatest(&self, section: &Section, from: i64) -> Option<u32> {
        let numbers = self.chunks_from(section, from);
        numbers.rev().max_by_key(|number| self.timestamp_of(*number))
    }

    fn chunks_from(&self, section: &Section, from: i64) -> Range<u32> {
        let first = self.chunk_at(section, from.max(section.start_offset));
        first.unwrap_or(section.chunks.end)..section.chunks.end
    }

    fn timestamp_of(&self, number: u32) -> i64 {
        self.chunk(number).map_or(-1, |chunk| chunk.max_timestamp)
    }

    /// The greatest timestamp of a section, in ms.
    pub fn max_timestamp(&self, section: &Section) -> i64 {
        let timestamps = self.chunks_of(section).iter().map(|chunk| chunk.max_timestamp);
        timestamps.max().unwrap_or(-1)
    }

    /// How many bytes of batches a section has.
    pub fn section_bytes(&self, section: &Section) -> u64 {
        self.chunks_of(section).iter().map(|chunk| u64::from(chunk.bytes)).sum()
    }

    /// What the footer takes in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&self.sections[..])
            + size_of_val(&self.chunks[..])
            + size_of_val(&self.aborted[..])
            + size_of_val(&self.epochs[..])
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            sections: self.sections.len(),
            chunks: self.chunks.len(),
            aborted: self.aborted.len(),
            epochs: self.epochs.len(),
        }
    }

    /// Holds the tables against each other and against `position`, where the footer begins.
    pub(super) fn check(&self, position: u64) -> Result<(), TierFormatError> {
        let mut at = HEAD_BYTES as u64;
        let mut before: Option<TopicPartition> = None;
        for section in &self.sections {
            if before.is_some_and(|before| before >= section.of) {
                return Err(layout("its sections are not in order"));
            }
            before = Some(section.of);
            at = self.check_section(section, at)?;
        }
        let last = self.sections.last().ok_or(layout("it has no section"))?;
        let ends = [last.chunks.end, last.aborted.end, last.epochs.end].map(|end| end as usize);
        if ends != [self.chunks.len(), self.aborted.len(), self.epochs.len()] {
            return Err(layout("its sections have other rows than it has"));
        }
        if at != position {
            return Err(layout("its sections do not end where it begins"));
        }
        Ok(())
    }

    /// Checks a section whose bytes begin at `at` and gives where they end.
    pub(super) fn check_section(&self, section: &Section, at: u64) -> Result<u64, TierFormatError> {
        let Section { start_offset, end_offset, snapshot, .. } = section;
        if section.of.partition < 0 || *start_offset < 0 || start_offset >= end_offset {
            return Err(layout("a section's partition or offsets are none"));
        }
        let chunks = self.chunks_of(section);
        if chunks.first().is_none_or(|first| first.first_offset != *start_offset) {
            return Err(layout("a section's chunks do not begin where it starts"));
        }
        let mut at = at;
        let mut before = start_offset - 1;
        for chunk in chunks {
            if chunk.position != at || chunk.bytes < CHUNK_BYTES_MIN {
                return Err(layout("a chunk is not where the one before it ends"));
            }
            if chunk.first_offset <= before || chunk.first_offset >= *end_offset {
                return Err(layout("a chunk's first offset does not follow on"));
            }
            before = chunk.first_offset;
            at = chunk.range().end;
        }
        if snapshot.position != at {
            return Err(layout("a producer snapshot is not where its section's chunks end"));
        }
        if !self.aborted_of(section).is_sorted_by_key(|aborted| aborted.last_offset)
            || self.aborted_of(section).iter().any(|it| it.first_offset > it.last_offset)
        {
            return Err(layout("a section's aborted transactions are not in order"));
        }
        let rises = |(a, b): (&EpochStart, &EpochStart)| a.epoch < b.epoch && a.offset < b.offset;
        let epochs = self.epochs_of(section);
        if !epochs.iter().zip(epochs.iter().skip(1)).all(rises) {
            return Err(layout("a section's epochs do not rise"));
        }
        Ok(snapshot.range().end)
    }
}

/// The rows of a range that [`Footer::check`] has looked at; nothing for any other.
fn part<'a, T>(rows: &'a [T], range: &Range<u32>) -> &'a [T] {
    rows.get(range.start as usize..range.end as usize).unwrap_or_default()
}

//! The bytes of a tiered object: head, sections, footer, trailer.
//!
//! All numbers are big endian. Nothing lies between the parts, so every byte is covered by one of
//! the checksums. A section is a partition's batches, byte for byte as clients get them, cut into
//! chunks at batch boundaries, and behind them its producer snapshot. One section makes a segment,
//! several make a pack.
//!
//! Head (64 bytes, at 0), [`Format`] with magic `TGTO`:
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 12 | header: magic, version 1.0, flags, crc32c over the other bytes of the head |
//! | 12 | 16 | cluster |
//! | 28 | 16 | incarnation: 128 random bits of the writing process |
//! | 44 | 8 | sequence of the object among those of the process |
//! | 52 | 8 | wall time in ms when it was begun |
//! | 60 | 1 | origin: 1 flushed, 2 merged, 3 compacted |
//! | 61 | 3 | reserved, 0 |
//!
//! Footer, behind the last section, [`Format`] with magic `TGTF`; the rows are sorted by section:
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 12 | header; its crc32c covers the whole footer |
//! | 12 | 52 | bytes 12..64 of the head |
//! | 64 | 4 | number of sections, s |
//! | 68 | 4 | number of chunks of all sections, c |
//! | 72 | 4 | number of aborted transactions of all sections, a |
//! | 76 | 4 | number of epoch starts of all sections, e |
//! | 80 | 64 s | sections, by topic id and partition |
//! | | 32 c | chunks |
//! | | 24 a | aborted transactions, by last offset |
//! | | 12 e | epoch starts |
//!
//! A section in the footer (64 bytes):
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 16 | topic id |
//! | 16 | 4 | partition |
//! | 20 | 8 | start offset: it holds all that its partition has from here on |
//! | 28 | 8 | end offset: up to here; more than the last batch's where compaction removed batches |
//! | 36 | 4 | number of chunks, at least 1 |
//! | 40 | 4 | number of aborted transactions |
//! | 44 | 4 | number of epoch starts |
//! | 48 | 8 | position of the producer snapshot, which is behind the last chunk |
//! | 56 | 4 | length of the producer snapshot, 0 if there is none |
//! | 60 | 4 | crc32c of the producer snapshot |
//!
//! A chunk (32 bytes):
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 8 | position |
//! | 8 | 4 | length |
//! | 12 | 4 | crc32c |
//! | 16 | 8 | first offset: the one behind the chunk before it, in the first the section's start |
//! | 24 | 8 | greatest timestamp in ms |
//!
//! An aborted transaction (24 bytes) is producer id, first offset and last offset, which is that of
//! its marker. An epoch start (12 bytes) is epoch and offset. The trailer (32 bytes, at the end),
//! [`Format`] with magic `TGTT`:
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 12 | header; its crc32c covers the trailer |
//! | 12 | 8 | position of the footer |
//! | 20 | 4 | length of the footer |
//! | 24 | 8 | size of the object |

use crate::object::{Cursor, Format, FormatError, HEADER_BYTES, Truncated};
use crate::protocol::batch;
use crate::protocol::types::{TopicId, TopicPartition};

use super::footer::{Aborted, Chunk, EpochStart, Footer, Section, Snapshot};
use super::name::ObjectId;

/// Length of the head.
pub const HEAD_BYTES: usize = 64;
/// Length of the trailer.
pub const TRAILER_BYTES: usize = 32;
/// No footer is longer: some 100,000 sections.
pub const FOOTER_BYTES_MAX: usize = 16 << 20;

/// What of the footer stands before its rows.
pub(super) const FOOTER_START_BYTES: usize = 80;
pub(super) const SECTION_BYTES: usize = 64;
pub(super) const CHUNK_ROW_BYTES: usize = 32;
pub(super) const ABORTED_BYTES: usize = 24;
pub(super) const EPOCH_BYTES: usize = 12;

const HEAD: Format = Format { magic: *b"TGTO", name: "tiered object", major: 1, minor: 0 };
const FOOTER: Format =
    Format { magic: *b"TGTF", name: "footer of a tiered object", major: 1, minor: 0 };
const TRAILER: Format =
    Format { magic: *b"TGTT", name: "trailer of a tiered object", major: 1, minor: 0 };

/// Bytes that are not those of a tiered object, or not of one that this release reads. Nothing of
/// them is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TierFormatError {
    /// The head, footer or trailer is not one, is damaged, or is a newer release's.
    #[error(transparent)]
    Header(#[from] FormatError),
    /// A checksum is right and what it covers contradicts itself.
    #[error("footer of a tiered object is corrupt: {what}")]
    Layout {
        /// What does not fit.
        what: &'static str,
    },
    /// A chunk or producer snapshot is not what was written.
    #[error(
        "{what} at {position} is corrupt: its checksum is {stored:#010x} and its {bytes} bytes \
         give {computed:#010x}"
    )]
    Checksum {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        position: u64,
        /// How many bytes there are of it.
        bytes: usize,
        /// The checksum in the footer.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Another object stands under the name.
    #[error("it is object {found}, which belongs under another name")]
    OtherObject {
        /// Which one it is.
        found: ObjectId,
    },
}

/// The layout is wrong in a way that no writer makes.
pub(super) fn layout(what: &'static str) -> TierFormatError {
    TierFormatError::Layout { what }
}

/// Why an object was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Origin {
    /// From the write-ahead log.
    Flushed = 1,
    /// From other objects, with the same batches.
    Merged = 2,
    /// From other objects, without what compaction removes.
    Compacted = 3,
}

/// What an object says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose it is.
    pub cluster: [u8; 16],
    /// Which object.
    pub id: ObjectId,
    /// When it was begun, wall time in ms. Nothing is decided by it.
    pub created_ms: i64,
    /// Why it was written.
    pub origin: Origin,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        HEAD.seal(&self.fields())
    }

    /// Checks the first [`HEAD_BYTES`] of an object and takes them apart.
    pub fn decode(bytes: &[u8]) -> Result<Self, TierFormatError> {
        HEAD.check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        let head = cursor.take(HEAD_BYTES).map_err(|source| truncated(HEAD, source))?;
        Self::read(&mut Cursor::new(HEAD.open(head)?))
    }

    fn fields(&self) -> [u8; HEAD_BYTES - HEADER_BYTES] {
        let mut fields = [0; HEAD_BYTES - HEADER_BYTES];
        fields[..16].copy_from_slice(&self.cluster);
        fields[16..32].copy_from_slice(&self.id.incarnation);
        fields[32..40].copy_from_slice(&self.id.sequence.to_be_bytes());
        fields[40..48].copy_from_slice(&self.created_ms.to_be_bytes());
        fields[48] = self.origin as u8;
        fields
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, TierFormatError> {
        let mut read = || {
            let cluster = cursor.array()?;
            let id = ObjectId { incarnation: cursor.array()?, sequence: cursor.u64()? };
            Ok((cluster, id, cursor.i64()?, cursor.u8()?, cursor.array::<3>()?))
        };
        let (cluster, id, created_ms, origin, _reserved) =
            read().map_err(|source| truncated(HEAD, source))?;
        let origin = match origin {
            1 => Origin::Flushed,
            2 => Origin::Merged,
            3 => Origin::Compacted,
            _ => return Err(layout("its origin is none")),
        };
        Ok(Self { cluster, id, created_ms, origin })
    }
}

/// The end of an object, which says where its footer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer begins.
    pub footer_position: u64,
    /// How long it is.
    pub footer_bytes: u32,
}

impl Trailer {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut fields = [0; TRAILER_BYTES - HEADER_BYTES];
        fields[..8].copy_from_slice(&self.footer_position.to_be_bytes());
        fields[8..12].copy_from_slice(&self.footer_bytes.to_be_bytes());
        fields[12..].copy_from_slice(&self.object_bytes().to_be_bytes());
        TRAILER.seal(&fields)
    }

    /// Checks the trailer at the end of `end`, the last bytes of an object of `size` bytes.
    pub fn decode(end: &[u8], size: u64) -> Result<Self, TierFormatError> {
        let start = end.len().saturating_sub(TRAILER_BYTES);
        let bytes = TRAILER.open(end.get(start..).unwrap_or_default())?;
        let mut cursor = Cursor::new(bytes);
        let mut read = || Ok((cursor.u64()?, cursor.u32()?, cursor.u64()?));
        let (footer_position, footer_bytes, told) =
            read().map_err(|source| truncated(TRAILER, source))?;
        let trailer = Self { footer_position, footer_bytes };
        let least = HEAD_BYTES as u64;
        if footer_bytes as usize > FOOTER_BYTES_MAX || footer_position < least {
            return Err(layout("its place or length is none that a footer has"));
        }
        if told != size || trailer.object_bytes() != size {
            return Err(layout("the object does not have the size that its trailer tells"));
        }
        Ok(trailer)
    }

    /// How long the object is.
    pub fn object_bytes(self) -> u64 {
        let footer = u64::from(self.footer_bytes) + TRAILER_BYTES as u64;
        self.footer_position.saturating_add(footer)
    }
}

fn truncated(format: Format, source: Truncated) -> TierFormatError {
    FormatError::Truncated { name: format.name, source }.into()
}

/// How many rows of each kind a footer has, and so how long it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sections: usize,
    pub(super) chunks: usize,
    pub(super) aborted: usize,
    pub(super) epochs: usize,
}

impl Counts {
    /// The length of the footer.
    pub(super) fn footer_bytes(self) -> usize {
        let rows = [
            self.sections.saturating_mul(SECTION_BYTES),
            self.chunks.saturating_mul(CHUNK_ROW_BYTES),
            self.aborted.saturating_mul(ABORTED_BYTES),
            self.epochs.saturating_mul(EPOCH_BYTES),
        ];
        rows.iter().fold(FOOTER_START_BYTES, |sum, rows| sum.saturating_add(*rows))
    }
}

pub(super) fn encode_footer(footer: &Footer) -> Vec<u8> {
    let counts = footer.counts();
    let mut body = Vec::with_capacity(counts.footer_bytes() - HEADER_BYTES);
    body.extend_from_slice(&footer.head.fields());
    for count in [counts.sections, counts.chunks, counts.aborted, counts.epochs] {
        body.extend_from_slice(&(count as u32).to_be_bytes());
    }
    for section in &footer.sections {
        put_section(&mut body, section);
    }
    for chunk in &footer.chunks {
        body.extend_from_slice(&chunk.position.to_be_bytes());
        body.extend_from_slice(&chunk.bytes.to_be_bytes());
        body.extend_from_slice(&chunk.crc.to_be_bytes());
        body.extend_from_slice(&chunk.first_offset.to_be_bytes());
        body.extend_from_slice(&chunk.max_timestamp.to_be_bytes());
    }
    for aborted in &footer.aborted {
        body.extend_from_slice(&aborted.producer_id.to_be_bytes());
        body.extend_from_slice(&aborted.first_offset.to_be_bytes());
        body.extend_from_slice(&aborted.last_offset.to_be_bytes());
    }
    for epoch in &footer.epochs {
        body.extend_from_slice(&epoch.epoch.to_be_bytes());
        body.extend_from_slice(&epoch.offset.to_be_bytes());
    }
    FOOTER.seal(&body)
}

fn put_section(body: &mut Vec<u8>, section: &Section) {
    body.extend_from_slice(section.of.topic.0.as_bytes());
    body.extend_from_slice(&section.of.partition.to_be_bytes());
    body.extend_from_slice(&section.start_offset.to_be_bytes());
    body.extend_from_slice(&section.end_offset.to_be_bytes());
    for range in [&section.chunks, &section.aborted, &section.epochs] {
        body.extend_from_slice(&(range.end - range.start).to_be_bytes());
    }
    body.extend_from_slice(&section.snapshot.position.to_be_bytes());
    body.extend_from_slice(&section.snapshot.bytes.to_be_bytes());
    body.extend_from_slice(&section.snapshot.crc.to_be_bytes());
}

/// Checks a footer that begins at `position` of its object and takes it apart. Every length is
/// compared with the bytes there are before anything is made of it.
pub(super) fn decode_footer(bytes: &[u8], position: u64) -> Result<Footer, TierFormatError> {
    let body = FOOTER.open(bytes)?;
    let mut cursor = Cursor::new(body);
    let head = Head::read(&mut cursor)?;
    let cut = |source| truncated(FOOTER, source);
    let mut count = || Ok(cursor.u32()? as usize);
    let mut read =
        || Ok(Counts { sections: count()?, chunks: count()?, aborted: count()?, epochs: count()? });
    let counts = read().map_err(cut)?;
    if counts.footer_bytes() != bytes.len() {
        return Err(layout("it does not have the length of its rows"));
    }
    let mut ends = Ends::default();
    let sections = rows(counts.sections, || read_section(&mut cursor, &mut ends)).map_err(cut)?;
    let footer = Footer {
        head,
        sections,
        chunks: rows(counts.chunks, || read_chunk(&mut cursor)).map_err(cut)?,
        aborted: rows(counts.aborted, || read_aborted(&mut cursor)).map_err(cut)?,
        epochs: rows(counts.epochs, || read_epoch(&mut cursor)).map_err(cut)?,
    };
    footer.check(position)?;
    Ok(footer)
}

fn rows<T>(
    count: usize,
    mut read: impl FnMut() -> Result<T, Truncated>,
) -> Result<Vec<T>, Truncated> {
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(read()?);
    }
    Ok(rows)
}

/// Where the rows of the sections read so far end.
#[derive(Default)]
struct Ends {
    chunks: u32,
    aborted: u32,
    epochs: u32,
}

fn read_section(cursor: &mut Cursor<'_>, ends: &mut Ends) -> Result<Section, Truncated> {
    let topic = TopicId(uuid::Uuid::from_bytes(cursor.array()?));
    let of = TopicPartition { topic, partition: cursor.i32()? };
    let (start_offset, end_offset) = (cursor.i64()?, cursor.i64()?);
    let mut range = |end: &mut u32| {
        let start = *end;
        // A sum beyond all rows is found by `Footer::check`.
        *end = start.saturating_add(cursor.u32()?);
        Ok(start..*end)
    };
    Ok(Section {
        of,
        start_offset,
        end_offset,
        chunks: range(&mut ends.chunks)?,
        aborted: range(&mut ends.aborted)?,
        epochs: range(&mut ends.epochs)?,
        snapshot: Snapshot { position: cursor.u64()?, bytes: cursor.u32()?, crc: cursor.u32()? },
    })
}

fn read_chunk(cursor: &mut Cursor<'_>) -> Result<Chunk, Truncated> {
    Ok(Chunk {
        position: cursor.u64()?,
        bytes: cursor.u32()?,
        crc: cursor.u32()?,
        first_offset: cursor.i64()?,
        max_timestamp: cursor.i64()?,
    })
}

fn read_aborted(cursor: &mut Cursor<'_>) -> Result<Aborted, Truncated> {
    Ok(Aborted {
        producer_id: cursor.i64()?,
        first_offset: cursor.i64()?,
        last_offset: cursor.i64()?,
    })
}

fn read_epoch(cursor: &mut Cursor<'_>) -> Result<EpochStart, Truncated> {
    Ok(EpochStart { epoch: cursor.i32()?, offset: cursor.i64()? })
}

/// The least that a chunk has: one batch without records.
pub(super) const CHUNK_BYTES_MIN: u32 = batch::HEADER_BYTES as u32;

#[cfg(test)]
mod tests;

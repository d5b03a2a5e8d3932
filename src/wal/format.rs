//! The bytes of a WAL file: file header, group header, record header.
//!
//! All numbers are little endian. A file starts with two copies of its header, one per 4 KiB page,
//! so that one flipped bit does not turn a file of records into free space. Groups follow, each
//! starting at a multiple of 64 bytes; a group is a group header and its records without gaps.
//!
//! File header (84 bytes, at 0 and again at 4096):
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 4 | magic `TGWF` |
//! | 4 | 1 | major version, 1 |
//! | 5 | 1 | minor version, 0 |
//! | 6 | 2 | flags; an unknown bit of the lower byte is refused |
//! | 8 | 8 | file number: rises with every use of a file, never reused |
//! | 16 | 8 | salt: random for every use of a file |
//! | 24 | 16 | identity of the data directory |
//! | 40 | 8 | first LSN: from here on this file replaces its predecessor |
//! | 48 | 8 | LSN that this header proves synced: written only after that was so |
//! | 56 | 8 | number of the predecessor; numbers between it and this file's are void |
//! | 64 | 8 | metadata number |
//! | 72 | 8 | wall time in ms |
//! | 80 | 4 | crc32c of bytes 0..80 |
//!
//! Group header (72 bytes):
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 4 | magic `TGWG` |
//! | 4 | 4 | major, minor, flags as above |
//! | 8 | 8 | file number |
//! | 16 | 8 | salt of the file |
//! | 24 | 8 | LSN of the first record |
//! | 32 | 4 | number of records |
//! | 36 | 4 | bytes of the records with their headers |
//! | 40 | 8 | append time: the log clock in ms when the group was written |
//! | 48 | 8 | LSN proven synced when the group was written |
//! | 56 | 8 | metadata number that the log depends on |
//! | 64 | 4 | reserved, 0 |
//! | 68 | 4 | crc32c of bytes 0..68 |
//!
//! Record header (24 bytes), followed by the payload:
//!
//! | at | size | what |
//! |---:|---:|---|
//! | 0 | 4 | crc32c of file number, salt, bytes 4..24 and the payload |
//! | 4 | 4 | length of the payload |
//! | 8 | 8 | LSN |
//! | 16 | 4 | distance from the start of the group's header to this header |
//! | 20 | 1 | kind |
//! | 21 | 3 | reserved, 0 |

use super::{FileNumber, Kind, Lsn};

/// Length of a page: file headers and sizes are multiples of it.
pub(super) const PAGE: u64 = 4096;
/// Where the first group of a file starts: after both copies of the file header.
pub(super) const FIRST_GROUP: u64 = 2 * PAGE;
/// Groups start at multiples of this.
pub(super) const GROUP_ALIGN: u64 = 64;
/// Length of a file header.
pub(super) const FILE_HEADER: usize = 84;
/// Length of a group header.
pub(super) const GROUP_HEADER: usize = 72;
/// Length of a record header.
pub(super) const RECORD_HEADER: usize = 24;

const FILE_MAGIC: [u8; 4] = *b"TGWF";
const GROUP_MAGIC: [u8; 4] = *b"TGWG";
const MAJOR: u8 = 1;
const MINOR: u8 = 0;

/// File numbers and LSNs stay below this, which no log reaches in a thousand years: a header that
/// says more is none, and what follows its numbers never overflows.
pub(super) const NUMBER_LIMIT: u64 = 1 << 62;

/// Why bytes are not the header that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHeader {
    /// Nothing was ever written here, or something else, or it is damaged.
    #[error("not a header")]
    NotOne,
    /// The header is whole, and a later version wrote it.
    #[error("format {major}.{minor} with flags {flags:#06x} is not one that this version reads")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
        /// Flags.
        flags: u16,
    },
}

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) number: FileNumber,
    pub(super) salt: u64,
    pub(super) identity: [u8; 16],
    pub(super) first_lsn: Lsn,
    pub(super) proven: Lsn,
    pub(super) previous: FileNumber,
    pub(super) metadata_number: u64,
    pub(super) wall_ms: i64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut out = Encoder::new(FILE_MAGIC);
        out.u64(self.number.0).u64(self.salt).bytes(&self.identity).u64(self.first_lsn.0);
        out.u64(self.proven.0).u64(self.previous.0).u64(self.metadata_number);
        out.u64(self.wall_ms as u64);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let mut from = Decoder::checked(bytes, FILE_HEADER, FILE_MAGIC)?;
        let header = Self {
            number: FileNumber(from.u64()),
            salt: from.u64(),
            identity: from.array(),
            first_lsn: Lsn(from.u64()),
            proven: Lsn(from.u64()),
            previous: FileNumber(from.u64()),
            metadata_number: from.u64(),
            wall_ms: from.u64() as i64,
        };
        possible(&[header.number.0, header.first_lsn.0, header.proven.0])?;
        Ok(header)
    }

    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.number, self.salt)
    }
}

/// The header of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) number: FileNumber,
    pub(super) salt: u64,
    pub(super) first_lsn: Lsn,
    pub(super) records: u32,
    pub(super) bytes: u32,
    pub(super) append_ms: i64,
    pub(super) proven: Lsn,
    pub(super) metadata_number: u64,
}

impl GroupHeader {
    pub(super) fn encode(&self) -> [u8; GROUP_HEADER] {
        let mut out = Encoder::new(GROUP_MAGIC);
        out.u64(self.number.0).u64(self.salt).u64(self.first_lsn.0);
        out.bytes(&self.records.to_le_bytes()).bytes(&self.bytes.to_le_bytes());
        out.u64(self.append_ms as u64).u64(self.proven.0).u64(self.metadata_number);
        out.bytes(&[0; 4]);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let mut from = Decoder::checked(bytes, GROUP_HEADER, GROUP_MAGIC)?;
        let header = Self {
            number: FileNumber(from.u64()),
            salt: from.u64(),
            first_lsn: Lsn(from.u64()),
            records: u32::from_le_bytes(from.array()),
            bytes: u32::from_le_bytes(from.array()),
            append_ms: from.u64() as i64,
            proven: Lsn(from.u64()),
            metadata_number: from.u64(),
        };
        possible(&[header.number.0, header.first_lsn.0, header.proven.0])?;
        Ok(header)
    }

    /// The LSN after the last record.
    pub(super) fn next_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0.saturating_add(u64::from(self.records)))
    }

    /// Header and records.
    pub(super) fn total_bytes(&self) -> u64 {
        GROUP_HEADER as u64 + u64::from(self.bytes)
    }
}

/// Refuses numbers that no log reaches.
fn possible(numbers: &[u64]) -> Result<(), BadHeader> {
    if numbers.iter().all(|number| *number < NUMBER_LIMIT) {
        Ok(())
    } else {
        Err(BadHeader::NotOne)
    }
}

/// Whether a group header may start with these bytes.
pub(super) fn starts_group(bytes: &[u8]) -> bool {
    bytes.starts_with(&GROUP_MAGIC)
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) crc: u32,
    pub(super) len: u32,
    pub(super) lsn: Lsn,
    pub(super) group_offset: u32,
    pub(super) kind: Kind,
}

impl RecordHeader {
    /// The header with the crc field as it is in `self`.
    pub(super) fn encode(&self) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[0..4].copy_from_slice(&self.crc.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.group_offset.to_le_bytes());
        out[20] = self.kind.0;
        out
    }

    /// The fields, without judging them.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder { rest: bytes.get(..RECORD_HEADER)? };
        Some(Self {
            crc: u32::from_le_bytes(from.array()),
            len: u32::from_le_bytes(from.array()),
            lsn: Lsn(from.u64()),
            group_offset: u32::from_le_bytes(from.array()),
            kind: Kind(from.array::<1>()[0]),
        })
    }
}

/// What every record crc of one use of a file starts from, so that bytes of an earlier use are
/// never taken for this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(number: FileNumber, salt: u64) -> Self {
        let crc = crc32c::crc32c(&number.0.to_le_bytes());
        Self(crc32c::crc32c_append(crc, &salt.to_le_bytes()))
    }

    /// The crc of a record whose header is encoded in `header` (its crc field is not read).
    pub(super) fn record(self, header: &[u8; RECORD_HEADER], payload: &[u8]) -> u32 {
        let (_, fields) = header.split_at(4);
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, fields), payload)
    }

    /// Whether `bytes`, a record header and its payload, are whole.
    pub(super) fn verifies(self, crc: u32, bytes: &[u8]) -> bool {
        bytes.get(4..).is_some_and(|covered| crc32c::crc32c_append(self.0, covered) == crc)
    }
}

/// How large a file must be for recovery to copy a last group of `bytes`, its header included, into
/// it: whoever opens the log on a full disk has only the reserve to go on with.
pub(super) fn recovery_bytes(bytes: u64) -> u64 {
    let parts = FIRST_GROUP + PAGE + group_start(GROUP_HEADER as u64) + GROUP_ALIGN + bytes;
    parts.next_multiple_of(PAGE)
}

/// The next place at or after `position` where a group may start.
pub(super) fn group_start(position: u64) -> u64 {
    position.next_multiple_of(GROUP_ALIGN)
}

/// Writes a header with its magic, version and crc.
struct Encoder<const N: usize> {
    out: [u8; N],
    at: usize,
}

impl<const N: usize> Encoder<N> {
    fn new(magic: [u8; 4]) -> Self {
        let mut made = Self { out: [0; N], at: 0 };
        made.bytes(&magic).bytes(&[MAJOR, MINOR, 0, 0]);
        made
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn finish(mut self) -> [u8; N] {
        let crc = crc32c::crc32c(&self.out[..self.at]);
        self.bytes(&crc.to_le_bytes());
        debug_assert_eq!(self.at, N, "the header has the length of its table");
        self.out
    }
}

/// Reads fields of a header whose length was checked.
struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// The fields of a header that is whole and of a version that this one reads.
    fn checked(bytes: &'a [u8], len: usize, magic: [u8; 4]) -> Result<Self, BadHeader> {
        let bytes = bytes.get(..len).ok_or(BadHeader::NotOne)?;
        let (covered, crc) = bytes.split_at(len - 4);
        if !covered.starts_with(&magic) || crc != crc32c::crc32c(covered).to_le_bytes() {
            return Err(BadHeader::NotOne);
        }
        let mut from = Decoder { rest: covered };
        let _magic: [u8; 4] = from.array();
        let [major, minor] = from.array();
        let flags = u16::from_le_bytes(from.array());
        if major != MAJOR || flags & 0xFF != 0 {
            return Err(BadHeader::Version { major, minor, flags });
        }
        Ok(from)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.rest.split_first_chunk().expect("the length was checked");
        self.rest = rest;
        *head
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

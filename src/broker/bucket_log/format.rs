//! What an entry of a bucket's checkpoint log says.
//!
//! The payload of entry `c/<broker>/<n>` (after the envelope of [`crate::object`], whose crc covers
//! it and whose kind is `CKPT`); integers are big-endian:
//!
//! | bytes  | field    | meaning                                                              |
//! |--------|----------|----------------------------------------------------------------------|
//! | 0      | major    | 1; a reader refuses a greater one                                    |
//! | 1      | minor    | 0; a reader may ignore that it is greater                            |
//! | 2      | required | flags: a reader refuses any that it does not know; none exist yet    |
//! | 3      | optional | flags: a reader ignores what it does not know; none exist yet        |
//! | 4..12  | first    | u64, the number of the checkpoint's first entry                      |
//! | 12..20 | base     | u64, the first entry of its base; `first` in a base                  |
//! | 20..28 | previous | u64, the first entry of the checkpoint before it; 0 in a base        |
//! | 28     | end      | 1 in the checkpoint's last entry, which has the next row, else 0     |
//! | 29..77 | summary  | identity 16, covers u64, metadata number u64, wall ms i64, items u64 |
//! | …      | items    | the next bytes of the checkpoint's items                             |
//!
//! The items of a checkpoint are one run of bytes, cut into entries anywhere:
//!
//! | field  | bytes | meaning                                                               |
//! |--------|-------|-----------------------------------------------------------------------|
//! | tag    | 1     | 1 a part, 2 a removal                                                 |
//! | key    | 2 + … | length u16, bytes                                                     |
//! | part   | 4 + … | length u32, bytes; only with tag 1                                    |

use bytes::{Buf, Bytes, BytesMut};

use crate::object::{Cursor, Truncated};

/// What the envelope calls these entries.
pub const KIND: [u8; 4] = *b"CKPT";

/// The most bytes of a part. A partition of 1,000,000 objects has about 80 MiB.
pub const PART_BYTES_MAX: usize = 256 << 20;

const MAJOR: u8 = 1;
const TAG_PART: u8 = 1;
const TAG_REMOVAL: u8 = 2;

/// The greatest number of bytes that stand before an entry's items.
pub(super) const HEAD_BYTES: usize = 77;

/// Something that a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// What stands under a key from now on.
    Part {
        /// The key, of at most 65,535 bytes.
        key: Bytes,
        /// What stands there: of at most [`PART_BYTES_MAX`] bytes.
        part: Bytes,
    },
    /// Nothing stands under a key any more.
    Removal {
        /// The key.
        key: Bytes,
    },
}

/// What a checkpoint says of itself, in its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The identity of the data directory whose log `covers` counts in.
    pub identity: [u8; 16],
    /// Records of that log up to this LSN are in the checkpoint; parts may know more.
    pub covers: u64,
    /// The metadata entry that it rests on.
    pub metadata_number: u64,
    /// When it was made, in ms since the epoch by the wall clock; never relied on.
    pub wall_ms: i64,
}

/// An entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It ends too early.
    #[error("it is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// Written by a release with a newer format.
    #[error("it has version {found} and this release reads up to {MAJOR}; use a newer release")]
    Newer {
        /// The version found.
        found: u8,
    },
    /// Written by a release that requires something unknown here.
    #[error("it requires features {flags:#04x} that this release does not know; use a newer one")]
    RequiredFlags {
        /// The flags.
        flags: u8,
    },
    /// A field has a value that it cannot have.
    #[error("its field \"{field}\" has the value {value}, which is none that was ever written")]
    Field {
        /// The field.
        field: &'static str,
        /// The value.
        value: u64,
    },
    /// The checkpoint ends within an item.
    #[error("it ends its checkpoint within an item")]
    CutItem,
    /// The checkpoint has more or fewer items than it says.
    #[error("its checkpoint has {found} items and says that it has {said}")]
    ItemCount {
        /// How many were found.
        found: u64,
        /// How many there should be.
        said: u64,
    },
}

/// Which checkpoint an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: u64,
    pub(super) base: u64,
    pub(super) previous: u64,
}

impl Place {
    pub(super) fn is_base(self) -> bool {
        self.base == self.first
    }
}

/// What ends a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) summary: Summary,
    pub(super) items: u64,
}

/// An entry without its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) place: Place,
    /// In the last entry.
    pub(super) end: Option<End>,
}

impl Head {
    /// The entry's payload with these items.
    pub(super) fn encode(&self, items: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + items.len());
        out.extend_from_slice(&[MAJOR, 0, 0, 0]);
        for number in [self.place.first, self.place.base, self.place.previous] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(u8::from(self.end.is_some()));
        if let Some(End { summary, items }) = self.end {
            out.extend_from_slice(&summary.identity);
            out.extend_from_slice(&summary.covers.to_be_bytes());
            out.extend_from_slice(&summary.metadata_number.to_be_bytes());
            out.extend_from_slice(&summary.wall_ms.to_be_bytes());
            out.extend_from_slice(&items.to_be_bytes());
        }
        out.extend_from_slice(items);
        out
    }

    /// Takes a payload apart into its head and the bytes of its items.
    pub(super) fn decode(payload: &Bytes) -> Result<(Self, Bytes), EntryError> {
        let mut cursor = Cursor::new(payload);
        let [major, _minor, flags, _optional] = cursor.array()?;
        if major != MAJOR {
            return Err(EntryError::Newer { found: major });
        }
        if flags != 0 {
            return Err(EntryError::RequiredFlags { flags });
        }
        let place = Place { first: cursor.u64()?, base: cursor.u64()?, previous: cursor.u64()? };
        let end = match cursor.u8()? {
            0 => None,
            1 => Some(End {
                summary: Summary {
                    identity: cursor.array()?,
                    covers: cursor.u64()?,
                    metadata_number: cursor.u64()?,
                    wall_ms: cursor.i64()?,
                },
                items: cursor.u64()?,
            }),
            other => return Err(EntryError::Field { field: "end", value: other.into() }),
        };
        let items = payload.slice(payload.len() - cursor.remaining()..);
        Ok((Self { place, end }, items))
    }
}

/// What stands before a part's bytes, or the whole of a removal.
pub(super) fn item_head(item: &Item) -> Vec<u8> {
    let (tag, key) = match item {
        Item::Part { key, .. } => (TAG_PART, key),
        Item::Removal { key } => (TAG_REMOVAL, key),
    };
    let mut out = Vec::with_capacity(7 + key.len());
    out.push(tag);
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key);
    if let Item::Part { part, .. } = item {
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    }
    out
}

/// Puts the items of a checkpoint together again. Holds at most one item and one entry.
#[derive(Debug, Default)]
pub(super) struct Items {
    rest: BytesMut,
    found: u64,
}

impl Items {
    /// The bytes of the next entry.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next item; `None` until more is fed.
    pub(super) fn next(&mut self) -> Result<Option<Item>, EntryError> {
        let Some((tag, key_bytes, part_bytes)) = self.next_lengths()? else { return Ok(None) };
        self.rest.advance(3);
        let key = self.rest.split_to(key_bytes).freeze();
        self.found += 1;
        if tag == TAG_REMOVAL {
            return Ok(Some(Item::Removal { key }));
        }
        self.rest.advance(4);
        let part = self.rest.split_to(part_bytes).freeze();
        Ok(Some(Item::Part { key, part }))
    }

    /// Tag and lengths of the next item, if the whole of it is there.
    fn next_lengths(&self) -> Result<Option<(u8, usize, usize)>, EntryError> {
        let mut cursor = Cursor::new(&self.rest);
        let Ok(tag) = cursor.u8() else { return Ok(None) };
        if !matches!(tag, TAG_PART | TAG_REMOVAL) {
            return Err(EntryError::Field { field: "tag", value: tag.into() });
        }
        let Ok(key_bytes) = cursor.u16().map(usize::from) else { return Ok(None) };
        if cursor.take(key_bytes).is_err() {
            return Ok(None);
        }
        if tag == TAG_REMOVAL {
            return Ok(Some((tag, key_bytes, 0)));
        }
        let Ok(part_bytes) = cursor.u32() else { return Ok(None) };
        if part_bytes as usize > PART_BYTES_MAX {
            return Err(EntryError::Field { field: "part", value: part_bytes.into() });
        }
        let is_there = cursor.take(part_bytes as usize).is_ok();
        Ok(is_there.then_some((tag, key_bytes, part_bytes as usize)))
    }

    /// Ends a checkpoint that says it has so many items; the next one can be fed then.
    pub(super) fn end(&mut self, said: u64) -> Result<(), EntryError> {
        if !self.rest.is_empty() {
            return Err(EntryError::CutItem);
        }
        let found = std::mem::take(&mut self.found);
        if found == said { Ok(()) } else { Err(EntryError::ItemCount { found, said }) }
    }
}

/// Reads a payload as if its checkpoint began and ended with it, and counts its items: what the
/// fuzzer feeds.
pub fn read_alone(payload: &Bytes) -> Result<usize, EntryError> {
    let (_, bytes) = Head::decode(payload)?;
    let mut items = Items::default();
    items.feed(&bytes);
    let mut count = 0;
    while items.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests;

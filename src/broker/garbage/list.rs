//! The list of objects that nobody refers to and that are not deleted yet, as checkpoints hold it:
//! what dropped them may be trimmed from the log before they are gone.
//!
//! | bytes | field    | meaning                                                            |
//! |-------|----------|--------------------------------------------------------------------|
//! | 0..4  | magic    | `TGGL`, which no partition's part begins with                      |
//! | 4     | major    | 1; a reader refuses a greater one                                  |
//! | 5     | minor    | 0; a reader may ignore that it is greater                          |
//! | 6..8  | flags    | none exist yet; those of byte 6 are refused                        |
//! | 8..12 | count    | how many follow, u32                                               |
//! | …     | objects  | each: incarnation 16, sequence u64, size u64, length of its end u32 |
//!
//! Numbers are big-endian; the crc is the checkpoint's.

use bytes::Bytes;

use crate::object::{Cursor, Truncated};
use crate::partition::Objects;
use crate::tier::{ObjectId, ObjectRef};

/// What a list begins with.
const MAGIC: [u8; 4] = *b"TGGL";
const MAJOR: u8 = 1;
const OBJECT_BYTES: usize = 36;

/// A list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It ends too early.
    #[error("the list of garbage is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// It is something else, or bytes are left over.
    #[error("the list of garbage is malformed at \"{field}\"")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// Written by a release with a newer format.
    #[error("the list of garbage has version {found} and this release reads up to {MAJOR}")]
    Newer {
        /// The version.
        found: u8,
    },
}

/// The garbage of this moment as a list.
pub fn of(objects: &Objects) -> Bytes {
    encode(objects.garbage().iter().map(|garbage| garbage.object)).into()
}

/// Whether a part of a checkpoint is such a list and not a partition's.
pub fn is_list(part: &[u8]) -> bool {
    part.starts_with(&MAGIC)
}

/// Writes a list.
pub fn encode(objects: impl ExactSizeIterator<Item = ObjectRef>) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + objects.len() * OBJECT_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[MAJOR, 0, 0, 0]);
    out.extend_from_slice(&(objects.len() as u32).to_be_bytes());
    for object in objects {
        out.extend_from_slice(&object.id.incarnation);
        out.extend_from_slice(&object.id.sequence.to_be_bytes());
        out.extend_from_slice(&object.bytes.to_be_bytes());
        out.extend_from_slice(&object.end_bytes.to_be_bytes());
    }
    out
}

/// Reads a list.
pub fn decode(bytes: &[u8]) -> Result<Vec<ObjectRef>, ListError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.array()? != MAGIC {
        return Err(ListError::Malformed { field: "magic" });
    }
    let [major, _minor, required, _optional] = cursor.array()?;
    if major != MAJOR {
        return Err(ListError::Newer { found: major });
    }
    if required != 0 {
        return Err(ListError::Malformed { field: "flags" });
    }
    let count = cursor.u32()? as usize;
    if Some(cursor.remaining()) != count.checked_mul(OBJECT_BYTES) {
        return Err(ListError::Malformed { field: "count" });
    }
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ObjectId { incarnation: cursor.array()?, sequence: cursor.u64()? };
        objects.push(ObjectRef { id, bytes: cursor.u64()?, end_bytes: cursor.u32()? });
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_frozen_sample_is_written_and_read() {
        let id = ObjectId { incarnation: [0x1f; 16], sequence: 12 };
        let object = ObjectRef { id, bytes: 300, end_bytes: 77 };
        let mut frozen = b"TGGL\x01\0\0\0\0\0\0\x01".to_vec();
        frozen.extend_from_slice(&[0x1f; 16]);
        frozen.extend_from_slice(b"\0\0\0\0\0\0\0\x0c\0\0\0\0\0\0\x01\x2c\0\0\0\x4d");
        assert_eq!(encode([object].into_iter()), frozen);
        assert_eq!(decode(&frozen).unwrap(), [object]);
        assert!(is_list(&frozen) && !is_list(&[1, 1]));
        for (at, value) in [(0, b'X'), (4, 2), (6, 1), (11, 2)] {
            let mut bad = frozen.clone();
            bad[at] = value;
            decode(&bad).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn a_list_survives(
            objects in proptest::collection::vec(any::<([u8; 16], u64, u64, u32)>(), 0..20),
        ) {
            let object = |(incarnation, sequence, bytes, end_bytes)| {
                ObjectRef { id: ObjectId { incarnation, sequence }, bytes, end_bytes }
            };
            let objects: Vec<_> = objects.into_iter().map(object).collect();
            prop_assert_eq!(decode(&encode(objects.iter().copied())).unwrap(), objects);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = decode(&[b"TGGL\x01\0\0\0".as_slice(), &bytes].concat());
        }
    }
}

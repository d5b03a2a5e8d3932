//! The header that every durable format of this room and of `cluster/` starts with.
//!
//! | bytes  | field    | meaning                                                              |
//! |--------|----------|----------------------------------------------------------------------|
//! | 0..4   | magic    | what the bytes are                                                   |
//! | 4      | major    | a reader refuses a greater one                                       |
//! | 5      | minor    | a reader may ignore that it is greater                               |
//! | 6      | required | flags: a reader refuses any that it does not know; none exist yet     |
//! | 7      | optional | flags: a reader ignores what it does not know; none exist yet         |
//! | 8..12  | crc32c   | over bytes 0..8 and 12..end                                          |
//! | 12..   | body     |                                                                      |

use super::cursor::{Cursor, Truncated};

/// How many bytes the header takes.
pub const HEADER_BYTES: usize = 12;

/// A durable format and the version of it that this build writes.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The first four bytes.
    pub magic: [u8; 4],
    /// What the bytes are, in words, for errors.
    pub name: &'static str,
    /// The version written, and the greatest that is read.
    pub major: u8,
    /// The minor version written.
    pub minor: u8,
}

/// Bytes that are not of the format, or not of a version that this build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early.
    #[error("{name} is cut short: {source}")]
    Truncated {
        /// The format's name.
        name: &'static str,
        /// Where it was cut.
        source: Truncated,
    },
    /// The first four bytes are another format's.
    #[error("not a {name}: it starts with {found:02x?}")]
    Magic {
        /// The format's name.
        name: &'static str,
        /// What stands in the place of the magic.
        found: [u8; 4],
    },
    /// Written by a release with a newer format.
    #[error(
        "{name} has format version {found} and this release reads up to {known}; use a newer \
         release"
    )]
    Newer {
        /// The format's name.
        name: &'static str,
        /// The version found.
        found: u8,
        /// The greatest version known.
        known: u8,
    },
    /// Written by a release that requires something unknown here.
    #[error(
        "{name} requires features {flags:#04x} that this release does not know; use a newer release"
    )]
    RequiredFlags {
        /// The format's name.
        name: &'static str,
        /// The required flags.
        flags: u8,
    },
    /// The bytes are not those that were written.
    #[error("{name} is corrupt: its checksum is {found:#010x} and its bytes give {computed:#010x}")]
    Checksum {
        /// The format's name.
        name: &'static str,
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

impl Format {
    /// Puts the header before `body`.
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        let mut start = [0; 8];
        start[..4].copy_from_slice(&self.magic);
        start[4] = self.major;
        start[5] = self.minor;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&start), body);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&start);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Checks the header and the checksum and gives the body.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let name = self.name;
        let truncated = |source| FormatError::Truncated { name, source };
        self.check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        let start = cursor.take(8).map_err(truncated)?;
        let found = cursor.u32().map_err(truncated)?;
        let body = cursor.take(cursor.remaining()).map_err(truncated)?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(start), body);
        if found != computed {
            return Err(FormatError::Checksum { name, found, computed });
        }
        Ok(body)
    }

    /// Checks magic, version and required flags, not the checksum: `bytes` may be a beginning.
    pub fn check_version(&self, bytes: &[u8]) -> Result<(), FormatError> {
        let name = self.name;
        let truncated = |source| FormatError::Truncated { name, source };
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 4] = cursor.array().map_err(truncated)?;
        let [major, _minor, flags, _optional] = cursor.array().map_err(truncated)?;
        if magic != self.magic {
            return Err(FormatError::Magic { name, found: magic });
        }
        if major > self.major {
            return Err(FormatError::Newer { name, found: major, known: self.major });
        }
        if flags != 0 {
            return Err(FormatError::RequiredFlags { name, flags });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: Format = Format { magic: *b"TGXX", name: "sample", major: 2, minor: 1 };

    #[test]
    fn the_frozen_sample_is_written_and_read() {
        let bytes = SAMPLE.seal(b"body");
        assert_eq!(bytes, b"TGXX\x02\x01\0\0\x74\x1f\x06\x97body");
        assert_eq!(SAMPLE.open(&bytes).unwrap(), b"body");
    }

    #[test]
    fn a_greater_major_version_and_required_flags_are_refused_and_the_rest_is_not() {
        let with = |index: usize, value: u8| {
            let mut bytes = SAMPLE.seal(b"body");
            bytes[index] = value;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..]);
            bytes[8..12].copy_from_slice(&crc.to_be_bytes());
            SAMPLE.open(&bytes).map(<[u8]>::to_vec)
        };
        assert!(matches!(with(0, b'x'), Err(FormatError::Magic { .. })));
        assert!(matches!(with(4, 3), Err(FormatError::Newer { found: 3, known: 2, .. })));
        assert!(matches!(with(6, 1), Err(FormatError::RequiredFlags { flags: 1, .. })));
        assert_eq!(with(4, 1).unwrap(), b"body");
        assert_eq!(with(5, 9).unwrap(), b"body");
        assert_eq!(with(7, 0xff).unwrap(), b"body");
    }

    proptest! {
        #[test]
        fn a_body_survives_and_a_flipped_bit_does_not(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<proptest::sample::Index>(),
            bit in 0..8u8,
        ) {
            let mut bytes = SAMPLE.seal(&body);
            prop_assert_eq!(SAMPLE.open(&bytes).unwrap(), &body[..]);
            let index = at.index(bytes.len());
            bytes[index] ^= 1_u8 << bit;
            prop_assert!(SAMPLE.open(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            prop_assert!(SAMPLE.open(&bytes).is_err());
        }
    }
}

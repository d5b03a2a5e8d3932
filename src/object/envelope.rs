//! The head of every object that is created under a condition: it says whose it is, so that a
//! writer whose answer was lost can tell its own object from another's.
//!
//! | bytes  | field       | meaning                                                          |
//! |--------|-------------|------------------------------------------------------------------|
//! | 0..12  | header      | [`Format`], magic `TGPN`, version 1.0; its crc32c covers the rest |
//! | 12..16 | kind        | what the payload is                                              |
//! | 16..32 | cluster     | the cluster's id                                                 |
//! | 32..48 | incarnation | 128 random bits of the writing process                           |
//! | 48..56 | sequence    | of the object among those of the process, u64                    |
//! | 56..64 | number      | of the entry, u64; 0 where entries have no numbers               |
//! | 64..   | payload     |                                                                  |

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::cursor::Cursor;
use super::format::{Format, FormatError, HEADER_BYTES};

/// How many bytes stand before the payload.
pub const ENVELOPE_BYTES: usize = 64;

const ENVELOPE: Format = Format { magic: *b"TGPN", name: "numbered object", major: 1, minor: 0 };

/// Who wrote an object: a process on behalf of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterId {
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// 128 random bits of the process.
    pub incarnation: [u8; 16],
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let incarnation = u128::from_be_bytes(self.incarnation);
        let cluster = u128::from_be_bytes(self.cluster);
        write!(f, "incarnation {incarnation:032x} of cluster {cluster:032x}")
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first [`ENVELOPE_BYTES`] of an object, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the payload is.
    pub kind: [u8; 4],
    /// Who wrote the object.
    pub writer: WriterId,
    /// The object's place among those of its writer.
    pub sequence: u64,
    /// The entry's number.
    pub number: u64,
}

impl Head {
    /// Takes the beginning of an object apart. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        ENVELOPE.check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        let mut read = || {
            cursor.take(HEADER_BYTES)?;
            Ok(Self {
                kind: cursor.array()?,
                writer: WriterId { cluster: cursor.array()?, incarnation: cursor.array()? },
                sequence: cursor.u64()?,
                number: cursor.u64()?,
            })
        };
        read().map_err(|source| FormatError::Truncated { name: ENVELOPE.name, source })
    }
}

/// A body made by a [`Writer`], ready to be created. Creating the same one twice is harmless;
/// cheap to clone.
#[derive(Debug, Clone)]
pub struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) head: Head,
}

impl Sealed {
    /// The entry's number.
    pub fn number(&self) -> u64 {
        self.head.number
    }

    /// The first bytes of the object, which no other object has.
    pub fn first_bytes(&self) -> Bytes {
        self.bytes.slice(..ENVELOPE_BYTES)
    }
}

/// Makes the bodies of one process, each with a sequence of its own; cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    id: WriterId,
    next_sequence: Arc<AtomicU64>,
}

impl Writer {
    /// A writer whose first sequence is `first_sequence`. A process that makes several writers of
    /// one id gives each a range of its own.
    pub fn new(id: WriterId, first_sequence: u64) -> Self {
        Self { id, next_sequence: Arc::new(AtomicU64::new(first_sequence)) }
    }

    /// Who writes.
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// Puts a payload into an envelope with the next sequence.
    pub fn seal(&self, kind: [u8; 4], number: u64, payload: &[u8]) -> Sealed {
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        let mut body = Vec::with_capacity(ENVELOPE_BYTES - HEADER_BYTES + payload.len());
        body.extend_from_slice(&kind);
        body.extend_from_slice(&self.id.cluster);
        body.extend_from_slice(&self.id.incarnation);
        body.extend_from_slice(&sequence.to_be_bytes());
        body.extend_from_slice(&number.to_be_bytes());
        body.extend_from_slice(payload);
        let head = Head { kind, writer: self.id, sequence, number };
        Sealed { bytes: Bytes::from(ENVELOPE.seal(&body)), head }
    }
}

/// Checks a whole object and takes it apart into its head and its payload.
pub(super) fn open(bytes: &Bytes) -> Result<(Head, Bytes), FormatError> {
    ENVELOPE.open(bytes)?;
    let head = Head::parse(bytes)?;
    Ok((head, bytes.slice(ENVELOPE_BYTES..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_frozen_sample_is_written_and_read() {
        let id = WriterId { cluster: [0xc1; 16], incarnation: [0x1f; 16] };
        let sealed = Writer::new(id, 3).seal(*b"META", 9, b"payload");
        let mut frozen = b"TGPN\x01\0\0\0".to_vec();
        frozen.extend_from_slice(&[0xe7, 0x23, 0xe7, 0x0f]);
        frozen.extend_from_slice(b"META");
        frozen.extend_from_slice(&[0xc1; 16]);
        frozen.extend_from_slice(&[0x1f; 16]);
        frozen.extend_from_slice(b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x09payload");
        assert_eq!(sealed.bytes, frozen);
        let (head, payload) = open(&sealed.bytes).unwrap();
        assert_eq!(head, sealed.head);
        assert_eq!(payload, "payload");
    }

    #[test]
    fn two_bodies_of_one_writer_differ_in_their_first_bytes() {
        let writer = Writer::new(WriterId { cluster: [1; 16], incarnation: [2; 16] }, 0);
        let first = writer.seal(*b"META", 1, b"same");
        let second = writer.seal(*b"META", 1, b"same");
        assert_ne!(first.first_bytes(), second.first_bytes());
    }

    proptest! {
        #[test]
        fn an_object_survives(
            kind in any::<[u8; 4]>(),
            cluster in any::<[u8; 16]>(),
            incarnation in any::<[u8; 16]>(),
            sequence in 0..u64::MAX,
            number in any::<u64>(),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let sealed = Writer::new(WriterId { cluster, incarnation }, sequence)
                .seal(kind, number, &payload);
            let (head, read) = open(&sealed.bytes).unwrap();
            prop_assert_eq!(head, sealed.head);
            prop_assert_eq!(Head::parse(&sealed.first_bytes()).unwrap(), head);
            prop_assert_eq!(read, payload);
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = [b"TGPN\x01\0\0\0".as_slice(), &tail].concat();
            let _ = Head::parse(&bytes);
            prop_assert!(open(&Bytes::from(bytes)).is_err());
        }
    }
}

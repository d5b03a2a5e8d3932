//! Kafka's primitive types on the wire: a reader that never passes the end of its bytes, and the
//! few writers that the data-plane codecs share.

use bytes::BufMut;
use uuid::Uuid;

use super::types::TopicId;
use super::varint::{self, VarintError};

/// Why bytes are not the message they should be. The connection that sent them cannot go on:
/// where the next field would start is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("{field} needs {needed} bytes, but {remaining} are left")]
    Truncated {
        /// The field's name in Kafka's message definition.
        field: &'static str,
        /// What the field takes.
        needed: usize,
        /// What there is.
        remaining: usize,
    },
    /// A field is null, or has a negative length, where it must not.
    #[error("{field} has the length {length}")]
    BadLength {
        /// The field's name in Kafka's message definition.
        field: &'static str,
        /// The length as it was sent.
        length: i64,
    },
    /// An array names more elements than its bytes can hold.
    #[error("{field} counts {count} elements, more than {remaining} bytes can hold")]
    BadCount {
        /// The field's name in Kafka's message definition.
        field: &'static str,
        /// The count as it was sent.
        count: i64,
        /// The bytes behind the count.
        remaining: usize,
    },
    /// A variable-length number does not end.
    #[error("{field}: {source}")]
    Varint {
        /// The field's name in Kafka's message definition.
        field: &'static str,
        /// What is wrong with it.
        source: VarintError,
    },
    /// A string is not UTF-8.
    #[error("{field} is not utf-8")]
    NotUtf8 {
        /// The field's name in Kafka's message definition.
        field: &'static str,
    },
    /// This codec does not know the version.
    #[error("{message} has no version {version}")]
    UnknownVersion {
        /// The message's name.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// Reads fields off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            let remaining = self.rest.len();
            return Err(WireError::Truncated { field, needed: len, remaining });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            let remaining = self.rest.len();
            return Err(WireError::Truncated { field, needed: N, remaining });
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// An INT16.
    #[inline]
    pub fn i16(&mut self, field: &'static str) -> Result<i16, WireError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// An INT32.
    #[inline]
    pub fn i32(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// A UUID, as a topic's id.
    pub fn topic_id(&mut self, field: &'static str) -> Result<TopicId, WireError> {
        self.array(field).map(|bytes| TopicId(Uuid::from_bytes(bytes)))
    }

    /// An `UNSIGNED_VARINT`.
    #[inline]
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, WireError> {
        let (value, len) =
            varint::read_u32(self.rest).map_err(|source| WireError::Varint { field, source })?;
        self.take(field, len)?;
        Ok(value)
    }

    /// The bytes of a STRING (`flexible`: `COMPACT_STRING`), or `None` for null.
    pub fn nullable_string(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<&'a str>, WireError> {
        let length = if flexible {
            i64::from(self.uvarint(field)?) - 1
        } else {
            i64::from(self.i16(field)?)
        };
        // As Kafka's generated readers: a compact string is no longer than a plain one can be.
        if length > i64::from(i16::MAX) {
            return Err(WireError::BadLength { field, length });
        }
        let Some(bytes) = self.nullable(field, length)? else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|_| WireError::NotUtf8 { field })
    }

    /// A STRING that may not be null.
    pub fn string(&mut self, field: &'static str, flexible: bool) -> Result<&'a str, WireError> {
        self.nullable_string(field, flexible)?.ok_or(WireError::BadLength { field, length: -1 })
    }

    /// BYTES or RECORDS (`flexible`: their compact forms), or `None` for null.
    pub fn nullable_bytes(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<&'a [u8]>, WireError> {
        let length = if flexible {
            i64::from(self.uvarint(field)?) - 1
        } else {
            i64::from(self.i32(field)?)
        };
        self.nullable(field, length)
    }

    fn nullable(
        &mut self,
        field: &'static str,
        length: i64,
    ) -> Result<Option<&'a [u8]>, WireError> {
        match usize::try_from(length) {
            Ok(len) => self.take(field, len).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(WireError::BadLength { field, length }),
        }
    }

    /// The count of an array that may not be null, each of whose elements takes at least
    /// `least` bytes. A count that the bytes cannot hold is refused here, before anybody
    /// allocates or loops for it.
    pub fn count(
        &mut self,
        field: &'static str,
        flexible: bool,
        least: usize,
    ) -> Result<usize, WireError> {
        let count = if flexible {
            i64::from(self.uvarint(field)?) - 1
        } else {
            i64::from(self.i32(field)?)
        };
        let remaining = self.rest.len();
        match usize::try_from(count) {
            Ok(fits) if fits <= remaining / least.max(1) => Ok(fits),
            Ok(_) => Err(WireError::BadCount { field, count, remaining }),
            Err(_) => Err(WireError::BadLength { field, length: count }),
        }
    }

    /// Passes over tagged fields, none of which this codec knows (KIP-482).
    pub fn skip_tagged_fields(&mut self, field: &'static str) -> Result<(), WireError> {
        for _ in 0..self.uvarint(field)? {
            self.uvarint(field)?;
            let len = self.uvarint(field)?;
            self.take(field, len as usize)?;
        }
        Ok(())
    }
}

/// Writes a nullable STRING (`flexible`: `COMPACT_STRING`). A text over the type's 32,767 bytes is
/// cut at a character, since a longer one would make the rest of the message unreadable.
pub fn put_nullable_string(out: &mut impl BufMut, flexible: bool, text: Option<&str>) {
    let Some(text) = text else {
        if flexible {
            out.put_u8(0);
        } else {
            out.put_i16(-1);
        }
        return;
    };
    let text = text.get(..text.floor_char_boundary(i16::MAX as usize)).unwrap_or(text);
    if flexible {
        varint::put_u32(out, text.len() as u32 + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

/// Writes the length prefix of an array or of BYTES (`flexible`: the compact form).
pub fn put_length(out: &mut impl BufMut, flexible: bool, len: usize) {
    if flexible {
        varint::put_u64(out, len as u64 + 1);
    } else {
        out.put_i32(len as i32);
    }
}

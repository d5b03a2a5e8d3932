//! Reading Kafka's primitive types, classic and flexible, from bytes that nobody vouches for.

use bytes::Bytes;

use super::{MAX_NAME, Malformed, name};
use crate::group::types::Name;

/// A cursor over a record; the version read first decides between classic and flexible forms.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, flexible: false }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// The version in front of a value; in both values the last one is the flexible one.
    pub(super) fn version(&mut self, flexible: i16) -> Result<i16, Malformed> {
        let version = self.i16()?;
        if !(0..=flexible).contains(&version) {
            return Err(Malformed::Version(version));
        }
        self.flexible = version == flexible;
        Ok(version)
    }

    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return i32::try_from(value).map_or(Err(Malformed::Length), |_| Ok(value));
            }
        }
        Err(Malformed::Length)
    }

    /// A length; `None` is null.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1));
        }
        let length = if wide { self.i32()? } else { i32::from(self.i16()?) };
        if length < -1 {
            return Err(Malformed::Length);
        }
        Ok(usize::try_from(length).ok())
    }

    /// A string's bytes; `None` is null.
    fn string_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.length(false)? {
            None => Ok(None),
            Some(length) if length > MAX_NAME => Err(Malformed::Length),
            Some(length) => self.take(length).map(Some),
        }
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Name>, Malformed> {
        self.string_bytes()?.map(name).transpose()
    }

    pub(super) fn string(&mut self) -> Result<Name, Malformed> {
        self.nullable_string()?.ok_or(Malformed::Length)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.length(true)?.ok_or(Malformed::Length)?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    /// The count of an array whose elements have at least two bytes.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.length(true)?.ok_or(Malformed::Length)?;
        if count > self.rest.len() / 2 { Err(Malformed::Short) } else { Ok(count) }
    }

    /// Tagged fields; nothing in versions without them.
    pub(super) fn tags(
        &mut self,
        mut field: impl FnMut(usize, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()?;
            field(tag, self.take(size)?)?;
        }
        Ok(())
    }
}

/// Shows `visit` each topic in a consumer's metadata: version i16, then version 0's topic list,
/// which is a prefix of all versions (`ConsumerProtocolSubscription`). Nothing is copied: a name on
/// the wire is far smaller than one in a set.
pub(in crate::group) fn subscribed_topics<'a>(
    metadata: &'a [u8],
    mut visit: impl FnMut(&'a str),
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(metadata);
    let version = cursor.i16()?;
    if version < 0 {
        return Err(Malformed::Version(version));
    }
    let count = cursor.count()?;
    for _ in 0..count {
        let topic = cursor.string_bytes()?.ok_or(Malformed::Length)?;
        visit(std::str::from_utf8(topic).map_err(|_| Malformed::Utf8)?);
    }
    Ok(())
}

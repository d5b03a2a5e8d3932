//! The records inside a batch, walked in place.
//!
//! Layout of a record, every number a zig-zagged varint (`DefaultRecord`):
//!
//! ```text
//! length | attributes INT8, unused | timestamp delta | offset delta
//!        | key length, -1 for null | key | value length, -1 for null | value
//!        | header count | per header: key length | key | value length, -1 for null | value
//! ```
//!
//! **Invariant:** nothing is copied and nothing is interpreted. Duplicate headers, their order and
//! keys that are not UTF-8 stay what they are; kafka-protocol's codec keeps none of the three.

use bytes::{BufMut, BytesMut};

use super::varint::{self, VarintError};

/// Why a batch's payload is not the records it should be; answered `INVALID_RECORD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The payload ends before the record does.
    #[error("{field} needs {needed} bytes, but {remaining} are left")]
    Truncated {
        /// The part of the record.
        field: &'static str,
        /// What it takes.
        needed: usize,
        /// What there is.
        remaining: usize,
    },
    /// A length or count is negative and does not mean null.
    #[error("{field} is {value}")]
    Negative {
        /// The part of the record.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// A number does not end.
    #[error("{field}: {source}")]
    Varint {
        /// The part of the record.
        field: &'static str,
        /// What is wrong with it.
        source: VarintError,
    },
    /// A record is longer than what is in it.
    #[error("{bytes} bytes are left at the end of the record")]
    BytesLeftInRecord {
        /// How many bytes nothing claims.
        bytes: usize,
    },
    /// The payload is longer than the records that the batch counts.
    #[error("{bytes} bytes are left behind the last of {count} records")]
    BytesLeftInBatch {
        /// How many bytes nothing claims.
        bytes: usize,
        /// The batch's record count.
        count: u32,
    },
}

/// A record, borrowed from the payload of its batch. `Bytes::slice_ref` of the payload turns its
/// parts into `Bytes` without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The whole record with its length prefix.
    pub raw: &'a [u8],
    /// Milliseconds to add to the batch's base timestamp.
    pub timestamp_delta: i64,
    /// What to add to the batch's base offset.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// Writes the record with another timestamp delta. Everything else stays byte for byte.
    pub fn put_with_timestamp_delta(
        &self,
        out: &mut BytesMut,
        timestamp_delta: i64,
    ) -> Result<(), RecordError> {
        if timestamp_delta == self.timestamp_delta {
            out.put_slice(self.raw);
            return Ok(());
        }
        let mut fields = Fields(self.raw);
        fields.length("record length")?;
        let attributes = fields.take("record attributes", 1)?;
        fields.varlong("timestamp delta")?;
        let behind = fields.0;
        let len = attributes.len() + varint::len_i64(timestamp_delta) + behind.len();
        varint::put_i32(out, len as i32);
        out.put_slice(attributes);
        varint::put_i64(out, timestamp_delta);
        out.put_slice(behind);
        Ok(())
    }
}

/// Walks the records of a decompressed payload.
///
/// Yields exactly as many records as the batch counts. The first error is the last item; bytes
/// behind the last record are an error too.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    fields: Fields<'a>,
    count: u32,
    left: u32,
}

impl<'a> Records<'a> {
    /// A walk over `payload`, which should hold `count` records; a negative count means none.
    pub fn new(payload: &'a [u8], count: i32) -> Records<'a> {
        let count = u32::try_from(count).unwrap_or(0);
        Records { fields: Fields(payload), count, left: count }
    }

    fn step(&mut self) -> Result<Record<'a>, RecordError> {
        let before = self.fields.0;
        let len = self.fields.length("record length")?;
        let body = self.fields.take("record", len)?;
        let raw = before.get(..before.len() - self.fields.0.len()).unwrap_or(before);
        let record = read_record(raw, body)?;
        self.left -= 1;
        if self.left == 0 && !self.fields.0.is_empty() {
            let bytes = self.fields.0.len();
            return Err(RecordError::BytesLeftInBatch { bytes, count: self.count });
        }
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.left = 0;
        }
        Some(item)
    }
}

fn read_record<'a>(raw: &'a [u8], body: &'a [u8]) -> Result<Record<'a>, RecordError> {
    let mut fields = Fields(body);
    fields.take("record attributes", 1)?;
    let timestamp_delta = fields.varlong("timestamp delta")?;
    let offset_delta = fields.varint("offset delta")?;
    let key = fields.nullable("key")?;
    let value = fields.nullable("value")?;
    let count = fields.length("header count")?;
    let headers = Headers { fields, left: count };
    // Walked once here, so that a `Headers` never meets an error.
    for _ in 0..count {
        fields.header()?;
    }
    if !fields.0.is_empty() {
        return Err(RecordError::BytesLeftInRecord { bytes: fields.0.len() });
    }
    Ok(Record { raw, timestamp_delta, offset_delta, key, value, headers })
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key: by custom UTF-8, by nothing enforced.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// A record's headers in their order, duplicates included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    fields: Fields<'a>,
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.fields.header().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// What is left of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], RecordError> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else {
            let remaining = self.0.len();
            return Err(RecordError::Truncated { field, needed: len, remaining });
        };
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self, field: &'static str) -> Result<i32, RecordError> {
        let (value, len) =
            varint::read_i32(self.0).map_err(|source| RecordError::Varint { field, source })?;
        self.take(field, len)?;
        Ok(value)
    }

    #[inline]
    fn varlong(&mut self, field: &'static str) -> Result<i64, RecordError> {
        let (value, len) =
            varint::read_i64(self.0).map_err(|source| RecordError::Varint { field, source })?;
        self.take(field, len)?;
        Ok(value)
    }

    #[inline]
    fn length(&mut self, field: &'static str) -> Result<usize, RecordError> {
        let value = self.varint(field)?;
        usize::try_from(value).map_err(|_| RecordError::Negative { field, value })
    }

    #[inline]
    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, RecordError> {
        let value = self.varint(field)?;
        match usize::try_from(value) {
            Ok(len) => self.take(field, len).map(Some),
            Err(_) if value == -1 => Ok(None),
            Err(_) => Err(RecordError::Negative { field, value }),
        }
    }

    fn header(&mut self) -> Result<Header<'a>, RecordError> {
        let len = self.length("header key length")?;
        let key = self.take("header key", len)?;
        let value = self.nullable("header value")?;
        Ok(Header { key, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with two headers of one key that is not UTF-8, the first null.
    const RECORD: [u8; 14] = [26, 0, 0, 0, 1, 1, 4, 2, 0xff, 1, 2, 0xff, 2, 9];

    #[test]
    fn headers_keep_their_order_their_duplicates_and_their_bytes() {
        let record = Records::new(&RECORD, 1).next().unwrap().unwrap();
        assert_eq!(record.raw, RECORD);
        assert_eq!((record.key, record.value, record.headers.len()), (None, None, 2));
        let headers: Vec<_> = record.headers.collect();
        let first = Header { key: &[0xff], value: None };
        assert_eq!(headers, [first, Header { value: Some(&[9]), ..first }]);
    }

    #[test]
    fn a_record_that_ends_early_or_late_is_refused_once() {
        for len in 0..RECORD.len() {
            let mut walk = Records::new(&RECORD[..len], 1);
            assert!(walk.next().unwrap().is_err(), "{len}");
            assert!(walk.next().is_none());
        }
        let mut loose = RECORD.to_vec();
        loose[0] += 2;
        loose.push(0);
        let refused = Records::new(&loose, 1).next().unwrap();
        assert_eq!(refused, Err(RecordError::BytesLeftInRecord { bytes: 1 }));
        let behind = [&RECORD[..], &[0]].concat();
        let refused = Records::new(&behind, 1).next().unwrap();
        assert_eq!(refused, Err(RecordError::BytesLeftInBatch { bytes: 1, count: 1 }));
    }

    #[test]
    fn a_header_count_above_the_bytes_ends_at_the_bytes() {
        // 2^31-1 headers in five bytes, and none behind them.
        let huge = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
        let refused = Records::new(&huge, 1).next().unwrap();
        assert!(matches!(refused, Err(RecordError::Varint { field: "header key length", .. })));
    }
}

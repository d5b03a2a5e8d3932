//! Variable-length integers: seven bits a byte, low bits first, a set high bit means that more
//! follow. Kafka writes lengths of flexible messages unsigned, and everything inside a record
//! zig-zagged, so that small negative numbers stay short (`ByteUtils`).

use bytes::BufMut;

/// The longest 32-bit varint, in bytes.
pub const MAX_U32_BYTES: usize = 5;

/// The longest 64-bit varint, in bytes.
pub const MAX_U64_BYTES: usize = 10;

/// Why a varint could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside the number.
    #[error("the bytes end inside a varint")]
    Truncated,
    /// The number has more bytes than its width allows.
    #[error("a varint has more than {max} bytes")]
    TooLong {
        /// The most bytes a number of this width has.
        max: usize,
    },
}

/// Reads an unsigned 32-bit varint: the value and how many bytes it took.
///
/// Bits above the 32nd are dropped, as `ByteUtils.readUnsignedVarint` does.
#[inline]
pub fn read_u32(bytes: &[u8]) -> Result<(u32, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((u32::from(first), 1));
    }
    let (value, len) = read_long(bytes, MAX_U32_BYTES)?;
    Ok((value as u32, len))
}

/// Reads an unsigned 64-bit varint: the value and how many bytes it took.
#[inline]
pub fn read_u64(bytes: &[u8]) -> Result<(u64, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((u64::from(first), 1));
    }
    read_long(bytes, MAX_U64_BYTES)
}

/// Reads a zig-zagged 32-bit varint.
#[inline]
pub fn read_i32(bytes: &[u8]) -> Result<(i32, usize), VarintError> {
    read_u32(bytes).map(|(value, len)| (((value >> 1) as i32) ^ -((value & 1) as i32), len))
}

/// Reads a zig-zagged 64-bit varint.
#[inline]
pub fn read_i64(bytes: &[u8]) -> Result<(i64, usize), VarintError> {
    read_u64(bytes).map(|(value, len)| (((value >> 1) as i64) ^ -((value & 1) as i64), len))
}

fn read_long(bytes: &[u8], max: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(max).enumerate() {
        // At most the tenth byte: a shift of 63, whose excess bits fall out.
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok((value, at + 1));
        }
    }
    if bytes.len() < max { Err(VarintError::Truncated) } else { Err(VarintError::TooLong { max }) }
}

/// Writes an unsigned varint of up to 64 bits.
#[inline]
pub fn put_u64(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes an unsigned 32-bit varint.
#[inline]
pub fn put_u32(out: &mut impl BufMut, value: u32) {
    put_u64(out, u64::from(value));
}

/// Writes a zig-zagged 32-bit varint.
#[inline]
pub fn put_i32(out: &mut impl BufMut, value: i32) {
    put_u32(out, zigzag_i32(value));
}

/// Writes a zig-zagged 64-bit varint.
#[inline]
pub fn put_i64(out: &mut impl BufMut, value: i64) {
    put_u64(out, zigzag_i64(value));
}

/// How many bytes an unsigned varint takes.
#[inline]
pub fn len_u64(value: u64) -> usize {
    ((value | 1).ilog2() / 7 + 1) as usize
}

/// How many bytes a zig-zagged 32-bit varint takes.
#[inline]
pub fn len_i32(value: i32) -> usize {
    len_u64(u64::from(zigzag_i32(value)))
}

/// How many bytes a zig-zagged 64-bit varint takes.
#[inline]
pub fn len_i64(value: i64) -> usize {
    len_u64(zigzag_i64(value))
}

fn zigzag_i32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_have_the_lengths_of_the_specification() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            assert_eq!(len_u64(value), len, "{value}");
        }
        assert_eq!((len_i32(i32::MIN), len_i64(i64::MIN)), (5, 10));
    }

    #[test]
    fn a_number_that_does_not_end_is_refused() {
        assert_eq!(read_u32(&[]), Err(VarintError::Truncated));
        assert_eq!(read_u32(&[0x80; 4]), Err(VarintError::Truncated));
        assert_eq!(read_u32(&[0x80; 5]), Err(VarintError::TooLong { max: 5 }));
        assert_eq!(read_u64(&[0xff; 10]), Err(VarintError::TooLong { max: 10 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(wide: i64, narrow: i32) {
            let mut out = Vec::new();
            put_i64(&mut out, wide);
            prop_assert_eq!(read_i64(&out), Ok((wide, out.len())));
            prop_assert_eq!(out.len(), len_i64(wide));
            out.clear();
            put_i32(&mut out, narrow);
            prop_assert_eq!(read_i32(&out), Ok((narrow, out.len())));
            prop_assert_eq!(out.len(), len_i32(narrow));
            out.clear();
            put_u32(&mut out, narrow as u32);
            prop_assert_eq!(read_u32(&out), Ok((narrow as u32, out.len())));
        }
    }
}

//! Joining CRC-32C checksums without reading the bytes again.
//!
//! Whoever writes a batch behind a header of its own (the WAL) needs a checksum over both, and the
//! batch's own, just verified, covers all of it but 21 bytes. Following a checksum by `n` bytes
//! multiplies it, as a polynomial over GF(2), by x^8n modulo the CRC's polynomial; n is taken apart
//! into hexadecimal digits, each with its power in a table. (The crc32c crate's own combination
//! takes longer than a pass over a megabyte.)

/// The Castagnoli polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^0.
const ONE: u32 = 1 << 31;

/// x^8: one byte.
const BYTE: u32 = 1 << 23;

/// Hexadecimal digits of a length.
const DIGITS: usize = usize::BITS as usize / 4;

/// For each digit of a length, lowest first, and each of its values: x to the power of eight times
/// what it stands for.
static POWERS: [[u32; 16]; DIGITS] = powers();

const fn powers() -> [[u32; 16]; DIGITS] {
    let mut table = [[ONE; 16]; DIGITS];
    let mut step = BYTE;
    let mut digit = 0;
    while digit < DIGITS {
        let mut value = 1;
        while value < 16 {
            table[digit][value] = multiply(table[digit][value - 1], step);
            value += 1;
        }
        step = multiply(table[digit][15], step);
        digit += 1;
    }
    table
}

/// The product modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // All ones where the bit is set: no branch to mispredict.
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
    }
    product
}

/// The CRC-32C of some bytes with the checksum `first`, followed by `second_len` bytes with the
/// checksum `second`.
pub fn combine(first: u32, second: u32, second_len: usize) -> u32 {
    let mut shifted = first;
    let mut rest = second_len;
    for powers in &POWERS {
        if rest == 0 {
            break;
        }
        if rest & 15 != 0 {
            shifted = multiply(powers[rest & 15], shifted);
        }
        rest >>= 4;
    }
    shifted ^ second
}

#[cfg(test)]
mod tests {
    use crc32c::{crc32c, crc32c_combine};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_checksums_make_the_checksum_of_both(
            first in prop::collection::vec(any::<u8>(), 0..100),
            second in prop::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let both = crc32c(&[&first[..], &second].concat());
            prop_assert_eq!(combine(crc32c(&first), crc32c(&second), second.len()), both);
        }

        #[test]
        fn great_lengths_agree_with_the_slow_way(a: u32, b: u32, len in 0..1usize << 50) {
            prop_assert_eq!(combine(a, b, len), crc32c_combine(a, b, len));
        }
    }
}

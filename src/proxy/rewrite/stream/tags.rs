//! Tags that nobody knows, of an exact length: what stands where something was left out.

use crate::protocol::varint;

/// The greatest number of each width, in bytes: Kafka counts tags from 0 and has not come to 10.
/// They are far up so that tags stay in ascending order (KIP-482), which old Java clients hold
/// (`TaggedFields.read`).
const NUMBERS: [(usize, u32); 5] =
    [(5, i32::MAX as u32), (4, (1 << 28) - 1), (3, (1 << 21) - 1), (2, (1 << 14) - 1), (1, 127)];

/// Among numbers of five bytes, which tags of our making have.
const FAR_UP: u32 = 1 << 30;

/// The widest size that is ever written, in bytes.
const SIZE_WIDTHS: std::ops::RangeInclusive<usize> = 1..=5;

/// What another tag needs at least when it takes the place of an unknown one: five bytes of number
/// and one of size. A tag of fewer has no more than three bytes in it: no address.
pub(super) const RENAMED_BYTES_MIN: usize = 6;

/// A whole tag of exactly `bytes`, zeros in it; there is none of less than two.
pub(super) fn filler(bytes: usize) -> Option<Vec<u8>> {
    let mut shapes = NUMBERS.iter().flat_map(|number| SIZE_WIDTHS.map(move |size| (number, size)));
    let fits = |((width, number), size_width): (&(usize, u32), usize)| {
        let size = bytes.checked_sub(width + size_width)?;
        (varint::len_u64(size as u64) == size_width).then_some((*number, size))
    };
    let (number, size) = shapes.find_map(fits)?;
    let mut tag = Vec::with_capacity(bytes);
    varint::put_u32(&mut tag, number);
    varint::put_u32(&mut tag, size as u32);
    tag.resize(bytes, 0);
    Some(tag)
}

/// The head of what takes the place of tag `number` and its `bytes` in all, which are no less than
/// [`RENAMED_BYTES_MIN`]: the same order among unknown ones, above all that are known. The size
/// takes a byte more than it needs where the length asks for it.
pub(super) fn renamed(number: u32, bytes: usize) -> Vec<u8> {
    let room = bytes.saturating_sub(RENAMED_BYTES_MIN - 1);
    let size_of = |width: usize| (width, room.saturating_sub(width));
    let fits = |(width, size): &(usize, usize)| varint::len_u64(*size as u64) <= *width;
    let (width, mut size) = SIZE_WIDTHS.map(size_of).find(fits).unwrap_or((1, 0));
    let mut head = Vec::with_capacity(10);
    varint::put_u32(&mut head, number | FAR_UP);
    for last in (0..width).rev() {
        let more = if last > 0 { 0x80 } else { 0 };
        head.push((size & 0x7f) as u8 | more);
        size >>= 7;
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a tag as a client does, to the end: its number.
    fn skipped(tag: &[u8]) -> u32 {
        let (number, width) = varint::read_u32(tag).unwrap();
        let (size, size_width) = varint::read_u32(&tag[width..]).unwrap();
        assert_eq!(width + size_width + size as usize, tag.len());
        number
    }

    #[test]
    fn every_length_but_one_can_be_filled() {
        assert_eq!((filler(0), filler(1)), (None, None));
        for bytes in 2..=super::super::HELD_BYTES_MAX {
            let tag = filler(bytes).unwrap();
            assert_eq!(tag.len(), bytes);
            let number = skipped(&tag);
            assert!(number >= 127, "{number}");
            // Read and written again it is the same: no number has more bytes than it needs.
            let (number, width) = varint::read_u32(&tag).unwrap();
            let (size, _) = varint::read_u32(&tag[width..]).unwrap();
            let mut again = Vec::new();
            varint::put_u32(&mut again, number);
            varint::put_u32(&mut again, size);
            assert!(tag.starts_with(&again), "{bytes}");
        }
    }

    #[test]
    fn a_tag_takes_the_place_of_any_other_that_could_hold_an_address() {
        let lengths = (RENAMED_BYTES_MIN..20_000).chain([(1 << 21) - 1, 1 << 21, (1 << 21) + 12]);
        for bytes in lengths {
            let mut tag = renamed(7, bytes);
            assert!(tag.len() <= bytes && tag.len() <= 10, "{bytes}");
            tag.resize(bytes, 0);
            assert_eq!(skipped(&tag), FAR_UP + 7, "{bytes}");
        }
    }
}

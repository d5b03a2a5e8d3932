//! Any bytes as a compressed payload, for each codec and several bounds.
//!
//! Held here: nothing panics; no more comes out than is allowed, and no more is allocated than that
//! allows; what is compressed comes back; and a bound cuts off exactly what is above it.
//!
//! Input: codec, bound, whether to compress the rest first, the rest.

use tidegate::protocol::compression::{Compression, DecompressError, compress, decompress};

use super::chance::Chance;
use super::within;

const BOUNDS: [usize; 6] = [0, 1, 100, 4 << 10, 64 << 10, 1 << 20];
/// The state of an inflater and the buffers of readers.
const STATE: usize = 256 << 10;

/// Output that grows is there twice and a half for a moment.
fn cap(input: usize, bound: usize) -> usize {
    STATE + 4 * bound + 4 * input
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    let codec = Compression::ALL[chance.below(Compression::ALL.len())];
    let bound = BOUNDS[chance.below(BOUNDS.len())];
    let whole = chance.bool();
    let rest = chance.rest();
    if whole {
        let packed = compress(codec, rest);
        let cap = cap(packed.len(), rest.len());
        let back = within(cap, || decompress(codec, &packed, rest.len()));
        // An empty payload of Snappy has no block, and is read as one that lacks it.
        assert_eq!(back.expect("what was compressed comes back"), rest);
    }
    let found = within(cap(rest.len(), bound), || decompress(codec, rest, bound));
    match found {
        Ok(output) => {
            assert!(output.len() <= bound);
            let exactly = decompress(codec, rest, output.len()).expect("as much as came out");
            assert_eq!(exactly, output);
            if let Some(less) = output.len().checked_sub(1) {
                let less = decompress(codec, rest, less);
                assert!(matches!(less, Err(DecompressError::TooLarge { .. })), "{less:?}");
            }
        }
        Err(DecompressError::TooLarge { max, .. }) => {
            assert_eq!(max, bound);
            let more = within(cap(rest.len(), 4 << 20), || decompress(codec, rest, 4 << 20));
            assert!(more.map_or(true, |more| more.len() > bound));
        }
        Err(DecompressError::Corrupt { .. }) => {}
    }
}

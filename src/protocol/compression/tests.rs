//! Round trips, bombs, and what is refused.

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn a_bomb_is_refused_at_the_bound_by_every_codec() {
    let zeros = vec![0u8; 8 << 20];
    for codec in Compression::ALL {
        let bomb = compress(codec, &zeros);
        let refused = decompress(codec, &bomb, (8 << 20) - 1);
        assert!(
            matches!(refused, Err(DecompressError::TooLarge { max: 8_388_607, .. })),
            "{codec:?}: {refused:?}"
        );
        assert_eq!(decompress(codec, &bomb, 8 << 20).unwrap(), zeros, "{codec:?}");
    }
}

#[test]
fn a_raw_snappy_block_is_read_as_librdkafka_sends_it() {
    let raw = snap::raw::Encoder::new().compress_vec(b"raw raw raw raw").unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, 100).unwrap(), &b"raw raw raw raw"[..]);
}

#[test]
fn concatenated_snappy_streams_are_one() {
    let mut two = compress(Compression::Snappy, b"one").to_vec();
    two.extend_from_slice(&compress(Compression::Snappy, b"two"));
    assert_eq!(decompress(Compression::Snappy, &two, 6).unwrap(), &b"onetwo"[..]);
    assert!(matches!(
        decompress(Compression::Snappy, &two, 5),
        Err(DecompressError::TooLarge { .. })
    ));
}

#[test]
fn a_claimed_snappy_length_is_not_allocated_for() {
    // A length of 2^32 - 1 in five bytes, and nothing behind it.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let refused = decompress(Compression::Snappy, &claim, usize::MAX >> 1);
    assert!(matches!(refused, Err(DecompressError::Corrupt { .. })), "{refused:?}");
}

#[test]
fn what_was_cut_off_is_corrupt() {
    let text = b"cut me off somewhere, somewhere, somewhere".repeat(10);
    for codec in CODECS {
        let whole = compress(codec, &text);
        let cut = &whole[..whole.len() - 3];
        let refused = decompress(codec, cut, 1 << 20);
        assert!(matches!(refused, Err(DecompressError::Corrupt { .. })), "{codec:?}: {refused:?}");
    }
}

#[test]
fn an_lz4_frame_of_another_shape_is_read_or_refused_as_java_does() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let text: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    let frame = |info| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap()
    };
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    let full = frame(
        info.clone()
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(text.len() as u64)),
    );
    assert_eq!(decompress(Compression::Lz4, &full, text.len()).unwrap(), text);
    let linked = frame(info.block_mode(BlockMode::Linked));
    let refused = decompress(Compression::Lz4, &linked, text.len());
    assert!(matches!(refused, Err(DecompressError::Corrupt { .. })), "{refused:?}");
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(
        words in prop::collection::vec(0u8..4, 0..200_000usize),
        codec in prop::sample::select(Compression::ALL.to_vec()),
    ) {
        let compressed = compress(codec, &words);
        prop_assert_eq!(decompress(codec, &compressed, words.len()).unwrap(), words);
    }

    #[test]
    fn any_bytes_stay_below_the_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        framed: bool,
        codec in prop::sample::select(CODECS.to_vec()),
    ) {
        let mut input = if framed { compress(codec, &bytes).to_vec() } else { Vec::new() };
        let flips = bytes.len().min(input.len() / 2);
        for (at, flip) in bytes.iter().take(flips).enumerate() {
            input[2 * at] ^= flip & 0x11;
        }
        input.extend_from_slice(&bytes);
        if let Ok(output) = decompress(codec, &input, 10_000) {
            prop_assert!(output.len() <= 10_000);
        }
    }
}

#[test]
fn every_level_is_read_again_and_a_higher_one_is_not_larger() {
    let words: Vec<u8> = (0..40_000_u32).map(|n| (n * n % 251 % 9) as u8).collect();
    for (codec, levels) in [(Compression::Gzip, [0, 1, 9]), (Compression::Zstd, [-131_072, 1, 19])]
    {
        let mut before = usize::MAX;
        for level in levels {
            let compressed = compress_at(codec, Some(level), &words);
            assert_eq!(decompress(codec, &compressed, 1 << 20).unwrap(), words, "{level}");
            assert!(compressed.len() <= before, "{codec:?} level {level}");
            before = compressed.len();
        }
    }
}

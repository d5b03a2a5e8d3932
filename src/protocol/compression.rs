//! The four codecs of record batches, with a hard bound on what comes out.
//!
//! What a batch's payload decompresses to is known only while it is being decompressed, and a few
//! bytes can become gigabytes. Every codec therefore streams into a buffer that stops growing at
//! the caller's bound.
//!
//! **Invariant:** beyond its output a codec holds only its window: 32 KiB for gzip, up to two
//! blocks of 4 MiB for LZ4, up to [`ZSTD_WINDOW_LOG_MAX`] for Zstandard, nothing for Snappy.
//! Decompressing takes time: callers on a connection's task hand larger batches to
//! `task::blocking`.

use std::io::{Read, Write};

use bytes::Bytes;

/// What the low three bits of a batch's attributes say about its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain records.
    None,
    /// Gzip, as one or several members.
    Gzip,
    /// Snappy: Java frames it as snappy-java does, librdkafka sends one raw block.
    Snappy,
    /// The standard LZ4 frame format.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec with this number, `None` for one that Kafka does not have.
    pub fn from_id(id: i16) -> Option<Compression> {
        Compression::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// The codec's number in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec's name, as `compression.type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// The largest Zstandard window that is accepted, as a power of two: what level 22 uses, and what
/// Kafka's own decoder accepts.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Why a payload could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// More comes out than the caller allows.
    #[error("the {codec} payload decompresses to more than {max} bytes", codec = codec.name())]
    TooLarge {
        /// The batch's codec.
        codec: Compression,
        /// The caller's bound.
        max: usize,
    },
    /// The payload is not what its codec says.
    #[error("the {codec} payload cannot be decompressed", codec = codec.name())]
    Corrupt {
        /// The batch's codec.
        codec: Compression,
        /// What the codec says.
        source: std::io::Error,
    },
}

/// Decompresses a batch's payload to at most `max_output` bytes. Without a codec it copies.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    max_output: usize,
) -> Result<Bytes, DecompressError> {
    let output = match codec {
        Compression::None => read_bounded(input, input.len(), max_output),
        Compression::Gzip => {
            read_bounded(flate2::read::MultiGzDecoder::new(input), input.len(), max_output)
        }
        Compression::Snappy => snappy(input, max_output),
        Compression::Lz4 => lz4(input, max_output),
        Compression::Zstd => zstd(input, max_output),
    };
    match output {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(DecompressError::TooLarge { codec, max: max_output }),
        Err(source) => Err(DecompressError::Corrupt { codec, source }),
    }
}

/// Reads to the end, or `None` above the bound.
fn read_bounded(
    reader: impl Read,
    input_len: usize,
    max_output: usize,
) -> std::io::Result<Option<Bytes>> {
    let mut output = Vec::with_capacity(input_len.saturating_mul(2).min(max_output));
    // One byte more than allowed tells "exactly the bound" from "above it".
    reader.take(max_output as u64 + 1).read_to_end(&mut output)?;
    Ok((output.len() <= max_output).then(|| Bytes::from(output)))
}

fn invalid(reason: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, reason)
}

/// The magic number of an LZ4 frame, little endian on the wire.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

fn lz4(input: &[u8], max_output: usize) -> std::io::Result<Option<Bytes>> {
    // The decoder also takes the legacy format, which no Kafka client reads.
    if !input.starts_with(&LZ4_MAGIC) {
        return Err(invalid("no lz4 frame"));
    }
    read_bounded(lz4_flex::frame::FrameDecoder::new(input), input.len(), max_output)
}

fn zstd(input: &[u8], max_output: usize) -> std::io::Result<Option<Bytes>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read_bounded(decoder, input.len(), max_output)
}

/// How snappy-java's stream starts; two INT32, its version and the least version that can read
/// it, follow.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";

/// Bytes of snappy-java's stream header.
const XERIAL_HEADER_BYTES: usize = 16;

/// More than one byte of Snappy can become: a copy of three bytes yields at most 64.
const SNAPPY_MAX_RATIO: usize = 22;

/// Snappy-java writes its header and then blocks, each with its length as an INT32; concatenated
/// streams are read as one. Without the header the whole payload is one raw block
/// (`SnappyInputStream`, librdkafka).
fn snappy(input: &[u8], max_output: usize) -> std::io::Result<Option<Bytes>> {
    let mut output = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        let fits = snappy_block(input, &mut output, max_output)?;
        return Ok(fits.then(|| Bytes::from(output)));
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or_else(|| invalid("header cut off"))?;
            continue;
        }
        let (len, behind) =
            rest.split_first_chunk::<4>().ok_or_else(|| invalid("block length cut off"))?;
        let (block, behind) = behind
            .split_at_checked(u32::from_be_bytes(*len) as usize)
            .ok_or_else(|| invalid("block cut off"))?;
        if !snappy_block(block, &mut output, max_output)? {
            return Ok(None);
        }
        rest = behind;
    }
    Ok(Some(Bytes::from(output)))
}

/// Appends one raw block; false when it would pass the bound.
fn snappy_block(block: &[u8], output: &mut Vec<u8>, max_output: usize) -> std::io::Result<bool> {
    if block.is_empty() {
        return Err(invalid("empty block"));
    }
    let len = snap::raw::decompress_len(block)?;
    // The length is only claimed: one that the block cannot yield is not allocated for.
    if len > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(invalid("block shorter than the length it claims"));
    }
    let start = output.len();
    if len > max_output - start.min(max_output) {
        return Ok(false);
    }
    output.resize(start + len, 0);
    let target = output.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, target)?;
    Ok(true)
}

/// Compresses a payload as the Java producer frames it, at the codec's default level.
pub fn compress(codec: Compression, input: &[u8]) -> Bytes {
    const INFALLIBLE: &str = "writing to memory cannot fail";
    match codec {
        Compression::None => Bytes::copy_from_slice(input),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(input).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE).into()
        }
        Compression::Snappy => compress_snappy(input).into(),
        Compression::Lz4 => {
            // Readers know independent blocks only; 64 KiB is Kafka's block size.
            let info = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(input).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE).into()
        }
        Compression::Zstd => zstd::bulk::compress(input, zstd::DEFAULT_COMPRESSION_LEVEL)
            .expect("the output buffer has the size zstd asks for")
            .into(),
    }
}

/// Snappy-java's own block size.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn compress_snappy(input: &[u8]) -> Vec<u8> {
    let mut output = XERIAL_MAGIC.to_vec();
    output.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = snap::raw::Encoder::new()
            .compress_vec(block)
            .expect("32 KiB are below the format's 4 GiB");
        output.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        output.extend_from_slice(&compressed);
    }
    output
}

#[cfg(test)]
mod tests {
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
            assert!(
                matches!(refused, Err(DecompressError::Corrupt { .. })),
                "{codec:?}: {refused:?}"
            );
        }
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
}

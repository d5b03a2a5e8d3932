//! The four codecs of record batches, with a hard bound on what comes out.
//!
//! What a batch's payload decompresses to is known only while it is being decompressed, and a few
//! bytes can become gigabytes. Every codec therefore streams into a buffer that stops growing at
//! the caller's bound.
//!
//! **Invariant:** beyond its output a codec holds only its window: 32 KiB for gzip, up to
//! [`ZSTD_WINDOW_LOG_MAX`] for Zstandard, nothing for Snappy and LZ4.
//! Decompressing takes time: callers on a connection's task hand larger batches to
//! `task::blocking`.

use std::io::{Read, Write};

use bytes::Bytes;

#[cfg(test)]
mod tests;

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

/// What is read at once, at least.
const LEAST_ROOM: usize = 4096;

/// Reads to the end, or `None` above the bound.
fn read_bounded(
    reader: impl Read,
    input_len: usize,
    max_output: usize,
) -> std::io::Result<Option<Bytes>> {
    let mut output = Vec::with_capacity(input_len.saturating_mul(2).min(max_output));
    // One byte more than allowed tells "exactly the bound" from "above it".
    let mut reader = reader.take(max_output as u64 + 1);
    // It doubles up to the bound and not beyond it.
    while reader.limit() > 0 {
        let left = usize::try_from(reader.limit()).unwrap_or(usize::MAX);
        let room = output.capacity().max(LEAST_ROOM).min(left);
        output.reserve_exact(room);
        if reader.by_ref().take(room as u64).read_to_end(&mut output)? < room {
            break;
        }
    }
    Ok((output.len() <= max_output).then(|| Bytes::from(output)))
}

fn invalid(reason: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, reason)
}

/// The magic number of an LZ4 frame, little endian on the wire.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The flag of a block that is stored as it is.
const LZ4_STORED_BIT: u32 = 0x8000_0000;

/// More than one byte of LZ4 can become.
const LZ4_MAX_RATIO: usize = 255;

/// Reads the frame as `Lz4BlockInputStream` does: independent blocks only, an end mark needed,
/// what follows it ignored. The frame's own checksums are passed over, since the batch's checksum
/// covers all of it.
fn lz4(input: &[u8], max_output: usize) -> std::io::Result<Option<Bytes>> {
    let (mut rest, flags) = lz4_header(input)?;
    let block_max = match flags.block_size_id {
        id @ 4..=7 => 1usize << (8 + 2 * id),
        _ => return Err(invalid("unknown block size")),
    };
    let mut output = Vec::new();
    loop {
        let (len, behind) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("no end mark"))?;
        let len = u32::from_le_bytes(*len);
        if len == 0 {
            return Ok(Some(Bytes::from(output)));
        }
        let (block, behind) = behind
            .split_at_checked((len & !LZ4_STORED_BIT) as usize)
            .ok_or_else(|| invalid("block cut off"))?;
        if block.len() > block_max {
            return Err(invalid("block above the frame's block size"));
        }
        let stored = len & LZ4_STORED_BIT != 0;
        if !lz4_block(block, stored, block_max, &mut output, max_output)? {
            return Ok(None);
        }
        let checksum = if flags.block_checksums { 4 } else { 0 };
        rest = behind.get(checksum..).ok_or_else(|| invalid("block checksum cut off"))?;
    }
}

/// What the header of an LZ4 frame says.
struct Lz4Flags {
    block_checksums: bool,
    block_size_id: u8,
}

/// The flags and what follows the header: magic, flags, block size, perhaps the content's size as
/// eight bytes, and the header's checksum of one byte.
fn lz4_header(input: &[u8]) -> std::io::Result<(&[u8], Lz4Flags)> {
    let rest = input.strip_prefix(&LZ4_MAGIC).ok_or_else(|| invalid("no lz4 frame"))?;
    let ([flags, sizes], rest) =
        rest.split_first_chunk::<2>().ok_or_else(|| invalid("header cut off"))?;
    // Version 1, independent blocks, and no dictionary.
    if flags & 0b1110_0011 != 0b0110_0000 {
        return Err(invalid("unsupported frame flags"));
    }
    let content_size = if flags & 0b1000 == 0 { 0 } else { 8 };
    let rest = rest.get(content_size + 1..).ok_or_else(|| invalid("header cut off"))?;
    let block_checksums = flags & 0b1_0000 != 0;
    Ok((rest, Lz4Flags { block_checksums, block_size_id: sizes >> 4 & 7 }))
}

/// Appends one block; false when it would pass the bound.
fn lz4_block(
    block: &[u8],
    stored: bool,
    block_max: usize,
    output: &mut Vec<u8>,
    max_output: usize,
) -> std::io::Result<bool> {
    let start = output.len();
    let allowed = max_output.saturating_sub(start);
    if stored {
        output.extend_from_slice(block);
        return Ok(block.len() <= allowed);
    }
    let possible = block_max.min(block.len().saturating_mul(LZ4_MAX_RATIO));
    output.resize(start + possible.min(allowed), 0);
    let target = output.get_mut(start..).unwrap_or_default();
    match lz4_flex::block::decompress_into(block, target) {
        Ok(len) => {
            output.truncate(start + len);
            Ok(true)
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if allowed < possible => {
            Ok(false)
        }
        Err(error) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
    }
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
    compress_at(codec, None, input)
}

/// Compresses a payload as the Java producer frames it. `level` is of gzip 0 to 9 and of Zstandard
/// any number, which Zstandard puts into its range; `None` is the codec's default, and the other
/// codecs have but one.
pub fn compress_at(codec: Compression, level: Option<i32>, input: &[u8]) -> Bytes {
    const INFALLIBLE: &str = "writing to memory cannot fail";
    match codec {
        Compression::None => Bytes::copy_from_slice(input),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok()).map(|level| level.min(9));
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
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
        Compression::Zstd => {
            let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            zstd::bulk::compress(input, level)
                .expect("the output buffer has the size zstd asks for")
                .into()
        }
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

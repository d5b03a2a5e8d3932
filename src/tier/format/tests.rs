//! The format is frozen, and bytes that are not what was written are refused.

use proptest::prelude::*;

use super::*;
use crate::tier::writer::Sizes;
use crate::tier::writer::tests::{Part, batch, head, partition, plain, read, write};

const SIZES: Sizes = Sizes { chunk: 200, part: 300 };

/// What the frozen pack was written from.
fn pack() -> Vec<Part> {
    let compacted = Part {
        start_offset: 90,
        end_offset: 130,
        batches: vec![batch(95, 2, 1_000, 20), batch(100, 3, 900, 30), batch(120, 1, 2_000, 40)],
        aborted: vec![
            Aborted { producer_id: 1 << 48, first_offset: 80, last_offset: 97 },
            Aborted { producer_id: 7, first_offset: 100, last_offset: 121 },
        ],
        epochs: vec![EpochStart { epoch: 4, offset: 0 }, EpochStart { epoch: 9, offset: 96 }],
        producers: b"producers of a partition".to_vec(),
        ..plain(partition(0xa, 2), 0, 1, 0)
    };
    vec![plain(partition(0xa, 0), 0, 2, 50), compacted, plain(partition(0xb, 0), 7, 1, 10)]
}

fn segment() -> Vec<Part> {
    vec![plain(partition(0xa, 0), 1_000_000, 4, 60)]
}

/// What this release writes must be read by every later one: if this fails, the format has changed
/// and needs a new version.
#[test]
fn the_frozen_samples_are_written_and_read() {
    let samples: [(&[u8], _); 2] =
        [(include_bytes!("frozen/pack"), pack()), (include_bytes!("frozen/segment"), segment())];
    for (frozen, parts) in samples {
        let (bytes, _) = write(&parts, SIZES).unwrap();
        assert!(bytes == frozen, "it is written otherwise");
        assert_eq!(read(frozen).unwrap(), parts);
        assert_eq!(Head::decode(frozen).unwrap(), head());
    }
}

#[test]
fn every_flipped_bit_is_an_error_and_what_is_read_is_what_was_written() {
    let (bytes, finished) = write(&pack(), SIZES).unwrap();
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(read(&damaged).is_err(), "bit {at}");
        for chunk in &finished.footer.chunks {
            let range = chunk.range().start as usize..chunk.range().end as usize;
            let same = damaged[range.clone()] == bytes[range.clone()];
            assert_eq!(chunk.verify(&damaged[range]).is_ok(), same, "bit {at}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let (bytes, finished) = write(&pack(), SIZES).unwrap();
    let size = bytes.len() as u64;
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "{len}");
        assert!(read(&bytes[bytes.len() - len..]).is_err(), "{len}");
        assert!(Trailer::decode(&bytes[..len], size).is_err(), "{len}");
    }
    for chunk in &finished.footer.chunks {
        let range = chunk.range().start as usize..chunk.range().end as usize;
        let chunk_bytes = &bytes[range];
        assert!((0..chunk_bytes.len()).all(|len| chunk.verify(&chunk_bytes[..len]).is_err()));
    }
    assert!(Head::decode(&bytes[..HEAD_BYTES - 1]).is_err());
}

/// The object with bytes of one part changed under a checksum that fits.
fn forged(bytes: &[u8], magic: [u8; 4], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let trailer = bytes.len() - TRAILER_BYTES;
    let footer = Trailer::decode(&bytes, bytes.len() as u64).unwrap().footer_position as usize;
    let part = match &magic {
        b"TGTO" => 0..HEAD_BYTES,
        b"TGTF" => footer..trailer,
        _ => trailer..bytes.len(),
    };
    let part = &mut bytes[part];
    assert!(part.starts_with(&magic));
    change(part);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&part[..8]), &part[12..]);
    part[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_newer_version_and_required_flags_are_refused_in_words_and_the_rest_is_not() {
    let (bytes, _) = write(&pack(), SIZES).unwrap();
    for magic in [*b"TGTO", *b"TGTF", *b"TGTT"] {
        let with = |at: usize, value: u8| read(&forged(&bytes, magic, |part| part[at] = value));
        let newer = with(4, 2).unwrap_err().to_string();
        assert!(newer.contains("use a newer release"), "{newer}");
        let flagged = with(6, 0x80).unwrap_err().to_string();
        assert!(flagged.contains("requires features 0x80"), "{flagged}");
        with(0, b'x').unwrap_err();
        assert_eq!(with(5, 9).unwrap(), pack(), "a greater minor version");
        assert_eq!(with(7, 0xff).unwrap(), pack(), "optional flags");
    }
}

/// Where the rows of the sample pack's footer begin.
const CHUNKS: usize = FOOTER_START_BYTES + 3 * SECTION_BYTES;

#[test]
fn a_footer_that_contradicts_itself_is_refused() {
    let (bytes, finished) = write(&pack(), SIZES).unwrap();
    let aborted = CHUNKS + finished.footer.chunks.len() * CHUNK_ROW_BYTES;
    let epochs = aborted + 2 * ABORTED_BYTES;
    let refused = |what: &str, at: usize, field: &[u8]| {
        let change = |part: &mut [u8]| part[at..at + field.len()].copy_from_slice(field);
        let error = read(&forged(&bytes, *b"TGTF", change)).unwrap_err();
        assert!(matches!(error, TierFormatError::Layout { .. }), "{what}: {error}");
    };
    refused("origin", 60, &[0]);
    for count in [64, 68, 72, 76] {
        refused("a count of none", count, &[0; 4]);
        refused("a count of many", count, &[0xff; 4]);
    }
    let section = FOOTER_START_BYTES;
    refused("the order of sections", section, &[0xff; 16]);
    refused("a negative partition", section + 16, &[0xff; 4]);
    refused("a negative offset", section + 20, &[0xff; 8]);
    refused("another start", section + 20, &1_i64.to_be_bytes());
    refused("an end at the start", section + 28, &0_i64.to_be_bytes());
    for count in [36, 40, 44] {
        refused("a section's count", section + count, &[0xff; 4]);
        refused("a section's count", section + count, &9_u32.to_be_bytes());
    }
    refused("no chunk", section + 36, &0_u32.to_be_bytes());
    refused("the place of a snapshot", section + 48, &[0; 8]);
    refused("the length of a snapshot", section + 56, &[0xff; 4]);
    refused("the place of a chunk", CHUNKS, &0_u64.to_be_bytes());
    refused("the place of a chunk", CHUNKS, &[0xff; 8]);
    refused("the length of a chunk", CHUNKS + 8, &[0xff; 4]);
    refused("an empty chunk", CHUNKS + 8, &0_u32.to_be_bytes());
    refused("a chunk's offset", CHUNKS + CHUNK_ROW_BYTES + 16, &0_i64.to_be_bytes());
    refused("a chunk's offset", CHUNKS + CHUNK_ROW_BYTES + 16, &i64::MAX.to_be_bytes());
    refused("an aborted transaction", aborted + 8, &i64::MAX.to_be_bytes());
    refused("the order of aborted transactions", aborted + 16, &i64::MAX.to_be_bytes());
    refused("the order of epochs", epochs + 2 * EPOCH_BYTES, &[0; 4]);
}

#[test]
fn a_trailer_that_contradicts_the_object_is_refused() {
    let (bytes, _) = write(&segment(), SIZES).unwrap();
    for (at, field) in [
        (12, vec![0xff; 8]),
        (12, vec![0; 8]),
        (20, vec![0xff; 4]),
        (20, vec![0; 4]),
        (24, vec![0xff; 8]),
        (24, vec![0; 8]),
    ] {
        let change = |part: &mut [u8]| part[at..at + field.len()].copy_from_slice(&field);
        let damaged = forged(&bytes, *b"TGTT", change);
        let error = Trailer::decode(&damaged, damaged.len() as u64).unwrap_err();
        assert!(matches!(error, TierFormatError::Layout { .. }), "{at}: {error}");
    }
    // The object is longer than whoever refers to it knows.
    let error = Trailer::decode(&bytes, bytes.len() as u64 - 1).unwrap_err();
    assert!(matches!(error, TierFormatError::Layout { .. }), "{error}");
}

proptest! {
    #[test]
    fn a_forged_footer_is_taken_or_refused_without_a_panic(
        edits in proptest::collection::vec((12..1_000_usize, any::<u8>()), 1..6),
        position in prop_oneof![Just(64), any::<u64>()],
    ) {
        let (bytes, _) = write(&pack(), SIZES).unwrap();
        let forged = forged(&bytes, *b"TGTF", |part| {
            for (at, value) in &edits {
                let at = 12 + at % (part.len() - 12);
                part[at] = *value;
            }
        });
        let start = Trailer::decode(&bytes, bytes.len() as u64).unwrap().footer_position;
        let footer = &forged[start as usize..bytes.len() - TRAILER_BYTES];
        let _ = Footer::decode(footer, position);
        if let Ok(footer) = Footer::decode(footer, start) {
            for section in footer.sections() {
                assert!(!footer.chunks_of(section).is_empty());
                let number = footer.chunk_at(section, section.start_offset);
                assert_eq!(number, Some(section.chunks.start));
                let _ = (footer.aborted_of(section), footer.epochs_of(section));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        size in any::<u64>(),
    ) {
        let footer = [b"TGTF\x01\0\0\0".as_slice(), &bytes].concat();
        let trailer = [b"TGTT\x01\0\0\0".as_slice(), &bytes].concat();
        let head = [b"TGTO\x01\0\0\0".as_slice(), &bytes].concat();
        prop_assert!(Footer::decode(&footer, size).is_err());
        prop_assert!(Trailer::decode(&trailer, size).is_err());
        prop_assert!(Head::decode(&head).is_err());
    }
}

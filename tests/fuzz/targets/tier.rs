//! Any bytes as tiered objects, objects that were written and then damaged, and batches to write.
//!
//! Held here: nothing panics; memory is bounded by the bytes; what is written is read as it was;
//! and a chunk that is served is one that was written, byte for byte, unless the checksums were
//! forged together with the bytes.
//!
//! Input: what to start from, then edits of four bytes; or partitions and batches; or whole parts.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use tidegate::protocol::batch::BatchBuilder;
use tidegate::protocol::types::{TopicId, TopicPartition};
use tidegate::tier::format::{HEAD_BYTES, TRAILER_BYTES, Trailer};
use tidegate::tier::reader::since_offset;
use tidegate::tier::{
    Aborted, EpochStart, Footer, Head, ObjectId, Origin, SectionEnd, Sizes, TierFormatError, Writer,
};

use super::chance::Chance;
use super::within;

/// Rows are about as large in memory as they are in the footer; errors have words.
const STATE: usize = 4 << 10;
const FACTOR: usize = 3;

/// An object as it was written.
struct Sample {
    bytes: Vec<u8>,
    footer: Footer,
}

fn batch(base_offset: i64, count: u8, timestamp: i64, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for at in 0..=count {
        builder.append(timestamp + i64::from(at), None, Some(value), &[]);
    }
    let mut batch = builder.build().to_vec();
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch.into()
}

/// Writes an object out of decisions; the batches of each section beside it.
fn written(chance: &mut Chance<'_>) -> (Sample, Vec<Vec<Bytes>>) {
    let id = ObjectId { incarnation: [7; 16], sequence: chance.i64() as u64 };
    let created_ms = chance.i64();
    let head = Head { cluster: [1; 16], id, created_ms, origin: Origin::Merged };
    let sizes = Sizes { chunk: usize::from(chance.u16()) % 2_000, part: usize::from(chance.u16()) };
    let mut writer = Writer::new(head, sizes);
    let (mut bytes, mut sections) = (Vec::new(), Vec::new());
    for partition in 0..=i32::from(chance.u8() % 4) {
        let topic = TopicId(uuid::Uuid::from_u128(u128::from(partition as u32 / 2)));
        let start = i64::from(chance.u16());
        let of = TopicPartition { topic, partition };
        writer.begin(of, start).expect("sections are in order");
        let (mut next, mut batches) = (start, Vec::new());
        for _ in 0..=chance.u8() % 8 {
            next += i64::from(chance.u8() % 4);
            let (count, timestamp) = (chance.u8() % 4, i64::from(chance.u16()));
            let value = usize::from(chance.u8());
            batches.push(batch(next, count, timestamp, chance.bytes(value)));
            writer.push(&batches[batches.len() - 1]).expect("a batch that follows on");
            while let Some(part) = writer.next_part() {
                bytes.extend_from_slice(&part);
            }
            next += i64::from(count) + 1;
        }
        let length = usize::from(chance.u8());
        let aborted = Aborted { producer_id: 1, first_offset: start - 1, last_offset: next };
        let end = SectionEnd {
            end_offset: next,
            aborted: &vec![aborted; length % 3],
            epochs: &[EpochStart { epoch: 1, offset: start }],
            producers: chance.bytes(length),
        };
        writer.end(&end).expect("a section with batches");
        sections.push(batches);
    }
    let finished = writer.finish().expect("an object with sections");
    finished.parts.iter().for_each(|part| bytes.extend_from_slice(part));
    assert_eq!(bytes.len() as u64, finished.bytes);
    (Sample { bytes, footer: finished.footer }, sections)
}

fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let decisions: Vec<u8> = (0..600_u32).map(|at| ((at * 31) >> 2) as u8).collect();
        [0, 7, 200].map(|from| written(&mut Chance::new(&decisions[from..])).0).into()
    })
}

fn place(bytes: &[u8], range: &Range<u64>) -> Bytes {
    let found = bytes.get(range.start as usize..range.end as usize);
    Bytes::copy_from_slice(found.expect("a footer that was checked stays within its object"))
}

/// The footer of an object whose every part is one.
fn open(bytes: &[u8]) -> Result<Footer, TierFormatError> {
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let footer = trailer.footer_position as usize..bytes.len() - TRAILER_BYTES;
    Footer::decode(&bytes[footer], trailer.footer_position)
}

/// Reads all of an object; what is served must be what `sample` has, unless there is none.
fn read(bytes: &[u8], sample: Option<&Sample>) -> bool {
    let _ = Head::decode(&bytes[..bytes.len().min(HEAD_BYTES)]);
    let cap = STATE + FACTOR * bytes.len();
    let Ok(footer) = within(cap, || open(bytes)) else { return false };
    let mut whole = true;
    for section in footer.sections() {
        let number = footer.chunk_at(section, section.start_offset);
        assert_eq!(number, Some(section.chunks.start));
        for chunk in footer.chunks_of(section) {
            let found = place(bytes, &chunk.range());
            if chunk.verify(&found).is_err() {
                whole = false;
                continue;
            }
            if let Some(sample) = sample {
                assert!(place(&sample.bytes, &chunk.range()) == found, "it is another's");
            }
            let rest = since_offset(&found, chunk.first_offset + 1);
            assert!(rest.len() <= found.len());
        }
        let _ = section.snapshot.verify(&place(bytes, &section.snapshot.range()));
        let _ = footer.chunk_since(section, footer.max_timestamp(section), section.start_offset);
        let _ = footer.chunk_greatest(section, section.end_offset - 1);
    }
    whole
}

/// One change to an object.
fn edit(bytes: &mut Vec<u8>, chance: &mut Chance<'_>) {
    let (kind, at, value) = (chance.below(4), usize::from(chance.u16()), chance.u8());
    // Most changes to the end, where the footer is.
    let at = if kind == 0 { at } else { bytes.len().saturating_sub(at % 700 + 1) };
    match (kind, bytes.get_mut(at)) {
        (0 | 1, Some(byte)) => *byte ^= value.max(1),
        (2, Some(byte)) => *byte = value,
        (3, Some(_)) if value == 0 => bytes.truncate(at),
        (3, Some(byte)) => *byte = byte.wrapping_add(value),
        _ => {}
    }
}

/// Gives a part the checksum that fits what it says now.
fn seal(part: &mut [u8]) {
    if part.len() >= 12 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&part[..8]), &part[12..]);
        part[8..12].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Gives head, footer and trailer the checksums that fit what they say now.
fn forge(bytes: &mut [u8]) {
    let end = bytes.len().saturating_sub(TRAILER_BYTES);
    let footer = bytes[..end].windows(4).rposition(|magic| magic == b"TGTF").unwrap_or(end);
    for range in [0..HEAD_BYTES.min(footer), footer..end, end..bytes.len()] {
        seal(&mut bytes[range]);
    }
}

fn damaged(chance: &mut Chance<'_>) {
    let choices = chance.u8();
    let sample = &samples()[usize::from(choices >> 1) % samples().len()];
    let mut bytes = sample.bytes.clone();
    while !chance.is_empty() {
        edit(&mut bytes, chance);
    }
    let forged = choices & 1 == 1;
    if forged {
        forge(&mut bytes);
    }
    let whole = read(&bytes, (!forged).then_some(sample));
    assert!(forged || bytes != sample.bytes || whole);
}

fn arbitrary(chance: &mut Chance<'_>) {
    let mut bytes = b"TGTF\x01\0\0\0".to_vec();
    let position = chance.i64() as u64;
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(chance.rest());
    seal(&mut bytes);
    let cap = STATE + FACTOR * bytes.len();
    let _ = within(cap, || Footer::decode(&bytes, position));
    read(&bytes, None);
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    match chance.below(4) {
        0 => arbitrary(&mut chance),
        1 => {
            let (sample, sections) = written(&mut chance);
            assert!(read(&sample.bytes, Some(&sample)));
            for (section, batches) in sample.footer.sections().iter().zip(sections) {
                let chunks = sample.footer.chunks_of(section).iter();
                let found: Vec<u8> =
                    chunks.flat_map(|chunk| place(&sample.bytes, &chunk.range())).collect();
                assert_eq!(found, batches.concat());
            }
        }
        _ => damaged(&mut chance),
    }
}

//! What is written is read again, and the writer takes nothing else than a partition's log.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::protocol::batch::{BatchBuilder, BatchIter};
use crate::protocol::types::TopicId;
use crate::tier::format::{HEAD_BYTES, Origin};
use crate::tier::name::ObjectId;
use crate::tier::reader::since_offset;

/// A partition's part of an object, before it is written or after it was read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::tier) struct Part {
    pub(in crate::tier) of: TopicPartition,
    pub(in crate::tier) start_offset: i64,
    pub(in crate::tier) end_offset: i64,
    pub(in crate::tier) batches: Vec<Bytes>,
    pub(in crate::tier) aborted: Vec<Aborted>,
    pub(in crate::tier) epochs: Vec<EpochStart>,
    pub(in crate::tier) producers: Vec<u8>,
}

pub(in crate::tier) fn partition(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(Uuid::from_u128(topic)), partition }
}

pub(in crate::tier) fn head() -> Head {
    let id = ObjectId { incarnation: [0x1f; 16], sequence: 3 };
    Head { cluster: [0xc1; 16], id, created_ms: 1_700_000_000_000, origin: Origin::Flushed }
}

/// A batch of `count` records of `bytes` each from `base_offset` on, a millisecond apart.
pub(in crate::tier) fn batch(base_offset: i64, count: i64, timestamp: i64, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for at in 0..count {
        builder.append(timestamp + at, None, Some(&vec![b'x'; bytes]), &[]);
    }
    let mut batch = builder.build().to_vec();
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch.into()
}

/// A part of `count` batches of three records each, from `start` on, at `start` milliseconds.
pub(in crate::tier) fn plain(of: TopicPartition, start: i64, count: i64, bytes: usize) -> Part {
    let offsets = (0..count).map(|at| start + 3 * at);
    Part {
        of,
        start_offset: start,
        end_offset: start + 3 * count,
        batches: offsets.map(|offset| batch(offset, 3, offset, bytes)).collect(),
        aborted: Vec::new(),
        epochs: vec![EpochStart { epoch: 1, offset: start }],
        producers: Vec::new(),
    }
}

pub(in crate::tier) fn write(
    parts: &[Part],
    sizes: Sizes,
) -> Result<(Vec<u8>, Finished), WriteError> {
    write_as(head(), parts, sizes)
}

pub(in crate::tier) fn write_as(
    head: Head,
    parts: &[Part],
    sizes: Sizes,
) -> Result<(Vec<u8>, Finished), WriteError> {
    let mut writer = Writer::new(head, sizes);
    let mut bytes = Vec::new();
    for part in parts {
        writer.begin(part.of, part.start_offset)?;
        for batch in &part.batches {
            writer.push(batch)?;
            while let Some(part) = writer.next_part() {
                assert_eq!(part.len(), sizes.part);
                bytes.extend_from_slice(&part);
            }
        }
        writer.end(&SectionEnd {
            end_offset: part.end_offset,
            aborted: &part.aborted,
            epochs: &part.epochs,
            producers: &part.producers,
        })?;
    }
    let finished = writer.finish()?;
    for (part, left) in finished.parts.iter().zip((1..=finished.parts.len()).rev()) {
        assert!(part.len() == sizes.part || left == 1 && part.len() < sizes.part);
        bytes.extend_from_slice(part);
    }
    assert_eq!(bytes.len() as u64, finished.bytes);
    assert!(bytes.ends_with(&finished.end));
    Ok((bytes, finished))
}

/// Everything that an object holds, or why nothing of it is to be trusted.
pub(in crate::tier) fn read(bytes: &[u8]) -> Result<Vec<Part>, TierFormatError> {
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let end = trailer.footer_position as usize + trailer.footer_bytes as usize;
    let footer = &bytes[trailer.footer_position as usize..end];
    let footer = Footer::decode(footer, trailer.footer_position)?;
    assert_eq!(Head::decode(&bytes[..HEAD_BYTES])?, *footer.head());
    footer.sections().iter().map(|section| read_section(bytes, &footer, section)).collect()
}

fn read_section(bytes: &[u8], footer: &Footer, section: &Section) -> Result<Part, TierFormatError> {
    let place = |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
    let mut batches = Vec::new();
    for chunk in footer.chunks_of(section) {
        let bytes = place(chunk.range());
        chunk.verify(bytes)?;
        let walk = BatchIter::new(Bytes::copy_from_slice(bytes));
        batches.extend(walk.map(|batch| batch.unwrap().bytes().clone()));
    }
    let producers = place(section.snapshot.range());
    section.snapshot.verify(producers)?;
    Ok(Part {
        of: section.of,
        start_offset: section.start_offset,
        end_offset: section.end_offset,
        batches,
        aborted: footer.aborted_of(section).to_vec(),
        epochs: footer.epochs_of(section).to_vec(),
        producers: producers.to_vec(),
    })
}

prop_compose! {
    fn any_part()(
        start in 0..1_000_i64,
        // What compaction left out before the batch, its records, its time, its size.
        batches in proptest::collection::vec((0..5_i64, 1..4_i64, 0..50_i64, 0..200_usize), 1..12),
        cut in 0..5_i64,
        aborted in proptest::collection::vec((0..9_i64, 0..500_i64, 0..9_i64), 0..4),
        epochs in proptest::collection::vec((1..3_i32, 1..100_i64), 0..4),
        producers in proptest::collection::vec(any::<u8>(), 0..60),
    ) -> Part {
        let mut next = start;
        let mut made = Vec::new();
        for (gap, count, timestamp, bytes) in batches {
            made.push(batch(next + gap, count, timestamp, bytes));
            next += gap + count;
        }
        let mut aborted: Vec<_> = aborted.into_iter().map(|(producer_id, first_offset, length)| {
            Aborted { producer_id, first_offset, last_offset: first_offset + length }
        }).collect();
        aborted.sort_by_key(|aborted| aborted.last_offset);
        let mut rising = EpochStart { epoch: 0, offset: 0 };
        let epochs = epochs.into_iter().map(|(epoch, offset)| {
            rising = EpochStart { epoch: rising.epoch + epoch, offset: rising.offset + offset };
            rising
        }).collect();
        let (of, end_offset) = (partition(0, 0), next + cut);
        Part { of, start_offset: start, end_offset, batches: made, aborted, epochs, producers }
    }
}

prop_compose! {
    fn any_object()(
        mut parts in proptest::collection::vec(any_part(), 1..6),
        partitions in 1..4_i32,
    ) -> Vec<Part> {
        for (part, at) in parts.iter_mut().zip(0..) {
            part.of = partition((at / partitions) as u128, at % partitions);
        }
        parts
    }
}

/// Where a reader finds things in a section, held against its batches.
fn look_up(bytes: &[u8], footer: &Footer, part: &Part) {
    let section = footer.section(part.of).unwrap();
    let header = |batch: &Bytes| BatchHeader::parse(batch).unwrap();
    for offset in part.start_offset - 1..=part.end_offset {
        let Some(number) = footer.chunk_at(section, offset) else {
            assert!(offset < part.start_offset || offset >= part.end_offset);
            continue;
        };
        let chunk = footer.chunk(number).unwrap();
        let range = chunk.range();
        let chunk = Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]);
        let expected = part.batches.iter().find(|batch| header(batch).last_offset() >= offset);
        let found = BatchIter::new(since_offset(&chunk, offset)).next();
        assert_eq!(found.map(|batch| batch.unwrap().bytes().clone()).as_ref(), expected);
    }
    for timestamp in -1..60 {
        let expected = part.batches.iter().find(|batch| header(batch).max_timestamp >= timestamp);
        let number = footer.chunk_since(section, timestamp, 0);
        assert_eq!(number.is_some(), expected.is_some());
        let (Some(number), Some(expected)) = (number, expected) else { continue };
        assert_eq!(footer.chunk_at(section, header(expected).base_offset), Some(number));
    }
    let timestamps = part.batches.iter().map(|batch| header(batch).max_timestamp);
    assert_eq!(Some(footer.max_timestamp(section)), timestamps.max());
    let total: usize = part.batches.iter().map(Bytes::len).sum();
    assert_eq!(footer.section_bytes(section), total as u64);
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_found_in_parts_and_chunks_of_any_size(
        parts in any_object(),
        chunk in 1..1_500_usize,
        part in 1..2_000_usize,
    ) {
        let (bytes, finished) = write(&parts, Sizes { chunk, part }).unwrap();
        prop_assert_eq!(&read(&bytes).unwrap(), &parts);
        let largest = parts.iter().flat_map(|part| &part.batches).map(Bytes::len).max().unwrap();
        let footer = finished.footer;
        prop_assert!(footer.chunks.iter().all(|it| it.bytes as usize <= chunk.max(largest)));
        for part in &parts {
            look_up(&bytes, &footer, part);
        }
        let more = footer.section(partition(99, 0));
        prop_assert_eq!(more, None);
    }
}

const ANY: Sizes = Sizes { chunk: 1 << 10, part: 1 << 10 };

#[test]
fn the_writer_holds_a_part_and_a_batch_however_long_the_object() {
    let sizes = Sizes { chunk: 4 << 10, part: 16 << 10 };
    let mut writer = Writer::new(head(), sizes);
    writer.begin(partition(1, 0), 0).unwrap();
    let mut taken = 0;
    for offset in 0..5_000 {
        writer.push(&batch(offset, 1, 0, 1_000)).unwrap();
        while let Some(part) = writer.next_part() {
            taken += part.len() as u64;
        }
        assert!(writer.buffer.len() < sizes.part);
        assert!(writer.buffer.capacity() <= 4 * sizes.part, "{}", writer.buffer.capacity());
    }
    assert_eq!(writer.bytes(), taken + writer.buffer.len() as u64);
    let end = SectionEnd { end_offset: 5_000, ..SectionEnd::default() };
    writer.end(&end).unwrap();
    let footer_bytes = writer.footer_bytes();
    let finished = writer.finish().unwrap();
    assert_eq!(finished.end.len(), footer_bytes + TRAILER_BYTES);
    assert!(finished.bytes > 5_000_000);
}

#[test]
fn the_memory_of_parts_that_have_arrived_is_taken_again() {
    let sizes = Sizes { chunk: 4 << 10, part: 64 << 10 };
    let mut writer = Writer::new(head(), sizes);
    writer.begin(partition(1, 0), 0).unwrap();
    let (mut on_its_way, mut taken, mut places) = (None, Vec::new(), BTreeSet::new());
    for offset in 0..2_000 {
        writer.push(&batch(offset, 1, 0, 1_000)).unwrap();
        if let Some(part) = writer.next_part() {
            places.insert(part.as_ptr().addr());
            // What was freed is given to others before the writer needs memory.
            drop(on_its_way.replace(part));
            taken.push(Vec::<u8>::with_capacity(sizes.part + sizes.chunk));
        }
    }
    assert!(taken.len() > 30, "{}", taken.len());
    assert!(places.len() <= 4, "{} parts in {} places", taken.len(), places.len());
}

#[test]
fn a_batch_that_is_damaged_cut_or_not_alone_is_refused() {
    let whole = batch(0, 1, 0, 10);
    let push = |batch: &[u8]| {
        let mut writer = Writer::new(head(), ANY);
        writer.begin(partition(1, 0), 0).unwrap();
        writer.push(batch)
    };
    push(&whole).unwrap();
    for at in [17, 21, 40, 61, whole.len() - 1] {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1;
        let error = push(&damaged).unwrap_err();
        assert!(matches!(error, WriteError::Batch { .. }), "{error}");
    }
    for bytes in [&[], &whole[..60], &whole[..whole.len() - 1], &[&whole[..], b"x"].concat()] {
        assert!(matches!(push(bytes), Err(WriteError::Batch { .. })));
    }
}

#[test]
fn offsets_that_go_back_or_beyond_the_end_are_refused() {
    let of = partition(1, 0);
    let offsets = |part: &Part| {
        let error = write(std::slice::from_ref(part), ANY).unwrap_err();
        assert!(matches!(error, WriteError::Offsets { .. }), "{error}");
    };
    let mut part = plain(of, 10, 3, 5);
    part.batches.swap(1, 2);
    offsets(&part);
    let mut part = plain(of, 10, 3, 5);
    part.start_offset = 11;
    offsets(&part);
    let mut part = plain(of, 10, 3, 5);
    part.end_offset -= 1;
    offsets(&part);
    // A delta that goes back, below a checksum that fits.
    let mut back = batch(10, 1, 0, 5).to_vec();
    back[23..27].copy_from_slice(&(-1_i32).to_be_bytes());
    let crc = crc32c::crc32c(&back[21..]);
    back[17..21].copy_from_slice(&crc.to_be_bytes());
    offsets(&Part { batches: vec![back.into()], ..plain(of, 10, 1, 5) });
    let last = batch(i64::MAX, 1, 0, 5);
    offsets(&Part { batches: vec![last], end_offset: i64::MAX, ..plain(of, 10, 1, 5) });
}

#[test]
fn sections_are_in_order_and_have_batches_and_so_do_their_rows() {
    let layout = |parts: &[Part]| {
        let error = write(parts, ANY).unwrap_err();
        assert!(matches!(error, WriteError::Layout(_)), "{error}");
    };
    let of = partition(1, 1);
    layout(&[]);
    layout(&[Part { batches: Vec::new(), ..plain(of, 0, 1, 5) }]);
    layout(&[plain(of, 0, 1, 5), plain(of, 3, 1, 5)]);
    layout(&[plain(of, 0, 1, 5), plain(partition(1, 0), 0, 1, 5)]);
    layout(&[plain(partition(1, -1), 0, 1, 5)]);
    layout(&[Part { start_offset: -1, ..plain(of, 0, 1, 5) }]);
    let aborted = |first_offset, last_offset| Aborted { producer_id: 1, first_offset, last_offset };
    layout(&[Part { aborted: vec![aborted(2, 1)], ..plain(of, 0, 1, 5) }]);
    layout(&[Part { aborted: vec![aborted(0, 2), aborted(0, 1)], ..plain(of, 0, 1, 5) }]);
    let epoch = |epoch, offset| EpochStart { epoch, offset };
    layout(&[Part { epochs: vec![epoch(2, 0), epoch(2, 1)], ..plain(of, 0, 1, 5) }]);
    layout(&[Part { epochs: vec![epoch(2, 1), epoch(3, 1)], ..plain(of, 0, 1, 5) }]);
}

#[test]
fn a_footer_that_no_reader_takes_is_not_written() {
    let aborted = Aborted { producer_id: 1, first_offset: 0, last_offset: 0 };
    let rows = FOOTER_BYTES_MAX / 24;
    let error =
        write(&[Part { aborted: vec![aborted; rows], ..plain(partition(1, 0), 0, 1, 5) }], ANY);
    assert!(matches!(error, Err(WriteError::FooterTooLong { .. })));
    let fits = vec![aborted; rows - 10];
    let (bytes, _) =
        write(&[Part { aborted: fits, ..plain(partition(1, 0), 0, 1, 5) }], ANY).unwrap();
    assert_eq!(read(&bytes).unwrap()[0].aborted.len(), rows - 10);
}

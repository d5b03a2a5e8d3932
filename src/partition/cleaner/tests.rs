//! Cleaning against a naive model, against Kafka's own bytes, and of what cannot be read.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::clock::Random;
use crate::protocol::batch::{
    BatchBuilder, BatchHeader, BatchIter, HEADER_BYTES, ProducerRef, TimestampType, empty_batch,
    patch_in_place, set_max_timestamp,
};
use crate::protocol::compression::Compression;
use crate::protocol::record::Header;

mod dirt;
mod golden;

/// No payload of these tests is larger.
const PAYLOAD_MAX: usize = 1 << 20;

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A key, a value, and a timestamp.
type Plain = (Option<u8>, Option<u8>, i64);

/// A batch to be: its records, codec, producer (0 for none), whether it has log append time, and
/// how many offsets are missing behind it.
type Made = (Vec<Plain>, Compression, i64, bool, i64);

fn parse(bytes: &Bytes) -> Batch {
    Batch::parse_one(bytes.clone()).unwrap()
}

fn at(batch: Bytes, base_offset: i64) -> Bytes {
    let mut batch = BytesMut::from(batch);
    patch_in_place(&mut batch, base_offset, 9);
    batch.freeze()
}

/// A batch of records without headers or producer.
fn batch(base_offset: i64, codec: Compression, records: &[Plain]) -> Bytes {
    log(&[(records.to_vec(), codec, 0, false, 0)], base_offset).remove(0)
}

fn log(made: &[Made], mut offset: i64) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut sequences = HashMap::new();
    for (records, codec, producer, stamped, gap) in made {
        let mut builder = BatchBuilder::new();
        if *producer > 0 {
            let sequence = sequences.entry(*producer).or_insert(0);
            builder =
                builder.producer(ProducerRef { id: *producer, epoch: 0, sequence: *sequence });
            *sequence += records.len() as i32;
        }
        for (key, value, timestamp) in records {
            let header = Header { key: b"h", value: value.as_ref().map(std::slice::from_ref) };
            let key = key.map(|key| vec![key; 1 + usize::from(key % 3)]);
            let value = value.map(|value| vec![value; usize::from(value)]);
            builder.append(*timestamp, key.as_deref(), value.as_deref(), &[header, header]);
        }
        let mut bytes = BytesMut::from(at(builder.build_compressed(*codec), offset));
        if *stamped {
            set_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 5_000 + offset);
        }
        batches.push(bytes.freeze());
        offset += records.len() as i64 + gap;
    }
    batches
}

fn seen(batches: &[Bytes]) -> Vec<Seen> {
    let mut all = Vec::new();
    for batch in batches.iter().map(parse) {
        batch.verify_crc().unwrap();
        let payload = batch.payload(PAYLOAD_MAX).unwrap();
        for record in batch.records(&payload).map(Result::unwrap) {
            let headers = record.headers.clone();
            all.push(Seen {
                offset: batch.header().offset_of(&record),
                timestamp: batch.header().timestamp_of(&record),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
            });
        }
    }
    all
}

fn end_of(batches: &[Bytes]) -> i64 {
    batches.last().map_or(0, |last| parse(last).header().next_offset())
}

fn retention(now_ms: i64) -> Retention {
    Retention { now_ms, delete_retention_ms: 100, producers: HashMap::new() }
}

/// A map for so many keys.
fn map(keys: usize) -> KeyMap {
    KeyMap::new(KeyMap::bytes_for(keys as u64) as usize, &Random::seeded(5))
}

/// One pass: what is left, and the pass.
fn pass(
    batches: &[Bytes],
    map: KeyMap,
    dirty: std::ops::Range<i64>,
    retention: Retention,
) -> (Vec<Bytes>, Pass) {
    let mut scan = KeyScan::new(map, dirty.start, dirty.end, PAYLOAD_MAX);
    let _ = batches.iter().all(|bytes| scan.push(&parse(bytes)));
    let mut pass = scan.finish(retention);
    let whole = Bytes::from(batches.concat());
    let kept = pass.batches(whole).map(Result::unwrap).collect();
    (kept, pass)
}

/// Passes until `dirty` is clean.
fn clean(
    mut batches: Vec<Bytes>,
    keys: usize,
    mut dirty: std::ops::Range<i64>,
    retention: &Retention,
) -> Vec<Bytes> {
    let mut empty = map(keys);
    let capacity = empty.capacity();
    while dirty.start < dirty.end {
        let (kept, done) = pass(&batches, empty, dirty.clone(), retention.clone());
        assert!(done.end() > dirty.start && done.end() <= dirty.end, "{dirty:?} {}", done.end());
        assert!(done.keys() <= capacity);
        (batches, dirty.start) = (kept, done.end());
        empty = done.into_map();
    }
    batches
}

/// What must be left of records where those below `end` are clean.
fn model(records: &[Seen], end: i64, tombstones: bool) -> Vec<Seen> {
    let mut last = HashMap::new();
    for record in records.iter().filter(|record| record.offset < end) {
        last.insert(record.key.clone(), record.offset);
    }
    let stays = |record: &&Seen| {
        let is_last = record.key.is_some() && last.get(&record.key) == Some(&record.offset);
        record.offset >= end || (is_last && (tombstones || record.value.is_some()))
    };
    records.iter().filter(stays).cloned().collect()
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let key = prop::option::weighted(0.9, 0..12u8);
    let record = (key, prop::option::weighted(0.7, 0..9u8), -1..4_000i64);
    let records = prop::collection::vec(record, 1..8);
    let codec = prop::sample::select(&Compression::ALL[..]);
    let batch = (records, codec, 0..3i64, prop::bool::weighted(0.2), 0..3i64);
    prop::collection::vec(batch, 1..12)
}

/// The last offset of each producer, as a partition knows it.
fn producers(batches: &[Bytes]) -> HashMap<i64, LastRecord> {
    let headers = batches.iter().map(|bytes| *parse(bytes).header());
    let named = headers.filter(BatchHeader::has_producer_id);
    let last = |header: BatchHeader| {
        let last = LastRecord { data_offset: Some(header.last_offset()), epoch: 0 };
        (header.producer_id, last)
    };
    named.map(last).collect()
}

/// The offsets, the producer and the sequence of each batch.
fn places(batches: &[Bytes]) -> HashSet<(i64, i64, i32, i64, i32)> {
    let place = |header: &BatchHeader| {
        let (base, last) = (header.base_offset, header.last_offset());
        let epoch = header.partition_leader_epoch;
        (base, last, epoch, header.producer_id, header.base_sequence)
    };
    batches.iter().map(|bytes| place(parse(bytes).header())).collect()
}

proptest! {
    #[test]
    fn the_last_record_of_each_key_stays(
        made in made(),
        start in 0..3i64,
        keys in 1..14usize,
        unclean in 0..3usize,
    ) {
        let before = log(&made, start);
        let end = end_of(&before[..before.len() - unclean.min(before.len())]).max(start);
        let mut rules = retention(10_000);
        rules.producers = producers(&before);
        let after = clean(before.clone(), keys, start..end, &rules);
        prop_assert_eq!(seen(&after), model(&seen(&before), end, true));

        // Batches stay where they are, and the last one of each producer stays for its sequence.
        prop_assert!(places(&after).is_subset(&places(&before)));
        let left = producers(&after);
        for (id, last) in producers(&before) {
            prop_assert_eq!(left.get(&id), Some(&last));
        }
        if end > start {
            prop_assert!(after.iter().any(|bytes| parse(bytes).header().next_offset() == end));
        }
        for batch in after.iter().map(parse) {
            let horizon = batch.header().delete_horizon();
            let is_clean = batch.header().next_offset() <= end;
            let tombstone = seen(&[batch.bytes().clone()]).iter().any(|one| one.value.is_none());
            // A later pass may have dropped the tombstone that an earlier one set it for.
            prop_assert!(horizon == Some(10_100) || horizon.is_none() && !(is_clean && tombstone));
            prop_assert!(horizon.is_none() || is_clean);
        }

        // Again, in one pass over everything: nothing changes by a byte.
        let again = clean(after.clone(), 100, start..end, &rules);
        prop_assert_eq!(&again, &after);

        // Just before the horizon, and at it.
        rules.now_ms = 10_099;
        prop_assert_eq!(&clean(after.clone(), keys, start..end, &rules), &after);
        rules.now_ms = 10_100;
        let gone = clean(after, keys, start..end, &rules);
        prop_assert_eq!(seen(&gone), model(&seen(&before), end, false));
        prop_assert_eq!(&clean(gone.clone(), keys, start..end, &rules), &gone);
    }

    #[test]
    fn cleaning_as_the_log_grows_ends_as_cleaning_it_at_once(
        made in made(),
        keys in 1..14usize,
        step in 1..5usize,
    ) {
        let before = log(&made, 0);
        let rules = retention(10_000);
        let (mut grown, mut cleaned): (Vec<Bytes>, i64) = (Vec::new(), 0);
        for more in before.chunks(step) {
            grown.extend_from_slice(more);
            let end = end_of(&grown);
            grown = clean(grown, keys, cleaned..end, &rules);
            cleaned = end;
        }
        prop_assert_eq!(seen(&grown), model(&seen(&before), cleaned, true));
    }

    #[test]
    fn any_bytes_are_cleaned_or_kept(
        made in made(),
        cut in 0..2_000usize,
        flips in prop::collection::vec((0..2_000usize, any::<u8>()), 0..4),
    ) {
        let mut bytes = log(&made, 0).concat();
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(1_500)));
        for (at, flip) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        let bytes = Bytes::from(bytes);
        let mut scan = KeyScan::new(map(5), 0, 1_000, PAYLOAD_MAX);
        let _ = BatchIter::new(bytes.clone()).all(|batch| batch.is_ok_and(|one| scan.push(&one)));
        let mut pass = scan.finish(retention(0));
        let kept: usize = pass.batches(bytes.clone()).flatten().map(|kept| kept.len()).sum();
        prop_assert_eq!(kept as u64, pass.cleaned().bytes_out);
        prop_assert!(pass.cleaned().bytes_in <= bytes.len() as u64);
    }
}

const NONE: Compression = Compression::None;

#[test]
fn a_batch_that_cannot_be_read_is_kept_and_so_are_tombstones_behind_it() {
    let tombstone = (Some(1), None, 0);
    let last = batch(20, NONE, &[(Some(9), Some(9), 0)]);
    let mut broken = BytesMut::from(batch(0, Compression::Lz4, &[(Some(1), Some(1), 0)]));
    let (end, len) = (broken.len() - 1, broken.len());
    // A sound checksum over a frame without its end mark.
    broken[end] = 1;
    set_max_timestamp(&mut broken, TimestampType::CreateTime, 7);
    let broken = broken.freeze();
    let batches = vec![broken.clone(), batch(1, NONE, &[tombstone]), last];
    let (kept, done) = pass(&batches, map(9), 0..21, retention(0));
    assert_eq!((kept.len(), done.cleaned().unreadable), (3, 1));
    assert_eq!((&kept[0], kept[0].len()), (&broken, len));

    // The tombstone's time has come; without the broken batch it goes.
    let (again, done) = pass(&kept, map(9), 0..21, retention(100));
    assert_eq!((again, done.cleaned().tombstones), (kept.clone(), 0));
    let (gone, done) = pass(&kept[1..], map(9), 0..21, retention(100));
    assert_eq!((gone.len(), done.cleaned().tombstones), (1, 1));
}

#[test]
fn a_wrong_checksum_is_not_made_a_good_one() {
    let mut broken = BytesMut::from(batch(0, NONE, &[(Some(1), Some(1), 0); 2]));
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let batches = [broken.freeze(), batch(2, NONE, &[(Some(1), Some(2), 0)])];
    let (kept, done) = pass(&batches, map(9), 0..3, retention(0));
    assert_eq!((&kept[..], done.cleaned().unreadable), (&batches[..], 1));
}

#[test]
fn records_above_the_callers_bound_are_left_alone() {
    let large = vec![(Some(1), Some(255), 0); 50];
    for codec in Compression::ALL {
        let batches = [batch(0, codec, &large), batch(50, codec, &large)];
        let (kept, done) = pass(&batches, map(9), 0..100, retention(0));
        assert_eq!((kept.len(), done.cleaned().obsolete), (1, 99), "{codec:?}");

        let mut scan = KeyScan::new(map(9), 0, 100, 5_000);
        assert!(batches.iter().all(|bytes| scan.push(&parse(bytes))));
        assert_eq!(scan.unreadable(), 2);
        let mut done = scan.finish(retention(0));
        let kept: Vec<_> = batches.iter().filter_map(|bytes| done.batch(&parse(bytes))).collect();
        assert_eq!((&kept[..], done.cleaned().unreadable), (&batches[..], 2), "{codec:?}");
    }
}

#[test]
fn offsets_that_a_batch_does_not_have_make_no_record_go() {
    // Sent compressed to a topic that was not compacted then: nobody looked at its deltas.
    for (header_delta, deltas) in [(1u8, [0, 100]), (1, [1, 0]), (1, [0, 0])] {
        let mut builder = BatchBuilder::new();
        builder.append(0, Some(&[1]), Some(&[1]), &[]);
        builder.append(0, Some(&[2]), Some(&[1]), &[]);
        let mut forged = BytesMut::from(builder.build());
        let record = (forged.len() - HEADER_BYTES) / 2;
        for (index, delta) in deltas.into_iter().enumerate() {
            // Behind length, attributes and timestamp delta; zig-zagged.
            forged[HEADER_BYTES + index * record + 3] = delta;
        }
        forged[26] = header_delta;
        set_max_timestamp(&mut forged, TimestampType::CreateTime, 1);
        let batches = [forged.freeze(), self::batch(2, NONE, &[(Some(1), Some(2), 0)])];
        let (kept, done) = pass(&batches, map(9), 0..3, retention(0));
        assert_eq!((&kept[..], done.cleaned().unreadable), (&batches[..], 1), "{deltas:?}");
    }
}

#[test]
fn control_batches_stay_and_their_keys_are_nobodys() {
    let mut builder = BatchBuilder::new().control();
    builder.append(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let marker = at(builder.build(), 1);
    let data = batch(0, NONE, &[(Some(1), Some(1), 0)]);
    let batches = [data, marker.clone(), at(marker, 2)];
    let (kept, done) = pass(&batches, map(9), 0..3, retention(0));
    assert_eq!((&kept[..], done.keys()), (&batches[..], 1));
}

#[test]
fn an_empty_batch_goes_once_its_producer_does() {
    let producer = ProducerRef { id: 7, epoch: 0, sequence: 0 };
    let empty = empty_batch(0, 4, 9, 10, producer);
    let batches = [empty, batch(5, NONE, &[(Some(1), Some(1), 0)])];
    let mut rules = retention(0);
    rules.producers.insert(7, LastRecord { data_offset: Some(4), epoch: 0 });
    assert_eq!(pass(&batches, map(9), 0..6, rules.clone()).0, batches);
    for last in
        [LastRecord { data_offset: Some(5), epoch: 0 }, LastRecord { data_offset: None, epoch: 0 }]
    {
        rules.producers.insert(7, last);
        assert_eq!(pass(&batches, map(9), 0..6, rules.clone()).0, batches[1..]);
    }
}

#[test]
fn a_batch_with_more_keys_than_the_map_is_cleaned_by_several_passes() {
    let keys: Vec<Plain> = (0..40).map(|key| (Some(key), Some(1), 0)).collect();
    let batches = vec![batch(0, NONE, &keys), batch(40, NONE, &keys)];
    let first = pass(&batches, map(7), 0..80, retention(0)).1;
    assert!((7..40).contains(&first.end()), "{}", first.end());
    let left = clean(batches.clone(), 7, 0..80, &retention(0));
    assert_eq!(seen(&left), seen(&batches[1..]));
    // A map with room for one of the batches ends behind it, not inside of the next one.
    let other: Vec<Plain> = (40..80).map(|key| (Some(key), Some(1), 0)).collect();
    let batches = [batch(0, NONE, &keys), batch(40, NONE, &other)];
    assert_eq!(pass(&batches, map(50), 0..80, retention(0)).1.end(), 40);
}

#[test]
fn a_tombstone_that_a_pass_covers_in_part_waits_from_the_pass_that_covers_the_rest() {
    let keys: Vec<Plain> = (0..40).map(|key| (Some(key), None, 0)).collect();
    let batches = [batch(0, NONE, &keys), batch(40, NONE, &[(Some(99), Some(1), 0)])];
    let (kept, first) = pass(&batches, map(7), 0..41, retention(1_000));
    assert!(first.end() < 40);
    assert_eq!(parse(&kept[0]).header().delete_horizon(), None);
    let (kept, _) = pass(&kept, map(99), first.end()..41, retention(5_000));
    assert_eq!(parse(&kept[0]).header().delete_horizon(), Some(5_100));
}

#[test]
fn what_was_done_is_counted() {
    let batches = [
        batch(0, NONE, &[(Some(1), Some(1), 0), (None, Some(1), 0), (Some(2), None, 0)]),
        batch(3, NONE, &[(Some(1), Some(2), 0)]),
    ];
    let (kept, done) = pass(&batches, map(9), 0..4, retention(0));
    let bytes = |batches: &[Bytes]| batches.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
    let expected = Cleaned {
        batches_in: 2,
        batches_out: 2,
        changed: 1,
        bytes_in: bytes(&batches),
        bytes_out: bytes(&kept),
        obsolete: 1,
        keyless: 1,
        ..Cleaned::default()
    };
    assert_eq!(done.cleaned(), expected);
    let (_, done) = pass(&kept, map(9), 0..4, retention(100));
    assert_eq!((done.cleaned().tombstones, done.cleaned().batches_out), (1, 1));
}

#[test]
fn a_pass_may_end_earlier_than_its_scan() {
    let batches = [
        batch(0, NONE, &[(Some(1), Some(1), 0)]),
        batch(1, NONE, &[(Some(1), Some(2), 0), (Some(2), Some(2), 0)]),
        batch(3, NONE, &[(Some(1), Some(3), 0), (Some(2), Some(3), 0)]),
    ];
    let mut scan = KeyScan::new(map(9), 0, 5, PAYLOAD_MAX);
    assert!(batches.iter().all(|bytes| scan.push(&parse(bytes))));
    scan.end_at(9);
    scan.end_at(3);
    assert_eq!(scan.seen(), 3);
    let mut pass = scan.finish(retention(0));
    assert_eq!(pass.end(), 3);
    let kept: Vec<_> = batches.iter().filter_map(|bytes| pass.batch(&parse(bytes))).collect();
    // What lies behind the end is not cleaned, and what it makes obsolete is; the last batch of the
    // pass stays for its offsets.
    assert_eq!(seen(&kept), seen(&batches[2..]));
    assert_eq!(kept.len(), 2);
}

#[test]
fn bytes_that_are_no_batch_end_the_walk_with_an_error() {
    let whole = batch(0, NONE, &[(Some(1), Some(1), 0)]);
    for torn in 1..whole.len() {
        let bytes = Bytes::from([&whole[..], &whole[..torn]].concat());
        let mut pass = KeyScan::new(map(9), 0, 9, PAYLOAD_MAX).finish(retention(0));
        let items: Vec<_> = pass.batches(bytes).collect();
        assert_eq!(items.len(), 2);
        assert!(items[0].is_ok() && items[1].is_err(), "{torn}");
    }
}

//! Batches of every kind, as a leader's answer has them.

use super::*;
use crate::protocol::batch::{BatchBuilder, ProducerRef, patch_in_place};
use crate::protocol::compression::Compression;
use crate::protocol::control::{EndTxnMarker, gap_batch};
use crate::protocol::record::Header as RawHeader;

fn place() -> Place {
    ("t".to_owned(), 1)
}

/// A batch at its offset.
fn at(offset: i64, batch: &[u8]) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    patch_in_place(&mut bytes, offset, 0);
    bytes
}

/// Values one behind the other, from `offset` on.
fn plain(offset: i64, values: &[&str]) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.append(offset, None, Some(value.as_bytes()), &[]);
    }
    at(offset, &batch.build())
}

fn of_transaction(offset: i64, producer: i64, value: &str) -> Vec<u8> {
    let producer = ProducerRef { id: producer, epoch: 0, sequence: 0 };
    let mut batch = BatchBuilder::new().producer(producer).transactional();
    batch.append(0, None, Some(value.as_bytes()), &[]);
    at(offset, &batch.build())
}

fn marker(offset: i64, producer: i64, committed: bool) -> Vec<u8> {
    at(offset, &EndTxnMarker { committed, coordinator_epoch: 0 }.batch(0, producer, 0))
}

fn batches(next: i64, all: &[Vec<u8>], aborted: Option<&[(i64, i64)]>) -> Batches {
    let aborted = aborted.map(|all| {
        let row = |(producer_id, first_offset): &(i64, i64)| AbortedTransaction {
            producer_id: *producer_id,
            first_offset: *first_offset,
        };
        all.iter().map(row).collect()
    });
    Batches::new(place(), next, all.concat().into(), aborted)
}

/// Offsets and values, and where it goes on.
fn read(mut batches: Batches) -> (Vec<(i64, String)>, i64) {
    let mut records = Vec::new();
    assert!(!batches.read(usize::MAX, &mut records).unwrap());
    let value = |record: &Record| String::from_utf8(record.value.clone().unwrap().into()).unwrap();
    let shown = records.iter().map(|record| (record.offset, value(record))).collect();
    (shown, batches.next)
}

fn owned(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[test]
fn records_are_read_from_the_position_on_as_many_as_are_wanted() {
    let mut batches = batches(12, &[plain(10, &["a", "b", "c", "d"]), plain(14, &["e"])], None);
    let mut records = Vec::new();
    assert!(batches.read(1, &mut records).unwrap());
    assert_eq!((batches.next, records[0].offset, records[0].timestamp), (13, 12, 10));
    assert_eq!((records[0].topic.as_str(), records[0].partition), ("t", 1));
    assert!(batches.read(2, &mut records).unwrap());
    assert!(!batches.read(1, &mut records).unwrap());
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!((offsets, batches.next, batches.bytes()), (vec![12, 13, 14], 15, 0));
}

#[test]
fn keys_headers_and_nulls_are_what_they_were_in_every_codec() {
    for codec in Compression::ALL {
        let mut batch = BatchBuilder::new();
        let headers = [("h", Some("1")), ("h", None), ("g", Some(""))];
        let headers = headers
            .map(|(key, value)| RawHeader { key: key.as_bytes(), value: value.map(str::as_bytes) });
        batch.append(7, Some(b"key"), Some(&[0xff; 5_000]), &headers);
        batch.append(8, None, None, &[]);
        let mut batches = batches(0, &[batch.build_compressed(codec).to_vec()], None);
        let mut records = Vec::new();
        batches.read(10, &mut records).unwrap();
        let [first, second] = records.as_slice() else { panic!("{codec:?}") };
        assert_eq!(first.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(first.value.as_deref(), Some(&[0xff; 5_000][..]));
        let header =
            |key: &str, value: Option<&'static str>| (key.to_owned(), value.map(Bytes::from));
        assert_eq!(
            first.headers,
            [header("h", Some("1")), header("h", None), header("g", Some(""))]
        );
        assert_eq!((&second.key, &second.value, second.timestamp), (&None, &None, 8));
        assert!(second.headers.is_empty());
    }
}

#[test]
fn the_part_of_a_batch_at_the_end_is_left_for_the_next_answer() {
    let second = plain(2, &["c"]);
    for cut in 1..second.len() {
        let all = [plain(0, &["a", "b"]), second[..cut].to_vec()];
        assert_eq!(read(batches(0, &all, None)), (owned(&[(0, "a"), (1, "b")]), 2), "{cut}");
    }
}

#[test]
fn control_batches_and_gaps_are_passed_over() {
    let gap = at(1, &gap_batch(1_000));
    let all = [plain(0, &["a"]), gap, marker(1_001, 7, true), plain(1_002, &["b"])];
    let expected = (owned(&[(0, "a"), (1_002, "b")]), 1_003);
    assert_eq!(read(batches(0, &all, None)), expected);
    assert_eq!(read(batches(0, &all, Some(&[]))), expected);
    // Nothing but control records moves the position too.
    assert_eq!(read(batches(0, &[marker(0, 7, false)], Some(&[]))), (Vec::new(), 1));
}

#[test]
fn aborted_transactions_are_passed_over_where_only_what_is_committed_is_shown() {
    let all = [
        of_transaction(0, 7, "aborted"),
        of_transaction(1, 8, "committed"),
        plain(2, &["plain"]),
        of_transaction(3, 7, "aborted too"),
        marker(4, 7, false),
        marker(5, 8, true),
        // The same producer again.
        of_transaction(6, 7, "committed later"),
        marker(7, 7, true),
        of_transaction(8, 7, "aborted last"),
        marker(9, 7, false),
    ];
    let aborted = [(7, 8), (7, 0)];
    let shown = [(1, "committed"), (2, "plain"), (6, "committed later")];
    assert_eq!(read(batches(0, &all, Some(&aborted))), (owned(&shown), 10));
    let (everything, next) = read(batches(0, &all, None));
    assert_eq!((everything.len(), next), (6, 10));
    // A reader that begins inside of the transaction.
    let rest = &all[3..];
    let shown = [(6, "committed later")];
    assert_eq!(read(batches(3, rest, Some(&aborted))), (owned(&shown), 10));
}

#[test]
fn a_batch_that_is_broken_is_named_behind_what_was_good() {
    let mut broken = plain(5, &["never"]);
    *broken.last_mut().unwrap() ^= 1;
    let mut batches = batches(4, &[plain(4, &["good"]), broken], None);
    let mut records = Vec::new();
    let error = batches.read(10, &mut records).unwrap_err();
    assert_eq!((records.len(), batches.next), (1, 5));
    let words = error.to_string();
    assert!(words.starts_with("partition t-1 at offset 5: "), "{words}");
    assert!(matches!(
        error,
        ConsumerError::Unreadable { fault: BatchError::CrcMismatch { .. }, .. }
    ));
    // It stays what it is.
    assert_eq!(batches.read(10, &mut records).unwrap_err().to_string(), words);
    assert_eq!(records.len(), 1);
}

#[test]
fn records_that_are_none_and_formats_of_old_are_errors() {
    let mut batch = plain(0, &["ab"]);
    // One record more than there is, with a checksum that fits.
    batch[57..61].copy_from_slice(&2_i32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut records = Vec::new();
    let error = batches(0, &[batch], None).read(10, &mut records).unwrap_err();
    assert_eq!(records.len(), 1);
    assert!(matches!(
        error,
        ConsumerError::Unreadable { fault: BatchError::Record { index: 1, .. }, .. }
    ));

    let mut old = plain(0, &["ab"]);
    old[16] = 1;
    let error = batches(0, &[old], None).read(10, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ConsumerError::OldFormat { magic: 1, offset: 0, .. }), "{error}");
}

#[test]
fn a_record_of_headers_only_is_refused() {
    let none = RawHeader { key: b"", value: None };
    let mut batch = BatchBuilder::new();
    batch.append(0, None, None, &vec![none; HEADERS_MAX + 1]);
    let bytes = batch.build_compressed(Compression::Zstd).to_vec();
    let error = batches(0, &[bytes], None).read(10, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ConsumerError::Headers { headers: 100_001, .. }), "{error}");
}

//! What Kafka's own classes leave of a batch, byte for byte.

use super::*;

#[path = "bytes.rs"]
mod bytes;

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 1_700_000_500_000;

fn unhex(digits: &str) -> Bytes {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A later batch whose one record makes that of `key` obsolete; what is uncleanable begins far
/// behind it.
fn cleaned(bytes: &Bytes, later: &[&[u8]], retention: Retention) -> Option<Bytes> {
    let mut scan = KeyScan::new(map(99), 0, 1_000, PAYLOAD_MAX);
    assert!(scan.push(&parse(bytes)));
    for (offset, key) in (200..).zip(later) {
        let mut builder = BatchBuilder::new();
        builder.append(0, Some(key), Some(b"later"), &[]);
        assert!(scan.push(&parse(&at(builder.build(), offset))));
    }
    scan.finish(retention).batch(&parse(bytes))
}

fn rules(now_ms: i64, delete_retention_ms: i64) -> Retention {
    Retention { now_ms, delete_retention_ms, producers: HashMap::new() }
}

#[test]
fn a_delete_horizon_is_set_and_kept_as_kafka_does() {
    let day = |now_ms| rules(now_ms, DAY_MS);
    let once = cleaned(&unhex(bytes::DIRTY), &[], day(NOW_MS)).unwrap();
    assert_eq!(once, unhex(bytes::CLEANED));
    assert_eq!(parse(&once).header().delete_horizon(), Some(NOW_MS + DAY_MS));
    let before = cleaned(&once, &[], day(NOW_MS + DAY_MS - 1)).unwrap();
    assert_eq!(before, once);
    let expired = cleaned(&once, &[], day(NOW_MS + DAY_MS)).unwrap();
    assert_eq!(expired, unhex(bytes::EXPIRED));
}

#[test]
fn timestamps_are_relative_to_the_first_record_that_is_kept() {
    let kept = cleaned(&unhex(bytes::CREATE), &[b"a"], rules(NOW_MS, 1)).unwrap();
    assert_eq!(kept, unhex(bytes::CREATE_CLEANED));
}

#[test]
fn log_append_time_and_the_transaction_stay_as_kafka_keeps_them() {
    let now_ms = 1_700_000_000_000;
    let once = cleaned(&unhex(bytes::APPEND), &[], rules(now_ms, 1)).unwrap();
    assert_eq!(once, unhex(bytes::APPEND_CLEANED));
    let mut rules = rules(now_ms, 1);
    rules.producers.insert(4711, LastRecord { data_offset: Some(103), epoch: 3 });
    let empty = cleaned(&once, &[b"a", b"b", b"c"], rules.clone()).unwrap();
    assert_eq!(empty, unhex(bytes::APPEND_EMPTY));
    rules.producers.clear();
    assert_eq!(cleaned(&once, &[b"a", b"b", b"c"], rules), None);
}

#[test]
fn compressed_batches_have_kafkas_header_and_records() {
    let plain = parse(&unhex(bytes::DIRTY));
    let expected = parse(&unhex(bytes::CLEANED));
    for codec in Compression::ALL {
        let packed = plain.recompressed(&plain.payload(0).unwrap(), codec, None).unwrap();
        let ours = cleaned(packed.bytes(), &[], rules(NOW_MS, DAY_MS)).unwrap();
        let ours = parse(&ours);
        ours.verify_crc().unwrap();
        assert_eq!(ours.header().compression().unwrap(), codec);
        assert_eq!(ours.payload(PAYLOAD_MAX).unwrap(), expected.payload(0).unwrap());
        let header = BatchHeader {
            batch_length: expected.header().batch_length,
            crc: expected.header().crc,
            attributes: expected.header().attributes,
            ..*ours.header()
        };
        assert_eq!(header, *expected.header(), "{codec:?}");
    }
}

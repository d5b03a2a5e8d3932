//! What Java wrote, what kafka-protocol reads, and what must be refused.

use bytes::BytesMut;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use proptest::prelude::*;

use super::*;
use crate::protocol::record::{Header, RecordError};

// The batches below were written by `MemoryRecordsBuilder` of kafka-clients 4.3.1: producer 4711,
// epoch 3, sequence 77, and the records of `java_builder`.

pub(in crate::protocol) const JAVA_NONE: &str = "\
    000000000000000000000194ffffffff025b256cb30000000000030000018bcfe568000000018bcfe5687c00\
    0000000000126700030000004d0000000434000000066b65790a76616c7565060268020102680104c3a90276\
    1200f6010201047632000e000104026b0100e80400f8010600d8047a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\
    7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a00\
";

pub(in crate::protocol) const JAVA_GZIP: &str = "\
    000000000000000000000081ffffffff02fbeac2400001000000030000018bcfe568000000018bcfe5687c00\
    0000000000126700030000004d000000041f8b08000000000000ff3361606060cb4eade42a4bcc294d6563ca\
    606264ca606439bc92a94c88e11b2313234b9911031f03230b533623c30b16861f8c6c0c3758aa4601d18001\
    00bfff878363010000\
";

pub(in crate::protocol) const JAVA_SNAPPY: &str = "\
    000000000000000000000092ffffffff02aacc970e0002000000030000018bcfe568000000018bcfe5687c00\
    0000000000126700030000004d0000000482534e415050590000000001000000010000004de302e034000000\
    066b65790a76616c7565060268020102680104c3a902761200f6010201047632000e000104026b0100e80400\
    f8010600d8047a7a7afe0200fe0200fe0200fe0200a202000000\
";

pub(in crate::protocol) const JAVA_LZ4: &str = "\
    000000000000000000000083ffffffff02ed268c800003000000030000018bcfe568000000018bcfe5687c00\
    0000000000126700030000004d0000000404224d1860408243000000ff2834000000066b65790a76616c7565\
    060268020102680104c3a902761200f6010201047632000e000104026b0100e80400f8010600d8047a0100ff\
    15507a7a7a7a0000000000\
";

pub(in crate::protocol) const JAVA_ZSTD: &str = "\
    00000000000000000000007dffffffff023902b7690004000000030000018bcfe568000000018bcfe5687c00\
    0000000000126700030000004d0000000428b52ffd0058040200840334000000066b65790a76616c75650602\
    68020102680104c3a902761200f6010201047632000e000104026b0100e80400f8010600d8047a00010087a2\
    0228010000\
";

pub(in crate::protocol) const JAVA_COMMIT: &str = "\
    00000000000004d2000000420000000902e3b6ccaa0030000000000000018bcfe568000000018bcfe5680000\
    000000000012670003ffffffff000000012000000008000000010c00000000002a00\
";

pub(in crate::protocol) const JAVA_EMPTY: &str = "\
    00000000000003e800000031000000090287d4ea4a0000000003e7ffffffffffffffff0000018bcfe5680000\
    0000000000126700030000004d00000000\
";

/// Bytes from their hexadecimal digits.
pub(in crate::protocol) fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

const JAVA_PRODUCER: ProducerRef = ProducerRef { id: 4711, epoch: 3, sequence: 77 };

const RULES: ProduceRules = ProduceRules {
    version: 9,
    transactional_allowed: false,
    keys_required: false,
    timestamps: Some(TimestampBounds::ANY),
};

/// The records of the golden batches, in our own builder.
fn java_builder() -> BatchBuilder {
    let headers = [
        Header { key: b"h", value: Some(&[1]) },
        Header { key: b"h", value: None },
        Header { key: "é".as_bytes(), value: Some(b"v") },
    ];
    let mut builder = BatchBuilder::new().producer(JAVA_PRODUCER);
    builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &headers);
    builder.append(1_700_000_000_123, None, Some(b"v2"), &[]);
    builder.append(1_699_999_999_999, Some(b"k"), None, &[]);
    builder.append(1_700_000_000_124, Some(b""), Some(&[b'z'; 300]), &[]);
    builder
}

fn parse(bytes: impl Into<Bytes>) -> Batch {
    Batch::parse_one(bytes.into()).unwrap()
}

/// The batch with other header bytes and the checksum that fits them.
fn with_bytes(batch: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut changed = batch.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    write_crc(&mut changed);
    changed.into()
}

fn refusal(bytes: impl Into<Bytes>, rules: &ProduceRules) -> BatchError {
    parse(bytes).validate_for_produce(rules).unwrap_err()
}

#[test]
fn the_builder_writes_byte_for_byte_what_java_writes() {
    assert_eq!(java_builder().build(), unhex(JAVA_NONE));
}

#[test]
fn an_empty_batch_is_byte_for_byte_what_the_cleaner_leaves() {
    let ours = empty_batch(1000, 999, 9, 1_700_000_000_000, JAVA_PRODUCER);
    assert_eq!(ours, unhex(JAVA_EMPTY));
    let batch = parse(ours);
    batch.verify_crc().unwrap();
    assert_eq!((batch.header().last_offset(), batch.header().next_offset()), (1999, 2000));
    assert_eq!(batch.records(&batch.payload(0).unwrap()).count(), 0);
}

#[test]
fn a_java_batch_is_read_field_by_field() {
    let batch = parse(unhex(JAVA_NONE));
    let expected = BatchHeader {
        base_offset: 0,
        batch_length: 0x194,
        partition_leader_epoch: -1,
        crc: 0x5b25_6cb3,
        attributes: 0,
        last_offset_delta: 3,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_124,
        producer_id: 4711,
        producer_epoch: 3,
        base_sequence: 77,
        record_count: 4,
    };
    assert_eq!(*batch.header(), expected);
    assert_eq!(batch.header().last_sequence(), 80);
    let payload = batch.payload(0).unwrap();
    let records: Vec<Record<'_>> = batch.records(&payload).map(Result::unwrap).collect();
    let headers: Vec<_> =
        records[0].headers.clone().map(|header| (header.key, header.value)).collect();
    let expected: [(&[u8], Option<&[u8]>); 3] =
        [(b"h", Some(&[1])), (b"h", None), ("é".as_bytes(), Some(b"v"))];
    assert_eq!(headers, expected);
    assert_eq!(records[0].key, Some(&b"key"[..]));
    assert_eq!((records[1].key, records[1].value), (None, Some(&b"v2"[..])));
    assert_eq!((records[2].key, records[2].value), (Some(&b"k"[..]), None));
    assert_eq!(records[3].key, Some(&b""[..]));
    assert_eq!(batch.header().timestamp_of(&records[2]), 1_699_999_999_999);
    assert_eq!(records.iter().map(|record| record.raw.len()).sum::<usize>(), payload.len());
}

#[test]
fn every_codec_of_java_gives_the_same_records() {
    let plain = parse(unhex(JAVA_NONE)).payload(0).unwrap();
    for (golden, codec) in [
        (JAVA_GZIP, Compression::Gzip),
        (JAVA_SNAPPY, Compression::Snappy),
        (JAVA_LZ4, Compression::Lz4),
        (JAVA_ZSTD, Compression::Zstd),
    ] {
        let batch = parse(unhex(golden));
        assert_eq!(batch.header().compression().unwrap(), codec);
        let check = batch.validate_for_produce(&RULES).unwrap();
        assert_eq!(check.max_timestamp, 1_700_000_000_124, "{codec:?}");
        let payload = batch.payload(plain.len()).unwrap();
        assert_eq!(payload, plain, "{codec:?}");
        batch.validate_records(&payload, &RULES).unwrap();
        let bound = batch.payload(plain.len() - 1).unwrap_err();
        assert_eq!(bound.fault(), BatchFault::InvalidRecord, "{codec:?}");
    }
}

#[test]
fn snappy_is_framed_as_java_frames_it() {
    // Other codecs leave the encoder room; this one has two shapes that clients tell apart.
    let ours = java_builder().build_compressed(Compression::Snappy);
    let (java, header) = (unhex(JAVA_SNAPPY), HEADER_BYTES);
    assert_eq!(ours[header..header + 16], java[header..header + 16]);
}

#[test]
fn kafka_protocol_reads_what_the_builder_writes() {
    let decompress = |bytes: &mut Bytes, codec: theirs::Compression| {
        let codec = Compression::from_id(codec as i16).unwrap();
        Ok(crate::protocol::compression::decompress(codec, bytes, 1 << 20)?)
    };
    for codec in Compression::ALL {
        let mut bytes = java_builder().build_compressed(codec);
        let set = theirs::RecordBatchDecoder::decode_with_custom_compression(
            &mut bytes,
            Some(decompress),
        )
        .unwrap();
        assert_eq!(set.records.len(), 4);
        let record = &set.records[2];
        assert_eq!((record.offset, record.sequence, record.producer_id), (2, 79, 4711));
        assert_eq!(record.timestamp, 1_699_999_999_999);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), None));
        assert_eq!(set.records[3].value.as_ref().unwrap().len(), 300);
    }
}

#[test]
fn a_patched_copy_differs_in_twelve_bytes_and_keeps_its_checksum() {
    let source = unhex(JAVA_NONE);
    let mut copy = vec![0; source.len()];
    patch_into(&mut copy, &source, 0x0102_0304_0506_0708, 0x0a0b_0c0d);
    assert_eq!(copy[0..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(copy[12..16], [10, 11, 12, 13]);
    assert_eq!((&copy[8..12], &copy[16..]), (&source[8..12], &source[16..]));
    let batch = parse(copy.clone());
    batch.verify_crc().unwrap();
    let combined =
        parse(source).patched_crc(crc32c(b"before"), batch.header().base_offset, 0x0a0b_0c0d);
    let whole = [&b"before"[..], &copy].concat();
    assert_eq!(combined, crc32c(&whole));
}

#[test]
fn log_append_time_renews_the_checksum_and_wins_over_the_records() {
    let mut bytes = unhex(JAVA_NONE);
    let crc = set_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 5000);
    let batch = parse(bytes.clone());
    batch.verify_crc().unwrap();
    let header = *batch.header();
    assert_eq!((header.crc, header.max_timestamp, header.attributes), (crc, 5000, 8));
    let payload = batch.payload(0).unwrap();
    assert!(batch.records(&payload).all(|record| header.timestamp_of(&record.unwrap()) == 5000));
    set_max_timestamp(&mut bytes, TimestampType::CreateTime, 1_700_000_000_124);
    assert_eq!(bytes, unhex(JAVA_NONE));
    assert_eq!(
        set_max_timestamp(&mut bytes, TimestampType::CreateTime, 1_700_000_000_124),
        0x5b25_6cb3
    );
}

#[test]
fn sequences_go_on_with_zero_after_the_last() {
    let mut header = *parse(unhex(JAVA_NONE)).header();
    for (base, last) in
        [(0, 3), (i32::MAX - 3, i32::MAX), (i32::MAX - 2, 0), (i32::MAX, 2), (-1, -1)]
    {
        header.base_sequence = base;
        assert_eq!(header.last_sequence(), last, "{base}");
    }
}

#[test]
fn bytes_that_are_not_one_whole_batch_are_refused() {
    let whole = unhex(JAVA_NONE);
    let fault = |bytes: &[u8]| Batch::parse_one(Bytes::copy_from_slice(bytes)).unwrap_err().fault();
    for cut in [0, 1, 12, 16, 17, 60, 61, whole.len() - 1] {
        assert_eq!(fault(&whole[..cut]), BatchFault::InvalidRecord, "{cut}");
    }
    assert_eq!(fault(&[&whole[..], &whole].concat()), BatchFault::InvalidRecord);
    for (at, byte, expected) in [
        (16, 0, BatchFault::InvalidRecord),
        (16, 1, BatchFault::InvalidRecord),
        (16, 3, BatchFault::Corrupt),
        (8, 0x80, BatchFault::Corrupt),
        (11, 0, BatchFault::InvalidRecord),
    ] {
        let mut changed = whole.clone();
        changed[at] = byte;
        assert_eq!(fault(&changed), expected, "{at} {byte}");
    }
    // A message of format 1 is shorter than the header of format 2.
    let mut old = whole[..30].to_vec();
    old[16] = 1;
    let refused = Batch::parse_one(old.into());
    assert!(matches!(refused, Err(BatchError::UnsupportedMagic { magic: 1 })), "{refused:?}");
    let short = with_bytes(&whole, 8, &48i32.to_be_bytes());
    let refused = Batch::parse_one(short);
    assert!(matches!(refused, Err(BatchError::BadLength { length: 48 })), "{refused:?}");
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum() {
    let mut bytes = unhex(JAVA_ZSTD);
    *bytes.last_mut().unwrap() ^= 1;
    let refused = refusal(bytes, &RULES);
    assert!(matches!(refused, BatchError::CrcMismatch { stored: 0x3902_b769, .. }), "{refused}");
    assert_eq!(refused.fault(), BatchFault::Corrupt);
}

#[test]
fn a_header_that_no_producer_may_send_is_refused() {
    use BatchFault::{InvalidRecord, InvalidTimestamp, TransactionNotAllowed};
    let good = unhex(JAVA_NONE);
    let int = |value: i32| value.to_be_bytes().to_vec();
    let cases: [(&str, usize, Vec<u8>, BatchFault); 12] = [
        ("base offset", 0, vec![0, 0, 0, 0, 0, 0, 0, 1], InvalidRecord),
        ("fewer records", 57, int(3), InvalidRecord),
        ("no records", 57, int(0), InvalidRecord),
        ("negative count", 57, int(-1), InvalidRecord),
        ("shorter range", 23, int(2), InvalidRecord),
        ("greatest range", 23, int(i32::MAX), InvalidRecord),
        ("control", 22, vec![0x20], InvalidRecord),
        ("log append time", 22, vec![0x08], InvalidTimestamp),
        ("transactional", 22, vec![0x10], TransactionNotAllowed),
        ("negative sequence", 53, int(-1), InvalidRecord),
        ("negative epoch", 51, vec![0xff, 0xff], InvalidRecord),
        ("unknown codec", 22, vec![5], BatchFault::UnsupportedCompression),
    ];
    for (what, at, bytes, expected) in cases {
        let refused = refusal(with_bytes(&good, at, &bytes), &RULES);
        assert_eq!(refused.fault(), expected, "{what}: {refused}");
    }
    // An empty range with no records says nothing that contradicts, and is refused all the same.
    let empty = with_bytes(&with_bytes(&good, 57, &int(0)), 23, &int(-1));
    assert!(matches!(refusal(empty, &RULES), BatchError::RecordCount { count: 0, .. }));
    let allowed = ProduceRules { transactional_allowed: true, ..RULES };
    parse(with_bytes(&good, 22, &[0x10])).validate_for_produce(&allowed).unwrap();
    let no_producer = with_bytes(&with_bytes(&good, 22, &[0x10]), 43, &[0xff; 8]);
    assert_eq!(refusal(no_producer, &allowed).fault(), InvalidRecord);
}

#[test]
fn more_than_a_million_records_are_refused_before_anybody_walks_them() {
    let count = |count: i32| {
        let counted = with_bytes(&unhex(JAVA_GZIP), 57, &count.to_be_bytes());
        with_bytes(&counted, 23, &(count - 1).to_be_bytes())
    };
    parse(count(MAX_RECORDS_PER_BATCH)).validate_for_produce(&RULES).unwrap();
    let refused = refusal(count(MAX_RECORDS_PER_BATCH + 1), &RULES);
    assert!(matches!(refused, BatchError::RecordCount { count: 1_000_001, .. }), "{refused}");
}

#[test]
fn zstd_needs_produce_version_seven() {
    let bytes = Bytes::from(unhex(JAVA_ZSTD));
    let refused = refusal(bytes.clone(), &ProduceRules { version: 6, ..RULES });
    assert_eq!(refused.fault(), BatchFault::UnsupportedCompression);
    parse(bytes).validate_for_produce(&ProduceRules { version: 7, ..RULES }).unwrap();
}

#[test]
fn plain_records_are_walked_to_the_last_byte() {
    let good = unhex(JAVA_NONE);
    let reindex = |bytes: &[u8], count: i32| {
        let counted = with_bytes(bytes, 57, &count.to_be_bytes());
        with_bytes(&counted, 23, &(count - 1).to_be_bytes())
    };
    let fewer = refusal(reindex(&good, 3), &RULES);
    assert!(
        matches!(
            fewer,
            BatchError::Record { index: 2, source: RecordError::BytesLeftInBatch { .. } }
        ),
        "{fewer}"
    );
    let more = refusal(reindex(&good, 5), &RULES);
    assert!(matches!(more, BatchError::Record { index: 4, .. }), "{more}");
    // The first record's offset delta is its fourth byte: a zig-zagged 0 becomes 1.
    let moved = refusal(with_bytes(&good, 64, &[2]), &RULES);
    assert!(matches!(moved, BatchError::OffsetDelta { index: 0, offset_delta: 1 }), "{moved}");
    // A key that is longer than its record.
    let long = refusal(with_bytes(&good, 65, &[0x7e]), &RULES);
    assert!(matches!(long, BatchError::Record { index: 0, .. }), "{long}");
    assert_eq!(long.record_index(), Some(0));
    let negative = refusal(with_bytes(&good, 65, &[0x03]), &RULES);
    assert!(
        matches!(
            negative,
            BatchError::Record { source: RecordError::Negative { field: "key", value: -2 }, .. }
        ),
        "{negative}"
    );
}

#[test]
fn a_topic_may_ask_for_keys_and_for_timestamps_near_now() {
    let bytes = Bytes::from(unhex(JAVA_NONE));
    let keys = refusal(bytes.clone(), &ProduceRules { keys_required: true, ..RULES });
    assert!(matches!(keys, BatchError::NoKey { index: 1 }), "{keys}");
    let bounds = TimestampBounds { earliest: 1_700_000_000_000, latest: i64::MAX };
    let rules = ProduceRules { timestamps: Some(bounds), ..RULES };
    let early = refusal(bytes, &rules);
    assert_eq!((early.fault(), early.record_index()), (BatchFault::InvalidTimestamp, Some(2)));
    let latest = TimestampBounds { earliest: 0, latest: 1_700_000_000_123 };
    let compressed = refusal(unhex(JAVA_LZ4), &ProduceRules { timestamps: Some(latest), ..RULES });
    assert_eq!(compressed.fault(), BatchFault::InvalidTimestamp);
}

#[test]
fn a_wrong_max_timestamp_is_told_to_the_caller() {
    let wrong = with_bytes(&unhex(JAVA_NONE), 35, &7i64.to_be_bytes());
    let check = parse(wrong).validate_for_produce(&RULES).unwrap();
    assert_eq!(check.max_timestamp, 1_700_000_000_124);
}

#[test]
fn the_iterator_stops_at_a_torn_tail_and_reports_a_bad_header() {
    let whole = unhex(JAVA_NONE);
    let torn = [&whole[..], &whole, &whole[..70]].concat();
    let mut batches = BatchIter::new(torn.into());
    assert_eq!(batches.next().unwrap().unwrap().bytes(), &whole);
    assert_eq!(batches.next().unwrap().unwrap().bytes(), &whole);
    assert!(batches.next().is_none());
    assert_eq!(batches.rest().len(), 70);
    let mut bad = [&whole[..], &whole].concat();
    bad[whole.len() + 16] = 7;
    let mut batches = BatchIter::new(bad.into());
    assert!(batches.next().unwrap().is_ok());
    assert!(matches!(batches.next(), Some(Err(BatchError::UnsupportedMagic { magic: 7 }))));
    assert!(batches.next().is_none());
}

#[test]
fn a_builder_without_records_builds_nothing() {
    assert!(BatchBuilder::new().build().is_empty());
}

type Parts = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn parts() -> impl Strategy<Value = Vec<Parts>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let headers = prop::collection::vec((".{0,8}", bytes()), 0..4);
    prop::collection::vec((0..1i64 << 50, bytes(), bytes(), headers), 1..20)
}

fn their_record(at: usize, (timestamp, key, value, headers): &Parts) -> theirs::Record {
    let headers: IndexMap<StrBytes, Option<Bytes>> = headers
        .iter()
        .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
        .collect();
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: 4711,
        producer_epoch: 3,
        timestamp_type: theirs::TimestampType::Creation,
        offset: at as i64,
        sequence: 77 + at as i32,
        timestamp: *timestamp,
        key: key.clone().map(Bytes::from),
        value: value.clone().map(Bytes::from),
        headers,
    }
}

proptest! {
    #[test]
    fn what_kafka_protocol_writes_is_read_the_same(parts in parts()) {
        let records: Vec<_> =
            parts.iter().enumerate().map(|(at, parts)| their_record(at, parts)).collect();
        let mut encoded = BytesMut::new();
        let options = theirs::RecordEncodeOptions {
            version: 2,
            compression: theirs::Compression::None,
        };
        theirs::RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
        let batch = parse(encoded.freeze());
        batch.validate_for_produce(&RULES).unwrap();
        let payload = batch.payload(0).unwrap();
        let header = batch.header();
        for (ours, theirs) in batch.records(&payload).map(Result::unwrap).zip(&records) {
            prop_assert_eq!(header.offset_of(&ours), theirs.offset);
            prop_assert_eq!(header.timestamp_of(&ours), theirs.timestamp);
            prop_assert_eq!(ours.key, theirs.key.as_deref());
            prop_assert_eq!(ours.value, theirs.value.as_deref());
            let headers: Vec<_> = ours.headers.map(|h| (h.key, h.value)).collect();
            let expected: Vec<_> =
                theirs.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            prop_assert_eq!(headers, expected);
        }
        prop_assert_eq!(batch.records(&payload).count(), records.len());
    }

    #[test]
    fn what_the_builder_writes_is_accepted_and_read_back(
        parts in parts(),
        codec in prop::sample::select(Compression::ALL.to_vec()),
    ) {
        let mut builder = BatchBuilder::new().producer(JAVA_PRODUCER);
        for (timestamp, key, value, headers) in &parts {
            let headers: Vec<_> = headers
                .iter()
                .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
                .collect();
            builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let size = builder.size();
        let batch = parse(builder.build_compressed(codec));
        let check = batch.validate_for_produce(&RULES).unwrap();
        prop_assert_eq!(check.max_timestamp, parts.iter().map(|parts| parts.0).max().unwrap());
        let payload = batch.payload(1 << 20).unwrap();
        prop_assert_eq!(payload.len(), size - HEADER_BYTES);
        batch.validate_records(&payload, &RULES).unwrap();
        for (record, (timestamp, key, value, headers)) in batch.records(&payload).zip(&parts) {
            let record = record.unwrap();
            prop_assert_eq!(batch.header().timestamp_of(&record), *timestamp);
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            prop_assert_eq!(record.headers.len(), headers.len());
        }
    }

    #[test]
    fn any_bytes_are_walked_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count: i32,
        length in 49i32..300,
    ) {
        let walked = Records::new(&bytes, count).count();
        prop_assert!(walked <= bytes.len() + 1);
        let mut framed = bytes;
        if framed.len() > 61 {
            framed[16] = 2;
            framed[8..12].copy_from_slice(&length.to_be_bytes());
            framed[21] = 0;
            framed[22] &= 7;
        }
        for batch in BatchIter::new(Bytes::from(framed)).flatten() {
            let _ = batch.validate_for_produce(&RULES);
            let _ = batch.payload(1000);
            let _ = batch.header().last_sequence();
        }
    }

    #[test]
    fn a_batch_with_flipped_bytes_is_walked_without_a_panic(
        flips in prop::collection::vec((0usize..404, any::<u8>()), 1..6),
    ) {
        let mut bytes = unhex(JAVA_NONE);
        for (at, flip) in flips {
            if at >= CRC_START {
                let end = bytes.len() - 1;
                bytes[at.min(end)] ^= flip;
            }
        }
        write_crc(&mut bytes);
        let batch = parse(bytes);
        if batch.validate_for_produce(&RULES).is_ok()
            && batch.header().compression().unwrap() == Compression::None
        {
            let payload = batch.payload(0).unwrap();
            let walked = batch.records(&payload).flatten().count();
            prop_assert_eq!(walked, batch.header().record_count as usize);
        }
    }
}

#[test]
fn another_codec_keeps_the_records_and_the_header_but_for_codec_length_and_crc() {
    let java = [JAVA_NONE, JAVA_GZIP, JAVA_SNAPPY, JAVA_LZ4, JAVA_ZSTD];
    for digits in java {
        let batch = Batch::parse_one(unhex(digits).into()).unwrap();
        let payload = batch.payload(1 << 20).unwrap();
        for codec in Compression::ALL {
            let other = batch.recompressed(&payload, codec, None).unwrap();
            other.verify_crc().unwrap();
            assert_eq!(other.payload(1 << 20).unwrap(), payload);
            let kept = BatchHeader {
                batch_length: batch.header().batch_length,
                crc: batch.header().crc,
                attributes: batch.header().attributes,
                ..*other.header()
            };
            assert_eq!(kept, *batch.header());
            assert_eq!(other.header().compression().unwrap(), codec);
        }
        let plain = batch.recompressed(&payload, Compression::None, None).unwrap();
        assert_eq!(plain.bytes()[..], unhex(JAVA_NONE)[..]);
    }
}

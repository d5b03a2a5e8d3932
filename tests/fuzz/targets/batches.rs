//! Any bytes as record batches: header, walk over batches, walk over records, and beside it what the
//! crate reads.
//!
//! Held here: nothing panics and nothing is allocated for a walk; what passes the checks of a
//! produce is read by the crate in the same way. Known differences, each passed over below:
//! - a header key that comes twice is there once in the crate's map, with the last value;
//! - a header key that is not UTF-8 is refused by the crate;
//! - a sum of base and delta that overflows is an error or a panic in the crate.
//!
//! Input: a byte of choices, then the bytes. With its lowest bit set the lengths and checksums of
//! the batches are made good first, so that what is behind them is reached.

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use tidegate::protocol::batch::{
    Batch, BatchHeader, BatchIter, CRC_START, HEADER_BYTES, LOG_OVERHEAD, ProduceRules,
    TimestampBounds, TimestampType,
};
use tidegate::protocol::compression::Compression;
use tidegate::protocol::record::{Record, Records};

use super::within;

const RULES: ProduceRules = ProduceRules {
    version: 12,
    transactional_allowed: true,
    keys_required: false,
    timestamps: Some(TimestampBounds::ANY),
};

/// Gives the batch at the front of `bytes` the magic, the length and the checksum that make it one.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    bytes[..8].fill(0);
    let length = (bytes.len() - LOG_OVERHEAD) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

/// Walks `payload` and holds that the walk is sound.
fn walk(payload: &[u8], count: i32) -> bool {
    let mut walked = 0;
    let sound = within(0, || {
        let mut sound = true;
        for record in Records::new(payload, count) {
            let Ok(record) = record else {
                sound = false;
                break;
            };
            walked += record.raw.len();
            assert_eq!(record.headers.len(), record.headers.clone().count());
            let parts = record
                .headers
                .clone()
                .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
            let inside = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            assert!(inside + parts.sum::<usize>() < record.raw.len());
        }
        sound
    });
    assert!(walked <= payload.len());
    assert!(!sound || count <= 0 || walked == payload.len());
    sound
}

fn is_read_alike(header: &BatchHeader, record: &Record<'_>) -> bool {
    let keys_are_text = record.headers.clone().all(|field| std::str::from_utf8(field.key).is_ok());
    keys_are_text
        && header.base_timestamp.checked_add(record.timestamp_delta).is_some()
        && header.base_sequence.checked_add(record.offset_delta).is_some()
}

fn assert_same(header: &BatchHeader, ours: &Record<'_>, theirs: &kafka_protocol::records::Record) {
    assert_eq!(theirs.offset, header.offset_of(ours));
    // With log append time the crate still adds the deltas.
    if header.timestamp_type() == TimestampType::CreateTime {
        assert_eq!(theirs.timestamp, header.timestamp_of(ours));
    }
    assert_eq!(theirs.key.as_deref(), ours.key);
    assert_eq!(theirs.value.as_deref(), ours.value);
    assert_eq!(theirs.producer_id, header.producer_id);
    assert_eq!(theirs.transactional, header.is_transactional());
    let mut seen = 0;
    for field in ours.headers.clone() {
        let key = std::str::from_utf8(field.key).expect("checked before");
        let last = ours.headers.clone().filter(|other| other.key == field.key).last();
        let found = theirs.headers.iter().find(|(theirs, _)| theirs.as_str() == key);
        let (_, found) = found.expect("the crate has every key");
        assert_eq!(found.as_deref(), last.and_then(|last| last.value));
        seen += 1;
    }
    assert!(theirs.headers.len() <= seen);
}

/// What passes as a produce is read by the crate in the same way.
fn compare(batch: &Batch) {
    let header = batch.header();
    let compressed = header.compression().ok() != Some(Compression::None);
    let checked = batch.validate_for_produce(&RULES);
    let Ok(checked) = checked else { return };
    if compressed {
        return;
    }
    let payload = batch.payload(0).expect("a slice");
    let ours: Vec<Record<'_>> =
        batch.records(&payload).map(|record| record.expect("checked")).collect();
    assert_eq!(ours.len(), header.record_count as usize);
    let latest = ours.iter().map(|record| header.timestamp_of(record)).max();
    assert_eq!(checked.max_timestamp, latest.unwrap_or(-1).max(-1));
    if !ours.iter().all(|record| is_read_alike(header, record)) {
        return;
    }
    let theirs = RecordBatchDecoder::decode(&mut batch.bytes().clone());
    let theirs = theirs.expect("the crate reads what passes").records;
    assert_eq!(theirs.len(), ours.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_same(header, ours, theirs);
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((&choices, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if choices & 1 == 1 {
        seal(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    walk(&bytes, i32::from(choices));
    walk(&bytes, i32::MAX);
    let mut taken = 0;
    // An error has no room for more than its words.
    let batches = BatchIter::new(bytes.clone());
    for batch in batches.map_while(Result::ok) {
        taken += batch.header().size();
        let payload = batch.payload(1 << 16);
        if let Ok(payload) = payload {
            walk(&payload, batch.header().record_count);
        }
        assert!(batch.header().next_offset() >= batch.header().last_offset());
        let _ = (batch.header().last_sequence(), batch.header().delete_horizon());
    }
    assert!(taken <= bytes.len());
    if let Ok(batch) = Batch::parse_one(bytes) {
        compare(&batch);
    }
}

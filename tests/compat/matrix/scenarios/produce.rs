//! What producers write, judged on the log.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::matrix::context::{Context, wait_until};
use crate::matrix::log;

/// Records that a producer writes at a time.
const RECORDS: usize = 20;

pub fn none(context: &Context<'_>) {
    codec(context, "none");
}

pub fn gzip(context: &Context<'_>) {
    codec(context, "gzip");
}

pub fn snappy(context: &Context<'_>) {
    codec(context, "snappy");
}

pub fn lz4(context: &Context<'_>) {
    codec(context, "lz4");
}

pub fn zstd(context: &Context<'_>) {
    codec(context, "zstd");
}

/// The topic of a codec, which [`super::read`] reads again with every other client.
pub fn codec_topic(client: &str, codec: &str) -> String {
    format!("codec-{codec}.{client}.records")
}

/// What every codec topic holds: a part for each `acks`.
pub const CODEC_RECORDS: usize = 3 * RECORDS;

fn codec(context: &Context<'_>, codec: &str) {
    let topic = context.topic("records", 1);
    assert_eq!(topic, codec_topic(context.client.id, codec));
    let mut wire = context.wire();
    for (part, acks) in ["0", "1", "all"].into_iter().enumerate() {
        let records: Vec<Value> = (0..RECORDS)
            .map(|at| {
                json!({
                    "topic": topic, "partition": 0, "key": format!("key {at}"),
                    "value": format!("acks {acks}, number {at}; "), "repeat": 10,
                    "headers": [["written by", context.client.id]],
                })
            })
            .collect();
        let sent = context.send(json!({"acks": acks, "codec": codec}), &records);
        let expected = (part + 1) * RECORDS;
        // Nothing tells when records without an acknowledgement have come.
        wait_until(&format!("{expected} records of {topic}"), || {
            log::end_offsets(&mut wire, &[&topic], 1) == [expected as i64]
        });
        let stored = log::records(&mut wire, &topic, 0);
        let stored = &stored[part * RECORDS..];
        let values: Vec<&Value> = stored.iter().map(|record| &record["value"]).collect();
        let texts: Vec<Value> = (0..RECORDS)
            .map(|at| format!("acks {acks}, number {at}; ").repeat(10))
            .map(|text| log::text(Some(text.as_bytes())))
            .collect();
        assert_eq!(values, texts.iter().collect::<Vec<_>>(), "acks {acks}");
        if acks != "0" {
            let told = sent.iter().map(|sent| sent[1].as_i64().unwrap());
            assert!(told.zip(stored).all(|(told, at)| told == -1 || at["offset"] == told));
        }
    }
    for batch in log::batches(&mut wire, &topic, 0, 0) {
        assert_eq!(batch.header().compression().unwrap().name(), codec);
    }
    let mut reader = context.assign("reader", &[(&topic, 0)]);
    reader.reads_all(&log::records(&mut wire, &topic, 0));
    reader.close();
}

/// Sends one record after another, and finds in the log what was sent and with the client what is
/// in the log.
fn round_trip(context: &Context<'_>, records: &[Value]) {
    let topic = records[0]["topic"].as_str().unwrap();
    for record in records {
        context.send(json!({}), std::slice::from_ref(record));
    }
    let mut wire = context.wire();
    let stored = log::records(&mut wire, topic, 0);
    assert_eq!(stored.len(), records.len());
    for (stored, sent) in stored.iter().zip(records) {
        for field in ["key", "value", "headers"] {
            assert_eq!(stored[field], sent[field], "{field} of {sent}");
        }
    }
    let mut reader = context.assign("reader", &[(topic, 0)]);
    reader.reads_all(&stored);
    reader.close();
}

pub fn duplicate_headers(context: &Context<'_>) {
    with_headers(context, &json!([["b", "1"], ["b", "2"], ["a", "3"]]));
}

pub fn null_headers(context: &Context<'_>) {
    with_headers(context, &json!([["b", "1"], ["a", null], ["b", ""]]));
}

fn with_headers(context: &Context<'_>, headers: &Value) {
    let topic = context.topic("records", 1);
    let record = json!({
        "topic": topic, "partition": 0, "key": "k", "value": "v", "headers": headers,
    });
    round_trip(context, &[record]);
}

pub fn nulls(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    let records: Vec<Value> = [
        (json!(null), json!("v")),
        (json!("k"), json!(null)),
        (json!(""), json!("")),
        (json!("k"), json!("")),
    ]
    .into_iter()
    .map(|(key, value)| {
        json!({"topic": topic, "partition": 0, "key": key, "value": value, "headers": []})
    })
    .collect();
    round_trip(context, &records);
}

/// A value whose request still fits the lowest default limit: librdkafka's message.max.bytes of
/// 1,000,000, which counts the framing.
const MEGABYTE: usize = 999_900;

pub fn default_size(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    sized(context, &topic, json!({}), MEGABYTE);
}

pub fn raised_size(context: &Context<'_>) {
    let topic = context.name("records");
    let limit = (9 << 20).to_string();
    let names = [topic.clone()];
    log::create_topics(&mut context.wire(), &names, 1, &[("max.message.bytes", &limit)]);
    sized(context, &topic, json!({"max_bytes": 9 << 20}), 8 << 20);
}

/// Sends and reads a record of `bytes` with `settings`.
fn sized(context: &Context<'_>, topic: &str, settings: Value, bytes: usize) {
    let record = json!({"topic": topic, "partition": 0, "value": "x", "repeat": bytes});
    context.send(settings.clone(), &[record]);
    let stored = log::records(&mut context.wire(), topic, 0);
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0]["value"], log::text(Some(&vec![b'x'; bytes])));
    let mut fields = settings;
    fields["assign"] = json!([[topic, 0]]);
    let mut reader = context.open("reader", fields);
    reader.reads_all(&stored);
    reader.close();
}

pub fn refused_size(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    let record = json!({"topic": topic, "partition": 0, "value": "x", "repeat": 2 << 20});
    let sent = context.produce(json!({"max_bytes": 9 << 20}), &[record]);
    let error = sent[0].as_str().expect("the record is refused").to_lowercase();
    let letters: String = error.chars().filter(char::is_ascii_alphanumeric).collect();
    let names = [
        "messagetoolarge",
        "messagesizetoolarge",
        "messagewastoolarge",
        "msgsizetoolarge",
        "recordtoolarge",
    ];
    assert!(names.iter().any(|name| letters.contains(name)), "refused as {error}");
    assert_eq!(log::end_offsets(&mut context.wire(), &[&topic], 1), [0]);
}

const KEY_PARTITIONS: i32 = 10;
const KEYS: usize = 32;

/// Sends each key twice, by two producers, and returns the partitions of each.
fn keyed(context: &Context<'_>, settings: &Value) -> BTreeMap<String, BTreeSet<i64>> {
    let topic = context.topic("records", KEY_PARTITIONS);
    let records: Vec<Value> = (0..KEYS)
        .map(|at| json!({"topic": topic, "key": format!("customer {at}"), "value": "v"}))
        .collect();
    for _ in 0..2 {
        context.send(settings.clone(), &records);
    }
    let mut partitions: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    let stored = log::all_records(&mut context.wire(), &topic, KEY_PARTITIONS);
    assert_eq!(stored.len(), 2 * KEYS);
    for record in stored {
        let key = record["key"].as_str().unwrap().to_owned();
        partitions.entry(key).or_default().insert(record["partition"].as_i64().unwrap());
    }
    assert_eq!(partitions.len(), KEYS);
    partitions
}

pub fn keys(context: &Context<'_>) {
    let partitions = keyed(context, &json!({}));
    assert!(partitions.values().all(|of_key| of_key.len() == 1), "{partitions:?}");
    let used: BTreeSet<_> = partitions.values().flatten().collect();
    assert!(used.len() > 1, "keys are spread");
}

pub fn murmur2(context: &Context<'_>) {
    for (key, partitions) in keyed(context, &json!({"partitioner": "murmur2"})) {
        let expected = i64::from((hash(key.as_bytes()) & 0x7fff_ffff) % KEY_PARTITIONS as u32);
        assert_eq!(partitions, BTreeSet::from([expected]), "{key}");
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn hash(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut fours = data.chunks_exact(4);
    for four in fours.by_ref() {
        let mut k = u32::from_le_bytes([four[0], four[1], four[2], four[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = fours.remainder();
    for (at, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

pub fn idempotent(context: &Context<'_>) {
    let topic = context.topic("records", 2);
    let records: Vec<Value> = (0..100)
        .map(|at| json!({"topic": topic, "partition": at / 50, "value": format!("{at}")}))
        .collect();
    context.send(json!({"idempotent": true}), &records);
    let mut wire = context.wire();
    for partition in 0..2 {
        let mut sequence = 0;
        let mut producers = BTreeSet::new();
        for batch in log::batches(&mut wire, &topic, partition, 0) {
            let header = batch.header();
            assert!(header.has_producer_id(), "{header:?}");
            assert_eq!(header.base_sequence, sequence, "{header:?}");
            sequence += header.record_count;
            producers.insert(header.producer_id);
        }
        assert_eq!(sequence, 50, "records of partition {partition}");
        assert_eq!(producers.len(), 1, "one producer wrote all of it");
    }
}

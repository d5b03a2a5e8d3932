//! Record batches that Kafka's validator refuses (research: bad input, "Record batch").
//!
//! `tests/diff` holds Apache Kafka's answers to the same batches against ours.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest};
use tidegate::protocol::compression::{Compression, compress};

use crate::forge::{at, batch, body, compressed, edited, good, lone, record, zigzag};
use crate::harness::Wire;
use crate::hostile::Scene;
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, fetched, produce, produce_request, produced, text, topic_name,
};

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// Creates a topic of one partition that is compacted: there, compressed records are read too.
pub fn create_compacted(wire: &mut Wire, topic: &str) {
    let config = CreatableTopicConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(7, &request).topics[0].error_code, NONE);
}

/// Holds that each batch is refused with its code, that none of it can be read, and that the
/// connection goes on.
fn assert_refused(cases: Vec<(Bytes, i16)>) {
    let mut scene = Scene::new();
    assert_refused_in(&mut scene, "a", cases);
    scene.assert_unharmed();
}

fn assert_refused_in(scene: &mut Scene, topic: &str, cases: Vec<(Bytes, i16)>) {
    let mut wire = scene.broker.connect();
    for (at, (batch, code)) in cases.into_iter().enumerate() {
        let answer = produce(&mut wire, topic, batch);
        assert_eq!(answer, (code, -1), "case {at}");
    }
    assert!(fetched(wire.call(FETCH, &Fetch::at(0).request(topic))).is_empty());
    assert_eq!(produce(&mut wire, topic, good(3).into()), (NONE, 0));
}

/// The same code for all of them.
fn all(code: i16, batches: Vec<Bytes>) -> Vec<(Bytes, i16)> {
    batches.into_iter().map(|batch| (batch, code)).collect()
}

#[test]
fn a_batch_shorter_than_its_header_is_refused() {
    let whole = Bytes::from(good(1));
    assert_refused(all(INVALID_RECORD, (1..61).map(|len| whole.slice(..len)).collect()));
}

#[test]
fn a_batch_cut_short_is_refused() {
    let whole = Bytes::from(good(3));
    assert_refused(all(INVALID_RECORD, (61..whole.len()).map(|len| whole.slice(..len)).collect()));
}

#[test]
fn a_batch_length_that_lies_is_refused() {
    let length = |length: i32| edited(at::LENGTH, &length.to_be_bytes());
    let mut cases = all(CORRUPT_MESSAGE, [-1, 0, 48, i32::MIN].map(length).to_vec());
    cases.extend(all(INVALID_RECORD, [49, 60, 1 << 20, i32::MAX].map(length).to_vec()));
    assert_refused(cases);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut cases = vec![edited(at::CRC, &[0; 4])];
    let whole = good(3);
    for flipped in at::ATTRIBUTES..whole.len() {
        let mut batch = whole.clone();
        batch[flipped] ^= 1;
        // The codec is looked at before the checksum: 1 is gzip, whose checksum is wrong too.
        cases.push(batch.into());
    }
    assert_refused(all(CORRUPT_MESSAGE, cases));
}

#[test]
fn another_magic_is_refused() {
    let magic = |magic: u8| edited(at::MAGIC, &[magic]);
    let mut cases = all(INVALID_RECORD, [0, 1].map(magic).to_vec());
    cases.extend(all(CORRUPT_MESSAGE, [3, 0x7f, 0x80, 0xff].map(magic).to_vec()));
    assert_refused(cases);
}

#[test]
fn more_than_one_batch_for_a_partition_is_refused() {
    let two = [good(1), good(1)].concat();
    let tail = [&good(1)[..], &[0]].concat();
    assert_refused(all(INVALID_RECORD, vec![two.into(), tail.into()]));
}

#[test]
fn offsets_that_are_negative_or_not_fresh_are_refused() {
    let base = |offset: i64| edited(at::BASE_OFFSET, &offset.to_be_bytes());
    let last = |delta: i32| edited(at::LAST_OFFSET_DELTA, &delta.to_be_bytes());
    let mut cases = [-1, 1, i64::MIN, i64::MAX].map(base).to_vec();
    cases.extend([-1, i32::MIN, i32::MAX, 1, 3].map(last));
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn a_record_count_that_is_not_that_of_the_offsets_is_refused() {
    let count = |count: i32| edited(at::COUNT, &count.to_be_bytes());
    let mut cases = [0, -1, i32::MIN, i32::MAX, 2, 4].map(count).to_vec();
    // Count and last offset agree on nothing, on a negative number and on too much.
    for agreed in [0, -5, i32::MIN, 1_000_001, i32::MAX] {
        cases.push(batch(0, agreed, &record(0, b"v")).into());
    }
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn a_control_batch_of_a_client_is_refused() {
    let bits = |bits: i16| edited(at::ATTRIBUTES, &bits.to_be_bytes());
    assert_refused(all(INVALID_RECORD, vec![bits(0x20), bits(0x30)]));
}

#[test]
fn a_producer_id_with_a_negative_epoch_or_sequence_is_refused() {
    let producer = |id: i64, epoch: i16, sequence: i32| {
        let fields = [&id.to_be_bytes()[..], &epoch.to_be_bytes(), &sequence.to_be_bytes()];
        edited(at::PRODUCER_ID, &fields.concat())
    };
    let cases = vec![producer(5, 0, -1), producer(5, -1, 0), producer(5, i16::MIN, i32::MIN)];
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn times_out_of_range_are_refused() {
    let time = |time: i64| edited(at::BASE_TIMESTAMP, &time.to_be_bytes());
    let stamped = edited(at::ATTRIBUTES, &0x08_i16.to_be_bytes());
    let cases = vec![stamped, time(i64::MAX), time(i64::MAX / 2)];
    assert_refused(all(INVALID_TIMESTAMP, cases));
}

#[test]
fn an_unknown_codec_is_refused() {
    let codec = |codec: i16| edited(at::ATTRIBUTES, &codec.to_be_bytes());
    assert_refused(all(UNSUPPORTED_COMPRESSION_TYPE, [5, 6, 7].map(codec).to_vec()));
}

#[test]
fn a_record_longer_than_its_batch_is_refused() {
    let whole = body(0, &[1], &[1], &[0]);
    let cases = [whole.len() as i32 + 1, 1 << 20, i32::MAX].map(|len| lone(len, &whole));
    assert_refused(all(INVALID_RECORD, cases.to_vec()));
}

#[test]
fn a_record_of_negative_length_or_of_nothing_is_refused() {
    let whole = body(0, &[1], &[1], &[0]);
    let mut cases = [-1, i32::MIN, 0].map(|len| lone(len, &whole)).to_vec();
    cases.push(lone(0, &[]));
    // A length that does not end.
    cases.push(batch(0, 1, &[0x80; 11]).into());
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn bytes_behind_the_last_record_are_refused() {
    let two = [record(0, b"v"), record(1, b"v")].concat();
    let one_more = [record(0, b"v"), vec![0]].concat();
    let inside = [body(0, &[1], &[1], &[0]), vec![0]].concat();
    let cases = vec![
        batch(0, 1, &two).into(),
        batch(0, 1, &one_more).into(),
        lone(inside.len() as i32, &inside),
    ];
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn fewer_records_than_counted_are_refused() {
    let two = [record(0, b"v"), record(1, b"v")].concat();
    let cases = vec![batch(0, 3, &two).into(), batch(0, 1, &[]).into()];
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn a_key_or_value_that_lies_about_its_length_is_refused() {
    let mut cases = Vec::new();
    for length in [-2, i32::MIN, 100, i32::MAX] {
        let length = zigzag(length);
        for body in [body(0, &length, &[1], &[0]), body(0, &[1], &length, &[0])] {
            cases.push(lone(body.len() as i32, &body));
        }
    }
    let no_end = body(0, &[0x80; 6], &[1], &[0]);
    cases.push(lone(no_end.len() as i32, &no_end));
    assert_refused(all(INVALID_RECORD, cases));
}

#[test]
fn more_headers_than_fit_are_refused() {
    let counts = [1, 1 << 20, i32::MAX, -1, i32::MIN].map(|count| {
        let body = body(0, &[1], &[1], &zigzag(count));
        lone(body.len() as i32, &body)
    });
    assert_refused(all(INVALID_RECORD, counts.to_vec()));
}

#[test]
fn a_header_with_a_negative_or_false_length_is_refused() {
    let one = |key: i32, value: i32| {
        let headers = [zigzag(1), zigzag(key), zigzag(value)].concat();
        let body = body(0, &[1], &[1], &headers);
        lone(body.len() as i32, &body)
    };
    let cases = [(-1, 0), (-2, 0), (i32::MIN, 0), (9, 0), (0, -2), (0, 9), (0, i32::MAX)];
    assert_refused(all(INVALID_RECORD, cases.map(|(key, value)| one(key, value)).to_vec()));
}

#[test]
fn offset_deltas_that_do_not_count_from_zero_are_refused() {
    let deltas = |deltas: &[i32]| {
        let payload: Vec<u8> = deltas.iter().flat_map(|delta| record(*delta, b"v")).collect();
        Bytes::from(batch(0, deltas.len() as i32, &payload))
    };
    let cases = [&[1, 2][..], &[0, 0], &[0, 2], &[1, 0], &[-1, 0], &[0, i32::MAX], &[i32::MIN]];
    assert_refused(all(INVALID_RECORD, cases.map(deltas).to_vec()));
}

#[test]
fn a_compressed_batch_with_more_or_fewer_records_is_refused_where_records_are_read() {
    let two = [record(0, b"v"), record(1, b"v")].concat();
    let mut scene = Scene::new();
    create_compacted(&mut scene.broker.connect(), "c");
    let codecs = Compression::ALL.into_iter().filter(|codec| *codec != Compression::None);
    let cases = codecs.flat_map(|codec| {
        let payload = compress(codec, &two);
        [1, 3].map(|count| compressed(codec, count, &payload))
    });
    assert_refused_in(&mut scene, "c", all(INVALID_RECORD, cases.collect()));
    scene.assert_unharmed();
}

#[test]
fn a_compressed_batch_that_is_none_is_refused_where_records_are_read() {
    let mut scene = Scene::new();
    create_compacted(&mut scene.broker.connect(), "c");
    let mut cases = Vec::new();
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let whole = compress(codec, &record(0, &[7; 1_000]));
        cases.push(compressed(codec, 1, &[]));
        cases.push(compressed(codec, 1, &whole[..whole.len() / 2]));
        cases.push(compressed(codec, 1, &[0xff; 100]));
        cases.push(compressed(codec, 1, b"plain text, not compressed at all"));
    }
    assert_refused_in(&mut scene, "c", all(INVALID_RECORD, cases));
    scene.assert_unharmed();
}

#[test]
fn one_bad_batch_does_not_spoil_the_others_of_its_request() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    create_compacted(&mut wire, "c");
    let mut request: ProduceRequest = produce_request("a", 0, -1, edited(at::CRC, &[0; 4]));
    request.topic_data.extend(produce_request("c", 0, -1, good(1).into()).topic_data);
    let response = wire.call(PRODUCE, &request);
    assert_eq!(produced(&response).error_code, CORRUPT_MESSAGE);
    assert_eq!(response.responses[1].partition_responses[0].error_code, NONE);
    scene.assert_unharmed();
}

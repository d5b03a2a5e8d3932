//! Produce and idempotence.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{CreateTopicsRequest, InitProducerIdRequest, ProducerId};
use tidegate::protocol::batch::ProducerRef;

use crate::harness::{Broker, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, batch, batches, create_topic, fetched, produce, produce_request,
    produced, producer_id, record, text, topic_name,
};

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_REQUEST: i16 = 42;

/// Where Kafka's batch header has its base offset, leader epoch, attributes and max timestamp.
const ATTRIBUTES: usize = 21;
const MAX_TIMESTAMP: usize = 35;

#[test]
fn gotcha_16_partitions_of_a_produce_fail_by_themselves_with_words_from_v8_on() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 2);
    let mut broken = record(10).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let data = |index: i32, records: Bytes| {
        PartitionProduceData::default().with_index(index).with_records(Some(records))
    };
    let mut request = produce_request("a", 0, -1, record(10));
    request.topic_data[0].partition_data =
        vec![data(0, record(10)), data(1, broken.into()), data(9, record(10))];
    for (version, offset) in [(3, 0), (7, 1), (8, 2), (12, 3)] {
        let response = wire.call(version, &request);
        let partitions = &response.responses[0].partition_responses;
        let codes: Vec<i16> = partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!(codes, [NONE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION], "v{version}");
        let good: &PartitionProduceResponse = &partitions[0];
        assert_eq!((good.base_offset, good.log_append_time_ms), (offset, -1), "v{version}");
        assert_eq!(good.log_start_offset, if version >= 5 { 0 } else { -1 }, "v{version}");
        assert_eq!(partitions[1].error_message.is_some(), version >= 8, "v{version}");
    }
    assert!(fetched(wire.call(FETCH, &Fetch::at(0).request("a"))).len() > 4 * 61);
}

/// Sends a batch of one record with this epoch and sequence: error and base offset.
fn send(wire: &mut Wire, producer: ProducerRef, epoch: i16, sequence: i32) -> (i16, i64) {
    produce(wire, "a", batch(ProducerRef { epoch, sequence, ..producer }, 10))
}

#[test]
fn gotcha_17_the_last_five_batches_are_known_and_what_does_not_follow_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let producer = producer_id(&mut wire);
    for sequence in 0..6 {
        assert_eq!(send(&mut wire, producer, 0, sequence), (NONE, i64::from(sequence)));
    }
    for sequence in 1..6 {
        let original = (NONE, i64::from(sequence));
        assert_eq!(send(&mut wire, producer, 0, sequence), original, "a batch of the last five");
    }
    assert_eq!(send(&mut wire, producer, 0, 0).0, DUPLICATE_SEQUENCE_NUMBER);
    assert_eq!(send(&mut wire, producer, 0, 7).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(&mut wire, producer, 1, 3).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(&mut wire, producer, 1, 0), (NONE, 6));
    assert_eq!(send(&mut wire, producer, 0, 6).0, INVALID_PRODUCER_EPOCH);
    assert_eq!(send(&mut wire, producer, 1, 1), (NONE, 7), "refusals change nothing");

    // A producer without state begins anywhere, as after retention.
    let unknown = producer_id(&mut wire);
    assert_eq!(send(&mut wire, unknown, 0, i32::MAX), (NONE, 8));
    assert_eq!(send(&mut wire, unknown, 0, 0), (NONE, 9), "sequences go on with 0");
    assert_eq!(send(&mut wire, unknown, 0, i32::MAX), (NONE, 8));
}

#[test]
fn gotcha_18_a_batch_repeated_on_many_connections_is_appended_once_also_after_a_kill() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let producer = producer_id(&mut wire);
    let same = batch(producer, 100);
    let senders: Vec<_> = (0..16)
        .map(|_| {
            let (mut wire, same) = (broker.connect(), same.clone());
            std::thread::spawn(move || produce(&mut wire, "a", same))
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.join().unwrap(), (NONE, 0));
    }
    broker.kill();
    broker.restart();
    let mut wire = broker.connect();
    assert_eq!(produce(&mut wire, "a", same), (NONE, 0), "it is known after the kill");
    assert_eq!(send(&mut wire, producer, 0, 1), (NONE, 1));
    let log = fetched(wire.call(FETCH, &Fetch::at(0).request("a")));
    let offsets: Vec<i64> = batches(&log).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn gotcha_19_a_producer_id_without_a_transactional_id_is_always_a_fresh_one() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let known = producer_id(&mut wire);
    let mut ask = |version: i16, id: i64, epoch: i16| {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let response = wire.call(version, &request);
        (response.error_code, response.producer_id.0, response.producer_epoch)
    };
    let mut seen = vec![known.id];
    for version in 0..=5 {
        let (error, id, epoch) = ask(version, -1, -1);
        assert_eq!((error, epoch), (NONE, 0), "v{version}");
        assert!(!seen.contains(&id), "v{version}");
        seen.push(id);
    }
    for epoch in [0, 7, i16::MAX] {
        let (error, id, fresh) = ask(5, known.id, epoch);
        assert_eq!((error, fresh), (NONE, 0), "a bump of epoch {epoch}");
        assert!(!seen.contains(&id));
        seen.push(id);
    }
    assert_eq!(ask(5, known.id, -1).0, INVALID_REQUEST);
    assert_eq!(ask(5, -1, 3).0, INVALID_REQUEST);
}

#[test]
fn gotcha_20_log_append_time_is_stamped_with_a_new_checksum_and_told() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let config = CreatableTopicConfig::default()
        .with_name(text("message.timestamp.type"))
        .with_value(Some(text("LogAppendTime")));
    let topic = CreatableTopic::default()
        .with_name(topic_name("a"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(7, &request).topics[0].error_code, NONE);
    let sent = record(100);
    let response = wire.call(PRODUCE, &produce_request("a", 0, -1, sent.clone()));
    let time = produced(&response).log_append_time_ms;
    assert!(time > 0);
    let log = fetched(wire.call(FETCH, &Fetch::at(0).request("a")));
    let stamped = i64::from_be_bytes(log[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].try_into().unwrap());
    assert_eq!((stamped, log[ATTRIBUTES + 1]), (time, 8));
    let crc = u32::from_be_bytes(log[17..21].try_into().unwrap());
    assert_eq!(crc, crc32c::crc32c(&log[ATTRIBUTES..]));
    assert_eq!(log[61..], sent[61..], "the records are as they came");
}

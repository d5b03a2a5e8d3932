//! Offsets by question and by time, deleted records, and where a group's coordinator is.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, FindCoordinatorRequest, ListOffsetsRequest,
};
use tidegate::protocol::batch::BatchBuilder;
use tidegate::protocol::compression::Compression;

use crate::harness::{Broker, Wire};
use crate::requests::{FETCH, Fetch, NONE, create_topic, produce, record, text, topic_name};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;

const T0: i64 = 1_700_000_000_000;

/// Error, offset, timestamp and leader epoch of each answer, one for each timestamp.
fn ask(wire: &mut Wire, version: i16, timestamps: &[i64]) -> Vec<(i16, i64, i64, i32)> {
    let part = |timestamp: &i64| {
        ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(*timestamp)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("a"))
        .with_partitions(timestamps.iter().map(part).collect());
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answers = wire.call(version, &request).topics.remove(0).partitions;
    answers
        .into_iter()
        .map(|found| (found.error_code, found.offset, found.timestamp, found.leader_epoch))
        .collect()
}

/// The one answer, without its epoch.
fn one(wire: &mut Wire, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let (error, offset, time, _) = ask(wire, version, &[timestamp])[0];
    (error, offset, time)
}

/// Topic a with records at T0, T0 + 20 and T0 + 10 in a batch, and one at T0 + 15 behind it.
fn filled(broker: &Broker, codec: Compression) -> Wire {
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let mut builder = BatchBuilder::new();
    for delta in [0, 20, 10] {
        builder.append(T0 + delta, None, Some(b"value"), &[]);
    }
    assert_eq!(produce(&mut wire, "a", builder.build_compressed(codec)), (NONE, 0));
    let mut last = BatchBuilder::new();
    last.append(T0 + 15, None, Some(b"value"), &[]);
    assert_eq!(produce(&mut wire, "a", last.build()), (NONE, 3));
    wire
}

#[test]
fn gotcha_29_each_question_of_list_offsets_has_its_version_and_its_answer() {
    let broker = Broker::start();
    let mut wire = filled(&broker, Compression::None);
    for version in 1..=10 {
        assert_eq!(one(&mut wire, version, -1), (NONE, 4, -1), "v{version}: the latest");
        assert_eq!(one(&mut wire, version, -2), (NONE, 0, -1), "v{version}: the earliest");
        let since = |first: i16, answer: (i16, i64, i64)| {
            if version >= first { answer } else { (UNSUPPORTED_VERSION, -1, -1) }
        };
        let greatest = since(7, (NONE, 1, T0 + 20));
        assert_eq!(one(&mut wire, version, -3), greatest, "v{version}: the greatest timestamp");
        let local = since(8, (NONE, 0, -1));
        assert_eq!(one(&mut wire, version, -4), local, "v{version}: the earliest local");
        let tiered = since(9, (NONE, -1, -1));
        assert_eq!(one(&mut wire, version, -5), tiered, "v{version}: the latest tiered");
        for unknown in [-6, -7, i64::MIN] {
            let refused = (UNSUPPORTED_VERSION, -1, -1);
            assert_eq!(one(&mut wire, version, unknown), refused, "v{version}: {unknown}");
        }
        let twice = ask(&mut wire, version, &[-1, -2]);
        assert!(twice.iter().all(|answer| *answer == (INVALID_REQUEST, -1, -1, -1)), "v{version}");
    }
    let none = ask(&mut wire, 10, &[T0 + 1_000]);
    assert_eq!(none, [(NONE, -1, -1, -1)], "no record, no epoch");
}

#[test]
fn gotcha_30_a_time_finds_the_record_itself_and_not_its_batch() {
    for codec in [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Lz4] {
        let broker = Broker::start();
        let mut wire = filled(&broker, codec);
        for (delta, offset, found) in [(-5, 0, 0), (0, 0, 0), (1, 1, 20), (15, 1, 20), (20, 1, 20)]
        {
            let expected = (NONE, offset, T0 + found);
            assert_eq!(one(&mut wire, 7, T0 + delta), expected, "{codec:?} {delta}");
        }
        assert_eq!(one(&mut wire, 7, T0 + 21), (NONE, -1, -1), "{codec:?}: later than all");
        assert_eq!(one(&mut wire, 7, -3), (NONE, 1, T0 + 20), "{codec:?}: the greatest");
    }
}

/// Error and log start after a deletion of what lies before `offset`.
fn delete(wire: &mut Wire, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let result = wire.call(2, &request).topics.remove(0).partitions.remove(0);
    (result.error_code, result.low_watermark)
}

#[test]
fn gotcha_15_records_are_deleted_up_to_the_high_watermark_at_most_and_stay_deleted() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    for offset in 0..5 {
        assert_eq!(produce(&mut wire, "a", record(10)), (NONE, offset));
    }
    assert_eq!(delete(&mut wire, 6), (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(&mut wire, 2), (NONE, 2));
    assert_eq!(one(&mut wire, 7, -2), (NONE, 2, -1));
    broker.kill();
    broker.restart();
    let mut wire = broker.connect();
    assert_eq!(one(&mut wire, 7, -2), (NONE, 2, -1), "after a kill");
    let below = wire.call(FETCH, &Fetch::at(1).request("a"));
    assert_eq!(below.responses[0].partitions[0].error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(delete(&mut wire, -1), (NONE, 5), "-1 is the high watermark");
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 5));
}

#[test]
fn gotcha_31_coordinators_are_found_in_batches_from_v4_on_and_one_by_one_before() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let port: i32 = broker.address().rsplit_once(':').unwrap().1.parse().unwrap();
    for version in 0..=3 {
        let found = wire.call(version, &FindCoordinatorRequest::default().with_key(text("g")));
        assert_eq!((found.error_code, found.node_id.0, found.port), (NONE, 1, port), "v{version}");
    }
    for version in 4..=6 {
        let keys = ["g", "h", "i"].map(text).to_vec();
        let found =
            wire.call(version, &FindCoordinatorRequest::default().with_coordinator_keys(keys));
        let found: Vec<_> = found
            .coordinators
            .iter()
            .map(|found| (found.key.as_str(), found.error_code, found.node_id.0, found.port))
            .collect();
        let expected = ["g", "h", "i"].map(|key| (key, NONE, 1, port));
        assert_eq!(found, expected, "v{version}");
    }
}

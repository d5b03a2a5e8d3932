//! Where a log is asked for an offset, and the bucket has it: `ListOffsets`, its timeout
//! (KIP-1075), `OffsetForLeaderEpoch`, and `DeleteRecords` in the middle of what the bucket has.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use tidegate::protocol::batch::BatchBuilder;

use crate::cold::{COLD, Cold, NOT_HERE, fetch, of, records};
use crate::harness::Wire;
use crate::requests::{FETCH, NONE, UNSUPPORTED_VERSION, batches, produce, topic_name};
use crate::tiering::{
    EARLIEST, EARLIEST_LOCAL, LATEST, LATEST_TIERED, create_topic_with, wait_until_tiered,
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const REQUEST_TIMED_OUT: i16 = 7;
/// `ListOffsets`: the record with the greatest timestamp.
const MAX_TIMESTAMP: i64 = -3;
/// The first version in which a request says how long the bucket is waited for.
const TIMEOUT: i16 = 10;
/// No test runs so long.
const FOR_EVER: i32 = i32::MAX;
/// The footer of an object and the chunk, in two requests.
const GETS: u64 = 2;

/// Questions to partitions of topic "a", in this order.
fn list(asked: &[(i32, i64)], timeout_ms: i32) -> ListOffsetsRequest {
    let part = |(index, timestamp): &(i32, i64)| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_current_leader_epoch(-1)
            .with_timestamp(*timestamp)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("a"))
        .with_partitions(asked.iter().map(part).collect());
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_timeout_ms(timeout_ms)
        .with_topics(vec![topic])
}

fn answers(
    wire: &mut Wire,
    version: i16,
    request: &ListOffsetsRequest,
) -> Vec<ListOffsetsPartitionResponse> {
    wire.call(version, request).topics.remove(0).partitions
}

/// Error code, offset, timestamp.
fn told(answer: &ListOffsetsPartitionResponse) -> (i16, i64, i64) {
    (answer.error_code, answer.offset, answer.timestamp)
}

fn delete_before(wire: &mut Wire, topic: &str, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answer = wire.call(2, &request).topics.remove(0).partitions.remove(0);
    (answer.error_code, answer.low_watermark)
}

/// Epoch and end offset of what `OffsetForLeaderEpoch` finds.
fn end_of(wire: &mut Wire, epoch: i32) -> (i32, i64) {
    let asked =
        OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(epoch);
    let topic =
        OffsetForLeaderTopic::default().with_topic(topic_name("a")).with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let found = wire.call(4, &request).topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, NONE);
    (found.leader_epoch, found.end_offset)
}

/// The leader epoch of the first batch.
fn epoch_of(records: &Bytes) -> i32 {
    i32::from_be_bytes(records[12..16].try_into().unwrap())
}

#[test]
fn every_question_is_answered_of_a_log_that_is_in_the_bucket() {
    let mut cold = Cold::start(1);
    let mut wire = cold.broker.connect();
    let log = &mut cold.logs[0];
    let ask = |wire: &mut Wire, version, at| told(&answers(wire, version, &list(&[(0, at)], 0))[0]);
    for (at, since, offset) in [
        (LATEST, 1, COLD),
        (EARLIEST, 1, 0),
        (EARLIEST_LOCAL, 8, COLD),
        (LATEST_TIERED, 9, COLD - 1),
    ] {
        assert_eq!(ask(&mut wire, TIMEOUT, at), (NONE, offset, -1), "{at}");
        assert_eq!(ask(&mut wire, since, at), (NONE, offset, -1), "{at} in version {since}");
        if since > 1 {
            let refused = (UNSUPPORTED_VERSION, -1, -1);
            assert_eq!(ask(&mut wire, since - 1, at), refused, "{at} before version {since}");
        }
    }
    assert_eq!(ask(&mut wire, 6, MAX_TIMESTAMP), (UNSUPPORTED_VERSION, -1, -1));
    let newest = (NONE, COLD - 1, log.time(COLD - 1));
    assert_eq!(ask(&mut wire, 7, MAX_TIMESTAMP), newest);
    for offset in [COLD - 1, 0, COLD / 2] {
        let found = (NONE, offset, log.time(offset));
        assert_eq!(ask(&mut wire, 1, log.time(offset)), found);
        assert_eq!(ask(&mut wire, TIMEOUT, log.time(offset) - 1), found);
    }
    assert_eq!(ask(&mut wire, TIMEOUT, log.time(COLD - 1) + 1), (NONE, -1, -1), "none is younger");

    // What is on this machine only comes after it.
    log.write(&mut wire, 2);
    assert_eq!(ask(&mut wire, TIMEOUT, EARLIEST_LOCAL), (NONE, COLD, -1));
    assert_eq!(ask(&mut wire, TIMEOUT, MAX_TIMESTAMP).1, COLD + 1);
    assert_eq!(ask(&mut wire, TIMEOUT, log.time(COLD - 1) + 1).1, COLD);
}

/// As Apache Kafka's `DelayedRemoteListOffsets`: when its time is up each partition that the bucket
/// has not answered for is told so, and the others have their answers.
#[test]
fn list_offsets_waits_for_the_bucket_as_long_as_it_says_and_for_each_partition_by_itself() {
    let cold = Cold::start(3);
    let mut wire = cold.broker.connect();
    let time = |index: usize, offset| (index as i32, cold.logs[index].time(offset));
    // What the bucket has answered for partition 1 is in the cache.
    assert_eq!(told(&answers(&mut wire, TIMEOUT, &list(&[time(1, 1)], 0))[0]).0, NONE);
    let hold = cold.bucket.hold(&cold.objects[0]);
    let request = list(&[time(0, 1), time(1, 1), (2, EARLIEST)], 2_000);
    let found = answers(&mut wire, TIMEOUT, &request);
    assert_eq!(told(&found[0]), (REQUEST_TIMED_OUT, -1, -1));
    assert_eq!(found[0].leader_epoch, -1);
    assert_eq!(told(&found[1]), (NONE, 1, cold.logs[1].time(1)), "it does not wait for the first");
    assert_eq!(told(&found[2]), (NONE, 0, -1));

    // A version without a timeout, and a request without one, wait as long as the broker says.
    let (mut older, mut newer) = (cold.broker.connect(), cold.broker.connect());
    let request = list(&[time(0, 1)], 0);
    let ids = [older.send(TIMEOUT - 1, &request), newer.send(TIMEOUT, &request)];
    let waiting = "tidegate_server_requests_in_flight";
    cold.broker.wait_until("both wait", |broker| broker.metric(waiting) >= 2.0);
    hold.let_go(1);
    hold.wait_for(GETS);
    drop(hold);
    let answer = (NONE, 1, cold.logs[0].time(1));
    for (wire, version, id) in [(older, TIMEOUT - 1, ids[0]), (newer, TIMEOUT, ids[1])] {
        let mut wire = wire;
        let found = wire.receive::<ListOffsetsRequest>(version, id);
        assert_eq!(told(&found.topics[0].partitions[0]), answer);
    }
}

/// The bucket has no epochs of its own: they are found where the log is, before and after restarts.
#[test]
fn leader_epochs_end_where_they_did_when_their_records_are_in_the_bucket() {
    let mut cold = Cold::start(1);
    let mut ends = vec![(0, 0)];
    for round in 0..3 {
        let mut wire = cold.broker.connect();
        if round > 0 {
            cold.logs[0].write(&mut wire, 3);
            wait_until_tiered(&cold.broker, &cold.logs);
            cold.push_out(&format!("filler-{round}"));
            wire = cold.broker.connect();
        }
        let end = cold.logs[0].end;
        let last = wire.call(FETCH, &fetch(&[(0, end - 1)], 1, FOR_EVER));
        let epoch = epoch_of(&records(&last, 0));
        let first = ends.last().unwrap().1;
        assert!(epoch > ends.last().unwrap().0, "{epoch} after {ends:?}");
        for offset in [first, end - 1] {
            let found = wire.call(FETCH, &fetch(&[(0, offset)], 1, FOR_EVER));
            assert_eq!(epoch_of(&records(&found, 0)), epoch, "at {offset}");
        }
        ends.push((epoch, end));
        for (epoch, end) in &ends[1..] {
            assert_eq!(end_of(&mut wire, *epoch), (*epoch, *end), "{ends:?}");
        }
        // A client that was ahead in an epoch before this one hears where that ended.
        let mut ahead = fetch(&[(0, ends[1].1 + 1)], 1, FOR_EVER);
        ahead.topics[0].partitions[0].last_fetched_epoch = ends[1].0;
        let answer = wire.call(FETCH, &ahead);
        if round > 0 {
            let parts = &of(&answer, 0).diverging_epoch;
            assert_eq!((parts.epoch, parts.end_offset), ends[1]);
        }
        drop(wire);
        if round == 1 {
            cold.broker.kill();
        } else {
            assert_eq!(cold.broker.stop(), Some(0));
        }
        cold.broker.restart();
    }
}

/// The log starts inside a batch, inside a chunk, inside an object.
#[test]
fn records_deleted_within_a_section_are_found_by_no_question_and_no_fetch() {
    const RECORDS: i64 = 10;
    const BATCHES: i64 = 6;
    let mut cold = Cold::start(1);
    let mut wire = cold.broker.connect();
    create_topic_with(&mut wire, "b", 1, &NOT_HERE);
    let begun = cold.logs[0].time(0);
    let time = |offset: i64| begun + offset * 1_000;
    for batch in 0..BATCHES {
        let mut builder = BatchBuilder::new();
        for at in 0..RECORDS {
            let value = vec![7_u8; 1_000];
            builder.append(time(batch * RECORDS + at), None, Some(&value), &[]);
        }
        assert_eq!(produce(&mut wire, "b", builder.build()), (NONE, batch * RECORDS));
    }
    let ask = |wire: &mut Wire, at| {
        let mut request = list(&[(0, at)], FOR_EVER);
        request.topics[0].name = topic_name("b");
        told(&answers(wire, TIMEOUT, &request)[0])
    };
    let end = BATCHES * RECORDS;
    let broker = &cold.broker;
    broker.wait_until("the bucket has it", |_| ask(&mut wire, LATEST_TIERED).1 == end - 1);
    cold.push_out("filler-b");
    wire = cold.broker.connect();
    let broker = &cold.broker;
    broker.wait_until("the bucket alone has it", |_| ask(&mut wire, EARLIEST_LOCAL).1 == end);
    let start = 2 * RECORDS + 5;
    assert_eq!(delete_before(&mut wire, "b", start), (NONE, start));
    assert_eq!(delete_before(&mut wire, "b", end + 1).0, OFFSET_OUT_OF_RANGE);
    for round in 0..2 {
        assert_eq!(ask(&mut wire, EARLIEST), (NONE, start, -1), "round {round}");
        for before in [0, time(0), time(start - 1), time(start)] {
            assert_eq!(ask(&mut wire, before), (NONE, start, time(start)), "round {round}");
        }
        assert_eq!(ask(&mut wire, time(start + 1)), (NONE, start + 1, time(start + 1)));
        assert_eq!(ask(&mut wire, MAX_TIMESTAMP), (NONE, end - 1, time(end - 1)));
        let mut at = |offset| {
            let mut request = fetch(&[(0, offset)], 1, FOR_EVER);
            request.topics[0].topic = topic_name("b");
            wire.call(FETCH, &request)
        };
        for offset in [0, 2 * RECORDS, start - 1, end + 1] {
            assert_eq!(of(&at(offset), 0).error_code, OFFSET_OUT_OF_RANGE, "{offset}");
        }
        let found = at(start);
        assert_eq!(of(&found, 0).log_start_offset, start);
        let bases: Vec<i64> = batches(&records(&found, 0)).iter().map(|(base, _)| *base).collect();
        assert_eq!(bases, [20, 30, 40, 50], "whole batches from the one that holds it on");
        if round == 0 {
            cold.broker.kill();
            cold.broker.restart();
            wire = cold.broker.connect();
        }
    }
    assert_eq!(delete_before(&mut wire, "b", -1), (NONE, end), "all of it");
    assert_eq!(ask(&mut wire, time(0)), (NONE, -1, -1));
    assert_eq!(ask(&mut wire, MAX_TIMESTAMP), (NONE, -1, -1));
    assert_eq!([EARLIEST, LATEST].map(|at| ask(&mut wire, at).1), [end, end]);
}

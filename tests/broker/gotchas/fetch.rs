//! Fetch: what comes, how much of it, and when.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProduceRequest};
use tidegate::protocol::batch::BatchBuilder;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, batches, create_topic, fetched, produce, produce_request,
    produced, record, topic_name,
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const WAITERS: &str = "tidegate_partition_fetch_waiters";

/// A Fetch of topic a from these partitions and offsets, in this order.
fn request(asked: &[(i32, i64)]) -> FetchRequest {
    let part = |(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name("a"))
        .with_partitions(asked.iter().map(part).collect());
    FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![topic])
}

fn write(wire: &mut Wire, partition: i32, batch: Bytes) {
    let response = wire.call(PRODUCE, &produce_request("a", partition, -1, batch));
    assert_eq!(produced(&response).error_code, NONE);
}

/// The partitions that came with records, and how many bytes of them.
fn served(response: &FetchResponse) -> Vec<(i32, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            assert_eq!(partition.error_code, NONE);
            (partition.partition_index, partition.records.as_ref().map_or(0, Bytes::len))
        })
        .filter(|(_, bytes)| *bytes > 0)
        .collect()
}

fn only(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

#[test]
fn gotcha_21_the_batch_that_holds_the_offset_comes_whole() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let five = || {
        let mut builder = BatchBuilder::new();
        for at in 0..5 {
            builder.append(1_700_000_000_000 + at, None, Some(b"value"), &[]);
        }
        builder.build()
    };
    assert_eq!(produce(&mut wire, "a", five()), (NONE, 0));
    assert_eq!(produce(&mut wire, "a", five()), (NONE, 5));
    let size = five().len();
    for (offset, expected) in [(0, vec![0, 5]), (3, vec![0, 5]), (4, vec![0, 5]), (5, vec![5])] {
        let log = fetched(wire.call(FETCH, &Fetch::at(offset).request("a")));
        let expected: Vec<_> = expected.into_iter().map(|base| (base, size)).collect();
        assert_eq!(batches(&log), expected, "from offset {offset}");
    }
}

#[test]
fn gotcha_22_the_first_batch_comes_whatever_its_size_once_and_in_the_order_of_the_request() {
    let broker = Broker::start_with(Options::new().set("fetch.max.bytes", 1_024));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 3);
    for partition in [1, 2] {
        write(&mut wire, partition, record(2_000));
        write(&mut wire, partition, record(2_000));
    }
    let whole = record(2_000).len();
    for version in [4, 11, 12] {
        let mut ask = |asked: &[(i32, i64)], most: i32, of_each: i32| {
            let mut request = request(asked).with_max_bytes(most);
            for partition in &mut request.topics[0].partitions {
                partition.partition_max_bytes = of_each;
            }
            if version < 7 {
                request.session_epoch = 0;
            }
            served(&wire.call(version, &request))
        };
        assert_eq!(ask(&[(0, 0), (1, 0), (2, 0)], 1, 1), [(1, whole)], "v{version}");
        assert_eq!(ask(&[(2, 0), (0, 0), (1, 0)], 1, 1), [(2, whole)], "v{version}");
        assert_eq!(ask(&[(2, 0), (1, 0)], 0, 0), [(2, whole)], "v{version}");
        let most = ask(&[(1, 0), (2, 0)], i32::MAX, i32::MAX);
        assert_eq!(most, [(1, whole)], "v{version}: fetch.max.bytes holds for the whole answer");
    }
}

#[test]
fn gotcha_23_one_wait_spans_all_partitions_and_ends_with_the_bytes_or_at_once_with_an_error() {
    let broker = Broker::start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    create_topic(&mut wire, "a", 3);
    let size = record(1_000).len();
    let two = i32::try_from(2 * size).unwrap();
    let parked = |least: i32, asked: &[(i32, i64)]| {
        request(asked).with_min_bytes(least).with_max_wait_ms(i32::MAX)
    };
    let waiting = wire.send(FETCH, &parked(two, &[(0, 0), (1, 0), (2, 0)]));
    broker.wait_until("the fetch waits", |broker| broker.metrics().get(WAITERS) == 1.0);
    write(&mut other, 2, record(1_000));
    assert_eq!(broker.metrics().get(WAITERS), 1.0, "half of the bytes do not end it");
    write(&mut other, 0, record(1_000));
    let response = wire.receive::<FetchRequest>(FETCH, waiting);
    assert_eq!(served(&response), [(0, size), (2, size)]);

    let error = wire.call(FETCH, &parked(1, &[(1, 0), (0, 999)]));
    let codes = error.responses[0].partitions.iter().map(|partition| partition.error_code);
    assert_eq!(codes.collect::<Vec<i16>>(), [NONE, OFFSET_OUT_OF_RANGE]);
    let nothing = request(&[(1, 0)]).with_min_bytes(1).with_max_wait_ms(50);
    assert!(served(&wire.call(FETCH, &nothing)).is_empty(), "the time is over");
    let no_least = request(&[(1, 0)]).with_min_bytes(0).with_max_wait_ms(i32::MAX);
    assert!(served(&wire.call(FETCH, &no_least)).is_empty(), "nothing was asked to be waited for");
}

#[test]
fn gotcha_24_the_end_of_the_log_is_empty_and_not_null_and_beyond_it_is_out_of_range() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    for offset in 0..3 {
        assert_eq!(produce(&mut wire, "a", record(10)), (NONE, offset));
    }
    for version in 4..=12 {
        let mut ask = |offset: i64| {
            let mut request = request(&[(0, offset)]);
            if version < 7 {
                request.session_epoch = 0;
            }
            wire.call(version, &request)
        };
        let end = ask(3);
        let end = only(&end);
        assert_eq!((end.error_code, end.high_watermark, end.last_stable_offset), (NONE, 3, 3));
        assert_eq!(end.records, Some(Bytes::new()), "v{version}");
        for offset in [4, 1_000, -1] {
            assert_eq!(only(&ask(offset)).error_code, OFFSET_OUT_OF_RANGE, "v{version} {offset}");
        }
    }
}

#[test]
fn gotcha_26_the_list_of_aborted_transactions_is_null_for_who_reads_uncommitted() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 0));
    for version in [4, 11, 12] {
        let mut ask = |isolation: i8| {
            let mut request = request(&[(0, 0)]).with_isolation_level(isolation);
            if version < 7 {
                request.session_epoch = 0;
            }
            wire.call(version, &request)
        };
        let (uncommitted, committed) = (ask(0), ask(1));
        assert_eq!(only(&uncommitted).aborted_transactions, None, "v{version}");
        assert_eq!(only(&committed).aborted_transactions, Some(Vec::new()), "v{version}");
        assert_eq!(only(&uncommitted).records, only(&committed).records, "v{version}");
    }
}

#[test]
fn gotcha_28_a_replica_is_refused_and_no_read_replica_is_preferred() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let follower = request(&[(0, 0)]).with_replica_id(BrokerId(5));
    assert_eq!(wire.call(11, &follower).error_code, CLUSTER_AUTHORIZATION_FAILED);
    let state = ReplicaState::default().with_replica_id(BrokerId(5));
    let mut follower = request(&[(0, 0)]).with_replica_state(state);
    follower.topics[0].topic = topic_name("");
    assert_eq!(wire.call(15, &follower).error_code, CLUSTER_AUTHORIZATION_FAILED);
    let rack = request(&[(0, 0)]).with_rack_id(crate::requests::text("b"));
    assert_eq!(only(&wire.call(FETCH, &rack)).preferred_read_replica, BrokerId(-1));
    let silent: ProduceRequest = produce_request("a", 0, -1, record(10));
    assert_eq!(produced(&wire.call(PRODUCE, &silent)).error_code, NONE, "the others go on");
}

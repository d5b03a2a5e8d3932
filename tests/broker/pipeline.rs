//! Pipelining (DESIGN D11): order within a connection, independence between connections.

use std::collections::HashSet;

use kafka_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    MetadataRequest, ProduceRequest,
};

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, INVALID_REQUIRED_ACKS, METADATA, NONE, PRODUCE, all_topics, assert_served,
    batches, create_topic, fetched, produce, produce_request, produced, record, text,
};

const GROUP: &str = "group";
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const MEMBER_ID_REQUIRED: i16 = 79;
const LOAD_TRIES: usize = 10_000;

/// A broker with topics `a` and `b`, and a connection to it.
fn broker() -> (Broker, Wire) {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    create_topic(&mut wire, "b", 1);
    (broker, wire)
}

#[test]
fn replies_leave_in_order_behind_a_fetch_that_waits_out_its_time() {
    let (_broker, mut wire) = broker();
    let fetch = Fetch { max_wait_ms: 1_000, ..Fetch::parked(0, 1 << 20) };
    let first = wire.send(FETCH, &fetch.request("a"));
    let second = wire.send(PRODUCE, &produce_request("b", 0, -1, record(10)));
    let third = wire.send(METADATA, &all_topics());

    assert!(fetched(wire.receive::<FetchRequest>(FETCH, first)).is_empty());
    assert_eq!(produced(&wire.receive::<ProduceRequest>(PRODUCE, second)).error_code, NONE);
    assert_eq!(wire.receive::<MetadataRequest>(METADATA, third).topics.len(), 2);
}

#[test]
fn requests_behind_a_parked_fetch_take_effect_before_it_answers() {
    let (broker, mut wire) = broker();
    let mut other = broker.connect();
    let first = wire.send(FETCH, &Fetch::parked(0, 1_000).request("a"));
    let second = wire.send(PRODUCE, &produce_request("b", 0, -1, record(10)));
    let third = wire.send(METADATA, &all_topics());

    // Its record can be read while its reply waits behind the fetch.
    let seen = other.call(FETCH, &Fetch::parked(0, 1).request("b"));
    assert_eq!(batches(&fetched(seen)).len(), 1);
    assert_eq!(produce(&mut other, "a", record(2_000)), (NONE, 0));

    assert_eq!(batches(&fetched(wire.receive::<FetchRequest>(FETCH, first))).len(), 1);
    assert_eq!(produced(&wire.receive::<ProduceRequest>(PRODUCE, second)).base_offset, 0);
    assert_eq!(wire.receive::<MetadataRequest>(METADATA, third).topics.len(), 2);
}

#[test]
fn a_parked_fetch_delays_no_other_connection() {
    let (broker, mut wire) = broker();
    let parked: Vec<(Wire, i32)> = (0..50)
        .map(|_| {
            let mut wire = broker.connect();
            let id = wire.send(FETCH, &Fetch::parked(0, 1).request("a"));
            (wire, id)
        })
        .collect();
    broker.wait_until("50 fetches wait", |broker| {
        broker.metrics().get("tidegate_partition_fetch_waiters") >= 50.0
    });
    assert_served(&mut wire);
    assert_eq!(produce(&mut wire, "b", record(10)), (NONE, 0));
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 0));
    for (mut wire, id) in parked {
        assert_eq!(batches(&fetched(wire.receive::<FetchRequest>(FETCH, id))).len(), 1);
    }
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol =
        kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// The member id of a first join.
fn member(wire: &mut Wire) -> String {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, NONE);
    // The group's coordinator loads on first use, which every client waits for.
    let joined = (0..LOAD_TRIES)
        .map(|_| wire.call(9, &join("")))
        .find(|joined| joined.error_code != COORDINATOR_LOAD_IN_PROGRESS)
        .expect("the coordinator loads");
    assert_eq!(joined.error_code, MEMBER_ID_REQUIRED);
    joined.member_id.to_string()
}

#[test]
fn a_parked_join_delays_no_other_connection_nor_later_requests_of_its_own() {
    let options = Options::new().set("group.initial.rebalance.delay.ms", 0);
    let broker = Broker::start_with(options);
    let (mut one, mut two) = (broker.connect(), broker.connect());
    create_topic(&mut one, "a", 1);
    create_topic(&mut one, "b", 1);
    let (first, second) = (member(&mut one), member(&mut two));
    let leader = one.call(9, &join(&first));
    assert_eq!((leader.error_code, leader.leader.to_string()), (NONE, first.clone()));

    // The second join waits for the first member to join again, which it has not done.
    let parked = two.send(9, &join(&second));
    let behind = two.send(PRODUCE, &produce_request("b", 0, -1, record(10)));
    let seen = one.call(FETCH, &Fetch::parked(0, 1).request("b"));
    assert_eq!(batches(&fetched(seen)).len(), 1);
    assert_eq!(produce(&mut one, "a", record(10)), (NONE, 0));
    assert_served(&mut broker.connect());
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(leader.generation_id)
        .with_member_id(text(&first));
    let rebalance_in_progress = 27;
    assert_eq!(one.call(4, &heartbeat).error_code, rebalance_in_progress);

    let again = one.call(9, &join(&first));
    let joined = two.receive::<JoinGroupRequest>(9, parked);
    assert_eq!((again.error_code, joined.error_code), (NONE, NONE));
    assert_eq!(again.generation_id, joined.generation_id);
    assert_eq!(again.members.len(), 2);
    assert_eq!(produced(&two.receive::<ProduceRequest>(PRODUCE, behind)).error_code, NONE);
}

#[test]
fn a_hundred_pipelined_produces_come_back_in_order() {
    let (_broker, mut wire) = broker();
    let ids: Vec<i32> = (0..100)
        .map(|at| wire.send(PRODUCE, &produce_request("a", 0, -1, record(at * 100))))
        .collect();
    for (offset, id) in ids.into_iter().enumerate() {
        let response = wire.receive::<ProduceRequest>(PRODUCE, id);
        assert_eq!(produced(&response).error_code, NONE);
        assert_eq!(produced(&response).base_offset, offset as i64);
    }
    let read = fetched(wire.call(FETCH, &Fetch::at(0).request("a")));
    let offsets: HashSet<i64> = batches(&read).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets.len(), 100);
}

#[test]
fn a_metadata_change_is_finished_before_the_next_request_of_its_connection() {
    let (_broker, mut wire) = broker();
    let create = kafka_protocol::messages::CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![
            kafka_protocol::messages::create_topics_request::CreatableTopic::default()
                .with_name(crate::requests::topic_name("new"))
                .with_num_partitions(1)
                .with_replication_factor(1),
        ]);
    let first = wire.send(7, &create);
    let second = wire.send(PRODUCE, &produce_request("new", 0, -1, record(10)));
    wire.receive::<kafka_protocol::messages::CreateTopicsRequest>(7, first);
    let response = wire.receive::<ProduceRequest>(PRODUCE, second);
    assert_eq!((produced(&response).error_code, produced(&response).base_offset), (NONE, 0));
}

#[test]
fn a_produce_without_acks_is_not_answered() {
    let (_broker, mut wire) = broker();
    wire.send(PRODUCE, &produce_request("a", 0, 0, record(10)));
    let next = wire.send(PRODUCE, &produce_request("a", 0, -1, record(10)));
    let response = wire.receive::<ProduceRequest>(PRODUCE, next);
    assert_eq!(produced(&response).base_offset, 1, "the first one was appended");
}

#[test]
fn an_error_of_a_produce_without_acks_closes_behind_the_replies_before_it() {
    let (broker, mut wire) = broker();
    let first = wire.send(PRODUCE, &produce_request("a", 0, -1, record(10)));
    wire.send(PRODUCE, &produce_request("unknown", 0, 0, record(10)));
    assert_eq!(produced(&wire.receive::<ProduceRequest>(PRODUCE, first)).error_code, NONE);
    assert!(wire.is_closed_by_broker());
    assert_served(&mut broker.connect());
}

#[test]
fn acks_of_two_are_refused_and_nothing_is_appended() {
    let (_broker, mut wire) = broker();
    let response = wire.call(PRODUCE, &produce_request("a", 0, 2, record(10)));
    assert_eq!(produced(&response).error_code, INVALID_REQUIRED_ACKS);
    assert_eq!(produced(&response).base_offset, -1);
    assert!(fetched(wire.call(FETCH, &Fetch::at(0).request("a"))).is_empty());
}

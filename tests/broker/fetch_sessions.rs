//! Fetch sessions (KIP-227) over real sockets: how little an idle consumer sends and gets, what
//! bounds the cache, and what becomes of topics that are deleted.

use bytes::Bytes;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse, MetadataRequest};
use uuid::Uuid;

use crate::harness::wire::request_frame;
use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, METADATA, NONE, PRODUCE, create_topic, produce, produce_request, produced, record,
    topic_name,
};

const SESSIONS: &str = "tidegate_broker_fetch_sessions";
const PARTITIONS: &str = "tidegate_broker_fetch_session_partitions";
const EVICTIONS: &str = "tidegate_broker_fetch_session_evictions_total";
const REFUSED: &str = "tidegate_broker_fetch_sessions_refused_total";

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const INCONSISTENT_TOPIC_ID: i16 = 103;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

/// The first version that names topics by id.
const BY_ID: i16 = 13;
/// The session id that stands for none.
const NO_SESSION: i32 = 0;

fn part(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(index)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_partition_max_bytes(1 << 20)
}

fn parts(indexes: impl IntoIterator<Item = i32>) -> Vec<FetchPartition> {
    indexes.into_iter().map(|index| part(index, 0)).collect()
}

/// A Fetch that does not wait, in session `id` with `epoch`.
fn fetch(id: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest::default()
        .with_max_bytes(50 << 20)
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_topics(topics)
}

fn of(topic: &str, partitions: Vec<FetchPartition>) -> Vec<FetchTopic> {
    vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions)]
}

fn of_id(topic: Uuid, partitions: Vec<FetchPartition>) -> Vec<FetchTopic> {
    vec![FetchTopic::default().with_topic_id(topic).with_partitions(partitions)]
}

/// Partition, error and whether there are records, of all that a reply lists.
fn listed(reply: &FetchResponse) -> Vec<(i32, i16, bool)> {
    assert_eq!(reply.error_code, NONE);
    let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            let records = partition.records.as_ref().is_some_and(|records| !records.is_empty());
            (partition.partition_index, partition.error_code, records)
        })
        .collect()
}

fn write(wire: &mut Wire, topic: &str, partition: i32, batch: Bytes) {
    let response = wire.call(PRODUCE, &produce_request(topic, partition, -1, batch));
    assert_eq!(produced(&response).error_code, NONE);
}

fn topic_id(wire: &mut Wire, topic: &str) -> Uuid {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    wire.call(METADATA, &request).topics[0].topic_id
}

fn delete_topic(wire: &mut Wire, topic: &str) {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(topic)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(6, &request).responses[0].error_code, NONE);
}

#[test]
fn gotcha_25_an_idle_consumer_of_a_thousand_partitions_sends_and_gets_a_few_bytes() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1_000);
    let full = fetch(0, 0, of("a", parts(0..1_000)));
    let full_bytes = request_frame(FETCH, &full, 1).len();
    let first = wire.call(FETCH, &full);
    assert_eq!((listed(&first).len(), first.session_id > 0), (1_000, true));
    assert_eq!(broker.metrics().get(SESSIONS), 1.0);
    assert_eq!(broker.metrics().get(PARTITIONS), 1_000.0);

    let idle = fetch(first.session_id, 1, Vec::new());
    let idle_bytes = request_frame(FETCH, &idle, 1).len();
    wire.send(FETCH, &idle);
    let idle_reply_bytes = wire.receive_frame().unwrap().len();
    println!("{full_bytes} bytes in full, {idle_bytes} when idle, {idle_reply_bytes} in reply");
    assert!(full_bytes > 30_000);
    assert!(idle_bytes < 100 && idle_reply_bytes < 50);

    write(&mut wire, "a", 700, record(10));
    let news = wire.call(FETCH, &fetch(first.session_id, 2, Vec::new()));
    assert_eq!(listed(&news), [(700, NONE, true)]);
    let read_on = of("a", vec![part(700, 1)]);
    let nothing = wire.call(FETCH, &fetch(first.session_id, 3, read_on));
    assert_eq!((listed(&nothing), nothing.session_id), (Vec::new(), first.session_id));
}

#[test]
fn gotcha_25_epochs_ids_and_ways_to_name_topics_are_checked_and_a_final_epoch_closes() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 2);
    let topic = topic_id(&mut wire, "a");
    let mut code = |version, request: &FetchRequest| {
        let reply = wire.call(version, request);
        (reply.error_code, reply.session_id)
    };
    let (error, id) = code(FETCH, &fetch(0, 0, of("a", parts(0..2))));
    assert_eq!(error, NONE);
    let next = |epoch| fetch(id, epoch, Vec::new());
    assert_eq!(code(FETCH, &next(2)), (INVALID_FETCH_SESSION_EPOCH, NO_SESSION));
    assert_eq!(code(BY_ID, &next(1)), (FETCH_SESSION_TOPIC_ID_ERROR, NO_SESSION));
    assert_eq!(code(FETCH, &next(1)), (NONE, id), "a refused request changes nothing");
    assert_eq!(code(FETCH, &next(1)), (INVALID_FETCH_SESSION_EPOCH, NO_SESSION));
    let other = if id == 7 { 8 } else { 7 };
    let unknown = fetch(other, 1, Vec::new());
    assert_eq!(code(FETCH, &unknown), (FETCH_SESSION_ID_NOT_FOUND, NO_SESSION));
    assert_eq!(code(FETCH, &next(-1)), (NONE, NO_SESSION), "the final epoch");
    assert_eq!(code(FETCH, &next(2)), (FETCH_SESSION_ID_NOT_FOUND, NO_SESSION));

    let (_, by_id) = code(BY_ID, &fetch(0, 0, of_id(topic, parts(0..2))));
    let next = |epoch| fetch(by_id, epoch, Vec::new());
    assert_eq!(code(FETCH, &next(1)), (FETCH_SESSION_TOPIC_ID_ERROR, NO_SESSION));
    assert_eq!(code(BY_ID, &next(1)), (NONE, by_id));
    let forgotten = ForgottenTopic::default().with_topic_id(topic).with_partitions(vec![0, 1]);
    let emptied = next(2).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(code(BY_ID, &emptied), (NONE, NO_SESSION));
    assert_eq!(code(BY_ID, &next(3)), (FETCH_SESSION_ID_NOT_FOUND, NO_SESSION));
    assert_eq!(broker.metrics().get(SESSIONS), 0.0);
    let sessions = "tidegate_memory_used_bytes{pool=\"sessions\"}";
    broker.wait_until("the memory is given back", |broker| broker.metrics().get(sessions) == 0.0);
}

#[test]
fn gotcha_25_clients_that_never_go_on_with_their_sessions_fill_the_cache_and_no_more() {
    let options = Options::new().set("max.incremental.fetch.session.cache.slots", 3);
    let broker = Broker::start_with(options);
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    write(&mut wire, "a", 0, record(10));
    let ids: Vec<i32> = (0..10)
        .map(|_| {
            let reply = wire.call(FETCH, &fetch(0, 0, of("a", parts([0]))));
            assert_eq!(listed(&reply), [(0, NONE, true)], "with a session or without");
            reply.session_id
        })
        .collect();
    assert!(ids[..3].iter().all(|id| *id > 0) && ids[3..].iter().all(|id| *id == NO_SESSION));
    let metrics = broker.metrics();
    assert_eq!((metrics.get(SESSIONS), metrics.get(REFUSED)), (3.0, 7.0));
    assert_eq!(metrics.get(EVICTIONS), 0.0, "nobody is pushed out in the first two minutes");

    // A full request ends the session that it names, which makes a place.
    let renewed = wire.call(FETCH, &fetch(ids[0], 0, of("a", parts([0]))));
    assert!(renewed.session_id > 0 && renewed.session_id != ids[0]);
    let gone = wire.call(FETCH, &fetch(ids[0], 1, Vec::new()));
    assert_eq!(gone.error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn gotcha_25_without_slots_every_fetch_is_answered_without_a_session() {
    let options = Options::new().set("max.incremental.fetch.session.cache.slots", 0);
    let broker = Broker::start_with(options);
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    write(&mut wire, "a", 0, record(10));
    let reply = wire.call(FETCH, &fetch(0, 0, of("a", parts([0]))));
    assert_eq!((listed(&reply), reply.session_id), (vec![(0, NONE, true)], NO_SESSION));
}

#[test]
fn gotcha_11_a_session_tells_a_deleted_topic_from_a_recreated_one_and_from_an_unknown_id() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let first = topic_id(&mut wire, "a");
    let unknown = Uuid::from_u128(0x1234);
    let mut topics = of_id(first, parts([0]));
    topics.extend(of_id(unknown, parts([0])));
    let id = wire.call(BY_ID, &fetch(0, 0, topics)).session_id;
    let mut errors = |epoch| {
        let reply = wire.call(BY_ID, &fetch(id, epoch, Vec::new()));
        let of = |topic: Uuid| {
            let found = reply.responses.iter().find(|answer| answer.topic_id == topic);
            found.map(|answer| answer.partitions[0].error_code)
        };
        (of(first), of(unknown))
    };
    let unknown_topic_id = Some(100);
    assert_eq!(errors(1), (None, unknown_topic_id), "told again as long as it lasts");
    delete_topic(&mut broker.connect(), "a");
    assert_eq!(errors(2), (Some(UNKNOWN_TOPIC_OR_PARTITION), unknown_topic_id));
    create_topic(&mut broker.connect(), "a", 1);
    assert_eq!(errors(3), (Some(INCONSISTENT_TOPIC_ID), unknown_topic_id));
    let full = wire.call(BY_ID, &fetch(0, -1, of_id(first, parts([0]))));
    assert_eq!(full.responses[0].partitions[0].error_code, 100, "a session remembers, else nobody");
}

#[test]
fn a_session_by_name_reads_on_in_a_recreated_topic() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let id = wire.call(FETCH, &fetch(0, 0, of("a", parts([0])))).session_id;
    delete_topic(&mut wire, "a");
    let deleted = wire.call(FETCH, &fetch(id, 1, Vec::new()));
    assert_eq!(listed(&deleted), [(0, UNKNOWN_TOPIC_OR_PARTITION, false)]);
    create_topic(&mut wire, "a", 1);
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 0));
    let recreated = wire.call(FETCH, &fetch(id, 2, Vec::new()));
    assert_eq!(listed(&recreated), [(0, NONE, true)]);
}

#[test]
fn partitions_have_their_turn_in_a_session_under_a_small_byte_limit() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 3);
    for partition in 0..3 {
        write(&mut wire, "a", partition, record(1_000));
    }
    let first = wire.call(FETCH, &fetch(0, 0, of("a", parts(0..3))).with_max_bytes(100));
    let served = |reply: &FetchResponse| {
        let with_records = listed(reply).into_iter().filter(|(_, _, records)| *records);
        with_records.map(|(index, ..)| index).collect::<Vec<i32>>()
    };
    assert_eq!(served(&first), [0]);
    let mut turns = Vec::new();
    for epoch in 1..=6 {
        let request = fetch(first.session_id, epoch, Vec::new()).with_max_bytes(100);
        turns.extend(served(&wire.call(FETCH, &request)));
    }
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn requests_of_one_session_may_be_pipelined_and_another_connection_takes_it_over() {
    let broker = Broker::start();
    let (mut wire, mut other) = (broker.connect(), broker.connect());
    create_topic(&mut wire, "a", 1);
    let id = wire.call(FETCH, &fetch(0, 0, of("a", parts([0])))).session_id;
    let parked = |epoch| fetch(id, epoch, Vec::new()).with_min_bytes(1).with_max_wait_ms(i32::MAX);
    let sent: Vec<i32> = (1..=3).map(|epoch| wire.send(FETCH, &parked(epoch))).collect();
    // One of a session waits: a newer one ends the wait of the one before it.
    for id in &sent[..2] {
        assert_eq!(listed(&wire.receive::<FetchRequest>(FETCH, *id)), [(0, NONE, false)]);
    }
    broker.wait_until("the last of them waits", |broker| {
        broker.metrics().get("tidegate_partition_fetch_waiters") == 1.0
    });
    assert_eq!(produce(&mut other, "a", record(10)), (NONE, 0));
    assert_eq!(listed(&wire.receive::<FetchRequest>(FETCH, sent[2])), [(0, NONE, true)]);

    let read_on = of("a", vec![part(0, 1)]);
    let waiting = parked(4).with_topics(read_on);
    let overtaken = wire.send(FETCH, &waiting);
    broker.wait_until("a fetch waits", |broker| {
        broker.metrics().get("tidegate_partition_fetch_waiters") == 1.0
    });
    assert_eq!(listed(&other.call(FETCH, &fetch(id, 5, Vec::new()))), []);
    let reply = wire.receive::<FetchRequest>(FETCH, overtaken);
    assert_eq!((reply.error_code, reply.session_id), (INVALID_FETCH_SESSION_EPOCH, id));
}

#[test]
fn small_requests_of_large_sessions_are_charged_for_what_they_stand_for() {
    const BUDGET: u64 = 64 << 20;
    const COUNT: i32 = 9_000;
    const REQUESTS: i32 = 40;
    let broker = Broker::start_with(Options::new().set("memory.budget.bytes", BUDGET));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", COUNT);
    let too_large = wire.call(FETCH, &fetch(0, 0, of("none", parts(0..20_000))));
    assert_eq!(too_large.session_id, NO_SESSION, "one session takes a quarter of the pool at most");
    let before = broker.resident();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut wire = broker.connect();
            let id = wire.call(FETCH, &fetch(0, 0, of("a", parts(0..COUNT)))).session_id;
            assert!(id > 0);
            std::thread::spawn(move || {
                // Each waits out its time, with all that it takes to wait on its partitions.
                let parked =
                    |epoch| fetch(id, epoch, Vec::new()).with_min_bytes(1).with_max_wait_ms(100);
                let sent: Vec<i32> =
                    (1..=REQUESTS).map(|epoch| wire.send(FETCH, &parked(epoch))).collect();
                for id in sent {
                    assert_eq!(wire.receive::<FetchRequest>(FETCH, id).error_code, NONE);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let grown = broker.resident_max().saturating_sub(before);
    println!("{grown} bytes more were resident");
    // Large requests have 12/64 of the budget; without a charge for what the small ones stand for
    // it was 62 MB.
    assert!(grown * 2 <= BUDGET, "{grown} bytes more were resident");
}

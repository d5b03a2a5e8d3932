//! Connections, metadata and topics.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListGroupsRequest, MetadataRequest,
    MetadataResponse, ProduceRequest,
};
use uuid::Uuid;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, PRODUCE, all_topics, api_versions, create_topic, produce_request,
    record, text, topic_name,
};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn asked(topic: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(topic)))
}

fn look(wire: &mut Wire, version: i16, topic: &str, creates: bool) -> MetadataResponseTopic {
    let request = MetadataRequest::default()
        .with_topics(Some(vec![asked(topic)]))
        .with_allow_auto_topic_creation(creates);
    wire.call(version, &request).topics.remove(0)
}

fn names(response: &MetadataResponse) -> Vec<&str> {
    response.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| &***name).collect()
}

#[test]
fn gotcha_06_no_answer_claims_a_throttle_that_is_not_enforced() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let produced = wire.call(PRODUCE, &produce_request("a", 0, -1, record(10)));
    let fetched = wire.call(FETCH, &Fetch::at(0).request("a"));
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let plain = InitProducerIdRequest::default().with_transactional_id(None);
    let throttles = [
        produced.throttle_time_ms,
        fetched.throttle_time_ms,
        wire.call(4, &api_versions()).throttle_time_ms,
        wire.call(METADATA, &all_topics()).throttle_time_ms,
        wire.call(4, &find).throttle_time_ms,
        wire.call(1, &plain).throttle_time_ms,
        wire.call(4, &ListGroupsRequest::default()).throttle_time_ms,
        wire.call(7, &CreateTopicsRequest::default()).throttle_time_ms,
        wire.call(1, &DescribeClusterRequest::default()).throttle_time_ms,
    ];
    assert_eq!(throttles, [0; 9]);
}

#[test]
fn gotcha_08_all_topics_are_an_empty_list_in_metadata_v0_and_null_from_v1_on() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    create_topic(&mut wire, "b", 1);
    let empty = |version: i16| {
        MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(version < 4)
    };
    assert_eq!(wire.call(0, &empty(0)).topics.len(), 2);
    for version in 1..=13 {
        assert!(wire.call(version, &empty(version)).topics.is_empty(), "v{version}");
        let all = empty(version).with_topics(None);
        let response = wire.call(version, &all);
        let mut found = names(&response);
        found.sort_unstable();
        assert_eq!(found, ["a", "b"], "v{version}");
        let has_ids = response.topics.iter().all(|topic| !topic.topic_id.is_nil());
        assert_eq!(has_ids, version >= 10, "v{version}");
    }
    let id = look(&mut wire, 12, "b", false).topic_id;
    let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let by_id = MetadataRequest::default().with_topics(Some(vec![by_id]));
    assert_eq!(names(&wire.call(12, &by_id)), ["b"]);
}

#[test]
fn gotcha_08_a_look_creates_a_topic_with_the_brokers_partitions_if_asked_and_named_well() {
    let broker = Broker::start_with(Options::new().set("num.partitions", 4));
    let mut wire = broker.connect();
    assert_eq!(look(&mut wire, 4, "shy", false).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    for (version, topic) in [(0, "old"), (4, "new"), (13, "newest")] {
        let created = look(&mut wire, version, topic, true);
        assert_eq!((created.error_code, created.partitions.len()), (NONE, 4), "v{version}");
    }
    for bad in ["", ".", "a b", "a/b", &"n".repeat(250)] {
        assert_eq!(look(&mut wire, 9, bad, true).error_code, INVALID_TOPIC, "{bad:?}");
    }
    let all = wire.call(METADATA, &all_topics());
    let mut found = names(&all);
    found.sort_unstable();
    assert_eq!(found, ["new", "newest", "old"]);
}

#[test]
fn gotcha_09_every_node_id_is_in_metadata_at_an_address_that_outlives_a_restart() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 3);
    let metadata = wire.call(METADATA, &all_topics());
    let [node] = metadata.brokers.as_slice() else { panic!("{metadata:?}") };
    assert_eq!(format!("{}:{}", node.host, node.port), broker.address());
    assert_eq!(metadata.controller_id, node.node_id);
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        let mut named = vec![partition.leader_id];
        named.extend(partition.replica_nodes.iter().chain(&partition.isr_nodes));
        named.extend(&partition.offline_replicas);
        assert!(named.iter().all(|id| *id == node.node_id), "{partition:?}");
    }
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let found = wire.call(4, &find).coordinators.remove(0);
    assert_eq!((found.node_id, found.port), (node.node_id, node.port));
    assert_eq!(found.host, node.host);
    let cluster = wire.call(1, &DescribeClusterRequest::default());
    assert_eq!((cluster.controller_id, cluster.brokers[0].port), (node.node_id, node.port));

    broker.stop();
    broker.restart();
    assert_eq!(broker.connect().call(METADATA, &all_topics()).brokers, metadata.brokers);
}

fn new(topic: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

#[test]
fn gotcha_12_a_partly_invalid_creation_creates_the_rest_at_once_with_any_replication_factor() {
    let broker = Broker::start_with(Options::new().set("num.partitions", 4));
    let mut wire = broker.connect();
    create_topic(&mut wire, "made.one", 1);
    let config = kafka_protocol::messages::create_topics_request::CreatableTopicConfig::default()
        .with_name(text("no.such.key"))
        .with_value(Some(text("1")));
    let topics = vec![
        new("three", 2, 3),
        new("defaults", -1, -1),
        new("made.one", 1, 1),
        new("made_one", 1, 1),
        new("none", 0, 1),
        new("odd", 1, 1).with_configs(vec![config]),
        new("twice", 1, 1),
        new("twice", 1, 1),
    ];
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    let validated = wire.call(7, &request.clone().with_validate_only(true));
    let created = wire.call(7, &request);
    // On the same connection, without waiting.
    let known = wire.call(METADATA, &all_topics());

    let codes = |response: &kafka_protocol::messages::CreateTopicsResponse| {
        let mut codes: Vec<(String, i16)> = response
            .topics
            .iter()
            .map(|topic| (topic.name.to_string(), topic.error_code))
            .collect();
        codes.sort();
        codes.dedup();
        codes
    };
    let expected = [
        ("defaults", NONE),
        ("made.one", TOPIC_ALREADY_EXISTS),
        ("made_one", INVALID_TOPIC),
        ("none", INVALID_PARTITIONS),
        ("odd", INVALID_CONFIG),
        ("three", NONE),
        ("twice", INVALID_REQUEST),
    ]
    .map(|(topic, code)| (topic.to_owned(), code));
    assert_eq!(codes(&validated), expected);
    assert_eq!(codes(&created), expected);
    let mut found = names(&known);
    found.sort_unstable();
    assert_eq!(found, ["defaults", "made.one", "three"]);

    let of = |name: &str| created.topics.iter().find(|topic| &**topic.name == name).unwrap();
    assert_eq!((of("three").num_partitions, of("three").replication_factor), (2, 3));
    assert_eq!(of("defaults").num_partitions, 4);
    assert!(of("three").configs.as_ref().is_some_and(|configs| !configs.is_empty()));
    let listed = known.topics.iter().find(|topic| topic.topic_id == of("three").topic_id);
    assert_eq!(listed.map(|topic| topic.partitions.len()), Some(2));
}

#[test]
fn gotcha_15_partitions_only_grow_and_topics_are_deleted_by_id() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 2);
    let mut grow = |count: i32| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name("a"))
            .with_count(count)
            .with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        wire.call(3, &request).results[0].error_code
    };
    assert_eq!([grow(1), grow(2), grow(0)], [INVALID_PARTITIONS; 3]);
    assert_eq!(grow(3), NONE);
    let known = look(&mut wire, 12, "a", false);
    assert_eq!(known.partitions.len(), 3);

    let mut delete = |id: Uuid| {
        let topic = DeleteTopicState::default().with_name(None).with_topic_id(id);
        let request =
            DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        wire.call(6, &request).responses[0].error_code
    };
    assert_eq!(delete(Uuid::from_u128(1)), UNKNOWN_TOPIC_ID);
    assert_eq!(delete(known.topic_id), NONE);
    assert_eq!(look(&mut wire, 12, "a", false).error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn gotcha_11_a_topic_id_belongs_to_one_incarnation() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let first = look(&mut wire, 12, "a", false).topic_id;
    let by_id = |id: Uuid| {
        let mut produce = produce_request("", 0, -1, record(10));
        produce.topic_data[0].topic_id = id;
        let mut fetch = Fetch::at(0).request("");
        fetch.topics[0].topic_id = id;
        (produce, fetch)
    };
    let mut codes = |id: Uuid| {
        let (produce, fetch) = by_id(id);
        let produced = wire.call(13, &produce).responses[0].partition_responses[0].error_code;
        (produced, wire.call(13, &fetch).responses[0].partitions[0].error_code)
    };
    assert_eq!(codes(first), (NONE, NONE));
    assert_eq!(codes(Uuid::from_u128(7)), (UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID));
    let mut other = broker.connect();
    let topic = DeleteTopicState::default().with_name(Some(topic_name("a")));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(other.call(6, &request).responses[0].error_code, NONE);
    create_topic(&mut other, "a", 1);
    let second = look(&mut other, 12, "a", false).topic_id;
    assert_ne!(first, second);
    assert_eq!(codes(first), (UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID));
    assert_eq!(codes(second), (NONE, NONE));
    let by_name = wire.call(PRODUCE, &produce_request("a", 0, -1, record(10)));
    assert_eq!(by_name.responses[0].partition_responses[0].base_offset, 1, "a log of its own");
    let deleted: ProduceRequest = produce_request("gone", 0, -1, record(10));
    let deleted = wire.call(PRODUCE, &deleted);
    assert_eq!(deleted.responses[0].partition_responses[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

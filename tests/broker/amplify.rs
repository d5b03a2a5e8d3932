//! Small requests that ask for much: memory follows the bytes received (DESIGN, promise 5).

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DescribeGroupsResponse, DescribeQuorumRequest,
    ElectLeadersRequest, FetchRequest, GroupId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::Broker;
use crate::hostile::assert_pools_are_empty;
use crate::requests::{
    FETCH, Fetch, NONE, assert_served, batches, create_topic, produce, record, topic_name,
};

const MIB: u64 = 1 << 20;
const INVALID_REQUEST: i16 = 42;

/// A length of the flexible versions: an unsigned varint.
fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f | 0x80) as u8);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Produce v9 with one topic of a name of `name_bytes`, unknown, and so many partitions without
/// records.
fn produce_frame(name_bytes: usize, partitions: usize) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i16(9);
    body.put_i32(1);
    body.put_i16(-1);
    body.put_u8(0);
    // No transactional id, acks=1, 1 s, one topic.
    body.put_u8(0);
    body.put_i16(1);
    body.put_i32(1_000);
    body.put_u8(2);
    put_varint(&mut body, name_bytes + 1);
    body.put_bytes(b'x', name_bytes);
    put_varint(&mut body, partitions + 1);
    for index in 0..partitions {
        body.put_i32(index as i32);
        body.put_u8(0);
        body.put_u8(0);
    }
    body.put_u8(0);
    body.put_u8(0);
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put(body);
    frame
}

#[test]
fn partitions_of_an_unknown_topic_share_its_long_name() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let before = broker.resident();
    wire.send_raw(&produce_frame(32_000, 68_000)).unwrap();
    assert!(wire.receive_frame().is_some(), "each partition is refused");
    let _ = wire.send_raw(&produce_frame(40_000, 1));
    assert!(wire.is_closed_by_broker(), "no string is that long");
    let grown = broker.resident_max() - before;
    assert!(grown <= 100 * MIB, "{grown} bytes more are resident");
}

#[test]
fn a_produce_of_millions_of_partitions_closes_the_connection() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let before = broker.resident();
    let _ = wire.send_raw(&produce_frame(10, 4_000_000));
    assert!(wire.is_closed_by_broker());
    let grown = broker.resident_max() - before;
    assert!(grown <= 64 * MIB, "{grown} bytes more are resident");
    assert_pools_are_empty(&broker);
}

#[test]
fn a_request_for_very_many_topics_is_answered_with_little_memory() {
    const TOPICS: usize = 300_000;
    const INVALID_REQUEST: i16 = 42;
    let broker = Broker::start();
    let mut wire = broker.connect();
    assert_served(&mut wire);
    let before = broker.resident();
    let topic = |number: usize| {
        CreatableTopic::default()
            .with_name(topic_name(&format!("t{number}")))
            .with_num_partitions(1)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default()
        .with_topics((0..TOPICS).map(topic).collect())
        .with_validate_only(true);
    let response: CreateTopicsResponse = wire.call(7, &request);
    assert_eq!(response.topics.len(), TOPICS);
    let allowed = response.topics.iter().take_while(|topic| topic.error_code == NONE).count();
    assert!(allowed >= 10_000, "{allowed} topics at once");
    for topic in &response.topics[..allowed] {
        assert!(topic.configs.as_ref().is_some_and(|configs| configs.len() > 30));
    }
    for topic in &response.topics[allowed..] {
        assert_eq!(topic.error_code, INVALID_REQUEST);
    }
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident, {allowed} topics allowed");
    assert!(grown <= 320 * MIB, "{grown} bytes more are resident");
    assert_pools_are_empty(&broker);
}

#[test]
fn a_group_named_often_is_described_once() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let group = GroupId(StrBytes::from_static_str("one"));
    let request = DescribeGroupsRequest::default().with_groups(vec![group; 4_096]);
    let response: DescribeGroupsResponse = wire.call(5, &request);
    assert_eq!(response.groups.len(), 1);
}

#[test]
fn millions_of_partitions_are_not_each_told_at_length_why_they_have_no_quorum() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let before = broker.resident();
    let partition = |index| PartitionData::default().with_partition_index(index);
    let topic = TopicData::default()
        .with_topic_name(TopicName(StrBytes::from_static_str("any")))
        .with_partitions((0..1_000_000).map(partition).collect());
    let response = wire.call(2, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    assert_eq!((response.error_code, response.topics.len()), (INVALID_REQUEST, 0));
    let grown = broker.resident_max() - before;
    assert!(grown <= 64 * MIB, "{grown} bytes more are resident");
}

#[test]
fn a_partition_named_often_is_elected_once() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let before = broker.resident();
    let topic = TopicPartitions::default()
        .with_topic(TopicName(StrBytes::from_static_str("any")))
        .with_partitions(vec![7; 2_000_000]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    let response = wire.call(2, &request);
    assert_eq!(response.replica_election_results[0].partition_result.len(), 1);
    let grown = broker.resident_max() - before;
    assert!(grown <= 64 * MIB, "{grown} bytes more are resident");
}

/// Each naming would wait on the partition by itself, beside all others.
#[test]
fn a_partition_named_half_a_million_times_is_fetched_once() {
    const TIMES: usize = 500_000;
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let before = broker.resident();
    let mut request = Fetch { max_wait_ms: 100, ..Fetch::parked(0, 1) }.request("a");
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![partition; TIMES];
    let response = wire.call(4, &request);
    assert_eq!(response.responses.len(), 1);
    assert_eq!(response.responses[0].partitions.len(), 1);
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown <= 96 * MIB, "{grown} bytes more are resident");
    assert_pools_are_empty(&broker);
}

/// As Kafka's `FetchRequest.fetchData`, a map that keeps the order in which its keys came first.
#[test]
fn a_partition_named_twice_is_fetched_where_it_was_named_first_as_it_was_named_last() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 3);
    create_topic(&mut wire, "b", 1);
    for offset in 0..3 {
        assert_eq!(produce(&mut wire, "a", record(10)), (NONE, offset));
        assert_eq!(produce(&mut wire, "b", record(10)), (NONE, offset));
    }
    let topic = |name: &str, named: &[(i32, i64)]| {
        let template = Fetch::at(0).request(name).topics.remove(0);
        let partition = template.partitions[0].clone();
        let named = named.iter().map(|(index, offset)| {
            partition.clone().with_partition(*index).with_fetch_offset(*offset)
        });
        template.with_partitions(named.collect())
    };
    let mut answered = |version, topics: Vec<FetchTopic>| -> Vec<(String, i32, Vec<i64>)> {
        let request: FetchRequest = Fetch::at(0).request("a").with_topics(topics);
        let response = wire.call(version, &request);
        let topics = response.responses.into_iter().map(|topic| {
            let name = topic.topic.to_string();
            let partitions = topic.partitions.into_iter().map(move |partition| {
                let records = partition.records.unwrap_or_default();
                let offsets = batches(&records).into_iter().map(|(offset, _)| offset).collect();
                (name.clone(), partition.partition_index, offsets)
            });
            partitions.collect::<Vec<_>>()
        });
        topics.flatten().collect()
    };
    let of = |name: &str, index, offsets: &[i64]| (name.to_owned(), index, offsets.to_vec());
    let within = vec![topic("a", &[(2, 0), (0, 0), (1, 0), (2, 0), (0, 1), (0, 2)])];
    let across = vec![
        topic("a", &[(0, 0), (1, 0)]),
        topic("b", &[(0, 2)]),
        topic("a", &[(0, 2)]),
        topic("b", &[(0, 0), (0, 1)]),
    ];
    // 4 has no sessions, in 12 the request wants none.
    for version in [4, FETCH] {
        let got = answered(version, within.clone());
        assert_eq!(got, [of("a", 2, &[]), of("a", 0, &[2]), of("a", 1, &[])]);
        let got = answered(version, across.clone());
        assert_eq!(got, [of("a", 0, &[2]), of("a", 1, &[]), of("b", 0, &[1, 2])]);
    }
}

//! Leader epochs: one number wherever a partition is spoken of, and a greater one after a restart.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};
use uuid::Uuid;

use crate::harness::{Broker, Wire};
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, PRODUCE, create_topic, fetched, produce, produce_request, record,
    topic_name,
};

const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// The topic's id, and the leader epoch of its partition 0.
fn known(wire: &mut Wire) -> (Uuid, i32) {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("a")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let topic = wire.call(METADATA, &request).topics.remove(0);
    (topic.topic_id, topic.partitions[0].leader_epoch)
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

fn list_offsets(wire: &mut Wire, timestamp: i64) -> (i64, i32) {
    let asked =
        ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![asked]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let found = wire.call(7, &request).topics.remove(0).partitions.remove(0);
    (found.offset, found.leader_epoch)
}

/// The answer to a Fetch by a client that believes in `current` and has records up to
/// `last_fetched`.
fn fetch(
    wire: &mut Wire,
    version: i16,
    topic: Uuid,
    (offset, current, last_fetched): (i64, i32, i32),
) -> (PartitionData, Vec<(i32, i32)>) {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(current)
        .with_last_fetched_epoch(last_fetched)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_partitions(vec![partition]);
    let asked =
        if version >= 13 { asked.with_topic_id(topic) } else { asked.with_topic(topic_name("a")) };
    let request = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![asked]);
    let mut response = wire.call(version, &request);
    let endpoints = response.node_endpoints.iter().map(|node| (node.node_id.0, node.port));
    let endpoints = endpoints.collect();
    (response.responses.remove(0).partitions.remove(0), endpoints)
}

#[test]
fn gotcha_27_one_leader_epoch_is_told_everywhere_and_a_restart_raises_it() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let (id, first) = known(&mut wire);
    for offset in 0..3 {
        assert_eq!(produce(&mut wire, "a", record(10)), (NONE, offset));
    }
    let log = fetched(wire.call(FETCH, &Fetch::at(0).request("a")));
    assert_eq!(log[12..16], first.to_be_bytes(), "the batch");
    assert_eq!(list_offsets(&mut wire, -2), (0, first));
    assert_eq!(list_offsets(&mut wire, -1), (3, first));
    assert_eq!(end_of(&mut wire, first), (first, 3));
    assert_eq!(end_of(&mut wire, first + 1), (-1, -1));
    for version in [9, 12, 13, 18] {
        let mut code = |current| fetch(&mut wire, version, id, (0, current, -1)).0.error_code;
        assert_eq!([code(first), code(-1)], [NONE, NONE], "v{version}");
        assert_eq!(code(first - 1), FENCED_LEADER_EPOCH, "v{version}");
        assert_eq!(code(first + 1), UNKNOWN_LEADER_EPOCH, "v{version}");
    }

    broker.stop();
    broker.restart();
    let mut wire = broker.connect();
    let (_, second) = known(&mut wire);
    assert!(second > first);
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 3));
    assert_eq!(end_of(&mut wire, first), (first, 3));
    assert_eq!(end_of(&mut wire, second), (second, 4));
    assert_eq!(list_offsets(&mut wire, -2), (0, first), "the epoch of the first record");
    assert_eq!(fetch(&mut wire, 12, id, (3, first, -1)).0.error_code, FENCED_LEADER_EPOCH);
    let (agreed, _) = fetch(&mut wire, 12, id, (3, second, first));
    assert_eq!((agreed.error_code, agreed.diverging_epoch.end_offset), (NONE, -1));
    let (diverging, _) = fetch(&mut wire, 12, id, (4, second, first));
    assert_eq!(diverging.error_code, NONE);
    let parted = (diverging.diverging_epoch.epoch, diverging.diverging_epoch.end_offset);
    assert_eq!(parted, (first, 3), "who has more of the first epoch than the log must cut it");
}

#[test]
fn gotcha_10_the_present_leader_is_named_beside_a_fenced_epoch_and_beside_nothing_else() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let (id, first) = known(&mut wire);
    broker.stop();
    broker.restart();
    let mut wire = broker.connect();
    let (_, second) = known(&mut wire);
    let port: i32 = broker.address().rsplit_once(':').unwrap().1.parse().unwrap();
    for version in [16, 18] {
        let (fenced, endpoints) = fetch(&mut wire, version, id, (0, first, -1));
        assert_eq!(fenced.error_code, FENCED_LEADER_EPOCH);
        let leader = (fenced.current_leader.leader_id.0, fenced.current_leader.leader_epoch);
        assert_eq!((leader, endpoints), ((1, second), vec![(1, port)]), "v{version}");
        for (current, error) in [(second, NONE), (second + 1, UNKNOWN_LEADER_EPOCH)] {
            let (answer, endpoints) = fetch(&mut wire, version, id, (0, current, -1));
            assert_eq!((answer.error_code, answer.current_leader.leader_id.0), (error, -1));
            assert!(endpoints.is_empty(), "v{version}");
        }
        let unknown = Uuid::from_u128(9);
        let (unknown, endpoints) = fetch(&mut wire, version, unknown, (0, -1, -1));
        assert_eq!((unknown.current_leader.leader_id.0, endpoints.len()), (-1, 0));
    }
    let (old, endpoints) = fetch(&mut wire, 15, id, (0, first, -1));
    assert_eq!((old.current_leader.leader_id.0, endpoints.len()), (-1, 0), "v15 has no place");
    let produced = wire.call(PRODUCE, &produce_request("a", 0, -1, record(10)));
    let partition = &produced.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (NONE, -1));
    assert!(produced.node_endpoints.is_empty());
}

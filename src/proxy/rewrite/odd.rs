//! Responses as no release of Kafka sends them, or hardly any: what must not leak, and what must
//! not be learnt.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node as QuorumNode,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeClusterResponse, FetchResponse, FindCoordinatorResponse,
    MetadataResponse, fetch_response,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::tests::{
    COORDINATOR_NOT_AVAILABLE, DOOR, DOOR_PORT, ROUTED, UNROUTED, UPSTREAM, encode, rewritten, text,
};
use super::*;
use crate::proxy::policy::{self, Class};

/// Unknown tags that say where a node is.
fn tags() -> std::collections::BTreeMap<i32, Bytes> {
    let said = |at: i32| Bytes::from(format!("{UPSTREAM}:{at}"));
    [(9, said(1)), (1_000, said(2)), (i32::MAX, said(3))].into()
}

fn again<M: Decodable>(key: ApiKey, version: i16, body: &Bytes) -> (M, Rewritten) {
    let found = rewritten(key as i16, version, body).unwrap();
    let mut rest = Bytes::from(found.pieces.concat());
    let leaks = rest.windows(UPSTREAM.len()).any(|bytes| bytes == UPSTREAM.as_bytes());
    assert!(!leaks, "{key:?} v{version}");
    let decoded = M::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty(), "{key:?} v{version}");
    (decoded, found)
}

#[test]
fn unknown_tags_do_not_go_on_at_any_level() {
    let door = |tags| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(ROUTED))
            .with_host(text(DOOR))
            .with_port(i32::from(DOOR_PORT))
            .with_unknown_tagged_fields(tags)
    };
    let metadata = |tags: std::collections::BTreeMap<i32, Bytes>| {
        let partition =
            MetadataResponsePartition::default().with_unknown_tagged_fields(tags.clone());
        let topic = MetadataResponseTopic::default()
            .with_name(Some(kafka_protocol::messages::TopicName(text("topic"))))
            .with_partitions(vec![partition.clone(), partition])
            .with_unknown_tagged_fields(tags.clone());
        MetadataResponse::default()
            .with_brokers(vec![door(tags.clone()), door(tags.clone())])
            .with_topics(vec![topic])
            .with_unknown_tagged_fields(tags)
    };
    for version in 9..=13 {
        let body = encode(&metadata(tags()), version);
        let (found, rewritten) = again::<MetadataResponse>(ApiKey::Metadata, version, &body);
        assert_eq!(found, metadata(tags_of_none()), "v{version}");
        // Two brokers of two fields, and six sections of tags and their number.
        assert_eq!(rewritten.edits, 2 * 2 + 6 * 2);
    }
    // Within tagged fields, whose sizes then change.
    let fetch = |tags: std::collections::BTreeMap<i32, Bytes>| {
        let leader = fetch_response::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(ROUTED))
            .with_leader_epoch(5)
            .with_unknown_tagged_fields(tags.clone());
        let partition = fetch_response::PartitionData::default()
            .with_current_leader(leader)
            .with_records(Some(Bytes::from_static(b"records")))
            .with_unknown_tagged_fields(tags.clone());
        let topic = fetch_response::FetchableTopicResponse::default()
            .with_partitions(vec![partition])
            .with_unknown_tagged_fields(tags.clone());
        let endpoint = fetch_response::NodeEndpoint::default()
            .with_node_id(BrokerId(ROUTED))
            .with_host(text(DOOR))
            .with_port(i32::from(DOOR_PORT))
            .with_unknown_tagged_fields(tags.clone());
        FetchResponse::default()
            .with_responses(vec![topic])
            .with_node_endpoints(vec![endpoint])
            .with_unknown_tagged_fields(tags)
    };
    for version in 16..=17 {
        let body = encode(&fetch(tags()), version);
        let (found, _) = again::<FetchResponse>(ApiKey::Fetch, version, &body);
        assert_eq!(found, fetch(tags_of_none()), "v{version}");
    }
}

fn tags_of_none() -> std::collections::BTreeMap<i32, Bytes> {
    std::collections::BTreeMap::new()
}

#[test]
fn controllers_are_not_listed_as_brokers() {
    let listener = Listener::default().with_host(text(UPSTREAM)).with_port(60_093);
    let node = |id: i32| {
        QuorumNode::default().with_node_id(BrokerId(id)).with_listeners(vec![listener.clone()])
    };
    let quorum = DescribeQuorumResponse::default().with_nodes(vec![node(ROUTED), node(UNROUTED)]);
    let body = encode(&quorum, 2);
    let (_, found) = again::<DescribeQuorumResponse>(ApiKey::DescribeQuorum, 2, &body);
    assert_eq!(found.nodes, []);

    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(ROUTED))
        .with_host(text(UPSTREAM))
        .with_port(9092);
    let cluster = DescribeClusterResponse::default().with_brokers(vec![broker]);
    for version in 1..=2 {
        for (endpoints, listed) in [(1, 1), (2, 0), (3, 0)] {
            let body = encode(&cluster.clone().with_endpoint_type(endpoints), version);
            let (found, rewritten) =
                again::<DescribeClusterResponse>(ApiKey::DescribeCluster, version, &body);
            assert_eq!(rewritten.nodes.len(), listed, "v{version}, endpoints {endpoints}");
            assert_eq!(found.brokers[0].host, text(DOOR));
        }
    }
}

/// Gives every number an address, also those that are no node's.
struct Everywhere(Address);

impl Routes for Everywhere {
    fn route(&self, _: i32) -> Option<Address> {
        Some(self.0.clone())
    }
}

#[test]
fn what_is_no_node_is_neither_listed_nor_routed() {
    let broker = |id: i32, host: &str, port: i32| {
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(id));
        broker.with_host(text(host)).with_port(port)
    };
    let odd = [
        broker(-1, UPSTREAM, 9092),
        broker(-1, "", -1),
        broker(i32::MIN, UPSTREAM, 9092),
        broker(4, "", 9092),
        broker(5, UPSTREAM, 0),
        broker(6, UPSTREAM, -1),
        broker(7, UPSTREAM, 65_536),
        broker(i32::MAX, UPSTREAM, 65_535),
        broker(0, UPSTREAM, 1),
        broker(0, UPSTREAM, 2),
    ];
    let everywhere = Everywhere(Address { host: DOOR.to_owned(), port: DOOR_PORT });
    for version in 0..=13 {
        let body = encode(&MetadataResponse::default().with_brokers(odd.to_vec()), version);
        let found = rewrite(3, version, &body, Limits::CONTROL, &everywhere).unwrap();
        let listed: Vec<_> = found.nodes.iter().map(|node| (node.id, node.port)).collect();
        assert_eq!(listed, [(i32::MAX, 65_535), (0, 1), (0, 2)], "v{version}");
        let mut rest = Bytes::from(found.pieces.concat());
        let decoded = MetadataResponse::decode(&mut rest, version).unwrap();
        let ids: Vec<i32> = decoded.brokers.iter().map(|broker| broker.node_id.0).collect();
        assert_eq!(ids, [4, 5, 6, 7, i32::MAX, 0, 0], "v{version}");
        assert!(decoded.brokers.iter().all(|broker| broker.host == text(DOOR)));
    }
}

#[test]
fn a_coordinators_error_stays_what_it_is() {
    const GROUP_AUTHORIZATION_FAILED: i16 = 30;
    let entry = |error: i16, host: &str| {
        let entry = Coordinator::default().with_key(text("group")).with_error_code(error);
        entry.with_node_id(BrokerId(UNROUTED)).with_host(text(host)).with_port(9092)
    };
    let entries = vec![entry(GROUP_AUTHORIZATION_FAILED, UPSTREAM), entry(0, UPSTREAM)];
    let body = encode(&FindCoordinatorResponse::default().with_coordinators(entries), 4);
    let (found, _) = again::<FindCoordinatorResponse>(ApiKey::FindCoordinator, 4, &body);
    let errors: Vec<i16> = found.coordinators.iter().map(|entry| entry.error_code).collect();
    assert_eq!(errors, [GROUP_AUTHORIZATION_FAILED, COORDINATOR_NOT_AVAILABLE]);
    assert!(found.coordinators.iter().all(|entry| entry.host.is_empty() && entry.port == -1));
}

#[test]
fn null_where_no_release_has_null_is_refused() {
    // No brokers, in versions with a length of four bytes and of one.
    let mut old = BytesMut::new();
    MetadataResponse::default().encode(&mut old, 4).unwrap();
    old[4..8].copy_from_slice(&(-1_i32).to_be_bytes());
    assert!(rewritten(3, 4, &old.freeze()).is_err());
    let mut new = BytesMut::new();
    MetadataResponse::default().encode(&mut new, 12).unwrap();
    new[4] = 0;
    assert!(rewritten(3, 12, &new.freeze()).is_err());
    // Null end points behind a share group's records.
    let share = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert!(rewritten(78, 1, &Bytes::copy_from_slice(&share)).is_err());
}

#[test]
fn every_version_that_is_rewritten_has_a_shape() {
    for message in crate::protocol::guard::shapes::RESPONSES {
        let row = policy::find(message.key).unwrap();
        for version in row.versions.min..=row.versions.max {
            let has = message.versions.contains(version);
            assert!(has || row.class(version) != Class::Rewrite, "{} v{version}", row.name);
        }
    }
}

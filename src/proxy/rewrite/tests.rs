//! Every response that says where a node is, in every version, against the crate's codec.

use std::collections::HashMap;
use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeClusterResponse, DescribeQuorumResponse, FetchResponse,
    FindCoordinatorResponse, MetadataResponse, ProduceResponse, ShareAcknowledgeResponse,
    ShareFetchResponse, TopicName, fetch_response, produce_response, share_acknowledge_response,
    share_fetch_response,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use proptest::prelude::*;

use super::*;

/// The only node with a route.
pub(super) const ROUTED: i32 = 1;
/// A node without.
pub(super) const UNROUTED: i32 = 2;
pub(super) const UPSTREAM: &str = "kafka-7.internal";
pub(super) const DOOR: &str = "door";
pub(super) const DOOR_PORT: u16 = 9193;
pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;

pub(super) struct Table(pub(super) HashMap<i32, Address>);

impl Routes for Table {
    fn route(&self, node: i32) -> Option<Address> {
        self.0.get(&node).cloned()
    }
}

pub(super) fn table() -> Table {
    let door = Address { host: DOOR.to_owned(), port: DOOR_PORT };
    Table(HashMap::from([(ROUTED, door)]))
}

pub(super) fn rewritten(key: i16, version: i16, body: &Bytes) -> Result<Rewritten, GuardError> {
    rewrite(key, version, body, Limits::CONTROL, &table())
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn encode(message: &impl Encodable, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).unwrap();
    body.freeze()
}

/// Holds in every version that `upstream` becomes `wanted`, and gives the nodes of the last.
fn becomes<M>(key: ApiKey, least: i16, upstream: &M, wanted: &M) -> Vec<UpstreamNode>
where
    M: Encodable + Decodable + Message + PartialEq + Debug,
{
    let key = key as i16;
    let most = M::VERSIONS.max.min(shape::response(key).unwrap().versions.max);
    let mut nodes = Vec::new();
    for version in least..=most {
        let body = encode(upstream, version);
        let found = rewritten(key, version, &body).unwrap();
        let pieces = Bytes::from(found.pieces.concat());
        assert!(!pieces.windows(UPSTREAM.len()).any(|bytes| bytes == UPSTREAM.as_bytes()));
        let mut rest = pieces.clone();
        assert_eq!(&M::decode(&mut rest, version).unwrap(), wanted, "v{version}");
        assert!(rest.is_empty(), "v{version}");
        nodes = found.nodes;
    }
    assert!(least <= most);
    nodes
}

fn upstream_nodes() -> Vec<UpstreamNode> {
    let node = |id| UpstreamNode { id, host: UPSTREAM.to_owned(), port: 9092 };
    vec![node(ROUTED), node(UNROUTED)]
}

#[test]
fn metadata_lists_only_nodes_with_a_route_and_keeps_their_ids() {
    let broker = |id: i32, host: &str, port: i32| {
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(id));
        broker.with_host(text(host)).with_port(port)
    };
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(UNROUTED))
        .with_replica_nodes(vec![BrokerId(ROUTED), BrokerId(UNROUTED)])
        .with_isr_nodes(vec![BrokerId(UNROUTED)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text("topic"))))
        .with_partitions(vec![partition]);
    let with = |brokers| {
        let topics = vec![topic.clone()];
        MetadataResponse::default().with_brokers(brokers).with_topics(topics)
    };
    let upstream = with(vec![broker(ROUTED, UPSTREAM, 9092), broker(UNROUTED, UPSTREAM, 9092)]);
    let wanted = with(vec![broker(ROUTED, DOOR, i32::from(DOOR_PORT))]);
    assert_eq!(becomes(ApiKey::Metadata, 0, &upstream, &wanted), upstream_nodes());
}

#[test]
fn a_coordinator_without_a_route_is_not_available() {
    let single = |error: i16, id: i32, host: &str, port: i32| {
        let response = FindCoordinatorResponse::default().with_error_code(error);
        response.with_node_id(BrokerId(id)).with_host(text(host)).with_port(port)
    };
    let door = single(0, ROUTED, DOOR, i32::from(DOOR_PORT));
    let nobody = single(COORDINATOR_NOT_AVAILABLE, -1, "", -1);
    let refused = single(30, -1, "", -1);
    for version in 0..=3 {
        for (upstream, wanted) in [
            (single(0, ROUTED, UPSTREAM, 9092), &door),
            (single(0, UNROUTED, UPSTREAM, 9092), &nobody),
            (refused.clone(), &refused),
        ] {
            let found = rewritten(10, version, &encode(&upstream, version)).unwrap();
            assert_eq!(found.pieces.concat(), encode(wanted, version), "v{version}");
        }
    }
    let entry = |error: i16, id: i32, host: &str, port: i32| {
        let entry = Coordinator::default().with_key(text("group")).with_error_code(error);
        entry.with_node_id(BrokerId(id)).with_host(text(host)).with_port(port)
    };
    let upstream = FindCoordinatorResponse::default().with_coordinators(vec![
        entry(0, UNROUTED, UPSTREAM, 9092),
        entry(0, ROUTED, UPSTREAM, 9092),
        entry(16, -1, "", -1),
    ]);
    let wanted = FindCoordinatorResponse::default().with_coordinators(vec![
        entry(COORDINATOR_NOT_AVAILABLE, -1, "", -1),
        entry(0, ROUTED, DOOR, i32::from(DOOR_PORT)),
        entry(16, -1, "", -1),
    ]);
    assert_eq!(becomes(ApiKey::FindCoordinator, 4, &upstream, &wanted).len(), 2);
}

#[test]
fn the_cluster_is_described_by_its_virtual_nodes() {
    let broker = |id: i32, host: &str, port: i32| {
        let broker = DescribeClusterBroker::default().with_broker_id(BrokerId(id));
        broker.with_host(text(host)).with_port(port)
    };
    let with = |brokers| DescribeClusterResponse::default().with_brokers(brokers);
    let upstream = with(vec![broker(ROUTED, UPSTREAM, 9092), broker(UNROUTED, UPSTREAM, 9092)]);
    let wanted = with(vec![broker(ROUTED, DOOR, i32::from(DOOR_PORT))]);
    assert_eq!(becomes(ApiKey::DescribeCluster, 0, &upstream, &wanted), upstream_nodes());
}

#[test]
fn listeners_of_the_quorum_are_replaced_or_left_out() {
    let node =
        |id: i32, listeners| Node::default().with_node_id(BrokerId(id)).with_listeners(listeners);
    let listener = |host: &str, port: u16| {
        Listener::default().with_name(text("CONTROLLER")).with_host(text(host)).with_port(port)
    };
    let with = |nodes| DescribeQuorumResponse::default().with_nodes(nodes);
    let upstream = with(vec![
        node(ROUTED, vec![listener(UPSTREAM, 60_093)]),
        node(UNROUTED, vec![listener(UPSTREAM, 9093), listener(UPSTREAM, 9094)]),
    ]);
    let wanted = with(vec![node(ROUTED, vec![listener(DOOR, DOOR_PORT)]), node(UNROUTED, vec![])]);
    // They are controllers.
    assert_eq!(becomes(ApiKey::DescribeQuorum, 2, &upstream, &wanted), []);
}

/// The end points and leaders of a response of one of the modules that have the same types.
macro_rules! hints {
    ($module:ident, $partition:ident) => {
        (
            |id: i32, host: &str, port: i32| {
                let endpoint = $module::NodeEndpoint::default().with_node_id(BrokerId(id));
                endpoint.with_host(text(host)).with_port(port)
            },
            |leader: i32, epoch: i32| {
                let current = $module::LeaderIdAndEpoch::default()
                    .with_leader_id(leader.into())
                    .with_leader_epoch(epoch);
                $module::$partition::default().with_error_code(6).with_current_leader(current)
            },
        )
    };
}

#[test]
fn produce_tells_the_new_leader_only_if_it_has_a_route() {
    let (endpoint, partition) = hints!(produce_response, PartitionProduceResponse);
    let with = |partitions, endpoints| {
        let topic =
            produce_response::TopicProduceResponse::default().with_partition_responses(partitions);
        ProduceResponse::default().with_responses(vec![topic]).with_node_endpoints(endpoints)
    };
    let upstream = with(
        vec![partition(ROUTED, 5), partition(UNROUTED, 6)],
        vec![endpoint(ROUTED, UPSTREAM, 9092), endpoint(UNROUTED, UPSTREAM, 9092)],
    );
    let wanted = with(
        vec![partition(ROUTED, 5), partition(-1, -1)],
        vec![endpoint(ROUTED, DOOR, i32::from(DOOR_PORT))],
    );
    assert_eq!(becomes(ApiKey::Produce, 10, &upstream, &wanted), upstream_nodes());
}

#[test]
fn fetch_tells_leaders_and_replicas_only_if_they_have_a_route() {
    let (endpoint, partition) = hints!(fetch_response, PartitionData);
    let data = Some(Bytes::from(vec![7; 100_000]));
    let with = |partitions: Vec<fetch_response::PartitionData>, endpoints| {
        let with_data =
            |partition: fetch_response::PartitionData| partition.with_records(data.clone());
        let topic = fetch_response::FetchableTopicResponse::default()
            .with_partitions(partitions.into_iter().map(with_data).collect());
        FetchResponse::default().with_responses(vec![topic]).with_node_endpoints(endpoints)
    };
    let prefers = |partition: fetch_response::PartitionData, id: i32| {
        partition.with_preferred_read_replica(BrokerId(id))
    };
    let upstream = with(
        vec![prefers(partition(ROUTED, 5), UNROUTED), prefers(partition(UNROUTED, 6), ROUTED)],
        vec![endpoint(UNROUTED, UPSTREAM, 9092), endpoint(ROUTED, UPSTREAM, 9092)],
    );
    let wanted = with(
        vec![prefers(partition(ROUTED, 5), -1), prefers(partition(-1, -1), ROUTED)],
        vec![endpoint(ROUTED, DOOR, i32::from(DOOR_PORT))],
    );
    assert_eq!(becomes(ApiKey::Fetch, 16, &upstream, &wanted).len(), 2);
    // Before there were end points there were leaders.
    let bare = |partitions| with(partitions, Vec::new());
    let upstream = bare(vec![prefers(partition(UNROUTED, 6), UNROUTED)]);
    let wanted = bare(vec![prefers(partition(-1, -1), -1)]);
    assert_eq!(becomes(ApiKey::Fetch, 12, &upstream, &wanted), []);
}

#[test]
fn share_groups_are_told_what_consumers_are() {
    let (endpoint, partition) = hints!(share_fetch_response, PartitionData);
    let with = |leader, epoch, endpoints| {
        let topic = share_fetch_response::ShareFetchableTopicResponse::default()
            .with_partitions(vec![partition(leader, epoch)]);
        ShareFetchResponse::default().with_responses(vec![topic]).with_node_endpoints(endpoints)
    };
    let upstream = with(UNROUTED, 6, vec![endpoint(UNROUTED, UPSTREAM, 9092)]);
    assert_eq!(becomes(ApiKey::ShareFetch, 1, &upstream, &with(-1, -1, vec![])).len(), 1);
    let upstream = with(ROUTED, 6, vec![endpoint(ROUTED, UPSTREAM, 9092)]);
    let wanted = with(ROUTED, 6, vec![endpoint(ROUTED, DOOR, i32::from(DOOR_PORT))]);
    assert_eq!(becomes(ApiKey::ShareFetch, 1, &upstream, &wanted).len(), 1);

    let (endpoint, partition) = hints!(share_acknowledge_response, PartitionData);
    let with = |leader, epoch, endpoints| {
        let topic = share_acknowledge_response::ShareAcknowledgeTopicResponse::default()
            .with_partitions(vec![partition(leader, epoch)]);
        let response = ShareAcknowledgeResponse::default().with_responses(vec![topic]);
        response.with_node_endpoints(endpoints)
    };
    let upstream = with(UNROUTED, 6, vec![endpoint(UNROUTED, UPSTREAM, 9092)]);
    assert_eq!(becomes(ApiKey::ShareAcknowledge, 1, &upstream, &with(-1, -1, vec![])).len(), 1);
}

#[test]
fn what_names_no_node_goes_on_as_it_came() {
    let body = encode(&MetadataResponse::default(), 12);
    let found = rewritten(3, 12, &body).unwrap();
    assert_eq!((found.edits, found.pieces.len()), (0, 1));
    assert_eq!(found.pieces[0].as_ptr(), body.as_ptr());
}

#[test]
fn bytes_behind_a_response_do_not_go_on() {
    let body = encode(&MetadataResponse::default(), 12);
    let longer = Bytes::from([&body[..], UPSTREAM.as_bytes()].concat());
    assert_eq!(rewritten(3, 12, &longer).unwrap().pieces.concat(), body);
}

#[test]
fn more_nodes_than_the_limits_allow_are_refused() {
    let brokers = vec![MetadataResponseBroker::default(); 900_000];
    let body = encode(&MetadataResponse::default().with_brokers(brokers), 1);
    let refused = rewritten(3, 1, &body);
    let too_large = matches!(
        refused,
        Err(GuardError::BodyTooLarge { .. } | GuardError::DecodedTooLarge { .. })
    );
    assert!(too_large, "{refused:?}");
}

/// A response in which everything that can change does.
fn full(key: i16, version: i16) -> Bytes {
    let host = || text(UPSTREAM);
    let id = |at: usize| BrokerId(at as i32);
    match key {
        3 => {
            let broker =
                |at| MetadataResponseBroker::default().with_node_id(id(at)).with_host(host());
            encode(&MetadataResponse::default().with_brokers((0..4).map(broker).collect()), version)
        }
        10 => {
            let entry = |at| Coordinator::default().with_node_id(id(at)).with_host(host());
            let entries = (0..4).map(entry).collect();
            encode(&FindCoordinatorResponse::default().with_coordinators(entries), version)
        }
        _ => {
            let (endpoint, partition) = hints!(fetch_response, PartitionData);
            let topic = fetch_response::FetchableTopicResponse::default()
                .with_partitions((0..4).map(|leader| partition(leader, 1)).collect());
            let endpoints = (0..4).map(|node| endpoint(node, UPSTREAM, 9092)).collect();
            let response = FetchResponse::default().with_responses(vec![topic]);
            encode(&response.with_node_endpoints(endpoints), version)
        }
    }
}

proptest! {
    /// The same for responses of which some bytes are others.
    #[test]
    fn responses_with_damaged_bytes_are_refused_or_rewritten(
        (key, version) in prop::sample::select(
            vec![(3, 1), (3, 12), (10, 4), (10, 6), (1, 16), (1, 17)],
        ),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = full(key, version).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(found) = rewritten(key, version, &Bytes::from(body)) {
            let again = Bytes::from(found.pieces.concat());
            let twice = rewritten(key, version, &again).unwrap();
            prop_assert!(twice.nodes.iter().all(|node| node.host == DOOR));
        }
    }

    /// Whatever an upstream answers is refused or rewritten: no panic, and nothing twice.
    #[test]
    fn damaged_responses_are_refused_or_rewritten(
        key in prop::sample::select(vec![0_i16, 1, 3, 10, 55, 60, 78, 79]),
        version in 0..19_i16,
        bytes in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..200),
    ) {
        let body = Bytes::from(bytes);
        if let Ok(found) = rewritten(key, version, &body) {
            let again = Bytes::from(found.pieces.concat());
            let twice = rewritten(key, version, &again).unwrap();
            prop_assert!(twice.nodes.iter().all(|node| node.host == DOOR));
        }
    }
}

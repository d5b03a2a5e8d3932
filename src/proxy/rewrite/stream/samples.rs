//! Responses of both APIs with all that can be in them, made by chance.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData, SnapshotId,
};
use kafka_protocol::messages::share_fetch_response::{
    AcquiredRecords, PartitionData as SharePartition, ShareFetchableTopicResponse,
};
use kafka_protocol::messages::{
    BrokerId, FetchResponse, ShareFetchResponse, TopicName, fetch_response, share_fetch_response,
};
use kafka_protocol::protocol::Message;
use proptest::prelude::*;

use super::super::tests::{ROUTED, UNROUTED, UPSTREAM, text};

pub(super) type Tags = BTreeMap<i32, Bytes>;

/// Numbers of nodes, of which some have a route.
pub(super) fn node() -> impl Strategy<Value = i32> {
    prop_oneof![Just(-1), Just(ROUTED), Just(UNROUTED), 10..40, Just(i32::MAX), Just(-7)]
}

/// Unknown tags that say where a node is.
pub(super) fn some_tags() -> impl Strategy<Value = Tags> {
    let said = (0..3_usize).prop_map(|times| Bytes::from(UPSTREAM.repeat(times)));
    let number = prop_oneof![9..200_i32, Just(1 << 29), Just(i32::MAX)];
    prop::collection::btree_map(number, said, 0..3)
}

pub(super) fn no_tags() -> BoxedStrategy<Tags> {
    Just(Tags::new()).boxed()
}

pub(super) fn partition(tags: BoxedStrategy<Tags>) -> impl Strategy<Value = PartitionData> {
    let aborted = (any::<i64>(), any::<i64>()).prop_map(|(producer, first)| {
        AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
    });
    let aborted = prop::option::of(prop::collection::vec(aborted, 0..4));
    let records = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let leader = (node(), -1..9_i32, tags.clone());
    (0..9_i32, node(), leader, any::<(bool, bool)>(), aborted, records, tags).prop_map(
        |(index, replica, (leader, epoch, inner), (diverges, snapshot), aborted, records, tags)| {
            let current = fetch_response::LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(epoch)
                .with_unknown_tagged_fields(inner);
            let diverging = EpochEndOffset::default().with_epoch(if diverges { 3 } else { -1 });
            let snapshot = SnapshotId::default().with_epoch(if snapshot { 4 } else { -1 });
            PartitionData::default()
                .with_partition_index(index)
                .with_preferred_read_replica(BrokerId(replica))
                .with_current_leader(current)
                .with_diverging_epoch(diverging)
                .with_snapshot_id(snapshot)
                .with_aborted_transactions(aborted)
                .with_records(records.map(Bytes::from))
                .with_unknown_tagged_fields(tags)
        },
    )
}

pub(super) fn endpoint(
    tags: BoxedStrategy<Tags>,
) -> impl Strategy<Value = fetch_response::NodeEndpoint> {
    let host = prop_oneof![3 => Just(UPSTREAM.to_owned()), 1 => "[a-c]{1,40}"];
    let rack = prop::option::of("[a-z]{0,5}");
    (node(), host, 1..99_999_i32, rack, tags).prop_map(|(id, host, port, rack, tags)| {
        fetch_response::NodeEndpoint::default()
            .with_node_id(BrokerId(id))
            .with_host(text(&host))
            .with_port(port)
            .with_rack(rack.map(|rack| text(&rack)))
            .with_unknown_tagged_fields(tags)
    })
}

pub(super) fn fetch(
    version: i16,
    tags: BoxedStrategy<Tags>,
) -> impl Strategy<Value = FetchResponse> {
    let tags = if version >= 12 { tags } else { no_tags() };
    let partitions = prop::collection::vec(partition(tags.clone()), 0..4);
    let topic = ("[a-z]{0,20}", partitions, tags.clone());
    let topics = prop::collection::vec(topic, 0..3);
    let endpoints = prop::collection::vec(endpoint(tags.clone()), 0..4);
    (topics, endpoints, tags, any::<i32>()).prop_map(move |(topics, endpoints, tags, session)| {
        let topics = topics.into_iter().map(|(name, mut partitions, tags)| {
            for partition in &mut partitions {
                if version < 12 {
                    partition.current_leader = fetch_response::LeaderIdAndEpoch::default();
                    partition.diverging_epoch = EpochEndOffset::default();
                    partition.snapshot_id = SnapshotId::default();
                }
            }
            let topic = FetchableTopicResponse::default()
                .with_partitions(partitions)
                .with_unknown_tagged_fields(tags);
            if version < 13 { topic.with_topic(TopicName(text(&name))) } else { topic }
        });
        let response = FetchResponse::default()
            .with_session_id(session)
            .with_responses(topics.collect())
            .with_unknown_tagged_fields(tags);
        if version < 16 { response } else { response.with_node_endpoints(endpoints) }
    })
}

pub(super) fn share_fetch(tags: BoxedStrategy<Tags>) -> impl Strategy<Value = ShareFetchResponse> {
    let message = prop::option::of("[a-z]{0,200}");
    let leader = (node(), -1..9_i32, tags.clone());
    let records = prop::collection::vec(any::<u8>(), 0..300);
    let partition = (message, leader, records, 0..4_usize, tags.clone()).prop_map(
        |(message, (leader, epoch, inner), records, acquired, tags)| {
            let current = share_fetch_response::LeaderIdAndEpoch::default()
                .with_leader_id(leader)
                .with_leader_epoch(epoch)
                .with_unknown_tagged_fields(inner);
            SharePartition::default()
                .with_error_message(message.map(|message| text(&message)))
                .with_current_leader(current)
                .with_records(Some(Bytes::from(records)))
                .with_acquired_records(vec![AcquiredRecords::default(); acquired])
                .with_unknown_tagged_fields(tags)
        },
    );
    let topic = (prop::collection::vec(partition, 0..4), tags.clone());
    let topics = prop::collection::vec(topic, 0..3);
    let endpoints = prop::collection::vec(endpoint(tags.clone()), 0..4);
    (topics, endpoints, tags).prop_map(|(topics, endpoints, tags)| {
        let topics = topics.into_iter().map(|(partitions, tags)| {
            ShareFetchableTopicResponse::default()
                .with_partitions(partitions)
                .with_unknown_tagged_fields(tags)
        });
        let endpoints = endpoints.into_iter().map(|endpoint| {
            share_fetch_response::NodeEndpoint::default()
                .with_node_id(endpoint.node_id)
                .with_host(endpoint.host)
                .with_port(endpoint.port)
                .with_rack(endpoint.rack)
                .with_unknown_tagged_fields(endpoint.unknown_tagged_fields)
        });
        ShareFetchResponse::default()
            .with_responses(topics.collect())
            .with_node_endpoints(endpoints.collect())
            .with_unknown_tagged_fields(tags)
    })
}

/// A version, and a response that has all that can be in it.
pub(super) fn any_fetch(tags: BoxedStrategy<Tags>) -> impl Strategy<Value = (i16, FetchResponse)> {
    let most = FetchResponse::VERSIONS.max;
    (11..=most).prop_flat_map(move |version| (Just(version), fetch(version, tags.clone())))
}

pub(super) fn any_share_fetch(
    tags: BoxedStrategy<Tags>,
) -> impl Strategy<Value = (i16, ShareFetchResponse)> {
    let versions = ShareFetchResponse::VERSIONS;
    (versions.min.max(1)..=versions.max, share_fetch(tags))
}

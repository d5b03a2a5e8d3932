//! Every response that names nodes, in every version, of every node: [`Client`] looks at each.

use std::fmt::Debug;

use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    FindCoordinatorRequest, GroupId, MetadataRequest, ShareFetchRequest,
};
use kafka_protocol::protocol::{Message, Request, StrBytes};

use crate::client::Client;
use crate::harness::topology::{self, topic_name};
use crate::versions::{self, Versions};
use crate::work::{self, Topic};

/// Asks everything of every node; how many responses there were.
pub fn every_response_with_nodes(client: &mut Client, topic: &Topic) -> usize {
    let versions = versions::of(client, 0);
    let nodes: Vec<String> = client.nodes().into_values().collect();
    let mut walk = Walk { client, versions, nodes, seen: 0 };
    walk.ask(0, metadata);
    walk.ask(0, find_coordinator);
    walk.ask(0, |version| describe_cluster(version, 1));
    walk.ask(1, |version| describe_cluster(version, 2));
    walk.ask(0, |_| describe_quorum());
    walk.ask(0, |_| describe_topic_partitions(topic));
    walk.ask(3, |version| work::produce(topic, version, -1, work::batch(&["walked"])));
    walk.ask(4, |version| work::fetch(topic, version, 0).with_rack_id(rack(version)));
    walk.ask(1, |_| share_fetch(topic));
    walk.seen
}

struct Walk<'a> {
    client: &'a mut Client,
    versions: Versions,
    nodes: Vec<String>,
    seen: usize,
}

impl Walk<'_> {
    /// One API in every version from `oldest` on that both sides and the crate know.
    fn ask<R: Request + Message>(&mut self, oldest: i16, request: impl Fn(i16) -> R)
    where
        R::Response: Debug,
    {
        // A range that is empty where the upstream is older.
        let (min, max) = self.versions.get(&R::KEY).copied().unwrap_or((0, -1));
        for version in min.max(oldest)..=max.min(R::VERSIONS.max) {
            for node in &self.nodes {
                self.client.ask_at(node, version, &request(version));
                self.seen += 1;
            }
        }
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// All topics: null since version 1, and an empty list before.
fn metadata(version: i16) -> MetadataRequest {
    let request = topology::metadata_request(if version == 0 { Some(&[]) } else { None });
    // Its absence cannot be said before.
    request.with_allow_auto_topic_creation(version < 4)
}

fn find_coordinator(version: i16) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default();
    match version {
        0..=3 => request.with_key(text("walked")),
        _ => request.with_coordinator_keys(vec![text("walked"), text("other")]),
    }
}

/// The brokers (1), or the controllers (2).
fn describe_cluster(version: i16, endpoint_type: i8) -> DescribeClusterRequest {
    let request = DescribeClusterRequest::default().with_include_fenced_brokers(version >= 2);
    if version == 0 { request } else { request.with_endpoint_type(endpoint_type) }
}

fn describe_quorum() -> DescribeQuorumRequest {
    let topic = TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default()]);
    DescribeQuorumRequest::default().with_topics(vec![topic])
}

fn describe_topic_partitions(topic: &Topic) -> DescribeTopicPartitionsRequest {
    let asked = TopicRequest::default().with_name(topic_name(&topic.name));
    DescribeTopicPartitionsRequest::default()
        .with_topics(vec![asked])
        .with_response_partition_limit(100)
}

/// Where a consumer is, since version 11: the leader then names the replica that is near.
fn rack(version: i16) -> StrBytes {
    if version < 11 { StrBytes::default() } else { text("rack-2") }
}

/// The first of a session, of a member that is new each time.
fn share_fetch(topic: &Topic) -> ShareFetchRequest {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic_id(topic.id).with_partitions(vec![partition]);
    ShareFetchRequest::default()
        .with_group_id(Some(GroupId(text("sharing"))))
        .with_member_id(Some(StrBytes::from_string(uuid::Uuid::from_u128(7).to_string())))
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_max_records(1)
        .with_batch_size(1)
        .with_topics(vec![asked])
}

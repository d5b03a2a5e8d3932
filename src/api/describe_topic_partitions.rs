//! `DescribeTopicPartitions` (key 75), version 0 (KIP-966): topics with their partitions, in pages.
//!
//! Topics are answered in the order of their names, at most so many partitions at a time; a cursor
//! says where the next page begins. An empty list asks for every topic. There is one replica of
//! each partition, which leads it: no other is eligible, and none is offline.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::names::{TEXT_BYTES, broker_id, operations, topic_name};
use super::topics::is_internal;
use super::{Answer, Api, Context, Tally};
use crate::cluster::Topic;
use crate::protocol::error::ErrorCode;

/// `DescribeTopicPartitions`.
pub(super) struct DescribeTopicPartitions;

/// The most partitions of a page, whatever the request says (the default of Kafka's
/// `max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2000;

/// A page that is being filled.
struct Page {
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// How many partitions still fit.
    left: i32,
}

impl Api for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;

    async fn handle(
        cx: Context,
        request: DescribeTopicPartitionsRequest,
    ) -> Answer<DescribeTopicPartitionsResponse> {
        let all = request.topics.is_empty();
        let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
        let first_partition = request.cursor.as_ref().map_or(0, |cursor| cursor.partition_index);
        let names: BTreeSet<&str> = if all {
            cx.image.topics().map(|topic| &*topic.name).filter(|name| *name >= from).collect()
        } else {
            request.topics.iter().map(|topic| topic.name.as_str()).filter(|n| *n >= from).collect()
        };
        let misplaced = !all && request.cursor.is_some() && !names.contains(from);
        if misplaced || first_partition < 0 {
            return Answer::Now(invalid(&request));
        }
        let limit = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
        // Known topics count against the limit, unknown ones do not.
        let topics = if all { names.len().min(limit as usize) } else { names.len() };
        let room = cx.room(expected_bytes(topics, limit)).await;
        let mut page = Page { topics: Vec::new(), left: limit };
        let mut next = None;
        for name in names {
            let first = if name == from { first_partition } else { 0 };
            next = page.add(&cx, name, first);
            if next.is_some() {
                break;
            }
        }
        let response = DescribeTopicPartitionsResponse::default().with_topics(page.topics);
        Answer::Now(response.with_next_cursor(next)).within(room)
    }

    fn errors(response: &DescribeTopicPartitionsResponse, tally: &mut Tally) {
        response.topics.iter().for_each(|topic| tally.note(topic.error_code));
    }
}

impl Page {
    /// Adds a topic from partition `first` on. Returns where the next page begins if not all fits.
    fn add(&mut self, cx: &Context, name: &str, first: i32) -> Option<Cursor> {
        let cursor = |partition| {
            Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition)
        };
        if self.left == 0 {
            return Some(cursor(0));
        }
        let described = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(name)))
            .with_topic_authorized_operations(operations::TOPIC);
        let Some(topic) = cx.image.topic(name) else {
            let code = match crate::cluster::validate_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            self.topics.push(described.with_error_code(code.code()));
            return None;
        };
        let count = topic.partition_count();
        let end = first.saturating_add(self.left).min(count);
        let partitions: Vec<_> = (first..end).map(|index| partition(cx, topic, index)).collect();
        self.left -= partitions.len() as i32;
        self.topics.push(
            described
                .with_topic_id(topic.id.0)
                .with_is_internal(is_internal(name))
                .with_partitions(partitions),
        );
        (end < count).then(|| cursor(end))
    }
}

/// About how many bytes a page takes in memory.
fn expected_bytes(topics: usize, partitions: i32) -> usize {
    // A partition has two lists of one element each.
    const LIST: usize = 16;
    let topic = size_of::<DescribeTopicPartitionsResponseTopic>() + TEXT_BYTES;
    let partition = size_of::<DescribeTopicPartitionsResponsePartition>() + 2 * LIST;
    topics * topic + usize::try_from(partitions).unwrap_or(0) * partition
}

fn partition(cx: &Context, topic: &Topic, index: i32) -> DescribeTopicPartitionsResponsePartition {
    let node = broker_id(cx.broker.node_id());
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(node)
        .with_leader_epoch(cx.image.leader_epoch(topic, index).unwrap_or(-1))
        .with_replica_nodes(vec![node])
        .with_isr_nodes(vec![node])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

/// The answer to a cursor that points nowhere: every topic with the error.
fn invalid(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let refuse = |topic: &TopicRequest| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic.name.clone()))
            .with_error_code(ErrorCode::InvalidRequest.code())
    };
    let topics = request.topics.iter().map(refuse).collect();
    DescribeTopicPartitionsResponse::default().with_topics(topics)
}

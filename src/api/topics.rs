//! What the topic APIs share.

use std::collections::HashSet;
use std::sync::Arc;

use super::Context;
use crate::cluster::Topic;
use crate::partition::Partition;
use crate::protocol::error::ErrorCode;
use crate::protocol::types::{TopicId, TopicPartition};

/// The topic that holds group offsets and group metadata.
pub(super) const OFFSETS_TOPIC: &str = crate::broker::OFFSETS_TOPIC;

/// What is said about a partition that is not there; the answer names it beside this.
pub(super) const NO_SUCH_PARTITION: &str = "there is no such topic, or no such partition of it";

/// Whether only the broker writes to the topic.
pub(super) fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC
}

/// A partition by topic name.
pub(super) fn partition_by_name(
    cx: &Context,
    name: &str,
    partition: i32,
) -> Result<(Arc<Topic>, Arc<Partition>), ErrorCode> {
    let topic = cx.image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    open_partition(cx, topic, partition)
}

/// A partition by topic id.
pub(super) fn partition_by_id(
    cx: &Context,
    id: TopicId,
    partition: i32,
) -> Result<(Arc<Topic>, Arc<Partition>), ErrorCode> {
    let topic = cx.image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?;
    open_partition(cx, topic, partition)
}

/// A partition of a known topic.
pub(super) fn open_partition(
    cx: &Context,
    topic: &Arc<Topic>,
    partition: i32,
) -> Result<(Arc<Topic>, Arc<Partition>), ErrorCode> {
    if !(0..topic.partition_count()).contains(&partition) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let handle = cx
        .broker
        .partition(TopicPartition { topic: topic.id, partition })
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok((Arc::clone(topic), handle))
}

/// Checks the leader epoch that a client believes in (KIP-320): older is fenced, newer is unknown,
/// below zero does not ask.
pub(super) fn check_leader_epoch(
    cx: &Context,
    topic: &Topic,
    partition: i32,
    claimed: i32,
) -> Result<i32, ErrorCode> {
    let current =
        cx.image.leader_epoch(topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match claimed {
        ..0 => Ok(current),
        older if older < current => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(current),
    }
}

/// Each partition is answered once, however often it is named.
pub(super) fn distinct(partitions: &[i32]) -> Vec<i32> {
    let mut seen = HashSet::new();
    partitions.iter().copied().filter(|partition| seen.insert(*partition)).collect()
}

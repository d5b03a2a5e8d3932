//! `OffsetFetch` (key 9), versions 1-9 (all topics by null, v2; leader epoch, v5; require stable,
//! KIP-447, v7; several groups, KIP-709, v8; member epochs, v9).
//!
//! Commits inside transactions are not served yet, so every committed offset is stable.

use std::collections::HashSet;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::error::group_error;
use super::names::{shared, text, topic_name};
use super::topics::distinct;
use super::{Answer, Api, Context, Tally};
use crate::group::Reply;
use crate::group::types::{Error, FetchedOffset, FetchedTopic, OffsetFetchRequest as GroupRequest};

/// `OffsetFetch`.
pub(super) struct OffsetFetch;

/// From this version on a request asks for several groups.
const GROUPS_FROM: i16 = 8;

impl Api for OffsetFetch {
    type Request = OffsetFetchRequest;

    async fn handle(cx: Context, request: OffsetFetchRequest) -> Answer<OffsetFetchResponse> {
        let version = cx.version;
        if version < GROUPS_FROM {
            let asked = request.clone();
            let topics = request.topics.map(|topics| {
                let named = |topic: OffsetFetchRequestTopic| {
                    (shared(&topic.name), distinct(&topic.partition_indexes))
                };
                topics.into_iter().map(named).collect()
            });
            let group = GroupRequest { group: shared(&request.group_id), topics };
            let room = cx.room(expected_bytes(&cx, [&group])).await;
            let reply = cx.broker.groups().fetch_offsets(group);
            return Answer::Later(Box::pin(async move { one_group(version, &asked, reply).await }))
                .within(room);
        }
        let mut seen = HashSet::new();
        let asked: Vec<(OffsetFetchRequestGroup, GroupRequest)> = request
            .groups
            .into_iter()
            .filter(|group| seen.insert(group.group_id.clone()))
            .map(|group| {
                let asked = group_request(&group);
                (group, asked)
            })
            .collect();
        let room = cx.room(expected_bytes(&cx, asked.iter().map(|(_, asked)| asked))).await;
        let mut replies = Vec::with_capacity(asked.len());
        for (group, asked) in asked {
            replies.push((group, cx.broker.groups().fetch_offsets(asked)));
        }
        Answer::Later(Box::pin(async move {
            let mut groups = Vec::with_capacity(replies.len());
            for (group, reply) in replies {
                groups.push(group_response(&group, reply.await));
            }
            OffsetFetchResponse::default().with_groups(groups)
        }))
        .within(room)
    }

    fn errors(response: &OffsetFetchResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            tally.note(partition.error_code);
        }
        response.groups.iter().for_each(|group| tally.note(group.error_code));
    }
}

/// About how many bytes the answer takes in memory: an offset's metadata may be 4 KiB.
fn expected_bytes<'a>(cx: &Context, groups: impl IntoIterator<Item = &'a GroupRequest>) -> usize {
    let each = size_of::<FetchedOffset>() + size_of::<OffsetFetchResponsePartitions>();
    let expected = |asked: &GroupRequest| {
        let size = cx.broker.groups().size(&asked.group);
        let offsets = match &asked.topics {
            Some(topics) => topics.iter().map(|(_, partitions)| partitions.len()).sum(),
            None => size.offsets,
        };
        offsets * each + size.metadata_bytes
    };
    groups.into_iter().map(expected).sum()
}

fn group_request(group: &OffsetFetchRequestGroup) -> GroupRequest {
    let topics = group.topics.as_ref().map(|topics| {
        let named =
            topics.iter().map(|topic| (shared(&topic.name), distinct(&topic.partition_indexes)));
        named.collect()
    });
    GroupRequest { group: shared(&group.group_id), topics }
}

fn group_response(
    group: &OffsetFetchRequestGroup,
    outcome: Result<Vec<FetchedTopic>, Error>,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    let topics = match outcome {
        Ok(topics) => topics,
        Err(error) => return response.with_error_code(group_error(&error)),
    };
    let partition = |offset: &FetchedOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_metadata(Some(text(&offset.metadata)))
    };
    let topic = |topic: &FetchedTopic| {
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(&topic.name))
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    response.with_topics(topics.iter().map(topic).collect())
}

/// Up to v7 the answer is about one group. Up to v1 an error stands at each partition asked for.
async fn one_group(
    version: i16,
    asked: &OffsetFetchRequest,
    reply: Reply<Vec<FetchedTopic>>,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    let partition = |offset: &FetchedOffset| {
        let answer = OffsetFetchResponsePartition::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_metadata(Some(text(&offset.metadata)));
        if version >= 5 { answer.with_committed_leader_epoch(offset.leader_epoch) } else { answer }
    };
    let topic = |topic: &FetchedTopic| {
        OffsetFetchResponseTopic::default()
            .with_name(topic_name(&topic.name))
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    match reply.await {
        Ok(topics) => response.with_topics(topics.iter().map(topic).collect()),
        Err(error) if version >= 2 => response.with_error_code(group_error(&error)),
        Err(error) => {
            let refused = |index: &i32| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(*index)
                    .with_committed_offset(-1)
                    .with_metadata(Some(text("")))
                    .with_error_code(group_error(&error))
            };
            let topics = asked.topics.iter().flatten().map(|topic| {
                OffsetFetchResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(refused).collect())
            });
            response.with_topics(topics.collect())
        }
    }
}

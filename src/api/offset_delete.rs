//! `OffsetDelete` (key 47), version 0 (KIP-496).

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::error::group_error;
use super::names::{shared, topic_name};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{OffsetDeleteRequest as GroupRequest, TopicResults};
use crate::protocol::error::ErrorCode;

/// `OffsetDelete`.
pub(super) struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;

    async fn handle(cx: Context, request: OffsetDeleteRequest) -> Answer<OffsetDeleteResponse> {
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut unknown = Vec::new();
        for topic in &request.topics {
            let count =
                cx.image.topic(topic.name.as_str()).map_or(0, |topic| topic.partition_count());
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            let (known, missing): (Vec<i32>, Vec<i32>) =
                indexes.partition(|index| (0..count).contains(index));
            topics.push((shared(&topic.name), known));
            unknown.push(missing);
        }
        let delete = GroupRequest { group: shared(&request.group_id), topics };
        let reply = cx.broker.groups().delete_offsets(delete);
        Answer::Later(Box::pin(async move {
            let response = OffsetDeleteResponse::default();
            match reply.await {
                Ok(results) => {
                    let topics = results.iter().zip(&unknown);
                    response
                        .with_topics(topics.map(|(one, rest)| topic_results(one, rest)).collect())
                }
                Err(error) => response.with_error_code(group_error(&error)),
            }
        }))
    }

    fn errors(response: &OffsetDeleteResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn topic_results(results: &TopicResults, unknown: &[i32]) -> OffsetDeleteResponseTopic {
    let unknown = unknown.iter().map(|index| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(ErrorCode::UnknownTopicOrPartition.code())
    });
    let partitions = results.partitions.iter().map(|(index, result)| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(result.as_ref().map_or_else(group_error, |()| 0))
    });
    OffsetDeleteResponseTopic::default()
        .with_name(topic_name(&results.name))
        .with_partitions(partitions.chain(unknown).collect())
}

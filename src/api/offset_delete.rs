//! OffsetDelete (key 47), version 0 (KIP-496).

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::error::group_error;
use super::names::{shared, topic_name};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{OffsetDeleteRequest as GroupRequest, TopicResults};

/// `OffsetDelete`.
pub(super) struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;

    async fn handle(cx: Context, request: OffsetDeleteRequest) -> Answer<OffsetDeleteResponse> {
        let topics = request.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            (shared(&topic.name), indexes.collect())
        });
        let delete = GroupRequest { group: shared(&request.group_id), topics: topics.collect() };
        let reply = cx.broker.groups().delete_offsets(delete);
        Answer::Later(Box::pin(async move {
            let response = OffsetDeleteResponse::default();
            match reply.await {
                Ok(results) => response.with_topics(results.iter().map(topic_results).collect()),
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

fn topic_results(results: &TopicResults) -> OffsetDeleteResponseTopic {
    let partitions = results.partitions.iter().map(|(index, result)| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(result.as_ref().map_or_else(group_error, |()| 0))
    });
    OffsetDeleteResponseTopic::default()
        .with_name(topic_name(&results.name))
        .with_partitions(partitions.collect())
}

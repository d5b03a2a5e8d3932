//! OffsetCommit (key 8), versions 2-9 (leader epoch, v6; static members, v7; member epochs, v9).

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::error::group_error;
use super::names::{optional, shared, topic_name};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{CommitPartition, CommitRequest, CommitTopic, Error, TopicResults};

/// `OffsetCommit`.
pub(super) struct OffsetCommit;

impl Api for OffsetCommit {
    type Request = OffsetCommitRequest;

    async fn handle(cx: Context, request: OffsetCommitRequest) -> Answer<OffsetCommitResponse> {
        // Versions 2 to 4 carry a retention, -1 for the broker's.
        let retention_ms = Some(request.retention_time_ms).filter(|ms| cx.version <= 4 && *ms >= 0);
        let commit = CommitRequest {
            group: shared(&request.group_id),
            generation: request.generation_id_or_member_epoch,
            member_id: shared(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
            retention_ms,
            group_id_not_found: cx.version >= 9,
            topics: request.topics.iter().map(commit_topic).collect(),
        };
        let reply = cx.broker.groups().commit(commit);
        Answer::Later(Box::pin(async move {
            let topics = match reply.await {
                Ok(results) => results.iter().map(topic_results).collect(),
                Err(error) => request.topics.iter().map(|topic| refused(topic, &error)).collect(),
            };
            OffsetCommitResponse::default().with_topics(topics)
        }))
    }

    fn errors(response: &OffsetCommitResponse, tally: &mut Tally) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn commit_topic(topic: &OffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|asked| CommitPartition {
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.as_ref().map_or_else(|| "".into(), |text| shared(text)),
    });
    CommitTopic { name: shared(&topic.name), partitions: partitions.collect() }
}

fn topic_results(results: &TopicResults) -> OffsetCommitResponseTopic {
    let partitions = results.partitions.iter().map(|(index, result)| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(result.as_ref().map_or_else(group_error, |()| 0))
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic_name(&results.name))
        .with_partitions(partitions.collect())
}

fn refused(topic: &OffsetCommitRequestTopic, error: &Error) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|asked| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(asked.partition_index)
            .with_error_code(group_error(error))
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}

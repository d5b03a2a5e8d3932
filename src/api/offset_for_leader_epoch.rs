//! `OffsetForLeaderEpoch` (key 23), versions 2-4 (KIP-320): where a leader epoch ends.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::topics::{check_leader_epoch, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `OffsetForLeaderEpoch`.
pub(super) struct OffsetForLeaderEpoch;

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;

    async fn handle(
        cx: Context,
        request: OffsetForLeaderEpochRequest,
    ) -> Answer<OffsetForLeaderEpochResponse> {
        let topics = request.topics.into_iter().map(|topic| {
            let name = topic.topic.as_str();
            let answers = topic.partitions.iter().map(|asked| {
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                match end_of(&cx, name, asked) {
                    Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                    Err(code) => answer
                        .with_error_code(code.code())
                        .with_leader_epoch(-1)
                        .with_end_offset(-1),
                }
            });
            let partitions = answers.collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions)
        });
        Answer::Now(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
    }

    fn errors(response: &OffsetForLeaderEpochResponse, tally: &mut Tally) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

/// The largest epoch that is not above the asked one, and where it ends; -1 and -1 if none is.
fn end_of(
    cx: &Context,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let (topic, partition) = partition_by_name(cx, topic, asked.partition)?;
    check_leader_epoch(cx, &topic, asked.partition, asked.current_leader_epoch)?;
    Ok(partition.epoch_end_offset(asked.leader_epoch).unwrap_or((-1, -1)))
}

//! ListOffsets (key 2), versions 1-10.
//!
//! Timestamps below zero are questions: -1 latest, -2 earliest, -3 greatest timestamp (KIP-734,
//! v7), -4 earliest local (KIP-405, v8), -5 latest tiered (v9). Any other is answered with the
//! first record, exactly, whose timestamp is at least that, found inside its batch. Nothing is
//! tiered yet: the earliest local offset is the earliest, and the latest tiered one is none.

use std::collections::HashSet;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use tracing::error;

use super::topics::{check_leader_epoch, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::partition::FoundOffset;
use crate::protocol::error::ErrorCode;
use crate::task;

/// `ListOffsets`.
pub(super) struct ListOffsets;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

const READ_COMMITTED: i8 = 1;

/// An answer that needs no look at batches, or the question that does.
enum Step {
    Found { offset: i64, timestamp: i64, epoch: i32 },
    Search(std::sync::Arc<crate::partition::Partition>),
}

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    async fn handle(cx: Context, request: ListOffsetsRequest) -> Answer<ListOffsetsResponse> {
        let committed = request.isolation_level == READ_COMMITTED;
        Answer::Later(Box::pin(async move {
            let mut topics = Vec::with_capacity(request.topics.len());
            for topic in &request.topics {
                topics.push(answer_topic(&cx, topic, committed).await);
            }
            ListOffsetsResponse::default().with_topics(topics)
        }))
    }

    fn errors(response: &ListOffsetsResponse, tally: &mut Tally) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

async fn answer_topic(
    cx: &Context,
    topic: &ListOffsetsTopic,
    committed: bool,
) -> ListOffsetsTopicResponse {
    let mut seen = HashSet::new();
    let twice: HashSet<i32> = topic
        .partitions
        .iter()
        .map(|asked| asked.partition_index)
        .filter(|index| !seen.insert(*index))
        .collect();
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for asked in &topic.partitions {
        let outcome = if twice.contains(&asked.partition_index) {
            Err(ErrorCode::InvalidRequest)
        } else {
            answer(cx, topic.name.as_str(), asked, committed).await
        };
        let response = ListOffsetsPartitionResponse::default()
            .with_partition_index(asked.partition_index)
            .with_timestamp(-1)
            .with_offset(-1);
        partitions.push(match outcome {
            Err(code) => response.with_error_code(code.code()),
            Ok((offset, timestamp, epoch)) => {
                let response = response.with_offset(offset).with_timestamp(timestamp);
                if cx.version >= 4 { response.with_leader_epoch(epoch) } else { response }
            }
        });
    }
    ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
}

/// Offset, timestamp and leader epoch; all -1 where there is no such record.
async fn answer(
    cx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<(i64, i64, i32), ErrorCode> {
    let partition = match first_step(cx, topic, asked, committed)? {
        Step::Found { offset, timestamp, epoch } => return Ok((offset, timestamp, epoch)),
        Step::Search(partition) => partition,
    };
    let timestamp = asked.timestamp;
    let search = move || match timestamp {
        MAX_TIMESTAMP => partition.offset_of_max_timestamp(),
        timestamp => partition.offset_for_timestamp(timestamp),
    };
    match task::blocking(search).await {
        Ok(Ok(found)) => Ok(found.map_or((-1, -1, -1), |found: FoundOffset| {
            (found.offset, found.timestamp, found.leader_epoch)
        })),
        Ok(Err(cause)) => {
            error!(%cause, "log cannot be read");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(panicked) => {
            error!(%panicked, "offset look-up failed");
            Err(ErrorCode::UnknownServerError)
        }
    }
}

fn first_step(
    cx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Step, ErrorCode> {
    let index = asked.partition_index;
    let (topic, partition) = partition_by_name(cx, topic, index)?;
    let epoch = check_leader_epoch(cx, &topic, index, asked.current_leader_epoch)?;
    let offsets = partition.offsets();
    let found = |offset: i64, epoch: i32| Ok(Step::Found { offset, timestamp: -1, epoch });
    match (asked.timestamp, cx.version) {
        (LATEST, _) if committed => found(offsets.last_stable, epoch),
        (LATEST, _) => found(offsets.high_watermark, epoch),
        (EARLIEST, _) | (EARLIEST_LOCAL, 8..) => {
            // The epoch of the first record; of an empty log the present one.
            found(offsets.log_start, partition.epoch_of(offsets.log_start).unwrap_or(epoch))
        }
        (LATEST_TIERED, 9..) => found(-1, -1),
        (MAX_TIMESTAMP, 7..) | (0.., _) => Ok(Step::Search(partition)),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

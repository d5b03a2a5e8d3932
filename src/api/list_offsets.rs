//! `ListOffsets` (key 2), versions 1-10.
//!
//! Timestamps below zero are questions: -1 latest, -2 earliest, -3 greatest timestamp (KIP-734,
//! v7), -4 earliest local (KIP-405, v8), -5 latest tiered (v9). Any other is answered with the
//! first record, exactly, whose timestamp is at least that, found inside its batch. Nothing is
//! tiered yet: the earliest local offset is the earliest, and the latest tiered one is none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use tracing::error;

use super::topics::{check_leader_epoch, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::partition::{FoundOffset, LookupError, Partition};
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

/// What a look-up may read at once before it has to ask for more: a stretch of small batches.
const USUALLY_READ_BYTES: usize = 64 << 10;

/// What a look-up may decompress of a batch before it has to ask for more. Both together are
/// charged with 2 MiB, of which the smallest budget has two.
const USUALLY_UNPACKED_BYTES: usize = (1 << 20) - USUALLY_READ_BYTES / 2;

/// An answer that needs no look at batches, or the question that does.
enum Step {
    Found { offset: i64, timestamp: i64, epoch: i32 },
    Search(Arc<Partition>),
}

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    async fn handle(cx: Context, request: ListOffsetsRequest) -> Answer<ListOffsetsResponse> {
        let committed = request.isolation_level == READ_COMMITTED;
        Answer::Later(Box::pin(async move {
            let asked = each_once(&request.topics);
            let mut topics = Vec::with_capacity(asked.len());
            for topic in &asked {
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

/// A topic of the request: its partitions, each with the question, or none if it is asked twice.
struct AskedTopic<'a> {
    name: &'a TopicName,
    partitions: BTreeMap<i32, Option<&'a ListOffsetsPartition>>,
}

/// Every topic once, with all its partitions, however often the request names it.
fn each_once(topics: &[ListOffsetsTopic]) -> Vec<AskedTopic<'_>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut found: Vec<AskedTopic<'_>> = Vec::with_capacity(topics.len());
    for topic in topics {
        let place = *places.entry(topic.name.as_str()).or_insert(found.len());
        if place == found.len() {
            found.push(AskedTopic { name: &topic.name, partitions: BTreeMap::new() });
        }
        let Some(asked) = found.get_mut(place) else { continue };
        for partition in &topic.partitions {
            asked
                .partitions
                .entry(partition.partition_index)
                .and_modify(|question| *question = None)
                .or_insert(Some(partition));
        }
    }
    found
}

async fn answer_topic(
    cx: &Context,
    topic: &AskedTopic<'_>,
    committed: bool,
) -> ListOffsetsTopicResponse {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, asked) in &topic.partitions {
        let outcome = match asked {
            Some(asked) => answer(cx, topic.name.as_str(), asked, committed).await,
            None => Err(ErrorCode::InvalidRequest),
        };
        let response = ListOffsetsPartitionResponse::default()
            .with_partition_index(*index)
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
    let (mut read, mut unpacked) = (USUALLY_READ_BYTES, USUALLY_UNPACKED_BYTES);
    let found = loop {
        let (_charge, room) = cx.broker.read_and_unpack(read, unpacked).await;
        let (partition, timestamp) = (Arc::clone(&partition), asked.timestamp);
        let search = move || match timestamp {
            MAX_TIMESTAMP => partition.offset_of_max_timestamp(room),
            timestamp => partition.offset_for_timestamp(timestamp, room),
        };
        match task::blocking(search).await {
            Ok(Err(LookupError::NeedsRead { bytes })) => read = bytes,
            Ok(Err(LookupError::NeedsRoom { .. })) => unpacked = usize::MAX,
            found => break found,
        }
    };
    match found {
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
        (EARLIEST_LOCAL, 8..) => found(partition.local_start(), epoch),
        (EARLIEST, _) => {
            // The epoch of the first record; of an empty log the present one.
            found(offsets.log_start, partition.epoch_of(offsets.log_start).unwrap_or(epoch))
        }
        (LATEST_TIERED, 9..) => found(partition.tiered_end().map_or(-1, |end| end - 1), -1),
        (MAX_TIMESTAMP, 7..) | (0.., _) => Ok(Step::Search(partition)),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

//! `DeleteRecords` (key 21), versions 0-2 (KIP-107): moves a partition's log start.

use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::error::log_start_error;
use super::topics::{is_internal, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::failpoint;
use crate::partition::{LogStartError, Partition, record};
use crate::protocol::error::ErrorCode;
use crate::wal::{Class, Lsn};

/// `DeleteRecords`.
pub(super) struct DeleteRecords;

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;

    async fn handle(cx: Context, request: DeleteRecordsRequest) -> Answer<DeleteRecordsResponse> {
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut last = Lsn::ZERO;
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let index = asked.partition_index;
                let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
                let outcome = delete(&cx, topic.name.as_str(), index, asked.offset).await;
                partitions.push(match outcome {
                    Ok((start, lsn)) => {
                        last = last.max(lsn);
                        result.with_low_watermark(start)
                    }
                    Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
                });
            }
            let result = DeleteRecordsTopicResult::default().with_name(topic.name);
            topics.push(result.with_partitions(partitions));
        }
        cx.broker.view_changed(last);
        failpoint::pass("log start: appended");
        let durable = cx.broker.stream().wait_durable(last);
        Answer::Later(Box::pin(async move {
            if durable.await.is_err() {
                let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                for partition in partitions.filter(|partition| partition.error_code == 0) {
                    partition.error_code = ErrorCode::KafkaStorageError.code();
                    partition.low_watermark = -1;
                }
            }
            failpoint::pass("log start: durable");
            DeleteRecordsResponse::default().with_topics(topics)
        }))
    }

    fn errors(response: &DeleteRecordsResponse, tally: &mut Tally) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

async fn delete(
    cx: &Context,
    topic: &str,
    index: i32,
    before: i64,
) -> Result<(i64, Lsn), ErrorCode> {
    let (topic, partition) = partition_by_name(cx, topic, index)?;
    if is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let settings = cx.broker.topic_settings(&cx.image, &topic);
    if settings.compact && !settings.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    delete_records(cx, &partition, before).await.map_err(|error| log_start_error(&error))
}

async fn delete_records(
    cx: &Context,
    partition: &Arc<Partition>,
    before: i64,
) -> Result<(i64, Lsn), LogStartError> {
    let stream = cx.broker.stream();
    let mut admission =
        stream.admit(record::LOG_START_LEN).await.map_err(|_| LogStartError::Poisoned)?;
    match partition.delete_records(&mut admission, before) {
        Err(LogStartError::NoRoom) => {}
        outcome => return outcome,
    }
    let room = stream.wait_for_room(Class::Data, record::LOG_START_LEN).await;
    room.map_err(|_| LogStartError::NoRoom)?;
    partition.delete_records(&mut admission, before)
}

//! `CreatePartitions` (key 37), versions 0-3: the count must grow.

use std::collections::HashSet;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::error::topic_error;
use super::names::text;
use super::topics::is_internal;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `CreatePartitions`.
pub(super) struct CreatePartitions;

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;

    async fn handle(
        cx: Context,
        request: CreatePartitionsRequest,
    ) -> Answer<CreatePartitionsResponse> {
        let mut seen = HashSet::new();
        let twice: HashSet<_> = request
            .topics
            .iter()
            .filter(|topic| !seen.insert(topic.name.clone()))
            .map(|topic| topic.name.clone())
            .collect();
        let mut results = Vec::with_capacity(request.topics.len());
        let mut answered = HashSet::new();
        for topic in request.topics {
            if !answered.insert(topic.name.clone()) {
                continue;
            }
            let outcome = if twice.contains(&topic.name) {
                let message = "the topic stands more than once in the request".to_owned();
                Err((ErrorCode::InvalidRequest, message))
            } else {
                grow(&cx, &topic, request.validate_only).await
            };
            let result = CreatePartitionsTopicResult::default().with_name(topic.name);
            results.push(match outcome {
                Ok(()) => result.with_error_message(None),
                Err((code, message)) => {
                    result.with_error_code(code.code()).with_error_message(Some(text(&message)))
                }
            });
        }
        Answer::Now(CreatePartitionsResponse::default().with_results(results))
    }

    fn errors(response: &CreatePartitionsResponse, tally: &mut Tally) {
        response.results.iter().for_each(|topic| tally.note(topic.error_code));
    }
}

async fn grow(
    cx: &Context,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    let name = asked.name.as_str();
    let topic = cx.image.topic(name).ok_or_else(|| {
        (ErrorCode::UnknownTopicOrPartition, format!("there is no topic \"{name}\""))
    })?;
    if is_internal(name) {
        let message = format!("the number of partitions of \"{name}\" decides where groups are");
        return Err((ErrorCode::InvalidTopicException, message));
    }
    let present = topic.partition_count();
    if asked.count <= present {
        let message = format!(
            "topic \"{name}\" has {present} partitions; {} is not more than that",
            asked.count
        );
        return Err((ErrorCode::InvalidPartitions, message));
    }
    if let Some(assignments) = &asked.assignments {
        let added = (asked.count - present) as usize;
        if assignments.len() != added {
            let message = format!(
                "{added} partitions are added to topic \"{name}\" but {} assignments are given",
                assignments.len()
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if validate_only {
        return Ok(());
    }
    cx.broker
        .create_partitions(topic.id, asked.count)
        .await
        .map_err(|error| (topic_error(&error), error.to_string()))
}

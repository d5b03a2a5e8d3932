//! `DeleteTopics` (key 20), versions 1-6: by name, from v6 on also by id (KIP-516).
//!
//! The metadata entry is committed first, then the partitions are closed and the reply leaves; the
//! WAL record that drops their data follows (DESIGN §5).

use std::collections::HashMap;

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::error::topic_error;
use super::names::{text, topic_name};
use super::topics::is_internal;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;
use crate::protocol::types::TopicId;

/// `DeleteTopics`.
pub(super) struct DeleteTopics;

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;

    async fn handle(cx: Context, request: DeleteTopicsRequest) -> Answer<DeleteTopicsResponse> {
        let asked: Vec<DeleteTopicState> = if cx.version >= 6 {
            request.topics
        } else {
            let state = |name| DeleteTopicState::default().with_name(Some(name));
            request.topic_names.into_iter().map(state).collect()
        };
        let mut times: HashMap<Named, u32> = HashMap::new();
        for topic in &asked {
            *times.entry(Named::of(&cx, topic)).or_default() += 1;
        }
        let mut responses = Vec::with_capacity(asked.len());
        for topic in asked {
            // A topic that is named twice is answered once, with an error.
            let Some(times) = times.remove(&Named::of(&cx, &topic)) else { continue };
            responses.push(delete(&cx, topic, times > 1).await);
        }
        Answer::Now(DeleteTopicsResponse::default().with_responses(responses))
    }

    fn errors(response: &DeleteTopicsResponse, tally: &mut Tally) {
        response.responses.iter().for_each(|topic| tally.note(topic.error_code));
    }
}

/// A topic of the request, for finding one that is named twice, be it by its name and by its id.
#[derive(PartialEq, Eq, Hash)]
enum Named {
    Known(TopicId),
    Unknown(Option<String>, uuid::Uuid),
}

impl Named {
    fn of(cx: &Context, topic: &DeleteTopicState) -> Self {
        let name = topic.name.as_ref().map(|name| name.as_str().to_owned());
        let known = match &name {
            Some(name) => cx.image.topic(name),
            None => cx.image.topic_by_id(TopicId(topic.topic_id)),
        };
        known.map_or(Self::Unknown(name, topic.topic_id), |topic| Self::Known(topic.id))
    }
}

async fn delete(cx: &Context, asked: DeleteTopicState, repeated: bool) -> DeletableTopicResult {
    let answer =
        DeletableTopicResult::default().with_name(asked.name.clone()).with_topic_id(asked.topic_id);
    let refuse = |answer: DeletableTopicResult, code: ErrorCode, message: &str| {
        answer.with_error_code(code.code()).with_error_message(Some(text(message)))
    };
    let by_id = !asked.topic_id.is_nil();
    let found = match &asked.name {
        Some(name) => cx.image.topic(name.as_str()),
        None => cx.image.topic_by_id(TopicId(asked.topic_id)),
    };
    if repeated || by_id == asked.name.is_some() {
        let message = "name each topic once, by its name or by its id";
        return refuse(answer, ErrorCode::InvalidRequest, message);
    }
    let Some(topic) = found else {
        let code =
            if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        return refuse(answer, code, "there is no such topic");
    };
    if is_internal(&topic.name) {
        let message = "the broker's own topic cannot be deleted while it runs";
        return refuse(answer, ErrorCode::InvalidTopicException, message);
    }
    if !cx.broker.deletes_topics() {
        let message = "topic deletion is switched off; set delete.topic.enable=true";
        return refuse(answer, ErrorCode::TopicDeletionDisabled, message);
    }
    let answer = answer.with_name(Some(topic_name(&topic.name))).with_topic_id(topic.id.0);
    match cx.broker.delete_topic(topic.id).await {
        Ok(()) => answer,
        Err(error) => refuse(answer, topic_error(&error), &error.to_string()),
    }
}

//! A Fetch and its session (KIP-227): which partitions the request stands for, and which of their
//! answers the client must be told (Kafka's `FetchManager.newContext`).

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchTopic;

use super::unique::make_unique;
use super::{FIRST_SESSION_VERSION, Fetch, TOPIC_IDS_FROM, Target, Topic, resolve_topic};
use crate::api::error::fetch_session_error;
use crate::api::{Context, take_memory};
use crate::broker::fetch_sessions::{
    FINAL_EPOCH, FetchTurn, FetchedPartition, INITIAL_EPOCH, Listed, NO_SESSION, SessionPartition,
    SessionTopic, Step,
};
use crate::budget::Charge;
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::FetchPartitionResponse;
use crate::protocol::types::TopicId;

/// What one partition of a session takes while a request for it is handled: its target, its
/// answer, its place among the waiting requests. A request of a few bytes stands for all of them.
const PARTITION_BYTES: usize = 192;

/// What a request is to the sessions (Kafka's `FetchContext`).
#[derive(Debug)]
pub(super) enum FetchContext {
    /// It has none, and wants none.
    Sessionless,
    /// It lists all its partitions and asks for a session.
    Full,
    /// It goes on with a session.
    Incremental(FetchTurn),
}

impl FetchContext {
    /// Ends when a newer request has gone on with the session; never without one.
    pub(super) async fn overtaken(&self) {
        match self {
            FetchContext::Incremental(turn) => turn.overtaken().await,
            FetchContext::Sessionless | FetchContext::Full => std::future::pending().await,
        }
    }
}

/// What the session makes of a reply.
pub(super) struct Conclusion {
    /// The error of the whole reply, 0 for none.
    pub(super) error_code: i16,
    /// The reply's session id.
    pub(super) session_id: i32,
    /// Which answers are told, in order; `None` for all.
    pub(super) kept: Option<Vec<bool>>,
}

/// Takes the request into its session, or finds that it has none.
pub(super) fn begin(cx: &Context, request: &FetchRequest) -> Result<FetchContext, ErrorCode> {
    if cx.version < FIRST_SESSION_VERSION {
        return Ok(FetchContext::Sessionless);
    }
    let sessions = cx.broker.fetch_sessions();
    let (id, epoch) = (request.session_id, request.session_epoch);
    if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
        // Whatever session a full request names ends with it.
        sessions.close(id);
        let wants_one = epoch == INITIAL_EPOCH;
        return Ok(if wants_one { FetchContext::Full } else { FetchContext::Sessionless });
    }
    let by_ids = cx.version >= TOPIC_IDS_FROM;
    let step = Step { id, epoch, by_ids, connection: cx.session.id };
    let asked = request.topics.iter().map(|topic| listed(cx, topic));
    let forgotten = request.forgotten_topics_data.iter().map(|topic| Listed {
        topic: session_topic(cx, topic.topic.as_str(), TopicId(topic.topic_id)),
        partitions: topic.partitions.clone(),
    });
    match sessions.advance(step, asked, forgotten) {
        Ok(Some(turn)) => Ok(FetchContext::Incremental(turn)),
        Ok(None) => Ok(FetchContext::Sessionless),
        Err(error) => Err(fetch_session_error(error)),
    }
}

/// Resolves what the request stands for. A session's partitions are charged in place of the
/// request's own bytes: whoever waits for memory holds none of the same pool.
pub(super) async fn resolve(
    cx: &Context,
    context: &FetchContext,
    request: &mut FetchRequest,
    charge: Charge,
) -> Result<(Vec<Topic>, Charge), ErrorCode> {
    let topics = std::mem::take(&mut request.topics);
    let FetchContext::Incremental(turn) = context else {
        let mut all: Vec<_> = topics.iter().map(|topic| listed(cx, topic)).collect();
        drop(topics);
        make_unique(&mut all);
        return Ok((all.into_iter().map(|listed| resolve_topic(cx, listed)).collect(), charge));
    };
    drop((topics, std::mem::take(&mut request.forgotten_topics_data), charge));
    let charge = take_memory(cx, turn.partition_count() * PARTITION_BYTES)
        .await
        .map_err(|_| ErrorCode::UnknownServerError)?;
    let name_of = |id| cx.image.topic_by_id(id).map(|topic| topic.name.clone());
    let partitions = turn.partitions(name_of).map_err(fetch_session_error)?;
    Ok((partitions.into_iter().map(|listed| resolve_topic(cx, listed)).collect(), charge))
}

fn listed(cx: &Context, topic: &FetchTopic) -> Listed<SessionPartition> {
    let partitions = topic.partitions.iter().map(|partition| SessionPartition {
        fetch_offset: partition.fetch_offset,
        index: partition.partition,
        max_bytes: partition.partition_max_bytes,
        current_leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
    });
    Listed {
        topic: session_topic(cx, topic.topic.as_str(), TopicId(topic.topic_id)),
        partitions: partitions.collect(),
    }
}

/// The topic as the request's version names it.
fn session_topic(cx: &Context, name: &str, id: TopicId) -> SessionTopic {
    if cx.version >= TOPIC_IDS_FROM {
        let name = cx.image.topic_by_id(id).map(|topic| topic.name.clone());
        return SessionTopic { id, name };
    }
    let known = cx.image.topic(name).map(|topic| topic.name.clone());
    SessionTopic { id: TopicId::ZERO, name: Some(known.unwrap_or_else(|| name.into())) }
}

/// Tells the session what is answered, by topic, and learns what of it the client is told.
pub(super) fn conclude(fetch: &Fetch, answers: &[Vec<FetchPartitionResponse>]) -> Conclusion {
    let all = |error_code, session_id| Conclusion { error_code, session_id, kept: None };
    match &fetch.context {
        FetchContext::Sessionless => all(0, NO_SESSION),
        FetchContext::Full => {
            let fetched = fetch.topics.iter().zip(answers).map(|(topic, answers)| Listed {
                topic: topic.of.clone(),
                partitions: topic.partitions.iter().zip(answers).map(fetched).collect(),
            });
            let by_ids = fetch.cx.version >= TOPIC_IDS_FROM;
            let sessions = fetch.cx.broker.fetch_sessions();
            all(0, sessions.create(by_ids, fetch.cx.session.id, fetched))
        }
        FetchContext::Incremental(turn) => match turn.conclude(answers.iter().flatten()) {
            Ok(kept) => Conclusion { kept, ..all(0, turn.session_id()) },
            Err(error) => all(fetch_session_error(error).code(), turn.session_id()),
        },
    }
}

fn fetched((target, answer): (&Target, &FetchPartitionResponse)) -> FetchedPartition {
    FetchedPartition {
        asked: target.asked,
        high_watermark: answer.high_watermark,
        log_start_offset: answer.log_start_offset,
    }
}

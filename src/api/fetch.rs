//! Fetch (key 1), versions 4-18.
//!
//! KIPs: 74 (first batch above the limits), 98 (isolation), 227 (sessions: id 0 is always answered,
//! which is legal and means "none"), 320 and 595 (leader epochs, diverging epoch), 392 (no read
//! replica is preferred), 516 (topic ids, v13), 903 (replica state, v15). Replicas do not fetch
//! here: a request with a replica id is refused.
//!
//! The first stage resolves partitions and reads what is in memory. What must wait, for records or
//! for a disk, is the later stage, so it delays no other request of the connection.

mod plan;
mod respond;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::Context;
use super::topics::{check_leader_epoch, partition_by_id, partition_by_name};
use crate::budget::SMALL_REQUEST_BYTES;
use crate::partition::{FetchWait, Isolation, Offsets, Partition};
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::EpochEndOffset;
use crate::protocol::types::TopicId;
use crate::server::service::{Disconnect, Reply, Request};
use plan::{Answers, Limits};

/// The API's key.
pub(super) const KEY: i16 = 1;

/// From this version on topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;
/// From this version on a response has an error of its own.
const TOP_LEVEL_ERROR_FROM: i16 = 7;
/// From this version on the replica id is part of the replica state.
const REPLICA_STATE_FROM: i16 = 15;

/// A Fetch waits for at most this long, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_mins(5);

/// A request whose partitions are resolved.
struct Fetch {
    cx: Context,
    topics: Vec<Topic>,
    isolation: Isolation,
    min_bytes: usize,
    limits: Limits,
    max_wait: Duration,
}

/// A topic of the request.
struct Topic {
    name: Arc<str>,
    id: TopicId,
    partitions: Vec<Target>,
}

/// A partition of the request.
struct Target {
    index: i32,
    offset: i64,
    max_bytes: usize,
    /// The partition, or what is answered instead of records.
    found: Result<Arc<Partition>, Refused>,
}

/// Why a partition has no records in the answer.
#[derive(Clone, Copy)]
enum Refused {
    Error(ErrorCode),
    /// The fetcher's log parts from this one here (KIP-595).
    Diverging(EpochEndOffset, Offsets),
}

/// Handles one request.
pub(super) async fn call(cx: Context, request: Request) -> Result<Reply, Disconnect> {
    let (message, charge) = super::decode::<FetchRequest>(&cx, request).await?;
    if let Some(code) = refusal(&cx, &message) {
        return respond::refused(&cx, &message, code).map(Reply::Now);
    }
    let fetch = resolve(cx, &message);
    drop(message);
    // A small request may be parked without its charge, so that many waiting consumers do not fill
    // the pool of small requests; what a large one has become stays charged.
    let charge = (charge.bytes() > SMALL_REQUEST_BYTES).then_some(charge);
    let now = fetch.read_memory();
    if let Some(answers) = now.as_ref().filter(|answers| fetch.is_satisfied(answers)) {
        return respond::encode(&fetch, answers).map(|head| Reply::Now(head.into_response(now)));
    }
    let deadline = fetch.cx.received + fetch.max_wait;
    Ok(Reply::Later(Box::pin(async move {
        let mut answers = match now {
            Some(answers) => answers,
            None => fetch.read().await,
        };
        if !fetch.is_satisfied(&answers) {
            let wait = fetch.wait_for_records(&answers);
            // What was found is read again after the wait: meanwhile it holds no memory.
            drop(answers);
            tokio::select! {
                () = wait => {}
                () = fetch.cx.broker.clock().sleep_until(deadline) => {}
                () = fetch.cx.broker.shutdown().draining() => {}
            }
            answers = fetch.read().await;
        }
        let head = respond::encode(&fetch, &answers)?;
        drop(charge);
        Ok(head.into_response(Some(answers)))
    })))
}

/// Why the whole request is refused, if it is.
fn refusal(cx: &Context, request: &FetchRequest) -> Option<ErrorCode> {
    let replica = if cx.version >= REPLICA_STATE_FROM {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };
    if replica.0 >= 0 {
        return Some(ErrorCode::ClusterAuthorizationFailed);
    }
    // No session is ever given out, so nobody has one to go on with. Epoch 0 asks for one and -1
    // for none.
    let goes_on = cx.version >= TOP_LEVEL_ERROR_FROM && !matches!(request.session_epoch, 0 | -1);
    goes_on.then_some(ErrorCode::FetchSessionIdNotFound)
}

fn resolve(cx: Context, request: &FetchRequest) -> Fetch {
    let topics = request.topics.iter().map(|topic| resolve_topic(&cx, topic)).collect();
    let config = cx.broker.config();
    let most = config.server.fetch_bytes_max as usize;
    Fetch {
        topics,
        isolation: match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
        min_bytes: size(request.min_bytes),
        limits: Limits { bytes: size(request.max_bytes).min(most) },
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0))
            .min(MAX_WAIT),
        cx,
    }
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn resolve_topic(cx: &Context, topic: &FetchTopic) -> Topic {
    let id = TopicId(topic.topic_id);
    let name = topic.topic.as_str();
    let known = if cx.version >= TOPIC_IDS_FROM { None } else { cx.image.topic(name) };
    let partition = |asked: &FetchPartition| Target {
        index: asked.partition,
        offset: asked.fetch_offset,
        max_bytes: size(asked.partition_max_bytes),
        found: resolve_partition(cx, topic, asked),
    };
    Topic {
        name: known.map_or_else(|| name.into(), |topic| Arc::clone(&topic.name)),
        id,
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}

fn resolve_partition(
    cx: &Context,
    topic: &FetchTopic,
    asked: &FetchPartition,
) -> Result<Arc<Partition>, Refused> {
    let found = if cx.version >= TOPIC_IDS_FROM {
        partition_by_id(cx, TopicId(topic.topic_id), asked.partition)
    } else {
        partition_by_name(cx, topic.topic.as_str(), asked.partition)
    };
    let (topic, partition) = found.map_err(Refused::Error)?;
    check_leader_epoch(cx, &topic, asked.partition, asked.current_leader_epoch)
        .map_err(Refused::Error)?;
    if asked.last_fetched_epoch < 0 {
        return Ok(partition);
    }
    match partition.epoch_end_offset(asked.last_fetched_epoch) {
        None => Err(Refused::Error(ErrorCode::OffsetOutOfRange)),
        Some((epoch, end_offset))
            if epoch < asked.last_fetched_epoch || end_offset < asked.fetch_offset =>
        {
            let end = EpochEndOffset { epoch, end_offset };
            Err(Refused::Diverging(end, partition.offsets()))
        }
        Some(_) => Ok(partition),
    }
}

impl Fetch {
    /// Whether the answer may leave now: enough bytes, nothing to wait for, or something that the
    /// client must hear at once.
    fn is_satisfied(&self, answers: &Answers) -> bool {
        answers.bytes >= self.min_bytes
            || self.max_wait.is_zero()
            || answers.is_urgent()
            || self.topics.iter().all(|topic| topic.partitions.is_empty())
    }

    fn wait_for_records(&self, answers: &Answers) -> FetchWait {
        let missing = self.min_bytes.saturating_sub(answers.bytes) as u64;
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        let waiting = partitions.zip(answers.marks()).filter_map(|(target, mark)| {
            let partition = target.found.as_ref().ok()?;
            Some((Arc::clone(partition), mark?))
        });
        FetchWait::new(&self.cx.broker.partitions().shared().metrics, waiting, missing)
    }
}

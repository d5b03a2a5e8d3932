//! Fetch (key 1), versions 4-18.
//!
//! KIPs: 74 (first batch above the limits), 98 (isolation), 227 (sessions), 320 and 595 (leader
//! epochs, diverging epoch), 392 (no read replica is preferred), 516 (topic ids, v13), 903
//! (replica state, v15), 951 (the present leader beside an error, v16). Replicas do not fetch here:
//! a request with a replica id is refused.
//!
//! The first stage resolves partitions and reads what is in memory. What must wait, for records,
//! for a disk or for the bucket, is the later stage, so it delays no other request of the
//! connection.

mod log;
mod parked;
mod plan;
mod respond;
mod session;
mod unique;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;

use super::Context;
use super::topics::{check_leader_epoch, partition_by_id, partition_by_name};
use crate::broker::fetch_sessions::{Listed, SessionPartition, SessionTopic};
use crate::cluster::Topic as Known;
use crate::partition::{FetchWait, Isolation, Offsets, Partition};
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::EpochEndOffset;
use crate::server::service::{Disconnect, Reply, Request};
use parked::Parked;
use plan::{Answers, Limits, Patience};
use session::FetchContext;

/// The API's key.
pub(super) const KEY: i16 = 1;

/// From this version on topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;
/// From this version on a request has a session, and a response an error of its own.
const FIRST_SESSION_VERSION: i16 = 7;
/// From this version on the replica id is part of the replica state.
const REPLICA_STATE_FROM: i16 = 15;

/// A Fetch waits for at most this long, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_mins(5);

/// A request whose partitions are resolved.
struct Fetch {
    cx: Context,
    context: FetchContext,
    topics: Vec<Topic>,
    isolation: Isolation,
    min_bytes: usize,
    limits: Limits,
    max_wait: Duration,
}

/// A topic of the request.
struct Topic {
    of: SessionTopic,
    partitions: Vec<Target>,
}

/// A partition of the request.
struct Target {
    asked: SessionPartition,
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
    let (mut message, charge) = super::decode::<FetchRequest>(&cx, request).await?;
    let refused = |message, code| respond::refused(&cx, message, code).map(Reply::Now);
    let context = match refuse_replicas(&cx, &message).and_then(|()| session::begin(&cx, &message))
    {
        Ok(context) => context,
        Err(code) => return refused(&message, code),
    };
    let (topics, charge) = match session::resolve(&cx, &context, &mut message, charge).await {
        Ok(resolved) => resolved,
        Err(code) => return refused(&message, code),
    };
    let fetch = Fetch::new(cx, context, topics, &message);
    drop(message);
    let now = fetch.read_memory();
    if let Some(answers) = now.as_ref().filter(|answers| fetch.is_satisfied(answers)) {
        return respond::encode(&fetch, answers).map(|head| Reply::Now(head.into_response(now)));
    }
    let parked = Parked::new(&fetch.cx, charge);
    let deadline = fetch.cx.received + fetch.max_wait;
    Ok(Reply::Later(Box::pin(async move {
        let patience = Patience { deadline, parked: &parked };
        let mut answers = match now {
            Some(answers) => answers,
            None => fetch.read(&patience).await,
        };
        if !fetch.is_satisfied(&answers) {
            let wait = fetch.wait_for_records(&answers);
            // What was found is read again after the wait: meanwhile it holds no memory.
            drop(answers);
            tokio::select! {
                () = wait => {}
                () = parked.wanted(&fetch.cx) => {}
                () = fetch.context.overtaken() => {}
                () = fetch.cx.broker.clock().sleep_until(deadline) => {}
                () = fetch.cx.broker.shutdown().draining() => {}
            }
            answers = fetch.read(&patience).await;
        }
        let head = respond::encode(&fetch, &answers)?;
        drop(parked);
        Ok(head.into_response(Some(answers)))
    })))
}

/// Refuses a request of a replica.
fn refuse_replicas(cx: &Context, request: &FetchRequest) -> Result<(), ErrorCode> {
    let replica = if cx.version >= REPLICA_STATE_FROM {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };
    if replica.0 >= 0 { Err(ErrorCode::ClusterAuthorizationFailed) } else { Ok(()) }
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn resolve_topic(cx: &Context, listed: Listed<SessionPartition>) -> Topic {
    let Listed { topic: of, partitions } = listed;
    let target = |asked| Target { asked, found: resolve_partition(cx, &of, &asked) };
    let partitions = partitions.into_iter().map(target).collect();
    Topic { of, partitions }
}

fn resolve_partition(
    cx: &Context,
    topic: &SessionTopic,
    asked: &SessionPartition,
) -> Result<Arc<Partition>, Refused> {
    let (topic, partition) = find_partition(cx, topic, asked.index).map_err(Refused::Error)?;
    check_leader_epoch(cx, &topic, asked.index, asked.current_leader_epoch)
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

/// A partition as the request, or its session, names it. A topic whose id is gone may have been
/// known by its name: if another topic has that now, the client is told so
/// (Kafka's `ReplicaManager.readFromLog`).
fn find_partition(
    cx: &Context,
    topic: &SessionTopic,
    index: i32,
) -> Result<(Arc<Known>, Arc<Partition>), ErrorCode> {
    let name = topic.name.as_deref();
    if cx.version < TOPIC_IDS_FROM {
        return partition_by_name(cx, name.unwrap_or_default(), index);
    }
    let found = partition_by_id(cx, topic.id, index);
    match (&found, name) {
        (Err(ErrorCode::UnknownTopicId), Some(name)) => {
            partition_by_name(cx, name, index).and(Err(ErrorCode::InconsistentTopicId))
        }
        _ => found,
    }
}

impl Fetch {
    fn new(cx: Context, context: FetchContext, topics: Vec<Topic>, request: &FetchRequest) -> Self {
        let most = cx.broker.config().server.fetch_bytes_max as usize;
        Self {
            context,
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

    /// Whether the answer may leave now: enough bytes, nothing to wait for, or something that the
    /// client must hear at once.
    fn is_satisfied(&self, answers: &Answers) -> bool {
        answers.bytes >= self.min_bytes
            || self.max_wait.is_zero()
            || answers.is_urgent()
            || answers.is_behind
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

//! Produce (key 0), versions 3-13; 0-2 are advertised for old librdkafka and closed on use, as
//! Apache Kafka 4.x does (KAFKA-18659).
//!
//! KIPs: 98 (v3), 110 (zstd, v7), 467 (record errors, v8), 516 (topic ids, v13). acks=1 and
//! acks=all both wait for the WAL; what durable means is `wal.sync`. With acks=0 nothing is
//! answered, and an error closes the connection, so that the client refreshes its metadata.
//!
//! A first stage: checks, one admission to the WAL's pool for the whole request, appends in the
//! request's order. What remains is waiting for one LSN.

mod unpack;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use self::unpack::{Work, refusal, unpack};
use super::error::append_error;
use super::topics::{is_internal, open_partition};
use super::{Context, Tally};
use crate::budget::{Charge, SMALL_REQUEST_BYTES};
use crate::cluster::Topic;
use crate::config::TimestampType as ConfiguredTimestamp;
use crate::config::topic::TopicSettings;
use crate::partition::{AppendError, AppendRequest, Appended, Partition, record};
use crate::protocol::batch::{Batch, ProduceCheck, ProduceRules, TimestampBounds, TimestampType};
use crate::protocol::error::ErrorCode;
use crate::protocol::guard::Limits;
use crate::protocol::produce::{
    MIN_VERSION, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse,
};
use crate::protocol::topic::TopicRef;
use crate::protocol::types::TopicId;
use crate::server::service::{Disconnect, Piece, Reply, Request, Response};
use crate::wal::{Admission, AdmitError, Class, Lsn, RoomError};

/// The API's key.
pub(super) const KEY: i16 = 0;

const NAME: &str = "Produce";

/// What is kept for a partition until it is answered, beside what came: its item, what became of
/// it, its answer, and the text and the topic's name there.
const PARTITION_BYTES: usize = size_of::<Item>()
    + size_of::<Outcome>()
    + 2 * size_of::<ProducePartitionResponse>()
    + 2 * MESSAGE_BYTES;

/// Room for an answer's text, in bytes.
const MESSAGE_BYTES: usize = 64;

/// A request whose partitions take less than this is charged for its frame alone, and so is one
/// whose partitions take less than an eighth of the frame.
const UNCHARGED_PARTITIONS_BYTES: usize = 4 * 1024;

/// How long a request may wait for a full log before its client is told to retry, counted from
/// when it came: a producer that is faster than the bucket is slowed by it, and loses no batch to a
/// retry.
const FULL_PATIENCE: Duration = Duration::from_secs(2);

/// How often an append that found no room waits for it before the client is told to retry.
const ROOM_ATTEMPTS: usize = 8;

/// A topic as the answer names it; outlives the request's bytes.
#[derive(Clone, Debug, PartialEq)]
enum Named {
    Name(Arc<str>),
    Id(TopicId),
}

/// A partition of the request on its way to an answer.
struct Item {
    topic: Named,
    topic_position: usize,
    index: i32,
    /// What is to be appended, or the refusal.
    step: Result<Ready, Refused>,
}

/// The refusal of a batch.
struct Refused {
    response: ProducePartitionResponse,
    /// The partition, if it is here.
    partition: Option<Arc<Partition>>,
}

impl Refused {
    fn nowhere(response: ProducePartitionResponse) -> Self {
        Self { response, partition: None }
    }

    fn at(partition: &Arc<Partition>, response: ProducePartitionResponse) -> Self {
        Self { response, partition: Some(Arc::clone(partition)) }
    }
}

/// A batch that passed every check but those for which its records must be decompressed.
struct Ready {
    partition: Arc<Partition>,
    batch: Batch,
    check: ProduceCheck,
    settings: TopicSettings,
    rules: ProduceRules,
    /// What is to be done before the append.
    work: Option<Work>,
}

/// The answer for a partition, and what must be durable before it is true.
struct Outcome {
    topic: Named,
    topic_position: usize,
    response: ProducePartitionResponse,
    lsn: Lsn,
    /// The partition, if it is here.
    partition: Option<Arc<Partition>>,
    /// Where the records are there, if they are.
    appended: Option<Appended>,
}

/// Handles one request.
pub(super) async fn call(cx: Context, request: Request) -> Result<Reply, Disconnect> {
    let version = request.api_version;
    if version < MIN_VERSION {
        return Err(Disconnect::UnsupportedVersion { api: NAME, version });
    }
    let Request { body, charge, .. } = request;
    let frame = body.len();
    let produce = ProduceRequest::parse(version, body).map_err(|error| Disconnect::Malformed {
        api: NAME,
        version,
        reason: error.to_string(),
    })?;
    let acks = produce.acks;
    let (charge, mut kept) = charged(&cx, &produce, frame, charge).await?;
    let items = items(&cx, &produce);
    drop(produce);
    let outcomes = append_all(&cx, items).await;
    // The records are copied: what they came in may go.
    drop(charge);
    drop(kept.split(outcomes.len() * size_of::<Item>()));
    if acks == 0 {
        note(&outcomes);
        let failed = outcomes.iter().find(|outcome| outcome.response.error_code != 0);
        return failed.map_or(Ok(Reply::Silent), |outcome| {
            let code = ErrorCode::from_code(outcome.response.error_code);
            Err(Disconnect::UnacknowledgedProduce(format!("{code:?}")))
        });
    }
    let last = outcomes.iter().map(|outcome| outcome.lsn).max().unwrap_or(Lsn::ZERO);
    if last == Lsn::ZERO {
        return respond(&cx, outcomes, kept).await.map(Reply::Now);
    }
    let durable = cx.broker.stream().wait_durable(last);
    Ok(Reply::Later(Box::pin(async move {
        let mut outcomes = outcomes;
        if durable.await.is_err() {
            outcomes.iter_mut().for_each(Outcome::lose);
            return respond(&cx, outcomes, kept).await;
        }
        for outcome in &outcomes {
            if let (Some(partition), Some(appended)) = (&outcome.partition, &outcome.appended) {
                partition.visible(appended).await;
            }
        }
        respond(&cx, outcomes, kept).await
    })))
}

impl Outcome {
    /// The WAL failed: whether the records are there is unknown, and the client may retry.
    fn lose(&mut self) {
        if self.lsn > Lsn::ZERO {
            let message = "the write-ahead log failed; the outcome is unknown".to_owned();
            self.response = ProducePartitionResponse::error(
                self.response.index,
                ErrorCode::KafkaStorageError.code(),
                Some(message),
            );
        }
    }
}

/// Charges what is kept for the request's partitions: of the frame's charge and of theirs, the
/// second is held until there is room for the response. It is bounded as the guard bounds other
/// requests.
async fn charged(
    cx: &Context,
    request: &ProduceRequest,
    frame: usize,
    charge: Charge,
) -> Result<(Charge, Charge), Disconnect> {
    let (version, count) = (request.version, request.partition_count());
    let refused = |reason: String| Disconnect::Malformed { api: NAME, version, reason };
    let kept = count.saturating_mul(PARTITION_BYTES);
    if kept > Limits::CONTROL.decoded_bytes {
        return Err(refused(format!("{count} partitions in one request")));
    }
    if kept < UNCHARGED_PARTITIONS_BYTES || kept < frame / 8 {
        return Ok((charge, Charge::none()));
    }
    if let Some(kept) = super::memory_pool(cx, kept).try_take(kept) {
        return Ok((charge, kept));
    }
    // Whoever waits for memory holds none of the same pool.
    drop(charge);
    let taken = super::take_memory(cx, frame + kept).await;
    let mut charge =
        taken.map_err(|cause| refused(format!("{count} partitions in one request: {cause}")))?;
    let kept = charge.split(kept).unwrap_or_default();
    Ok((charge, kept))
}

/// Checks everything about the records that needs no lock. The partitions of a topic share its
/// name.
fn items(cx: &Context, request: &ProduceRequest) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(request.partition_count());
    let mut present: Option<(usize, Named, Result<Arc<Topic>, ErrorCode>)> = None;
    for partition in request.partitions() {
        let (topic_position, index) = (partition.topic_position, partition.index);
        // A topic is looked up once, however many partitions are named.
        let (_, name, topic) = match &mut present {
            Some(known) if known.0 == topic_position => known,
            other => {
                let (name, topic) = look_up(cx, partition.topic);
                other.insert((topic_position, name, topic))
            }
        };
        let step = ready(cx, request, topic.as_ref().map_err(|code| *code), partition);
        items.push(Item { topic: name.clone(), topic_position, index, step });
    }
    items
}

fn look_up(cx: &Context, topic: TopicRef<'_>) -> (Named, Result<Arc<Topic>, ErrorCode>) {
    match topic {
        TopicRef::Name(name) => match cx.image.topic(name) {
            Some(topic) => (Named::Name(Arc::clone(&topic.name)), Ok(Arc::clone(topic))),
            None => (Named::Name(name.into()), Err(ErrorCode::UnknownTopicOrPartition)),
        },
        TopicRef::Id(id) => {
            let topic = cx.image.topic_by_id(id).cloned();
            (Named::Id(id), topic.ok_or(ErrorCode::UnknownTopicId))
        }
    }
}

fn ready(
    cx: &Context,
    request: &ProduceRequest,
    topic: Result<&Arc<Topic>, ErrorCode>,
    partition: ProducePartition<'_>,
) -> Result<Ready, Refused> {
    let index = partition.index;
    let refuse = |code: ErrorCode, message: Option<String>| {
        ProducePartitionResponse::error(index, code.code(), message)
    };
    let found = topic.and_then(|topic| open_partition(cx, topic, index));
    if let Err(refused) = check_request(request, index) {
        return Err(Refused { response: refused, partition: found.ok().map(|(_, it)| it) });
    }
    let (topic, handle) = found.map_err(|code| Refused::nowhere(refuse(code, None)))?;
    if is_internal(&topic.name) {
        let message = format!("topic \"{}\" is written by the broker only", topic.name);
        let response = refuse(ErrorCode::InvalidTopicException, Some(message));
        return Err(Refused::at(&handle, response));
    }
    let settings = cx.broker.topic_settings(&cx.image, &topic);
    let rules = ProduceRules {
        version: request.version,
        transactional_allowed: false,
        keys_required: settings.compact,
        timestamps: bounds(cx, &settings),
    };
    let checked = Batch::parse_one(partition.records.unwrap_or_default()).and_then(|batch| {
        let check = batch.validate_for_produce(&rules)?;
        let work = Work::of(&settings, batch.header().compression()?);
        Ok((batch, check, work))
    });
    let (batch, check, work) =
        checked.map_err(|error| Refused::at(&handle, refusal(index, &error)))?;
    Ok(Ready { partition: handle, batch, check, settings, rules, work })
}

/// Refuses what no partition takes.
fn check_request(request: &ProduceRequest, index: i32) -> Result<(), ProducePartitionResponse> {
    let (code, message) = if !(-1..=1).contains(&request.acks) {
        let message = format!("acks is {}; it must be 0, 1 or -1 (all)", request.acks);
        (ErrorCode::InvalidRequiredAcks, message)
    } else if request.transactional_id.is_some() {
        let message = "transactions are not served yet; unset transactional.id".to_owned();
        (ErrorCode::InvalidRequest, message)
    } else {
        return Ok(());
    };
    Err(ProducePartitionResponse::error(index, code.code(), Some(message)))
}

/// The timestamps that a topic accepts; a topic with log append time replaces them all.
fn bounds(cx: &Context, settings: &TopicSettings) -> Option<TimestampBounds> {
    if settings.timestamp_type == ConfiguredTimestamp::LogAppendTime {
        return None;
    }
    let now = cx.broker.clock().wall_ms();
    Some(TimestampBounds {
        earliest: now.saturating_sub(settings.timestamp_before_max_ms),
        latest: now.saturating_add(settings.timestamp_after_max_ms),
    })
}

/// Appends in the request's order. The WAL's pool is asked once, before the first lock, unless a
/// batch has to be looked into: what it will take is known only then, and nobody may wait for the
/// pool while holding a part of it.
async fn append_all(cx: &Context, items: Vec<Item>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(items.len());
    let ready = || items.iter().filter_map(|item| item.step.as_ref().ok());
    if ready().any(|ready| ready.work.is_some()) {
        for item in items {
            outcomes.push(append_alone(cx, item).await);
        }
        return outcomes;
    }
    let needed: usize = ready().map(|ready| record::data_len(ready.batch.bytes().len())).sum();
    let mut admission = match cx.broker.stream().admit(needed).await {
        Ok(admission) => admission,
        Err(error) => {
            let code = super::error::admit_error(&error);
            return items.into_iter().map(|item| refused(item, code, &error.to_string())).collect();
        }
    };
    for item in items {
        outcomes.push(append(cx, &mut admission, item).await);
    }
    outcomes
}

/// Appends one batch with an admission of its own.
async fn append_alone(cx: &Context, mut item: Item) -> Outcome {
    let unpacked = match &mut item.step {
        Ok(ready) => unpack(cx, item.index, ready).await,
        Err(_) => Ok(None),
    };
    let _held = match unpacked {
        Ok(held) => held,
        Err(response) => {
            item.step = item.step.and_then(|ready| Err(Refused::at(&ready.partition, response)));
            None
        }
    };
    let bytes = item.step.as_ref().map_or(0, |ready| ready.batch.bytes().len());
    match cx.broker.stream().admit(record::data_len(bytes)).await {
        Ok(mut admission) => append(cx, &mut admission, item).await,
        Err(error) => refused(item, super::error::admit_error(&error), &error.to_string()),
    }
}

fn refused(item: Item, code: ErrorCode, message: &str) -> Outcome {
    let Item { topic, topic_position, index, step } = item;
    let refused = step.map_or_else(
        |refused| refused,
        |ready| {
            let message = Some(message.to_owned());
            let response = ProducePartitionResponse::error(index, code.code(), message);
            Refused::at(&ready.partition, response)
        },
    );
    unappended(topic, topic_position, refused)
}

/// The outcome of a refusal.
fn unappended(topic: Named, topic_position: usize, refused: Refused) -> Outcome {
    let Refused { response, partition } = refused;
    Outcome { topic, topic_position, response, lsn: Lsn::ZERO, partition, appended: None }
}

async fn append(cx: &Context, admission: &mut Admission, item: Item) -> Outcome {
    let Item { topic, topic_position, index, step } = item;
    let by_id = matches!(topic, Named::Id(_));
    let ready = match step {
        Ok(ready) => ready,
        Err(refused) => return unappended(topic, topic_position, refused),
    };
    let (response, lsn, appended) = match append_with_room(cx, admission, &ready).await {
        Ok(appended) => {
            let response = ProducePartitionResponse {
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time,
                log_start_offset: appended.log_start_offset,
                ..ProducePartitionResponse::error(index, 0, None)
            };
            (response, appended.lsn, Some(appended))
        }
        Err(error) => {
            let code = append_error(&error, by_id).code();
            let response = ProducePartitionResponse::error(index, code, Some(error.to_string()));
            // A duplicate may be called one only when the original is durable.
            let lsn = match error {
                AppendError::DuplicateSequence { lsn, .. } => lsn,
                _ => Lsn::ZERO,
            };
            (response, lsn, None)
        }
    };
    let partition = Some(ready.partition);
    Outcome { topic, topic_position, response, lsn, partition, appended }
}

/// Appends, waiting for file space as long as some is being prepared (DESIGN §3).
async fn append_with_room(
    cx: &Context,
    admission: &mut Admission,
    ready: &Ready,
) -> Result<Appended, AppendError> {
    let request = AppendRequest {
        batch: &ready.batch,
        max_timestamp: ready.check.max_timestamp,
        append_time_ms: cx.broker.clock().wall_ms(),
        timestamp_type: match ready.settings.timestamp_type {
            ConfiguredTimestamp::CreateTime => TimestampType::CreateTime,
            ConfiguredTimestamp::LogAppendTime => TimestampType::LogAppendTime,
        },
        max_message_bytes: ready.settings.max_message_bytes,
        leader_epoch: None,
        internal: false,
    };
    let needed = record::data_len(ready.batch.bytes().len());
    for _ in 0..ROOM_ATTEMPTS {
        match ready.partition.append(admission, &request) {
            Err(AppendError::NoRoom) => {}
            outcome => return outcome,
        }
        match wait_for_room(cx, admission, needed).await {
            Ok(()) => {}
            Err(RoomError::Poisoned(_)) => return Err(AppendError::Poisoned),
            Err(_) => return Err(AppendError::NoRoom),
        }
    }
    Err(AppendError::NoRoom)
}

/// Waits for room for a record. A full log is waited for without the admission, which commits and
/// other producers need, and for no longer than the request has patience in all.
async fn wait_for_room(
    cx: &Context,
    admission: &mut Admission,
    needed: usize,
) -> Result<(), RoomError> {
    let stream = cx.broker.stream();
    let deadline = cx.received + FULL_PATIENCE;
    match stream.wait_for_room(Class::Data, needed).await {
        Err(RoomError::Full { .. }) if cx.broker.clock().now() < deadline => {}
        outcome => return outcome,
    }
    let admitted = admission.bytes();
    *admission = Admission::none();
    let outcome = stream.wait_for_space(Class::Data, needed, deadline).await;
    match stream.admit(admitted).await {
        Ok(again) => *admission = again,
        Err(AdmitError::Poisoned(poisoned)) => return Err(poisoned.into()),
        // It fitted before; if it did not, the append would say so.
        Err(AdmitError::TooLarge(_)) => {}
    }
    outcome
}

/// Counts what became of a request at its partitions.
fn note(outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Some(partition) = &outcome.partition {
            partition.note_produce(outcome.response.error_code == 0);
        }
    }
}

/// The response. A large one waits for its room: few producers ask for so much at once, and one
/// that does not read its answers must not fill the memory with them. What was `kept` for the
/// request is given back afterwards.
async fn respond(
    cx: &Context,
    outcomes: Vec<Outcome>,
    mut kept: Charge,
) -> Result<Response, Disconnect> {
    note(&outcomes);
    let mut tally = Tally::default();
    for outcome in &outcomes {
        tally.note(outcome.response.error_code);
    }
    let body = encode(cx.version, outcomes)?;
    let bytes = body.capacity();
    drop(kept.split(kept.bytes().saturating_sub(bytes)));
    let charge = match bytes {
        ..=SMALL_REQUEST_BYTES => super::room_now(cx, bytes),
        _ => cx.room(bytes).await,
    };
    drop(kept);
    let pieces = vec![Piece::Ready(body.freeze())];
    Ok(Response { pieces, errors: tally.into_inner(), charge })
}

/// Encodes the answer, partitions of a topic together as they were in the request.
fn encode(version: i16, outcomes: Vec<Outcome>) -> Result<BytesMut, Disconnect> {
    let mut topics: Vec<(usize, Named, Vec<ProducePartitionResponse>)> = Vec::new();
    for outcome in outcomes {
        match topics.last_mut() {
            Some((position, _, partitions)) if *position == outcome.topic_position => {
                partitions.push(outcome.response);
            }
            _ => topics.push((outcome.topic_position, outcome.topic, vec![outcome.response])),
        }
    }
    let topics: Vec<ProduceTopicResponse<'_>> = topics
        .iter()
        .map(|(_, topic, partitions)| ProduceTopicResponse {
            topic: match topic {
                Named::Name(name) => TopicRef::Name(name),
                Named::Id(id) => TopicRef::Id(*id),
            },
            partitions,
        })
        .collect();
    let response = ProduceResponse { topics: &topics, throttle_time_ms: 0, node_endpoints: &[] };
    let mut body = BytesMut::new();
    response.encode(version, &mut body).map_err(|error| Disconnect::Malformed {
        api: NAME,
        version,
        reason: error.to_string(),
    })?;
    Ok(body)
}

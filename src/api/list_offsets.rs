//! `ListOffsets` (key 2), versions 1-10.
//!
//! Timestamps below zero are questions: -1 latest, -2 earliest, -3 greatest timestamp (KIP-734,
//! v7), -4 earliest local (KIP-405, v8), -5 latest tiered (KIP-1005, v9), which is the last offset
//! in the bucket and not the one behind it. Any other is answered with the first record, exactly,
//! whose timestamp is at least that, found inside its batch. What only the bucket has is waited for
//! as long as the request says (KIP-1075, v10). Unlike in Kafka, -3 looks there too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use tracing::error;

use super::error::log_unreadable;
use super::topics::{check_leader_epoch, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::clock::Instant;
use crate::log_limit::LogLimit;
use crate::partition::{FoundOffset, Look, Lookup, LookupError, Partition, TimeQuery};
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

/// For lines about look-ups that failed.
static FAILED: LogLimit = LogLimit::new();

/// What a look-up may read at once before it has to ask for more: a stretch of small batches.
const USUALLY_READ_BYTES: usize = 64 << 10;

/// What a look-up may decompress of a batch before it has to ask for more. Both together are
/// charged with 2 MiB, of which the smallest budget has two.
const USUALLY_UNPACKED_BYTES: usize = (1 << 20) - USUALLY_READ_BYTES / 2;

/// From this version on a request says how long the bucket is waited for.
const TIMEOUT_FROM: i16 = 10;

/// Otherwise it is waited for so long, as by `remote.list.offsets.request.timeout.ms` of Kafka.
const TIMEOUT: Duration = Duration::from_secs(30);
/// And for no longer, whatever a request says.
const TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// So many partitions of a request are looked up at once, about as many as Kafka has threads that
/// read remote logs (`remote.log.reader.threads`).
const AT_ONCE: usize = 8;

/// A look-up is planned anew so often while its log moves to the bucket.
const PLANS_MAX: usize = 16;

/// An answer that needs no look at batches, or the question that does.
enum Step {
    Found { offset: i64, timestamp: i64, epoch: i32 },
    Search(Arc<Partition>, TimeQuery),
}

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    async fn handle(cx: Context, request: ListOffsetsRequest) -> Answer<ListOffsetsResponse> {
        let committed = request.isolation_level == READ_COMMITTED;
        let deadline = cx.received + timeout(cx.version, request.timeout_ms);
        Answer::Later(Box::pin(async move {
            let asked = each_once(&request.topics);
            let topics = answer_all(&cx, &asked, committed, deadline).await;
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

/// A partition that is asked for: where its topic is in the answer, its number, and the question.
type Question<'a> = (usize, &'a str, i32, Option<&'a ListOffsetsPartition>);

/// The answers to all questions, in the order in which they are asked, but found as they come: a
/// partition that waits for the bucket keeps no other from being answered in time.
async fn answer_all(
    cx: &Context,
    asked: &[AskedTopic<'_>],
    committed: bool,
    deadline: Instant,
) -> Vec<ListOffsetsTopicResponse> {
    let mut topics: Vec<ListOffsetsTopicResponse> = asked
        .iter()
        .map(|topic| ListOffsetsTopicResponse::default().with_name(topic.name.clone()))
        .collect();
    let mut questions: Vec<Question<'_>> = Vec::new();
    for (place, topic) in asked.iter().enumerate() {
        let of = topic.name.as_str();
        questions.extend(topic.partitions.iter().map(|(index, asked)| (place, of, *index, *asked)));
    }
    let (mut questions, mut answers) = (questions.into_iter(), FuturesUnordered::new());
    loop {
        while answers.len() < AT_ONCE
            && let Some(question) = questions.next()
        {
            answers.push(answer_one(cx, question, committed, deadline));
        }
        let Some((place, answer)) = answers.next().await else { break };
        if let Some(topic) = topics.get_mut(place) {
            topic.partitions.push(answer);
        }
    }
    for topic in &mut topics {
        topic.partitions.sort_unstable_by_key(|answer| answer.partition_index);
    }
    topics
}

async fn answer_one(
    cx: &Context,
    (place, topic, index, asked): Question<'_>,
    committed: bool,
    deadline: Instant,
) -> (usize, ListOffsetsPartitionResponse) {
    let outcome = match asked {
        Some(asked) => answer(cx, topic, asked, committed, deadline).await,
        None => Err(ErrorCode::InvalidRequest),
    };
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_timestamp(-1)
        .with_offset(-1);
    let response = match outcome {
        Err(code) => response.with_error_code(code.code()),
        Ok((offset, timestamp, epoch)) => {
            let response = response.with_offset(offset).with_timestamp(timestamp);
            if cx.version >= 4 { response.with_leader_epoch(epoch) } else { response }
        }
    };
    (place, response)
}

fn timeout(version: i16, timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(timeout @ 1..) if version >= TIMEOUT_FROM => {
            Duration::from_millis(timeout).min(TIMEOUT_MAX)
        }
        _ => TIMEOUT,
    }
}

/// Offset, timestamp and leader epoch; all -1 where there is no such record.
async fn answer(
    cx: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
    deadline: Instant,
) -> Result<(i64, i64, i32), ErrorCode> {
    let (partition, query) = match first_step(cx, topic, asked, committed)? {
        Step::Found { offset, timestamp, epoch } => return Ok((offset, timestamp, epoch)),
        Step::Search(partition, query) => (partition, query),
    };
    for _ in 0..PLANS_MAX {
        match search(cx, partition.look_up(query), deadline).await {
            Err(Failed::Moved) => {}
            Err(Failed::Code(code)) => return Err(code),
            Ok(found) => {
                let found = found.map(|found| (found.offset, found.timestamp, found.leader_epoch));
                return Ok(found.unwrap_or((-1, -1, -1)));
            }
        }
    }
    if let Some(more) = FAILED.allow(cx.broker.clock()) {
        error!(partition = %partition.id(), more, "log moves faster than it is looked up");
    }
    Err(ErrorCode::KafkaStorageError)
}

/// Why a look-up has no answer.
enum Failed {
    /// It has to be planned again.
    Moved,
    Code(ErrorCode),
}

impl From<LookupError> for Failed {
    fn from(error: LookupError) -> Self {
        if matches!(error, LookupError::Moved) {
            return Failed::Moved;
        }
        log_unreadable(&error);
        Failed::Code(ErrorCode::KafkaStorageError)
    }
}

async fn search(
    cx: &Context,
    mut lookup: Lookup,
    deadline: Instant,
) -> Result<Option<FoundOffset>, Failed> {
    let (mut read, mut unpacked) = (USUALLY_READ_BYTES, USUALLY_UNPACKED_BYTES);
    loop {
        if lookup.needs_bucket() {
            bring(cx, &mut lookup, deadline).await?;
        }
        let (_charge, room) = cx.broker.read_and_unpack(read, unpacked).await;
        let find = move || {
            let found = lookup.find(room);
            (found, lookup)
        };
        let (found, again) = task::blocking(find).await.map_err(|panicked| {
            if let Some(more) = FAILED.allow(cx.broker.clock()) {
                error!(%panicked, more, "offset look-up failed");
            }
            Failed::Code(ErrorCode::UnknownServerError)
        })?;
        lookup = again;
        match found {
            Ok(Look::Found(found)) => return Ok(found),
            // What was charged is given back before the bucket is waited for.
            Ok(Look::NeedsBucket) => {}
            Err(LookupError::NeedsRead { bytes }) => read = bytes,
            Err(LookupError::NeedsRoom { .. }) => unpacked = usize::MAX,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the bucket.
async fn bring(cx: &Context, lookup: &mut Lookup, deadline: Instant) -> Result<(), Failed> {
    let broker = &cx.broker;
    tokio::select! {
        biased;
        brought = lookup.bring(broker.cache()) => Ok(brought?),
        () = broker.clock().sleep_until(deadline) => Err(Failed::Code(ErrorCode::RequestTimedOut)),
        () = broker.shutdown().draining() => Err(Failed::Code(ErrorCode::RequestTimedOut)),
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
    let epoch_of = |offset| partition.epoch_of(offset);
    match (asked.timestamp, cx.version) {
        (LATEST, _) if committed => found(offsets.last_stable, epoch),
        (LATEST, _) => found(offsets.high_watermark, epoch),
        // The epoch of the first record; of an empty log the present one.
        (EARLIEST, _) => found(offsets.log_start, epoch_of(offsets.log_start).unwrap_or(epoch)),
        (EARLIEST_LOCAL, 8..) => {
            let local_start = partition.local_start();
            found(local_start, epoch_of(local_start).unwrap_or(epoch))
        }
        (LATEST_TIERED, 9..) => {
            let latest = partition.tiered_end().map(|end| end - 1);
            found(latest.unwrap_or(-1), latest.and_then(epoch_of).unwrap_or(-1))
        }
        (MAX_TIMESTAMP, 7..) => Ok(Step::Search(partition, TimeQuery::Greatest)),
        (0.., _) => Ok(Step::Search(partition, TimeQuery::Since(asked.timestamp))),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

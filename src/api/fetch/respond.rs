//! The response of a Fetch: heads from the codec, records spliced in between.

use kafka_protocol::messages::FetchRequest;

use super::plan::{Answer, Answers};
use super::session::{self, Conclusion};
use super::{FIRST_SESSION_VERSION, Fetch, Refused, TOPIC_IDS_FROM, Target, Topic};
use crate::api::{Context, Tally, room_now};
use crate::broker::fetch_sessions::NO_SESSION;
use crate::budget::Charge;
use crate::partition::{Isolation, Offsets};
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::{
    EncodedFetch, FetchPartitionResponse, FetchPiece, FetchResponse, FetchTopicResponse,
};
use crate::protocol::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::protocol::topic::TopicRef;
use crate::protocol::types::TopicId;
use crate::protocol::wire::WireError;
use crate::server::service::{Disconnect, Piece, Response};

/// From this version on an error may name the present leader (KIP-951).
const FIRST_LEADER_VERSION: i16 = 16;

/// An encoded response whose records are not in place yet.
pub(super) struct Head {
    encoded: EncodedFetch,
    /// Which answers are in it, in order; `None` for all.
    kept: Option<Vec<bool>>,
    errors: Tally,
    charge: Charge,
}

impl Head {
    fn new(cx: &Context, encoded: EncodedFetch, errors: Tally) -> Self {
        let bytes = |piece: &FetchPiece| match piece {
            FetchPiece::Head(bytes) => bytes.len(),
            FetchPiece::Records { .. } => 0,
        };
        let charge = room_now(cx, encoded.pieces.iter().map(bytes).sum());
        Self { encoded, kept: None, errors, charge }
    }
}

/// Encodes everything but the records.
pub(super) fn encode(fetch: &Fetch, answers: &Answers) -> Result<Head, Disconnect> {
    let version = fetch.cx.version;
    let mut errors = Tally::default();
    let mut answers = answers.partitions.iter();
    let partitions: Vec<Vec<FetchPartitionResponse>> = fetch
        .topics
        .iter()
        .map(|topic| {
            let targets = topic.partitions.iter().zip(answers.by_ref());
            targets
                .map(|(target, answer)| {
                    note(target, answer);
                    let mut response = partition(fetch, target.asked.index, answer);
                    response.current_leader = current_leader(fetch, topic, &response);
                    errors.note(response.error_code);
                    response
                })
                .collect()
        })
        .collect();
    let Conclusion { error_code, session_id, kept } = session::conclude(fetch, &partitions);
    if error_code != 0 {
        return whole(&fetch.cx, error_code, session_id, &[], &[]);
    }
    let names_leader = |partition: &FetchPartitionResponse| partition.current_leader.is_some();
    let names_leader = partitions.iter().flatten().any(names_leader);
    let endpoints: Vec<NodeEndpoint> =
        names_leader.then(|| endpoint(&fetch.cx)).into_iter().collect();
    let partitions = only_kept(partitions, kept.as_deref());
    let topics: Vec<FetchTopicResponse<'_>> = fetch
        .topics
        .iter()
        .zip(&partitions)
        // A session's reply has only the topics of which there is news.
        .filter(|(_, partitions)| kept.is_none() || !partitions.is_empty())
        .map(|(topic, partitions)| FetchTopicResponse {
            topic: topic_ref(version, topic),
            partitions,
        })
        .collect();
    let head = whole(&fetch.cx, 0, session_id, &topics, &endpoints)?;
    Ok(Head { kept, errors, ..head })
}

/// Counts what the partition was asked for and gives. Who asks for an offset that is not there is
/// told where the log begins, which is no failure (as in Kafka's `ReplicaManager`).
fn note(target: &Target, answer: &Answer) {
    let Ok(partition) = &target.found else { return };
    match answer {
        Answer::Records { bytes, .. } => partition.note_fetch(*bytes),
        Answer::Refused(refused) => {
            partition.note_fetch(0);
            let Refused::Error(code) = refused else { return };
            if *code != ErrorCode::OffsetOutOfRange {
                partition.note_fetch_failure();
            }
        }
    }
}

/// A response with `topics`; its error is noted.
fn whole(
    cx: &Context,
    error_code: i16,
    session_id: i32,
    topics: &[FetchTopicResponse<'_>],
    node_endpoints: &[NodeEndpoint],
) -> Result<Head, Disconnect> {
    let version = cx.version;
    let response =
        FetchResponse { throttle_time_ms: 0, error_code, session_id, topics, node_endpoints };
    let encoded = response.encode(version).map_err(|error| undone(version, &error))?;
    let mut errors = Tally::default();
    errors.note(error_code);
    Ok(Head::new(cx, encoded, errors))
}

/// Who leads the partition now, beside an error that says that the client believes in another
/// epoch (KIP-951). Beside any other answer there is none.
fn current_leader(
    fetch: &Fetch,
    topic: &Topic,
    answer: &FetchPartitionResponse,
) -> Option<LeaderIdAndEpoch> {
    let cx = &fetch.cx;
    let is_told = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch]
        .iter()
        .any(|code| code.code() == answer.error_code);
    if cx.version < FIRST_LEADER_VERSION || !is_told {
        return None;
    }
    let known = cx.image.topic_by_id(topic.of.id)?;
    let leader_epoch = cx.image.leader_epoch(known, answer.index)?;
    Some(LeaderIdAndEpoch { leader_id: cx.broker.node_id(), leader_epoch })
}

/// This broker, as clients of the connection's listener reach it.
fn endpoint(cx: &Context) -> NodeEndpoint {
    let advertised = cx.broker.advertised(&cx.session.listener);
    NodeEndpoint {
        node_id: cx.broker.node_id(),
        host: advertised.host,
        port: i32::from(advertised.port),
        rack: cx.broker.rack().map(str::to_owned),
    }
}

/// Leaves out the partitions that the client knows all about.
fn only_kept(
    mut partitions: Vec<Vec<FetchPartitionResponse>>,
    kept: Option<&[bool]>,
) -> Vec<Vec<FetchPartitionResponse>> {
    if let Some(kept) = kept {
        let mut kept = kept.iter();
        for partition in &mut partitions {
            partition.retain(|_| kept.next().is_none_or(|kept| *kept));
        }
    }
    partitions
}

fn undone(version: i16, error: &WireError) -> Disconnect {
    Disconnect::Malformed { api: "Fetch", version, reason: error.to_string() }
}

fn topic_ref(version: i16, topic: &Topic) -> TopicRef<'_> {
    if version >= TOPIC_IDS_FROM {
        return TopicRef::Id(topic.of.id);
    }
    TopicRef::Name(topic.of.name.as_deref().unwrap_or_default())
}

fn partition(fetch: &Fetch, index: i32, answer: &Answer) -> FetchPartitionResponse {
    let plain = FetchPartitionResponse::error(index, 0);
    let aborted = (fetch.isolation == Isolation::ReadCommitted).then(Vec::new);
    let at = |offsets: &Offsets| FetchPartitionResponse {
        high_watermark: offsets.high_watermark,
        last_stable_offset: offsets.last_stable,
        log_start_offset: offsets.log_start,
        ..plain.clone()
    };
    match answer {
        Answer::Refused(Refused::Error(code)) => FetchPartitionResponse::error(index, code.code()),
        Answer::Refused(Refused::Diverging(end, offsets)) => FetchPartitionResponse {
            diverging_epoch: Some(*end),
            aborted_transactions: aborted,
            ..at(offsets)
        },
        Answer::Records { offsets, bytes, .. } => FetchPartitionResponse {
            aborted_transactions: aborted,
            records_len: *bytes,
            ..at(offsets)
        },
    }
}

impl Head {
    /// Puts the records into their places.
    pub(super) fn into_response(self, answers: Option<Answers>) -> Response {
        let mut kept = self.kept.iter().flatten();
        let mut records: Vec<Vec<Piece>> = answers
            .into_iter()
            .flat_map(|answers| answers.partitions)
            .filter(|_| kept.next().is_none_or(|kept| *kept))
            .map(|answer| match answer {
                Answer::Records { pieces, .. } => pieces,
                Answer::Refused(_) => Vec::new(),
            })
            .collect();
        let mut pieces = Vec::with_capacity(self.encoded.pieces.len());
        for piece in self.encoded.pieces {
            match piece {
                FetchPiece::Head(bytes) => pieces.push(Piece::Ready(bytes)),
                FetchPiece::Records { index, .. } => {
                    pieces.extend(records.get_mut(index).map(std::mem::take).unwrap_or_default());
                }
            }
        }
        Response { pieces, errors: self.errors.into_inner(), charge: self.charge }
    }
}

/// A request that is refused as a whole. Versions without an error of their own have it at each
/// partition.
pub(super) fn refused(
    cx: &Context,
    request: &FetchRequest,
    code: ErrorCode,
) -> Result<Response, Disconnect> {
    let version = cx.version;
    let at_once = version >= FIRST_SESSION_VERSION;
    let partitions: Vec<Vec<FetchPartitionResponse>> = request
        .topics
        .iter()
        .map(|topic| {
            let refuse = |index| FetchPartitionResponse::error(index, code.code());
            topic.partitions.iter().map(|asked| refuse(asked.partition)).collect()
        })
        .collect();
    let topics: Vec<FetchTopicResponse<'_>> = request
        .topics
        .iter()
        .zip(&partitions)
        .filter(|_| !at_once)
        .map(|(topic, partitions)| FetchTopicResponse {
            topic: if version >= TOPIC_IDS_FROM {
                TopicRef::Id(TopicId(topic.topic_id))
            } else {
                TopicRef::Name(topic.topic.as_str())
            },
            partitions,
        })
        .collect();
    Ok(whole(cx, code.code(), NO_SESSION, &topics, &[])?.into_response(None))
}

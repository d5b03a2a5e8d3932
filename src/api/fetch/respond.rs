//! The response of a Fetch: heads from the codec, records spliced in between.

use kafka_protocol::messages::FetchRequest;

use super::plan::{Answer, Answers};
use super::{Fetch, Refused, TOP_LEVEL_ERROR_FROM, TOPIC_IDS_FROM, Topic};
use crate::api::{Context, Tally, room_now};
use crate::budget::Charge;
use crate::partition::{Isolation, Offsets};
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::{
    EncodedFetch, FetchPartitionResponse, FetchPiece, FetchResponse, FetchTopicResponse,
};
use crate::protocol::topic::TopicRef;
use crate::protocol::types::TopicId;
use crate::protocol::wire::WireError;
use crate::server::service::{Disconnect, Piece, Response};

/// An encoded response whose records are not in place yet.
pub(super) struct Head {
    encoded: EncodedFetch,
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
        Self { encoded, errors, charge }
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
                    let response = partition(fetch, target.index, answer);
                    errors.note(response.error_code);
                    response
                })
                .collect()
        })
        .collect();
    let topics: Vec<FetchTopicResponse<'_>> = fetch
        .topics
        .iter()
        .zip(&partitions)
        .map(|(topic, partitions)| FetchTopicResponse {
            topic: topic_ref(version, topic),
            partitions,
        })
        .collect();
    let response = FetchResponse {
        throttle_time_ms: 0,
        error_code: 0,
        session_id: 0,
        topics: &topics,
        node_endpoints: &[],
    };
    let encoded = response.encode(version).map_err(|error| undone(version, &error))?;
    Ok(Head::new(&fetch.cx, encoded, errors))
}

fn undone(version: i16, error: &WireError) -> Disconnect {
    Disconnect::Malformed { api: "Fetch", version, reason: error.to_string() }
}

fn topic_ref(version: i16, topic: &Topic) -> TopicRef<'_> {
    if version >= TOPIC_IDS_FROM { TopicRef::Id(topic.id) } else { TopicRef::Name(&topic.name) }
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
        let mut records: Vec<Vec<Piece>> = answers
            .into_iter()
            .flat_map(|answers| answers.partitions)
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
    let whole = version >= TOP_LEVEL_ERROR_FROM;
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
        .filter(|_| !whole)
        .map(|(topic, partitions)| FetchTopicResponse {
            topic: if version >= TOPIC_IDS_FROM {
                TopicRef::Id(TopicId(topic.topic_id))
            } else {
                TopicRef::Name(topic.topic.as_str())
            },
            partitions,
        })
        .collect();
    let response = FetchResponse {
        throttle_time_ms: 0,
        error_code: code.code(),
        session_id: 0,
        topics: &topics,
        node_endpoints: &[],
    };
    let encoded = response.encode(version).map_err(|error| undone(version, &error))?;
    let mut errors = Tally::default();
    errors.note(code.code());
    Ok(Head::new(cx, encoded, errors).into_response(None))
}

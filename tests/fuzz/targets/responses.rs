//! Responses that our own encoders write, read by the crate's decoders: Produce and Fetch in every
//! version, with fields out of the input.
//!
//! Held here: the crate reads what was meant, to the last byte, and the announced length is the
//! true one. No code of this release decodes responses; the target of one that does belongs here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{FetchResponse as CrateFetch, ProduceResponse as CrateProduce};
use kafka_protocol::protocol::Decodable;
use tidegate::protocol::fetch::{
    self, AbortedTransaction, EpochEndOffset, FetchPartitionResponse, FetchPiece, FetchResponse,
    FetchTopicResponse,
};
use tidegate::protocol::leader::{LeaderIdAndEpoch, NodeEndpoint};
use tidegate::protocol::produce::{
    self, ProducePartitionResponse, ProduceRecordError, ProduceResponse, ProduceTopicResponse,
};
use tidegate::protocol::topic::{FIRST_TOPIC_ID_VERSION, TopicRef};
use tidegate::protocol::types::TopicId;
use uuid::Uuid;

use super::chance::Chance;
use super::within;

/// How much more than its content a response may take.
const FACTOR: usize = 16;

/// A topic's name and id.
fn topic(chance: &mut Chance<'_>) -> (String, Uuid) {
    (chance.text(), Uuid::from_u64_pair(chance.i64() as u64, 7))
}

fn topic_ref((name, id): &(String, Uuid), version: i16) -> TopicRef<'_> {
    if version >= FIRST_TOPIC_ID_VERSION {
        TopicRef::Id(TopicId(*id))
    } else {
        TopicRef::Name(name)
    }
}

fn leader(chance: &mut Chance<'_>) -> Option<LeaderIdAndEpoch> {
    chance.bool().then(|| LeaderIdAndEpoch { leader_id: chance.i32(), leader_epoch: chance.i32() })
}

fn endpoints(chance: &mut Chance<'_>) -> Vec<NodeEndpoint> {
    (0..chance.below(3))
        .map(|_| NodeEndpoint {
            node_id: chance.i32(),
            host: chance.text(),
            port: chance.i32(),
            rack: chance.bool().then(|| chance.text()),
        })
        .collect()
}

fn fetched(chance: &mut Chance<'_>) -> FetchPartitionResponse {
    let aborted = |chance: &mut Chance<'_>| AbortedTransaction {
        producer_id: chance.i64(),
        first_offset: chance.i64(),
    };
    FetchPartitionResponse {
        index: chance.i32(),
        error_code: chance.u16() as i16,
        high_watermark: chance.i64(),
        last_stable_offset: chance.i64(),
        log_start_offset: chance.i64(),
        diverging_epoch: chance
            .bool()
            .then(|| EpochEndOffset { epoch: chance.i32(), end_offset: chance.i64() }),
        current_leader: leader(chance),
        aborted_transactions: chance
            .bool()
            .then(|| (0..chance.below(4)).map(|_| aborted(chance)).collect()),
        preferred_read_replica: chance.i32(),
        records_len: chance.below(200),
    }
}

/// The body as it goes to the socket, with a byte per partition for its records.
fn sent(pieces: &[FetchPiece]) -> Bytes {
    let mut body = BytesMut::new();
    for piece in pieces {
        match piece {
            FetchPiece::Head(bytes) => body.extend_from_slice(bytes),
            FetchPiece::Records { len, index } => body.extend(vec![*index as u8; *len]),
        }
    }
    body.freeze()
}

fn fetch_response(mut chance: Chance<'_>) {
    let span = (fetch::MAX_VERSION - fetch::MIN_VERSION + 1) as usize;
    let version = fetch::MIN_VERSION + chance.below(span) as i16;
    let names: Vec<(String, Uuid)> = (0..chance.below(4)).map(|_| topic(&mut chance)).collect();
    let partitions: Vec<Vec<FetchPartitionResponse>> = names
        .iter()
        .map(|_| (0..chance.below(4)).map(|_| fetched(&mut chance)).collect())
        .collect();
    let topics: Vec<FetchTopicResponse<'_>> = names
        .iter()
        .zip(&partitions)
        .map(|(name, partitions)| FetchTopicResponse {
            topic: topic_ref(name, version),
            partitions,
        })
        .collect();
    let node_endpoints = endpoints(&mut chance);
    let response = FetchResponse {
        throttle_time_ms: chance.i32(),
        error_code: chance.u16() as i16,
        session_id: chance.i32(),
        topics: &topics,
        node_endpoints: &node_endpoints,
    };
    let encoded = within(FACTOR * 4096, || response.encode(version)).expect("a known version");
    let mut body = sent(&encoded.pieces);
    assert_eq!(body.len(), encoded.len);
    let read = CrateFetch::decode(&mut body, version).expect("the crate reads it");
    assert!(body.is_empty(), "{} bytes left", body.len());
    assert_eq!(read.throttle_time_ms, response.throttle_time_ms);
    if version >= 7 {
        assert_eq!((read.error_code, read.session_id), (response.error_code, response.session_id));
    }
    let speaks = if version >= 16 { node_endpoints.len() } else { 0 };
    assert_eq!(read.node_endpoints.len(), speaks);
    assert_eq!(read.responses.len(), topics.len());
    let mut index = 0;
    for (read, (name, partitions)) in read.responses.iter().zip(names.iter().zip(&partitions)) {
        match topic_ref(name, version) {
            TopicRef::Name(name) => assert_eq!(read.topic.as_str(), name),
            TopicRef::Id(id) => assert_eq!(read.topic_id, id.0),
        }
        assert_eq!(read.partitions.len(), partitions.len());
        for (read, wrote) in read.partitions.iter().zip(partitions) {
            assert_fetched(version, read, wrote);
            let records = read.records.as_deref().unwrap_or_default();
            assert!(records.iter().all(|byte| *byte == index));
            assert_eq!(records.len(), wrote.records_len);
            index += 1;
        }
    }
}

fn assert_fetched(
    version: i16,
    read: &kafka_protocol::messages::fetch_response::PartitionData,
    wrote: &FetchPartitionResponse,
) {
    assert_eq!(read.partition_index, wrote.index);
    assert_eq!(read.error_code, wrote.error_code);
    assert_eq!(read.high_watermark, wrote.high_watermark);
    assert_eq!(read.last_stable_offset, wrote.last_stable_offset);
    if version >= 5 {
        assert_eq!(read.log_start_offset, wrote.log_start_offset);
    }
    if version >= 11 {
        assert_eq!(read.preferred_read_replica.0, wrote.preferred_read_replica);
    }
    let aborted = read.aborted_transactions.as_ref().map(|aborted| {
        let each = |at: &kafka_protocol::messages::fetch_response::AbortedTransaction| {
            AbortedTransaction { producer_id: at.producer_id.0, first_offset: at.first_offset }
        };
        aborted.iter().map(each).collect::<Vec<_>>()
    });
    assert_eq!(aborted, wrote.aborted_transactions);
    if version >= 12 {
        let diverging =
            wrote.diverging_epoch.unwrap_or(EpochEndOffset { epoch: -1, end_offset: -1 });
        let theirs = &read.diverging_epoch;
        assert_eq!((theirs.epoch, theirs.end_offset), (diverging.epoch, diverging.end_offset));
        let (id, epoch) =
            wrote.current_leader.map_or((-1, -1), |leader| (leader.leader_id, leader.leader_epoch));
        assert_eq!(
            (read.current_leader.leader_id.0, read.current_leader.leader_epoch),
            (id, epoch)
        );
    }
}

fn produced(chance: &mut Chance<'_>) -> ProducePartitionResponse {
    let error = |chance: &mut Chance<'_>| ProduceRecordError {
        batch_index: chance.i32(),
        message: chance.bool().then(|| chance.text()),
    };
    ProducePartitionResponse {
        index: chance.i32(),
        error_code: chance.u16() as i16,
        base_offset: chance.i64(),
        log_append_time_ms: chance.i64(),
        log_start_offset: chance.i64(),
        record_errors: (0..chance.below(3)).map(|_| error(chance)).collect(),
        error_message: chance.bool().then(|| chance.text()),
        current_leader: leader(chance),
    }
}

fn produce_response(mut chance: Chance<'_>) {
    let span = (produce::MAX_VERSION - produce::MIN_VERSION + 1) as usize;
    let version = produce::MIN_VERSION + chance.below(span) as i16;
    let names: Vec<(String, Uuid)> = (0..chance.below(4)).map(|_| topic(&mut chance)).collect();
    let partitions: Vec<Vec<ProducePartitionResponse>> = names
        .iter()
        .map(|_| (0..chance.below(4)).map(|_| produced(&mut chance)).collect())
        .collect();
    let topics: Vec<ProduceTopicResponse<'_>> = names
        .iter()
        .zip(&partitions)
        .map(|(name, partitions)| ProduceTopicResponse {
            topic: topic_ref(name, version),
            partitions,
        })
        .collect();
    let node_endpoints = endpoints(&mut chance);
    let throttle_time_ms = chance.i32();
    let response =
        ProduceResponse { topics: &topics, throttle_time_ms, node_endpoints: &node_endpoints };
    let mut body = BytesMut::new();
    within(FACTOR * 4096, || response.encode(version, &mut body)).expect("a known version");
    let mut body = body.freeze();
    let read = CrateProduce::decode(&mut body, version).expect("the crate reads it");
    assert!(body.is_empty(), "{} bytes left", body.len());
    assert_eq!(read.throttle_time_ms, throttle_time_ms);
    assert_eq!(read.responses.len(), topics.len());
    for (read, (name, partitions)) in read.responses.iter().zip(names.iter().zip(&partitions)) {
        match topic_ref(name, version) {
            TopicRef::Name(name) => assert_eq!(read.name.as_str(), name),
            TopicRef::Id(id) => assert_eq!(read.topic_id, id.0),
        }
        assert_eq!(read.partition_responses.len(), partitions.len());
        for (read, wrote) in read.partition_responses.iter().zip(partitions) {
            assert_eq!((read.index, read.error_code), (wrote.index, wrote.error_code));
            assert_eq!(read.base_offset, wrote.base_offset);
            assert_eq!(read.log_append_time_ms, wrote.log_append_time_ms);
            if version >= 5 {
                assert_eq!(read.log_start_offset, wrote.log_start_offset);
            }
            if version >= 8 {
                assert_eq!(read.error_message.as_deref(), wrote.error_message.as_deref());
                assert_eq!(read.record_errors.len(), wrote.record_errors.len());
            }
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    if chance.bool() { fetch_response(chance) } else { produce_response(chance) }
}

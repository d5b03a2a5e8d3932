//! Every version, against kafka-protocol.

use kafka_protocol::messages::fetch_response as res;
use kafka_protocol::messages::{BrokerId, ProducerId, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::protocol::types::TopicId;

fn partition() -> impl Strategy<Value = FetchPartitionResponse> {
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>());
    let diverging = prop::option::of(
        (0i32..9, 0i64..99).prop_map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }),
    );
    let leader = prop::option::of(
        (0i32..9, 0i32..9)
            .prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch }),
    );
    let aborted = prop::option::of(prop::collection::vec(
        (any::<i64>(), any::<i64>()).prop_map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id,
            first_offset,
        }),
        0..4,
    ));
    let records = prop_oneof![Just(0), 0usize..20_000];
    (numbers, diverging, leader, aborted, any::<i32>(), records).prop_map(
        |((index, error_code, hw, lso, start), diverging, leader, aborted, replica, len)| {
            FetchPartitionResponse {
                index,
                error_code,
                high_watermark: hw,
                last_stable_offset: lso,
                log_start_offset: start,
                diverging_epoch: diverging,
                current_leader: leader,
                aborted_transactions: aborted,
                preferred_read_replica: replica,
                records_len: len,
            }
        },
    )
}

/// The records that stand for a partition at a position.
fn filler(position: usize, len: usize) -> Vec<u8> {
    vec![position as u8 + 1; len]
}

/// The pieces with their records, as a connection would send them.
fn splice(encoded: &EncodedFetch) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in &encoded.pieces {
        match piece {
            FetchPiece::Head(bytes) => {
                assert!(!bytes.is_empty());
                out.extend_from_slice(bytes);
            }
            FetchPiece::Records { len, index } => {
                assert!(*len > 0);
                out.extend_from_slice(&filler(*index, *len));
            }
        }
    }
    out
}

/// What kafka-protocol should see of our partition: fields that the version lacks at their default.
fn their_partition(
    version: i16,
    position: usize,
    ours: &FetchPartitionResponse,
) -> res::PartitionData {
    let aborted = |aborted: &Vec<AbortedTransaction>| {
        let each = aborted.iter().map(|aborted| {
            res::AbortedTransaction::default()
                .with_producer_id(ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first_offset)
        });
        each.collect()
    };
    let mut theirs = res::PartitionData::default()
        .with_partition_index(ours.index)
        .with_error_code(ours.error_code)
        .with_high_watermark(ours.high_watermark)
        .with_last_stable_offset(ours.last_stable_offset)
        .with_aborted_transactions(ours.aborted_transactions.as_ref().map(aborted))
        .with_records(Some(filler(position, ours.records_len).into()));
    if version >= 5 {
        theirs.log_start_offset = ours.log_start_offset;
    }
    if version >= 11 {
        theirs.preferred_read_replica = BrokerId(ours.preferred_read_replica);
    }
    if let Some(diverging) = ours.diverging_epoch.filter(|_| version >= 12) {
        theirs.diverging_epoch = res::EpochEndOffset::default()
            .with_epoch(diverging.epoch)
            .with_end_offset(diverging.end_offset);
    }
    if let Some(leader) = ours.current_leader.filter(|_| version >= 12) {
        theirs.current_leader = res::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader.leader_id))
            .with_leader_epoch(leader.leader_epoch);
    }
    theirs
}

fn their_topics(
    version: i16,
    topics: &[(String, u128, Vec<FetchPartitionResponse>)],
) -> Vec<res::FetchableTopicResponse> {
    let mut position = 0;
    let mut theirs = Vec::new();
    for (name, id, partitions) in topics {
        let mut topic = res::FetchableTopicResponse::default();
        if version >= 13 {
            topic.topic_id = Uuid::from_u128(*id);
        } else {
            topic.topic = TopicName(StrBytes::from_string(name.clone()));
        }
        for ours in partitions {
            topic.partitions.push(their_partition(version, position, ours));
            position += 1;
        }
        theirs.push(topic);
    }
    theirs
}

proptest! {
    #[test]
    fn our_response_is_read_the_same_by_kafka_protocol_in_every_version(
        topics in prop::collection::vec(
            (".{0,40}", any::<u128>(), prop::collection::vec(partition(), 0..4)),
            0..4,
        ),
        numbers in (any::<i32>(), any::<i16>(), any::<i32>()),
        hosts in prop::collection::vec((any::<i32>(), ".{0,40}", prop::option::of(".{0,9}")), 0..3),
    ) {
        let (throttle_time_ms, error_code, session_id) = numbers;
        let node_endpoints: Vec<_> = hosts
            .into_iter()
            .map(|(node_id, host, rack)| NodeEndpoint { node_id, host, port: node_id, rack })
            .collect();
        for version in MIN_VERSION..=MAX_VERSION {
            let ours: Vec<_> = topics
                .iter()
                .map(|(name, id, partitions)| FetchTopicResponse {
                    topic: if version >= 13 {
                        TopicRef::Id(TopicId(Uuid::from_u128(*id)))
                    } else {
                        TopicRef::Name(name)
                    },
                    partitions,
                })
                .collect();
            let response = FetchResponse {
                throttle_time_ms,
                error_code,
                session_id,
                topics: &ours,
                node_endpoints: &node_endpoints,
            };
            let encoded = response.encode(version).unwrap();
            let sent = splice(&encoded);
            prop_assert_eq!(sent.len(), encoded.len);
            let records: usize =
                topics.iter().flat_map(|topic| &topic.2).map(|ours| ours.records_len).sum();
            prop_assert!(sent.len() - records <= response.heads_max_len());
            let mut bytes = Bytes::from(sent);
            let decoded = res::FetchResponse::decode(&mut bytes, version).unwrap();
            prop_assert!(bytes.is_empty());
            let mut expected =
                res::FetchResponse::default().with_throttle_time_ms(throttle_time_ms);
            if version >= 7 {
                expected = expected.with_error_code(error_code).with_session_id(session_id);
            }
            expected.responses = their_topics(version, &topics);
            if version >= 16 {
                let endpoint = |ours: &NodeEndpoint| {
                    res::NodeEndpoint::default()
                        .with_node_id(BrokerId(ours.node_id))
                        .with_host(StrBytes::from_string(ours.host.clone()))
                        .with_port(ours.port)
                        .with_rack(ours.rack.clone().map(StrBytes::from_string))
                };
                expected.node_endpoints = node_endpoints.iter().map(endpoint).collect();
            }
            prop_assert_eq!(decoded, expected);
        }
    }
}

#[test]
fn heads_and_records_alternate_and_share_one_allocation() {
    let partitions: Vec<_> = (0..3)
        .map(|index| FetchPartitionResponse {
            records_len: [100, 0, 200][index as usize],
            ..FetchPartitionResponse::error(index, 0)
        })
        .collect();
    let topics = [FetchTopicResponse { topic: TopicRef::Name("t"), partitions: &partitions }];
    let response = FetchResponse {
        throttle_time_ms: 0,
        error_code: 0,
        session_id: 0,
        topics: &topics,
        node_endpoints: &[],
    };
    let encoded = response.encode(11).unwrap();
    // Nothing of this version follows the last records.
    let [FetchPiece::Head(first), a, FetchPiece::Head(second), b] = &encoded.pieces[..] else {
        panic!("{:?}", encoded.pieces)
    };
    assert_eq!(a, &FetchPiece::Records { len: 100, index: 0 });
    assert_eq!(b, &FetchPiece::Records { len: 200, index: 2 });
    assert_eq!(encoded.len, first.len() + second.len() + 300);
    assert_eq!(first.as_ptr_range().end, second.as_ptr());
}

#[test]
fn versions_outside_of_the_table_are_refused() {
    let response = FetchResponse {
        throttle_time_ms: 0,
        error_code: 0,
        session_id: 0,
        topics: &[],
        node_endpoints: &[],
    };
    for version in [0, 3, 19] {
        let expected = WireError::UnknownVersion { message: "Fetch", version };
        assert_eq!(response.encode(version).unwrap_err(), expected);
    }
}

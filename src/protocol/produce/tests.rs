//! Both directions of every version, against kafka-protocol.

use kafka_protocol::messages::produce_request as req;
use kafka_protocol::messages::produce_response as res;
use kafka_protocol::messages::{BrokerId, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::protocol::types::TopicId;

/// A topic's name and id, and its partitions' indexes and records.
type Topic = (String, u128, Vec<(i32, Option<Vec<u8>>)>);

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    let records = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let partitions = prop::collection::vec((any::<i32>(), records), 0..4);
    prop::collection::vec((".{0,40}", any::<u128>(), partitions), 0..5)
}

fn tagged() -> impl Strategy<Value = Vec<(i32, Vec<u8>)>> {
    prop::collection::vec((50i32..1_000_000, prop::collection::vec(any::<u8>(), 0..200)), 0..3)
}

fn their_request(
    version: i16,
    topics: &[Topic],
    transactional_id: Option<&String>,
    tags: &[(i32, Vec<u8>)],
) -> req::ProduceRequest {
    let flexible = if flexible(version) { tags } else { &[] };
    let tags: std::collections::BTreeMap<i32, Bytes> =
        flexible.iter().map(|(tag, bytes)| (*tag, bytes.clone().into())).collect();
    let topic_data = topics.iter().map(|(name, id, partitions)| {
        let partitions = partitions.iter().map(|(index, records)| {
            req::PartitionProduceData::default()
                .with_index(*index)
                .with_records(records.clone().map(Bytes::from))
                .with_unknown_tagged_fields(tags.clone())
        });
        let topic = req::TopicProduceData::default()
            .with_partition_data(partitions.collect())
            .with_unknown_tagged_fields(tags.clone());
        if version >= FIRST_TOPIC_ID_VERSION {
            topic.with_topic_id(Uuid::from_u128(*id))
        } else {
            topic.with_name(TopicName(StrBytes::from_string(name.clone())))
        }
    });
    req::ProduceRequest::default()
        .with_transactional_id(
            transactional_id.map(|id| TransactionalId(StrBytes::from_string(id.clone()))),
        )
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(topic_data.collect())
        .with_unknown_tagged_fields(tags.clone())
}

fn encoded(version: i16, request: &req::ProduceRequest) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out, version).unwrap();
    out.freeze()
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(".{0,30}")
}

fn leader() -> impl Strategy<Value = Option<LeaderIdAndEpoch>> {
    prop::option::of(
        (0i32..9, 0i32..9)
            .prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch }),
    )
}

fn partition_response() -> impl Strategy<Value = ProducePartitionResponse> {
    let errors = prop::collection::vec(
        (any::<i32>(), text())
            .prop_map(|(batch_index, message)| ProduceRecordError { batch_index, message }),
        0..3,
    );
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>());
    (numbers, errors, text(), leader()).prop_map(
        |((index, error_code, base_offset, append, start), record_errors, message, leader)| {
            ProducePartitionResponse {
                index,
                error_code,
                base_offset,
                log_append_time_ms: append,
                log_start_offset: start,
                record_errors,
                error_message: message,
                current_leader: leader,
            }
        },
    )
}

fn endpoints() -> impl Strategy<Value = Vec<NodeEndpoint>> {
    let endpoint = (any::<i32>(), ".{0,40}", any::<i32>(), text())
        .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
    prop::collection::vec(endpoint, 0..3)
}

fn str_bytes(text: Option<&String>) -> Option<StrBytes> {
    text.map(|text| StrBytes::from_string(text.clone()))
}

/// What kafka-protocol should see of our response: fields that the version lacks at their default.
fn their_partition(version: i16, ours: &ProducePartitionResponse) -> res::PartitionProduceResponse {
    let mut theirs = res::PartitionProduceResponse::default()
        .with_index(ours.index)
        .with_error_code(ours.error_code)
        .with_base_offset(ours.base_offset)
        .with_log_append_time_ms(ours.log_append_time_ms);
    if version >= 5 {
        theirs.log_start_offset = ours.log_start_offset;
    }
    if version >= 8 {
        let error = |error: &ProduceRecordError| {
            res::BatchIndexAndErrorMessage::default()
                .with_batch_index(error.batch_index)
                .with_batch_index_error_message(str_bytes(error.message.as_ref()))
        };
        theirs.record_errors = ours.record_errors.iter().map(error).collect();
        theirs.error_message = str_bytes(ours.error_message.as_ref());
    }
    if let Some(leader) = ours.current_leader.filter(|_| version >= 10) {
        theirs.current_leader = res::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader.leader_id))
            .with_leader_epoch(leader.leader_epoch);
    }
    theirs
}

fn their_endpoint(ours: &NodeEndpoint) -> res::NodeEndpoint {
    res::NodeEndpoint::default()
        .with_node_id(BrokerId(ours.node_id))
        .with_host(StrBytes::from_string(ours.host.clone()))
        .with_port(ours.port)
        .with_rack(str_bytes(ours.rack.as_ref()))
}

proptest! {
    #[test]
    fn a_request_of_kafka_protocol_is_read_the_same_in_every_version(
        topics in topics(),
        transactional_id in text(),
        tags in tagged(),
    ) {
        for version in MIN_VERSION..=MAX_VERSION {
            let theirs = their_request(version, &topics, transactional_id.as_ref(), &tags);
            let ours = ProduceRequest::parse(version, encoded(version, &theirs)).unwrap();
            prop_assert_eq!(ours.transactional_id.as_deref(), transactional_id.as_deref());
            prop_assert_eq!((ours.acks, ours.timeout_ms), (-1, 30_000));
            prop_assert_eq!(ours.topic_count(), topics.len());
            prop_assert_eq!(ours.partitions().len(), ours.partition_count());
            let mut walked = ours.partitions();
            for (position, (name, id, partitions)) in topics.iter().enumerate() {
                for (index, records) in partitions {
                    let found = walked.next().unwrap();
                    let expected = if version >= 13 {
                        TopicRef::Id(TopicId(Uuid::from_u128(*id)))
                    } else {
                        TopicRef::Name(name)
                    };
                    prop_assert_eq!(found.topic, expected);
                    prop_assert_eq!((found.topic_position, found.index), (position, *index));
                    prop_assert_eq!(found.records.as_deref(), records.as_deref());
                }
            }
            prop_assert!(walked.next().is_none());
        }
    }

    #[test]
    fn our_response_is_read_the_same_by_kafka_protocol_in_every_version(
        topics in prop::collection::vec(
            (".{0,40}", any::<u128>(), prop::collection::vec(partition_response(), 0..4)),
            0..4,
        ),
        throttle_time_ms: i32,
        node_endpoints in endpoints(),
    ) {
        for version in MIN_VERSION..=MAX_VERSION {
            let ours = topics.iter().map(|(name, id, partitions)| ProduceTopicResponse {
                topic: if version >= 13 {
                    TopicRef::Id(TopicId(Uuid::from_u128(*id)))
                } else {
                    TopicRef::Name(name)
                },
                partitions,
            });
            let ours: Vec<_> = ours.collect();
            let response = ProduceResponse {
                topics: &ours,
                throttle_time_ms,
                node_endpoints: &node_endpoints,
            };
            let mut out = BytesMut::new();
            response.encode(version, &mut out).unwrap();
            prop_assert!(out.len() <= response.max_len(), "{} {}", out.len(), response.max_len());
            let mut bytes = out.freeze();
            let decoded = res::ProduceResponse::decode(&mut bytes, version).unwrap();
            prop_assert!(bytes.is_empty());
            let responses = topics.iter().map(|(name, id, partitions)| {
                let partitions = partitions.iter().map(|ours| their_partition(version, ours));
                let topic = res::TopicProduceResponse::default()
                    .with_partition_responses(partitions.collect());
                if version >= 13 {
                    topic.with_topic_id(Uuid::from_u128(*id))
                } else {
                    topic.with_name(TopicName(StrBytes::from_string(name.clone())))
                }
            });
            let mut expected = res::ProduceResponse::default()
                .with_responses(responses.collect())
                .with_throttle_time_ms(throttle_time_ms);
            if version >= 10 {
                expected.node_endpoints = node_endpoints.iter().map(their_endpoint).collect();
            }
            prop_assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(
        version in MIN_VERSION..=MAX_VERSION,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(request) = ProduceRequest::parse(version, bytes.into()) {
            prop_assert_eq!(request.partitions().count(), request.partition_count());
        }
    }

    #[test]
    fn a_request_with_flipped_bytes_is_parsed_without_a_panic(
        version in MIN_VERSION..=MAX_VERSION,
        topics in topics(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = encoded(version, &their_request(version, &topics, None, &[])).to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(request) = ProduceRequest::parse(version, bytes.into()) {
            prop_assert_eq!(request.partitions().count(), request.partition_count());
        }
    }

    #[test]
    fn a_request_that_is_cut_off_is_refused(
        version in MIN_VERSION..=MAX_VERSION,
        topics in topics(),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = encoded(version, &their_request(version, &topics, None, &[]));
        let cut = whole.slice(..cut.index(whole.len()));
        prop_assert!(ProduceRequest::parse(version, cut).is_err());
    }
}

#[test]
fn records_are_slices_of_the_frame() {
    let topics = vec![("t".to_owned(), 1, vec![(0, Some(vec![7; 100]))])];
    let frame = encoded(9, &their_request(9, &topics, Some(&"tx".to_owned()), &[]));
    let range = frame.as_ptr_range();
    let request = ProduceRequest::parse(9, frame).unwrap();
    let records = request.partitions().next().unwrap().records.unwrap();
    assert!(range.contains(&records.as_ptr()));
    assert!(range.contains(&request.transactional_id.unwrap().as_bytes().as_ptr()));
}

#[test]
fn a_count_above_the_bytes_is_refused() {
    // No transactional id, acks, timeout, 2^31-1 topics, and nothing of them.
    let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
    let refused = ProduceRequest::parse(7, body.clone().into()).unwrap_err();
    assert!(matches!(refused, WireError::BadCount { field: "topic_data", .. }), "{refused}");
    body[8..12].copy_from_slice(&[0xff; 4]);
    let null = ProduceRequest::parse(7, body.into()).unwrap_err();
    assert_eq!(null, WireError::BadLength { field: "topic_data", length: -1 });
}

#[test]
fn versions_outside_of_the_table_are_refused() {
    let body = Bytes::from_static(&[0; 64]);
    for version in [-1, 0, 2, 14] {
        let expected = WireError::UnknownVersion { message: "Produce", version };
        assert_eq!(ProduceRequest::parse(version, body.clone()).unwrap_err(), expected);
        let response = ProduceResponse { topics: &[], throttle_time_ms: 0, node_endpoints: &[] };
        assert_eq!(response.encode(version, &mut BytesMut::new()), Err(expected));
    }
}

#[test]
fn a_message_above_the_longest_string_is_cut_at_a_character() {
    let message = format!("a{}", "é".repeat(20_000));
    let partitions = [ProducePartitionResponse::error(0, 87, Some(message))];
    let topics = [ProduceTopicResponse { topic: TopicRef::Name("t"), partitions: &partitions }];
    let response = ProduceResponse { topics: &topics, throttle_time_ms: 0, node_endpoints: &[] };
    for version in [8, 9] {
        let mut out = BytesMut::new();
        response.encode(version, &mut out).unwrap();
        let decoded = res::ProduceResponse::decode(&mut out.freeze(), version).unwrap();
        let partition = &decoded.responses[0].partition_responses[0];
        assert_eq!(partition.error_message.as_ref().unwrap().len(), 32_767);
    }
}

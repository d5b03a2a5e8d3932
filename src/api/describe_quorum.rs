//! `DescribeQuorum` (key 55), versions 0-2 (KIP-595; times, KIP-836, v1; directories and addresses,
//! KIP-853, v2).
//!
//! The metadata log (DESIGN D4) has one writer, this broker: it is the leader, in an epoch that is
//! the number of the entry that began its run, and the only voter. An entry's number is its offset.
//! Whoever asks is told the address of the listener they asked on: there is no other for
//! controllers.

use kafka_protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::names::{broker_id, text};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `DescribeQuorum`.
pub(super) struct DescribeQuorum;

/// Kafka's name of the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";
const NO_QUORUM: &str = "only partition 0 of __cluster_metadata has a quorum, asked for alone";

/// A request that is refused is answered for each of its partitions, up to this many: an answer is
/// much longer than a question.
const REFUSED_MAX: usize = 1_000;

/// The first version that names directories and addresses.
const ADDRESSES_FROM: i16 = 2;

impl Api for DescribeQuorum {
    type Request = DescribeQuorumRequest;

    async fn handle(cx: Context, request: DescribeQuorumRequest) -> Answer<DescribeQuorumResponse> {
        if !asks_for_the_metadata_log(&request.topics) {
            return Answer::Now(unknown(&cx, &request.topics));
        }
        let topic = TopicData::default()
            .with_topic_name(super::names::topic_name(METADATA_TOPIC))
            .with_partitions(vec![metadata_log(&cx)]);
        let response = DescribeQuorumResponse::default().with_topics(vec![topic]);
        if cx.version < ADDRESSES_FROM {
            return Answer::Now(response);
        }
        let address = cx.broker.advertised(&cx.session.listener);
        let listener = Listener::default()
            .with_name(text(&cx.session.listener))
            .with_host(text(&address.host))
            .with_port(address.port);
        let node = Node::default()
            .with_node_id(broker_id(cx.broker.node_id()))
            .with_listeners(vec![listener]);
        Answer::Now(response.with_nodes(vec![node]))
    }

    fn errors(response: &DescribeQuorumResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn asks_for_the_metadata_log(topics: &[AskedTopic]) -> bool {
    let [topic] = topics else { return false };
    let [partition] = topic.partitions.as_slice() else { return false };
    topic.topic_name.as_str() == METADATA_TOPIC && partition.partition_index == 0
}

fn metadata_log(cx: &Context) -> PartitionData {
    let node = cx.broker.node_id();
    let this = cx.image.broker(node);
    let epoch = this.map_or(0, |broker| broker.incarnation_entry);
    // Offsets end after the last entry.
    let end = i64::try_from(cx.image.number()).map_or(i64::MAX, |number| number.saturating_add(1));
    let mut voter =
        ReplicaState::default().with_replica_id(broker_id(node)).with_log_end_offset(end);
    if cx.version >= 1 {
        voter.last_caught_up_timestamp = cx.broker.clock().wall_ms();
        voter.last_fetch_timestamp = voter.last_caught_up_timestamp;
    }
    if cx.version >= ADDRESSES_FROM {
        voter.replica_directory_id =
            this.map_or(Uuid::nil(), |broker| Uuid::from_bytes(broker.identity.0));
    }
    PartitionData::default()
        .with_leader_id(broker_id(node))
        .with_leader_epoch(i32::try_from(epoch).unwrap_or(i32::MAX))
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

/// The answer to a request for any other log, or for more than one.
fn unknown(cx: &Context, asked: &[AskedTopic]) -> DescribeQuorumResponse {
    if asked.iter().map(|topic| topic.partitions.len().max(1)).sum::<usize>() > REFUSED_MAX {
        let code = ErrorCode::InvalidRequest.code();
        return DescribeQuorumResponse::default().with_error_code(code);
    }
    let code = ErrorCode::UnknownTopicOrPartition.code();
    let topic = |topic: &AskedTopic| {
        let partition = |index| {
            let refused =
                PartitionData::default().with_partition_index(index).with_error_code(code);
            if cx.version < ADDRESSES_FROM {
                return refused;
            }
            refused.with_error_message(Some(StrBytes::from_static_str(NO_QUORUM)))
        };
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index));
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(partitions.collect())
    };
    DescribeQuorumResponse::default().with_topics(asked.iter().map(topic).collect())
}

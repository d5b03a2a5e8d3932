//! `ElectLeaders` (key 43), versions 0-2 (KIP-183; unclean elections, KIP-460, v1).
//!
//! A partition has one owner, which is its preferred and only replica: no election is ever needed.
//! A request for all partitions is answered with those that changed or failed, so with none.

use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;

use super::names::text;
use super::topics::{NO_SUCH_PARTITION, distinct, partition_by_name};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `ElectLeaders`.
pub(super) struct ElectLeaders;

/// The election types: of the preferred replica, and of one that is not in sync.
const ELECTION_TYPES: [i8; 2] = [0, 1];
const BAD_TYPE: &str = "the election type is 0 for the preferred replica or 1 for an unclean one";

impl Api for ElectLeaders {
    type Request = ElectLeadersRequest;

    async fn handle(cx: Context, request: ElectLeadersRequest) -> Answer<ElectLeadersResponse> {
        let known = cx.version == 0 || ELECTION_TYPES.contains(&request.election_type);
        // Kafka looks at the type with the first partition, so never when no topic is listed.
        let refused = !known && request.topic_partitions.as_ref().is_none_or(|t| !t.is_empty());
        let code = if refused { ErrorCode::InvalidRequest } else { ErrorCode::None };
        let topics = request.topic_partitions.unwrap_or_default();
        let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
        let room = cx.room(partitions * size_of::<PartitionResult>()).await;
        let results = topics.into_iter().map(|topic| elect(&cx, topic, known)).collect();
        let mut response = ElectLeadersResponse::default().with_replica_election_results(results);
        if cx.version >= 1 {
            response.error_code = code.code();
        }
        Answer::Now(response).within(room)
    }

    fn errors(response: &ElectLeadersResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.replica_election_results.iter().flat_map(|t| &t.partition_result);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn elect(cx: &Context, asked: TopicPartitions, known_type: bool) -> ReplicaElectionResult {
    let name = asked.topic.as_str();
    let needless = text(&format!("broker {} owns the partition and leads it", cx.broker.node_id()));
    let one = |index: i32| {
        let (code, message) = match partition_by_name(cx, name, index) {
            _ if !known_type => (ErrorCode::InvalidRequest, StrBytes::from_static_str(BAD_TYPE)),
            Ok(_) => (ErrorCode::ElectionNotNeeded, needless.clone()),
            Err(code) => (code, StrBytes::from_static_str(NO_SUCH_PARTITION)),
        };
        PartitionResult::default()
            .with_partition_id(index)
            .with_error_code(code.code())
            .with_error_message(Some(message))
    };
    let results = distinct(&asked.partitions).into_iter().map(one).collect();
    ReplicaElectionResult::default().with_partition_result(results).with_topic(asked.topic)
}

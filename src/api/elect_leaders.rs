//! `ElectLeaders` (key 43), versions 0-2 (KIP-183; unclean elections, KIP-460, v1).
//!
//! A partition has one owner, which is its preferred and only replica: no election is ever needed.
//! A request for all partitions is answered with those that changed or failed, so with none.

use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::names::text;
use super::topics::partition_by_name;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `ElectLeaders`.
pub(super) struct ElectLeaders;

/// The election types: of the preferred replica, and of one that is not in sync.
const ELECTION_TYPES: [i8; 2] = [0, 1];

impl Api for ElectLeaders {
    type Request = ElectLeadersRequest;

    async fn handle(cx: Context, request: ElectLeadersRequest) -> Answer<ElectLeadersResponse> {
        if cx.version >= 1 && !ELECTION_TYPES.contains(&request.election_type) {
            let code = ErrorCode::InvalidRequest.code();
            return Answer::Now(ElectLeadersResponse::default().with_error_code(code));
        }
        let topics = request.topic_partitions.unwrap_or_default();
        let results = topics.into_iter().map(|topic| elect(&cx, topic)).collect();
        Answer::Now(ElectLeadersResponse::default().with_replica_election_results(results))
    }

    fn errors(response: &ElectLeadersResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.replica_election_results.iter().flat_map(|t| &t.partition_result);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn elect(cx: &Context, asked: TopicPartitions) -> ReplicaElectionResult {
    let name = asked.topic.as_str();
    let one = |index: &i32| {
        let (code, message) = match partition_by_name(cx, name, *index) {
            Ok(_) => (
                ErrorCode::ElectionNotNeeded,
                format!(
                    "broker {} owns partition {index} of topic \"{name}\" and leads it",
                    cx.broker.node_id()
                ),
            ),
            Err(code) => (code, format!("there is no partition {index} of a topic \"{name}\"")),
        };
        PartitionResult::default()
            .with_partition_id(*index)
            .with_error_code(code.code())
            .with_error_message(Some(text(&message)))
    };
    let results = asked.partitions.iter().map(one).collect();
    ReplicaElectionResult::default().with_partition_result(results).with_topic(asked.topic)
}

//! `AlterPartitionReassignments` (key 45), versions 0-1 (KIP-455; replication factor kept, KIP-860,
//! v1).
//!
//! A partition has one replica, on the broker that owns it. Where it already is it can be assigned
//! to; nothing moves, and so nothing can be cancelled. A reassignment names brokers to carry data
//! to, so unlike the assignments of a new topic (DESIGN D13) it must name brokers that exist.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
};

use super::names::{broker_id, text};
use super::topics::partition_by_name;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `AlterPartitionReassignments`.
pub(super) struct AlterPartitionReassignments;

impl Api for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;

    async fn handle(
        cx: Context,
        request: AlterPartitionReassignmentsRequest,
    ) -> Answer<AlterPartitionReassignmentsResponse> {
        let responses = request.topics.into_iter().map(|topic| reassign(&cx, topic)).collect();
        let response = AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_responses(responses);
        Answer::Now(response)
    }

    fn errors(response: &AlterPartitionReassignmentsResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn reassign(cx: &Context, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let name = asked.name.as_str();
    let one = |partition: &ReassignablePartition| {
        let response = ReassignablePartitionResponse::default()
            .with_partition_index(partition.partition_index);
        match check(cx, name, partition) {
            Ok(()) => response,
            Err((code, message)) => {
                response.with_error_code(code.code()).with_error_message(Some(text(&message)))
            }
        }
    };
    let partitions = asked.partitions.iter().map(one).collect();
    ReassignableTopicResponse::default().with_partitions(partitions).with_name(asked.name)
}

/// Whether the partition may be said to be where it is asked to be.
fn check(
    cx: &Context,
    topic: &str,
    asked: &ReassignablePartition,
) -> Result<(), (ErrorCode, String)> {
    let index = asked.partition_index;
    partition_by_name(cx, topic, index)
        .map_err(|code| (code, format!("there is no partition {index} of a topic \"{topic}\"")))?;
    let Some(replicas) = &asked.replicas else {
        let message = format!("partition {index} of topic \"{topic}\" is not being reassigned");
        return Err((ErrorCode::NoReassignmentInProgress, message));
    };
    let node = broker_id(cx.broker.node_id());
    let invalid = |message: String| Err((ErrorCode::InvalidReplicaAssignment, message));
    match replicas.as_slice() {
        [] => invalid("the list of replicas is empty; name a broker".to_owned()),
        [only] if *only == node => Ok(()),
        [first, ..] if replicas.iter().all(|replica| replica == first) && *first == node => {
            invalid(format!("broker {} stands in the list of replicas twice", node.0))
        }
        replicas => {
            let unknown: Vec<i32> = replicas
                .iter()
                .filter(|replica| **replica != node)
                .map(|BrokerId(id)| *id)
                .collect();
            invalid(format!(
                "there is no broker with an id of {unknown:?}; broker {} is the only one",
                node.0
            ))
        }
    }
}

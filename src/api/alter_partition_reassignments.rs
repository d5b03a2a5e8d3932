//! `AlterPartitionReassignments` (key 45), versions 0-1 (KIP-455; replication factor kept, KIP-860,
//! v1).
//!
//! A partition has one replica, on the broker that owns it. Where it already is it can be assigned
//! to; nothing moves, and so nothing can be cancelled. A reassignment names brokers to carry data
//! to, so unlike the assignments of a new topic (DESIGN D13) it must name brokers that exist.

use std::collections::HashSet;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::names::broker_id;
use super::topics::{NO_SUCH_PARTITION, partition_by_name};
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
        let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let room = cx.room(partitions * size_of::<ReassignablePartitionResponse>()).await;
        let responses = request.topics.into_iter().map(|topic| reassign(&cx, topic)).collect();
        let response = AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_responses(responses);
        Answer::Now(response).within(room)
    }

    fn errors(response: &AlterPartitionReassignmentsResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| tally.note(partition.error_code));
    }
}

fn reassign(cx: &Context, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let name = asked.name.as_str();
    let mut seen = HashSet::new();
    let one = |partition: &ReassignablePartition| {
        let response = ReassignablePartitionResponse::default()
            .with_partition_index(partition.partition_index);
        match check(cx, name, partition) {
            Ok(()) => response,
            Err((code, message)) => {
                response.with_error_code(code.code()).with_error_message(Some(message))
            }
        }
    };
    let partitions =
        asked.partitions.iter().filter(|partition| seen.insert(partition.partition_index));
    let partitions = partitions.map(one).collect();
    ReassignableTopicResponse::default().with_partitions(partitions).with_name(asked.name)
}

/// Whether the partition may be said to be where it is asked to be. The words are the same for all
/// partitions, which the answer names beside them: a short request must not ask for a long answer.
fn check(
    cx: &Context,
    topic: &str,
    asked: &ReassignablePartition,
) -> Result<(), (ErrorCode, StrBytes)> {
    let refuse = |code, why: &'static str| Err((code, StrBytes::from_static_str(why)));
    if let Err(code) = partition_by_name(cx, topic, asked.partition_index) {
        return refuse(code, NO_SUCH_PARTITION);
    }
    let Some(replicas) = &asked.replicas else {
        return refuse(
            ErrorCode::NoReassignmentInProgress,
            "the partition is not being reassigned",
        );
    };
    let node = broker_id(cx.broker.node_id());
    let invalid = ErrorCode::InvalidReplicaAssignment;
    if let Some(unknown) = replicas.iter().find(|replica| **replica != node) {
        let (unknown, node) = (unknown.0, node.0);
        let why = format!("there is no broker {unknown}; broker {node} is the only one");
        return Err((invalid, StrBytes::from_string(why)));
    }
    match replicas.len() {
        0 => refuse(invalid, "the list of replicas is empty; name a broker"),
        1 => Ok(()),
        _ => refuse(invalid, "a broker stands in the list of replicas twice"),
    }
}

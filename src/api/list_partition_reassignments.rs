//! `ListPartitionReassignments` (key 46), version 0 (KIP-455).
//!
//! A partition stays with its owner (`alter_partition_reassignments.rs`): none is ever on its way,
//! and what is not on its way, or not there at all, is left out of the answer.

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::{Answer, Api, Context, Tally};

/// `ListPartitionReassignments`.
pub(super) struct ListPartitionReassignments;

impl Api for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;

    async fn handle(
        _: Context,
        _: ListPartitionReassignmentsRequest,
    ) -> Answer<ListPartitionReassignmentsResponse> {
        Answer::Now(ListPartitionReassignmentsResponse::default())
    }

    fn errors(response: &ListPartitionReassignmentsResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}

//! From an API key to the crate's request type. The fuzz target uses this file too.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiVersionsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeLogDirsRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    UpdateFeaturesRequest,
};
use kafka_protocol::protocol::Request;
use tidegate::protocol::guard::{GuardError, Limits, decode};

/// Work on one request type that is chosen at run time.
pub(crate) trait Visit {
    /// What the work gives.
    type Out;

    /// Does it.
    fn visit<R: Request + Debug + PartialEq>(self) -> Self::Out;
}

/// Visits the request type of an API key that we advertise.
pub(crate) fn dispatch<V: Visit>(key: i16, visit: V) -> Option<V::Out> {
    Some(match key {
        0 => visit.visit::<ProduceRequest>(),
        1 => visit.visit::<FetchRequest>(),
        2 => visit.visit::<ListOffsetsRequest>(),
        3 => visit.visit::<MetadataRequest>(),
        8 => visit.visit::<OffsetCommitRequest>(),
        9 => visit.visit::<OffsetFetchRequest>(),
        10 => visit.visit::<FindCoordinatorRequest>(),
        11 => visit.visit::<JoinGroupRequest>(),
        12 => visit.visit::<HeartbeatRequest>(),
        13 => visit.visit::<LeaveGroupRequest>(),
        14 => visit.visit::<SyncGroupRequest>(),
        15 => visit.visit::<DescribeGroupsRequest>(),
        16 => visit.visit::<ListGroupsRequest>(),
        18 => visit.visit::<ApiVersionsRequest>(),
        19 => visit.visit::<CreateTopicsRequest>(),
        20 => visit.visit::<DeleteTopicsRequest>(),
        21 => visit.visit::<DeleteRecordsRequest>(),
        22 => visit.visit::<InitProducerIdRequest>(),
        23 => visit.visit::<OffsetForLeaderEpochRequest>(),
        32 => visit.visit::<DescribeConfigsRequest>(),
        33 => visit.visit::<AlterConfigsRequest>(),
        35 => visit.visit::<DescribeLogDirsRequest>(),
        37 => visit.visit::<CreatePartitionsRequest>(),
        42 => visit.visit::<DeleteGroupsRequest>(),
        43 => visit.visit::<ElectLeadersRequest>(),
        44 => visit.visit::<IncrementalAlterConfigsRequest>(),
        45 => visit.visit::<AlterPartitionReassignmentsRequest>(),
        46 => visit.visit::<ListPartitionReassignmentsRequest>(),
        47 => visit.visit::<OffsetDeleteRequest>(),
        55 => visit.visit::<DescribeQuorumRequest>(),
        57 => visit.visit::<UpdateFeaturesRequest>(),
        60 => visit.visit::<DescribeClusterRequest>(),
        74 => visit.visit::<ListConfigResourcesRequest>(),
        75 => visit.visit::<DescribeTopicPartitionsRequest>(),
        _ => return None,
    })
}

/// Writes a decoded request as the crate does, and holds that to be the same request.
pub(crate) fn assert_round_trip<R: Request + Debug + PartialEq>(
    request: &R,
    version: i16,
    limits: Limits,
) {
    let mut encoded = BytesMut::new();
    request.encode(&mut encoded, version).expect("a decoded request can be encoded");
    let (again, _) =
        decode::<R>(version, &encoded.freeze(), limits).expect("what the crate writes is legal");
    assert_eq!(&again, request);
}

/// Guards and decodes a body; what passes must survive a round trip.
pub(crate) fn round_trip(
    key: i16,
    version: i16,
    body: &Bytes,
    limits: Limits,
) -> Result<(), GuardError> {
    dispatch(key, RoundTrip { version, body, limits })
        .unwrap_or(Err(GuardError::NotGuarded { key, version }))
}

struct RoundTrip<'a> {
    version: i16,
    body: &'a Bytes,
    limits: Limits,
}

impl Visit for RoundTrip<'_> {
    type Out = Result<(), GuardError>;

    fn visit<R: Request + Debug + PartialEq>(self) -> Self::Out {
        let (request, _) = decode::<R>(self.version, self.body, self.limits)?;
        assert_round_trip(&request, self.version, self.limits);
        Ok(())
    }
}

//! Kafka's error codes, as of Apache Kafka 4.3 (`org.apache.kafka.common.protocol.Errors`).

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal, $kind:ident;)*) => {
        /// An error code of the Kafka protocol.
        ///
        /// Retriable are those whose exception in the Java client is a `RetriableException`: the
        /// client tries again without telling the application.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($(#[doc = $doc])* $variant = $code,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// Kafka's name, in capitals; also the metric label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// Whether clients retry by themselves.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => codes!(@$kind),)*
                }
            }

            /// The code of a number, or nothing for one that Kafka 4.3 does not know.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }
        }
    };
    (@retriable) => { true };
    (@fatal) => { false };
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is the absence of an error.
    pub const fn is_none(self) -> bool {
        matches!(self, ErrorCode::None)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

codes! {
    /// An unexpected failure of the server; carries no promise about what happened.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", fatal;
    /// No error.
    None = 0, "NONE", fatal;
    /// The offset is outside the log.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", fatal;
    /// A batch failed its checksum or is not a batch.
    CorruptMessage = 2, "CORRUPT_MESSAGE", retriable;
    /// The broker does not have the topic or partition.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", retriable;
    /// The fetch size cannot be used.
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", fatal;
    /// The partition has no leader for the moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", retriable;
    /// The broker does not lead the partition and holds no copy of it.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", retriable;
    /// The time allowed for the request ran out.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", retriable;
    /// The broker cannot be reached.
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", fatal;
    /// The replica cannot serve the partition now.
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", retriable;
    /// A batch is above the largest size allowed.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", fatal;
    /// A newer controller exists than the one that sent the request.
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", fatal;
    /// An offset's metadata string is above its limit.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", fatal;
    /// The connection broke before the response came; made up by clients.
    NetworkException = 13, "NETWORK_EXCEPTION", retriable;
    /// The coordinator still reads its partition.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", retriable;
    /// The coordinator does not exist yet or is stopping.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", retriable;
    /// Another broker is the coordinator.
    NotCoordinator = 16, "NOT_COORDINATOR", retriable;
    /// The topic's name is not valid, or the topic may not be used this way.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", fatal;
    /// A batch is larger than a segment may be.
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", fatal;
    /// Fewer in-sync replicas than required; nothing was written.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", retriable;
    /// Fewer in-sync replicas than required after the write.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable;
    /// Acks is none of -1, 0 and 1.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", fatal;
    /// The generation is not the group's present one.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", fatal;
    /// The member shares no protocol with the group, or names none.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", fatal;
    /// The group id is not valid.
    InvalidGroupId = 24, "INVALID_GROUP_ID", fatal;
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", fatal;
    /// The session timeout is outside the configured bounds.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", fatal;
    /// The group is rebalancing; the member must join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", fatal;
    /// The offset commit is too large for a batch.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", fatal;
    /// The principal may not do this with the topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", fatal;
    /// The principal may not do this with the group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", fatal;
    /// The principal may not do this with the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", fatal;
    /// A record's timestamp is outside the configured bounds.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", fatal;
    /// The SASL mechanism is not enabled.
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", fatal;
    /// The request does not belong into this state of the SASL exchange.
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", fatal;
    /// The version, or a feature within it, is not supported.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", fatal;
    /// A topic of this name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", fatal;
    /// The number of partitions is not valid.
    InvalidPartitions = 37, "INVALID_PARTITIONS", fatal;
    /// The replication factor is not valid.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", fatal;
    /// The replica assignment is not valid.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", fatal;
    /// A configuration key or value is not valid.
    InvalidConfig = 40, "INVALID_CONFIG", fatal;
    /// This node is not the controller.
    NotController = 41, "NOT_CONTROLLER", retriable;
    /// The request contradicts itself or lacks something.
    InvalidRequest = 42, "INVALID_REQUEST", fatal;
    /// The log's message format cannot answer this.
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", fatal;
    /// A policy of the cluster forbids it.
    PolicyViolation = 44, "POLICY_VIOLATION", fatal;
    /// A sequence number is missing between this batch and the last one.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", fatal;
    /// The batch was appended before, longer ago than the broker remembers offsets.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", fatal;
    /// The producer's epoch is older than the one known.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", fatal;
    /// The transaction's state does not allow this.
    InvalidTxnState = 48, "INVALID_TXN_STATE", fatal;
    /// The producer id does not belong to the transactional id.
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", fatal;
    /// The transaction timeout is above the configured limit.
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", fatal;
    /// Another operation on the same transaction is under way.
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", retriable;
    /// The coordinator that sent the marker is no longer in charge.
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", fatal;
    /// The principal may not use the transactional id.
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", fatal;
    /// No authorizer or security feature is configured.
    SecurityDisabled = 54, "SECURITY_DISABLED", fatal;
    /// Another part of the batch failed, so this one was not tried.
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", fatal;
    /// Reading or writing the log failed.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", retriable;
    /// The log directory is not configured.
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", fatal;
    /// SASL authentication failed.
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", fatal;
    /// Nothing is known of the producer id any more.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", fatal;
    /// A reassignment of the partition is under way.
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", fatal;
    /// Delegation tokens are not enabled.
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", fatal;
    /// The delegation token does not exist.
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", fatal;
    /// The principal neither owns nor renews the delegation token.
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", fatal;
    /// Delegation tokens cannot be requested over this connection.
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", fatal;
    /// The principal may not do this with the delegation token.
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", fatal;
    /// The delegation token has expired.
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", fatal;
    /// The principal's type is not supported.
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", fatal;
    /// The group still has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", fatal;
    /// The group does not exist.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", fatal;
    /// The fetch session does not exist.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", retriable;
    /// The fetch session's epoch is not the next one.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", retriable;
    /// The leader has no listener of this name.
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", retriable;
    /// Deleting topics is switched off.
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", fatal;
    /// The request's leader epoch is older than the partition's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", retriable;
    /// The request's leader epoch is newer than the partition's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", retriable;
    /// The client cannot read the batch's compression.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", fatal;
    /// The broker's epoch has changed.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", fatal;
    /// The new leader does not know the high watermark yet.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", retriable;
    /// The member must join again with the id it was given.
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", fatal;
    /// The preferred leader is not available.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable;
    /// The group has as many members as it may.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", fatal;
    /// Another member joined with the same instance id.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", fatal;
    /// No replica that may lead is available.
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable;
    /// The partition has the leader it should have.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", retriable;
    /// No reassignment of the partition is under way.
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", fatal;
    /// A member of the group is subscribed to the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", fatal;
    /// A record is not valid.
    InvalidRecord = 87, "INVALID_RECORD", fatal;
    /// Offsets of an open transaction are pending.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", retriable;
    /// A quota is used up.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", retriable;
    /// A newer producer has the same transactional id.
    ProducerFenced = 90, "PRODUCER_FENCED", fatal;
    /// The request names a resource that does not exist.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", fatal;
    /// The request names a resource twice.
    DuplicateResource = 92, "DUPLICATE_RESOURCE", fatal;
    /// The credential is not acceptable.
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", fatal;
    /// Sender or receiver is not among the expected voters.
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", fatal;
    /// The feature update's version is not valid.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", fatal;
    /// The feature update failed.
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", fatal;
    /// The forwarded principal cannot be read.
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", fatal;
    /// The snapshot does not exist.
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", fatal;
    /// The position is outside the snapshot.
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", fatal;
    /// The broker has no topic with this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", retriable;
    /// The broker id is in use.
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", fatal;
    /// The broker id is not registered.
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", fatal;
    /// The topic id is not the one of the partition's log.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", retriable;
    /// The cluster id is another one.
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", fatal;
    /// The transactional id does not exist.
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", fatal;
    /// The fetch session mixes topic ids and names.
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable;
    /// A proposed in-sync replica may not be one.
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", fatal;
    /// The update went through and the leader changed with it.
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", fatal;
    /// The offset is in tiered storage only.
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", fatal;
    /// The member's epoch is fenced; it must give up its partitions and join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", fatal;
    /// Another member still holds the instance id.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", fatal;
    /// The assignor is not supported.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", fatal;
    /// The member's epoch is stale; it must retry with the present one.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", fatal;
    /// The endpoint is of another type than expected.
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", fatal;
    /// The endpoint's type is not supported.
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", fatal;
    /// The controller id is not known.
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", fatal;
    /// The telemetry subscription id is not the present one.
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", fatal;
    /// The telemetry push is too large.
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", fatal;
    /// The controller refused the registration.
    InvalidRegistration = 119, "INVALID_REGISTRATION", fatal;
    /// The transaction met an error and can be aborted.
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", fatal;
    /// The record is not in a state that allows the acknowledgement.
    InvalidRecordState = 121, "INVALID_RECORD_STATE", fatal;
    /// The share session does not exist.
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", retriable;
    /// The share session's epoch is not the next one.
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", retriable;
    /// The share group's state epoch is another one.
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", fatal;
    /// The voter's key is not the receiver's.
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", fatal;
    /// The voter is a voter already.
    DuplicateVoter = 126, "DUPLICATE_VOTER", fatal;
    /// The voter is not a voter.
    VoterNotFound = 127, "VOTER_NOT_FOUND", fatal;
    /// The regular expression is not valid.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", fatal;
    /// The client's metadata is stale; it must start again from its bootstrap servers.
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", fatal;
    /// The streams topology is not valid.
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", fatal;
    /// The streams topology's epoch is not valid.
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", fatal;
    /// The streams topology's epoch is stale.
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", fatal;
    /// No more share sessions are allowed.
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", retriable;
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn codes_are_contiguous_and_found_again() {
        let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
        assert_eq!(numbers, (-1..=133).collect::<Vec<i16>>());
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(-2), None);
    }

    #[test]
    fn names_and_retriability_agree_with_the_crate() {
        for error in ErrorCode::ALL.iter().filter(|error| !error.is_none()) {
            let Some(known) = ResponseError::try_from_code(error.code()) else {
                continue;
            };
            if let ResponseError::Unknown(_) = known {
                assert!(error.code() > 119, "{error}");
                continue;
            }
            let camel: String = format!("{known:?}");
            let ours: String = format!("{error:?}");
            assert_eq!(camel.to_lowercase(), ours.to_lowercase());
        }
    }

    #[test]
    fn retriable_codes_are_those_of_the_java_client() {
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(ErrorCode::KafkaStorageError.is_retriable());
        assert!(!ErrorCode::UnknownServerError.is_retriable());
        assert!(!ErrorCode::RebalanceInProgress.is_retriable());
        let retriable = ErrorCode::ALL.iter().filter(|error| error.is_retriable()).count();
        assert_eq!(retriable, 32);
    }
}

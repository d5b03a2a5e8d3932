//! The one place where inner errors become Kafka's codes. Every match is exhaustive: a new inner
//! error does not compile until somebody has decided what clients do about it.

use tracing::error;

use crate::broker::TopicError;
use crate::broker::fetch_sessions::FetchSessionError;
use crate::clock::Clock;
use crate::cluster::{ChangeError, CommitError};
use crate::group;
use crate::log_limit::LogLimit;
use crate::partition::{AppendError, LogStartError};
use crate::protocol::batch::{BatchError, BatchFault};
use crate::protocol::error::ErrorCode;
use crate::wal::AdmitError;

/// Logs that a partition cannot be read. Clients ask again and again, which is no reason for a line
/// each time.
pub(super) fn log_unreadable(cause: &dyn std::error::Error) {
    static LIMIT: LogLimit = LogLimit::new();
    if let Some(more) = LIMIT.allow(&Clock::system()) {
        error!(%cause, more, "log cannot be read");
    }
}

/// A topic that was not created, changed or deleted.
pub(super) fn topic_error(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Commit(error) => cluster_error(error),
        TopicError::Change(error) => match error {
            ChangeError::Name(_) | ChangeError::NameCollision { .. } => {
                ErrorCode::InvalidTopicException
            }
            ChangeError::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            ChangeError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            ChangeError::Partitions { .. } => ErrorCode::InvalidPartitions,
            ChangeError::TooManyPartitions { .. } | ChangeError::ImageTooLarge { .. } => {
                ErrorCode::PolicyViolation
            }
            ChangeError::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            ChangeError::ConfigTooLong { .. } => ErrorCode::InvalidConfig,
            ChangeError::TooLarge => ErrorCode::InvalidRequest,
            ChangeError::State(_) => ErrorCode::UnknownServerError,
        },
    }
}

/// Metadata that was not written. Whether it will be may be unknown; the client asks again.
pub(super) fn cluster_error(error: &CommitError) -> ErrorCode {
    match error {
        CommitError::Unavailable => ErrorCode::RequestTimedOut,
        CommitError::Refused { .. } | CommitError::Fenced(_) | CommitError::Closed => {
            ErrorCode::CoordinatorNotAvailable
        }
    }
}

/// A batch that was refused before it reached its partition.
pub(super) fn batch_error(error: &BatchError) -> ErrorCode {
    match error.fault() {
        BatchFault::Corrupt => ErrorCode::CorruptMessage,
        BatchFault::InvalidRecord => ErrorCode::InvalidRecord,
        BatchFault::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        BatchFault::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
        BatchFault::TransactionNotAllowed => ErrorCode::TransactionalIdAuthorizationFailed,
    }
}

/// A batch that its partition refused; `by_id` when the request named the topic by id.
pub(super) fn append_error(error: &AppendError, by_id: bool) -> ErrorCode {
    match error {
        AppendError::Closed if by_id => ErrorCode::UnknownTopicId,
        AppendError::Closed => ErrorCode::UnknownTopicOrPartition,
        AppendError::LeaderEpoch { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::NoRoom | AppendError::Poisoned => ErrorCode::KafkaStorageError,
        AppendError::Unadmitted { .. } => ErrorCode::UnknownServerError,
    }
}

/// A request whose bytes the WAL's pool does not take.
pub(super) fn admit_error(error: &AdmitError) -> ErrorCode {
    match error {
        AdmitError::TooLarge(_) => ErrorCode::MessageTooLarge,
        AdmitError::Poisoned(_) => ErrorCode::KafkaStorageError,
    }
}

/// A log start that was not moved.
pub(super) fn log_start_error(error: &LogStartError) -> ErrorCode {
    match error {
        LogStartError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogStartError::Closed => ErrorCode::UnknownTopicOrPartition,
        LogStartError::NoRoom | LogStartError::Poisoned => ErrorCode::KafkaStorageError,
        LogStartError::Unadmitted => ErrorCode::UnknownServerError,
    }
}

/// A Fetch whose session does not go on.
pub(super) fn fetch_session_error(error: FetchSessionError) -> ErrorCode {
    match error {
        FetchSessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        FetchSessionError::Epoch => ErrorCode::InvalidFetchSessionEpoch,
        FetchSessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
    }
}

/// A group's request, or a part of one, that the coordinator refused.
pub(super) fn group_error(error: &group::Error) -> i16 {
    use group::Error;
    let code = match error {
        Error::GroupTooLarge => ErrorCode::UnknownServerError,
        Error::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        Error::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        Error::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        Error::CoordinatorNotAvailable | Error::GroupMemoryExhausted => {
            ErrorCode::CoordinatorNotAvailable
        }
        Error::IllegalGeneration => ErrorCode::IllegalGeneration,
        Error::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        Error::InvalidGroupId => ErrorCode::InvalidGroupId,
        Error::UnknownMemberId => ErrorCode::UnknownMemberId,
        Error::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        Error::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        Error::InvalidCommitOffsetSize => ErrorCode::InvalidCommitOffsetSize,
        Error::InvalidRequest => ErrorCode::InvalidRequest,
        Error::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        Error::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        Error::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
        Error::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        Error::FencedInstanceId => ErrorCode::FencedInstanceId,
        Error::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
    };
    code.code()
}

//! What goes in and out of the coordinator, in plain types: the api room maps Kafka's messages to
//! these and the errors to Kafka's codes. Timeouts are milliseconds, as on the wire.

use std::sync::Arc;

use bytes::Bytes;

/// A group id, member id, topic name or other shared string.
pub type Name = Arc<str>;

/// A client's reason for the log, at most as long as the Java client sends it.
pub(super) fn brief(reason: Option<&Name>) -> Option<&str> {
    const MAX: usize = 255;
    reason.map(|text| text.split_at(text.floor_char_boundary(MAX)).0)
}

/// The group type of classic groups, as `ListGroups` names it.
pub const CLASSIC: &str = "classic";

/// The protocol type of consumer groups.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Why a request, a member or a partition of a request was refused; each variant is one Kafka
/// error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `UNKNOWN_SERVER_ERROR` (-1): the group's metadata does not fit into one record.
    #[error("the group's metadata is larger than a record may be; lower the number of members")]
    GroupTooLarge,
    /// `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    /// `OFFSET_METADATA_TOO_LARGE` (12).
    #[error("the commit's metadata is larger than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    /// `COORDINATOR_LOAD_IN_PROGRESS` (14): retry at the same broker.
    #[error("the coordinator is loading its groups or has too many requests waiting")]
    CoordinatorLoadInProgress,
    /// `COORDINATOR_NOT_AVAILABLE` (15): the log refused the record, its outcome is unknown, or the
    /// coordinator is stopping.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// `COORDINATOR_NOT_AVAILABLE` (15): the pool for what groups hold is exhausted. Of the codes
    /// that `JoinGroup`, `SyncGroup` and `OffsetCommit` may answer it is the one that the Java,
    /// librdkafka and franz-go clients retry with a pause for all three. `GROUP_MAX_SIZE_REACHED`
    /// ends a Java consumer, though memory comes back; `COORDINATOR_LOAD_IN_PROGRESS` ends it when
    /// it syncs.
    #[error(
        "the groups hold all memory that they may have; remove unused groups or raise \
         memory.budget.bytes"
    )]
    GroupMemoryExhausted,
    /// `ILLEGAL_GENERATION` (22).
    #[error("the generation is not the group's present one")]
    IllegalGeneration,
    /// `INCONSISTENT_GROUP_PROTOCOL` (23).
    #[error("the member's protocols do not fit those of the group")]
    InconsistentGroupProtocol,
    /// `INVALID_GROUP_ID` (24).
    #[error("the group id is empty or too long")]
    InvalidGroupId,
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("the group has no such member")]
    UnknownMemberId,
    /// `INVALID_SESSION_TIMEOUT` (26).
    #[error("the session timeout is not between group.min and group.max.session.timeout.ms")]
    InvalidSessionTimeout,
    /// `REBALANCE_IN_PROGRESS` (27).
    #[error("the group is rebalancing; rejoin it")]
    RebalanceInProgress,
    /// `INVALID_COMMIT_OFFSET_SIZE` (28): the commit does not fit into one batch.
    #[error("the commit is larger than a batch may be; commit fewer partitions at a time")]
    InvalidCommitOffsetSize,
    /// `INVALID_REQUEST` (42): a name in the request is longer than a record can hold.
    #[error("a name in the request is longer than 32767 bytes")]
    InvalidRequest,
    /// `NON_EMPTY_GROUP` (68).
    #[error("the group has members")]
    NonEmptyGroup,
    /// `GROUP_ID_NOT_FOUND` (69).
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// `MEMBER_ID_REQUIRED` (79): join again with this member id (KIP-394).
    #[error("join again with member id \"{0}\"")]
    MemberIdRequired(Name),
    /// `GROUP_MAX_SIZE_REACHED` (81).
    #[error("the group has group.max.size members")]
    GroupMaxSizeReached,
    /// `FENCED_INSTANCE_ID` (82): another member took over this instance id (KIP-345).
    #[error("another member has this group instance id")]
    FencedInstanceId,
    /// `GROUP_SUBSCRIBED_TO_TOPIC` (86).
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
}

/// The coordinator's settings, with Kafka's defaults.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members a group may have.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: UTF-16 units of a commit's metadata, as Kafka counts them.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}

/// A protocol that a member supports, with the member's metadata for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The protocol's name, for consumers an assignor ("range").
    pub name: Name,
    /// What the leader gets to see, for consumers the subscription.
    pub metadata: Bytes,
}

/// `JoinGroup`.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The group.
    pub group: Name,
    /// Empty for a member that does not have an id yet.
    pub member_id: Name,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Name>,
    /// The client's id from the request header.
    pub client_id: Name,
    /// The client's address, as `DescribeGroups` shows it.
    pub client_host: Name,
    /// Milliseconds without a sign of life after which the member is removed.
    pub session_timeout_ms: i32,
    /// Milliseconds the member needs to rejoin; version 0 has only the session timeout.
    pub rebalance_timeout_ms: i32,
    /// "consumer", "connect", ….
    pub protocol_type: Name,
    /// The protocols in the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Versions 4 and up: a dynamic member without an id gets `MEMBER_ID_REQUIRED` (KIP-394).
    pub member_id_required: bool,
    /// Versions 9 and up: a static leader that comes back may be told to skip the assignment
    /// (KIP-814).
    pub can_skip_assignment: bool,
    /// Why the client joins, for the log (KIP-800).
    pub reason: Option<Name>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinMember {
    /// The member's id.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to `JoinGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinResponse {
    /// The member's id.
    pub member_id: Name,
    /// The generation joined.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Name>,
    /// The chosen protocol.
    pub protocol_name: Option<Name>,
    /// The leader's member id.
    pub leader: Option<Name>,
    /// Every member, for the leader; empty for others.
    pub members: Vec<JoinMember>,
    /// The leader need not assign: the assignment in force stays (version 9).
    pub skip_assignment: bool,
}

/// `SyncGroup`.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The group.
    pub group: Name,
    /// The generation joined.
    pub generation: i32,
    /// The member.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Checked if present (version 5).
    pub protocol_type: Option<Name>,
    /// Checked if present (version 5).
    pub protocol_name: Option<Name>,
    /// From the leader: member id and assignment; ignored from others.
    pub assignments: Vec<(Name, Bytes)>,
}

/// The answer to `SyncGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncResponse {
    /// The group's protocol type.
    pub protocol_type: Option<Name>,
    /// The chosen protocol.
    pub protocol_name: Option<Name>,
    /// The member's assignment; empty if the leader gave it none.
    pub assignment: Bytes,
}

/// `Heartbeat`.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Name,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
}

/// `LeaveGroup`; versions 0 to 2 name one member.
#[derive(Debug, Clone)]
pub struct LeaveRequest {
    /// The group.
    pub group: Name,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves, or that an administrator removes by its instance id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty to remove by instance id.
    pub member_id: Name,
    /// The instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Why, for the log (KIP-800).
    pub reason: Option<Name>,
}

/// The answer to `LeaveGroup` for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: Name,
    /// As in the request.
    pub instance_id: Option<Name>,
    /// Whether it left.
    pub result: Result<(), Error>,
}

/// `OffsetCommit`.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The group.
    pub group: Name,
    /// The member's generation; -1 from a consumer outside group management.
    pub generation: i32,
    /// The member; empty from a consumer outside group management.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// Versions 2 to 4: how long to keep the offsets; -1 in these versions is `None`.
    pub retention_ms: Option<i64>,
    /// Versions 9 and up: an unknown group is `GROUP_ID_NOT_FOUND` instead of
    /// `ILLEGAL_GENERATION`.
    pub group_id_not_found: bool,
    /// What is committed.
    pub topics: Vec<CommitTopic>,
}

/// A topic of a commit.
#[derive(Debug, Clone)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: Name,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// A partition of a commit.
#[derive(Debug, Clone)]
pub struct CommitPartition {
    /// The partition's index.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown (version 6).
    pub leader_epoch: i32,
    /// Anything the client wants to keep.
    pub metadata: Name,
}

/// A topic of an answer that has nothing but a result per partition (`OffsetCommit`,
/// `OffsetDelete`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResults {
    /// The topic's name.
    pub name: Name,
    /// Index and result per partition, in the order of the request.
    pub partitions: Vec<(i32, Result<(), Error>)>,
}

/// `OffsetFetch` for one group.
#[derive(Debug, Clone)]
pub struct OffsetFetchRequest {
    /// The group.
    pub group: Name,
    /// Topics and partitions; `None` for everything the group has.
    pub topics: Option<Vec<(Name, Vec<i32>)>>,
}

/// A topic of the answer to `OffsetFetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: Name,
    /// Its partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// A committed offset; a partition without one has offset -1, epoch -1 and empty metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition's index.
    pub partition: i32,
    /// The offset, or -1.
    pub offset: i64,
    /// The leader epoch, or -1.
    pub leader_epoch: i32,
    /// What the client kept.
    pub metadata: Name,
}

/// `OffsetDelete` for one group.
#[derive(Debug, Clone)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group: Name,
    /// Topics and partitions.
    pub topics: Vec<(Name, Vec<i32>)>,
}

/// The answer to `DescribeGroups` for one group. One that does not exist is
/// [`Error::GroupIdNotFound`]: up to version 5 the api room shows it as state "Dead" without an
/// error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group's id.
    pub group: Name,
    /// The state.
    pub state: State,
    /// The protocol type; empty without one.
    pub protocol_type: Name,
    /// The chosen protocol of a stable group; empty otherwise.
    pub protocol_name: Name,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member as `DescribeGroups` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member's id.
    pub member_id: Name,
    /// Its instance id, if it is static.
    pub instance_id: Option<Name>,
    /// The client's id.
    pub client_id: Name,
    /// The client's address.
    pub client_host: Name,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// `ListGroups`; empty filters match everything.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// States, in any case (version 4).
    pub states: Vec<Name>,
    /// Types, in any case (version 5).
    pub types: Vec<Name>,
}

/// A group as `ListGroups` shows it. Its type is [`CLASSIC`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group's id.
    pub group: Name,
    /// The protocol type; empty without one.
    pub protocol_type: Name,
    /// The state.
    pub state: State,
}

/// How much there is to say about a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupSize {
    /// Members.
    pub members: usize,
    /// Committed offsets.
    pub offsets: usize,
    /// Bytes of what clients keep with them.
    pub metadata_bytes: usize,
}

/// A group and how far it has read, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedGroup {
    /// The group's id.
    pub group: Name,
    /// The state.
    pub state: State,
    /// How many members it has.
    pub members: usize,
    /// Rebalances begun since the group was loaded.
    pub rebalances: u64,
    /// The offsets committed of topics that are there, by topic and partition.
    pub offsets: Vec<(Name, i32, i64)>,
}

/// A classic group's state. (Kafka's fifth, "Dead", is a group that is not there.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No members; offsets may be left.
    Empty,
    /// Waiting for the members to (re)join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has, or can get, its assignment.
    Stable,
}

impl State {
    /// Every state, for metrics.
    pub const ALL: [State; 4] =
        [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];

    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

//! What a group's mailbox takes.

use super::log::Topics;
use super::offsets::Offsets;
use super::reply::Waiter;
use super::types::{
    CommitRequest, DescribedGroup, Error, FetchedTopic, HeartbeatRequest, JoinRequest,
    JoinResponse, LeaveRequest, LeftMember, OffsetDeleteRequest, OffsetFetchRequest, SyncRequest,
    SyncResponse, TopicResults,
};

/// A request to a group, with the way back.
#[derive(Debug)]
pub(super) enum Command {
    Join(Box<JoinRequest>, Waiter<JoinResponse>),
    Sync(Box<SyncRequest>, Waiter<SyncResponse>),
    Heartbeat(HeartbeatRequest, Waiter<()>),
    Leave(LeaveRequest, Waiter<Vec<LeftMember>>),
    Commit(Box<CommitRequest>, Waiter<Vec<TopicResults>>),
    Fetch(OffsetFetchRequest, Waiter<Vec<FetchedTopic>>),
    Describe(Waiter<DescribedGroup>),
    Delete(Waiter<()>),
    DeleteOffsets(OffsetDeleteRequest, Waiter<Vec<TopicResults>>),
    /// Removes what is too old; answers how many offsets went.
    Expire(Waiter<usize>),
}

impl Command {
    /// Whether it makes a group of an id that nobody knows.
    pub(super) fn creates(&self) -> bool {
        match self {
            Command::Join(request, _) => request.member_id.is_empty(),
            Command::Commit(request, _) => request.generation < 0,
            _ => false,
        }
    }

    /// Whether it changes nothing, so that a group without a task can answer it at once.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Command::Fetch(..) | Command::Describe(_))
    }

    /// Refuses it. Nobody expects `COORDINATOR_LOAD_IN_PROGRESS` as the answer to a heartbeat,
    /// which is taken blindly as Kafka does (`GroupCoordinatorService.heartbeat`; aiokafka's task
    /// ends at it), nor to a sync, where it would end a Java consumer: the member is sent back to
    /// join instead.
    pub(super) fn refuse(self, error: Error) {
        let is_loading = error == Error::CoordinatorLoadInProgress;
        match self {
            Command::Heartbeat(_, waiter) if is_loading => waiter.send(Ok(()), None),
            Command::Sync(_, waiter) if is_loading => waiter.refuse(Error::RebalanceInProgress),
            Command::Join(_, waiter) => waiter.refuse(error),
            Command::Sync(_, waiter) => waiter.refuse(error),
            Command::Heartbeat(_, waiter) | Command::Delete(waiter) => waiter.refuse(error),
            Command::Leave(_, waiter) => waiter.refuse(error),
            Command::Commit(_, waiter) | Command::DeleteOffsets(_, waiter) => waiter.refuse(error),
            Command::Fetch(_, waiter) => waiter.refuse(error),
            Command::Describe(waiter) => waiter.refuse(error),
            Command::Expire(waiter) => waiter.refuse(error),
        }
    }

    /// Answers it for a group that does not exist.
    pub(super) fn answer_absent(self, topics: &dyn Topics) {
        match self {
            Command::Leave(request, waiter) => {
                let unknown = |member: super::types::LeavingMember| LeftMember {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    result: Err(Error::UnknownMemberId),
                };
                waiter.send(Ok(request.members.into_iter().map(unknown).collect()), None);
            }
            Command::Fetch(request, waiter) => {
                let none = Offsets::default().fetch(request.topics.as_deref(), topics);
                waiter.send(Ok(none), None);
            }
            Command::Expire(waiter) => waiter.send(Ok(0), None),
            Command::Commit(request, waiter) if !request.group_id_not_found => {
                waiter.refuse(Error::IllegalGeneration);
            }
            command @ (Command::Join(..) | Command::Sync(..) | Command::Heartbeat(..)) => {
                command.refuse(Error::UnknownMemberId);
            }
            command @ (Command::Commit(..)
            | Command::Describe(_)
            | Command::Delete(_)
            | Command::DeleteOffsets(..)) => command.refuse(Error::GroupIdNotFound),
        }
    }
}

//! `Heartbeat`, and the check that an `OffsetCommit` is from the present generation.

use crate::group::group::{ClassicGroup, Turn};
use crate::group::types::{CommitRequest, Error, HeartbeatRequest, State};

impl ClassicGroup {
    /// A `Heartbeat`. In a rebalance the member lives on and is told to rejoin; between join and
    /// sync it is simply alive.
    pub(in crate::group) fn heartbeat(
        &mut self,
        turn: &Turn<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), Error> {
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.touch(&request.member_id, turn.now);
        match self.state {
            State::Empty => Err(Error::UnknownMemberId),
            State::PreparingRebalance => Err(Error::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Whether a commit may go on; one of a member is a sign of life.
    pub(in crate::group) fn check_commit(
        &mut self,
        turn: &Turn<'_>,
        request: &CommitRequest,
    ) -> Result<(), Error> {
        if request.generation < 0 && self.state == State::Empty {
            // A consumer that assigns its own partitions, or an administrator.
            return Ok(());
        }
        let is_simple =
            request.generation < 0 && request.member_id.is_empty() && request.instance_id.is_none();
        if is_simple {
            return Err(Error::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            // The offsets would belong to partitions of the assignment that is being replaced.
            return Err(Error::RebalanceInProgress);
        }
        self.touch(&request.member_id, turn.now);
        Ok(())
    }
}

//! `SyncGroup`: the leader brings the assignment, the others wait for theirs.

use std::collections::HashMap;

use bytes::Bytes;
use tracing::debug;

use crate::group::group::{ClassicGroup, Save, Turn};
use crate::group::memory;
use crate::group::record::own;
use crate::group::reply::Waiter;
use crate::group::types::{Error, Name, State, SyncRequest, SyncResponse};

impl ClassicGroup {
    /// A `SyncGroup`; a follower's is parked until the leader's assignment is saved.
    pub(in crate::group) fn sync(
        &mut self,
        turn: &mut Turn<'_>,
        request: SyncRequest,
        waiter: Waiter<SyncResponse>,
    ) {
        if let Err(error) = self.check_sync(&request) {
            return turn.answer_sync(waiter, Err(error));
        }
        let member_id = request.member_id;
        if self.state == State::Stable {
            self.synced(&member_id);
            self.touch(&member_id, turn.now);
            let assignment = self.members.get(&member_id).map(|it| it.assignment.clone());
            let response = self.assigned(assignment.unwrap_or_default());
            return turn.answer_sync(waiter, Ok(response));
        }
        if self.is_leader(&member_id) {
            let assignments = self.known_assignments(&request.assignments);
            turn.save = Some(Save::Assignment { member_id, waiter, assignments });
            return;
        }
        self.synced(&member_id);
        let earlier = self.members.change(&member_id, |member| member.syncing.replace(waiter));
        if let Some(earlier) = earlier.flatten() {
            // The client has moved on from its earlier request.
            turn.answer_sync(earlier, Err(Error::RebalanceInProgress));
        }
    }

    /// How many bytes more the group may hold after a sync.
    pub(in crate::group) fn sync_needs(&self, request: &SyncRequest) -> usize {
        let assigns =
            self.state == State::CompletingRebalance && self.is_leader(&request.member_id);
        if !assigns {
            return 0;
        }
        let of_members = request.assignments.iter().filter_map(|(id, assignment)| {
            let held = memory::bytes(&self.members.get(id)?.assignment);
            Some((memory::bytes(assignment), held))
        });
        let (brought, held) =
            of_members.fold((0_usize, 0_usize), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        brought.saturating_sub(held)
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), Error> {
        if self.state == State::Empty {
            return Err(Error::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        let differs = |asked: &Option<Name>, ours| asked.is_some() && asked.as_ref() != ours;
        if differs(&request.protocol_type, self.protocol_type.as_ref())
            || differs(&request.protocol_name, self.protocol_name.as_ref())
        {
            return Err(Error::InconsistentGroupProtocol);
        }
        if self.state == State::PreparingRebalance {
            return Err(Error::RebalanceInProgress);
        }
        Ok(())
    }

    /// The assignments of members, in memory of their own; others are dropped.
    fn known_assignments(&self, assignments: &[(Name, Bytes)]) -> HashMap<Name, Bytes> {
        let known = assignments.iter().filter(|(id, _)| self.members.contains(id));
        known.map(|(id, assignment)| (id.clone(), own(assignment))).collect()
    }

    fn synced(&mut self, member_id: &Name) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    fn assigned(&self, assignment: Bytes) -> SyncResponse {
        SyncResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }

    /// The log has the leader's assignment: the group is stable, and whoever waits gets its part.
    pub(in crate::group) fn assign(
        &mut self,
        turn: &mut Turn<'_>,
        leader: &Name,
        waiter: Waiter<SyncResponse>,
        mut assignments: HashMap<Name, Bytes>,
    ) {
        self.synced(leader);
        self.enter(turn, State::Stable);
        debug!(group = %self.id, generation = self.generation, "group is stable");
        let (protocol_type, protocol_name) =
            (self.protocol_type.clone(), self.protocol_name.clone());
        let mut waiter = Some(waiter);
        let now = turn.now;
        self.members.change_all(|member| {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            let waiter = match waiter.take_if(|_| member.id == *leader) {
                Some(leaders) => Some(leaders),
                None => member.syncing.take(),
            };
            let Some(waiter) = waiter else { return };
            member.touch(now);
            let response = SyncResponse {
                protocol_type: protocol_type.clone(),
                protocol_name: protocol_name.clone(),
                assignment: member.assignment.clone(),
            };
            turn.answer_sync(waiter, Ok(response));
        });
    }
}

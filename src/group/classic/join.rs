//! `JoinGroup` (KIP-345, KIP-394, KIP-814).

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::group::group::{ACTIVE, ClassicGroup, Save, Turn};
use crate::group::member::{Member, Protocols, millis};
use crate::group::members::Pending;
use crate::group::memory;
use crate::group::metrics::Reason;
use crate::group::reply::Waiter;
use crate::group::types::{Error, JoinRequest, JoinResponse, Name, State, brief};

/// How long the join of a member that never completed a rebalance is kept: it has no session yet,
/// and a client that gave up comes back under another id (Kafka's
/// `group.coordinator.new.member.join.timeout`, 5 minutes).
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_mins(5);

/// A member id is the client's id or instance id, of which at most this much is used, and a UUID.
const MAX_MEMBER_ID_PREFIX: usize = 1024;

/// The longest member id: a UUID's text has 36 bytes, after a hyphen.
const MAX_MEMBER_ID: usize = MAX_MEMBER_ID_PREFIX + 37;

impl ClassicGroup {
    /// A `JoinGroup`; it is answered now or parked until the rebalance completes.
    pub(in crate::group) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        waiter: Waiter<JoinResponse>,
    ) {
        if let Err(error) = self.accept_join(turn, request) {
            if error == Error::GroupMaxSizeReached {
                self.give_up_place(turn, &request.member_id);
            }
            return turn.answer_join(waiter, Err(error));
        }
        if request.member_id.is_empty() {
            return self.join_unknown(turn, request, waiter);
        }
        if self.pending.contains(&request.member_id) && request.instance_id.is_none() {
            return self.join_new(turn, request, request.member_id.clone(), waiter);
        }
        match self.check_member(&request.member_id, request.instance_id.as_ref()) {
            Ok(()) => self.join_again(turn, request, waiter),
            Err(error) => turn.answer_join(waiter, Err(error)),
        }
    }

    /// Size and protocols, checked before who it is.
    fn accept_join(&self, turn: &Turn<'_>, request: &JoinRequest) -> Result<(), Error> {
        let member = self.members.get(&request.member_id);
        // While the group prepares, members that have rejoined count rather than members that
        // might: this is how a group above a lowered limit loses the last to come.
        let has_room = match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some())
                    || self.members.joining() < turn.config.max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < turn.config.max_size
            }
        };
        if !has_room {
            return Err(Error::GroupMaxSizeReached);
        }
        if self.supports(request) { Ok(()) } else { Err(Error::InconsistentGroupProtocol) }
    }

    /// How many bytes more the group may hold after a join. A member that brings no more than it
    /// had needs nothing: it goes on when no memory is left.
    pub(in crate::group) fn join_needs(&self, request: &JoinRequest) -> usize {
        let known = match &request.instance_id {
            Some(instance_id) => self.static_members.get(instance_id),
            None => Some(&request.member_id),
        };
        if let Some(member) = known.and_then(|id| self.members.get(id)) {
            let brought = Protocols::weight(&request.protocols);
            return brought.saturating_sub(member.protocols.bytes());
        }
        let is_new = request.member_id.is_empty();
        if !is_new && !self.pending.contains(&request.member_id) {
            return 0;
        }
        let active = if self.is_idle() { ACTIVE } else { 0 };
        let names = active + memory::name(&request.protocol_type);
        if is_new && request.member_id_required && request.instance_id.is_none() {
            return names + Pending::weight(MAX_MEMBER_ID);
        }
        names + Member::weight_of(request, MAX_MEMBER_ID)
    }

    fn supports(&self, request: &JoinRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let size = self.members.len();
        let common = |name| self.supported.get(name).copied().unwrap_or(0) == size;
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| common(&protocol.name))
    }

    /// A member that the full group refuses loses the place it had.
    fn give_up_place(&mut self, turn: &mut Turn<'_>, member_id: &Name) {
        if self.members.contains(member_id) || self.pending.contains(member_id) {
            self.drop_member(turn, member_id);
            self.maybe_complete_join(turn);
        }
    }

    /// A join without a member id.
    fn join_unknown(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        waiter: Waiter<JoinResponse>,
    ) {
        let member_id = new_member_id(turn, request);
        if let Some(instance_id) = &request.instance_id {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(turn, request, &old_id, member_id, waiter),
                None => self.join_new(turn, request, member_id, waiter),
            };
        }
        if request.member_id_required {
            // Kafka bounds the ids given out by time alone. Of more than the group may have members
            // the oldest goes: its client, if it is still there, is told that the id is unknown and
            // asks again. A refusal would have no right answer: GROUP_MAX_SIZE_REACHED ends a Java
            // consumer, though the group may have room.
            let deadline = turn.now + millis(request.session_timeout_ms);
            self.pending.insert(member_id.clone(), deadline, turn.config.max_size.max(1));
            return turn.answer_join(waiter, Err(Error::MemberIdRequired(member_id)));
        }
        self.join_new(turn, request, member_id, waiter);
    }

    fn join_new(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        member_id: Name,
        waiter: Waiter<JoinResponse>,
    ) {
        info!(group = %self.id, member = %member_id, instance = request.instance_id.as_deref(),
            reason = brief(request.reason.as_ref()), "member joins the group");
        let mut member = Member::joining(member_id, request, waiter);
        member.deadline = Some(turn.now + NEW_MEMBER_JOIN_TIMEOUT);
        if self.state == State::PreparingRebalance && self.from_empty {
            self.new_member_added = true;
        }
        self.add(member, &request.protocol_type);
        self.rebalance_or_complete(turn, Reason::NewMember);
    }

    /// A join of a member of the group.
    fn join_again(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        waiter: Waiter<JoinResponse>,
    ) {
        let member_id = &request.member_id;
        let Some(member) = self.members.get(member_id) else {
            return turn.answer_join(waiter, Err(Error::UnknownMemberId));
        };
        let unchanged = member.matches(request);
        let reason = match self.state {
            State::PreparingRebalance => Reason::MemberRejoined,
            // A leader that rejoins wants a new assignment, for changes that its metadata does not
            // show (partitions added to a topic).
            State::Stable if self.leader.as_ref() == Some(member_id) => Reason::LeaderRejoined,
            State::CompletingRebalance | State::Stable if !unchanged => Reason::MemberUpdated,
            // It may have lost the answer; the generation stands.
            State::CompletingRebalance | State::Stable => {
                self.touch(member_id, turn.now);
                return turn.answer_join(waiter, Ok(self.joined(member_id)));
            }
            State::Empty => return turn.answer_join(waiter, Err(Error::UnknownMemberId)),
        };
        debug!(group = %self.id, member = %member_id, reason = brief(request.reason.as_ref()),
            "member rejoins the group");
        self.update(turn, member_id, request, waiter);
        self.rebalance_or_complete(turn, reason);
    }

    /// Takes over protocols and timeouts and parks the join.
    fn update(
        &mut self,
        turn: &mut Turn<'_>,
        member_id: &Name,
        request: &JoinRequest,
        waiter: Waiter<JoinResponse>,
    ) {
        let Some(mut member) = self.members.remove(member_id) else {
            return turn.answer_join(waiter, Err(Error::UnknownMemberId));
        };
        self.count_protocols(&member, false);
        member.protocols = Protocols::of(request);
        member.rebalance_timeout = millis(request.rebalance_timeout_ms);
        member.session_timeout = millis(request.session_timeout_ms);
        if let Some(earlier) = member.joining.replace(waiter) {
            // The client has moved on from its earlier join.
            turn.answer_join(earlier, Err(Error::RebalanceInProgress));
        }
        self.count_protocols(&member, true);
        self.members.insert(member);
    }

    /// A static member comes back without its id: a new id takes over its place and fences the old.
    fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        old_id: &Name,
        new_id: Name,
        waiter: Waiter<JoinResponse>,
    ) {
        let old_leader = self.leader.clone();
        let Some(old) = self.swap_static(turn, request, old_id, &new_id) else {
            return turn.answer_join(waiter, Err(Error::UnknownMemberId));
        };
        self.update(turn, &new_id, request, waiter);
        match self.state {
            State::Stable if self.protocol_name == self.select_protocol() => {
                let (old, can_skip) = (Box::new(old), request.can_skip_assignment);
                turn.save = Some(Save::StaticMember { old, new_id, old_leader, can_skip });
            }
            State::Stable => self.rebalance_or_complete(turn, Reason::StaticMemberReplaced),
            // The leader may have been given the old id to assign to (KAFKA-9801).
            State::CompletingRebalance => {
                self.prepare_rebalance(turn, Reason::StaticMemberReplaced);
            }
            State::PreparingRebalance | State::Empty => self.maybe_complete_join(turn),
        }
    }

    /// Puts a member with a new id in the place of the old one, which is returned without its
    /// parked requests: they are fenced.
    fn swap_static(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
        old_id: &Name,
        new_id: &Name,
    ) -> Option<Member> {
        let instance_id = request.instance_id.clone()?;
        let mut old = self.members.remove(old_id)?;
        info!(group = %self.id, instance = %instance_id, old = %old_id, new = %new_id,
            "static member replaced");
        if let Some(waiter) = old.joining.take() {
            turn.answer_join(waiter, Err(Error::FencedInstanceId));
        }
        if let Some(waiter) = old.syncing.take() {
            turn.answer_sync(waiter, Err(Error::FencedInstanceId));
        }
        let mut new = Member {
            id: new_id.clone(),
            instance_id: Some(instance_id.clone()),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: old.rebalance_timeout,
            protocols: old.protocols.clone(),
            assignment: old.assignment.clone(),
            is_new: false,
            is_anonymous: true,
            deadline: None,
            joining: None,
            syncing: None,
        };
        new.touch(turn.now);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.pending_sync.remove(old_id);
        self.static_members.insert(instance_id, new_id.clone());
        self.members.insert(new);
        Some(old)
    }

    /// The log has the replacement: the generation goes on.
    pub(in crate::group) fn static_member_saved(
        &mut self,
        turn: &mut Turn<'_>,
        new_id: &Name,
        old_leader: Option<Name>,
        can_skip: bool,
    ) {
        let mut response = self.joined(new_id);
        if can_skip {
            response.skip_assignment = self.is_leader(new_id);
        } else {
            // Told that another leads, an older client does not assign again: the assignment in
            // force stays.
            response.leader = old_leader;
            response.members = Vec::new();
        }
        self.members.change(new_id, |member| {
            member.is_anonymous = false;
            if let Some(waiter) = member.joining.take() {
                turn.answer_join(waiter, Ok(response));
            }
        });
    }

    /// The log refused the replacement: the old member has its place back.
    pub(in crate::group) fn take_back_static_member(
        &mut self,
        turn: &mut Turn<'_>,
        mut old: Member,
        new_id: &Name,
        old_leader: Option<Name>,
        error: Error,
    ) {
        if let Some(mut new) = self.remove(new_id)
            && let Some(waiter) = new.joining.take()
        {
            turn.answer_join(waiter, Err(error));
        }
        old.touch(turn.now);
        self.count_protocols(&old, true);
        if let Some(instance_id) = &old.instance_id {
            self.static_members.insert(instance_id.clone(), old.id.clone());
        }
        self.members.insert(old);
        self.leader = old_leader;
    }
}

fn new_member_id(turn: &Turn<'_>, request: &JoinRequest) -> Name {
    let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
    let end = prefix.floor_char_boundary(MAX_MEMBER_ID_PREFIX);
    let (prefix, _) = prefix.split_at(end);
    Arc::from(format!("{prefix}-{}", turn.random.uuid()))
}

//! `JoinGroup` (KIP-345, KIP-394, KIP-814).

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::group::group::{ClassicGroup, Save, Turn};
use crate::group::member::{Member, millis, protocols};
use crate::group::metrics::Reason;
use crate::group::reply::Waiter;
use crate::group::types::{Error, JoinRequest, JoinResponse, Name, State};

/// How long the join of a member that never completed a rebalance is kept: it has no session yet,
/// and a client that gave up comes back under another id (Kafka's
/// `group.coordinator.new.member.join.timeout`, 5 minutes).
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_mins(5);

/// A member id is the client's id or instance id, of which at most this much is used, and a UUID.
const MAX_MEMBER_ID_PREFIX: usize = 1024;

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
        if self.pending.contains_key(&request.member_id) && request.instance_id.is_none() {
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
                    || self.joining() < turn.config.max_size
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
        if self.members.contains_key(member_id) || self.pending.contains_key(member_id) {
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
            let deadline = turn.now + millis(request.session_timeout_ms);
            self.pending.insert(member_id.clone(), deadline);
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
            reason = request.reason.as_deref(), "member joins the group");
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
        let Some(member) = self.members.get_mut(member_id) else {
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
                member.touch(turn.now);
                return turn.answer_join(waiter, Ok(self.joined(member_id)));
            }
            State::Empty => return turn.answer_join(waiter, Err(Error::UnknownMemberId)),
        };
        debug!(group = %self.id, member = %member_id, reason = request.reason.as_deref(),
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
        member.protocols = protocols(request);
        member.rebalance_timeout = millis(request.rebalance_timeout_ms);
        member.session_timeout = millis(request.session_timeout_ms);
        if let Some(earlier) = member.joining.replace(waiter) {
            // The client has moved on from its earlier join.
            turn.answer_join(earlier, Err(Error::RebalanceInProgress));
        }
        self.count_protocols(&member, true);
        self.members.insert(member_id.clone(), member);
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
        self.members.insert(new_id.clone(), new);
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
        self.subscribe();
        let mut response = self.joined(new_id);
        if can_skip {
            response.skip_assignment = self.is_leader(new_id);
        } else {
            // Told that another leads, an older client does not assign again: the assignment in
            // force stays.
            response.leader = old_leader;
            response.members = Vec::new();
        }
        if let Some(member) = self.members.get_mut(new_id) {
            member.is_anonymous = false;
            if let Some(waiter) = member.joining.take() {
                turn.answer_join(waiter, Ok(response));
            }
        }
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
        self.members.insert(old.id.clone(), old);
        self.leader = old_leader;
    }
}

fn new_member_id(turn: &Turn<'_>, request: &JoinRequest) -> Name {
    let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
    let end = prefix.floor_char_boundary(MAX_MEMBER_ID_PREFIX);
    let (prefix, _) = prefix.split_at(end);
    Arc::from(format!("{prefix}-{}", turn.random.uuid()))
}

//! The rebalance itself: begin, wait for the members, start the next generation; and what time
//! does to a group.

use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, info, warn};

use crate::clock::Instant;
use crate::group::group::{ClassicGroup, JoinTimer, Save, Turn};
use crate::group::member::millis;
use crate::group::metrics::Reason;
use crate::group::types::{Error, Name, State};

impl ClassicGroup {
    /// Begins a rebalance, or goes on with the one there is.
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(turn);
        } else {
            self.prepare_rebalance(turn, reason);
        }
    }

    /// Asks everybody to rejoin.
    pub(in crate::group) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        if self.state == State::CompletingRebalance {
            self.cancel_syncs(turn);
        }
        self.pending_sync.clear();
        self.sync_timer = None;
        info!(group = %self.id, generation = self.generation, reason = reason.name(),
            "group prepares to rebalance");
        self.rebalances += 1;
        turn.rebalances.push(reason);
        if self.state == State::Empty {
            let delay = millis(turn.config.initial_rebalance_delay_ms);
            let remaining = self.members.rebalance_timeout().saturating_sub(delay);
            let initial = Some((delay, remaining));
            self.join_timer = Some(JoinTimer { at: turn.now + delay, initial });
            self.new_member_added = false;
            self.enter(turn, State::PreparingRebalance);
            return;
        }
        self.enter(turn, State::PreparingRebalance);
        if self.all_joined() {
            self.complete_join(turn);
        } else {
            self.wait_for_members(turn.now);
        }
    }

    fn wait_for_members(&mut self, now: Instant) {
        // A member whose rebalance timeout is 0 must not make the group spin.
        let timeout = self.members.rebalance_timeout().max(Duration::from_millis(1));
        self.join_timer = Some(JoinTimer { at: now + timeout, initial: None });
    }

    /// Assignments that were on their way are void.
    fn cancel_syncs(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.members.change_all(|member| {
            member.assignment = Bytes::new();
            if let Some(waiter) = member.syncing.take() {
                member.touch(now);
                turn.answer_sync(waiter, Err(Error::RebalanceInProgress));
            }
        });
    }

    /// Completes the join phase if nobody is missing; a group that was empty waits out its delay.
    pub(super) fn maybe_complete_join(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance && !self.from_empty && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// Starts the next generation with those who have joined.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.join_timer = None;
        self.drop_absent();
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left, and none has come back; their sessions decide.
            warn!(group = %self.id, "rebalance waits: no member has rejoined");
            return self.wait_for_members(turn.now);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol_name = self.select_protocol();
        if self.members.is_empty() {
            info!(group = %self.id, generation = self.generation, "group is empty");
            self.leader = None;
            self.enter(turn, State::Empty);
            turn.save = Some(Save::Empty);
            return;
        }
        info!(group = %self.id, generation = self.generation, members = self.members.len(),
            "group starts a generation");
        self.enter(turn, State::CompletingRebalance);
        self.sync_timer =
            Some(turn.now + self.members.rebalance_timeout().max(Duration::from_millis(1)));
        let ids: Vec<Name> = self.members.iter().map(|member| member.id.clone()).collect();
        for id in ids {
            let response = self.joined(&id);
            let now = turn.now;
            self.members.change(&id, |member| {
                member.is_new = false;
                member.is_anonymous = false;
                member.touch(now);
                if let Some(waiter) = member.joining.take() {
                    turn.answer_join(waiter, Ok(response));
                }
            });
            self.pending_sync.insert(id);
        }
    }

    /// Removes dynamic members that have not rejoined, and those whose client went away before it
    /// could learn its member id.
    fn drop_absent(&mut self) {
        let absent = self.members.iter().filter(|member| match &member.joining {
            None => member.instance_id.is_none(),
            Some(waiter) => {
                member.is_new
                    && member.is_anonymous
                    && member.instance_id.is_none()
                    && waiter.is_abandoned()
            }
        });
        let absent: Vec<Name> = absent.map(|member| member.id.clone()).collect();
        for id in absent {
            debug!(group = %self.id, member = %id, "member did not rejoin");
            self.remove(&id);
        }
    }

    /// A leader that has rejoined stays; otherwise the first member that has becomes leader.
    /// False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let rejoined = |id: &Name| self.members.get(id).is_some_and(|it| it.joining.is_some());
        if self.leader.as_ref().is_some_and(rejoined) {
            return true;
        }
        let next = self.members.iter().find(|member| member.joining.is_some());
        match next.map(|member| member.id.clone()) {
            Some(leader) => {
                self.leader = Some(leader);
                true
            }
            None => false,
        }
    }

    /// Removes a member; a parked request of it is told that it is unknown.
    pub(super) fn drop_member(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(mut member) = self.remove(member_id) else { return };
        if let Some(waiter) = member.joining.take() {
            turn.answer_join(waiter, Err(Error::UnknownMemberId));
        }
        if let Some(waiter) = member.syncing.take() {
            turn.answer_sync(waiter, Err(Error::UnknownMemberId));
        }
    }

    /// After members went: the rest rebalances, or completes a rebalance that waited for them.
    pub(super) fn member_gone(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn, reason),
            State::PreparingRebalance => self.maybe_complete_join(turn),
            State::Empty => {}
        }
    }

    /// The next time at which [`ClassicGroup::expire`] has something to do.
    pub(in crate::group) fn next_deadline(&self) -> Option<Instant> {
        let clients = [self.members.next_deadline(), self.pending.next_deadline()];
        let timers = [self.join_timer.map(|timer| timer.at), self.sync_timer];
        clients.into_iter().chain(timers).flatten().min()
    }

    /// Does what is due: sessions, pending members, the join and the sync phase.
    pub(in crate::group) fn expire(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        if let Some(timer) = self.join_timer.filter(|timer| timer.at <= turn.now) {
            self.expire_join(turn, timer);
        }
        if self.sync_timer.is_some_and(|at| at <= turn.now) {
            self.expire_sync(turn);
        }
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        if self.pending.expire(turn.now) {
            debug!(group = %self.id, "members did not come back with their new id");
            self.maybe_complete_join(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let mut dead = Vec::new();
        for member_id in self.members.due(turn.now) {
            let is_dead = self.members.change(&member_id, |member| {
                member.deadline = None;
                // A parked request is a sign of life; its answer starts a new session.
                let is_parked = member.joining.is_some() || member.syncing.is_some();
                member.is_new || !is_parked
            });
            if is_dead == Some(true) {
                dead.push(member_id);
            }
        }
        if dead.is_empty() {
            return;
        }
        for member_id in dead {
            info!(group = %self.id, member = %member_id, "session of the member has expired");
            self.drop_member(turn, &member_id);
        }
        self.member_gone(turn, Reason::SessionExpired);
    }

    fn expire_join(&mut self, turn: &mut Turn<'_>, timer: JoinTimer) {
        let Some((delay, remaining)) = timer.initial else { return self.complete_join(turn) };
        if !self.new_member_added || remaining.is_zero() {
            return self.complete_join(turn);
        }
        self.new_member_added = false;
        let next = millis(turn.config.initial_rebalance_delay_ms).min(remaining);
        let initial = Some((next, remaining.saturating_sub(delay)));
        self.join_timer = Some(JoinTimer { at: turn.now + next, initial });
    }

    /// Members that never synced hold the others up: they go.
    fn expire_sync(&mut self, turn: &mut Turn<'_>) {
        self.sync_timer = None;
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() || !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        for member_id in &late {
            info!(group = %self.id, member = %member_id, "member never synced");
            self.drop_member(turn, member_id);
        }
        self.prepare_rebalance(turn, Reason::SyncExpired);
    }
}

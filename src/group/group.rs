//! The state machine of a classic group: no tasks, no log, no clock of its own. A method gets a
//! [`Turn`] with the time and leaves in it what is to be done: answers to give, and at most one
//! record to save.
//!
//! ```text
//!             first join                all joined, or rebalance timeout
//!   Empty ───────────────▶ PreparingRebalance ───────────────▶ CompletingRebalance
//!     ▲                       │        ▲  ▲                          │       │
//!     └───── nobody joined ───┘        │  └─ join, leave, expiry ────┘       │ the leader syncs
//!                                      └──── join, leave, expiry ── Stable ◀─┘
//! ```
//!
//! **Invariants:** a group with members has one leader, who is a member; members share at least
//! one protocol; generations only rise; nothing that must be saved is applied before the log took
//! it ([`Save`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::expiry::Age;
use super::member::Member;
use super::members::{Members, Pending};
use super::memory;
use super::metrics::Reason;
use super::record::{self, GroupValue};
use super::reply::Waiter;
use super::types::{
    CONSUMER_PROTOCOL_TYPE, DescribedGroup, Error, GroupConfig, JoinMember, JoinResponse, Name,
    State, SyncResponse,
};
use crate::clock::{Instant, Random};

/// One step of a group: the present, and what comes out.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    /// Wall time, only to stamp records.
    pub(super) wall_ms: i64,
    pub(super) config: &'a GroupConfig,
    pub(super) random: &'a Random,
    pub(super) answers: Vec<Answer>,
    pub(super) save: Option<Save>,
    /// Rebalances begun, for metrics.
    pub(super) rebalances: Vec<Reason>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        now: Instant,
        wall_ms: i64,
        config: &'a GroupConfig,
        random: &'a Random,
    ) -> Self {
        let (answers, save, rebalances) = (Vec::new(), None, Vec::new());
        Self { now, wall_ms, config, random, answers, save, rebalances }
    }

    pub(super) fn answer_join(
        &mut self,
        waiter: Waiter<JoinResponse>,
        result: Result<JoinResponse, Error>,
    ) {
        self.answers.push(Answer::Join(waiter, result));
    }

    pub(super) fn answer_sync(
        &mut self,
        waiter: Waiter<SyncResponse>,
        result: Result<SyncResponse, Error>,
    ) {
        self.answers.push(Answer::Sync(waiter, result));
    }
}

/// An answer to give once what was saved before it is durable.
#[derive(Debug)]
pub(super) enum Answer {
    Join(Waiter<JoinResponse>, Result<JoinResponse, Error>),
    Sync(Waiter<SyncResponse>, Result<SyncResponse, Error>),
}

/// What to append to the log. [`ClassicGroup::record`] gives the record; then
/// [`ClassicGroup::saved`] or [`ClassicGroup::not_saved`] must follow.
#[derive(Debug)]
pub(super) enum Save {
    /// The group became empty. It stays so if the log refuses: at worst members that are gone come
    /// back after a restart for the length of a session.
    Empty,
    /// The leader's assignment; nothing is changed yet.
    Assignment { member_id: Name, waiter: Waiter<SyncResponse>, assignments: HashMap<Name, Bytes> },
    /// A static member took over from `old`; already changed, taken back if the log refuses.
    StaticMember { old: Box<Member>, new_id: Name, old_leader: Option<Name>, can_skip: bool },
}

/// The timer of the join phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinTimer {
    pub(super) at: Instant,
    /// For a group that was empty: how long this delay is, and how much of the rebalance timeout
    /// is left to extend it.
    pub(super) initial: Option<(Duration, Duration)>,
}

/// What members are known to read.
#[derive(Debug)]
pub(super) enum Subscribed<'a> {
    /// A subscription is not understood: any topic.
    Unknown,
    /// These.
    To(HashSet<&'a str>),
}

impl Subscribed<'_> {
    /// Whether members may read the topic.
    pub(super) fn contains(&self, topic: &str) -> bool {
        match self {
            Subscribed::Unknown => true,
            Subscribed::To(topics) => topics.contains(topic),
        }
    }
}

/// What a group that is not idle weighs beside its members: a mailbox (channels have blocks of 32),
/// a task, and the first block of the map of members.
pub(super) const ACTIVE: usize =
    32 * size_of::<super::command::Command>() + 11 * size_of::<Member>() + 2_048;

/// A classic group.
#[derive(Debug)]
pub(super) struct ClassicGroup {
    pub(super) id: Name,
    pub(super) state: State,
    /// The state before a rebalance began; from Empty the initial delay rules.
    pub(super) from_empty: bool,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Name>,
    pub(super) protocol_name: Option<Name>,
    pub(super) leader: Option<Name>,
    pub(super) members: Members,
    /// Member id by instance id.
    pub(super) static_members: HashMap<Name, Name>,
    pub(super) pending: Pending,
    /// Members that have not sent `SyncGroup` in this generation.
    pub(super) pending_sync: HashSet<Name>,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_timer: Option<Instant>,
    /// How many members support each protocol.
    pub(super) supported: HashMap<Name, usize>,
    /// A member came during the initial delay.
    pub(super) new_member_added: bool,
    /// When the group came into its state, unless the record it was loaded from did not say.
    pub(super) state_since: Option<Age>,
    /// The same by the wall clock, for the record; -1 if unknown.
    pub(super) state_timestamp_ms: i64,
    /// Its record is, or may be, in the log: deleting the group needs a tombstone.
    pub(super) is_recorded: bool,
    /// Rebalances begun since the group was loaded, for metrics.
    pub(super) rebalances: u64,
}

impl ClassicGroup {
    /// A group that nobody knows yet.
    pub(super) fn new(id: Name) -> Self {
        Self {
            id,
            state: State::Empty,
            from_empty: false,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: Members::default(),
            static_members: HashMap::new(),
            pending: Pending::default(),
            pending_sync: HashSet::new(),
            join_timer: None,
            sync_timer: None,
            supported: HashMap::new(),
            new_member_added: false,
            state_since: None,
            state_timestamp_ms: -1,
            is_recorded: false,
            rebalances: 0,
        }
    }

    /// Whether there is nothing to know about the group beside its offsets. A generation is known
    /// even if the log refused its record: it must not be given out twice.
    pub(super) fn is_blank(&self) -> bool {
        self.generation == 0 && !self.is_recorded && self.is_idle()
    }

    /// Whether no timer and no parked request can change the group.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The instance id must belong to the member, and the member to the group.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&Name>,
    ) -> Result<(), Error> {
        if let Some(instance_id) = instance_id {
            let holder = self.static_members.get(instance_id).ok_or(Error::UnknownMemberId)?;
            if **holder != *member_id {
                return Err(Error::FencedInstanceId);
            }
        }
        if self.members.contains(member_id) { Ok(()) } else { Err(Error::UnknownMemberId) }
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.joining() == self.members.len()
    }

    /// What the group weighs, without its offsets.
    pub(super) fn weight(&self) -> usize {
        let names = memory::optional(self.protocol_type.as_deref())
            + memory::optional(self.protocol_name.as_deref());
        let active = if self.is_idle() { 0 } else { ACTIVE };
        names + active + self.members.bytes() + self.pending.bytes()
    }

    pub(super) fn enter(&mut self, turn: &Turn<'_>, state: State) {
        self.from_empty = self.state == State::Empty;
        self.state = state;
        self.state_since = Some(Age::none(turn.now));
        self.state_timestamp_ms = turn.wall_ms;
    }

    /// Adds a member; its instance id must be free.
    pub(super) fn add(&mut self, member: Member, protocol_type: &Name) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        self.count_protocols(&member, true);
        self.pending.remove(&member.id);
        self.leader.get_or_insert_with(|| member.id.clone());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.members.insert(member);
    }

    /// Removes a member or a pending id; another member becomes leader if it led.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.pending.remove(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.count_protocols(&member, false);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.iter().next().map(|member| member.id.clone());
        }
        Some(member)
    }

    pub(super) fn count_protocols(&mut self, member: &Member, add: bool) {
        for protocol in member.protocols.iter() {
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    /// The protocol most members prefer among those that all support; of two with as many votes
    /// the one that comes first by name.
    pub(super) fn select_protocol(&self) -> Option<Name> {
        let common = |name: &Name| self.supported.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in self.members.iter() {
            let names = member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(vote) = names.into_iter().find(|name| common(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The members as the leader sees them.
    pub(super) fn for_leader(&self) -> Vec<JoinMember> {
        let protocol = self.protocol_name.as_ref();
        self.members.iter().map(|member| member.for_leader(protocol)).collect()
    }

    /// The answer to a member that is in the present generation.
    pub(super) fn joined(&self, member_id: &Name) -> JoinResponse {
        let leads = self.is_leader(member_id);
        JoinResponse {
            member_id: member_id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            members: if leads { self.for_leader() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// Which of the `asked` topics members read, as far as known: all of them if the group consumes
    /// and a subscription is not understood, none if it does not consume.
    pub(super) fn subscribed<'a>(&self, asked: impl Iterator<Item = &'a Name>) -> Subscribed<'a> {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return Subscribed::To(HashSet::new());
        }
        let asked: HashSet<&'a str> = asked.map(|topic| &**topic).collect();
        let mut topics = HashSet::new();
        for member in self.members.iter() {
            let metadata = member.metadata(self.protocol_name.as_ref());
            let note = |topic: &str| topics.extend(asked.get(topic).copied());
            if let Err(error) = record::subscribed_topics(&metadata, note) {
                debug!(group = %self.id, member = %member.id, %error,
                    "subscription not understood");
                return Subscribed::Unknown;
            }
        }
        Subscribed::To(topics)
    }

    /// What `DescribeGroups` shows.
    pub(super) fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol_name.as_ref().filter(|_| self.state == State::Stable);
        DescribedGroup {
            group: self.id.clone(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.cloned().unwrap_or_default(),
            members: self.members.iter().map(|member| member.describe(protocol)).collect(),
        }
    }

    /// The record of the group's generation; assignments not given are those in force.
    pub(super) fn record(&self, save: &Save) -> GroupValue {
        let protocol = self.protocol_name.as_ref();
        let assignment = |member: &Member| match save {
            Save::Assignment { assignments, .. } => {
                assignments.get(&member.id).cloned().unwrap_or_default()
            }
            Save::Empty | Save::StaticMember { .. } => member.assignment.clone(),
        };
        let members = self.members.iter();
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.map(|it| it.record(protocol, assignment(it))).collect(),
        }
    }

    /// The log took the record of `save`.
    pub(super) fn saved(&mut self, turn: &mut Turn<'_>, save: Save) {
        self.is_recorded = true;
        match save {
            Save::Empty => {}
            Save::Assignment { member_id, waiter, assignments } => {
                self.assign(turn, &member_id, waiter, assignments);
            }
            Save::StaticMember { new_id, old_leader, can_skip, .. } => {
                self.static_member_saved(turn, &new_id, old_leader, can_skip);
            }
        }
    }

    /// The log refused the record of `save`.
    pub(super) fn not_saved(&mut self, turn: &mut Turn<'_>, save: Save, error: Error) {
        match save {
            Save::Empty => {}
            Save::Assignment { waiter, .. } => turn.answer_sync(waiter, Err(error)),
            Save::StaticMember { old, new_id, old_leader, .. } => {
                self.take_back_static_member(turn, *old, &new_id, old_leader, error);
            }
        }
    }

    /// The coordinator gives the group up, maybe amid a change that panicked: the members go, and
    /// their parked requests are refused by that.
    pub(super) fn give_up(&mut self) {
        self.members = Members::default();
    }

    /// A sign of life of a member.
    pub(super) fn touch(&mut self, member_id: &str, now: Instant) {
        self.members.change(member_id, |member| member.touch(now));
    }

    /// Gives every member that is not parked a full session: what they wait for has just become
    /// durable.
    pub(super) fn touch_all(&mut self, now: Instant) {
        self.members.change_all(|member| {
            if member.deadline.is_some() && member.joining.is_none() {
                member.touch(now);
            }
        });
    }

    /// Forgets the group; its tombstone is in the log.
    pub(super) fn delete(&mut self) {
        let id = self.id.clone();
        drop(mem::replace(self, Self::new(id)));
    }
}

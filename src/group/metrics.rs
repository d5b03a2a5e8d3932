//! The coordinator's metrics.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::types::State;
use crate::metrics::{LATENCY_SECONDS, Registry};

/// Why a group rebalances; the label of `tidegate_group_rebalances_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    NewMember,
    MemberRejoined,
    MemberUpdated,
    LeaderRejoined,
    StaticMemberReplaced,
    MemberLeft,
    SessionExpired,
    SyncExpired,
    GroupFull,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::NewMember => "new_member",
            Reason::MemberRejoined => "member_rejoined",
            Reason::MemberUpdated => "member_updated",
            Reason::LeaderRejoined => "leader_rejoined",
            Reason::StaticMemberReplaced => "static_member_replaced",
            Reason::MemberLeft => "member_left",
            Reason::SessionExpired => "session_expired",
            Reason::SyncExpired => "sync_expired",
            Reason::GroupFull => "group_full",
        }
    }
}

/// Handles of the room's metrics.
#[derive(Debug)]
pub struct GroupMetrics {
    groups: [IntGauge; 4],
    members: IntGauge,
    rebalances: IntCounterVec,
    pub(super) commits: IntCounter,
    pub(super) expired: IntCounter,
    pub(super) load_seconds: Histogram,
    pub(super) load_failures: IntCounter,
    pub(super) refused_full: IntCounter,
    pub(super) refused_memory: IntCounter,
}

/// What a group adds to the gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) state: State,
    pub(super) members: usize,
}

impl GroupMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Self {
        let groups = registry.gauges("group_groups", "Classic groups by state.", &["state"]);
        Self {
            groups: State::ALL.map(|state| groups.with_label_values(&[state.name()])),
            members: registry.gauge("group_members", "Members of classic groups."),
            rebalances: registry.counters(
                "group_rebalances_total",
                "Rebalances begun, by what caused them.",
                &["reason"],
            ),
            commits: registry.counter(
                "group_offset_commits_total",
                "Offsets committed, one for each partition of a commit.",
            ),
            expired: registry.counter(
                "group_offsets_expired_total",
                "Offsets removed because of their age or because their topic is gone.",
            ),
            load_seconds: registry.histogram(
                "group_load_seconds",
                "Time to load a partition of __consumer_offsets.",
                LATENCY_SECONDS,
            ),
            load_failures: registry.counter(
                "group_load_failures_total",
                "Loads of a partition of __consumer_offsets that failed and are tried again.",
            ),
            refused_full: registry.counter(
                "group_requests_refused_total",
                "Requests refused because their group had too many waiting.",
            ),
            refused_memory: registry.counter(
                "group_memory_refusals_total",
                "Requests refused because groups hold all the memory they may have.",
            ),
        }
    }

    pub(super) fn rebalance(&self, reason: Reason) {
        self.rebalances.with_label_values(&[reason.name()]).inc();
    }

    /// Moves a group from what it last counted as to what it counts as now.
    pub(super) fn recount(&self, was: Option<Counted>, is: Option<Counted>) {
        if was == is {
            return;
        }
        for (counted, sign) in [(was, -1), (is, 1)] {
            let Some(counted) = counted else { continue };
            let gauges = State::ALL.into_iter().zip(&self.groups);
            for (_, gauge) in gauges.filter(|(state, _)| *state == counted.state) {
                gauge.add(sign);
            }
            self.members.add(sign * counted.members as i64);
        }
    }
}

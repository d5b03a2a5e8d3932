//! Which offsets are too old (DESIGN D8: age is counted on the monotonic clock while we run, and
//! by append times in the log, which are monotonic too, across a restart; the wall clock has no
//! part in it, see `wal/log_clock.rs`).
//!
//! Kafka's rules (KIP-211): offsets of a group without members go when `offsets.retention.minutes`
//! have passed since the group became empty; those of a stable consumer group go by their own age,
//! but only for topics that no member subscribes to; those of a group that never had members go by
//! their own age; those of any other group stay. One difference: in an empty group an offset is
//! also given the full retention since its commit, so that an administrator's reset of a group
//! that has been empty for long is not undone by the next sweep.
//!
//! An offset whose topic is gone, or is there in another incarnation, goes at once.

use std::time::Duration;

use super::group::{ClassicGroup, Subscribed};
use super::log::Topics;
use super::offsets::{CommittedOffset, Offsets};
use super::types::{CONSUMER_PROTOCOL_TYPE, Name, State};
use crate::clock::Instant;

/// How old something is: what it was when first seen by this process, plus the time since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age {
    since: Instant,
    before: Duration,
}

impl Age {
    /// Born now.
    pub(super) fn none(now: Instant) -> Self {
        Self { since: now, before: Duration::ZERO }
    }

    /// Appended at `append_ms`, by a log whose clock shows `log_now_ms` now.
    pub(super) fn in_log(now: Instant, append_ms: i64, log_now_ms: i64) -> Self {
        let millis = u64::try_from(log_now_ms.saturating_sub(append_ms)).unwrap_or(0);
        Self { since: now, before: Duration::from_millis(millis) }
    }

    /// The age at `now`.
    pub(super) fn at(self, now: Instant) -> Duration {
        self.before.saturating_add(now.saturating_duration_since(self.since))
    }
}

/// From when on offsets age; `None` if they do not.
#[derive(Debug, Clone, Copy)]
enum Base {
    Commit,
    EmptySince(Age),
}

fn base(group: &ClassicGroup, subscribed: &Subscribed<'_>) -> Option<Base> {
    match (group.protocol_type.as_deref(), group.state) {
        (None, _) => Some(Base::Commit),
        (Some(_), State::Empty) => Some(group.state_since.map_or(Base::Commit, Base::EmptySince)),
        (Some(CONSUMER_PROTOCOL_TYPE), State::Stable) => match subscribed {
            Subscribed::To(_) => Some(Base::Commit),
            Subscribed::Unknown => None,
        },
        _ => None,
    }
}

/// The offsets that must go now.
pub(super) fn expired(
    group: &ClassicGroup,
    offsets: &Offsets,
    topics: &dyn Topics,
    retention: Duration,
    now: Instant,
) -> Vec<(Name, i32)> {
    let subscribed = group.subscribed(offsets.topics());
    let base = base(group, &subscribed);
    let is_old = |topic: &str, offset: &CommittedOffset| {
        let Some(base) = base.filter(|_| !subscribed.contains(topic)) else { return false };
        let age = match base {
            Base::Commit => offset.age.at(now),
            Base::EmptySince(_) if offset.retention.is_some() => offset.age.at(now),
            Base::EmptySince(empty) => empty.at(now).min(offset.age.at(now)),
        };
        age >= offset.retention.unwrap_or(retention)
    };
    let all = offsets.iter();
    let gone = all.filter(|(topic, _, offset)| {
        is_old(topic, offset) || !offset.is_present(topics.topic(topic))
    });
    gone.map(|(topic, partition, _)| (topic.clone(), partition)).collect()
}

/// Whether nothing is left of the group but its generation.
pub(super) fn is_over(group: &ClassicGroup, offsets: &Offsets) -> bool {
    group.is_idle() && offsets.is_empty()
}

//! The members of a group and the ids given out to members to come, each with what every request
//! asks of all of them kept up to date: a change costs the logarithm of their number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::member::Member;
use super::memory;
use super::types::Name;
use crate::clock::Instant;

/// The members, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<Name, Member>,
    totals: Totals,
}

/// What is asked of all members.
#[derive(Debug, Default)]
struct Totals {
    deadlines: BTreeSet<(Instant, Name)>,
    rebalance_timeouts: BTreeMap<Duration, usize>,
    joining: usize,
    bytes: usize,
}

/// One member's part in the totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    deadline: Option<Instant>,
    rebalance_timeout: Duration,
    is_joining: bool,
    bytes: usize,
}

impl Part {
    fn of(member: &Member) -> Self {
        Self {
            deadline: member.deadline,
            rebalance_timeout: member.rebalance_timeout,
            is_joining: member.joining.is_some(),
            bytes: member.weight(),
        }
    }
}

impl Totals {
    fn add(&mut self, id: &Name, part: Part) {
        if let Some(deadline) = part.deadline {
            self.deadlines.insert((deadline, id.clone()));
        }
        *self.rebalance_timeouts.entry(part.rebalance_timeout).or_default() += 1;
        self.joining += usize::from(part.is_joining);
        self.bytes += part.bytes;
    }

    fn subtract(&mut self, id: &Name, part: Part) {
        if let Some(deadline) = part.deadline {
            self.deadlines.remove(&(deadline, id.clone()));
        }
        if let Some(count) = self.rebalance_timeouts.get_mut(&part.rebalance_timeout) {
            *count -= 1;
            if *count == 0 {
                self.rebalance_timeouts.remove(&part.rebalance_timeout);
            }
        }
        self.joining -= usize::from(part.is_joining);
        self.bytes -= part.bytes;
    }

    /// Lets `change` change a member.
    fn follow<R>(&mut self, member: &mut Member, change: impl FnOnce(&mut Member) -> R) -> R {
        let was = Part::of(member);
        let result = change(member);
        let is = Part::of(member);
        if was != is {
            self.subtract(&member.id, was);
            self.add(&member.id, is);
        }
        result
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// Puts a member in; one with the same id goes.
    pub(super) fn insert(&mut self, member: Member) {
        let id = member.id.clone();
        drop(self.remove(&id));
        self.totals.add(&id, Part::of(&member));
        self.by_id.insert(id, member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.totals.subtract(&member.id, Part::of(&member));
        Some(member)
    }

    /// Changes a member, but never its id; `None` if there is no such member.
    pub(super) fn change<R>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Member) -> R,
    ) -> Option<R> {
        let member = self.by_id.get_mut(id)?;
        Some(self.totals.follow(member, change))
    }

    /// Changes every member, but never their ids.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut Member)) {
        for member in self.by_id.values_mut() {
            self.totals.follow(member, &mut change);
        }
    }

    /// How many joins are parked.
    pub(super) fn joining(&self) -> usize {
        self.totals.joining
    }

    /// The longest rebalance timeout.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.totals
            .rebalance_timeouts
            .last_key_value()
            .map(|(longest, _)| *longest)
            .unwrap_or_default()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.totals.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The members whose deadline has passed.
    pub(super) fn due(&self, now: Instant) -> Vec<Name> {
        let due = self.totals.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.map(|(_, id)| id.clone()).collect()
    }

    /// What the members weigh.
    pub(super) fn bytes(&self) -> usize {
        self.totals.bytes
    }
}

/// Ids given out with `MEMBER_ID_REQUIRED`, each until its deadline.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_id: HashMap<Name, Instant>,
    deadlines: BTreeSet<(Instant, Name)>,
    bytes: usize,
}

impl Pending {
    /// The weight of an id of `length` bytes: it stands in a map and in an index.
    pub(super) fn weight(length: usize) -> usize {
        2 * size_of::<(Name, Instant)>()
            + 2 * size_of::<(Instant, Name)>()
            + memory::name("")
            + length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Adds an id. Of more than `max` the one that expires first goes.
    pub(super) fn insert(&mut self, id: Name, deadline: Instant, max: usize) {
        self.bytes += Self::weight(id.len());
        self.deadlines.insert((deadline, id.clone()));
        self.by_id.insert(id, deadline);
        while self.by_id.len() > max
            && let Some((_, id)) = self.deadlines.first().cloned()
        {
            self.remove(&id);
        }
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let Some((id, deadline)) = self.by_id.remove_entry(id) else { return false };
        self.bytes -= Self::weight(id.len());
        self.deadlines.remove(&(deadline, id))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Removes the ids whose deadline has passed; says whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.by_id.len();
        while let Some((deadline, id)) = self.deadlines.first().cloned()
            && deadline <= now
        {
            self.remove(&id);
        }
        self.by_id.len() < before
    }

    /// What the ids weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;

//! A group with its offsets, where its task and readers find it, and what it counts as and is
//! charged for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inner;
use super::command::Command;
use super::group::ClassicGroup;
use super::memory::{self, Held};
use super::metrics::Counted;
use super::offsets::Offsets;
use super::reply::Gate;
use super::types::Error;

/// What any group weighs, beside what it has: its cell, and its id and place in the shard's map.
pub(super) fn base_weight(id: &str) -> usize {
    size_of::<Cell>() + 256 + memory::name(id)
}

/// A group where its task and readers find it. Only the task, or whoever holds the shard while
/// there is none, changes it; the lock is never held across an await.
#[derive(Debug)]
pub(super) struct Cell {
    state: Mutex<CellState>,
}

/// A group and its offsets.
#[derive(Debug)]
pub(super) struct CellState {
    pub(super) group: ClassicGroup,
    pub(super) offsets: Offsets,
    /// Durability of the last append, until it is reached.
    pub(super) gate: Option<Gate>,
    /// What the group is charged for: what it weighs, and during a request what that may add.
    pub(super) held: Held,
    /// What the group last counted as in the metrics.
    counted: Option<Counted>,
    /// Given up by its shard: it counts as nothing from then on.
    is_former: bool,
}

impl Cell {
    pub(super) fn new(group: ClassicGroup, offsets: Offsets, held: Held) -> Arc<Self> {
        let state = CellState { group, offsets, gate: None, held, counted: None, is_former: false };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CellState {
    /// Whether the group exists for clients.
    pub(super) fn exists(&self) -> bool {
        !self.group.is_blank() || !self.offsets.is_empty()
    }

    /// What the group and its offsets weigh.
    fn weight(&self) -> usize {
        base_weight(&self.group.id) + self.group.weight() + self.offsets.weight()
    }

    /// Whether a task has anything left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.group.is_idle() && self.gate.is_none()
    }

    /// What the group counts as.
    fn count(&self) -> Option<Counted> {
        let members = self.group.members.len();
        let counts = self.exists() && !self.is_former;
        counts.then_some(Counted { state: self.group.state, members })
    }

    /// Answers a request that changes nothing.
    pub(super) fn read(&self, command: Command, inner: &Inner) {
        let gate = self.gate.as_ref();
        match command {
            command if !self.exists() => command.answer_absent(&*inner.topics),
            Command::Fetch(request, waiter) => {
                let found = self.offsets.fetch(request.topics.as_deref(), &*inner.topics);
                waiter.send(Ok(found), gate);
            }
            Command::Describe(waiter) => waiter.send(Ok(self.group.describe()), gate),
            other => other.refuse(Error::CoordinatorNotAvailable),
        }
    }
}

impl Inner {
    /// Takes a group that its shard gives up out of the metrics.
    pub(super) fn uncount(&self, cell: &Cell) {
        cell.lock().is_former = true;
        self.count(cell);
    }

    /// Brings the metrics and the charge up to date with a group.
    pub(super) fn count(&self, cell: &Cell) {
        let mut cell = cell.lock();
        let weight = cell.weight();
        cell.held.set(weight);
        let is = cell.count();
        let was = std::mem::replace(&mut cell.counted, is);
        self.metrics.recount(was, is);
    }
}

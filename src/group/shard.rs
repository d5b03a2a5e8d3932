//! A partition of `__consumer_offsets` and the groups that live in it.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{error, info};

use super::Inner;
use super::cell::{Cell, base_weight};
use super::command::Command;
use super::expiry;
use super::group::ClassicGroup;
use super::load::Image;
use super::log::{Topic, Topics};
use super::memory::Held;
use super::offsets::Offsets;
use super::record::Malformed;
use super::task::GroupTask;
use super::types::{Error, GroupSize, ListedGroup, Name, ObservedGroup};
use crate::clock::Instant;
use crate::task;

/// Requests a group may have waiting. They wait only while the log has no room; one more is refused
/// with `COORDINATOR_LOAD_IN_PROGRESS`, which clients retry at the same broker.
const MAILBOX: usize = 4_096;

/// A load that failed is not tried again before this has passed.
const LOAD_BACKOFF: Duration = Duration::from_secs(1);

/// A coordinator partition.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) partition: i32,
    state: Mutex<ShardState>,
}

#[derive(Debug)]
enum ShardState {
    /// Not read yet, or given up; not to be tried before `retry_at`, nor before the tasks of
    /// `former` have ended.
    Unloaded {
        retry_at: Option<Instant>,
        former: Option<Ended>,
    },
    /// Being read.
    Loading,
    Loaded(Groups),
    /// The coordinator has closed.
    Closed,
}

/// Resolves to nothing when the last task of a shard that was given up has ended.
type Ended = mpsc::Receiver<()>;

/// The groups of a partition between a load and its end.
#[derive(Debug)]
struct Groups {
    slots: HashMap<Name, Slot>,
    tenure: Tenure,
    ended: Ended,
}

/// Held by every task of a shard. Once the shard is given up a task begins nothing more, and the
/// log is read again only when all have let go: two generations of tasks never append to one
/// partition.
#[derive(Debug, Clone)]
pub(super) struct Tenure {
    is_over: Arc<AtomicBool>,
    /// Closes [`Ended`] when the last clone is dropped; nothing is ever sent.
    _held: mpsc::Sender<()>,
}

impl Tenure {
    fn new() -> (Self, Ended) {
        let (held, ended) = mpsc::channel(1);
        (Self { is_over: Arc::default(), _held: held }, ended)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// A group; `mailbox` is there while it has a task.
#[derive(Debug)]
struct Slot {
    cell: Arc<Cell>,
    mailbox: Option<mpsc::Sender<Command>>,
}

impl Shard {
    pub(super) fn new(partition: i32) -> Self {
        Self { partition, state: Mutex::new(ShardState::Unloaded { retry_at: None, former: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request into its group's mailbox; the order of calls is the order of handling.
    pub(super) fn deliver(self: &Arc<Self>, inner: &Arc<Inner>, group: &Name, command: Command) {
        let mut state = self.lock();
        self.load_if_needed(inner, &mut state);
        let Groups { slots, tenure, .. } = match &mut *state {
            ShardState::Loaded(groups) => groups,
            ShardState::Closed => return command.refuse(Error::CoordinatorNotAvailable),
            ShardState::Loading | ShardState::Unloaded { .. } => {
                return command.refuse(Error::CoordinatorLoadInProgress);
            }
        };
        if !slots.contains_key(group) {
            if !command.creates() {
                return command.answer_absent(&*inner.topics);
            }
            let mut held = Held::none(&inner.memory);
            if let Err(error) = held.try_grow(base_weight(group)) {
                return inner.refuse_for_memory(command, error);
            }
            let cell = Cell::new(ClassicGroup::new(group.clone()), Offsets::default(), held);
            slots.insert(group.clone(), Slot { cell, mailbox: None });
        }
        let slot = slots.get_mut(group).expect("inserted above");
        if slot.mailbox.is_none() && command.only_reads() {
            return slot.cell.lock().read(command, inner);
        }
        let refused = {
            let cell = Arc::clone(&slot.cell);
            let start = || self.start(inner, group, cell, tenure.clone());
            slot.mailbox.get_or_insert_with(start).try_send(command)
        };
        match refused {
            Ok(()) => {}
            Err(TrySendError::Full(command)) => {
                inner.metrics.refused_full.inc();
                command.refuse(Error::CoordinatorLoadInProgress);
            }
            Err(TrySendError::Closed(command)) => {
                // The task has ended without a word; only the log says how far it got.
                command.refuse(Error::CoordinatorNotAvailable);
                Self::give_up(inner, &mut state, Some(inner.clock.now() + LOAD_BACKOFF));
            }
        }
    }

    /// Starts the task of a group. It ends when the sender is dropped.
    fn start(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        group: &Name,
        cell: Arc<Cell>,
        tenure: Tenure,
    ) -> mpsc::Sender<Command> {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let task = GroupTask {
            inner: Arc::clone(inner),
            shard: Arc::clone(self),
            group: group.clone(),
            cell,
            mailbox,
            tenure,
            assigning: false,
            running: false,
        };
        drop(task::spawn("group", task.run()));
        sender
    }

    /// A task asks to end: yes if nothing has come meanwhile. A group that does not exist goes.
    pub(super) fn retire(&self, inner: &Inner, task: &GroupTask) -> bool {
        let mut state = self.lock();
        let ShardState::Loaded(Groups { slots, .. }) = &mut *state else { return false };
        let Some(slot) = slots.get_mut(&task.group) else { return false };
        if !Arc::ptr_eq(&slot.cell, &task.cell) || !task.mailbox.is_empty() {
            return false;
        }
        slot.mailbox = None;
        inner.count(&task.cell);
        if !task.cell.lock().exists() {
            slots.remove(&task.group);
        }
        true
    }

    /// Gives the groups up; the next request reads them from the log again. Their tasks refuse what
    /// is parked.
    pub(super) fn unload(&self, inner: &Inner) {
        Self::give_up(inner, &mut self.lock(), Some(inner.clock.now() + LOAD_BACKOFF));
    }

    /// Gives the groups up for good.
    pub(super) fn close(&self, inner: &Inner) {
        let mut state = self.lock();
        Self::give_up(inner, &mut state, None);
        *state = ShardState::Closed;
    }

    fn give_up(inner: &Inner, state: &mut ShardState, retry_at: Option<Instant>) {
        let unloaded = ShardState::Unloaded { retry_at, former: None };
        match mem::replace(state, unloaded) {
            ShardState::Loaded(groups) => {
                groups.tenure.is_over.store(true, Ordering::SeqCst);
                groups.slots.values().for_each(|slot| inner.uncount(&slot.cell));
                *state = ShardState::Unloaded { retry_at, former: Some(groups.ended) };
            }
            other => *state = other,
        }
    }

    /// Begins to load if that has not happened; says whether the groups are there.
    pub(super) fn is_loaded(self: &Arc<Self>, inner: &Arc<Inner>) -> bool {
        let mut state = self.lock();
        self.load_if_needed(inner, &mut state);
        matches!(&*state, ShardState::Loaded(_))
    }

    /// Whether the groups are being read; begins to if they were not.
    pub(super) fn is_loading(self: &Arc<Self>, inner: &Arc<Inner>) -> bool {
        let mut state = self.lock();
        self.load_if_needed(inner, &mut state);
        matches!(&*state, ShardState::Loading)
    }

    fn load_if_needed(self: &Arc<Self>, inner: &Arc<Inner>, state: &mut ShardState) {
        let now = inner.clock.now();
        match state {
            ShardState::Unloaded { retry_at, former } if retry_at.is_none_or(|at| at <= now) => {
                let former = former.take();
                *state = ShardState::Loading;
                let load = load(Arc::clone(inner), Arc::clone(self), former);
                drop(task::spawn("group-load", load));
            }
            _ => {}
        }
    }

    /// How many groups there are, if they are loaded.
    pub(super) fn count(&self) -> usize {
        match &*self.lock() {
            ShardState::Loaded(groups) => groups.slots.len(),
            _ => 0,
        }
    }

    /// The size of a group, if it is there.
    pub(super) fn size(&self, group: &str) -> Option<GroupSize> {
        let cell = match &*self.lock() {
            ShardState::Loaded(groups) => Arc::clone(&groups.slots.get(group)?.cell),
            _ => return None,
        };
        let cell = cell.lock();
        Some(GroupSize {
            members: cell.group.members.len(),
            offsets: cell.offsets.count(),
            metadata_bytes: cell.offsets.metadata_bytes(),
        })
    }

    /// The groups that exist, if they are loaded.
    pub(super) fn list(&self) -> Vec<ListedGroup> {
        let listed = |(id, cell): (Name, Arc<Cell>)| {
            let cell = cell.lock();
            let protocol_type = cell.group.protocol_type.clone().unwrap_or_default();
            let state = cell.group.state;
            cell.exists().then_some(ListedGroup { group: id, protocol_type, state })
        };
        self.cells().into_iter().filter_map(listed).collect()
    }

    /// The ids of the groups that exist, if they are loaded.
    pub(super) fn ids(&self) -> Vec<Name> {
        let exists = |cell: &Arc<Cell>| cell.lock().exists();
        let cells = self.cells().into_iter();
        cells.filter(|(_, cell)| exists(cell)).map(|(id, _)| id).collect()
    }

    /// A group and how far it has read, if it exists.
    pub(super) fn observe(&self, group: &str, topics: &dyn Topics) -> Option<ObservedGroup> {
        let (group, cell) = match &*self.lock() {
            ShardState::Loaded(groups) => {
                let (id, slot) = groups.slots.get_key_value(group)?;
                (id.clone(), Arc::clone(&slot.cell))
            }
            _ => return None,
        };
        let cell = cell.lock();
        let mut present: Option<(&Name, Option<Topic>)> = None;
        let mut offsets = Vec::with_capacity(cell.offsets.count());
        for (name, partition, committed) in cell.offsets.iter() {
            // Offsets come by topic: each is looked up once.
            let topic = match present {
                Some((known, topic)) if known == name => topic,
                _ => present.insert((name, topics.topic(name))).1,
            };
            if topic.is_some() && committed.is_present(topic) {
                offsets.push((name.clone(), partition, committed.offset));
            }
        }
        let (state, members) = (cell.group.state, cell.group.members.len());
        let rebalances = cell.group.rebalances;
        cell.exists().then_some(ObservedGroup { group, state, members, rebalances, offsets })
    }

    /// The groups of which something is too old.
    pub(super) fn overdue(&self, inner: &Inner) -> Vec<Name> {
        let overdue = |cell: &Cell| {
            let cell = cell.lock();
            expiry::is_over(&cell.group, &cell.offsets) || !inner.expired(&cell).is_empty()
        };
        let cells = self.cells().into_iter();
        cells.filter(|(_, cell)| overdue(cell)).map(|(id, _)| id).collect()
    }

    fn cells(&self) -> Vec<(Name, Arc<Cell>)> {
        let state = self.lock();
        let ShardState::Loaded(groups) = &*state else { return Vec::new() };
        groups.slots.iter().map(|(id, slot)| (id.clone(), Arc::clone(&slot.cell))).collect()
    }

    /// The groups are read: they take requests from now on.
    fn loaded(self: &Arc<Self>, inner: &Arc<Inner>, groups: Vec<(ClassicGroup, Offsets)>) {
        let mut state = self.lock();
        if !matches!(&*state, ShardState::Loading) {
            return;
        }
        let (tenure, ended) = Tenure::new();
        let mut slots = HashMap::with_capacity(groups.len());
        for (group, offsets) in groups {
            let (id, is_active) = (group.id.clone(), !group.is_idle());
            let cell = Cell::new(group, offsets, Held::none(&inner.memory));
            inner.count(&cell);
            let start = || self.start(inner, &id, Arc::clone(&cell), tenure.clone());
            let mailbox = is_active.then(start);
            slots.insert(id, Slot { cell, mailbox });
        }
        *state = ShardState::Loaded(Groups { slots, tenure, ended });
        drop(state);
        inner.load_ended.notify_waiters();
    }

    fn load_failed(&self, inner: &Inner) {
        let mut state = self.lock();
        if matches!(&*state, ShardState::Loading) {
            let retry_at = Some(inner.clock.now() + LOAD_BACKOFF);
            *state = ShardState::Unloaded { retry_at, former: None };
        }
        drop(state);
        inner.load_ended.notify_waiters();
    }
}

/// A load that has not ended yet: unless it succeeds, also if it panics, the next request after a
/// pause tries again.
struct Attempt {
    inner: Arc<Inner>,
    shard: Arc<Shard>,
    succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.succeeded {
            self.inner.metrics.load_failures.inc();
            self.shard.load_failed(&self.inner);
        }
    }
}

/// Reads a partition.
async fn load(inner: Arc<Inner>, shard: Arc<Shard>, former: Option<Ended>) {
    let mut attempt =
        Attempt { inner: Arc::clone(&inner), shard: Arc::clone(&shard), succeeded: false };
    if let Some(mut former) = former {
        // What the former tasks still append must be there to be read.
        former.recv().await;
    }
    let started = inner.clock.now();
    let partition = shard.partition;
    let mut image = Image::default();
    let mut malformed: Option<Malformed> = None;
    let mut sink = |record| {
        if malformed.is_none() {
            malformed = image.add(&record).err();
        }
    };
    let result = inner.log.load(partition, &mut sink).await;
    let log_now_ms = match (result, malformed) {
        (Ok(log_now_ms), None) => log_now_ms,
        (Err(failure), _) => {
            error!(partition, error = %failure, "load groups");
            return;
        }
        (Ok(_), Some(malformed)) => {
            error!(partition, error = %malformed, "load groups: a record is malformed");
            return;
        }
    };
    let mut turn = inner.turn();
    let groups = image.finish(partition, log_now_ms, &mut turn);
    for reason in &turn.rebalances {
        inner.metrics.rebalance(*reason);
    }
    let took = inner.clock.now().saturating_duration_since(started);
    inner.metrics.load_seconds.observe(took.as_secs_f64());
    info!(partition, groups = groups.len(), millis = took.as_millis() as u64, "groups are loaded");
    attempt.succeeded = true;
    shard.loaded(&inner, groups);
}

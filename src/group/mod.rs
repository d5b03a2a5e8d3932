//! Consumer groups, the classic protocol: who is a member, who gets which assignment, and which
//! offsets are committed.
//!
//! The api room calls [`GroupCoordinator`], one method for each Kafka API, and maps its plain types
//! ([`types`]) to Kafka's messages. The broker room gives it the internal topic
//! `__consumer_offsets` ([`log::OffsetsLog`]) and the topics there are ([`log::Topics`]), calls
//! [`GroupCoordinator::expire_offsets`] from time to time and [`GroupCoordinator::close`] at the
//! end.
//!
//! A group belongs to one partition of `__consumer_offsets` (a *shard*), by the hash of its id.
//! A shard is read on first use; until then its groups answer `COORDINATOR_LOAD_IN_PROGRESS`. A
//! group is a pure state machine (`group.rs`, and a file per request under `classic/`) and its
//! offsets. While it has members or requests it also has a task with a bounded mailbox (`task.rs`),
//! which is the only one to change it; an idle group is a struct without a task or a timer.
//!
//! ```text
//!   join() ──▶ mailbox ──▶ task: state machine ──▶ append ──▶ apply ──▶ answer with a gate
//!     │                                                                        │
//!     └── Reply (a future) ◀────────────── when the append is durable ─────────┘
//! ```
//!
//! **Invariants**
//! - A method puts its request into the mailbox before it returns, so that requests of a connection
//!   keep their order; only the returned [`Reply`] waits.
//! - The task never waits for durability. A record that the log refuses has changed nothing. An
//!   answer, also one that only reads, leaves when every append it may show is durable.
//! - An append whose outcome is unknown unloads the shard: the log decides on the next load.
//! - A restart causes no rebalance: members, generation and assignments are in the group's record,
//!   and every member starts with a full session.
//! - A reply is always answered: dropped requests, full mailboxes, lost logs and panics refuse it.
//! - What groups hold is charged to a pool (`memory.rs`); a request that needs more than is left is
//!   refused, one that needs no more than before goes on, and a load never fails for it.
//!
//! Deliberately absent: transactional offsets (they come with the transaction coordinator), the
//! consumer, share and streams protocols, and a record for a group nobody has completed a rebalance
//! in (Kafka writes an empty one; a group that never had a generation has nothing to keep).

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::budget::BytePool;
use crate::clock::{Clock, Random};

mod cell;
mod classic;
mod command;
mod expiry;
#[allow(clippy::module_inception, reason = "the room is named for groups, the file for one")]
mod group;
mod load;
pub mod log;
mod member;
mod members;
mod memory;
mod metrics;
mod offsets;
pub mod record;
mod reply;
mod restore;
mod shard;
mod task;
pub mod types;

pub use log::{AppendRefused, LoadError, LoadedRecord, LogLost, OffsetsLog, Record, Topic, Topics};
pub use metrics::GroupMetrics;
pub use record::Malformed;
pub use reply::Reply;
pub use restore::RestoredGroups;
pub use types::{Error, GroupConfig};

use command::Command;
use memory::Memory;
use reply::Waiter;
use shard::Shard;
use types::{
    CLASSIC, CommitRequest, DescribedGroup, FetchedTopic, GroupSize, HeartbeatRequest, JoinRequest,
    JoinResponse, LeaveRequest, LeftMember, ListRequest, ListedGroup, Name, ObservedGroup,
    OffsetDeleteRequest, OffsetFetchRequest, SyncRequest, SyncResponse, TopicResults,
};

/// The group coordinator; cheap to clone. Its methods need a tokio runtime around them.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    inner: Arc<Inner>,
}

/// How long a request that is about all groups waits for partitions to be loaded.
const LOAD_PATIENCE: Duration = Duration::from_secs(5);

/// What the coordinator's tasks share.
struct Inner {
    config: GroupConfig,
    clock: Clock,
    random: Random,
    log: Arc<dyn OffsetsLog>,
    topics: Arc<dyn Topics>,
    metrics: GroupMetrics,
    memory: Arc<Memory>,
    shards: Mutex<Shards>,
    /// A load has ended, well or not.
    load_ended: Notify,
}

/// The partitions of `__consumer_offsets` that were ever asked for.
#[derive(Debug, Default)]
struct Shards {
    by_partition: HashMap<i32, Arc<Shard>>,
    is_closed: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The partition of `__consumer_offsets` that a group belongs to, as Kafka has it: the absolute
/// value of Java's `String.hashCode` (0 for the one value without) modulo `partitions`.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// Whether a name of the join does not fit into the group's record.
fn has_long_name(request: &JoinRequest) -> bool {
    let names = [&request.client_id, &request.client_host, &request.protocol_type];
    let protocols = request.protocols.iter().map(|protocol| &protocol.name);
    let mut names = names.into_iter().chain(&request.instance_id).chain(protocols);
    names.any(|name| name.len() > record::MAX_NAME)
}

impl GroupCoordinator {
    /// A coordinator that has loaded nothing yet. What its groups hold is charged to `pool`.
    pub fn new(
        config: GroupConfig,
        log: Arc<dyn OffsetsLog>,
        topics: Arc<dyn Topics>,
        metrics: GroupMetrics,
        pool: BytePool,
        clock: Clock,
        random: Random,
    ) -> Self {
        let (memory, shards) = (Memory::new(pool), Mutex::default());
        let load_ended = Notify::new();
        let inner =
            Inner { config, clock, random, log, topics, metrics, memory, shards, load_ended };
        Self { inner: Arc::new(inner) }
    }

    /// `JoinGroup`.
    pub fn join(&self, request: JoinRequest) -> Reply<JoinResponse> {
        let config = &self.inner.config;
        if request.group.is_empty() {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let bounds = config.min_session_timeout_ms..=config.max_session_timeout_ms;
        if !bounds.contains(&request.session_timeout_ms) {
            return Reply::ready(Err(Error::InvalidSessionTimeout));
        }
        if has_long_name(&request) {
            return Reply::ready(Err(Error::InvalidRequest));
        }
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Join(Box::new(request), waiter))
    }

    /// `SyncGroup`.
    pub fn sync(&self, request: SyncRequest) -> Reply<SyncResponse> {
        if request.group.is_empty() {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Sync(Box::new(request), waiter))
    }

    /// `Heartbeat`.
    pub fn heartbeat(&self, request: HeartbeatRequest) -> Reply<()> {
        if request.group.is_empty() {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Heartbeat(request, waiter))
    }

    /// `LeaveGroup`; an answer for each member, in the order of the request.
    pub fn leave(&self, request: LeaveRequest) -> Reply<Vec<LeftMember>> {
        if request.group.is_empty() {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Leave(request, waiter))
    }

    /// `OffsetCommit`. An error is that of every partition.
    pub fn commit(&self, request: CommitRequest) -> Reply<Vec<TopicResults>> {
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Commit(Box::new(request), waiter))
    }

    /// `OffsetFetch` for one group. A group or partition that is not known has no offset, which is
    /// not an error.
    pub fn fetch_offsets(&self, request: OffsetFetchRequest) -> Reply<Vec<FetchedTopic>> {
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::Fetch(request, waiter))
    }

    /// `DescribeGroups` for one group.
    pub fn describe(&self, group: &Name) -> Reply<DescribedGroup> {
        self.submit(group, Command::Describe)
    }

    /// `DeleteGroups` for one group.
    pub fn delete(&self, group: &Name) -> Reply<()> {
        self.submit(group, Command::Delete)
    }

    /// `OffsetDelete`.
    pub fn delete_offsets(&self, request: OffsetDeleteRequest) -> Reply<Vec<TopicResults>> {
        if request.group.is_empty() {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let group = request.group.clone();
        self.submit(&group, |waiter| Command::DeleteOffsets(request, waiter))
    }

    /// Begins to load what is not loaded, and waits until that has ended, for 5 s at most. Kafka
    /// loads when it starts; here who lists groups first would be told to ask again, and not every
    /// tool does.
    pub async fn load_all(&self) {
        let all = async {
            loop {
                let mut ended = pin!(self.inner.load_ended.notified());
                ended.as_mut().enable();
                let shards = self.all_shards().unwrap_or_default();
                let loading = |shard: &Arc<Shard>| shard.is_loading(&self.inner);
                if shards.iter().filter(|shard| loading(shard)).count() == 0 {
                    return;
                }
                ended.await;
            }
        };
        // Who is still not loaded then is told so by the answer.
        let _ = self.inner.clock.timeout(LOAD_PATIENCE, all).await;
    }

    /// `ListGroups`. Until every partition is loaded the answer is
    /// [`Error::CoordinatorLoadInProgress`].
    pub fn list(&self, request: &ListRequest) -> Result<Vec<ListedGroup>, Error> {
        let matches = |filter: &[Name], name: &str| {
            filter.is_empty() || filter.iter().any(|it| it.trim().eq_ignore_ascii_case(name))
        };
        let shards = self.all_shards()?;
        let loaded = shards.iter().filter(|shard| shard.is_loaded(&self.inner)).count();
        if loaded < shards.len() {
            return Err(Error::CoordinatorLoadInProgress);
        }
        if !matches(&request.types, CLASSIC) {
            return Ok(Vec::new());
        }
        let all = shards.iter().flat_map(|shard| shard.list());
        Ok(all.filter(|group| matches(&request.states, group.state.name())).collect())
    }

    /// About how many groups [`GroupCoordinator::list`] gives.
    pub fn count(&self) -> usize {
        self.all_shards().unwrap_or_default().iter().map(|shard| shard.count()).sum()
    }

    /// How much [`GroupCoordinator::describe`] and [`GroupCoordinator::fetch_offsets`] have to say
    /// about a group; nothing about one that is not there or not loaded.
    pub fn size(&self, group: &str) -> GroupSize {
        self.shard(group).and_then(|shard| shard.size(group)).unwrap_or_default()
    }

    /// Where a group lives, if anybody ever asked for it.
    fn shard(&self, group: &str) -> Option<Arc<Shard>> {
        let partition = partition_for(group, self.inner.log.partitions().unwrap_or(0));
        self.inner.lock_shards().by_partition.get(&partition).cloned()
    }

    /// The ids of all groups, sorted. What is not loaded begins to load, and is not among them.
    pub fn ids(&self) -> Vec<Name> {
        let shards = self.all_shards().unwrap_or_default();
        let loaded = shards.iter().filter(|shard| shard.is_loaded(&self.inner));
        let mut ids: Vec<Name> = loaded.flat_map(|shard| shard.ids()).collect();
        ids.sort_unstable();
        ids
    }

    /// A group and how far it has read; nothing of one that is not there or not loaded. It may show
    /// a commit that is not durable yet.
    pub fn observe(&self, group: &str) -> Option<ObservedGroup> {
        self.shard(group)?.observe(group, &*self.inner.topics)
    }

    /// Removes offsets that are too old, and groups of which nothing is left; returns how many
    /// offsets went. To be called every `offsets.retention.check.interval.ms`, and not while
    /// time-based deletion pauses (DESIGN D8). Partitions that are not loaded begin to load and
    /// have their turn the next time. Ends early when the coordinator closes.
    pub async fn expire_offsets(&self) -> usize {
        let mut expired = 0;
        for shard in self.all_shards().unwrap_or_default() {
            if !shard.is_loaded(&self.inner) {
                continue;
            }
            for group in shard.overdue(&self.inner) {
                expired += self.submit(&group, Command::Expire).await.unwrap_or(0);
            }
        }
        expired
    }

    /// Answers everything that waits with [`Error::CoordinatorNotAvailable`], ends the groups'
    /// tasks and refuses what comes.
    pub fn close(&self) {
        let mut shards = self.inner.lock_shards();
        shards.is_closed = true;
        for shard in shards.by_partition.values() {
            shard.close(&self.inner);
        }
    }

    fn submit<T>(&self, group: &Name, command: impl FnOnce(Waiter<T>) -> Command) -> Reply<T> {
        if group.len() > record::MAX_NAME {
            return Reply::ready(Err(Error::InvalidGroupId));
        }
        let Some(partitions) = self.inner.log.partitions().filter(|count| *count > 0) else {
            return Reply::ready(Err(Error::CoordinatorNotAvailable));
        };
        let shard = match self.inner.lock_shards().get(partition_for(group, partitions)) {
            Ok(shard) => shard,
            Err(error) => return Reply::ready(Err(error)),
        };
        let (waiter, reply) = reply::channel();
        shard.deliver(&self.inner, group, command(waiter));
        reply
    }

    fn all_shards(&self) -> Result<Vec<Arc<Shard>>, Error> {
        let partitions = self.inner.log.partitions().unwrap_or(0);
        let mut shards = self.inner.lock_shards();
        (0..partitions).map(|partition| shards.get(partition)).collect()
    }
}

impl Inner {
    fn lock_shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shards {
    fn get(&mut self, partition: i32) -> Result<Arc<Shard>, Error> {
        if self.is_closed {
            return Err(Error::CoordinatorNotAvailable);
        }
        let new = || Arc::new(Shard::new(partition));
        Ok(Arc::clone(self.by_partition.entry(partition).or_insert_with(new)))
    }
}

#[cfg(test)]
mod tests;

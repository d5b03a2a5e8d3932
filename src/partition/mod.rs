//! One partition: what is appended to it, what may be read of it, and what is remembered about it.
//!
//! `api` appends and reads, `group` appends to and loads its internal topic, `broker` creates,
//! closes, trims, checkpoints and replays. A partition owns its offsets, watermarks, leader epochs,
//! producer states, the sparse index into the WAL and the list of its batches in memory; the bytes
//! themselves are the WAL's.
//!
//! ```text
//!   log start          tail start            high watermark       log end
//!      │                   │                       │                 │
//!  ────┴───────────────────┴───────────────────────┴─────────────────┴──▶ offsets
//!      │    WAL files      │  WAL blocks in memory │   in flight     │
//!      │  index: offset →  │  chunks: one slice    │ reserved, maybe │
//!      │  file, positions  │  per batch            │ still copied    │
//! ```
//!
//! **Invariants**
//! - Offset order is LSN order: both are given under the partition's lock, which is a plain mutex
//!   and never held across an await, a file read or a copy of a batch.
//! - Nothing above the high watermark is shown to anybody, and the high watermark covers durable
//!   batches only. It is derived when somebody reads, not pushed.
//! - The chunks in memory are a gapless suffix of the log; whatever lies below is in the index.
//! - State changes only by records of the WAL and by its checkpoint: replay of the records after a
//!   checkpoint gives the state again. Replay applies and never validates.
//!
//! Deliberately absent: a task, a timer, a file descriptor or a metric series per partition. An
//! idle partition is a struct of about 1 KiB; what ages (producers, retention) is asked for by the
//! broker's housekeeping.

mod append;
mod checkpoint;
pub mod cleaner;
mod disk;
mod epochs;
mod index;
mod lookup;
mod metrics;
mod objects;
mod producers;
mod read;
pub mod record;
mod registry;
mod replay;
mod restore;
mod retention;
mod state;
#[cfg(test)]
mod tests;
mod tier_commit;
mod tier_lookup;
mod tier_read;
mod tiered;
mod traffic;
mod wait;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use append::{AppendError, AppendRequest, Appended};
pub use checkpoint::{CheckpointError, PartView};
pub use disk::{LogError, ReadMemory};
pub use lookup::{FoundOffset, LookupError, MAX_DECOMPRESSED_BYTES, Room};
pub use metrics::Metrics;
pub use objects::{Garbage, Objects};
pub use producers::{MAX_PRODUCERS, WINDOW};
pub use read::{
    DiskRead, Isolation, LaterRead, OffsetOutOfRange, Plan, ReadError, ReadPiece, ReadPlan,
    ReadRequest,
};
pub use registry::{OldestNeeded, Partitions};
pub use replay::{Replay, ReplayError, ReplayedRecord};
pub use restore::{Recorded, part_log_clock};
pub use retention::{LogStartError, RetentionLimits};
pub use tier_commit::{CommitTierError, Untiered, WalSpan};
pub use tier_lookup::{Look, Lookup, TimeQuery};
pub use tier_read::{TierRead, TierStep};
pub use tiered::{TierChange, TierKind, TierRef, TierRefId};
pub use traffic::{Behind, Holdings, Traffic};
pub use wait::FetchWait;

use crate::budget::BytePool;
use crate::protocol::types::TopicPartition;
use crate::wal::{Lsn, Owner, Stream};
use state::State;
use traffic::Counters;
use wait::{Waiter, Waiting};

/// What all partitions of a broker share.
#[derive(Debug)]
pub struct Shared {
    /// The WAL that holds their batches.
    pub stream: Stream,
    /// The room's metrics.
    pub metrics: Arc<Metrics>,
    /// What the partitions remember of their producers is charged here.
    pub producers: BytePool,
    /// The tiered objects that the partitions refer to.
    pub objects: Arc<Objects>,
}

/// A partition of a topic's incarnation.
pub struct Partition {
    of: TopicPartition,
    shared: Arc<Shared>,
    /// Stands for the partition in the WAL.
    owner: Arc<dyn Owner>,
    /// Whether [`State::waiting`] has entries, so that a durable group costs other partitions no
    /// lock. Written under the lock.
    has_waiters: AtomicBool,
    counters: Counters,
    state: Mutex<State>,
}

/// A partition's offsets at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset that may be read.
    pub log_start: i64,
    /// The first offset that is not durable; readers stop before it.
    pub high_watermark: i64,
    /// Where readers of committed records stop. Without transactions it is the high watermark.
    pub last_stable: i64,
    /// The offset of the next record that is appended.
    pub log_end: i64,
}

impl Partition {
    /// An empty partition.
    fn new(of: TopicPartition, shared: &Arc<Shared>, leader_epoch: i32) -> Arc<Self> {
        Arc::new_cyclic(|partition| Self {
            of,
            shared: Arc::clone(shared),
            owner: Arc::new(InWal { partition: Weak::clone(partition) }),
            has_waiters: AtomicBool::new(false),
            counters: Counters::default(),
            state: Mutex::new(State::new(leader_epoch, &shared.objects)),
        })
    }

    /// Which partition this is.
    pub fn id(&self) -> TopicPartition {
        self.of
    }

    /// The epoch of the present ownership.
    pub fn leader_epoch(&self) -> i32 {
        self.lock().leader_epoch
    }

    /// Sets the epoch of a new ownership; a lower one than the present is ignored.
    pub fn set_leader_epoch(&self, epoch: i32) {
        let mut state = self.lock();
        state.leader_epoch = state.leader_epoch.max(epoch);
    }

    /// The offsets now.
    pub fn offsets(&self) -> Offsets {
        let state = self.lock_advanced();
        Offsets {
            log_start: state.log_start(),
            high_watermark: state.high_watermark(),
            last_stable: state.high_watermark(),
            log_end: state.log_end(),
        }
    }

    /// Bytes of the batches from the log start on (`DescribeLogDirs`), in the bucket and behind;
    /// what holds the log start counts whole.
    pub fn size_bytes(&self) -> u64 {
        let state = self.lock_advanced();
        state.tier().bytes() + state.untiered().0
    }

    /// The largest leader epoch that is not above `epoch`, and the offset where it ends
    /// (`OffsetForLeaderEpoch`, KIP-320); `None` for an epoch that is not known. The newest epoch
    /// ends at the high watermark, since nobody was shown more.
    pub fn epoch_end_offset(&self, epoch: i32) -> Option<(i32, i64)> {
        let state = self.lock_advanced();
        state.epochs.end_offset(epoch, state.leader_epoch, state.high_watermark())
    }

    /// The leader epoch that the record at `offset` was written in; `None` where it is not known.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.lock().epochs.epoch_of(offset)
    }

    /// How many idempotent producers the partition knows.
    pub fn producer_count(&self) -> usize {
        self.lock().producers.len()
    }

    /// Forgets producers that have not appended for `expiration_ms` of the log clock; returns how
    /// many. The broker's housekeeping calls it.
    pub fn expire_producers(&self, expiration_ms: i64) -> usize {
        let now_ms = self.shared.stream.log_clock().now_ms();
        let expired = self.lock().producers.expire(now_ms, expiration_ms);
        self.shared.metrics.expired_producers.inc_by(expired as u64);
        expired
    }

    /// Takes nothing more: the topic was deleted. Appends find it closed, waiting requests wake.
    /// What was reserved before is still written, and skipped by replay.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // The metadata has said so, so no record has to.
        state.drop_tier();
        for waiting in state.waiting.values() {
            waiting.waiter.fire();
        }
    }

    /// Whether the partition was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only be a bug; the other partitions go on, and this one's
        // state changes only in steps that are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with its watermarks up to date.
    fn lock_advanced(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.advance(self.shared.stream.durable());
        state
    }

    /// Takes a waiting request in, and tells it what it missed since it read; a second place at the
    /// same partition it does not get. Costs the same however many wait.
    fn add_waiter(&self, mut waiting: Waiting) {
        let mut state = self.lock();
        self.has_waiters.store(true, Ordering::Relaxed);
        // Either the WAL's thread sees the flag, or this sees the LSN that it published before it
        // looked at the flag.
        fence(Ordering::SeqCst);
        state.advance(self.shared.stream.durable());
        waiting.tell(state.readable_bytes());
        if state.closed {
            waiting.waiter.fire();
        }
        state.waiting.insert(waiting.key(), waiting);
    }

    fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        let mut state = self.lock();
        state.waiting.remove(&waiter.key());
        if state.waiting.is_empty() {
            state.waiting = HashMap::new();
            self.has_waiters.store(false, Ordering::Relaxed);
        } else if state.waiting.len() < state.waiting.capacity() / 8 {
            // Every group walks over the places too that are free.
            let left = state.waiting.len();
            state.waiting.shrink_to(2 * left);
        }
    }

    /// Tells waiting requests what has become readable, if there are any.
    fn wake_waiters(&self, durable: Lsn) {
        fence(Ordering::SeqCst);
        if self.has_waiters.load(Ordering::Relaxed) {
            let mut state = self.lock();
            state.advance(durable);
            state.wake();
        }
    }
}

/// A partition as the owner of its records in the WAL. The WAL's blocks keep it for as long as they
/// have its records in memory; the partition, which holds the WAL, may go before.
#[derive(Debug)]
struct InWal {
    partition: Weak<Partition>,
}

impl Owner for InWal {
    fn durable(&self, durable: Lsn) {
        if let Some(partition) = self.partition.upgrade() {
            partition.wake_waiters(durable);
        }
    }

    fn evict(&self, upto: Lsn) {
        if let Some(partition) = self.partition.upgrade() {
            partition.lock().evict(upto);
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({})", self.of)
    }
}

//! The byte budget (DESIGN D10): every byte that a peer can make the process hold is charged to a
//! pool with a fixed capacity, and whoever finds its pool empty waits or is refused.
//!
//! **Invariant:** pools are taken in one order, receive → unpack → WAL in flight → tail → send →
//! footers → chunks, so that nobody waits for a pool while holding a later one. Upload, recovery,
//! small requests and groups have pools that nothing else can drain; nobody waits for the pools of
//! groups, of producers and of fetch sessions.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Requests up to this size are charged to [`Pool::Small`].
pub const SMALL_REQUEST_BYTES: usize = 64 * 1024;

/// Responses below this are charged to no pool: of the 64 requests that a connection may have in
/// flight they are 64 KiB, about as much as its read buffer, and most responses of a busy broker
/// (Produce, Heartbeat, `OffsetCommit`) stay below it.
pub const UNCHARGED_RESPONSE_BYTES: usize = 1024;

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Frames of up to 64 KiB while they are read and handled.
    Small,
    /// Larger frames while they are read and handled.
    Receive,
    /// What batches decompress to that the broker looks into.
    Unpack,
    /// Records between their reservation in a WAL group and the group's sync.
    Wal,
    /// Blocks of durable WAL groups kept in memory for readers at the tail.
    Tail,
    /// Bytes that only a response still holds.
    Send,
    /// What fetch sessions remember between requests.
    Sessions,
    /// Footers of tiered objects.
    Footers,
    /// Chunks of tiered objects for readers of young data, kept and on their way.
    Hot,
    /// The same for readers that catch up.
    CatchUp,
    /// The keys that compaction reads, for as long as a pass takes. Its only user never waits.
    Cleaner,
    /// Bytes on their way to the bucket.
    Upload,
    /// Replay and loading of coordinator partitions.
    Recovery,
    /// What partitions remember of idempotent producers. Never waited for: those that were silent
    /// longest are forgotten.
    Producers,
    /// What groups keep for as long as they live: members with their metadata and assignments, and
    /// committed offsets. Never waited for.
    Groups,
}

impl Pool {
    /// Every pool, in the order in which pools are taken.
    pub const ALL: [Pool; 15] = [
        Pool::Small,
        Pool::Receive,
        Pool::Unpack,
        Pool::Wal,
        Pool::Tail,
        Pool::Send,
        Pool::Sessions,
        Pool::Footers,
        Pool::Hot,
        Pool::CatchUp,
        Pool::Cleaner,
        Pool::Upload,
        Pool::Recovery,
        Pool::Producers,
        Pool::Groups,
    ];

    /// The pool's name as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Pool::Small => "small",
            Pool::Receive => "receive",
            Pool::Unpack => "unpack",
            Pool::Wal => "wal",
            Pool::Tail => "tail",
            Pool::Send => "send",
            Pool::Sessions => "sessions",
            Pool::Footers => "footers",
            Pool::Hot => "hot",
            Pool::CatchUp => "catch_up",
            Pool::Cleaner => "cleaner",
            Pool::Upload => "upload",
            Pool::Recovery => "recovery",
            Pool::Producers => "producers",
            Pool::Groups => "groups",
        }
    }

    /// The pool's part of the whole budget, in 64ths.
    fn share(self) -> usize {
        match self {
            Pool::Small | Pool::Unpack => 4,
            Pool::Receive | Pool::Wal => 10,
            // What does not fit into the tail is read from the log instead.
            Pool::Tail | Pool::Send => 7,
            Pool::Upload => 6,
            Pool::Groups => 3,
            Pool::Sessions
            | Pool::Hot
            | Pool::CatchUp
            | Pool::Cleaner
            | Pool::Recovery
            | Pool::Producers => 2,
            Pool::Footers => 1,
        }
    }
}

/// More was asked for than the pool can ever hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes are more than the {pool} pool's {capacity} bytes; raise memory.budget.bytes"
)]
pub struct TooLarge {
    /// The pool's name.
    pub pool: &'static str,
    /// What was asked for.
    pub bytes: usize,
    /// What the pool holds at most.
    pub capacity: usize,
}

/// The process's memory budget, split into pools.
#[derive(Debug, Clone)]
pub struct Budget {
    pools: [BytePool; 15],
}

impl Budget {
    /// Splits `total` bytes over the pools.
    pub fn new(total: usize) -> Self {
        let pools = Pool::ALL.map(|pool| BytePool::new(pool, total / 64 * pool.share()));
        Self { pools }
    }

    /// Splits `total` bytes over what a proxy has: requests that are read, and responses.
    pub fn of_proxy(total: usize) -> Self {
        let share = |pool| match pool {
            Pool::Small => 8,
            Pool::Receive => 24,
            Pool::Send => 32,
            _ => 0,
        };
        let pools = Pool::ALL.map(|pool| BytePool::new(pool, total / 64 * share(pool)));
        Self { pools }
    }

    /// One pool.
    pub fn pool(&self, pool: Pool) -> &BytePool {
        self.pools
            .iter()
            .find(|candidate| candidate.shared.pool == pool)
            .expect("Pool::ALL lists every pool")
    }

    /// Every pool, for metrics.
    pub fn pools(&self) -> &[BytePool] {
        &self.pools
    }
}

/// A pool of bytes: first come, first served. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BytePool {
    free: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// What the clones of a pool share beside its bytes: a connection holds several pools.
#[derive(Debug)]
struct Shared {
    pool: Pool,
    capacity: usize,
    /// What is held beyond the capacity.
    owed: AtomicUsize,
    /// Told whenever somebody begins to wait.
    wanted: Notify,
}

impl BytePool {
    /// A pool of `capacity` bytes (at most 4 GiB - 1, the most one charge can be).
    pub fn new(pool: Pool, capacity: usize) -> Self {
        let capacity = capacity.min(u32::MAX as usize);
        let shared = Shared { pool, capacity, owed: AtomicUsize::new(0), wanted: Notify::new() };
        Self { free: Arc::new(Semaphore::new(capacity)), shared: Arc::new(shared) }
    }

    /// The pool's name as a metric label.
    pub fn name(&self) -> &'static str {
        self.shared.pool.name()
    }

    /// What the pool holds at most.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// What is charged now.
    pub fn used(&self) -> usize {
        self.capacity() - self.free.available_permits()
    }

    /// Whether nothing is left. It is so whenever somebody waits: what comes free goes to them.
    pub fn is_exhausted(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Ends when somebody waits for this pool: for those who hold a charge without being at work,
    /// and can be done early.
    pub async fn wanted(&self) {
        let mut wanted = std::pin::pin!(self.shared.wanted.notified());
        // Registered before the look, so that nobody who comes after it is missed.
        wanted.as_mut().enable();
        if !self.is_exhausted() {
            wanted.await;
        }
    }

    /// Charges `bytes` if they are free now and nobody waits.
    pub fn try_take(&self, bytes: usize) -> Option<Charge> {
        let permits = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(permits).ok()?;
        Some(Charge { permit: Some(permit), bytes, owed: None })
    }

    /// Charges `bytes` without waiting. What is not free is owed until the charge is dropped, and
    /// whoever frees the pool sees it.
    pub fn take_or_owe(&self, bytes: usize) -> Charge {
        let owe = || {
            self.shared.owed.fetch_add(bytes, Ordering::Relaxed);
            let owed = Owed { bytes, to: Arc::clone(&self.shared) };
            Charge { owed: Some(Box::new(owed)), ..Charge::none() }
        };
        self.try_take(bytes).unwrap_or_else(owe)
    }

    /// What [`BytePool::take_or_owe`] found no room for and is still held.
    pub fn owed(&self) -> usize {
        self.shared.owed.load(Ordering::Relaxed)
    }

    /// Waits for `bytes`, or for all the pool has if that is less: for what must be possible in the
    /// smallest budget too. Whoever waits must hold nothing of this pool.
    pub async fn take_up_to(&self, bytes: usize) -> Charge {
        self.take(bytes.min(self.capacity()))
            .await
            .expect("no more is asked for than the pool holds")
    }

    /// Waits for `bytes`. Cancelling the wait gives up the place in the queue and charges nothing.
    pub async fn take(&self, bytes: usize) -> Result<Charge, TooLarge> {
        let too_large = TooLarge { pool: self.name(), bytes, capacity: self.capacity() };
        if bytes > self.capacity() {
            return Err(too_large);
        }
        let permits = u32::try_from(bytes).map_err(|_| too_large)?;
        let mut permit = std::pin::pin!(Arc::clone(&self.free).acquire_many_owned(permits));
        let now = poll_fn(|task| Poll::Ready(permit.as_mut().poll(task))).await;
        let permit = match now {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                self.shared.wanted.notify_waiters();
                permit.await
            }
        };
        let permit = permit.expect("the semaphore is never closed");
        Ok(Charge { permit: Some(permit), bytes, owed: None })
    }
}

/// Bytes charged to a pool until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
    /// Boxed, because hardly any charge has it.
    owed: Option<Box<Owed>>,
}

/// Bytes held beyond a pool's capacity until this is dropped.
#[derive(Debug)]
struct Owed {
    bytes: usize,
    to: Arc<Shared>,
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.to.owed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Charge {
    /// A charge of nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// How much is charged, without what is owed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` of this charge as a charge of its own; `None` if this holds less.
    pub fn split(&mut self, bytes: usize) -> Option<Charge> {
        if bytes == 0 {
            return Some(Charge::none());
        }
        let permit = self.permit.as_mut()?.split(bytes)?;
        self.bytes -= bytes;
        Some(Charge { permit: Some(permit), bytes, owed: None })
    }

    /// Adds another charge of the same pool.
    pub fn merge(&mut self, other: Charge) {
        self.bytes += other.bytes;
        match (&mut self.permit, other.permit) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
        match (&mut self.owed, other.owed) {
            (Some(mine), Some(mut theirs)) => mine.bytes += std::mem::take(&mut theirs.bytes),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_charge_is_returned_when_its_last_part_is_dropped() {
        let pool = BytePool::new(Pool::Receive, 100);
        let mut charge = pool.take(80).await.unwrap();
        let part = charge.split(30).unwrap();
        assert!(pool.try_take(21).is_none());
        drop(charge);
        assert_eq!(pool.used(), 30);
        drop(part);
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn more_than_the_capacity_is_refused_at_once() {
        let pool = BytePool::new(Pool::Wal, 100);
        assert_eq!(pool.take(101).await.unwrap_err().capacity, 100);
        assert!(pool.try_take(usize::MAX).is_none());
    }

    #[tokio::test]
    async fn who_waits_is_heard_by_who_holds_before_or_after() {
        let pool = BytePool::new(Pool::Receive, 100);
        let held = pool.take(60).await.unwrap();
        let mut before = std::pin::pin!(pool.wanted());
        assert!(before.as_mut().now_or_never().is_none(), "40 bytes are free");
        drop(pool.take(40).await.unwrap());
        assert!(before.as_mut().now_or_never().is_none(), "nobody had to wait");
        let mut waiting = std::pin::pin!(pool.take(50));
        assert!(waiting.as_mut().now_or_never().is_none());
        before.await;
        pool.wanted().await;
        drop(held);
        assert_eq!(waiting.await.unwrap().bytes(), 50);
    }

    #[test]
    fn what_is_not_free_is_owed_until_its_last_part_is_dropped() {
        let pool = BytePool::new(Pool::Send, 100);
        let mut held = pool.take_or_owe(80);
        assert_eq!((held.bytes(), pool.used(), pool.owed()), (80, 80, 0));
        let more = pool.take_or_owe(30);
        assert_eq!((more.bytes(), pool.used(), pool.owed()), (0, 80, 30));
        held.merge(more);
        held.merge(pool.take_or_owe(25));
        drop(held.split(80).unwrap());
        assert_eq!((pool.used(), pool.owed()), (0, 55));
        drop(held);
        assert_eq!(pool.owed(), 0);
    }

    #[tokio::test]
    async fn more_than_the_capacity_takes_all_and_a_waiter_exhausts_the_pool() {
        let pool = BytePool::new(Pool::Send, 100);
        let held = pool.take(10).await.unwrap();
        let mut waiting = std::pin::pin!(pool.take_up_to(1_000));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(pool.is_exhausted(), "what is free is kept for the one who waits");
        drop(held);
        assert_eq!(waiting.await.bytes(), 100);
    }

    #[test]
    fn the_pools_together_stay_within_the_budget() {
        let budget = Budget::new(64 << 20);
        let total: usize = budget.pools().iter().map(BytePool::capacity).sum();
        assert_eq!(total, 64 << 20);
        let budget = Budget::of_proxy(64 << 20);
        let total: usize = budget.pools().iter().map(BytePool::capacity).sum();
        assert_eq!(total, 64 << 20);
    }
}

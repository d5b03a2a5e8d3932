//! The durable LSN and who waits for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::CancellationToken;

use super::Lsn;

/// The log takes nothing any more: a sync failed, an appender panicked, or it was closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the write-ahead log has stopped: {reason}")]
pub struct Poisoned {
    /// What happened.
    pub reason: Arc<str>,
}

/// The greatest LSN up to which everything is durable, and the tasks that wait for more.
#[derive(Debug)]
pub(super) struct Durable {
    /// Written by the WAL thread alone.
    lsn: AtomicU64,
    /// Up to here everything is synced; behind `lsn` only with `wal.sync=interval`. Written by the
    /// WAL thread alone.
    synced: AtomicU64,
    /// Set once; nothing is published afterwards.
    poison: OnceLock<Poisoned>,
    /// Cancelled with the poison, for the process to listen to.
    poisoned: CancellationToken,
    waiting: Mutex<Waiting>,
    /// For threads that wait without a task.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    /// By the LSN waited for, so that a publication splits off its waiters in one step.
    wakers: BTreeMap<(Lsn, u64), Waker>,
}

impl Durable {
    pub(super) fn new(lsn: Lsn) -> Arc<Self> {
        Arc::new(Self {
            lsn: AtomicU64::new(lsn.0),
            synced: AtomicU64::new(lsn.0),
            poison: OnceLock::new(),
            poisoned: CancellationToken::new(),
            waiting: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    pub(super) fn synced(&self) -> Lsn {
        Lsn(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn set_synced(&self, lsn: Lsn) {
        let _waiting = self.lock();
        self.synced.store(lsn.0, Ordering::Release);
        self.moved.notify_all();
    }

    pub(super) fn poison(&self) -> Option<Poisoned> {
        self.poison.get().cloned()
    }

    pub(super) fn poisoned(&self) -> CancellationToken {
        self.poisoned.clone()
    }

    /// Moves the durable LSN without waking anybody; false once poisoned.
    pub(super) fn advance(&self, lsn: Lsn) -> bool {
        // Under the lock, so that a waiter either sees the new value or is in the map.
        let _waiting = self.lock();
        if self.poison.get().is_some() {
            return false;
        }
        self.lsn.fetch_max(lsn.0, Ordering::AcqRel);
        true
    }

    /// Wakes those whose LSN is durable, each task once.
    pub(super) fn wake(&self) {
        let done = {
            let mut waiting = self.lock();
            let first_left = (Lsn(self.lsn().0 + 1), 0);
            let left = waiting.wakers.split_off(&first_left);
            std::mem::replace(&mut waiting.wakers, left)
        };
        self.moved.notify_all();
        let mut last: Option<Waker> = None;
        for waker in done.into_values() {
            if last.as_ref().is_some_and(|last| last.will_wake(&waker)) {
                continue;
            }
            if let Some(previous) = last.replace(waker) {
                previous.wake();
            }
        }
        if let Some(waker) = last {
            waker.wake();
        }
    }

    /// Stops the log for good and wakes everybody. Only the first reason counts.
    pub(super) fn set_poison(&self, reason: &str) -> bool {
        let (first, everybody) = {
            let mut waiting = self.lock();
            let first = self.poison.set(Poisoned { reason: reason.into() }).is_ok();
            (first, std::mem::take(&mut waiting.wakers))
        };
        self.poisoned.cancel();
        self.moved.notify_all();
        everybody.into_values().for_each(Waker::wake);
        first
    }

    /// Blocks the calling thread until `lsn` is durable.
    pub(super) fn wait_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_until(|| lsn <= self.lsn())
    }

    /// Blocks the calling thread until `lsn` is synced.
    pub(super) fn wait_synced_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_until(|| lsn <= self.synced())
    }

    fn wait_until(&self, reached: impl Fn() -> bool) -> Result<(), Poisoned> {
        let mut waiting = self.lock();
        loop {
            if reached() {
                return Ok(());
            }
            if let Some(poison) = self.poison.get() {
                return Err(poison.clone());
            }
            waiting = self.moved.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when a record is durable, or to [`Poisoned`] when it will never be. Dropping it is
/// safe at any time and gives up nothing but the wait.
#[derive(Debug)]
pub struct WaitDurable {
    durable: Arc<Durable>,
    lsn: Lsn,
    /// The entry in the map of wakers, if there is one.
    id: Option<u64>,
}

impl WaitDurable {
    pub(super) fn new(durable: Arc<Durable>, lsn: Lsn) -> Self {
        Self { durable, lsn, id: None }
    }

    /// The LSN waited for.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Future for WaitDurable {
    type Output = Result<(), Poisoned>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.lsn <= this.durable.lsn() {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = this.durable.lock();
        if this.lsn <= this.durable.lsn() {
            return Poll::Ready(Ok(()));
        }
        if let Some(poison) = this.durable.poison.get() {
            return Poll::Ready(Err(poison.clone()));
        }
        let id = *this.id.get_or_insert_with(|| {
            waiting.next_id += 1;
            waiting.next_id
        });
        waiting
            .wakers
            .entry((this.lsn, id))
            .and_modify(|waker| waker.clone_from(context.waker()))
            .or_insert_with(|| context.waker().clone());
        Poll::Pending
    }
}

impl Drop for WaitDurable {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.durable.lock().wakers.remove(&(self.lsn, id));
        }
    }
}

//! Waiting for records: a Fetch that found too little waits on its partitions and is woken once.
//!
//! **Invariant:** a partition without waiters pays one atomic load per durable group. A waiting
//! request is woken by the group that completes its bytes, however many of its partitions are in
//! it, and not before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::Partition;
use super::metrics::Metrics;

/// What the partitions know of one waiting request.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Bytes still missing.
    missing: AtomicU64,
    fired: AtomicBool,
    waker: AtomicWaker,
}

/// What a waiter is found by at a partition: where it is in memory, which no other is while the
/// partition holds it.
pub(super) type WaiterKey = usize;

/// A waiter at one partition.
#[derive(Debug)]
pub(super) struct Waiting {
    pub waiter: Arc<Waiter>,
    /// The partition's count of readable bytes that the waiter was told of.
    pub seen: u64,
}

impl Waiting {
    pub(super) fn key(&self) -> WaiterKey {
        self.waiter.key()
    }

    /// Tells the waiter how many bytes the partition has that can be read.
    pub(super) fn tell(&mut self, readable_bytes: u64) {
        self.waiter.gained(readable_bytes.saturating_sub(self.seen));
        self.seen = readable_bytes;
    }
}

impl Waiter {
    pub(super) fn key(&self) -> WaiterKey {
        std::ptr::from_ref(self).addr()
    }

    /// More bytes can be read: wakes the request if they are enough.
    pub(super) fn gained(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let subtract = |missing: u64| Some(missing.saturating_sub(bytes));
        let before = self.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, subtract);
        if before.is_ok_and(|missing| missing <= bytes) {
            self.fire();
        }
    }

    /// Wakes the request whatever is missing: a partition was closed.
    pub(super) fn fire(&self) {
        if !self.fired.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// A request that waits for bytes on a set of partitions; resolves when they are there or when one
/// of the partitions is closed. Dropping it takes it off every partition.
///
/// It has no deadline of its own: the caller bounds it by the request's `max_wait_ms`.
#[derive(Debug)]
pub struct FetchWait {
    waiter: Arc<Waiter>,
    partitions: Vec<Arc<Partition>>,
    metrics: Arc<Metrics>,
}

impl FetchWait {
    /// Waits until `partitions` have `missing` more bytes below their high watermarks than when
    /// they were read. The number beside each is [`super::ReadPlan::mark`] of that read, so that
    /// what came between the read and this call counts.
    pub fn new(
        metrics: &Arc<Metrics>,
        partitions: impl IntoIterator<Item = (Arc<Partition>, u64)>,
        missing: u64,
    ) -> Self {
        let waiter = Arc::new(Waiter {
            missing: AtomicU64::new(missing.max(1)),
            fired: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let partitions = partitions
            .into_iter()
            .map(|(partition, mark)| {
                partition.add_waiter(Waiting { waiter: Arc::clone(&waiter), seen: mark });
                partition
            })
            .collect();
        metrics.waiters.inc();
        Self { waiter, partitions, metrics: Arc::clone(metrics) }
    }
}

impl Future for FetchWait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.waiter.waker.register(context.waker());
        if self.waiter.fired.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for FetchWait {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.remove_waiter(&self.waiter);
        }
        self.metrics.waiters.dec();
    }
}

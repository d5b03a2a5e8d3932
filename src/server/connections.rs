//! The connections that are open: how many, from where, and how fast each one moves its bytes, so
//! that the slowest can be closed when memory is short (DESIGN D10).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::cause::Refusal;
use crate::budget::UNCHARGED_RESPONSE_BYTES;
use crate::clock::{Clock, Instant};

/// A transfer younger than this is not judged: a burst is not a stall.
const RECEIVE_GRACE_MS: u64 = 1_000;
/// How long a peer has for a response before its speed is judged: shorter, because what it holds is
/// memory that the log has already given to others.
const SEND_GRACE_MS: u64 = 250;
/// Rates are of about so long: a peer that was fast and stopped is soon as slow as one that never
/// moved. At least twice either grace.
const WINDOW_MS: u64 = 2_000;
/// What every peer is taken to have moved of its responses beside what it did: of peers that do not
/// move, those that hold little are closed last. They free little, and may only be owed a small
/// response behind one that waits for records.
const SEND_ALLOWANCE: u64 = 16 * 1024;

/// The open connections of a process.
///
/// Made before the door, so that whoever charges the send pool can hold it and call
/// [`Connections::relieve`] when the pool is full.
#[derive(Debug)]
pub struct Connections {
    clock: Clock,
    epoch: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    open: HashMap<u64, Arc<Entry>>,
    per_address: HashMap<IpAddr, usize>,
}

/// What a connection is receiving, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing, or whole frames.
    None,
    /// A part of a small frame, charged to the small pool.
    Small,
    /// The first 64 KiB of a large frame, in one of the slots for that.
    Prefix,
    /// A large frame, charged in full to the receive pool.
    Large,
}

/// One transfer in progress: the bytes held for it, since when, and the bytes moved since then. Of
/// a long transfer only about the last two seconds count.
#[derive(Debug, Default)]
pub(super) struct Flow {
    held: AtomicU64,
    since_ms: AtomicU64,
    moved: AtomicU64,
}

impl Flow {
    /// Bytes moved.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes the transfer holds now; the first call of a transfer starts its time.
    pub(super) fn hold(&self, bytes: usize, now_ms: u64) {
        if self.held.swap(bytes as u64, Ordering::Relaxed) == 0 {
            self.since_ms.store(now_ms, Ordering::Relaxed);
            self.moved.store(0, Ordering::Relaxed);
            return;
        }
        let age = now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed));
        if age >= WINDOW_MS {
            // The rate stays what it was and weighs half against what comes.
            let kept = WINDOW_MS / 2;
            let moved = u128::from(self.moved.load(Ordering::Relaxed)) * u128::from(kept);
            self.moved.store((moved / u128::from(age)) as u64, Ordering::Relaxed);
            self.since_ms.store(now_ms - kept, Ordering::Relaxed);
        }
    }

    /// The transfer is over.
    pub(super) fn end(&self) {
        self.held.store(0, Ordering::Relaxed);
    }

    /// Bytes held, and how many billionths of them are moved in a millisecond with `allowance`
    /// bytes moved for nothing; if the transfer is older than `grace_ms`.
    fn judge(&self, now_ms: u64, grace_ms: u64, allowance: u64) -> Option<(u64, u64)> {
        let held = self.held.load(Ordering::Relaxed);
        let age = now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed));
        if held == 0 || age < grace_ms {
            return None;
        }
        let moved = u128::from(self.moved.load(Ordering::Relaxed)) + u128::from(allowance);
        let share = moved * 1_000_000_000 / (u128::from(age) * u128::from(held));
        Some((held, u64::try_from(share).unwrap_or(u64::MAX)))
    }
}

/// One connection as the others see it. Its own task writes all but `close`.
#[derive(Debug)]
pub(super) struct Entry {
    /// Response bytes that the connection keeps for the socket, also those of responses that wait
    /// for an earlier one.
    pub(super) send: Flow,
    /// The frame that is not complete.
    pub(super) receive: Flow,
    stage: AtomicU8,
    closed: AtomicU8,
    close: Notify,
}

impl Entry {
    fn new() -> Self {
        Self {
            send: Flow::default(),
            receive: Flow::default(),
            stage: AtomicU8::new(Stage::None as u8),
            closed: AtomicU8::new(0),
            close: Notify::new(),
        }
    }

    /// What the connection is receiving from now on.
    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Resolves when the connection has been chosen to make room.
    pub(super) async fn relieved(&self) {
        self.close.notified().await;
    }
}

/// A place among the open connections, given back on drop.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Connections>,
    address: IpAddr,
    /// The connection's number, unique in the process.
    pub(super) id: u64,
    /// What the others see of it.
    pub(super) entry: Arc<Entry>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inner = self.connections.lock();
        inner.open.remove(&self.id);
        if let Some(count) = inner.per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inner.per_address.remove(&self.address);
            }
        }
    }
}

impl Connections {
    /// No connection yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        let epoch = clock.now();
        Arc::new(Self { clock, epoch, inner: Mutex::default() })
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Makes room in the send pool: closes the connections whose peers take their responses most
    /// slowly, for what they hold, until those hold `bytes` together. Returns how many bytes the
    /// closed ones held; 0 when every peer with bytes waiting has had them for less than a quarter
    /// of a second. A connection that holds less than is ever charged is left alone.
    pub fn relieve(&self, bytes: usize) -> usize {
        self.close_slowest(bytes, |entry, now_ms| {
            let judged = entry.send.judge(now_ms, SEND_GRACE_MS, SEND_ALLOWANCE);
            judged.filter(|(held, _)| *held >= UNCHARGED_RESPONSE_BYTES as u64)
        })
    }

    /// As [`Connections::relieve`], for frames that are being received in `stage`.
    pub(super) fn relieve_receive(&self, stage: Stage, bytes: usize) -> usize {
        self.close_slowest(bytes, |entry, now_ms| {
            (entry.stage.load(Ordering::Relaxed) == stage as u8)
                .then(|| entry.receive.judge(now_ms, RECEIVE_GRACE_MS, 0))
                .flatten()
        })
    }

    /// Milliseconds since this was made.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now().duration_since(self.epoch).as_millis() as u64
    }

    /// A place for a connection from `address`.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        max: usize,
        max_per_address: usize,
    ) -> Result<Admission, Refusal> {
        let address = address.to_canonical();
        let mut inner = self.lock();
        if inner.open.len() >= max {
            return Err(Refusal::Connections(max));
        }
        let count = inner.per_address.get(&address).copied().unwrap_or(0);
        if count >= max_per_address {
            return Err(Refusal::PerAddress(max_per_address));
        }
        inner.per_address.insert(address, count + 1);
        let id = inner.next_id;
        inner.next_id += 1;
        let entry = Arc::new(Entry::new());
        inner.open.insert(id, Arc::clone(&entry));
        Ok(Admission { connections: Arc::clone(self), address, id, entry })
    }

    fn close_slowest(
        &self,
        bytes: usize,
        judge: impl Fn(&Entry, u64) -> Option<(u64, u64)>,
    ) -> usize {
        let now_ms = self.now_ms();
        let mut candidates: Vec<(u64, u64, Arc<Entry>)> = self
            .lock()
            .open
            .values()
            .filter(|entry| entry.closed.load(Ordering::Relaxed) == 0)
            .filter_map(|entry| {
                judge(entry, now_ms).map(|(held, share)| (share, held, Arc::clone(entry)))
            })
            .collect();
        candidates.sort_unstable_by_key(|(share, held, _)| (*share, std::cmp::Reverse(*held)));
        let mut freed = 0_usize;
        for (_, held, entry) in candidates {
            if freed >= bytes {
                break;
            }
            entry.closed.store(1, Ordering::Relaxed);
            entry.close.notify_one();
            freed = freed.saturating_add(held as usize);
        }
        freed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn limits_hold_in_all_and_per_address_and_places_come_back() {
        let connections = Connections::new(Clock::system());
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let first = connections.admit(HOME, 3, 1).unwrap();
        assert_eq!(connections.admit(mapped, 3, 1).unwrap_err(), Refusal::PerAddress(1));
        let second = connections.admit(other, 3, 1).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(connections.admit(HOME, 2, 9).unwrap_err(), Refusal::Connections(2));
        drop(first);
        assert_eq!(connections.open(), 1);
        connections.admit(HOME, 2, 1).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn relief_closes_the_slowest_first_and_only_as_many_as_needed() {
        let clock = Clock::system();
        let connections = Connections::new(clock.clone());
        let stalled = connections.admit(HOME, 9, 9).unwrap();
        let slow = connections.admit(HOME, 9, 9).unwrap();
        let fast = connections.admit(HOME, 9, 9).unwrap();
        for (admission, moved) in [(&fast, 1_000_000), (&slow, 1_000), (&stalled, 0)] {
            admission.entry.send.hold(10_000, connections.now_ms());
            admission.entry.send.moved(moved);
        }
        assert_eq!(connections.relieve(1), 0, "a burst is not judged");
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(connections.relieve(15_000), 20_000);
        stalled.entry.relieved().await;
        slow.entry.relieved().await;
        assert_eq!(connections.relieve(1), 10_000, "those chosen before are not counted again");
        fast.entry.relieved().await;
    }

    #[tokio::test(start_paused = true)]
    async fn relief_closes_a_slow_reader_of_much_before_peers_that_hold_little() {
        let clock = Clock::system();
        let connections = Connections::new(clock.clone());
        let nothing = connections.admit(HOME, 9, 9).unwrap();
        let little = connections.admit(HOME, 9, 9).unwrap();
        let slow = connections.admit(HOME, 9, 9).unwrap();
        nothing.entry.send.hold(UNCHARGED_RESPONSE_BYTES - 1, 0);
        little.entry.send.hold(2_000, 0);
        slow.entry.send.hold(1 << 20, 0);
        slow.entry.send.moved(50_000);
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(connections.relieve(1), 1 << 20);
        slow.entry.relieved().await;
        assert_eq!(connections.relieve(1), 2_000);
        little.entry.relieved().await;
        assert_eq!(connections.relieve(1), 0, "it frees nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_was_fast_and_stopped_is_slower_than_one_that_goes_on() {
        let clock = Clock::system();
        let connections = Connections::new(clock.clone());
        let stopped = connections.admit(HOME, 9, 9).unwrap();
        let steady = connections.admit(HOME, 9, 9).unwrap();
        for second in 0..200 {
            for (admission, bytes) in [(&stopped, 10_000_000), (&steady, 1_000_000)] {
                if second < 160 || bytes == 1_000_000 {
                    admission.entry.send.moved(bytes);
                    admission.entry.send.hold(1 << 20, connections.now_ms());
                }
            }
            clock.sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(connections.relieve(1), 1 << 20);
        stopped.entry.relieved().await;
    }

    #[tokio::test(start_paused = true)]
    async fn relief_of_received_bytes_looks_at_one_stage() {
        let clock = Clock::system();
        let connections = Connections::new(clock.clone());
        let small = connections.admit(HOME, 9, 9).unwrap();
        let large = connections.admit(HOME, 9, 9).unwrap();
        small.entry.set_stage(Stage::Small);
        large.entry.set_stage(Stage::Large);
        small.entry.receive.hold(7, 0);
        large.entry.receive.hold(9, 0);
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(connections.relieve_receive(Stage::Large, 100), 9);
        large.entry.relieved().await;
        small.entry.receive.end();
        assert_eq!(connections.relieve_receive(Stage::Small, 100), 0);
    }
}

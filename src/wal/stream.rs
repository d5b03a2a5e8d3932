//! The handle through which everything is appended and read.

mod reserve;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::admission::{Admission, AdmitError, ReserveError, RoomError};
use super::block::Blocks;
use super::disk::{Disk, LockGuard, Space};
use super::durable::{Durable, Poisoned, WaitDurable};
use super::format::RECORD_HEADER;
use super::group::Reservation;
use super::local::checkpoint::Checkpoints;
use super::metrics::Metrics;
use super::read::{Entry, Files, Pin, ReadError};
use super::room::{Sizes, State};
use super::{Class, FileNumber, Kind, Location, LogClock, Lsn, Owner};
use crate::budget::{Budget, BytePool, Pool};
use crate::clock::{Clock, Instant, Random};

/// Bytes that a record takes in the file beside its payload. They are not charged to the budget.
pub const RECORD_OVERHEAD: usize = RECORD_HEADER;

/// How long a refused growth is not tried again by those who ask for room.
pub(super) const GROWTH_RETRY: Duration = Duration::from_secs(1);

/// How often who waits for a full log looks again at most.
const SPACE_LOOK: Duration = Duration::from_millis(20);

/// A handle to the log; cheap to clone. The log closes when the last one is dropped; see
/// [`Stream::close`] to wait for that.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: Arc<Handle>,
}

/// Ends the log's threads when the last [`Stream`] goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.start_closing();
    }
}

/// What the handles, the threads and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: [u8; 16],
    pub(super) always_sync: bool,
    pub(super) sizes: Sizes,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) metrics: Metrics,
    pub(super) durable: Arc<Durable>,
    pub(super) state: Mutex<State>,
    pub(super) writer_wake: Condvar,
    pub(super) grower_wake: Condvar,
    /// Something about room has changed.
    pub(super) room: Notify,
    pub(super) files: Files,
    pub(super) blocks: Mutex<Blocks>,
    pub(super) metadata_number: AtomicU64,
    /// Gives the append times of groups and checkpoints.
    pub(super) log_clock: LogClock,
    pub(super) wal_pool: BytePool,
    pub(super) checkpoints: Mutex<Checkpoints>,
    /// How many of the log's threads still run.
    pub(super) threads: tokio::sync::watch::Sender<usize>,
    /// The directory's lock: given up when the threads have ended, held by a checkpoint meanwhile.
    pub(super) lock: Mutex<Option<Arc<dyn LockGuard>>>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn synced(&self) -> Lsn {
        self.durable.synced()
    }

    /// Blocks the thread until `lsn` is synced, which is asked for at once.
    pub(super) fn wait_synced_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.durable.wait_blocking(lsn)?;
        if self.synced() < lsn {
            self.state().sync_due = true;
            self.writer_wake.notify_one();
        }
        self.durable.wait_synced_blocking(lsn)
    }

    /// Stops the log for good.
    pub(super) fn poison(&self, reason: &str) {
        if self.durable.set_poison(reason) {
            self.metrics.poisoned();
            tracing::error!(reason, "the write-ahead log has stopped");
        }
        // Under the lock, so that a thread about to wait has either seen the poison or is waiting.
        drop(self.state());
        self.writer_wake.notify_all();
        self.grower_wake.notify_all();
        self.room.notify_waiters();
    }

    fn start_closing(&self) {
        self.state().closing = true;
        self.writer_wake.notify_all();
        self.grower_wake.notify_all();
        self.room.notify_waiters();
    }

    /// The last reader of a file has let go of it.
    pub(super) fn unpinned(&self) {
        self.recycle();
    }

    pub(super) fn closed() -> Poisoned {
        Poisoned { reason: "it was closed".into() }
    }
}

/// Bytes of evicted blocks that responses still hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lingering {
    /// In all.
    pub bytes: usize,
    /// Those that found the send pool full: above 0, the connections that progress least should be
    /// closed.
    pub uncharged: usize,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Takes `bytes` of payload from the WAL pool for a whole request, before any lock. Cancelling
    /// it gives up the place in the queue.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, AdmitError> {
        let shared = self.shared();
        if let Some(poison) = shared.durable.poison() {
            return Err(poison.into());
        }
        let poisoned = shared.durable.poisoned();
        // Whichever branch is dropped has taken nothing.
        tokio::select! {
            biased;
            charge = shared.wal_pool.take(bytes) => Ok(Admission::of(charge?)),
            () = poisoned.cancelled() => {
                Err(shared.durable.poison().unwrap_or_else(Shared::closed).into())
            }
        }
    }

    /// Like [`Stream::admit`], but refuses instead of waiting.
    pub fn try_admit(&self, bytes: usize) -> Option<Admission> {
        let charge = self.shared().wal_pool.try_take(bytes)?;
        Some(Admission::of(charge))
    }

    /// Reserves a record of `len` payload bytes for `owner`: its LSN and its place are fixed here,
    /// in the order of the calls. Never waits beyond a short mutex. On an error nothing has changed
    /// and `admission` is whole.
    ///
    /// `kind` must not be one of the log's own ([`Kind::is_reserved`]).
    pub fn reserve(
        &self,
        admission: &mut Admission,
        class: Class,
        kind: Kind,
        len: usize,
        owner: &Arc<dyn Owner>,
    ) -> Result<Reservation, ReserveError> {
        debug_assert!(!kind.is_reserved(), "kind {} is the log's own", kind.0);
        self.shared().reserve(admission.charge(), class, kind, len, owner)
    }

    /// What everything in the log ages by.
    pub fn log_clock(&self) -> &LogClock {
        &self.shared().log_clock
    }

    /// Waits until a record of `bytes` payload of `class` would find a place (another may take it
    /// first: loop). Waits only while space is being prepared.
    pub async fn wait_for_room(&self, class: Class, bytes: usize) -> Result<(), RoomError> {
        self.shared().wait_for_room(class, bytes).await
    }

    /// As [`Stream::wait_for_room`], but a full log is waited for too, until `deadline`: files may
    /// be given back meanwhile. Whoever waits here should hold nothing of the WAL pool.
    pub async fn wait_for_space(
        &self,
        class: Class,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(), RoomError> {
        let shared = self.shared();
        loop {
            let freed = shared.room.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.wait_for_room(class, bytes).await {
                Err(RoomError::Full { .. }) if shared.clock.now() < deadline => {}
                outcome => return outcome,
            }
            // Told of much else too, so that the look is not made more often than this.
            shared.clock.sleep(SPACE_LOOK).await;
            let _ = shared.clock.timeout_at(deadline, freed).await;
        }
    }

    /// The LSN up to which everything is durable.
    pub fn durable(&self) -> Lsn {
        self.shared().durable.lsn()
    }

    /// The LSN of the last record that was given a place.
    pub fn reserved(&self) -> Lsn {
        self.shared().state().next_lsn.previous()
    }

    /// The LSN up to which everything is synced to the disk. Equals [`Stream::durable`] with
    /// `wal.sync=always`; nothing may leave for the bucket above it in either mode.
    pub fn synced(&self) -> Lsn {
        self.shared().synced()
    }

    /// Resolves when `lsn` is durable.
    pub fn wait_durable(&self, lsn: Lsn) -> WaitDurable {
        WaitDurable::new(Arc::clone(&self.shared().durable), lsn)
    }

    /// Blocks the thread until `lsn` is durable. For threads that may block.
    pub fn wait_durable_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.shared().durable.wait_blocking(lsn)
    }

    /// Why the log has stopped, if it has.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.shared().durable.poison()
    }

    /// Resolves when the log stops for good; the process then exits.
    pub async fn wait_poisoned(&self) -> Poisoned {
        let durable = Arc::clone(&self.shared().durable);
        durable.poisoned().cancelled().await;
        durable.poison().unwrap_or_else(Shared::closed)
    }

    /// Keeps `file` from being used again while the pin is held, and reads from it.
    pub fn pin(&self, file: FileNumber) -> Result<Pin, ReadError> {
        Pin::new(self.shared(), file).ok_or(ReadError::Recycled { file })
    }

    /// The payload of the record at `location`, checked. Blocks: call it in `task::blocking`.
    pub fn read_record(&self, location: Location) -> Result<bytes::Bytes, ReadError> {
        self.pin(location.file)?.read_record(location)
    }

    /// Walks the records of `file` from position `start`, where a record or a group begins, up to
    /// `end`, and returns where the walk ended. Blocks: call it in `task::blocking`.
    pub fn read_span(
        &self,
        file: FileNumber,
        start: u64,
        end: u64,
        visit: impl FnMut(Entry) -> std::ops::ControlFlow<()>,
    ) -> Result<u64, ReadError> {
        self.pin(file)?.read_span(start, end, visit)
    }

    /// Says that records from now on rest on metadata entry `number`: it is written into every
    /// group header, and a start with metadata that ends below it is refused. Never falls.
    pub fn set_metadata_number(&self, number: u64) {
        self.shared().metadata_number.fetch_max(number, Ordering::AcqRel);
    }

    /// Waits until everything reserved so far is durable.
    pub async fn flush(&self) -> Result<(), Poisoned> {
        self.wait_durable(self.reserved()).await
    }

    /// Waits until everything reserved so far is synced to the disk, in both sync modes.
    pub async fn sync_now(&self) -> Result<(), Poisoned> {
        self.flush().await?;
        self.shared().wait_synced(self.durable()).await
    }

    /// Waits until `lsn`, which was reserved, is synced to the disk, in both sync modes.
    pub async fn wait_synced(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_durable(lsn).await?;
        self.shared().wait_synced(lsn).await
    }

    /// What evicted blocks responses still hold; takes back those that nobody holds any more.
    pub fn lingering(&self) -> Lingering {
        let (bytes, uncharged) = self.shared().blocks().lingering();
        Lingering { bytes, uncharged }
    }

    /// Bytes of all WAL files on disk, the reserve included.
    pub fn disk_bytes(&self) -> u64 {
        self.shared().state().disk_bytes
    }

    /// Bytes of the volume that the log is on. Blocks: for `task::blocking`.
    pub fn volume_space(&self) -> std::io::Result<Space> {
        self.shared().disk.space()
    }

    /// The oldest file in use and the first LSN in it: what a trim frees next.
    pub fn oldest_file(&self) -> (FileNumber, Lsn) {
        self.shared().files.with(|files| {
            let oldest = files.values().next().expect("the file that is written to is in use");
            (oldest.number(), oldest.header.first_lsn)
        })
    }

    /// The most that all files may hold together.
    pub fn max_bytes(&self) -> u64 {
        self.shared().sizes.total
    }

    /// The file that holds record `lsn`, or would now: the newest one that begins at or below it;
    /// and its first LSN. A record that is not written yet may begin a file of its own, so a trim
    /// that is to keep this file has that first LSN as its floor.
    pub fn file_at(&self, lsn: Lsn) -> (FileNumber, Lsn) {
        self.shared().files.with(|files| {
            let below = files.values().rev().find(|file| file.header.first_lsn <= lsn);
            let at = below.or(files.values().next());
            at.map_or((FileNumber(0), Lsn::ZERO), |file| (file.number(), file.header.first_lsn))
        })
    }

    /// The first LSN of the file from which on the files in use are about `bytes`, all of one size,
    /// or fewer; never that of the newest file.
    pub fn tail_of(&self, bytes: u64) -> Lsn {
        let shared = self.shared();
        let keep = usize::try_from(bytes / shared.sizes.file).unwrap_or(usize::MAX).max(1);
        shared.files.with(|files| {
            let gone = files.len().saturating_sub(keep);
            files.values().nth(gone).map_or(Lsn::ZERO, |file| file.header.first_lsn)
        })
    }

    /// The log's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.shared().metrics
    }

    /// Refuses new records, writes and syncs what was reserved, and waits until the log's threads
    /// have ended. Reads still work; the directory is unlocked (after a checkpoint that is being
    /// written) and may be opened again.
    pub async fn close(&self) -> Result<(), Poisoned> {
        let shared = self.shared();
        shared.start_closing();
        let mut threads = shared.threads.subscribe();
        // The sender lives in `shared`, which outlives this wait.
        let _ = threads.wait_for(|running| *running == 0).await;
        match shared.durable.poison() {
            Some(poison) => Err(poison),
            None => Ok(()),
        }
    }
}

impl Shared {
    async fn wait_for_room(&self, class: Class, bytes: usize) -> Result<(), RoomError> {
        if bytes > self.max_payload() {
            return Err(RoomError::TooLarge { bytes, limit: self.max_payload() });
        }
        let needed = (RECORD_HEADER + bytes) as u64;
        let mut retried = None;
        loop {
            let changed = self.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(poison) = self.durable.poison() {
                return Err(poison.into());
            }
            {
                let mut state = self.state();
                if state.closing {
                    return Err(Self::closed().into());
                }
                if state.find(class, needed, &self.sizes).is_some() {
                    return Ok(());
                }
                if let Some(failed) = &mut state.growth.failed {
                    let now = self.clock.now();
                    let due = now >= *failed.seen.get_or_insert(now) + GROWTH_RETRY;
                    let reason = Arc::clone(&failed.reason);
                    if !due || retried.is_some_and(|before| state.growth.attempts > before) {
                        self.metrics.refused(class);
                        return Err(RoomError::Full { reason });
                    }
                    state.growth.failed = None;
                    retried = Some(state.growth.attempts);
                }
                let wanted = state.growth.wanted.map_or(needed, |(_, other)| other.max(needed));
                let class = state.growth.wanted.map_or(class, |(other, _)| other.min(class));
                state.growth.wanted = Some((class, wanted));
                self.grower_wake.notify_one();
            }
            changed.await;
        }
    }

    pub(super) async fn wait_synced(&self, lsn: Lsn) -> Result<(), Poisoned> {
        loop {
            let changed = self.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lsn <= self.synced() {
                return Ok(());
            }
            if let Some(poison) = self.durable.poison() {
                return Err(poison);
            }
            if *self.threads.borrow() == 0 {
                return Err(Self::closed());
            }
            self.state().sync_due = true;
            self.writer_wake.notify_one();
            changed.await;
        }
    }
}

/// Builds the pools that the log charges.
pub(super) fn wal_pool(budget: &Budget) -> BytePool {
    budget.pool(Pool::Wal).clone()
}

//! The log in files of one directory (DESIGN §5, "Local").
//!
//! ```text
//! <data>/wal/  lock                       held while the log is open
//!              00000001.wal …             files: in use, ready for use, or free
//!              00000007.wal.tmp           being made
//!              checkpoint-00000003.base   the last base, and its deltas
//!              checkpoint-00000004.delta
//! ```
//!
//! A file keeps its name through all its uses; its header says which use it is in.

pub(in crate::wal) mod checkpoint;
mod grow;
mod open;
mod recover;
mod trim;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointKind, Parts};
pub use open::{OpenError, Opened, Recovered, Replay, WalState, inspect, open};
pub(in crate::wal) use recover::{analyse, layout, proven_behind, scan};

use self::checkpoint::Checkpoints;
use super::block::Blocks;
use super::disk::{Disk, LockGuard};
use super::durable::Durable;
use super::format::{FIRST_GROUP, PAGE};
use super::metrics::Metrics;
use super::read::{Files, LogFile};
use super::room::{Cursor, Growth, ReadyFile, Sizes, State};
use super::stream::{Shared, Stream, wal_pool};
use super::{FileNumber, LogClock, Lsn};
use crate::budget::Budget;
use crate::clock::{Clock, Random};

/// What durable means (`wal.sync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// A record is durable when its bytes are synced.
    Always,
    /// A record is durable when it is in the page cache, as with Kafka; synced this often.
    Interval(Duration),
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the data directory; a log of another identity is refused.
    pub identity: [u8; 16],
    /// What durable means.
    pub sync: SyncMode,
    /// The most that all files hold together (`wal.max.bytes`).
    pub max_bytes: u64,
    /// The most that a file holds; a sixteenth of `max_bytes` if that is less.
    pub file_bytes: u64,
    /// How much space is prepared in one step.
    pub step_bytes: u64,
    /// The size of the first file of an empty directory until it is grown.
    pub first_file_bytes: u64,
    /// The most that a group of several records holds.
    pub group_bytes: usize,
    /// Where the clock of a log without any record begins; the wall clock if that is not known.
    pub log_clock_ms: Option<i64>,
}

impl Options {
    /// The defaults: sync always, no limit, files of 128 MiB grown by 4 MiB, groups of 4 MiB.
    pub fn new(identity: [u8; 16]) -> Self {
        Self {
            identity,
            sync: SyncMode::Always,
            max_bytes: u64::MAX,
            file_bytes: 128 << 20,
            step_bytes: 4 << 20,
            first_file_bytes: 1 << 20,
            group_bytes: 4 << 20,
            log_clock_ms: None,
        }
    }

    fn sizes(&self) -> Sizes {
        let pages = |bytes: u64| (bytes / PAGE).max(1) * PAGE;
        let step = pages(self.step_bytes);
        let file = pages(self.file_bytes.min(self.max_bytes / 16).min(1 << 31));
        let file = file.max(FIRST_GROUP + PAGE);
        let reserve = match self.sync {
            // What is above the proven LSN must fit in: with syncs in intervals up to a file.
            SyncMode::Interval(_) => file,
            SyncMode::Always => 2 * step,
        };
        let reserve = reserve.min(file);
        Sizes { file, step, group: self.group_bytes, total: self.max_bytes, reserve }
    }
}

/// What the log uses of the process.
#[derive(Clone, Debug)]
pub struct Env {
    /// Time.
    pub clock: Clock,
    /// Chance, for the salts of files.
    pub random: Random,
    /// Memory.
    pub budget: Budget,
    /// The log's metrics.
    pub metrics: Metrics,
}

/// Where a log starts to write.
struct Start {
    lock: Box<dyn LockGuard>,
    files: Vec<Arc<LogFile>>,
    cursor: Cursor,
    ready: VecDeque<ReadyFile>,
    last_number: FileNumber,
    last_name: u64,
    disk_bytes: u64,
    durable: Lsn,
    metadata_number: u64,
    append_ms: Option<i64>,
    floor: Lsn,
    covered: Lsn,
    checkpoints: Checkpoints,
}

/// Starts the threads.
fn start(disk: &Arc<dyn Disk>, options: &Options, env: &Env, at: Start) -> io::Result<Stream> {
    let files = Files::default();
    at.files.into_iter().for_each(|file| files.insert(file));
    let state = State {
        next_lsn: at.durable.next(),
        cursor: at.cursor,
        queue: VecDeque::new(),
        open_bytes: None,
        ready: at.ready,
        growth: Growth::default(),
        last_number: at.last_number,
        last_name: at.last_name,
        disk_bytes: at.disk_bytes,
        growing: false,
        floor: at.floor,
        floor_asked: at.floor,
        covered: at.covered,
        closing: false,
        sync_due: false,
        since_checkpoint: 0,
        largest_group: 0,
    };
    let (threads, _) = tokio::sync::watch::channel(2);
    let shared = Arc::new(Shared {
        disk: Arc::clone(disk),
        identity: options.identity,
        always_sync: options.sync == SyncMode::Always,
        sizes: options.sizes(),
        clock: env.clock.clone(),
        random: env.random.clone(),
        metrics: env.metrics.clone(),
        durable: Durable::new(at.durable),
        state: Mutex::new(state),
        writer_wake: Condvar::new(),
        grower_wake: Condvar::new(),
        room: tokio::sync::Notify::new(),
        files,
        blocks: Mutex::new(Blocks::new(&env.budget)),
        metadata_number: at.metadata_number.into(),
        wal_pool: wal_pool(&env.budget),
        log_clock: LogClock::starting_at(&env.clock, at.append_ms),
        checkpoints: Mutex::new(at.checkpoints),
        threads,
        lock: Mutex::new(Some(at.lock.into())),
    });
    let stream = Stream::new(Arc::clone(&shared));
    shared.metrics.durable(at.durable);
    shared.metrics.reserved(at.durable);
    shared.metrics.disk(shared.files.with(std::collections::BTreeMap::len), at.disk_bytes);
    spawn("wal-writer", &shared, writer::run)?;
    spawn("wal-grower", &shared, grow::run)?;
    if let SyncMode::Interval(interval) = options.sync {
        let ticker = tick(env.clock.clone(), interval, Arc::downgrade(&shared));
        crate::task::spawn("wal-sync-ticker", ticker);
    }
    Ok(stream)
}

/// Starts a thread; one that panics poisons the log.
fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    work: impl Fn(&Arc<Shared>) + Send + 'static,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    crate::task::thread(name, move || {
        let run = std::panic::AssertUnwindSafe(|| work(&shared));
        if std::panic::catch_unwind(run).is_err() {
            shared.poison(&format!("thread {name} panicked"));
        }
        shared.threads.send_modify(|running| {
            *running -= 1;
            if *running == 0 {
                shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
        shared.room.notify_waiters();
    })?;
    Ok(())
}

/// Asks for a sync in every interval, until the log is gone.
async fn tick(clock: Clock, interval: Duration, shared: Weak<Shared>) {
    loop {
        clock.sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        if *shared.threads.borrow() == 0 {
            return;
        }
        if shared.synced() < shared.durable.lsn() {
            shared.state().sync_due = true;
            shared.writer_wake.notify_one();
        }
    }
}

//! A log in memory: the local log over files that live in this process. Tests of other rooms use
//! it to hold durability back, to fail a sync, to run out of space and to open the log again.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use super::disk::{Disk, DiskFile, LockGuard, Space};
use super::local::{self, Env, OpenError, Opened, Options};
use super::metrics::Metrics;
use super::stream::Stream;
use crate::budget::Budget;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;

/// Small sizes for a log in memory: files of 1 MiB grown by 128 KiB, groups of 256 KiB.
pub fn options() -> Options {
    Options {
        file_bytes: 1 << 20,
        step_bytes: 128 << 10,
        first_file_bytes: 256 << 10,
        group_bytes: 256 << 10,
        ..Options::new(*b"a log in memory.")
    }
}

/// System clock, seeded chance, a registry of its own and a budget of 64 MiB.
pub fn env() -> Env {
    Env {
        clock: Clock::system(),
        random: Random::seeded(1),
        budget: Budget::new(64 << 20),
        metrics: Metrics::new(&Registry::new()),
    }
}

/// Opens the log on `disk` again; the stream before must be closed, and it and its pins dropped.
pub fn open(disk: &Arc<MemoryDisk>) -> Result<Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(disk);
    local::open(&disk, &options(), &env())
}

/// A log on a new disk in memory, which the test keeps to hold and fail its syncs.
pub fn stream() -> (Stream, Arc<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let opened = open(&disk).expect("an empty disk can be used");
    (opened.stream, disk)
}

/// A [`Disk`] in memory. Everything written is there when it is opened again; un-synced writes are
/// not lost (the simulated disk of the crash suite does that).
#[derive(Debug)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<Contents>>>,
    locked: Arc<AtomicBool>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Contents {
    bytes: RwLock<Vec<u8>>,
}

/// What the tests ask the disk to do.
#[derive(Debug)]
struct Faults {
    state: Mutex<FaultState>,
    changed: Condvar,
    syncs: AtomicU64,
}

#[derive(Debug)]
struct FaultState {
    held: bool,
    /// Syncs that may go on although they are held.
    permits: u64,
    fail_sync: bool,
    capacity: u64,
    used: u64,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Arc<Self> {
        let state = FaultState {
            held: false,
            permits: 0,
            fail_sync: false,
            capacity: u64::MAX / 4,
            used: 0,
        };
        Arc::new(Self {
            files: Mutex::default(),
            locked: Arc::default(),
            faults: Arc::new(Faults {
                state: Mutex::new(state),
                changed: Condvar::new(),
                syncs: AtomicU64::new(0),
            }),
        })
    }

    /// Makes every sync of a file wait until [`MemoryDisk::release`]: nothing becomes durable.
    pub fn hold(&self) {
        self.faults.state().held = true;
    }

    /// Lets syncs go on.
    pub fn release(&self) {
        let mut state = self.faults.state();
        (state.held, state.permits) = (false, 0);
        drop(state);
        self.faults.changed.notify_all();
    }

    /// Lets one sync go on while they are held.
    pub fn release_one(&self) {
        self.faults.state().permits += 1;
        self.faults.changed.notify_all();
    }

    /// Makes every later sync of a file fail, and those that are held.
    pub fn fail_syncs(&self) {
        self.faults.state().fail_sync = true;
        self.release();
    }

    /// How many syncs of files have succeeded.
    pub fn syncs(&self) -> u64 {
        self.faults.syncs.load(Ordering::SeqCst)
    }

    /// Limits the bytes of all files together; a write that would grow a file beyond it fails as on
    /// a full disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.faults.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.faults.state().used
    }

    /// Flips one bit of a file, for tests of corruption.
    pub fn flip_bit(&self, name: &str, position: u64, bit: u8) {
        let contents = self.files().get(name).cloned().expect("the file exists");
        let mut bytes = contents.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(byte) = bytes.get_mut(position as usize) {
            *byte ^= 1 << (bit & 7);
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Contents>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, contents: Arc<Contents>) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { contents, faults: Arc::clone(&self.faults) })
    }
}

#[derive(Debug)]
struct MemoryLock {
    locked: Arc<AtomicBool>,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.locked.store(false, Ordering::SeqCst);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { locked: Arc::clone(&self.locked) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::<Contents>::default();
        files.insert(name.to_owned(), Arc::clone(&contents));
        Ok(self.file(contents))
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let contents = self.files().get(name).cloned().ok_or_else(not_found)?;
        Ok(self.file(contents))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let contents = files.remove(from).ok_or_else(not_found)?;
        if let Some(replaced) = files.insert(to.to_owned(), contents) {
            self.faults.state().used -= replaced.len();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let contents = self.files().remove(name).ok_or_else(not_found)?;
        self.faults.state().used -= contents.len();
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.faults.state();
        let free = state.capacity.saturating_sub(state.used);
        Ok(Space { free, total: state.capacity })
    }
}

impl Contents {
    fn len(&self) -> u64 {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

#[derive(Debug)]
struct MemoryFile {
    contents: Arc<Contents>,
    faults: Arc<Faults>,
}

impl DiskFile for MemoryFile {
    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()> {
        let bytes = self.contents.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let until = from.saturating_add(len).min(bytes.len());
        into.extend_from_slice(&bytes[from..until]);
        Ok(())
    }

    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = self.contents.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let mut at = position as usize;
        let end = at + slices.iter().map(|slice| slice.len()).sum::<usize>();
        if end > bytes.len() {
            let grown = (end - bytes.len()) as u64;
            let mut state = self.faults.state();
            if state.used.saturating_add(grown) > state.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.used += grown;
            bytes.resize(end, 0);
        }
        for slice in slices {
            bytes[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.faults.state();
        while state.held && state.permits == 0 && !state.fail_sync {
            state = self.faults.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.fail_sync {
            return Err(io::Error::other("injected sync error"));
        }
        if state.held {
            state.permits -= 1;
        }
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.len())
    }
}

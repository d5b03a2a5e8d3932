//! A disk that records every operation and can crash after any of them, keeping as much or as
//! little of what was not synced as it likes.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Random;
use crate::wal::Lsn;
use crate::wal::disk::{Disk, DiskFile, LockGuard, Space};

const SECTOR: usize = 512;

/// A recorded operation, or a note of the test between operations.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Create {
        name: String,
        id: usize,
    },
    Write {
        id: usize,
        position: u64,
        bytes: Vec<u8>,
    },
    Sync {
        id: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncDir,
    /// The test saw that records up to here are durable.
    Acked(Lsn),
    /// The test saw that a checkpoint that covers this was published.
    AckedCheckpoint(Lsn),
    /// The test is about to ask for a trim to this floor.
    AskedTrim(Lsn),
    /// The test reserved records up to here.
    Reserved(Lsn),
}

/// What a crash does with operations that were not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// Everything that was not synced is gone.
    Lost,
    /// Everything is there.
    Kept,
    /// Sectors and whole writes are there or not, by chance.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    contents: Vec<Vec<u8>>,
    ops: Vec<Op>,
    /// What was there before the first operation.
    base_names: BTreeMap<String, usize>,
    base_contents: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<AtomicBool>,
}

impl SimDisk {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn note(&self, op: Op) {
        self.state().ops.push(op);
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    /// The disk before the first operation; apply operations to it, and crash it.
    pub(super) fn before(&self) -> Image {
        let state = self.state();
        Image {
            names: state.base_names.clone(),
            pending_names: Vec::new(),
            synced: state.base_contents.clone(),
            pending: vec![Vec::new(); state.base_contents.len()],
        }
    }

    /// Another disk with the same files, without a past.
    pub(super) fn copy(&self) -> Arc<SimDisk> {
        let (names, contents) = {
            let state = self.state();
            (state.names.clone(), state.contents.clone())
        };
        let base = State { names, contents, ..State::default() };
        Arc::new(SimDisk { state: Arc::new(Mutex::new(base)), locked: Arc::default() })
    }

    /// Changes a byte behind everybody's back.
    pub(super) fn corrupt(&self, name: &str, position: u64, mask: u8) {
        let mut state = self.state();
        let id = state.names[name];
        state.contents[id][position as usize] ^= mask;
    }

    pub(super) fn file(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.contents[state.names[name]].clone()
    }
}

/// A disk as its durable part and what is pending.
#[derive(Clone, Debug)]
pub(super) struct Image {
    names: BTreeMap<String, usize>,
    pending_names: Vec<Op>,
    synced: Vec<Vec<u8>>,
    pending: Vec<Vec<(u64, Vec<u8>)>>,
}

impl Image {
    /// The disk as it is found after a crash that comes now.
    pub(super) fn crashed(&self, crash: Crash) -> Arc<SimDisk> {
        let (names, contents) = self.clone().crash(crash);
        let base = State {
            names: names.clone(),
            contents: contents.clone(),
            ops: Vec::new(),
            base_names: names,
            base_contents: contents,
        };
        Arc::new(SimDisk { state: Arc::new(Mutex::new(base)), locked: Arc::default() })
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { id, .. } => {
                self.synced.resize(self.synced.len().max(id + 1), Vec::new());
                self.pending.resize(self.pending.len().max(id + 1), Vec::new());
                self.pending_names.push(op.clone());
            }
            Op::Write { id, position, bytes } => {
                self.pending[*id].push((*position, bytes.clone()));
            }
            Op::Sync { id } => {
                for (position, bytes) in std::mem::take(&mut self.pending[*id]) {
                    write(&mut self.synced[*id], position, &bytes);
                }
            }
            Op::Rename { .. } | Op::Remove { .. } => self.pending_names.push(op.clone()),
            Op::SyncDir => {
                for op in std::mem::take(&mut self.pending_names) {
                    change_names(&mut self.names, &op);
                }
            }
            _ => {}
        }
    }

    fn crash(mut self, crash: Crash) -> (BTreeMap<String, usize>, Vec<Vec<u8>>) {
        let random = Random::seeded(if let Crash::Torn(seed) = crash { seed } else { 0 });
        let names_kept = match crash {
            Crash::Lost => 0,
            Crash::Kept => self.pending_names.len(),
            Crash::Torn(_) => random.below(self.pending_names.len() as u64 + 1) as usize,
        };
        for op in &self.pending_names[..names_kept] {
            change_names(&mut self.names, op);
        }
        for (id, pending) in self.pending.iter().enumerate() {
            for (position, bytes) in pending {
                let contents = &mut self.synced[id];
                match crash {
                    Crash::Lost => {}
                    Crash::Kept => write(contents, *position, bytes),
                    Crash::Torn(_) => torn_write(contents, *position, bytes, &random),
                }
            }
        }
        (self.names, self.synced)
    }
}

fn torn_write(contents: &mut Vec<u8>, position: u64, bytes: &[u8], random: &Random) {
    // A third of the writes is lost, a third is whole, of a third each sector takes its chance.
    match random.below(3) {
        0 => {}
        1 => write(contents, position, bytes),
        _ => {
            let mut at = 0;
            while at < bytes.len() {
                let start = position as usize + at;
                let len = (SECTOR - start % SECTOR).min(bytes.len() - at);
                if random.below(2) == 0 {
                    write(contents, start as u64, &bytes[at..at + len]);
                }
                at += len;
            }
        }
    }
}

fn write(contents: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let start = position as usize;
    let end = start + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[start..end].copy_from_slice(bytes);
}

fn change_names(names: &mut BTreeMap<String, usize>, op: &Op) {
    match op {
        Op::Create { name, id } => {
            names.insert(name.clone(), *id);
        }
        Op::Rename { from, to } => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        Op::Remove { name } => {
            names.remove(name);
        }
        _ => {}
    }
}

#[derive(Debug)]
struct SimLock(Arc<AtomicBool>);

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(Arc::clone(&self.locked))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.contents.len();
        state.contents.push(Vec::new());
        state.names.insert(name.to_owned(), id);
        state.ops.push(Op::Create { name: name.to_owned(), id });
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), id }))
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let id = *self.state().names.get(name).ok_or_else(not_found)?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let id = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_owned(), id);
        state.ops.push(Op::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.names.remove(name).ok_or_else(not_found)?;
        state.ops.push(Op::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.state().ops.push(Op::SyncDir);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    id: usize,
}

impl DiskFile for SimFile {
    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let bytes = &state.contents[self.id];
        let from = (position as usize).min(bytes.len());
        into.extend_from_slice(&bytes[from..from.saturating_add(len).min(bytes.len())]);
        Ok(())
    }

    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut state = self.state.lock().unwrap();
        write(&mut state.contents[self.id], position, &bytes);
        state.ops.push(Op::Write { id: self.id, position, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().unwrap().ops.push(Op::Sync { id: self.id });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().contents[self.id].len() as u64)
    }
}

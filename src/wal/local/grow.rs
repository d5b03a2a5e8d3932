//! The grower: a thread that prepares file space ahead of the writer, the reserve first.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, PoisonError};

use crate::wal::disk::{Disk, DiskFile};
use crate::wal::room::{Failed, ReadyFile, State, Work};
use crate::wal::stream::Shared;

/// Zeros are written in pieces of this size.
const PIECE: usize = 1 << 20;
/// Of the file system, a part of this size stays free for checkpoints and the metadata copy, ...
const MARGIN_PART: u64 = 32;
/// ... but no more than this.
const MARGIN_BYTES: u64 = 1 << 30;

/// The suffix of a file that is part of the log.
pub(super) const SUFFIX: &str = ".wal";
/// The suffix of a file that is being made.
pub(super) const UNFINISHED: &str = ".tmp";

/// Why space was not prepared.
#[derive(Debug)]
enum Refusal {
    /// There is no more: try again later.
    Full(String),
    /// A sync failed: the log must stop.
    Fatal(io::Error),
}

/// Runs until the log is closed or poisoned.
pub(super) fn run(shared: &Arc<Shared>) {
    while let Some((work, target)) = next_work(shared) {
        match do_work(shared, work, target) {
            Ok(()) => {
                let mut state = shared.state();
                finish(&mut state);
                let (files, bytes) = (shared.files.with(BTreeMap::len), state.disk_bytes);
                shared.metrics.disk(files, bytes);
            }
            Err(Refusal::Full(reason)) => {
                shared.metrics.growth_failed();
                tracing::warn!(reason, "no more space for the write-ahead log");
                let mut state = shared.state();
                finish(&mut state);
                state.growth.failed = Some(Failed { reason: reason.into(), seen: None });
            }
            Err(Refusal::Fatal(error)) => {
                shared.poison(&format!("sync of new log space failed: {error}"));
                break;
            }
        }
        shared.room.notify_waiters();
    }
}

fn finish(state: &mut State) {
    state.growing = false;
    state.growth.wanted = None;
    state.growth.attempts += 1;
}

/// The file that a piece of work is about.
type Target = Option<(String, Arc<dyn DiskFile>, u64)>;

fn next_work(shared: &Shared) -> Option<(Work, Target)> {
    let mut state = shared.state();
    loop {
        if state.closing || shared.durable.poison().is_some() {
            return None;
        }
        if let Some(work) = state.next_work(&shared.sizes) {
            state.growing = true;
            let target = target(&mut state, work);
            return Some((work, target));
        }
        if state.growth.wanted.take().is_some() {
            // Somebody waits for what is there by now, or for what was just refused.
            shared.room.notify_waiters();
        }
        state = shared.grower_wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn target(state: &mut State, work: Work) -> Target {
    match work {
        Work::Create(_) => None,
        Work::GrowCurrent(_) => {
            let cursor = &state.cursor;
            Some((cursor.file.name.clone(), Arc::clone(&cursor.file.file), cursor.allocated))
        }
        Work::GrowReady(index, _) => {
            let ready = state.ready.get(index)?;
            Some((ready.name.clone(), Arc::clone(&ready.file), ready.allocated))
        }
        Work::Remove(index) => {
            let ready = state.ready.remove(index)?;
            Some((ready.name, ready.file, ready.allocated))
        }
    }
}

fn do_work(shared: &Shared, work: Work, target: Target) -> Result<(), Refusal> {
    match (work, target) {
        (Work::Create(size), _) => create(shared, size),
        (Work::GrowCurrent(size) | Work::GrowReady(_, size), Some((name, file, allocated))) => {
            check_limits(shared, size.saturating_sub(allocated), false)?;
            prepare(&*file, allocated, size, shared.always_sync).map_err(|error| full(&error))?;
            file.sync().map_err(Refusal::Fatal)?;
            let mut state = shared.state();
            state.disk_bytes += size - allocated;
            if state.cursor.file.name == name {
                state.cursor.allocated = size;
            } else if let Some(ready) = state.ready.iter_mut().find(|ready| ready.name == name) {
                ready.allocated = size;
            }
            Ok(())
        }
        (Work::Remove(_), Some((name, _, allocated))) => {
            shared.disk.remove(&name).map_err(|error| full(&error))?;
            shared.state().disk_bytes -= allocated;
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

fn create(shared: &Shared, size: u64) -> Result<(), Refusal> {
    let (for_reserve, name) = {
        let mut state = shared.state();
        state.last_name += 1;
        (state.ready.len() < 2, file_name(state.last_name))
    };
    check_limits(shared, size, for_reserve)?;
    let made = make_file(&*shared.disk, &name, size, shared.always_sync);
    let file = made.map_err(|error| full(&error))?;
    let mut state = shared.state();
    state.disk_bytes += size;
    state.ready.push_back(ReadyFile { name, file, allocated: size });
    Ok(())
}

fn full(error: &io::Error) -> Refusal {
    Refusal::Full(error.to_string())
}

/// Whether the log may take `more` bytes of the disk. The reserve may use what is left of it.
fn check_limits(shared: &Shared, more: u64, for_reserve: bool) -> Result<(), Refusal> {
    let used = shared.state().disk_bytes;
    let limit = shared.sizes.total;
    if used.saturating_add(more) > limit {
        return Err(Refusal::Full(format!("its files hold {used} of wal.max.bytes={limit}")));
    }
    let space = shared.disk.space().map_err(|error| full(&error))?;
    let margin = (space.total / MARGIN_PART).min(MARGIN_BYTES);
    if !for_reserve && space.free < more.saturating_add(margin) {
        let free = space.free;
        return Err(Refusal::Full(format!(
            "the disk has {free} bytes free and {margin} are kept for checkpoints"
        )));
    }
    Ok(())
}

/// The name of the log's file `number` on the disk; it keeps it through all its uses.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

/// Makes a file of zeros that survives a crash whole or not at all.
pub(super) fn make_file(
    disk: &dyn Disk,
    name: &str,
    size: u64,
    always_sync: bool,
) -> io::Result<Arc<dyn DiskFile>> {
    let unfinished = format!("{name}{UNFINISHED}");
    let made = (|| {
        let file = disk.create(&unfinished)?;
        prepare(&*file, 0, size, always_sync)?;
        file.sync()?;
        disk.rename(&unfinished, name)?;
        disk.sync_dir()?;
        Ok(file)
    })();
    if made.is_err() {
        // What cannot be removed now is removed at the next start.
        let _ = disk.remove(&unfinished);
    }
    made
}

/// Makes room. Where every group is synced the blocks are written, so that no such sync has extents
/// to convert. Where syncs are rare that would only write every byte twice, and the space is taken
/// without.
fn prepare(file: &dyn DiskFile, from: u64, until: u64, always_sync: bool) -> io::Result<()> {
    if !always_sync {
        match file.allocate(from, until) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => return done,
        }
    }
    write_zeros(file, from, until)
}

fn write_zeros(file: &dyn DiskFile, from: u64, until: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    let mut at = from;
    while at < until {
        let len = usize::try_from(until - at).unwrap_or(PIECE).min(PIECE);
        file.write(&mut [IoSlice::new(&zeros[..len])], at)?;
        at += len as u64;
    }
    Ok(())
}

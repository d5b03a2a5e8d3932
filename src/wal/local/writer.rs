//! The WAL thread: takes the oldest group, writes it, syncs, publishes; meanwhile the next fills.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::wal::Lsn;
use crate::wal::format::{
    FIRST_GROUP, FileHeader, GROUP_HEADER, GroupHeader, PAGE, recovery_bytes,
};
use crate::wal::group::{Filled, Group};
use crate::wal::read::LogFile;
use crate::wal::stream::Shared;

/// What the thread does next.
enum Step {
    Write(Arc<Group>),
    Sync,
    End,
}

/// Runs until the log is closed or poisoned.
pub(super) fn run(shared: &Arc<Shared>) {
    // The file written to last; with `wal.sync=interval` it may hold what is not synced yet.
    let mut last: Option<Arc<LogFile>> = None;
    loop {
        let done = match next_step(shared) {
            Step::Write(group) => {
                let Some(filled) = group.take() else { break };
                write_group(shared, &mut last, &group, filled)
            }
            Step::Sync => sync_file(shared, last.as_deref()),
            Step::End => break,
        };
        if let Err(error) = done {
            shared.poison(&format!("write or sync of a log file failed: {error}"));
            break;
        }
    }
    if shared.durable.poison().is_none()
        && let Err(error) = sync_file(shared, last.as_deref())
    {
        shared.poison(&format!("sync of a log file failed: {error}"));
    }
}

fn next_step(shared: &Shared) -> Step {
    let mut state = shared.state();
    loop {
        if shared.durable.poison().is_some() {
            return Step::End;
        }
        if std::mem::take(&mut state.sync_due) {
            return Step::Sync;
        }
        if let Some(group) = state.queue.pop_front() {
            if state.queue.is_empty() {
                // It was the open one: what comes now goes into a new group.
                state.open_bytes = None;
            }
            return Step::Write(group);
        }
        if state.closing {
            return Step::End;
        }
        state = shared.writer_wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn write_group(
    shared: &Shared,
    last: &mut Option<Arc<LogFile>>,
    group: &Group,
    filled: Filled,
) -> io::Result<()> {
    if group.opens_file_after.is_some() {
        // A file gets its first record only after the file before it is synced.
        sync_file(shared, last.as_deref())?;
    }
    let header = group_header(shared, group, &filled);
    write_bytes(shared, group, &header, &filled.records)?;
    shared.metrics.group(filled.records.len(), header.total_bytes() as usize);
    *last = Some(Arc::clone(&group.file));
    let written = header.next_lsn().previous();
    if shared.always_sync {
        sync_upto(shared, &group.file, written)?;
    }
    publish(shared, written, header.total_bytes(), filled);
    Ok(())
}

fn group_header(shared: &Shared, group: &Group, filled: &Filled) -> GroupHeader {
    GroupHeader {
        number: group.file.number(),
        salt: group.file.header.salt,
        first_lsn: group.first_lsn,
        records: filled.records.len() as u32,
        bytes: filled.parts.bytes as u32,
        append_ms: shared.log_clock.now_ms(),
        proven: shared.synced(),
        metadata_number: shared.metadata_number.load(Ordering::Acquire),
    }
}

fn write_bytes(
    shared: &Shared,
    group: &Group,
    header: &GroupHeader,
    records: &[bytes::Bytes],
) -> io::Result<()> {
    static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
    let header_bytes = header.encode();
    let end = group.position + header.total_bytes();
    let padding = (end.next_multiple_of(PAGE) - end) as usize;
    let file_pages = group.opens_file_after.map(|_| {
        let now = FileHeader {
            proven: header.proven,
            metadata_number: header.metadata_number,
            wall_ms: shared.clock.wall_ms(),
            ..group.file.header
        };
        file_pages(&now)
    });
    let mut slices = Vec::with_capacity(records.len() + 3);
    let mut position = group.position;
    if let Some(pages) = &file_pages {
        slices.push(IoSlice::new(pages));
        position = 0;
    }
    slices.push(IoSlice::new(&header_bytes));
    slices.extend(records.iter().map(|record| IoSlice::new(record)));
    // Whole pages are written, so that the system need not read what was there before.
    slices.push(IoSlice::new(&ZEROS[..padding]));
    let result = group.file.file.write(&mut slices, position);
    debug_assert_eq!(header.total_bytes() as usize, {
        GROUP_HEADER + records.iter().map(bytes::Bytes::len).sum::<usize>()
    });
    let mut state = shared.state();
    state.largest_group = state.largest_group.max(recovery_bytes(header.total_bytes()));
    result
}

/// Both copies of a file's header.
pub(super) fn file_pages(header: &FileHeader) -> Vec<u8> {
    let mut pages = vec![0; FIRST_GROUP as usize];
    let bytes = header.encode();
    for page in pages.chunks_exact_mut(PAGE as usize) {
        page[..bytes.len()].copy_from_slice(&bytes);
    }
    pages
}

/// Syncs everything written so far, if anything is not synced.
fn sync_file(shared: &Shared, last: Option<&LogFile>) -> io::Result<()> {
    let durable = shared.durable.lsn();
    match last {
        Some(file) if shared.synced() < durable => sync_upto(shared, file, durable)?,
        _ => {}
    }
    shared.room.notify_waiters();
    Ok(())
}

fn sync_upto(shared: &Shared, file: &LogFile, written: Lsn) -> io::Result<()> {
    let before = shared.clock.now();
    file.file.sync()?;
    shared.metrics.synced(shared.clock.now() - before);
    shared.durable.set_synced(written);
    Ok(())
}

/// The group is durable: says so to owners and waiters, and moves its memory to the tail.
fn publish(shared: &Shared, durable: Lsn, bytes: u64, filled: Filled) {
    let Filled { records, parts } = filled;
    drop(records);
    shared.state().since_checkpoint += bytes;
    if !shared.durable.advance(durable) {
        return;
    }
    shared.metrics.durable(durable);
    for owner in &parts.owners {
        owner.durable(durable);
    }
    shared.durable.wake();
    let gone = shared.blocks().durable(&parts.shares);
    for mut evicted in gone {
        // Taken out and dropped here: the last handle of an owner may do anything.
        for owner in std::mem::take(&mut evicted.owners) {
            owner.evict(evicted.upto);
        }
        shared.blocks().evicted(evicted);
    }
    drop(parts.charge);
    let mut blocks = shared.blocks();
    let (lingering, _) = blocks.lingering();
    shared.metrics.memory(blocks.tail_bytes(), lingering);
}

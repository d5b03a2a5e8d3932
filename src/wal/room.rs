//! Which file space is free, and for whom: places for records, and what the grower does next.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::DiskFile;
use super::format::{FIRST_GROUP, GROUP_HEADER, PAGE, group_start, recovery_bytes};
use super::group::Group;
use super::read::LogFile;
use super::{Class, FileNumber, Lsn};
use crate::clock::Instant;

/// How many ready files are kept for [`Class::Internal`] and [`Class::Housekeeping`].
const RESERVE_FILES: usize = 2;
/// Ready files above this number are removed from the disk.
const MAX_READY: usize = 6;

/// Sizes that the log works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// The most a file holds.
    pub(super) file: u64,
    /// How much is prepared in one step, and twice that is kept ahead of the writer.
    pub(super) step: u64,
    /// The most a group of several records holds.
    pub(super) group: usize,
    /// The most all files hold together.
    pub(super) total: u64,
    /// The least a reserve file holds.
    pub(super) reserve: u64,
}

/// A file that is allocated and synced and waits for its use.
#[derive(Debug)]
pub(super) struct ReadyFile {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) allocated: u64,
}

/// The file that records go to.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) file: Arc<LogFile>,
    /// The end of the last record placed.
    pub(super) position: u64,
    /// Up to here the file is allocated and synced.
    pub(super) allocated: u64,
    /// How many ready files were left when this one was taken, if it came from the reserve.
    pub(super) from_reserve: Option<usize>,
}

/// What appenders, the writer and the grower share, behind one short mutex.
#[derive(Debug)]
pub(super) struct State {
    /// The LSN of the next reservation. Written by appenders.
    pub(super) next_lsn: Lsn,
    pub(super) cursor: Cursor,
    /// Groups to be written, oldest first. Appenders push, the writer pops.
    pub(super) queue: VecDeque<Arc<Group>>,
    /// Bytes in the youngest group of the queue, if it still takes records.
    pub(super) open_bytes: Option<usize>,
    /// Files for the next uses. The grower and trims push, appenders take.
    pub(super) ready: VecDeque<ReadyFile>,
    pub(super) growth: Growth,
    /// The greatest file number given out.
    pub(super) last_number: FileNumber,
    /// The greatest number in a file name. Written by the grower.
    pub(super) last_name: u64,
    /// Bytes of all files on disk.
    pub(super) disk_bytes: u64,
    /// The grower works on the cursor's file or a ready one at this moment.
    pub(super) growing: bool,
    /// Nobody needs records below this, and a synced record says so. Written by trims.
    pub(super) floor: Lsn,
    /// The greatest floor that a trim was asked for, whose record may not be synced yet.
    pub(super) floor_asked: Lsn,
    /// A published checkpoint covers the records up to here.
    pub(super) covered: Lsn,
    /// Writer and grower finish what is queued and end.
    pub(super) closing: bool,
    /// A sync of what was written is due (`wal.sync=interval`).
    pub(super) sync_due: bool,
    /// Bytes appended since the last checkpoint.
    pub(super) since_checkpoint: u64,
    /// What the largest group so far needs of a file to be recovered into, which the reserve must
    /// have.
    pub(super) largest_group: u64,
}

/// Whether space can be prepared.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Set by the grower when there is no more to be had, cleared by a retry or by freed files.
    pub(super) failed: Option<Failed>,
    /// The largest record, and its class, that somebody waits to place.
    pub(super) wanted: Option<(Class, u64)>,
    /// Counts the grower's attempts, so that a waiter sees that one was made.
    pub(super) attempts: u64,
}

/// Why space could not be prepared.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) reason: Arc<str>,
    /// When a waiter saw it first: from then on the time to a retry runs.
    pub(super) seen: Option<Instant>,
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The open group.
    Open,
    /// A new group of the cursor's file, at this position.
    NewGroup(u64),
    /// The first group of a ready file, by its index.
    NextFile(usize),
}

/// What the grower does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Create a ready file of this size.
    Create(u64),
    /// Grow a ready file, by its index, to this size.
    GrowReady(usize, u64),
    /// Grow the cursor's file to this size.
    GrowCurrent(u64),
    /// Remove a ready file, by its index.
    Remove(usize),
}

impl State {
    /// Where a record of `bytes` (with its header) can go now.
    pub(super) fn find(&self, class: Class, bytes: u64, sizes: &Sizes) -> Option<Place> {
        let with_group = GROUP_HEADER as u64 + bytes;
        let cursor = &self.cursor;
        // A file out of the reserve stays closed to those it was not kept for, unless the reserve
        // has been refilled.
        let entitled = cursor
            .from_reserve
            .is_none_or(|left| left >= class.leaves() || self.ready.len() >= class.leaves());
        if entitled {
            let open =
                self.open_bytes.is_some_and(|open| open as u64 + bytes <= sizes.group as u64);
            let group = with_group + self.open_bytes.unwrap_or(0) as u64;
            if open && cursor.position + bytes <= cursor.allocated && self.recovers(group, 0, sizes)
            {
                return Some(Place::Open);
            }
            if !self.recovers(with_group, 0, sizes) {
                return None;
            }
            let start = group_start(cursor.position);
            if start + with_group <= cursor.allocated {
                return Some(Place::NewGroup(start));
            }
            if self.grows_in_time(start + with_group, sizes) {
                return None;
            }
        }
        if self.ready.len() <= class.leaves() || !self.recovers(with_group, 1, sizes) {
            return None;
        }
        // The largest: what is kept for others is small anyway, and this one need not be grown.
        let largest = self.ready.iter().enumerate().max_by_key(|(_, file)| file.allocated);
        let (index, file) = largest?;
        (FIRST_GROUP + with_group <= file.allocated).then_some(Place::NextFile(index))
    }

    /// Whether a group of `bytes` could be recovered on a full disk: a ready file holds it when
    /// `taken` of them are gone. What the least reserve file holds is not looked at.
    fn recovers(&self, bytes: u64, taken: usize, sizes: &Sizes) -> bool {
        let needed = recovery_bytes(bytes).min(sizes.file);
        let large = |file: &&ReadyFile| file.allocated >= needed;
        needed <= sizes.reserve || self.ready.iter().filter(large).nth(taken).is_some()
    }

    /// Whether the cursor's file will be grown up to `end`, so that leaving it would waste it.
    fn grows_in_time(&self, end: u64, sizes: &Sizes) -> bool {
        end <= sizes.file && self.growth.failed.is_none() && !self.closing
    }

    /// What the grower should do now; the reserve comes before anything else.
    pub(super) fn next_work(&self, sizes: &Sizes) -> Option<Work> {
        if self.growing || self.closing {
            return None;
        }
        if self.ready.len() > MAX_READY {
            return Some(Work::Remove(self.ready.len() - 1));
        }
        if self.growth.failed.is_some() {
            return None;
        }
        let wanted = self.growth.wanted.map_or(0, |(_, bytes)| GROUP_HEADER as u64 + bytes);
        let largest = self.largest_group.max(recovery_bytes(wanted));
        let reserve = sizes.reserve.max(largest).min(sizes.file);
        if self.ready.len() < RESERVE_FILES {
            return Some(Work::Create(reserve));
        }
        if let Some(small) = self.ready.iter().position(|file| file.allocated < reserve) {
            return Some(Work::GrowReady(small, reserve));
        }
        let ahead = 2 * sizes.step;
        let cursor = &self.cursor;
        if cursor.allocated < sizes.file && cursor.allocated < cursor.position + ahead {
            return Some(Work::GrowCurrent((cursor.allocated + sizes.step).min(sizes.file)));
        }
        // The next file is begun early: it takes longer than a step.
        let at_the_end =
            cursor.allocated >= sizes.file && cursor.allocated < cursor.position + 4 * ahead;
        if at_the_end && self.ready.len() <= RESERVE_FILES {
            return Some(Work::Create(ahead.max(reserve).min(sizes.file)));
        }
        self.wanted_work(sizes)
    }

    /// What makes room for a record that somebody waits to place.
    fn wanted_work(&self, sizes: &Sizes) -> Option<Work> {
        let (class, bytes) = self.growth.wanted?;
        if self.find(class, bytes, sizes).is_some() {
            return None;
        }
        let with_group = GROUP_HEADER as u64 + bytes;
        let cursor = &self.cursor;
        if group_start(cursor.position) + with_group <= sizes.file && cursor.allocated < sizes.file
        {
            return Some(Work::GrowCurrent((cursor.allocated + sizes.step).min(sizes.file)));
        }
        let size = round_up(FIRST_GROUP + with_group, sizes);
        if self.ready.len() <= class.leaves() {
            return Some(Work::Create(size));
        }
        let largest = self.ready.iter().enumerate().max_by_key(|(_, file)| file.allocated);
        let (index, file) = largest?;
        (file.allocated < size).then_some(Work::GrowReady(index, size))
    }
}

/// `bytes` rounded up to whole pages, and within a file.
fn round_up(bytes: u64, sizes: &Sizes) -> u64 {
    bytes.next_multiple_of(PAGE).min(sizes.file)
}

//! What a directory holds: which files are the log, how far it is proven, where it ends. Reads
//! only; `open`, `inspect` and `check` act on it.
//!
//! The newest file header names its predecessor, that one its own, and so on: these are the log,
//! everything else is free space. A file holds the LSNs from its first up to the next file's first;
//! what lies above in it is void. The header proves that what came before was synced, each group
//! header proves an LSN too, and so does a checkpoint. The first bad record above the greatest
//! proven LSN starts the torn tail, also if good ones follow; a bad one below it is corruption.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::OpenError;
use super::checkpoint::{self, Published};
use super::grow::{SUFFIX, UNFINISHED};
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::format::{
    BadHeader, FIRST_GROUP, FileHeader, GROUP_ALIGN, GROUP_HEADER, GroupHeader, PAGE, group_start,
    starts_group,
};
use crate::wal::read::{Entry, Walk, WalkError};
use crate::wal::{FileNumber, Kind, Lsn};

/// How much is read at once when good group headers are searched behind a bad record.
const SEARCH_BYTES: usize = 1 << 20;

/// A file of the log.
#[derive(Debug, Clone)]
pub(in crate::wal) struct Found {
    pub(in crate::wal) name: String,
    pub(in crate::wal) file: Arc<dyn DiskFile>,
    pub(in crate::wal) len: u64,
    pub(in crate::wal) header: FileHeader,
}

/// A file that holds nothing of the log.
#[derive(Debug, Clone)]
pub(in crate::wal) struct Free {
    pub(in crate::wal) name: String,
    pub(in crate::wal) file: Arc<dyn DiskFile>,
    pub(in crate::wal) len: u64,
}

/// The files of a directory.
#[derive(Debug)]
pub(in crate::wal) struct Layout {
    /// The log, oldest file first.
    pub(in crate::wal) chain: Vec<Found>,
    pub(in crate::wal) free: Vec<Free>,
    /// Leftovers of a crash, to be removed.
    pub(in crate::wal) leftovers: Vec<String>,
    pub(in crate::wal) checkpoints: Published,
    /// The greatest file number seen.
    pub(in crate::wal) last_number: FileNumber,
    /// The greatest number in a file name.
    pub(in crate::wal) last_name: u64,
}

/// What was found in a file from its first record on.
#[derive(Debug, Clone, Default)]
pub(in crate::wal) struct FileScan {
    pub(in crate::wal) groups: u64,
    pub(in crate::wal) records: u64,
    /// The LSN after the last good record.
    pub(in crate::wal) next_lsn: Lsn,
    /// Where the last good record ends.
    pub(in crate::wal) end: u64,
    /// Where the first bad group or record is, if the file goes on there at all.
    pub(in crate::wal) stopped_at: u64,
    /// Something was being written where the scan stopped.
    pub(in crate::wal) torn: bool,
    /// The greatest LSN that the good group headers prove.
    pub(in crate::wal) proven: Lsn,
    pub(in crate::wal) append_ms: Option<i64>,
    pub(in crate::wal) metadata_number: u64,
}

/// What the log's records from the checkpoint on say.
#[derive(Debug)]
pub(in crate::wal) struct Analysis {
    pub(in crate::wal) layout: Layout,
    /// The records up to here were synced.
    pub(in crate::wal) proven: Lsn,
    /// The last good record; what comes after it is a torn tail.
    pub(in crate::wal) end: Lsn,
    /// The scan of the last file.
    pub(in crate::wal) last: FileScan,
    pub(in crate::wal) metadata_number: u64,
    pub(in crate::wal) append_ms: Option<i64>,
    /// Nobody needs records below this.
    pub(in crate::wal) floor: Lsn,
}

/// Finds out which files are the log.
pub(in crate::wal) fn layout(disk: &dyn Disk, writable: bool) -> Result<Layout, OpenError> {
    let names = disk.list().map_err(|source| OpenError::io("list the directory", source))?;
    let mut headed: BTreeMap<FileNumber, Found> = BTreeMap::new();
    let (mut free, mut leftovers, mut last_name) = (Vec::new(), Vec::new(), 0);
    for name in &names {
        if name.ends_with(UNFINISHED) {
            leftovers.push(name.clone());
            continue;
        }
        let Some(stem) = name.strip_suffix(SUFFIX) else { continue };
        last_name = last_name.max(stem.parse().unwrap_or(0));
        let opened = disk.open(name, writable);
        let file = opened.map_err(|source| OpenError::io(format!("open \"{name}\""), source))?;
        let about = |source| OpenError::io(format!("read \"{name}\""), source);
        let len = file.len().map_err(about)? / PAGE * PAGE;
        let name = name.clone();
        match read_header(&*file, &name)? {
            Some(header) => {
                headed.insert(header.number, Found { name, file, len, header });
            }
            None => free.push(Free { name, file, len }),
        }
    }
    let checkpoints = checkpoint::find(disk, &names)?;
    let last_number = headed.keys().next_back().copied().unwrap_or_default();
    let mut chain = Vec::new();
    let mut next = last_number;
    while let Some(found) = headed.remove(&next) {
        next = found.header.previous;
        chain.push(found);
    }
    chain.reverse();
    free.extend(headed.into_values().map(|Found { name, file, len, .. }| Free { name, file, len }));
    Ok(Layout { chain, free, leftovers, checkpoints, last_number, last_name })
}

/// The header of a file: the newer of its two copies, `None` if neither is good.
fn read_header(file: &dyn DiskFile, name: &str) -> Result<Option<FileHeader>, OpenError> {
    let mut pages = Vec::new();
    file.read(&mut pages, FIRST_GROUP as usize, 0)
        .map_err(|source| OpenError::io(format!("read \"{name}\""), source))?;
    let mut newest: Option<FileHeader> = None;
    for page in pages.chunks(PAGE as usize) {
        match FileHeader::decode(page) {
            Ok(header) if newest.is_none_or(|other| other.number < header.number) => {
                newest = Some(header);
            }
            Err(reason @ BadHeader::Version { .. }) => {
                return Err(OpenError::Version {
                    file: name.to_owned(),
                    reason: reason.to_string(),
                });
            }
            Ok(_) | Err(BadHeader::NotOne) => {}
        }
    }
    Ok(newest)
}

/// Walks the records of a file from its first on, up to `until` where that is known.
pub(in crate::wal) fn scan(
    found: &Found,
    until: Option<Lsn>,
    mut visit: impl FnMut(&Entry),
) -> io::Result<FileScan> {
    let mut walk = Walk::new(Arc::clone(&found.file), &found.header, FIRST_GROUP, found.len);
    walk.expect(found.header.first_lsn);
    let mut scan = FileScan {
        next_lsn: found.header.first_lsn,
        end: FIRST_GROUP,
        stopped_at: FIRST_GROUP,
        ..FileScan::default()
    };
    let mut in_group = Lsn::ZERO;
    while until.is_none_or(|until| scan.next_lsn < until) {
        let entry = walk.next_entry();
        if let Some(group) = walk.group()
            && group.first_lsn > in_group
        {
            // The header counts even where its first record is bad.
            in_group = group.first_lsn;
            scan.groups += 1;
            scan.proven = scan.proven.max(group.proven);
            scan.metadata_number = scan.metadata_number.max(group.metadata_number);
            scan.append_ms = scan.append_ms.max(Some(group.append_ms));
        }
        match entry {
            Ok(Some(entry)) => {
                visit(&entry);
                scan.records += 1;
                scan.next_lsn = entry.lsn.next();
                scan.end = entry.location.end();
                scan.stopped_at = scan.end;
            }
            Ok(None) => break,
            Err(WalkError::Bad { position }) => {
                scan.stopped_at = position;
                scan.torn = walk.is_inside_group();
                break;
            }
            Err(WalkError::Io(error)) => return Err(error),
        }
    }
    Ok(scan)
}

/// The greatest LSN that good group headers of this use of the file prove from `position` on;
/// `None` if there are none.
pub(in crate::wal) fn proven_behind(found: &Found, position: u64) -> io::Result<Option<Lsn>> {
    let mut proven = None;
    let mut at = group_start(position);
    let mut bytes = Vec::new();
    while at < found.len {
        bytes.clear();
        found.file.read(&mut bytes, SEARCH_BYTES + GROUP_HEADER, at)?;
        let mut offset = 0;
        while offset < SEARCH_BYTES {
            let Some(rest) = bytes.get(offset..) else { break };
            if starts_group(rest)
                && let Ok(group) = GroupHeader::decode(rest)
                && group.number == found.header.number
                && group.salt == found.header.salt
            {
                proven = proven.max(Some(group.proven));
            }
            offset += GROUP_ALIGN as usize;
        }
        at += SEARCH_BYTES as u64;
    }
    Ok(proven)
}

/// Reads the log from its checkpoint on.
pub(in crate::wal) fn analyse(layout: Layout) -> Result<Analysis, OpenError> {
    let covered = layout.checkpoints.covered();
    let mut analysis = Analysis {
        proven: layout.checkpoints.reaches(),
        end: Lsn::ZERO,
        last: FileScan::default(),
        metadata_number: layout.checkpoints.metadata_number(),
        append_ms: layout.checkpoints.append_ms(),
        floor: layout.checkpoints.floor(),
        layout,
    };
    let chain = std::mem::take(&mut analysis.layout.chain);
    let scanned = analysis.scan_chain(&chain, covered);
    analysis.layout.chain = chain;
    scanned?;
    Ok(analysis)
}

impl Analysis {
    fn scan_chain(&mut self, chain: &[Found], covered: Lsn) -> Result<(), OpenError> {
        let (Some(oldest), Some(newest)) = (chain.first(), chain.last()) else {
            if covered > Lsn::ZERO {
                return Err(OpenError::Missing { first: covered.next(), until: covered.next() });
            }
            return Ok(());
        };
        check_identities(chain)?;
        if oldest.header.first_lsn > covered.next() {
            let until = oldest.header.first_lsn.previous();
            return Err(OpenError::Missing { first: covered.next(), until });
        }
        let mut newest_checkpoint = 0;
        for (index, found) in chain.iter().enumerate() {
            let header = &found.header;
            self.metadata_number = self.metadata_number.max(header.metadata_number);
            self.proven = self.proven.max(header.proven).max(header.first_lsn.previous());
            let next = chain.get(index + 1).map(|next| next.header.first_lsn);
            if next.is_some_and(|next| next <= covered.next()) {
                continue;
            }
            let mut floor = self.floor;
            let about = |source| OpenError::io(format!("read \"{}\"", found.name), source);
            let scan = scan(found, next, |entry| match entry.kind {
                Kind::TRIM => floor = floor.max(number_in(&entry.payload)),
                Kind::CHECKPOINT => newest_checkpoint = number_in(&entry.payload).0,
                _ => {}
            })
            .map_err(about)?;
            self.floor = floor;
            self.metadata_number = self.metadata_number.max(scan.metadata_number);
            self.append_ms = self.append_ms.max(scan.append_ms);
            self.proven = self.proven.max(scan.proven);
            self.end = scan.next_lsn.previous();
            if let Some(next) = next.filter(|next| scan.next_lsn < *next) {
                let proven = next.previous();
                return Err(corrupt(found, &scan, proven));
            }
            self.last = scan;
        }
        let behind = proven_behind(newest, self.last.stopped_at);
        let behind =
            behind.map_err(|source| OpenError::io(format!("read \"{}\"", newest.name), source))?;
        self.last.torn |= behind.is_some();
        self.proven = self.proven.max(behind.unwrap_or_default());
        if self.proven > self.end {
            return Err(corrupt(newest, &self.last, self.proven));
        }
        if oldest.header.previous > FileNumber(0) && oldest.header.first_lsn > self.floor {
            let until = oldest.header.first_lsn.previous();
            return Err(OpenError::Missing { first: self.floor, until });
        }
        self.layout.checkpoints.expect(newest_checkpoint)
    }
}

fn check_identities(chain: &[Found]) -> Result<(), OpenError> {
    let mut identities = chain.iter().map(|found| found.header.identity);
    let first = identities.next().unwrap_or_default();
    match identities.find(|other| *other != first) {
        Some(other) => Err(OpenError::foreign(first, other)),
        None => Ok(()),
    }
}

fn corrupt(found: &Found, scan: &FileScan, proven: Lsn) -> OpenError {
    OpenError::Corrupt {
        file: found.name.clone(),
        position: scan.stopped_at,
        lsn: scan.next_lsn,
        proven,
    }
}

/// The number at the start of a record of the log's own.
fn number_in(payload: &[u8]) -> Lsn {
    Lsn(payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

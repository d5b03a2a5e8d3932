//! Reading records back from their files.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::disk::DiskFile;
use super::format::{
    FIRST_GROUP, FileHeader, GROUP_ALIGN, GROUP_HEADER, GroupHeader, RECORD_HEADER, RecordHeader,
    Seed, group_start,
};
use super::stream::Shared;
use super::{FileNumber, Kind, Location, Lsn};

/// How much of a file one read takes while records are walked, in bytes; more for a larger record.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A file in use.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) header: FileHeader,
    /// Its name on the disk, which outlives the use.
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    /// Readers that must not find other bytes in it.
    pub(super) pins: AtomicUsize,
}

impl LogFile {
    pub(super) fn number(&self) -> FileNumber {
        self.header.number
    }

    pub(super) fn seed(&self) -> Seed {
        self.header.seed()
    }
}

/// The files in use, by number.
#[derive(Debug, Default)]
pub(super) struct Files {
    map: RwLock<BTreeMap<FileNumber, Arc<LogFile>>>,
}

impl Files {
    pub(super) fn insert(&self, file: Arc<LogFile>) {
        self.write().insert(file.number(), file);
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&BTreeMap<FileNumber, Arc<LogFile>>) -> T) -> T {
        look(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes what nobody needs: from the oldest on, files whose records are all below `floor` and
    /// that nobody reads; never the newest.
    pub(super) fn take_below(&self, floor: Lsn) -> Vec<Arc<LogFile>> {
        let mut map = self.write();
        let mut gone = Vec::new();
        loop {
            let mut oldest = map.values();
            let (Some(first), Some(second)) = (oldest.next(), oldest.next()) else { break };
            let in_use = first.pins.load(Ordering::SeqCst) > 0;
            if second.header.first_lsn > floor || in_use {
                break;
            }
            gone.extend(map.pop_first().map(|(_, file)| file));
        }
        gone
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<FileNumber, Arc<LogFile>>> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a file from being used again while it is held. A file waits for its readers, so hold it no
/// longer than a read.
#[derive(Debug)]
pub struct Pin {
    file: Arc<LogFile>,
    shared: Arc<Shared>,
}

impl Pin {
    /// `None` if the file is no longer in use.
    pub(super) fn new(shared: &Arc<Shared>, number: FileNumber) -> Option<Self> {
        let file = shared.files.with(|files| {
            let file = files.get(&number)?;
            file.pins.fetch_add(1, Ordering::SeqCst);
            Some(Arc::clone(file))
        })?;
        Some(Self { file, shared: Arc::clone(shared) })
    }

    /// The file that is held.
    pub fn file(&self) -> FileNumber {
        self.file.number()
    }

    /// The payload of the record at `location`, which must be in this file. Blocks.
    pub fn read_record(&self, location: Location) -> Result<Bytes, ReadError> {
        let mut bytes = Vec::new();
        let total = RECORD_HEADER + location.len as usize;
        self.read(&mut bytes, total, location.position)?;
        let header = check_record(self.file.seed(), &bytes, Lsn::ZERO);
        let (Some(header), true) = (header, bytes.len() == total) else {
            return Err(self.corrupt(location.position));
        };
        if header.len != location.len {
            return Err(self.corrupt(location.position));
        }
        Ok(Bytes::from(bytes).slice(RECORD_HEADER..))
    }

    /// Walks the records from position `start`, where a record or a group must begin, up to `end`,
    /// until `visit` breaks. Returns where the walk ended. Blocks; memory is about 1 MiB, or the
    /// largest record.
    pub fn read_span(
        &self,
        start: u64,
        end: u64,
        mut visit: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<u64, ReadError> {
        let mut walk = Walk::new(Arc::clone(&self.file.file), &self.file.header, start, end);
        loop {
            let next = walk.next_entry().map_err(|error| self.error(error))?;
            let Some(entry) = next else { return Ok(walk.position()) };
            let after = entry.location.end();
            if visit(entry).is_break() {
                return Ok(after);
            }
        }
    }

    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> Result<(), ReadError> {
        let read = self.file.file.read(into, len, position);
        read.map_err(|source| ReadError::Io { file: self.file(), source })
    }

    /// A walk over all records of the file, the first of which is known.
    pub(super) fn walk(&self) -> Walk {
        let header = &self.file.header;
        let mut walk = Walk::new(Arc::clone(&self.file.file), header, FIRST_GROUP, u64::MAX);
        walk.expect(header.first_lsn);
        walk
    }

    pub(super) fn error(&self, error: WalkError) -> ReadError {
        match error {
            WalkError::Bad { position } => self.corrupt(position),
            WalkError::Io(source) => ReadError::Io { file: self.file(), source },
        }
    }

    fn corrupt(&self, position: u64) -> ReadError {
        self.shared.metrics.corrupt_read();
        ReadError::Corrupt { file: self.file(), name: self.file.name.clone(), position }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.file.pins.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.unpinned();
        }
    }
}

/// Why a record could not be read. No bytes were handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file was taken back: what the location named is trimmed.
    #[error("file {file} of the write-ahead log has been trimmed")]
    Recycled {
        /// The file.
        file: FileNumber,
    },
    /// The bytes are not the record that must be there.
    #[error(
        "file {file} (\"{name}\") of the write-ahead log is damaged at byte {position}; \
         see `tidegate wal check`"
    )]
    Corrupt {
        /// The file.
        file: FileNumber,
        /// Its name in the directory.
        name: String,
        /// Where the damaged record or group starts.
        position: u64,
    },
    /// The disk did not give the bytes.
    #[error("read file {file} of the write-ahead log")]
    Io {
        /// The file.
        file: FileNumber,
        /// The cause.
        source: io::Error,
    },
}

/// A record as it is walked over.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub lsn: Lsn,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub location: Location,
    /// Its payload, checked.
    pub payload: Bytes,
    /// Wall time in ms at which its group was written.
    pub append_ms: i64,
}

/// The header of the record at the start of `bytes`, if the record is whole, its crc is right and
/// (unless it is zero) its number is `lsn`.
fn check_record(seed: Seed, bytes: &[u8], lsn: Lsn) -> Option<RecordHeader> {
    let header = RecordHeader::decode(bytes)?;
    let record = bytes.get(..RECORD_HEADER.checked_add(header.len as usize)?)?;
    let expected = lsn == Lsn::ZERO || header.lsn == lsn;
    (expected && seed.verifies(header.crc, record)).then_some(header)
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum WalkError {
    /// What is at `position` is no good group or record.
    Bad {
        position: u64,
    },
    Io(io::Error),
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        WalkError::Io(error)
    }
}

/// Walks groups and records of one use of a file.
#[derive(Debug)]
pub(super) struct Walk {
    file: Arc<dyn DiskFile>,
    number: FileNumber,
    salt: u64,
    seed: Seed,
    /// Where the next record or group is.
    at: u64,
    end: u64,
    /// The group that `at` is in, and how many of its records are left.
    group: Option<(GroupHeader, u64)>,
    /// The number that the next record must have, if known.
    next_lsn: Option<Lsn>,
    /// Bytes of the file from `buffer_at` on.
    buffer: Bytes,
    buffer_at: u64,
}

impl Walk {
    pub(super) fn new(file: Arc<dyn DiskFile>, header: &FileHeader, start: u64, end: u64) -> Self {
        Self {
            file,
            number: header.number,
            salt: header.salt,
            seed: header.seed(),
            at: start,
            end,
            group: None,
            next_lsn: None,
            buffer: Bytes::new(),
            buffer_at: start,
        }
    }

    /// Where the next record or group is.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at the end of the span.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, WalkError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let group = match self.group {
            Some((group, end)) if self.at < end => group,
            Some(_) => {
                self.at = group_start(self.at);
                if self.at >= self.end {
                    return Ok(None);
                }
                self.enter_group()?
            }
            None => self.find_group()?,
        };
        let bad = WalkError::Bad { position: self.at };
        let group_end = self.group.map_or(0, |(_, end)| end);
        let Some(header) = RecordHeader::decode(self.bytes(RECORD_HEADER)?) else {
            return Err(bad);
        };
        let total = RECORD_HEADER as u64 + u64::from(header.len);
        if self.at + total > group_end {
            return Err(bad);
        }
        let (seed, lsn) = (self.seed, self.next_lsn.unwrap_or(Lsn::ZERO));
        if check_record(seed, self.bytes(total as usize)?, lsn).is_none() {
            return Err(bad);
        }
        let from = (self.at - self.buffer_at) as usize;
        let payload = self.buffer.slice(from + RECORD_HEADER..from + total as usize);
        let location = Location { file: self.number, position: self.at, len: header.len };
        self.at += total;
        self.next_lsn = Some(header.lsn.next());
        let append_ms = group.append_ms;
        Ok(Some(Entry { lsn: header.lsn, kind: header.kind, location, payload, append_ms }))
    }

    /// Enters the group whose header is at `at`, and steps over the header.
    fn enter_group(&mut self) -> Result<GroupHeader, WalkError> {
        let group = self.group_at_cursor()?;
        self.group = Some((group, self.at + group.total_bytes()));
        self.next_lsn = Some(group.first_lsn);
        self.at += GROUP_HEADER as u64;
        Ok(group)
    }

    /// The group that the cursor is in or has just left.
    pub(super) fn group(&self) -> Option<&GroupHeader> {
        self.group.as_ref().map(|(group, _)| group)
    }

    /// Whether records of the group at the cursor are still to come.
    pub(super) fn is_inside_group(&self) -> bool {
        self.group.is_some_and(|(_, end)| self.at < end)
    }

    /// Says which LSN the first record must have.
    pub(super) fn expect(&mut self, lsn: Lsn) {
        self.next_lsn = Some(lsn);
    }

    fn group_at_cursor(&mut self) -> Result<GroupHeader, WalkError> {
        let bad = WalkError::Bad { position: self.at };
        let expected = self.next_lsn;
        let (number, salt) = (self.number, self.salt);
        let Ok(group) = GroupHeader::decode(self.bytes(GROUP_HEADER)?) else { return Err(bad) };
        let ours = group.number == number && group.salt == salt;
        let follows = expected.is_none_or(|lsn| lsn == group.first_lsn);
        if ours && follows && group.records > 0 { Ok(group) } else { Err(bad) }
    }

    /// The walk starts at a group's header, or at a record, which says where its group starts.
    fn find_group(&mut self) -> Result<GroupHeader, WalkError> {
        if self.at.is_multiple_of(GROUP_ALIGN)
            && let Ok(group) = self.enter_group()
        {
            return Ok(group);
        }
        let bad = WalkError::Bad { position: self.at };
        let Some(record) = RecordHeader::decode(self.bytes(RECORD_HEADER)?) else {
            return Err(bad);
        };
        let Some(start) = self.at.checked_sub(u64::from(record.group_offset)) else {
            return Err(bad);
        };
        let mut header = Vec::with_capacity(GROUP_HEADER);
        self.file.read(&mut header, GROUP_HEADER, start)?;
        let Ok(group) = GroupHeader::decode(&header) else { return Err(bad) };
        let end = start + group.total_bytes();
        let ours = group.number == self.number && group.salt == self.salt;
        let within = (group.first_lsn..group.next_lsn()).contains(&record.lsn);
        if !ours || !within || self.at >= end {
            return Err(bad);
        }
        self.group = Some((group, end));
        self.next_lsn = Some(record.lsn);
        Ok(group)
    }

    /// `len` bytes from the cursor on, or fewer where the file ends.
    fn bytes(&mut self, len: usize) -> Result<&[u8], WalkError> {
        let from = (self.at - self.buffer_at) as usize;
        if self.buffer.len() < from.saturating_add(len) {
            let kept = self.buffer.get(from..).unwrap_or_default();
            let span = usize::try_from(self.end - self.at.min(self.end)).unwrap_or(usize::MAX);
            // One record may make a span a little longer than a chunk: it is not read twice.
            let ahead = if span <= 2 * CHUNK_BYTES { span } else { CHUNK_BYTES };
            let mut wanted = len.max(ahead);
            if wanted > CHUNK_BYTES {
                // A damaged length takes no more memory than the file has bytes.
                let left = self.file.len()?.saturating_sub(self.at);
                wanted = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            let mut next = Vec::with_capacity(wanted.max(kept.len()));
            next.extend_from_slice(kept);
            let kept = kept.len();
            self.file.read(&mut next, wanted.saturating_sub(kept), self.at + kept as u64)?;
            self.buffer = Bytes::from(next);
            self.buffer_at = self.at;
        }
        let from = (self.at - self.buffer_at) as usize;
        let until = (from + len).min(self.buffer.len());
        Ok(&self.buffer[from..until])
    }
}

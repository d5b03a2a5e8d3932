//! Opening a directory: recovery, and what it hands to those who replay.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;

use super::checkpoint::Checkpoint;
use super::recover::{Analysis, Found, Free, analyse, layout, scan};
use super::{Env, Options, Start, grow, start, writer};
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::format::{
    FIRST_GROUP, FileHeader, GROUP_HEADER, GroupHeader, PAGE, RecordHeader, Seed, group_start,
    recovery_bytes,
};
use crate::wal::read::{Entry, LogFile, Pin, ReadError, Walk, WalkError};
use crate::wal::room::{Cursor, ReadyFile};
use crate::wal::{FileNumber, Lsn, Stream};

/// A file that holds no more than this is copied whole at a restart, so that restarts do not leave
/// a trail of nearly empty files.
const SMALL_FILE_BYTES: u64 = 4 << 20;

/// Why a directory was not opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the write-ahead log is in use by another process; stop it first")]
    Locked,
    /// The disk refused.
    #[error("write-ahead log: {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The log belongs to another data directory.
    #[error(
        "the write-ahead log belongs to data directory {found}, and this is {expected}; \
         use the directory that belongs together"
    )]
    Foreign {
        /// The identity in the log.
        found: String,
        /// The identity it must have.
        expected: String,
    },
    /// Records that were synced are damaged.
    #[error(
        "\"{file}\" of the write-ahead log is damaged at byte {position}: record {lsn} is bad, and \
         records up to {proven} had been synced; see `tidegate wal check`"
    )]
    Corrupt {
        /// The file's name.
        file: String,
        /// Where the bad group or record starts.
        position: u64,
        /// The LSN that must be there.
        lsn: Lsn,
        /// Up to here everything had been synced.
        proven: Lsn,
    },
    /// Records are not there at all.
    #[error(
        "records {first} to {until} of the write-ahead log are missing: a file of it is gone; \
         see `tidegate wal check`"
    )]
    Missing {
        /// The first missing record.
        first: Lsn,
        /// The last one.
        until: Lsn,
    },
    /// A checkpoint is damaged, or one that it builds on is missing.
    #[error("checkpoint \"{file}\" is damaged or does not continue the one before")]
    CorruptCheckpoint {
        /// The file's name.
        file: String,
    },
    /// The log says that a later checkpoint was published.
    #[error("checkpoint {sequence} is missing, the last one found is {last}")]
    LostCheckpoint {
        /// The sequence number that the log names.
        sequence: u64,
        /// The last one in the directory.
        last: u64,
    },
    /// A later version wrote it.
    #[error("\"{file}\" of the write-ahead log cannot be read: {reason}; use the newer version")]
    Version {
        /// The file's name.
        file: String,
        /// What is unknown.
        reason: String,
    },
}

impl OpenError {
    pub(in crate::wal) fn io(what: impl Into<String>, source: io::Error) -> Self {
        OpenError::Io { what: what.into(), source }
    }

    pub(super) fn foreign(found: [u8; 16], expected: [u8; 16]) -> Self {
        let hex = |bytes: [u8; 16]| format!("{:032x}", u128::from_be_bytes(bytes));
        OpenError::Foreign { found: hex(found), expected: hex(expected) }
    }
}

/// What a directory holds, before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalState {
    /// The identity that the log names.
    pub identity: [u8; 16],
    /// Whether any record was ever durable.
    pub has_records: bool,
    /// The greatest metadata number that the log depends on.
    pub metadata_number: u64,
}

/// Looks at a directory without changing it; `None` if it holds no log.
pub fn inspect(disk: &dyn Disk) -> Result<Option<WalState>, OpenError> {
    let analysis = analyse(layout(disk, false)?)?;
    Ok(identity(&analysis).map(|identity| WalState {
        identity,
        has_records: analysis.end > Lsn::ZERO,
        metadata_number: analysis.metadata_number,
    }))
}

fn identity(analysis: &Analysis) -> Option<[u8; 16]> {
    let newest = analysis.layout.chain.last().map(|found| found.header.identity);
    newest.or(analysis.layout.checkpoints.identity())
}

/// An open log.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready for appends. Serve nothing before the replay is done.
    pub stream: Stream,
    /// What it holds.
    pub recovered: Recovered,
}

/// What an opened log holds.
#[derive(Debug)]
pub struct Recovered {
    /// The last base and its deltas, in the order in which they apply.
    pub checkpoints: Vec<Checkpoint>,
    /// The records after what the checkpoints cover.
    pub replay: Replay,
    /// Records up to here are in the checkpoints.
    pub covered: Lsn,
    /// The last record.
    pub end: Lsn,
    /// The greatest metadata number that the log depends on: metadata that ends below it belongs to
    /// another or an older bucket.
    pub metadata_number: u64,
    /// Whether records that were never acknowledged were cut off the end.
    pub torn: bool,
}

/// Opens a directory, an empty one included. What lies above the proven LSN is copied into a fresh
/// file, synced, and made part of the log by that file's header; cut at any step, this can be
/// repeated. Blocks. With [`super::SyncMode::Interval`] it must be called within a runtime.
pub fn open(disk: &Arc<dyn Disk>, options: &Options, env: &Env) -> Result<Opened, OpenError> {
    let before = env.clock.now();
    let lock = disk.lock().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::io("lock the directory", source),
    })?;
    let analysis = analyse(layout(&**disk, true)?)?;
    if let Some(found) = identity(&analysis)
        && found != options.identity
    {
        return Err(OpenError::foreign(found, options.identity));
    }
    let torn = analysis.last.torn;
    let mut recovery = Recovery { disk, options, env, analysis };
    recovery.clean()?;
    let (file, cursor) = recovery.continue_in_fresh_file()?;
    let Analysis { layout, end, metadata_number, append_ms, floor, .. } = recovery.analysis;
    let covered = layout.checkpoints.covered();
    let mut files: Vec<Arc<LogFile>> = layout.chain.into_iter().map(Found::into_log_file).collect();
    files.push(file);
    let ready: VecDeque<ReadyFile> = layout.free.into_iter().map(Free::into_ready).collect();
    let disk_bytes = ready.iter().map(|ready| ready.allocated).sum::<u64>()
        + files.iter().map(|file| file.file.len().unwrap_or(0)).sum::<u64>();
    let replay_files = files.clone();
    let at = Start {
        lock,
        files,
        cursor,
        ready,
        last_number: FileNumber(layout.last_number.0 + 1),
        last_name: layout.last_name,
        disk_bytes,
        durable: end,
        metadata_number,
        append_ms: append_ms.or(options.log_clock_ms),
        floor,
        covered,
        checkpoints: layout.checkpoints.state(),
    };
    let stream = start(disk, options, env, at)
        .map_err(|source| OpenError::io("start a thread of the log", source))?;
    let replay = Replay::new(&stream, &replay_files, covered, end);
    stream.shared().recycle();
    env.metrics.recovered(env.clock.now() - before);
    let checkpoints = layout.checkpoints.current;
    let recovered = Recovered { checkpoints, replay, covered, end, metadata_number, torn };
    Ok(Opened { stream, recovered })
}

impl Found {
    fn into_log_file(self) -> Arc<LogFile> {
        Arc::new(LogFile { header: self.header, name: self.name, file: self.file, pins: 0.into() })
    }

    pub(in crate::wal) fn into_free(self) -> Free {
        Free { name: self.name, file: self.file, len: self.len }
    }
}

impl Free {
    fn into_ready(self) -> ReadyFile {
        ReadyFile { name: self.name, file: self.file, allocated: self.len }
    }
}

/// An analysed directory that is made ready for appends.
struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    env: &'a Env,
    analysis: Analysis,
}

impl Recovery<'_> {
    /// Removes leftovers, and makes durable what a killed process may have left in the cache.
    fn clean(&self) -> Result<(), OpenError> {
        let layout = &self.analysis.layout;
        let sync = || self.disk.sync_dir();
        sync().map_err(|source| OpenError::io("sync the directory", source))?;
        // The newest header may be there only in the cache. Were it lost once files that it makes
        // free are overwritten, their older headers would count again.
        if let Some(newest) = layout.chain.last() {
            let about = |source| OpenError::io(format!("sync \"{}\"", newest.name), source);
            newest.file.sync().map_err(about)?;
        }
        for name in layout.leftovers.iter().chain(&layout.checkpoints.stale) {
            self.disk
                .remove(name)
                .map_err(|source| OpenError::io(format!("remove \"{name}\""), source))?;
        }
        sync().map_err(|source| OpenError::io("sync the directory", source))
    }

    /// The records from the returned LSN on go into the fresh file, which must be this large.
    fn plan(&self) -> Result<(Lsn, u64), OpenError> {
        let above = self.analysis.proven.next();
        let needed = self.needed_bytes(above)?;
        let Some(last) = self.analysis.layout.chain.last() else { return Ok((above, needed)) };
        let first = last.header.first_lsn;
        let small = self.analysis.last.end <= SMALL_FILE_BYTES;
        // What a checkpoint knows stays where the checkpoint says it is.
        if !small || first <= self.analysis.layout.checkpoints.reaches() {
            return Ok((above, needed));
        }
        let whole = self.needed_bytes(first)?;
        let fits = |needed| self.analysis.layout.free.iter().any(|free| free.len >= needed);
        // On a full disk the free files are all there is: take one that is there.
        if fits(whole) || !fits(needed) { Ok((first, whole)) } else { Ok((above, needed)) }
    }

    fn continue_in_fresh_file(&mut self) -> Result<(Arc<LogFile>, Cursor), OpenError> {
        let (from, needed) = self.plan()?;
        let end = self.analysis.end;
        let (free, from_reserve) = self.target(needed)?;
        let about = |source| OpenError::io(format!("write \"{}\"", free.name), source);
        let layout = &mut self.analysis.layout;
        let mut previous = layout.chain.last().map_or(FileNumber(0), |last| last.header.number);
        let source = layout.chain.last().cloned();
        let voided = source.as_ref().filter(|last| last.header.first_lsn == from);
        if let Some(voided) = voided {
            previous = voided.header.previous;
        }
        let header = FileHeader {
            number: FileNumber(layout.last_number.0 + 1),
            salt: self.env.random.u64(),
            identity: self.options.identity,
            first_lsn: from,
            proven: end,
            previous,
            metadata_number: self.analysis.metadata_number,
            wall_ms: self.env.clock.wall_ms(),
        };
        let mut position = FIRST_GROUP;
        if let Some(source) = source.as_ref().filter(|_| from <= end) {
            let mut copy = Copy { to: &*free.file, header, position };
            copy.records(source, from, end).map_err(about)?;
            position = copy.position;
        }
        // The records first, then what makes them part of the log.
        free.file.sync().map_err(about)?;
        let pages = writer::file_pages(&header);
        free.file.write(&mut [IoSlice::new(&pages)], 0).map_err(about)?;
        free.file.sync().map_err(about)?;
        if voided.is_some() {
            let layout = &mut self.analysis.layout;
            layout.free.extend(layout.chain.pop().map(Found::into_free));
        }
        let allocated = free.len;
        let Free { name, file, .. } = free;
        let file = Arc::new(LogFile { header, name, file, pins: 0.into() });
        let cursor = Cursor { file: Arc::clone(&file), position, allocated, from_reserve };
        Ok((file, cursor))
    }

    /// How large the fresh file must be.
    fn needed_bytes(&self, from: Lsn) -> Result<u64, OpenError> {
        let Some(last) = self.analysis.layout.chain.last().filter(|_| from <= self.analysis.end)
        else {
            return Ok(FIRST_GROUP + PAGE);
        };
        let mut first = None;
        scan(last, Some(from.next()), |entry| {
            if entry.lsn == from {
                first = Some(entry.location.position);
            }
        })
        .map_err(|source| OpenError::io(format!("read \"{}\"", last.name), source))?;
        // Groups keep their bounds, so that the copy is as long as what is copied, and fits a file
        // as large as the original was made; something may have cut that short.
        let copied = self.analysis.last.end.saturating_sub(first.unwrap_or(FIRST_GROUP));
        let whole = self.options.sizes().file.max(last.len.next_multiple_of(PAGE));
        Ok(recovery_bytes(copied).min(whole))
    }

    /// A file for `needed` bytes: a free one if there is one, else a new one. The second value is
    /// what [`Cursor::from_reserve`] says.
    fn target(&mut self, needed: u64) -> Result<(Free, Option<usize>), OpenError> {
        let layout = &mut self.analysis.layout;
        let fits = |free: &Free| free.len >= needed;
        if let Some(index) = layout.free.iter().position(fits) {
            let free = layout.free.swap_remove(index);
            let left = layout.free.len();
            return Ok((free, (left < 2).then_some(left)));
        }
        layout.last_name += 1;
        let name = grow::file_name(layout.last_name);
        let len = needed.max(self.options.first_file_bytes.min(self.options.sizes().file));
        let len = len.next_multiple_of(PAGE);
        let file = grow::make_file(&**self.disk, &name, len, true)
            .map_err(|source| OpenError::io(format!("create \"{name}\""), source))?;
        Ok((Free { name, file, len }, None))
    }
}

/// Copies records into a file under a new header.
struct Copy<'a> {
    to: &'a dyn DiskFile,
    header: FileHeader,
    position: u64,
}

/// A group as it is put together again.
struct Pending {
    first_lsn: Lsn,
    source: GroupHeader,
    records: u32,
    bytes: BytesMut,
}

impl Copy<'_> {
    /// The records `from` to `until` of `source`, group by group.
    fn records(&mut self, source: &Found, from: Lsn, until: Lsn) -> io::Result<()> {
        let mut walk = Walk::new(Arc::clone(&source.file), &source.header, FIRST_GROUP, source.len);
        walk.expect(source.header.first_lsn);
        let mut pending: Option<Pending> = None;
        loop {
            let entry = match walk.next_entry() {
                Ok(Some(entry)) if entry.lsn <= until => entry,
                Ok(_) | Err(WalkError::Bad { .. }) => break,
                Err(WalkError::Io(error)) => return Err(error),
            };
            if entry.lsn < from {
                continue;
            }
            let source = *walk.group().expect("a record is in a group");
            if let Some(done) = pending.take_if(|open| open.source != source) {
                self.group(&done)?;
            }
            let open = pending.get_or_insert_with(|| Pending {
                first_lsn: entry.lsn,
                source,
                records: 0,
                bytes: BytesMut::new(),
            });
            open.push(self.header.seed(), &entry);
        }
        if let Some(done) = pending {
            self.group(&done)?;
        }
        Ok(())
    }

    fn group(&mut self, group: &Pending) -> io::Result<()> {
        let header = GroupHeader {
            number: self.header.number,
            salt: self.header.salt,
            first_lsn: group.first_lsn,
            records: group.records,
            bytes: group.bytes.len() as u32,
            // Nothing is proven by a group of a file that is not part of the log yet.
            proven: self.header.first_lsn.previous(),
            ..group.source
        };
        let at = group_start(self.position);
        let head = header.encode();
        self.to.write(&mut [IoSlice::new(&head), IoSlice::new(&group.bytes)], at)?;
        self.position = at + header.total_bytes();
        Ok(())
    }
}

impl Pending {
    fn push(&mut self, seed: Seed, entry: &Entry) {
        let mut header = RecordHeader {
            crc: 0,
            len: entry.location.len,
            lsn: entry.lsn,
            group_offset: (GROUP_HEADER + self.bytes.len()) as u32,
            kind: entry.kind,
        };
        header.crc = seed.record(&header.encode(), &entry.payload);
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(&entry.payload);
        self.records += 1;
    }
}

/// Iterates over the records after what the checkpoints cover, in order, without the log's own.
/// Memory is about 1 MiB, or the largest record. Ends after the first error.
#[derive(Debug)]
pub struct Replay {
    files: VecDeque<(Pin, Lsn)>,
    walk: Option<Walk>,
    stream_metrics: crate::wal::Metrics,
    after: Lsn,
}

impl Replay {
    fn new(stream: &Stream, files: &[Arc<LogFile>], covered: Lsn, end: Lsn) -> Self {
        let mut pins = VecDeque::new();
        for (index, file) in files.iter().enumerate() {
            let next = files.get(index + 1).map(|next| next.header.first_lsn);
            let until = next.unwrap_or(end.next());
            if until > covered.next()
                && file.header.first_lsn < until
                && let Ok(pin) = stream.pin(file.number())
            {
                pins.push_back((pin, until));
            }
        }
        let stream_metrics = stream.metrics().clone();
        Self { files: pins, walk: None, stream_metrics, after: covered }
    }

    fn read(&mut self) -> Result<Option<Entry>, ReadError> {
        while let Some((pin, until)) = self.files.front() {
            let walk = self.walk.get_or_insert_with(|| pin.walk());
            let entry = walk.next_entry().map_err(|error| pin.error(error))?;
            match entry {
                Some(entry) if entry.lsn < *until => {
                    if entry.lsn.next() == *until {
                        self.next_file();
                    }
                    let wanted = entry.lsn > self.after && !entry.kind.is_reserved();
                    if wanted {
                        self.stream_metrics.replayed();
                        return Ok(Some(entry));
                    }
                }
                _ => self.next_file(),
            }
        }
        Ok(None)
    }

    fn next_file(&mut self) {
        self.walk = None;
        self.files.pop_front();
    }
}

impl Iterator for Replay {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.files.clear();
        }
        read.transpose()
    }
}

//! Checkpoints: a base and deltas of what partitions know, beside the log.
//!
//! A checkpoint is a file `checkpoint-<sequence>.base` or `.delta`. A delta changes what the base
//! and the deltas before it say; a new base replaces them all. All numbers are little endian.
//!
//! Header (52 bytes): magic `TGCK`, major 1, minor 0, flags (u16), sequence (u64), sequence of the
//! base (u64; its own in a base), sequence of the checkpoint before (u64; 0 in a base), identity
//! (16 bytes), crc32c of what precedes (u32).
//!
//! Part (8 bytes and the payload), any number of them: length (u32), crc32c of sequence, index of
//! the part (both u64) and payload (u32), payload.
//!
//! Trailer (68 bytes): magic `TGCE`, major 1, minor 0, flags (u16), sequence (u64), number of parts
//! (u64), covered LSN (u64), floor (u64), metadata number (u64), wall time in ms of the last group
//! before it was published (i64, minimum if there was none), the last LSN that a part may know
//! (u64), crc32c of what precedes (u32).

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::OpenError;
use super::grow::UNFINISHED;
use crate::failpoint;
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::durable::Poisoned;
use crate::wal::stream::Shared;
use crate::wal::{Class, Kind, Lsn, Stream};

const HEADER: usize = 52;
const PART: usize = 8;
const TRAILER: usize = 68;
const HEADER_MAGIC: [u8; 4] = *b"TGCK";
const TRAILER_MAGIC: [u8; 4] = *b"TGCE";
const VERSION: [u8; 4] = [1, 0, 0, 0];
const PREFIX: &str = "checkpoint-";
/// Parts are gathered up to this size before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// What a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// Everything; what was published before is deleted.
    Base,
    /// What changed since the checkpoint before.
    Delta,
}

impl CheckpointKind {
    fn name(self) -> &'static str {
        match self {
            CheckpointKind::Base => "base",
            CheckpointKind::Delta => "delta",
        }
    }
}

/// Why no checkpoint was published. What was published before is still valid.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A delta needs a base.
    #[error("a delta was written before any base")]
    NoBase,
    /// A part is longer than 4 GiB.
    #[error("a checkpoint part of {bytes} bytes is too large")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A file could not be written or published.
    #[error("write checkpoint \"{name}\"")]
    Io {
        /// The file's name.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// What the log remembers of its published checkpoints.
#[derive(Debug, Default)]
pub(in crate::wal) struct Checkpoints {
    next_sequence: u64,
    base: Option<u64>,
    last: u64,
    base_bytes: u64,
    delta_bytes: u64,
    /// Names of published files, oldest first.
    names: Vec<String>,
}

/// A checkpoint as it is found at start.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Base or delta.
    pub kind: CheckpointKind,
    /// Records up to this LSN are in it; parts may know more.
    pub covers: Lsn,
    /// Parts know no record above this one. It was synced when the checkpoint was published, and
    /// where it lies is where the parts say.
    pub reaches: Lsn,
    /// The file's name.
    pub name: String,
    sequence: u64,
    base: u64,
    previous: u64,
    identity: [u8; 16],
    parts: u64,
    floor: Lsn,
    metadata_number: u64,
    append_ms: i64,
    len: u64,
    file: Arc<dyn DiskFile>,
}

/// The published checkpoints of a directory.
#[derive(Debug, Default)]
pub(in crate::wal) struct Published {
    /// The last base and the deltas after it, in order.
    pub(in crate::wal) current: Vec<Checkpoint>,
    /// Files that the last base has replaced.
    pub(in crate::wal) stale: Vec<String>,
}

impl Published {
    fn last(&self) -> Option<&Checkpoint> {
        self.current.last()
    }

    pub(in crate::wal) fn covered(&self) -> Lsn {
        self.last().map_or(Lsn::ZERO, |last| last.covers)
    }

    /// Records up to here are synced and stay where they are: some part may name their places.
    pub(in crate::wal) fn reaches(&self) -> Lsn {
        self.last().map_or(Lsn::ZERO, |last| last.reaches.max(last.covers))
    }

    pub(in crate::wal) fn floor(&self) -> Lsn {
        self.last().map_or(Lsn::ZERO, |last| last.floor)
    }

    pub(in crate::wal) fn metadata_number(&self) -> u64 {
        self.last().map_or(0, |last| last.metadata_number)
    }

    pub(in crate::wal) fn append_ms(&self) -> Option<i64> {
        self.last().map(|last| last.append_ms).filter(|ms| *ms != i64::MIN)
    }

    pub(in crate::wal) fn identity(&self) -> Option<[u8; 16]> {
        self.last().map(|last| last.identity)
    }

    /// A record of the log says that checkpoint `sequence` was published.
    pub(in crate::wal) fn expect(&self, sequence: u64) -> Result<(), OpenError> {
        let last = self.last().map_or(0, |last| last.sequence);
        if last < sequence {
            return Err(OpenError::LostCheckpoint { sequence, last });
        }
        Ok(())
    }

    /// What a running log goes on from.
    pub(in crate::wal) fn state(&self) -> Checkpoints {
        let last = self.last().map_or(0, |last| last.sequence);
        let base = self.current.first();
        let base_bytes = base.map_or(0, |base| base.len);
        let all: u64 = self.current.iter().map(|checkpoint| checkpoint.len).sum();
        Checkpoints {
            next_sequence: last + 1,
            base: base.map(|base| base.sequence),
            last,
            base_bytes,
            delta_bytes: all - base_bytes,
            names: self.current.iter().map(|checkpoint| checkpoint.name.clone()).collect(),
        }
    }
}

/// Finds the last base and its deltas among the files `names`.
pub(in crate::wal) fn find(disk: &dyn Disk, names: &[String]) -> Result<Published, OpenError> {
    let mut found = Vec::new();
    for name in names {
        if !name.starts_with(PREFIX) || name.ends_with(UNFINISHED) {
            continue;
        }
        let file = disk
            .open(name, false)
            .map_err(|source| OpenError::io(format!("open \"{name}\""), source))?;
        let read = Checkpoint::read(name, file);
        let read = read.map_err(|source| OpenError::io(format!("read \"{name}\""), source))?;
        found.push(read.ok_or_else(|| OpenError::CorruptCheckpoint { file: name.clone() })?);
    }
    found.sort_by_key(|checkpoint| checkpoint.sequence);
    let is_base = |checkpoint: &Checkpoint| checkpoint.kind == CheckpointKind::Base;
    let first = found.iter().rposition(is_base).unwrap_or(0);
    let current = found.split_off(first);
    let mut before: Option<&Checkpoint> = None;
    for checkpoint in &current {
        let expected = match before {
            None => is_base(checkpoint),
            Some(before) => {
                checkpoint.previous == before.sequence
                    && current.first().is_some_and(|base| base.sequence == checkpoint.base)
            }
        };
        if !expected {
            return Err(OpenError::CorruptCheckpoint { file: checkpoint.name.clone() });
        }
        before = Some(checkpoint);
    }
    Ok(Published { current, stale: found.into_iter().map(|old| old.name).collect() })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Whether `bytes` starts with `magic` and this version, and ends with its crc.
fn is_whole(bytes: &[u8], len: usize, magic: [u8; 4]) -> bool {
    let Some((covered, crc)) = bytes.split_last_chunk::<4>() else { return false };
    bytes.len() == len
        && covered.starts_with(&magic)
        && covered.get(4) == VERSION.first()
        && covered.get(6) == Some(&0)
        && crc32c::crc32c(covered).to_le_bytes() == *crc
}

impl Checkpoint {
    /// Reads header and trailer; `None` if one of them is damaged.
    fn read(name: &str, file: Arc<dyn DiskFile>) -> io::Result<Option<Self>> {
        let len = file.len()?;
        let (mut header, mut trailer) = (Vec::new(), Vec::new());
        file.read(&mut header, HEADER, 0)?;
        let Some(trailer_at) = len.checked_sub(TRAILER as u64) else { return Ok(None) };
        file.read(&mut trailer, TRAILER, trailer_at)?;
        let whole = is_whole(&header, HEADER, HEADER_MAGIC)
            && is_whole(&trailer, TRAILER, TRAILER_MAGIC)
            && u64_at(&header, 8) == u64_at(&trailer, 8);
        if !whole {
            return Ok(None);
        }
        let sequence = u64_at(&header, 8);
        let base = u64_at(&header, 16);
        let kind = if base == sequence { CheckpointKind::Base } else { CheckpointKind::Delta };
        let identity = header.get(32..48).and_then(|bytes| bytes.try_into().ok());
        Ok(Some(Self {
            kind,
            covers: Lsn(u64_at(&trailer, 24)),
            name: name.to_owned(),
            sequence,
            base,
            previous: u64_at(&header, 24),
            identity: identity.unwrap_or_default(),
            parts: u64_at(&trailer, 16),
            floor: Lsn(u64_at(&trailer, 32)),
            metadata_number: u64_at(&trailer, 40),
            append_ms: u64_at(&trailer, 48) as i64,
            reaches: Lsn(u64_at(&trailer, 56)),
            len,
            file,
        }))
    }

    /// The parts in the order in which they were written, each checked. Blocks.
    pub fn parts(&self) -> Parts<'_> {
        Parts { checkpoint: self, index: 0, at: HEADER as u64, failed: false }
    }

    fn corrupt(&self) -> OpenError {
        OpenError::CorruptCheckpoint { file: self.name.clone() }
    }
}

/// Iterates over the parts of a checkpoint; ends after the first error.
#[derive(Debug)]
pub struct Parts<'a> {
    checkpoint: &'a Checkpoint,
    index: u64,
    at: u64,
    failed: bool,
}

impl Parts<'_> {
    fn read(&mut self) -> Result<Option<Bytes>, OpenError> {
        let checkpoint = self.checkpoint;
        let end = checkpoint.len - TRAILER as u64;
        if self.index == checkpoint.parts {
            return if self.at == end { Ok(None) } else { Err(checkpoint.corrupt()) };
        }
        let about = |source| OpenError::io(format!("read \"{}\"", checkpoint.name), source);
        let mut head = Vec::with_capacity(PART);
        checkpoint.file.read(&mut head, PART, self.at).map_err(about)?;
        let mut fields = head
            .chunks_exact(4)
            .map(|field| u32::from_le_bytes(field.try_into().expect("the chunks have four bytes")));
        let (Some(len), Some(crc)) = (fields.next(), fields.next()) else {
            return Err(checkpoint.corrupt());
        };
        let after = self.at + PART as u64 + u64::from(len);
        if after > end {
            return Err(checkpoint.corrupt());
        }
        let mut payload = Vec::with_capacity(len as usize);
        let from = self.at + PART as u64;
        checkpoint.file.read(&mut payload, len as usize, from).map_err(about)?;
        if payload.len() != len as usize
            || part_crc(checkpoint.sequence, self.index, &payload) != crc
        {
            return Err(checkpoint.corrupt());
        }
        self.at = after;
        self.index += 1;
        Ok(Some(Bytes::from(payload)))
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Bytes, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

fn part_crc(sequence: u64, index: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &index.to_le_bytes()), payload)
}

/// Bytes that end with their own crc.
fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn encode_header(sequence: u64, base: u64, previous: u64, identity: [u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend_from_slice(&HEADER_MAGIC);
    out.extend_from_slice(&VERSION);
    for number in [sequence, base, previous] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&identity);
    with_crc(out)
}

fn encode_trailer(numbers: [u64; 7]) -> Vec<u8> {
    let mut out = Vec::with_capacity(TRAILER);
    out.extend_from_slice(&TRAILER_MAGIC);
    out.extend_from_slice(&VERSION);
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
    with_crc(out)
}

impl Stream {
    /// Which kind of checkpoint is due: a base if there is none or if the deltas exceed half of it.
    pub fn next_checkpoint(&self) -> CheckpointKind {
        let checkpoints = self.shared().checkpoints();
        if checkpoints.base.is_none() || checkpoints.delta_bytes > checkpoints.base_bytes / 2 {
            CheckpointKind::Base
        } else {
            CheckpointKind::Delta
        }
    }

    /// Bytes written to the log since the last checkpoint was taken.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.shared().state().since_checkpoint
    }

    /// Writes and publishes a checkpoint that holds all records up to `covers`; a part may know of
    /// later ones. It is published (rename, directory sync) only when the log is synced up to
    /// everything that was reserved when the last part was taken, and only then is what it replaces
    /// deleted. Blocks: call it in `task::blocking`; one at a time.
    pub fn checkpoint(
        &self,
        kind: CheckpointKind,
        covers: Lsn,
        parts: impl Iterator<Item = Bytes>,
    ) -> Result<(), CheckpointError> {
        self.shared().checkpoint(kind, covers, parts)
    }
}

impl Shared {
    fn checkpoints(&self) -> std::sync::MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint(
        self: &Arc<Self>,
        kind: CheckpointKind,
        covers: Lsn,
        parts: impl Iterator<Item = Bytes>,
    ) -> Result<(), CheckpointError> {
        // Nobody else may use the directory before this has ended.
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _lock = lock.ok_or_else(Self::closed)?;
        // Held throughout: one checkpoint at a time.
        let mut checkpoints = self.checkpoints();
        let sequence = checkpoints.next_sequence.max(1);
        let (base, previous) = match kind {
            CheckpointKind::Base => (sequence, 0),
            CheckpointKind::Delta => {
                (checkpoints.base.ok_or(CheckpointError::NoBase)?, checkpoints.last)
            }
        };
        let appended = self.state().since_checkpoint;
        let name = format!("{PREFIX}{sequence:08}.{}", kind.name());
        let unfinished = format!("{name}{UNFINISHED}");
        let about = |source| CheckpointError::Io { name: name.clone(), source };
        let written = self.write_checkpoint(&unfinished, [sequence, base, previous], covers, parts);
        let published = written.and_then(|bytes| {
            self.disk.rename(&unfinished, &name).map_err(about)?;
            // Whether the name is there after a crash is unknown from here on (DESIGN D7).
            self.disk
                .sync_dir()
                .inspect_err(|error| {
                    self.poison(&format!(
                        "sync of the directory after checkpoint \"{name}\": {error}"
                    ));
                })
                .map_err(about)?;
            Ok(bytes)
        });
        let bytes = match published {
            Ok(bytes) => bytes,
            Err(error) => {
                // What cannot be removed now is removed at the next start.
                let _ = self.disk.remove(&unfinished);
                return Err(error);
            }
        };
        checkpoints.next_sequence = sequence + 1;
        checkpoints.last = sequence;
        if kind == CheckpointKind::Base {
            checkpoints.base = Some(sequence);
            (checkpoints.base_bytes, checkpoints.delta_bytes) = (bytes, 0);
            for old in std::mem::take(&mut checkpoints.names) {
                self.disk.remove(&old).map_err(about)?;
            }
        } else {
            checkpoints.delta_bytes += bytes;
        }
        checkpoints.names.push(name);
        let total = checkpoints.base_bytes + checkpoints.delta_bytes;
        self.metrics.checkpoint(kind.name(), total);
        drop(checkpoints);
        {
            let mut state = self.state();
            state.covered = state.covered.max(covers);
            state.since_checkpoint = state.since_checkpoint.saturating_sub(appended);
        }
        // Best effort: it only lets a start notice that the checkpoint was lost.
        let _ = self.append_own(Kind::CHECKPOINT, sequence);
        self.recycle();
        Ok(())
    }

    /// Writes and syncs the file; its length.
    fn write_checkpoint(
        &self,
        name: &str,
        [sequence, base, previous]: [u64; 3],
        covers: Lsn,
        parts: impl Iterator<Item = Bytes>,
    ) -> Result<u64, CheckpointError> {
        let about = |source| CheckpointError::Io { name: name.to_owned(), source };
        let file = self.disk.create(name).map_err(about)?;
        let mut buffer = encode_header(sequence, base, previous, self.identity);
        let mut at = 0;
        let mut count = 0u64;
        for part in parts {
            let bytes = part.len();
            let len = u32::try_from(bytes).map_err(|_| CheckpointError::TooLarge { bytes })?;
            buffer.extend_from_slice(&len.to_le_bytes());
            buffer.extend_from_slice(&part_crc(sequence, count, &part).to_le_bytes());
            buffer.extend_from_slice(&part);
            count += 1;
            if buffer.len() >= WRITE_BYTES {
                flush(&*file, &mut buffer, &mut at).map_err(about)?;
            }
        }
        // Nothing in a part may be ahead of the synced log.
        // The floor rests on records that were reserved before it was asked for: read together,
        // what is waited for covers them.
        let (greatest, floor) = {
            let state = self.state();
            (state.next_lsn.previous(), state.floor_asked.0)
        };
        self.wait_synced_blocking(greatest)?;
        let metadata_number = self.metadata_number.load(Ordering::Acquire);
        let append_ms = self.log_clock.now_ms() as u64;
        let numbers = [sequence, count, covers.0, floor, metadata_number, append_ms, greatest.0];
        buffer.extend_from_slice(&encode_trailer(numbers));
        flush(&*file, &mut buffer, &mut at).map_err(about)?;
        file.sync().map_err(about)?;
        failpoint::pass("checkpoint: written");
        Ok(at)
    }

    /// Appends a record of the log's own. Takes no bytes of the WAL pool.
    pub(super) fn append_own(
        self: &Arc<Self>,
        kind: Kind,
        number: u64,
    ) -> Result<Lsn, crate::wal::ReserveError> {
        let owner: Arc<dyn crate::wal::Owner> = Arc::new(Own);
        let payload = number.to_le_bytes();
        let mut reservation =
            self.reserve(None, Class::Housekeeping, kind, payload.len(), &owner)?;
        reservation.put(&payload);
        let lsn = reservation.lsn();
        drop(reservation.fill());
        Ok(lsn)
    }
}

fn flush(file: &dyn DiskFile, buffer: &mut Vec<u8>, at: &mut u64) -> io::Result<()> {
    file.write(&mut [IoSlice::new(buffer)], *at)?;
    *at += buffer.len() as u64;
    buffer.clear();
    Ok(())
}

/// The log as the owner of its own records: it keeps no slices of them.
#[derive(Debug)]
struct Own;

impl crate::wal::Owner for Own {
    fn durable(&self, _durable: Lsn) {}

    fn evict(&self, _upto: Lsn) {}
}

//! A group: the records that are written and synced together, filled by their appenders.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};

use super::block::Share;
use super::format::{RECORD_HEADER, RecordHeader, Seed};
use super::read::LogFile;
use super::stream::Shared;
use super::{FileNumber, Kind, Location, Lsn, Owner};
use crate::budget::Charge;

/// From this length on, combining a known crc (0.2 µs) is cheaper than reading the bytes again.
const COMBINE_BYTES: usize = 4 << 10;

/// A group that takes records or waits for them to be filled.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) file: Arc<LogFile>,
    /// Where the group's header goes.
    pub(super) position: u64,
    pub(super) first_lsn: Lsn,
    /// The group is the first of its file, which follows the one named here.
    pub(super) opens_file_after: Option<FileNumber>,
    fill: Mutex<Fill>,
    /// Signalled when the last reservation is filled or one is abandoned.
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Fill {
    records: Vec<Option<Bytes>>,
    unfilled: usize,
    abandoned: bool,
    parts: Parts,
}

/// What a group holds beside its records.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Records with their headers.
    pub(super) bytes: usize,
    pub(super) charge: Charge,
    pub(super) owners: Vec<Arc<dyn Owner>>,
    pub(super) shares: Vec<Share>,
}

/// A group whose records are all there.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) records: Vec<Bytes>,
    pub(super) parts: Parts,
}

impl Group {
    pub(super) fn new(
        file: Arc<LogFile>,
        position: u64,
        first_lsn: Lsn,
        opens_file_after: Option<FileNumber>,
    ) -> Arc<Self> {
        Arc::new(Self {
            file,
            position,
            first_lsn,
            opens_file_after,
            fill: Mutex::default(),
            filled: Condvar::new(),
        })
    }

    fn fill(&self) -> MutexGuard<'_, Fill> {
        self.fill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record of `bytes` in all; true if it is the first of the group in `block`.
    pub(super) fn add(
        &self,
        bytes: usize,
        charge: Charge,
        block: u64,
        lsn: Lsn,
        owner: &Arc<dyn Owner>,
    ) -> (usize, bool) {
        let mut fill = self.fill();
        let index = fill.records.len();
        fill.records.push(None);
        fill.unfilled += 1;
        let parts = &mut fill.parts;
        parts.bytes += bytes;
        parts.charge.merge(charge);
        if parts.owners.last().is_none_or(|last| !Arc::ptr_eq(last, owner)) {
            parts.owners.push(Arc::clone(owner));
        }
        if let Some(share) = parts.shares.iter_mut().find(|share| share.block == block) {
            share.bytes += bytes;
            share.last = lsn;
            return (index, false);
        }
        parts.shares.push(Share { block, bytes, last: lsn });
        (index, true)
    }

    fn put(&self, index: usize, record: Bytes) {
        let mut fill = self.fill();
        if let Some(slot) = fill.records.get_mut(index) {
            *slot = Some(record);
        }
        fill.unfilled -= 1;
        if fill.unfilled == 0 {
            self.filled.notify_all();
        }
    }

    fn abandon(&self) {
        self.fill().abandoned = true;
        self.filled.notify_all();
    }

    /// Waits until every reservation is filled and takes the records; `None` if one never will be.
    /// The group must take no further reservations.
    pub(super) fn take(&self) -> Option<Filled> {
        let mut fill = self.fill();
        while fill.unfilled > 0 && !fill.abandoned {
            fill = self.filled.wait(fill).unwrap_or_else(PoisonError::into_inner);
        }
        if fill.abandoned {
            return None;
        }
        let records = std::mem::take(&mut fill.records).into_iter().flatten().collect();
        let mut parts = std::mem::take(&mut fill.parts);
        drop(fill);
        let address = |owner: &Arc<dyn Owner>| Arc::as_ptr(owner).cast::<()>() as usize;
        parts.owners.sort_unstable_by_key(address);
        parts.owners.dedup_by(|a, b| Arc::ptr_eq(a, b));
        Some(Filled { records, parts })
    }
}

/// A place in the log, with an LSN, that is filled exactly once.
///
/// Between [`super::Stream::reserve`] and [`Reservation::fill`] there must be no await and nothing
/// that can fail: a reservation dropped unfilled poisons the log, since the LSNs after it are taken
/// already.
#[derive(Debug)]
#[must_use = "a reservation that is not filled poisons the log"]
pub struct Reservation {
    shared: Arc<Shared>,
    group: Arc<Group>,
    index: usize,
    seed: Seed,
    header: RecordHeader,
    location: Location,
    /// The record: header, then as much of the payload as was put; `None` once filled.
    record: Option<BytesMut>,
}

impl Reservation {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what that place knows")]
    pub(super) fn new(
        shared: Arc<Shared>,
        group: Arc<Group>,
        index: usize,
        seed: Seed,
        lsn: Lsn,
        kind: Kind,
        location: Location,
        mut record: BytesMut,
    ) -> Self {
        record.put_bytes(0, RECORD_HEADER);
        let group_offset = (location.position - group.position) as u32;
        let header = RecordHeader { crc: 0, len: location.len, lsn, group_offset, kind };
        Self { shared, group, index, seed, header, location, record: Some(record) }
    }

    /// The record's number.
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// Where the record will be.
    pub fn location(&self) -> Location {
        self.location
    }

    /// Appends `bytes` to the payload: the one copy that a produced byte takes in user space, into
    /// memory that need not be zeroed before.
    ///
    /// # Panics
    /// If the payload would become longer than what was reserved, which is the caller's bug.
    pub fn put(&mut self, bytes: &[u8]) {
        let len = self.len();
        let record = self.record.as_mut().expect("a reservation is filled once");
        assert!(record.len() + bytes.len() <= RECORD_HEADER + len, "the payload has room");
        record.extend_from_slice(bytes);
    }

    /// The whole payload; what was not put yet is zeros. For filling it in place, or for patching
    /// what was put.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        let record = self.record.as_mut().expect("a reservation is filled once");
        record.resize(RECORD_HEADER + len, 0);
        &mut record[RECORD_HEADER..]
    }

    /// Hands the record to the log. The payload is returned as the same memory that the file is
    /// written from; it is readable at once, and durable when [`super::Stream::durable`] says so.
    /// What was not put is zeros.
    pub fn fill(mut self) -> Bytes {
        let payload = self.payload_mut();
        let copied = payload.len();
        self.shared.metrics.copied(copied);
        let mut header = self.header.encode();
        let record = self.record.take().expect("a reservation is filled once");
        let crc = self.seed.record(&header, &record[RECORD_HEADER..]);
        self.finish(&mut header, record, crc)
    }

    /// Like [`Reservation::fill`] where the last `tail_len` bytes of the payload are known to have
    /// the plain crc32c `tail_crc32c` (a record batch that was just checked): where that is cheaper
    /// the two are combined, and those bytes are not read again.
    pub fn fill_with_tail_crc(mut self, tail_len: usize, tail_crc32c: u32) -> Bytes {
        let len = self.len();
        if tail_len < COMBINE_BYTES || tail_len > len {
            return self.fill();
        }
        let _ = self.payload_mut();
        self.shared.metrics.copied(len);
        let mut header = self.header.encode();
        let record = self.record.take().expect("a reservation is filled once");
        let head = &record[RECORD_HEADER..RECORD_HEADER + len - tail_len];
        let crc = self.seed.record(&header, head);
        let crc = crate::protocol::crc::combine(crc, tail_crc32c, tail_len);
        self.finish(&mut header, record, crc)
    }

    fn len(&self) -> usize {
        self.location.len as usize
    }

    fn finish(&self, header: &mut [u8; RECORD_HEADER], mut record: BytesMut, crc: u32) -> Bytes {
        header[..4].copy_from_slice(&crc.to_le_bytes());
        record[..RECORD_HEADER].copy_from_slice(header);
        let record = record.freeze();
        let payload = record.slice(RECORD_HEADER..);
        self.group.put(self.index, record);
        payload
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.shared.poison("an appender gave up a record between its place and its bytes");
            self.group.abandon();
        }
    }
}

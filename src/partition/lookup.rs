//! Finding offsets by time (`ListOffsets`) and reading a log from end to end.

use bytes::Bytes;

use super::Partition;
use super::disk::{LogError, Span, StoredBatch};
use super::index::Stretch;
use super::state::State;
use crate::protocol::batch::{Batch, BatchHeader, TimestampType};
use crate::wal::ReadError as WalError;

/// No batch is decompressed to more.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 * 1024 * 1024;

/// What a look-up may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of the log that it may read at once.
    pub read: usize,
    /// What a batch may decompress to, in bytes.
    pub bytes: usize,
    /// Whether there is no greater room to decompress in to come again with.
    pub is_most: bool,
}

/// Why a look-up ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// So many bytes have to be read at once, more than the room that was given.
    #[error("{bytes} bytes have to be read at once")]
    NeedsRead {
        /// The bytes.
        bytes: usize,
    },
    /// What was on this machine when the look-up was planned is in the bucket alone by now: plan
    /// again.
    #[error("the log has moved to the bucket since the look-up was planned")]
    Moved,
    /// A batch decompresses to more than the room that was given, which was not the most.
    #[error("a batch decompresses to more than {bytes} bytes")]
    NeedsRoom {
        /// The room that was given.
        bytes: usize,
    },
}

/// A record that a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds.
    pub timestamp: i64,
    /// The leader epoch that it was written in.
    pub leader_epoch: i32,
}

/// The offsets that a look-up may answer with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub from: i64,
    pub until: i64,
}

impl Bounds {
    fn hold(self, offset: i64) -> bool {
        (self.from..self.until).contains(&offset)
    }
}

impl Partition {
    /// The first record, by offset, on this machine whose timestamp is at least `timestamp`: the
    /// record itself, not its batch. `None` if there is none below the high watermark. `local_from`
    /// is where the log on this machine began when the look-up was planned.
    ///
    /// A compressed batch whose records deny what its header says of their timestamps, or cannot be
    /// decompressed in the most room there is, is answered by its header: such batches are taken
    /// unopened (DESIGN D2). Blocks when the record is not in memory, and decompresses: for
    /// `task::blocking`.
    pub(super) fn local_since(
        &self,
        timestamp: i64,
        local_from: i64,
        room: Room,
    ) -> Result<Option<FoundOffset>, LookupError> {
        let mut behind = i64::MIN;
        loop {
            let (bounds, next) = {
                let state = self.lock_advanced();
                has_not_moved(&state, local_from)?;
                let from = local_from.max(state.log_start());
                let bounds = Bounds { from, until: state.high_watermark() };
                let mut since = state.index.since(timestamp, state.log_end());
                let next = since.find(|s| s.base_offset >= behind && s.end_offset > bounds.from);
                (bounds, next)
            };
            let Some(stretch) = next.filter(|stretch| stretch.base_offset < bounds.until) else {
                return Ok(None);
            };
            for stored in self.stored_within(&stretch, room)? {
                let Ok(batch) = Batch::parse_one(stored.bytes) else { continue };
                if batch.header().max_timestamp >= timestamp
                    && let Some(found) = first_since(&batch, timestamp, bounds, room)?
                {
                    return Ok(Some(found));
                }
            }
            behind = stretch.end_offset;
        }
    }

    /// The record on this machine with the greatest timestamp, the first of several (KIP-734).
    /// `None` if no record below the high watermark has a timestamp.
    ///
    /// Blocks as [`Partition::local_since`] does.
    pub(super) fn local_greatest(
        &self,
        local_from: i64,
        room: Room,
    ) -> Result<Option<FoundOffset>, LookupError> {
        let (bounds, mut stretches) = {
            let state = self.lock_advanced();
            has_not_moved(&state, local_from)?;
            let from = local_from.max(state.log_start());
            let bounds = Bounds { from, until: state.high_watermark() };
            let all = state.index.since(0, state.log_end());
            (bounds, greatest(all.filter(|s| s.base_offset < bounds.until)))
        };
        // Best first. Only the stretches at the two ends can hold less in range than the index
        // says, so that the look-up ends with the third at the latest.
        stretches.sort_by_key(|stretch| (-stretch.max_timestamp, stretch.base_offset));
        let mut best: Option<FoundOffset> = None;
        for stretch in stretches {
            if best.is_some_and(|best| best.timestamp >= stretch.max_timestamp) {
                break;
            }
            for stored in self.stored_within(&stretch, room)? {
                let Ok(batch) = Batch::parse_one(stored.bytes) else { continue };
                best = greater(best, &batch, bounds, room)?;
            }
        }
        Ok(best)
    }

    /// Visits every batch from the one on that holds `from` up to `until`, which is at most the
    /// high watermark, with the time of its append on the log clock in milliseconds, a stretch of
    /// the index in memory at a time. Returns the offset behind the last: `until`, or where the
    /// log on this machine begins too late, because the bucket alone has what comes next. The
    /// visitor's error ends the visit.
    ///
    /// Blocks: for `task::blocking`. A coordinator loads its partition with it.
    pub fn load<E: From<LogError>>(
        &self,
        from: i64,
        until: i64,
        mut visit: impl FnMut(&Batch, i64) -> Result<(), E>,
    ) -> Result<i64, E> {
        let mut next = from;
        while next < until {
            let stretch = {
                let state = self.lock();
                if next < state.indexed_start() {
                    break;
                }
                state.index.from(next, state.log_end()).find(|s| s.end_offset > next)
            };
            let Some(stretch) = stretch else { break };
            let stored = match self.stored(&stretch) {
                Err(error) if error.may_have_moved() && next < self.lock().indexed_start() => break,
                stored => stored?,
            };
            for stored in stored {
                if stored.end_offset <= next || stored.base_offset >= until {
                    continue;
                }
                let batch = Batch::parse_one(stored.bytes).map_err(|source| {
                    let (of, offset) = (self.id(), stored.base_offset);
                    LogError::Batch { of, offset, source }
                })?;
                visit(&batch, stored.append_time_ms)?;
            }
            next = stretch.end_offset;
        }
        Ok(next.min(until))
    }

    /// As [`Partition::stored`], unless more has to be read than there is room for.
    fn stored_within(
        &self,
        stretch: &Stretch,
        room: Room,
    ) -> Result<Vec<StoredBatch>, LookupError> {
        let found = self.find(stretch);
        let bytes =
            found.on_disk.as_ref().map_or(0, |span| span.read_bytes(stretch.bytes as usize));
        if bytes > room.read {
            return Err(LookupError::NeedsRead { bytes });
        }
        let walked = found.on_disk.as_ref().map_or(0, Span::file_bytes);
        self.shared().metrics.disk_read_bytes.inc_by(walked as u64);
        self.take(found).map_err(|error| match error {
            LogError::Wal(WalError::Recycled { .. }) => LookupError::Moved,
            error => error.into(),
        })
    }

    /// The batches of a stretch, from memory where they are.
    pub(super) fn stored(&self, stretch: &Stretch) -> Result<Vec<StoredBatch>, LogError> {
        self.take(self.find(stretch))
    }

    fn find(&self, stretch: &Stretch) -> Found {
        let state = self.lock();
        let first = state.tail.partition_point(|c| c.base_offset < stretch.base_offset);
        let chunks = state.tail.iter().skip(first);
        let in_memory = chunks
            .take_while(|c| c.base_offset < stretch.end_offset && !c.bytes.is_empty())
            .map(|c| (c.bytes.clone(), c.append_time_ms))
            .collect();
        let on_disk = state.tail_start() > stretch.base_offset;
        Found { on_disk: on_disk.then(|| state.on_disk(stretch)), in_memory }
    }

    fn take(&self, found: Found) -> Result<Vec<StoredBatch>, LogError> {
        let mut batches = match found.on_disk {
            Some(span) => self.read_span(&span)?,
            None => Vec::new(),
        };
        for (bytes, append_time_ms) in found.in_memory {
            if let Ok(header) = BatchHeader::parse(&bytes) {
                let (base_offset, end_offset) = (header.base_offset, header.next_offset());
                batches.push(StoredBatch { base_offset, end_offset, append_time_ms, bytes });
            }
        }
        Ok(batches)
    }
}

/// Where the batches of a stretch are.
struct Found {
    on_disk: Option<Span>,
    /// Those behind, with the time of their append.
    in_memory: Vec<(Bytes, i64)>,
}

/// Whether what was on this machine when a look-up was planned is here still, or deleted.
fn has_not_moved(state: &State, local_from: i64) -> Result<(), LookupError> {
    let has_moved = state.searched_start() > local_from.max(state.log_start());
    if has_moved { Err(LookupError::Moved) } else { Ok(()) }
}

/// The record with the greatest timestamp, of the best so far and those of a later batch; of equal
/// ones the first by offset.
pub(super) fn greater(
    best: Option<FoundOffset>,
    batch: &Batch,
    bounds: Bounds,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    let greatest = greatest_of(batch, bounds, room)?;
    let rank = |best: FoundOffset| (best.timestamp, -best.offset);
    if greatest < 0 || best.is_some_and(|b| rank(b) >= (greatest, -batch.header().last_offset())) {
        return Ok(best);
    }
    let found = first_since(batch, greatest, bounds, room)?;
    Ok([best, found].into_iter().flatten().max_by_key(|found| rank(*found)))
}

/// Of stretches in order, those that can hold the greatest timestamp in range: the first with the
/// greatest, and the two ends, where a part of a stretch may be out of range.
fn greatest(mut stretches: impl Iterator<Item = Stretch>) -> Vec<Stretch> {
    let first = stretches.next();
    let mut last = stretches.next();
    let mut best: Option<Stretch> = None;
    for next in stretches {
        // What was last until now lies inside.
        if let Some(inner) = last.replace(next)
            && best.is_none_or(|best| inner.max_timestamp > best.max_timestamp)
        {
            best = Some(inner);
        }
    }
    [first, best, last].into_iter().flatten().collect()
}

/// The records of a batch, decompressed; `None` if its header has to answer for them.
fn payload(batch: &Batch, room: Room) -> Result<Option<Bytes>, LookupError> {
    match batch.payload(room.bytes) {
        Ok(payload) => Ok(Some(payload)),
        Err(error) if error.is_too_large() && !room.is_most => {
            Err(LookupError::NeedsRoom { bytes: room.bytes })
        }
        Err(_) => Ok(None),
    }
}

/// The greatest timestamp of a batch: its header's, unless the log starts inside of it.
fn greatest_of(batch: &Batch, bounds: Bounds, room: Room) -> Result<i64, LookupError> {
    let header = batch.header();
    let by_header = header.max_timestamp;
    if header.base_offset >= bounds.from || header.timestamp_type() == TimestampType::LogAppendTime
    {
        return Ok(by_header);
    }
    let Some(payload) = payload(batch, room)? else { return Ok(by_header) };
    let in_range = batch.records(&payload).map_while(Result::ok);
    let greatest = in_range
        .filter(|record| bounds.hold(header.offset_of(record)))
        .map(|record| header.timestamp_of(&record))
        .max();
    Ok(greatest.unwrap_or(-1))
}

/// The first record of a batch whose timestamp is at least `timestamp` and whose offset is in
/// range. The batch's header says that there is one.
pub(super) fn first_since(
    batch: &Batch,
    timestamp: i64,
    bounds: Bounds,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    let header = batch.header();
    if header.record_count <= 0 {
        return Ok(None);
    }
    let found = |offset, timestamp| FoundOffset {
        offset,
        timestamp,
        leader_epoch: header.partition_leader_epoch,
    };
    if header.timestamp_type() == TimestampType::LogAppendTime {
        let offset = header.base_offset.max(bounds.from);
        let inside = offset <= header.last_offset() && bounds.hold(offset);
        return Ok(inside.then(|| found(offset, header.max_timestamp)));
    }
    let by_header = || {
        let offset = header.last_offset();
        bounds.hold(offset).then(|| found(offset, header.max_timestamp))
    };
    let Some(payload) = payload(batch, room)? else { return Ok(by_header()) };
    let mut denied = true;
    for record in batch.records(&payload) {
        let Ok(record) = record else { return Ok(by_header()) };
        let (at, offset) = (header.timestamp_of(&record), header.offset_of(&record));
        if at >= timestamp {
            denied = false;
            if bounds.hold(offset) {
                return Ok(Some(found(offset, at)));
            }
        }
    }
    Ok(if denied { by_header() } else { None })
}

//! The sparse index from offsets to the WAL: which bytes of which file hold a stretch of a
//! partition's log.
//!
//! An entry covers neighbouring batches of the partition in one file and knows exactly how many
//! bytes they have, so that a response's length can be written before its bytes are read. It takes
//! further batches while it has less than [`ENTRY_BYTES`] of its own (which bounds memory: one
//! entry of 32 bytes per 4 KiB) or while it spans at most [`ENTRY_SPAN`] of the file. Where much of
//! others lies between two small batches of an entry, the hole is noted with 8 bytes and not read.

use std::collections::VecDeque;

use crate::wal::{FileNumber, Location, Lsn};

/// An entry with fewer bytes of its own takes the next batch however far away it is.
pub(super) const ENTRY_BYTES: u32 = 4 * 1024;
/// An entry takes the next batch while it reaches over at most this much of the file.
pub(super) const ENTRY_SPAN: u32 = 64 * 1024;

/// A hole of at least this size is noted; a read passes over a smaller one.
pub(super) const HOLE_BYTES: u32 = 256 * 1024;

/// Bytes of a file between two batches of an entry, from the end of a record to the start of one.
pub(super) type Hole = (u32, u32);

/// Neighbouring batches of one partition in one file; 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub base_offset: i64,
    /// The greatest timestamp of its batches, -1 if they have none.
    pub max_timestamp: i64,
    /// Where its first record starts in the file.
    pub start: u32,
    /// From there to the end of its last record.
    pub span: u32,
    /// What its batches have together.
    pub bytes: u32,
}

/// The entries of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub file: FileNumber,
    /// At or before the record of its first batch in the WAL.
    pub first_lsn: Lsn,
    /// When its last batch was appended, on the log clock: what batches without timestamps age by.
    pub append_time_ms: i64,
    /// The greatest timestamp of its entries.
    pub max_timestamp: i64,
    pub entries: Vec<Entry>,
    /// The large holes inside of entries, by position.
    pub holes: Vec<Hole>,
}

/// An entry with what it takes from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub base_offset: i64,
    /// The first offset after it.
    pub end_offset: i64,
    pub max_timestamp: i64,
    /// When the last batch of its file was appended.
    pub append_time_ms: i64,
    pub file: FileNumber,
    pub start: u32,
    /// The end of its last record in the file.
    pub end: u32,
    pub bytes: u32,
}

/// A batch as the index takes it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Indexed {
    pub base_offset: i64,
    /// The greatest timestamp of its records, -1 if they have none.
    pub max_timestamp: i64,
    pub append_time_ms: i64,
    /// The batch's length.
    pub bytes: u32,
    pub lsn: Lsn,
    /// Its record in the WAL.
    pub location: Location,
}

/// A partition's index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    runs: VecDeque<Run>,
    bytes: u64,
}

/// Where an entry is in the index; only good while the index is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    run: usize,
    entry: usize,
}

impl Index {
    /// Takes up a batch; batches come in order.
    pub(super) fn push(&mut self, batch: &Indexed) {
        const SMALL: &str = "a WAL file is smaller than 4 GiB";
        let Indexed { base_offset, max_timestamp, bytes, location, .. } = *batch;
        let start = u32::try_from(location.position).expect(SMALL);
        let end = u32::try_from(location.end()).expect(SMALL);
        let entry = Entry { base_offset, max_timestamp, start, span: end - start, bytes };
        self.bytes += u64::from(bytes);
        if let Some(run) = self.runs.back_mut()
            && run.file == location.file
        {
            run.max_timestamp = run.max_timestamp.max(max_timestamp);
            run.append_time_ms = batch.append_time_ms;
            match run.entries.last_mut() {
                Some(last) if last.bytes < ENTRY_BYTES || end - last.start <= ENTRY_SPAN => {
                    let last_end = last.start + last.span;
                    if start - last_end >= HOLE_BYTES {
                        run.holes.push((last_end, start));
                    }
                    last.span = end - last.start;
                    last.bytes += bytes;
                    last.max_timestamp = last.max_timestamp.max(max_timestamp);
                }
                _ => run.entries.push(entry),
            }
            return;
        }
        if let Some(full) = self.runs.back_mut() {
            full.entries.shrink_to_fit();
            full.holes.shrink_to_fit();
        }
        self.runs.push_back(Run {
            file: location.file,
            first_lsn: batch.lsn,
            append_time_ms: batch.append_time_ms,
            max_timestamp,
            entries: vec![entry],
            holes: Vec::new(),
        });
    }

    /// Puts back the entries of one file that a checkpoint held; there is at least one.
    pub(super) fn restore(&mut self, mut run: Run) {
        self.bytes += run.entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>();
        let greatest = run.entries.iter().map(|entry| entry.max_timestamp).max();
        run.max_timestamp = greatest.unwrap_or(-1);
        self.runs.push_back(run);
    }

    /// The entries from the one that holds `offset` on; `end` is the log's end. An offset below the
    /// first entry starts with the first.
    pub(super) fn from(&self, offset: i64, end: i64) -> impl Iterator<Item = Stretch> + '_ {
        let run = self
            .runs
            .partition_point(|run| run.entries.first().is_some_and(|e| e.base_offset <= offset))
            .saturating_sub(1);
        let entry = self.runs.get(run).map_or(0, |run| {
            run.entries.partition_point(|e| e.base_offset <= offset).saturating_sub(1)
        });
        let mut place = Place { run, entry };
        std::iter::from_fn(move || {
            let stretch = self.stretch(place, end)?;
            place = self.next(place);
            Some(stretch)
        })
    }

    /// The entries whose greatest timestamp is at least `timestamp`, oldest first. Files without
    /// one are passed over whole.
    pub(super) fn since(&self, timestamp: i64, end: i64) -> impl Iterator<Item = Stretch> + '_ {
        self.runs
            .iter()
            .enumerate()
            .filter(move |(_, run)| run.max_timestamp >= timestamp)
            .flat_map(|(at, run)| (0..run.entries.len()).map(move |entry| Place { run: at, entry }))
            .filter_map(move |place| self.stretch(place, end))
            .filter(move |stretch| stretch.max_timestamp >= timestamp)
    }

    /// Forgets the entries that lie wholly below `log_start`; the one that holds it stays.
    pub(super) fn trim(&mut self, log_start: i64, end: i64) {
        while let Some(first) = self.stretch(Place { run: 0, entry: 0 }, end) {
            if first.end_offset > log_start {
                return;
            }
            // Whole files first, since each removal from a run's front moves the rest.
            let next_file = self.runs.get(1).and_then(|run| run.entries.first());
            let file_ends_at = next_file.map_or(end, |entry| entry.base_offset);
            let Some(run) = self.runs.front_mut() else { return };
            let gone = if file_ends_at <= log_start {
                run.entries.len()
            } else {
                run.entries.partition_point(|e| e.base_offset <= log_start).saturating_sub(1)
            };
            let freed: u64 = run.entries.drain(..gone).map(|entry| u64::from(entry.bytes)).sum();
            self.bytes -= freed;
            if let Some(first) = run.entries.first() {
                run.holes.retain(|(start, _)| *start >= first.start);
            }
            let greatest = run.entries.iter().map(|entry| entry.max_timestamp).max();
            match greatest {
                Some(greatest) => run.max_timestamp = greatest,
                None => drop(self.runs.pop_front()),
            }
        }
    }

    /// The first offset that it knows.
    pub(super) fn first_offset(&self) -> Option<i64> {
        self.runs.front()?.entries.first().map(|entry| entry.base_offset)
    }

    /// Forgets files below `file` whose entries lie wholly below `tiered_end`; `end` is the log's.
    pub(super) fn forget_files(&mut self, file: FileNumber, tiered_end: i64, end: i64) {
        while self.runs.front().is_some_and(|run| run.file < file) {
            let next = self.runs.get(1).and_then(|run| run.entries.first());
            if next.map_or(end, |entry| entry.base_offset) > tiered_end {
                return;
            }
            self.pop_run();
        }
    }

    fn pop_run(&mut self) {
        let Some(run) = self.runs.pop_front() else { return };
        self.bytes -= run.entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>();
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    /// The oldest file that holds a byte of the log from `offset` on, and an LSN at or before the
    /// first record there that is needed; `end` is the log's.
    pub(super) fn oldest_from(&self, offset: i64, end: i64) -> Option<(FileNumber, Lsn)> {
        if offset >= end {
            return None;
        }
        let begins_behind = |run: &Run| run.entries.first().is_some_and(|e| e.base_offset > offset);
        let at = self.runs.partition_point(|run| !begins_behind(run)).saturating_sub(1);
        self.runs.get(at).map(|run| (run.file, run.first_lsn))
    }

    /// The holes of a stretch.
    pub(super) fn holes(&self, stretch: &Stretch) -> Vec<Hole> {
        let at = self.runs.partition_point(|run| run.file < stretch.file);
        // The file may have been forgotten since the stretch was found.
        let run = self.runs.get(at).filter(|run| run.file == stretch.file);
        let holes = run.map_or(&[][..], |run| &run.holes);
        let inside = |(start, end): &&Hole| *start >= stretch.start && *end < stretch.end;
        holes.iter().filter(inside).copied().collect()
    }

    /// Where the last record ends in its file; 0 without entries.
    pub(super) fn last_end(&self) -> u32 {
        let last = self.runs.back().and_then(|run| run.entries.last());
        last.map_or(0, |entry| entry.start + entry.span)
    }

    /// The bytes of all batches in the index.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries by file, for a checkpoint.
    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = &Run> {
        self.runs.iter()
    }

    fn next(&self, place: Place) -> Place {
        let length = self.runs.get(place.run).map_or(0, |run| run.entries.len());
        if place.entry + 1 < length {
            Place { run: place.run, entry: place.entry + 1 }
        } else {
            Place { run: place.run + 1, entry: 0 }
        }
    }

    fn entry(&self, place: Place) -> Option<&Entry> {
        self.runs.get(place.run)?.entries.get(place.entry)
    }

    fn stretch(&self, place: Place, end: i64) -> Option<Stretch> {
        let run = self.runs.get(place.run)?;
        let entry = run.entries.get(place.entry)?;
        Some(Stretch {
            base_offset: entry.base_offset,
            end_offset: self.entry(self.next(place)).map_or(end, |next| next.base_offset),
            max_timestamp: entry.max_timestamp,
            append_time_ms: run.append_time_ms,
            file: run.file,
            start: entry.start,
            end: entry.start + entry.span,
            bytes: entry.bytes,
        })
    }
}

#[cfg(test)]
mod tests;

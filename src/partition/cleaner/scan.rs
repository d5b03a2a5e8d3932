//! The first half of a pass: the keys of what is dirty are read into the map
//! (`Cleaner.buildOffsetMap`).

use super::pass::{Pass, Retention};
use super::{KeyMap, unpack};
use crate::protocol::batch::Batch;

/// Reads keys until the map is full or what is uncleanable begins.
#[derive(Debug)]
pub struct KeyScan {
    map: KeyMap,
    first_dirty: i64,
    first_uncleanable: i64,
    payload_max: usize,
    /// Every key of a record from `first_dirty` to here is in the map.
    seen: i64,
    /// Where the pass ends, once that is known.
    end: Option<i64>,
    unreadable: u64,
}

impl KeyScan {
    /// A scan of the offsets from `first_dirty` up to `first_uncleanable`, which is not above the
    /// last stable offset. Batches whose records take more than `payload_max` bytes, decompressed,
    /// are not looked into by either half of the pass.
    pub fn new(
        mut map: KeyMap,
        first_dirty: i64,
        first_uncleanable: i64,
        payload_max: usize,
    ) -> Self {
        map.clear();
        let (seen, end, unreadable) = (first_dirty, None, 0);
        Self { map, first_dirty, first_uncleanable, payload_max, seen, end, unreadable }
    }

    /// Takes the next batch, in the order of the log; what lies below the first dirty offset may be
    /// left out. False: the scan needs no more.
    pub fn push(&mut self, batch: &Batch) -> bool {
        if self.end.is_some() {
            return false;
        }
        let header = batch.header();
        if header.next_offset() <= self.first_dirty {
            return true;
        }
        if header.next_offset() > self.first_uncleanable {
            self.end = Some(header.base_offset.clamp(self.seen, self.first_uncleanable));
            return false;
        }
        // A marker says nothing of a key. Transactions will add here what the markers say of the
        // batches before them: an aborted record is no key's last.
        if !header.is_control() && header.record_count > 0 {
            self.end = self.read(batch);
        }
        if self.end.is_none() {
            self.seen = header.next_offset();
        }
        self.end.is_none()
    }

    /// Notes the keys of a batch; the end of the pass if they do not fit. A batch that does not fit
    /// is left for the next pass: what was noted of it says only what is true, that a later record
    /// of the key is there. Only one that would fill a map of its own is cut.
    fn read(&mut self, batch: &Batch) -> Option<i64> {
        let Ok(payload) = unpack(batch, self.payload_max) else {
            self.unreadable += 1;
            return None;
        };
        let header = batch.header();
        for record in batch.records(&payload).map_while(Result::ok) {
            let offset = header.offset_of(&record);
            let Some(key) = record.key.filter(|_| offset >= self.first_dirty) else { continue };
            if self.map.insert(key, offset).is_err() {
                return Some(if self.seen > self.first_dirty { self.seen } else { offset });
            }
        }
        None
    }

    /// Up to where every key is in the map.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Lets the pass end at `offset` if it would end behind it: where an object ends, rather than
    /// somewhere in the next one. What was noted of batches behind it says that later records of
    /// some keys are there, which is still true.
    pub fn end_at(&mut self, offset: i64) {
        let end = self.end.unwrap_or(self.first_uncleanable);
        if offset < end {
            (self.end, self.seen) = (Some(offset), offset);
        }
    }

    /// How many batches could not be read so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The second half, once [`KeyScan::push`] said false or every batch below the first
    /// uncleanable offset was pushed.
    pub fn finish(self, retention: Retention) -> Pass {
        let end = self.end.unwrap_or(self.first_uncleanable);
        let last = if end == self.first_uncleanable { self.seen } else { end };
        Pass::new(self.map, end, last, self.payload_max, retention)
    }
}

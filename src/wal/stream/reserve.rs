//! Where the next record goes: the order in which places are reserved is the order of the log.

use std::sync::Arc;

use super::Shared;
use crate::budget::Charge;
use crate::wal::admission::ReserveError;
use crate::wal::format::{FIRST_GROUP, FileHeader, GROUP_HEADER, RECORD_HEADER};
use crate::wal::group::{Group, Reservation};
use crate::wal::read::LogFile;
use crate::wal::room::{Cursor, Place, State};
use crate::wal::{Class, FileNumber, Kind, Location, Lsn, Owner};

impl Shared {
    /// The largest payload of a record.
    pub(super) fn max_payload(&self) -> usize {
        (self.sizes.file - FIRST_GROUP) as usize - GROUP_HEADER - RECORD_HEADER
    }

    /// Takes a ready file into use; its header is written with its first group.
    fn next_file(&self, state: &mut State, index: usize) -> FileNumber {
        let ready = state.ready.remove(index).expect("the place was just found");
        let previous = state.cursor.file.number();
        state.last_number.0 += 1;
        let header = FileHeader {
            number: state.last_number,
            salt: self.random.u64(),
            identity: self.identity,
            first_lsn: state.next_lsn,
            // The writer fills in what depends on when it is written.
            proven: Lsn::ZERO,
            previous,
            metadata_number: 0,
            wall_ms: 0,
        };
        let (name, file) = (ready.name, ready.file);
        let file = Arc::new(LogFile { header, name, file, pins: 0.into() });
        self.files.insert(Arc::clone(&file));
        let left = state.ready.len();
        let from_reserve = (left < Class::Data.leaves()).then_some(left);
        let (position, allocated) = (FIRST_GROUP, ready.allocated);
        state.cursor = Cursor { file, position, allocated, from_reserve };
        previous
    }

    /// Opens the group that the next record goes to.
    fn open_group(&self, state: &mut State, position: u64, after: Option<FileNumber>) {
        let file = Arc::clone(&state.cursor.file);
        let group = Group::new(file, position, state.next_lsn, after);
        state.queue.push_back(group);
        state.open_bytes = Some(0);
        state.cursor.position = position + GROUP_HEADER as u64;
        if state.next_work(&self.sizes).is_some() {
            self.grower_wake.notify_one();
        }
    }

    /// Reserves a place. What it takes of `charge` is taken only on success; the log's own records
    /// have none.
    pub(in crate::wal) fn reserve(
        self: &Arc<Self>,
        charge: Option<&mut Charge>,
        class: Class,
        kind: Kind,
        len: usize,
        owner: &Arc<dyn Owner>,
    ) -> Result<Reservation, ReserveError> {
        if len > self.max_payload() {
            return Err(ReserveError::TooLarge { bytes: len, limit: self.max_payload() });
        }
        let bytes = RECORD_HEADER + len;
        let mut state = self.state();
        // Under the lock: after the poison no LSN is given out.
        if let Some(poison) = self.durable.poison() {
            return Err(poison.into());
        }
        if state.closing {
            return Err(Self::closed().into());
        }
        let place = state.find(class, bytes as u64, &self.sizes).ok_or(ReserveError::NoRoom)?;
        let taken = match charge {
            None => Charge::none(),
            Some(charge) => {
                let admitted = charge.bytes();
                charge.split(len).ok_or(ReserveError::Unadmitted { bytes: len, admitted })?
            }
        };
        match place {
            Place::Open => {}
            Place::NewGroup(position) => self.open_group(&mut state, position, None),
            Place::NextFile(index) => {
                let previous = self.next_file(&mut state, index);
                self.open_group(&mut state, FIRST_GROUP, Some(previous));
            }
        }
        let group = Arc::clone(state.queue.back().expect("the open group is the youngest"));
        let lsn = state.next_lsn;
        let position = state.cursor.position;
        state.next_lsn = lsn.next();
        state.cursor.position += bytes as u64;
        state.open_bytes = state.open_bytes.map(|open| open + bytes);
        let (index, record) = {
            let mut blocks = self.blocks();
            let (block, record) = blocks.take(bytes);
            let (index, first) = group.add(bytes, taken, block, lsn, owner);
            if first {
                blocks.begin(block);
            }
            blocks.note_owner(block, owner);
            (index, record)
        };
        drop(state);
        if index == 0 {
            self.writer_wake.notify_one();
        }
        self.metrics.reserved(lsn);
        let file = group.file.number();
        let location = Location { file, position, len: len as u32 };
        let seed = group.file.seed();
        let shared = Arc::clone(self);
        Ok(Reservation::new(shared, group, index, seed, lsn, kind, location, record))
    }
}

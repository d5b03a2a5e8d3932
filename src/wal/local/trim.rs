//! Giving files back.

use std::sync::Arc;

use crate::failpoint;
use crate::wal::room::ReadyFile;
use crate::wal::stream::Shared;
use crate::wal::{Class, Kind, Lsn, ReserveError, RoomError, Stream};

impl Stream {
    /// Says that nobody needs records below `floor` any more: appends a record of that, waits until
    /// it is synced, and gives back the files that a checkpoint covers and no [`super::super::Pin`]
    /// holds; the rest follow when that is so. A floor that is not above the last one does nothing.
    pub async fn trim(&self, floor: Lsn) -> Result<(), RoomError> {
        let shared = self.shared();
        {
            let mut state = shared.state();
            if floor <= state.floor {
                return Ok(());
            }
            // Before the record, so that a checkpoint that covers the record knows the floor too.
            state.floor_asked = state.floor_asked.max(floor);
        }
        let lsn = loop {
            match shared.append_own(Kind::TRIM, floor.0) {
                Ok(lsn) => break lsn,
                Err(ReserveError::NoRoom) => {
                    self.wait_for_room(Class::Housekeeping, size_of::<u64>()).await?;
                }
                Err(ReserveError::Poisoned(poisoned)) => return Err(poisoned.into()),
                Err(ReserveError::TooLarge { bytes, limit }) => {
                    return Err(RoomError::TooLarge { bytes, limit });
                }
                Err(ReserveError::Unadmitted { .. }) => {
                    unreachable!("the log's own records need no admission")
                }
            }
        };
        self.wait_durable(lsn).await?;
        shared.wait_synced(lsn).await?;
        failpoint::pass("trim: synced");
        {
            let mut state = shared.state();
            state.floor = state.floor.max(floor);
        }
        shared.recycle();
        Ok(())
    }

    /// The LSN below which nobody needs records, as far as that is synced.
    pub fn floor(&self) -> Lsn {
        self.shared().state().floor
    }
}

impl Shared {
    /// Makes files ready for use again whose records are covered by a checkpoint, needed by nobody
    /// and read by nobody.
    pub(in crate::wal) fn recycle(&self) {
        let mut state = self.state();
        // The floor excludes its own LSN, what a checkpoint covers includes it.
        let below = state.floor.min(state.covered.next());
        let gone = self.files.take_below(below);
        if gone.is_empty() {
            return;
        }
        for file in gone {
            let allocated = file.file.len().unwrap_or(0);
            let (name, file) = (file.name.clone(), Arc::clone(&file.file));
            state.ready.push_back(ReadyFile { name, file, allocated });
        }
        state.growth.failed = None;
        let (files, bytes) = (self.files.with(std::collections::BTreeMap::len), state.disk_bytes);
        drop(state);
        self.metrics.disk(files, bytes);
        self.grower_wake.notify_one();
        self.room.notify_waiters();
    }
}

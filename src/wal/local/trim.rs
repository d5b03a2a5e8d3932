//! Giving files back.

use crate::wal::room::ReadyFile;
use crate::wal::stream::Shared;

impl Shared {
    /// Makes files ready for use again whose records are covered by a checkpoint, needed by nobody
    /// and read by nobody.
    pub(in crate::wal) fn recycle(&self) {
        let mut state = self.state();
        // Both say "up to here": the floor excludes its own LSN, the checkpoint includes it.
        let below = state.floor.min(state.covered.next());
        let gone = self.files.take_below(below);
        if gone.is_empty() {
            return;
        }
        for file in gone {
            let allocated = file.file.len().unwrap_or(0);
            let (name, file) = (file.name.clone(), std::sync::Arc::clone(&file.file));
            state.ready.push_back(ReadyFile { name, file, allocated });
        }
        state.growth.failed = None;
        drop(state);
        self.grower_wake.notify_one();
        self.room.notify_waiters();
    }
}

//! Checkpoints: what a start needs not replay (DESIGN §5).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Broker;
use super::garbage::list;
use crate::cluster::{CheckError, Fence};
use crate::failpoint;
use crate::partition::{Partition, Partitions};
use crate::task;
use crate::wal::local::{CheckpointError, CheckpointKind};
use crate::wal::{Lsn, Stream};

/// The log grows by this much between two checkpoints.
pub(super) const CHECKPOINT_BYTES: u64 = 64 << 20;

/// How long a look for a fence may take before a checkpoint goes on without it.
const FENCE_LOOK: Duration = Duration::from_secs(2);

/// Why no checkpoint was published.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    /// The log refused it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Another run of this broker took this one's place.
    #[error(transparent)]
    Fenced(Arc<Fence>),
    /// Taking the parts panicked.
    #[error("taking the checkpoint failed: {0}")]
    Panicked(String),
}

impl Broker {
    /// Publishes a checkpoint of every partition, or of those that changed since the last one. One
    /// at a time: what one has found out must not be published after what the next one has.
    pub(super) async fn checkpoint(&self) -> Result<(), TakeError> {
        let mut garbage = self.checkpointing.lock().await;
        // A bucket that is away says nothing, and keeps no checkpoint from being written here.
        let looked = self.clock.timeout(FENCE_LOOK, self.cluster.check_fenced()).await;
        if let Ok(Err(CheckError::Fenced(fence))) = looked {
            return Err(TakeError::Fenced(fence));
        }
        let stream = self.stream.clone();
        // Before the list: a record below it went through a partition that the list will have.
        let covers = stream.reserved();
        failpoint::pass("checkpoint: scope");
        let partitions = Arc::clone(&self.partitions);
        let before = garbage.clone();
        let taken = task::blocking(move || take(&stream, covers, &partitions, &before)).await;
        *garbage = taken.map_err(|error| TakeError::Panicked(error.to_string()))??;
        failpoint::pass("checkpoint: published");
        self.metrics.checkpoints.inc();
        Ok(())
    }
}

/// Takes each part under its partition's lock. A record up to `covers` has already changed its
/// partition, because its LSN was given out under the same lock. The list of garbage comes last, so
/// that it has what the parts do not refer to any more, also because of records that were on their
/// way; it is returned, and left out of a delta if it is as `before`.
pub(super) fn take(
    stream: &Stream,
    covers: Lsn,
    partitions: &Partitions,
    before: &Bytes,
) -> Result<Bytes, CheckpointError> {
    let kind = stream.next_checkpoint();
    let all = partitions.all().into_iter();
    let wanted = all.filter(|partition| kind == CheckpointKind::Base || partition.is_dirty());
    let mut taken: Vec<(Arc<Partition>, Lsn)> = Vec::new();
    let last = Cell::new(covers);
    let parts = wanted.map(|partition| {
        let (lsn, part) = partition.checkpoint_part();
        taken.push((partition, lsn));
        last.set(last.get().max(lsn));
        Bytes::from(part)
    });
    let mut garbage = Bytes::new();
    let listed = std::iter::once_with(|| {
        // A log that has stopped refuses the checkpoint.
        if stream.wait_durable_blocking(last.get()).is_ok() {
            partitions.apply_durable();
        }
        garbage = list::of(&partitions.shared().objects);
        garbage.clone()
    });
    let listed = listed.filter(|list| kind == CheckpointKind::Base || list != before);
    stream.checkpoint(kind, covers, parts.chain(listed))?;
    for (partition, lsn) in taken {
        partition.checkpointed(lsn);
    }
    Ok(garbage)
}

//! Checkpoints: what a start needs not replay (DESIGN §5).

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use crate::partition::Partition;
use crate::task;
use crate::wal::local::{CheckpointError, CheckpointKind};
use crate::wal::{Lsn, Stream};

/// The log grows by this much between two checkpoints.
pub(super) const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Why no checkpoint was published.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    /// The log refused it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Taking the parts panicked.
    #[error("taking the checkpoint failed: {0}")]
    Panicked(String),
}

impl Broker {
    /// Publishes a checkpoint of every partition, or of those that changed since the last one.
    pub(super) async fn checkpoint(&self) -> Result<(), TakeError> {
        let stream = self.stream.clone();
        let partitions = self.partitions.all();
        let taken = task::blocking(move || take(&stream, partitions)).await;
        taken.map_err(|error| TakeError::Panicked(error.to_string()))??;
        self.metrics.checkpoints.inc();
        Ok(())
    }
}

/// Takes each part under its partition's lock. A record below `covers` has already changed its
/// partition, because its LSN was given out under the same lock.
fn take(stream: &Stream, partitions: Vec<Arc<Partition>>) -> Result<(), CheckpointError> {
    let kind = stream.next_checkpoint();
    let covers = stream.reserved();
    let wanted = partitions
        .into_iter()
        .filter(|partition| kind == CheckpointKind::Base || partition.is_dirty());
    let mut taken: Vec<(Arc<Partition>, Lsn)> = Vec::new();
    let parts = wanted.map(|partition| {
        let (lsn, part) = partition.checkpoint_part();
        taken.push((partition, lsn));
        Bytes::from(part)
    });
    stream.checkpoint(kind, covers, parts)?;
    for (partition, lsn) in taken {
        partition.checkpointed(lsn);
    }
    Ok(())
}

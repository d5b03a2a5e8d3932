//! The checkpoints that a restore ends with: one beside the new log, which a start reads, and one
//! in the bucket, so that the offsets from which the partitions go on are known there before any
//! is given out.

use std::sync::Arc;

use bytes::Bytes;

use super::RestoreError;
use super::load::Loaded;
use crate::broker::bucket_log::{BucketLog, Item, Summary};
use crate::broker::garbage::list;
use crate::broker::{PartKey, checkpoint};
use crate::cluster::{ClusterOptions, OpenRestore};
use crate::object::{Writer, WriterId};
use crate::partition::Partitions;
use crate::task;
use crate::wal::Stream;

/// Publishes a checkpoint of everything beside the log.
pub(super) async fn locally(
    stream: &Stream,
    partitions: &Arc<Partitions>,
) -> Result<(), RestoreError> {
    let (stream, partitions) = (stream.clone(), Arc::clone(partitions));
    let taking =
        move || checkpoint::take(&stream, stream.reserved(), &partitions, &Bytes::default());
    let taken = task::blocking(taking).await;
    taken.map_err(|error| RestoreError::Panicked(error.to_string()))??;
    Ok(())
}

/// Publishes a checkpoint of everything in the bucket. All that it says is synced.
pub(super) async fn in_bucket(
    stream: &Stream,
    partitions: &Partitions,
    loaded: &Loaded,
    open: &OpenRestore,
    (options, incarnation): (ClusterOptions, [u8; 16]),
) -> Result<(), RestoreError> {
    let id = WriterId { cluster: open.image().cluster_id().0, incarnation };
    let writer = Writer::new(id, options.random.u64() >> 1);
    let covers = stream.reserved();
    stream.wait_synced(covers).await?;
    let (mut log, _) = BucketLog::open(options.store, options.node_id, writer).await?;
    let mut publication = log.begin().await?;
    for partition in partitions.all() {
        let key = PartKey::Partition(partition.id()).encode();
        let part = Bytes::from(partition.bucket_part().1);
        publication.push(&Item::Part { key, part }).await?;
    }
    let part = list::of(&partitions.shared().objects);
    publication.push(&Item::Part { key: PartKey::Garbage.encode(), part }).await?;
    let part = loaded.writers.concat().into();
    publication.push(&Item::Part { key: PartKey::Writers.encode(), part }).await?;
    let summary = Summary {
        identity: options.prepared.identity().0,
        covers: covers.0,
        metadata_number: open.image().number(),
        wall_ms: options.clock.wall_ms(),
    };
    Ok(publication.finish(summary).await?)
}

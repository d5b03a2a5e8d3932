//! Checkpoints of this broker in its bucket (DESIGN §6): the same parts as those beside the log,
//! without places in it, published through [`BucketLog`] when [`Rhythm`] says so.
//!
//! | key                              | part                                                    |
//! |----------------------------------|---------------------------------------------------------|
//! | `p`, topic id 16, partition i32  | a partition ([`Partition::bucket_part`])                |
//! | `g`                              | the list of garbage ([`list`])                          |
//! | `w`                              | the runs whose objects may be swept: each 16 bytes      |
//!
//! **Invariant:** nothing of a part leaves before every record that it rests on is synced.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Broker;
use super::bucket_log::{
    BucketLog, Item, Kind, LoadError, Publication, PublishError, Rhythm, Summary,
};
use super::garbage::list;
use crate::cluster::CheckError;
use crate::failpoint;
use crate::object::{ReadLogError, Writer, WriterId};
use crate::partition::Partition;
use crate::protocol::types::{TopicId, TopicPartition};
use crate::task;
use crate::wal::{Lsn, Poisoned};

/// How long the last checkpoint of a run may take.
const LAST_CHECKPOINT: Duration = Duration::from_secs(10);
/// Parts are taken for so many partitions at a time.
const PARTITIONS_AT_ONCE: usize = 256;

const PARTITION_KEY: u8 = b'p';
const GARBAGE_KEY: &[u8] = b"g";
const WRITERS_KEY: &[u8] = b"w";

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKey {
    /// A partition.
    Partition(TopicPartition),
    /// The list of garbage.
    Garbage,
    /// The runs whose objects may be swept.
    Writers,
}

impl PartKey {
    /// The key as it is stored.
    pub fn encode(self) -> Bytes {
        match self {
            PartKey::Partition(of) => {
                let mut key = vec![PARTITION_KEY];
                key.extend_from_slice(of.topic.0.as_bytes());
                key.extend_from_slice(&of.partition.to_be_bytes());
                key.into()
            }
            PartKey::Garbage => Bytes::from_static(GARBAGE_KEY),
            PartKey::Writers => Bytes::from_static(WRITERS_KEY),
        }
    }

    /// Reads a key; `None` for one that this release does not know.
    pub fn decode(key: &[u8]) -> Option<Self> {
        match key {
            GARBAGE_KEY => return Some(PartKey::Garbage),
            WRITERS_KEY => return Some(PartKey::Writers),
            _ => {}
        }
        let rest = key.strip_prefix(&[PARTITION_KEY])?;
        let (topic, rest) = rest.split_first_chunk::<16>()?;
        let partition = i32::from_be_bytes(rest.try_into().ok()?);
        let topic = TopicId(Uuid::from_bytes(*topic));
        Some(PartKey::Partition(TopicPartition { topic, partition }))
    }
}

/// What the loop remembers between two checkpoints.
#[derive(Debug)]
pub(super) struct BucketCheckpoints {
    writer: WriterId,
    identity: [u8; 16],
    log: Option<BucketLog>,
    rhythm: Rhythm,
    /// What the last checkpoint has of each partition.
    published: HashMap<TopicPartition, Lsn>,
    garbage: Bytes,
}

/// Why no checkpoint was published.
#[derive(Debug, thiserror::Error)]
pub(super) enum BucketCheckpointError {
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log did not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Another run took this one's place, or it is unknown whether one did.
    #[error(transparent)]
    Fenced(#[from] CheckError),
    /// What stands in the place of an entry cannot be read.
    #[error(transparent)]
    Taken(#[from] ReadLogError),
    /// The write-ahead log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// Taking parts panicked.
    #[error("taking parts failed: {0}")]
    Panicked(String),
}

impl BucketCheckpoints {
    /// For a run that writes to the bucket as `writer`, from the data directory `identity`, with
    /// at least `interval` between two checkpoints.
    pub(super) fn new(writer: WriterId, identity: [u8; 16], interval: Duration) -> Self {
        Self {
            writer,
            identity,
            log: None,
            rhythm: Rhythm::every(interval),
            published: HashMap::new(),
            garbage: Bytes::new(),
        }
    }
}

impl Broker {
    /// A `CommitTier`, `LogStart` or `Drop` is in the log under this number: a checkpoint in the
    /// bucket follows.
    pub fn view_changed(&self, lsn: Lsn) {
        self.view_lsn.fetch_max(lsn.0, Ordering::Relaxed);
    }

    /// Records up to here are in a checkpoint of the bucket.
    pub(super) fn checkpointed_in_bucket(&self) -> Lsn {
        Lsn(self.checkpointed_in_bucket.load(Ordering::Acquire))
    }

    /// Publishes checkpoints as they come due, until the drain.
    pub(super) async fn watch_bucket_checkpoints(&self) {
        while self.tick(self.delays.checkpoint_look).await {
            if let Err(error) = self.bucket_checkpoint_if_due().await {
                if matches!(error, BucketCheckpointError::Fenced(CheckError::Fenced(_))) {
                    return;
                }
                warn!(%error, "checkpoint not written to the bucket; it is tried again");
            }
        }
    }

    /// Publishes the last checkpoint of a run, unless nothing is uncovered.
    pub(super) async fn last_bucket_checkpoint(&self) {
        let publishing = async {
            let mut state = self.bucket_checkpoints.lock().await;
            self.bucket_checkpoint_if(&mut state, |_| true).await
        };
        match self.clock.timeout(LAST_CHECKPOINT, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "last checkpoint not written to the bucket"),
            Err(_) => warn!("last checkpoint not written to the bucket in time"),
        }
    }

    async fn bucket_checkpoint_if_due(&self) -> Result<(), BucketCheckpointError> {
        let now = self.clock.now();
        let mut state = self.bucket_checkpoints.lock().await;
        self.bucket_checkpoint_if(&mut state, |rhythm| {
            rhythm.due(now).is_some_and(|due| due <= now)
        })
        .await
    }

    /// Publishes a checkpoint if something is uncovered and `wanted` says so.
    async fn bucket_checkpoint_if(
        &self,
        state: &mut BucketCheckpoints,
        wanted: impl Fn(&Rhythm) -> bool,
    ) -> Result<(), BucketCheckpointError> {
        state.rhythm.note(Lsn(self.view_lsn.load(Ordering::Relaxed)));
        if !state.rhythm.is_uncovered() || !wanted(&state.rhythm) {
            return Ok(());
        }
        if state.log.is_none() {
            if let Err(error) = self.open_bucket_log(state).await {
                self.metrics.bucket_checkpoint_failures.inc();
                state.rhythm.failed(self.clock.now());
                return Err(error.into());
            }
            // An earlier run may have covered everything.
            if !state.rhythm.is_uncovered() {
                return Ok(());
            }
        }
        self.bucket_checkpoint(state).await
    }

    /// Publishes a checkpoint of everything, or of what changed.
    async fn bucket_checkpoint(
        &self,
        state: &mut BucketCheckpoints,
    ) -> Result<(), BucketCheckpointError> {
        let began = self.clock.now();
        // Before the list: a record below it went through a partition that the list will have.
        let covers = self.stream.reserved();
        match self.publish_in_bucket(state, covers).await {
            Ok(kind) => {
                let kind = if kind == Kind::Base { "base" } else { "delta" };
                self.metrics.bucket_checkpoints.with_label_values(&[kind]).inc();
                state.rhythm.published(began, covers);
                self.checkpointed_in_bucket.fetch_max(covers.0, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                self.metrics.bucket_checkpoint_failures.inc();
                state.rhythm.failed(self.clock.now());
                Err(self.after_failure(state, error).await)
            }
        }
    }

    /// An entry that has another writer is an earlier run's that came late, or a fence.
    async fn after_failure(
        &self,
        state: &mut BucketCheckpoints,
        error: BucketCheckpointError,
    ) -> BucketCheckpointError {
        let BucketCheckpointError::Publish(PublishError::Taken { key, .. }) = &error else {
            return error;
        };
        if let Err(fenced) = self.cluster.check_fenced().await {
            return fenced.into();
        }
        let Some(log) = &mut state.log else { return error };
        match log.step_over().await {
            Ok(true) => {
                info!(%error, "an earlier run's checkpoint came late; it is stepped over");
                error
            }
            Ok(false) => {
                error!(%error, "somebody else writes this broker's checkpoints");
                let by = format!("checkpoint \"{key}\" has another writer");
                CheckError::Fenced(self.cluster.end_for(by).await).into()
            }
            Err(unread) => unread.into(),
        }
    }

    async fn publish_in_bucket(
        &self,
        state: &mut BucketCheckpoints,
        covers: Lsn,
    ) -> Result<Kind, BucketCheckpointError> {
        self.cluster.check_fenced().await?;
        let BucketCheckpoints { log: Some(log), published, garbage, identity, .. } = state else {
            unreachable!("the log was opened")
        };
        self.stream.wait_synced(covers).await?;
        failpoint::pass("bucket checkpoint: begun");
        let partitions = self.partitions.all();
        let mut publication = log.begin().await?;
        let kind = publication.kind();
        if kind == Kind::Base {
            published.clear();
        }
        let mut next = published.clone();
        self.push_partitions(&mut publication, &partitions, &mut next).await?;
        let present: HashSet<_> = partitions.iter().map(|partition| partition.id()).collect();
        let gone: Vec<_> = next.keys().filter(|of| !present.contains(of)).copied().collect();
        for of in gone {
            next.remove(&of);
            let key = PartKey::Partition(of).encode();
            publication.push(&Item::Removal { key }).await?;
        }
        // The parts do not refer to what was dropped while they were taken, which is synced by now.
        self.partitions.apply_durable();
        let listed = list::of(&self.partitions.shared().objects);
        if kind == Kind::Base || listed != *garbage {
            let (key, part) = (PartKey::Garbage.encode(), listed.clone());
            publication.push(&Item::Part { key, part }).await?;
        }
        if kind == Kind::Base {
            let part = self.object_ids.incarnations().concat().into();
            publication.push(&Item::Part { key: PartKey::Writers.encode(), part }).await?;
        }
        let summary = Summary {
            identity: *identity,
            covers: covers.0,
            // After the parts: their topics are in the metadata up to here.
            metadata_number: self.image().number(),
            wall_ms: self.clock.wall_ms(),
        };
        publication.finish(summary).await?;
        failpoint::pass("bucket checkpoint: published");
        (*published, *garbage) = (next, listed);
        if let Err(error) = log.trim().await {
            warn!(%error, "old checkpoints stay in the bucket until the next one");
        }
        Ok(kind)
    }

    /// Pushes the parts of partitions that changed since the checkpoint that `published` is of.
    async fn push_partitions(
        &self,
        publication: &mut Publication<'_>,
        partitions: &[Arc<Partition>],
        published: &mut HashMap<TopicPartition, Lsn>,
    ) -> Result<(), BucketCheckpointError> {
        for chunk in partitions.chunks(PARTITIONS_AT_ONCE) {
            let chunk = chunk.to_vec();
            let known: Vec<_> =
                chunk.iter().map(|partition| published.get(&partition.id()).copied()).collect();
            let taking = move || {
                let mut taken = Vec::new();
                for (partition, known) in chunk.iter().zip(known) {
                    let (lsn, part) = partition.bucket_part();
                    // One that was never written to needs no part.
                    if lsn != Lsn::ZERO && known != Some(lsn) {
                        taken.push((partition.id(), lsn, Bytes::from(part)));
                    }
                }
                taken
            };
            let taken = task::blocking(taking).await;
            let taken =
                taken.map_err(|error| BucketCheckpointError::Panicked(error.to_string()))?;
            let last = taken.iter().map(|(_, lsn, _)| *lsn).max().unwrap_or(Lsn::ZERO);
            self.stream.wait_synced(last).await?;
            for (of, lsn, part) in taken {
                let key = PartKey::Partition(of).encode();
                publication.push(&Item::Part { key, part }).await?;
                published.insert(of, lsn);
            }
        }
        Ok(())
    }

    /// Opens the log in the bucket, and learns what an earlier run of this directory has covered.
    async fn open_bucket_log(&self, state: &mut BucketCheckpoints) -> Result<(), LoadError> {
        // Drawn, so that no two bodies of this run are taken for one should it be opened twice.
        let writer = Writer::new(state.writer, self.bucket.random.u64() >> 1);
        let store = self.bucket.store.clone();
        let opened = BucketLog::open(store.clone(), self.node_id(), writer.clone()).await;
        let (log, last) = match opened {
            Err(error) if error.is_damage() => {
                error!(%error, "checkpoints in the bucket are damaged; a new one replaces them");
                (BucketLog::open_anew(store, self.node_id(), writer).await?, None)
            }
            opened => opened?,
        };
        state.log = Some(log);
        if let Some(last) = last.filter(|last| last.identity == state.identity) {
            state.rhythm.found(Lsn(last.covers));
            self.checkpointed_in_bucket.fetch_max(last.covers, Ordering::AcqRel);
        }
        Ok(())
    }
}

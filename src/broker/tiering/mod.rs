//! Bringing logs into the bucket (DESIGN §6): the flusher, which takes them out of the write-ahead
//! log, and the merger, which makes segments of what small partitions have in packs.
//!
//! One task does both, one object at a time. Each object is brought in the same order: what it
//! rests on is synced, it is uploaded and looked at, each of its partitions says by a `CommitTier`
//! record that it refers to it. Cut at any point, nothing but an object without references is left
//! behind, and the next one has another name.

mod clean;
mod flush;
mod gather;
pub(super) mod merge;
mod metrics;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

pub(super) use clean::CleanerMetrics;
pub(super) use metrics::TierMetrics;

use self::plan::Limits;
use super::Broker;
use crate::budget::BytePool;
use crate::object::Store;
use crate::partition::{CommitTierError, LogError, Partition, Untiered};
use crate::protocol::types::TopicPartition;
use crate::task;
use crate::tier::{CHUNK_BYTES, Head, Origin, Sizes, UploadError, WriteError};
use crate::wal::{Poisoned, RoomError};

/// The pauses after a failure double from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// An object goes to the bucket in one request up to this size, if there is memory for it.
const PART_BYTES_MAX: usize = 128 << 20;
/// The least part that stores take of an object that comes in several.
const PART_BYTES_MIN: usize = 5 << 20;

/// What bringing logs into the bucket needs.
#[derive(Debug)]
pub(super) struct Tiering {
    pub(super) store: Store,
    pub(super) metrics: TierMetrics,
    pub(super) cleaner: CleanerMetrics,
    pub(super) pool: BytePool,
    /// `wal.max.bytes`, or what stands for it.
    pub(super) wal_bytes: u64,
    pub(super) max_age: Duration,
}

/// What of a partition waits.
#[derive(Debug, Clone)]
struct Waiting {
    partition: Arc<Partition>,
    untiered: Untiered,
}

/// Why an object was not brought into the bucket. Nothing refers to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TierError {
    /// It was not uploaded.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Its sections contradict themselves.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The log cannot be read.
    #[error("partition {of}: {source}")]
    Log {
        /// The partition.
        of: TopicPartition,
        /// Why not.
        source: LogError,
    },
    /// The write-ahead log cannot be read somewhere.
    #[error(transparent)]
    Wal(#[from] crate::wal::ReadError),
    /// An object that is to be merged cannot be read.
    #[error(transparent)]
    Read(#[from] crate::tier::ReadError),
    /// The write-ahead log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The write-ahead log has no room even for this.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The partition did not take it.
    #[error(transparent)]
    Commit(#[from] CommitTierError),
    /// The log is not what its index says.
    #[error("partition {of}: batches up to offset {found} where they go up to {expected}")]
    Incomplete {
        /// The partition.
        of: TopicPartition,
        /// Up to where batches were planned.
        expected: i64,
        /// Up to where they were found.
        found: i64,
    },
    /// A part of the work panicked.
    #[error("a part of it failed: {0}")]
    Panicked(String),
}

impl TierError {
    /// The one partition that it is about.
    fn partition(&self) -> Option<TopicPartition> {
        match self {
            TierError::Upload(UploadError::Write(error)) | TierError::Write(error) => {
                error.partition()
            }
            TierError::Log { of, .. } | TierError::Incomplete { of, .. } => Some(*of),
            _ => None,
        }
    }
}

impl Tiering {
    /// The size of chunks, and of the parts that the memory allows: half of it holds a part, the
    /// other half what it is made of.
    fn sizes(&self) -> Sizes {
        let part = (self.pool.capacity() / 2).clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        Sizes { chunk: CHUNK_BYTES, part }
    }

    /// How many bytes of small partitions are gathered at once.
    fn gather_bytes(&self) -> u64 {
        (self.pool.capacity() as u64 / 2).min(PART_BYTES_MAX as u64)
    }
}

impl Broker {
    /// Starts the task; it ends with the drain.
    pub(super) fn start_tiering(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        task::spawn("tiering", async move { broker.watch_tiering().await });
    }

    async fn watch_tiering(&self) {
        let (mut pause, mut merged) = (PAUSES.0, self.clock.now());
        let mut due = self.clock.now();
        while self.tick(self.delays.flush_look).await {
            if self.clock.now() < due {
                // For the lag, which grows while the bucket is away.
                drop(self.untiered());
                continue;
            }
            let flushed = self.flush_waiting().await;
            let outcome = match flushed {
                Ok(())
                    if self.clock.now().saturating_duration_since(merged)
                        >= self.delays.merge_look =>
                {
                    let outcome = self.merge_packs().await;
                    merged = self.clock.now();
                    outcome
                }
                outcome => outcome,
            };
            pause = match outcome {
                Ok(()) => PAUSES.0,
                Err(error) => {
                    warn!(%error, retry_s = pause.as_secs(), "log not brought into the bucket");
                    due = self.clock.now() + pause;
                    (pause * 2).min(PAUSES.1)
                }
            };
        }
    }

    /// What waits, by partition.
    fn untiered(&self) -> (Vec<Arc<Partition>>, Vec<Untiered>) {
        // What is planned at once of a log is bounded, and nothing is while a commit is under way.
        let (mut partitions, mut untiered) = (Vec::new(), Vec::new());
        for partition in self.partitions.all() {
            let waits = partition.untiered_bytes() > 0;
            let planned = waits.then(|| partition.untiered(plan::SEGMENT_BYTES_MAX));
            if let Some(planned) = planned.flatten() {
                partitions.push(partition);
                untiered.push(planned);
            }
        }
        (partitions, untiered)
    }

    /// Brings into the bucket what has waited long enough or is enough.
    pub(super) async fn flush_waiting(&self) -> Result<(), TierError> {
        let now_ms = self.stream.log_clock().now_ms();
        let (partitions, untiered) = self.untiered();
        let limits = Limits {
            now_ms,
            wal_bytes: self.tiering.wal_bytes,
            max_age_ms: i64::try_from(self.tiering.max_age.as_millis()).unwrap_or(i64::MAX),
        };
        let objects = plan::objects(&untiered, &limits);
        if objects.is_empty() {
            return Ok(());
        }
        // Everything planned is durable; nothing leaves before it is synced.
        self.stream.wait_synced(self.stream.durable()).await?;
        let mut outcome = Ok(());
        for object in objects {
            let waiting = |at: usize| {
                let (partition, untiered) = (partitions.get(at)?, untiered.get(at)?);
                Some(Waiting { partition: Arc::clone(partition), untiered: untiered.clone() })
            };
            let waiting: Vec<Waiting> = object.into_iter().filter_map(waiting).collect();
            match self.flush_readable(waiting, now_ms).await {
                // One log that cannot be read keeps no other from the bucket.
                Err(error) if error.partition().is_some() => outcome = Err(error),
                flushed => flushed?,
            }
        }
        outcome
    }

    /// Makes one object of those logs that can be read; the error is that of the last one that
    /// cannot.
    async fn flush_readable(
        &self,
        mut waiting: Vec<Waiting>,
        planned_ms: i64,
    ) -> Result<(), TierError> {
        let mut unreadable = Ok(());
        while !waiting.is_empty() {
            let Err(error) = self.flush(waiting.clone(), planned_ms).await else { break };
            let Some(of) = error.partition() else { return Err(error) };
            let before = waiting.len();
            waiting.retain(|it| it.partition.id() != of);
            if waiting.len() == before {
                return Err(error);
            }
            if !waiting.is_empty() {
                warn!(%error, "the others are brought into the bucket without it");
            }
            unreadable = Err(error);
        }
        unreadable
    }

    /// Makes one object: a segment of one partition, a pack of several.
    async fn flush(&self, mut waiting: Vec<Waiting>, planned_ms: i64) -> Result<(), TierError> {
        let outcome = if let [alone] = &waiting[..] {
            self.flush_segment(alone, planned_ms).await
        } else {
            waiting.sort_by_key(|it| it.partition.id());
            self.flush_pack(&waiting, planned_ms).await
        };
        self.tiering.metrics.ended(Origin::Flushed, outcome.is_ok());
        if let Ok(bytes) = &outcome {
            debug!(bytes, "log brought into the bucket");
        }
        self.reclaim().await;
        outcome.map(drop)
    }

    /// What a new object says of itself.
    fn head(&self, id: crate::tier::ObjectId, origin: Origin) -> Head {
        let cluster = self.image().cluster_id().0;
        Head { cluster, id, created_ms: self.clock.wall_ms(), origin }
    }
}

//! The broker: all handles in one place, and the loops that run beside the requests.
//!
//! `run` starts and stops it ([`Broker::start`], [`Broker::stop`]), `api` works through it. It owns
//! no state of its own: metadata is `cluster`'s, logs are `partition`'s, groups are `group`'s. What
//! it adds is the order between them: metadata before partitions, partitions before the WAL's Drop
//! record (DESIGN §5), a checkpoint before a trim.
//!
//! **Invariant:** a partition in the registry is one that some image had; a topic that an image
//! newly has gets its partitions before whoever asked for it is answered.

pub mod bucket_check;
mod bucket_checkpoint;
pub mod bucket_log;
mod checkpoint;
mod configs;
mod delays;
pub mod fetch_sessions;
pub mod garbage;
mod housekeeping;
mod metrics;
pub mod observe;
mod offsets;
pub mod restore;
mod start;
mod tiering;
mod topics;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use tracing::warn;

pub use crate::cluster::NewTopic;
pub use bucket_checkpoint::PartKey;
pub use configs::AlterConfigs;
pub use metrics::BrokerMetrics;
pub use start::{Environment, StartError, Waiting};
pub use topics::TopicError;

use crate::budget::{Budget, Charge, Pool};
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterImage, CommitError};
use crate::config::Config;
use crate::config::topic::TopicSettings;
use crate::group::GroupCoordinator;
use crate::partition::{MAX_DECOMPRESSED_BYTES, Partition, Partitions, Room};
use crate::protocol::types::TopicPartition;
use crate::shutdown::Shutdown;
use crate::task;
use crate::tier::Cache;
use crate::wal::Stream;
use crate::wal::disk::Space;
use bucket_checkpoint::BucketCheckpoints;
use delays::Delays;
use fetch_sessions::FetchSessions;
use garbage::ids::ObjectIds;

/// The topic that holds group metadata and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Where clients of a listener are told to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The host, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    config: Arc<Config>,
    clock: Clock,
    budget: Budget,
    delays: Delays,
    shutdown: Shutdown,
    cluster: Cluster,
    stream: Stream,
    partitions: Arc<Partitions>,
    cache: Cache,
    tiering: tiering::Tiering,
    groups: GroupCoordinator,
    fetch_sessions: FetchSessions,
    bucket: housekeeping::Bucket,
    settings: TopicSettings,
    /// By listener name; written once the listeners are bound.
    advertised: std::sync::OnceLock<HashMap<Arc<str>, Advertised>>,
    metrics: BrokerMetrics,
    /// Held by whoever takes a checkpoint; the list of garbage that the last one has.
    checkpointing: tokio::sync::Mutex<Bytes>,
    /// Held by whoever publishes a checkpoint in the bucket.
    bucket_checkpoints: tokio::sync::Mutex<BucketCheckpoints>,
    /// The last record that a checkpoint in the bucket must cover.
    view_lsn: AtomicU64,
    /// Records up to here are in a checkpoint of the bucket.
    checkpointed_in_bucket: AtomicU64,
    object_ids: ObjectIds,
    /// Held by whoever changes configuration.
    altering: tokio::sync::Mutex<()>,
    /// Whether time-based deletion pauses after a clock jump (DESIGN D8). Written by the retention
    /// loop.
    deletion_paused: AtomicBool,
}

impl Broker {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The byte budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The process's shutdown.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The present metadata.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.cluster.image()
    }

    /// The metadata's handle.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The write-ahead log.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Every partition.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// One partition, if this broker has it.
    pub fn partition(&self, of: TopicPartition) -> Option<Arc<Partition>> {
        self.partitions.get(of)
    }

    /// What is kept in memory of tiered objects.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The group coordinator.
    pub fn groups(&self) -> &GroupCoordinator {
        &self.groups
    }

    /// The names of this run's tiered objects.
    pub fn object_ids(&self) -> &ObjectIds {
        &self.object_ids
    }

    /// The data directory, an absolute path.
    pub fn data_dir(&self) -> &Path {
        self.bucket.dir.root()
    }

    /// Bytes of the volume that the data directory is on; nothing where the system does not tell.
    pub async fn volume_space(&self) -> Option<Space> {
        let stream = self.stream.clone();
        let space = task::blocking(move || stream.volume_space()).await.ok()?;
        space.inspect_err(|error| warn!(%error, "size of the data directory's volume unknown")).ok()
    }

    /// What consumers fetch, kept between their requests.
    pub fn fetch_sessions(&self) -> &FetchSessions {
        &self.fetch_sessions
    }

    /// This broker's id.
    pub fn node_id(&self) -> i32 {
        self.config.node.id
    }

    /// This broker's rack.
    pub fn rack(&self) -> Option<&str> {
        self.config.node.rack.as_deref()
    }

    /// Sets what clients are told to connect to, by listener name. Called once, after the listeners
    /// are bound and before they accept.
    pub fn set_advertised(&self, advertised: HashMap<Arc<str>, Advertised>) {
        // A second call is a bug of the assembly; the first addresses stand.
        let set = self.advertised.set(advertised);
        debug_assert!(set.is_ok(), "advertised addresses are set once");
    }

    /// Where clients of `listener` are told to connect.
    pub fn advertised(&self, listener: &str) -> Advertised {
        let known = self.advertised.get().and_then(|known| known.get(listener));
        known.cloned().unwrap_or_else(|| Advertised { host: String::new(), port: 0 })
    }

    /// Room for a batch to decompress to `bytes`, or to the most that one may become: half of the
    /// pool for it, up to [`MAX_DECOMPRESSED_BYTES`]. The charge is to be held until what came of
    /// it is dropped or charged elsewhere; it is twice the room, because bytes are there twice
    /// while they grow or are compressed again.
    pub async fn unpack(&self, bytes: usize) -> (Charge, Room) {
        self.read_and_unpack(0, bytes).await
    }

    /// As [`Broker::unpack`], with room to read `read` bytes of the log. Where that is more than
    /// the pool has, the charge is all of the pool, so that one at a time reads so much.
    pub async fn read_and_unpack(&self, read: usize, bytes: usize) -> (Charge, Room) {
        let pool = self.budget.pool(Pool::Unpack);
        let most = (pool.capacity() / 2).min(MAX_DECOMPRESSED_BYTES);
        let room = Room { read, bytes: bytes.min(most), is_most: bytes >= most };
        (pool.take_up_to(read.saturating_add(2 * room.bytes)).await, room)
    }

    /// A producer id that nobody else ever gets.
    pub async fn next_producer_id(&self) -> Result<i64, CommitError> {
        self.cluster.next_producer_id().await
    }
}

#[cfg(test)]
mod tests;

//! The broker: all handles in one place, and the loops that run beside the requests.
//!
//! `run` starts and stops it ([`Broker::start`], [`Broker::stop`]), `api` works through it. It owns
//! no state of its own: metadata is `cluster`'s, logs are `partition`'s, groups are `group`'s. What
//! it adds is the order between them: metadata before partitions, partitions before the WAL's Drop
//! record (DESIGN §5), a checkpoint before a trim.
//!
//! **Invariant:** a partition in the registry is one that some image had; a topic that an image
//! newly has gets its partitions before whoever asked for it is answered.

mod checkpoint;
mod housekeeping;
mod metrics;
mod offsets;
mod start;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use crate::cluster::NewTopic;
pub use metrics::BrokerMetrics;
pub use start::{Environment, StartError, Waiting};
pub use topics::TopicError;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterImage, CommitError, Topic};
use crate::config::Config;
use crate::config::topic::{TopicKey, TopicSettings, effective_default};
use crate::group::GroupCoordinator;
use crate::partition::{Partition, Partitions};
use crate::protocol::types::TopicPartition;
use crate::shutdown::Shutdown;
use crate::wal::Stream;

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
    shutdown: Shutdown,
    cluster: Cluster,
    stream: Stream,
    partitions: Arc<Partitions>,
    groups: GroupCoordinator,
    bucket: housekeeping::Bucket,
    settings: TopicSettings,
    /// By listener name; written once the listeners are bound.
    advertised: std::sync::OnceLock<HashMap<Arc<str>, Advertised>>,
    metrics: BrokerMetrics,
    /// Held by whoever takes a checkpoint.
    checkpointing: tokio::sync::Mutex<()>,
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

    /// The group coordinator.
    pub fn groups(&self) -> &GroupCoordinator {
        &self.groups
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

    /// The settings of a topic: the broker's, with what the topic sets itself.
    pub fn topic_settings(&self, topic: &Topic) -> TopicSettings {
        if topic.configs.is_empty() {
            return self.settings.clone();
        }
        self.settings.with(&topic.configs)
    }

    /// The value of a topic key on a topic that does not set it.
    pub fn topic_default(&self, key: &TopicKey) -> String {
        effective_default(key, &self.config.topics.defaults)
    }

    /// A producer id that nobody else ever gets.
    pub async fn next_producer_id(&self) -> Result<i64, CommitError> {
        self.cluster.next_producer_id().await
    }
}

#[cfg(test)]
mod tests;

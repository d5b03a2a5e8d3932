//! The configuration of the process: plain, validated data.
//!
//! One table ([`KEYS`]) holds every key of a broker with its type, default and effect; a proxy has
//! tables of its own (`proxy_keys`), one of the process and one that each of its clusters has. Keys
//! are flat and dotted and have the same name in every source: command line, `TIDEGATE_*`
//! environment, file (TOML or a Kafka `server.properties`), default, the first of these that has a
//! key deciding it. Where Kafka has the concept the key is Kafka's. A Kafka 4.3 server setting that
//! means nothing to a broker here is accepted and noted; any other unknown key is an error.
//!
//! `cli` gathers [`Sources`], [`Sources::load`] turns them into a [`Config`] and
//! [`Sources::load_proxy`] into a [`ProxyConfig`], or into all [`Errors`] at once, and `run` hands
//! each room its part. Topic settings changed at run time are not configuration; they live in the
//! cluster's metadata.
//!
//! **Invariants:** every key in a table is read by the loader; no key is a prefix of another, so
//! that a TOML table can hold any of them (Kafka's own `max.connections` is the exception);
//! loading depends on nothing but [`Sources`]; a value is printed only when its key is ours and not
//! of a kind that may hold a secret.

mod client;
pub mod describe;
pub mod dynamic;
mod error;
mod file;
pub mod kafka;
mod kafka_names;
mod key;
mod keys;
mod listener;
mod load;
mod machine;
mod metrics_keys;
mod nearest;
mod object;
mod process_keys;
mod proxy;
mod proxy_keys;
mod reference;
mod schema;
mod secret;
mod source;
mod tls;
pub mod topic;
mod value;

use std::path::PathBuf;
use std::time::Duration;

pub use client::{BOOTSTRAP_VARIABLE, COMMAND_CONFIG_VARIABLE, ClientConfig, duration};
pub use error::{Errors, Origin, Problem};
pub use key::{Default, Key, Kind};
pub use keys::{KEYS, MEMORY_BUDGET_BYTES_MIN};
pub use listener::{Endpoint, Host, Listener, SecurityProtocol};
pub use load::is_log_level;
pub use machine::Machine;
pub use nearest::nearest;
pub use object::{Addressing, Encryption, ObjectConfig, ObjectUrl, S3Config, Service};
pub use proxy::{Nodes, ProxyConfig, ProxyLimits, Upstream, VirtualCluster};
pub use reference::Role;
pub use secret::Secret;
pub use source::Sources;
pub use tls::{ClientAuth, ClientTls, Keystore, Pem, ServerTls};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this broker is.
    pub node: NodeConfig,
    /// The process as a whole.
    pub process: ProcessConfig,
    /// The front door.
    pub server: ServerConfig,
    /// The HTTP door for operators.
    pub admin: AdminConfig,
    /// What has metrics of its own.
    pub metrics: MetricsConfig,
    /// Where bytes are kept.
    pub storage: StorageConfig,
    /// Topics: what clients may do to them, and what they start with.
    pub topics: TopicsConfig,
    /// Consumer groups and their offsets.
    pub groups: GroupsConfig,
    /// Idempotent and transactional producers.
    pub producers: ProducersConfig,
    /// What was set, as text.
    pub statics: describe::StaticConfigs,
    /// What the user should hear about at start.
    pub notes: Notes,
}

/// Who this broker is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `node.id`: not negative.
    pub id: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// The process as a whole.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// `memory.budget.bytes`: at least [`MEMORY_BUDGET_BYTES_MIN`].
    pub memory_budget_bytes: u64,
    /// `shutdown.deadline.ms`.
    pub shutdown_deadline: Duration,
    /// `log.level`: directives that `tracing_subscriber::EnvFilter` accepts.
    pub log_level: String,
    /// `log.format`.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The front door.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `listeners` and `advertised.listeners`; never empty.
    pub listeners: Vec<Listener>,
    /// `socket.request.max.bytes`: the largest frame, without its length.
    pub request_bytes_max: u32,
    /// `connections.max.idle.ms`; `None` is for ever.
    pub connection_idle_max: Option<Duration>,
    /// `max.connections`, over all listeners.
    pub connections_max: u32,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: u32,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: u32,
}

/// The HTTP door for operators.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// `admin.listener`.
    pub listener: Endpoint,
}

/// What has metrics of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `metrics.topics.max`.
    pub topics_max: usize,
    /// `metrics.partitions.max`.
    pub partitions_max: usize,
    /// `metrics.groups.max`: of groups, and of pairs of a group and a topic.
    pub groups_max: usize,
    /// `metrics.group.partitions.max`.
    pub group_partitions_max: usize,
    /// `metrics.compat` has `kafka-exporter`.
    pub kafka_exporter: bool,
    /// `metrics.compat` has `jmx`.
    pub jmx: bool,
}

/// Where bytes are kept.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// `data.dir`; `None` is a temporary directory, which `object.url=memory://` implies.
    pub data_dir: Option<PathBuf>,
    /// The bucket and the way to it.
    pub object: ObjectConfig,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// `tier.max.age.ms`.
    pub tier_age_max: Duration,
}

/// The smallest limit of the write-ahead log, in bytes: its files are a sixteenth of it, and a file
/// has to take the largest batch that clients send by default.
pub const WAL_BYTES_MIN: u64 = 64 << 20;

/// The write-ahead log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// `wal.sync` and `wal.flush.interval.ms`.
    pub sync: WalSync,
    /// `wal.max.bytes`; `None` is a quarter of the volume.
    pub bytes_max: Option<u64>,
}

/// What an acknowledgement says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalSync {
    /// It is on disk.
    Always,
    /// It is in the page cache, which is synced this often.
    Interval(Duration),
}

/// Topics: what clients may do to them, and what they start with.
#[derive(Clone, Debug)]
pub struct TopicsConfig {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub deletable: bool,
    /// `num.partitions`: at least 1.
    pub partitions: i32,
    /// `default.replication.factor`: at least 1.
    pub replication_factor: i16,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff: Duration,
    /// What a topic's own settings are where it has none.
    pub defaults: TopicDefaults,
}

/// What a topic's own settings are where it has none.
#[derive(Clone, Debug)]
pub struct TopicDefaults {
    /// `min.insync.replicas`: at least 1.
    pub min_insync_replicas: i32,
    /// `log.retention.ms`, `.minutes` or `.hours`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `log.retention.bytes` of a partition; `None` is unlimited.
    pub retention_bytes: Option<u64>,
    /// `message.max.bytes`: the largest batch.
    pub message_bytes_max: u32,
    /// `log.cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `log.cleaner.min.cleanable.ratio`.
    pub min_dirty_ratio: f64,
    /// `log.cleaner.delete.retention.ms`.
    pub delete_retention: Duration,
    /// `log.cleaner.min.compaction.lag.ms`.
    pub min_compaction_lag: Duration,
    /// `log.cleaner.max.compaction.lag.ms`: not below the one before.
    pub max_compaction_lag: Duration,
    /// `log.message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `log.message.timestamp.before.max.ms`.
    pub timestamp_before_max: Duration,
    /// `log.message.timestamp.after.max.ms`.
    pub timestamp_after_max: Duration,
    /// `compression.type`.
    pub compression: CompressionType,
    /// `compression.gzip.level`: -1, or 1 to 9.
    pub gzip_level: i32,
    /// `compression.zstd.level`.
    pub zstd_level: i32,
}

/// `cleanup.policy`: at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old records are removed.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time stands.
    CreateTime,
    /// The broker's time replaces it.
    LogAppendTime,
}

/// `compression.type`: what batches are compressed with in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Whatever the producer used.
    Producer,
    /// Nothing.
    Uncompressed,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl CompressionType {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Producer, Self::Uncompressed, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its name as a value of `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Uncompressed => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Consumer groups and their offsets.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`: not above the next.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`: at least 1.
    pub members_max: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.topic.num.partitions`: at least 1.
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`: at least 1.
    pub offsets_topic_replication_factor: i16,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: u32,
}

/// Idempotent and transactional producers.
#[derive(Clone, Debug)]
pub struct ProducersConfig {
    /// `producer.id.expiration.ms`.
    pub id_expiration: Duration,
    /// `transaction.max.timeout.ms`.
    pub transaction_timeout_max: Duration,
}

/// What the user should hear about at start.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Kafka settings that were given and have no effect here, sorted.
    pub without_effect: Vec<String>,
    /// Settings of ours that another setting makes void, in whole sentences.
    pub overruled: Vec<String>,
    /// Names of listeners whose advertised address is only the machine's host name.
    pub advertised_by_hostname: Vec<String>,
}

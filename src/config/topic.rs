//! Topic-level configuration: Kafka's keys, their types and defaults, and the settings that a
//! partition is run with.
//!
//! Names, types and defaults are those of Apache Kafka 4.3 (`TopicConfig`, `LogConfig`). A topic
//! stores only what was set for it; everything else follows the broker's configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::dynamic::{DYNAMIC_KEYS, DynamicConfigs};
use super::kafka::{find, kafka_configs};
use super::{CleanupPolicy, CompressionType, TimestampType, TopicDefaults};

/// The type of a topic key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKeyType {
    /// `true` or `false`.
    Boolean,
    /// A whole number between the bounds, or -1 for the codec's own choice.
    Level {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// A whole number between the bounds.
    Number {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// A fraction between 0 and 1.
    Ratio,
    /// One of the listed words.
    Choice(&'static [&'static str]),
    /// Any of the listed words, separated by commas; none of them is a value too.
    Choices(&'static [&'static str]),
    /// Replicas as `partition:broker`, separated by commas, or `*` for all.
    Replicas,
}

/// A topic key.
#[derive(Clone, Copy, Debug)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: TopicKeyType,
    /// Kafka's default; the broker's configuration may stand in for it.
    pub default: &'static str,
}

const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;

const fn number(name: &'static str, min: i64, max: i64, default: &'static str) -> TopicKey {
    TopicKey { name, kind: TopicKeyType::Number { min, max }, default }
}

const fn boolean(name: &'static str, default: &'static str) -> TopicKey {
    TopicKey { name, kind: TopicKeyType::Boolean, default }
}

const fn replicas(name: &'static str) -> TopicKey {
    TopicKey { name, kind: TopicKeyType::Replicas, default: "" }
}

/// Every topic key of Apache Kafka 4.3, sorted by name.
pub const TOPIC_KEYS: &[TopicKey] = &[
    TopicKey {
        name: "cleanup.policy",
        kind: TopicKeyType::Choices(&["compact", "delete"]),
        default: "delete",
    },
    TopicKey {
        name: "compression.gzip.level",
        kind: TopicKeyType::Level { min: 1, max: 9 },
        default: "-1",
    },
    number("compression.lz4.level", 1, 17, "9"),
    TopicKey {
        name: "compression.type",
        kind: TopicKeyType::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        default: "producer",
    },
    number("compression.zstd.level", -131_072, 22, "3"),
    number("delete.retention.ms", 0, I64, "86400000"),
    number("file.delete.delay.ms", 0, I64, "60000"),
    number("flush.messages", 1, I64, "9223372036854775807"),
    number("flush.ms", 0, I64, "9223372036854775807"),
    replicas("follower.replication.throttled.replicas"),
    number("index.interval.bytes", 0, I32, "4096"),
    replicas("leader.replication.throttled.replicas"),
    number("local.retention.bytes", -2, I64, "-2"),
    number("local.retention.ms", -2, I64, "-2"),
    number("max.compaction.lag.ms", 1, I64, "9223372036854775807"),
    number("max.message.bytes", 0, I32, "1048588"),
    number("message.timestamp.after.max.ms", 0, I64, "3600000"),
    number("message.timestamp.before.max.ms", 0, I64, "9223372036854775807"),
    TopicKey {
        name: "message.timestamp.type",
        kind: TopicKeyType::Choice(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
    },
    TopicKey { name: "min.cleanable.dirty.ratio", kind: TopicKeyType::Ratio, default: "0.5" },
    number("min.compaction.lag.ms", 0, I64, "0"),
    number("min.insync.replicas", 1, I32, "1"),
    boolean("preallocate", "false"),
    boolean("remote.log.copy.disable", "false"),
    boolean("remote.log.delete.on.disable", "false"),
    boolean("remote.storage.enable", "false"),
    number("retention.bytes", -1, I64, "-1"),
    number("retention.ms", -1, I64, "604800000"),
    number("segment.bytes", 1_048_576, I32, "1073741824"),
    number("segment.index.bytes", 4, I32, "10485760"),
    number("segment.jitter.ms", 0, I64, "0"),
    number("segment.ms", 1, I64, "604800000"),
    boolean("unclean.leader.election.enable", "false"),
];

/// The value that `key` has on a topic that does not set it: the broker's, where the broker's
/// configuration has it, otherwise Kafka's default.
pub fn effective_default(key: &TopicKey, defaults: &TopicDefaults) -> Cow<'static, str> {
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
    let value = match key.name {
        "cleanup.policy" => {
            let CleanupPolicy { delete, compact } = defaults.cleanup_policy;
            let words = [("compact", compact), ("delete", delete)];
            let set: Vec<_> = words.iter().filter(|(_, set)| *set).map(|(word, _)| *word).collect();
            set.join(",")
        }
        "compression.gzip.level" => defaults.gzip_level.to_string(),
        "compression.type" => defaults.compression.name().to_owned(),
        "compression.zstd.level" => defaults.zstd_level.to_string(),
        "delete.retention.ms" => millis(defaults.delete_retention).to_string(),
        "max.compaction.lag.ms" => millis(defaults.max_compaction_lag).to_string(),
        "max.message.bytes" => defaults.message_bytes_max.to_string(),
        "message.timestamp.after.max.ms" => millis(defaults.timestamp_after_max).to_string(),
        "message.timestamp.before.max.ms" => millis(defaults.timestamp_before_max).to_string(),
        "message.timestamp.type" => match defaults.timestamp_type {
            TimestampType::CreateTime => "CreateTime".to_owned(),
            TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
        },
        "min.cleanable.dirty.ratio" => format!("{:?}", defaults.min_dirty_ratio),
        "min.compaction.lag.ms" => millis(defaults.min_compaction_lag).to_string(),
        "min.insync.replicas" => defaults.min_insync_replicas.to_string(),
        "retention.bytes" => limit(defaults.retention_bytes),
        "retention.ms" => limit(defaults.retention.map(|kept| millis(kept) as u64)),
        _ => return Cow::Borrowed(key.default),
    };
    Cow::Owned(value)
}

/// Topic keys that are checked, stored and shown, and why they change nothing here.
/// `docs/compatibility.md` has the same list, and a test compares the two.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("compression.lz4.level", "the LZ4 encoder has one level"),
    ("file.delete.delay.ms", NO_SEGMENTS),
    ("flush.messages", SYNCED),
    ("flush.ms", SYNCED),
    ("follower.replication.throttled.replicas", NO_REPLICAS),
    ("index.interval.bytes", NO_SEGMENTS),
    ("leader.replication.throttled.replicas", NO_REPLICAS),
    ("min.insync.replicas", "durability is the log's and the bucket's: the effect is that of 1"),
    ("preallocate", NO_SEGMENTS),
    ("remote.log.copy.disable", TIERING),
    ("remote.log.delete.on.disable", TIERING),
    (
        "remote.storage.enable",
        "false is the only value taken, as by a Kafka without tiered storage",
    ),
    ("segment.bytes", NO_SEGMENTS),
    ("segment.index.bytes", NO_SEGMENTS),
    ("segment.jitter.ms", NO_SEGMENTS),
    ("segment.ms", NO_SEGMENTS),
    ("unclean.leader.election.enable", NO_REPLICAS),
];

const NO_REPLICAS: &str = "a partition has one owner and no replicas";
const NO_SEGMENTS: &str = "a partition has no segment files: all share one write-ahead log";
const SYNCED: &str = "wal.sync decides for all topics when records are synced";
const TIERING: &str = "every topic is tiered";

/// A topic setting that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// Kafka has no topic key of this name.
    #[error("unknown topic config \"{0}\"")]
    UnknownKey(String),
    /// The value is not one that the key takes.
    #[error("invalid value \"{value}\" for topic config \"{key}\": must be {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What the key takes, in words.
        expected: String,
    },
    /// Two settings of a topic that cannot hold together.
    #[error("topic config \"{key}\" = {value} {problem}")]
    Conflict {
        /// One of them.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it beside the other.
        problem: String,
    },
}

/// Checks settings of one topic beside each other (`LogConfig.validate`); each has passed
/// [`check_topic_config`]. `default` gives the value of a key that is not set.
pub fn check_topic_configs(
    configs: &BTreeMap<String, String>,
    default: impl Fn(&'static str) -> Option<i64>,
) -> Result<(), TopicConfigError> {
    let number = |key: &'static str| match configs.get(key) {
        Some(value) => value.trim().parse::<i64>().ok(),
        None => default(key),
    };
    let conflict = |key: &'static str, problem: String| {
        let value = configs.get(key).map_or("its default", |value| value.trim()).to_owned();
        Err(TopicConfigError::Conflict { key, value, problem })
    };
    if number("min.compaction.lag.ms") > number("max.compaction.lag.ms") {
        return conflict("min.compaction.lag.ms", "is above max.compaction.lag.ms".to_owned());
    }
    let remote = configs.get("remote.storage.enable");
    if remote.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        let problem = "cannot be: tiered storage is not enabled in the broker".to_owned();
        return conflict("remote.storage.enable", problem);
    }
    Ok(())
}

/// The key of this name.
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| TOPIC_KEYS.get(at))
}

/// Checks one setting and returns it as it is stored: as Kafka shows it once parsed, so that
/// neither blanks nor leading zeros stay in the metadata.
pub fn check_topic_config(name: &str, value: &str) -> Result<String, TopicConfigError> {
    let key = topic_key(name).ok_or_else(|| TopicConfigError::UnknownKey(name.to_owned()))?;
    let text = value.trim();
    if !key.kind.takes(text) {
        let (key, value, expected) = (key.name, value.to_owned(), key.kind.expected());
        return Err(TopicConfigError::InvalidValue { key, value, expected });
    }
    let config = find(&kafka_configs().topic, key.name);
    Ok(config.map_or_else(|| text.to_owned(), |config| config.kind.canonical(text)))
}

impl TopicKeyType {
    /// Whether `text`, without blanks around it, is a value of this type.
    fn takes(self, text: &str) -> bool {
        match self {
            Self::Boolean => ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)),
            Self::Level { min, max } => {
                text.parse().is_ok_and(|n: i64| n == -1 || (min..=max).contains(&n))
            }
            Self::Number { min, max } => {
                text.parse().is_ok_and(|number: i64| (min..=max).contains(&number))
            }
            Self::Ratio => text.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)),
            Self::Choice(words) => words.contains(&text),
            Self::Choices(words) => {
                text.is_empty() || text.split(',').all(|word| words.contains(&word.trim()))
            }
            Self::Replicas => text.is_empty() || text == "*" || text.split(',').all(is_replica),
        }
    }

    /// What a value must be, in words.
    fn expected(self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Level { min, max } => format!("-1 or a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a whole number from {min} to {max}"),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Choices(words) => format!("a list of {}", words.join(", ")),
            Self::Replicas => "* or a list of partition:broker".to_owned(),
        }
    }
}

fn is_replica(text: &str) -> bool {
    let is_number = |text: &str| text.trim().parse::<u32>().is_ok();
    text.split_once(':').is_some_and(|(partition, id)| is_number(partition) && is_number(id))
}

/// What a topic is run with.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// Data older than this is deleted; `None` keeps it for ever.
    pub retention: Option<Duration>,
    /// A partition larger than this loses its oldest data; `None` has no limit.
    pub retention_bytes: Option<u64>,
    /// What is in the bucket and older than this, in milliseconds, is not wanted on this machine;
    /// `None` wants it for as long as there is room.
    pub local_retention_ms: Option<i64>,
    /// Of a partition no more than so many bytes are wanted on this machine.
    pub local_retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` lets retention delete.
    pub delete: bool,
    /// Whether `cleanup.policy` asks for compaction: every record needs a key.
    pub compact: bool,
    /// The share of dirty bytes above which a partition is compacted.
    pub min_dirty_ratio: f64,
    /// How long compaction keeps tombstones, in milliseconds.
    pub delete_retention_ms: i64,
    /// For how long compaction leaves records alone, in milliseconds.
    pub min_compaction_lag_ms: i64,
    /// After which time records must be compacted, in milliseconds.
    pub max_compaction_lag_ms: i64,
    /// The largest record batch in bytes.
    pub max_message_bytes: usize,
    /// What stamps a record.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie before the append time, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie after the append time, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// What batches are compressed with in the log.
    pub compression: CompressionType,
    /// The level where that is gzip: -1, or 1 to 9.
    pub gzip_level: i32,
    /// The level where that is Zstandard.
    pub zstd_level: i32,
}

impl From<&TopicDefaults> for TopicSettings {
    fn from(defaults: &TopicDefaults) -> Self {
        Self {
            retention: defaults.retention,
            retention_bytes: defaults.retention_bytes,
            local_retention_ms: None,
            local_retention_bytes: None,
            delete: defaults.cleanup_policy.delete,
            compact: defaults.cleanup_policy.compact,
            min_dirty_ratio: defaults.min_dirty_ratio,
            delete_retention_ms: millis(defaults.delete_retention),
            min_compaction_lag_ms: millis(defaults.min_compaction_lag),
            max_compaction_lag_ms: millis(defaults.max_compaction_lag),
            max_message_bytes: defaults.message_bytes_max as usize,
            timestamp_type: defaults.timestamp_type,
            timestamp_before_max_ms: millis(defaults.timestamp_before_max),
            timestamp_after_max_ms: millis(defaults.timestamp_after_max),
            compression: defaults.compression,
            gzip_level: defaults.gzip_level,
            zstd_level: defaults.zstd_level,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl TopicSettings {
    /// These settings with what `configs` sets for one topic. Values were checked by
    /// [`check_topic_config`] when they were set; one that cannot be read changes nothing.
    pub fn with(&self, configs: &BTreeMap<String, String>) -> Self {
        let mut settings = self.clone();
        for (name, value) in configs {
            settings.apply(name, value.trim());
        }
        settings
    }

    /// These settings with what was set for the broker, or for all brokers, at run time.
    pub fn with_dynamic(mut self, dynamic: DynamicConfigs<'_>) -> Self {
        if dynamic.broker.is_empty() && dynamic.cluster_wide.is_empty() {
            return self;
        }
        for (name, topic) in DYNAMIC_KEYS {
            if let (Some(topic), Some(value)) = (topic, dynamic.get(name)) {
                self.apply(topic, value.trim());
            }
        }
        self
    }

    fn apply(&mut self, name: &str, value: &str) {
        let number = value.parse::<i64>().ok();
        match (name, number) {
            ("retention.ms", Some(ms)) => {
                self.retention = u64::try_from(ms).ok().map(Duration::from_millis);
            }
            ("retention.bytes", Some(bytes)) => self.retention_bytes = u64::try_from(bytes).ok(),
            // -2 is what retention.ms says, and so is -1: the bucket has it, and here is little
            // room.
            ("local.retention.ms", Some(ms)) => {
                self.local_retention_ms = (ms >= 0).then_some(ms);
            }
            ("local.retention.bytes", Some(bytes)) => {
                self.local_retention_bytes = u64::try_from(bytes).ok();
            }
            ("min.cleanable.dirty.ratio", _) => {
                self.min_dirty_ratio = value.parse().unwrap_or(self.min_dirty_ratio);
            }
            ("delete.retention.ms", Some(ms)) => self.delete_retention_ms = ms,
            ("min.compaction.lag.ms", Some(ms)) => self.min_compaction_lag_ms = ms,
            ("max.compaction.lag.ms", Some(ms)) => self.max_compaction_lag_ms = ms,
            ("max.message.bytes", Some(bytes)) => {
                self.max_message_bytes = usize::try_from(bytes).unwrap_or(0);
            }
            ("message.timestamp.before.max.ms", Some(ms)) => self.timestamp_before_max_ms = ms,
            ("message.timestamp.after.max.ms", Some(ms)) => self.timestamp_after_max_ms = ms,
            ("compression.gzip.level", Some(level)) => self.gzip_level = level as i32,
            ("compression.zstd.level", Some(level)) => self.zstd_level = level as i32,
            ("compression.type", _) => {
                let named = CompressionType::ALL.into_iter().find(|one| one.name() == value);
                self.compression = named.unwrap_or(self.compression);
            }
            ("message.timestamp.type", _) => {
                self.timestamp_type = match value {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                };
            }
            ("cleanup.policy", _) => {
                self.delete = value.split(',').any(|word| word.trim() == "delete");
                self.compact = value.split(',').any(|word| word.trim() == "compact");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

//! From settings to a [`Config`]: each room's part is built by one function below, which reads
//! typed values by key and says what cannot hold.

mod listeners;
mod object;
mod proxy;
mod tls;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use self::values::Values;
use super::error::Errors;
use super::{
    AdminConfig, CleanupPolicy, CompressionType, Config, Endpoint, GroupsConfig, LogFormat,
    MetricsConfig, NodeConfig, Notes, ObjectUrl, ProcessConfig, ProducersConfig, Sources,
    StorageConfig, TimestampType, TopicDefaults, TopicsConfig, WAL_BYTES_MIN, WalConfig, WalSync,
};

impl Sources {
    /// Checks everything and builds the configuration, or lists everything that is wrong.
    pub fn load(&self) -> Result<Config, Errors> {
        let mut values = Values::gather(self);
        let mut notes = Notes { without_effect: values.take_without_effect(), ..Notes::default() };
        let admin = admin(&mut values);
        let config = Config {
            node: node(&values),
            process: process(&mut values, self.machine.memory_bytes),
            server: listeners::server(&mut values, &self.machine.hostname, &admin, &mut notes),
            admin,
            metrics: metrics(&mut values),
            storage: storage(&mut values),
            topics: topics(&mut values, &mut notes),
            groups: groups(&mut values),
            producers: producers(&values),
            statics: values.statics(),
            notes,
        };
        values.finish(with_worked_out_defaults(config))
    }
}

/// Adds the defaults that depend on other keys or on the machine, and Kafka's other names.
fn with_worked_out_defaults(mut config: Config) -> Config {
    let statics = &mut config.statics;
    let worked_out = [
        ("memory.budget.bytes", config.process.memory_budget_bytes.to_string()),
        ("object.url", config.storage.object.url.to_string()),
    ];
    for (key, value) in worked_out {
        if !statics.is_given(key) {
            statics.set_default(key, Some(value));
        }
    }
    if config.storage.data_dir.is_none() {
        statics.set_default("data.dir", None);
    }
    statics.alias("node.id", "broker.id");
    statics.alias("data.dir", "log.dirs");
    config
}

fn node(values: &Values) -> NodeConfig {
    let rack = values.text("broker.rack");
    NodeConfig {
        id: values.number("node.id") as i32,
        rack: (!rack.is_empty()).then(|| rack.to_owned()),
    }
}

fn process(values: &mut Values, memory_bytes: u64) -> ProcessConfig {
    let quarter = (memory_bytes / 4).max(super::MEMORY_BUDGET_BYTES_MIN);
    let budget = values.number_if_set("memory.budget.bytes").map(|bytes| bytes as u64);
    let log_level = values.text("log.level").to_owned();
    if !is_log_level(&log_level) {
        values.refuse(
            "log.level",
            "must be error, warn, info, debug, trace or off, or such levels by module, as in \
             info,tidegate::server=debug",
        );
    }
    ProcessConfig {
        memory_budget_bytes: budget.unwrap_or(quarter),
        shutdown_deadline: values.duration("shutdown.deadline.ms"),
        log_level,
        log_format: match values.text("log.format") {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
    }
}

/// Whether `directives` are what `log.level` takes.
///
/// The filter takes a bare word for the name of a module to show everything of; here it is more
/// likely a misspelt level. Nor are its filters by span taken (`module[span{field=pattern}]`): a
/// pattern of some dozen bytes can take minutes and gigabytes to build.
pub fn is_log_level(directives: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |directive: &str| {
        let directive = directive.trim().to_ascii_lowercase();
        directive.contains('=') || LEVELS.contains(&directive.as_str())
    };
    !directives.contains('[')
        && directives.split(',').all(level)
        && EnvFilter::builder().parse(directives).is_ok()
}

fn admin(values: &mut Values) -> AdminConfig {
    let listener = Endpoint::parse(values.text("admin.listener"));
    AdminConfig {
        listener: listener.unwrap_or_else(|| {
            values.refuse("admin.listener", "must be host:port, such as 127.0.0.1:9464");
            Endpoint { host: super::Host::Any, port: 0 }
        }),
    }
}

fn metrics(values: &mut Values) -> MetricsConfig {
    const COMPAT: &str = "metrics.compat";
    let families = values.list(COMPAT).to_vec();
    if families.iter().any(|family| family != "kafka-exporter" && family != "jmx") {
        values.refuse(COMPAT, "must be kafka-exporter, jmx or both, separated by a comma");
    }
    let has = |wanted: &str| families.iter().any(|family| family == wanted);
    MetricsConfig {
        topics_max: values.number("metrics.topics.max") as usize,
        partitions_max: values.number("metrics.partitions.max") as usize,
        groups_max: values.number("metrics.groups.max") as usize,
        group_partitions_max: values.number("metrics.group.partitions.max") as usize,
        kafka_exporter: has("kafka-exporter"),
        jmx: has("jmx"),
    }
}

fn storage(values: &mut Values) -> StorageConfig {
    let mut data_dir = Some(PathBuf::from(values.text("data.dir")));
    if values.text("data.dir").is_empty() {
        values.refuse("data.dir", "must be a directory");
    }
    let object = object::object(values);
    if object.url == ObjectUrl::Memory {
        if values.is_set("data.dir") {
            let what = values.both("object.url", "data.dir");
            let fix = "a bucket in memory implies a temporary data directory: leave out data.dir, \
                       or give a bucket that lasts";
            values.conflict(what, fix);
        }
        data_dir = None;
    }
    let bytes_max = values.number("wal.max.bytes");
    if bytes_max != -1 && bytes_max < WAL_BYTES_MIN as i64 {
        values.refuse("wal.max.bytes", "must be -1 for a quarter of the volume, or at least 64MiB");
    }
    let sync = match values.text("wal.sync") {
        "interval" => WalSync::Interval(values.duration("wal.flush.interval.ms")),
        _ => WalSync::Always,
    };
    let wal = WalConfig { sync, bytes_max: u64::try_from(bytes_max).ok() };
    let tier_age_max = values.duration("tier.max.age.ms");
    StorageConfig { data_dir, object, wal, tier_age_max }
}

const MIN_COMPACTION_LAG: &str = "log.cleaner.min.compaction.lag.ms";
const MAX_COMPACTION_LAG: &str = "log.cleaner.max.compaction.lag.ms";

fn topics(values: &mut Values, notes: &mut Notes) -> TopicsConfig {
    let (min, max) = (MIN_COMPACTION_LAG, MAX_COMPACTION_LAG);
    if values.are_good(&[min, max]) && values.number(min) > values.number(max) {
        let what = values.both(min, max);
        values.conflict(what, "records must not have to wait for longer than they may");
    }
    TopicsConfig {
        auto_create: values.bool("auto.create.topics.enable"),
        deletable: values.bool("delete.topic.enable"),
        partitions: values.number("num.partitions") as i32,
        replication_factor: values.number("default.replication.factor") as i16,
        retention_check_interval: values.duration("log.retention.check.interval.ms"),
        cleaner_backoff: values.duration("log.cleaner.backoff.ms"),
        defaults: TopicDefaults {
            min_insync_replicas: values.number("min.insync.replicas") as i32,
            retention: retention(values, notes),
            retention_bytes: u64::try_from(values.number("log.retention.bytes")).ok(),
            message_bytes_max: values.number("message.max.bytes") as u32,
            cleanup_policy: cleanup_policy(values),
            min_dirty_ratio: values.ratio("log.cleaner.min.cleanable.ratio"),
            delete_retention: values.duration("log.cleaner.delete.retention.ms"),
            min_compaction_lag: values.duration(MIN_COMPACTION_LAG),
            max_compaction_lag: values.duration(MAX_COMPACTION_LAG),
            timestamp_type: match values.text("log.message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max: values.duration("log.message.timestamp.before.max.ms"),
            timestamp_after_max: values.duration("log.message.timestamp.after.max.ms"),
            compression: compression(values.text("compression.type")),
            gzip_level: gzip_level(values),
            zstd_level: values.number("compression.zstd.level") as i32,
        },
    }
}

/// As in Kafka the finest unit that is set decides, wherever it is set; 0 is refused as there.
fn retention(values: &mut Values, notes: &mut Notes) -> Option<Duration> {
    const UNITS: [(&str, i64); 3] = [
        ("log.retention.ms", 1),
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", 3_600_000),
    ];
    let mut given = UNITS.iter().filter(|(key, _)| values.is_set(key));
    let (decides, unit) = *given.next().unwrap_or(&UNITS[2]);
    for (key, _) in given {
        notes.overruled.push(format!("{key} has no effect because {decides} is set"));
    }
    let number = values.number(decides);
    if number == 0 {
        values.refuse(decides, "must be -1 for ever, or at least 1");
    }
    u64::try_from(number).ok().map(|number| Duration::from_millis(number * unit as u64))
}

fn compression(name: &str) -> CompressionType {
    let named = CompressionType::ALL.into_iter().find(|one| one.name() == name);
    named.unwrap_or(CompressionType::Producer)
}

fn gzip_level(values: &mut Values) -> i32 {
    let level = values.number("compression.gzip.level");
    if level == 0 {
        values.refuse("compression.gzip.level", "must be -1, or from 1 to 9");
    }
    level as i32
}

fn cleanup_policy(values: &mut Values) -> CleanupPolicy {
    let items = values.list("log.cleanup.policy").to_vec();
    if items.is_empty() || items.iter().any(|item| item != "delete" && item != "compact") {
        values
            .refuse("log.cleanup.policy", "must be delete, compact or both, separated by a comma");
    }
    let has = |policy: &str| items.iter().any(|item| item == policy);
    CleanupPolicy { delete: has("delete"), compact: has("compact") }
}

fn groups(values: &mut Values) -> GroupsConfig {
    let (min, max) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms");
    if values.are_good(&[min, max]) && values.number(min) > values.number(max) {
        let what = values.both(min, max);
        values.conflict(what, "the shortest timeout must not be above the longest");
    }
    GroupsConfig {
        initial_rebalance_delay: values.duration("group.initial.rebalance.delay.ms"),
        session_timeout_min: values.duration(min),
        session_timeout_max: values.duration(max),
        members_max: values.number("group.max.size") as u32,
        offsets_retention: Duration::from_secs(
            60 * values.number("offsets.retention.minutes") as u64,
        ),
        offsets_retention_check_interval: values.duration("offsets.retention.check.interval.ms"),
        offsets_topic_partitions: values.number("offsets.topic.num.partitions") as i32,
        offsets_topic_replication_factor: values.number("offsets.topic.replication.factor") as i16,
        offset_metadata_bytes_max: values.number("offset.metadata.max.bytes") as u32,
    }
}

fn producers(values: &Values) -> ProducersConfig {
    ProducersConfig {
        id_expiration: values.duration("producer.id.expiration.ms"),
        transaction_timeout_max: values.duration("transaction.max.timeout.ms"),
    }
}

#[cfg(test)]
mod tests;

//! Kafka's names without effect here.
//!
//! They are the names in Kafka's table ([`super::kafka`]) and Kafka's internal ones, which its
//! `DescribeConfigs` does not show, without those in [`super::KEYS`]. A setting of one of them is
//! accepted and named in one warning at start, so that a real `server.properties` starts.

use super::kafka::{find, kafka_configs};
use super::keys;

/// What `KafkaConfig.configDef` of Apache Kafka 4.3.1 knows beside its table, sorted.
const INTERNAL: &[&str] = &[
    "controller.performance.always.log.threshold.ms",
    "controller.performance.sample.period.ms",
    "group.consumer.regex.refresh.interval.ms",
    "group.share.initialize.retry.interval.ms",
    "group.share.persister.class.name",
    "internal.metadata.delete.delay.millis",
    "internal.metadata.log.segment.bytes",
    "internal.metadata.max.batch.size.in.bytes",
    "log.initial.task.delay.ms",
    "producer.id.expiration.check.interval.ms",
    "remote.log.index.file.cache.ttl.ms",
    "remote.log.manager.task.retry.backoff.max.ms",
    "remote.log.manager.task.retry.backoff.ms",
    "remote.log.manager.task.retry.jitter",
    "server.max.startup.time.ms",
    "share.coordinator.cold.partition.snapshot.interval.ms",
    "share.coordinator.state.topic.prune.interval.ms",
    "unclean.leader.election.interval.ms",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
];

/// What Kafka's per-listener settings and plug-in settings begin with; any ending goes.
pub(super) const PREFIXES: &[&str] =
    &["listener.name.", "config.providers.", "rsm.config.", "rlmm.config."];

/// The names without effect, but for those that only begin so.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let shown = kafka_configs().broker.iter().map(|config| config.name);
    shown.filter(|name| keys::find(name).is_none()).chain(INTERNAL.iter().copied())
}

/// Whether `key` is a Kafka server setting that has no effect here.
pub(super) fn is_without_effect(key: &str) -> bool {
    let is_kafkas = find(&kafka_configs().broker, key).is_some()
        || INTERNAL.contains(&key)
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    is_kafkas && keys::find(key).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_names_are_not_in_the_table() {
        assert!(INTERNAL.is_sorted());
        for name in INTERNAL {
            assert!(find(&kafka_configs().broker, name).is_none(), "{name}");
            assert!(keys::find(name).is_none(), "{name} is in both lists");
        }
        assert!(names().count() > 300, "Kafka 4.3.1 has 360 names");
    }

    #[test]
    fn names_of_kafka_and_settings_of_its_listeners_are_known_and_others_are_not() {
        for known in ["log.dirs", "process.roles", "listener.name.internal.ssl.keystore.location"] {
            assert!(is_without_effect(known), "{known}");
        }
        for unknown in ["log.dir.", "zookeeper.connect", "listeners", ""] {
            assert!(!is_without_effect(unknown), "{unknown}");
        }
    }
}

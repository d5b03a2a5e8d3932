//! Topic keys, their values, and what each is for.

use super::*;

#[test]
fn keys_are_sorted_and_their_defaults_pass_their_own_check() {
    assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name));
    for key in TOPIC_KEYS {
        let stored = check_topic_config(key.name, key.default);
        assert_eq!(stored.as_deref(), Ok(key.default), "{}", key.name);
    }
}

#[test]
fn what_is_stored_of_a_value_has_no_blanks_and_no_leading_zeros() {
    let padded = |value: &str| format!("{}{value}{}", " ".repeat(32_000), "\t".repeat(700));
    let zeros = "0".repeat(32_000);
    for (key, value, stored) in [
        ("retention.ms", padded("1"), "1"),
        ("retention.ms", format!("{zeros}1"), "1"),
        ("compression.gzip.level", padded("+5"), "5"),
        ("preallocate", padded("TRUE"), "true"),
        ("min.cleanable.dirty.ratio", format!("0.5{zeros}"), "0.5"),
        ("compression.type", padded("zstd"), "zstd"),
        ("cleanup.policy", format!("{},{}", padded("compact"), padded("delete")), "compact,delete"),
        ("leader.replication.throttled.replicas", padded(" 0:1 , 1:1"), "0:1,1:1"),
    ] {
        assert_eq!(check_topic_config(key, &value).as_deref(), Ok(stored), "{key}");
    }
}

#[test]
fn a_value_out_of_range_names_the_key_and_the_range() {
    let error = check_topic_config("retention.ms", "-2").unwrap_err().to_string();
    assert!(error.contains("\"retention.ms\"") && error.contains("from -1 to"), "{error}");
    assert!(matches!(check_topic_config("retention", "1"), Err(TopicConfigError::UnknownKey(_))));
    assert!(check_topic_config("cleanup.policy", "compact,delete").is_ok());
    assert!(check_topic_config("cleanup.policy", "").is_ok());
    assert!(check_topic_config("cleanup.policy", "none").is_err());
    assert!(check_topic_config("compression.gzip.level", "0").is_err());
    assert!(check_topic_config("leader.replication.throttled.replicas", "0:1,1:1").is_ok());
    assert!(check_topic_config("leader.replication.throttled.replicas", "none").is_err());
}

#[test]
fn names_types_and_defaults_are_those_of_kafkas_table() {
    use crate::config::kafka::{ConfigType, kafka_configs};
    let table = &kafka_configs().topic;
    let (ours, theirs): (Vec<_>, Vec<_>) = (
        TOPIC_KEYS.iter().map(|key| (key.name, Some(key.default))).collect(),
        table.iter().map(|config| (config.name, config.default)).collect(),
    );
    assert_eq!(ours, theirs);
    for (key, config) in TOPIC_KEYS.iter().zip(table) {
        let fits = match key.kind {
            TopicKeyType::Boolean => config.kind == ConfigType::Boolean,
            TopicKeyType::Level { .. } | TopicKeyType::Number { .. } => {
                matches!(config.kind, ConfigType::Int | ConfigType::Long)
            }
            TopicKeyType::Ratio => config.kind == ConfigType::Double,
            TopicKeyType::Choice(_) => config.kind == ConfigType::String,
            TopicKeyType::Choices(_) | TopicKeyType::Replicas => config.kind == ConfigType::List,
        };
        assert!(fits, "{}", key.name);
    }
}

/// Each has a test that shows its effect, in `tests/broker/configs.rs` or, if compaction has to do
/// with it, in `tests/broker/compaction.rs`.
const WITH_EFFECT: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
];

#[test]
fn every_key_has_an_effect_or_a_reason_that_the_docs_give_too() {
    let page = include_str!("../../../docs/compatibility.md");
    assert!(WITHOUT_EFFECT.is_sorted_by_key(|(name, _)| name));
    for key in TOPIC_KEYS {
        let reason = WITHOUT_EFFECT.iter().find(|(name, _)| *name == key.name);
        assert_eq!(reason.is_none(), WITH_EFFECT.contains(&key.name), "{}", key.name);
        if let Some((name, reason)) = reason {
            let row = format!("| `{name}` | {reason} |");
            assert!(page.contains(&row), "docs/compatibility.md lacks\n{row}");
        }
    }
    assert_eq!(WITHOUT_EFFECT.len() + WITH_EFFECT.len(), TOPIC_KEYS.len());
    let listed = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(listed, WITHOUT_EFFECT.len(), "docs/compatibility.md lists a key that acts");
}

fn conflict(pairs: &[(&str, &str)]) -> Option<String> {
    let configs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let default = |key| topic_key(key).and_then(|key| key.default.parse().ok());
    check_topic_configs(&configs.collect(), default).err().map(|error| error.to_string())
}

#[test]
fn settings_that_cannot_hold_together_are_refused() {
    assert_eq!(conflict(&[("min.compaction.lag.ms", "5")]), None);
    let crossed = conflict(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]);
    assert!(crossed.unwrap().contains("above max.compaction.lag.ms"));
    assert!(conflict(&[("remote.storage.enable", "TRUE")]).is_some());
}

#[test]
fn what_is_set_for_the_broker_at_run_time_stands_below_the_topics_own() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let broker = map(&[("message.max.bytes", "7"), ("compression.type", "zstd")]);
    let cluster_wide = map(&[("message.max.bytes", "6"), ("log.retention.ms", "5")]);
    let dynamic = DynamicConfigs { broker: &broker, cluster_wide: &cluster_wide };
    let defaults = crate::config::Sources::of_flags(&[]).load().unwrap().topics.defaults;
    let settings = TopicSettings::from(&defaults).with_dynamic(dynamic);
    assert_eq!(settings.max_message_bytes, 7);
    assert_eq!(settings.retention, Some(Duration::from_millis(5)));
    assert_eq!(settings.compression, CompressionType::Zstd);
    let topic = settings.with(&map(&[("compression.type", "producer")]));
    assert_eq!((topic.compression, topic.max_message_bytes), (CompressionType::Producer, 7));
}

#[test]
fn a_topic_changes_only_what_it_sets() {
    let configs = BTreeMap::from([
        ("retention.ms".to_owned(), "-1".to_owned()),
        ("cleanup.policy".to_owned(), "compact".to_owned()),
    ]);
    let defaults = crate::config::Sources::of_flags(&[]).load().unwrap().topics.defaults;
    let settings = TopicSettings::from(&defaults).with(&configs);
    assert_eq!(settings.retention, None);
    assert!(!settings.delete);
    assert_eq!(settings.max_message_bytes, 1_048_588);
}

//! Which of the broker's configs can change while it runs. Their values are records of the metadata
//! log, of one broker or of all; what is set there wins over file, environment and command line.

use std::collections::BTreeMap;

use super::kafka::{find, kafka_configs};
use super::keys;
use super::topic::check_topic_config;
use super::value::{self, Value};

/// The configs that were set at run time. What one broker has wins over what all have.
#[derive(Clone, Copy, Debug)]
pub struct DynamicConfigs<'a> {
    /// Of this broker.
    pub broker: &'a BTreeMap<String, String>,
    /// Of every broker.
    pub cluster_wide: &'a BTreeMap<String, String>,
}

impl<'a> DynamicConfigs<'a> {
    /// The value that counts; `None` where none was set at run time.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.broker.get(name).or_else(|| self.cluster_wide.get(name)).map(String::as_str)
    }
}

/// Every config that can change at run time, sorted, and the topic config whose default it is.
pub const DYNAMIC_KEYS: &[(&str, Option<&str>)] = &[
    ("compression.gzip.level", Some("compression.gzip.level")),
    ("compression.type", Some("compression.type")),
    ("compression.zstd.level", Some("compression.zstd.level")),
    ("log.cleaner.delete.retention.ms", Some("delete.retention.ms")),
    ("log.cleaner.max.compaction.lag.ms", Some("max.compaction.lag.ms")),
    ("log.cleaner.min.cleanable.ratio", Some("min.cleanable.dirty.ratio")),
    ("log.cleaner.min.compaction.lag.ms", Some("min.compaction.lag.ms")),
    ("log.cleanup.policy", Some("cleanup.policy")),
    ("log.message.timestamp.after.max.ms", Some("message.timestamp.after.max.ms")),
    ("log.message.timestamp.before.max.ms", Some("message.timestamp.before.max.ms")),
    ("log.message.timestamp.type", Some("message.timestamp.type")),
    ("log.retention.bytes", Some("retention.bytes")),
    ("log.retention.ms", Some("retention.ms")),
    ("message.max.bytes", Some("max.message.bytes")),
    ("min.insync.replicas", Some("min.insync.replicas")),
    ("producer.id.expiration.ms", None),
];

/// Whether the broker's config can change at run time.
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC_KEYS.binary_search_by(|(key, _)| (*key).cmp(name)).is_ok()
}

/// A broker's config that is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerConfigError {
    /// Nobody knows the name.
    #[error("unknown broker config \"{0}\"")]
    Unknown(String),
    /// It is read once, at the start.
    #[error(
        "broker config \"{0}\" cannot be changed at run time; set it in the configuration file \
         and restart the broker"
    )]
    ReadOnly(String),
    /// Kafka knows it and it means nothing here.
    #[error("broker config \"{0}\" has no effect here, so it cannot be changed")]
    WithoutEffect(String),
    /// The value is not one that the config takes.
    #[error("invalid value \"{value}\" for broker config \"{key}\": {expected}")]
    Invalid {
        /// The config.
        key: &'static str,
        /// The value.
        value: String,
        /// What it has to be.
        expected: String,
    },
}

/// Whether a broker's config may be changed at all.
pub fn check_changeable(name: &str) -> Result<(), BrokerConfigError> {
    if is_dynamic(name) {
        return Ok(());
    }
    if keys::find(name).is_some() {
        return Err(BrokerConfigError::ReadOnly(name.to_owned()));
    }
    Err(match find(&kafka_configs().broker, name) {
        Some(_) => BrokerConfigError::WithoutEffect(name.to_owned()),
        None => BrokerConfigError::Unknown(name.to_owned()),
    })
}

/// Checks a value for a broker's config and returns it as it is stored: numbers without a unit.
pub fn check_broker_config(name: &str, value: &str) -> Result<String, BrokerConfigError> {
    check_changeable(name)?;
    let key = keys::find(name).ok_or_else(|| BrokerConfigError::Unknown(name.to_owned()))?;
    let invalid = |expected: String| BrokerConfigError::Invalid {
        key: key.name,
        value: value.to_owned(),
        expected,
    };
    let parsed = value::parse(key.kind, value).map_err(invalid)?;
    if name == "log.retention.ms" && parsed == Value::Number(0) {
        return Err(invalid("must be -1 for ever, or at least 1".to_owned()));
    }
    let text = parsed.to_text();
    let of_topic = DYNAMIC_KEYS.iter().find(|(key, _)| *key == name).and_then(|(_, topic)| *topic);
    if let Some(topic) = of_topic {
        check_topic_config(topic, &text).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::topic_key;

    #[test]
    fn what_can_change_is_a_key_of_ours_that_kafka_can_change_too() {
        assert!(DYNAMIC_KEYS.is_sorted());
        for (name, topic) in DYNAMIC_KEYS {
            assert!(keys::find(name).is_some(), "{name} is no key");
            let kafka = find(&kafka_configs().broker, name).expect("a config of Kafka");
            assert!(!kafka.read_only, "{name} is read-only in Kafka");
            assert!(topic.is_none_or(|topic| topic_key(topic).is_some()), "{topic:?}");
        }
    }

    #[test]
    fn refusals_say_what_can_be_done() {
        let told = |name, value| check_broker_config(name, value).unwrap_err().to_string();
        assert!(told("num.partitions", "3").contains("restart"));
        assert!(told("log.cleaner.threads", "3").contains("no effect"));
        assert!(told("no.such.key", "3").contains("unknown"));
        assert!(told("message.max.bytes", "many").contains("\"many\""));
        assert!(told("log.retention.ms", "0").contains("at least 1"));
        assert!(told("log.cleanup.policy", "shred").contains("compact, delete"));
        assert!(told("compression.gzip.level", "0").contains("from 1 to 9"));
    }

    #[test]
    fn values_are_stored_without_units() {
        assert_eq!(check_broker_config("message.max.bytes", "2MiB").unwrap(), "2097152");
        assert_eq!(check_broker_config("log.retention.ms", " -1 ").unwrap(), "-1");
        assert_eq!(
            check_broker_config("log.cleanup.policy", "compact, delete").unwrap(),
            "compact,delete"
        );
    }
}

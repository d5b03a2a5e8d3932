//! What a config is worth, where its value comes from and what else was said: the content of
//! `DescribeConfigs` (Kafka's `ConfigHelper`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Config;
use super::dynamic::{DYNAMIC_KEYS, DynamicConfigs, is_dynamic};
use super::kafka::{ConfigType, KafkaConfig, find, kafka_configs};
use super::key::Kind;
use super::keys::{self, KEYS};
use super::topic::{effective_default, topic_key};

/// A text that is often part of the program.
type Text = Cow<'static, str>;

/// Where a value comes from (`DescribeConfigsResponse.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic's own setting.
    Topic,
    /// Set for this broker at run time.
    DynamicBroker,
    /// Set for all brokers at run time.
    DynamicDefaultBroker,
    /// File, environment or command line.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// A level of the log.
    DynamicBrokerLogger,
}

/// A value that a config has somewhere; the first of several is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name under which it is set there.
    pub name: &'static str,
    /// The value.
    pub value: Option<Text>,
    /// Where that is.
    pub source: ConfigSource,
}

/// A config and its effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: Text,
    /// Its type; `None` is unknown.
    pub kind: Option<ConfigType>,
    /// The value; `None` where there is none.
    pub value: Option<Text>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether only a restart changes it.
    pub read_only: bool,
    /// Whether the value is kept secret.
    pub sensitive: bool,
    /// All values that there are, the effective one first.
    pub synonyms: Vec<Synonym>,
    /// What it does.
    pub documentation: Option<&'static str>,
}

/// What the broker was started with, as text.
#[derive(Clone, Debug, Default)]
pub struct StaticConfigs {
    /// What file, environment or command line set.
    given: BTreeMap<&'static str, String>,
    /// Our keys' defaults; `None` for one that has no value unless it is set.
    defaults: BTreeMap<&'static str, Option<String>>,
}

impl StaticConfigs {
    /// Notes what a key was set to.
    pub(super) fn give(&mut self, key: &'static str, value: String) {
        self.given.insert(key, value);
    }

    /// Whether a key was set.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Notes the default of a key.
    pub(super) fn set_default(&mut self, key: &'static str, value: Option<String>) {
        self.defaults.insert(key, value);
    }

    /// Shows a key's values under a name that Kafka has for the same thing.
    pub(super) fn alias(&mut self, key: &'static str, kafkas: &'static str) {
        if let Some(value) = self.given.get(key) {
            self.given.insert(kafkas, value.clone());
        }
        if let Some(value) = self.defaults.get(key) {
            self.defaults.insert(kafkas, value.clone());
        }
    }

    /// The default of a broker's config: ours where we have it, Kafka's otherwise.
    fn default_of(&self, name: &str) -> Option<Text> {
        match self.defaults.get(name) {
            Some(ours) => ours.clone().map(Cow::Owned),
            None => find(&kafka_configs().broker, name)?.default.map(Cow::Borrowed),
        }
    }
}

/// Broker configs of which the first that is set decides (`DynamicBrokerConfig
/// .brokerConfigSynonyms`), and the topic config whose default they give.
const UNITS: &[(&str, &[&str])] = &[
    ("flush.ms", &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]),
    ("retention.ms", &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]),
    ("segment.jitter.ms", &["log.roll.jitter.ms", "log.roll.jitter.hours"]),
    ("segment.ms", &["log.roll.ms", "log.roll.hours"]),
];

/// The broker's config that gives a topic config its default; `None` if there is none.
fn broker_name(topic: &KafkaConfig) -> Option<&'static str> {
    if let Some((_, names)) = UNITS.iter().find(|(name, _)| *name == topic.name) {
        return names.first().copied();
    }
    let same = || find(&kafka_configs().broker, topic.name).map(|config| config.name);
    topic.default_from.or_else(same)
}

impl Config {
    /// A config of this broker with all values that it has.
    fn broker_synonyms(&self, name: &'static str, dynamic: DynamicConfigs<'_>) -> Vec<Synonym> {
        let alone = [name];
        let unit = UNITS.iter().find(|(_, names)| names.contains(&name));
        let names = unit.map_or(&alone[..], |(_, names)| *names);
        let mut found = Vec::new();
        let mut look = |source: ConfigSource, value_of: &dyn Fn(&'static str) -> Option<Text>| {
            for name in names {
                if let Some(value) = value_of(name) {
                    found.push(Synonym { name, value: Some(value), source });
                }
            }
        };
        let owned = |value: Option<&String>| value.cloned().map(Cow::Owned);
        look(ConfigSource::DynamicBroker, &|name| owned(dynamic.broker.get(name)));
        look(ConfigSource::DynamicDefaultBroker, &|name| owned(dynamic.cluster_wide.get(name)));
        look(ConfigSource::StaticBroker, &|name| owned(self.statics.given.get(name)));
        look(ConfigSource::Default, &|name| self.statics.default_of(name));
        // As in Kafka: what stands before the first value of that very name is not told.
        let first = found.iter().position(|synonym| synonym.name == name);
        found.split_off(first.unwrap_or(found.len()))
    }

    /// A config of this broker, Kafka's or our own.
    pub fn describe_broker_config(
        &self,
        name: &str,
        dynamic: DynamicConfigs<'_>,
    ) -> Option<Described> {
        if let Some(config) = find(&kafka_configs().broker, name) {
            let mut synonyms = self.broker_synonyms(config.name, dynamic);
            if config.sensitive {
                // As in Kafka: that it is set is told, and not to what.
                for synonym in &mut synonyms {
                    synonym.value = None;
                }
            }
            return Some(Described {
                read_only: !is_dynamic(config.name),
                sensitive: config.sensitive,
                ..described(config, synonyms)
            });
        }
        let key = keys::find(name)?;
        let synonyms = self.broker_synonyms(key.name, dynamic);
        let first = synonyms.first();
        Some(Described {
            name: Cow::Borrowed(key.name),
            kind: Some(type_of(key.kind)),
            value: first.and_then(|first| first.value.clone()),
            source: first.map_or(ConfigSource::Default, |first| first.source),
            read_only: true,
            sensitive: false,
            synonyms,
            documentation: Some(key.effect),
        })
    }

    /// A topic's config, given what is set on the topic.
    pub fn describe_topic_config(
        &self,
        name: &str,
        own: &BTreeMap<String, String>,
        dynamic: DynamicConfigs<'_>,
    ) -> Option<Described> {
        let config = find(&kafka_configs().topic, name)?;
        let from = broker_name(config);
        let mut synonyms = from.map_or_else(Vec::new, |name| self.broker_synonyms(name, dynamic));
        let value = match own.get(config.name) {
            Some(value) => {
                let value = Text::Owned(config.kind.canonical(value));
                let source = ConfigSource::Topic;
                let own = Synonym { name: config.name, value: Some(value.clone()), source };
                synonyms.insert(0, own);
                Some(value)
            }
            None => self.topic_default(config.name, dynamic),
        };
        Some(Described { value, ..described(config, synonyms) })
    }

    /// The value of a topic's config that is not set on the topic.
    fn topic_default(&self, name: &str, dynamic: DynamicConfigs<'_>) -> Option<Text> {
        let set = DYNAMIC_KEYS.iter().find(|(_, topic)| *topic == Some(name));
        if let Some(value) = set.and_then(|(key, _)| dynamic.get(key)) {
            return Some(Cow::Owned(value.to_owned()));
        }
        Some(effective_default(topic_key(name)?, &self.topics.defaults))
    }

    /// The levels of the log by module, the level of everything else as `root`.
    pub fn describe_loggers(&self) -> Vec<Described> {
        let logger = |directive: &str| {
            let (name, level) = directive.split_once('=').unwrap_or(("root", directive));
            Described {
                name: Cow::Owned(name.trim().to_owned()),
                kind: None,
                value: Some(Cow::Owned(level.trim().to_ascii_uppercase())),
                source: ConfigSource::DynamicBrokerLogger,
                read_only: true,
                sensitive: false,
                synonyms: Vec::new(),
                documentation: None,
            }
        };
        self.process.log_level.split(',').map(logger).collect()
    }
}

/// The names of a broker's configs: Kafka's and our own.
pub fn broker_config_names() -> impl Iterator<Item = &'static str> {
    let kafkas = &kafka_configs().broker;
    let own = KEYS.iter().map(|key| key.name).filter(|name| find(kafkas, name).is_none());
    kafkas.iter().map(|config| config.name).chain(own)
}

/// A config as it was set for all brokers at run time; `None` where it was not.
pub fn describe_cluster_wide_config(name: &str, dynamic: DynamicConfigs<'_>) -> Option<Described> {
    let value = dynamic.cluster_wide.get(name)?.clone();
    let config = find(&kafka_configs().broker, name)?;
    let source = ConfigSource::DynamicDefaultBroker;
    let synonym = Synonym { name: config.name, value: Some(Cow::Owned(value)), source };
    Some(described(config, vec![synonym]))
}

/// A config of a group. None can be set here yet: these are Kafka's defaults.
pub fn describe_group_config(name: &str) -> Option<Described> {
    let config = find(&kafka_configs().group, name)?;
    let synonym = Synonym {
        name: config.default_from.unwrap_or(config.name),
        value: config.default.map(Cow::Borrowed),
        source: ConfigSource::Default,
    };
    Some(described(config, vec![synonym]))
}

/// A config of a client metrics subscription. None can be made here: these are Kafka's defaults.
pub fn describe_client_metrics_config(name: &str) -> Option<Described> {
    let config = find(&kafka_configs().client_metrics, name)?;
    Some(Described { value: config.default.map(Cow::Borrowed), ..described(config, Vec::new()) })
}

fn described(config: &'static KafkaConfig, synonyms: Vec<Synonym>) -> Described {
    let first = synonyms.first();
    Described {
        name: Cow::Borrowed(config.name),
        kind: Some(config.kind),
        value: first.and_then(|first| first.value.clone()),
        source: first.map_or(ConfigSource::Default, |first| first.source),
        read_only: false,
        sensitive: false,
        synonyms,
        documentation: Some(&config.documentation),
    }
}

/// The type that comes nearest to one of ours.
fn type_of(kind: Kind) -> ConfigType {
    match kind {
        Kind::Bool => ConfigType::Boolean,
        Kind::Int { .. } | Kind::Duration { .. } | Kind::Bytes { .. } => ConfigType::Long,
        Kind::Ratio => ConfigType::Double,
        Kind::Text | Kind::Choice(_) => ConfigType::String,
        Kind::List => ConfigType::List,
        Kind::Pem => ConfigType::Password,
    }
}

#[cfg(test)]
mod tests;

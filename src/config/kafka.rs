//! The table of Apache Kafka's configs, as its `DescribeConfigs` answers them.
//!
//! The data is `kafka.txt`, written by the diff suite from a running Apache Kafka 4.3.1; nothing in
//! it is written by hand. What a config is worth here is [`super::describe`]'s to say.

use std::borrow::Cow;
use std::sync::LazyLock;

/// The type of a config's value (`ConfigDef.Type`, `DescribeConfigsResponse.ConfigType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 16 bits.
    Short,
    /// A whole number of 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Words separated by commas.
    List,
    /// The name of a Java class.
    Class,
    /// Text that is never shown.
    Password,
}

impl ConfigType {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "int" => Self::Int,
            "short" => Self::Short,
            "long" => Self::Long,
            "double" => Self::Double,
            "list" => Self::List,
            "class" => Self::Class,
            "password" => Self::Password,
            _ => return None,
        })
    }

    /// A value as Kafka shows it once it is parsed (`ConfigDef.convertToString`). What cannot be
    /// parsed stays as it is.
    pub fn canonical(self, value: &str) -> String {
        let value = value.trim();
        let parsed = match self {
            Self::Boolean => Some(value.to_ascii_lowercase()),
            Self::Int | Self::Short | Self::Long => {
                value.parse::<i64>().ok().map(|n| n.to_string())
            }
            Self::Double => value.parse::<f64>().ok().map(|n| format!("{n:?}")),
            Self::List => Some(value.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
            Self::String | Self::Class | Self::Password => None,
        };
        parsed.unwrap_or_else(|| value.to_owned())
    }
}

/// What Kafka says of one config.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ConfigType,
    /// Whether Kafka lets it be changed only by a restart.
    pub read_only: bool,
    /// Whether its value is never shown.
    pub sensitive: bool,
    /// Kafka's default.
    pub default: Option<&'static str>,
    /// The broker's config that gives the default, where it has another name.
    pub default_from: Option<&'static str>,
    /// Kafka's documentation, in HTML.
    pub documentation: Cow<'static, str>,
}

/// Kafka's configs by the type of their resource, sorted by name.
#[derive(Debug, Default)]
pub struct KafkaConfigs {
    /// Of a broker.
    pub broker: Vec<KafkaConfig>,
    /// Of a topic.
    pub topic: Vec<KafkaConfig>,
    /// Of a group.
    pub group: Vec<KafkaConfig>,
    /// Of a client metrics subscription.
    pub client_metrics: Vec<KafkaConfig>,
}

/// The table.
pub fn kafka_configs() -> &'static KafkaConfigs {
    static CONFIGS: LazyLock<KafkaConfigs> = LazyLock::new(|| parse(include_str!("kafka.txt")));
    &CONFIGS
}

/// The config of this name in a list of the table.
pub fn find<'a>(configs: &'a [KafkaConfig], name: &str) -> Option<&'a KafkaConfig> {
    configs.binary_search_by(|config| config.name.cmp(name)).ok().and_then(|at| configs.get(at))
}

/// The rows of the table; its tests see to it that every line is one.
fn parse(table: &'static str) -> KafkaConfigs {
    let mut configs = KafkaConfigs::default();
    let mut section = &mut configs.broker;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        match line {
            "[broker]" => section = &mut configs.broker,
            "[topic]" => section = &mut configs.topic,
            "[group]" => section = &mut configs.group,
            "[client-metrics]" => section = &mut configs.client_metrics,
            row => section.extend(parse_row(row)),
        }
    }
    configs
}

fn parse_row(row: &'static str) -> Option<KafkaConfig> {
    const NULL: &str = "\\N";
    let mut fields = row.split('\t');
    let mut field = || fields.next();
    let (name, kind, flags) = (field()?, field()?, field()?);
    let mut nullable = || field().map(|text| (text != NULL).then_some(text));
    let (default, default_from, documentation) = (nullable()?, nullable()?, nullable()??);
    let documentation = if documentation.contains("\\n") {
        Cow::Owned(documentation.replace("\\n", "\n"))
    } else {
        Cow::Borrowed(documentation)
    };
    Some(KafkaConfig {
        name,
        kind: ConfigType::of_name(kind)?,
        read_only: flags.contains('r'),
        sensitive: flags.contains('s'),
        default,
        default_from,
        documentation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_and_lists_are_sorted() {
        let KafkaConfigs { broker, topic, group, client_metrics } = kafka_configs();
        let rows = include_str!("kafka.txt").lines().filter(|line| line.contains('\t')).count();
        assert_eq!(broker.len() + topic.len() + group.len() + client_metrics.len(), rows);
        for list in [broker, topic, group, client_metrics] {
            assert!(!list.is_empty() && list.is_sorted_by_key(|config| config.name));
        }
        assert!(broker.iter().any(|config| config.documentation.contains('\n')));
        assert!(
            broker.iter().all(|config| config.sensitive == (config.kind == ConfigType::Password))
        );
    }

    #[test]
    fn values_are_shown_as_kafka_parses_them() {
        assert_eq!(ConfigType::Long.canonical(" 5 "), "5");
        assert_eq!(ConfigType::Boolean.canonical("TRUE"), "true");
        assert_eq!(ConfigType::Double.canonical("1"), "1.0");
        assert_eq!(ConfigType::Double.canonical("0.25"), "0.25");
        assert_eq!(ConfigType::List.canonical("compact, delete"), "compact,delete");
        assert_eq!(ConfigType::List.canonical(""), "");
        assert_eq!(ConfigType::String.canonical("lz4"), "lz4");
    }
}

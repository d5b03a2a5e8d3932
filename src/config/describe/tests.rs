//! Values and their sources.

use super::*;
use crate::config::Sources;

fn config(flags: &[(&str, &str)]) -> Config {
    Sources::of_flags(flags).load().unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn broker(config: &Config, name: &str) -> Described {
    let none = BTreeMap::new();
    let dynamic = DynamicConfigs { broker: &none, cluster_wide: &none };
    config.describe_broker_config(name, dynamic).unwrap()
}

fn told(described: &Described) -> Vec<(&str, &str, ConfigSource)> {
    let synonyms = described.synonyms.iter();
    synonyms.map(|one| (one.name, one.value.as_deref().unwrap_or("null"), one.source)).collect()
}

#[test]
fn a_value_comes_from_the_nearest_that_set_it() {
    let config = config(&[("message.max.bytes", "2MiB")]);
    let (own, all) = (map(&[("message.max.bytes", "7")]), map(&[("message.max.bytes", "6")]));
    let none = BTreeMap::new();
    let topic = |own: &[(&str, &str)], dynamic| {
        config.describe_topic_config("max.message.bytes", &map(own), dynamic).unwrap()
    };

    let both = DynamicConfigs { broker: &own, cluster_wide: &all };
    let set = topic(&[("max.message.bytes", " 5")], both);
    assert_eq!((set.value.as_deref(), set.source), (Some("5"), ConfigSource::Topic));
    assert_eq!(
        told(&set),
        [
            ("max.message.bytes", "5", ConfigSource::Topic),
            ("message.max.bytes", "7", ConfigSource::DynamicBroker),
            ("message.max.bytes", "6", ConfigSource::DynamicDefaultBroker),
            ("message.max.bytes", "2097152", ConfigSource::StaticBroker),
            ("message.max.bytes", "1048588", ConfigSource::Default),
        ]
    );
    let values = [
        (topic(&[], both), "7", ConfigSource::DynamicBroker),
        (
            topic(&[], DynamicConfigs { broker: &none, cluster_wide: &all }),
            "6",
            ConfigSource::DynamicDefaultBroker,
        ),
        (
            topic(&[], DynamicConfigs { broker: &none, cluster_wide: &none }),
            "2097152",
            ConfigSource::StaticBroker,
        ),
    ];
    for (described, value, source) in values {
        assert_eq!((described.value.as_deref(), described.source), (Some(value), source));
    }
}

#[test]
fn of_several_units_the_value_is_told_under_its_own_name_only() {
    let none = BTreeMap::new();
    let dynamic = DynamicConfigs { broker: &none, cluster_wide: &none };
    let hours = config(&[("log.retention.hours", "2")]);
    let described = hours.describe_topic_config("retention.ms", &none, dynamic).unwrap();
    assert_eq!(described.value.as_deref(), Some("7200000"));
    assert_eq!((told(&described).len(), described.source), (0, ConfigSource::Default));
    let millis = config(&[("log.retention.ms", "5s")]);
    let described = millis.describe_topic_config("retention.ms", &none, dynamic).unwrap();
    assert_eq!(
        told(&described),
        [
            ("log.retention.ms", "5000", ConfigSource::StaticBroker),
            ("log.retention.hours", "168", ConfigSource::Default),
        ]
    );
}

#[test]
fn a_broker_shows_its_own_keys_and_kafkas_names_for_them() {
    let config = config(&[("node.id", "4"), ("data.dir", "/data"), ("wal.sync", "interval")]);
    let shown = |name| {
        let described = broker(&config, name);
        (described.value.map(Cow::into_owned), described.source, described.read_only)
    };
    let set = |value: &str| (Some(value.to_owned()), ConfigSource::StaticBroker, true);
    assert_eq!(shown("broker.id"), set("4"));
    assert_eq!(shown("log.dirs"), set("/data"));
    assert_eq!(shown("wal.sync"), set("interval"));
    let unset = |value: Option<&str>| (value.map(str::to_owned), ConfigSource::Default, true);
    assert_eq!(shown("log.retention.minutes"), unset(None));
    assert_eq!(shown("num.io.threads"), unset(Some("8")));
    assert_eq!(shown("ssl.key.password"), unset(None));
    assert!(!shown("message.max.bytes").2);
    let effect = keys::find("wal.sync").map(|key| key.effect);
    assert_eq!(broker(&config, "wal.sync").documentation, effect);
    let none = BTreeMap::new();
    let dynamic = DynamicConfigs { broker: &none, cluster_wide: &none };
    let mut names: Vec<_> = broker_config_names().collect();
    assert!(names.iter().all(|name| config.describe_broker_config(name, dynamic).is_some()));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(config.describe_broker_config("no.such.key", dynamic), None);
}

#[test]
fn a_key_is_never_shown_only_that_there_is_one() {
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
    let chain = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----";
    let config = config(&[
        ("listeners", "SSL://127.0.0.1:1"),
        ("ssl.keystore.certificate.chain", chain),
        ("ssl.keystore.key", key),
    ]);
    assert!(!format!("{config:?}").contains("hunter2"));
    let shown = broker(&config, "ssl.keystore.key");
    assert!(shown.sensitive);
    assert_eq!((shown.value, shown.source), (None, ConfigSource::StaticBroker));
    assert!(shown.synonyms.iter().all(|synonym| synonym.value.is_none()));
}

#[test]
fn groups_and_subscriptions_show_kafkas_defaults() {
    let group = describe_group_config("consumer.session.timeout.ms").unwrap();
    assert_eq!(
        told(&group),
        [("group.consumer.session.timeout.ms", "45000", ConfigSource::Default)]
    );
    let subscription = describe_client_metrics_config("interval.ms").unwrap();
    assert_eq!(subscription.value.as_deref(), Some("300000"));
    assert!(subscription.synonyms.is_empty());
    assert_eq!(describe_group_config("interval.ms"), None);
}

#[test]
fn loggers_are_the_directives_of_the_log_level() {
    let config = config(&[("log.level", "info,tidegate::group=debug")]);
    let loggers = config.describe_loggers();
    let shown: Vec<_> =
        loggers.iter().map(|logger| (&*logger.name, logger.value.as_deref().unwrap())).collect();
    assert_eq!(shown, [("root", "INFO"), ("tidegate::group", "DEBUG")]);
}

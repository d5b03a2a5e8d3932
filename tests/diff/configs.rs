//! The APIs about configs, and the table of Apache Kafka's configs.

use std::fmt::Write as _;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request as full, incremental_alter_configs_request as incremental,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::Wire;
use crate::peer::{Peer, text};
use crate::side::Side;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// `DescribeConfigsResponse.ConfigSource.DEFAULT_CONFIG`.
const DEFAULT_CONFIG: i8 = 5;

/// Keys that only Tidegate has, and an internal one of Kafka that [`crate::ways`] sets.
const OWN: &[&str] = &[
    "admin.listener",
    "data.dir",
    "log.format",
    "log.initial.task.delay.ms",
    "log.level",
    "memory.budget.bytes",
    "metrics.compat",
    "metrics.group.partitions.max",
    "metrics.groups.max",
    "metrics.partitions.max",
    "metrics.topics.max",
    "object.azure.account",
    "object.endpoint",
    "object.requests.per.second",
    "object.s3.addressing.style",
    "object.s3.region",
    "object.s3.sse.customer.key.file",
    "object.s3.sse.kms.key.id",
    "object.s3.sse.type",
    "object.tls.ca.file",
    "object.url",
    "shutdown.deadline.ms",
    "tier.max.age.ms",
    "wal.flush.interval.ms",
    "wal.max.bytes",
    "wal.sync",
];

/// The head of the table, and the sections in which it is written.
const HEAD: &str = "\
# Configs of Apache Kafka 4.3.1: names, types, defaults and documentation as its DescribeConfigs
# answers them. The documentation is Apache Kafka's, Copyright The Apache Software Foundation,
# licensed under the Apache License, Version 2.0 (see LICENSE).
#
# Generated; do not edit. Written by
#     TIDEGATE_CONFIGS=src/config/kafka.txt cargo test --test diff
#
# name, type, flags (r = read-only, s = sensitive, - = neither), default, the broker's config that
# gives the default, documentation; separated by tabs. \\N is null, \\n a line break.
";
const SECTIONS: &[(&str, i8, &str)] = &[
    ("broker", BROKER, "1"),
    ("topic", TOPIC, "any-topic"),
    ("group", GROUP, "any-group"),
    ("client-metrics", CLIENT_METRICS, "any-subscription"),
];

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

fn describe(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(resources)
}

/// Asks for all that a version can tell.
fn whole(version: i16, resource: DescribeConfigsResource) -> DescribeConfigsRequest {
    let request = describe(vec![resource]).with_include_synonyms(true);
    request.with_include_documentation(version >= 3)
}

/// The table as `address`, a Kafka with default settings, answers it.
pub fn table(address: &str) -> String {
    let mut peer = Peer::connect(&Side::at(address));
    peer.create("any-topic", 1, &[]);
    let mut wire = Wire::connect(address);
    let mut out = HEAD.to_owned();
    for (section, kind, name) in SECTIONS {
        let answer = wire.call(4, &whole(4, resource(*kind, name))).results.remove(0);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        let _ = writeln!(out, "[{section}]");
        let mut configs = answer.configs;
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        for config in &configs {
            row(&mut out, config);
        }
    }
    out
}

fn row(out: &mut String, config: &DescribeConfigsResourceResult) {
    const TYPES: [&str; 10] = [
        "unknown", "boolean", "string", "int", "short", "long", "double", "list", "class",
        "password",
    ];
    let default = config.synonyms.iter().find(|synonym| synonym.source == DEFAULT_CONFIG);
    let value = match default {
        Some(default) => default.value.as_ref(),
        // Without synonyms nothing is set, and the value is the default.
        None if config.synonyms.is_empty() => config.value.as_ref(),
        None => None,
    };
    let flags = match (config.read_only, config.is_sensitive) {
        (false, false) => "-",
        (true, false) => "r",
        (false, true) => "s",
        (true, true) => "rs",
    };
    let gives = default.map(|default| &default.name).filter(|name| **name != config.name);
    let _ = writeln!(
        out,
        "{}\t{}\t{flags}\t{}\t{}\t{}",
        config.name.as_str(),
        TYPES[config.config_type as usize],
        escaped(value),
        escaped(gives),
        escaped(config.documentation.as_ref()),
    );
}

fn escaped(text: Option<&StrBytes>) -> String {
    let Some(text) = text else { return "\\N".to_owned() };
    assert!(!text.contains(['\t', '\r', '\\']), "not to be written in the table: {text:?}");
    text.replace('\n', "\\n")
}

/// Keeps an answer about one resource: each config as an answer of its own.
fn ask_each(peer: &mut Peer, label: &str, version: i16, asked: &DescribeConfigsRequest) {
    let mut results = peer.get(version, asked).results;
    for result in &mut results {
        let about = format!("v{version} {label}");
        let mut configs = std::mem::take(&mut result.configs);
        configs.retain(|config| !OWN.contains(&config.name.as_str()));
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        peer.note(format!("{about} has"), &configs.len().to_string());
        for config in configs {
            peer.keep(format!("{about} {}", config.name.as_str()), config);
        }
        peer.keep(about, DescribeConfigsResult::clone(result));
    }
}

/// All configs of a topic, a broker, a group and a client metrics subscription, and single ones.
pub fn describe_configs(peer: &mut Peer) {
    peer.create("config-plain", 1, &[]);
    let set = [
        ("retention.ms", " 5000 "),
        ("cleanup.policy", "compact, delete"),
        ("max.message.bytes", "2000"),
        ("preallocate", "TRUE"),
        ("min.cleanable.dirty.ratio", "1"),
        ("segment.ms", "7000"),
    ];
    peer.create("config-set", 1, &set);
    for version in 1..=4 {
        for (label, kind, name) in [
            ("plain topic", TOPIC, "config-plain"),
            ("topic", TOPIC, "config-set"),
            ("broker", BROKER, "1"),
            ("group", GROUP, "some-group"),
            ("client metrics", CLIENT_METRICS, "some-subscription"),
        ] {
            ask_each(peer, label, version, &whole(version, resource(kind, name)));
        }
        let plain = describe(vec![resource(TOPIC, "config-set")]);
        ask_each(peer, "topic without synonyms", version, &plain);
        let some = ["retention.ms", "no.such.key", "cleanup.policy"];
        for (label, keys) in [("some keys", &some[..]), ("no keys", &[]), ("bad", &some[1..2])] {
            let keys = Some(keys.iter().map(|key| text(key)).collect());
            let asked = resource(TOPIC, "config-set").with_configuration_keys(keys);
            peer.ask(label, version, &describe(vec![asked]));
        }
    }
    for (label, kind, name) in [
        ("unknown topic", TOPIC, "config-none"),
        ("bad topic", TOPIC, "a b"),
        ("empty topic", TOPIC, ""),
        ("cluster-wide broker", BROKER, ""),
        ("another broker", BROKER, "7"),
        ("no broker", BROKER, "x"),
        ("another broker's loggers", BROKER_LOGGER, "7"),
        ("nobody's loggers", BROKER_LOGGER, ""),
        ("no broker's loggers", BROKER_LOGGER, "x"),
        ("empty subscription", CLIENT_METRICS, ""),
        ("empty group", GROUP, ""),
        ("unknown type", 0, "x"),
        ("another type", 3, "x"),
        ("negative type", -1, "x"),
    ] {
        peer.ask(label, 4, &describe(vec![resource(kind, name)]));
    }
    let key = Some(vec![text("retention.ms")]);
    let one = resource(TOPIC, "config-set").with_configuration_keys(key);
    peer.ask("one twice", 4, &describe(vec![one.clone(), one.clone()]));
    peer.ask("one and an unknown", 4, &describe(vec![one, resource(TOPIC, "config-none")]));
    peer.ask("nothing", 4, &describe(Vec::new()));
}

/// A change: key, operation, value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn change(kind: i8, name: &str, changes: &[Change<'_>]) -> incremental::AlterConfigsResource {
    let one = |(key, operation, value): &Change<'_>| {
        incremental::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(one).collect())
}

fn changes(all: Vec<incremental::AlterConfigsResource>) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest::default().with_resources(all)
}

/// Changes of a topic, legal and not; none of them takes effect.
const TOPIC_CHANGES: &[(&str, &[Change<'_>])] = &[
    ("nothing", &[]),
    ("set", &[("retention.ms", SET, Some("7000"))]),
    ("set to null", &[("retention.ms", SET, None)]),
    ("set to words", &[("retention.ms", SET, Some("long"))]),
    ("set an unknown key", &[("no.such.key", SET, Some("1"))]),
    ("set an empty key", &[("", SET, Some("1"))]),
    ("delete", &[("retention.ms", DELETE, None)]),
    ("delete with a value", &[("retention.ms", DELETE, Some("x"))]),
    ("delete what is not set", &[("retention.bytes", DELETE, None)]),
    ("delete an unknown key", &[("no.such.key", DELETE, None)]),
    ("append", &[("cleanup.policy", APPEND, Some("compact"))]),
    ("append an unknown word", &[("cleanup.policy", APPEND, Some("shred"))]),
    ("append null", &[("cleanup.policy", APPEND, None)]),
    ("append to a number", &[("retention.ms", APPEND, Some("1"))]),
    ("append to an unknown key", &[("no.such.key", APPEND, Some("1"))]),
    ("subtract", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
    ("subtract what is not there", &[("cleanup.policy", SUBTRACT, Some("compact"))]),
    ("subtract from a number", &[("retention.ms", SUBTRACT, Some("1"))]),
    ("an unknown operation", &[("retention.ms", 4, Some("1"))]),
    ("a negative operation", &[("retention.ms", -1, Some("1"))]),
    ("one key twice", &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)]),
    ("good and bad", &[("retention.ms", SET, Some("1")), ("segment.ms", SET, Some("x"))]),
    (
        "lags that cross",
        &[("min.compaction.lag.ms", SET, Some("5")), ("max.compaction.lag.ms", SET, Some("4"))],
    ),
    ("remote storage", &[("remote.storage.enable", SET, Some("true"))]),
    (
        "local retention above",
        &[("local.retention.ms", SET, Some("9000")), ("retention.ms", SET, Some("8000"))],
    ),
    (
        "local retention bytes above",
        &[("local.retention.bytes", SET, Some("9")), ("retention.bytes", SET, Some("8"))],
    ),
];

/// What may be changed, by operations and as a whole, and what the topic has afterwards.
pub fn alter_topic_configs(peer: &mut Peer) {
    peer.create("altered", 1, &[("retention.ms", "5000")]);
    for version in 0..=1 {
        for (label, asked) in TOPIC_CHANGES {
            let asked = changes(vec![change(TOPIC, "altered", asked)]).with_validate_only(true);
            peer.ask(label, version, &asked);
        }
    }
    for (label, kind, name) in [
        ("unknown topic", TOPIC, "config-none"),
        ("bad topic", TOPIC, "a b"),
        ("empty topic", TOPIC, ""),
        ("unknown type", 0, "x"),
        ("another type", 3, "x"),
    ] {
        let asked = change(kind, name, &[("retention.ms", SET, Some("1"))]);
        peer.ask(label, 1, &changes(vec![asked]).with_validate_only(true));
    }
    let one = change(TOPIC, "altered", &[("retention.ms", SET, Some("6000"))]);
    peer.ask("one twice", 1, &changes(vec![one.clone(), one.clone()]));
    let mixed = vec![one, change(TOPIC, "config-none", &[("retention.ms", SET, Some("1"))])];
    peer.ask("one and an unknown", 1, &changes(mixed));
    shows(peer, "altered", "retention.ms", Some("6000"));
    for (label, asked) in [
        ("appended", ("cleanup.policy", APPEND, Some("compact"))),
        ("appended again", ("cleanup.policy", APPEND, Some("compact"))),
        ("subtracted", ("cleanup.policy", SUBTRACT, Some("delete"))),
        ("replicas appended", ("leader.replication.throttled.replicas", APPEND, Some("0:1,1:1"))),
        ("replicas subtracted", ("leader.replication.throttled.replicas", SUBTRACT, Some("0:1"))),
        ("deleted", ("retention.ms", DELETE, None)),
    ] {
        peer.ask(label, 1, &changes(vec![change(TOPIC, "altered", &[asked])]));
    }
    shows(peer, "altered", "retention.ms", Some("-1"));
    ask_each(peer, "after all changes", 4, &whole(4, resource(TOPIC, "altered")));
}

/// Waits until a topic's config has a value: brokers of Kafka follow the controller.
fn shows(peer: &mut Peer, topic: &str, key: &str, value: Option<&str>) {
    shown(peer, resource(TOPIC, topic), key, value);
}

fn shown(peer: &mut Peer, asked: DescribeConfigsResource, key: &str, value: Option<&str>) {
    let request = describe(vec![asked.with_configuration_keys(Some(vec![text(key)]))]);
    peer.until(&format!("{key} = {value:?}"), |peer| {
        let configs = &peer.get(4, &request).results[0].configs;
        let now = configs.first().and_then(|config| config.value.as_deref());
        (now == value).then_some(())
    });
}

fn replacement(
    kind: i8,
    name: &str,
    configs: &[(&str, Option<&str>)],
) -> full::AlterConfigsResource {
    let one = |(key, value): &(&str, Option<&str>)| {
        full::AlterableConfig::default().with_name(text(key)).with_value(value.map(text))
    };
    full::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(one).collect())
}

/// `AlterConfigs` sets all of a topic's configs.
pub fn replace_topic_configs(peer: &mut Peer) {
    let start = [("retention.ms", "5000"), ("segment.ms", "6000")];
    peer.create("replaced", 1, &start);
    let asked =
        |all: Vec<full::AlterConfigsResource>| AlterConfigsRequest::default().with_resources(all);
    for version in 0..=2 {
        for (label, configs) in [
            ("good", &[("retention.ms", Some("1"))][..]),
            ("nothing", &[]),
            ("null", &[("retention.ms", None)]),
            ("words", &[("retention.ms", Some("x"))]),
            ("unknown key", &[("no.such.key", Some("1"))]),
            ("one key twice", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
        ] {
            let all = vec![replacement(TOPIC, "replaced", configs)];
            peer.ask(label, version, &asked(all).with_validate_only(true));
        }
    }
    for (label, kind, name) in [
        ("unknown topic", TOPIC, "config-none"),
        ("bad topic", TOPIC, "a b"),
        ("unknown type", 0, "x"),
        ("loggers", BROKER_LOGGER, "1"),
    ] {
        let all = vec![replacement(kind, name, &[("retention.ms", Some("1"))])];
        peer.ask(label, 2, &asked(all).with_validate_only(true));
    }
    let one = replacement(TOPIC, "replaced", &[("retention.ms", Some("8000"))]);
    // A resource named twice is not asked for: Kafka's handler fails on it and never answers.
    peer.ask("replaced", 2, &asked(vec![one]));
    shows(peer, "replaced", "retention.ms", Some("8000"));
    ask_each(peer, "after the replacement", 4, &whole(4, resource(TOPIC, "replaced")));
}

/// Changes of a broker's configs, legal and not; none of them takes effect.
const BROKER_CHANGES: &[(&str, &[Change<'_>])] = &[
    ("set", &[("message.max.bytes", SET, Some("2000000"))]),
    ("set to words", &[("message.max.bytes", SET, Some("many"))]),
    ("set to null", &[("message.max.bytes", SET, None)]),
    ("set out of range", &[("log.retention.ms", SET, Some("-2"))]),
    ("set read-only", &[("num.partitions", SET, Some("3"))]),
    (
        "set read-only and good",
        &[("node.id", SET, Some("3")), ("message.max.bytes", SET, Some("5"))],
    ),
    ("set an unknown key", &[("no.such.key", SET, Some("3"))]),
    ("set without effect", &[("log.cleaner.threads", SET, Some("2"))]),
    ("delete", &[("message.max.bytes", DELETE, None)]),
    ("append", &[("log.cleanup.policy", APPEND, Some("compact"))]),
    ("append to a number", &[("message.max.bytes", APPEND, Some("1"))]),
    (
        "one key twice",
        &[("message.max.bytes", SET, Some("1")), ("message.max.bytes", DELETE, None)],
    ),
];

/// A broker's own configs and those of all brokers.
pub fn alter_broker_configs(peer: &mut Peer) {
    for (name, whose) in [("1", "own"), ("", "cluster-wide"), ("7", "another's"), ("x", "no")] {
        for (label, asked) in BROKER_CHANGES {
            let asked = changes(vec![change(BROKER, name, asked)]).with_validate_only(true);
            peer.ask(format!("{whose} {label}"), 1, &asked);
        }
    }
    peer.create("follows", 1, &[]);
    let follows = || resource(TOPIC, "follows");
    let all = [("message.max.bytes", SET, Some("2000000"))];
    peer.ask("cluster-wide", 1, &changes(vec![change(BROKER, "", &all)]));
    shown(peer, follows(), "max.message.bytes", Some("2000000"));
    let own = [("message.max.bytes", SET, Some("3000000"))];
    peer.ask("own", 1, &changes(vec![change(BROKER, "1", &own)]));
    shown(peer, follows(), "max.message.bytes", Some("3000000"));
    for (label, kind, name) in
        [("topic", TOPIC, "follows"), ("broker", BROKER, "1"), ("all brokers", BROKER, "")]
    {
        let keys = ["max.message.bytes", "message.max.bytes"].map(text).to_vec();
        let asked = resource(kind, name).with_configuration_keys(Some(keys));
        ask_each(peer, &format!("{label} with both"), 4, &whole(4, asked));
    }
    let gone = [("message.max.bytes", DELETE, None)];
    peer.ask("own deleted", 1, &changes(vec![change(BROKER, "1", &gone)]));
    shown(peer, follows(), "max.message.bytes", Some("2000000"));
    peer.ask("cluster-wide deleted", 1, &changes(vec![change(BROKER, "", &gone)]));
    shown(peer, follows(), "max.message.bytes", Some("1048588"));
}

//! Topics: metadata, creation, deletion, more partitions.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
};
use uuid::Uuid;

use crate::peer::{Peer, name, text};

/// An id that no topic has.
pub const UNKNOWN_ID: Uuid = Uuid::from_u128(0x1234_5678);

fn by_name(topic: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(name(topic)))
}

fn by_id(id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(None).with_topic_id(id)
}

fn asking(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> MetadataRequest {
    // Before version 4 the field does not exist and asking creates.
    MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(version < 4)
}

/// All versions: all topics, none, by name, by id, unknown and bad names.
pub fn metadata(peer: &mut Peer) {
    let alpha = peer.create("meta-alpha", 3, &[]);
    peer.create("meta-beta", 1, &[]);
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        peer.ask("all topics", version, &asking(version, all));
        if version > 0 {
            peer.ask("no topics", version, &asking(version, Some(Vec::new())));
        }
        let named = vec![by_name("meta-alpha"), by_name("meta-beta")];
        peer.ask("by name", version, &asking(version, Some(named)));
        for bad in ["", ".", "..", "a b", "a/b", "x:y", "ä", &"n".repeat(250)] {
            let request = asking(version, Some(vec![by_name(bad)]));
            peer.ask(format!("name {bad:?}"), version, &request);
        }
    }
    for version in 4..=13 {
        let request = asking(version, Some(vec![by_name("meta-none"), by_name("meta-alpha")]));
        peer.ask("unknown", version, &request);
        let twice = vec![by_name("meta-alpha"), by_name("meta-alpha")];
        peer.ask("twice", version, &asking(version, Some(twice)));
    }
    for version in 8..=10 {
        let request = asking(version, Some(vec![by_name("meta-alpha"), by_name("meta-none")]))
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        peer.ask("operations", version, &request);
    }
    for version in 10..=13 {
        let topics = vec![by_id(alpha.id)];
        peer.ask("by id", version, &asking(version, Some(topics)));
        let topics = vec![by_name("meta-alpha").with_topic_id(alpha.id)];
        peer.ask("by name and id", version, &asking(version, Some(topics)));
        let topics = vec![by_id(Uuid::nil())];
        peer.ask("by nothing", version, &asking(version, Some(topics)));
        let topics = vec![by_id(UNKNOWN_ID), by_id(alpha.id)];
        peer.ask("by unknown id", version, &asking(version, Some(topics)));
        let topics = vec![by_name("meta-beta"), by_id(alpha.id)];
        peer.ask("one by name, one by id", version, &asking(version, Some(topics)));
        let request = asking(version, Some(vec![by_name("meta-alpha")]))
            .with_include_topic_authorized_operations(true);
        peer.ask("topic operations", version, &request);
    }
}

/// Topics that a look creates.
pub fn auto_create(peer: &mut Peer) {
    for (version, topic) in [(1, "auto-1"), (4, "auto-4"), (13, "auto-13")] {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![by_name(topic)]))
            .with_allow_auto_topic_creation(true);
        peer.ask("first look", version, &request);
        peer.wait_for_topic(topic, 2);
        peer.ask("later look", version, &request);
    }
    peer.create("auto.5", 1, &[]);
    let request = MetadataRequest::default()
        .with_topics(Some(vec![by_name("a:b"), by_name("auto_5")]))
        .with_allow_auto_topic_creation(true);
    peer.ask("bad names are not created", 9, &request);
}

fn topic(topic: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(factor)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

fn assigned(topic: CreatableTopic, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let one = |(index, brokers): &(i32, &[i32])| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    };
    topic.with_assignments(assignments.iter().map(one).collect())
}

fn configured(topic: CreatableTopic, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let one = |(key, value): &(&str, Option<&str>)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text))
    };
    topic.with_configs(configs.iter().map(one).collect())
}

/// Topic configs, legal and not.
const CONFIGS: &[(&str, Option<&str>)] = &[
    ("no.such.key", Some("1")),
    ("retention.ms", Some("x")),
    ("retention.ms", Some("-2")),
    ("retention.ms", None),
    ("retention.ms", Some("")),
    ("retention.ms", Some(" 5 ")),
    ("retention.ms", Some("9223372036854775808")),
    ("segment.bytes", Some("1")),
    ("cleanup.policy", Some("compact,delete")),
    ("cleanup.policy", Some("delete,delete")),
    ("cleanup.policy", Some("Compact")),
    ("cleanup.policy", Some("")),
    ("cleanup.policy", Some("none")),
    ("compression.type", Some("lzma")),
    ("compression.type", Some("GZIP")),
    ("message.timestamp.type", Some("LogAppendTime")),
    ("message.timestamp.type", Some("Other")),
    ("min.cleanable.dirty.ratio", Some("1.5")),
    ("min.cleanable.dirty.ratio", Some("0.25")),
    ("min.insync.replicas", Some("0")),
    ("min.insync.replicas", Some("3")),
    ("unclean.leader.election.enable", Some("TRUE")),
    ("preallocate", Some("yes")),
    ("max.message.bytes", Some("-1")),
    ("compression.gzip.level", Some("0")),
    ("compression.gzip.level", Some("-1")),
    ("leader.replication.throttled.replicas", Some("*")),
    ("leader.replication.throttled.replicas", Some("none")),
    ("message.format.version", Some("3.0")),
    ("message.timestamp.difference.max.ms", Some("5")),
];

/// A partition and its brokers.
type Assignment = (i32, &'static [i32]);

/// Manual assignments, legal and not.
const ASSIGNMENTS: &[(&str, &[Assignment])] = &[
    ("one", &[(0, &[1])]),
    ("two", &[(0, &[1]), (1, &[1])]),
    ("in another order", &[(1, &[1]), (0, &[1])]),
    ("a gap", &[(0, &[1]), (2, &[1])]),
    ("not from 0", &[(1, &[1])]),
    ("negative", &[(-1, &[1])]),
    ("a partition twice", &[(0, &[1]), (0, &[1])]),
    ("a broker twice", &[(0, &[1, 1])]),
    ("no broker", &[(0, &[])]),
    ("an unknown broker", &[(0, &[9])]),
    ("uneven", &[(0, &[1]), (1, &[1, 2])]),
];

/// What `CreateTopics` takes and refuses, on the newest version, without creating anything.
pub fn create_topics(peer: &mut Peer) {
    let existing = peer.create("made.one", 1, &[]);
    peer.mask(&existing.id.to_string(), "id-of-made.one");
    let check = |peer: &mut Peer, label: &str, topic: CreatableTopic| {
        peer.ask(label, 7, &create(vec![topic]).with_validate_only(true));
    };
    check(peer, "good", topic("made-good", 3, 1));
    check(peer, "defaults", topic("made-good", -1, -1));
    check(peer, "exists", topic("made.one", 1, 1));
    check(peer, "collides", topic("made_one", 1, 1));
    for count in [0, -2, i32::MIN] {
        check(peer, &format!("{count} partitions"), topic("made-bad", count, 1));
    }
    for factor in [0, -2, i16::MIN, 2] {
        check(peer, &format!("replication factor {factor}"), topic("made-bad", 1, factor));
    }
    for bad in ["", ".", "..", "a b", "a/b", "ü", &"n".repeat(250), "__consumer_offsets"] {
        check(peer, &format!("name {bad:?}"), topic(bad, 1, 1));
    }
    for (key, value) in CONFIGS.iter().copied() {
        let made = configured(topic("made-config", 1, 1), &[(key, value)]);
        check(peer, &format!("config {key}={value:?}"), made);
    }
    let twice = configured(
        topic("made-config", 1, 1),
        &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
    );
    check(peer, "a config twice", twice);
    for (label, assignments) in ASSIGNMENTS.iter().copied() {
        let made = assigned(topic("made-assigned", -1, -1), assignments);
        check(peer, &format!("assignment: {label}"), made);
    }
    let made = assigned(topic("made-assigned", 1, -1), &[(0, &[1])]);
    check(peer, "assignment and count", made);
    let made = assigned(topic("made-assigned", -1, 1), &[(0, &[1])]);
    check(peer, "assignment and factor", made);
    let topics = vec![topic("made-a", 1, 1), topic("made-a", 2, 1), topic("made-b", 1, 1)];
    peer.ask("one twice", 7, &create(topics).with_validate_only(true));
    let topics = vec![topic("made.x", 1, 1), topic("made_x", 1, 1)];
    peer.ask("two that collide", 7, &create(topics).with_validate_only(true));
    peer.ask("none", 7, &create(Vec::new()));
}

/// All versions: what a created topic's answer says.
pub fn create_topics_by_version(peer: &mut Peer) {
    for version in 2..=7 {
        let made = format!("by-version-{version}");
        let topics = vec![topic(&made, 2, 1), topic("by version", 1, 1)];
        let answer = peer.get(version, &create(topics.clone()).with_validate_only(true));
        peer.note(format!("v{version} validated"), &answer.topics.len().to_string());
        let mut asked = create(topics);
        asked.topics[0] = configured(asked.topics[0].clone(), &[("retention.ms", Some("5000"))]);
        let answer = peer.get(version, &asked);
        for topic in &answer.topics {
            let mut configs: Vec<_> = topic.configs.iter().flatten().collect();
            configs.sort_by(|a, b| a.name.cmp(&b.name));
            let label = format!("v{version} {}", topic.name.as_str());
            for config in configs {
                // Kafka's own keys without effect here are still shown.
                let line = format!("{config:?}");
                peer.note(format!("{label} {}", config.name.as_str()), &line);
            }
            let rest = topic.clone().with_configs(None);
            peer.note(label, &format!("{} {}", rest.error_code, rest.num_partitions));
        }
        peer.wait_for_topic(&made, 2);
        let topics = vec![topic(&made, 2, 1)];
        peer.ask("again", version, &create(topics));
        peer.ask(
            "default counts",
            version,
            &create(vec![topic("by-default", -1, -1)]).with_validate_only(true),
        );
    }
}

fn delete(version: i16, topics: &[DeleteTopicState]) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
    if version >= 6 {
        return request.with_topics(topics.to_vec());
    }
    request.with_topic_names(topics.iter().filter_map(|topic| topic.name.clone()).collect())
}

/// By name and id, unknown, twice, both, neither.
pub fn delete_topics(peer: &mut Peer) {
    let named = |topic: &str| DeleteTopicState::default().with_name(Some(name(topic)));
    let of_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
    for version in 1..=6 {
        let gone = format!("gone-{version}");
        peer.create(&gone, 1, &[]);
        peer.ask("existing and unknown", version, &delete(version, &[named(&gone), named("none")]));
        peer.until("deletion", |peer| {
            let request = asking(12, Some(vec![by_name(&gone)]));
            (peer.get(12, &request).topics[0].error_code == 3).then_some(())
        });
        peer.ask("again", version, &delete(version, &[named(&gone)]));
        peer.ask("none", version, &delete(version, &[]));
        peer.ask("bad name", version, &delete(version, &[named("a b")]));
        peer.ask("twice", version, &delete(version, &[named("none"), named("none")]));
    }
    let by_id = peer.create("gone-by-id", 1, &[]);
    peer.ask("unknown id", 6, &delete(6, &[of_id(UNKNOWN_ID)]));
    peer.ask("neither", 6, &delete(6, &[of_id(Uuid::nil())]));
    peer.ask("both", 6, &delete(6, &[named("gone-by-id").with_topic_id(by_id.id)]));
    peer.ask("id twice", 6, &delete(6, &[of_id(by_id.id), of_id(by_id.id)]));
    peer.ask("name and its id", 6, &delete(6, &[of_id(by_id.id), named("gone-by-id")]));
    peer.create("gone-by-id-2", 1, &[]);
    let second = peer.create("gone-by-id-3", 1, &[]);
    peer.ask("by id", 6, &delete(6, &[of_id(second.id)]));
}

/// More, fewer, as many; assignments; unknown topics.
pub fn create_partitions(peer: &mut Peer) {
    peer.create("grow", 2, &[]);
    let grow = |topic: &str, count: i32| {
        CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(count)
            .with_assignments(None)
    };
    let with = |topic: CreatePartitionsTopic, assignments: &[&[i32]]| {
        let one = |brokers: &&[i32]| {
            CreatePartitionsAssignment::default()
                .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
        };
        topic.with_assignments(Some(assignments.iter().map(one).collect()))
    };
    let request = |topics: Vec<CreatePartitionsTopic>| {
        CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(30_000)
    };
    for version in 0..=3 {
        let checks: Vec<(&str, Vec<CreatePartitionsTopic>)> = vec![
            ("more", vec![grow("grow", 9)]),
            ("as many", vec![grow("grow", version.into())]),
            ("fewer", vec![grow("grow", 1)]),
            ("zero", vec![grow("grow", 0)]),
            ("negative", vec![grow("grow", -1)]),
            ("unknown", vec![grow("none", 9)]),
            ("bad name", vec![grow("a b", 9)]),
            ("twice", vec![grow("grow", 9), grow("grow", 10)]),
            ("none", Vec::new()),
            ("assigned", vec![with(grow("grow", 7), &[&[1]])]),
            ("assigned to an unknown broker", vec![with(grow("grow", 7), &[&[9]])]),
            ("assigned to too many", vec![with(grow("grow", 9), &[&[1]])]),
            ("assigned to none", vec![with(grow("grow", 7), &[&[]])]),
            ("assigned twice", vec![with(grow("grow", 7), &[&[1, 1]])]),
        ];
        for (label, topics) in checks {
            peer.ask(label, version, &request(topics).with_validate_only(true));
        }
        let count = 3 + i32::from(version);
        peer.ask("grows", version, &request(vec![grow("grow", count)]));
        peer.wait_for_topic("grow", count);
    }
}

//! What administrators ask: log directories, pages of topics, elections, reassignments, the quorum,
//! features, configured resources.

use std::collections::BTreeSet;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, ListConfigResourcesRequest,
    ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
};

use crate::batch::{Batch, Codec};
use crate::peer::{Peer, name, text};
use crate::produce::write;

/// All versions: sizes of what was asked for, unknown topics and partitions, one twice.
pub fn log_dirs(peer: &mut Peer) {
    peer.create("dirs-a", 3, &[]);
    peer.create("dirs-b", 1, &[]);
    for _ in 0..3 {
        write(peer, "dirs-a", 0, &Batch::values(4, 100));
    }
    write(peer, "dirs-a", 2, &Batch::values(2, 20).codec(Codec::Gzip));
    let asked = |topics: &[(&str, &[i32])]| {
        let one = |(topic, partitions): &(&str, &[i32])| {
            DescribableLogDirTopic::default()
                .with_topic(name(topic))
                .with_partitions(partitions.to_vec())
        };
        DescribeLogDirsRequest::default().with_topics(Some(topics.iter().map(one).collect()))
    };
    for version in 1..=4 {
        peer.ask("two topics", version, &asked(&[("dirs-a", &[0, 1, 2]), ("dirs-b", &[0])]));
        peer.ask("unknown partition", version, &asked(&[("dirs-a", &[0, 9, -1])]));
        peer.ask("unknown topic", version, &asked(&[("none", &[0]), ("", &[0])]));
        peer.ask("twice", version, &asked(&[("dirs-a", &[0, 0]), ("dirs-a", &[0, 2])]));
        peer.ask("no partitions", version, &asked(&[("dirs-a", &[])]));
        peer.ask("no topics", version, &asked(&[]));
        let answer = peer.get(version, &DescribeLogDirsRequest::default().with_topics(None));
        let mut topics = answer.results[0].topics.clone();
        topics.retain(|topic| topic.name.as_str().starts_with("dirs-"));
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in &mut topics {
            topic.partitions.sort_by_key(|partition| partition.partition_index);
        }
        peer.note(format!("v{version} all topics"), &format!("{topics:?}"));
    }
}

/// Topics by name, unknown, twice; limits and cursors; pages of everything.
pub fn topic_partitions(peer: &mut Peer) {
    peer.create("pages-a", 3, &[]);
    peer.create("pages-b", 2, &[]);
    peer.create("pages-c", 1, &[]);
    let asked = |topics: &[&str], limit: i32, cursor: Option<(&str, i32)>| {
        let topic = |topic: &&str| TopicRequest::default().with_name(name(topic));
        let at = |(topic, partition)| {
            Cursor::default().with_topic_name(name(topic)).with_partition_index(partition)
        };
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor.map(at))
    };
    let all = &["pages-b", "pages-a", "pages-c"];
    peer.ask("named", 0, &asked(all, 2000, None));
    peer.ask("twice", 0, &asked(&["pages-a", "pages-a"], 2000, None));
    for bad in ["none", "", ".", "a b", &"n".repeat(250)] {
        peer.ask(format!("name {bad:?}"), 0, &asked(&[bad, "pages-a"], 2000, None));
    }
    for limit in [i32::MIN, -1, 0, 1, 2, 3, 4, 5, 6, i32::MAX] {
        peer.ask(format!("limit {limit}"), 0, &asked(all, limit, None));
    }
    for (topic, partition) in [
        ("pages-a", 0),
        ("pages-a", 1),
        ("pages-b", 1),
        ("pages-a", 3),
        ("pages-a", i32::MAX),
        ("pages-a", -1),
        ("none", 0),
        ("pages-bb", 0),
        ("", 0),
    ] {
        let label = format!("from {topic:?} {partition}");
        peer.ask(&label, 0, &asked(all, 2, Some((topic, partition))));
        peer.ask(format!("{label}, no limit"), 0, &asked(all, 2000, Some((topic, partition))));
    }
    let mixed = &["pages-a", "pages-none", "pages-zzz"];
    for limit in [3, 4] {
        peer.ask(format!("unknown, limit {limit}"), 0, &asked(mixed, limit, None));
    }
    peer.ask("unknown, from it", 0, &asked(mixed, 2, Some(("pages-none", 0))));
    peer.ask("unknown, from it on", 0, &asked(mixed, 2, Some(("pages-none", 5))));
    peer.ask("the rest of all", 0, &asked(&[], 4, Some(("pages-a", 0))));
    peer.ask("all from no partition", 0, &asked(&[], 4, Some(("pages-a", -1))));
    let mut seen = BTreeSet::new();
    let mut cursor = None;
    loop {
        let from = cursor.as_ref().map(|(topic, at): &(String, i32)| (topic.as_str(), *at));
        let answer = peer.get(0, &asked(&[], 2, from));
        for topic in answer.topics {
            let topic_name = topic.name.unwrap_or_default();
            if topic_name.as_str().starts_with("pages-") {
                let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
                seen.extend(indexes.map(|index| format!("{}-{index}", topic_name.as_str())));
            }
        }
        let Some(next) = answer.next_cursor else { break };
        cursor = Some((next.topic_name.to_string(), next.partition_index));
    }
    peer.note("all in pages of two", &format!("{seen:?}"));
}

/// All versions and election types; unknown topics and partitions; all partitions.
pub fn elect_leaders(peer: &mut Peer) {
    peer.create("elect", 2, &[]);
    let asked = |kind: i8, topics: Option<&[(&str, &[i32])]>| {
        let one = |(topic, partitions): &(&str, &[i32])| {
            TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
        };
        ElectLeadersRequest::default()
            .with_election_type(kind)
            .with_timeout_ms(10_000)
            .with_topic_partitions(topics.map(|topics| topics.iter().map(one).collect()))
    };
    for version in 0..=2 {
        let kinds: &[i8] = if version == 0 { &[0] } else { &[0, 1, 2, -1] };
        for kind in kinds.iter().copied() {
            let label = |what: &str| format!("type {kind} {what}");
            let both: &[(&str, &[i32])] = &[("elect", &[0, 1])];
            peer.ask(label("two partitions"), version, &asked(kind, Some(both)));
            let unknown: &[(&str, &[i32])] = &[("elect", &[0, 7, -1]), ("none", &[0])];
            peer.ask(label("unknown"), version, &asked(kind, Some(unknown)));
            peer.ask(label("bad name"), version, &asked(kind, Some(&[("a b", &[0])])));
            peer.ask(label("no topics"), version, &asked(kind, Some(&[])));
            peer.ask(label("no partitions"), version, &asked(kind, Some(&[("elect", &[])])));
            peer.ask(label("all"), version, &asked(kind, None));
            let twice: &[(&str, &[i32])] = &[("elect", &[0, 0])];
            peer.ask(label("a partition twice"), version, &asked(kind, Some(twice)));
        }
    }
}

/// Lists of replicas to reassign to; `None` cancels.
const REPLICAS: &[(&str, Option<&[i32]>)] = &[
    ("where it is", Some(&[1])),
    ("cancelled", None),
    ("to none", Some(&[])),
    ("to an unknown broker", Some(&[9])),
    ("to one more", Some(&[1, 9])),
    ("to one twice", Some(&[1, 1])),
    ("to unknown ones twice", Some(&[9, 9])),
    ("to a negative broker", Some(&[-1])),
];

/// What may be reassigned and what not, and that nothing is on its way.
pub fn reassignments(peer: &mut Peer) {
    peer.create("moved", 2, &[]);
    let alter = |topic: &str, index: i32, replicas: Option<&[i32]>| {
        let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
        let partition = ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas.map(brokers));
        let topic =
            ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        AlterPartitionReassignmentsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000)
    };
    for version in 0..=1 {
        for (label, replicas) in REPLICAS {
            peer.ask(label, version, &alter("moved", 1, *replicas));
            peer.ask(format!("unknown topic {label}"), version, &alter("none", 0, *replicas));
            peer.ask(format!("unknown partition {label}"), version, &alter("moved", 7, *replicas));
            if version > 0 {
                let request =
                    alter("moved", 0, *replicas).with_allow_replication_factor_change(false);
                peer.ask(format!("{label}, factor kept"), version, &request);
            }
        }
        let none = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000);
        peer.ask("no topics", version, &none);
    }
    let list = |topics: Option<&[(&str, &[i32])]>| {
        let one = |(topic, partitions): &(&str, &[i32])| {
            ListPartitionReassignmentsTopics::default()
                .with_name(name(topic))
                .with_partition_indexes(partitions.to_vec())
        };
        ListPartitionReassignmentsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(topics.map(|topics| topics.iter().map(one).collect()))
    };
    peer.ask("list all", 0, &list(None));
    peer.ask("list none", 0, &list(Some(&[])));
    peer.ask("list some", 0, &list(Some(&[("moved", &[0, 1, 7, -1]), ("none", &[0])])));
}

/// The metadata log.
const LOG: &str = "__cluster_metadata";

/// All versions: the metadata log, and others.
pub fn describe_quorum(peer: &mut Peer) {
    let asked = |topics: &[(&str, &[i32])]| {
        let partition = |index: &i32| PartitionData::default().with_partition_index(*index);
        let one = |(topic, partitions): &(&str, &[i32])| {
            TopicData::default()
                .with_topic_name(name(topic))
                .with_partitions(partitions.iter().map(partition).collect())
        };
        DescribeQuorumRequest::default().with_topics(topics.iter().map(one).collect())
    };
    for version in 0..=2 {
        peer.ask("the metadata log", version, &asked(&[(LOG, &[0])]));
        peer.ask("another partition", version, &asked(&[(LOG, &[1])]));
        peer.ask("two partitions", version, &asked(&[(LOG, &[0, 1])]));
        peer.ask("another topic", version, &asked(&[("none", &[0])]));
        peer.ask("two topics", version, &asked(&[(LOG, &[0]), ("none", &[0])]));
        peer.ask("no partitions", version, &asked(&[(LOG, &[])]));
        peer.ask("nothing", version, &asked(&[]));
    }
}

/// A feature that nobody has, at several levels and by every kind of upgrade.
pub fn update_features(peer: &mut Peer) {
    let update = |feature: &str, level: i16| {
        FeatureUpdateKey::default().with_feature(text(feature)).with_max_version_level(level)
    };
    let request = |updates: Vec<FeatureUpdateKey>| {
        UpdateFeaturesRequest::default().with_feature_updates(updates).with_timeout_ms(10_000)
    };
    for version in 0..=2 {
        for level in [i16::MIN, -1, 0, 1, 7] {
            let label = format!("no such feature at {level}");
            peer.ask(label, version, &request(vec![update("no.such", level)]));
        }
        let two = vec![update("no.such", 1), update("nor.such", 1)];
        peer.ask("two", version, &request(two));
        let mixed = vec![update("no.such", 0), update("nor.such", 1)];
        peer.ask("one of two", version, &request(mixed));
        peer.ask("none", version, &request(Vec::new()));
        peer.ask("no name", version, &request(vec![update("", 1)]));
    }
    for version in 1..=2 {
        for kind in [-1, 0, 2, 3, 4] {
            let update = |level| vec![update("no.such", level).with_upgrade_type(kind)];
            peer.ask(format!("kind {kind} to 1"), version, &request(update(1)));
            peer.ask(format!("kind {kind} to 0"), version, &request(update(0)));
        }
        let request = request(vec![update("no.such", 1)]).with_validate_only(true);
        peer.ask("only validated", version, &request);
    }
}

/// All versions and types.
pub fn config_resources(peer: &mut Peer) {
    peer.create("resource", 1, &[]);
    let asked =
        |types: &[i8]| ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
    peer.ask("client metrics", 0, &asked(&[]));
    for types in [&[4][..], &[8], &[16], &[32], &[4, 8, 16], &[4, 4], &[0], &[1], &[64], &[-1, 4]] {
        peer.ask(format!("types {types:?}"), 1, &asked(types));
    }
    for types in [&[][..], &[2]] {
        let mut answer = peer.get(1, &asked(types));
        let ours = ["resource", "1"];
        answer.config_resources.retain(|found| ours.contains(&found.resource_name.as_str()));
        let mut found: Vec<_> = answer
            .config_resources
            .iter()
            .map(|found| format!("{} {}", found.resource_type, found.resource_name.as_str()))
            .collect();
        found.sort();
        peer.note(format!("types {types:?}"), &format!("{} {found:?}", answer.error_code));
    }
}

//! Names that a peer chooses and that must stay names (research: bad input, "Strings").

use std::path::Path;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, GroupId, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};

use crate::harness::Wire;
use crate::hostile::Scene;
use crate::requests::{
    METADATA, NONE, PRODUCE, assert_served, produce_request, produced, record, text, topic_name,
};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const LOAD_TRIES: usize = 10_000;

/// What Kafka's `Topic.validate` refuses.
fn bad_names() -> Vec<String> {
    let mut names: Vec<String> =
        ["", ".", "..", "a b", "a/b", "../a", "/etc/passwd", "a\0b", "a\nb", "ä", "a:b", "a\\b"]
            .map(str::to_owned)
            .to_vec();
    names.push("x".repeat(250));
    names.push("x".repeat(32_767));
    names
}

fn create(wire: &mut Wire, name: &str) -> i16 {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(7, &request).topics[0].error_code
}

fn look_up(wire: &mut Wire, name: &str) -> i16 {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(true);
    wire.call(METADATA, &request).topics[0].error_code
}

#[test]
fn topic_names_that_kafka_refuses_are_not_created() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    for name in bad_names() {
        assert_eq!(create(&mut wire, &name), INVALID_TOPIC_EXCEPTION, "{name:?}");
        assert_eq!(look_up(&mut wire, &name), INVALID_TOPIC_EXCEPTION, "{name:?}");
        let request = produce_request(&name, 0, -1, record(10));
        let response = wire.call(PRODUCE, &request);
        assert_eq!(produced(&response).error_code, UNKNOWN_TOPIC_OR_PARTITION, "{name:?}");
    }
    assert_eq!(create(&mut wire, &"x".repeat(249)), NONE);
    assert_eq!(create(&mut wire, "..."), NONE);
    scene.assert_unharmed();
}

#[test]
fn topic_names_that_differ_in_dots_and_underscores_collide() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    assert_eq!(create(&mut wire, "a.b_c"), NONE);
    assert_eq!(create(&mut wire, "a_b.c"), INVALID_TOPIC_EXCEPTION);
    // Nor does a look that creates topics create it; as in Kafka it is unknown then.
    assert_eq!(look_up(&mut wire, "a_b_c"), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(look_up(&mut wire, "a.b_c"), NONE);
    assert_eq!(look_up(&mut wire, "a.b.d"), NONE);
    scene.assert_unharmed();
}

/// Group ids are any text; these would leave the data directory if they became paths.
fn groups() -> Vec<String> {
    let mut groups: Vec<String> =
        ["../../../evil", "/tmp/evil", "evil\0evil", "..", "evil\nevil", "évil", "evil/../.."]
            .map(str::to_owned)
            .to_vec();
    groups.push("evil".repeat(5_000));
    groups
}

fn commit(wire: &mut Wire, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("a"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    // The first one makes the topic in which offsets are kept.
    let found = wire.call(3, &FindCoordinatorRequest::default().with_key(text(group)));
    assert!([NONE, COORDINATOR_NOT_AVAILABLE].contains(&found.error_code));
    let code = (0..LOAD_TRIES)
        .map(|_| wire.call(8, &request).topics[0].partitions[0].error_code)
        .find(|code| ![COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE].contains(code));
    assert_eq!(code, Some(NONE), "{group:?}");
}

fn committed(wire: &mut Wire, group: &str) -> i64 {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("a"))
        .with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topic]));
    let response = wire.call(8, &OffsetFetchRequest::default().with_groups(vec![asked]));
    response.groups[0].topics[0].partitions[0].committed_offset
}

/// The names of everything below `folder`.
fn names_below(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            names_below(&entry.path(), names);
        }
    }
}

#[test]
fn group_ids_are_any_text_and_never_paths() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    for (offset, group) in (1..).zip(groups()) {
        commit(&mut wire, &group, offset);
    }
    for (offset, group) in (1..).zip(groups()) {
        assert_eq!(committed(&mut wire, &group), offset, "{group:?}");
    }
    let mut names = Vec::new();
    names_below(scene.broker.data_dir().parent().unwrap(), &mut names);
    assert!(names.len() > 3, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("evil")), "{names:?}");
    assert!(!Path::new("/tmp/evil").exists());
    scene.assert_unharmed();
}

#[test]
fn text_of_a_peer_cannot_forge_a_line_of_the_log() {
    let scene = Scene::new();
    let forged = "x\nERROR forged\r\n\x1b[31mERROR forged";
    for topic in [forged, "y\u{85}ERROR forged", "z\u{2028}ERROR forged"] {
        let mut wire = scene.broker.connect();
        wire.send(PRODUCE, &produce_request(topic, 0, 0, record(10)));
        assert!(wire.is_closed_by_broker());
    }
    scene.broker.wait_for_log("produce with acks=0 failed");
    let log = scene.broker.log();
    let begins = |line: &&str| line.trim_start().starts_with("ERROR forged");
    assert_eq!(log.lines().find(begins), None);
    assert!(!log.contains('\u{1b}') && !log.contains('\u{85}') && !log.contains('\u{2028}'));
    assert_served(&mut scene.broker.connect());
}

//! `tidegate topic`, `group` and `cluster` against a broker: what they say, what they do, and what
//! they leave alone until they are told to.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use serde_json::{Value, json};
use tidegate::protocol::batch::BatchBuilder;

use crate::harness::authority::Authority;
use crate::harness::cli::Cli;
use crate::harness::{Broker, Options, Wire, free_port};
use crate::requests::{PRODUCE, create_topic, produce_request, produced, text, topic_name};

/// Tries until a coordinator has loaded its partition.
const LOAD_TRIES: usize = 10_000;

pub fn start() -> (Broker, Cli, Wire) {
    // Records of long ago stay.
    let options = Options::new()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("log.retention.check.interval.ms", 86_400_000);
    let broker = Broker::start_with(options);
    let (cli, wire) = (Cli::new(&broker.address()), broker.connect());
    (broker, cli, wire)
}

/// Appends a record for each timestamp.
pub fn write(wire: &mut Wire, topic: &str, partition: i32, timestamps: &[i64]) {
    let mut batch = BatchBuilder::new();
    for time in timestamps {
        batch.append(*time, None, Some(b"value"), &[]);
    }
    let response = wire.call(PRODUCE, &produce_request(topic, partition, -1, batch.build()));
    assert_eq!(produced(&response).error_code, 0);
}

/// Commits offsets of partitions 0, 1, .. as a client without membership does.
pub fn commit(wire: &mut Wire, group: &str, topic: &str, offsets: &[i64]) {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, 0);
    let partition = |(index, offset): (usize, &i64)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(i32::try_from(index).unwrap())
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(offsets.iter().enumerate().map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let done =
        (0..LOAD_TRIES).any(|_| wire.call(8, &request).topics[0].partitions[0].error_code == 0);
    assert!(done, "the coordinator loads");
}

/// Joins a group as its only member, which has partitions 0 and 1 of `topic`; its id.
pub fn join(wire: &mut Wire, group: &str, topic: &str) -> String {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, 0);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let mut request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut joined = wire.call(9, &request);
    // The first answer gives the id that the second comes with (KIP-394), once the group is loaded.
    for _ in 0..LOAD_TRIES {
        if joined.error_code == 0 {
            break;
        }
        request.member_id = joined.member_id;
        joined = wire.call(9, &request);
    }
    let mut assignment = vec![0, 3, 0, 0, 0, 1];
    assignment.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    assignment.extend(topic.as_bytes());
    assignment.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    let of_member = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(assignment.into());
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(vec![of_member]);
    assert_eq!(wire.call(5, &sync).error_code, 0);
    joined.member_id.to_string()
}

/// The values of `field` in the rows of an answer.
pub fn column<'a>(rows: &'a Value, field: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[field]).collect()
}

#[test]
fn a_topic_from_its_creation_to_its_end() {
    let (_broker, cli, mut wire) = start();
    let asked = ["topic", "create", "orders", "-p", "3", "-c", "retention.ms=86400000"];
    let dry = cli.done(&[&asked[..], &["--dry-run"]].concat());
    assert!(dry.err.contains("could be created"), "{dry:?}");
    assert_eq!(cli.json(&["topic", "list"]), json!({"topics": []}));
    let created = cli.done(&asked);
    assert!(created.out.is_empty(), "{created:?}");
    let told = "topic orders created with partitions: 3, replicas: 1";
    assert!(created.err.contains(told), "{created:?}");
    assert!(cli.refused(1, &asked).contains("TOPIC_ALREADY_EXISTS"));
    cli.done(&[&asked[..], &["--if-not-exists"]].concat());

    write(&mut wire, "orders", 1, &[1, 2, 3]);
    let topic = &cli.json(&["topic", "describe", "orders"])["topics"][0];
    assert_eq!(topic["configs"], json!({"retention.ms": "86400000"}));
    assert_eq!(column(&topic["partitions"], "end_offset"), [0, 3, 0]);
    assert_eq!(column(&topic["partitions"], "start_offset"), [0, 0, 0]);
    let sizes = column(&topic["partitions"], "size_bytes");
    assert!(sizes[1].as_i64().unwrap() > 0 && sizes[0] == 0, "{sizes:?}");
    let leader = topic["partitions"][0]["leader"].clone();
    assert_eq!(topic["partitions"][0]["replicas"], json!([leader]));

    let adds = cli.done(&["topic", "alter", "orders", "--partitions", "5"]);
    assert!(adds.err.contains("has 5 partitions; it had 3"), "{adds:?}");
    let none = cli.refused(2, &["topic", "alter", "orders", "--partitions", "5"]);
    assert!(none.contains("has 5 partitions already"), "{none}");
    let table = cli.done(&["topic", "list"]);
    assert_eq!(table.out, "TOPIC   PARTITIONS  REPLICAS\norders           5         1\n");
    let bare = cli.done(&["topic", "list", "--no-header"]);
    assert_eq!(bare.out, "orders  5  1\n");
    let yaml = cli.done(&["topic", "list", "--format", "yaml"]);
    assert!(yaml.out.starts_with("topics:\n- id: ") && yaml.out.contains("  name: orders\n"));

    let dry = cli.json(&["topic", "delete", "orders"]);
    assert_eq!((&dry["executed"], &dry["topics"][0]["offsets"]), (&json!(false), &json!(3)));
    assert_eq!(column(&cli.json(&["topic", "list"])["topics"], "name"), ["orders"]);
    let done = cli.json(&["topic", "delete", "orders", "--execute"]);
    assert_eq!((&done["executed"], &done["topics"][0]["error"]), (&json!(true), &Value::Null));
    assert_eq!(cli.json(&["topic", "list"]), json!({"topics": []}));
    cli.done(&["topic", "delete", "orders", "--if-exists", "--execute"]);
}

#[test]
fn settings_of_a_topic_are_set_and_those_that_delete_records_are_held_back() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    let get = ["topic", "config", "get", "orders"];
    assert_eq!(cli.json(&get)["configs"], json!([]));
    cli.done(&["topic", "config", "set", "orders", "max.message.bytes=5000", "retention.ms=-1"]);
    let configs = &cli.json(&get)["configs"];
    assert_eq!(column(configs, "key"), ["max.message.bytes", "retention.ms"]);
    assert_eq!(column(configs, "value"), ["5000", "-1"]);
    assert_eq!(column(configs, "source"), ["topic", "topic"]);
    assert!(configs[0]["inherited"].is_string(), "{configs}");

    let shorter = ["topic", "config", "set", "orders", "retention.ms=1000"];
    let held = cli.refused(1, &shorter);
    assert!(held.contains("retention.ms may delete records of topic orders; --execute"), "{held}");
    let unset = ["topic", "config", "unset", "orders", "retention.ms"];
    assert!(cli.refused(1, &unset).contains("--execute"));
    assert_eq!(cli.json(&get)["configs"][1]["value"], "-1");
    let done = cli.json(&[&shorter[..], &["--execute"]].concat());
    let change = json!({"key": "retention.ms", "from": "-1", "to": "1000",
                        "may_delete_records": true});
    assert_eq!(done["changes"], json!([change]));
    assert_eq!(cli.json(&get)["configs"][1]["value"], "1000");
    cli.done(&["topic", "config", "unset", "orders", "max.message.bytes"]);
    cli.done(&["topic", "config", "unset", "orders", "retention.ms", "--execute"]);
    assert_eq!(cli.json(&get)["configs"], json!([]));

    let all = cli.json(&["topic", "config", "get", "orders", "--all"]);
    assert!(all["configs"].as_array().unwrap().len() > 20, "{all}");
    let one = cli.json(&["topic", "config", "get", "orders", "cleanup.policy"]);
    assert_eq!(column(&one["configs"], "value"), ["delete"]);
    let wrong = cli.refused(1, &["topic", "config", "get", "orders", "cleanup.polcy"]);
    assert!(wrong.contains("did you mean cleanup.policy?"), "{wrong}");
    let wrong = cli.refused(1, &["topic", "config", "set", "orders", "max.message.bytes=many"]);
    assert!(wrong.contains("INVALID_CONFIG"), "{wrong}");
}

#[test]
fn records_are_deleted_up_to_an_offset_a_time_or_the_end() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "logged", 2);
    write(&mut wire, "logged", 0, &[1_000, 2_000, 3_000, 4_000]);
    write(&mut wire, "logged", 1, &[1_000]);
    let starts = || {
        let described = cli.json(&["topic", "describe", "logged"]);
        let partitions = described["topics"][0]["partitions"].clone();
        column(&partitions, "start_offset").into_iter().cloned().collect::<Vec<Value>>()
    };
    let delete = ["topic", "delete-records"];
    let to_one = [&delete[..], &["logged:0", "--to-offset", "1"]].concat();
    let dry = cli.json(&to_one);
    let row = &dry["partitions"][0];
    assert_eq!((&row["new_start_offset"], &row["end_offset"]), (&json!(1), &json!(4)));
    assert_eq!(starts(), [0, 0]);
    cli.done(&[&to_one[..], &["--execute"]].concat());
    assert_eq!(starts(), [1, 0]);
    let to_time = ["logged", "--to-datetime", "1970-01-01T00:00:03.000", "--execute"];
    cli.done(&[&delete[..], &to_time].concat());
    assert_eq!(starts(), [2, 1]);
    let beyond = [&delete[..], &["logged:0", "--to-offset", "9", "--execute"]].concat();
    let ran = cli.run(&beyond);
    assert_eq!((ran.code, ran.out.contains("the partition ends at 4")), (Some(1), true), "{ran:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("to.json");
    std::fs::write(&file, r#"{"partitions":[{"topic":"logged","partition":0,"offset":-1}]}"#)
        .unwrap();
    let from_file = ["--from-file", file.to_str().unwrap(), "--execute"];
    cli.done(&[&delete[..], &from_file].concat());
    assert_eq!(starts(), [4, 1]);
    assert!(
        cli.refused(1, &["topic", "delete-records", "logged:2", "--to-latest"])
            .contains("has no partition 2; it has 2, from 0 on")
    );
}

fn reset_billing<'a>(how: &[&'a str]) -> Vec<&'a str> {
    [&["group", "reset-offsets", "billing"], how].concat()
}

#[test]
fn a_group_is_shown_moved_and_deleted_only_when_told() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "logged", 2);
    write(&mut wire, "logged", 0, &[1_000, 2_000, 3_000, 4_000]);
    write(&mut wire, "logged", 1, &[5_000]);
    commit(&mut wire, "billing", "logged", &[1, 1]);
    let group = &cli.json(&["group", "list"])["groups"][0];
    assert_eq!((&group["group"], &group["state"]), (&json!("billing"), &json!("Empty")));
    assert_eq!(cli.json(&["group", "list", "--state", "Stable"]), json!({"groups": []}));
    let offsets = || cli.json(&["group", "describe", "billing"])["groups"][0]["offsets"].clone();
    assert_eq!(column(&offsets(), "lag"), [3, 0]);

    let to = reset_billing;
    let dry = cli.json(&to(&["--topic", "logged:0", "--to-latest"]));
    assert_eq!((&dry["executed"], &dry["offsets"][0]["new_offset"]), (&json!(false), &json!(4)));
    assert_eq!(column(&offsets(), "committed_offset"), [1, 1]);
    cli.done(&to(&["--topic", "logged:0", "--to-latest", "--execute"]));
    assert_eq!(column(&offsets(), "committed_offset"), [4, 1]);
    cli.done(&to(&["--all-topics", "--shift-by", "-2", "--execute"]));
    assert_eq!(column(&offsets(), "committed_offset"), [2, 0]);
    let exported = cli.done(&to(&["--all-topics", "--to-earliest", "--export"]));
    assert_eq!(exported.out, "logged,0,0\nlogged,1,0\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.csv");
    std::fs::write(&file, "logged,0,3\nlogged,1,99\n").unwrap();
    let done = cli.json(&to(&["--from-file", file.to_str().unwrap(), "--execute"]));
    assert_eq!(
        column(&done["offsets"], "note"),
        [&Value::Null, &json!("the partition ends there")]
    );
    assert_eq!(column(&offsets(), "committed_offset"), [3, 1]);
    // A group that is not there yet gets its first offsets.
    let fresh = ["group", "reset-offsets", "fresh", "--topic", "logged", "--to-earliest"];
    cli.done(&[&fresh[..], &["--execute"]].concat());
    assert_eq!(column(&cli.json(&["group", "list"])["groups"], "group"), ["billing", "fresh"]);
    let shift = ["group", "reset-offsets", "none", "--topic", "logged", "--shift-by", "1"];
    let ran = cli.run(&[&shift[..], &["--execute"]].concat());
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("there is no committed offset to shift"), "{ran:?}");

    let forget = ["group", "delete-offsets", "billing", "--topic", "logged:1"];
    cli.done(&forget);
    assert_eq!(offsets().as_array().unwrap().len(), 2);
    cli.done(&[&forget[..], &["--execute"]].concat());
    assert_eq!(column(&offsets(), "partition"), [0]);
    let dry = cli.json(&["group", "delete", "billing", "fresh"]);
    assert_eq!(column(&dry["groups"], "committed_partitions"), [1, 2]);
    assert_eq!(cli.json(&["group", "list"])["groups"].as_array().unwrap().len(), 2);
    cli.done(&["group", "delete", "billing", "fresh", "--execute"]);
    assert_eq!(cli.json(&["group", "list"]), json!({"groups": []}));
}

#[test]
fn a_group_with_members_is_shown_with_them_and_left_alone() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "logged", 2);
    write(&mut wire, "logged", 1, &[1_000]);
    let member = join(&mut wire, "active", "logged");
    let described = cli.json(&["group", "describe", "active"]);
    let group = &described["groups"][0];
    assert_eq!((&group["state"], &group["assignor"]), (&json!("Stable"), &json!("range")));
    assert_eq!(group["members"][0]["assignment"], json!({"logged": [0, 1]}));
    assert_eq!(column(&group["offsets"], "member_id"), [&member, &member]);
    assert_eq!(column(&group["offsets"], "lag"), [&Value::Null, &Value::Null]);
    let members = cli.done(&["group", "describe", "active", "--members", "--verbose"]);
    assert!(members.out.contains("logged:0,1") && members.out.contains(&member), "{members:?}");

    let reset = ["group", "reset-offsets", "active", "--topic", "logged", "--to-earliest"];
    let refused = cli.refused(1, &[&reset[..], &["--execute"]].concat());
    assert!(refused.contains("group active is Stable and has 1 members"), "{refused}");
    let ran = cli.run(&["group", "delete", "active", "--execute"]);
    assert_eq!((ran.code, ran.out.contains("stop them first")), (Some(1), true), "{ran:?}");
    assert_eq!(cli.json(&["group", "list", "--state", "stable"])["groups"][0]["group"], "active");
}

#[test]
fn a_cluster_tells_of_itself() {
    let (broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 2);
    write(&mut wire, "orders", 0, &[1]);
    let described = cli.json(&["cluster", "describe"]);
    let node = &described["nodes"][0];
    assert_eq!(format!("127.0.0.1:{}", node["port"]), broker.address());
    assert_eq!(described["controller"], node["id"]);
    let dirs = cli.json(&["cluster", "log-dirs", "--topic", "orders"]);
    let dir = &dirs["log_dirs"][0];
    assert_eq!(dir["path"], broker.data_dir().to_str().unwrap());
    assert_eq!(column(&dir["partitions"], "partition"), [0, 1]);
    assert!(dir["total_bytes"].as_i64().unwrap() >= dir["usable_bytes"].as_i64().unwrap());
    assert_eq!(cli.json(&["cluster", "quorum"])["leader"], node["id"]);
    let versions = cli.json(&["cluster", "api-versions"]);
    let apis = &versions["brokers"][0]["apis"];
    assert!(column(apis, "name").contains(&&json!("Fetch")), "{apis}");

    let of_all = ["cluster", "config"];
    cli.done(&[&of_all[..], &["set", "log.retention.ms=-1"]].concat());
    let held = cli.refused(1, &[&of_all[..], &["set", "log.retention.ms=1000"]].concat());
    assert!(held.contains("--execute does it"), "{held}");
    let set = cli.json(&[&of_all[..], &["get"]].concat());
    assert_eq!(column(&set["configs"], "value"), ["-1"]);
    cli.done(&[&of_all[..], &["unset", "log.retention.ms", "--execute"]].concat());
    assert_eq!(cli.json(&[&of_all[..], &["get"]].concat())["configs"], json!([]));
    let id = node["id"].to_string();
    let own = cli.json(&["cluster", "config", "get", "--broker", &id, "--all"]);
    assert!(column(&own["configs"], "key").contains(&&json!("log.retention.ms")));
    let missing = cli.refused(1, &["cluster", "log-dirs", "--broker", "77"]);
    assert!(missing.contains("broker 77 is not there; the cluster has"), "{missing}");
}

#[test]
fn what_is_wrong_is_named_with_what_helps() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    commit(&mut wire, "billing", "orders", &[0]);
    let topic = cli.refused(1, &["topic", "describe", "ordesr"]);
    assert!(topic.contains("topic ordesr is not there; did you mean orders?"), "{topic}");
    let group = cli.refused(1, &["group", "describe", "biling"]);
    assert!(group.contains("group biling is not there; did you mean billing?"), "{group}");
    let name = cli.refused(1, &["topic", "create", "bad name"]);
    assert!(name.contains("INVALID_TOPIC_EXCEPTION: topic name \"bad name\""), "{name}");
    for wrong in [
        &["group", "reset-offsets", "billing", "--topic", "orders"][..],
        &["group", "reset-offsets", "billing", "--to-latest"],
        &["group", "reset-offsets", "--to-latest", "--topic", "orders"],
        &["group", "reset-offsets", "billing", "--topic", "orders", "--to-latest", "--to-earliest"],
        &["group", "reset-offsets", "billing", "--topic", "orders", "--by-duration", "1 day"],
        &["topic", "delete-records", "orders"],
        &["topic", "list", "--bootstrap-server", "nowhere"],
        &["topic", "list", "-X", "security.protocol=SASL_SSL"],
        &["topic", "list", "--command-config", "/not/there"],
        &["topic", "list", "--timeout", "soon"],
    ] {
        cli.refused(2, wrong);
    }
    let port = free_port();
    let nobody = cli.refused(1, &["topic", "list", "-b", &format!("127.0.0.1:{port}")]);
    assert!(nobody.contains(&format!("127.0.0.1:{port} refused the connection")), "{nobody}");
    assert!(!nobody.contains('\u{1b}'), "{nobody}");
}

#[test]
fn a_listener_with_tls_is_spoken_to_as_kafkas_client_properties_say() {
    let authority = Authority::new();
    let keystore = authority.issue("server", "IP:127.0.0.1");
    let options = Options::new()
        .set("listeners", "SSL://127.0.0.1:{port}")
        .set("listener.security.protocol.map", "SSL:SSL")
        .set("ssl.keystore.location", keystore.display());
    let broker = Broker::start_with(options);
    let cli = Cli::new(&broker.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.properties");
    let ca = authority.path("ca.pem");
    let properties = format!("security.protocol=SSL\nssl.truststore.location={}\n", ca.display());
    std::fs::write(&file, properties).unwrap();
    let config = ["--command-config", file.to_str().unwrap()];
    let list = cli.json(&[&["topic", "list"], &config[..]].concat());
    assert_eq!(list, json!({"topics": []}));
    let plain = cli.refused(1, &["topic", "list"]);
    assert!(plain.contains("TLS") && plain.contains("security protocol to SSL"), "{plain}");
    let unknown = cli.refused(1, &["topic", "list", "-X", "security.protocol=SSL"]);
    assert!(unknown.contains("127.0.0.1"), "{unknown}");
}

#[test]
fn shells_complete_what_is_there() {
    let cli = Cli::new("");
    for (shell, part) in
        [("bash", "_tidegate()"), ("zsh", "#compdef tidegate"), ("fish", "tidegate")]
    {
        let script = cli.done(&["completions", shell]).out;
        assert!(script.contains(part) && script.contains("reset-offsets"), "{shell}");
    }
    cli.refused(2, &["completions", "cmd"]);
}

//! `tidegate group` beside Kafka's own `ConsumerGroupCommand`, on a cluster of Tidegate and on one
//! of Apache Kafka: both plan the same, and each reads what the other exports.

use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use serde_json::{Value, json};
use tidegate::protocol::batch::BatchBuilder;

use super::bench::topic_name;
use super::jvm::Jvm;
use crate::clients::folder;
use crate::harness::cli::Cli;
use crate::harness::kafka::Kafka;
use crate::harness::{Broker, Options, Wire, until};

const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Timestamp of the first record: 2023-11-14T22:13:20Z.
const LONG_AGO: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

/// Every way to say where to, in the words of both.
const HOWS: &[&[&str]] = &[
    &["--to-earliest"],
    &["--to-latest"],
    &["--to-current"],
    &["--to-offset", "4"],
    &["--to-offset", "0"],
    &["--to-offset", "99"],
    &["--shift-by", "3"],
    &["--shift-by", "-1"],
    &["--shift-by", "-100"],
    &["--shift-by", "100"],
    &["--to-datetime", "2023-11-14T22:13:23.000"],
    &["--to-datetime", "2023-11-14T22:13:23.500Z"],
    &["--to-datetime", "2023-11-15T00:13:23.000+02:00"],
    &["--to-datetime", "2023-11-14T20:13:23.000-0200"],
    &["--to-datetime", "1970-01-01T00:00:00.000"],
    &["--to-datetime", "2999-01-01T00:00:00.000Z"],
    &["--by-duration", "PT1H"],
    &["--by-duration", "P1DT2H3M4.5S"],
    &["--by-duration", "PT0S"],
];

/// Which offsets, in the words of both: what says the groups, and what the partitions.
const WHICH: &[(&[&str], &[&str])] = &[
    (&["first"], &["--topic", "logged:0,1"]),
    (&["first"], &["--topic", "logged:1", "--topic", "beside"]),
    (&["first"], &["--all-topics"]),
    (&["first", "second"], &["--topic", "logged:0"]),
    (&["--all-groups"], &["--all-topics"]),
];

/// A cluster and both tools.
struct Pair<'a> {
    jvm: &'a mut Jvm,
    address: String,
    cli: Cli,
    scratch: tempfile::TempDir,
}

impl Pair<'_> {
    /// Runs Kafka's tool: its exit code and what it wrote.
    fn kafkas(&mut self, groups: &[&str], args: &[&str]) -> (i64, String) {
        let groups = groups.iter().flat_map(|group| match *group {
            "--all-groups" => vec!["--all-groups"],
            group => vec!["--group", group],
        });
        let address = self.address.clone();
        let all: Vec<&str> = ["--bootstrap-server", &address].into_iter().chain(groups).collect();
        let ended = self.jvm.run(TOOL, &[&all[..], args].concat(), "");
        (ended.code, ended.output + &ended.errors)
    }

    /// What Kafka's tool would do.
    fn kafkas_plan(&mut self, groups: &[&str], args: &[&str]) -> Vec<String> {
        let dry = [&["--reset-offsets", "--dry-run", "--export"], args].concat();
        plan(&self.kafkas(groups, &dry).1)
    }

    /// What ours would do.
    fn our_plan(&self, groups: &[&str], args: &[&str]) -> Vec<String> {
        let dry = [&["group", "reset-offsets", "--export"], groups, args].concat();
        plan(&self.cli.run(&dry).out)
    }

    fn file(&self, name: &str, lines: &[String]) -> String {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The lines of an exported plan; the tool writes warnings between them.
fn plan(output: &str) -> Vec<String> {
    let is_row = |line: &&str| {
        let fields: Vec<&str> = line.split(',').collect();
        let numbers = fields.iter().rev().take(2).all(|field| field.parse::<i64>().is_ok());
        (3..=4).contains(&fields.len()) && numbers
    };
    let mut rows: Vec<String> = output.lines().filter(is_row).map(str::to_owned).collect();
    rows.sort();
    rows
}

fn write(wire: &mut Wire, topic: &str, partition: i32, timestamps: &[i64]) {
    let mut batch = BatchBuilder::new();
    for time in timestamps {
        batch.append(*time, None, Some(b"value"), &[]);
    }
    let data =
        PartitionProduceData::default().with_index(partition).with_records(Some(batch.build()));
    let topic =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let response = wire.call(9, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Topics with records of long ago, of ten minutes ago and none, and two groups.
fn fill(pair: &Pair<'_>, wire: &mut Wire) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let times = |first: i64| (0..5).map(|at| first + at * 1000).collect::<Vec<i64>>();
    pair.cli.create_topic("logged", &["-p", "3", "-c", "retention.ms=-1"]);
    pair.cli.create_topic("beside", &["-p", "1"]);
    write(wire, "logged", 0, &times(LONG_AGO));
    write(wire, "logged", 0, &times(now - 10 * MINUTE));
    write(wire, "logged", 1, &[now - 10 * MINUTE; 3]);
    write(wire, "beside", 0, &[now; 3]);
    for (group, place, offset) in
        [("first", "logged:0,1", "2"), ("first", "beside", "1"), ("second", "logged:0", "8")]
    {
        let moved = ["--topic", place, "--to-offset", offset, "--execute"];
        pair.cli.done(&[&["group", "reset-offsets", group], &moved[..]].concat());
    }
}

fn plans_are_the_same(pair: &mut Pair<'_>) {
    for (groups, places) in WHICH {
        for how in HOWS {
            let args = [*places, *how].concat();
            let expected = pair.kafkas_plan(groups, &args);
            assert_eq!(pair.our_plan(groups, &args), expected, "{groups:?} {args:?}");
            assert!(!expected.is_empty(), "{groups:?} {args:?}");
        }
    }
    // A partition of which nothing is committed cannot be shifted, and has no current offset.
    let shift = ["--topic", "logged", "--shift-by", "1"];
    assert_eq!(pair.kafkas(&["first"], &[&["--reset-offsets"], &shift[..]].concat()).0, 1);
    pair.cli.refused(1, &[&["group", "reset-offsets", "first"], &shift[..]].concat());
    for how in HOWS.iter().filter(|how| how[0] != "--shift-by") {
        let args = [&["--topic", "logged"], *how].concat();
        assert_eq!(
            pair.our_plan(&["first"], &args),
            pair.kafkas_plan(&["first"], &args),
            "{how:?}"
        );
    }
}

/// Each reads the other's file, for one group and for several.
fn plans_are_read_by_the_other(pair: &mut Pair<'_>) {
    for groups in [&["first"][..], &["first", "second"]] {
        let args = ["--topic", "logged:0,1", "--to-offset", "1"];
        let (theirs, ours) = (pair.kafkas_plan(groups, &args), pair.our_plan(groups, &args));
        let (theirs, ours) = (pair.file("theirs.csv", &theirs), pair.file("ours.csv", &ours));
        let read = pair.our_plan(groups, &["--from-file", &theirs]);
        assert_eq!(read, pair.kafkas_plan(groups, &["--from-file", &ours]));
        assert_eq!(read.len(), 2 * groups.len());
    }
}

fn what_is_executed_is_seen_by_the_other(pair: &mut Pair<'_>) {
    let execute = ["--all-topics", "--to-earliest", "--execute"];
    pair.cli.done(&[&["group", "reset-offsets", "second"], &execute[..]].concat());
    let (_, described) = pair.kafkas(&["second"], &["--describe"]);
    let words: Vec<&str> = super::bench::words(&described, "second ");
    assert_eq!(words[1..6], ["logged", "0", "0", "10", "10"], "{described}");
    pair.kafkas(
        &["second"],
        &["--reset-offsets", "--topic", "logged:0", "--to-latest", "--execute"],
    );
    let ours = pair.cli.json(&["group", "describe", "second"]);
    let row = &ours["groups"][0]["offsets"][0];
    assert_eq!((&row["committed_offset"], &row["lag"]), (&json!(10), &json!(0)));
    pair.cli.done(&["group", "delete-offsets", "second", "--topic", "logged:0", "--execute"]);
    pair.cli.done(&["group", "delete", "first", "--execute"]);
    let (_, listed) = pair.kafkas(&[], &["--list"]);
    assert!(!listed.contains("first"), "{listed}");
}

/// A consumer of Kafka's in a group of the protocol that is asked for. Killed when dropped.
struct Consumer(Child);

impl Consumer {
    fn start(address: &str, group: &str, protocol: &str) -> Self {
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(format!("{}/java/*", folder().display()));
        command.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", address, "--topic", "logged", "--group", group]);
        command.args(["--command-property", &format!("group.protocol={protocol}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn members_are_seen(pair: &Pair<'_>, protocol: &str) {
    let group = format!("of-{protocol}");
    let _consumer = Consumer::start(&pair.address, &group, protocol);
    let describe = ["group", "describe", &group, "--format", "json"];
    let described = until("the consumer has its partitions", || {
        let ran = pair.cli.run(&describe);
        let told: Value = serde_json::from_str(&ran.out).ok()?;
        let has_all = told["groups"][0]["members"][0]["assignment"] == json!({"logged": [0, 1, 2]});
        (has_all && told["groups"][0]["state"] == "Stable").then_some(told)
    });
    assert_eq!(described["groups"][0]["type"], protocol);
    let refused = ["group", "reset-offsets", &group, "--topic", "logged", "--to-latest"];
    assert!(pair.cli.refused(1, &refused).contains("stop its consumers first"));
}

/// What the other commands do on Apache Kafka as on Tidegate.
fn the_rest_works(pair: &Pair<'_>) {
    let cli = &pair.cli;
    let set = ["topic", "config", "set", "beside", "max.message.bytes=7000"];
    cli.done(&set);
    let held = cli.refused(1, &["topic", "config", "set", "beside", "retention.ms=1000"]);
    assert!(held.contains("--execute does it"), "{held}");
    // Apache Kafka's brokers know of a change some time after its controller has said so.
    let describes = |wanted: &dyn Fn(&Value) -> bool| {
        until("the change is described", || {
            let told = cli.json(&["topic", "describe", "beside"])["topics"][0].take();
            wanted(&told).then_some(told)
        })
    };
    let changed = json!({"max.message.bytes": "7000"});
    let beside = describes(&|beside| beside["configs"] == changed);
    assert_eq!(beside["partitions"][0]["end_offset"], 3);
    assert!(beside["partitions"][0]["size_bytes"].as_i64().unwrap() > 0, "{beside}");
    cli.done(&["topic", "config", "unset", "beside", "max.message.bytes"]);
    cli.done(&["topic", "alter", "beside", "--partitions", "2"]);
    cli.done(&["topic", "delete-records", "beside:0", "--to-offset", "2", "--execute"]);
    describes(&|beside| {
        let partitions = beside["partitions"].as_array().unwrap();
        let is_changed = beside["configs"] == json!({}) && partitions.len() == 2;
        is_changed && partitions[0]["start_offset"] == 2
    });
    let cluster = cli.json(&["cluster", "describe"]);
    let id = cluster["nodes"][0]["id"].to_string();
    cli.done(&["cluster", "config", "set", "log.retention.ms=-1"]);
    until("the cluster's change is described", || {
        let config = cli.json(&["cluster", "config", "get"]);
        (config["configs"][0]["value"] == "-1").then_some(())
    });
    let own = cli.json(&["cluster", "config", "get", "--broker", &id, "log.retention.ms"]);
    assert_eq!(own["configs"][0]["source"], "all brokers", "{own}");
    cli.done(&["cluster", "config", "unset", "log.retention.ms", "--execute"]);
    assert_eq!(cli.json(&["cluster", "quorum"])["nodes"][0]["voter"], true);
    let dirs = cli.json(&["cluster", "log-dirs", "--broker", &id, "--topic", "logged"]);
    assert_eq!(dirs["log_dirs"][0]["partitions"].as_array().unwrap().len(), 3);
    let versions = cli.json(&["cluster", "api-versions"]);
    assert!(versions["brokers"][0]["apis"].as_array().unwrap().len() > 30, "{versions}");
    cli.done(&["topic", "delete", "beside", "--execute"]);
}

fn compare(jvm: &mut Jvm, address: &str) {
    let (cli, scratch) = (Cli::new(address), tempfile::tempdir().unwrap());
    let mut pair = Pair { jvm, address: address.to_owned(), cli, scratch };
    fill(&pair, &mut Wire::connect(address));
    plans_are_the_same(&mut pair);
    plans_are_read_by_the_other(&mut pair);
    what_is_executed_is_seen_by_the_other(&mut pair);
    members_are_seen(&pair, "classic");
    the_rest_works(&pair);
}

#[test]
fn resets_are_those_of_kafkas_tool_on_a_broker_of_ours() {
    let options = Options::new()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("offsets.topic.num.partitions", 4);
    let broker = Broker::start_with(options);
    compare(&mut Jvm::start(), &broker.address());
}

#[test]
fn resets_are_those_of_kafkas_tool_on_apache_kafka() {
    let settings =
        [("group.initial.rebalance.delay.ms", "0"), ("offsets.topic.num.partitions", "4")];
    let kafka = Kafka::start(&settings);
    let mut jvm = Jvm::start();
    compare(&mut jvm, &kafka.address());
    let (cli, scratch) = (Cli::new(&kafka.address()), tempfile::tempdir().unwrap());
    let pair = Pair { jvm: &mut jvm, address: kafka.address(), cli, scratch };
    // Tidegate has no such groups yet.
    members_are_seen(&pair, "consumer");
}

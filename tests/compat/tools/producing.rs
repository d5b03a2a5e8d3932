//! `tidegate produce` as others read it: kcat on Apache Kafka and on a broker of ours, and nodes of
//! Apache Kafka that die while it writes.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::cli::Cli;
use crate::harness::kafka::{Kafka, KafkaOptions};
use crate::harness::{Broker, Options, until};

const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

/// What kcat prints; it must end well.
fn kcat(address: &str, args: &[&str]) -> String {
    let output = Command::new("kcat")
        .args(["-b", address])
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "kcat {args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every record of a topic, as kcat's objects.
fn read(address: &str, topic: &str) -> Vec<Value> {
    let printed = kcat(address, &["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"]);
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn compare(address: &str) {
    let (cli, folder) = (Cli::new(address), tempfile::tempdir().unwrap());
    let path = folder.path().join("lines");
    let path = path.to_str().unwrap();
    let lines: Vec<String> = (0..500).map(|at| format!("key-{}:value {at}", at % 40)).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
    cli.create_topic("of-kcat", &["-p", "7"]);
    // Without idempotence librdkafka has several batches of a partition under way: a new topic's
    // leader that refuses the first and takes the second has them the other way round.
    let like = ["-X", "topic.partitioner=murmur2_random", "-X", "enable.idempotence=true"];
    kcat(address, &[&["-P", "-t", "of-kcat", "-K:", "-l", path], &like[..]].concat());
    // Key by key the same values in the same partitions in the same order.
    let contents = |topic: &str| {
        let mut found = read(address, topic);
        found.sort_by_key(|it| (it["partition"].as_i64(), it["offset"].as_i64()));
        let of = |it: &Value| json!([it["partition"], it["offset"], it["key"], it["payload"]]);
        found.iter().map(of).collect::<Vec<Value>>()
    };
    let expected = contents("of-kcat");
    assert_eq!(expected.len(), lines.len());
    for codec in CODECS {
        let topic = format!("of-ours-{codec}");
        cli.create_topic(&topic, &["-p", "7"]);
        let flags = ["-K:", "-H", "h=1", "-H", "h=2", "--timestamp", "@1700000000000"];
        cli.done(&[&["produce", &topic, path, "--compression", codec], &flags[..]].concat());
        assert_eq!(contents(&topic), expected, "{codec}");
        for record in read(address, &topic) {
            assert_eq!(record["headers"], json!(["h", "1", "h", "2"]));
            assert_eq!(record["ts"], 1_700_000_000_000_i64);
        }
    }
    cli.create_topic("nothing", &["-p", "1", "-c", "max.message.bytes=1000"]);
    std::fs::write(path, format!("a\n{}\nb\n", "x".repeat(3000))).unwrap();
    let refused = cli.refused(1, &["produce", "nothing", path]);
    assert!(refused.contains("line 2: ") && refused.contains("MESSAGE_TOO_LARGE"), "{refused}");
    let found = read(address, "nothing");
    let values: Vec<&Value> = found.iter().map(|it| &it["payload"]).collect();
    assert_eq!(values, ["a", "b"]);
}

#[test]
fn kcat_reads_what_is_produced_to_apache_kafka() {
    let settings = [("log.retention.ms", "-1")];
    compare(&Kafka::start(&settings).address());
}

#[test]
fn kcat_reads_what_is_produced_to_a_broker_of_ours() {
    let options = Options::new().set("log.retention.ms", -1);
    compare(&Broker::start_with(options).address());
}

#[test]
fn leaders_of_apache_kafka_die_and_every_record_is_there_once() {
    const LINES: usize = 300_000;
    let mut kafka = Kafka::start_with(KafkaOptions::new().nodes(3));
    let address = kafka.bootstrap();
    let cli = Cli::new(&address);
    cli.create_topic("survives", &["-p", "6", "-r", "3", "-c", "min.insync.replicas=2"]);
    let mut producing = Command::new(Options::new().binary)
        .args(["produce", "survives", "-b", &address])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = producing.stdin.take().unwrap();
    let mut give = |lines: Range<usize>| {
        let text: String =
            lines.flat_map(|at| ["line ".to_owned(), at.to_string(), "\n".to_owned()]).collect();
        input.write_all(text.as_bytes()).unwrap();
    };
    let written = || {
        let described = cli.json(&["topic", "describe", "survives"]);
        let partitions = described["topics"][0]["partitions"].as_array().unwrap().clone();
        partitions.iter().filter_map(|it| it["end_offset"].as_i64()).sum::<i64>()
    };
    give(0..LINES / 2);
    until("something is written", || (written() > 0).then_some(()));
    let first = *kafka.ids().start();
    kafka.kill_node(first);
    give(LINES / 2..LINES);
    drop(input);
    kafka.start_node(first);
    let ended = producing.wait().unwrap();
    assert!(ended.success(), "{ended}");
    kafka.wait_until_in_sync();
    let read = kcat(&address, &["-C", "-t", "survives", "-o", "beginning", "-e", "-q"]);
    let found: Vec<&str> = read.lines().collect();
    let unique: BTreeSet<&str> = found.iter().copied().collect();
    assert_eq!((found.len(), unique.len()), (LINES, LINES));
}

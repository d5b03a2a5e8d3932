//! Tools for topics and what is in them.

use serde_json::{Value, json};

use super::bench::{Bench, words};
use crate::judge::end_offset;

const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// `TopicCommand`.
pub fn topics(bench: &mut Bench<'_>) {
    const TOOL: &str = "TopicCommand";
    let create = ["--create", "--topic", "made", "--partitions", "3"];
    let settings = ["--replication-factor", "3", "--config", "retention.ms=60000"];
    let said = bench.run(TOOL, &[&create[..], &settings].concat());
    assert_eq!(said, "Created topic made.\n");
    assert_eq!(bench.partition_count("made"), Some(3));
    let again = bench.refused(TOOL, &create);
    assert!(again.contains("already exists"), "{again}");
    bench.run(TOOL, &[&create[..], &["--if-not-exists"]].concat());
    let bad = bench.refused(TOOL, &["--create", "--topic", "a!"]);
    assert!(bad.contains("InvalidTopicException"), "{bad}");
    bench.run(TOOL, &["--create", "--topic", "other"]);
    assert_eq!(bench.run(TOOL, &["--list"]), "made\nother\n");

    let described = bench.run(TOOL, &["--describe", "--topic", "made"]);
    let head = words(&described, "PartitionCount");
    let count = head.iter().position(|word| *word == "PartitionCount:").unwrap();
    assert_eq!(head[count + 1], "3", "{described}");
    // Kafka's tool counts replicas, of which there is one whatever the factor is (DESIGN D13).
    assert_eq!(&head[count + 2..count + 4], ["ReplicationFactor:", "1"], "{described}");
    assert!(described.contains("retention.ms=60000"), "{described}");
    let partition = words(&described, "Partition: 2");
    assert_eq!(partition[4..10], ["Leader:", "1", "Replicas:", "1", "Isr:", "1"], "{described}");
    for filter in
        ["--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"]
    {
        assert_eq!(bench.run(TOOL, &["--describe", filter]), "", "{filter}");
    }
    let overridden = bench.run(TOOL, &["--describe", "--topics-with-overrides"]);
    assert!(overridden.contains("Topic: made") && !overridden.contains("other"), "{overridden}");
    let unknown = bench.refused(TOOL, &["--describe", "--topic", "none"]);
    assert!(unknown.contains("Topic 'none' does not exist as expected"), "{unknown}");

    bench.run(TOOL, &["--alter", "--topic", "made", "--partitions", "5"]);
    assert_eq!(bench.partition_count("made"), Some(5));
    let fewer = bench.refused(TOOL, &["--alter", "--topic", "made", "--partitions", "2"]);
    assert!(fewer.contains("InvalidPartitionsException"), "{fewer}");
    bench.run(TOOL, &["--delete", "--topic", "made"]);
    assert_eq!(bench.run(TOOL, &["--list"]), "other\n");
    assert_eq!(bench.partition_count("made"), None);
}

/// `ConfigCommand`.
pub fn configs(bench: &mut Bench<'_>) {
    bench.create("kept", 1);
    let topic = ["--entity-type", "topics", "--entity-name", "kept"];
    let alter = |bench: &mut Bench<'_>, what: &[&str]| {
        bench.run(CONFIGS, &[&topic, &["--alter"][..], what].concat())
    };
    let describe =
        |bench: &mut Bench<'_>| bench.run(CONFIGS, &[&topic[..], &["--describe"]].concat());
    let before = describe(bench);
    assert_eq!(before, "Dynamic configs for topic kept are:\n");
    let said = alter(bench, &["--add-config", "retention.ms=86400000,max.message.bytes=70"]);
    assert_eq!(said, "Completed updating config for topic kept.\n");
    let described = describe(bench);
    assert_eq!(words(&described, "retention.ms")[0], "retention.ms=86400000", "{described}");
    let record = "v".repeat(100);
    let refused = bench.console_produce(&["--topic", "kept"], &format!("{record}\n"));
    assert!(refused.errors.contains("RecordTooLargeException"), "{refused:?}");
    alter(bench, &["--delete-config", "max.message.bytes"]);
    bench.console_produce(&["--topic", "kept"], &format!("{record}\n"));
    assert_eq!(end_offset(&mut bench.wire, "kept", 0), 1);
    assert!(!describe(bench).contains("max.message.bytes"));
    alter(bench, &["--add-config", "cleanup.policy=[compact,delete]"]);
    assert!(describe(bench).contains("cleanup.policy=compact,delete"));
    let bad = [&topic[..], &["--alter", "--add-config", "no.such.key=1"]].concat();
    let refused = bench.refused(CONFIGS, &bad);
    assert!(refused.contains("InvalidConfigurationException"), "{refused}");

    let broker = ["--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"];
    let all = bench.run(CONFIGS, &broker);
    assert_eq!(words(&all, "  num.partitions=")[0], "num.partitions=1", "{all}");
    let metrics = bench.run(CONFIGS, &["--entity-type", "client-metrics", "--describe"]);
    assert_eq!(metrics, "", "nobody asks for clients' metrics");
}

/// `GetOffsetShell`.
pub fn offsets(bench: &mut Bench<'_>) {
    const TOOL: &str = "GetOffsetShell";
    bench.create("timed", 2);
    bench.create("beside", 1);
    bench.write("timed", 0, &[1_000, 2_000, 9_000, 4_000]);
    bench.write("beside", 0, &[1_000]);
    assert_eq!(bench.run(TOOL, &["--topic", "timed"]), "timed:0:4\ntimed:1:0\n");
    for (time, first, second) in [
        ("latest", "4", Some("0")),
        ("-1", "4", Some("0")),
        ("earliest", "0", Some("0")),
        ("earliest-local", "0", Some("0")),
        ("max-timestamp", "2", None),
        ("1500", "1", None),
        ("9001", "", None),
    ] {
        let second = second.map_or(String::new(), |offset| format!("timed:1:{offset}\n"));
        let first = if first.is_empty() { String::new() } else { format!("timed:0:{first}\n") };
        let said = bench.run(TOOL, &["--topic", "timed", "--time", time]);
        assert_eq!(said, first + &second, "--time {time}");
    }
    let some = bench.run(TOOL, &["--topic-partitions", "beside,timed:0-1"]);
    assert_eq!(some, "beside:0:1\ntimed:0:4\n");
    let one = bench.run(TOOL, &["--topic", "timed", "--partitions", "1"]);
    assert_eq!(one, "timed:1:0\n");
}

/// `DeleteRecordsCommand`.
pub fn delete_records(bench: &mut Bench<'_>) {
    const TOOL: &str = "DeleteRecordsCommand";
    bench.create("cut", 2);
    bench.write("cut", 0, &[1; 6]);
    bench.write("cut", 1, &[1; 3]);
    let file = |bench: &Bench<'_>, parts: &[(i32, i64)]| {
        let part = |(partition, offset): &(i32, i64)| json!({"topic": "cut", "partition": partition, "offset": offset});
        let parts: Vec<Value> = parts.iter().map(part).collect();
        bench.file("cut.json", &json!({"partitions": parts, "version": 1}).to_string())
    };
    let path = file(bench, &[(0, 4), (1, -1)]);
    let said = bench.run(TOOL, &["--offset-json-file", &path]);
    assert_eq!(words(&said, "cut-0"), ["partition:", "cut-0", "low_watermark:", "4"], "{said}");
    assert_eq!(words(&said, "cut-1"), ["partition:", "cut-1", "low_watermark:", "3"], "{said}");
    assert_eq!((bench.log_start("cut", 0), bench.log_start("cut", 1)), (4, 3));
    let path = file(bench, &[(0, 7)]);
    let said = bench.run(TOOL, &["--offset-json-file", &path]);
    assert!(said.contains("OffsetOutOfRangeException"), "{said}");
    assert_eq!(bench.log_start("cut", 0), 4);
}

/// `LogDirsCommand`.
pub fn log_dirs(bench: &mut Bench<'_>) {
    bench.create("sized", 2);
    bench.create("unasked", 1);
    let size = bench.write("sized", 0, &[1, 2, 3]) + bench.write("sized", 0, &[4]);
    let said = bench.run("LogDirsCommand", &["--describe", "--topic-list", "sized"]);
    let answer = said.lines().last().unwrap();
    let answer: Value = serde_json::from_str(answer).unwrap();
    let broker = &answer["brokers"][0];
    assert_eq!(broker["broker"], 1);
    let directory = &broker["logDirs"][0];
    assert_eq!(directory["error"], Value::Null);
    assert_eq!(directory["logDir"].as_str(), bench.broker.data_dir().to_str());
    let sizes: Vec<(&str, u64)> = directory["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| (at["partition"].as_str().unwrap(), at["size"].as_u64().unwrap()))
        .collect();
    assert_eq!(sizes.len(), 2, "{said}");
    assert!(sizes.contains(&("sized-0", size as u64)) && sizes.contains(&("sized-1", 0)), "{said}");
}

//! Tools that write and read records.

use serde_json::Value;

use super::bench::{Bench, words};
use crate::clients::kafka_tool;
use crate::harness::cli::Cli;
use crate::harness::{Broker, Options, until};
use crate::judge::{committed_offsets, end_offset, read_partition};

const CONSOLE_CONSUMER: &str = "consumer.ConsoleConsumer";

/// `ConsoleProducer`.
pub fn console_producer(bench: &mut Bench<'_>) {
    bench.create("typed", 1);
    let ended = bench.console_produce(&["--topic", "typed"], "one\ntwo\n");
    assert_eq!((ended.code, &ended.errors[..]), (0, ""), "{ended:?}");
    let parsed = ["--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"];
    let args = [&["--topic", "typed", "--compression-codec", "zstd"], &parsed[..]].concat();
    let ended = bench.console_produce(&args, "h:1,h:2\tkey\tthree\n");
    assert_eq!((ended.code, &ended.errors[..]), (0, ""), "{ended:?}");
    assert_eq!(read_partition(&mut bench.wire, "typed", 0), ["one", "two", "three"]);
    let read = bench.run(
        CONSOLE_CONSUMER,
        &[
            "--topic",
            "typed",
            "--partition",
            "0",
            "--offset",
            "2",
            "--max-messages",
            "1",
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "print.headers=true",
        ],
    );
    assert_eq!(read, "h:1,h:2\tkey\tthree\n");
    let null = ["--reader-property", "null.marker=NULL"];
    let args = [&["--topic", "typed"], &parsed[..2], &null].concat();
    assert_eq!(bench.console_produce(&args, "key\tNULL\n").code, 0);
    assert_eq!(read_partition(&mut bench.wire, "typed", 0).len(), 4);
}

/// `ConsoleConsumer`.
pub fn console_consumer(bench: &mut Bench<'_>) {
    bench.create("shown", 2);
    bench.write("shown", 0, &[1_000, 2_000, 3_000]);
    bench.write("shown", 1, &[4_000]);
    let group = ["--topic", "shown", "--group", "screen", "--from-beginning"];
    let read = bench.run(CONSOLE_CONSUMER, &[&group[..], &["--max-messages", "4"]].concat());
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "0", "1", "2"]);
    assert_eq!(committed_offsets(&mut bench.wire, "screen", "shown", 2), [3, 1]);
    bench.write("shown", 1, &[5_000, 6_000]);
    let read = bench.run(CONSOLE_CONSUMER, &[&group[..], &["--max-messages", "2"]].concat());
    assert_eq!(read, "0\n1\n", "the group goes on where it stopped");
    assert_eq!(committed_offsets(&mut bench.wire, "screen", "shown", 2), [3, 3]);

    let part = ["--topic", "shown", "--partition", "0", "--max-messages", "1"];
    let shown = ["print.offset=true", "print.partition=true", "print.timestamp=true"];
    let formats: Vec<&str> =
        shown.iter().flat_map(|property| ["--formatter-property", property]).collect();
    let at = [&part[..], &["--offset", "1"], &formats].concat();
    let read = bench.run(CONSOLE_CONSUMER, &at);
    assert_eq!(read, "CreateTime:2000\tPartition:0\tOffset:1\t1\n");
    let earliest = [&part[..], &["--offset", "earliest", "--isolation-level", "read_committed"]];
    assert_eq!(bench.run(CONSOLE_CONSUMER, &earliest.concat()), "0\n");
}

/// The lines of a tool that speaks JSON, by their `name`.
fn events(output: &str, name: &str) -> Vec<Value> {
    let lines = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|event| event["name"] == name).collect()
}

/// `VerifiableProducer`, which tells what became of its records when its process ends.
pub fn verifiable_producer(bench: &mut Bench<'_>) {
    bench.create("verified", 1);
    let mut command = kafka_tool("org.apache.kafka.tools.VerifiableProducer");
    command.args(["--bootstrap-server", &bench.broker.address(), "--topic", "verified"]);
    let output = command.args(["--max-messages", "50", "--acks", "-1"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let sent = events(&said, "producer_send_success");
    assert_eq!((sent.len(), end_offset(&mut bench.wire, "verified", 0)), (50, 50), "{said}");
    let values = read_partition(&mut bench.wire, "verified", 0);
    for event in sent {
        let offset = event["offset"].as_u64().unwrap() as usize;
        assert_eq!(Some(&*values[offset]), event["value"].as_str().map(str::as_bytes));
    }
    let total = &events(&said, "tool_data")[0];
    assert_eq!((&total["sent"], &total["acked"]), (&50.into(), &50.into()));
}

/// `VerifiableConsumer`.
pub fn verifiable_consumer(bench: &mut Bench<'_>) {
    bench.create("verified", 1);
    bench.write("verified", 0, &[1; 50]);
    let args = ["--topic", "verified", "--group-id", "judges", "--reset-policy", "earliest"];
    let args = [&args[..], &["--max-messages", "50"]].concat();
    let said = bench.run("VerifiableConsumer", &args);
    let assigned = &events(&said, "partitions_assigned")[0]["partitions"];
    assert_eq!(assigned, &serde_json::json!([{"topic": "verified", "partition": 0}]));
    let consumed = events(&said, "records_consumed");
    let count: u64 = consumed.iter().map(|event| event["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 50, "{said}");
    let committed = events(&said, "offsets_committed");
    let last = committed.last().expect("commits");
    assert_eq!((&last["success"], &last["offsets"][0]["offset"]), (&true.into(), &50.into()));
    assert_eq!(committed_offsets(&mut bench.wire, "judges", "verified", 1), [50]);
}

/// `ProducerPerformance`.
pub fn producer_performance(bench: &mut Bench<'_>) {
    bench.create("weighed", 1);
    let args = ["--topic", "weighed", "--num-records", "2000", "--record-size", "100"];
    let said = bench.run("ProducerPerformance", &[&args[..], &["--throughput", "-1"]].concat());
    assert!(said.lines().any(|line| line.starts_with("2000 records sent, ")), "{said}");
    assert_eq!(end_offset(&mut bench.wire, "weighed", 0), 2000);
    let values = read_partition(&mut bench.wire, "weighed", 0);
    assert!(values.iter().all(|value| value.len() == 100));
}

/// `ConsumerPerformance`.
pub fn consumer_performance(bench: &mut Bench<'_>) {
    bench.create("weighed", 1);
    bench.write("weighed", 0, &[1; 2000]);
    let args = ["--topic", "weighed", "--num-records", "2000", "--group", "scales"];
    let said = bench.run("ConsumerPerformance", &[&args[..], &["--timeout", "120000"]].concat());
    // start, end, MB, MB/s, records, records/s, …
    let row: Vec<&str> = said.lines().nth(1).unwrap().split(", ").collect();
    assert_eq!(row[4], "2000", "{said}");
    assert_eq!(committed_offsets(&mut bench.wire, "scales", "weighed", 1), [2000]);
}

/// `EndToEndLatency`.
pub fn end_to_end_latency(bench: &mut Bench<'_>) {
    let args = ["--topic", "there", "--num-records", "200", "--producer-acks", "all"];
    let said = bench.run("EndToEndLatency", &[&args[..], &["--record-size", "50"]].concat());
    let average: f64 = words(&said, "Avg latency:")[2].parse().unwrap();
    assert!(average > 0.0, "{said}");
    assert!(words(&said, "Percentiles:").len() > 3, "{said}");
    assert_eq!(end_offset(&mut bench.wire, "there", 0), 200);
}

/// `LogCompactionTester`: it writes each of 20,000 keys five times, a tenth as tombstones, waits, and
/// compares what it reads with what it wrote. How much the cleaner has done by then is not judged, but
/// that it does it.
pub fn log_compaction(bench: &mut Bench<'_>) {
    let options = Options::new()
        .set("tier.max.age.ms", 1_000)
        .set("log.cleaner.backoff.ms", 100)
        .set("log.cleaner.min.cleanable.ratio", 0);
    bench.broker = Broker::start_with(options);
    // The tool itself waits, in seconds, whatever its help says.
    let args = ["--messages", "100000", "--duplicates", "5", "--percent-deletes", "10"];
    let said = bench.run("LogCompactionTester", &[&args[..], &["--sleep", "15"]].concat());
    assert!(said.contains(", 0 mismatches."), "{said}");
    assert!(said.contains("Data verification is completed"), "{said}");
    let topics = bench.run("TopicCommand", &["--list"]);
    let topic = topics.lines().find(|name| name.starts_with("log-cleaner-test-")).expect("a topic");
    assert_eq!(end_offset(&mut bench.broker.connect(), topic, 0), 100_000);
    let cli = Cli::new(&bench.broker.address());
    until("at most half of the records are left", || {
        (cli.done(&["consume", topic]).out.lines().count() <= 50_000).then_some(())
    });
}

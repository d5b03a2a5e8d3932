//! Compacted topics of a size that matters, over a real S3 server: more keys than the memory has
//! room for, and load that goes on and on (issue 5, Must show 7). Keys are written and read by
//! franz-go.
//!
//! Short form: a million keys, and a few seconds of load. `TIDEGATE_LONG=1`: ten million keys, or as
//! many as `TIDEGATE_KEYS` says; an hour of load, or as many minutes as `TIDEGATE_MINUTES` says.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;
use serde_json::Value;

use crate::clients::{Client, franz_go};
use crate::harness::servers::Server;
use crate::harness::{Broker, Metrics, Options, Wire};
use crate::judge::{committed_offsets, end_offset, topic_name};

const MIB: u64 = 1 << 20;
const TOPIC: &str = "table";
/// A topic of one key.
const CANARY: &str = "canary";
const OFFSETS: &str = "__consumer_offsets";
const DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";

fn is_long() -> bool {
    std::env::var_os("TIDEGATE_LONG").is_some()
}

/// A number that the caller may set.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// Creates a compacted topic of one partition.
fn create(wire: &mut Wire, topic: &str) {
    let config = CreatableTopicConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(7, &request).topics[0].error_code, 0);
}

/// Has every dirty byte of a topic compacted.
fn compact_all(wire: &mut Wire, topic: &str) {
    let config =
        AlterableConfig::default().with_name(text(DIRTY_RATIO)).with_value(Some(text("0")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(wire.call(1, &request).responses[0].error_code, 0);
}

/// Writes every key once.
fn overwrite(broker: &Broker, topic: &str, keys: usize, round: u64) {
    let last = format!("{keys}:{round}");
    let (writer, _lines) = franz_go("overwrite", &broker.address(), topic, &last);
    assert_eq!(writer.wait(), Some(0), "the writer ends well");
}

/// How many passes ended well; the first begins the series.
fn passes(metrics: &Metrics) -> f64 {
    metrics.find("tidegate_broker_cleaner_passes_total{outcome=\"ok\"}").unwrap_or(0.0)
}

/// Waits until all that was written is clean: brought into the bucket, and compacted.
///
/// The canary makes sure that the cleaner looks again after that: a pass then ends, and the look
/// behind it says how many partitions are still to be compacted.
fn wait_until_clean(broker: &Broker, wire: &mut Wire) {
    let in_bucket = |broker: &Broker| broker.metric("tidegate_broker_tier_lag_bytes") == 0.0;
    broker.wait_until("the bucket has all of it", in_bucket);
    let before = passes(&broker.metrics());
    create(wire, CANARY);
    for topic in [TOPIC, CANARY] {
        compact_all(wire, topic);
    }
    overwrite(broker, CANARY, 1, 1);
    let is_clean = |broker: &Broker| {
        let metrics = broker.metrics();
        passes(&metrics) > before && metrics.get("tidegate_broker_cleaner_due_partitions") == 0.0
    };
    // All of it takes its time, but pass follows pass.
    while !is_clean(broker) {
        let known = passes(&broker.metrics());
        broker.wait_until("compaction goes on", |broker| {
            is_clean(broker) || passes(&broker.metrics()) > known
        });
    }
}

/// What a reader of the whole topic finds.
fn latest(broker: &Broker, keys: usize, end: i64) -> Value {
    let last = format!("{keys}:{end}");
    let (reader, mut lines) = franz_go("latest", &broker.address(), TOPIC, &last);
    let line = lines.next().expect("the reader says what it found").unwrap();
    assert_eq!(reader.wait(), Some(0), "the reader ends well");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn of_more_keys_than_fit_into_memory_a_reader_finds_one_record_each() {
    let short = if is_long() { 10_000_000 } else { 1_000_000 };
    let keys = variable("TIDEGATE_KEYS").map_or(short, |keys| keys as usize);
    // 512 MiB for ten million: a pass takes no more than one in sixteen.
    let budget = (keys as u64 * 512 * MIB / 10_000_000).clamp(128 * MIB, 2_048 * MIB);
    let again = keys / 10;
    let Some(server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    let (options, _folder) = Options::new()
        .set("memory.budget.bytes", budget)
        .set("tier.max.age.ms", 1_000)
        .set("log.cleaner.backoff.ms", 200)
        .on_disk();
    let mut broker = Broker::start_with(server.options("s3://bkt/prod", options));
    let mut wire = broker.connect();
    create(&mut wire, TOPIC);
    let idle = broker.resident();

    let begun = Instant::now();
    overwrite(&broker, TOPIC, keys, 1);
    overwrite(&broker, TOPIC, again, 2);
    println!("written: {:.1} s", begun.elapsed().as_secs_f64());
    let end = end_offset(&mut wire, TOPIC, 0);
    assert_eq!(end, (keys + again) as i64);
    let begun = Instant::now();
    wait_until_clean(&broker, &mut wire);
    let (seconds, passes) = (begun.elapsed().as_secs_f64(), passes(&broker.metrics()));
    println!("clean: {seconds:.1} s after, {passes} passes");
    // A key takes more than 24 bytes of the 32nd part of the budget that compaction has.
    let at_once = budget as f64 / 32.0 / 24.0;
    assert!(passes >= keys as f64 / at_once, "{passes} passes: no map had room for all keys");

    let begun = Instant::now();
    let found = latest(&broker, keys, end);
    println!("read: {:.1} s", begun.elapsed().as_secs_f64());
    let wanted = serde_json::json!({
        "records": keys,
        "keys": {"1": keys - again, "2": again},
        "strange": 0,
    });
    assert_eq!(found, wanted);
    let grown = broker.resident_max() - idle;
    println!("{grown} bytes above the idle process of {idle}, with a budget of {budget}");
    assert!(grown * 10 <= budget * 11, "{grown} bytes above the idle process");
    assert_eq!(broker.stop(), Some(0));
}

/// The bytes of each partition's log of a topic together.
fn log_bytes(wire: &mut Wire, topic: &str) -> u64 {
    let response = wire.call(4, &DescribeLogDirsRequest::default().with_topics(None));
    let topics = &response.results[0].topics;
    let topic = topics.iter().find(|it| it.name == topic_name(topic)).expect("the topic is there");
    topic.partitions.iter().map(|partition| partition.partition_size as u64).sum()
}

/// Looks at the sizes of [`TOPIC`] and [`OFFSETS`] under load, and at those that they come to when it
/// is over: no more than half of a log is dirty then.
fn assert_bounded(broker: &Broker, samples: &[Vec<u64>; 2], rounds: u64) {
    let appended = broker.metric("tidegate_partition_appended_bytes_total");
    println!("{rounds} rounds, {appended} bytes appended, {} passes", passes(&broker.metrics()));
    for ((samples, topic), quiet) in samples.iter().zip([TOPIC, OFFSETS]).zip(QUIET_BYTES) {
        let quarter = samples.len() / 4;
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        let early = most(&samples[quarter..2 * quarter]);
        let late = most(&samples[samples.len() - quarter..]);
        println!("{topic} had at most {early} bytes in the second quarter and {late} in the last");
        assert!(rounds < LONG_ROUNDS || late <= 2 * early, "it grows");
        broker.wait_until("the log is as small as its keys", |broker| {
            log_bytes(&mut broker.connect(), topic) <= quiet
        });
    }
}

/// The keys of [`TOPIC`] under load.
const KEYS: usize = 20_000;
/// What logs of so many keys, and of a few groups, may have when the load is over.
const QUIET_BYTES: [u64; 2] = [KEYS as u64 * 64, 8 << 10];
/// From so many rounds on the load has a pace, and figures that do not hang on chance.
const LONG_ROUNDS: u64 = 600;

/// Keys are written over and over, while groups read them and commit after every poll.
#[test]
fn under_load_that_goes_on_a_table_and_the_offsets_of_groups_stay_bounded() {
    const GROUPS: usize = 4;
    let rounds = match variable("TIDEGATE_MINUTES") {
        Some(minutes) => 60 * minutes,
        None if is_long() => 3_600,
        None => 100,
    };
    let Some(server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    let (options, _folder) = Options::new()
        .set("memory.budget.bytes", 128 * MIB)
        .set("wal.max.bytes", 128 * MIB)
        .set("tier.max.age.ms", 1_000)
        .set("log.cleaner.backoff.ms", 200)
        .set("offsets.topic.num.partitions", 2)
        .on_disk();
    let mut broker = Broker::start_with(server.options("s3://bkt/prod", options));
    let mut wire = broker.connect();
    create(&mut wire, TOPIC);
    let groups: Vec<String> = (0..GROUPS).map(|number| format!("readers-{number}")).collect();
    let mut readers = Vec::new();
    for group in &groups {
        let (reader, lines) = Client::FranzGo.consumer(&broker.address(), TOPIC, group);
        std::thread::spawn(|| lines.map_while(Result::ok).for_each(drop));
        readers.push(reader);
    }
    let mut samples = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let begun = Instant::now();
        overwrite(&broker, TOPIC, KEYS, round);
        for (samples, topic) in samples.iter_mut().zip([TOPIC, OFFSETS]) {
            samples.push(log_bytes(&mut wire, topic));
        }
        if rounds >= LONG_ROUNDS {
            // The pace of the long form, which waits for nothing.
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
    }
    let end = end_offset(&mut wire, TOPIC, 0);
    assert_eq!(end, (KEYS as u64 * rounds) as i64);
    for group in &groups {
        broker.wait_until("the group has read all of it", |broker| {
            committed_offsets(&mut broker.connect(), group, TOPIC, 1) == [end]
        });
    }
    drop(readers);
    assert_bounded(&broker, &samples, rounds);
    wait_until_clean(&broker, &mut wire);
    let wanted =
        serde_json::json!({"records": KEYS, "keys": {rounds.to_string(): KEYS}, "strange": 0});
    assert_eq!(latest(&broker, KEYS, end), wanted);
    broker.kill();
    broker.restart();
    assert_eq!(latest(&broker, KEYS, end), wanted);
    for group in &groups {
        // Its coordinator loads it on first use, and says so meanwhile.
        broker.wait_until("the group has what it committed", |broker| {
            committed_offsets(&mut broker.connect(), group, TOPIC, 1) == [end]
        });
    }
    assert_eq!(broker.stop(), Some(0));
}

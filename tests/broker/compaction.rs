//! Compacted topics as clients see them, and what each config of compaction does.

use bytes::Bytes;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidegate::protocol::batch::{BatchBuilder, BatchIter};

use crate::configs::set;
use crate::harness::bucket::Bucket;
use crate::harness::{Broker, Options, Wire};
use crate::requests::{FETCH, Fetch, NONE, fetched, produce, text, topic_name};
use crate::tiering::{EARLIEST, Log};

/// A broker that brings logs into the bucket and compacts them as soon as it can.
fn compacting() -> Broker {
    Broker::start_with(compacting_options())
}

fn compacting_options() -> Options {
    Options::new().set("tier.max.age.ms", 1_000).set("log.cleaner.backoff.ms", 20)
}

/// Nothing is too old.
const FOREVER: (&str, &str) = ("retention.ms", "-1");

/// Creates a topic of one partition that is compacted, if `configs` say nothing else.
fn create(wire: &mut Wire, topic: &str, configs: &[(&str, &str)]) {
    let config = |(key, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let mut all = configs.to_vec();
    if all.iter().all(|(key, _)| *key != "cleanup.policy") {
        all.push(("cleanup.policy", "compact"));
    }
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(all.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(7, &request).topics[0].error_code, NONE);
}

/// Appends one record; `None` is a tombstone.
fn append(wire: &mut Wire, topic: &str, key: &str, value: Option<&str>) {
    append_aged(wire, topic, key, value, 0);
}

/// Appends one record with a time that lies `age_ms` back.
fn append_aged(wire: &mut Wire, topic: &str, key: &str, value: Option<&str>, age_ms: i64) {
    let mut builder = BatchBuilder::new();
    let now_ms = std::time::SystemTime::now();
    let now_ms = now_ms.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    builder.append(now_ms - age_ms, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    assert_eq!(produce(wire, topic, builder.build()).0, NONE);
}

/// The records from the beginning to `end`, as `key=value`, a tombstone as `key`.
fn read(broker: &Broker, topic: &str, end: i64) -> Vec<String> {
    read_from(broker, topic, 0, end)
}

fn read_from(broker: &Broker, topic: &str, start: i64, end: i64) -> Vec<String> {
    let mut wire = broker.connect();
    let (mut next, mut found) = (start, Vec::new());
    while next < end {
        let fetch = Fetch { offset: next, min_bytes: 1, max_wait_ms: 500, max_bytes: 1 << 20 };
        let records: Bytes = fetched(wire.call(FETCH, &fetch.request(topic)));
        for batch in BatchIter::new(records).map(Result::unwrap) {
            batch.verify_crc().unwrap();
            let payload = batch.payload(1 << 20).unwrap();
            for record in batch.records(&payload).map(Result::unwrap) {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let value = record.value.map(|value| format!("={}", text(value)));
                found.push(text(record.key.unwrap()) + &value.unwrap_or_default());
            }
            next = batch.header().next_offset();
        }
    }
    found
}

#[test]
fn the_dirty_ratio_and_the_lags_decide_when_a_topic_is_compacted() {
    let broker = compacting();
    let mut wire = broker.connect();
    let all = ["ratio", "dirty", "forced", "young"];
    let ratio = |ratio| ("min.cleanable.dirty.ratio", ratio);
    create(&mut wire, "ratio", &[ratio("0.3")]);
    create(&mut wire, "dirty", &[ratio("1")]);
    create(&mut wire, "forced", &[ratio("1"), ("max.compaction.lag.ms", "1")]);
    create(&mut wire, "young", &[ratio("0"), ("min.compaction.lag.ms", "3600000")]);
    for value in ["1", "2", "3"] {
        for topic in all {
            append(&mut wire, topic, "k", Some(value));
        }
    }
    // Twice, so that the others were looked at in between.
    for (value, end) in [(3, 3), (4, 4)] {
        broker.wait_until("compaction", |broker| {
            ["ratio", "forced"]
                .iter()
                .all(|topic| read(broker, topic, end) == [format!("k={value}")])
        });
        if end == 3 {
            for topic in all {
                append(&mut wire, topic, "k", Some("4"));
            }
        }
    }
    for topic in ["dirty", "young"] {
        assert_eq!(read(&broker, topic, 4), ["k=1", "k=2", "k=3", "k=4"], "{topic}");
    }
}

#[test]
fn tombstones_stay_for_delete_retention_ms() {
    let broker = compacting();
    let mut wire = broker.connect();
    let ratio = ("min.cleanable.dirty.ratio", "0");
    create(&mut wire, "gone", &[ratio, ("delete.retention.ms", "0")]);
    create(&mut wire, "held", &[ratio]);
    let topics = ["gone", "held"];
    for topic in topics {
        append(&mut wire, topic, "k", Some("1"));
        append(&mut wire, topic, "k", None);
        append(&mut wire, topic, "x", Some("1"));
    }
    broker.wait_until("the pass that meets the tombstone", |broker| {
        // Another pass may have followed, of which no tombstone of "gone" is left.
        let gone = read(broker, "gone", 3);
        (gone == ["k", "x=1"] || gone == ["x=1"]) && read(broker, "held", 3) == ["k", "x=1"]
    });
    for topic in topics {
        append(&mut wire, topic, "x", Some("2"));
    }
    broker.wait_until("the pass behind its time", |broker| read(broker, "gone", 4) == ["x=2"]);
    broker.wait_until("a second pass", |broker| read(broker, "held", 4) == ["k", "x=2"]);
}

/// Of what is in the bucket, retention deletes what is too old, compacted or not; of what it leaves,
/// compaction keeps one record of each key. A topic that is compacted alone keeps all of its keys.
#[test]
fn topics_that_are_compacted_and_deleted_from_lose_what_is_old_and_what_is_obsolete() {
    const HOUR_MS: i64 = 3_600_000;
    let bucket = Bucket::start();
    let options = compacting_options().set("log.retention.check.interval.ms", 100);
    let mut broker = Broker::start_with(bucket.options(options));
    let mut wire = broker.connect();
    let ratio = ("min.cleanable.dirty.ratio", "0");
    let topics = ["both", "compacted"];
    create(&mut wire, "both", &[("cleanup.policy", "compact,delete"), ratio, FOREVER]);
    create(&mut wire, "compacted", &[("cleanup.policy", "compact"), ratio, FOREVER]);
    for topic in topics {
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
            append_aged(&mut wire, topic, key, Some(value), 2 * HOUR_MS);
        }
    }
    broker.wait_until("compaction", |broker| {
        topics.iter().all(|topic| read(broker, topic, 3) == ["b=1", "a=2"])
    });

    for topic in topics {
        set(&mut wire, topic, "retention.ms", &HOUR_MS.to_string());
    }
    let start = |broker: &Broker, topic| first_offset(&mut broker.connect(), topic);
    broker.wait_until("retention", |broker| start(broker, "both") == 3);
    for topic in topics {
        for (key, value) in [("a", "3"), ("c", "1"), ("c", "2"), ("d", "1")] {
            append(&mut wire, topic, key, Some(value));
        }
    }
    let wanted = [vec!["a=3", "c=2", "d=1"], vec!["b=1", "a=3", "c=2", "d=1"]];
    let found = |broker: &Broker| {
        let starts = topics.map(|topic| start(broker, topic));
        [0, 1].map(|at| read_from(broker, topics[at], starts[at], 7))
    };
    broker.wait_until("compaction of what is left", |broker| found(broker) == wanted);
    let garbage = |broker: &Broker| broker.metric("tidegate_broker_garbage_objects");
    broker.wait_until("nobody needs the objects before", |broker| garbage(broker) >= 4.0);
    broker.kill();
    broker.restart();
    assert_eq!(found(&broker), wanted);
    assert_eq!(topics.map(|topic| start(&broker, topic)), [3, 0]);
}

/// The log start.
fn first_offset(wire: &mut Wire, topic: &str) -> i64 {
    Log::new(wire, topic, 0, 1).offset(wire, EARLIEST)
}

#[test]
fn what_is_compacted_is_the_same_after_a_kill() {
    let mut broker = compacting();
    let mut wire = broker.connect();
    create(&mut wire, "t", &[("min.cleanable.dirty.ratio", "0")]);
    for value in ["1", "2"] {
        for key in ["a", "b"] {
            append(&mut wire, "t", key, Some(value));
        }
    }
    broker.wait_until("compaction", |broker| read(broker, "t", 4) == ["a=2", "b=2"]);
    assert!(broker.metric("tidegate_broker_cleaner_passes_total{outcome=\"ok\"}") > 0.0);
    broker.kill();
    broker.restart();
    assert_eq!(read(&broker, "t", 4), ["a=2", "b=2"]);
}

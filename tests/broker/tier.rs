//! Logs that are much longer than the write-ahead log (issue 5): what is not on this machine any
//! more is read from the bucket, byte for byte.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteTopicsRequest};

use crate::harness::bucket::{Bucket, Class, Weather};
use crate::harness::{Broker, DELAYS, Wire};
use crate::requests::{FETCH, Fetch, KAFKA_STORAGE_ERROR, NONE, topic_name};
use crate::tiering::{
    BUDGET, EARLIEST, EARLIEST_LOCAL, KIB, Log, MIB, TIERED, WAL_MAX, assert_wal_is_bounded,
    create_topic_with, eager, wait_until_tiered,
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const BATCH: usize = 256 * KIB;

/// A log of `bytes` bytes in a topic of its own, written while the write-ahead log stays bounded.
fn written(broker: &Broker, topic: &str, bytes: u64, configs: &[(&str, &str)]) -> Log {
    let mut wire = broker.connect();
    create_topic_with(&mut wire, topic, 1, configs);
    let mut log = Log::new(&mut wire, topic, 0, BATCH);
    // Sixteen looks at the disk on the way.
    let count = (bytes / BATCH as u64) as i64;
    for _ in 0..16 {
        log.write_patiently(broker, &mut wire, count / 16);
        assert_wal_is_bounded(broker);
    }
    log
}

fn error_at(wire: &mut Wire, topic: &str, offset: i64) -> i16 {
    let fetch = Fetch { offset, min_bytes: 1, max_wait_ms: 5_000, max_bytes: 1 << 20 };
    let response = wire.call(FETCH, &fetch.request(topic));
    response.responses[0].partitions[0].error_code
}

#[test]
fn logs_of_three_times_the_write_ahead_log_are_read_back_byte_for_byte() {
    const SMALL: i32 = 8;
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(eager()));
    let idle = broker.resident();
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "big", 1, &[]);
    create_topic_with(&mut wire, "small", SMALL, &[]);
    let mut logs = vec![Log::new(&mut wire, "big", 0, BATCH)];
    logs.extend((0..SMALL).map(|partition| Log::new(&mut wire, "small", partition, 3 * KIB)));
    for _ in 0..12 {
        let (big, small) = logs.split_at_mut(1);
        big[0].write_patiently(&broker, &mut wire, (WAL_MAX / BATCH as u64 / 4) as i64);
        for log in small {
            log.write_patiently(&broker, &mut wire, 20);
        }
        assert_wal_is_bounded(&broker);
    }
    wait_until_tiered(&broker, &logs);
    assert_wal_is_bounded(&broker);
    let big = &logs[0];
    assert_eq!(big.offset(&mut wire, EARLIEST), 0);
    let most = big.end - (WAL_MAX / 2 / BATCH as u64) as i64 - 1;
    let mut local = 0;
    broker.wait_until("files are given back until the log is half full", |_| {
        local = big.offset(&mut wire, EARLIEST_LOCAL);
        local >= most
    });
    assert!(local <= big.end, "{local} is the first offset on this machine");

    let before = bucket.bytes(Class::Read, TIERED);
    for log in &logs {
        log.verify_all(&mut wire);
    }
    let read = bucket.bytes(Class::Read, TIERED) - before;
    assert!(read >= local as u64 * BATCH as u64, "{read} bytes came from the bucket");
    for log in &logs {
        log.verify_at_random(&mut wire, 7, 25);
    }
    for offset in [0, 1, big.end / 3, big.end / 2, local, big.end - 1] {
        assert_eq!(big.offset(&mut wire, big.time(offset)), offset);
        assert_eq!(big.offset(&mut wire, big.time(offset) - 1), offset);
    }
    assert_eq!(big.offset(&mut wire, big.time(big.end)), -1, "nothing is younger");
    let grown = broker.resident_max() - idle;
    println!("{grown} bytes above the idle process of {idle}");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes above the idle process");

    broker.kill();
    broker.restart();
    let mut wire = broker.connect();
    for log in &mut logs {
        log.write(&mut wire, 3);
        log.verify_at_random(&mut wire, 11, 10);
        log.verify(&mut wire, log.end - 5, log.end);
    }
    logs[0].verify_all(&mut wire);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn retention_deleted_records_and_deleted_topics_reach_what_is_in_the_bucket() {
    const KEPT: u64 = 64 * MIB;
    let bucket = Bucket::start();
    let options = eager().set("log.retention.check.interval.ms", 200);
    let mut broker = Broker::start_with(bucket.options(options));
    let kept = KEPT.to_string();
    let log = written(&broker, "a", 3 * WAL_MAX, &[("retention.bytes", &kept)]);
    let mut wire = broker.connect();
    let first = |wire: &mut Wire| log.offset(wire, EARLIEST);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    broker.wait_until("retention has removed records", |_| first(&mut wire) > 0);
    let start = first(&mut wire);
    let left = (log.end - start) as u64 * BATCH as u64;
    assert!(left >= KEPT - MIB, "{left} bytes are left");
    assert_eq!(error_at(&mut wire, "a", start - 1), OFFSET_OUT_OF_RANGE);
    log.verify(&mut wire, start, log.end);

    let local = log.offset(&mut wire, EARLIEST_LOCAL);
    let middle = i64::midpoint(start, local);
    assert!(start < middle && middle < local, "{middle} is in the bucket alone");
    let partition = DeleteRecordsPartition::default().with_offset(middle);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let deleted = wire.call(2, &request);
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, middle);
    for round in 0..2 {
        assert_eq!(first(&mut wire), middle);
        assert_eq!(error_at(&mut wire, "a", middle - 1), OFFSET_OUT_OF_RANGE);
        log.verify(&mut wire, middle, log.end);
        if round == 0 {
            broker.kill();
            broker.restart();
            wire = broker.connect();
        }
    }

    let topic = DeleteTopicState::default().with_name(Some(topic_name("a")));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(wire.call(6, &request).responses[0].error_code, NONE);
    let again = written(&broker, "a", WAL_MAX / 4, &[]);
    again.verify_all(&mut wire);
    broker.kill();
    broker.restart();
    again.verify_all(&mut broker.connect());
}

/// Wrong bytes are never served, and what is sound goes on being served.
#[test]
fn a_damaged_object_and_a_lost_one_are_errors_of_what_they_hold_alone() {
    let bucket = Bucket::start();
    let broker = Broker::start_with(bucket.options(eager()));
    // No object has more than the write-ahead log had, so that two of them are not all.
    let log = written(&broker, "a", 3 * WAL_MAX, &[]);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    let objects = bucket.objects(TIERED);
    assert!(objects.len() >= 3, "{objects:?}");
    let mut wire = broker.connect();
    let local = log.offset(&mut wire, EARLIEST_LOCAL);
    let read = |wire: &mut Wire, offset| match error_at(wire, "a", offset) {
        NONE => Some(log.verify_some(wire, offset)),
        KAFKA_STORAGE_ERROR => None,
        code => panic!("code {code} at {offset}"),
    };
    // Names follow the time in which they were given, but for the digits that spread them.
    let mut by_age = objects;
    by_age.sort_by_key(|(name, _)| name.rsplit('/').next().unwrap().to_owned());
    let [first, second] = [&by_age[0], &by_age[1]];
    bucket.damage(&first.0, first.1 / 2);
    bucket.remove(&second.0);
    let (mut sound, mut lost) = (Vec::new(), Vec::new());
    for offset in (0..local).step_by(2) {
        match read(&mut wire, offset) {
            Some(_) => sound.push(offset),
            None => lost.push(offset),
        }
    }
    println!("{} of {} places are lost", lost.len(), lost.len() + sound.len());
    assert_eq!(sound.first(), Some(&0), "the beginning of the damaged object is sound");
    assert!(!lost.is_empty() && sound.last() > lost.last(), "what is younger is sound");
    let most = first.1.max(second.1) / BATCH as u64;
    assert!(lost.len() as u64 <= most, "{} places are lost", lost.len());
    for outcome in ["corrupt", "missing"] {
        let loads = ["hot", "catch_up", "footers"].map(|cache| {
            let labels = format!("cache=\"{cache}\",outcome=\"{outcome}\"");
            broker.metrics().get(&format!("tidegate_tier_cache_loads_total{{{labels}}}"))
        });
        assert!(loads.iter().sum::<f64>() > 0.0, "{outcome} objects are counted");
    }
    assert_eq!(broker.admin("/livez").0, 200);
}

#[test]
fn a_bucket_that_forgets_answers_loses_nothing_and_repeats_nothing() {
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(eager()));
    bucket.set_weather(Weather::Lossy(5));
    let log = written(&broker, "a", WAL_MAX, &[]);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    log.verify_all(&mut broker.connect());
    broker.kill();
    broker.restart();
    log.verify_all(&mut broker.connect());
    bucket.set_weather(Weather::Fine);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn in_a_directory_logs_are_longer_than_the_write_ahead_log_too() {
    let broker = Broker::start_with(eager());
    let log = written(&broker, "a", 3 * WAL_MAX / 2, &[]);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    let mut wire = broker.connect();
    assert!(log.offset(&mut wire, EARLIEST_LOCAL) > 0);
    log.verify_all(&mut wire);
}

/// What is dropped goes, and nothing else; and who does nothing writes nothing.
#[test]
fn the_bucket_has_the_objects_that_are_referred_to_and_no_others() {
    let bucket = Bucket::start();
    let mut options = bucket.options(eager());
    // The one that Cargo built for this suite: only a debug build takes other times than minutes.
    options.binary = env!("CARGO_BIN_EXE_tidegate").into();
    let delays = "flush.look=10 flush.age=1 checkpoint.look=10 checkpoint=10 garbage.look=10 \
                  garbage.age=1 sweep.first=10 sweep=10";
    options.env.push((DELAYS.to_owned(), delays.to_owned()));
    let mut broker = Broker::start_with(options);
    let mut wire = broker.connect();
    let mut logs = ["a", "b"].map(|topic| {
        create_topic_with(&mut wire, topic, 1, &[]);
        Log::new(&mut wire, topic, 0, KIB)
    });
    for log in [0, 0, 0, 1] {
        logs[log].write(&mut wire, 1);
        wait_until_tiered(&broker, &logs[log..=log]);
    }
    let [mut log, other] = logs;
    assert_nothing_is_written(&broker, &bucket);
    assert_eq!(bucket.objects(TIERED).len(), 4);

    let left = |broker: &Broker, count| {
        broker.wait_until("what was dropped is gone", |_| bucket.objects(TIERED).len() <= count);
        assert_nothing_is_written(broker, &bucket);
        assert_eq!(bucket.objects(TIERED).len(), count);
    };
    assert!(log.delete_until_cut(&mut wire, 2));
    left(&broker, 2);
    for _ in 0..2 {
        log.verify_all(&mut wire);
        other.verify_all(&mut wire);
        assert_eq!(error_at(&mut wire, "a", 1), OFFSET_OUT_OF_RANGE);
        broker.kill();
        broker.restart();
        wire = broker.connect();
    }
    left(&broker, 2);

    // A log without records goes on where it was.
    assert!(log.delete_until_cut(&mut wire, log.end));
    left(&broker, 1);
    log.verify_all(&mut wire);
    assert_eq!(error_at(&mut wire, "a", log.end), NONE);
    log.write(&mut wire, 1);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    left(&broker, 2);
    log.verify_all(&mut wire);

    for (count, topic) in [(1, "a"), (0, "b")] {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(topic)));
        let request =
            DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        assert_eq!(wire.call(6, &request).responses[0].error_code, NONE);
        left(&broker, count);
    }
    assert_eq!(broker.stop(), Some(0));
    let (code, report, log) = broker.run(&["bucket", "check", "--json"]);
    assert_eq!(code, Some(0), "{report}{log}");
}

/// The broker goes through all that it does when nobody asks for anything.
fn assert_nothing_is_written(broker: &Broker, bucket: &Bucket) {
    let sweeps = || broker.metrics().get("tidegate_broker_orphan_sweeps_total");
    let wait_for_sweeps = || {
        let most = sweeps() + 5.0;
        broker.wait_until("five sweeps, and many looks at what waits", |_| sweeps() >= most);
    };
    let writes = || ["c", "meta", TIERED].map(|of| bucket.requests(Class::Write, of));
    // A checkpoint of the last change may be still to come, one that is slow among sweeps that are not.
    broker.wait_until("nothing for checkpoints, metadata and data is written", |_| {
        let before = writes();
        wait_for_sweeps();
        writes() == before
    });
}

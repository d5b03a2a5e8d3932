//! A bucket that is away, or forgets its answers (issue 5, Must show 6): producers go on until the
//! write-ahead log is full and are then refused with an error that clients try again on; nothing
//! acknowledged is lost, and no hands are needed afterwards.
//!
//! The short form is for every run; with `TIDEGATE_LONG=1` the bucket is away for ten minutes under
//! load, best with a release build (see the head of this suite).

use std::net::TcpStream;
use std::time::{Duration, Instant};

use kafka_protocol::messages::produce_request::PartitionProduceData;

use crate::harness::bucket::{Bucket, Weather};
use crate::harness::{Broker, Options};
use crate::requests::{KAFKA_STORAGE_ERROR, NONE, PRODUCE, produce_request, record};
use crate::tiering::{
    EARLIEST, EARLIEST_LOCAL, KIB, LATEST_TIERED, Log, MIB, TIERED, WAL_MAX, assert_wal_is_bounded,
    create_topic_with, eager, small, wait_until_tiered,
};

const BATCH: usize = 256 * KIB;

fn wal_in_batches() -> i64 {
    (WAL_MAX / BATCH as u64) as i64
}

#[test]
fn with_the_bucket_away_producers_go_on_until_the_log_is_full_and_nothing_is_lost() {
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(small()));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 1, &[]);
    let mut log = Log::new(&mut wire, "a", 0, BATCH);
    bucket.set_weather(Weather::Away);
    let refused = log.write_until_refused(&mut wire, 2 * wal_in_batches());
    assert_eq!(refused, Some(KAFKA_STORAGE_ERROR), "after {} batches", log.end);
    assert!(log.end >= wal_in_batches() / 2, "{} batches are taken, no more", log.end);
    assert_wal_is_bounded(&broker);
    // Refused again and again, it neither takes more of the disk nor stops.
    for _ in 0..2 {
        assert_eq!(log.write_until_refused(&mut wire, 1), Some(KAFKA_STORAGE_ERROR));
    }
    assert_wal_is_bounded(&broker);
    assert_eq!(broker.admin("/livez").0, 200);
    assert_eq!(broker.admin("/readyz").0, 200, "a broker that runs needs no bucket to serve");
    log.verify_all(&mut wire);
    log.verify_at_random(&mut wire, 1, 50);
    let ends = [EARLIEST, EARLIEST_LOCAL, LATEST_TIERED].map(|at| log.offset(&mut wire, at));
    assert_eq!(ends, [0, 0, -1], "nothing is in the bucket");
    assert_eq!(bucket.objects(TIERED), []);

    // No hands: it goes on by itself, and everything reaches the bucket.
    bucket.set_weather(Weather::Fine);
    log.write_patiently(&broker, &mut wire, wal_in_batches() / 2);
    assert_wal_is_bounded(&broker);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    log.verify_all(&mut wire);
    broker.kill();
    broker.restart();
    log.verify_all(&mut broker.connect());
}

/// A client has patience for a request, not for each of its partitions. (The wire gives up on an
/// answer after a minute.)
#[test]
fn a_request_of_many_partitions_is_refused_by_a_full_log_as_soon_as_one_of_one() {
    const PARTITIONS: i32 = 200;
    let bucket = Bucket::start();
    let broker = Broker::start_with(bucket.options(small()));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 1, &[]);
    create_topic_with(&mut wire, "many", PARTITIONS, &[]);
    let mut log = Log::new(&mut wire, "a", 0, BATCH);
    bucket.set_weather(Weather::Away);
    assert!(log.write_until_refused(&mut wire, 2 * wal_in_batches()).is_some());
    let partition = |index| {
        let data = PartitionProduceData::default().with_index(index);
        data.with_records(Some(record(32 * KIB)))
    };
    let mut request = produce_request("many", 0, -1, record(1));
    request.topic_data[0].partition_data = (0..PARTITIONS).map(partition).collect();
    let response = wire.call(PRODUCE, &request);
    let answers = &response.responses[0].partition_responses;
    assert_eq!(answers.len(), PARTITIONS as usize);
    // What is left of the open file takes some.
    let refused = answers.iter().filter(|answer| answer.error_code == KAFKA_STORAGE_ERROR).count();
    assert!(refused > PARTITIONS as usize / 2, "{refused} are refused");
    assert!(answers.iter().all(|answer| matches!(answer.error_code, NONE | KAFKA_STORAGE_ERROR)));
}

/// Whoever reads what was just written notices nothing, and nothing is refused before the log is
/// full: for ten minutes at 1 MiB/s in the long form.
#[test]
fn a_bucket_that_is_away_for_a_while_is_not_noticed_at_the_tail() {
    let (rounds, wal) = if std::env::var_os("TIDEGATE_LONG").is_some() {
        (600, 2_048 * MIB)
    } else {
        (40, 128 * MIB)
    };
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(eager().set("wal.max.bytes", wal)));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 1, &[]);
    let (mut log, mut reader) = (Log::new(&mut wire, "a", 0, 64 * KIB), broker.connect());
    let per_round = (MIB / (64 * KIB) as u64) as i64;
    for round in 0..rounds {
        let begun = Instant::now();
        if round == 2 {
            bucket.set_weather(Weather::Away);
        }
        log.write(&mut wire, per_round);
        log.verify(&mut reader, log.end - per_round, log.end);
        if rounds > 100 {
            // The pace of the long form, which waits for nothing.
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
    }
    let loads = r#"tidegate_tier_cache_loads_total{cache="hot",outcome="ok"}"#;
    assert_eq!(broker.metrics().get(loads), 0.0, "the tail is read where it is");
    let lag = |broker: &Broker| broker.metric("tidegate_broker_tier_lag_bytes");
    let waits = ((rounds - 3) as u64 * MIB) as f64;
    broker.wait_until("it is told how much waits", |broker| lag(broker) >= waits);
    bucket.set_weather(Weather::Fine);
    wait_until_tiered(&broker, std::slice::from_ref(&log));
    broker.wait_until("it is told that nothing waits", |broker| lag(broker) == 0.0);
    broker.kill();
    broker.restart();
    log.verify_all(&mut broker.connect());
}

#[test]
fn a_start_with_the_bucket_away_waits_says_why_and_starts_when_it_comes() {
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(Options::new()));
    let mut wire = broker.connect();
    let mut log = Log::new(&mut wire, "a", 0, KIB);
    create_topic_with(&mut wire, "a", 1, &[]);
    log.write(&mut wire, 100);
    broker.kill();
    for weather in [Weather::Away, Weather::Busy] {
        bucket.set_weather(weather);
        let said = |broker: &Broker| broker.log().matches("waiting for the bucket").count();
        let before = said(&broker);
        broker.begin_again();
        broker.wait_until("it says what it waits for", |broker| said(broker) > before);
        assert_eq!(broker.admin("/livez").0, 200);
        let (status, reason) = broker.admin("/readyz");
        assert_eq!(status, 503, "{reason}");
        assert!(reason.contains("bucket"), "{reason}");
        assert!(TcpStream::connect(broker.address()).is_err(), "clients are not let in yet");
        assert!(broker.is_running());
        bucket.set_weather(Weather::Fine);
        broker.become_ready();
        log.verify_all(&mut broker.connect());
        broker.kill();
    }
}

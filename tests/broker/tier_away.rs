//! A bucket that is away, or forgets its answers (issue 5, Must show 6): producers go on until the
//! write-ahead log is full and are then refused with an error that clients try again on; nothing
//! acknowledged is lost, and no hands are needed afterwards.

use std::net::TcpStream;

use crate::harness::bucket::{Bucket, Weather};
use crate::harness::{Broker, Options};
use crate::requests::KAFKA_STORAGE_ERROR;
use crate::tiering::{
    EARLIEST, EARLIEST_LOCAL, KIB, LATEST_TIERED, Log, TIERED, WAL_MAX, assert_wal_is_bounded,
    create_topic_with, small,
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
    bucket.set_weather(Weather::Away);
    let mut log = Log::new("a", 0, BATCH);
    let refused = log.write_until_refused(&mut wire, 2 * wal_in_batches());
    assert_eq!(refused, Some(KAFKA_STORAGE_ERROR), "after {} batches", log.end);
    assert!(log.end >= wal_in_batches() / 2, "{} batches are taken, no more", log.end);
    assert_wal_is_bounded(&broker);
    // Refused again and again, it neither takes more of the disk nor stops.
    for _ in 0..20 {
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

    bucket.set_weather(Weather::Fine);
    broker.kill();
    broker.restart();
    log.verify_all(&mut broker.connect());
}

#[test]
fn a_start_with_the_bucket_away_waits_says_why_and_starts_when_it_comes() {
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(bucket.options(Options::new()));
    let mut log = Log::new("a", 0, KIB);
    let mut wire = broker.connect();
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

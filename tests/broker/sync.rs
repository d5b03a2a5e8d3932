//! How often the write-ahead log is synced: counted, never timed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;

use kafka_protocol::messages::ProduceRequest;

use crate::harness::wire::request_frame;
use crate::harness::{Broker, Options, Wire};
use crate::requests::{NONE, PRODUCE, create_topic, produce, produce_request, produced, record};

const SYNCS: &str = "tidegate_wal_syncs_total";
const PRODUCES: &str = r#"tidegate_server_requests_total{api="Produce"}"#;

#[test]
fn one_connection_at_depth_one_has_one_sync_for_each_request() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let before = broker.metrics();
    for offset in 0..100 {
        assert_eq!(produce(&mut wire, "a", record(100)), (NONE, offset));
    }
    let after = broker.metrics();
    let since = |name| after.get(name) - before.get(name);
    assert_eq!((since(PRODUCES), since(SYNCS)), (100.0, 100.0));
}

#[test]
fn sixty_four_connections_have_ten_times_fewer_syncs_than_requests() {
    const CONNECTIONS: usize = 64;
    // As many as the broker takes from one connection before it has answered.
    const REQUESTS: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new();
    options.preload = Some(slow_sync(folder.path()));
    let broker = Broker::start_with(options);
    create_topic(&mut broker.connect(), "a", CONNECTIONS as i32);
    let before = broker.metrics();
    let started = Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        for partition in 0..CONNECTIONS {
            let (broker, started) = (&broker, &started);
            scope.spawn(move || {
                let mut wire = broker.connect();
                let frames = frames(partition as i32, REQUESTS);
                started.wait();
                produce_at_once(&mut wire, &frames, REQUESTS);
            });
        }
    });
    let after = broker.metrics();
    let (requests, syncs) =
        (after.get(PRODUCES) - before.get(PRODUCES), after.get(SYNCS) - before.get(SYNCS));
    assert_eq!(requests, (CONNECTIONS * REQUESTS) as f64);
    println!("{syncs} syncs for {requests} requests");
    assert!(syncs >= 1.0 && syncs * 10.0 <= requests, "{syncs} syncs for {requests} requests");
}

/// Compiles the library that makes every sync slow.
fn slow_sync(folder: &Path) -> PathBuf {
    let library = folder.join("slow_sync.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
    compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/slow_sync.c"));
    assert!(compiler.status().unwrap().success(), "cc failed");
    library
}

/// The frames of so many requests, one behind the other.
fn frames(partition: i32, requests: usize) -> Vec<u8> {
    let request = produce_request("a", partition, -1, record(100));
    (1..=requests).flat_map(|id| request_frame(PRODUCE, &request, id as i32)).collect()
}

/// Sends everything in one write, so that the load does not depend on how often this thread runs,
/// and takes the responses.
fn produce_at_once(wire: &mut Wire, frames: &[u8], requests: usize) {
    wire.send_raw(frames).unwrap();
    for at in 0..requests {
        let response = wire.receive::<ProduceRequest>(PRODUCE, at as i32 + 1);
        assert_eq!(produced(&response).error_code, NONE);
        assert_eq!(produced(&response).base_offset, at as i64);
    }
}

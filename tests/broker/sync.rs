//! How often the write-ahead log is synced: counted, never timed.

use std::sync::Barrier;

use kafka_protocol::messages::ProduceRequest;

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
    const DEPTH: usize = 16;
    const REQUESTS: usize = 100;
    let (options, _folder) = Options::new().on_disk();
    let broker = Broker::start_with(options);
    create_topic(&mut broker.connect(), "a", CONNECTIONS as i32);
    let before = broker.metrics();
    let started = Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        for partition in 0..CONNECTIONS {
            let (broker, started) = (&broker, &started);
            scope.spawn(move || {
                let mut wire = broker.connect();
                started.wait();
                produce_pipelined(&mut wire, partition as i32, REQUESTS, DEPTH);
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

/// Keeps `depth` requests in flight.
fn produce_pipelined(wire: &mut Wire, partition: i32, requests: usize, depth: usize) {
    let request = produce_request("a", partition, -1, record(100));
    let mut ids = Vec::new();
    for at in 0..requests + depth {
        if let Some(answered) = at.checked_sub(depth) {
            let response = wire.receive::<ProduceRequest>(PRODUCE, ids[answered]);
            assert_eq!(produced(&response).error_code, NONE);
            assert_eq!(produced(&response).base_offset, answered as i64);
        }
        if at < requests {
            ids.push(wire.send(PRODUCE, &request));
        }
    }
}

//! Limits of connections and frames, and how a broker stops, starts and refuses to start.

use std::process::Command;

use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, assert_served, batches, create_topic, fetched, produce,
    produce_request, produced, record,
};

fn refused(broker: &Broker, cause: &str) -> f64 {
    let name = format!("tidegate_server_connections_refused_total{{cause=\"{cause}\"}}");
    broker.metrics().get(&name)
}

/// Holds that a limit of two connections is kept, and that a place comes back.
fn assert_two_are_admitted(key: &str, cause: &str) {
    let broker = Broker::start_with(Options::new().set(key, 2));
    let (mut first, mut second) = (broker.connect(), broker.connect());
    assert_served(&mut first);
    assert_served(&mut second);

    assert!(broker.connect().is_closed_by_broker());
    assert_eq!(refused(&broker, cause), 1.0);
    broker.wait_for_log(&format!("raise {key}"));

    drop(first);
    broker.wait_until("a place is free", |broker| {
        broker.metrics().get("tidegate_server_connections_open") == 1.0
    });
    assert_served(&mut broker.connect());
    assert_served(&mut second);
}

#[test]
fn connections_above_max_connections_are_closed_and_places_come_back() {
    assert_two_are_admitted("max.connections", "max_connections");
}

#[test]
fn connections_above_max_connections_per_ip_are_closed_and_places_come_back() {
    assert_two_are_admitted("max.connections.per.ip", "max_connections_per_ip");
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_owed_an_answer_is_not() {
    let broker = Broker::start_with(Options::new().set("connections.max.idle.ms", 1_000));
    create_topic(&mut broker.connect(), "a", 1);
    let mut waiting = broker.connect();
    let parked = waiting.send(FETCH, &Fetch::parked(0, 1).request("a"));
    let (mut silent, mut used) = (broker.connect(), broker.connect());
    assert_served(&mut used);
    assert!(silent.is_closed_by_broker());
    assert!(used.is_closed_by_broker());
    let idle = "tidegate_server_connections_closed_total{cause=\"idle\"}";
    assert_eq!(broker.metrics().get(idle), 2.0);

    assert_eq!(produce(&mut broker.connect(), "a", record(10)), (NONE, 0));
    let response = waiting.receive::<FetchRequest>(FETCH, parked);
    assert_eq!(batches(&fetched(response)).len(), 1);
}

#[test]
fn a_request_above_socket_request_max_bytes_is_refused_by_its_length() {
    const LIMIT: i32 = 100_000;
    let broker = Broker::start_with(Options::new().set("socket.request.max.bytes", LIMIT));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    assert_eq!(produce(&mut wire, "a", record(LIMIT as usize - 1_000)), (NONE, 0));
    wire.send_raw(&(LIMIT + 1).to_be_bytes()).unwrap();
    assert!(wire.is_closed_by_broker());
    broker.wait_for_log("frame length 100001 is above the limit of 100000 bytes");
    assert_served(&mut broker.connect());
}

#[test]
fn a_batch_above_message_max_bytes_is_refused_and_the_connection_goes_on() {
    let broker = Broker::start_with(Options::new().set("message.max.bytes", 10_000));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let message_too_large = 10;
    assert_eq!(produce(&mut wire, "a", record(10_000)).0, message_too_large);
    assert_eq!(produce(&mut wire, "a", record(9_000)), (NONE, 0));
}

#[test]
fn sigterm_lets_requests_in_flight_finish_and_ends_with_0() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let mut waiting = broker.connect();
    let parked = waiting.send(FETCH, &Fetch::parked(0, 1).request("a"));
    broker.wait_until("the fetch waits", |broker| {
        broker.metrics().get("tidegate_partition_fetch_waiters") == 1.0
    });
    let produces: Vec<i32> =
        (0..20).map(|_| wire.send(PRODUCE, &produce_request("a", 0, -1, record(1_000)))).collect();
    // Its answer says that all of them were received.
    let response = waiting.receive::<FetchRequest>(FETCH, parked);
    assert!(!fetched(response).is_empty());
    let parked = waiting.send(FETCH, &Fetch::parked(1 << 20, 1).request("a"));
    let out_of_range = waiting.receive::<FetchRequest>(FETCH, parked);
    assert_eq!(out_of_range.responses[0].partitions[0].error_code, 1);
    let first = wire.receive::<ProduceRequest>(PRODUCE, produces[0]);
    assert_eq!(produced(&first).error_code, NONE);

    broker.terminate();
    let answered = answered(&mut wire, &produces[1..]);
    assert!(waiting.is_closed_by_broker(), "an idle connection is closed");
    assert_eq!(broker.wait(), Some(0));
    assert!(std::net::TcpStream::connect(broker.address()).is_err(), "nobody listens any more");

    broker.restart();
    let read = broker.connect().call(FETCH, &Fetch::at(0).request("a"));
    assert!(batches(&fetched(read)).len() > answered, "what was answered is there");
}

/// How many of these produces are answered before the broker closes the connection.
fn answered(wire: &mut Wire, ids: &[i32]) -> usize {
    let mut count = 0;
    while let Some(frame) = wire.receive_frame() {
        assert_eq!(frame[..4], ids[count].to_be_bytes(), "in order");
        count += 1;
    }
    count
}

#[test]
fn a_parked_fetch_is_answered_when_the_broker_drains() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let parked = wire.send(FETCH, &Fetch::parked(0, 1).request("a"));
    broker.wait_until("the fetch waits", |broker| {
        broker.metrics().get("tidegate_partition_fetch_waiters") == 1.0
    });
    broker.terminate();
    assert!(fetched(wire.receive::<FetchRequest>(FETCH, parked)).is_empty());
    assert!(wire.is_closed_by_broker());
    assert_eq!(broker.wait(), Some(0));
}

#[test]
fn readiness_and_liveness_are_told_over_http() {
    let broker = Broker::start();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(broker.admin(path).0, 200, "{path}");
    }
    assert_eq!(broker.admin("/nothing").0, 404);
}

#[test]
fn a_second_broker_on_a_data_directory_in_use_is_refused_in_words() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let (code, said) = broker.start_beside();
    assert_eq!(code, Some(1));
    assert!(said.contains("in use by another process; stop it first"), "{said}");
    assert!(said.contains(broker.data_dir().to_str().unwrap()), "the directory is named: {said}");
    assert_eq!(produce(&mut wire, "a", record(10)), (NONE, 0));
}

#[test]
fn a_port_in_use_is_named_and_the_exit_code_is_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(Options::new().binary)
        .current_dir(folder.path())
        .args(["serve", "--admin-listener", "127.0.0.1:0"])
        .args(["--listeners", &format!("PLAINTEXT://{address}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&address.to_string()), "{said}");
}

#[test]
fn wrong_settings_are_all_listed_and_the_exit_code_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(Options::new().binary)
        .current_dir(folder.path())
        .args(["serve", "--set", "num.partitons=3", "--set", "log.retention.ms=soon"])
        .args(["--set", "memory.budget.bytes=1", "--set", "wal.sync=never"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let named = ["num.partitons", "log.retention.ms", "memory.budget.bytes", "wal.sync"];
    for wrong in named {
        assert!(said.contains(wrong), "{wrong} is not in\n{said}");
    }
    assert!(said.contains("num.partitions"), "the nearest key is not in\n{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");
}

//! What connections do beside requests: they probe, end, end by half, grow old, and are drained.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest};

use crate::client::{Client, Leaks};
use crate::harness::proxy::{Proxy, ProxyOptions};
use crate::harness::relay::Relay;
use crate::harness::{Broker, Options, Wire, topology, until};
use crate::work::{self, Topic};

/// Nothing is closed by its age in the other tests.
const AGE_MS: u64 = 5_000;

fn answers(wire: &mut Wire) {
    assert_eq!(wire.call(0, &ApiVersionsRequest::default()).error_code, 0);
}

/// The node id of a Tidegate broker.
const NODE: i32 = 1;

#[test]
fn a_probe_without_bytes_leaves_no_line_in_the_log() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address());
    answers(&mut proxy.connect_to(NODE));
    let (sockets, log) = settled(&proxy);
    for address in [proxy.address(), proxy.node_address(NODE)] {
        for _ in 0..5 {
            drop(TcpStream::connect(&address).unwrap());
        }
        let mut reset = TcpStream::connect(&address).unwrap();
        socket2::SockRef::from(&reset).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        reset.flush().unwrap();
    }
    until("the probes are gone", || (proxy.sockets() <= sockets).then_some(()));
    assert_eq!(proxy.log(), log);
}

/// Sockets and log once the proxy's own connections are all there are.
fn settled(proxy: &Proxy) -> (usize, String) {
    let mut last = (0, String::new());
    let mut same = 0;
    until("the proxy is at rest", || {
        let now = (proxy.sockets(), proxy.log());
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same > 10).then(|| last.clone())
    })
}

#[test]
fn tls_on_a_plaintext_listener_is_named_in_the_log() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address());
    let mut wire = proxy.connect();
    // The head of a ClientHello.
    wire.send_raw(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    assert!(wire.is_closed_by_broker());
    proxy.wait_for_log("TLS");
}

#[test]
fn a_client_that_ends_its_half_is_let_go() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address());
    answers(&mut proxy.connect_to(NODE));
    let (sockets, _) = settled(&proxy);
    let mut stream = TcpStream::connect(proxy.node_address(NODE)).unwrap();
    let request = ApiVersionsRequest::default();
    stream.write_all(&crate::harness::wire::request_frame(0, &request, 1)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    // A reset says the same.
    let _ = stream.read_to_end(&mut rest);
    until("both sockets are gone", || (proxy.sockets() <= sockets).then_some(()));
}

#[test]
fn an_upstream_that_ends_its_half_ends_the_client_s_connection() {
    let relay = Relay::bind("127.0.0.1");
    let options = Options::new().set("advertised.listeners", told(&relay));
    let broker = Broker::start_with(options);
    relay.serve(&broker.address());
    let proxy = Proxy::start(relay.address());
    let mut idle = proxy.connect_to(NODE);
    answers(&mut idle);
    relay.half_close();
    assert!(idle.is_closed_by_broker());
    until("the next one is served", || {
        let mut wire = proxy.connect_to(NODE);
        wire.try_call(0, &ApiVersionsRequest::default())
    });
}

fn told(relay: &Relay) -> String {
    format!("PLAINTEXT://{}", relay.address())
}

#[test]
fn an_upstream_that_is_killed_ends_its_connections_and_is_found_again() {
    let mut broker = Broker::start();
    let proxy = Proxy::start(broker.address());
    let mut idle = proxy.connect_to(NODE);
    answers(&mut idle);
    broker.kill();
    assert!(idle.is_closed_by_broker());
    broker.restart();
    until("it is served again", || {
        let mut wire = Wire::try_connect(&proxy.node_address(NODE))?;
        wire.try_call(0, &ApiVersionsRequest::default())
    });
}

#[test]
fn the_next_bootstrap_address_is_tried() {
    let broker = Broker::start();
    let nobody = crate::harness::free_port();
    let proxy = Proxy::start(format!("127.0.0.1:{nobody},{}", broker.address()));
    answers(&mut proxy.connect());
    answers(&mut proxy.connect_to(NODE));
}

#[test]
fn sigterm_lets_what_is_in_flight_be_answered() {
    let broker = Broker::start();
    let mut proxy = Proxy::start(broker.address());
    let mut client = Client::new(proxy.address(), &Leaks::of([broker.address()]));
    let topic = Topic::create(&mut client, &proxy.address(), "drained", 1);
    let mut idle = proxy.connect_to(NODE);
    answers(&mut idle);
    let mut waiting = proxy.connect_to(NODE);
    let fetch = work::fetch(&topic, 12, 0).with_max_wait_ms(2_000);
    answers(&mut waiting);
    let sent = waiting.send(12, &fetch);
    // The broker has it: what comes after it on the connection waits behind it.
    broker.wait_until("the fetch waits at the broker", |broker| {
        let metric = "tidegate_server_received_bytes_total{api=\"Fetch\"}";
        broker.metrics().get(metric) > 0.0
    });
    proxy.terminate();
    assert!(idle.is_closed_by_broker());
    assert_eq!(waiting.receive::<FetchRequest>(12, sent).error_code, 0);
    assert!(waiting.is_closed_by_broker());
    assert_eq!(proxy.wait(), Some(0));
    assert!(Wire::try_connect(&proxy.address()).is_none());
}

#[test]
fn an_old_connection_is_closed_between_requests() {
    let broker = Broker::start();
    let options = ProxyOptions::new(broker.address()).set("connection.max.age.ms", AGE_MS);
    let proxy = Proxy::start_with(&options);
    let mut client = Client::new(proxy.address(), &Leaks::of([broker.address()]));
    let topic = until("a topic, on connections that grow old", || {
        let mut wire = Wire::connect(&broker.address());
        if topology::partitions(&mut wire, "aged").is_empty() {
            topology::create(&mut wire, "aged", 1, 1, &[]);
        }
        let bootstrap = proxy.address();
        let request = topology::metadata_request(Some(&["aged"]));
        let found = client.try_ask_at(&bootstrap, 12, &request)?;
        Some(Topic { name: "aged".to_owned(), id: found.topics[0].topic_id })
    });
    let mut idle = proxy.connect_to(NODE);
    assert!(idle.try_call(0, &ApiVersionsRequest::default()).is_some());
    assert!(idle.is_closed_by_broker());
    // A request that is on its way when its connection's time is over is answered.
    let mut waiting = proxy.connect_to(NODE);
    let fetch = work::fetch(&topic, 12, 0).with_max_wait_ms(2 * AGE_MS as i32);
    let sent = waiting.send(12, &fetch);
    assert_eq!(waiting.receive::<FetchRequest>(12, sent).error_code, 0);
    assert!(waiting.is_closed_by_broker());
}

#[test]
fn a_node_that_never_comes_is_given_up() {
    let broker = Broker::start();
    let options = ProxyOptions::new(broker.address()).set("node.hold.ms", 200);
    let proxy = Proxy::start_with(&options);
    let mut wire = proxy.connect_to(NODE + 1);
    // The socket may be closed already.
    let _ = wire.try_send(12, &topology::metadata_request(None));
    assert!(wire.is_closed_by_broker());
    let known =
        proxy.connect_to(NODE).call::<MetadataRequest>(12, &topology::metadata_request(None));
    assert_eq!(known.brokers.len(), 1);
}

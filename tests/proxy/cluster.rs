//! Three nodes of Apache Kafka, and what happens to them.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, BrokerId, FetchRequest};
use kafka_protocol::protocol::StrBytes;

use crate::client::{Client, Leaks};
use crate::harness::kafka::{Kafka, KafkaOptions};
use crate::harness::proxy::{Proxy, ProxyOptions};
use crate::harness::wire::request_frame;
use crate::harness::{Wire, topology, until};
use crate::walk;
use crate::work::{self, Topic};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const FENCED_LEADER_EPOCH: i16 = 74;
/// Versions since which a response says where the leader is (KIP-951).
const PRODUCE_HINTS: i16 = 10;
const FETCH_HINTS: i16 = 16;
/// The newest versions that name topics.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;

/// The cluster, and a proxy that has been in front of it from the beginning.
struct Setup {
    kafka: Kafka,
    proxy: Proxy,
    topic: Topic,
}

type Step = fn(&mut Setup);

/// One after the other, as each leaves the cluster whole.
const STEPS: &[(&str, Step)] = &[
    ("nodes have the upstream's ids", nodes_have_the_upstream_s_ids),
    ("no response names the upstream", no_response_names_the_upstream),
    ("hints name our nodes", hints_name_our_nodes),
    ("hints to nodes without a route are cleared", hints_without_a_route_are_cleared),
    ("leaders move", leaders_move),
    ("a halted node holds up nobody else", a_halted_node_holds_up_nobody_else),
    ("a node comes late, at another port", a_node_comes_late_at_another_port),
    ("a rolling restart loses nothing", a_rolling_restart_loses_nothing),
];

#[test]
fn three_nodes_through_the_proxy() {
    let rack_aware = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let options = KafkaOptions::new()
        .nodes(3)
        .set("broker.rack", "rack-{id}")
        .set("replica.selector.class", rack_aware);
    let kafka = Kafka::start_with(options);
    let proxy = Proxy::start(kafka.bootstrap());
    let mut client = Client::new(proxy.address(), &leaks(&kafka));
    let topic = Topic::create(&mut client, &proxy.address(), "replicated", 3);
    let mut setup = Setup { kafka, proxy, topic };
    for (name, step) in STEPS {
        println!("{name}");
        step(&mut setup);
    }
}

fn leaks(kafka: &Kafka) -> Leaks {
    Leaks::of(kafka.ids().map(|id| kafka.node_address(id)))
}

impl Setup {
    fn client(&self) -> Client {
        Client::new(self.proxy.address(), &leaks(&self.kafka))
    }

    /// Moves the topic's leader, directly.
    fn lead(&self, id: i32) {
        topology::move_leader(&mut self.kafka.connect(1), &self.topic.name, 0, id);
        for node in self.kafka.ids() {
            let mut wire = self.kafka.connect(node);
            let name = &self.topic.name;
            until("every node knows it", || {
                (topology::leader(&mut wire, name, 0) == id).then_some(())
            });
        }
        // The leader itself knows last. A follower takes no fetch of this version.
        let mut direct = Client::new(self.kafka.address(), &Leaks::default());
        let node = self.kafka.node_address(id);
        until("the new leader leads", || {
            let answer = work::read(&mut direct, &node, &self.topic, work::LEADER_ONLY, 0);
            (answer.error_code == 0).then_some(())
        });
        // And a follower's answers may name the one before for longer than its metadata do.
        for follower in self.kafka.ids().filter(|node| *node != id) {
            let (node, request) =
                (self.kafka.node_address(follower), out_of_date(&self.topic, FETCH_HINTS));
            until("its followers name it", || {
                let answer = direct.ask_at(&node, FETCH_HINTS, &request);
                let named = &answer.responses[0].partitions[0].current_leader;
                (named.leader_id == BrokerId(id)).then_some(())
            });
        }
    }
}

fn nodes_have_the_upstream_s_ids(setup: &mut Setup) {
    let expected = |id| (id, setup.proxy.node_address(id));
    let expected: HashMap<i32, String> = setup.kafka.ids().map(expected).collect();
    assert_eq!(setup.client().nodes(), expected);
}

fn no_response_names_the_upstream(setup: &mut Setup) {
    let seen = walk::every_response_with_nodes(&mut setup.client(), &setup.topic);
    assert!(seen > 100, "{seen} responses were looked at");
    // A proxy that may not show node 3.
    let options = ProxyOptions::new(setup.kafka.bootstrap()).argument("--node-ids").argument("1-2");
    let proxy = Proxy::start_with(&options);
    let mut client = Client::new(proxy.address(), &leaks(&setup.kafka));
    assert!(walk::every_response_with_nodes(&mut client, &setup.topic) > 100);
}

/// Answers of a node that does not lead say which one does, and of the leader which one is near.
fn hints_name_our_nodes(setup: &mut Setup) {
    setup.lead(2);
    setup.lead(3);
    let mut client = setup.client();
    let (ours, port) = ("127.0.0.1", |id| setup.proxy.node_address(id));
    let other = setup.proxy.node_address(1);
    for version in PRODUCE_HINTS..=PRODUCE {
        let request = work::produce(&setup.topic, version, -1, work::batch(&["astray"]));
        let answer = client.ask_at(&other, version, &request);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, NOT_LEADER_OR_FOLLOWER, "{answer:?}");
        assert_eq!(partition.current_leader.leader_id, BrokerId(3), "{answer:?}");
        let endpoint = &answer.node_endpoints[0];
        assert_eq!((endpoint.node_id, &*endpoint.host), (BrokerId(3), ours), "{answer:?}");
        assert_eq!(format!("{ours}:{}", endpoint.port), port(3));
    }
    for version in FETCH_HINTS..=FETCH_HINTS + 2 {
        let answer = client.ask_at(&other, version, &out_of_date(&setup.topic, version));
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, FENCED_LEADER_EPOCH, "{answer:?}");
        assert_eq!(partition.current_leader.leader_id, BrokerId(3), "{answer:?}");
        let endpoint = &answer.node_endpoints[0];
        assert_eq!(format!("{}:{}", endpoint.host, endpoint.port), port(3));
    }
    assert_eq!(preferred_replica(&mut client, &port(3), &setup.topic, 2), BrokerId(2));
}

/// A fetch that knows the first leader alone.
fn out_of_date(topic: &Topic, version: i16) -> FetchRequest {
    let mut request = work::fetch(topic, version, 0);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    request
}

/// The replica that a leader names to a consumer in the rack of node `near` (KIP-392).
fn preferred_replica(client: &mut Client, leader: &str, topic: &Topic, near: i32) -> BrokerId {
    let rack = StrBytes::from_string(format!("rack-{near}"));
    let request = work::fetch(topic, FETCH, 0).with_rack_id(rack);
    until("the leader knows how far its followers are", || {
        let answer = client.ask_at(leader, FETCH, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0, "{answer:?}");
        let is_told = partition.records.as_ref().is_none_or(bytes::Bytes::is_empty);
        is_told.then_some(partition.preferred_read_replica)
    })
}

/// Node 3 leads and this proxy has no place for it: better no hint than one that leads astray.
fn hints_without_a_route_are_cleared(setup: &mut Setup) {
    let options = ProxyOptions::new(setup.kafka.bootstrap()).argument("--node-ids").argument("1-2");
    let proxy = Proxy::start_with(&options);
    let mut client = Client::new(proxy.address(), &leaks(&setup.kafka));
    let other = proxy.node_address(1);
    let request = work::produce(&setup.topic, PRODUCE, -1, work::batch(&["astray"]));
    let answer = client.ask_at(&other, PRODUCE, &request);
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, NOT_LEADER_OR_FOLLOWER, "{answer:?}");
    assert_eq!(partition.current_leader.leader_id, BrokerId(-1), "{answer:?}");
    assert!(answer.node_endpoints.is_empty(), "{answer:?}");
    let answer = client.ask_at(&other, FETCH_HINTS, &out_of_date(&setup.topic, FETCH_HINTS));
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.current_leader.leader_id, BrokerId(-1), "{answer:?}");
    assert!(answer.node_endpoints.is_empty(), "{answer:?}");
    let mut nodes: Vec<i32> = client.nodes().into_keys().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2]);

    setup.lead(1);
    let leader = proxy.node_address(1);
    let request = work::fetch(&setup.topic, FETCH, 0).with_rack_id(StrBytes::from("rack-3"));
    let answer = until("the leader names the near replica", || {
        let answer = client.ask_at(&leader, FETCH, &request);
        let records = answer.responses[0].partitions[0].records.clone();
        records.is_none_or(|records| records.is_empty()).then_some(answer)
    });
    assert_eq!(answer.responses[0].partitions[0].preferred_read_replica, BrokerId(-1));
}

fn leaders_move(setup: &mut Setup) {
    let mut client = setup.client();
    for id in [2, 3, 1] {
        let (before, old) = client.leader(&setup.topic.name, 0);
        assert_ne!(before, id);
        setup.lead(id);
        let refused = work::send(&mut client, &old, &setup.topic, PRODUCE, work::batch(&["old"]));
        assert_eq!(refused.error_code, NOT_LEADER_OR_FOLLOWER, "{refused:?}");
        let new = until("the move is seen", || {
            let (leader, address) = client.leader(&setup.topic.name, 0);
            (leader == id).then_some(address)
        });
        assert_eq!(new, setup.proxy.node_address(id));
        let taken = work::send(&mut client, &new, &setup.topic, PRODUCE, work::batch(&["new"]));
        assert_eq!(taken.error_code, 0, "{taken:?}");
    }
}

/// Bytes that a halted node may be sent before the sender has to wait: the buffers of four sockets
/// and the proxy's.
const TAKEN_MAX: usize = 64 << 20;

fn a_halted_node_holds_up_nobody_else(setup: &mut Setup) {
    let node = setup.proxy.node_address(2);
    let mut waiting = Wire::connect(&node);
    assert_eq!(waiting.call(0, &ApiVersionsRequest::default()).error_code, 0);
    let before = setup.proxy.resident();
    setup.kafka.halt_node(2);
    let sent = waiting.send(0, &ApiVersionsRequest::default());
    let taken = flood(&node, &setup.topic);
    assert!(taken < TAKEN_MAX, "{taken} bytes went to a node that reads nothing");
    let held = setup.proxy.resident_max().saturating_sub(before);
    assert!(held < TAKEN_MAX as u64, "{held} bytes");
    for id in [1, 3] {
        let mut wire = setup.proxy.connect_to(id);
        assert_eq!(wire.call(0, &ApiVersionsRequest::default()).error_code, 0);
    }
    setup.kafka.resume_node(2);
    assert_eq!(waiting.receive::<ApiVersionsRequest>(0, sent).error_code, 0);
    setup.kafka.wait_until_in_sync();
}

/// Sends until a second passes in which not a byte is taken; how many were.
fn flood(node: &str, topic: &Topic) -> usize {
    let value = "v".repeat(64 << 10);
    let request = work::produce(topic, PRODUCE, -1, work::batch(&[&value]));
    let frame = request_frame(PRODUCE, &request, 1);
    let mut stream = TcpStream::connect(node).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut taken = 0;
    while taken < TAKEN_MAX && stream.write_all(&frame).is_ok() {
        taken += frame.len();
    }
    taken
}

/// A proxy that starts while node 3 is away holds who asks for it; and one that knew it at its old
/// port finds it at the new one.
fn a_node_comes_late_at_another_port(setup: &mut Setup) {
    setup.kafka.stop_node(3);
    let upstream = format!("{},{}", setup.kafka.node_address(1), setup.kafka.node_address(2));
    let options = ProxyOptions::new(upstream).set("node.hold.ms", 120_000);
    let proxy = Proxy::start_with(&options.set("metadata.refresh.ms", 1_000));
    let mut early = proxy.connect_to(3);
    let sent = early.send(0, &ApiVersionsRequest::default());
    setup.kafka.start_node_at_a_new_port(3);
    assert_eq!(early.receive::<ApiVersionsRequest>(0, sent).error_code, 0);

    let mut client = setup.client();
    let address = setup.proxy.node_address(3);
    until("the node is found at its new port", || {
        // What passes through tells the proxy.
        assert!(client.nodes().values().all(|node| node.starts_with("127.0.0.1:")));
        client.try_ask_at(&address, 0, &ApiVersionsRequest::default())
    });
    setup.kafka.wait_until_in_sync();
}

fn a_rolling_restart_loses_nothing(setup: &mut Setup) {
    let stop = AtomicBool::new(false);
    let topic = Topic::create(&mut setup.client(), &setup.proxy.address(), "rolled", 3);
    let (client, ports) = (setup.client(), leaks(&setup.kafka));
    let acked = std::thread::scope(|threads| {
        let writer = threads.spawn(|| write_until(client, &topic, &stop));
        setup.kafka.restart_in_turn();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(!acked.is_empty());
    let mut client = Client::new(setup.proxy.address(), &ports);
    let (_, leader) = client.leader(&topic.name, 0);
    let read = work::values(&mut client, &leader, &topic);
    for (offset, value) in acked {
        assert_eq!(read.get(offset as usize), Some(&value), "offset {offset}");
    }
}

/// Offset and value of every record that was acknowledged.
fn write_until(mut client: Client, topic: &Topic, stop: &AtomicBool) -> Vec<(i64, String)> {
    let mut acked = Vec::new();
    let mut leader = None;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("value {number}");
        let request = work::produce(topic, PRODUCE, -1, work::batch(&[&value]));
        let Some(address) = leader.take().or_else(|| client.try_leader(&topic.name, 0)) else {
            continue;
        };
        let Some(answer) = client.try_ask_at(&address, PRODUCE, &request) else { continue };
        let answer = &answer.responses[0].partition_responses[0];
        if answer.error_code == 0 {
            acked.push((answer.base_offset, value));
            leader = Some(address);
        }
    }
    acked
}

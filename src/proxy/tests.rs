//! The proxy between real sockets: a client that speaks frames, and an upstream that a test leads.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{BrokerId, MetadataResponse};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::budget::{Budget, Pool};
use crate::clock::{Clock, Random};
use crate::config::{Endpoint, Host, Nodes, Upstream, VirtualCluster};
use crate::metrics::Registry;
use crate::server::{Connections, Door, DoorOptions, Limits, ListenerOptions};
use crate::shutdown::Shutdown;
use crate::task;

const METADATA: i16 = 3;
const HEARTBEAT: i16 = 12;
const API_VERSIONS: i16 = 18;
/// What an upstream serves here: key, lowest and highest version.
const SERVED: &[(i16, i16, i16)] = &[
    (0, 3, 13),
    (1, 4, 18),
    (METADATA, 0, 13),
    (HEARTBEAT, 0, 3),
    (API_VERSIONS, 0, 5),
    (56, 2, 3),
    (999, 0, 1),
];

/// A proxy in front of a listener that the test answers for.
struct World {
    upstream: TcpListener,
    bound: Vec<(Arc<str>, SocketAddr)>,
    registry: Registry,
    budget: Budget,
    shutdown: Shutdown,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut VirtualCluster)) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = |port| Endpoint { host: Host::Ip([127, 0, 0, 1].into()), port };
        let mut config = VirtualCluster {
            name: "default".to_owned(),
            upstream: Upstream {
                bootstrap: vec![local(upstream.local_addr().unwrap().port())],
                tls: None,
                sasl: true,
            },
            listener: local(0),
            tls: None,
            nodes: Nodes::Ports {
                ids: vec![1..=3] as Vec<RangeInclusive<i32>>,
                bind_base: 0,
                advertised_host: Host::Name("door".to_owned()),
                advertised_base: 0,
            },
            metadata_refresh: Duration::from_secs(30),
            node_hold: Duration::from_secs(30),
            connection_age_max: None,
        };
        change(&mut config);
        let (clock, registry, shutdown) = (Clock::system(), Registry::new(), Shutdown::new());
        let budget = Budget::of_proxy(64 << 20);
        let random = Random::seeded(1);
        let service = ProxyService::new(&[config], &budget, &clock, &random, &registry).unwrap();
        let service = Arc::new(service);
        let listener = |listener: &ProxyListener| ListenerOptions {
            name: Arc::clone(&listener.name),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
        };
        let options = DoorOptions {
            listeners: service.listeners().map(listener).collect(),
            limits: Limits::default(),
            connections: Connections::new(clock.clone()),
            api_name: |key| policy::find(key).map(|row| row.name),
        };
        let door = Arc::clone(&service);
        let door = Door::bind(options, door, &budget, clock, &registry, shutdown.clone()).unwrap();
        let bound = door.local_addresses();
        service.bound(&bound);
        task::spawn("door", door.run());
        Self { upstream, bound, registry, budget, shutdown }
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.bound.iter().find(|(bound, _)| **bound == *name).unwrap().1
    }

    /// A client of the bootstrap listener.
    async fn client(&self) -> Peer {
        Peer(TcpStream::connect(self.address("default/bootstrap")).await.unwrap())
    }

    async fn node(&self, id: i32) -> Peer {
        Peer(TcpStream::connect(self.address(&format!("default/node-{id}"))).await.unwrap())
    }

    /// The upstream's side of the next connection.
    async fn accept(&self) -> Peer {
        Peer(self.upstream.accept().await.unwrap().0)
    }

    /// A client and its upstream that know what they may ask each other.
    async fn pair(&self) -> (Peer, Peer) {
        let mut client = self.client().await;
        client.send(API_VERSIONS, 0, 1, b"").await;
        let mut upstream = self.accept().await;
        let asked = upstream.request().await;
        upstream.answer(asked.id, &served(0, 0)).await;
        client.response().await;
        (client, upstream)
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.registry.encode();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// The body of an answer to `ApiVersions` in version 0.
fn served(error: i16, version: i16) -> Vec<u8> {
    let flexible = version >= 3;
    let mut body = Vec::new();
    body.put_i16(error);
    if flexible {
        body.put_u8(SERVED.len() as u8 + 1);
    } else {
        body.put_i32(SERVED.len() as i32);
    }
    for (key, min, max) in SERVED {
        body.put_i16(*key);
        body.put_i16(*min);
        body.put_i16(*max);
        if flexible {
            body.put_u8(0);
        }
    }
    if version >= 1 {
        body.put_i32(7);
    }
    if flexible {
        body.put_slice(&[1, 5, 2, 1, 2]);
    }
    body
}

/// Either side of a connection.
struct Peer(TcpStream);

/// A request as it came upstream.
struct Asked {
    key: i16,
    version: i16,
    id: i32,
    rest: Bytes,
}

/// A request's frame with the client id `me`.
fn request(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(2 + 2 + 4 + 2 + 2 + body.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(id);
    frame.put_i16(2);
    frame.put_slice(b"me");
    frame.put_slice(body);
    frame
}

impl Peer {
    async fn send(&mut self, key: i16, version: i16, id: i32, body: &[u8]) {
        self.0.write_all(&request(key, version, id, body)).await.unwrap();
    }

    async fn frame(&mut self) -> Option<Bytes> {
        let length = self.0.read_i32().await.ok()?;
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(bytes.into())
    }

    async fn request(&mut self) -> Asked {
        let mut frame = self.frame().await.unwrap();
        let (key, version, id) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
        Asked { key, version, id, rest: frame }
    }

    /// The next response: its correlation id, and what follows.
    async fn response(&mut self) -> (i32, Bytes) {
        let mut frame = self.frame().await.unwrap();
        (frame.get_i32(), frame)
    }

    async fn answer(&mut self, id: i32, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_i32(4 + body.len() as i32);
        frame.put_i32(id);
        frame.put_slice(body);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Waits for the end.
    async fn ended(&mut self) {
        assert!(self.frame().await.is_none());
    }
}

#[tokio::test]
async fn requests_go_on_as_they_came_and_responses_come_back_in_order() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    let mut together = Vec::new();
    for id in 100..103_i32 {
        together.extend(request(HEARTBEAT, 0, id, &id.to_be_bytes()));
    }
    client.0.write_all(&together).await.unwrap();
    for id in 100..103_i32 {
        let asked = upstream.request().await;
        assert_eq!((asked.key, asked.version), (HEARTBEAT, 0));
        assert_eq!(asked.rest, [&[0, 2, b'm', b'e'][..], &id.to_be_bytes()].concat());
        upstream.answer(asked.id, &(id + 1).to_be_bytes()).await;
    }
    for id in 100..103_i32 {
        assert_eq!(client.response().await, (id, Bytes::copy_from_slice(&(id + 1).to_be_bytes())));
    }
    assert!((world.metric("tidegate_proxy_requests_total{cluster=\"default\"}") - 4.0).abs() < 0.1);
}

#[tokio::test]
async fn what_is_advertised_is_what_upstream_and_proxy_have_in_common() {
    let world = World::new().await;
    for version in [0, 1, 3, 4] {
        let mut client = world.client().await;
        let name: &[u8] = if version >= 3 { &[0, 2, b'x', 2, b'1', 0] } else { b"" };
        client.send(API_VERSIONS, version, 9, name).await;
        let mut upstream = world.accept().await;
        let asked = upstream.request().await;
        assert_eq!((asked.key, asked.version), (API_VERSIONS, version));
        upstream.answer(asked.id, &served(0, version)).await;
        let (id, mut body) = client.response().await;
        assert_eq!(id, 9);
        let response =
            kafka_protocol::messages::ApiVersionsResponse::decode(&mut body, version).unwrap();
        let apis = response.api_keys.iter();
        let apis: Vec<_> = apis.map(|it| (it.api_key, it.min_version, it.max_version)).collect();
        assert_eq!(
            apis,
            [(0, 0, 13), (1, 4, 18), (METADATA, 0, 13), (HEARTBEAT, 0, 3), (API_VERSIONS, 0, 4)]
        );
        assert_eq!(response.throttle_time_ms, if version == 0 { 0 } else { 7 });
        assert_eq!(response.unknown_tagged_fields.len(), usize::from(version >= 3));
    }
}

#[tokio::test]
async fn a_version_of_api_versions_that_is_not_known_is_asked_for_in_one_that_nobody_knows() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send(API_VERSIONS, 5, 1, &[0, 2, b'x', 2, b'1', 0, 0]).await;
    let mut upstream = world.accept().await;
    let asked = upstream.request().await;
    assert_eq!(asked.version, i16::MAX);
    upstream.answer(asked.id, &served(35, 0)).await;
    let (_, mut body) = client.response().await;
    assert_eq!(body.get_i16(), 35);
    assert_eq!(body.get_i32(), 5);
    // It asks again in one that was in the list.
    client.send(API_VERSIONS, 0, 2, b"").await;
    let asked = upstream.request().await;
    upstream.answer(asked.id, &served(0, 0)).await;
    assert_eq!(client.response().await.0, 2);
    client.send(HEARTBEAT, 3, 3, b"x").await;
    assert_eq!(upstream.request().await.key, HEARTBEAT);
}

#[tokio::test]
async fn for_a_client_that_does_not_ask_the_proxy_does() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send(HEARTBEAT, 0, 5, b"a").await;
    client.send(HEARTBEAT, 0, 6, b"b").await;
    let mut upstream = world.accept().await;
    let asked = upstream.request().await;
    assert_eq!((asked.key, asked.version), (API_VERSIONS, 0));
    upstream.answer(asked.id, &served(0, 0)).await;
    for id in [5, 6] {
        let asked = upstream.request().await;
        assert_eq!(asked.key, HEARTBEAT);
        upstream.answer(asked.id, b"z").await;
        assert_eq!(client.response().await, (id, Bytes::from_static(b"z")));
    }
}

#[tokio::test]
async fn what_was_not_negotiated_does_not_go_upstream() {
    let world = World::new().await;
    for (key, version) in [(HEARTBEAT, 4), (56, 2), (999, 0), (0, 2), (11, 0)] {
        let (mut client, mut upstream) = world.pair().await;
        client.send(key, version, 1, b"").await;
        client.ended().await;
        upstream.ended().await;
    }
}

#[tokio::test]
async fn a_produce_without_acks_has_no_response() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    // Version 3: no transactional id, acks, timeout, no topics.
    let body = |acks: i16| [&[0xff, 0xff][..], &acks.to_be_bytes(), &[0; 4], &[0; 4]].concat();
    client.send(0, 3, 1, &body(0)).await;
    client.send(0, 3, 2, &body(-1)).await;
    assert_eq!(upstream.request().await.key, 0);
    let asked = upstream.request().await;
    upstream.answer(asked.id, b"done").await;
    assert_eq!(client.response().await, (2, Bytes::from_static(b"done")));
    client.send(0, 3, 3, &body(0)).await;
    drop(client);
    assert_eq!(upstream.request().await.key, 0, "what came before the end goes on");
    upstream.ended().await;
}

#[tokio::test]
async fn a_large_response_and_a_large_request_pass_byte_for_byte() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..2 {
        let body = [&[0xff, 0xff, 0, 1][..], &large].concat();
        let send = client.send(0, 3, 1, &body);
        let (asked, ()) = tokio::join!(upstream.request(), send);
        assert_eq!(asked.rest.get(4..).unwrap(), body);
        let answer = upstream.answer(asked.id, &large);
        let ((id, got), ()) = tokio::join!(client.response(), answer);
        assert_eq!((id, got == large), (1, true));
    }
    client.send(HEARTBEAT, 0, 2, b"").await;
    let asked = upstream.request().await;
    upstream.answer(asked.id, b"x").await;
    assert_eq!(client.response().await.0, 2);
    assert_eq!(world.budget.pool(Pool::Send).used(), 0);
}

#[tokio::test]
async fn the_end_of_either_side_is_the_end_of_the_other() {
    let world = World::new().await;
    let (mut client, upstream) = world.pair().await;
    drop(upstream);
    client.ended().await;

    let (mut client, mut upstream) = world.pair().await;
    client.send(HEARTBEAT, 0, 1, b"").await;
    client.send(HEARTBEAT, 0, 2, b"").await;
    let asked = upstream.request().await;
    upstream.answer(asked.id, b"x").await;
    drop(upstream);
    assert_eq!(client.response().await.0, 1, "what came before the end is passed on");
    client.ended().await;

    let (client, mut upstream) = world.pair().await;
    drop(client);
    upstream.ended().await;
}

#[tokio::test]
async fn a_response_to_something_else_ends_the_connection() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    client.send(HEARTBEAT, 0, 1, b"").await;
    let asked = upstream.request().await;
    upstream.answer(asked.id + 1, b"x").await;
    client.ended().await;
    let malformed = "tidegate_proxy_upstream_errors_total{cluster=\"default\",kind=\"malformed\"}";
    assert!((world.metric(malformed) - 1.0).abs() < 0.1);

    let (mut client, mut upstream) = world.pair().await;
    upstream.answer(7, b"unasked").await;
    client.ended().await;
}

/// The answer to Metadata with one broker.
fn brokers(id: i32, port: u16) -> BytesMut {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(id))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let mut body = BytesMut::new();
    MetadataResponse::default().with_brokers(vec![broker]).encode(&mut body, 1).unwrap();
    body
}

#[tokio::test]
async fn a_node_is_found_by_what_passes_through_and_its_clients_are_held_until_then() {
    let world = World::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut early = world.node(2).await;
    early.send(HEARTBEAT, 0, 1, b"").await;

    let (mut client, mut upstream) = world.pair().await;
    client.send(METADATA, 1, 1, &[0, 0, 0, 0]).await;
    let asked = upstream.request().await;
    let port = elsewhere.local_addr().unwrap().port();
    upstream.answer(asked.id, &brokers(2, port)).await;
    let (_, mut body) = client.response().await;
    let response = MetadataResponse::decode(&mut body, 1).unwrap();
    let node = world.address("default/node-2");
    assert_eq!(response.brokers[0].host.as_str(), "door");
    assert_eq!(response.brokers[0].port, i32::from(node.port()));

    let mut held = Peer(elsewhere.accept().await.unwrap().0);
    assert_eq!(held.request().await.key, API_VERSIONS);
    assert!((world.metric("tidegate_proxy_nodes{cluster=\"default\"}") - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_upstream() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    client.send(HEARTBEAT, 0, 1, b"").await;
    let asked = upstream.request().await;
    let large = vec![7; 48 << 20];
    let writing = task::spawn("upstream", async move {
        upstream.answer(asked.id, &large).await;
        upstream
    });
    // What the pool has room for is read, and no more.
    let send = world.budget.pool(Pool::Send);
    while send.used() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        assert!(send.used() <= 2 << 20, "{}", send.used());
    }
    assert!(!writing.is_finished());
    let (_, body) = client.response().await;
    assert_eq!(body.len(), 48 << 20);
    let mut upstream = writing.await.unwrap();
    drop(client);
    upstream.ended().await;
}

#[tokio::test]
async fn a_drain_answers_what_has_begun() {
    let world = World::new().await;
    let (mut client, mut upstream) = world.pair().await;
    client.send(HEARTBEAT, 0, 1, b"").await;
    let asked = upstream.request().await;
    world.shutdown.drain();
    upstream.answer(asked.id, b"x").await;
    assert_eq!(client.response().await.0, 1);
    client.ended().await;
}

#[tokio::test]
async fn a_connection_of_the_greatest_age_is_closed_between_requests() {
    let age = Some(Duration::from_millis(200));
    let world = World::with(|config| config.connection_age_max = age).await;
    let mut client = world.client().await;
    client.send(HEARTBEAT, 0, 1, b"").await;
    let mut upstream = world.accept().await;
    let asked = upstream.request().await;
    upstream.answer(asked.id, &served(0, 0)).await;
    let asked = upstream.request().await;
    // Old by now or not: what was asked is answered.
    upstream.answer(asked.id, b"x").await;
    assert_eq!(client.response().await.0, 1);
    client.ended().await;
}

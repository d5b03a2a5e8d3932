//! What a peer may send at worst: refused, logged in words, and without harm to anybody else.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, InitProducerIdRequest, MetadataRequest, TransactionalId,
};

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, UNSUPPORTED_VERSION, all_topics, api_versions, assert_served,
    batches, create_topic, fetched, produce, record, text,
};

const MIB: u64 = 1 << 20;
/// Room for what any connection costs beside its request.
const RSS_GROWTH_MAX: u64 = 16 * MIB;

const METADATA_KEY: i16 = 3;
const API_VERSIONS_KEY: i16 = 18;

/// A frame with its length: header, then `body`.
pub fn frame(key: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let header = if flexible { 11 } else { 10 };
    frame.put_i32(header + body.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(1);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.to_vec()
}

/// A broker, and a connection to it that must not notice what others send.
pub struct Scene {
    /// The broker.
    pub broker: Broker,
    bystander: Wire,
    resident: u64,
}

impl Scene {
    /// A broker with a topic `a` of one partition.
    pub fn new() -> Self {
        Self::with(Options::new())
    }

    /// The same with settings.
    pub fn with(options: Options) -> Self {
        let broker = Broker::start_with(options);
        let mut bystander = broker.connect();
        create_topic(&mut bystander, "a", 1);
        assert_served(&mut bystander);
        let resident = broker.resident();
        Self { broker, bystander, resident }
    }

    /// The memory that was resident before anything was sent, in bytes.
    pub fn resident(&self) -> u64 {
        self.resident
    }

    /// Sends `bytes` on a connection of their own, and holds that the broker closes it for `cause`
    /// without an answer, and nobody else's.
    pub fn closes(&mut self, bytes: &[u8], cause: &str) {
        let closed = format!("tidegate_server_connections_closed_total{{cause=\"{cause}\"}}");
        let before = self.broker.metrics().get(&closed);
        let mut hostile = self.broker.connect();
        // The broker may close while we send.
        let _ = hostile.send_raw(bytes);
        assert!(hostile.is_closed_by_broker(), "{bytes:02x?}");
        self.broker.wait_until(&format!("a close for {cause} is counted"), |broker| {
            broker.metrics().get(&closed) == before + 1.0
        });
        assert_served(&mut self.bystander);
    }

    /// Holds that the broker is as well as before: the bystander writes and reads, nothing
    /// panicked, no memory to speak of is taken and all that was charged is given back.
    pub fn assert_unharmed(mut self) {
        assert_served(&mut self.bystander);
        let (error, offset) = produce(&mut self.bystander, "a", record(100));
        assert_eq!(error, NONE);
        let read = self.bystander.call(FETCH, &Fetch::at(offset).request("a"));
        assert_eq!(batches(&fetched(read)).len(), 1);
        assert!(self.broker.is_running());
        let panics = "tidegate_server_connections_closed_total{cause=\"panic\"}";
        assert_eq!(self.broker.metrics().get(panics), 0.0);
        assert!(!self.broker.log().contains("ERROR"), "{}", self.broker.log());
        let grown = self.broker.resident_max().saturating_sub(self.resident);
        println!("{grown} bytes more are resident");
        assert!(grown <= RSS_GROWTH_MAX, "{grown} bytes more are resident");
        assert_pools_are_empty(&self.broker);
    }
}

/// Holds that the broker closes a connection that sends `bytes` for `cause`, says `words` in its
/// log, and is unharmed.
pub fn assert_refused(bytes: &[u8], cause: &str, words: &[&str]) {
    let mut scene = Scene::new();
    scene.closes(bytes, cause);
    for words in words {
        scene.broker.wait_for_log(words);
    }
    scene.assert_unharmed();
}

/// Waits until nothing is charged to a pool that requests use. The gauges follow with a delay, so
/// first something is charged and seen, then given back.
pub fn assert_pools_are_empty(broker: &Broker) {
    let used = |broker: &Broker, pool: &str| {
        broker.metrics().get(&format!("tidegate_memory_used_bytes{{pool=\"{pool}\"}}"))
    };
    let mut marker = broker.connect();
    marker.send_raw(&[vec![0, 0, 0xf0, 0], vec![0; 32 * 1024]].concat()).unwrap();
    broker.wait_until("a half frame is charged", |broker| used(broker, "small") > 0.0);
    drop(marker);
    for pool in ["small", "receive", "wal", "send"] {
        broker.wait_until(&format!("the {pool} pool is empty"), |broker| used(broker, pool) == 0.0);
    }
}

#[test]
fn metadata_v4_with_two_billion_topics_in_six_bytes_is_refused() {
    let body = [0x7f, 0xff, 0xff, 0xff, 0, 0];
    assert_refused(
        &frame(METADATA_KEY, 4, false, &body),
        "service",
        &["malformed Metadata v4 request"],
    );
}

#[test]
fn metadata_v9_with_a_compact_count_of_five_bytes_is_refused() {
    let body = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_refused(&frame(METADATA_KEY, 9, true, &body), "service", &[]);
}

#[test]
fn a_header_of_three_bytes_is_refused() {
    assert_refused(&[0, 0, 0, 3, 0, 3, 0], "malformed", &[]);
}

#[test]
fn an_empty_frame_is_refused() {
    assert_refused(&[0, 0, 0, 0], "malformed", &[]);
}

#[test]
fn produce_v7_with_a_giant_count_is_refused() {
    let body = [0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0x7f, 0xff, 0xff, 0xff];
    assert_refused(&frame(0, 7, false, &body), "service", &[]);
}

#[test]
fn a_legal_metadata_v9_of_four_million_empty_names_takes_no_memory_beyond_its_bytes() {
    const NAMES: u32 = 4_000_000;
    let mut body = BytesMut::new();
    let mut count = NAMES + 1;
    while count >= 0x80 {
        body.put_u8(count as u8 | 0x80);
        count >>= 7;
    }
    body.put_u8(count as u8);
    // An empty compact string and no tagged field, each.
    for _ in 0..NAMES {
        body.put_slice(&[1, 0]);
    }
    body.put_slice(&[0, 0, 0, 0]);
    assert!(body.len() <= 8 << 20);
    assert_refused(&frame(METADATA_KEY, 9, true, &body), "service", &[]);
}

#[test]
fn a_negative_frame_length_is_refused() {
    assert_refused(&(-1_i32).to_be_bytes(), "frame_length", &["frame length -1 is negative"]);
}

#[test]
fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
    assert_refused(
        &(100 * 1024 * 1024 + 1_i32).to_be_bytes(),
        "frame_length",
        &["frame length 104857601 is above the limit of 104857600 bytes"],
    );
}

#[test]
fn an_unknown_api_key_is_refused() {
    assert_refused(&frame(9_999, 0, true, &[]), "unsupported", &[]);
}

#[test]
fn an_api_of_kafka_that_is_not_advertised_is_refused() {
    assert_refused(
        &frame(24, 3, true, &[0; 16]),
        "unsupported",
        &["API key 24 version 3 is not supported"],
    );
}

#[test]
fn a_version_that_is_not_advertised_is_refused() {
    assert_refused(&frame(METADATA_KEY, 99, true, &[0, 0, 0, 0]), "unsupported", &[]);
}

#[test]
fn produce_v2_is_advertised_and_closes_as_kafka_4_does() {
    let body = [0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 0];
    assert_refused(&frame(0, 2, false, &body), "service", &[]);
}

#[test]
fn api_versions_99_is_answered_in_version_0_with_the_list_of_versions() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    wire.send_raw(&frame(API_VERSIONS_KEY, 99, true, &[0])).unwrap();
    let (id, response) = wire.receive_any::<ApiVersionsRequest>(0);
    assert_eq!((id, response.error_code), (1, UNSUPPORTED_VERSION));
    let own = response.api_keys.iter().find(|api| api.api_key == API_VERSIONS_KEY).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // The client tries again on the same connection.
    assert_eq!(wire.call(own.max_version, &api_versions()).error_code, 0);
}

#[test]
fn an_http_request_is_closed_and_logged_in_words() {
    let request = b"GET /metrics HTTP/1.1\r\nHost: broker\r\nAccept: */*\r\n\r\n";
    assert_refused(request, "http", &["peer speaks HTTP to a kafka listener", "peer=127.0.0.1"]);
}

#[test]
fn a_tls_client_hello_is_closed_and_logged_in_words() {
    let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03];
    hello.resize(5 + 0xc8, 0x5a);
    assert_refused(&hello, "tls", &["set security.protocol=PLAINTEXT in the client"]);
}

#[test]
fn a_hostile_peer_cannot_flood_the_log() {
    let broker = Broker::start();
    for _ in 0..200 {
        let mut wire = broker.connect();
        let _ = wire.send_raw(b"GET / HTTP/1.1\r\n\r\n");
        assert!(wire.is_closed_by_broker());
    }
    broker.wait_for_log("peer speaks HTTP");
    assert!(broker.log().matches("peer speaks HTTP").count() <= 4);
}

#[test]
fn a_peer_that_asks_for_transactions_again_and_again_cannot_flood_the_log() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("id"))))
        .with_transaction_timeout_ms(1_000);
    let invalid_request = 42;
    for _ in 0..200 {
        assert_eq!(wire.call(4, &request).error_code, invalid_request);
    }
    broker.wait_for_log("unset transactional.id");
    let lines = broker.log().matches("unset transactional.id").count();
    assert!((1..=4).contains(&lines), "{lines} lines");
}

#[test]
fn requests_before_a_hostile_one_are_answered() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let id = wire.send(METADATA, &all_topics());
    let _ = wire.send_raw(&frame(METADATA_KEY, 4, false, &[0x7f, 0xff, 0xff, 0xff, 0, 0]));
    assert_eq!(wire.receive::<MetadataRequest>(METADATA, id).brokers.len(), 1);
    assert!(wire.is_closed_by_broker());
}

#[test]
fn a_frame_cut_short_by_its_peer_leaves_nothing_behind() {
    let broker = Broker::start();
    let mut bystander: Wire = broker.connect();
    for sent in [2, 4, 5, 1_000, 50_000] {
        let mut wire = broker.connect();
        let mut bytes = 60_000_i32.to_be_bytes().to_vec();
        bytes.resize(sent, 0);
        wire.send_raw(&bytes).unwrap();
    }
    let closed = "tidegate_server_connections_closed_total{cause=\"truncated\"}";
    broker.wait_until("five closes are counted", |broker| broker.metrics().get(closed) == 5.0);
    assert_served(&mut bystander);
    assert_pools_are_empty(&broker);
}

//! The ordinary work of a client, in front of each upstream: first at the upstream itself, then
//! through the proxy.

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::Message;

use crate::client::{Client, Leaks};
use crate::groups;
use crate::harness::kafka::{Kafka, KafkaOptions, Release};
use crate::harness::kfake::Kfake;
use crate::harness::proxy::Proxy;
use crate::harness::{Broker, topology, until};
use crate::transactions;
use crate::versions;
use crate::work::{self, Topic};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// What an upstream can do.
#[derive(Clone, Copy)]
struct Abilities {
    transactions: bool,
    /// It answers a version of `ApiVersions` that it does not know.
    newer_clients: bool,
}

const KAFKA: Abilities = Abilities { transactions: true, newer_clients: true };

#[test]
fn apache_kafka_4_3_through_the_proxy() {
    let kafka = Kafka::start_with(KafkaOptions::new());
    works_through_the_proxy(&kafka.address(), KAFKA);
}

#[test]
fn apache_kafka_3_9_through_the_proxy() {
    let kafka = Kafka::start_with(KafkaOptions::new().release(Release::V3_9));
    works_through_the_proxy(&kafka.address(), KAFKA);
}

#[test]
fn kfake_through_the_proxy() {
    let kfake = Kfake::start(1);
    works_through_the_proxy(&kfake.address(), Abilities { newer_clients: false, ..KAFKA });
}

#[test]
fn tidegate_through_the_proxy() {
    let broker = Broker::start();
    works_through_the_proxy(&broker.address(), Abilities { transactions: false, ..KAFKA });
}

fn works_through_the_proxy(upstream: &str, has: Abilities) {
    let mut direct = Client::new(upstream, &Leaks::default());
    works(&mut direct, upstream, "direct", has);
    let proxy = Proxy::start(upstream);
    let leaks = Leaks::of([upstream.to_owned()]);
    let mut proxied = Client::new(proxy.address(), &leaks);
    works(&mut proxied, &proxy.address(), "proxied", has);
    versions::are_what_both_sides_know(&mut direct, &mut proxied);
    the_same_bytes(&mut direct, &mut proxied, "proxied-records");
}

fn works(client: &mut Client, bootstrap: &str, prefix: &str, has: Abilities) {
    every_node_answers(client);
    let topic = Topic::create(client, bootstrap, &format!("{prefix}-records"), 1);
    every_version_writes_and_reads(client, &topic);
    nothing_answers_acks_0(client, &topic);
    pipelined_requests_are_answered_in_order(client, &topic);
    groups::a_member_comes_commits_and_goes(client, &topic.name);
    if has.newer_clients {
        versions::of_a_newer_client_are_answered(bootstrap);
    }
    if has.transactions {
        let topic = Topic::create(client, bootstrap, &format!("{prefix}-transactions"), 1);
        transactions::what_is_committed_is_read(client, &topic);
    }
}

fn every_node_answers(client: &mut Client) {
    let nodes = client.nodes();
    assert!(!nodes.is_empty());
    for address in nodes.values() {
        let answer = client.ask_at(address, 0, &ApiVersionsRequest::default());
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
}

/// The versions that are advertised and whose batches are of today's format.
fn versions_of(client: &mut Client, key: i16, oldest: i16, newest: i16) -> Vec<i16> {
    let (min, max) = versions::of(client, 0)[&key];
    (min.max(oldest)..=max.min(newest)).collect()
}

fn every_version_writes_and_reads(client: &mut Client, topic: &Topic) {
    let (_, leader) = client.leader(&topic.name, 0);
    let mut written = Vec::new();
    for version in versions_of(client, PRODUCE, 3, ProduceRequest::VERSIONS.max) {
        let batch = work::batch(&["one", "two"]);
        let answer = work::send(client, &leader, topic, version, batch.clone());
        let place = (answer.error_code, answer.base_offset);
        assert_eq!(place, (0, 2 * written.len() as i64), "version {version}: {answer:?}");
        written.push(batch);
    }
    for version in versions_of(client, FETCH, 4, FetchRequest::VERSIONS.max) {
        let answer = work::read(client, &leader, topic, version, 0);
        assert_eq!(answer.error_code, 0, "version {version}: {answer:?}");
        assert_eq!(answer.high_watermark, 2 * written.len() as i64, "version {version}");
        let records = answer.records.unwrap();
        assert_eq!(records.len(), written.iter().map(bytes::Bytes::len).sum::<usize>());
    }
}

/// What follows on the connection is the answer to the next request, and the records are there.
fn nothing_answers_acks_0(client: &mut Client, topic: &Topic) {
    let (_, leader) = client.leader(&topic.name, 0);
    let newest = *versions_of(client, PRODUCE, 3, ProduceRequest::VERSIONS.max).last().unwrap();
    let before = work::read(client, &leader, topic, 12, 0).high_watermark;
    let request = work::produce(topic, newest, 0, work::batch(&["unanswered"]));
    let wire = client.wire(&leader);
    for _ in 0..3 {
        wire.send(newest, &request);
    }
    let asked = wire.send(12, &topology::metadata_request(Some(&[])));
    wire.receive::<MetadataRequest>(12, asked);
    // The high watermark follows when they are on disk.
    until("three more records", || {
        let after = work::read(client, &leader, topic, 12, 0).high_watermark;
        assert!(after <= before + 3);
        (after == before + 3).then_some(())
    });
}

/// Fetches that wait are among them, and requests that would be quicker behind those.
fn pipelined_requests_are_answered_in_order(client: &mut Client, topic: &Topic) {
    let (_, leader) = client.leader(&topic.name, 0);
    let end = work::read(client, &leader, topic, 12, 0).high_watermark;
    let fetch = work::fetch(topic, 12, end + 8).with_max_wait_ms(100);
    let produce = work::produce(topic, 9, -1, work::batch(&["in turn"]));
    let wire = client.wire(&leader);
    let sent: Vec<[i32; 4]> = (0..8)
        .map(|_| {
            [
                wire.send(9, &produce),
                wire.send(12, &fetch),
                wire.send(12, &topology::metadata_request(None)),
                wire.send(0, &ApiVersionsRequest::default()),
            ]
        })
        .collect();
    for (at, [produced, fetched, described, negotiated]) in sent.into_iter().enumerate() {
        let answer = wire.receive::<ProduceRequest>(9, produced);
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, end + at as i64);
        wire.receive::<FetchRequest>(12, fetched);
        wire.receive::<MetadataRequest>(12, described);
        wire.receive::<ApiVersionsRequest>(0, negotiated);
    }
}

/// Stored bytes come as they are, in every version.
fn the_same_bytes(direct: &mut Client, proxied: &mut Client, topic: &str) {
    let found = direct.ask(12, &topology::metadata_request(Some(&[topic])));
    let topic = Topic { name: topic.to_owned(), id: found.topics[0].topic_id };
    let (_, node) = direct.leader(&topic.name, 0);
    let (_, shown) = proxied.leader(&topic.name, 0);
    assert_ne!(node, shown);
    for version in versions_of(direct, FETCH, 4, FetchRequest::VERSIONS.max) {
        let theirs = work::read(direct, &node, &topic, version, 0);
        let ours = work::read(proxied, &shown, &topic, version, 0);
        assert!(!theirs.records.as_ref().unwrap().is_empty());
        assert_eq!(theirs, ours, "version {version}");
    }
}

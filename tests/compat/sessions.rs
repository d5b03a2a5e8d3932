//! A real consumer uses fetch sessions (KIP-227).

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::clients::Client;
use crate::harness::Broker;

const PARTITIONS: i32 = 1_000;
/// A Fetch that lists a thousand partitions has more than thirty thousand.
const IDLE_REQUEST_BYTES_MAX: f64 = 250.0;

#[test]
fn gotcha_25_an_idle_java_consumer_of_a_thousand_partitions_sends_little_requests() {
    let broker = Broker::start();
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("wide")))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    assert_eq!(broker.connect().call(7, &request).topics[0].error_code, 0);
    let (_consumer, lines) = Client::Java.consumer(&broker.address(), "wide", "idle");
    std::thread::spawn(|| lines.map_while(Result::ok).for_each(drop));
    broker.wait_until("all partitions are in one session", |broker| {
        let metrics = broker.metrics();
        let partitions = metrics.get("tidegate_broker_fetch_session_partitions");
        (metrics.get("tidegate_broker_fetch_sessions"), partitions) == (1.0, f64::from(PARTITIONS))
    });
    let fetches = |broker: &Broker| {
        let metrics = broker.metrics();
        let requests = metrics.get("tidegate_server_requests_total{api=\"Fetch\"}");
        (requests, metrics.get("tidegate_server_received_bytes_total{api=\"Fetch\"}"))
    };
    let (requests, bytes) = fetches(&broker);
    broker.wait_until("ten more fetches", |broker| fetches(broker).0 >= requests + 10.0);
    let (later_requests, later_bytes) = fetches(&broker);
    let each = (later_bytes - bytes) / (later_requests - requests);
    assert!(each < IDLE_REQUEST_BYTES_MAX, "{each} bytes a request");
}

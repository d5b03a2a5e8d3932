//! What clients can make the metadata hold: it stays within a part of the memory budget, and no
//! request leaves a broker that does not start again.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use tidegate::config::topic::TOPIC_KEYS;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{NONE, assert_served, text, topic_name};

const POLICY_VIOLATION: i16 = 44;

const BUDGET: u64 = 64 << 20;
/// 1/32 of it.
const IMAGE_BYTES: u64 = BUDGET / 32;

fn create(wire: &mut Wire, name: &str, configs: &[(&str, &str)]) -> CreatableTopicResult {
    let config = |(key, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(7, &request).topics.remove(0)
}

/// Creates a topic without configs, of so many partitions.
fn create_sized(wire: &mut Wire, name: &str, partitions: i32) -> CreatableTopicResult {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(7, &request).topics.remove(0)
}

fn delete(wire: &mut Wire, name: &str) -> i16 {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    wire.call(6, &request).responses[0].error_code
}

fn message(result: &CreatableTopicResult) -> &str {
    result.error_message.as_deref().unwrap_or_default()
}

/// How many bytes the data directory's copy of the metadata takes; the broker must have ended.
fn stored(broker: &Broker) -> u64 {
    std::fs::metadata(broker.data_dir().join("metadata")).unwrap().len()
}

#[test]
fn blanks_around_values_take_no_memory() {
    let mut broker = Broker::start_with(Options::new().set("memory.budget.bytes", BUDGET));
    let mut wire = broker.connect();
    let blanks = " ".repeat(32_000);
    let padded: Vec<_> =
        TOPIC_KEYS.iter().map(|key| (key.name, format!("{blanks}{}", key.default))).collect();
    let configs: Vec<_> = padded.iter().map(|(key, value)| (*key, value.as_str())).collect();
    for name in ["a", "b", "c", "d"] {
        let created = create(&mut wire, name, &configs);
        assert_eq!(created.error_code, NONE, "{}", message(&created));
    }
    assert_eq!(broker.stop(), Some(0));
    let bytes = stored(&broker);
    println!("{bytes} bytes of metadata");
    assert!(bytes < 16 << 10, "{bytes} bytes of metadata");
    broker.restart();
    assert_served(&mut broker.connect());
}

#[test]
fn metadata_beyond_its_part_of_the_budget_is_refused_and_the_broker_starts_again() {
    let mut broker = Broker::start_with(Options::new().set("memory.budget.bytes", BUDGET));
    let mut wire = broker.connect();
    let list = vec!["1000:1"; 4_600].join(",");
    let configs = [
        ("follower.replication.throttled.replicas", list.as_str()),
        ("leader.replication.throttled.replicas", list.as_str()),
    ];
    let mut taken = 0;
    let refused = loop {
        let created = create(&mut wire, &format!("t{taken}"), &configs);
        if created.error_code != NONE {
            break created;
        }
        taken += 1;
        assert!(taken * 2 * list.len() as u64 <= IMAGE_BYTES, "{taken} topics were taken");
    };
    assert_eq!(refused.error_code, POLICY_VIOLATION, "{}", message(&refused));
    assert!(message(&refused).contains("1/32 of memory.budget.bytes"), "{}", message(&refused));
    assert!((taken + 1) * 2 * list.len() as u64 + 1_024 * taken > IMAGE_BYTES, "{taken} topics");

    assert_eq!(broker.stop(), Some(0));
    assert!(stored(&broker) <= IMAGE_BYTES + 1_024);
    broker.restart();
    let mut wire = broker.connect();
    assert_served(&mut wire);
    assert_eq!(create(&mut wire, "next", &configs).error_code, POLICY_VIOLATION);
    assert_eq!(delete(&mut wire, "t0"), NONE);
    assert_eq!(create(&mut wire, "next", &configs).error_code, NONE);
}

#[test]
fn partitions_beyond_their_part_of_the_budget_are_refused() {
    let mut broker = Broker::start_with(Options::new().set("memory.budget.bytes", 2 * BUDGET));
    let mut wire = broker.connect();
    let idle = broker.resident();
    let refused = create_sized(&mut wire, "all", 200_000);
    assert_eq!(refused.error_code, POLICY_VIOLATION, "{}", message(&refused));
    assert!(message(&refused).contains("at most 26214 are allowed"), "{}", message(&refused));
    assert!(message(&refused).contains("memory.budget.bytes"), "{}", message(&refused));
    for topic in 0..100 {
        let created = create_sized(&mut wire, &format!("t{topic}"), 10);
        assert_eq!(created.error_code, NONE, "{}", message(&created));
    }
    assert_eq!(create_sized(&mut wire, "rest", 25_214).error_code, NONE);
    assert_eq!(create_sized(&mut wire, "more", 1).error_code, POLICY_VIOLATION);
    let grown = broker.resident_max() - idle;
    println!("{grown} bytes for 26214 partitions");

    // With less memory it starts, tells of it, and takes no more.
    assert_eq!(broker.stop(), Some(0));
    broker.set("memory.budget.bytes", BUDGET);
    broker.restart();
    broker.wait_for_log("has more partitions than");
    let mut wire = broker.connect();
    assert_served(&mut wire);
    assert_eq!(create_sized(&mut wire, "more", 1).error_code, POLICY_VIOLATION);
    assert_eq!(delete(&mut wire, "rest"), NONE);
    assert_eq!(create_sized(&mut wire, "more", 1).error_code, NONE);
}

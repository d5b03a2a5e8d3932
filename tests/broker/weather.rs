//! A broker whose bucket refuses, delays, damages and loses answers.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::harness::{Broker, Options};

/// Without lost answers, each of which takes the ten seconds of an attempt, and without damaged
/// bytes, for which the probe rightly refuses a bucket.
const WEATHER: &str = "seed=5 refused=150 cut=150 latency=1..8";

#[test]
fn topics_are_kept_in_bad_weather() {
    let mut options = Options::new();
    options.env.push(("OBJECT_FAULTS_FOR_TESTS".to_owned(), WEATHER.to_owned()));
    let mut broker = Broker::start_with(options);
    let mut wire = broker.connect();
    let names: Vec<_> =
        (0..25).map(|n| TopicName(StrBytes::from(format!("topic-{n:02}")))).collect();
    for name in &names {
        let topic = CreatableTopic::default().with_name(name.clone()).with_num_partitions(2);
        let topic = topic.with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_topics(vec![topic]);
        let created = wire.call(7, &create.with_timeout_ms(30_000));
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    }
    let metrics = broker.metrics();
    let retries = metrics.get("tidegate_object_retries_total{operation=\"get\"}")
        + metrics.get("tidegate_object_retries_total{operation=\"get_range\"}");
    assert!(retries > 0.0, "the weather is bad");
    broker.kill();
    broker.restart();
    let metadata = broker.connect().call(12, &MetadataRequest::default().with_topics(None));
    let mut found: Vec<_> = metadata.topics.iter().filter_map(|topic| topic.name.clone()).collect();
    found.sort();
    assert_eq!(found, names);
    assert_eq!(broker.stop(), Some(0));
}

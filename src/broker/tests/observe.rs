//! What is told of topics, partitions and groups, with a clock that tests move.
#![allow(clippy::float_cmp, reason = "metrics are counts, which are exact")]

use std::sync::Arc;
use std::time::Duration;

use super::super::{Broker, observe};
use super::{Bench, append};
use crate::clock::Instant;
use crate::group::types::{CommitPartition, CommitRequest, CommitTopic};
use crate::metrics::Registry;
use crate::partition::Partition;

/// A scrape: the value of a series, by its name and labels as the page writes them.
struct Scrape(String);

impl Scrape {
    fn find(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    fn get(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }

    fn of_family(&self, family: &str) -> usize {
        let is_of =
            |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'));
        self.0.lines().filter(is_of).count()
    }
}

fn observed(broker: &Arc<Broker>) -> Registry {
    let registry = Registry::new();
    observe::register(&registry, broker, Box::new(|| 3));
    registry
}

async fn scrape(registry: &Registry) -> Scrape {
    let registry = registry.clone();
    Scrape(crate::task::blocking(move || registry.encode()).await.unwrap())
}

/// `told` is the age in seconds to which a record written after `begun` was brought: the manual
/// clock goes on with the monotonic one, and a record's time is a whole millisecond.
fn assert_age(told: f64, age: f64, begun: Instant) {
    let most = age + begun.elapsed().as_secs_f64() + 0.001;
    assert!((age..=most).contains(&told), "{told} s is not between {age} s and {most} s");
}

async fn write(broker: &Arc<Broker>, partition: &Arc<Partition>, records: usize) {
    for _ in 0..records {
        let (broker, partition) = (Arc::clone(broker), Arc::clone(partition));
        crate::task::blocking(move || append(&broker, &partition, -1)).await.unwrap();
    }
}

/// Commits the offset of partition 0 of a topic for a group without members.
async fn commit(broker: &Broker, group: &str, topic: &str, offset: i64) {
    broker.ensure_offsets_topic().await.unwrap();
    broker.groups().load_all().await;
    let partition = CommitPartition { partition: 0, offset, leader_epoch: -1, metadata: "".into() };
    let request = CommitRequest {
        group: group.into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        group_id_not_found: false,
        topics: vec![CommitTopic { name: topic.into(), partitions: vec![partition] }],
    };
    let results = broker.groups().commit(request).await.unwrap();
    assert_eq!(results[0].partitions, [(0, Ok(()))]);
}

#[tokio::test]
async fn topics_tell_what_was_appended_and_what_they_hold() {
    let bench = Bench::with(&[("metrics.partitions.max", "2")]);
    let broker = bench.start().await;
    let (apples, registry) = (broker.topic("apples", 3).await, observed(&broker));
    write(&broker, &apples, 4).await;
    apples.note_produce(true);
    apples.note_produce(false);
    apples.note_fetch(70);
    apples.note_fetch(0);
    apples.note_fetch_failure();
    let scrape = scrape(&registry).await;
    let of = |name: &str| scrape.get(&format!("tidegate_topic_{name}{{topic=\"apples\"}}"));
    let size = apples.size_bytes() as f64;
    assert!(size > 4.0 * 61.0);
    assert_eq!((of("received_records_total"), of("received_bytes_total")), (4.0, size));
    assert_eq!((of("produce_requests_total"), of("produce_failures_total")), (2.0, 1.0));
    assert_eq!((of("fetch_requests_total"), of("fetch_failures_total")), (2.0, 1.0));
    assert_eq!((of("sent_bytes_total"), of("partitions")), (70.0, 3.0));
    let bytes = |place: &str| {
        scrape.get(&format!("tidegate_topic_log_bytes{{topic=\"apples\",place=\"{place}\"}}"))
    };
    assert_eq!((bytes("wal"), bytes("bucket")), (size, 0.0));
    let of = |name: &str| {
        scrape.get(&format!("tidegate_partition_{name}{{topic=\"apples\",partition=\"0\"}}"))
    };
    assert_eq!((of("log_start_offset"), of("high_watermark"), of("leader")), (0.0, 4.0, 1.0));
    assert_eq!(scrape.of_family("tidegate_partition_high_watermark"), 2);
    let omitted = |what: &str| scrape.get(&format!("tidegate_metrics_omitted{{what=\"{what}\"}}"));
    assert_eq!((omitted("topics"), omitted("partitions"), omitted("groups")), (0.0, 1.0, 0.0));
    assert!(scrape.get("tidegate_wal_volume_free_bytes") > 0.0);
    assert!(scrape.get("tidegate_wal_limit_bytes") > 0.0);
    broker.stop().await;
}

/// By the logs themselves: nobody brings anything into the bucket here.
#[tokio::test]
async fn what_waits_for_the_bucket_goes_on_waiting_while_nobody_looks() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let (apples, registry) = (broker.topic("apples", 2).await, observed(&broker));
    let lag = async || {
        let scrape = scrape(&registry).await;
        let of = |what: &str| scrape.get(&format!("tidegate_broker_tier_lag_{what}"));
        (of("bytes"), of("seconds"))
    };
    let before = broker.partitions().all().iter().map(|it| it.untiered_bytes()).sum::<u64>();
    write(&broker, &apples, 2).await;
    let bytes = (before + apples.size_bytes()) as f64;
    let (waiting, first_s) = lag().await;
    assert_eq!(waiting, bytes);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(90)).await;
    tokio::time::resume();
    let (waiting, then_s) = lag().await;
    assert_eq!(waiting, bytes);
    assert!(then_s >= first_s + 90.0, "{first_s} s, and 90 s later {then_s} s");
    broker.stop().await;
}

#[tokio::test]
async fn a_limit_leaves_out_the_last_by_name_and_0_all() {
    let bench = Bench::with(&[("metrics.topics.max", "1"), ("metrics.groups.max", "0")]);
    let broker = bench.start().await;
    for name in ["b", "a", "c"] {
        broker.topic(name, 1).await;
    }
    commit(&broker, "group", "a", 0).await;
    let scrape = scrape(&observed(&broker)).await;
    assert_eq!(scrape.find("tidegate_topic_partitions{topic=\"a\"}"), None, "__… is before it");
    assert_eq!(scrape.get("tidegate_topic_partitions{topic=\"__consumer_offsets\"}"), 50.0);
    assert_eq!(scrape.of_family("tidegate_topic_partitions"), 1);
    assert_eq!(scrape.get("tidegate_metrics_omitted{what=\"topics\"}"), 3.0);
    assert_eq!(scrape.get("tidegate_metrics_omitted{what=\"groups\"}"), 0.0);
    for absent in ["tidegate_consumer_group", "tidegate_partition_", "kafka_"] {
        assert!(!scrape.0.contains(absent), "{absent}");
    }
    broker.stop().await;
}

#[tokio::test]
async fn lag_is_told_in_records_and_by_the_age_of_the_first_that_is_not_consumed() {
    let bench = Bench::with(&[("metrics.group.partitions.max", "10")]);
    let broker = bench.start().await;
    let (apples, registry) = (broker.topic("apples", 1).await, observed(&broker));
    let begun = bench.clock.now();
    write(&broker, &apples, 2).await;
    bench.clock.shift_wall(60_000);
    write(&broker, &apples, 1).await;
    bench.clock.shift_wall(30_000);
    let lag = async |offset| {
        commit(&broker, "g", "apples", offset).await;
        let scrape = scrape(&registry).await;
        let of_topic = |what: &str| {
            let labels = "{group=\"g\",topic=\"apples\"}";
            scrape.get(&format!("tidegate_consumer_group_{what}{labels}"))
        };
        let of_partition = |what: &str| {
            let labels = "{group=\"g\",topic=\"apples\",partition=\"0\"}";
            scrape.get(&format!("tidegate_consumer_group_{what}{labels}"))
        };
        let (records, seconds) = (of_topic("lag_records"), of_topic("lag_seconds"));
        assert_eq!(of_partition("partition_lag_records"), records);
        assert_eq!(of_partition("partition_lag_seconds"), seconds);
        assert_eq!(of_partition("committed_offset"), offset as f64);
        (records, seconds)
    };
    for (offset, lag_records, age) in [(0, 3.0, 90.0), (2, 1.0, 30.0)] {
        let (records, seconds) = lag(offset).await;
        assert_eq!(records, lag_records);
        assert_age(seconds, age, begun);
    }
    assert_eq!(lag(3).await, (0.0, 0.0));
    let scrape = scrape(&registry).await;
    assert_eq!(scrape.get("tidegate_consumer_group_members{group=\"g\"}"), 0.0);
    assert_eq!(scrape.get("tidegate_consumer_group_state{group=\"g\",state=\"Empty\"}"), 1.0);
    assert_eq!(scrape.get("tidegate_consumer_group_rebalances_total{group=\"g\"}"), 0.0);
    broker.stop().await;
}

#[tokio::test]
async fn after_a_restart_groups_load_by_themselves_and_lag_is_told_from_the_index() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let apples = broker.topic("apples", 1).await;
    let begun = bench.clock.now();
    write(&broker, &apples, 2).await;
    commit(&broker, "g", "apples", 1).await;
    broker.stop().await;
    drop((apples, broker));
    bench.clock.shift_wall(60_000);
    let broker = bench.start().await;
    let registry = observed(&broker);
    // The first look begins to load.
    scrape(&registry).await;
    broker.groups().load_all().await;
    let scrape = scrape(&registry).await;
    let labels = "{group=\"g\",topic=\"apples\"}";
    assert_eq!(scrape.get(&format!("tidegate_consumer_group_lag_records{labels}")), 1.0);
    let seconds = scrape.get(&format!("tidegate_consumer_group_lag_seconds{labels}"));
    assert_age(seconds, 60.0, begun);
    broker.stop().await;
}

#[tokio::test]
async fn each_name_of_another_program_is_there_with_its_labels() {
    let bench = Bench::with(&[("metrics.compat", "kafka-exporter,jmx")]);
    let broker = bench.start().await;
    let (apples, registry) = (broker.topic("apples", 2).await, observed(&broker));
    write(&broker, &apples, 5).await;
    apples.note_produce(true);
    apples.note_fetch(40);
    commit(&broker, "g", "apples", 3).await;
    let scrape = scrape(&registry).await;
    let topic = "{topic=\"apples\"}";
    let part = "{topic=\"apples\",partition=\"0\"}";
    let read = "{consumergroup=\"g\",topic=\"apples\",partition=\"0\"}";
    let read_all = "{consumergroup=\"g\",topic=\"apples\"}";
    let size = apples.size_bytes() as f64;
    let partitions = broker.partitions().len() as f64;
    let metrics = &broker.partitions().shared().metrics;
    let jmx = |name: &str| format!("kafka_server_brokertopicmetrics_{name}_total");
    let expected = [
        ("kafka_brokers".to_owned(), "", 1.0),
        ("kafka_topic_partitions".to_owned(), topic, 2.0),
        ("kafka_topic_partition_current_offset".to_owned(), part, 5.0),
        ("kafka_topic_partition_oldest_offset".to_owned(), part, 0.0),
        ("kafka_topic_partition_in_sync_replica".to_owned(), part, 1.0),
        ("kafka_topic_partition_leader".to_owned(), part, 1.0),
        ("kafka_topic_partition_leader_is_preferred".to_owned(), part, 1.0),
        ("kafka_topic_partition_replicas".to_owned(), part, 1.0),
        ("kafka_topic_partition_under_replicated_partition".to_owned(), part, 0.0),
        ("kafka_consumergroup_current_offset".to_owned(), read, 3.0),
        ("kafka_consumergroup_current_offset_sum".to_owned(), read_all, 3.0),
        ("kafka_consumergroup_lag".to_owned(), read, 2.0),
        ("kafka_consumergroup_lag_sum".to_owned(), read_all, 2.0),
        ("kafka_consumergroup_members".to_owned(), "{consumergroup=\"g\"}", 0.0),
        (jmx("messagesin"), topic, 5.0),
        (jmx("messagesin"), "", metrics.appended_records.get() as f64),
        (jmx("bytesin"), topic, size),
        (jmx("bytesin"), "", metrics.appended_bytes.get() as f64),
        (jmx("bytesout"), topic, 40.0),
        (jmx("bytesout"), "", 40.0),
        (jmx("totalproducerequests"), topic, 1.0),
        (jmx("totalfetchrequests"), topic, 1.0),
        (jmx("failedproducerequests"), topic, 0.0),
        (jmx("failedfetchrequests"), "", 0.0),
        ("kafka_server_replicamanager_leadercount".to_owned(), "", partitions),
        ("kafka_server_replicamanager_partitioncount".to_owned(), "", partitions),
        ("kafka_server_replicamanager_underreplicatedpartitions".to_owned(), "", 0.0),
        ("kafka_controller_kafkacontroller_activecontrollercount".to_owned(), "", 1.0),
        ("kafka_controller_kafkacontroller_offlinepartitionscount".to_owned(), "", 0.0),
        ("kafka_cluster_partition_atminisr".to_owned(), part, 1.0),
        ("kafka_cluster_partition_underminisr".to_owned(), part, 0.0),
        ("kafka_cluster_partition_replicascount".to_owned(), part, 1.0),
        ("kafka_log_log_size".to_owned(), part, size),
        (
            "kafka_server_socket_server_metrics_connection_count".to_owned(),
            "{listener=\"all\",networkProcessor=\"0\"}",
            3.0,
        ),
    ];
    for (name, labels, value) in expected {
        assert_eq!(scrape.get(&format!("{name}{labels}")), value, "{name}{labels}");
    }
    for share in [
        "kafka_network_socketserver_networkprocessoravgidle_percent",
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    ] {
        assert!((0.0..=1.0).contains(&scrape.get(share)), "{share}");
    }
    broker.stop().await;
}

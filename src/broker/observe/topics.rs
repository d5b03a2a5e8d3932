//! Topics and partitions.

use std::sync::Arc;

use super::super::Broker;
use super::COMPAT_PARTITIONS_MAX;
use crate::cluster::Topic;
use crate::config::MetricsConfig;
use crate::metrics::Kind::{Counter, Gauge};
use crate::metrics::{Family, Kind, Page, labels};
use crate::partition::{Holdings, Traffic};

const fn topic(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family::new(name, kind, help, &["topic"]).with("metrics.topics.max")
}

const fn partition(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Gauge, help, &["topic", "partition"]).with("metrics.partitions.max")
}

const RECEIVED_BYTES: Family = topic(
    "tidegate_topic_received_bytes_total",
    Counter,
    "Bytes of record batches appended to the topic.",
);
const RECEIVED_RECORDS: Family = topic(
    "tidegate_topic_received_records_total",
    Counter,
    "Records appended to the topic, by the batches' own counts.",
);
const SENT_BYTES: Family = topic(
    "tidegate_topic_sent_bytes_total",
    Counter,
    "Bytes of the topic's record batches in responses to Fetch requests.",
);
const PRODUCES: Family = topic(
    "tidegate_topic_produce_requests_total",
    Counter,
    "Times that a Produce request named a partition of the topic.",
);
const PRODUCE_FAILURES: Family = topic(
    "tidegate_topic_produce_failures_total",
    Counter,
    "Times that a Produce request was answered with an error for a partition of the topic.",
);
const FETCHES: Family = topic(
    "tidegate_topic_fetch_requests_total",
    Counter,
    "Times that a Fetch request asked for a partition of the topic, by its session included.",
);
const FETCH_FAILURES: Family = topic(
    "tidegate_topic_fetch_failures_total",
    Counter,
    "Times that a Fetch request was answered with an error for a partition of the topic, but for \
     an offset out of range.",
);
const PARTITIONS: Family = topic("tidegate_topic_partitions", Gauge, "Partitions of the topic.");
const LOG_BYTES: Family = Family::new(
    "tidegate_topic_log_bytes",
    Gauge,
    "Bytes of the topic's record batches, by where they are: in the write-ahead log alone (wal) or \
     in the bucket. Together they are the size of its log.",
    &["topic", "place"],
)
.with("metrics.topics.max");
const LOG_START: Family =
    partition("tidegate_partition_log_start_offset", "The first offset that can be read.");
const HIGH_WATERMARK: Family = partition(
    "tidegate_partition_high_watermark",
    "The offset behind the last record that can be read.",
);
const LEADER: Family = partition("tidegate_partition_leader", "The partition's leader by node id.");
const PARTITION_BYTES: Family = Family::new(
    "tidegate_partition_log_bytes",
    Gauge,
    "Bytes of the partition's record batches, by where they are: in the write-ahead log alone \
     (wal) or in the bucket. Together they are the size of its log.",
    &["topic", "partition", "place"],
)
.with("metrics.partitions.max");

pub(super) const FAMILIES: [&Family; 13] = [
    &RECEIVED_BYTES,
    &RECEIVED_RECORDS,
    &SENT_BYTES,
    &PRODUCES,
    &PRODUCE_FAILURES,
    &FETCHES,
    &FETCH_FAILURES,
    &PARTITIONS,
    &LOG_BYTES,
    &LOG_START,
    &HIGH_WATERMARK,
    &LEADER,
    &PARTITION_BYTES,
];

/// A topic as metrics see it.
pub(super) struct TopicRow {
    pub(super) topic: Arc<Topic>,
    /// What its partitions had together.
    pub(super) traffic: Traffic,
    pub(super) wal_bytes: u64,
    pub(super) bucket_bytes: u64,
    /// Those that are told one by one, and maybe more.
    pub(super) partitions: Vec<PartitionRow>,
}

/// A partition as metrics see it.
pub(super) struct PartitionRow {
    /// Its number, as a label.
    pub(super) index: String,
    pub(super) holdings: Holdings,
}

/// The topics that somebody tells, by name.
pub(super) struct TopicRows {
    pub(super) node_id: i32,
    pub(super) rows: Vec<TopicRow>,
    /// How many topics there are.
    pub(super) topics: usize,
    /// How many partitions there are.
    pub(super) partitions: usize,
}

impl TopicRows {
    /// The first so many partitions, each with its topic's name.
    pub(super) fn first(&self, most: usize) -> impl Iterator<Item = (&str, &PartitionRow)> {
        let all = self.rows.iter().flat_map(|row| {
            let name: &str = &row.topic.name;
            row.partitions.iter().map(move |partition| (name, partition))
        });
        all.take(most)
    }
}

/// Looks at as many topics and partitions as `config` wants told.
pub(super) fn rows(broker: &Broker, config: &MetricsConfig) -> TopicRows {
    let compat = config.kafka_exporter || config.jmx;
    let compat = if compat { COMPAT_PARTITIONS_MAX } else { 0 };
    let most_topics = config.topics_max.max(compat);
    let mut partitions_left = config.partitions_max.max(compat);
    let image = broker.image();
    let mut topics: Vec<&Arc<Topic>> = image.topics().collect();
    topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut rows = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        if at >= most_topics && partitions_left == 0 {
            break;
        }
        let row = row(broker, topic, partitions_left);
        partitions_left -= row.partitions.len();
        rows.push(row);
    }
    let partitions = usize::try_from(image.partition_count()).unwrap_or(0);
    TopicRows { node_id: broker.node_id(), rows, topics: topics.len(), partitions }
}

fn row(broker: &Broker, topic: &Arc<Topic>, most_partitions: usize) -> TopicRow {
    let mut row = TopicRow {
        topic: Arc::clone(topic),
        traffic: Traffic::default(),
        wal_bytes: 0,
        bucket_bytes: 0,
        partitions: Vec::new(),
    };
    for partition in broker.partitions().of_topic(topic.id) {
        let holdings = partition.holdings();
        row.traffic.add(&partition.traffic());
        row.wal_bytes += holdings.wal_bytes;
        row.bucket_bytes += holdings.bucket_bytes;
        if row.partitions.len() < most_partitions {
            let index = partition.id().partition.to_string();
            row.partitions.push(PartitionRow { index, holdings });
        }
    }
    row
}

/// Writes what is told of topics and of partitions.
pub(super) fn collect(topics: &TopicRows, config: &MetricsConfig, page: &mut Page) {
    let rows: Vec<(String, &TopicRow)> = topics
        .rows
        .iter()
        .take(config.topics_max)
        .map(|row| (labels(&[("topic", &row.topic.name)]), row))
        .collect();
    let mut tell = |family: &Family, value: fn(&TopicRow) -> u64| {
        page.family(family, rows.iter().map(|(labels, row)| (labels.as_str(), value(row) as f64)));
    };
    tell(&RECEIVED_BYTES, |row| row.traffic.received_bytes);
    tell(&RECEIVED_RECORDS, |row| row.traffic.received_records);
    tell(&SENT_BYTES, |row| row.traffic.sent_bytes);
    tell(&PRODUCES, |row| row.traffic.produces);
    tell(&PRODUCE_FAILURES, |row| row.traffic.produce_failures);
    tell(&FETCHES, |row| row.traffic.fetches);
    tell(&FETCH_FAILURES, |row| row.traffic.fetch_failures);
    tell(&PARTITIONS, |row| row.topic.partition_count() as u64);
    let places: Vec<(String, u64)> = rows
        .iter()
        .flat_map(|(_, row)| {
            let place = |place| labels(&[("topic", &row.topic.name), ("place", place)]);
            [(place("wal"), row.wal_bytes), (place("bucket"), row.bucket_bytes)]
        })
        .collect();
    page.family(&LOG_BYTES, places.iter().map(|(labels, bytes)| (labels.as_str(), *bytes as f64)));
    collect_partitions(topics, config, page);
}

fn collect_partitions(topics: &TopicRows, config: &MetricsConfig, page: &mut Page) {
    let rows: Vec<(String, &Holdings)> = topics
        .first(config.partitions_max)
        .map(|(topic, partition)| {
            let labels = labels(&[("topic", topic), ("partition", &partition.index)]);
            (labels, &partition.holdings)
        })
        .collect();
    let node_id = topics.node_id;
    let mut tell = |family: &Family, value: &dyn Fn(&Holdings) -> i64| {
        page.family(family, rows.iter().map(|(labels, row)| (labels.as_str(), value(row) as f64)));
    };
    tell(&LOG_START, &|row| row.offsets.log_start);
    tell(&HIGH_WATERMARK, &|row| row.offsets.high_watermark);
    tell(&LEADER, &|_| i64::from(node_id));
    let places: Vec<(String, u64)> = topics
        .first(config.partitions_max)
        .flat_map(|(topic, PartitionRow { index, holdings })| {
            let place = |place| labels(&[("topic", topic), ("partition", index), ("place", place)]);
            [(place("wal"), holdings.wal_bytes), (place("bucket"), holdings.bucket_bytes)]
        })
        .collect();
    let places = places.iter().map(|(labels, bytes)| (labels.as_str(), *bytes as f64));
    page.family(&PARTITION_BYTES, places);
}

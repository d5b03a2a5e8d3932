//! Kafka's own metrics as the JMX exporter names them with Strimzi's rules, for dashboards that are
//! made for it.
//!
//! There is one broker and one replica of each partition: nothing is under-replicated, and the
//! broker is its own controller. What Kafka tells of its network and request threads is told here
//! of the workers that do the same.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::super::Broker;
use super::topics::{PartitionRow, TopicRow, TopicRows};
use super::{COMPAT_PARTITIONS_MAX, OpenConnections};
use crate::clock::{Clock, Instant};
use crate::metrics::Kind::{Counter, Gauge};
use crate::metrics::{Family, Page, labels};
use crate::partition::Metrics;

const SWITCH: &str = "metrics.compat";

/// A metric that Kafka has once for all topics and once for each; the series of all topics has no
/// label.
const fn topic(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Counter, help, &["topic"]).with(SWITCH)
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family::new(name, Gauge, help, labels).with(SWITCH)
}

const MESSAGES_IN: Family = topic(
    "kafka_server_brokertopicmetrics_messagesin_total",
    "Records appended; without a label of all topics.",
);
const BYTES_IN: Family = topic(
    "kafka_server_brokertopicmetrics_bytesin_total",
    "Bytes of batches appended; without a label of all topics.",
);
const BYTES_OUT: Family = topic(
    "kafka_server_brokertopicmetrics_bytesout_total",
    "Bytes of batches sent to consumers; without a label of all topics.",
);
const PRODUCES: Family = topic(
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    "Times that Produce named a partition; without a label of all topics.",
);
const FETCHES: Family = topic(
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    "Times that Fetch asked for a partition; without a label of all topics.",
);
const FAILED_PRODUCES: Family = topic(
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "Times that Produce failed at a partition; without a label of all topics.",
);
const FAILED_FETCHES: Family = topic(
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "Times that Fetch failed at a partition; without a label of all topics.",
);
const LEADERS: Family =
    gauge("kafka_server_replicamanager_leadercount", "Partitions that this broker leads.", &[]);
const PARTITIONS: Family =
    gauge("kafka_server_replicamanager_partitioncount", "Partitions that this broker has.", &[]);
const UNDER_REPLICATED: Family = gauge(
    "kafka_server_replicamanager_underreplicatedpartitions",
    "Partitions with fewer replicas in sync than they have.",
    &[],
);
const CONTROLLERS: Family = gauge(
    "kafka_controller_kafkacontroller_activecontrollercount",
    "1 if this broker is the controller.",
    &[],
);
const OFFLINE: Family = gauge(
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "Partitions without a leader.",
    &[],
);
const AT_MIN_ISR: Family = gauge(
    "kafka_cluster_partition_atminisr",
    "1 if the partition has just as many replicas in sync as it must: one is all there is.",
    &["topic", "partition"],
);
const UNDER_MIN_ISR: Family = gauge(
    "kafka_cluster_partition_underminisr",
    "1 if the partition has fewer replicas in sync than it must.",
    &["topic", "partition"],
);
const REPLICAS: Family = gauge(
    "kafka_cluster_partition_replicascount",
    "Replicas of the partition.",
    &["topic", "partition"],
);
const LOG_SIZE: Family = gauge(
    "kafka_log_log_size",
    "Bytes of the partition's log, in the bucket and not.",
    &["topic", "partition"],
);
const NETWORK_IDLE: Family = gauge(
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "Share of the time (0 to 1) for which the workers had nothing to do since the look before.",
    &[],
);
const HANDLERS_IDLE: Family = gauge(
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "Share of the time (0 to 1) for which the workers had nothing to do since the look before.",
    &[],
);
const CONNECTIONS: Family = gauge(
    "kafka_server_socket_server_metrics_connection_count",
    "Connections open now, of all listeners together.",
    &["listener", "networkProcessor"],
);

pub(super) const FAMILIES: [&Family; 19] = [
    &MESSAGES_IN,
    &BYTES_IN,
    &BYTES_OUT,
    &PRODUCES,
    &FETCHES,
    &FAILED_PRODUCES,
    &FAILED_FETCHES,
    &LEADERS,
    &PARTITIONS,
    &UNDER_REPLICATED,
    &CONTROLLERS,
    &OFFLINE,
    &AT_MIN_ISR,
    &UNDER_MIN_ISR,
    &REPLICAS,
    &LOG_SIZE,
    &NETWORK_IDLE,
    &HANDLERS_IDLE,
    &CONNECTIONS,
];

/// Looks that come faster than this see what the one before saw: over a shorter time the share
/// says nothing.
const IDLE_WINDOW: Duration = Duration::from_secs(1);

/// What is known beside the broker.
pub(super) struct Jmx {
    connections: OpenConnections,
    runtime: Handle,
    clock: Clock,
    last: Mutex<Idle>,
}

/// How idle the workers were.
struct Idle {
    at: Instant,
    busy: Duration,
    share: f64,
}

impl Jmx {
    pub(super) fn new(connections: OpenConnections, runtime: Handle, clock: Clock) -> Self {
        let last = Idle { at: clock.now(), busy: busy(&runtime), share: 1.0 };
        Self { connections, runtime, clock, last: Mutex::new(last) }
    }

    /// Writes all of them.
    pub(super) fn collect(&self, broker: &Broker, topics: &TopicRows, page: &mut Page) {
        collect_traffic(&broker.partitions().shared().metrics, topics, page);
        let partitions = broker.partitions().len() as f64;
        page.value(&LEADERS, partitions);
        page.value(&PARTITIONS, partitions);
        page.value(&UNDER_REPLICATED, 0.0);
        page.value(&CONTROLLERS, 1.0);
        page.value(&OFFLINE, 0.0);
        collect_partitions(topics, page);
        let idle = self.idle();
        page.value(&NETWORK_IDLE, idle);
        page.value(&HANDLERS_IDLE, idle);
        let listener = labels(&[("listener", "all"), ("networkProcessor", "0")]);
        page.family(&CONNECTIONS, [(listener.as_str(), (self.connections)() as f64)]);
    }

    fn idle(&self) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let passed = now.saturating_duration_since(last.at);
        if passed < IDLE_WINDOW {
            return last.share;
        }
        let busy = busy(&self.runtime);
        let workers = self.runtime.metrics().num_workers().max(1) as f64;
        let worked = busy.saturating_sub(last.busy).as_secs_f64();
        let share = (1.0 - worked / (workers * passed.as_secs_f64())).clamp(0.0, 1.0);
        *last = Idle { at: now, busy, share };
        share
    }
}

fn busy(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}

fn collect_traffic(all: &Metrics, topics: &TopicRows, page: &mut Page) {
    let rows: Vec<(String, &TopicRow)> = topics
        .rows
        .iter()
        .take(COMPAT_PARTITIONS_MAX)
        .map(|row| (labels(&[("topic", &row.topic.name)]), row))
        .collect();
    let mut tell = |family: &Family, all: u64, value: fn(&TopicRow) -> u64| {
        let own = rows.iter().map(|(labels, row)| (labels.as_str(), value(row) as f64));
        page.family(family, std::iter::once(("", all as f64)).chain(own));
    };
    tell(&MESSAGES_IN, all.appended_records.get(), |row| row.traffic.received_records);
    tell(&BYTES_IN, all.appended_bytes.get(), |row| row.traffic.received_bytes);
    tell(&BYTES_OUT, all.fetched_bytes.get(), |row| row.traffic.sent_bytes);
    tell(&PRODUCES, all.produces.get(), |row| row.traffic.produces);
    tell(&FETCHES, all.fetches.get(), |row| row.traffic.fetches);
    tell(&FAILED_PRODUCES, all.produce_failures.get(), |row| row.traffic.produce_failures);
    tell(&FAILED_FETCHES, all.fetch_failures.get(), |row| row.traffic.fetch_failures);
}

fn collect_partitions(topics: &TopicRows, page: &mut Page) {
    let rows: Vec<(String, &PartitionRow)> = topics
        .first(COMPAT_PARTITIONS_MAX)
        .map(|(topic, row)| (labels(&[("topic", topic), ("partition", &row.index)]), row))
        .collect();
    let mut tell = |family: &Family, value: fn(&PartitionRow) -> u64| {
        page.family(family, rows.iter().map(|(it, row)| (it.as_str(), value(row) as f64)));
    };
    tell(&AT_MIN_ISR, |_| 1);
    tell(&UNDER_MIN_ISR, |_| 0);
    tell(&REPLICAS, |_| 1);
    tell(&LOG_SIZE, |row| row.holdings.wal_bytes + row.holdings.bucket_bytes);
}

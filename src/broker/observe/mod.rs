//! What is told of topics, partitions and consumer groups when somebody asks for metrics.
//!
//! Nothing is kept for it between two scrapes: each walks over the metadata, the partitions and the
//! groups as far as the limits of [`MetricsConfig`] go. Their order is that of names, so that the
//! same ones are told every time; what is beyond a limit is counted in
//! `tidegate_metrics_omitted` and has no series. (One series for all the others would be a counter
//! that falls whenever a topic is deleted, which Prometheus takes for a restart.)

mod groups;
mod jmx;
mod kafka_exporter;
mod topics;

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tracing::warn;

use super::Broker;
use crate::config::MetricsConfig;
use crate::log_limit::LogLimit;
use crate::metrics::Kind::Gauge;
use crate::metrics::{Family, Page, Registry, Source, labels};
use groups::GroupRows;
use topics::TopicRows;

/// How many partitions, and pairs of a group and a partition, the families with other programs'
/// names tell.
const COMPAT_PARTITIONS_MAX: usize = 10_000;

const OMITTED: Family = Family::new(
    "tidegate_metrics_omitted",
    Gauge,
    "What has no metrics of its own because of metrics.topics.max, metrics.partitions.max, \
     metrics.groups.max or metrics.group.partitions.max, if that is not 0; with metrics.compat \
     partitions beyond 10,000.",
    &["what"],
);
const WAL_LIMIT: Family = Family::new(
    "tidegate_wal_limit_bytes",
    Gauge,
    "The most bytes that the write-ahead log's files may take (wal.max.bytes).",
    &[],
);
const VOLUME_FREE: Family = Family::new(
    "tidegate_wal_volume_free_bytes",
    Gauge,
    "Free bytes of the volume that data.dir is on.",
    &[],
);
const VOLUME_SIZE: Family = Family::new(
    "tidegate_wal_volume_size_bytes",
    Gauge,
    "Bytes of the volume that data.dir is on.",
    &[],
);

const TIER_LAG_BYTES: Family = Family::new(
    "tidegate_broker_tier_lag_bytes",
    Gauge,
    "Bytes of batches that are not in the bucket.",
    &[],
);
const TIER_LAG_SECONDS: Family = Family::new(
    "tidegate_broker_tier_lag_seconds",
    Gauge,
    "How long the oldest batch that is not in the bucket has waited, at most.",
    &[],
);

/// How many connections are open.
pub type OpenConnections = Box<dyn Fn() -> usize + Send + Sync>;

/// The broker as a source of metrics.
struct Observer {
    /// The registry lives as long as the process, which is no reason for a broker to.
    broker: Weak<Broker>,
    config: MetricsConfig,
    jmx: jmx::Jmx,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Adds what is told of `broker`, which runs on the present runtime.
pub fn register(registry: &Registry, broker: &Arc<Broker>, connections: OpenConnections) {
    let observer = Observer {
        broker: Arc::downgrade(broker),
        config: broker.config().metrics,
        jmx: jmx::Jmx::new(connections, Handle::current(), broker.clock().clone()),
    };
    registry.add(Arc::new(observer));
}

impl Source for Observer {
    fn families(&self) -> Vec<&'static Family> {
        let own =
            [&OMITTED, &WAL_LIMIT, &VOLUME_FREE, &VOLUME_SIZE, &TIER_LAG_BYTES, &TIER_LAG_SECONDS];
        let all = own.into_iter().chain(topics::FAMILIES).chain(groups::FAMILIES);
        let kafka_exporter = kafka_exporter::FAMILIES.into_iter();
        let kafka_exporter = kafka_exporter.filter(|_| self.config.kafka_exporter);
        all.chain(kafka_exporter)
            .chain(jmx::FAMILIES.into_iter().filter(|_| self.config.jmx))
            .collect()
    }

    fn collect(&self, page: &mut Page) {
        let Some(broker) = self.broker.upgrade() else { return };
        let config = &self.config;
        log_volume(&broker, page);
        tier_lag(&broker, page);
        let topics = topics::rows(&broker, config);
        topics::collect(&topics, config, page);
        let groups = groups::rows(&broker, config);
        groups::collect(&groups, config, page);
        if config.kafka_exporter {
            kafka_exporter::collect(&broker, &topics, &groups, page);
        }
        if config.jmx {
            self.jmx.collect(&broker, &topics, page);
        }
        let omitted = omitted(config, &topics, &groups);
        let samples = omitted.map(|(what, count)| (labels(&[("what", what)]), count as f64));
        page.family(&OMITTED, samples.iter().map(|(labels, count)| (labels.as_str(), *count)));
    }
}

/// How much of each is not told; 0 where nothing is to be told at all.
fn omitted(
    config: &MetricsConfig,
    topics: &TopicRows,
    groups: &GroupRows,
) -> [(&'static str, usize); 6] {
    let beyond = |all: usize, most: usize| if most == 0 { 0 } else { all.saturating_sub(most) };
    let of_groups = config.groups_max;
    let pairs = groups.partitions(of_groups).count();
    let compat = if config.kafka_exporter || config.jmx { COMPAT_PARTITIONS_MAX } else { 0 };
    [
        ("topics", beyond(topics.topics, config.topics_max)),
        ("partitions", beyond(topics.partitions, config.partitions_max)),
        ("groups", beyond(groups.groups, of_groups)),
        ("group_topics", beyond(groups.topics(of_groups).count(), of_groups)),
        ("group_partitions", beyond(pairs, config.group_partitions_max)),
        ("compat_partitions", beyond(topics.partitions, compat)),
    ]
}

/// What waits for the bucket, by the logs themselves: it goes on growing when the flusher stands
/// still.
fn tier_lag(broker: &Broker, page: &mut Page) {
    let now_ms = broker.stream().log_clock().now_ms();
    let (mut bytes, mut oldest_ms) = (0, now_ms);
    for partition in broker.partitions().all() {
        bytes += partition.untiered_bytes();
        oldest_ms = oldest_ms.min(partition.untiered_since_ms().unwrap_or(now_ms));
    }
    page.value(&TIER_LAG_BYTES, bytes as f64);
    page.value(&TIER_LAG_SECONDS, now_ms.saturating_sub(oldest_ms) as f64 / 1_000.0);
}

fn log_volume(broker: &Broker, page: &mut Page) {
    static UNKNOWN: LogLimit = LogLimit::new();
    page.value(&WAL_LIMIT, broker.stream().max_bytes() as f64);
    match broker.stream().volume_space() {
        Ok(space) => {
            page.value(&VOLUME_FREE, space.free as f64);
            page.value(&VOLUME_SIZE, space.total as f64);
        }
        Err(error) => {
            if let Some(more) = UNKNOWN.allow(broker.clock()) {
                warn!(%error, more, "size of the data directory's volume unknown");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_names_leave_out_is_counted() {
        let topics = TopicRows {
            node_id: 1,
            rows: Vec::new(),
            topics: 1,
            partitions: COMPAT_PARTITIONS_MAX + 3,
        };
        let groups = GroupRows { rows: Vec::new(), groups: 0 };
        let left_out = |config: MetricsConfig| {
            let omitted = omitted(&config, &topics, &groups);
            omitted.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        assert_eq!(left_out(MetricsConfig::default()), []);
        for (kafka_exporter, jmx) in [(true, false), (false, true)] {
            let config = MetricsConfig { kafka_exporter, jmx, ..MetricsConfig::default() };
            assert_eq!(left_out(config), [("compat_partitions", 3)]);
        }
    }
}

//! What is counted about the metadata.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::image::ClusterImage;
use crate::metrics::{LATENCY_SECONDS, Registry};

/// Metric handles of the cluster's metadata; made once per process.
#[derive(Debug, Clone)]
pub struct ClusterMetrics {
    entry: IntGauge,
    topics: IntGauge,
    partitions: IntGauge,
    fenced: IntGauge,
    commits: IntCounter,
    failures: IntCounter,
    seconds: Histogram,
}

impl ClusterMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Self {
        Self {
            entry: registry.gauge("cluster_metadata_entry", "The last metadata entry applied."),
            topics: registry.gauge("cluster_topics", "Topics in the cluster."),
            partitions: registry.gauge("cluster_partitions", "Partitions in the cluster."),
            fenced: registry.gauge(
                "cluster_fenced",
                "1 if another run of this broker took its place, so that this one must end.",
            ),
            commits: registry
                .counter("cluster_metadata_commits_total", "Metadata entries written."),
            failures: registry.counter(
                "cluster_metadata_commit_failures_total",
                "Attempts to write a metadata entry that did not succeed.",
            ),
            seconds: registry.histogram(
                "cluster_metadata_commit_seconds",
                "Time to write a metadata entry, failed attempts included.",
                LATENCY_SECONDS,
            ),
        }
    }

    pub(super) fn published(&self, image: &ClusterImage) {
        self.entry.set(image.number() as i64);
        self.topics.set(image.topic_count() as i64);
        self.partitions.set(image.partition_count());
    }

    pub(super) fn committed(&self, elapsed: Duration) {
        self.commits.inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn fenced(&self) {
        self.fenced.set(1);
    }
}

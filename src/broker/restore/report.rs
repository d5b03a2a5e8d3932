//! What a restore has to tell.

use serde::Serialize;

use super::RestoreOptions;
use super::load::Loaded;
use crate::cluster::ClusterImage;

/// What became of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its first offset.
    pub log_start: i64,
    /// Behind the last record that is back.
    pub restored_end: i64,
    /// Behind the last record that the last checkpoint knows to have been written; `None` for a
    /// partition that it does not know.
    pub recorded_end: Option<i64>,
    /// How many offsets are known to be lost: they were only local. What was written after the last
    /// checkpoint and had not reached the bucket is lost, too, and nobody knows how much that is.
    pub lost_at_least: i64,
    /// The offset of the next new record.
    pub resumes: i64,
    /// The leader epoch that starts there.
    pub epoch: i32,
    /// Sections that the last checkpoint did not know and that continue its log.
    pub adopted_objects: u64,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The cluster's id.
    pub cluster: String,
    /// The broker's id.
    pub node_id: i32,
    /// The metadata entry that opened the restore, or began this attempt.
    pub metadata_entry: u64,
    /// When the last checkpoint was made, in ms since the epoch by the broker's clock; `None` if
    /// there is none.
    pub checkpoint_ms: Option<i64>,
    /// How many offsets are left out behind the greatest that is known.
    pub offset_gap: i64,
    /// Topics, whose configuration is in the metadata.
    pub topics: u64,
    /// Objects that partitions refer to.
    pub objects: u64,
    /// Of the sections in them those that the last checkpoint did not know.
    pub adopted_objects: u64,
    /// Consumer groups that go on.
    pub groups: u64,
    /// Every partition.
    pub partitions: Vec<PartitionReport>,
    /// What could not be read, each with the cause.
    pub damaged: Vec<String>,
}

impl RestoreReport {
    pub(super) fn new(options: &RestoreOptions, image: &ClusterImage, loaded: &Loaded) -> Self {
        Self {
            cluster: image.cluster_id().to_string(),
            node_id: options.config.node.id,
            metadata_entry: image.number(),
            checkpoint_ms: loaded.summary.map(|summary| summary.wall_ms),
            offset_gap: options.offset_gap,
            topics: image.topic_count() as u64,
            objects: 0,
            adopted_objects: 0,
            groups: 0,
            partitions: Vec::new(),
            damaged: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, partition: PartitionReport) {
        self.adopted_objects += partition.adopted_objects;
        self.partitions.push(partition);
    }

    pub(super) fn sort(&mut self) {
        self.partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    }

    /// How many offsets are known to be lost, of all partitions.
    pub fn lost_at_least(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.lost_at_least).sum()
    }
}

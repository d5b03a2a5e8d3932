//! Consumer groups and their lag.
//!
//! Lag in seconds is how long the first record that a group has not consumed has been waiting: now
//! less that record's timestamp, never below 0, and 0 if the group has all. It follows the records'
//! own timestamps, so a topic that is filled with old data shows lag from the beginning.
//!
//! No file and no object is read for it. The first record of a batch in memory is known exactly; of
//! another there the batch's greatest timestamp is taken. What is not in memory is told by the
//! log's index, to the resolution of a stretch (4 to 64 KiB of the partition's records), and what
//! only the bucket has by the section that it is in. Each time it is the greatest timestamp that
//! counts, so the lag may be told as shorter than it is, and is never told as longer.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::Broker;
use super::COMPAT_PARTITIONS_MAX;
use crate::config::MetricsConfig;
use crate::group::types::{Name, ObservedGroup};
use crate::metrics::Kind::{Counter, Gauge};
use crate::metrics::{Family, Kind, Page, labels};
use crate::protocol::types::{TopicId, TopicPartition};

const fn group(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> Family {
    Family::new(name, kind, help, labels).with("metrics.groups.max")
}

const fn partition(name: &'static str, help: &'static str) -> Family {
    Family::new(name, Gauge, help, &["group", "topic", "partition"])
        .with("metrics.group.partitions.max")
}

const MEMBERS: Family =
    group("tidegate_consumer_group_members", Gauge, "Members of the group.", &["group"]);
const STATE: Family = group(
    "tidegate_consumer_group_state",
    Gauge,
    "1, with the state that the group is in.",
    &["group", "state"],
);
const REBALANCES: Family = group(
    "tidegate_consumer_group_rebalances_total",
    Counter,
    "Rebalances of the group that were begun.",
    &["group"],
);
const LAG_RECORDS: Family = group(
    "tidegate_consumer_group_lag_records",
    Gauge,
    "Offsets between what the group has committed and the high watermark, of all partitions of \
     the topic that it has committed an offset of.",
    &["group", "topic"],
);
const LAG_SECONDS: Family = group(
    "tidegate_consumer_group_lag_seconds",
    Gauge,
    "How old the first record is that the group has not consumed, by the record's own timestamp; \
     of the partitions of the topic the greatest. 0 if the group has consumed all.",
    &["group", "topic"],
);
const COMMITTED: Family = partition(
    "tidegate_consumer_group_committed_offset",
    "The offset that the group has committed: of the next record that it wants.",
);
const PARTITION_LAG_RECORDS: Family = partition(
    "tidegate_consumer_group_partition_lag_records",
    "Offsets between what the group has committed and the high watermark.",
);
const PARTITION_LAG_SECONDS: Family = partition(
    "tidegate_consumer_group_partition_lag_seconds",
    "How old the first record of the partition is that the group has not consumed, by the \
     record's own timestamp. 0 if it has consumed all.",
);

pub(super) const FAMILIES: [&Family; 8] = [
    &MEMBERS,
    &STATE,
    &REBALANCES,
    &LAG_RECORDS,
    &LAG_SECONDS,
    &COMMITTED,
    &PARTITION_LAG_RECORDS,
    &PARTITION_LAG_SECONDS,
];

/// A group as metrics see it.
pub(super) struct GroupRow {
    pub(super) seen: ObservedGroup,
    /// By topic, in order.
    pub(super) topics: Vec<GroupTopicRow>,
}

/// What a group has read of a topic.
pub(super) struct GroupTopicRow {
    pub(super) topic: Name,
    pub(super) partitions: Vec<ReadRow>,
}

/// What a group has read of a partition.
pub(super) struct ReadRow {
    /// The partition's number, as a label.
    pub(super) index: String,
    pub(super) committed: i64,
    pub(super) lag: i64,
    lag_seconds: Option<f64>,
}

impl GroupTopicRow {
    /// The lag of all partitions together.
    pub(super) fn lag(&self) -> i64 {
        self.partitions.iter().map(|row| row.lag).sum()
    }

    fn lag_seconds(&self) -> Option<f64> {
        self.partitions.iter().filter_map(|row| row.lag_seconds).max_by(f64::total_cmp)
    }
}

/// The groups that somebody tells, by name.
pub(super) struct GroupRows {
    pub(super) rows: Vec<GroupRow>,
    /// How many groups there are.
    pub(super) groups: usize,
}

impl GroupRows {
    /// Pairs of a group and a topic, of the first so many groups.
    pub(super) fn topics(&self, groups: usize) -> impl Iterator<Item = (&str, &GroupTopicRow)> {
        self.rows.iter().take(groups).flat_map(|row| {
            let group: &str = &row.seen.group;
            row.topics.iter().map(move |topic| (group, topic))
        })
    }

    /// Each of those with a partition.
    pub(super) fn partitions(&self, groups: usize) -> impl Iterator<Item = (&str, &str, &ReadRow)> {
        self.topics(groups).flat_map(|(group, row)| {
            let topic: &str = &row.topic;
            row.partitions.iter().map(move |partition| (group, topic, partition))
        })
    }
}

/// Looks at as many groups as `config` wants told.
pub(super) fn rows(broker: &Broker, config: &MetricsConfig) -> GroupRows {
    let compat = if config.kafka_exporter { COMPAT_PARTITIONS_MAX } else { 0 };
    let most = config.groups_max.max(compat);
    if most == 0 {
        return GroupRows { rows: Vec::new(), groups: 0 };
    }
    let ids = broker.groups().ids();
    let mut look = Look { broker, ids: HashMap::new(), now_ms: broker.clock().wall_ms() };
    let seen = ids.iter().take(most).filter_map(|id| broker.groups().observe(id));
    let rows = seen.map(|seen| look.row(seen)).collect();
    GroupRows { rows, groups: ids.len() }
}

/// A look at the groups.
struct Look<'a> {
    broker: &'a Broker,
    /// The topics that were met, by name.
    ids: HashMap<Name, Option<TopicId>>,
    now_ms: i64,
}

impl Look<'_> {
    fn row(&mut self, mut seen: ObservedGroup) -> GroupRow {
        let mut topics: Vec<GroupTopicRow> = Vec::new();
        for (topic, index, committed) in std::mem::take(&mut seen.offsets) {
            let Some(read) = self.read(&topic, index, committed) else { continue };
            match topics.last_mut() {
                Some(last) if last.topic == topic => last.partitions.push(read),
                _ => topics.push(GroupTopicRow { topic, partitions: vec![read] }),
            }
        }
        GroupRow { seen, topics }
    }

    fn read(&mut self, topic: &Name, index: i32, committed: i64) -> Option<ReadRow> {
        if committed < 0 {
            return None;
        }
        let broker = self.broker;
        let id = *self
            .ids
            .entry(Arc::clone(topic))
            .or_insert_with(|| broker.image().topic(topic).map(|topic| topic.id));
        let partition = broker.partition(TopicPartition { topic: id?, partition: index })?;
        let behind = partition.behind(committed);
        let age_ms = |since_ms: i64| self.now_ms.saturating_sub(since_ms).max(0);
        let lag_seconds = match behind.since_ms {
            Some(since_ms) => Some(age_ms(since_ms) as f64 / 1e3),
            None => (behind.records == 0).then_some(0.0),
        };
        Some(ReadRow { index: index.to_string(), committed, lag: behind.records, lag_seconds })
    }
}

/// Writes what is told of groups.
pub(super) fn collect(groups: &GroupRows, config: &MetricsConfig, page: &mut Page) {
    let rows: Vec<(String, &ObservedGroup)> = groups
        .rows
        .iter()
        .take(config.groups_max)
        .map(|row| (labels(&[("group", &row.seen.group)]), &row.seen))
        .collect();
    let of = |value: fn(&ObservedGroup) -> f64| {
        rows.iter().map(move |(labels, row)| (labels.as_str(), value(row)))
    };
    page.family(&MEMBERS, of(|row| row.members as f64));
    page.family(&REBALANCES, of(|row| row.rebalances as f64));
    let state = |row: &ObservedGroup| labels(&[("group", &row.group), ("state", row.state.name())]);
    let states: Vec<String> = rows.iter().map(|(_, row)| state(row)).collect();
    page.family(&STATE, states.iter().map(|labels| (labels.as_str(), 1.0)));
    collect_lag(groups, config, page);
}

fn collect_lag(groups: &GroupRows, config: &MetricsConfig, page: &mut Page) {
    let topics: Vec<(String, &GroupTopicRow)> = groups
        .topics(config.groups_max)
        .take(config.groups_max)
        .map(|(group, row)| (labels(&[("group", group), ("topic", &row.topic)]), row))
        .collect();
    page.family(&LAG_RECORDS, topics.iter().map(|(it, row)| (it.as_str(), row.lag() as f64)));
    let seconds = topics.iter().filter_map(|(it, row)| Some((it.as_str(), row.lag_seconds()?)));
    page.family(&LAG_SECONDS, seconds);
    let partitions: Vec<(String, &ReadRow)> = groups
        .partitions(config.groups_max)
        .take(config.group_partitions_max)
        .map(|(group, topic, row)| {
            (labels(&[("group", group), ("topic", topic), ("partition", &row.index)]), row)
        })
        .collect();
    let of = |value: fn(&ReadRow) -> i64| {
        partitions.iter().map(move |(labels, row)| (labels.as_str(), value(row) as f64))
    };
    page.family(&COMMITTED, of(|row| row.committed));
    page.family(&PARTITION_LAG_RECORDS, of(|row| row.lag));
    let seconds = partitions.iter().filter_map(|(it, row)| Some((it.as_str(), row.lag_seconds?)));
    page.family(&PARTITION_LAG_SECONDS, seconds);
}

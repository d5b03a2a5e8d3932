//! The names and labels of `danielqsj/kafka_exporter`, for dashboards that are made for it. A
//! broker has all replicas there are of a partition: its own.

use super::super::Broker;
use super::COMPAT_PARTITIONS_MAX;
use super::groups::{GroupRows, ReadRow};
use super::topics::{PartitionRow, TopicRows};
use crate::metrics::Kind::Gauge;
use crate::metrics::{Family, Page, labels};

const SWITCH: &str = "metrics.compat";

const fn family(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family::new(name, Gauge, help, labels).with(SWITCH)
}

const fn of_partition(name: &'static str, help: &'static str) -> Family {
    family(name, help, &["topic", "partition"])
}

const fn of_group(name: &'static str, help: &'static str) -> Family {
    family(name, help, &["consumergroup", "topic", "partition"])
}

const fn of_group_topic(name: &'static str, help: &'static str) -> Family {
    family(name, help, &["consumergroup", "topic"])
}

const BROKERS: Family = family("kafka_brokers", "Number of brokers in the cluster.", &[]);
const BROKER_INFO: Family =
    family("kafka_broker_info", "1, with a broker's id and address.", &["id", "address"]);
const PARTITIONS: Family =
    family("kafka_topic_partitions", "Number of partitions of this topic.", &["topic"]);
const CURRENT_OFFSET: Family = of_partition(
    "kafka_topic_partition_current_offset",
    "The offset behind the last record of this partition.",
);
const OLDEST_OFFSET: Family = of_partition(
    "kafka_topic_partition_oldest_offset",
    "The offset of the first record of this partition.",
);
const IN_SYNC: Family = of_partition(
    "kafka_topic_partition_in_sync_replica",
    "Number of in-sync replicas of this partition.",
);
const LEADER: Family =
    of_partition("kafka_topic_partition_leader", "Broker id of the leader of this partition.");
const PREFERRED: Family = of_partition(
    "kafka_topic_partition_leader_is_preferred",
    "1 if this partition is led by its preferred broker.",
);
const REPLICAS: Family =
    of_partition("kafka_topic_partition_replicas", "Number of replicas of this partition.");
const UNDER_REPLICATED: Family = of_partition(
    "kafka_topic_partition_under_replicated_partition",
    "1 if this partition is under replicated.",
);
const GROUP_OFFSET: Family = of_group(
    "kafka_consumergroup_current_offset",
    "Offset that a consumer group has committed of a partition.",
);
const GROUP_OFFSET_SUM: Family = of_group_topic(
    "kafka_consumergroup_current_offset_sum",
    "Offsets that a consumer group has committed of all partitions of a topic, added up.",
);
const LAG: Family =
    of_group("kafka_consumergroup_lag", "Lag of a consumer group at a partition, in offsets.");
const LAG_SUM: Family = of_group_topic(
    "kafka_consumergroup_lag_sum",
    "Lag of a consumer group at all partitions of a topic, in offsets.",
);
const MEMBERS: Family = family(
    "kafka_consumergroup_members",
    "Number of members of a consumer group.",
    &["consumergroup"],
);

pub(super) const FAMILIES: [&Family; 15] = [
    &BROKERS,
    &BROKER_INFO,
    &PARTITIONS,
    &CURRENT_OFFSET,
    &OLDEST_OFFSET,
    &IN_SYNC,
    &LEADER,
    &PREFERRED,
    &REPLICAS,
    &UNDER_REPLICATED,
    &GROUP_OFFSET,
    &GROUP_OFFSET_SUM,
    &LAG,
    &LAG_SUM,
    &MEMBERS,
];

/// Writes all of them.
pub(super) fn collect(broker: &Broker, topics: &TopicRows, groups: &GroupRows, page: &mut Page) {
    page.value(&BROKERS, 1.0);
    let listener = broker.config().server.listeners.first();
    let known = listener.map(|listener| broker.advertised(&listener.name));
    if let Some(known) = known.filter(|known| known.port != 0) {
        let (id, address) =
            (broker.node_id().to_string(), format!("{}:{}", known.host, known.port));
        page.family(&BROKER_INFO, [(labels(&[("id", &id), ("address", &address)]).as_str(), 1.0)]);
    }
    collect_topics(topics, page);
    collect_groups(groups, page);
}

fn collect_topics(topics: &TopicRows, page: &mut Page) {
    let counts: Vec<(String, i32)> = topics
        .rows
        .iter()
        .take(COMPAT_PARTITIONS_MAX)
        .map(|row| (labels(&[("topic", &row.topic.name)]), row.topic.partition_count()))
        .collect();
    page.family(&PARTITIONS, counts.iter().map(|(it, count)| (it.as_str(), f64::from(*count))));
    let rows: Vec<(String, &PartitionRow)> = topics
        .first(COMPAT_PARTITIONS_MAX)
        .map(|(topic, row)| (labels(&[("topic", topic), ("partition", &row.index)]), row))
        .collect();
    let mut tell = |family: &Family, value: &dyn Fn(&PartitionRow) -> i64| {
        page.family(family, rows.iter().map(|(it, row)| (it.as_str(), value(row) as f64)));
    };
    let node_id = i64::from(topics.node_id);
    tell(&CURRENT_OFFSET, &|row| row.holdings.offsets.high_watermark);
    tell(&OLDEST_OFFSET, &|row| row.holdings.offsets.log_start);
    tell(&IN_SYNC, &|_| 1);
    tell(&LEADER, &|_| node_id);
    tell(&PREFERRED, &|_| 1);
    tell(&REPLICAS, &|_| 1);
    tell(&UNDER_REPLICATED, &|_| 0);
}

fn collect_groups(groups: &GroupRows, page: &mut Page) {
    let reads: Vec<(String, &ReadRow)> = groups
        .partitions(usize::MAX)
        .take(COMPAT_PARTITIONS_MAX)
        .map(|(group, topic, row)| {
            let partition = row.index.as_str();
            let pairs = [("consumergroup", group), ("topic", topic), ("partition", partition)];
            (labels(&pairs), row)
        })
        .collect();
    page.family(&GROUP_OFFSET, reads.iter().map(|(it, row)| (it.as_str(), row.committed as f64)));
    page.family(&LAG, reads.iter().map(|(it, row)| (it.as_str(), row.lag as f64)));
    let sums: Vec<(String, i64, i64)> = groups
        .topics(usize::MAX)
        .take(COMPAT_PARTITIONS_MAX)
        .map(|(group, row)| {
            let labels = labels(&[("consumergroup", group), ("topic", &row.topic)]);
            let committed = row.partitions.iter().map(|read| read.committed);
            (labels, committed.fold(0, i64::saturating_add), row.lag())
        })
        .collect();
    let committed = sums.iter().map(|(it, committed, _)| (it.as_str(), *committed as f64));
    page.family(&GROUP_OFFSET_SUM, committed);
    page.family(&LAG_SUM, sums.iter().map(|(it, _, lag)| (it.as_str(), *lag as f64)));
    let members: Vec<(String, usize)> = groups
        .rows
        .iter()
        .take(COMPAT_PARTITIONS_MAX)
        .map(|row| (labels(&[("consumergroup", &row.seen.group)]), row.seen.members))
        .collect();
    page.family(&MEMBERS, members.iter().map(|(it, count)| (it.as_str(), *count as f64)));
}

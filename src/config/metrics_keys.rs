//! The keys of a broker's metrics.

use super::key::Default::Is;
use super::key::Key;
use super::key::Kind::{Int, List};

const I32: i64 = i32::MAX as i64;

pub(super) const TOPICS_MAX: Key = Key::new(
    "metrics.topics.max",
    Int { min: 0, max: I32 },
    Is("100"),
    "How many topics have metrics of their own, the first by name; about ten series each. 0 is \
     none. What has none counts in tidegate_metrics_omitted.",
);

pub(super) const PARTITIONS_MAX: Key = Key::new(
    "metrics.partitions.max",
    Int { min: 0, max: I32 },
    Is("0"),
    "How many partitions have metrics of their own, the first by topic and number; five series \
     each.",
);

pub(super) const GROUPS_MAX: Key = Key::new(
    "metrics.groups.max",
    Int { min: 0, max: I32 },
    Is("100"),
    "How many consumer groups have metrics of their own, the first by name, and how many pairs of \
     a group and a topic that it reads have their lag told. 0 is none.",
);

pub(super) const GROUP_PARTITIONS_MAX: Key = Key::new(
    "metrics.group.partitions.max",
    Int { min: 0, max: I32 },
    Is("0"),
    "How many pairs of a consumer group and a partition have their offset and lag told, of groups \
     that metrics.groups.max takes in.",
);

pub(super) const COMPAT: Key = Key::new(
    "metrics.compat",
    List,
    Is(""),
    "Metrics with the names of other programs beside our own, so that dashboards made for Kafka \
     show data: kafka-exporter, jmx (Kafka's own through the JMX exporter, as Strimzi names them) \
     or both. They have series for each of the first 10000 partitions, by topic, group and number.",
);

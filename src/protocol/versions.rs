//! The APIs and versions that we advertise.
//!
//! The table is ours and never `ApiKey::valid_versions()` of the crate, which is computed from
//! responses and promises `OffsetCommit` 10, `OffsetFetch` 10 and `InitProducerId` 6 while the
//! crate's requests end one version earlier. The minima are those of Apache Kafka 4 (KIP-896).

use std::fmt;

use kafka_protocol::messages::ApiKey;

/// An inclusive range of versions; empty when `min` is above `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl VersionRange {
    /// The range that holds no version.
    pub const EMPTY: VersionRange = VersionRange { min: 0, max: -1 };

    /// The range from `min` to `max`, both included.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether the range holds no version.
    pub const fn is_empty(self) -> bool {
        self.min > self.max
    }

    /// The versions that both ranges hold; possibly none.
    pub const fn intersect(self, other: VersionRange) -> VersionRange {
        VersionRange {
            min: if self.min > other.min { self.min } else { other.min },
            max: if self.max < other.max { self.max } else { other.max },
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// One API that we advertise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Kafka's key.
    pub key: ApiKey,
    /// Kafka's name of the API; also its metric label.
    pub name: &'static str,
    /// What `ApiVersions` says.
    pub advertised: VersionRange,
    /// What is decoded and answered. A request of another version closes the connection, as in
    /// Apache Kafka; only `ApiVersions` answers with an error and the list of versions.
    pub served: VersionRange,
}

/// Produce is advertised from version 0 and served from here: librdkafka before 2.11.1 turns
/// compression off against a broker without version 0 (KAFKA-18659).
pub const PRODUCE_MIN_SERVED: i16 = 3;

/// Every API that we advertise, by key.
pub static APIS: [Api; 34] = [
    Api {
        key: ApiKey::Produce,
        name: "Produce",
        advertised: VersionRange::new(0, 13),
        served: VersionRange::new(PRODUCE_MIN_SERVED, 13),
    },
    api(ApiKey::Fetch, "Fetch", 4, 18),
    api(ApiKey::ListOffsets, "ListOffsets", 1, 10),
    api(ApiKey::Metadata, "Metadata", 0, 13),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 9),
    api(ApiKey::OffsetFetch, "OffsetFetch", 1, 9),
    api(ApiKey::FindCoordinator, "FindCoordinator", 0, 6),
    api(ApiKey::JoinGroup, "JoinGroup", 0, 9),
    api(ApiKey::Heartbeat, "Heartbeat", 0, 4),
    api(ApiKey::LeaveGroup, "LeaveGroup", 0, 5),
    api(ApiKey::SyncGroup, "SyncGroup", 0, 5),
    api(ApiKey::DescribeGroups, "DescribeGroups", 0, 6),
    api(ApiKey::ListGroups, "ListGroups", 0, 5),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 4),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 6),
    api(ApiKey::DeleteRecords, "DeleteRecords", 0, 2),
    api(ApiKey::InitProducerId, "InitProducerId", 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4),
    api(ApiKey::AlterConfigs, "AlterConfigs", 0, 2),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4),
    api(ApiKey::CreatePartitions, "CreatePartitions", 0, 3),
    api(ApiKey::DeleteGroups, "DeleteGroups", 0, 2),
    api(ApiKey::ElectLeaders, "ElectLeaders", 0, 2),
    api(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1),
    api(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 1),
    api(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0),
    api(ApiKey::OffsetDelete, "OffsetDelete", 0, 0),
    api(ApiKey::DescribeQuorum, "DescribeQuorum", 0, 2),
    api(ApiKey::UpdateFeatures, "UpdateFeatures", 0, 2),
    api(ApiKey::DescribeCluster, "DescribeCluster", 0, 2),
    api(ApiKey::ListConfigResources, "ListConfigResources", 0, 1),
    api(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", 0, 0),
];

const fn api(key: ApiKey, name: &'static str, min: i16, max: i16) -> Api {
    let versions = VersionRange::new(min, max);
    Api { key, name, advertised: versions, served: versions }
}

/// The row of an API key, or nothing when we do not advertise it.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::guard::{shape, shapes};

    #[test]
    fn apis_are_sorted_and_unique() {
        assert!(APIS.windows(2).all(|pair| (pair[0].key as i16) < pair[1].key as i16));
    }

    #[test]
    fn every_served_version_has_a_shape_of_the_same_name() {
        for api in &APIS {
            let message = shape::message(api.key as i16).expect("a shape row");
            assert_eq!(message.name, api.name);
            assert_eq!(api.served.intersect(message.versions), api.served, "{}", api.name);
        }
    }

    #[test]
    fn nothing_is_advertised_that_kafka_does_not_speak() {
        for api in &APIS {
            let kafka = shape::kafka_api(api.key as i16).expect("a row of Kafka");
            assert_eq!(api.served.intersect(kafka.versions), api.served, "{}", api.name);
        }
        assert_eq!(shapes::KAFKA_APIS.len(), 89);
    }

    #[test]
    fn find_knows_advertised_keys_only() {
        assert_eq!(find(3).map(|api| api.name), Some("Metadata"));
        assert_eq!(find(4), None);
        assert_eq!(find(-1), None);
        assert_eq!(find(24), None);
    }

    #[test]
    fn ranges_intersect_and_contain() {
        let both = VersionRange::new(2, 9).intersect(VersionRange::new(4, 12));
        assert_eq!(both, VersionRange::new(4, 9));
        assert!(both.contains(4) && both.contains(9) && !both.contains(10) && !both.contains(3));
        assert!(VersionRange::new(0, 1).intersect(VersionRange::new(2, 3)).is_empty());
        assert!(VersionRange::EMPTY.is_empty() && !VersionRange::EMPTY.contains(0));
    }
}

//! What the proxy does with each API and version: it is advertised and goes on as bytes, it is
//! advertised and its responses are rewritten, or it is for controllers and brokers among
//! themselves.
//!
//! What a client is told is what its upstream connection and this table have in common. No version
//! is left out to avoid a rewrite. The table's versions begin at 0 also where Kafka 4 has dropped
//! the first ones (KIP-896): an older upstream may have them, and nothing in them names a node that
//! later ones do not.

use Treatment::{Forwarded, Refused, Rewritten};

use crate::protocol::versions::VersionRange;

/// The key of Produce.
pub(super) const PRODUCE: i16 = 0;

/// What happens to a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Both go on as they came, under another correlation id.
    Forward,
    /// The request goes on as it came; the response says where nodes are, or may, or what the
    /// upstream serves, and is rewritten.
    Rewrite,
    /// It is not advertised: only controllers answer it.
    Refuse,
}

/// What the proxy knows of an API.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Kafka's key.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// The versions that are known.
    pub versions: VersionRange,
    treatment: Treatment,
}

/// How the class follows from the version.
#[derive(Clone, Copy, Debug)]
enum Treatment {
    Forwarded,
    /// From this version on; before, responses named no node.
    Rewritten(i16),
    Refused,
}

impl Row {
    /// The class of a version that is known.
    pub fn class(&self, version: i16) -> Class {
        match self.treatment {
            Treatment::Forwarded => Class::Forward,
            Treatment::Rewritten(since) if version < since => Class::Forward,
            Treatment::Rewritten(_) => Class::Rewrite,
            Treatment::Refused => Class::Refuse,
        }
    }
}

/// The row of an API; nothing for one that the proxy does not know.
pub fn find(key: i16) -> Option<&'static Row> {
    let place = ROWS.binary_search_by_key(&key, |row| row.key).ok()?;
    ROWS.get(place)
}

/// The class of an API in a version; nothing where it is not known.
pub fn class(key: i16, version: i16) -> Option<Class> {
    find(key).filter(|row| row.versions.contains(version)).map(|row| row.class(version))
}

/// What a client whose upstream advertises `upstream` may use: key, lowest and highest version, in
/// the upstream's order.
pub fn usable(upstream: impl IntoIterator<Item = (i16, VersionRange)>) -> Vec<(i16, VersionRange)> {
    let common = |(key, versions): (i16, VersionRange)| {
        let row = find(key).filter(|row| !matches!(row.treatment, Treatment::Refused))?;
        let versions = row.versions.intersect(versions);
        (!versions.is_empty()).then_some((key, versions))
    };
    upstream.into_iter().filter_map(common).collect()
}

/// What is advertised to it: the same, but for Produce, which begins at 0 whatever the upstream
/// has. Without that, librdkafka before 2.0 switches compression off (KAFKA-18659).
pub fn advertised(
    upstream: impl IntoIterator<Item = (i16, VersionRange)>,
) -> Vec<(i16, VersionRange)> {
    let mut usable = usable(upstream);
    if let Some((_, produce)) = usable.iter_mut().find(|(key, _)| *key == PRODUCE) {
        produce.min = 0;
    }
    usable
}

/// What an upstream serves and its clients cannot use, since it is not known here: the names of
/// APIs with the last version there and the last one here, and the keys of whole APIs.
pub fn newer(upstream: impl IntoIterator<Item = (i16, VersionRange)>) -> (Vec<String>, Vec<i16>) {
    let (mut versions, mut keys) = (Vec::new(), Vec::new());
    for (key, served) in upstream {
        match find(key) {
            None => keys.push(key),
            Some(row) if served.max > row.versions.max => {
                versions.push(format!("{} {} ({})", row.name, served.max, row.versions.max));
            }
            Some(_) => {}
        }
    }
    (versions, keys)
}

/// Every API that is not refused, with the versions that are known.
pub fn known() -> impl Iterator<Item = (i16, VersionRange)> {
    let rows = ROWS.iter().filter(|row| !matches!(row.treatment, Treatment::Refused));
    rows.map(|row| (row.key, row.versions))
}

const fn row(key: i16, name: &'static str, max: i16, treatment: Treatment) -> Row {
    Row { key, name, versions: VersionRange::new(0, max), treatment }
}

/// Every API of Kafka 4.3, by key.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(0, "Produce", 13, Rewritten(10)),
    row(1, "Fetch", 18, Rewritten(11)),
    row(2, "ListOffsets", 11, Forwarded),
    row(3, "Metadata", 13, Rewritten(0)),
    row(8, "OffsetCommit", 10, Forwarded),
    row(9, "OffsetFetch", 10, Forwarded),
    row(10, "FindCoordinator", 6, Rewritten(0)),
    row(11, "JoinGroup", 9, Forwarded),
    row(12, "Heartbeat", 4, Forwarded),
    row(13, "LeaveGroup", 5, Forwarded),
    row(14, "SyncGroup", 5, Forwarded),
    row(15, "DescribeGroups", 6, Forwarded),
    row(16, "ListGroups", 5, Forwarded),
    row(17, "SaslHandshake", 1, Forwarded),
    row(18, "ApiVersions", 4, Rewritten(0)),
    row(19, "CreateTopics", 7, Forwarded),
    row(20, "DeleteTopics", 6, Forwarded),
    row(21, "DeleteRecords", 2, Forwarded),
    row(22, "InitProducerId", 5, Forwarded),
    row(23, "OffsetForLeaderEpoch", 4, Forwarded),
    row(24, "AddPartitionsToTxn", 5, Forwarded),
    row(25, "AddOffsetsToTxn", 4, Forwarded),
    row(26, "EndTxn", 5, Forwarded),
    row(27, "WriteTxnMarkers", 2, Forwarded),
    row(28, "TxnOffsetCommit", 5, Forwarded),
    row(29, "DescribeAcls", 3, Forwarded),
    row(30, "CreateAcls", 3, Forwarded),
    row(31, "DeleteAcls", 3, Forwarded),
    row(32, "DescribeConfigs", 4, Forwarded),
    row(33, "AlterConfigs", 2, Forwarded),
    row(34, "AlterReplicaLogDirs", 2, Forwarded),
    row(35, "DescribeLogDirs", 5, Forwarded),
    row(36, "SaslAuthenticate", 2, Forwarded),
    row(37, "CreatePartitions", 3, Forwarded),
    row(38, "CreateDelegationToken", 3, Forwarded),
    row(39, "RenewDelegationToken", 2, Forwarded),
    row(40, "ExpireDelegationToken", 2, Forwarded),
    row(41, "DescribeDelegationToken", 3, Forwarded),
    row(42, "DeleteGroups", 2, Forwarded),
    row(43, "ElectLeaders", 2, Forwarded),
    row(44, "IncrementalAlterConfigs", 1, Forwarded),
    row(45, "AlterPartitionReassignments", 1, Forwarded),
    row(46, "ListPartitionReassignments", 0, Forwarded),
    row(47, "OffsetDelete", 0, Forwarded),
    row(48, "DescribeClientQuotas", 1, Forwarded),
    row(49, "AlterClientQuotas", 1, Forwarded),
    row(50, "DescribeUserScramCredentials", 0, Forwarded),
    row(51, "AlterUserScramCredentials", 0, Forwarded),
    row(52, "Vote", 2, Refused),
    row(53, "BeginQuorumEpoch", 1, Refused),
    row(54, "EndQuorumEpoch", 1, Refused),
    row(55, "DescribeQuorum", 2, Rewritten(0)),
    row(56, "AlterPartition", 3, Refused),
    row(57, "UpdateFeatures", 2, Forwarded),
    row(58, "Envelope", 0, Refused),
    row(59, "FetchSnapshot", 1, Refused),
    row(60, "DescribeCluster", 2, Rewritten(0)),
    row(61, "DescribeProducers", 0, Forwarded),
    row(62, "BrokerRegistration", 4, Refused),
    row(63, "BrokerHeartbeat", 2, Refused),
    row(64, "UnregisterBroker", 0, Forwarded),
    row(65, "DescribeTransactions", 0, Forwarded),
    row(66, "ListTransactions", 2, Forwarded),
    row(67, "AllocateProducerIds", 0, Refused),
    row(68, "ConsumerGroupHeartbeat", 1, Forwarded),
    row(69, "ConsumerGroupDescribe", 1, Forwarded),
    row(70, "ControllerRegistration", 0, Refused),
    row(71, "GetTelemetrySubscriptions", 0, Forwarded),
    row(72, "PushTelemetry", 0, Forwarded),
    row(73, "AssignReplicasToDirs", 0, Refused),
    row(74, "ListConfigResources", 1, Forwarded),
    row(75, "DescribeTopicPartitions", 0, Forwarded),
    row(76, "ShareGroupHeartbeat", 1, Forwarded),
    row(77, "ShareGroupDescribe", 1, Forwarded),
    // Version 0 was the early access of Kafka 4.0; no other release knows what it looked like.
    Row { versions: VersionRange::new(1, 2), ..row(78, "ShareFetch", 2, Rewritten(1)) },
    Row { versions: VersionRange::new(1, 2), ..row(79, "ShareAcknowledge", 2, Rewritten(1)) },
    row(80, "AddRaftVoter", 1, Forwarded),
    row(81, "RemoveRaftVoter", 0, Forwarded),
    row(82, "UpdateRaftVoter", 0, Refused),
    row(83, "InitializeShareGroupState", 0, Forwarded),
    row(84, "ReadShareGroupState", 0, Forwarded),
    row(85, "WriteShareGroupState", 1, Forwarded),
    row(86, "DeleteShareGroupState", 0, Forwarded),
    row(87, "ReadShareGroupStateSummary", 1, Forwarded),
    row(88, "StreamsGroupHeartbeat", 0, Forwarded),
    row(89, "StreamsGroupDescribe", 0, Forwarded),
    row(90, "DescribeShareGroupOffsets", 1, Forwarded),
    row(91, "AlterShareGroupOffsets", 0, Forwarded),
    row(92, "DeleteShareGroupOffsets", 0, Forwarded),
];

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;
    use crate::protocol::guard::shape;
    use crate::protocol::guard::shapes::{KAFKA_APIS, RESPONSES};

    /// Versions that the crate knows and no release of Kafka advertises.
    const NOT_KNOWN: &[(i16, i16)] = &[(22, 6)];

    #[test]
    fn every_api_and_version_of_the_crate_is_classified() {
        for api in ApiKey::iter() {
            let (key, versions) = (api as i16, api.valid_versions());
            // What brokers of Kafka 4 no longer speak among themselves.
            if shape::kafka_api(key).is_none() {
                assert_eq!(class(key, versions.max), None, "{api:?}");
                continue;
            }
            for version in versions.min..=versions.max {
                let known = class(key, version).is_some();
                assert!(known || NOT_KNOWN.contains(&(key, version)), "{api:?} v{version}");
            }
        }
    }

    #[test]
    fn the_table_has_what_the_jar_has() {
        assert_eq!(ROWS.len(), KAFKA_APIS.len());
        for (row, api) in ROWS.iter().zip(KAFKA_APIS) {
            let known = (row.key, row.name, row.versions.max);
            assert_eq!(known, (api.key, api.name, api.versions.max));
        }
    }

    #[test]
    fn exactly_the_responses_with_a_shape_are_rewritten() {
        for row in ROWS {
            let rewritten = row.class(row.versions.max) == Class::Rewrite;
            assert_eq!(rewritten, RESPONSES.iter().any(|shape| shape.key == row.key), "{row:?}");
        }
        let class = |key, version| class(key, version).unwrap();
        assert_eq!((class(0, 9), class(0, 10)), (Class::Forward, Class::Rewrite));
        assert_eq!((class(1, 10), class(1, 11)), (Class::Forward, Class::Rewrite));
        assert_eq!((class(3, 0), class(10, 0)), (Class::Rewrite, Class::Rewrite));
    }

    #[test]
    fn what_is_advertised_is_what_both_know() {
        let range = VersionRange::new;
        let upstream = [
            (0, range(3, 99)),
            (18, range(0, 5)),
            (1, range(12, 14)),
            (56, range(2, 3)),
            (3, range(90, 99)),
            (999, range(0, 1)),
        ];
        let wanted = [(0, range(0, 13)), (18, range(0, 4)), (1, range(12, 14))];
        assert_eq!(advertised(upstream), wanted);
        assert_eq!(usable(upstream)[0], (0, range(3, 13)));
        let versions = ["Produce 99 (13)", "ApiVersions 5 (4)", "Metadata 99 (13)"];
        assert_eq!(newer(upstream), (versions.map(str::to_owned).to_vec(), vec![999]));
    }
}

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

fn topic() -> impl Strategy<Value = TopicId> {
    any::<u128>().prop_map(|bits| TopicId(Uuid::from_u128(bits)))
}

fn record() -> impl Strategy<Value = Record> {
    let text = || "\\PC{0,12}";
    prop_oneof![
        any::<[u8; 16]>().prop_map(|id| Record::ClusterCreated { cluster_id: ClusterId(id) }),
        any::<u16>().prop_map(|level| Record::FeatureLevel { level }),
        (any::<i32>(), any::<[u8; 16]>()).prop_map(|(node_id, identity)| Record::BrokerBound {
            node_id,
            identity: Identity(identity)
        }),
        (any::<i32>(), any::<[u8; 16]>()).prop_map(|(node_id, bits)| {
            Record::BrokerIncarnation { node_id, incarnation: Incarnation(bits) }
        }),
        (
            (topic(), text(), any::<i32>(), any::<i16>(), any::<i32>(), any::<i32>()),
            btree_map(text(), text(), 0..4)
        )
            .prop_map(
                |((topic, name, partitions, replication_factor, owner, base), configs)| {
                    Record::TopicCreated {
                        topic,
                        name: name.into(),
                        partitions,
                        replication_factor,
                        owner,
                        epoch_base: base,
                        configs,
                    }
                }
            ),
        topic().prop_map(|topic| Record::TopicDeleted { topic }),
        (any::<i32>(), btree_map(text(), option::of(text()), 0..4))
            .prop_map(|(node_id, configs)| Record::BrokerConfigsSet { node_id, configs }),
        (topic(), any::<i32>(), any::<i32>())
            .prop_map(|(topic, count, owner)| Record::PartitionsAdded { topic, count, owner }),
        (topic(), btree_map(text(), option::of(text()), 0..4))
            .prop_map(|(topic, configs)| Record::TopicConfigsSet { topic, configs }),
        (any::<i64>(), any::<i32>())
            .prop_map(|(first, count)| Record::ProducerIdsAllocated { first, count }),
        any::<i32>().prop_map(|node_id| Record::RestoreOpened { node_id }),
        any::<i32>().prop_map(|node_id| Record::RestoreClosed { node_id }),
    ]
}

/// One record of every kind.
fn samples() -> Vec<Record> {
    let topic = TopicId(Uuid::from_bytes([0x70; 16]));
    let text = str::to_owned;
    vec![
        Record::ClusterCreated { cluster_id: ClusterId([0xc1; 16]) },
        Record::FeatureLevel { level: 1 },
        Record::BrokerBound { node_id: 1, identity: Identity([0x1d; 16]) },
        Record::BrokerIncarnation { node_id: 1, incarnation: Incarnation([0x1f; 16]) },
        Record::TopicCreated {
            topic,
            name: "orders".into(),
            partitions: 3,
            replication_factor: 2,
            owner: 1,
            epoch_base: 5,
            configs: [(text("k"), text("v"))].into(),
        },
        Record::TopicDeleted { topic },
        Record::PartitionsAdded { topic, count: 6, owner: 1 },
        Record::TopicConfigsSet {
            topic,
            configs: [(text("a"), Some(text("b"))), (text("c"), None)].into(),
        },
        Record::ProducerIdsAllocated { first: 1 << 48, count: 1000 },
        Record::BrokerConfigsSet {
            node_id: ALL_BROKERS,
            configs: [(text("a"), Some(text("b"))), (text("c"), None)].into(),
        },
        Record::RestoreOpened { node_id: 1 },
        Record::RestoreClosed { node_id: 1 },
    ]
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_frozen_sample_is_written_and_read() {
    let id = "70".repeat(16);
    let frozen = [
        // version, wall time, count
        "0001",
        "0000018bcfe56800",
        "0000000c",
        // kind, version, length, body
        &format!("0001000100000010{}", "c1".repeat(16)),
        "00020001000000020001",
        &format!("000300010000001400000001{}", "1d".repeat(16)),
        &format!("000400010000001400000001{}", "1f".repeat(16)),
        &format!("0010000100000030{id}00066f7264657273"),
        "0000000300020000000100000005",
        "0000000100016b000176",
        &format!("0011000100000010{id}"),
        &format!("0012000100000018{id}0000000600000001"),
        &format!("001300010000001f{id}00000002"),
        "00016101000162",
        "00016300",
        "002000010000000c0001000000000000000003e8",
        "0005000100000013ffffffff00000002",
        "00016101000162",
        "00016300",
        "006000010000000400000001",
        "006100010000000400000001",
    ]
    .concat();
    let bytes = encode_entry(1_700_000_000_000, &samples());
    assert_eq!(hex(&bytes), frozen);
    assert_eq!(decode_entry(&bytes).unwrap(), (1_700_000_000_000, samples()));
}

#[test]
fn an_unknown_kind_and_newer_versions_are_refused() {
    let good = encode_entry(0, &[Record::FeatureLevel { level: 1 }]);
    let with = |index: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[index] = value;
        decode_entry(&bytes)
    };
    assert_eq!(with(15, 200), Err(RecordError::UnknownKind { kind: 200 }));
    assert_eq!(with(1, 2), Err(RecordError::Newer { what: "an entry", found: 2 }));
    assert_eq!(with(17, 2), Err(RecordError::Newer { what: "a record", found: 2 }));
    let mut long = good.clone();
    long.push(0);
    assert_eq!(decode_entry(&long), Err(RecordError::Excess { bytes: 1 }));
}

proptest! {
    #[test]
    fn records_survive(wall_ms in any::<i64>(), records in vec(record(), 0..6)) {
        let bytes = encode_entry(wall_ms, &records);
        let sizes: usize = records.iter().map(encoded_bytes).sum();
        prop_assert_eq!(bytes.len(), 14 + sizes);
        prop_assert_eq!(decode_entry(&bytes).unwrap(), (wall_ms, records));
    }

    #[test]
    fn a_cut_entry_is_refused(records in vec(record(), 1..4), cut in any::<prop::sample::Index>()) {
        let bytes = encode_entry(0, &records);
        prop_assert!(decode_entry(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        records in vec(record(), 1..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode_entry(0, &records);
        for (at, value) in changes {
            let index = at.index(bytes.len());
            bytes[index] = value;
        }
        let _ = decode_entry(&bytes);
    }
}

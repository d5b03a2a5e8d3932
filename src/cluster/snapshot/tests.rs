use super::*;
use crate::cluster::record::{ALL_BROKERS, Record};
use crate::protocol::types::TopicId;
use proptest::prelude::*;
use uuid::Uuid;

/// An image with some of everything.
fn image(topics: u8, grown: bool) -> ClusterImage {
    let mut image = ClusterImage::empty();
    let first = [
        Record::ClusterCreated { cluster_id: ClusterId([0xc1; 16]) },
        Record::FeatureLevel { level: 1 },
        Record::BrokerBound { node_id: 1, identity: Identity([0x1d; 16]) },
        Record::BrokerIncarnation { node_id: 1, incarnation: Incarnation([0x1f; 16]) },
    ];
    image.apply_entry(1, &first).unwrap();
    let mut records = vec![Record::ProducerIdsAllocated { first: 1 << 48, count: 1000 }];
    for topic in 0..topics {
        records.push(Record::TopicCreated {
            topic: TopicId(Uuid::from_bytes([topic; 16])),
            name: format!("topic.{topic}").into(),
            partitions: 1 + i32::from(topic),
            replication_factor: 3,
            owner: 1,
            epoch_base: i32::from(topic),
            configs: [("key".to_owned(), "value".repeat(usize::from(topic)))].into(),
        });
    }
    image.apply_entry(2, &records).unwrap();
    let topic = TopicId(Uuid::from_bytes([0; 16]));
    let grow = Record::PartitionsAdded { topic, count: 9, owner: 1 };
    image.apply_entry(3, if grown { std::slice::from_ref(&grow) } else { &[] }).unwrap();
    image
}

fn same(a: &ClusterImage, b: &ClusterImage) -> bool {
    let topics_are_the_same = a.topics().all(|topic| {
        b.topic(&topic.name) == Some(topic)
            && b.topic_by_id(topic.id) == Some(topic)
            && b.colliding_topic(&topic.name) == a.colliding_topic(&topic.name)
    });
    topics_are_the_same
        && a.number() == b.number()
        && a.cluster_id() == b.cluster_id()
        && a.feature_level() == b.feature_level()
        && a.brokers().eq(b.brokers())
        && a.all_broker_configs() == b.all_broker_configs()
        && a.topic_count() == b.topic_count()
        && a.partition_count() == b.partition_count()
        && a.greatest_epoch_base() == b.greatest_epoch_base()
        && a.next_producer_id() == b.next_producer_id()
}

#[test]
fn the_frozen_sample_is_written_and_read() {
    let snapshot = Snapshot { image: image(1, true), entry: [0xee; ENVELOPE_BYTES] };
    let bytes = encode(&snapshot);
    let mut body = Vec::new();
    body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 3]);
    body.extend_from_slice(&[0xee; 64]);
    body.extend_from_slice(&[0xc1; 16]);
    body.extend_from_slice(b"\0\x01\0\0\0\0\0\x01\0\0\0\0\x03\xe8");
    body.extend_from_slice(b"\0\0\0\x01\0\0\0\x01");
    body.extend_from_slice(&[0x1d; 16]);
    body.extend_from_slice(&[0x1f; 16]);
    body.extend_from_slice(b"\0\0\0\0\0\0\0\x01");
    body.extend_from_slice(b"\0\0\0\x01");
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(b"\0\x07topic.0\0\x03\0\0\0\0\0\0\0\x02");
    body.extend_from_slice(b"\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x02");
    body.extend_from_slice(b"\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0\x03");
    body.extend_from_slice(b"\0\0\0\x01\0\x03key\0\0");
    assert_eq!(bytes[12..], body);
    assert_eq!(bytes[..8], *b"TGIM\x01\0\0\0");
    let read = decode(&bytes).unwrap();
    assert!(same(&read.image, &snapshot.image));
    assert_eq!(read.entry, snapshot.entry);
}

#[test]
fn broker_configs_are_a_second_version_behind_the_first() {
    let mut snapshot = Snapshot { image: image(1, true), entry: [0xee; ENVELOPE_BYTES] };
    let before = encode(&snapshot);
    let set = |value: Option<&str>| Record::BrokerConfigsSet {
        node_id: ALL_BROKERS,
        configs: [("key".to_owned(), value.map(str::to_owned))].into(),
    };
    snapshot.image.apply(&set(Some("value"))).unwrap();
    let bytes = encode(&snapshot);
    assert_eq!(stored_bytes(&snapshot.image), bytes.len() as u64);
    assert_eq!(bytes[..8], *b"TGIM\x02\0\0\0");
    let (same_body, behind) = bytes[12..].split_at(before.len() - 12);
    assert_eq!(same_body, &before[12..]);
    assert_eq!(behind, b"\0\0\0\x01\xff\xff\xff\xff\0\0\0\x01\0\x03key\0\x05value");
    assert!(same(&decode(&bytes).unwrap().image, &snapshot.image));
    snapshot.image.apply(&set(None)).unwrap();
    assert_eq!(encode(&snapshot), before);
}

#[test]
fn the_size_follows_every_change() {
    let mut image = image(5, true);
    let topic = TopicId(Uuid::from_bytes([1; 16]));
    let set = |value: Option<&str>| Record::TopicConfigsSet {
        topic,
        configs: [("key".to_owned(), value.map(str::to_owned))].into(),
    };
    let grown = Record::PartitionsAdded { topic, count: 20, owner: 1 };
    for record in [set(Some("longer")), set(None), grown, Record::TopicDeleted { topic }] {
        image.apply(&record).unwrap();
        let snapshot = Snapshot { image: image.clone(), entry: [0; ENVELOPE_BYTES] };
        assert_eq!(stored_bytes(&image), encode(&snapshot).len() as u64, "{record:?}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let good = encode(&Snapshot { image: image(1, false), entry: [0; ENVELOPE_BYTES] });
    let with = |index: usize, value: u8| {
        let mut body = good[12..].to_vec();
        body[index] = value;
        decode(&SNAPSHOT.seal(&body))
    };
    // Feature level 255, the broker's run and the topic's span after the last entry.
    for (index, value) in [(89, 255), (149, 4), (good.len() - 12 - 12 - 1, 4)] {
        let error = with(index, value).unwrap_err();
        assert!(matches!(error, SnapshotError::Contents(_)), "{index}: {error}");
    }
}

proptest! {
    #[test]
    fn an_image_survives(topics in 1..20_u8, grown in any::<bool>()) {
        let snapshot = Snapshot { image: image(topics, grown), entry: [1; ENVELOPE_BYTES] };
        let bytes = encode(&snapshot);
        prop_assert_eq!(stored_bytes(&snapshot.image), bytes.len() as u64);
        let read = decode(&bytes).unwrap();
        prop_assert!(same(&read.image, &snapshot.image));
        prop_assert_eq!(stored_bytes(&read.image), bytes.len() as u64);
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let good = encode(&Snapshot { image: image(3, true), entry: [1; ENVELOPE_BYTES] });
        let mut body = good[12..].to_vec();
        for (at, value) in changes {
            let index = at.index(body.len());
            body[index] = value;
        }
        if let Ok(read) = decode(&SNAPSHOT.seal(&body)) {
            for topic in read.image.topics() {
                prop_assert!(read.image.leader_epoch(topic, 0).is_none_or(|epoch| epoch >= 0));
            }
        }
        body.truncate(cut.index(body.len()));
        prop_assert!(decode(&SNAPSHOT.seal(&body)).is_err());
    }
}

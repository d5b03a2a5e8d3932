use super::*;
use uuid::Uuid;

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn created(number: u128, name: &str, partitions: i32, epoch_base: i32) -> Record {
    Record::TopicCreated {
        topic: id(number),
        name: name.into(),
        partitions,
        replication_factor: 3,
        owner: 1,
        epoch_base,
        configs: BTreeMap::new(),
    }
}

fn begun(incarnation: u8) -> Record {
    Record::BrokerIncarnation { node_id: 1, incarnation: Incarnation([incarnation; 16]) }
}

fn first_entry() -> Vec<Record> {
    vec![
        Record::ClusterCreated { cluster_id: ClusterId([7; 16]) },
        Record::FeatureLevel { level: FEATURE_LEVEL },
        Record::BrokerBound { node_id: 1, identity: Identity([1; 16]) },
        begun(1),
    ]
}

fn image_of(entries: &[Vec<Record>]) -> ClusterImage {
    let mut image = ClusterImage::empty();
    for (number, records) in (1..).zip(entries) {
        image.apply_entry(number, records).unwrap();
    }
    image
}

fn epochs(image: &ClusterImage, name: &str) -> Vec<i32> {
    let topic = image.topic(name).unwrap();
    (0..topic.partition_count()).map(|p| image.leader_epoch(topic, p).unwrap()).collect()
}

#[test]
fn a_leader_epoch_is_the_entry_that_gave_the_present_ownership() {
    let grow = Record::PartitionsAdded { topic: id(1), count: 3, owner: 1 };
    let entries = [
        first_entry(),
        vec![created(1, "a", 2, 0)],
        vec![grow],
        vec![begun(2)],
        vec![created(2, "b", 1, 100)],
    ];
    assert_eq!(epochs(&image_of(&entries[..2]), "a"), [2, 2]);
    assert_eq!(epochs(&image_of(&entries[..3]), "a"), [2, 2, 3]);
    let restarted = image_of(&entries);
    assert_eq!(epochs(&restarted, "a"), [4, 4, 4]);
    assert_eq!(epochs(&restarted, "b"), [105]);
    let topic = restarted.topic("a").unwrap();
    assert_eq!(restarted.leader_epoch(topic, 3), None);
    assert_eq!(restarted.leader_epoch(topic, -1), None);
}

#[test]
fn a_recreated_topic_has_greater_epochs_and_another_id() {
    let image = image_of(&[
        first_entry(),
        vec![created(1, "a", 1, 0)],
        vec![Record::TopicDeleted { topic: id(1) }, created(2, "a", 1, 0)],
    ]);
    assert_eq!(epochs(&image, "a"), [3]);
    assert_eq!(image.topic("a").unwrap().id, id(2));
    assert!(image.topic_by_id(id(1)).is_none());
    assert_eq!((image.topic_count(), image.partition_count()), (1, 1));
}

#[test]
fn an_entry_whose_epoch_would_not_fit_is_refused() {
    let base = i32::MAX - 3;
    let mut image = image_of(&[first_entry(), vec![created(1, "a", 1, base)]]);
    image.apply_entry(3, &[begun(2)]).unwrap();
    assert_eq!(epochs(&image, "a"), [i32::MAX]);
    assert_eq!(image.apply_entry(4, &[begun(3)]), Err(ApplyError::EpochsExhausted { number: 4 }));

    let mut image = image_of(&[first_entry()]);
    image.begin_entry(2).unwrap();
    let beyond = image.apply(&created(1, "a", 1, i32::MAX - 1));
    assert_eq!(beyond, Err(ApplyError::EpochsExhausted { number: 2 }));
    assert!(image.topic("a").is_none());
}

#[test]
fn what_cannot_follow_is_refused() {
    let image = image_of(&[first_entry(), vec![created(1, "a", 2, 0)]]);
    let refused = |records: &[Record]| image.clone().apply_entry(3, records).unwrap_err();
    assert!(matches!(refused(&first_entry()), ApplyError::ClusterCreation { number: 3 }));
    assert!(matches!(refused(&[created(2, "a", 1, 0)]), ApplyError::TopicExists { .. }));
    assert!(matches!(refused(&[created(1, "b", 1, 0)]), ApplyError::TopicExists { .. }));
    assert!(matches!(refused(&[created(2, "b", 0, 0)]), ApplyError::Partitions { .. }));
    assert!(matches!(refused(&[created(2, "b", -1, 0)]), ApplyError::Partitions { .. }));
    let deleted = Record::TopicDeleted { topic: id(2) };
    assert!(matches!(refused(&[deleted]), ApplyError::UnknownTopic { .. }));
    let shrunk = Record::PartitionsAdded { topic: id(1), count: 2, owner: 1 };
    assert!(matches!(refused(&[shrunk]), ApplyError::Partitions { count: 2, .. }));
    let level = Record::FeatureLevel { level: FEATURE_LEVEL + 1 };
    assert!(matches!(refused(&[level]), ApplyError::FeatureLevel { .. }));
    let ids = |first, count| Record::ProducerIdsAllocated { first, count };
    for block in [ids(FIRST_PRODUCER_ID - 1, 1), ids(FIRST_PRODUCER_ID, 0), ids(i64::MAX, 1)] {
        assert!(matches!(refused(&[block]), ApplyError::ProducerIds { .. }));
    }
    let stranger = Record::BrokerIncarnation { node_id: 9, incarnation: Incarnation([1; 16]) };
    assert!(matches!(refused(&[stranger]), ApplyError::UnknownBroker { node_id: 9 }));
    let mut image = image;
    assert!(matches!(image.apply_entry(4, &[]), Err(ApplyError::OutOfOrder { .. })));
    let nothing = ClusterImage::empty().apply_entry(1, &[begun(1)]);
    assert_eq!(nothing, Err(ApplyError::ClusterCreation { number: 1 }));
}

#[test]
fn configs_are_set_and_removed() {
    let set = |pairs: &[(&str, Option<&str>)]| Record::TopicConfigsSet {
        topic: id(1),
        configs: pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
    };
    let image = image_of(&[
        first_entry(),
        vec![created(1, "a", 1, 0)],
        vec![set(&[("x", Some("1")), ("y", Some("2"))]), set(&[("x", None), ("y", Some("3"))])],
    ]);
    let configs = &image.topic("a").unwrap().configs;
    assert_eq!(configs.iter().collect::<Vec<_>>(), [(&"y".to_owned(), &"3".to_owned())]);
    assert_eq!(epochs(&image, "a"), [2]);
}

#[test]
fn a_change_of_a_large_image_shares_all_topics_with_the_one_before() {
    let mut image = image_of(&[first_entry()]);
    image.begin_entry(2).unwrap();
    for number in 1..=1_000 {
        image.apply(&created(number, &format!("t{number}"), 100, 0)).unwrap();
    }
    assert_eq!((image.topic_count(), image.partition_count()), (1_000, 100_000));
    let before = image.clone();
    image.apply_entry(3, &[created(5_000, "new", 1, 0)]).unwrap();
    let shared = |topic: &&Arc<Topic>| {
        image.topic_by_id(topic.id).is_some_and(|after| Arc::ptr_eq(topic, after))
    };
    assert_eq!(before.topics().filter(shared).count(), 1_000);
}

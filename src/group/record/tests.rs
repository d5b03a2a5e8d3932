use proptest::prelude::*;

use super::*;

#[path = "golden.rs"]
mod golden;

fn hex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn offset(version: i16) -> OffsetValue {
    OffsetValue {
        offset: 1_234_567_890_123,
        leader_epoch: if version >= 3 { 9 } else { -1 },
        metadata: "mëta".into(),
        commit_timestamp_ms: 1_700_000_000_000,
        expire_timestamp_ms: (version == 1).then_some(1_700_000_600_000),
        topic_id: (version == 4)
            .then(|| TopicId(Uuid::from_bytes(std::array::from_fn(|i| i as u8)))),
    }
}

fn group(version: i16) -> GroupValue {
    let member = |id: &str, client: &str, host: &str| MemberValue {
        member_id: id.into(),
        instance_id: None,
        client_id: client.into(),
        client_host: host.into(),
        rebalance_timeout_ms: if version >= 1 { 300_000 } else { -1 },
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[1, 2, 3]),
        assignment: Bytes::from_static(&[4, 5]),
    };
    let second = MemberValue {
        instance_id: (version >= 3).then(|| "i".into()),
        rebalance_timeout_ms: if version >= 1 { 60_000 } else { -1 },
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[6]),
        assignment: Bytes::new(),
        ..member("i-2", "d", "/::1")
    };
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 42,
        protocol: Some("range".into()),
        leader: Some("c-1".into()),
        state_timestamp_ms: if version >= 2 { 1_700_000_000_123 } else { -1 },
        members: vec![member("c-1", "c", "/10.0.0.1"), second],
    }
}

#[test]
fn keys_are_kafkas_bytes() {
    assert_eq!(offset_key("grüppe", "orders", 7), hex(golden::OFFSET_KEY));
    assert_eq!(group_key("grüppe"), hex(golden::GROUP_KEY));
    let key = Key::Offset { group: "grüppe".into(), topic: "orders".into(), partition: 7 };
    assert_eq!(Key::decode(&hex(golden::OFFSET_KEY)), Ok(key.clone()));
    let mut version_0 = hex(golden::OFFSET_KEY).to_vec();
    version_0[1] = 0;
    assert_eq!(Key::decode(&version_0.into()), Ok(key));
    assert_eq!(Key::decode(&hex(golden::GROUP_KEY)), Ok(Key::Group { group: "grüppe".into() }));
    assert_eq!(Key::decode(&hex("0003")), Ok(Key::Unknown(3)));
}

#[test]
fn every_version_of_kafkas_offset_values_is_read() {
    let values = [
        golden::OFFSET_VALUE_0,
        golden::OFFSET_VALUE_1,
        golden::OFFSET_VALUE_2,
        golden::OFFSET_VALUE_3,
        golden::OFFSET_VALUE_4,
    ];
    for (version, bytes) in (0..).zip(values) {
        assert_eq!(OffsetValue::decode(&hex(bytes)), Ok(offset(version)), "version {version}");
    }
}

#[test]
fn offset_values_are_written_as_kafka_writes_them() {
    assert_eq!(offset(4).encode(), hex(golden::OFFSET_VALUE_4));
    assert_eq!(offset(1).encode(), hex(golden::OFFSET_VALUE_1));
    let no_id = OffsetValue {
        offset: 5,
        leader_epoch: -1,
        metadata: "".into(),
        commit_timestamp_ms: 1_700_000_000_000,
        expire_timestamp_ms: None,
        topic_id: None,
    };
    assert_eq!(no_id.encode(), hex(golden::OFFSET_VALUE_4_NO_ID));
}

#[test]
fn every_version_of_kafkas_group_values_is_read() {
    let values = [
        golden::GROUP_VALUE_0,
        golden::GROUP_VALUE_1,
        golden::GROUP_VALUE_2,
        golden::GROUP_VALUE_3,
        golden::GROUP_VALUE_4,
    ];
    for (version, bytes) in (0..).zip(values) {
        assert_eq!(GroupValue::decode(&hex(bytes)), Ok(group(version)), "version {version}");
    }
}

#[test]
fn group_values_are_written_as_kafka_writes_them() {
    assert_eq!(group(3).encode(), hex(golden::GROUP_VALUE_3));
    let empty = GroupValue {
        protocol_type: "consumer".into(),
        generation: 43,
        protocol: None,
        leader: None,
        state_timestamp_ms: 1_700_000_000_456,
        members: Vec::new(),
    };
    assert_eq!(empty.encode(), hex(golden::GROUP_VALUE_3_EMPTY));
}

#[test]
fn a_newer_version_and_a_huge_count_are_refused() {
    assert_eq!(OffsetValue::decode(&hex("0005")), Err(Malformed::Version(5)));
    let mut bytes = hex(golden::GROUP_VALUE_3_EMPTY).to_vec();
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(GroupValue::decode(&bytes.into()), Err(Malformed::Short));
}

#[test]
fn subscriptions_of_any_version_name_their_topics() {
    let bytes = hex("0003000000020001610002626200000000ffffffff");
    let mut topics = Vec::new();
    subscribed_topics(&bytes, |topic| topics.push(topic)).unwrap();
    assert_eq!(topics, ["a", "bb"]);
    assert!(subscribed_topics(&hex("00030000000200016100"), drop).is_err());
    assert!(subscribed_topics(&hex("ffff00000000"), drop).is_err());
}

proptest! {
    #[test]
    fn any_offset_comes_back(
        offset: i64,
        leader_epoch: i32,
        metadata in ".{0,300}",
        commit_timestamp_ms: i64,
        id: Option<u128>,
    ) {
        let value = OffsetValue {
            offset,
            leader_epoch,
            metadata: metadata.into(),
            commit_timestamp_ms,
            expire_timestamp_ms: None,
            topic_id: id.filter(|id| *id != 0).map(|id| TopicId(Uuid::from_u128(id))),
        };
        prop_assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_without_a_panic(bytes: Vec<u8>, version in 0..6_i16) {
        let mut versioned = version.to_be_bytes().to_vec();
        versioned.extend(bytes);
        let bytes = Bytes::from(versioned);
        drop((Key::decode(&bytes), OffsetValue::decode(&bytes), GroupValue::decode(&bytes)));
        subscribed_topics(&bytes, drop).ok();
    }
}

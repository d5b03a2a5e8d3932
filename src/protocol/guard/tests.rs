use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, FetchRequest, InitProducerIdRequest, MetadataRequest};
use kafka_protocol::protocol::Encodable;

use super::shape::{Field, Message, Struct, Type, between, since};
use super::*;

const METADATA: i16 = ApiKey::Metadata as i16;
const PRODUCE: i16 = ApiKey::Produce as i16;
const FETCH: i16 = ApiKey::Fetch as i16;

/// The fault with which a body is refused, and the field it is found in.
fn fault(key: i16, version: i16, body: &[u8]) -> (&'static str, Fault) {
    match check(key, version, body, Limits::CONTROL) {
        Err(GuardError::Malformed { field, fault, .. }) => (field, fault),
        other => panic!("not malformed: {other:?}"),
    }
}

#[test]
fn metadata_v4_with_a_count_of_two_billion_is_refused() {
    let body = [0x7f, 0xff, 0xff, 0xff, 0x00, 0x00];
    let count = Fault::Count { count: i32::MAX as usize, least: 2, left: 2 };
    assert_eq!(fault(METADATA, 4, &body), ("Topics", count));
}

#[test]
fn metadata_v9_with_a_compact_count_of_four_billion_is_refused() {
    let body = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let count = Fault::Count { count: u32::MAX as usize - 1, least: 2, left: 0 };
    assert_eq!(fault(METADATA, 9, &body), ("Topics", count));
}

#[test]
fn produce_v7_with_a_giant_count_is_refused() {
    // No transactional id, acks -1, 30 s, then the number of topics.
    let body = [0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0x7f, 0xff, 0xff, 0xff];
    let result = check(PRODUCE, 7, &body, Limits::produce(100 << 20));
    assert!(
        matches!(
            result,
            Err(GuardError::Malformed {
                field: "TopicData",
                offset: 12,
                fault: Fault::Count { least: 6, left: 0, .. },
                ..
            })
        ),
        "{result:?}"
    );
}

#[test]
fn four_million_empty_topic_names_are_legal_but_too_large_when_decoded() {
    let topics = 4_000_000_u32;
    let mut body = BytesMut::new();
    let mut count = topics + 1;
    while count >= 0x80 {
        body.put_u8(count as u8 | 0x80);
        count >>= 7;
    }
    body.put_u8(count as u8);
    // An empty name and no tags, four million times; then three flags and no tags.
    body.put_bytes(0, 2 * topics as usize + 4);
    for name in 0..topics as usize {
        body[4 + 2 * name] = 1;
    }
    assert!((8_000_000..Limits::CONTROL.body_bytes).contains(&body.len()));

    let refused = check(METADATA, 9, &body, Limits::CONTROL);
    let Err(GuardError::DecodedTooLarge { field: "Topics", bytes, limit, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(limit, 64 << 20);
    assert!(bytes > topics as usize * 64, "{bytes}");

    // It is the size that is refused: with room for it the same body passes.
    let roomy = Limits { decoded_bytes: 1 << 30, ..Limits::CONTROL };
    let checked = check(METADATA, 9, &body, roomy).expect("legal");
    assert_eq!(checked.message_bytes, body.len());
}

#[test]
fn a_control_body_above_8_mib_is_refused_before_the_walk() {
    let body = vec![0xff; (8 << 20) + 1];
    let refused = check(METADATA, 9, &body, Limits::CONTROL);
    assert!(matches!(refused, Err(GuardError::BodyTooLarge { limit: 8_388_608, .. })));
}

#[test]
fn keys_and_versions_without_a_shape_are_not_guarded() {
    for (key, version) in [(PRODUCE, 2), (METADATA, 14), (METADATA, -1), (4, 0), (-1, 0), (99, 0)] {
        let refused = check(key, version, &[], Limits::CONTROL);
        assert_eq!(refused, Err(GuardError::NotGuarded { key, version }));
    }
}

#[test]
fn a_version_that_only_the_table_knows_is_not_decoded() {
    let key = ApiKey::InitProducerId as i16;
    let body = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(check(key, 6, &body, Limits::CONTROL).is_ok());
    let refused = decode::<InitProducerIdRequest>(6, &body, Limits::CONTROL);
    assert_eq!(refused, Err(GuardError::NotGuarded { key, version: 6 }));
}

#[test]
fn lengths_are_refused_when_negative_null_or_past_the_end() {
    let truncated = |needed, left| Fault::Truncated { needed, left };
    assert_eq!(fault(METADATA, 0, &[0xff; 4]), ("Topics", Fault::Null));
    assert!(check(METADATA, 1, &[0xff; 4], Limits::CONTROL).is_ok());
    let negative = Fault::NegativeLength { length: -2 };
    assert_eq!(fault(METADATA, 1, &[0xff, 0xff, 0xff, 0xfe]), ("Topics", negative));
    assert_eq!(fault(METADATA, 1, &[0, 0, 0]), ("Topics", truncated(4, 3)));
    let name = [0, 0, 0, 1, 0, 5, b'a'];
    assert_eq!(fault(METADATA, 1, &name), ("Name", truncated(5, 1)));
    assert_eq!(fault(METADATA, 1, &[0, 0, 0, 1, 0xff, 0xff]), ("Name", Fault::Null));
    assert_eq!(fault(METADATA, 1, &[0, 0, 0, 1, 0x80, 0]).0, "Name");
}

#[test]
fn strings_are_refused_when_not_utf8_or_above_the_limit_of_kafka() {
    assert_eq!(fault(METADATA, 1, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28]), ("Name", Fault::Utf8));
    // One topic whose compact name has 32,768 bytes, flags, no tags.
    let mut body = vec![2, 0x81, 0x80, 0x02];
    body.resize(4 + 32_768, b'a');
    body.extend([0; 5]);
    let too_long = Fault::StringTooLong { bytes: 32_768 };
    assert_eq!(fault(METADATA, 9, &body), ("Name", too_long));
}

#[test]
fn a_varint_of_six_bytes_is_refused() {
    assert_eq!(fault(METADATA, 9, &[0x80, 0x80, 0x80, 0x80, 0x80, 0]).1, Fault::Varint);
}

#[test]
fn bytes_after_the_message_are_tolerated_and_told_apart() {
    let mut body = BytesMut::new();
    MetadataRequest::default().encode(&mut body, 12).expect("encode");
    let message_bytes = body.len();
    body.put_slice(b"more");
    let checked = check(METADATA, 12, &body, Limits::CONTROL).expect("tolerated");
    assert_eq!(checked.message_bytes, message_bytes);
    let body = body.freeze();
    let (request, _) =
        decode::<MetadataRequest>(12, &body, Limits::CONTROL).expect("decoded alike");
    assert_eq!(request, MetadataRequest::default());
}

/// A Fetch request of version 17 with these bytes as its tag section.
fn fetch_with_tags(tags: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    FetchRequest::default().encode(&mut body, 17).expect("encode");
    body.truncate(body.len() - 1);
    body.put_slice(tags);
    body.freeze()
}

#[test]
fn tags_are_read_as_kafka_reads_them() {
    // Unknown ones, out of order and twice, and the cluster id twice: the last one counts.
    let body = fetch_with_tags(&[5, 9, 1, 7, 0, 2, 2, b'a', 8, 0, 9, 0, 0, 2, 2, b'b']);
    let (request, _) = decode::<FetchRequest>(17, &body, Limits::CONTROL).expect("tolerated");
    assert_eq!(request.cluster_id.as_deref(), Some("b"));
    assert_eq!(request.unknown_tagged_fields.len(), 2);

    let wrong = |tags: &[u8]| fault(FETCH, 17, &fetch_with_tags(tags)).1;
    assert_eq!(wrong(&[3, 9, 0]), Fault::Count { count: 3, least: 2, left: 2 });
    assert_eq!(wrong(&[1, 9, 5, 0]), Fault::Truncated { needed: 5, left: 1 });
    let tag = u32::MAX;
    assert_eq!(wrong(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Fault::TagTooLarge { tag });
    assert_eq!(wrong(&[1, 0, 3, 2, b'a', 0]), Fault::TagSize { tag: 0, left: 1 });
    assert_eq!(wrong(&[1, 0, 2, 9, b'a']), Fault::Truncated { needed: 8, left: 1 });
    // The replica state came with version 15.
    let mut early = BytesMut::new();
    FetchRequest::default().encode(&mut early, 14).expect("encode");
    early.truncate(early.len() - 1);
    early.put_slice(&[1, 1, 0]);
    assert_eq!(fault(FETCH, 14, &early), ("ReplicaState", Fault::Tag { tag: 1 }));
}

#[test]
fn unknown_tags_are_charged_for_the_map_they_fill() {
    let bytes = |tags: &[u8]| {
        check(FETCH, 17, &fetch_with_tags(tags), Limits::CONTROL).expect("legal").decoded_bytes
    };
    let (none, one, two) = (bytes(&[0]), bytes(&[1, 9, 0]), bytes(&[2, 9, 0, 10, 0]));
    assert!(one - none >= 11 * (size_of::<Bytes>() + 4));
    assert!(two > one);
}

#[test]
fn an_array_of_integers_is_charged_by_its_elements() {
    // OffsetFetch v1: group "g", one topic "t" with 1000 partitions.
    let mut body = BytesMut::new();
    body.put_slice(&[0, 1, b'g', 0, 0, 0, 1, 0, 1, b't', 0, 0, 3, 232]);
    body.put_bytes(0, 4000);
    let key = ApiKey::OffsetFetch as i16;
    let checked = check(key, 1, &body, Limits::CONTROL).expect("legal");
    assert!((4000..5000).contains(&checked.decoded_bytes), "{}", checked.decoded_bytes);
}

static INNER: Struct = Struct::new(16, &[Field::one("Value", Type::Int64, since(0))]);
static OUTER: Struct = Struct::new(
    32,
    &[
        Field::one("Maybe", Type::Struct(&INNER), since(0)).nullable(since(1)),
        Field::one("Late", Type::Uint16, since(2)).tagged(3, since(2)),
    ],
);
static NULLABLE: Message = Message::new(0, "Nullable", between(0, 2), since(2), &OUTER);

#[test]
fn a_nullable_structure_starts_with_its_marker() {
    let walk = |version, body: &[u8]| match walk::walk(&NULLABLE, version, body, 1 << 20, &mut ()) {
        Ok(checked) => Ok(checked.message_bytes),
        Err(GuardError::Malformed { fault, .. }) => Err(fault),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(walk(0, &[0; 8]), Ok(8));
    assert_eq!(walk(1, &[0xff]), Ok(1));
    assert_eq!(walk(1, &[1, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(9));
    assert_eq!(walk(1, &[0; 9]), Err(Fault::Marker { marker: 0 }));
    assert_eq!(walk(1, &[1, 0]), Err(Fault::Truncated { needed: 8, left: 1 }));
    assert_eq!(walk(2, &[0xff, 1, 3, 2, 0, 7]), Ok(6));
    assert_eq!(walk(2, &[0xff, 1, 3, 1, 0]), Err(Fault::Truncated { needed: 2, left: 1 }));
}

#[test]
fn errors_name_the_api_the_field_and_the_place() {
    let error = check(METADATA, 4, &[0, 0, 0, 9, 0, 1], Limits::CONTROL).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "Metadata v4 body is malformed at byte 4, field Topics: \
         9 elements of at least 2 bytes do not fit in the 2 bytes left"
    );
}

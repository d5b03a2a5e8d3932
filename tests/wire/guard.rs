//! The guard's promises: legal bodies pass, whatever passes is decoded, and decoding stays within
//! what the guard said.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, MetadataRequest, OffsetCommitRequest,
};
use kafka_protocol::protocol::{Encodable, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::protocol::guard::shape::{Message, message};
use tidegate::protocol::guard::{GuardError, Limits, check, decode};
use tidegate::protocol::versions::APIS;

use crate::content::{Chance, body, served};
use crate::requests::round_trip;

fn shape_of(key: i16) -> &'static Message {
    message(key).expect("every served API has a shape")
}

/// A served API key, one of its versions, and a legal body for it.
fn legal_bodies() -> impl Strategy<Value = (i16, i16, Bytes)> {
    let all: Vec<(i16, i16)> = served().map(|(api, version)| (api.key as i16, version)).collect();
    (prop::sample::select(all), vec(any::<u8>(), 0..300)).prop_map(|((key, version), chance)| {
        let bytes = body(shape_of(key), version, &mut Chance::new(&chance));
        (key, version, Bytes::from(bytes))
    })
}

/// A change to a byte string: where (as a share of its length), and what.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Put(u16, u8),
    Insert(u16, u8),
    Remove(u16),
    Cut(u16),
}

/// Some changes.
pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let byte = prop_oneof![Just(0xff), Just(0x7f), Just(0x80), Just(0), any::<u8>()];
    let edit = prop_oneof![
        4 => (any::<u16>(), byte.clone()).prop_map(|(at, byte)| Edit::Put(at, byte)),
        2 => (any::<u16>(), byte).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        2 => any::<u16>().prop_map(Edit::Remove),
        1 => any::<u16>().prop_map(Edit::Cut),
    ];
    vec(edit, 1..6)
}

/// The bytes after the changes.
pub(crate) fn edited(bytes: &[u8], edits: &[Edit]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let place = |at: u16, len: usize| usize::from(at) * len / (usize::from(u16::MAX) + 1);
        match *edit {
            Edit::Insert(at, byte) => bytes.insert(place(at, bytes.len() + 1), byte),
            _ if bytes.is_empty() => {}
            Edit::Put(at, byte) => {
                let at = place(at, bytes.len());
                bytes[at] = byte;
            }
            Edit::Remove(at) => {
                bytes.remove(place(at, bytes.len()));
            }
            Edit::Cut(at) => bytes.truncate(place(at, bytes.len())),
        }
    }
    Bytes::from(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn legal_bodies_pass_and_survive_a_round_trip((key, version, body) in legal_bodies()) {
        let checked = check(key, version, &body, Limits::CONTROL).expect("legal");
        prop_assert_eq!(checked.message_bytes, body.len());
        round_trip(key, version, &body, Limits::CONTROL).expect("decoded");
    }

    #[test]
    fn every_prefix_is_refused((key, version, body) in legal_bodies(), cut in any::<u16>()) {
        prop_assume!(!body.is_empty());
        let shorter = body.slice(..usize::from(cut) % body.len());
        let refused = check(key, version, &shorter, Limits::CONTROL);
        prop_assert!(matches!(refused, Err(GuardError::Malformed { .. })), "{:?}", refused);
    }

    #[test]
    fn what_passes_is_decoded_whatever_it_is(
        (key, version, body) in legal_bodies(),
        edits in edits(),
    ) {
        let body = edited(&body, &edits);
        let limits = Limits { decoded_bytes: 1 << 20, ..Limits::CONTROL };
        let result = round_trip(key, version, &body, limits);
        prop_assert!(!matches!(result, Err(GuardError::Undecodable { .. })), "{:?}", result);
    }

    #[test]
    fn metadata_allocates_no_more_than_the_guard_says(
        version in 0_i16..=13,
        chance in vec(any::<u8>(), 0..300),
    ) {
        let body = Bytes::from(body(shape_of(3), version, &mut Chance::new(&chance)));
        let (request, bound) =
            decode::<MetadataRequest>(version, &body, Limits::CONTROL).expect("legal");
        let topics = request.topics.as_deref().unwrap_or_default();
        let maps = topics.iter().map(|topic| map_bytes(topic.unknown_tagged_fields.len()));
        let actual = size_of_val(topics)
            + maps.sum::<usize>()
            + map_bytes(request.unknown_tagged_fields.len());
        prop_assert!(actual <= bound, "{} > {}", actual, bound);
        // And not out of proportion either.
        prop_assert!(bound <= 2 * actual + 4096, "{} against {}", bound, actual);
    }

    #[test]
    fn fetch_allocates_no_more_than_the_guard_says(
        version in 4_i16..=18,
        chance in vec(any::<u8>(), 0..600),
    ) {
        let body = Bytes::from(body(shape_of(1), version, &mut Chance::new(&chance)));
        let (request, bound) =
            decode::<FetchRequest>(version, &body, Limits::CONTROL).expect("legal");
        let partitions = |topic: &FetchTopic| {
            let tags = topic.partitions.iter().map(|partition| &partition.unknown_tagged_fields);
            let maps = tags.map(|tags| map_bytes(tags.len())).sum::<usize>();
            maps + size_of::<FetchPartition>() * topic.partitions.len()
        };
        let forgotten = |topic: &ForgottenTopic| {
            size_of::<ForgottenTopic>() + 4 * topic.partitions.len()
        };
        let actual = request.topics.len() * size_of::<FetchTopic>()
            + request.topics.iter().map(partitions).sum::<usize>()
            + request.forgotten_topics_data.iter().map(forgotten).sum::<usize>();
        prop_assert!(actual <= bound, "{} > {}", actual, bound);
    }
}

/// At least what a map of unknown tags takes: each entry, and one full leaf when there is any.
fn map_bytes(entries: usize) -> usize {
    if entries == 0 { 0 } else { entries.max(11) * (size_of::<Bytes>() + size_of::<i32>()) }
}

#[test]
fn every_served_version_of_every_api_is_decoded() {
    let mut versions = 0;
    for (api, version) in served() {
        let bytes = Bytes::from(body(shape_of(api.key as i16), version, &mut Chance::new(&[])));
        let decoded = round_trip(api.key as i16, version, &bytes, Limits::CONTROL);
        assert!(decoded.is_ok(), "{} v{version}: {decoded:?}", api.name);
        versions += 1;
    }
    let expected: i16 = APIS.iter().map(|api| api.served.max - api.served.min + 1).sum();
    assert_eq!(versions, expected);
}

#[test]
fn the_crates_own_defaults_pass_in_every_version() {
    fn defaults<R: Request + Default>() {
        let served = tidegate::protocol::versions::find(R::KEY).expect("advertised").served;
        for version in served.min..=served.max {
            let mut body = BytesMut::new();
            R::default().encode(&mut body, version).expect("defaults can be encoded");
            let body = body.freeze();
            let checked = check(R::KEY, version, &body, Limits::CONTROL).expect("legal");
            assert_eq!(checked.message_bytes, body.len());
            decode::<R>(version, &body, Limits::CONTROL).expect("decoded");
        }
    }
    defaults::<ApiVersionsRequest>();
    defaults::<CreateTopicsRequest>();
    defaults::<FetchRequest>();
    defaults::<OffsetCommitRequest>();
}

#[test]
fn the_bound_covers_what_the_crate_reserves_for_a_large_legal_request() {
    let topics = 100_000;
    let request =
        MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default(); topics]));
    let mut body = BytesMut::new();
    request.encode(&mut body, 12).expect("encode");
    let (decoded, bound) =
        decode::<MetadataRequest>(12, &body.freeze(), Limits::CONTROL).expect("legal");
    let capacity = decoded.topics.map_or(0, |topics| topics.capacity());
    assert_eq!(capacity, topics);
    assert!(bound >= capacity * size_of::<MetadataRequestTopic>());
}

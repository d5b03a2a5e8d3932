//! Responses that are streamed against the same responses rewritten whole.

use std::collections::HashMap;
use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchResponse, ShareFetchResponse, fetch_response};
use kafka_protocol::protocol::{Decodable, Message};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::tests::{DOOR, DOOR_PORT, ROUTED, Table, UNROUTED, UPSTREAM, encode, text};
use super::super::{Address, Rewritten, rewrite};
use super::samples::{Tags, any_fetch, any_share_fetch, no_tags, share_fetch, some_tags};
use super::*;
use crate::protocol::guard::Limits;
use crate::protocol::guard::shape::{Struct, Type};

const FETCH: i16 = 1;
const SHARE_FETCH: i16 = 78;

/// The most bytes that are held ahead of the tail.
const HELD_AHEAD_MAX: usize = 14;

/// Routes of node 1 and all above 9, to a host of that many bytes.
fn routes(host_bytes: usize) -> Table {
    let host = DOOR.chars().cycle().take(host_bytes).collect::<String>();
    let door = Address { host, port: DOOR_PORT };
    Table((10..40).chain([ROUTED]).map(|id| (id, door.clone())).collect::<HashMap<_, _>>())
}

/// Streams a body that comes in chunks as a connection does: all of it, and what was found.
fn streamed(
    (key, version): (i16, i16),
    body: &[u8],
    chunks: impl IntoIterator<Item = usize>,
    routes: &Table,
) -> Result<(Bytes, Streamed), StreamError> {
    let mut cursor = Cursor::new(key, version, body.len()).unwrap();
    let (mut sent, mut held, mut rest) = (Vec::new(), Vec::new(), body);
    for chunk in chunks.into_iter().chain([body.len()]) {
        let (here, after) = rest.split_at(chunk.min(rest.len()));
        held.extend_from_slice(here);
        rest = after;
        let done = cursor.advance(&mut held, routes)?;
        sent.extend(held.drain(..done));
        assert_eq!(cursor.left(), body.len() - sent.len());
        assert!(held.len() <= HELD_BYTES_MAX);
        if rest.is_empty() {
            assert_eq!(held.len(), 0, "with the last byte all are final");
        }
    }
    assert_eq!(sent.len(), body.len());
    Ok((Bytes::from(sent), cursor.finish()))
}

fn whole(key: i16, version: i16, body: &Bytes, routes: &Table) -> Result<Rewritten, GuardError> {
    let limits = Limits { body_bytes: usize::MAX, ..Limits::CONTROL };
    rewrite(key, version, body, limits, routes)
}

/// Messages of both APIs.
trait Response: Decodable + Message + PartialEq + Debug {
    const KEY: i16;
    fn without_endpoints(self) -> Self;
    fn hosts(&self) -> Vec<String>;
}

impl Response for FetchResponse {
    const KEY: i16 = FETCH;

    fn without_endpoints(self) -> Self {
        self.with_node_endpoints(Vec::new())
    }

    fn hosts(&self) -> Vec<String> {
        self.node_endpoints.iter().map(|endpoint| endpoint.host.to_string()).collect()
    }
}

impl Response for ShareFetchResponse {
    const KEY: i16 = SHARE_FETCH;

    fn without_endpoints(self) -> Self {
        self.with_node_endpoints(Vec::new())
    }

    fn hosts(&self) -> Vec<String> {
        self.node_endpoints.iter().map(|endpoint| endpoint.host.to_string()).collect()
    }
}

fn decoded<M: Response>(version: i16, body: &Bytes) -> M {
    let mut rest = body.clone();
    let decoded = M::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty());
    decoded
}

/// What a body means without unknown tags.
fn meaning<M: Response>(version: i16, body: &Bytes, routes: &Table) -> M {
    let found = whole(M::KEY, version, body, routes).unwrap();
    decoded(version, &Bytes::from(found.pieces.concat()))
}

/// Holds that streaming does what rewriting the whole does, as far as there is room.
fn agree<M: Response>(
    version: i16,
    body: &Bytes,
    chunks: impl IntoIterator<Item = usize>,
    routes: &Table,
) -> Bytes {
    let (sent, found) = streamed((M::KEY, version), body, chunks, routes).unwrap();
    let rewritten = whole(M::KEY, version, body, routes).unwrap();
    assert_eq!(found.nodes, rewritten.nodes);
    assert!(rewritten.edits > 0 || found.edits == 0);
    assert!(found.edits > 0 || sent == *body);
    let leaks = sent.windows(UPSTREAM.len()).any(|bytes| bytes == UPSTREAM.as_bytes());
    assert!(!leaks, "v{version}: {sent:?}");
    let wanted: M = decoded(version, &Bytes::from(rewritten.pieces.concat()));
    // The addresses are ours already, and nothing is left but fillers.
    let got: M = meaning(version, &sent, routes);
    let direct: M = decoded(version, &sent);
    assert_eq!(direct.hosts(), got.hosts());
    if got != wanted {
        assert_eq!(got, wanted.without_endpoints(), "v{version}");
    }
    sent
}

/// The same, and holds that addresses that fit are there; without unknown tags.
fn agree_exactly<M: Response>(
    version: i16,
    body: &Bytes,
    chunks: impl IntoIterator<Item = usize>,
    routes: &Table,
) {
    let sent = agree::<M>(version, body, chunks, routes);
    assert_eq!(whole(M::KEY, version, body, routes).unwrap().edits > 0, sent != *body);
    let rewritten = Bytes::from(whole(M::KEY, version, body, routes).unwrap().pieces.concat());
    let room = body.len().checked_sub(rewritten.len());
    let wanted: M = decoded(version, &rewritten);
    let fits = wanted.hosts().is_empty() || room.is_some_and(|room| room != 1);
    let direct: M = decoded(version, &sent);
    assert_eq!(direct.hosts(), if fits { wanted.hosts() } else { Vec::new() });
    if room == Some(0) {
        assert_eq!(sent, rewritten);
    }
}

proptest! {
    #[test]
    fn fetch_is_streamed_as_it_is_rewritten(
        (version, response) in any_fetch(no_tags()),
        chunks in prop::collection::vec(0..400_usize, 0..20),
        host_bytes in 1..60_usize,
    ) {
        let body = encode(&response, version);
        agree_exactly::<FetchResponse>(version, &body, chunks, &routes(host_bytes));
    }

    #[test]
    fn share_fetch_is_streamed_as_it_is_rewritten(
        (version, response) in any_share_fetch(no_tags()),
        chunks in prop::collection::vec(0..400_usize, 0..20),
        host_bytes in 1..60_usize,
    ) {
        let body = encode(&response, version);
        agree_exactly::<ShareFetchResponse>(version, &body, chunks, &routes(host_bytes));
    }

    /// The crate ends with version 1, and version 2 looks the same.
    #[test]
    fn the_last_version_of_share_fetch_is_streamed_as_the_one_before(
        response in share_fetch(some_tags().boxed()),
        host_bytes in 1..60_usize,
    ) {
        let (body, routes) = (encode(&response, 1), routes(host_bytes));
        let (one, found) = streamed((SHARE_FETCH, 1), &body, [], &routes).unwrap();
        let (two, again) = streamed((SHARE_FETCH, 2), &body, [], &routes).unwrap();
        prop_assert_eq!((one, found.edits, found.nodes), (two, again.edits, again.nodes));
    }

    #[test]
    fn unknown_tags_say_nothing_when_they_arrive(
        (version, response) in any_fetch(some_tags().boxed()),
        (share_version, share) in any_share_fetch(some_tags().boxed()),
        chunks in prop::collection::vec(0..40_usize, 0..200),
        host_bytes in 1..60_usize,
    ) {
        let routes = routes(host_bytes);
        let body = encode(&response, version);
        agree::<FetchResponse>(version, &body, chunks.clone(), &routes);
        let body = encode(&share, share_version);
        agree::<ShareFetchResponse>(share_version, &body, chunks, &routes);
    }

    /// Whatever has become of a response, no address of the upstream arrives, and what is refused
    /// is the same, but for texts that are no texts.
    #[test]
    fn damaged_responses_are_refused_or_streamed(
        (version, response) in any_fetch(some_tags().boxed()),
        (share_version, share) in any_share_fetch(some_tags().boxed()),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        chunks in prop::collection::vec(0..400_usize, 0..20),
    ) {
        let damaged = |body: Bytes| {
            let mut body = body.to_vec();
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            Bytes::from(body)
        };
        let body = damaged(encode(&response, version));
        refused_or_streamed::<FetchResponse>(version, &body, &chunks);
        let body = damaged(encode(&share, share_version));
        refused_or_streamed::<ShareFetchResponse>(share_version, &body, &chunks);
    }
}

fn refused_or_streamed<M: Response>(version: i16, body: &Bytes, chunks: &[usize]) {
    let routes = routes(DOOR.len());
    let rewritten = whole(M::KEY, version, body, &routes);
    let chunks = chunks.iter().copied();
    let (mut sent, found) = match streamed((M::KEY, version), body, chunks, &routes) {
        Ok(streamed) => streamed,
        // One byte behind the end can be left out but not filled.
        Err(StreamError::Unfilled { bytes: 1, .. }) => return,
        Err(refused) => {
            assert!(rewritten.is_err(), "refused by the cursor alone: {refused}");
            return;
        }
    };
    match rewritten {
        Err(GuardError::Malformed { fault: Fault::Utf8, .. }) => {}
        Err(error) => panic!("refused as a whole alone: {error}"),
        Ok(rewritten) => {
            assert_eq!(found.nodes, rewritten.nodes);
            let direct = M::decode(&mut sent, version).unwrap();
            assert!(direct.hosts().iter().all(|host| host == DOOR), "{direct:?}");
        }
    }
}

/// A small response in which everything changes.
fn small(endpoints: usize) -> FetchResponse {
    let endpoint = |id| {
        fetch_response::NodeEndpoint::default()
            .with_node_id(BrokerId(id))
            .with_host(text(UPSTREAM))
            .with_port(9092)
            .with_rack(Some(text("rack")))
    };
    let leader = |id| {
        let leader = fetch_response::LeaderIdAndEpoch::default().with_leader_id(BrokerId(id));
        let tags = Tags::from([(9, Bytes::from_static(UPSTREAM.as_bytes()))]);
        PartitionData::default()
            .with_current_leader(leader.with_leader_epoch(7))
            .with_preferred_read_replica(BrokerId(id))
            .with_aborted_transactions(Some(vec![AbortedTransaction::default(); 2]))
            .with_records(Some(Bytes::from(vec![1; 150])))
            .with_unknown_tagged_fields(tags)
    };
    let topic =
        FetchableTopicResponse::default().with_partitions(vec![leader(UNROUTED), leader(ROUTED)]);
    let ids = [ROUTED, UNROUTED].into_iter().cycle().take(endpoints);
    FetchResponse::default()
        .with_responses(vec![topic])
        .with_node_endpoints(ids.map(endpoint).collect())
}

#[test]
fn a_chunk_may_end_anywhere() {
    let body = encode(&small(2), 17);
    let table = routes(4);
    let wanted = streamed((FETCH, 17), &body, [], &table).unwrap().0;
    assert_ne!(wanted, body);
    let tail = encode(&small(2).with_responses(Vec::new()), 17).len() - 11;
    for first in 0..=body.len() {
        let (sent, _) = streamed((FETCH, 17), &body, [first], &table).unwrap();
        assert_eq!(sent, wanted, "{first}");
        let mut cursor = Cursor::new(FETCH, 17, body.len()).unwrap();
        let done = cursor.advance(&mut body[..first].to_vec(), &table).unwrap();
        let ahead = first.min(body.len() - tail);
        assert!(done + HELD_AHEAD_MAX >= ahead, "{done} of {first}");
    }
    assert_eq!(streamed((FETCH, 17), &body, vec![1; body.len()], &table).unwrap().0, wanted);
}

#[test]
fn addresses_of_every_length_take_the_place_of_others() {
    for version in 16..=17 {
        for endpoints in 0..=3 {
            let mut response = small(endpoints);
            for partition in &mut response.responses[0].partitions {
                partition.unknown_tagged_fields.clear();
            }
            let body = encode(&response, version);
            for host_bytes in 1..=300 {
                agree_exactly::<FetchResponse>(version, &body, [], &routes(host_bytes));
            }
        }
    }
}

#[test]
fn records_are_neither_held_nor_looked_at() {
    let mut response = small(1);
    response.responses[0].partitions[0].records = Some(Bytes::from(vec![0xff; 5 << 20]));
    for version in [12, 17] {
        let response =
            if version < 16 { response.clone().without_endpoints() } else { response.clone() };
        let body = encode(&response, version);
        let (sent, found) =
            streamed((FETCH, version), &body, vec![8 << 10; 1 << 10], &routes(4)).unwrap();
        assert_eq!(found.edits > 0, sent != body);
        let wanted: FetchResponse = meaning(version, &body, &routes(4));
        assert_eq!(meaning::<FetchResponse>(version, &sent, &routes(4)), wanted);
    }
}

#[test]
fn what_changes_nothing_goes_on_as_it_came() {
    let partition = PartitionData::default().with_records(Some(Bytes::from(vec![1; 100])));
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition; 3]);
    let response = FetchResponse::default().with_responses(vec![topic]);
    for version in 11..=FetchResponse::VERSIONS.max {
        let body = encode(&response, version);
        let (sent, found) = streamed((FETCH, version), &body, [50, 50], &routes(4)).unwrap();
        assert_eq!((sent, found.edits, found.nodes), (body, 0, Vec::new()), "v{version}");
    }
}

#[test]
fn bytes_behind_a_response_say_nothing_when_they_arrive() {
    for (version, behind) in [(11, UPSTREAM), (17, UPSTREAM), (11, "x"), (12, "xy")] {
        let response = if version < 16 { FetchResponse::default() } else { small(1) };
        let body = encode(&response, version);
        let longer = Bytes::from([&body[..], behind.as_bytes()].concat());
        let (sent, found) = streamed((FETCH, version), &longer, [], &routes(4)).unwrap();
        assert!(!sent.windows(behind.len()).any(|bytes| bytes == behind.as_bytes()));
        assert!(found.edits > 0);
        let got = FetchResponse::decode(&mut sent.clone(), version).unwrap();
        assert_eq!(got.node_endpoints.len(), usize::from(version >= 16));
    }
    let body = encode(&FetchResponse::default(), 12);
    let longer = Bytes::from([&body[..], b"x"].concat());
    let refused = streamed((FETCH, 12), &longer, [], &routes(4)).unwrap_err();
    assert_eq!(refused.to_string(), "Fetch v12 response has 1 byte behind its end");
}

#[test]
fn what_has_no_end_is_refused_before_it_is_held() {
    let endpoint = fetch_response::NodeEndpoint::default().with_host(text(UPSTREAM));
    let response = FetchResponse::default().with_node_endpoints(vec![endpoint; 4_000]);
    let body = encode(&response, 16);
    let mut cursor = Cursor::new(FETCH, 16, body.len()).unwrap();
    let refused = cursor.advance(&mut body[..20].to_vec(), &routes(4)).unwrap_err();
    assert!(matches!(refused, StreamError::TailTooLarge { .. }), "{refused}");
    assert!(refused.to_string().contains("above the limit of 65536"), "{refused}");
}

#[test]
fn an_error_names_the_field_and_the_place_in_the_body() {
    let mut body = encode(&small(1), 17).to_vec();
    let end = body.len();
    body.truncate(end - 1);
    let refused = streamed((FETCH, 17), &body, [], &routes(4)).unwrap_err();
    let StreamError::Guard(GuardError::Malformed { api, version, offset, .. }) = &refused else {
        panic!("{refused}")
    };
    assert_eq!((*api, *version), ("Fetch", 17));
    assert!(*offset > 300 && *offset < end, "{refused}");
    let refused =
        streamed((FETCH, 11), &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9], [], &routes(4));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Fetch v11 body is malformed at byte 10, field Responses: 2313 elements of at least 6 \
         bytes do not fit in the 0 bytes left"
    );
}

#[test]
fn responses_without_records_are_not_streamed() {
    for key in (0..93).filter(|key| ![FETCH, SHARE_FETCH].contains(key)) {
        assert!(Cursor::new(key, 1, 100).is_none());
    }
    assert!(Cursor::new(FETCH, 18, 0).is_some() && Cursor::new(FETCH, 19, 0).is_none());
    assert!(Cursor::new(SHARE_FETCH, 0, 0).is_none());
}

/// What a walk can change is what it looks for: addresses are in the tail alone.
#[test]
fn no_partition_says_where_a_node_is() {
    fn hosts(of: &Struct) -> bool {
        of.fields.iter().any(|field| match field.of {
            Type::Struct(inner) => hosts(inner),
            _ => field.name == "Host",
        })
    }
    for key in KEYS {
        let root = shape::response(key).unwrap().root;
        let at = root.fields.iter().position(|field| field.name == tail::NODE_ENDPOINTS).unwrap();
        assert_eq!(at, root.fields.len() - 1);
        for field in &root.fields[..at] {
            assert!(!matches!(field.of, Type::Struct(inner) if hosts(inner)), "{}", field.name);
        }
    }
}

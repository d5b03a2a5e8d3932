//! Any bytes as the response of a proxy's upstream: rewritten whole, for all APIs that say where
//! nodes are, and as a stream, for those with records.
//!
//! Held here: nothing panics; memory is in proportion to the bytes; every host that the crate reads
//! in what goes on is ours, or none; no tag that the shape does not know has anything in it; only
//! brokers that can be connected to are listed; what is rewritten stays as it is when it is
//! rewritten again; a stream keeps its length, and says what the whole says, as far as there is
//! room.
//!
//! Input: a byte for the API, one for the version, one for the length of our host, one for the
//! chunks, then the body.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use kafka_protocol::messages::{
    DescribeClusterResponse, DescribeQuorumResponse, FetchResponse, FindCoordinatorResponse,
    MetadataResponse, ProduceResponse, ShareAcknowledgeResponse, ShareFetchResponse,
};
use kafka_protocol::protocol::{Decodable, Message};
use tidegate::protocol::guard::{self, Fault, GuardError, Limits, Visitor, shape};
use tidegate::proxy::rewrite::stream::{Cursor, StreamError, Streamed};
use tidegate::proxy::rewrite::{Address, Rewritten, Routes, UpstreamNode, rewrite};

use super::chance::Chance;
use super::within;

/// What is held whatever the size, and how many times the bytes beside it.
const STATE: usize = 8 << 10;
const FACTOR: usize = 128;
const PORT: u16 = 9_193;
const SHARE_FETCH: i16 = 78;

/// What is rewritten: Produce, Fetch, Metadata, `FindCoordinator`, `DescribeQuorum`, `DescribeCluster`,
/// `ShareFetch`, `ShareAcknowledge`.
const KEYS: [i16; 8] = [0, 1, 3, 10, 55, 60, SHARE_FETCH, 79];

/// Two of three nodes have a route.
struct Table(Address);

impl Routes for Table {
    fn route(&self, node: i32) -> Option<Address> {
        assert!(node >= 0, "{node} is no node");
        (node % 3 > 0).then(|| self.0.clone())
    }
}

/// Holds that unknown tags are empty: shorter than an address, or zeros.
struct Blank<'a>(&'a [u8]);

impl Visitor for Blank<'_> {
    fn unknown_tag(&mut self, at: Range<usize>) {
        let tag = &self.0[at];
        // Five bytes of number, and a size of up to five.
        let content = tag.get(5..).unwrap_or_default();
        let content = content.iter().skip_while(|byte| **byte & 0x80 != 0).skip(1);
        assert!(content.clone().all(|byte| *byte == 0), "{tag:?}");
    }
}

/// A response whose hosts can be told.
trait Response: Decodable + Message + PartialEq + Debug {
    fn hosts(&self) -> Vec<&str>;
    /// Without the hosts that a stream may leave out.
    fn without_endpoints(self) -> Self;
}

macro_rules! response {
    ($type:ty, |$response:ident| $hosts:expr $(, $endpoints:ident)?) => {
        impl Response for $type {
            fn hosts(&self) -> Vec<&str> {
                let $response = self;
                $hosts
            }

            fn without_endpoints(self) -> Self {
                self$(.$endpoints(Vec::new()))?
            }
        }
    };
}

macro_rules! each_host {
    ($list:expr) => {
        $list.iter().map(|node| node.host.as_str()).collect()
    };
}

response!(ProduceResponse, |response| each_host!(response.node_endpoints), with_node_endpoints);
response!(FetchResponse, |response| each_host!(response.node_endpoints), with_node_endpoints);
response!(ShareFetchResponse, |response| each_host!(response.node_endpoints), with_node_endpoints);
response!(
    ShareAcknowledgeResponse,
    |response| each_host!(response.node_endpoints),
    with_node_endpoints
);
response!(MetadataResponse, |response| each_host!(response.brokers));
response!(DescribeClusterResponse, |response| each_host!(response.brokers));
response!(DescribeQuorumResponse, |response| response
    .nodes
    .iter()
    .flat_map(|node| node.listeners.iter().map(|listener| listener.host.as_str()))
    .collect());
response!(FindCoordinatorResponse, |response| {
    let entries = response.coordinators.iter().map(|entry| entry.host.as_str());
    entries.chain([response.host.as_str()]).collect()
});

/// One body and how it is answered.
struct Case<'a> {
    key: i16,
    version: i16,
    body: Bytes,
    routes: &'a Table,
    chunk: usize,
}

impl Case<'_> {
    fn cap(&self) -> usize {
        STATE + FACTOR * self.body.len()
    }

    fn whole(&self, body: &Bytes) -> Result<Rewritten, GuardError> {
        let rewritten = rewrite(self.key, self.version, body, Limits::CONTROL, self.routes);
        if let Ok(rewritten) = &rewritten {
            assert_listed(&rewritten.nodes);
        }
        rewritten
    }

    /// What the crate reads; nothing in a version that it does not know. `ShareFetch` 2 looks like
    /// 1.
    fn decoded<M: Response>(&self, body: &Bytes) -> Option<M> {
        let version = if self.key == SHARE_FETCH { 1 } else { self.version };
        if version > M::VERSIONS.max {
            return None;
        }
        let decoded = M::decode(&mut body.clone(), version).expect("what the guard has passed");
        let ours = |host: &&str| host.is_empty() || *host == self.routes.0.host;
        assert!(decoded.hosts().iter().all(ours), "{decoded:?}");
        Some(decoded)
    }

    fn run<M: Response>(&self) {
        let rewritten = within(self.cap(), || self.whole(&self.body));
        let bytes = rewritten.as_ref().ok().map(|found| Bytes::from(found.pieces.concat()));
        if let Some(bytes) = &bytes {
            let again = self.whole(bytes).expect("what was rewritten");
            assert_eq!(Bytes::from(again.pieces.concat()), bytes);
            self.decoded::<M>(bytes);
        }
        if let Some(streamed) = within(self.cap(), || self.stream()) {
            self.compare::<M>(rewritten, bytes, streamed);
        }
    }

    fn compare<M: Response>(
        &self,
        rewritten: Result<Rewritten, GuardError>,
        bytes: Option<Bytes>,
        streamed: Result<(Bytes, Streamed), StreamError>,
    ) {
        let (rewritten, (sent, found)) = match (rewritten, streamed) {
            (Ok(rewritten), Ok(streamed)) => (rewritten, streamed),
            // A stream does not look at texts.
            (Err(_), Err(_))
            | (Ok(_), Err(StreamError::Unfilled { bytes: 1, .. }))
            | (Err(GuardError::Malformed { fault: Fault::Utf8, .. }), Ok(_)) => return,
            (whole, streamed) => panic!("whole: {whole:?}, streamed: {streamed:?}"),
        };
        assert_eq!(found.nodes, rewritten.nodes);
        assert_eq!(sent.len(), self.body.len());
        let visited = guard::visit_response(
            self.key,
            self.version,
            &sent,
            Limits::CONTROL,
            &mut Blank(&sent),
        );
        visited.expect("what was streamed is still a response");
        let blank = self.whole(&sent).expect("what was streamed");
        let decoded = |bytes: &Bytes| self.decoded::<M>(bytes).expect("the crate knows these");
        let (direct, got) = (decoded(&sent), decoded(&Bytes::from(blank.pieces.concat())));
        assert_eq!(direct.hosts(), got.hosts());
        let wanted = decoded(&bytes.unwrap_or_default());
        if got != wanted {
            assert_eq!(got, wanted.without_endpoints());
        }
    }

    /// Streams the body in chunks; nothing for an API that is not streamed.
    fn stream(&self) -> Option<Result<(Bytes, Streamed), StreamError>> {
        let mut cursor = Cursor::new(self.key, self.version, self.body.len())?;
        let (mut held, mut sent) = (Vec::new(), Vec::new());
        // A body without bytes is looked at too.
        for chunk in self.body.chunks(self.chunk).chain([&[][..]]) {
            held.extend_from_slice(chunk);
            match cursor.advance(&mut held, self.routes) {
                Ok(done) => sent.extend(held.drain(..done)),
                Err(error) => {
                    assert!(sent.is_empty() || sent.len() < self.body.len());
                    return Some(Err(error));
                }
            }
        }
        assert_eq!((held.len(), cursor.left()), (0, 0));
        Some(Ok((Bytes::from(sent), cursor.finish())))
    }
}

fn assert_listed(nodes: &[UpstreamNode]) {
    for node in nodes {
        assert!(node.id >= 0 && !node.host.is_empty(), "{node:?}");
        assert!((1..=65_535).contains(&node.port), "{node:?}");
    }
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    let message = shape::response(KEYS[chance.below(KEYS.len())]).expect("it is rewritten");
    let span = (message.versions.max - message.versions.min + 1) as usize;
    let version = message.versions.min + chance.below(span) as i16;
    let host = "door".chars().cycle().take(usize::from(chance.u8()).max(1)).collect();
    let routes = Table(Address { host, port: PORT });
    let chunk = usize::from(chance.u8()) + 1;
    let body = Bytes::copy_from_slice(chance.rest());
    let case = Case { key: message.key, version, body, routes: &routes, chunk };
    match message.key {
        0 => case.run::<ProduceResponse>(),
        1 => case.run::<FetchResponse>(),
        3 => case.run::<MetadataResponse>(),
        10 => case.run::<FindCoordinatorResponse>(),
        55 => case.run::<DescribeQuorumResponse>(),
        60 => case.run::<DescribeClusterResponse>(),
        78 => case.run::<ShareFetchResponse>(),
        79 => case.run::<ShareAcknowledgeResponse>(),
        key => panic!("the target does not know the response to {key}"),
    }
}

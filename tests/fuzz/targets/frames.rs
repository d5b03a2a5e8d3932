//! Any bytes as what a peer sends, in pieces of any size, to the front door.
//!
//! Held here: the service gets exactly the requests that a plain reading of the bytes finds, in
//! order; each is answered, in order; the connection ends, and why is what the bytes say; what was
//! charged is given back; and memory is a small multiple of the bytes.
//!
//! Input: how the bytes are cut, how large a frame goes first, the bytes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::Decodable;
use tidegate::budget::{Budget, BytePool};
use tidegate::protocol::frame::{FrameError, frame_length};
use tidegate::protocol::header::{parse_request_header, response_is_flexible};
use tidegate::server::service::{ApiVersions, Disconnect, Reply, Request, Response, Session};
use tidegate::server::{Limits, Pipes, Service};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::within;

const API_VERSIONS: i16 = 18;
const LIMIT: usize = 1 << 20;
/// A read buffer and what a connection is made of; a large frame has a buffer of its own beside
/// the copy that is sent back.
const STATE: usize = 512 << 10;
const FACTOR: usize = 6;

/// Keys and versions that the service takes; some with tags in their headers.
const APIS: [(i16, i16, i16); 4] = [(0, 3, 13), (3, 0, 13), (12, 0, 4), (API_VERSIONS, 0, 4)];

/// A request as the service saw it, or as it should have.
#[derive(Debug, PartialEq)]
struct Seen {
    key: i16,
    version: i16,
    id: i32,
    client: String,
    body: Bytes,
}

/// Answers with the body it was sent.
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<Seen>>,
}

impl Service for Echo {
    type Connection = ();

    fn api_versions(&self) -> ApiVersions {
        ApiVersions {
            apis: APIS.to_vec(),
            supported_features: Vec::new(),
            finalized_features: Vec::new(),
            finalized_features_epoch: -1,
        }
    }

    fn connect(&self, _: &Arc<Session>) {}

    async fn call(
        &self,
        _: &Arc<()>,
        _: &Arc<Session>,
        request: Request,
    ) -> Result<Reply, Disconnect> {
        let body = request.body.clone();
        self.seen.lock().expect("no panic under it").push(Seen {
            key: request.api_key,
            version: request.api_version,
            id: request.correlation_id,
            client: request.client_id.to_string(),
            body: request.body,
        });
        Ok(Reply::Now(Response::from_bytes(body)))
    }
}

/// A stream that gives its bytes in pieces, now and then has none yet, and keeps what is written.
struct Pieces<'a> {
    rest: &'a [u8],
    chance: u64,
    written: &'a mut Vec<u8>,
}

impl Pieces<'_> {
    fn next(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const SIZES: [usize; 8] = [1, 2, 3, 4, 17, 64, 5_000, usize::MAX];
        let chance = self.next();
        if chance >> 60 == 0 {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = SIZES[(chance % 8) as usize].min(self.rest.len()).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(size);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let size = (self.next() as usize % 1_000 + 1).min(bytes.len());
        self.written.extend_from_slice(&bytes[..size]);
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The requests in `bytes`, and why the connection must end. What `ApiVersions` says is the door's
/// own business, so such a request stands here too.
fn plainly_read(bytes: &Bytes) -> (Vec<Seen>, &'static str) {
    let mut rest = bytes.clone();
    let mut found = Vec::new();
    loop {
        if rest.is_empty() {
            return (found, "peer_closed");
        }
        let Some(prefix) = rest.first_chunk::<4>() else { return (found, "truncated") };
        let length = match frame_length(*prefix, LIMIT) {
            Ok(length) => length,
            Err(FrameError::Http) => return (found, "http"),
            Err(FrameError::Tls) => return (found, "tls"),
            Err(_) => return (found, "frame_length"),
        };
        rest.advance(4);
        if rest.len() < length {
            return (found, "truncated");
        }
        let Ok((header, body)) = parse_request_header(&rest.split_to(length)) else {
            return (found, "header");
        };
        let (key, version) = (header.api_key, header.api_version);
        let served = APIS.iter().any(|&(at, min, max)| at == key && (min..=max).contains(&version));
        if !served && key != API_VERSIONS {
            return (found, "unsupported");
        }
        let client = header.client_id.map(|id| id.to_string()).unwrap_or_default();
        found.push(Seen { key, version, id: header.correlation_id, client, body });
    }
}

/// Holds that `written` answers the first requests of `expected`; how many are answered.
fn assert_answers(mut written: Bytes, expected: &[Seen]) -> usize {
    let mut answered = 0;
    while !written.is_empty() {
        let seen = expected.get(answered).expect("no answer without a request");
        let length = written.get_i32() as usize;
        let mut frame = written.split_to(length);
        assert_eq!(frame.get_i32(), seen.id);
        if seen.key == API_VERSIONS {
            let version = if (0..=4).contains(&seen.version) { seen.version } else { 0 };
            let answer = ApiVersionsResponse::decode(&mut frame, version).expect("well formed");
            assert!(frame.is_empty());
            assert!([0, 35, 42].contains(&answer.error_code));
        } else {
            if response_is_flexible(seen.key, seen.version) {
                assert_eq!(frame.get_u8(), 0);
            }
            assert_eq!(frame, seen.body);
        }
        answered += 1;
    }
    answered
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
    static DOOR: (Pipes<Echo>, Arc<Echo>, Budget) = {
        let (service, budget) = (Arc::new(Echo::default()), Budget::new(256 << 20));
        let limits = Limits { max_request_bytes: LIMIT, ..Limits::default() };
        (Pipes::new(limits, &budget, Arc::clone(&service)), service, budget)
    };
}

/// The bytes that are sent: a good frame of Heartbeat first whose body has `kib` KiB, then `rest`.
fn stream(kib: u8, rest: &[u8]) -> Bytes {
    if kib < 192 {
        return Bytes::copy_from_slice(rest);
    }
    let body = usize::from(kib - 190) << 13;
    let mut bytes = ((10 + body) as i32).to_be_bytes().to_vec();
    bytes.extend([0, 12, 0, 0, 0, 0, 0, 9, 0xff, 0xff]);
    bytes.resize(14 + body, kib);
    bytes.extend_from_slice(rest);
    bytes.into()
}

pub(super) fn run(data: &[u8]) {
    let Some((&[high, low, kib], rest)) = data.split_first_chunk() else { return };
    let bytes = stream(kib, rest);
    let (expected, ending) = plainly_read(&bytes);
    let chance = u64::from(high) << 8 | u64::from(low) | 1 << 40;
    let mut written = Vec::with_capacity(2 * bytes.len() + 4096);
    DOOR.with(|(door, service, budget)| {
        let pieces = Pieces { rest: &bytes, chance, written: &mut written };
        let cause = within(STATE + FACTOR * bytes.len(), || {
            RUNTIME.with_borrow(|runtime| runtime.block_on(door.serve(pieces)))
        });
        let seen = std::mem::take(&mut *service.seen.lock().expect("no panic under it"));
        let answered = assert_answers(Bytes::from(written), &expected);
        // A request for the versions that cannot be read ends the connection before its time.
        let next = expected.get(answered);
        let early = cause == "malformed" && next.is_some_and(|next| next.key == API_VERSIONS);
        let handled = if early { &expected[..answered] } else { &expected[..] };
        let handled: Vec<&Seen> = handled.iter().filter(|seen| seen.key != API_VERSIONS).collect();
        assert_eq!(seen.iter().collect::<Vec<_>>(), handled);
        let header = ending == "header" && ["malformed", "unsupported"].contains(&cause);
        assert!(early || header || cause == ending, "{cause} instead of {ending}");
        // Only a frame that is none takes answers with it, as in Kafka.
        let cut = ["frame_length", "http", "tls"].contains(&cause);
        assert!(early || cut || answered == expected.len(), "{answered} answers for {cause}");
        drop(seen);
        drop(expected);
        let charged: usize = budget.pools().iter().map(BytePool::used).sum();
        assert_eq!(charged, 0, "bytes are still charged");
    });
}

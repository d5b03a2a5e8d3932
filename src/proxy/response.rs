//! From the bytes of an upstream's response to what the door writes.
//!
//! | response | |
//! |---|---|
//! | goes on as it came, or small | read whole |
//! | goes on as it came, large | read as the client's socket takes it |
//! | carries records and may name nodes, large | the same, rewritten on the way |
//! | names nodes | read whole, rewritten |
//!
//! What is read waits in memory that is charged to the send pool first, so that slow clients stop
//! their upstreams by not being read for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::cluster::Cluster;
use super::handshake;
use super::link::Link;
use super::policy::Class;
use super::rewrite;
use super::rewrite::stream::Cursor;
use super::tokens;
use crate::budget::{BytePool, Charge, UNCHARGED_RESPONSE_BYTES};
use crate::clock::Instant;
use crate::protocol::frame::{Foreign, LENGTH_BYTES, foreign};
use crate::protocol::guard::Limits;
use crate::protocol::header::response_is_flexible;
use crate::server::service::{
    BoxFuture, Deferred, Disconnect, Piece, Response, SASL_AUTHENTICATE, SASL_TOKEN,
};

/// Up to this size a response is read whole.
const WHOLE_MAX: usize = 64 * 1024;
/// Below this size one is copied, so that the read buffer is used again at once.
const COPY_BELOW: usize = 16 * 1024;
/// What is read at once of a larger one.
const CHUNK: usize = 256 * 1024;
/// What is read more where a field is cut by the end of a chunk.
const BEHIND: usize = 4 * 1024;
/// The length and the correlation id.
const HEAD_BYTES: usize = LENGTH_BYTES + 4;
/// The most bytes of tags in a response's header; Kafka sends none.
const HEADER_TAGS_MAX: usize = 4 * 1024;
/// The largest response that is rewritten: what Kafka's clients refuse is below it.
const REWRITTEN_MAX: usize = 1 << 30;

/// A request whose response is to come.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) class: Class,
    /// The upstream connection's number for it.
    pub(super) number: u64,
    /// How long the request was here.
    pub(super) held: Duration,
}

impl Expected {
    /// Whether it is a token of SASL without a header.
    pub(super) fn is_token(&self) -> bool {
        (self.key, self.version) == (SASL_AUTHENTICATE, SASL_TOKEN)
    }

    /// The correlation id under which the request goes upstream.
    pub(super) fn correlation_id(&self) -> i32 {
        (self.number & 0x7fff_ffff) as i32
    }
}

/// Reads the response to `expected` when it is its turn.
pub(super) async fn receive(
    cluster: Arc<Cluster>,
    link: Arc<Link>,
    expected: Expected,
) -> Result<Response, Disconnect> {
    link.turn(expected.number).await;
    let outcome = read(&cluster, &link, &expected).await;
    outcome.map_err(|error| cluster.failed(&error))
}

/// Why a response did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// The connection has ended.
    #[error("{0}")]
    Ended(#[from] io::Error),
    /// What came is not a response to what was asked.
    #[error("{0}")]
    Malformed(String),
    /// The response is larger than the memory for it.
    #[error(transparent)]
    TooLarge(#[from] crate::budget::TooLarge),
}

async fn read(
    cluster: &Arc<Cluster>,
    link: &Arc<Link>,
    expected: &Expected,
) -> Result<Response, ReceiveError> {
    let body = head(link, expected).await?;
    let begun = cluster.clock.now();
    cluster.metrics.response_bytes.inc_by((HEAD_BYTES + body) as u64);
    let response = match expected.class {
        Class::Forward if body > WHOLE_MAX => {
            return forward_large(cluster, link, body, expected.held).await;
        }
        Class::Forward => {
            let (body, charge) = whole(cluster, link, body).await?;
            if (expected.key, expected.version) == (tokens::HANDSHAKE, 0) {
                link.tokens(|tokens| ((), tokens.answered(&body)));
            }
            Response { pieces: vec![Piece::Ready(body)], charge, ..Response::default() }
        }
        Class::Rewrite | Class::Refuse => {
            let cursor = Cursor::new(expected.key, expected.version, body);
            if let Some(cursor) = cursor.filter(|_| body > WHOLE_MAX) {
                return Ok(rewrite_large(cluster, link, body, cursor, expected.held));
            }
            let (body, charge) = whole(cluster, link, body).await?;
            let pieces = rewritten(cluster, link, expected, &body)?;
            Response { pieces, charge, ..Response::default() }
        }
    };
    link.hand_on();
    let added = expected.held + (cluster.clock.now() - begun);
    cluster.metrics.added.observe(added.as_secs_f64());
    Ok(response)
}

/// Reads up to the body, and says how long that is.
async fn head(link: &Link, expected: &Expected) -> Result<usize, ReceiveError> {
    if expected.is_token() {
        let length = link.peek(LENGTH_BYTES, |bytes| split_head(bytes).0).await?;
        link.skip(LENGTH_BYTES);
        let fault = || ReceiveError::Malformed(format!("a SASL token has the length {length}"));
        return usize::try_from(length).ok().filter(|it| *it <= WHOLE_MAX).ok_or_else(fault);
    }
    let (length, correlation_id) = link.peek(HEAD_BYTES, split_head).await?;
    let malformed = |what: String| ReceiveError::Malformed(what);
    match foreign(length.to_be_bytes()) {
        None => {}
        Some(Foreign::Tls) => {
            let fix = "set upstream.security.protocol to SSL or SASL_SSL";
            return Err(malformed(format!("it speaks TLS where plaintext was expected; {fix}")));
        }
        Some(Foreign::Http) => {
            let fix = "check the port in upstream.bootstrap.servers";
            return Err(malformed(format!("it speaks HTTP and not Kafka; {fix}")));
        }
    }
    let Some(mut body) = usize::try_from(length).ok().and_then(|length| length.checked_sub(4))
    else {
        return Err(malformed(format!("a response has the length {length}")));
    };
    let wanted = expected.correlation_id();
    if correlation_id != wanted {
        let text = format!("a response has the correlation id {correlation_id}, not {wanted}");
        return Err(malformed(text));
    }
    link.skip(HEAD_BYTES);
    if response_is_flexible(expected.key, expected.version) {
        let no_tags = || malformed("a response's header ends early".to_owned());
        if body == 0 {
            return Err(no_tags());
        }
        let mut tags = 1;
        if link.peek(1, |tags| tags != [0]).await? {
            // Kafka has defined none. They belong to this connection, not to the client's.
            let looked = body.min(HEADER_TAGS_MAX);
            tags = link.peek(looked, tags_len).await?.ok_or_else(no_tags)?;
        }
        link.skip(tags);
        body = body.checked_sub(tags).ok_or_else(no_tags)?;
    }
    Ok(body)
}

fn split_head(bytes: &[u8]) -> (i32, i32) {
    let (length, id) = bytes.split_at(bytes.len().min(LENGTH_BYTES));
    let number = |bytes: &[u8]| bytes.try_into().map_or(-1, i32::from_be_bytes);
    (number(length), number(id))
}

/// How long a tag section is.
fn tags_len(bytes: &[u8]) -> Option<usize> {
    let mut reader = crate::protocol::wire::Reader::new(bytes);
    reader.skip_tagged_fields("header tags").ok()?;
    Some(bytes.len() - reader.remaining())
}

/// Reads a body of `bytes` into one piece of memory.
async fn whole(
    cluster: &Cluster,
    link: &Link,
    bytes: usize,
) -> Result<(Bytes, Charge), ReceiveError> {
    let charge = match bytes {
        0..UNCHARGED_RESPONSE_BYTES => Charge::none(),
        bytes => cluster.send.take(bytes).await?,
    };
    if bytes <= WHOLE_MAX {
        link.peek(bytes, |_| ()).await?;
        if bytes < COPY_BELOW {
            return Ok((link.copy(bytes), charge));
        }
        return Ok((link.take(bytes).freeze(), charge));
    }
    let mut body = BytesMut::with_capacity(bytes);
    link.fill(&mut body, bytes).await?;
    Ok((body.freeze(), charge))
}

fn rewritten(
    cluster: &Cluster,
    link: &Link,
    expected: &Expected,
    body: &Bytes,
) -> Result<Vec<Piece>, ReceiveError> {
    let (key, version) = (expected.key, expected.version);
    if key == handshake::KEY {
        let listing = handshake::read(handshake::asked(version), body)
            .map_err(|error| ReceiveError::Malformed(error.to_string()))?;
        link.asked(listing.is_whole().then(|| cluster.negotiated(&listing.apis)));
        return Ok(vec![Piece::Ready(listing.common())]);
    }
    let limits = Limits { body_bytes: REWRITTEN_MAX, decoded_bytes: usize::MAX };
    let rewritten = rewrite::rewrite(key, version, body, limits, &cluster.routes)
        .map_err(|error| ReceiveError::Malformed(error.to_string()))?;
    cluster.learn(&rewritten.nodes);
    cluster.metrics.rewrites.inc_by(rewritten.edits as u64);
    Ok(rewritten.pieces.into_iter().map(Piece::Ready).collect())
}

/// A response that is read as the client takes it.
async fn forward_large(
    cluster: &Arc<Cluster>,
    link: &Arc<Link>,
    body: usize,
    held: Duration,
) -> Result<Response, ReceiveError> {
    let ahead = link.take(body);
    let charge = cluster.send.take(ahead.len()).await?;
    let mut left = body - ahead.len();
    let mut pieces = vec![Piece::Ready(ahead.freeze())];
    while left > 0 {
        let len = left.min(CHUNK);
        left -= len;
        let source = Chunk {
            link: Arc::clone(link),
            cluster: Arc::clone(cluster),
            len,
            is_last: left == 0,
            since: cluster.clock.now(),
        };
        pieces.push(Piece::Deferred { len, source: Box::new(source) });
    }
    if pieces.len() == 1 {
        link.hand_on();
    }
    cluster.metrics.added.observe(held.as_secs_f64());
    Ok(Response { pieces, charge, ..Response::default() })
}

/// A response that is rewritten as the client takes it.
fn rewrite_large(
    cluster: &Arc<Cluster>,
    link: &Arc<Link>,
    body: usize,
    cursor: Cursor,
    held: Duration,
) -> Response {
    let since = cluster.clock.now();
    let stream = Stream { cursor, bytes: BytesMut::new(), done: 0, unread: body, since };
    let stream = Arc::new(Mutex::new(Some(stream)));
    let mut pieces = Vec::with_capacity(body / CHUNK + 1);
    let mut left = body;
    while left > 0 {
        let len = left.min(CHUNK);
        left -= len;
        let (link, cluster) = (Arc::clone(link), Arc::clone(cluster));
        let source = RewrittenChunk { link, cluster, len, stream: Arc::clone(&stream) };
        pieces.push(Piece::Deferred { len, source: Box::new(source) });
    }
    cluster.metrics.added.observe(held.as_secs_f64());
    Response { pieces, ..Response::default() }
}

/// A response that is on its way.
struct Stream {
    cursor: Cursor,
    bytes: BytesMut,
    /// How many of them are as the client is to have them.
    done: usize,
    /// How many are with the upstream.
    unread: usize,
    since: Instant,
}

/// A part of it. The parts are fetched one after the other, and hand it on.
struct RewrittenChunk {
    link: Arc<Link>,
    cluster: Arc<Cluster>,
    len: usize,
    stream: Arc<Mutex<Option<Stream>>>,
}

impl Deferred for RewrittenChunk {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            let Self { link, cluster, len, stream } = *self;
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(mut at) = taken else {
                return Err(io::Error::other("the part before this could not be fetched"));
            };
            cluster.metrics.paused_seconds.inc_by((cluster.clock.now() - at.since).as_secs_f64());
            let charge = charged(&cluster.send, len).await?;
            at.bytes.reserve(len + BEHIND);
            while at.done < len {
                let missing = len.saturating_sub(at.bytes.len()).max(BEHIND).min(at.unread);
                if missing == 0 {
                    return Err(io::Error::other("the rewritten response is too short"));
                }
                let until = at.bytes.len() + missing;
                link.fill(&mut at.bytes, until).await?;
                at.unread -= missing;
                let waiting = at.bytes.get_mut(at.done..).unwrap_or_default();
                let done = at.cursor.advance(waiting, &cluster.routes);
                at.done += done.map_err(|error| {
                    cluster.metrics.malformed.inc();
                    io::Error::other(error)
                })?;
            }
            let bytes = at.bytes.split_to(len);
            at.done -= len;
            if at.cursor.left() == 0 && at.done == 0 {
                let done = at.cursor.finish();
                cluster.learn(&done.nodes);
                cluster.metrics.rewrites.inc_by(done.edits as u64);
                link.hand_on();
            } else {
                at.since = cluster.clock.now();
                *stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            }
            Ok(vec![Bytes::from_owner(Charged { bytes, _charge: charge })])
        })
    }
}

/// A part of a response that is still with the upstream.
struct Chunk {
    link: Arc<Link>,
    cluster: Arc<Cluster>,
    len: usize,
    is_last: bool,
    since: Instant,
}

impl Deferred for Chunk {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            let Chunk { link, cluster, len, is_last, since } = *self;
            let paused = cluster.clock.now() - since;
            cluster.metrics.paused_seconds.inc_by(paused.as_secs_f64());
            let charge = charged(&cluster.send, len).await?;
            let mut bytes = BytesMut::with_capacity(len);
            link.fill(&mut bytes, len).await?;
            if is_last {
                link.hand_on();
            }
            Ok(vec![Bytes::from_owner(Charged { bytes, _charge: charge })])
        })
    }
}

async fn charged(pool: &BytePool, len: usize) -> io::Result<Charge> {
    pool.take(len).await.map_err(io::Error::other)
}

/// Bytes with what they are charged to.
struct Charged {
    bytes: BytesMut,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

//! What the front door asks of a back end, and what it gets back. The broker (`api`) and the proxy
//! are the two services; an echo service in the tests is the third.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::budget::Charge;
use crate::clock::Instant;

/// A future that may outlive the call that made it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A back end behind the front door.
pub trait Service: Send + Sync + 'static {
    /// What the service keeps for a connection. It is dropped when the connection ends.
    type Connection: ServiceConnection;

    /// Whether requests for `ApiVersions`, of any version, come to [`Service::call`], because what
    /// a connection may use depends on the connection. Else the door answers them.
    const ANSWERS_API_VERSIONS: bool = false;

    /// The APIs and versions that a connection may use, all others are closed on; and the features
    /// of `ApiVersions` v3 and above.
    fn api_versions(&self) -> ApiVersions;

    /// A connection was accepted. Nothing has come from it yet, and maybe nothing will.
    fn connect(&self, session: &Arc<Session>) -> Self::Connection;

    /// The first stage of a request (DESIGN D11). The door calls it strictly in the order in which
    /// a connection's requests came and waits for it, so everything that fixes an order (an append,
    /// a hand-over to a group) happens here; what only waits goes into [`Reply::Later`].
    fn call(
        &self,
        connection: &Arc<Self::Connection>,
        session: &Arc<Session>,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Disconnect>> + Send;
}

/// What a service keeps for a connection.
pub trait ServiceConnection: Send + Sync + 'static {
    /// Does what the service has to do for the connection besides calls and replies, such as to
    /// send on at once what several calls brought. Polled by the connection's task before it
    /// waits. Ready when the service will answer nothing that comes from now on; what came before
    /// is still answered.
    fn poll_io(&self, _task: &mut Context<'_>) -> Poll<Disconnect> {
        Poll::Pending
    }

    /// Whether a frame that came is no request but a token of SASL: after `SaslHandshake` v0 they
    /// are exchanged without headers (KIP-152 ended that with v1). It comes to [`Service::call`] as
    /// `SaslAuthenticate` in version [`SASL_TOKEN`], with the frame as its body, and its response
    /// is written without a header.
    fn takes_token(&self, _frame: &[u8]) -> bool {
        false
    }
}

/// The key of `SaslAuthenticate`.
pub const SASL_AUTHENTICATE: i16 = 36;
/// The version that stands for a token without a header.
pub const SASL_TOKEN: i16 = -1;

impl ServiceConnection for () {}

impl<C: ServiceConnection> ServiceConnection for Option<C> {
    fn poll_io(&self, task: &mut Context<'_>) -> Poll<Disconnect> {
        self.as_ref().map_or(Poll::Pending, |connection| connection.poll_io(task))
    }

    fn takes_token(&self, frame: &[u8]) -> bool {
        self.as_ref().is_some_and(|connection| connection.takes_token(frame))
    }
}

/// A connection as its service sees it.
#[derive(Debug)]
pub struct Session {
    /// Numbers the process's connections, for logs.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The name of the listener that accepted the connection; decides which advertised address a
    /// client is given.
    pub listener: Arc<str>,
    /// The name under which the client looked for us, if it used TLS and said so (SNI, RFC 6066).
    pub server_name: Option<Box<str>>,
    /// The place of the one request that may wait for long without a charge.
    pub uncharged_wait: UnchargedWait,
}

impl Session {
    /// A connection of which no request waits.
    pub fn new(id: u64, peer: SocketAddr, listener: Arc<str>) -> Self {
        let uncharged_wait = UnchargedWait::default();
        Self { id, peer, listener, server_name: None, uncharged_wait }
    }
}

/// A place for one request of a connection that waits for long and is charged to nothing meanwhile.
#[derive(Debug, Default)]
pub struct UnchargedWait {
    taken: AtomicBool,
    end: Notify,
}

impl UnchargedWait {
    /// Takes the place; false if another request has it.
    pub fn enter(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Gives the place back.
    pub fn leave(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Asks the request that waits now to be done.
    pub fn end(&self) {
        self.end.notify_waiters();
    }

    /// Ends when [`UnchargedWait::end`] is called after this was first polled.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

/// A request: its header parsed, its body as it came.
#[derive(Debug)]
pub struct Request {
    /// The API key, known to be in the service's table.
    pub api_key: i16,
    /// The version, known to be in the advertised range, or [`SASL_TOKEN`].
    pub api_version: i16,
    /// The client's number for the request; the door answers with it.
    pub correlation_id: i32,
    /// The client's name for itself; empty if it gave none.
    pub client_id: Arc<str>,
    /// The bytes after the header.
    pub body: Bytes,
    /// Header and body as they came, without the length before them.
    pub frame: Bytes,
    /// When the whole frame had arrived.
    pub received: Instant,
    /// What the frame is charged to; goes wherever `body` goes.
    pub charge: Charge,
}

/// What becomes of a request.
pub enum Reply {
    /// The response is ready.
    Now(Response),
    /// The response is ready when the future is. Later requests of the connection go on meanwhile;
    /// their responses wait for this one.
    Later(BoxFuture<Result<Response, Disconnect>>),
    /// No response belongs to the request (Produce with acks=0).
    Silent,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Now(response) => f.debug_tuple("Now").field(response).finish(),
            Reply::Later(_) => f.write_str("Later"),
            Reply::Silent => f.write_str("Silent"),
        }
    }
}

/// The body of a response as pieces that are written one after the other; the door adds length and
/// header.
#[derive(Debug, Default)]
pub struct Response {
    /// The pieces in order.
    pub pieces: Vec<Piece>,
    /// The error codes in the response, for the door's metrics: code and how often; 0 not listed.
    pub errors: Vec<(i16, u32)>,
    /// What the pieces at hand are charged to, given back when the last byte is written.
    pub charge: Charge,
}

impl Response {
    /// A response of one piece that is charged to nothing.
    pub fn from_bytes(body: Bytes) -> Self {
        Self { pieces: vec![Piece::Ready(body)], ..Self::default() }
    }

    /// The number of bytes in all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// Whether there is nothing to write but the header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part of a response.
pub enum Piece {
    /// Bytes at hand.
    Ready(Bytes),
    /// `len` bytes that are fetched when the socket is ready for them, so that a connection holds
    /// at most a mebibyte of them (DESIGN §3).
    Deferred {
        /// How many bytes the source gives, exactly.
        len: usize,
        /// Where they come from.
        source: Box<dyn Deferred>,
    },
}

impl Piece {
    /// The number of bytes in this piece.
    pub fn len(&self) -> usize {
        match self {
            Piece::Ready(bytes) => bytes.len(),
            Piece::Deferred { len, .. } => *len,
        }
    }

    /// Whether the piece has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.len())
    }
}

/// A source of bytes that are fetched when they can be sent.
pub trait Deferred: Send {
    /// Fetches the bytes: exactly as many as announced. An error closes the connection, since the
    /// frame's length is already on the wire.
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>>;
}

/// The connection must be closed, and why. Responses of earlier requests are still written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The request cannot be read.
    #[error("malformed {api} v{version} request: {reason}")]
    Malformed {
        /// The API's name.
        api: &'static str,
        /// The request's version.
        version: i16,
        /// What is wrong, in words.
        reason: String,
    },
    /// Kafka closes the connection on a version that it does not serve.
    #[error("{api} v{version} is not supported")]
    UnsupportedVersion {
        /// The API's name.
        api: &'static str,
        /// The request's version.
        version: i16,
    },
    /// An acks=0 Produce failed; closing makes the client refresh its metadata.
    #[error("produce with acks=0 failed: {0}")]
    UnacknowledgedProduce(String),
    /// The broker is stopping or has failed, and no answer would be true.
    #[error("{0}")]
    Unavailable(String),
    /// The service is done with the connection, and nothing is wrong.
    #[error("{0}")]
    Done(String),
}

/// What a service advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersions {
    /// Key, lowest and highest version, sorted by key.
    pub apis: Vec<(i16, i16, i16)>,
    /// Name, lowest and highest supported level of each feature.
    pub supported_features: Vec<(String, i16, i16)>,
    /// Name, lowest and highest finalized level of each feature.
    pub finalized_features: Vec<(String, i16, i16)>,
    /// The epoch of the finalized features, -1 when there are none.
    pub finalized_features_epoch: i64,
}

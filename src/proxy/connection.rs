//! One client connection and the upstream connection that belongs to it.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::BufMut;

use super::cluster::{Cluster, Negotiated};
use super::handshake;
use super::link::Link;
use super::metrics::Held;
use super::policy::{self, Class, PRODUCE};
use super::response::{self, Expected, ReceiveError};
use super::tokens::{self, Tokens};
use crate::budget::Charge;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::produce;
use crate::server::service::{
    BoxFuture, Disconnect, Reply, Request, SASL_AUTHENTICATE, SASL_TOKEN, ServiceConnection,
};

/// The length, the key, the version and the correlation id.
const HEAD_BYTES: usize = LENGTH_BYTES + FRAME_HEAD_BYTES;
/// The key, the version and the correlation id.
const FRAME_HEAD_BYTES: usize = 2 + 2 + 4;
/// How the proxy names itself where a client did not ask for versions first.
const CLIENT_ID: &str = "tidegate-proxy";

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Whichever node answers first.
    Bootstrap,
    /// The node with this id.
    Node(i32),
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    cluster: Arc<Cluster>,
    target: Target,
    link: OnceLock<Upstream>,
    /// When it is too old.
    age: Mutex<Age>,
    _client: Held,
}

#[derive(Debug)]
struct Upstream {
    link: Arc<Link>,
    _upstream: Held,
}

struct Age(Option<BoxFuture<()>>);

impl std::fmt::Debug for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Age({})", self.0.is_some())
    }
}

impl Connection {
    pub(super) fn new(cluster: Arc<Cluster>, target: Target) -> Self {
        let timer = cluster.connection_age().map(|age| {
            let clock = cluster.clock.clone();
            let timer: BoxFuture<()> = Box::pin(async move { clock.sleep(age).await });
            timer
        });
        Self {
            _client: Held::new(&cluster.metrics.clients),
            link: OnceLock::new(),
            age: Mutex::new(Age(timer)),
            cluster,
            target,
        }
    }

    /// The first stage of a request: it goes on, in the order of the calls.
    pub(super) async fn call(&self, request: Request) -> Result<Reply, Disconnect> {
        let link = match self.link.get() {
            Some(upstream) => &upstream.link,
            None => Box::pin(self.connect()).await?,
        };
        let (key, version) = (request.api_key, request.api_version);
        if (key, version) == (SASL_AUTHENTICATE, SASL_TOKEN) {
            return self.forward(link, request, version, Class::Forward).await;
        }
        if key == handshake::KEY {
            link.asks();
            return self.forward(link, request, handshake::asked(version), Class::Rewrite).await;
        }
        let negotiated = match link.negotiated().await {
            Some(negotiated) => negotiated,
            None => Box::pin(self.negotiate(link)).await?,
        };
        let Some(class) = policy::class(key, version).filter(|_| negotiated.serves(key, version))
        else {
            let api = policy::find(key).map_or("an unknown API", |row| row.name);
            return Err(Disconnect::UnsupportedVersion { api, version });
        };
        self.forward(link, request, version, class).await
    }

    async fn connect(&self) -> Result<&Arc<Link>, Disconnect> {
        let cluster = &self.cluster;
        let stream = match self.target {
            Target::Bootstrap => cluster.connect_any().await,
            Target::Node(id) => cluster.connect_node(id).await,
        }?;
        cluster.metrics.connected.inc();
        let upstream = Upstream {
            link: Arc::new(Link::new(stream)),
            _upstream: Held::new(&cluster.metrics.upstreams),
        };
        Ok(&self.link.get_or_init(|| upstream).link)
    }

    /// Asks the upstream what it serves, for a client that did not.
    async fn negotiate(&self, link: &Arc<Link>) -> Result<Arc<Negotiated>, Disconnect> {
        let version = 0;
        let expected = Expected {
            key: handshake::KEY,
            version,
            class: Class::Rewrite,
            number: link.number(),
            held: std::time::Duration::ZERO,
        };
        let mut frame = Vec::with_capacity(HEAD_BYTES + 2 + CLIENT_ID.len());
        put_head(&mut frame, FRAME_HEAD_BYTES + 2 + CLIENT_ID.len(), &expected);
        frame.put_i16(CLIENT_ID.len() as i16);
        frame.put_slice(CLIENT_ID.as_bytes());
        link.asks();
        let sent = async {
            link.send(&frame, bytes::Bytes::new(), Charge::none()).await?;
            link.flush().await
        };
        sent.await.map_err(|error| self.ended(error))?;
        response::receive(Arc::clone(&self.cluster), Arc::clone(link), expected).await?;
        let cluster = &self.cluster.config.name;
        link.negotiated().await.ok_or_else(|| {
            let text = format!("upstream of \"{cluster}\": it does not say which APIs it serves");
            Disconnect::Unavailable(text)
        })
    }

    async fn forward(
        &self,
        link: &Arc<Link>,
        request: Request,
        version: i16,
        class: Class,
    ) -> Result<Reply, Disconnect> {
        let Request { api_key: key, body, frame, received, charge, .. } = request;
        let acks = (key == PRODUCE).then(|| produce::acks(version, &body)).transpose();
        let is_silent = acks.map_err(|error| malformed(version, &error))? == Some(0);
        let mut expected = Expected {
            key,
            version: request.api_version,
            class,
            number: if is_silent { 0 } else { link.number() },
            held: std::time::Duration::ZERO,
        };
        if (key, version) == (tokens::HANDSHAKE, 0) {
            link.tokens(|_| ((), Tokens::asked(&body)));
        }
        let metrics = &self.cluster.metrics;
        metrics.requests.inc();
        metrics.request_bytes.inc_by((LENGTH_BYTES + frame.len()) as u64);
        let mut head = [0_u8; HEAD_BYTES];
        let sent = Expected { version, ..expected };
        put_head(&mut head.as_mut_slice(), frame.len(), &sent);
        let (head, rest) = if expected.is_token() {
            // Only the length is ours.
            (head.first_chunk::<LENGTH_BYTES>().map_or(&[][..], |length| length), frame.clone())
        } else {
            // The header was parsed: the frame is not shorter.
            (&head[..], frame.slice(FRAME_HEAD_BYTES.min(frame.len())..))
        };
        drop((frame, body));
        link.send(head, rest, charge).await.map_err(|error| self.ended(error))?;
        if is_silent {
            // Nothing else tells when it has gone out, should the client leave now.
            link.flush().await.map_err(|error| self.ended(error))?;
            return Ok(Reply::Silent);
        }
        expected.held = self.cluster.clock.now() - received;
        let (cluster, link) = (Arc::clone(&self.cluster), Arc::clone(link));
        Ok(Reply::Later(Box::pin(response::receive(cluster, link, expected))))
    }

    fn ended(&self, error: io::Error) -> Disconnect {
        self.cluster.failed(&ReceiveError::Ended(error))
    }
}

impl ServiceConnection for Connection {
    fn takes_token(&self, frame: &[u8]) -> bool {
        self.link.get().is_some_and(|upstream| upstream.link.tokens(|tokens| tokens.take(frame)))
    }

    fn poll_io(&self, task: &mut Context<'_>) -> Poll<Disconnect> {
        let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timer) = &mut age.0
            && timer.as_mut().poll(task).is_ready()
        {
            age.0 = None;
            return Poll::Ready(Disconnect::Done("it is as old as connections get".to_owned()));
        }
        let Some(upstream) = self.link.get() else { return Poll::Pending };
        match upstream.link.poll_io(task) {
            Poll::Ready(error) => {
                Poll::Ready(Disconnect::Done(format!("the upstream connection ended: {error}")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Writes a frame's length and the first fields of its header.
fn put_head(out: &mut impl BufMut, frame_bytes: usize, expected: &Expected) {
    out.put_i32(frame_bytes as i32);
    out.put_i16(expected.key);
    out.put_i16(expected.version);
    out.put_i32(expected.correlation_id());
}

fn malformed(version: i16, error: &impl ToString) -> Disconnect {
    Disconnect::Malformed { api: "Produce", version, reason: error.to_string() }
}

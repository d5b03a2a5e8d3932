//! Accepting connections: one task per bound address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span, warn};

use super::connection::Connection;
use super::connections::{Admission, Entry};
use super::context::Context;
use super::secure::handshake;
use super::service::{Service, Session};
use crate::log_limit::LogLimit;
use crate::security::tls::{Stream, TlsAcceptor};
use crate::task;

/// Connections that the kernel accepts before we do.
const BACKLOG: i32 = 1024;
/// After so long without a byte the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// The first wait after a failure to accept that will not go away at once; doubled up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// An address to listen on.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// The listener's name; several addresses may share it.
    pub name: Arc<str>,
    /// The address; port 0 lets the system choose. An IPv6 address takes no IPv4 connections, so
    /// that both families can be bound to one port.
    pub address: SocketAddr,
    /// What agrees on TLS with clients; they speak plaintext without one.
    pub tls: Option<TlsAcceptor>,
}

/// A bound address.
#[derive(Debug)]
pub(super) struct Listener {
    name: Arc<str>,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds the address.
    pub(super) fn bind(options: &ListenerOptions) -> io::Result<Self> {
        let address = options.address;
        let named = |error: io::Error| {
            let text = format!("listener \"{}\": bind {address}: {error}", options.name);
            io::Error::new(error.kind(), text)
        };
        let socket = open(address).map_err(named)?;
        let address = socket.local_addr().map_err(named)?;
        Ok(Self { name: Arc::clone(&options.name), socket, address, tls: options.tls.clone() })
    }

    /// The name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The address with the port that the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until the drain begins. Each is a task of `tracker`.
    pub(super) async fn run<S: Service>(
        self,
        context: Arc<Context>,
        service: Arc<S>,
        tracker: TaskTracker,
    ) {
        let (failed, refused) = (LogLimit::default(), LogLimit::default());
        let mut backoff = BACKOFF_FIRST;
        let mut draining = std::pin::pin!(context.shutdown.draining());
        loop {
            // Accepting is cancel safe: a connection not returned stays in the kernel's queue.
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    backoff = BACKOFF_FIRST;
                    self.admit(stream, peer, &context, &service, &tracker, &refused);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    context.metrics.accept_errors.inc();
                    if let Some(more) = failed.allow(&context.clock) {
                        let listener = &*self.name;
                        warn!(listener, %error, more, "accept failed; too few open files allowed?");
                    }
                    tokio::select! {
                        () = &mut draining => return,
                        () = context.clock.sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(BACKOFF_LAST);
                }
            }
        }
    }

    fn admit<S: Service>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        context: &Arc<Context>,
        service: &Arc<S>,
        tracker: &TaskTracker,
        refused: &LogLimit,
    ) {
        let limits = &context.limits;
        let (max, per_ip) = (limits.max_connections, limits.max_connections_per_ip);
        let admission = match context.connections.admit(peer.ip(), max, per_ip) {
            Ok(admission) => admission,
            Err(refusal) => {
                context.metrics.refused(refusal);
                if let Some(more) = refused.allow(&context.clock) {
                    warn!(%peer, listener = %self.name, more, "connection refused: {refusal}");
                }
                return;
            }
        };
        context.metrics.accepted.inc();
        // Without these a connection works less well, but it works.
        let _ = stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let id = admission.id;
        let session = Session::new(id, peer, Arc::clone(&self.name));
        let span = debug_span!("connection", id, %peer);
        let (context, service) = (Arc::clone(context), Arc::clone(service));
        let entry = Arc::clone(&admission.entry);
        let open = Open::new(Arc::clone(&context), admission);
        // Two tasks, so that a plaintext connection has no room for a handshake.
        if let Some(tls) = self.tls.clone() {
            let served = serve_tls(tls, stream, context, service, session, entry, open);
            task::spawn("connection", tracker.track_future(served.instrument(span)));
            return;
        }
        let stream = Stream::Plain(stream);
        let connection = Connection::new(stream, context, service, Arc::new(session), entry);
        let served = async move {
            connection.run().await;
            drop(open);
        };
        task::spawn("connection", tracker.track_future(served.instrument(span)));
    }
}

/// A connection from its handshake on.
async fn serve_tls<S: Service>(
    tls: TlsAcceptor,
    stream: TcpStream,
    context: Arc<Context>,
    service: Arc<S>,
    mut session: Session,
    entry: Arc<Entry>,
    _open: Open,
) {
    // In a box, so that its room is given back when it is done.
    let shaken = Box::pin(handshake(&context, &tls, stream, &mut session)).await;
    let Some(stream) = shaken else { return };
    let connection = Connection::new(stream, context, service, Arc::new(session), entry);
    connection.run().await;
}

/// An open connection in the gauge and in the registry, also when its task panics.
struct Open {
    context: Arc<Context>,
    _admission: Admission,
}

impl Open {
    fn new(context: Arc<Context>, admission: Admission) -> Self {
        context.metrics.open.inc();
        Self { context, _admission: admission }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.context.metrics.open.dec();
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether a failure to accept concerns the connection at the front of the queue only.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

//! The admin listener's sockets: few, short-lived and frugal, whatever a peer does.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock::Clock;
use crate::log_limit::LogLimit;

/// The most connections at a time. One more takes the place of the oldest, so that a probe gets
/// through however many connections somebody else leaves open.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How long a connection lives. It carries one request, so this bounds the reading of the head and
/// the writing of the answer together, however slowly a peer does its part.
const LIFETIME: Duration = Duration::from_secs(15);

/// The most bytes that are read from a connection: no request for an admin page needs more.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// How long to wait after a failed accept: it fails when file descriptors run out, and goes on
/// failing until some are closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(250);

/// The listener that axum serves.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    clock: Clock,
    places: Places,
}

impl Door {
    pub(super) fn new(listener: TcpListener, clock: Clock) -> Self {
        Self { listener, clock, places: Places::default() }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let place = self.places.take();
                    return (Connection::new(stream, place, self.clock.clone()), peer);
                }
                Err(error) => {
                    static LIMIT: LogLimit = LogLimit::new();
                    if let Some(more) = LIMIT.allow(&self.clock) {
                        warn!(%error, more, "admin listener: accept failed");
                    }
                    self.clock.sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connections that are open, by age: how each can be told to end.
#[derive(Clone, Debug, Default)]
struct Places {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    ends: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// A place for one more connection; the oldest loses its own if there is none left.
    fn take(&self) -> Place {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.ends.len() >= CONNECTIONS_MAX
            && let Some((_, oldest)) = open.ends.pop_first()
        {
            oldest.cancel();
        }
        let (number, end) = (open.next, CancellationToken::new());
        open.next += 1;
        open.ends.insert(number, end.clone());
        Place { number, end, places: self.clone() }
    }
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
struct Place {
    number: u64,
    end: CancellationToken,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.ends.remove(&self.number);
    }
}

/// A socket that fails once its time is up, its place is taken, or it has sent too much.
pub(super) struct Connection {
    stream: TcpStream,
    /// Resolves when the connection has to end; `None` after it did.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How many bytes may still be read.
    left: usize,
    _place: Place,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Connection {
    fn new(stream: TcpStream, place: Place, clock: Clock) -> Self {
        let evicted = place.end.clone().cancelled_owned();
        let end = async move {
            // Both branches say the same; neither loses anything when dropped.
            tokio::select! {
                () = evicted => {}
                () = clock.sleep(LIFETIME) => {}
            }
        };
        Self { stream, end: Some(Box::pin(end)), left: REQUEST_BYTES_MAX, _place: place }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(end) = &mut self.end {
            if end.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.end = None;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_too_many_ends_the_oldest_and_a_dropped_one_makes_room() {
        let places = Places::default();
        let mut taken: Vec<Place> = (0..CONNECTIONS_MAX).map(|_| places.take()).collect();
        assert!(taken.iter().all(|place| !place.end.is_cancelled()));

        let newest = places.take();
        let ended: Vec<bool> = taken.iter().map(|place| place.end.is_cancelled()).collect();
        assert!(ended[0] && ended[1..].iter().all(|ended| !ended));

        // The evicted one holds no place any more; one that ends by itself gives its place back.
        drop(taken.remove(0));
        drop(taken.pop());
        let next = places.take();
        assert!(taken.iter().chain([&newest, &next]).all(|place| !place.end.is_cancelled()));
    }
}

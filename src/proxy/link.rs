//! The connection to an upstream node that belongs to one client connection.
//!
//! It has no task of its own: everything here is polled by the client connection's task, requests
//! by the calls of the service, responses by the replies in their turn, the rest by
//! [`Link::poll_io`]. So an idle pair of connections is one task, and a client that does not read
//! stops its upstream by not being read for.
//!
//! ```text
//! request  ─ small ─ copied behind others ─┐
//!          └ large ─ as it came ───────────┴─ one vectored write ─ upstream
//! upstream ─ read ahead ─ turn 1, turn 2, … each takes its frame and hands the turn on
//! ```
//!
//! **Invariants**
//! - Responses come in the order of their requests, so exactly one reply has the turn to read.
//! - What is queued for the upstream is bounded by [`QUEUED_MAX`] and one request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers;
use super::cluster::Negotiated;
use super::tokens::Tokens;
use crate::budget::Charge;
use crate::security::tls::Stream;

/// Requests below this are copied together.
const COPY_BELOW: usize = 4 * 1024;
/// From so many bytes on, a request waits for what is queued before it.
const QUEUED_MAX: usize = 64 * 1024;

/// An upstream connection.
#[derive(Debug)]
pub(super) struct Link {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    io: Stream,
    /// Small requests that wait to be written, and what they are charged to.
    queued: BytesMut,
    charge: Charge,
    /// A large request that is being written behind them.
    large: Bytes,
    /// What was read and belongs to nobody yet.
    read: BytesMut,
    /// The number of the next request that gets a response.
    next: u64,
    /// The number of the request whose response is read now.
    turn: u64,
    /// What the upstream is known to serve.
    negotiated: Option<Arc<Negotiated>>,
    /// How many requests for that are under way, and who waits for them.
    asking: usize,
    asker: Option<Waker>,
    /// Replies that wait for their turn, from `turn` on.
    waiting: VecDeque<Option<Waker>>,
    /// Whether tokens of SASL come instead of requests.
    tokens: Tokens,
}

impl Link {
    /// Takes over a connection on which nothing was said yet.
    pub(super) fn new(io: Stream) -> Self {
        let inner = Inner {
            io,
            queued: BytesMut::new(),
            charge: Charge::none(),
            large: Bytes::new(),
            read: BytesMut::new(),
            next: 0,
            turn: 0,
            negotiated: None,
            asking: 0,
            asker: None,
            waiting: VecDeque::new(),
            tokens: Tokens::None,
        };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // One task uses it; a panic in it ends the connection.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for what the upstream serves goes out.
    pub(super) fn asks(&self) {
        self.lock().asking += 1;
    }

    /// It was answered; not with a list if `negotiated` is `None`.
    pub(super) fn asked(&self, negotiated: Option<Arc<Negotiated>>) {
        let mut inner = self.lock();
        inner.asking = inner.asking.saturating_sub(1);
        if negotiated.is_some() {
            inner.negotiated = negotiated;
        }
        if let Some(asker) = inner.asker.take() {
            asker.wake();
        }
    }

    /// What the upstream serves, once the requests for it that are under way are answered; nothing
    /// if there are none.
    pub(super) async fn negotiated(&self) -> Option<Arc<Negotiated>> {
        poll_fn(|task| {
            let mut inner = self.lock();
            if inner.negotiated.is_none() && inner.asking > 0 {
                inner.asker = Some(task.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(inner.negotiated.clone())
        })
        .await
    }

    /// Changes whether tokens come, and tells what `change` does.
    pub(super) fn tokens<T>(&self, change: impl FnOnce(Tokens) -> (T, Tokens)) -> T {
        let mut inner = self.lock();
        let (told, tokens) = change(inner.tokens);
        inner.tokens = tokens;
        told
    }

    /// The number of a request that gets a response.
    pub(super) fn number(&self) -> u64 {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        number
    }

    /// Queues a request, in the order of the calls, with what its frame is charged to. Waits if it
    /// is large, or if much is queued.
    pub(super) async fn send(&self, head: &[u8], rest: Bytes, charge: Charge) -> io::Result<()> {
        let Some(_charge) = self.lock().queue(head, rest, charge) else { return Ok(()) };
        self.flush().await
    }

    /// Waits until everything queued is written.
    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|task| self.lock().poll_write(task)).await
    }

    /// Writes what is queued, and watches for the end while no response is owed. Ready when the
    /// connection has ended.
    pub(super) fn poll_io(&self, task: &mut Context<'_>) -> Poll<io::Error> {
        let mut inner = self.lock();
        if let Poll::Ready(Err(error)) = inner.poll_write(task) {
            return Poll::Ready(error);
        }
        if inner.turn < inner.next {
            return Poll::Pending;
        }
        let mut byte = [0_u8; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut inner.io).poll_read(task, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(io::ErrorKind::UnexpectedEof.into())
            }
            Poll::Ready(Ok(())) => Poll::Ready(io::Error::other("it sent what nobody asked for")),
        }
    }

    /// Waits for the turn of request `number`.
    pub(super) async fn turn(&self, number: u64) {
        poll_fn(|task| {
            let mut inner = self.lock();
            let Some(behind) = number.checked_sub(inner.turn).filter(|behind| *behind > 0) else {
                return Poll::Ready(());
            };
            let place = behind as usize - 1;
            if inner.waiting.len() <= place {
                inner.waiting.resize(place + 1, None);
            }
            if let Some(waiting) = inner.waiting.get_mut(place) {
                *waiting = Some(task.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// The response of the request whose turn it is has been read to its end.
    pub(super) fn hand_on(&self) {
        let mut inner = self.lock();
        inner.turn += 1;
        inner.give_buffer_back();
        let next = inner.waiting.pop_front().flatten();
        drop(inner);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Reads until `bytes` are at hand, and shows them to `look`. For the one who has the turn.
    pub(super) async fn peek<T>(
        &self,
        bytes: usize,
        mut look: impl FnMut(&[u8]) -> T,
    ) -> io::Result<T> {
        poll_fn(|task| {
            let mut inner = self.lock();
            while inner.read.len() < bytes {
                match inner.poll_read_ahead(task, bytes) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(look(inner.read.get(..bytes).unwrap_or_default())))
        })
        .await
    }

    /// Drops `bytes` that were peeked at.
    pub(super) fn skip(&self, bytes: usize) {
        let mut inner = self.lock();
        let bytes = bytes.min(inner.read.len());
        inner.read.advance(bytes);
    }

    /// Copies `bytes` of what was read ahead, so that the buffer is free again.
    pub(super) fn copy(&self, bytes: usize) -> Bytes {
        let mut inner = self.lock();
        let copied = Bytes::copy_from_slice(inner.read.get(..bytes).unwrap_or_default());
        inner.read.advance(copied.len());
        copied
    }

    /// Takes as many as `bytes` of what was read ahead.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        let mut inner = self.lock();
        let bytes = bytes.min(inner.read.len());
        inner.read.split_to(bytes)
    }

    /// Fills `into` up to `bytes`, from what was read ahead and then from the socket.
    pub(super) async fn fill(&self, into: &mut BytesMut, bytes: usize) -> io::Result<()> {
        while into.len() < bytes {
            self.read_some(into, bytes).await?;
        }
        Ok(())
    }

    /// Reads what is there into `into`, up to `bytes` in all, and at least one byte.
    pub(super) async fn read_some(&self, into: &mut BytesMut, bytes: usize) -> io::Result<()> {
        poll_fn(|task| {
            let mut inner = self.lock();
            let ahead = inner.read.len().min(bytes.saturating_sub(into.len()));
            if ahead > 0 {
                into.extend_from_slice(&inner.read.split_to(ahead));
                return Poll::Ready(Ok(()));
            }
            let missing = bytes - into.len();
            let came = poll_read(&mut inner.io, task, into, missing)?;
            if came.is_pending() {
                inner.give_buffer_back();
            }
            came.map(Ok)
        })
        .await
    }
}

impl Inner {
    /// Queues a request. Returns what stays charged until it is written, if that has to be waited
    /// for.
    fn queue(&mut self, head: &[u8], rest: Bytes, charge: Charge) -> Option<Charge> {
        self.queued.extend_from_slice(head);
        if rest.len() >= COPY_BELOW {
            self.large = rest;
            return Some(charge);
        }
        self.queued.extend_from_slice(&rest);
        // All small frames are charged to one pool.
        self.charge.merge(charge);
        (self.queued.len() >= QUEUED_MAX).then(Charge::none)
    }

    fn poll_write(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued.has_remaining() || self.large.has_remaining() {
            let slices = [IoSlice::new(&self.queued), IoSlice::new(&self.large)];
            let first = usize::from(!self.queued.has_remaining());
            let (_, slices) = slices.split_at(first);
            let Poll::Ready(wrote) = Pin::new(&mut self.io).poll_write_vectored(task, slices)?
            else {
                return Poll::Pending;
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let small = wrote.min(self.queued.len());
            self.queued.advance(small);
            self.large.advance(wrote - small);
        }
        self.queued = BytesMut::new();
        self.large = Bytes::new();
        self.charge = Charge::none();
        Pin::new(&mut self.io).poll_flush(task)
    }

    fn poll_read_ahead(&mut self, task: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        if self.read.capacity() == 0 {
            self.read = buffers::take();
        }
        self.read.reserve(bytes - self.read.len());
        let room = self.read.capacity() - self.read.len();
        let came = poll_read(&mut self.io, task, &mut self.read, room)?;
        if came.is_pending() {
            self.give_buffer_back();
        }
        came.map(Ok)
    }

    /// A connection that waits keeps no buffer.
    fn give_buffer_back(&mut self) {
        if self.read.is_empty() && self.read.capacity() > 0 {
            buffers::put(std::mem::take(&mut self.read));
        }
    }
}

/// Reads at most `room` bytes behind what is in `into`; an end is an error.
fn poll_read(
    io: &mut Stream,
    task: &mut Context<'_>,
    into: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<()>> {
    into.reserve(room);
    let mut limited = into.limit(room);
    let read = tokio_util::io::poll_read_buf(Pin::new(io), task, &mut limited);
    match read {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

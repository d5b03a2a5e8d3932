//! From responses to bytes of a socket: all that is ready in one vectored write, little pieces
//! copied together, large ones never copied, and pieces that must be fetched first fetched only as
//! the socket takes what is before them.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::cause::Cause;
use super::connections::Entry;
use super::context::Context;
use super::metrics::InFlight;
use super::replies::Ticket;
use super::service::{BoxFuture, Deferred, Piece, Response};
use crate::budget::Charge;
use crate::clock::Instant;
use crate::protocol::frame::LENGTH_BYTES;

/// Pieces below this are copied together.
pub(super) const COPY_BELOW: usize = 4 * 1024;
/// The size to which little pieces are copied together.
const GATHERED: usize = 16 * 1024;
/// Slices in one write; the kernel's limit is 1024.
const SLICES: usize = 64;
/// Nothing is fetched that would make more than this be held for the socket, unless one piece alone
/// is larger.
const FETCHED_MAX: usize = 1 << 20;

/// Writes the responses of one connection.
pub(super) struct Writer {
    context: Arc<Context>,
    entry: Arc<Entry>,
    /// What can be written now, in order.
    ready: VecDeque<Bytes>,
    /// Little pieces that follow on `ready`.
    gathered: BytesMut,
    /// What follows `gathered`, from the first piece that is not fetched on.
    blocked: VecDeque<Part>,
    /// Bytes at hand in `blocked`.
    blocked_bytes: usize,
    fetching: Option<(usize, BoxFuture<io::Result<Vec<Bytes>>>)>,
    /// Bytes in `ready` and `gathered`.
    waiting: usize,
    /// Bytes of the first chunk that are written, and in memory until the whole chunk is. A chunk
    /// is part of a frame, whose length is 31 bits.
    partly: u32,
    /// The transport holds bytes that it took.
    flushing: bool,
    /// Bytes ever queued.
    queued: u64,
    /// Bytes ever written.
    written: u64,
    /// The responses that are not written to their ends.
    ends: VecDeque<End>,
    /// When the socket last took a byte, or when bytes began to wait for it.
    progress_at: Instant,
}

enum Part {
    Bytes(Bytes),
    Fetch(usize, Box<dyn Deferred>),
}

/// Where a response ends.
struct End {
    at: u64,
    api: usize,
    bytes: usize,
    received: Instant,
    _in_flight: InFlight,
    /// Small pieces are copied, so that the charge cannot be a piece's own.
    _charge: Charge,
}

impl Writer {
    /// A writer with nothing to write.
    pub(super) fn new(context: Arc<Context>, entry: Arc<Entry>) -> Self {
        let progress_at = context.clock.now();
        Self {
            context,
            entry,
            ready: VecDeque::new(),
            gathered: BytesMut::new(),
            blocked: VecDeque::new(),
            blocked_bytes: 0,
            fetching: None,
            waiting: 0,
            partly: 0,
            flushing: false,
            queued: 0,
            written: 0,
            ends: VecDeque::new(),
            progress_at,
        }
    }

    /// Whether everything is written, and the transport still holds some of it. TLS does; it takes
    /// a record's worth while the socket takes nothing.
    pub(super) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// How many responses are not written to their ends.
    pub(super) fn responses(&self) -> usize {
        self.ends.len()
    }

    /// Bytes in memory that wait for the socket, or behind bytes that are not fetched yet.
    pub(super) fn held(&self) -> usize {
        self.waiting + self.blocked_bytes
    }

    /// Bytes ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == self.written
    }

    /// Since when the socket has taken nothing of what waits for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (self.waiting > 0 || self.flushing).then_some(self.progress_at)
    }

    /// Queues a response behind those that are here.
    pub(super) fn push(&mut self, ticket: Ticket, mut response: Response) -> Result<(), Cause> {
        let length = ticket.header_bytes() + response.len();
        let Ok(prefix) = i32::try_from(length) else {
            return Err(Cause::Deferred(format!("a response of {length} bytes fits no frame")));
        };
        self.context.metrics.errors(ticket.api, &response.errors);
        if self.is_empty() {
            self.progress_at = self.context.clock.now();
        }
        let mut head = [0_u8; LENGTH_BYTES + 8];
        let mut rest = head.as_mut_slice();
        rest.put_i32(prefix);
        ticket.put_header(&mut rest);
        let unused = rest.len();
        let used = head.len() - unused;
        let (head, _) = head.split_at(used);
        self.push_slice(head);
        self.copy_what_waits(&mut response.pieces);
        for piece in response.pieces {
            match piece {
                Piece::Ready(bytes) => self.push_bytes(bytes),
                Piece::Deferred { len, source } => {
                    self.queued += len as u64;
                    self.blocked.push_back(Part::Fetch(len, source));
                }
            }
        }
        self.ends.push_back(End {
            at: self.queued,
            api: ticket.api,
            bytes: LENGTH_BYTES + length,
            received: ticket.received,
            _in_flight: ticket.in_flight,
            _charge: response.charge,
        });
        Ok(())
    }

    /// Writes as much as the socket takes; ready when everything is written.
    pub(super) fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        task: &mut Task<'_>,
        io: &mut IO,
    ) -> Poll<Result<(), Cause>> {
        loop {
            self.poll_fetch(task)?;
            self.seal();
            if self.ready.is_empty() {
                self.rest();
                if !self.is_empty() {
                    return Poll::Pending;
                }
                let flushed = Pin::new(io).poll_flush(task);
                self.flushing = flushed.is_pending();
                return flushed.map_err(|error| Cause::Failed(error.kind()));
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.ready) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let (slices, _) = slices.split_at(count);
            let Poll::Ready(wrote) = Pin::new(&mut *io).poll_write_vectored(task, slices) else {
                return Poll::Pending;
            };
            match wrote {
                Ok(0) => return Poll::Ready(Err(Cause::Failed(io::ErrorKind::WriteZero))),
                Ok(bytes) => self.advance(bytes),
                Err(error) => return Poll::Ready(Err(Cause::Failed(error.kind()))),
            }
        }
    }

    fn push_slice(&mut self, bytes: &[u8]) {
        self.queued += bytes.len() as u64;
        if self.blocked.is_empty() && self.fetching.is_none() {
            self.gather(bytes);
        } else {
            self.block(Bytes::copy_from_slice(bytes));
        }
    }

    /// Copies small pieces that will wait for a piece before them to be fetched.
    fn copy_what_waits(&self, pieces: &mut Vec<Piece>) {
        let blocks = |piece: &Piece| matches!(piece, Piece::Deferred { .. });
        let is_blocked = !self.blocked.is_empty() || self.fetching.is_some();
        let first = if is_blocked { Some(0) } else { pieces.iter().position(blocks) };
        if let Some(first) = first {
            let copied = copy_small(pieces, first);
            self.context.metrics.copied_out.inc_by(copied as u64);
        }
    }

    fn block(&mut self, bytes: Bytes) {
        self.blocked_bytes += bytes.len();
        self.blocked.push_back(Part::Bytes(bytes));
    }

    /// Puts bytes behind everything that is queued.
    fn push_bytes(&mut self, bytes: Bytes) {
        self.queued += bytes.len() as u64;
        if self.blocked.is_empty() && self.fetching.is_none() {
            self.make_ready(bytes);
        } else if !bytes.is_empty() {
            self.block(bytes);
        }
    }

    /// Puts bytes behind `gathered`.
    fn make_ready(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            self.gather(&bytes);
            return;
        }
        self.seal();
        self.waiting += bytes.len();
        self.ready.push_back(bytes);
    }

    /// Copies a little piece behind `gathered`.
    fn gather(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHERED {
            self.seal();
        }
        self.waiting += bytes.len();
        self.context.metrics.copied_out.inc_by(bytes.len() as u64);
        self.gathered.extend_from_slice(bytes);
    }

    /// Makes a chunk of the little pieces.
    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.ready.push_back(self.gathered.split().freeze());
        }
    }

    /// Fetches the next pieces as long as there is room for them.
    fn poll_fetch(&mut self, task: &mut Task<'_>) -> Result<(), Cause> {
        loop {
            if let Some((len, fetch)) = &mut self.fetching {
                let len = *len;
                let Poll::Ready(pieces) = fetch.as_mut().poll(task) else { return Ok(()) };
                self.fetching = None;
                self.take_fetched(len, pieces)?;
            }
            match self.blocked.pop_front() {
                None => return Ok(()),
                Some(Part::Bytes(bytes)) => {
                    self.blocked_bytes -= bytes.len();
                    self.make_ready(bytes);
                }
                Some(Part::Fetch(len, source)) => {
                    if self.waiting > 0 && self.waiting + self.partly as usize + len > FETCHED_MAX {
                        self.blocked.push_front(Part::Fetch(len, source));
                        return Ok(());
                    }
                    self.fetching = Some((len, source.fetch()));
                }
            }
        }
    }

    fn take_fetched(&mut self, len: usize, pieces: io::Result<Vec<Bytes>>) -> Result<(), Cause> {
        let pieces = pieces.map_err(|error| Cause::Deferred(error.to_string()))?;
        let came: usize = pieces.iter().map(Bytes::len).sum();
        if came != len {
            return Err(Cause::Deferred(format!("{came} bytes came instead of {len}")));
        }
        if self.waiting == 0 {
            // Until now the socket waited for us.
            self.progress_at = self.context.clock.now();
        }
        for piece in pieces {
            self.make_ready(piece);
        }
        Ok(())
    }

    /// The socket has taken `bytes` from the front.
    fn advance(&mut self, bytes: usize) {
        let now = self.context.clock.now();
        self.progress_at = now;
        self.written += bytes as u64;
        self.waiting -= bytes;
        self.entry.send.moved(bytes);
        let mut left = bytes;
        while let Some(chunk) = self.ready.front_mut() {
            let taken = left.min(chunk.len());
            chunk.advance(taken);
            left -= taken;
            if !chunk.is_empty() {
                self.partly += taken as u32;
                break;
            }
            self.partly = 0;
            self.ready.pop_front();
        }
        while let Some(end) = self.ends.pop_front_if(|end| end.at <= self.written) {
            let seconds = now.duration_since(end.received).as_secs_f64();
            self.context.metrics.response(end.api, end.bytes, seconds);
        }
    }

    /// Nothing waits for the socket: gives back what is not needed until something does.
    fn rest(&mut self) {
        if self.is_empty() {
            self.gathered = BytesMut::new();
        }
    }
}

/// Copies pieces below [`COPY_BELOW`] from the one numbered `first` on together: a slice of a few
/// bytes that waits would keep a whole block of the log from being used again. Returns how many
/// bytes were copied.
pub(super) fn copy_small(pieces: &mut Vec<Piece>, first: usize) -> usize {
    let mut copied = 0;
    let mut gathered = BytesMut::new();
    for piece in pieces.split_off(first.min(pieces.len())) {
        let small = matches!(&piece, Piece::Ready(bytes) if bytes.len() < COPY_BELOW);
        if !gathered.is_empty() && (!small || gathered.len() + piece.len() > GATHERED) {
            pieces.push(Piece::Ready(gathered.split().freeze()));
        }
        match piece {
            Piece::Ready(bytes) if small => {
                copied += bytes.len();
                gathered.extend_from_slice(&bytes);
            }
            large => pieces.push(large),
        }
    }
    if !gathered.is_empty() {
        pieces.push(Piece::Ready(gathered.freeze()));
    }
    copied
}

#[cfg(test)]
mod tests;

//! Responses in the order of their requests, however the requests finish.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::BufMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::cause::Cause;
use super::log_request::LogRequest;
use super::metrics::InFlight;
use super::service::{BoxFuture, Disconnect, Piece, Response, SASL_AUTHENTICATE, SASL_TOKEN};
use super::writer::copy_small;
use crate::clock::Instant;
use crate::protocol::header::{HeaderError, put_response_header, response_header_bytes};

/// What is remembered of a request until its response is written.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The API's place in the metrics.
    pub(super) api: usize,
    /// The API's name.
    pub(super) name: &'static str,
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) received: Instant,
    /// The frame's length.
    pub(super) bytes: usize,
    /// Counts the request as in flight.
    pub(super) in_flight: InFlight,
}

/// Which request a line of the log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    /// The API's name.
    pub(super) api: &'static str,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

impl RequestId {
    /// The name of an API that Kafka does not have.
    pub(super) const UNKNOWN: &str = "unknown";

    /// The request of which no more could be read than its header's first fields, if they were.
    pub(super) fn of_unknown(error: &HeaderError) -> Option<Self> {
        match *error {
            HeaderError::UnknownKey { version, correlation_id, .. } => {
                Some(Self { api: Self::UNKNOWN, version, correlation_id })
            }
            HeaderError::Truncated { .. } | HeaderError::Malformed { .. } => None,
        }
    }
}

impl Ticket {
    /// Which request it is.
    pub(super) fn id(&self) -> RequestId {
        let Self { name: api, version, correlation_id, .. } = *self;
        RequestId { api, version, correlation_id }
    }

    /// How many bytes the header of the response has.
    pub(super) fn header_bytes(&self) -> usize {
        if self.is_token() { 0 } else { response_header_bytes(self.key, self.version) }
    }

    /// Writes that header.
    pub(super) fn put_header(&self, out: &mut impl BufMut) {
        if !self.is_token() {
            put_response_header(out, self.correlation_id, self.key, self.version);
        }
    }

    fn is_token(&self) -> bool {
        (self.key, self.version) == (SASL_AUTHENTICATE, SASL_TOKEN)
    }
}

/// What comes next out of the queue.
#[derive(Debug)]
pub(super) enum Next {
    /// A response to write.
    Respond(Ticket, Response),
    /// Nothing may be written any more, because of a request if it was one.
    Close(Cause, Option<RequestId>),
}

/// The replies of one connection that are not yet handed to its writer.
#[derive(Default)]
pub(super) struct Replies {
    /// The number of the slot at the front.
    first: u64,
    slots: VecDeque<Slot>,
    later: FuturesUnordered<Numbered>,
    /// Frame bytes of all requests.
    requests: usize,
    /// Response bytes of those that are ready.
    held: usize,
    /// Whether a response became ready since [`Replies::settle`].
    unsettled: bool,
}

enum Slot {
    Waiting(Ticket),
    /// Whether small pieces were copied.
    Ready(Ticket, Response, bool),
    Close(Cause, Option<RequestId>),
    Taken,
}

/// A reply with its slot's number.
struct Numbered {
    number: u64,
    about: Option<LogRequest>,
    future: BoxFuture<Result<Response, Disconnect>>,
}

impl Future for Numbered {
    type Output = (u64, Result<Result<Response, Disconnect>, Panicked>);

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let Self { number, about, future } = &mut *self;
        let poll = LogRequest::during(about, || poll_caught(future, task));
        poll.map(|outcome| (*number, outcome))
    }
}

/// A future panicked; the panic has been reported by the panic hook.
#[derive(Debug)]
pub(super) struct Panicked;

/// Polls a future of the service; a panic becomes an error, so that it takes one connection only.
pub(super) fn poll_caught<T>(
    future: &mut BoxFuture<T>,
    task: &mut Task<'_>,
) -> Poll<Result<T, Panicked>> {
    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    }
}

impl Replies {
    /// How many replies are here.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of the requests and of the responses that are ready.
    pub(super) fn bytes(&self) -> usize {
        self.requests + self.held
    }

    /// The bytes of the responses that are ready.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the connection closes after these.
    pub(super) fn closes(&self) -> bool {
        matches!(self.slots.back(), Some(Slot::Close(..)))
    }

    /// The response is ready.
    pub(super) fn push_ready(&mut self, ticket: Ticket, response: Response) {
        self.requests += ticket.bytes;
        self.held += held(&response);
        self.unsettled = true;
        self.slots.push_back(Slot::Ready(ticket, response, false));
    }

    /// The response is ready when `future` is; what that logs is of the request `about`.
    pub(super) fn push_later(
        &mut self,
        ticket: Ticket,
        about: Option<LogRequest>,
        future: BoxFuture<Result<Response, Disconnect>>,
    ) {
        self.requests += ticket.bytes;
        let number = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot::Waiting(ticket));
        if self.later.is_empty() {
            // `FuturesUnordered` wakes its own task once all it has were polled and wait, and with
            // it another worker. One that is never woken keeps it from that.
            let future = Box::pin(pending());
            self.later.push(Numbered { number: u64::MAX, about: None, future });
        }
        self.later.push(Numbered { number, about, future });
    }

    /// The connection closes once the replies before this are written, because of a request if it
    /// is one.
    pub(super) fn push_close(&mut self, cause: Cause, about: Option<RequestId>) {
        self.slots.push_back(Slot::Close(cause, about));
    }

    /// Polls all replies that wait.
    pub(super) fn poll(&mut self, task: &mut Task<'_>) {
        while let Poll::Ready(Some((number, outcome))) = self.later.poll_next_unpin(task) {
            self.complete(number, outcome);
        }
    }

    /// Gives out the reply at the front if it is ready.
    pub(super) fn next(&mut self) -> Option<Next> {
        let front = self.slots.front_mut()?;
        let next = match std::mem::replace(front, Slot::Taken) {
            waiting @ Slot::Waiting(_) => {
                *front = waiting;
                return None;
            }
            Slot::Ready(ticket, response, _) => {
                self.requests -= ticket.bytes;
                self.held -= held(&response);
                Next::Respond(ticket, response)
            }
            Slot::Close(cause, about) => Next::Close(cause, about),
            Slot::Taken => return None,
        };
        self.slots.pop_front();
        self.first += 1;
        Some(next)
    }

    /// Gives up all replies.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.later.clear();
        self.requests = 0;
        self.held = 0;
    }

    /// Nothing more goes out for now: what stays holds no large memory for small pieces. Returns
    /// how many bytes were copied.
    pub(super) fn settle(&mut self) -> usize {
        if !std::mem::take(&mut self.unsettled) {
            return 0;
        }
        let settle = |slot: &mut Slot| match slot {
            Slot::Ready(_, response, settled) if !*settled => {
                *settled = true;
                copy_small(&mut response.pieces, 0)
            }
            _ => 0,
        };
        self.slots.iter_mut().map(settle).sum()
    }

    fn complete(&mut self, number: u64, outcome: Result<Result<Response, Disconnect>, Panicked>) {
        // Slots leave only from the front and only when complete, so the number still fits.
        let place = (number - self.first) as usize;
        let Some(slot) = self.slots.get_mut(place) else { return };
        let Slot::Waiting(ticket) = std::mem::replace(slot, Slot::Taken) else { return };
        *slot = match outcome {
            Ok(Ok(response)) => {
                self.held += held(&response);
                self.unsettled = true;
                Slot::Ready(ticket, response, false)
            }
            Ok(Err(disconnect)) => {
                self.requests -= ticket.bytes;
                Slot::Close(Cause::Service(disconnect), Some(ticket.id()))
            }
            Err(Panicked) => {
                self.requests -= ticket.bytes;
                Slot::Close(Cause::Panicked { api: ticket.name }, Some(ticket.id()))
            }
        };
    }
}

/// The bytes that a response holds in memory.
fn held(response: &Response) -> usize {
    let ready = response.pieces.iter().filter(|piece| matches!(piece, Piece::Ready(_)));
    ready.map(Piece::len).sum()
}

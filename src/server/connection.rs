//! One connection: a task that reads requests, has the service handle them, and writes responses.
//!
//! ```text
//!  socket ─ Reader ─ frame ─ header ─ Service::call (one at a time, in order)
//!                                          │ Now · Later · Silent
//!  socket ─ Writer ─ response ─ Replies (in order, however they finish)
//! ```
//!
//! All four are polled by the one task, so an idle connection has no second task, channel or
//! buffer; while a call is awaited, replies go on and the socket is watched.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::apis::API_VERSIONS;
use super::cause::Cause;
use super::connections::Entry;
use super::context::Context;
use super::ending;
use super::handshake;
use super::log_request::LogRequest;
use super::metrics::Pause;
use super::reader::{Frame, Reader};
use super::replies::{Next, Panicked, Replies, RequestId, Ticket, poll_caught};
use super::service::{
    BoxFuture, Disconnect, Reply, Request, SASL_AUTHENTICATE, SASL_TOKEN, Service,
    ServiceConnection, Session,
};
use super::writer::Writer;
use crate::clock::Instant;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::guard::shape::kafka_api;
use crate::protocol::header::{RequestHeader, parse_request_header};

/// How long a peer that has closed its side is still worked for without any progress. A peer that
/// is gone cannot be told from one that still reads until something is written to it.
const HALF_CLOSED_LINGER: Duration = Duration::from_secs(3);
/// What a token of SASL has instead of a header.
const TOKEN_HEADER: RequestHeader = RequestHeader {
    api_key: SASL_AUTHENTICATE,
    api_version: SASL_TOKEN,
    correlation_id: 0,
    client_id: None,
};
/// Once so much waits to be written, it is written before more requests are handled.
const WRITE_FIRST: usize = 256 * 1024;

/// A connection and everything it needs. `IO` is a socket, or a pipe in tests.
pub(super) struct Connection<S: Service, IO> {
    io: IO,
    context: Arc<Context>,
    service: Arc<S>,
    session: Arc<Session>,
    /// What the service keeps for the connection.
    state: Arc<S::Connection>,
    entry: Arc<Entry>,
    reader: Reader,
    replies: Replies,
    writer: Writer,
    /// The first stage of the latest request.
    call: Option<Call>,
    /// The client id of the last request, since most requests repeat it.
    client_id: Arc<str>,
    /// No request is read any more, and why. What has begun is finished.
    ended: Option<Cause>,
    /// The request that this is because of, if it is one.
    about: Option<RequestId>,
    /// When something last happened.
    active_at: Instant,
    /// Since when as much as allowed is in flight.
    paused_since: Option<Instant>,
    draining: Option<BoxFuture<()>>,
    timer: Option<(Instant, BoxFuture<()>)>,
}

struct Call {
    ticket: Ticket,
    about: Option<LogRequest>,
    future: BoxFuture<Result<Reply, Disconnect>>,
}

impl<S, IO> Connection<S, IO>
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// A connection whose handshake has not begun.
    pub(super) fn new(
        io: IO,
        context: Arc<Context>,
        service: Arc<S>,
        session: Arc<Session>,
        entry: Arc<Entry>,
    ) -> Box<Self> {
        Box::new(Self {
            reader: Reader::new(Arc::clone(&context), Arc::clone(&entry)),
            replies: Replies::default(),
            writer: Writer::new(Arc::clone(&context), Arc::clone(&entry)),
            call: None,
            client_id: Arc::from(""),
            ended: None,
            about: None,
            active_at: context.clock.now(),
            paused_since: None,
            draining: Some(Box::pin(context.shutdown.draining())),
            timer: None,
            state: Arc::new(service.connect(&session)),
            io,
            context,
            service,
            session,
            entry,
        })
    }

    /// Serves the connection to its end. In a box, because a future has room for a value in each
    /// place that it is moved through.
    pub(super) async fn run(mut self: Box<Self>) -> Cause {
        let context = Arc::clone(&self.context);
        let entry = Arc::clone(&self.entry);
        let cause = {
            let mut aborted = pin!(context.shutdown.aborted());
            let mut relieved = pin!(entry.relieved());
            poll_fn(|task| {
                if aborted.as_mut().poll(task).is_ready() {
                    return Poll::Ready(Cause::Cut);
                }
                if relieved.as_mut().poll(task).is_ready() {
                    return Poll::Ready(Cause::Relieved);
                }
                self.poll(task)
            })
            .await
        };
        ending::report(&cause, self.about(self.about), &context);
        self.replies.clear();
        self.call = None;
        self.reader.stop();
        if cause.is_orderly() {
            Box::pin(ending::close_gently(&mut self.io, &context)).await;
        }
        context.metrics.closed(&cause);
        cause
    }

    /// What lines about this connection name, and which request if it is one.
    fn about(&self, id: Option<RequestId>) -> LogRequest {
        let (session, client_id) = (Arc::clone(&self.session), Arc::clone(&self.client_id));
        LogRequest { session, client_id, id }
    }

    fn poll(&mut self, task: &mut Task<'_>) -> Poll<Cause> {
        loop {
            let mut moved = false;
            loop {
                let turned = self.poll_call(task) | self.poll_replies(task);
                match self.poll_input(task) {
                    Ok(false) if !turned => break,
                    Ok(_) => moved = true,
                    Err(cause) => return Poll::Ready(cause),
                }
            }
            if self.ended.is_none()
                && let Poll::Ready(disconnect) = self.state.poll_io(task)
            {
                self.ended = Some(Cause::Service(disconnect));
            }
            let written = self.writer.written();
            if let Poll::Ready(Err(cause)) = self.writer.poll_write(task, &mut self.io) {
                return Poll::Ready(cause);
            }
            moved |= self.writer.written() > written;
            if !moved {
                break;
            }
            self.active_at = self.context.clock.now();
        }
        if self.call.is_some() {
            self.reader.give_way();
        }
        self.report_held();
        if self.in_flight() == 0
            && let Some(cause) = self.ended.take()
        {
            return Poll::Ready(cause);
        }
        self.poll_timer(task)
    }

    /// Requests received and not answered to the last byte.
    fn in_flight(&self) -> usize {
        let unflushed = usize::from(self.writer.is_flushing());
        usize::from(self.call.is_some()) + self.replies.len() + self.writer.responses() + unflushed
    }

    /// Tells the relief how much memory the connection keeps for its peer.
    fn report_held(&mut self) {
        let copied = self.replies.settle();
        self.context.metrics.copied_out.inc_by(copied as u64);
        match self.writer.held() + self.replies.held() {
            0 => self.entry.send.end(),
            held => self.entry.send.hold(held, self.context.connections.now_ms()),
        }
    }

    fn poll_call(&mut self, task: &mut Task<'_>) -> bool {
        let Some(call) = &mut self.call else { return false };
        let future = &mut call.future;
        let poll = LogRequest::during(&mut call.about, || poll_caught(future, task));
        let Poll::Ready(outcome) = poll else { return false };
        let Some(Call { ticket, about, .. }) = self.call.take() else { return false };
        match outcome {
            Ok(Ok(Reply::Now(response))) => self.replies.push_ready(ticket, response),
            Ok(Ok(Reply::Later(future))) => self.replies.push_later(ticket, about, future),
            Ok(Ok(Reply::Silent)) => {}
            Ok(Err(disconnect)) => {
                self.replies.push_close(Cause::Service(disconnect), Some(ticket.id()));
            }
            Err(Panicked) => {
                let cause = Cause::Panicked { api: ticket.name };
                self.replies.push_close(cause, Some(ticket.id()));
            }
        }
        true
    }

    fn poll_replies(&mut self, task: &mut Task<'_>) -> bool {
        self.replies.poll(task);
        if self.writer.held() >= WRITE_FIRST {
            return false;
        }
        let Some(next) = self.replies.next() else { return false };
        let (cause, about) = match next {
            Next::Respond(ticket, response) => {
                let id = ticket.id();
                match self.writer.push(ticket, response) {
                    Ok(()) => return true,
                    Err(cause) => (cause, Some(id)),
                }
            }
            Next::Close(cause, about) => (cause, about),
        };
        self.about = about;
        self.replies.clear();
        self.call = None;
        self.ended = Some(cause);
        true
    }

    /// Takes in the next request, or watches the socket; `Ok(false)` when there is nothing to do.
    fn poll_input(&mut self, task: &mut Task<'_>) -> Result<bool, Cause> {
        if let Some(draining) = &mut self.draining
            && draining.as_mut().poll(task).is_ready()
        {
            self.draining = None;
            self.ended.get_or_insert(Cause::Drained);
        }
        if self.ended.is_some() || self.replies.closes() {
            self.reader.stop();
            return Ok(false);
        }
        if self.writer.held() >= WRITE_FIRST {
            self.reader.pause();
            return Ok(false);
        }
        if !self.has_room() {
            return self.poll_end(task);
        }
        let Poll::Ready(read) = self.reader.poll_frame(task, &mut self.io) else {
            return Ok(false);
        };
        match read {
            Ok(()) => {}
            // Requests that came before the end are handled; a peer may close right after a
            // Produce with acks=0.
            Err(cause @ (Cause::PeerClosed | Cause::Truncated)) => {
                self.ended = Some(cause);
                return Ok(true);
            }
            Err(cause) => return Err(cause),
        }
        if self.call.is_some() {
            self.reader.pause();
            return Ok(false);
        }
        let Some(frame) = self.reader.take_frame() else { return Ok(false) };
        if let Err((cause, about)) = self.begin(frame) {
            self.replies.push_close(cause, about);
        }
        Ok(true)
    }

    /// Watches for the end of a connection from which no request is taken: its peer may be gone,
    /// and then nobody waits for what is in flight.
    fn poll_end(&mut self, task: &mut Task<'_>) -> Result<bool, Cause> {
        match self.reader.poll_end(task, &mut self.io) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(false),
            Poll::Ready(Err(cause @ (Cause::PeerClosed | Cause::Truncated))) => {
                self.ended = Some(cause);
                Ok(true)
            }
            Poll::Ready(Err(cause)) => Err(cause),
        }
    }

    /// Whether one more request may be in flight.
    fn has_room(&mut self) -> bool {
        let limits = &self.context.limits;
        let bytes = self.replies.bytes() + self.writer.held();
        let room = self.in_flight() == 0
            || (self.in_flight() < limits.in_flight_requests && bytes < limits.in_flight_bytes);
        match (room, self.paused_since) {
            (false, None) => self.paused_since = Some(self.context.clock.now()),
            (true, Some(since)) => {
                let paused = self.context.clock.now().duration_since(since);
                self.context.metrics.paused(Pause::InFlight, paused.as_secs_f64());
                self.paused_since = None;
            }
            _ => {}
        }
        room
    }

    /// Begins the first stage of the request in `frame`.
    fn begin(&mut self, frame: Frame) -> Result<(), (Cause, Option<RequestId>)> {
        let is_token = self.state.takes_token(&frame.bytes);
        let (header, body) = if is_token {
            (TOKEN_HEADER, frame.bytes.clone())
        } else {
            parse_request_header(&frame.bytes).map_err(|error| {
                let about = RequestId::of_unknown(&error);
                (Cause::Header(error), about)
            })?
        };
        let RequestHeader { api_key: key, api_version: version, correlation_id, client_id } =
            header;
        let client_id = client_id.as_deref().unwrap_or("");
        if *self.client_id != *client_id {
            self.client_id = Arc::from(client_id);
        }
        let Some(row) = self.context.apis.find(key) else {
            let api = kafka_api(key).map_or(RequestId::UNKNOWN, |api| api.name);
            let id = RequestId { api, version, correlation_id };
            return Err((Cause::Unsupported { key, version }, Some(id)));
        };
        let id = RequestId { api: row.name, version, correlation_id };
        let bytes = LENGTH_BYTES + frame.bytes.len();
        let ticket = Ticket {
            api: row.index,
            name: row.name,
            key,
            version,
            correlation_id,
            received: frame.received,
            bytes: frame.bytes.len(),
            in_flight: self.context.metrics.request(row.index, bytes),
        };
        if key == API_VERSIONS && !S::ANSWERS_API_VERSIONS {
            let versions = self.service.api_versions();
            let response = if row.serves(version) {
                let answer = handshake::respond(version, &body, &versions);
                answer.map_err(|error| (Cause::Body(error), Some(id)))?
            } else {
                handshake::respond_to_unsupported(&versions)
            };
            self.replies.push_ready(ticket, response);
            return Ok(());
        }
        if !is_token && !row.serves(version) && key != API_VERSIONS {
            return Err((Cause::Unsupported { key, version }, Some(id)));
        }
        let request = Request {
            api_key: key,
            api_version: version,
            correlation_id,
            client_id: Arc::clone(&self.client_id),
            body,
            frame: frame.bytes,
            received: frame.received,
            charge: frame.charge,
        };
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        let state = Arc::clone(&self.state);
        let about = Some(self.about(Some(id)));
        let future = Box::pin(async move { service.call(&state, &session, request).await });
        self.call = Some(Call { ticket, about, future });
        Ok(())
    }

    /// When the connection will have been patient enough, and with what.
    fn deadline(&self) -> (Instant, Cause) {
        let limits = &self.context.limits;
        let active_at = self.active_at.max(self.reader.read_at());
        let mut first = (active_at + limits.max_idle, Cause::Idle);
        if self.in_flight() > 0 {
            // Not idle: what it waits for has its own bounds. Looking again costs nothing.
            first.0 = self.context.clock.now() + limits.max_idle;
        }
        let mut earlier = |at: Instant, cause: Cause| {
            if at < first.0 {
                first = (at, cause);
            }
        };
        if let Some(at) = self.reader.deadline() {
            earlier(at, Cause::SlowFrame { length: self.reader.announced() });
        }
        if let Some(since) = self.writer.stalled_since() {
            earlier(since + self.context.write_stall(), Cause::SlowReader);
        }
        if let Some(cause @ (Cause::PeerClosed | Cause::Truncated)) = &self.ended {
            earlier(active_at + HALF_CLOSED_LINGER, cause.clone());
        }
        first
    }

    /// Keeps a timer that fires at the deadline or before it; it is made anew only when the
    /// deadline moves forward, so that a busy connection does not touch it.
    fn poll_timer(&mut self, task: &mut Task<'_>) -> Poll<Cause> {
        loop {
            let (deadline, cause) = self.deadline();
            if let Some((at, timer)) = &mut self.timer
                && *at <= deadline
            {
                if timer.as_mut().poll(task).is_pending() {
                    return Poll::Pending;
                }
                self.timer = None;
                if self.context.clock.now() >= deadline {
                    return Poll::Ready(cause);
                }
                continue;
            }
            let clock = self.context.clock.clone();
            let timer = Box::pin(async move { clock.sleep_until(deadline).await });
            self.timer = Some((deadline, timer));
        }
    }
}

#[cfg(test)]
mod tests;

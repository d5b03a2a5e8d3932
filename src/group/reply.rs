//! The way back to whoever asked: a reply is decided in the group's task, and leaves when what it
//! rests on is durable.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::oneshot;

use super::log::LogLost;
use super::types::Error;

/// Durability of the last append of a group, for any number of waiters.
pub(super) type Gate = Shared<BoxFuture<'static, Result<(), LogLost>>>;

/// Makes an append's durability shareable.
pub(super) fn gate(durable: super::log::Durable) -> Gate {
    durable.shared()
}

type Answer<T> = (Result<T, Error>, Option<Gate>);

/// Held by the coordinator for a request that is not answered yet. Dropped unanswered, the request
/// gets [`Error::CoordinatorNotAvailable`]: nobody waits for ever.
#[derive(Debug)]
pub(super) struct Waiter<T>(oneshot::Sender<Answer<T>>);

impl<T> Waiter<T> {
    /// Whether whoever asked is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    /// Answers when `gate` is durable; a refusal leaves at once.
    pub(super) fn send(self, result: Result<T, Error>, gate: Option<&Gate>) {
        let gate = gate.filter(|_| result.is_ok()).cloned();
        // Whoever asked may be gone; the answer is for nobody else.
        drop(self.0.send((result, gate)));
    }

    /// Refuses.
    pub(super) fn refuse(self, error: Error) {
        self.send(Err(error), None);
    }
}

/// A pair of waiter and reply.
pub(super) fn channel<T>() -> (Waiter<T>, Reply<T>) {
    let (sender, receiver) = oneshot::channel();
    (Waiter(sender), Reply { receiver, decided: None })
}

/// A future of the coordinator's answer. The request is already in its group's mailbox: waiting
/// for this need not be in order. Dropping it takes nothing back, as with a lost connection.
#[derive(Debug)]
#[must_use = "the answer comes by awaiting this"]
pub struct Reply<T> {
    receiver: oneshot::Receiver<Answer<T>>,
    decided: Option<Answer<T>>,
}

impl<T> Reply<T> {
    /// A reply that needs no waiting.
    pub(super) fn ready(result: Result<T, Error>) -> Self {
        let (waiter, reply) = channel();
        waiter.send(result, None);
        reply
    }
}

impl<T: Unpin> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.decided.is_none() {
            let received = ready!(Pin::new(&mut this.receiver).poll(cx));
            this.decided = Some(received.unwrap_or((Err(Error::CoordinatorNotAvailable), None)));
        }
        let gate = this.decided.as_mut().and_then(|(_, gate)| gate.as_mut());
        let durable = match gate {
            Some(gate) => ready!(Pin::new(gate).poll(cx)),
            None => Ok(()),
        };
        let (result, _) = this.decided.take().expect("decided above");
        Poll::Ready(durable.map_or(Err(Error::CoordinatorNotAvailable), |()| result))
    }
}

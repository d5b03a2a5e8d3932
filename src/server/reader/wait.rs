//! What a reader waits for before it reads on: memory, and a slot for a large frame.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Reader;
use crate::budget::{BytePool, Charge};
use crate::clock::Instant;
use crate::server::connections::Stage as Reported;
use crate::server::context::Context;
use crate::server::metrics::Pause;
use crate::server::service::BoxFuture;

/// How long a frame waits for a pool before the slowest holder is closed, and again after that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something that must come before the next read.
pub(super) struct Wait {
    since: Instant,
    what: Waiting,
}

pub(super) enum Waiting {
    /// Room for a read buffer.
    Small(BoxFuture<Charge>),
    /// A slot for a large frame of this length.
    Slot(usize, BoxFuture<OwnedSemaphorePermit>),
    /// Room for a large frame.
    Receive(BoxFuture<Charge>),
}

impl Reader {
    pub(super) fn wait_for(&mut self, what: Waiting) {
        self.wait = Some(Wait { since: self.context.clock.now(), what });
    }

    pub(super) fn poll_wait(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let Some(wait) = &mut self.wait else { return Poll::Ready(()) };
        let pause = match &mut wait.what {
            Waiting::Small(room) => {
                self.charge = ready!(room.as_mut().poll(task));
                Pause::SmallPool
            }
            Waiting::Slot(length, slot) => {
                let (length, slot) = (*length, ready!(slot.as_mut().poll(task)));
                self.begin_prefix(length, slot);
                Pause::ReceivePool
            }
            Waiting::Receive(room) => {
                let charge = ready!(room.as_mut().poll(task));
                self.begin_body(charge);
                Pause::ReceivePool
            }
        };
        let since = self.wait.take().map(|wait| wait.since);
        let waited = since.map(|since| self.context.clock.now().duration_since(since));
        // The peer is not to blame for the time in which it was not read.
        self.began = self.began.map(|began| began + waited.unwrap_or_default());
        self.context.metrics.paused(pause, waited.unwrap_or_default().as_secs_f64());
        Poll::Ready(())
    }
}

/// Waits for `bytes` of `pool`, which the caller knows to be within its capacity.
pub(super) async fn admitted(
    context: Arc<Context>,
    pool: BytePool,
    bytes: usize,
    stage: Reported,
) -> Charge {
    patiently(&context, (stage, bytes), pool.take(bytes))
        .await
        .expect("no more is asked for than the pool holds")
}

/// Waits for `room`; each second of that closes the slowest of those who hold what is waited for.
pub(super) async fn patiently<F: Future>(
    context: &Context,
    (stage, bytes): (Reported, usize),
    room: F,
) -> F::Output {
    let mut room = pin!(room);
    loop {
        match context.clock.timeout(PATIENCE, room.as_mut()).await {
            Ok(output) => return output,
            Err(_) => context.connections.relieve_receive(stage, bytes),
        };
    }
}

//! Drain: one token that everything long-lived listens to, and the list of tasks that must end.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// A handle to the process's (or a test's) shutdown; cheap to clone.
///
/// Two steps: `drain` asks everybody to finish what has begun and start nothing new; `abort` says
/// that the deadline has passed and whatever is left is cut.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to finish what has begun.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// The deadline has passed: implies [`Shutdown::drain`].
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether a drain was asked for.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when a drain is asked for.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.drain.clone().cancelled_owned()
    }

    /// Resolves when the deadline of the drain has passed.
    pub fn aborted(&self) -> impl Future<Output = ()> + Send + 'static {
        self.abort.clone().cancelled_owned()
    }
}

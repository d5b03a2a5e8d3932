//! Named tasks and threads: every one is spawned here, so that a panic is reported with its name.
#![allow(clippy::disallowed_methods, reason = "this is the room that the ban points to")]

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::error;

/// Spawns `future` on the current runtime. A panic is logged with `name` and reaches the owner
/// through the handle.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // Not an async block, which would have room for the future twice.
    let told = AssertUnwindSafe(future).catch_unwind().map(move |outcome| match outcome {
        Ok(output) => output,
        Err(panic) => {
            error!(task = name, "task panicked");
            std::panic::resume_unwind(panic)
        }
    });
    tokio::spawn(told)
}

/// Runs `work` on the pool of threads that may block.
pub fn blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}

/// Starts a thread of its own for work that blocks for as long as the process lives.
pub fn thread<F, T>(name: &'static str, work: F) -> std::io::Result<std::thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

//! What of an answer is resolved when the socket has room for it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::error::log_unreadable;
use crate::budget::{BytePool, Charge};
use crate::partition::{LaterRead, LogError};
use crate::server::service::{BoxFuture, Deferred};
use crate::task;
use crate::tier::Cache;

/// What of a charge is kept for `bytes`; all of it if it is no more.
pub(super) fn keep(mut charge: Charge, bytes: usize) -> Arc<Charge> {
    let kept = charge.split(bytes);
    Arc::new(kept.unwrap_or(charge))
}

/// Bytes that give back their charge when the last slice of them is gone.
pub(super) fn charged(bytes: Bytes, charge: Arc<Charge>) -> Bytes {
    struct Charged {
        bytes: Bytes,
        _charge: Arc<Charge>,
    }
    impl AsRef<[u8]> for Charged {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

fn unreadable(cause: LogError) -> io::Error {
    log_unreadable(&cause);
    io::Error::other(cause)
}

/// Batches that are taken from memory or read from the WAL's files when the socket has room.
pub(super) struct FromLog {
    pub(super) later: LaterRead,
    pub(super) pool: BytePool,
    pub(super) cache: Cache,
}

impl Deferred for FromLog {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            if let Some(batches) = self.later.in_memory() {
                return Ok(batches);
            }
            // A batch may be larger than the pool: it takes all of it.
            let memory = self.later.memory();
            let Self { later, pool, cache } = *self;
            let held = pool.take_up_to(memory.meanwhile).await;
            let reading = move || (later.read(), later);
            let (read, later) = task::blocking(reading).await.map_err(io::Error::other)?;
            let batches = match read {
                Ok(batches) => batches,
                Err(cause) if cause.may_have_moved() => {
                    drop(held);
                    return read_moved(&later, &pool, &cache).await.map_err(unreadable);
                }
                Err(cause) => return Err(unreadable(cause)),
            };
            let held = keep(held, memory.after);
            Ok(batches.into_iter().map(|bytes| charged(bytes, Arc::clone(&held))).collect())
        })
    }
}

/// Batches that have moved to the bucket. What may take long is waited for without a charge:
/// whoever fills the pool must not wait for a bucket that is away.
async fn read_moved(
    later: &LaterRead,
    pool: &BytePool,
    cache: &Cache,
) -> Result<Vec<Bytes>, LogError> {
    later.bring_moved(cache).await?;
    let held = pool.take_up_to(later.len()).await;
    let batches = later.read_moved(cache).await?;
    Ok(vec![charged(batches, Arc::new(held))])
}

//! The handle to the cluster's metadata.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::change::{Change, ChangeError, Outcome, Terms, fold};
use super::identity;
use super::ids::Incarnation;
use super::image::ClusterImage;
use super::limits::Limits;
use super::load::LoadError;
use super::metrics::ClusterMetrics;
use super::producer_ids::ProducerIds;
use super::record::{Record, decode_entry};
use super::writer::{MetadataWriter, Request};
use crate::clock::{Clock, Random};
use crate::object::{DataDir, NumberedLog, Store, Writer};
use crate::protocol::types::TopicId;
use crate::task;

/// How long a commit may take before the one who asked is told that its outcome is unknown.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// How many entries one check for a fence reads at most; the next one goes on from there.
const CHECKED_ENTRIES: u64 = 256;

/// Another run of this broker took this one's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker {node_id} was started elsewhere: {by}, and this run is incarnation {ours}; go on with \
     the other, or stop it and start this one with --take-over"
)]
pub struct Fence {
    /// The broker's id.
    pub node_id: i32,
    /// The metadata entry that says so, or the last one known when something else did.
    pub entry: u64,
    /// What says that another took its place, in words.
    pub by: String,
    /// The incarnation of this run.
    pub ours: Incarnation,
}

/// A commit of which nothing can be said but this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The bucket did not answer in time. The changes may or may not take effect, now or later;
    /// a retriable error for clients.
    #[error(
        "the bucket did not take the metadata within {} s; the change may still take effect",
        COMMIT_TIMEOUT.as_secs()
    )]
    Unavailable,
    /// The bucket refused, and nothing changed; a retriable error for clients.
    #[error("nothing was changed: {reason}")]
    Refused {
        /// The bucket's answer.
        reason: String,
    },
    /// Another run of this broker took this one's place. The changes have no effect.
    #[error(transparent)]
    Fenced(Arc<Fence>),
    /// The cluster was closed. The changes may or may not have taken effect.
    #[error("the broker is shutting down")]
    Closed,
}

/// What a check for a fence found wrong.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Another run of this broker took this one's place: stop acknowledging and end.
    #[error(transparent)]
    Fenced(Arc<Fence>),
    /// The log could not be read; nothing is known.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What a commit came to.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The state after it.
    pub image: Arc<ClusterImage>,
    /// Per change, in order, what it came to or why it had no effect.
    pub outcomes: Vec<Result<Outcome, ChangeError>>,
}

/// What the handles and the writer's task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) image: ArcSwap<ClusterImage>,
    pub(super) published: watch::Sender<Arc<ClusterImage>>,
    pub(super) fence: watch::Sender<Option<Arc<Fence>>>,
    /// The last entry that a check for a fence has read.
    pub(super) checked: AtomicU64,
    pub(super) store: Store,
    pub(super) log: NumberedLog,
    pub(super) writer: Writer,
    pub(super) dir: DataDir,
    pub(super) node_id: i32,
    pub(super) incarnation: Incarnation,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) metrics: ClusterMetrics,
}

impl Shared {
    pub(super) fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// What changes are judged by.
    pub(super) fn terms(&self) -> Terms {
        Terms { owner: self.node_id, limits: self.limits }
    }

    /// Makes a new image the present one.
    pub(super) fn publish(&self, image: &ClusterImage) {
        let image = Arc::new(image.clone());
        self.metrics.published(&image);
        self.image.store(image.clone());
        self.published.send_replace(image);
    }

    /// Whether an entry says that this run is not the broker's any more.
    pub(super) fn fence_in(&self, entry: u64, records: &[Record]) -> Option<Fence> {
        let fence = |by| Fence { node_id: self.node_id, entry, by, ours: self.incarnation };
        records.iter().find_map(|record| match record {
            Record::BrokerIncarnation { node_id, incarnation }
                if *node_id == self.node_id && *incarnation != self.incarnation =>
            {
                Some(fence(format!("metadata entry {entry} names incarnation {incarnation}")))
            }
            Record::BrokerBound { node_id, identity } if *node_id == self.node_id => {
                let by = format!(
                    "metadata entry {entry} names a data directory with identity {identity}"
                );
                Some(fence(by))
            }
            _ => None,
        })
    }

    /// Ends this run's part in the cluster, for good: noted in the data directory first, so that
    /// no later start goes on as if nothing had happened.
    pub(super) async fn fence(&self, fence: Fence) -> Arc<Fence> {
        if let Some(fence) = self.fence.borrow().clone() {
            return fence;
        }
        error!(
            node_id = fence.node_id,
            entry = fence.entry,
            by = fence.by,
            "this broker is fenced"
        );
        let fence = Arc::new(fence);
        // A failure changes nothing: the next start finds a last incarnation that the directory
        // does not know, and is refused for that.
        if let Err(error) = identity::write_fenced(&self.dir, &fence.to_string()).await {
            error!(%error, "the fence could not be noted in the data directory");
        }
        self.metrics.fenced();
        self.fence.send_replace(Some(fence.clone()));
        fence
    }
}

/// The cluster's metadata as this run of a broker sees and changes it; cheap to clone. Opened by
/// [`Cluster::open`], to be closed by [`Cluster::close`]; when the last handle is dropped the
/// writer ends too.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
    closing: CancellationToken,
    /// Taken by whoever closes the cluster.
    writer: Mutex<Option<JoinHandle<()>>>,
    producer_ids: ProducerIds,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Cluster {
    /// Starts the writer's task.
    pub(super) fn start(
        shared: Arc<Shared>,
        queue: mpsc::Sender<Request>,
        writer: MetadataWriter,
    ) -> Self {
        let closing = writer.closing.clone();
        let writer = Mutex::new(Some(task::spawn("metadata-writer", writer.run())));
        let producer_ids = ProducerIds::default();
        Self { inner: Arc::new(Inner { shared, queue, closing, writer, producer_ids }) }
    }

    /// The present state.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.inner.shared.image()
    }

    /// Follows the state. Intermediate images may be skipped; the last one never is.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.inner.shared.published.subscribe()
    }

    /// The id of this broker.
    pub fn node_id(&self) -> i32 {
        self.inner.shared.node_id
    }

    /// What a commit of `changes` would come to now, without making any (Kafka's `validateOnly`):
    /// each is judged by the state that those before it would leave. New topics have ids that they
    /// will not get.
    pub fn check(&self, changes: &[Change]) -> Vec<Result<Outcome, ChangeError>> {
        let shared = &self.inner.shared;
        let mut image = ClusterImage::clone(&self.image());
        let begun = image.begin_entry(image.number().saturating_add(1));
        let mut bytes = 0;
        let check = |change: &Change| {
            begun.clone()?;
            let new_id = TopicId(shared.random.uuid());
            fold(&mut image, shared.terms(), &mut bytes, change, new_id).map(|(_, made)| made)
        };
        changes.iter().map(check).collect()
    }

    /// Makes changes, in order, in one entry of the log; what waits from several callers goes into
    /// one entry too. When this returns `Ok` the changes are durable and [`Cluster::image`] shows
    /// them. Ends within [`COMMIT_TIMEOUT`]. If the future is dropped it is unknown whether the
    /// changes take effect.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<Committed, CommitError> {
        let inner = &self.inner;
        let (reply, answer) = oneshot::channel();
        let asked = async {
            // The caller keeps the changes: of a commit that nobody waits for any more nothing is
            // left in the queue but its place.
            let changes: Arc<[Change]> = changes.into();
            let request = Request { changes: Arc::downgrade(&changes), reply };
            inner.queue.send(request).await.map_err(|_closed| self.ended())?;
            answer.await.unwrap_or_else(|_dropped| Err(self.ended()))
        };
        let answered = inner.shared.clock.timeout(COMMIT_TIMEOUT, asked).await;
        answered.unwrap_or(Err(CommitError::Unavailable))
    }

    /// A producer id that nobody else ever gets. Comes from memory but for the first and for
    /// bursts that outrun the bucket.
    pub async fn next_producer_id(&self) -> Result<i64, CommitError> {
        self.inner.producer_ids.next(self).await
    }

    /// Looks whether another run of this broker took this one's place: to be called every 10 s and
    /// before a checkpoint. When it has, `<data>/fenced` is written and [`Cluster::fenced`]
    /// resolves. Reads the bucket and writes nothing.
    pub async fn check_fenced(&self) -> Result<(), CheckError> {
        let shared = &self.inner.shared;
        if let Some(fence) = shared.fence.borrow().clone() {
            return Err(CheckError::Fenced(fence));
        }
        let checked = shared.checked.load(Ordering::Relaxed);
        let first = self.image().number().max(checked).saturating_add(1);
        for number in first..first.saturating_add(CHECKED_ENTRIES) {
            let Some(entry) = shared.log.read(number).await.map_err(LoadError::from)? else {
                return Ok(());
            };
            // Our own entries, on their way to be published, name no other run.
            let (_, records) = decode_entry(&entry.payload)
                .map_err(|source| LoadError::Record { key: shared.log.key(number), source })?;
            if let Some(fence) = shared.fence_in(number, &records) {
                return Err(CheckError::Fenced(shared.fence(fence).await));
            }
            shared.checked.fetch_max(number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends this run's part in the cluster because something else than the metadata shows that
    /// another took its place: `by` says what. [`Cluster::fenced`] resolves.
    pub async fn end_for(&self, by: String) -> Arc<Fence> {
        let shared = &self.inner.shared;
        let (node_id, entry) = (shared.node_id, self.image().number());
        shared.fence(Fence { node_id, entry, by, ours: shared.incarnation }).await
    }

    /// Resolves when another run of this broker took this one's place.
    pub async fn fenced(&self) -> Arc<Fence> {
        let mut fence = self.inner.shared.fence.subscribe();
        let found = fence.wait_for(Option::is_some).await;
        found.ok().and_then(|fence| fence.clone()).expect("this handle keeps the sender alive")
    }

    /// Lets the entry on its way end (for at most 5 s), copies the image into the data directory,
    /// and ends the writer. Later commits answer [`CommitError::Closed`].
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.producer_ids.close().await;
        let writer = self.inner.writer.lock().expect("no holder panics").take();
        if let Some(writer) = writer {
            let _reported = writer.await;
        }
    }

    /// Takes the next block of producer ids in the background.
    pub(super) async fn refill_producer_ids(&self) -> Result<(), CommitError> {
        self.inner.producer_ids.refill(self).await
    }

    /// Why the writer answers no more.
    fn ended(&self) -> CommitError {
        let fence = self.inner.shared.fence.borrow().clone();
        fence.map_or(CommitError::Closed, CommitError::Fenced)
    }
}

#[cfg(test)]
mod tests;

//! The one task that writes the metadata log. It folds all changes that wait into the next entry,
//! creates it, publishes the new image, and answers.
//!
//! **Invariant:** an entry whose outcome is unknown is put again, the same bytes under the same
//! number, until the outcome is known; nothing else is tried under that number or a later one.
//! Who waits for it is answered by a deadline of its own (see `Cluster::commit`).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::change::{Change, ChangeError, Outcome, fold};
use super::handle::{CommitError, Committed, Fence, Shared};
use super::image::ClusterImage;
use super::load::{self, LoadError};
use super::record::{Record, encode_entry};
use super::snapshot::Snapshot;
use crate::object::{CreateError, PutNewError, Sealed};
use crate::protocol::types::TopicId;

/// How many commits may wait; more wait for a place in the queue, until their deadline.
pub(super) const QUEUE: usize = 1024;

/// No further commit joins an entry that has so many bytes.
const FOLD_BYTES: usize = 1 << 20;

/// After how many entries stored images are renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cadence {
    /// The data directory's copy: a start reads at most so many entries from the bucket.
    pub(super) copy: u64,
    /// The snapshot in the bucket.
    pub(super) snapshot: u64,
}

impl Cadence {
    /// What every broker uses.
    pub(super) const DEFAULT: Cadence = Cadence { copy: 64, snapshot: 512 };
}

/// The longest pause between two attempts to create an entry.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long an entry on its way is waited for when the cluster is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// A commit on its way to the writer.
#[derive(Debug)]
pub(super) struct Request {
    /// Held by the one who waits; gone when that one has given up.
    pub(super) changes: Weak<[Change]>,
    pub(super) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// The state of the writer's task.
#[derive(Debug)]
pub(super) struct MetadataWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) closing: CancellationToken,
    pub(super) cadence: Cadence,
    /// The last image published, and its entry.
    pub(super) last: Snapshot,
    /// The number of the data directory's copy.
    pub(super) copied: u64,
    /// The number of the last snapshot.
    pub(super) snapshotted: u64,
}

/// What an attempt to create an entry came to.
enum Put {
    Created,
    /// The number has another owner.
    Taken,
    /// Nothing was written.
    Refused(String),
    Closing,
}

/// The changes of the first commits that wait, as far as they go into one entry.
struct Fold {
    image: ClusterImage,
    records: Vec<Record>,
    /// Per commit folded, the outcomes of its changes.
    outcomes: Vec<Vec<Result<Outcome, ChangeError>>>,
}

impl MetadataWriter {
    /// Runs until the cluster is closed or fenced. What still waits then is told so by its reply
    /// being dropped.
    pub(super) async fn run(mut self) {
        let mut waiting = VecDeque::new();
        loop {
            let request = tokio::select! {
                // Nothing is lost: a request not received stays in the queue, which is dropped.
                () = self.closing.cancelled() => break,
                request = self.queue.recv() => request,
            };
            let Some(request) = request else { break };
            waiting.push_back(request);
            while waiting.len() < QUEUE
                && let Ok(request) = self.queue.try_recv()
            {
                waiting.push_back(request);
            }
            while !waiting.is_empty() {
                if !self.commit(&mut waiting).await {
                    return self.close().await;
                }
            }
            self.housekeeping().await;
        }
        self.close().await;
    }

    /// Commits the first of what waits; `false` if the writer must end.
    async fn commit(&mut self, waiting: &mut VecDeque<Request>) -> bool {
        // Who has given up waiting has been told that the outcome is unknown; not to begin is one.
        waiting.retain(|request| !request.reply.is_closed());
        let fold = self.fold(waiting);
        if !fold.records.is_empty() {
            let start = self.shared.clock.now();
            let wall_ms = self.shared.clock.wall_ms();
            let payload = encode_entry(wall_ms, &fold.records);
            let number = fold.image.number();
            let body = self.shared.log.seal(&self.shared.writer, number, &payload);
            match self.put(&body).await {
                Put::Created => {
                    let entry = load::first_bytes(&body.first_bytes());
                    self.last = Snapshot { image: fold.image, entry };
                    self.shared.publish(&self.last.image);
                    self.shared.metrics.committed(self.shared.clock.now().duration_since(start));
                }
                Put::Taken => return self.catch_up().await,
                Put::Refused(reason) => {
                    for request in waiting.drain(..fold.outcomes.len()) {
                        let refused = CommitError::Refused { reason: reason.clone() };
                        let _gone = request.reply.send(Err(refused));
                    }
                    return true;
                }
                Put::Closing => return false,
            }
        }
        let image = self.shared.image();
        let folded = fold.outcomes.len();
        for (request, outcomes) in waiting.drain(..folded).zip(fold.outcomes) {
            let _gone = request.reply.send(Ok(Committed { image: image.clone(), outcomes }));
        }
        true
    }

    /// Judges the changes of the first commits in order, each against the state that those before
    /// it leave.
    fn fold(&self, waiting: &VecDeque<Request>) -> Fold {
        let image = self.last.image.clone();
        let mut fold = Fold { image, records: Vec::new(), outcomes: Vec::new() };
        let next = fold.image.number().saturating_add(1);
        let begun = fold.image.begin_entry(next);
        let mut bytes = 0;
        for request in waiting {
            if bytes >= FOLD_BYTES {
                break;
            }
            let changes = request.changes.upgrade().unwrap_or_default();
            let outcomes = changes.iter().map(|change| {
                begun.clone()?;
                self.fold_change(&mut fold.image, &mut fold.records, &mut bytes, change)
            });
            let outcomes = outcomes.collect();
            fold.outcomes.push(outcomes);
        }
        fold
    }

    fn fold_change(
        &self,
        image: &mut ClusterImage,
        records: &mut Vec<Record>,
        bytes: &mut usize,
        change: &Change,
    ) -> Result<Outcome, ChangeError> {
        let new_id = TopicId(self.shared.random.uuid());
        let (record, outcome) = fold(image, self.shared.terms(), bytes, change, new_id)?;
        records.push(record);
        Ok(outcome)
    }

    /// Creates an entry, however often it takes.
    async fn put(&self, body: &Sealed) -> Put {
        let mut pause = Duration::from_secs(1);
        let mut maybe_written = false;
        loop {
            let created = tokio::select! {
                created = self.shared.log.create(body) => created,
                // The entry is then in the bucket or not; the next start finds out.
                () = self.closed() => return Put::Closing,
            };
            let error = match created {
                Ok(()) => return Put::Created,
                Err(CreateError::Put(PutNewError::Fenced { .. })) => return Put::Taken,
                Err(CreateError::Put(PutNewError::Refused(error))) if !maybe_written => {
                    self.shared.metrics.failed();
                    return Put::Refused(error.to_string());
                }
                Err(error) => error,
            };
            maybe_written = true;
            self.shared.metrics.failed();
            warn!(number = body.number(), %error, "metadata entry could not be written; trying on");
            tokio::select! {
                () = self.shared.clock.sleep(pause) => {}
                () = self.closing.cancelled() => return Put::Closing,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads what another wrote; `false` if it fences this run, or the cluster is closed.
    async fn catch_up(&mut self) -> bool {
        let mut pause = Duration::from_secs(1);
        loop {
            match self.read_on().await {
                Ok(Some(fence)) => {
                    self.shared.fence(fence).await;
                    return false;
                }
                Ok(None) => return true,
                Err(error) => {
                    warn!(%error, "metadata log could not be read; trying on");
                }
            }
            tokio::select! {
                () = self.shared.clock.sleep(pause) => {}
                () = self.closing.cancelled() => return false,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn read_on(&mut self) -> Result<Option<Fence>, LoadError> {
        loop {
            let next = self.last.image.number().saturating_add(1);
            let Some(entry) = self.shared.log.read(next).await? else {
                self.shared.publish(&self.last.image);
                return Ok(None);
            };
            let mut after = self.last.clone();
            let records = load::apply(&self.shared.log, &mut after, &entry)?;
            self.last = after;
            if let Some(fence) = self.shared.fence_in(next, &records) {
                return Ok(Some(fence));
            }
        }
    }

    /// Resolves some time after the cluster is to be closed.
    async fn closed(&self) {
        self.closing.cancelled().await;
        self.shared.clock.sleep(CLOSE_GRACE).await;
    }

    /// Renews the copy and the snapshot when they are old. Both only shorten the next start, so a
    /// failure waits for the next time.
    async fn housekeeping(&mut self) {
        let number = self.last.image.number();
        if number >= self.copied.saturating_add(self.cadence.copy) {
            self.copy().await;
        }
        if number >= self.snapshotted.saturating_add(self.cadence.snapshot) {
            let written = tokio::select! {
                written = load::write_snapshot(&self.shared.store, &self.last) => written,
                () = self.closed() => return,
            };
            match written {
                Ok(()) => self.snapshotted = number,
                Err(error) => warn!(number, %error, "metadata snapshot could not be written"),
            }
        }
    }

    async fn copy(&mut self) {
        let number = self.last.image.number();
        match load::write_copy(&self.shared.dir, &self.last).await {
            Ok(()) => self.copied = number,
            Err(error) => warn!(number, %error, "copy of the metadata could not be written"),
        }
    }

    async fn close(mut self) {
        self.queue.close();
        let fenced = self.shared.fence.borrow().is_some();
        if !fenced && self.copied < self.last.image.number() {
            self.copy().await;
        }
        debug!(number = self.last.image.number(), "metadata writer ended");
    }
}

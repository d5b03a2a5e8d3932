//! Deletes tiered objects that nobody refers to: first the record, then the checkpoint, then the
//! object (DESIGN §6).
//!
//! Two loops. One takes the **garbage** that partitions have dropped, in the order of [`rules`].
//! The other sweeps **orphans**, objects that were brought into the bucket and never referred to
//! because their run was killed: it lists the bucket and touches nothing but names of runs that
//! have ended and of uploads that have, so that what a listing leaves out or shows late costs only
//! time.
//!
//! **Invariant:** what is deleted is referred to by no record of the log, durable or on its way:
//! names in flight are read first, then every partition applies what is durable, then references
//! are looked at.

pub mod ids;
pub mod list;
pub mod rules;

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use tracing::{info, warn};

use super::Broker;
use crate::cluster::CheckError;
use crate::failpoint;
use crate::object::{Key, ObjectError, Store};
use crate::partition::Garbage;
use crate::tier::ObjectId;
use crate::tier::name::PREFIX;
use rules::{Progress, Waiting};

/// How many deletions are under way at once.
const CONCURRENT_DELETES: usize = 16;
/// The most objects deleted between two looks.
const DELETED_AT_ONCE: usize = 4096;

/// A sweep or a deletion ended early; the next one begins again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    /// The bucket did not answer.
    #[error(transparent)]
    Bucket(#[from] ObjectError),
    /// Another run may have taken this one's place.
    #[error(transparent)]
    Fenced(#[from] CheckError),
}

impl Broker {
    /// Deletes garbage until the drain.
    pub(super) async fn watch_garbage(&self) {
        let mut waiting = Waiting::after(self.delays.garbage_age);
        while self.tick(self.delays.garbage_look).await {
            if let Err(error) = self.delete_garbage(&mut waiting).await {
                warn!(%error, "garbage not deleted; it is tried again");
            }
        }
    }

    /// Deletes what of the garbage may go now.
    pub(super) async fn delete_garbage(&self, waiting: &mut Waiting) -> Result<(), SweepError> {
        let garbage = self.note_garbage();
        let progress = Progress {
            reserved: self.stream.reserved(),
            synced: self.stream.synced(),
            checkpointed: self.checkpointed_in_bucket(),
        };
        let looked = waiting.look(&garbage, self.clock.now(), progress, DELETED_AT_ONCE);
        self.view_changed(looked.needs);
        let due: Vec<_> = looked.due.iter().map(|object| object.id).collect();
        let due = self.unreferenced(due, true);
        if !due.is_empty() {
            failpoint::pass("garbage: begun");
        }
        let deleted = self.delete_objects(due, "garbage").await;
        self.note_garbage();
        deleted
    }

    /// The garbage of this moment, which is noted in the metrics.
    pub(super) fn note_garbage(&self) -> Vec<Garbage> {
        let garbage = self.partitions.shared().objects.garbage();
        self.metrics.garbage_objects.set(garbage.len() as i64);
        let bytes: u64 = garbage.iter().map(|garbage| garbage.object.bytes).sum();
        self.metrics.garbage_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        garbage
    }

    /// Deletes the orphans of runs and uploads that have ended.
    pub(super) async fn sweep(&self) -> Result<(), SweepError> {
        let mut listing = self.bucket.store.list(PREFIX);
        while let Some(page) = listing.next_page().await? {
            let writers = self.object_ids.writers();
            let ids = page.iter().filter_map(|object| ObjectId::parse(&object.key.to_string()));
            let ids = ids.filter(|id| writers.may_sweep(*id)).collect();
            // Garbage has its own rules: it may be in a checkpoint that a restore would load.
            let orphans = self.unreferenced(ids, false);
            if !orphans.is_empty() {
                failpoint::pass("sweep: begun");
            }
            self.delete_objects(orphans, "orphan").await?;
        }
        self.metrics.sweeps.inc();
        Ok(())
    }

    /// Sweeps soon after the start, then daily.
    pub(super) async fn watch_orphans(&self) {
        let mut pause = self.delays.first_sweep;
        while self.tick(pause).await {
            pause = match self.sweep().await {
                Ok(()) => self.delays.sweep,
                Err(error) => {
                    warn!(%error, "orphans not swept; it is tried again");
                    self.delays.first_sweep
                }
            };
        }
    }

    /// Those of `ids` that nobody refers to once every durable record is applied, and that are or
    /// are not listed as garbage.
    fn unreferenced(&self, mut ids: Vec<ObjectId>, are_garbage: bool) -> Vec<ObjectId> {
        ids.retain(|id| !self.object_ids.is_in_flight(*id));
        if ids.is_empty() {
            return ids;
        }
        self.partitions.apply_durable();
        let objects = &self.partitions.shared().objects;
        let garbage: HashSet<_> =
            objects.garbage().iter().map(|garbage| garbage.object.id).collect();
        ids.retain(|id| garbage.contains(id) == are_garbage && !objects.is_used(*id));
        ids
    }

    async fn delete_objects(
        &self,
        ids: Vec<ObjectId>,
        what: &'static str,
    ) -> Result<(), SweepError> {
        if ids.is_empty() {
            return Ok(());
        }
        // Only the run that the view belongs to may act on it.
        self.cluster.check_fenced().await?;
        let (deleted, failed) = delete_all(&self.bucket.store, &ids).await;
        self.partitions.shared().objects.deleted(&deleted);
        failpoint::pass("garbage: forgotten");
        let counter = |outcome| self.metrics.deleted_objects.with_label_values(&[what, outcome]);
        counter("ok").inc_by(deleted.len() as u64);
        counter("failed").inc_by((ids.len() - deleted.len()) as u64);
        if !deleted.is_empty() {
            info!(objects = deleted.len(), what, "tiered objects deleted");
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Deletes objects, some at a time; returns those that are gone, and an error if not all are.
async fn delete_all(store: &Store, ids: &[ObjectId]) -> (Vec<ObjectId>, Option<ObjectError>) {
    let deletions = stream::iter(ids.iter().copied()).map(|id| async move {
        let key: Key = id.key();
        (id, store.delete(&key).await)
    });
    let outcomes: Vec<_> = deletions.buffer_unordered(CONCURRENT_DELETES).collect().await;
    let (mut deleted, mut failed) = (Vec::new(), None);
    for (id, outcome) in outcomes {
        match outcome {
            Ok(()) => deleted.push(id),
            Err(error) => failed = Some(error),
        }
    }
    (deleted, failed)
}

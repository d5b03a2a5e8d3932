//! The flusher's objects: a segment of one partition, a pack of many.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;

use super::gather::{Gathered, gather};
use super::{Broker, TierError, Waiting};
use crate::broker::garbage::ids::InFlight;
use crate::failpoint;
use crate::partition::{
    CommitTierError, LogError, Partition, TierChange, TierKind, TierRef, TierRefId,
};
use crate::protocol::batch::BatchHeader;
use crate::task;
use crate::tier::{Origin, SectionEnd, Upload, Uploaded};
use crate::wal::{Admission, Class, Lsn};

/// How many batches are read ahead of the upload.
const QUEUE: usize = 2;

/// How often a record is tried to be placed in room that others may take.
const ROOM_ATTEMPTS: usize = 16;

/// A section that was brought into the bucket.
pub(super) struct Section {
    pub(super) partition: Arc<Partition>,
    /// What it stands in for.
    pub(super) removed: Vec<TierRefId>,
    /// When its youngest batch was appended, on the log clock.
    pub(super) append_time_ms: i64,
}

impl Broker {
    /// Brings one partition's log into an object of its own, streaming it. Returns its bytes.
    pub(super) async fn flush_segment(
        &self,
        waiting: &Waiting,
        planned_ms: i64,
    ) -> Result<u64, TierError> {
        let sizes = self.tiering.sizes();
        let _memory = self.tiering.pool.take_up_to(sizes.part).await;
        let name = self.object_ids.begin();
        let head = self.head(name.id(), Origin::Flushed);
        let mut upload = Upload::new(&self.tiering.store, head, sizes);
        let append_time_ms = match self.stream_section(&mut upload, waiting).await {
            Ok(append_time_ms) => append_time_ms,
            Err(error) => {
                upload.give_up().await;
                return Err(error);
            }
        };
        let uploaded = self.finish(upload).await?;
        let partition = Arc::clone(&waiting.partition);
        let section = Section { partition, removed: Vec::new(), append_time_ms };
        self.commit(&name, &uploaded, vec![section], planned_ms, TierKind::Segment).await?;
        Ok(uploaded.object.bytes)
    }

    /// Reads a partition's log on a thread and hands it to the upload batch by batch. Returns when
    /// the youngest was appended.
    async fn stream_section(
        &self,
        upload: &mut Upload<'_>,
        waiting: &Waiting,
    ) -> Result<i64, TierError> {
        let Waiting { partition, untiered } = waiting;
        upload.begin(partition.id(), untiered.from)?;
        let (sender, mut batches) = mpsc::channel::<(Bytes, i64)>(QUEUE);
        let (reader, from, to) = (Arc::clone(partition), untiered.from, untiered.to);
        let reading = task::blocking(move || {
            reader.visit_local::<LogError>(from, to, |batch, append_time_ms| {
                // The receiver is gone when the upload has failed: the rest is read for nobody.
                drop(sender.blocking_send((batch, append_time_ms)));
                Ok(())
            })
        });
        let (mut youngest, mut found) = (0, from);
        while let Some((batch, append_time_ms)) = batches.recv().await {
            upload.push(&batch).await?;
            // The upload has looked at the header. A hole would be missed by nobody else.
            match BatchHeader::parse(&batch) {
                Ok(header) if header.base_offset == found => found = header.next_offset(),
                _ => break,
            }
            youngest = append_time_ms;
        }
        // The reader of a log that is not as planned has more to send, and would wait for ever.
        drop(batches);
        let of = partition.id();
        let read = reading.await.map_err(|error| TierError::Panicked(error.to_string()))?;
        read.map_err(|source| TierError::Log { of, source })?;
        if found != to {
            return Err(TierError::Incomplete { of, expected: to, found });
        }
        end_section(upload, waiting)?;
        Ok(youngest)
    }

    /// Brings the logs of many partitions into one object, gathering as many at once as memory
    /// allows. Returns its bytes.
    pub(super) async fn flush_pack(
        &self,
        waiting: &[Waiting],
        planned_ms: i64,
    ) -> Result<u64, TierError> {
        let sizes = self.tiering.sizes();
        let most = self.tiering.gather_bytes();
        let _memory = self.tiering.pool.take_up_to(sizes.part + most as usize).await;
        let name = self.object_ids.begin();
        let head = self.head(name.id(), Origin::Flushed);
        let mut upload = Upload::new(&self.tiering.store, head, sizes);
        let sections = match self.pack_sections(&mut upload, waiting, most).await {
            Ok(sections) => sections,
            Err(error) => {
                upload.give_up().await;
                return Err(error);
            }
        };
        let uploaded = self.finish(upload).await?;
        self.commit(&name, &uploaded, sections, planned_ms, TierKind::Pack).await?;
        Ok(uploaded.object.bytes)
    }

    async fn pack_sections(
        &self,
        upload: &mut Upload<'_>,
        waiting: &[Waiting],
        most: u64,
    ) -> Result<Vec<Section>, TierError> {
        let mut sections = Vec::with_capacity(waiting.len());
        for group in groups(waiting, most) {
            if let [alone] = group
                && alone.untiered.bytes > most
            {
                let append_time_ms = self.stream_section(upload, alone).await?;
                sections.push(section(alone, append_time_ms));
                continue;
            }
            let (stream, wanted) = (self.stream.clone(), group.to_vec());
            let gathered = task::blocking(move || gather(&stream, &wanted))
                .await
                .map_err(|error| TierError::Panicked(error.to_string()))?;
            match gathered {
                Ok(gathered) => {
                    for (waiting, gathered) in group.iter().zip(gathered) {
                        let append_time_ms = self.push_gathered(upload, waiting, gathered).await?;
                        sections.push(section(waiting, append_time_ms));
                    }
                }
                // One by one, to find out whose log it is.
                Err(TierError::Wal(error)) => {
                    warn!(%error, "the log is read partition by partition");
                    for waiting in group {
                        let append_time_ms = self.stream_section(upload, waiting).await?;
                        sections.push(section(waiting, append_time_ms));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sections)
    }

    async fn push_gathered(
        &self,
        upload: &mut Upload<'_>,
        waiting: &Waiting,
        gathered: Gathered,
    ) -> Result<i64, TierError> {
        let append_time_ms = gathered.append_time_ms;
        upload.begin(waiting.partition.id(), waiting.untiered.from)?;
        for batch in gathered.into_batches() {
            upload.push(&batch).await?;
        }
        end_section(upload, waiting)?;
        Ok(append_time_ms)
    }

    /// Ends an upload.
    pub(super) async fn finish(&self, upload: Upload<'_>) -> Result<Uploaded, TierError> {
        failpoint::pass("tier: before the object is uploaded");
        let uploaded = upload.finish().await?;
        failpoint::pass("tier: after the object was uploaded");
        Ok(uploaded)
    }

    /// Lets each partition refer to its section, and waits until that is synced. A partition that
    /// has changed meanwhile does without; what nobody wants is garbage.
    pub(super) async fn commit(
        &self,
        name: &InFlight,
        uploaded: &Uploaded,
        sections: Vec<Section>,
        planned_ms: i64,
        kind: TierKind,
    ) -> Result<(), TierError> {
        let (count, mut last) = (sections.len(), None);
        debug_assert_eq!(name.id(), uploaded.object.id);
        for section in sections {
            let Some(added) = reference(uploaded, &section, kind) else { continue };
            let change = TierChange { removed: section.removed, added: vec![added] };
            match self.commit_section(&section.partition, change, planned_ms).await {
                Ok(lsn) => {
                    self.view_changed(lsn);
                    last = Some(lsn);
                }
                Err(TierError::Commit(CommitTierError::Closed | CommitTierError::Stale)) => {
                    self.tiering.metrics.stale.inc();
                }
                Err(error) => {
                    self.partitions.shared().objects.discard(uploaded.object);
                    return Err(error);
                }
            }
            failpoint::pass("tier: a section was committed");
        }
        let objects = &self.partitions.shared().objects;
        let Some(last) = last else {
            objects.discard(uploaded.object);
            return Ok(());
        };
        let origin = uploaded.footer.head().origin;
        self.tiering.metrics.brought(origin, count, uploaded.object.bytes);
        self.stream.wait_synced(last).await?;
        failpoint::pass("tier: all sections are committed");
        Ok(())
    }

    async fn commit_section(
        &self,
        partition: &Arc<Partition>,
        change: TierChange,
        planned_ms: i64,
    ) -> Result<Lsn, TierError> {
        let bytes = Partition::commit_len(&change);
        let mut admission = Admission::uncharged();
        for _ in 0..ROOM_ATTEMPTS {
            match partition.commit_tier(&mut admission, change.clone(), planned_ms) {
                Err(CommitTierError::NoRoom) => {}
                outcome => return Ok(outcome?),
            }
            self.stream.wait_for_room(Class::Housekeeping, bytes).await?;
        }
        Err(CommitTierError::NoRoom.into())
    }
}

fn end_section(upload: &mut Upload<'_>, waiting: &Waiting) -> Result<(), TierError> {
    let Waiting { partition, untiered } = waiting;
    let epochs = partition.epochs_within(untiered.from, untiered.to);
    let end_offset = untiered.to;
    upload.end(&SectionEnd { end_offset, aborted: &[], epochs: &epochs, producers: &[] })?;
    Ok(())
}

fn section(waiting: &Waiting, append_time_ms: i64) -> Section {
    Section { partition: Arc::clone(&waiting.partition), removed: Vec::new(), append_time_ms }
}

/// How the partition refers to its section.
fn reference(uploaded: &Uploaded, section: &Section, kind: TierKind) -> Option<TierRef> {
    let footer = &uploaded.footer;
    let found = footer.section(section.partition.id())?;
    Some(TierRef::to_section(uploaded.object, footer, found, section.append_time_ms, kind))
}

/// Neighbours that have at most `most` bytes together, or one alone.
fn groups(waiting: &[Waiting], most: u64) -> Vec<&[Waiting]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, next) in waiting.iter().enumerate() {
        if at > start && bytes + next.untiered.bytes > most {
            groups.extend(waiting.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += next.untiered.bytes;
    }
    groups.extend(waiting.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

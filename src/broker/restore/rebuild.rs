//! The partitions: what the checkpoint says of each, what continues it, the gap, and the new epoch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::adopt::{Candidate, Search, continuation};
use super::load::Loaded;
use super::report::{PartitionReport, RestoreReport};
use super::{RestoreError, RestoreOptions};
use crate::cluster::{ClusterImage, OpenRestore, Topic};
use crate::object::Store;
use crate::partition::{
    AppendError, AppendRequest, Partition, Partitions, Recorded, Replay, TierKind, record,
};
use crate::protocol::batch::{Batch, BatchError, BatchIter};
use crate::protocol::control::{GAP_OFFSETS_MAX, gap_batch};
use crate::protocol::types::TopicPartition;
use crate::task;
use crate::tier::{ObjectId, ReadError, Reader};
use crate::wal::{Admission, Class, ReserveError, Stream};

/// How many chunks, of about 1 MiB each, are read in one GET.
const CHUNKS_AT_ONCE: u32 = 4;

/// How often a record is tried to be placed in room that others may take.
pub(super) const ROOM_ATTEMPTS: usize = 16;

/// What a restore works with.
pub(super) struct Rebuild<'a> {
    pub(super) options: &'a RestoreOptions,
    pub(super) store: &'a Store,
    pub(super) open: &'a OpenRestore,
    pub(super) loaded: &'a Loaded,
    /// The new data directory's.
    pub(super) identity: [u8; 16],
}

/// A section could not be adopted.
enum AdoptError {
    /// Its object is not what was written: what follows is lost.
    Damaged(String),
    /// The bucket does not answer.
    Bucket(ReadError),
}

impl From<ReadError> for AdoptError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Bucket(_) => AdoptError::Bucket(error),
            ReadError::Missing { .. } | ReadError::Corrupt { .. } => {
                AdoptError::Damaged(error.to_string())
            }
        }
    }
}

impl From<BatchError> for AdoptError {
    fn from(error: BatchError) -> Self {
        AdoptError::Damaged(error.to_string())
    }
}

impl Rebuild<'_> {
    /// Puts back every partition of the metadata and lets each go on behind its gap.
    pub(super) async fn partitions(
        &self,
        partitions: &Arc<Partitions>,
    ) -> Result<RestoreReport, RestoreError> {
        let image = self.open.image();
        let say = &self.options.say;
        say(&format!("{} partitions are in the last checkpoint", self.loaded.parts.len()));
        let recorded = self.load(partitions).await?;
        say("looking for objects that it does not know");
        let search = self.search(partitions);
        let mut listed = search.run().await?;
        let mut report = RestoreReport::new(self.options, image, self.loaded);
        report.damaged = std::mem::take(&mut listed.damaged);
        for topic in image.topics() {
            for index in 0..topic.partition_count() {
                let of = TopicPartition { topic: topic.id, partition: index };
                let Some(partition) = partitions.get(of) else { continue };
                let candidates = listed.candidates.remove(&of).unwrap_or_default();
                let adopted = self.adopt(&partition, &candidates, &mut report).await?;
                let recorded = recorded.get(&of).map(|recorded| self.recorded_end(recorded));
                let places = (&**topic, index, recorded, adopted);
                let told = self.go_on(partitions, &partition, image, places).await?;
                report.add(told);
            }
        }
        let objects = &partitions.shared().objects;
        report.objects = objects.used() as u64;
        report.sort();
        Ok(report)
    }

    /// Loads the parts of the checkpoint, and opens the partitions that it has none of.
    async fn load(
        &self,
        partitions: &Arc<Partitions>,
    ) -> Result<HashMap<TopicPartition, Recorded>, RestoreError> {
        let parts: Vec<Bytes> = self.loaded.parts.values().cloned().collect();
        let garbage = self.loaded.garbage.clone();
        let (image, opened) = (self.open.image().clone(), Arc::clone(partitions));
        let loading = move || -> Result<_, RestoreError> {
            let mut replay = Replay::new(&opened, |topic| image.topic_by_id(topic).is_some());
            for part in &parts {
                replay.load_part(part)?;
            }
            drop(replay);
            // After all parts: it may have what one of them refers to.
            for object in garbage {
                opened.shared().objects.discard(object);
            }
            let mut recorded = HashMap::new();
            for partition in opened.all() {
                recorded.insert(partition.id(), partition.begin_restore());
            }
            for topic in image.topics() {
                for partition in 0..topic.partition_count() {
                    opened.get_or_create(TopicPartition { topic: topic.id, partition }, 0);
                }
            }
            Ok(recorded)
        };
        let loaded = task::blocking(loading).await;
        loaded.map_err(|error| RestoreError::Panicked(error.to_string()))?
    }

    /// What is to be looked for beside what partitions refer to. A pack that some do may have
    /// sections of others.
    fn search<'s>(&'s self, partitions: &'s Partitions) -> Search<'s> {
        let mut kinds: BTreeMap<ObjectId, TierKind> = BTreeMap::new();
        for partition in partitions.all() {
            kinds.extend(partition.tier_refs().iter().map(|tier| (tier.object.id, tier.kind)));
        }
        let used = kinds.into_iter().filter(|(_, kind)| *kind != TierKind::Pack).map(|(id, _)| id);
        let garbage = partitions.shared().objects.garbage();
        let settled: HashSet<_> =
            garbage.iter().map(|garbage| garbage.object.id).chain(used).collect();
        Search {
            store: self.store,
            partitions,
            cluster: self.open.image().cluster_id().0,
            writers: &self.loaded.writers,
            attempts: &self.loaded.attempts,
            settled,
            append_time_ms: partitions.shared().stream.log_clock().now_ms(),
        }
    }

    /// The offset behind the last record that is known to have been written. A checkpoint that an
    /// earlier attempt of this restore made has the gap in it, which ends where its epoch starts.
    fn recorded_end(&self, recorded: &Recorded) -> i64 {
        let summary = self.loaded.summary.filter(|summary| summary.identity == self.identity);
        let start = summary.and(recorded.newest_epoch_start);
        start.map_or(recorded.log_end, |start| start.saturating_sub(self.options.offset_gap))
    }

    /// Adopts what continues a partition; returns how many sections.
    async fn adopt(
        &self,
        partition: &Arc<Partition>,
        candidates: &[Candidate],
        report: &mut RestoreReport,
    ) -> Result<u64, RestoreError> {
        let log_start = partition.offsets().log_start;
        let mut adopted = 0;
        for candidate in continuation(partition.bucket_end(), log_start, candidates) {
            match self.adopt_section(partition, &candidate).await {
                Ok(()) => adopted += 1,
                Err(AdoptError::Damaged(error)) => {
                    report.damaged.push(error);
                    break;
                }
                Err(AdoptError::Bucket(error)) => return Err(error.into()),
            }
        }
        Ok(adopted)
    }

    async fn adopt_section(
        &self,
        partition: &Arc<Partition>,
        candidate: &Candidate,
    ) -> Result<(), AdoptError> {
        let reader = Reader::new(self.store, candidate.tier.object);
        let footer = reader.footer().await?;
        let known = partition.offsets().log_end;
        if let Some(section) = footer.section(partition.id())
            && known < section.end_offset
        {
            let first = footer.chunk_at(section, known.max(section.start_offset));
            let mut next = first.unwrap_or(section.chunks.start);
            while next < section.chunks.end {
                let end = next.saturating_add(CHUNKS_AT_ONCE).min(section.chunks.end);
                for chunk in reader.chunks(&footer, next..end).await? {
                    for batch in BatchIter::new(chunk) {
                        partition.adopt_batch(batch?.header());
                    }
                }
                next = end;
            }
        }
        partition.adopt_section(candidate.tier);
        Ok(())
    }

    /// Ends a partition's log where the bucket has it to, and lets it go on behind the gap in a new
    /// epoch.
    async fn go_on(
        &self,
        partitions: &Partitions,
        partition: &Arc<Partition>,
        image: &ClusterImage,
        (topic, index, recorded_end, adopted): (&Topic, i32, Option<i64>, u64),
    ) -> Result<PartitionReport, RestoreError> {
        let created = topic.span(index).map_or(0, |span| span.entry);
        let first_epoch = i64::try_from(created).unwrap_or(0) + i64::from(topic.epoch_base);
        let restored_end = partition.cut_to_bucket(i32::try_from(first_epoch).unwrap_or(0));
        let resumes =
            restored_end.max(recorded_end.unwrap_or(0)).saturating_add(self.options.offset_gap);
        let stream = &partitions.shared().stream;
        let mut next = restored_end;
        while next < resumes {
            let offsets = (resumes - next).min(GAP_OFFSETS_MAX);
            let batch = Batch::parse_one(gap_batch(offsets));
            let batch = batch.map_err(|error| RestoreError::Append(error.to_string()))?;
            append(stream, partition, &batch, self.options.clock.wall_ms()).await?;
            next += offsets;
        }
        let epoch = image.leader_epoch(topic, index).unwrap_or(0);
        start_epoch(stream, partition, epoch).await?;
        Ok(PartitionReport {
            topic: topic.name.to_string(),
            partition: index,
            log_start: partition.offsets().log_start,
            restored_end,
            recorded_end,
            lost_at_least: recorded_end.map_or(0, |end| (end - restored_end).max(0)),
            resumes,
            epoch,
            adopted_objects: adopted,
        })
    }
}

/// Appends a batch and waits for room, not for durability.
pub(super) async fn append(
    stream: &Stream,
    partition: &Arc<Partition>,
    batch: &Batch,
    now_ms: i64,
) -> Result<(), RestoreError> {
    let needed = record::data_len(batch.bytes().len());
    let mut admission = stream.admit(needed).await?;
    for _ in 0..ROOM_ATTEMPTS {
        match partition.append(&mut admission, &AppendRequest::internal(batch, now_ms)) {
            Ok(_) => return Ok(()),
            Err(AppendError::NoRoom) => stream.wait_for_room(Class::Internal, needed).await?,
            Err(error) => return Err(RestoreError::Append(error.to_string())),
        }
    }
    Err(RestoreError::Append(AppendError::NoRoom.to_string()))
}

async fn start_epoch(
    stream: &Stream,
    partition: &Partition,
    epoch: i32,
) -> Result<(), RestoreError> {
    let mut admission = Admission::uncharged();
    for _ in 0..ROOM_ATTEMPTS {
        match partition.start_epoch(&mut admission, epoch) {
            Ok(_) => return Ok(()),
            Err(ReserveError::NoRoom) => {
                stream.wait_for_room(Class::Internal, record::EPOCH_START_LEN).await?;
            }
            Err(error) => return Err(RestoreError::Append(error.to_string())),
        }
    }
    Err(RestoreError::Append(ReserveError::NoRoom.to_string()))
}

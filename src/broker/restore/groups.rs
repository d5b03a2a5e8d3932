//! Consumer groups: their offsets are in `__consumer_offsets`; they go on without members and with
//! a generation above all that were handed out.
//!
//! That generation goes to the bucket before anybody is told of it: were this directory lost as the
//! one before was, the next restore would otherwise begin with the same one.

use std::sync::Arc;

use bytes::Bytes;

use super::rebuild::{ROOM_ATTEMPTS, append};
use super::{RestoreError, RestoreOptions, RestoreReport};
use crate::broker::OFFSETS_TOPIC;
use crate::broker::offsets::{batch_of, read_records};
use crate::cluster::ClusterImage;
use crate::group::{LoadedRecord, Record, RestoredGroups};
use crate::object::Store;
use crate::partition::{
    CommitTierError, LogError, Partition, Partitions, TierChange, TierKind, TierRef,
};
use crate::task;
use crate::tier::{
    CHUNK_BYTES, Cache, Head, ObjectId, Origin, SectionEnd, Sizes, Upload, Uploaded,
};
use crate::wal::{Admission, Class, Stream};

/// How many groups are appended in one batch.
const GROUPS_AT_ONCE: usize = 256;

/// The size of the parts of an upload.
const PART_BYTES: usize = 8 << 20;

/// Appends every group again; returns the partitions that have any. One that cannot be read is
/// told, and its groups stay as they are in the log.
pub(super) async fn restore(
    options: &RestoreOptions,
    image: &ClusterImage,
    partitions: &Partitions,
    cache: &Cache,
    report: &mut RestoreReport,
) -> Result<Vec<Arc<Partition>>, RestoreError> {
    let mut with_groups = Vec::new();
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return Ok(with_groups) };
    for partition in partitions.of_topic(topic.id) {
        let groups = match read(&partition, cache).await {
            Ok(groups) => groups,
            Err(error) => {
                report.damaged.push(error);
                continue;
            }
        };
        if groups.is_empty() {
            continue;
        }
        report.groups += groups.len() as u64;
        let now_ms = options.clock.wall_ms();
        let records: Vec<Record> = groups.into_records(now_ms).collect();
        for records in records.chunks(GROUPS_AT_ONCE) {
            let batch = batch_of(records, now_ms);
            let batch = batch.map_err(|error| RestoreError::Append(error.to_string()))?;
            append(&partitions.shared().stream, &partition, &batch, now_ms).await?;
        }
        with_groups.push(partition);
    }
    Ok(with_groups)
}

/// The one object that a restore brings into the bucket.
pub(super) struct Object<'a> {
    pub(super) store: &'a Store,
    pub(super) cluster: [u8; 16],
    /// The bits of this process.
    pub(super) incarnation: [u8; 16],
    /// Now by the wall clock.
    pub(super) now_ms: i64,
}

impl Object<'_> {
    /// Brings what was appended to `partitions`, which is durable, into the bucket.
    pub(super) async fn bring(
        &self,
        stream: &Stream,
        partitions: &[Arc<Partition>],
    ) -> Result<(), RestoreError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let id = ObjectId { incarnation: self.incarnation, sequence: 0 };
        let head =
            Head { cluster: self.cluster, id, created_ms: self.now_ms, origin: Origin::Flushed };
        let sizes = Sizes { chunk: CHUNK_BYTES, part: PART_BYTES };
        let mut upload = Upload::new(self.store, head, sizes);
        for partition in partitions {
            push(&mut upload, partition).await.map_err(RestoreError::Groups)?;
        }
        let uploaded =
            upload.finish().await.map_err(|error| RestoreError::Groups(error.to_string()))?;
        for partition in partitions {
            commit(stream, partition, &uploaded).await?;
        }
        Ok(stream.sync_now().await?)
    }
}

/// Pushes what of a partition is not in the bucket as a section; the error is in words.
async fn push(upload: &mut Upload<'_>, partition: &Arc<Partition>) -> Result<(), String> {
    let of = partition.id();
    let untiered = partition.untiered(u64::MAX).ok_or_else(|| format!("{of} has nothing new"))?;
    let (from, to) = (untiered.from, untiered.to);
    let visited = Arc::clone(partition);
    let reading = move || {
        let mut batches: Vec<Bytes> = Vec::new();
        visited.visit_local::<LogError>(from, to, |batch, _| {
            batches.push(batch);
            Ok(())
        })?;
        Ok::<_, LogError>(batches)
    };
    let read = task::blocking(reading).await.map_err(|error| error.to_string())?;
    upload.begin(of, from).map_err(|error| error.to_string())?;
    for batch in read.map_err(|error| error.to_string())? {
        upload.push(&batch).await.map_err(|error| error.to_string())?;
    }
    let epochs = partition.epochs_within(from, to);
    let end = SectionEnd { end_offset: to, aborted: &[], epochs: &epochs, producers: &[] };
    upload.end(&end).map_err(|error| error.to_string())
}

/// Lets a partition refer to its section.
async fn commit(
    stream: &Stream,
    partition: &Arc<Partition>,
    uploaded: &Uploaded,
) -> Result<(), RestoreError> {
    let footer = &uploaded.footer;
    let Some(section) = footer.section(partition.id()) else { return Ok(()) };
    let now_ms = stream.log_clock().now_ms();
    let added = TierRef::to_section(uploaded.object, footer, section, now_ms, TierKind::Pack);
    let change = TierChange { removed: Vec::new(), added: vec![added] };
    let bytes = Partition::commit_len(&change);
    let mut admission = Admission::uncharged();
    for _ in 0..ROOM_ATTEMPTS {
        match partition.commit_tier(&mut admission, change.clone(), now_ms) {
            Ok(_) => return Ok(()),
            Err(CommitTierError::NoRoom) => {
                stream.wait_for_room(Class::Housekeeping, bytes).await?;
            }
            Err(error) => return Err(RestoreError::Groups(error.to_string())),
        }
    }
    Err(RestoreError::Groups(CommitTierError::NoRoom.to_string()))
}

async fn read(partition: &Arc<Partition>, cache: &Cache) -> Result<RestoredGroups, String> {
    let (mut groups, mut malformed) = (RestoredGroups::default(), None);
    let mut sink = |loaded: LoadedRecord| {
        if malformed.is_none() {
            malformed = groups.add(&loaded).err();
        }
    };
    let read = read_records(Arc::clone(partition), cache.clone(), &mut sink).await;
    let index = partition.id().partition;
    read.map_err(|error| format!("{OFFSETS_TOPIC}-{index}: {error}"))?;
    match malformed {
        None => Ok(groups),
        Some(error) => Err(format!("{OFFSETS_TOPIC}-{index}: {error}")),
    }
}

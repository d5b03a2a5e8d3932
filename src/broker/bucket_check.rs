//! Walks everything that a broker has in its bucket and says what is wrong with it: what a restore
//! would find (`tidegate bucket check`).
//!
//! Metadata, the last checkpoint, every object that it refers to, every chunk of those by its
//! checksum, and a listing for what nobody refers to. Nothing is changed. Memory is the view and
//! some chunks. To be run while the broker is stopped: a running one goes on meanwhile, and
//! deletes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::PartKey;
use super::bucket_log::{CheckpointReader, Item, LoadError};
use super::garbage::list::{self, ListError};
use crate::cluster::{self, ClusterImage, read_image};
use crate::object::{ObjectError, Store};
use crate::partition::{CheckpointError, PartView, TierRef};
use crate::protocol::types::TopicPartition;
use crate::tier::name::PREFIX;
use crate::tier::{Footer, ObjectId, ReadError, Reader};

/// How many objects are read at once.
const CONCURRENT: usize = 4;
/// How many chunks, of about 1 MiB each, are read in one GET.
const CHUNKS_AT_ONCE: u32 = 4;
/// How many names of a kind are told.
const NAMES_TOLD: usize = 1000;

/// What is wrong, as one word for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Offsets between two references, or before the first, are nowhere.
    Gap,
    /// An object is referred to and not in the bucket.
    Missing,
    /// An object is not what was written, or not what the reference says.
    Corrupt,
    /// An object could not be read; it is unknown whether it is whole.
    Unread,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// What it is about: a partition, or an object and a partition.
    pub what: String,
    /// What was found.
    pub detail: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BucketReport {
    /// The cluster's id.
    pub cluster: String,
    /// The last entry of the metadata.
    pub metadata_entry: u64,
    /// When the last checkpoint was made, in ms since the epoch by the broker's clock.
    pub checkpoint_ms: Option<i64>,
    /// Partitions that the checkpoint has.
    pub partitions: u64,
    /// Objects that partitions refer to, and their bytes.
    pub objects: u64,
    /// Bytes of these objects.
    pub bytes: u64,
    /// Chunks whose checksum was computed.
    pub chunks: u64,
    /// Objects that wait for their deletion.
    pub garbage: u64,
    /// Objects that nobody refers to and that no list has, and their bytes: a running broker sweeps
    /// those of its own runs.
    pub orphans: u64,
    /// Bytes of these objects.
    pub orphan_bytes: u64,
    /// The names of the first 1,000 of them.
    pub orphan_names: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// The walk could not be begun or ended.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] cluster::LoadError),
    /// There is no cluster.
    #[error("the bucket at \"{url}\" has no cluster; set object.url to the bucket of the broker")]
    NoCluster {
        /// The bucket.
        url: String,
    },
    /// The cluster has no broker of this id.
    #[error("the cluster in the bucket has no broker {node_id}; set node.id to one it has")]
    NoBroker {
        /// The id.
        node_id: i32,
    },
    /// The checkpoints cannot be read.
    #[error(transparent)]
    Checkpoints(#[from] LoadError),
    /// A part of the checkpoint cannot be read.
    #[error("the last checkpoint of broker {node_id}: {source}")]
    Part {
        /// The broker.
        node_id: i32,
        /// What is wrong.
        #[source]
        source: CheckpointError,
    },
    /// The checkpoint's list of garbage cannot be read.
    #[error("the last checkpoint of broker {node_id}: {source}")]
    Garbage {
        /// The broker.
        node_id: i32,
        /// What is wrong.
        #[source]
        source: ListError,
    },
    /// The bucket cannot be listed.
    #[error(transparent)]
    List(#[from] ObjectError),
}

impl BucketReport {
    /// Whether a restore would find everything.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, kind: ProblemKind, what: String, detail: String) {
        self.problems.push(Problem { kind, what, detail });
    }
}

/// What the last checkpoint says.
#[derive(Debug, Default)]
struct View {
    parts: BTreeMap<TopicPartition, PartView>,
    garbage: BTreeSet<ObjectId>,
    made_ms: Option<i64>,
}

/// Walks through the bucket of broker `node_id`. Calls `progress` with the bytes of the objects
/// that were read so far and of all of them, before the first and after each.
pub async fn check(
    store: &Store,
    node_id: i32,
    mut progress: impl FnMut(u64, u64),
) -> Result<BucketReport, CheckError> {
    let image = read_image(store).await?;
    if image.number() == 0 {
        return Err(CheckError::NoCluster { url: store.url().to_owned() });
    }
    if image.broker(node_id).is_none() {
        return Err(CheckError::NoBroker { node_id });
    }
    let mut view = load(store, node_id, &image).await?;
    // A topic that the metadata does not have is deleted, whatever the checkpoint says.
    view.parts.retain(|of, _| image.topic_by_id(of.topic).is_some());
    let mut report = BucketReport {
        cluster: image.cluster_id().to_string(),
        metadata_entry: image.number(),
        checkpoint_ms: view.made_ms,
        partitions: view.parts.len() as u64,
        garbage: view.garbage.len() as u64,
        ..BucketReport::default()
    };
    let mut objects: BTreeMap<ObjectId, Vec<(TopicPartition, TierRef)>> = BTreeMap::new();
    for part in view.parts.values() {
        look_for_gaps(&mut report, &name(&image, part.of), part);
        for tier in &part.refs {
            objects.entry(tier.object.id).or_default().push((part.of, *tier));
        }
    }
    let all = objects.values().filter_map(|sections| sections.first());
    let all = all.map(|(_, tier)| tier.object.bytes).sum();
    progress(0, all);
    let cluster = image.cluster_id().0;
    let checks = stream::iter(objects.values().cloned())
        .map(|sections| check_object(store, cluster, &image, sections));
    let mut checks = checks.buffer_unordered(CONCURRENT);
    while let Some(checked) = checks.next().await {
        report.objects += 1;
        report.bytes += checked.bytes;
        report.chunks += checked.chunks;
        report.problems.extend(checked.problems);
        progress(report.bytes, all);
    }
    report.problems.sort();
    look_for_orphans(&mut report, store, &objects, &view.garbage).await?;
    Ok(report)
}

async fn load(store: &Store, node_id: i32, image: &ClusterImage) -> Result<View, CheckError> {
    let reader = CheckpointReader::new(store.clone(), node_id, image.cluster_id().0);
    let found = reader.find().await?;
    let made_ms = found.summary().map(|summary| summary.wall_ms);
    let mut view = View { made_ms, ..View::default() };
    let mut items = reader.items(&found);
    while let Some(item) = items.next().await? {
        match item {
            Item::Part { key, part } => match PartKey::decode(&key) {
                Some(PartKey::Partition(of)) => {
                    let part = PartView::decode(&part);
                    let part = part.map_err(|source| CheckError::Part { node_id, source })?;
                    view.parts.insert(of, part);
                }
                Some(PartKey::Garbage) => {
                    let garbage = list::decode(&part);
                    let garbage =
                        garbage.map_err(|source| CheckError::Garbage { node_id, source })?;
                    view.garbage = garbage.iter().map(|object| object.id).collect();
                }
                // Whose names may be swept says nothing of what is there.
                Some(PartKey::Writers) | None => {}
            },
            Item::Removal { key } => {
                if let Some(PartKey::Partition(of)) = PartKey::decode(&key) {
                    view.parts.remove(&of);
                }
            }
        }
    }
    Ok(view)
}

fn name(image: &ClusterImage, of: TopicPartition) -> String {
    let topic = image.topic_by_id(of.topic).map(|topic| topic.name.to_string());
    format!("{}-{}", topic.unwrap_or_else(|| of.topic.to_string()), of.partition)
}

/// Looks whether references leave offsets out.
fn look_for_gaps(report: &mut BucketReport, partition: &str, part: &PartView) {
    let what = || format!("partition {partition}");
    if let Some(first) = part.refs.first().filter(|first| first.start_offset > part.log_start) {
        let detail = format!(
            "offsets {} to {} are in no object: the log starts before the first one",
            part.log_start,
            first.start_offset - 1
        );
        report.problem(ProblemKind::Gap, what(), detail);
    }
    for pair in part.refs.windows(2) {
        let [before, next] = pair else { continue };
        if before.end_offset != next.start_offset {
            let detail = format!(
                "object {} ends before offset {} and the next, {}, begins at {}",
                before.object.id.key(),
                before.end_offset,
                next.object.id.key(),
                next.start_offset
            );
            report.problem(ProblemKind::Gap, what(), detail);
        }
    }
}

/// What the look at one object came to.
#[derive(Debug, Default)]
struct Checked {
    bytes: u64,
    chunks: u64,
    problems: Vec<Problem>,
}

/// Reads an object whole and holds it against what its partitions say of it.
async fn check_object(
    store: &Store,
    cluster: [u8; 16],
    image: &ClusterImage,
    sections: Vec<(TopicPartition, TierRef)>,
) -> Checked {
    let mut checked = Checked::default();
    let Some((_, first)) = sections.first() else { return checked };
    checked.bytes = first.object.bytes;
    let names: Vec<_> = sections.iter().map(|(of, _)| name(image, *of)).collect();
    let what = format!("object {} of partition {}", first.object.id.key(), names.join(", "));
    let mut problem = |kind, detail| {
        checked.problems.push(Problem { kind, what: what.clone(), detail });
    };
    let reader = Reader::new(store, first.object);
    let footer = match read_ends(&reader).await {
        Ok(footer) => footer,
        Err(error) => {
            problem(kind(&error), error.to_string());
            return checked;
        }
    };
    if footer.head().cluster != cluster {
        problem(ProblemKind::Corrupt, "it was written for another cluster".to_owned());
    }
    for (of, tier) in &sections {
        if let Some(detail) = differs(&footer, *of, tier) {
            problem(ProblemKind::Corrupt, format!("partition {}: {detail}", name(image, *of)));
        }
    }
    let count = footer.sections().last().map_or(0, |section| section.chunks.end);
    let mut next = 0;
    while next < count {
        let end = next.saturating_add(CHUNKS_AT_ONCE).min(count);
        match reader.chunks(&footer, next..end).await {
            Ok(read) => checked.chunks += read.len() as u64,
            Err(error) => {
                checked.problems.push(Problem {
                    kind: kind(&error),
                    what: what.clone(),
                    detail: error.to_string(),
                });
            }
        }
        next = end;
    }
    for section in footer.sections() {
        if let Err(error) = reader.producers(section).await {
            let (kind, detail) = (kind(&error), error.to_string());
            checked.problems.push(Problem { kind, what: what.clone(), detail });
        }
    }
    checked
}

async fn read_ends(reader: &Reader<'_>) -> Result<Footer, ReadError> {
    let footer = reader.footer().await?;
    reader.head(&footer).await?;
    Ok(footer)
}

fn kind(error: &ReadError) -> ProblemKind {
    match error {
        ReadError::Missing { .. } => ProblemKind::Missing,
        ReadError::Corrupt { .. } => ProblemKind::Corrupt,
        ReadError::Bucket(_) => ProblemKind::Unread,
    }
}

/// What a reference says otherwise than the object.
fn differs(footer: &Footer, of: TopicPartition, tier: &TierRef) -> Option<String> {
    let Some(section) = footer.section(of) else {
        return Some("it has no section of the partition".to_owned());
    };
    if (section.start_offset, section.end_offset) != (tier.start_offset, tier.end_offset) {
        return Some(format!(
            "it has offsets {} to {} and the partition refers to {} to {}",
            section.start_offset,
            section.end_offset - 1,
            tier.start_offset,
            tier.end_offset - 1
        ));
    }
    let bytes = footer.section_bytes(section);
    (bytes != tier.bytes)
        .then(|| format!("it has {bytes} bytes and the partition refers to {}", tier.bytes))
}

/// Lists what nobody refers to.
async fn look_for_orphans(
    report: &mut BucketReport,
    store: &Store,
    objects: &BTreeMap<ObjectId, Vec<(TopicPartition, TierRef)>>,
    garbage: &BTreeSet<ObjectId>,
) -> Result<(), CheckError> {
    let mut listing = store.list(PREFIX);
    while let Some(page) = listing.next_page().await? {
        for object in page {
            let name = object.key.to_string();
            let id = ObjectId::parse(&name);
            if id.is_some_and(|id| objects.contains_key(&id) || garbage.contains(&id)) {
                continue;
            }
            report.orphans += 1;
            report.orphan_bytes += object.bytes;
            if report.orphan_names.len() < NAMES_TOLD {
                report.orphan_names.push(name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::TierKind;
    use crate::protocol::types::TopicId;
    use crate::tier::ObjectRef;

    fn part(log_start: i64, sections: &[std::ops::Range<i64>]) -> PartView {
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let section = |offsets: &std::ops::Range<i64>| TierRef {
            object: ObjectRef {
                id: ObjectId { incarnation: [1; 16], sequence: offsets.start as u64 },
                bytes: 100,
                end_bytes: 10,
            },
            start_offset: offsets.start,
            end_offset: offsets.end,
            bytes: 50,
            max_timestamp: 1,
            append_time_ms: 1,
            kind: TierKind::Segment,
        };
        let refs = sections.iter().map(section).collect();
        PartView { of: TopicPartition { topic, partition: 0 }, log_start, log_end: 100, refs }
    }

    #[test]
    fn offsets_that_no_object_has_are_gaps() {
        let gaps = |log_start, sections: &[std::ops::Range<i64>]| {
            let mut report = BucketReport::default();
            look_for_gaps(&mut report, "t-0", &part(log_start, sections));
            report.problems.into_iter().map(|problem| problem.detail).collect::<Vec<_>>()
        };
        assert_eq!(gaps(5, &[]), [""; 0]);
        assert_eq!(gaps(5, &[3..8, 8..20]), [""; 0]);
        let before = gaps(5, &[7..8, 8..9]);
        let told = "offsets 5 to 6 are in no object: the log starts before the first one";
        assert_eq!(before, [told]);
        let between = gaps(0, &[0..8, 9..20]);
        assert_eq!(between.len(), 1);
        assert!(between[0].contains("ends before offset 8"), "{between:?}");
        assert!(between[0].contains("begins at 9"), "{between:?}");
    }
}

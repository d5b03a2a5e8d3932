//! The cleaner: what the bucket has of compacted topics is read and written again without what is
//! obsolete, the partition with the greatest share of dirty bytes first (Kafka's `LogCleaner`).
//!
//! A pass reads the dirty sections for their keys, and then all sections from the log start on.
//! They are replaced in the order of the log, some at a time, each by an object and a `CommitTier`
//! record of its own. So a pass may be cut anywhere: what is replaced is clean, and no tombstone
//! takes the place of what it hides before that is gone. What a reader finds between two
//! replacements is the log before or after, never less.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

pub(in crate::broker) use metrics::CleanerMetrics;

use self::source::{Said, Source};
use super::flush::Section;
use super::merge::READ_BYTES;
use super::{Broker, TierError};
use crate::budget::Pool;
use crate::clock::Instant;
use crate::config::topic::TopicSettings;
use crate::failpoint;
use crate::partition::cleaner::{
    Cleaned, CompactionLimits, Dirt, KeyMap, KeyScan, Pass, Retention, batch_memory,
};
use crate::partition::{CommitTierError, MAX_DECOMPRESSED_BYTES, Partition, TierKind, TierRef};
use crate::protocol::batch::{BatchError, BatchIter};
use crate::protocol::types::TopicPartition;
use crate::task;
use crate::tier::{Origin, SectionEnd, Sizes, Upload, WriteError};

mod metrics;
mod source;
#[cfg(test)]
mod tests;

/// Sections are put into one object up to this size. An object holds the memory for uploads, which
/// the flusher waits for.
const OBJECT_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 64 << 20 };
/// The size of the parts of an upload.
const PART_BYTES: usize = 8 << 20;
/// Payloads up to this size are looked into in any budget.
const PAYLOAD_BYTES_LEAST: usize = 2 << 20;
/// A partition that could not be cleaned is left alone for so long.
const FAILED_PAUSE: Duration = Duration::from_mins(10);

/// What the cleaner remembers between two passes. Nothing of it outlives the process: without it
/// some work is done again.
#[derive(Debug, Default)]
pub(in crate::broker) struct CleanerState {
    /// Where the last pass over a partition ended, if within a section.
    resumed: HashMap<TopicPartition, i64>,
    /// Partitions that could not be cleaned, and until when they are left alone.
    failed: HashMap<TopicPartition, Instant>,
}

/// A partition that is to be cleaned.
#[derive(Debug)]
struct Job {
    partition: Arc<Partition>,
    topic: Arc<str>,
    delete_retention_ms: i64,
    dirt: Dirt,
}

/// A part of the log that was written again.
struct Rewritten {
    pass: Pass,
    /// How many sections it stands for.
    sections: usize,
    /// When its youngest batch was appended, on the log clock.
    append_time_ms: i64,
}

impl Broker {
    /// Starts the task; it ends with the drain.
    pub(in crate::broker) fn start_cleaner(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        task::spawn("cleaner", async move { broker.watch_dirt().await });
    }

    async fn watch_dirt(&self) {
        let mut state = CleanerState::default();
        while self.tick(self.config.topics.cleaner_backoff).await {
            tokio::select! {
                () = self.clean_all(&mut state) => {}
                // The object that is being made is left for the sweep.
                () = self.shutdown.draining() => return,
            }
        }
    }

    /// Cleans until no partition is to be cleaned.
    pub(in crate::broker) async fn clean_all(&self, state: &mut CleanerState) {
        while let Some(job) = self.filthiest(state) {
            let (of, started) = (job.partition.id(), self.clock.now());
            let outcome = self.clean(&job, state).await;
            let seconds = self.clock.now().saturating_duration_since(started).as_secs_f64();
            self.tiering.cleaner.ended(outcome.as_ref().ok(), seconds);
            match outcome {
                Ok(cleaned) => info!(
                    topic = &*job.topic,
                    partition = of.partition,
                    from = job.dirt.first_dirty,
                    bytes_in = cleaned.bytes_in,
                    bytes_out = cleaned.bytes_out,
                    unreadable = cleaned.unreadable,
                    "partition compacted"
                ),
                Err(error) => {
                    let retry_s = FAILED_PAUSE.as_secs();
                    warn!(topic = &*job.topic, partition = of.partition, %error, retry_s,
                        "partition not compacted");
                    state.failed.insert(of, self.clock.now() + FAILED_PAUSE);
                }
            }
        }
    }

    /// The partition that is to be cleaned next.
    fn filthiest(&self, state: &mut CleanerState) -> Option<Job> {
        let (image, now) = (self.image(), self.clock.now());
        let now_ms = self.stream.log_clock().now_ms();
        state.failed.retain(|of, until| *until > now && self.partitions.get(*of).is_some());
        state.resumed.retain(|of, _| self.partitions.get(*of).is_some());
        let (mut due, mut dirty_bytes) = (Vec::new(), 0);
        for topic in image.topics() {
            let settings = self.topic_settings(&image, topic);
            if !settings.compact {
                continue;
            }
            let limits = limits(&settings);
            for partition in self.partitions.of_topic(topic.id) {
                let of = partition.id();
                let stable = partition.offsets().last_stable;
                let resumed = state.resumed.get(&of).copied();
                let refs = partition.tier_refs();
                let Some(dirt) = Dirt::of(&refs, resumed, stable, now_ms, limits) else { continue };
                dirty_bytes += dirt.dirty_bytes;
                if dirt.is_due(limits) && !state.failed.contains_key(&of) {
                    let delete_retention_ms = settings.delete_retention_ms;
                    let topic = Arc::clone(&topic.name);
                    due.push((Job { partition, topic, delete_retention_ms, dirt }, dirt));
                }
            }
        }
        self.tiering.cleaner.found(dirty_bytes, due.len(), state.failed.len());
        Dirt::filthiest(due).map(|(job, _)| job)
    }

    /// One pass over a partition.
    async fn clean(&self, job: &Job, state: &mut CleanerState) -> Result<Cleaned, TierError> {
        failpoint::pass("compaction: begun");
        let (partition, dirt) = (&job.partition, job.dirt);
        let of = partition.id();
        let mut refs = partition.tier_refs();
        refs.retain(|tier| tier.end_offset <= dirt.first_uncleanable);
        let keys = dirt.first_uncleanable.saturating_sub(dirt.first_dirty);
        let wanted = usize::try_from(KeyMap::bytes_for(keys.unsigned_abs())).unwrap_or(usize::MAX);
        let memory = self.budget.pool(Pool::Cleaner).take_up_to(wanted).await;
        let map = KeyMap::new(memory.bytes(), &self.bucket.random);
        let scan = KeyScan::new(map, dirt.first_dirty, dirt.first_uncleanable, self.payload_max());
        let scan = self.scan(scan, partition, &refs).await?;
        let mut pass = scan.finish(Retention {
            now_ms: self.stream.log_clock().now_ms(),
            delete_retention_ms: job.delete_retention_ms,
            producers: partition.last_records(),
        });
        self.tiering.cleaner.keys(pass.keys());
        let mut rest = &refs[..];
        while rest.first().is_some_and(|next| next.start_offset < pass.end()) {
            let rewritten = self.rewrite(pass, partition, rest).await?;
            pass = rewritten.pass;
            rest = rest.get(rewritten.sections..).unwrap_or_default();
        }
        // Nothing else says how far a section is clean that the map had no room for.
        let in_section =
            refs.iter().any(|tier| tier.start_offset < pass.end() && pass.end() < tier.end_offset);
        if in_section {
            state.resumed.insert(of, pass.end());
        } else {
            state.resumed.remove(&of);
        }
        Ok(pass.cleaned())
    }

    /// Reads the keys of what is dirty. The pass ends where a section does, if it can.
    async fn scan(
        &self,
        mut scan: KeyScan,
        partition: &Arc<Partition>,
        refs: &[TierRef],
    ) -> Result<KeyScan, TierError> {
        let (of, first_dirty) = (partition.id(), scan.seen());
        for tier in refs.iter().filter(|tier| tier.end_offset > first_dirty) {
            let source = Source::open(&self.tiering.store, of, *tier).await?;
            for run in source.runs() {
                let pool = self.budget.pool(Pool::Unpack);
                let _looking = pool.take_up_to(self.looking_bytes()).await;
                let (chunks, _more) = source.read(run, pool).await?;
                let goes_on;
                (scan, goes_on) = blocking(move || {
                    let goes_on = push_all(&mut scan, chunks);
                    (scan, goes_on)
                })
                .await?;
                if goes_on.map_err(|source| WriteError::Batch { of, source })? {
                    continue;
                }
                if tier.start_offset > first_dirty {
                    scan.end_at(tier.start_offset);
                }
                return Ok(scan);
            }
        }
        Ok(scan)
    }

    /// Writes the first of these sections again, and as many more as fit into one object, and lets
    /// the partition refer to that. An object is never empty: that is what the last batch of a pass
    /// is kept for.
    async fn rewrite(
        &self,
        pass: Pass,
        partition: &Arc<Partition>,
        refs: &[TierRef],
    ) -> Result<Rewritten, TierError> {
        let (before, end) = (pass.cleaned(), pass.end());
        // The memory to look into batches comes before that for uploads, which others wait for with
        // less in their hands (the budget's order of pools).
        let _looking = self.budget.pool(Pool::Unpack).take_up_to(self.looking_bytes()).await;
        let _sending = self.tiering.pool.take_up_to(2 * PART_BYTES).await;
        let name = self.object_ids.begin();
        let head = self.head(name.id(), Origin::Compacted);
        let sizes = Sizes { part: PART_BYTES, ..self.tiering.sizes() };
        let mut upload = Upload::new(&self.tiering.store, head, sizes);
        let rewritten = match self.rewrite_sections(&mut upload, pass, partition, refs).await {
            Ok(rewritten) => rewritten,
            Err(error) => {
                upload.give_up().await;
                return Err(error);
            }
        };
        let replaced = refs.get(..rewritten.sections).unwrap_or_default();
        let is_clean = replaced.last().is_some_and(|last| last.end_offset <= end);
        if let [TierRef { kind: TierKind::Compacted, .. }] = replaced
            && rewritten.pass.cleaned().changed == before.changed
        {
            upload.give_up().await;
            return Ok(rewritten);
        }
        let uploaded = self.finish(upload).await?;
        let section = Section {
            partition: Arc::clone(partition),
            removed: replaced.iter().map(TierRef::id).collect(),
            append_time_ms: rewritten.append_time_ms,
        };
        let kind = if is_clean { TierKind::Compacted } else { TierKind::Segment };
        let planned_ms = self.stream.log_clock().now_ms();
        self.commit(&name, &uploaded, vec![section], planned_ms, kind).await?;
        if !partition.tier_refs().iter().any(|tier| tier.object.id == name.id()) {
            // The log start has passed it by, or somebody else replaced a part of it.
            return Err(CommitTierError::Stale.into());
        }
        Ok(rewritten)
    }

    async fn rewrite_sections(
        &self,
        upload: &mut Upload<'_>,
        mut pass: Pass,
        partition: &Arc<Partition>,
        refs: &[TierRef],
    ) -> Result<Rewritten, TierError> {
        let (of, start) = (partition.id(), refs.first().map_or(0, |first| first.start_offset));
        upload.begin(of, start)?;
        let (mut sections, mut bytes, mut is_empty) = (0, 0, true);
        let mut said = Said::default();
        for tier in refs {
            let fits = bytes + tier.bytes <= OBJECT_BYTES && tier.end_offset <= pass.end();
            if sections > 0 && !is_empty && !fits {
                break;
            }
            let source = Source::open(&self.tiering.store, of, *tier).await?;
            for run in source.runs() {
                let (chunks, _more) = source.read(run, self.budget.pool(Pool::Unpack)).await?;
                let kept;
                (pass, kept) = blocking(move || {
                    let kept = clean_all(&mut pass, chunks);
                    (pass, kept)
                })
                .await?;
                for batch in kept.map_err(|source| WriteError::Batch { of, source })? {
                    upload.push(&batch).await?;
                    is_empty = false;
                }
            }
            said.note(&source, tier).await?;
            (sections, bytes) = (sections + 1, bytes + tier.bytes);
        }
        upload.end(&SectionEnd {
            end_offset: said.end_offset,
            aborted: &said.aborted,
            epochs: &said.epochs,
            producers: &said.producers,
        })?;
        Ok(Rewritten { pass, sections, append_time_ms: said.append_time_ms })
    }

    /// The largest payload that is looked into. Batches that clients send by default are below it
    /// in the smallest budget, too.
    fn payload_max(&self) -> usize {
        let part = self.budget.pool(Pool::Unpack).capacity() / 2 / batch_memory(1);
        part.clamp(PAYLOAD_BYTES_LEAST, MAX_DECOMPRESSED_BYTES)
    }

    /// The memory to read a part of an object and to look into its batches.
    fn looking_bytes(&self) -> usize {
        2 * READ_BYTES as usize + batch_memory(self.payload_max())
    }
}

fn limits(settings: &TopicSettings) -> CompactionLimits {
    CompactionLimits {
        min_dirty_ratio: settings.min_dirty_ratio,
        min_lag_ms: settings.min_compaction_lag_ms,
        max_lag_ms: settings.max_compaction_lag_ms,
    }
}

/// Pushes the batches of chunks; false when the scan needs no more.
fn push_all(scan: &mut KeyScan, chunks: Vec<Bytes>) -> Result<bool, BatchError> {
    for batch in chunks.into_iter().flat_map(BatchIter::new) {
        if !scan.push(&batch?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn clean_all(pass: &mut Pass, chunks: Vec<Bytes>) -> Result<Vec<Bytes>, BatchError> {
    let mut kept = Vec::new();
    for chunk in chunks {
        for batch in pass.batches(chunk) {
            kept.push(batch?);
        }
    }
    Ok(kept)
}

/// Does work that takes the processor for long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TierError> {
    task::blocking(work).await.map_err(|error| TierError::Panicked(error.to_string()))
}

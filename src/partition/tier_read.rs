//! Reading what the bucket has of a partition's log.
//!
//! How many bytes a section's batches have is known when they are here, so that a plan that reaches
//! below what is on this machine is made when a chunk has come. What the plan then has are slices
//! of the cache's memory.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::LogError;
use super::lookup::{Bounds, first_since, greatest_of};
use super::read::{LaterRead, OffsetOutOfRange, Plan, ReadError, ReadPiece, ReadPlan, ReadRequest};
use super::tiered::TierRef;
use super::{FoundOffset, LookupError, Offsets, Partition, Room};
use crate::protocol::batch::{Batch, BatchHeader};
use crate::tier::{self, Age, Cache};

/// A section is read as young data while its youngest batch was appended less than this ago, in
/// milliseconds on the log clock: about what tail readers that were away for a restart come for.
const YOUNG_MS: i64 = 30 * 60 * 1_000;

/// No more is taken into one plan: what a connection holds of an answer (DESIGN §3).
const PLAN_BYTES: usize = 1024 * 1024;

/// A plan that needs something of the bucket.
#[derive(Debug)]
pub struct TierRead {
    pub(super) partition: Arc<Partition>,
    pub(super) request: ReadRequest,
    pub(super) offsets: Offsets,
    /// What the plan's mark will be.
    pub(super) mark: u64,
    /// The first offset that must not be in the plan.
    pub(super) until: i64,
    pub(super) section: TierRef,
}

/// What reading the bucket has come to.
#[derive(Debug)]
pub enum TierStep {
    /// The plan is whole.
    Done(ReadPlan),
    /// There was nothing, and the log goes on elsewhere.
    Next(Plan),
}

/// Whose memory it takes to read a section.
fn age(partition: &Partition, section: &TierRef) -> Age {
    let now_ms = partition.shared().stream.log_clock().now_ms();
    if now_ms.saturating_sub(section.append_time_ms) < YOUNG_MS { Age::Hot } else { Age::CatchUp }
}

impl TierRead {
    /// Reads, waiting for the bucket. Cancelling it cancels no load: what comes later is in the
    /// cache for the next read.
    pub async fn run(self, cache: &Cache) -> Result<TierStep, ReadError> {
        let mut plan = self.empty();
        let mut next = self.request.offset;
        while next < self.section.end_offset.min(self.until) {
            let found = match cache.read(&self.section.object, self.of(), next, self.age()).await {
                Ok(Some(found)) => found,
                Ok(None) => return Err(self.failed(next, &gone(&self.section))),
                Err(error @ tier::ReadError::Missing { .. }) => return self.again(&error, plan),
                Err(error) if plan.bytes == 0 => return Err(self.failed(next, &error)),
                Err(_) => break,
            };
            let whole = self.take(&found.batches, &mut plan);
            next = found.next_offset;
            if !whole || plan.bytes >= self.request.max_bytes.min(PLAN_BYTES) {
                return Ok(TierStep::Done(plan));
            }
        }
        if plan.bytes > 0 || next >= self.until {
            return Ok(TierStep::Done(plan));
        }
        self.go_on(next)
    }

    /// Reads what the cache has, without waiting; a load of what it has not is begun. `None` if it
    /// has nothing.
    pub fn at_hand(self, cache: &Cache) -> Option<ReadPlan> {
        let found = cache.at_hand(&self.section.object, self.of(), self.request.offset, self.age());
        let mut plan = self.empty();
        self.take(&found?.batches, &mut plan);
        Some(plan)
    }

    /// A plan of nothing, for a read that cannot be waited for.
    pub fn empty(&self) -> ReadPlan {
        ReadPlan { offsets: self.offsets, mark: self.mark, pieces: Vec::new(), bytes: 0 }
    }

    fn of(&self) -> crate::protocol::types::TopicPartition {
        self.partition.id()
    }

    fn age(&self) -> Age {
        age(&self.partition, &self.section)
    }

    fn failed(&self, offset: i64, source: &tier::ReadError) -> ReadError {
        LogError::Tier { of: self.of(), offset, source: source.clone() }.into()
    }

    /// The object is gone: the section may have been put into another one since, or the log start
    /// has passed it by. If it was not, it is lost.
    fn again(&self, error: &tier::ReadError, plan: ReadPlan) -> Result<TierStep, ReadError> {
        if plan.bytes > 0 {
            return Ok(TierStep::Done(plan));
        }
        match self.partition.read(&self.request)? {
            Plan::Tiered(next) if next.section.object.id == self.section.object.id => {
                Err(self.failed(self.request.offset, error))
            }
            next => Ok(TierStep::Next(next)),
        }
    }

    fn go_on(&self, offset: i64) -> Result<TierStep, ReadError> {
        let request = ReadRequest { offset, ..self.request };
        let asked =
            |error: OffsetOutOfRange| OffsetOutOfRange { offset: self.request.offset, ..error };
        Ok(TierStep::Next(self.partition.read(&request).map_err(asked)?))
    }

    /// Adds whole batches; false when one does not fit any more.
    fn take(&self, batches: &Bytes, plan: &mut ReadPlan) -> bool {
        let mut end = 0;
        let mut whole = true;
        while let Some(Ok(header)) = batches.get(end..).map(BatchHeader::parse) {
            let bytes = header.size();
            let fits = plan.bytes + end + bytes <= self.request.max_bytes;
            let first = plan.bytes + end == 0 && self.request.at_least_one;
            if header.base_offset >= self.until || !(fits || first) {
                whole = false;
                break;
            }
            end += bytes;
        }
        let end = end.min(batches.len());
        if end > 0 {
            plan.bytes += end;
            plan.pieces.push(ReadPiece::Ready(batches.slice(..end)));
            self.partition.shared().metrics.tiered_bytes.inc_by(end as u64);
        }
        whole
    }
}

/// The object does not have the section that the partition refers to.
fn gone(section: &TierRef) -> tier::ReadError {
    tier::ReadError::Missing { key: section.object.id.key() }
}

/// A look-up by time that begins in the bucket.
#[derive(Debug)]
pub struct TieredSince {
    partition: Arc<Partition>,
    sections: Vec<TierRef>,
    /// The records that may be found.
    bounds: Bounds,
    timestamp: i64,
}

impl Partition {
    /// The part of a look-up by time (`Partition::offset_for_timestamp`) that only the bucket can
    /// answer: `None` if no section there that is not on this machine has so late a record.
    pub fn tiered_since(self: &Arc<Self>, timestamp: i64) -> Option<TieredSince> {
        let state = self.lock_advanced();
        let local_start = state.local_start();
        let refs = state.tier().refs().filter(|tier| tier.start_offset < local_start);
        let sections: Vec<_> =
            refs.filter(|tier| tier.max_timestamp >= timestamp).copied().collect();
        let until = local_start.min(state.high_watermark());
        let bounds = Bounds { from: state.log_start(), until };
        drop(state);
        let partition = Arc::clone(self);
        (!sections.is_empty()).then_some(TieredSince { partition, sections, bounds, timestamp })
    }

    /// The greatest timestamp of the sections that only the bucket has.
    pub fn tiered_max_timestamp(&self) -> Option<i64> {
        let state = self.lock_advanced();
        let local_start = state.local_start();
        let refs = state.tier().refs().filter(|tier| tier.start_offset < local_start);
        refs.map(|tier| tier.max_timestamp).max().filter(|greatest| *greatest >= 0)
    }

    /// Reads the log at `offset` for somebody on this machine, without bounds; `None` where the log
    /// is in memory or in the WAL.
    pub fn tiered_at(self: &Arc<Self>, offset: i64) -> Option<TierRef> {
        let state = self.lock_advanced();
        if offset >= state.local_start() {
            return None;
        }
        state.tier().at(offset).copied()
    }
}

impl LaterRead {
    /// The batches from the bucket, where they have moved to since they were planned: the same
    /// bytes, unless compaction has gone over them.
    pub async fn read_moved(&self, cache: &Cache) -> Result<Vec<Bytes>, LogError> {
        let (partition, (from, to)) = (self.partition(), self.offsets());
        let of = partition.id();
        let (mut batches, mut read, mut next) = (Vec::new(), 0, from);
        while next < to {
            let Some(section) = partition.lock_advanced().tier().at(next).copied() else { break };
            let age = age(partition, &section);
            let found = cache.read(&section.object, of, next, age).await;
            let failed = |source| LogError::Tier { of, offset: next, source };
            let found = found.and_then(|found| found.ok_or_else(|| gone(&section)));
            let found = found.map_err(failed)?;
            let end = end_before(&found.batches, to);
            read += end;
            batches.push(found.batches.slice(..end));
            next = found.next_offset;
        }
        if read != self.len() {
            return Err(LogError::Missing { of, offset: from, expected: self.len(), read });
        }
        partition.shared().metrics.tiered_bytes.inc_by(read as u64);
        Ok(batches)
    }
}

/// Where the first batch begins that has no offset below `to`.
fn end_before(batches: &Bytes, to: i64) -> usize {
    let mut end = 0;
    while let Some(Ok(header)) = batches.get(end..).map(BatchHeader::parse)
        && header.base_offset < to
    {
        end = (end + header.size()).min(batches.len());
    }
    end
}

impl TieredSince {
    /// Finds the first record, by offset, whose timestamp is late enough. `None` if there is none
    /// in the bucket after all.
    pub async fn find(
        &self,
        cache: &Cache,
        room: Room,
    ) -> Result<Option<FoundOffset>, LookupError> {
        for section in &self.sections {
            if let Some(found) = self.within(section, cache, room).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn within(
        &self,
        section: &TierRef,
        cache: &Cache,
        room: Room,
    ) -> Result<Option<FoundOffset>, LookupError> {
        let (of, object) = (self.partition.id(), &section.object);
        let age = age(&self.partition, section);
        let failed = |offset, source| LogError::Tier { of, offset, source };
        let mut found = cache
            .since(object, of, self.timestamp, age)
            .await
            .map_err(|source| failed(section.start_offset, source))?;
        // The first chunk may have only records below the log start.
        while let Some(chunk) = found {
            let (batches, next, timestamp, bounds) =
                (chunk.batches, chunk.next_offset, self.timestamp, self.bounds);
            let search = move || search(batches, timestamp, bounds, room);
            let searched = crate::task::blocking(search).await;
            let panicked = |_| LogError::Missing { of, offset: next, expected: 1, read: 0 };
            if let Some(found) = searched.map_err(panicked)?? {
                return Ok(Some(found));
            }
            if next >= section.end_offset.min(self.bounds.until) {
                break;
            }
            found =
                cache.read(object, of, next, age).await.map_err(|source| failed(next, source))?;
        }
        Ok(None)
    }
}

fn search(
    mut batches: Bytes,
    timestamp: i64,
    bounds: Bounds,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    while let Ok(header) = BatchHeader::parse(&batches) {
        let bytes = batches.split_to(header.size().min(batches.len()));
        let Ok(batch) = Batch::parse_one(bytes) else { continue };
        if greatest_of(&batch, bounds, room)? >= timestamp
            && let Some(found) = first_since(&batch, timestamp, bounds, room)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

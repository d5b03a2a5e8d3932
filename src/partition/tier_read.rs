//! Reading what the bucket has of a partition's log.
//!
//! How many bytes a section's batches have is known when they are here, so that a plan that reaches
//! below what is on this machine is made when a chunk has come. What the plan then has are slices
//! of the cache's memory.
//!
//! **Invariant:** whoever waits for the cache holds none of its memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::disk::LogError;
use super::read::{LaterRead, OffsetOutOfRange, Plan, ReadError, ReadPiece, ReadPlan, ReadRequest};
use super::tiered::TierRef;
use super::{Offsets, Partition};
use crate::protocol::batch::BatchHeader;
use crate::protocol::types::TopicPartition;
use crate::task;
use crate::tier::{self, Age, Cache, Found};

/// A section is read as young data while its youngest batch was appended less than this ago, in
/// milliseconds on the log clock: about what tail readers that were away for a restart come for.
const YOUNG_MS: i64 = 30 * 60 * 1_000;

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
pub(super) fn age(partition: &Partition, section: &TierRef) -> Age {
    let now_ms = partition.shared().stream.log_clock().now_ms();
    if now_ms.saturating_sub(section.append_time_ms) < YOUNG_MS { Age::Hot } else { Age::CatchUp }
}

impl TierRead {
    /// Reads, waiting for the first chunk; what follows is taken if it is at hand. Cancelling it
    /// cancels no load: what comes later is in the cache for the next read.
    pub async fn run(self, cache: &Cache) -> Result<TierStep, ReadError> {
        let mut next = self.request.offset;
        while next < self.section.end_offset.min(self.until) {
            let found = match cache.read(&self.section.object, self.of(), next, self.age()).await {
                Ok(Some(found)) => found,
                Ok(None) => return Err(self.failed(next, &gone(&self.section))),
                Err(error @ tier::ReadError::Missing { .. }) => return self.again(&error),
                Err(error) => return Err(self.failed(next, &error)),
            };
            self.check_start()?;
            let plan = self.fill(cache, &found);
            if plan.bytes > 0 || !found.batches.is_empty() {
                return Ok(TierStep::Done(plan));
            }
            // Compaction left nothing there.
            next = found.next_offset;
        }
        if next >= self.until {
            return Ok(TierStep::Done(self.empty()));
        }
        self.go_on(next)
    }

    /// Reads what the cache has, without waiting. `None` if it has nothing there.
    pub fn at_hand(&self, cache: &Cache) -> Option<ReadPlan> {
        let (object, offset) = (&self.section.object, self.request.offset);
        let found = cache.at_hand(object, self.of(), offset, self.age())?;
        Some(self.fill(cache, &found))
    }

    /// Begins the load of what [`TierRead::at_hand`] did not find, for a read that comes later;
    /// nothing if much else is being loaded. What is returned ends with the load.
    pub fn begin(&self, cache: &Cache) -> Option<JoinHandle<()>> {
        cache.begin(&self.section.object, self.of(), self.request.offset, self.age())
    }

    /// A plan of nothing, for a read that cannot be waited for.
    pub fn empty(&self) -> ReadPlan {
        ReadPlan { offsets: self.offsets, mark: self.mark, pieces: Vec::new(), bytes: 0 }
    }

    fn of(&self) -> TopicPartition {
        self.partition.id()
    }

    fn age(&self) -> Age {
        age(&self.partition, &self.section)
    }

    fn failed(&self, offset: i64, source: &tier::ReadError) -> ReadError {
        LogError::Tier { of: self.of(), offset, source: source.clone() }.into()
    }

    /// Whether the log start has passed the read by while it waited.
    fn check_start(&self) -> Result<(), ReadError> {
        let (offset, log_start) = (self.request.offset, self.partition.lock_advanced().log_start());
        if offset >= log_start {
            return Ok(());
        }
        Err(OffsetOutOfRange { offset, offsets: Offsets { log_start, ..self.offsets } }.into())
    }

    /// The object is gone: the section may have been put into another one since, or the log start
    /// has passed it by. If it was not, it is lost.
    fn again(&self, error: &tier::ReadError) -> Result<TierStep, ReadError> {
        match self.partition.read(&self.request)? {
            Plan::Tiered(next) if next.section.object.id == self.section.object.id => {
                Err(self.failed(self.request.offset, error))
            }
            next => Ok(TierStep::Next(next)),
        }
    }

    fn go_on(&self, offset: i64) -> Result<TierStep, ReadError> {
        let request = ReadRequest { offset, ..self.request };
        match self.partition.read(&request) {
            Ok(plan) => Ok(TierStep::Next(plan)),
            Err(ReadError::OutOfRange(error)) => {
                Err(OffsetOutOfRange { offset: self.request.offset, ..error }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// A plan of the first chunk, and of what follows as far as it is at hand.
    fn fill(&self, cache: &Cache, first: &Found) -> ReadPlan {
        let (mut plan, mut section) = (self.empty(), self.section);
        let (mut whole, mut next) = (self.take(&first.batches, &mut plan), first.next_offset);
        while whole && plan.bytes < self.most() && next < self.until {
            if next >= section.end_offset {
                let state = self.partition.lock_advanced();
                let behind = state.tier().at(next).filter(|_| next < state.local_start()).copied();
                drop(state);
                let Some(behind) = behind else { break };
                section = behind;
            }
            let age = age(&self.partition, &section);
            let Some(found) = cache.at_hand(&section.object, self.of(), next, age) else { break };
            whole = self.take(&found.batches, &mut plan);
            next = found.next_offset;
        }
        cache.read_on(self.of(), section.end_offset, || {
            let behind = self.partition.tiered_at(section.end_offset)?;
            Some((behind.object, age(&self.partition, &behind)))
        });
        plan
    }

    /// How many bytes a plan has at most, unless its first batch alone is larger.
    fn most(&self) -> usize {
        self.request.max_bytes.min(self.request.at_hand_bytes)
    }

    /// Adds whole batches; false when one does not fit any more.
    fn take(&self, batches: &Bytes, plan: &mut ReadPlan) -> bool {
        let mut end = 0;
        let mut whole = true;
        while let Some(Ok(header)) = batches.get(end..).map(BatchHeader::parse) {
            let bytes = header.size();
            let fits = plan.bytes + end + bytes <= self.most();
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

impl Partition {
    /// The section that holds `offset`; `None` where the log is in the WAL.
    pub fn tiered_at(&self, offset: i64) -> Option<TierRef> {
        let state = self.lock_advanced();
        if offset >= state.indexed_start() {
            return None;
        }
        state.tier().at(offset).copied()
    }
}

impl LaterRead {
    /// Waits until the cache has the first of the batches, which have moved to the bucket since
    /// they were planned. To be called without memory to copy them to.
    pub async fn bring_moved(&self, cache: &Cache) -> Result<(), LogError> {
        let (next, _) = self.offsets();
        if let Some(section) = self.partition().tiered_at(next) {
            drop(self.read_chunk(cache, &section, next).await?);
        }
        Ok(())
    }

    /// The batches from where they have moved to since they were planned: the same bytes, unless
    /// compaction has gone over them. They are copied, because a part of them holds the memory of a
    /// whole chunk while the next one is waited for.
    pub async fn read_moved(&self, cache: &Cache) -> Result<Bytes, LogError> {
        let (from, to) = self.offsets();
        let mut next = from;
        let mut batches = BytesMut::with_capacity(self.len());
        while next < to {
            let Some(section) = self.partition().tiered_at(next) else { break };
            let found = self.read_chunk(cache, &section, next).await?;
            let end = end_before(&found.batches, to);
            batches.extend_from_slice(found.batches.get(..end).unwrap_or_default());
            next = found.next_offset;
        }
        let tiered = batches.len();
        if next < to {
            for batch in self.read_from(next).await? {
                batches.extend_from_slice(&batch);
            }
        }
        let read = batches.len();
        if read != self.len() {
            let of = self.partition().id();
            return Err(LogError::Missing { of, offset: from, expected: self.len(), read });
        }
        self.partition().shared().metrics.tiered_bytes.inc_by(tiered as u64);
        Ok(batches.freeze())
    }

    async fn read_chunk(
        &self,
        cache: &Cache,
        section: &TierRef,
        offset: i64,
    ) -> Result<Found, LogError> {
        let (partition, of) = (self.partition(), self.partition().id());
        let found = cache.read(&section.object, of, offset, age(partition, section)).await;
        let found = found.and_then(|found| found.ok_or_else(|| gone(section)));
        found.map_err(|source| LogError::Tier { of, offset, source })
    }

    /// What is still on this machine, from an offset on.
    async fn read_from(&self, offset: i64) -> Result<Vec<Bytes>, LogError> {
        let (partition, (_, to)) = (Arc::clone(self.partition()), self.offsets());
        let of = partition.id();
        let read = task::blocking(move || partition.read_local(offset, to)).await;
        let missing = LogError::Missing { of, offset, expected: self.len(), read: 0 };
        read.unwrap_or(Err(missing))
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

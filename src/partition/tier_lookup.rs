//! Finding offsets by time (`ListOffsets`) in a log that may begin in the bucket.
//!
//! What only the bucket has is looked up by the footers of its sections, so that one chunk is read,
//! or two where the log starts inside the first of them. Whoever decompresses holds memory for it
//! and never waits for the bucket meanwhile: a look-up says that it needs a chunk, is given it, and
//! goes on.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::LogError;
use super::lookup::{Bounds, first_since, greater};
use super::tier_read::age;
use super::tiered::TierRef;
use super::{FoundOffset, LookupError, Partition, Room};
use crate::protocol::batch::{Batch, BatchIter};
use crate::tier::{self, Cache, Found};

/// What a look-up by time asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuery {
    /// The first record whose timestamp is at least this, in milliseconds.
    Since(i64),
    /// The record with the greatest timestamp, the first of several (KIP-734).
    Greatest,
}

/// What a look-up has come to.
#[derive(Debug)]
pub enum Look {
    /// The record, or that there is none.
    Found(Option<FoundOffset>),
    /// [`Lookup::bring`] has to be called before it goes on.
    NeedsBucket,
}

/// A look-up by time.
#[derive(Debug)]
pub struct Lookup {
    partition: Arc<Partition>,
    query: TimeQuery,
    /// The sections that may have the answer, best first, each with the offset to begin at.
    places: VecDeque<(TierRef, i64)>,
    /// The records that may be found in the bucket.
    bounds: Bounds,
    /// Where the log on this machine began.
    local_from: i64,
    /// What was brought for the first place.
    chunk: Option<Brought>,
    /// Whether this machine was asked for the greatest timestamp.
    is_local_done: bool,
    best: Option<FoundOffset>,
}

/// The chunk that was brought; nothing if the section has no such record.
#[derive(Debug)]
struct Brought(Option<Found>);

impl Partition {
    /// Plans a look-up by time.
    pub fn look_up(self: &Arc<Self>, query: TimeQuery) -> Lookup {
        let state = self.lock_advanced();
        let (local_from, log_start) = (state.searched_start(), state.log_start());
        let least = match query {
            TimeQuery::Since(timestamp) => timestamp,
            TimeQuery::Greatest => 0,
        };
        let refs = state.tier().refs().filter(|tier| tier.start_offset < local_from);
        let late = refs.filter(|tier| tier.max_timestamp >= least);
        let mut places: Vec<_> =
            late.map(|tier| (*tier, tier.start_offset.max(log_start))).collect();
        if query == TimeQuery::Greatest {
            places.sort_by_key(|(tier, from)| (Reverse(tier.max_timestamp), *from));
        }
        let bounds = Bounds { from: log_start, until: state.high_watermark() };
        drop(state);
        Lookup {
            partition: Arc::clone(self),
            query,
            places: places.into(),
            bounds,
            local_from,
            chunk: None,
            is_local_done: false,
            best: None,
        }
    }

    fn refers_to(&self, section: &TierRef) -> bool {
        self.lock_advanced().tier().refs().any(|tier| tier.id() == section.id())
    }
}

impl Lookup {
    /// Whether the next thing it needs is in the bucket.
    pub fn needs_bucket(&self) -> bool {
        let is_next = matches!(self.query, TimeQuery::Since(_)) || self.is_local_done;
        is_next && self.chunk.is_none() && !self.places.is_empty()
    }

    /// Goes on with what is at hand. After an error it can be asked again, with other room.
    ///
    /// Blocks, and decompresses: for `task::blocking`.
    pub fn find(&mut self, room: Room) -> Result<Look, LookupError> {
        match self.query {
            TimeQuery::Since(timestamp) => self.find_since(timestamp, room),
            TimeQuery::Greatest => self.find_greatest(room),
        }
    }

    fn find_since(&mut self, timestamp: i64, room: Room) -> Result<Look, LookupError> {
        while !self.places.is_empty() {
            let Some(chunk) = &self.chunk else { return Ok(Look::NeedsBucket) };
            for batch in batches(chunk) {
                if batch.header().max_timestamp >= timestamp
                    && let Some(found) = first_since(&batch, timestamp, self.bounds, room)?
                {
                    return Ok(Look::Found(Some(found)));
                }
            }
            self.go_on();
        }
        self.partition.local_since(timestamp, self.local_from, room).map(Look::Found)
    }

    fn find_greatest(&mut self, room: Room) -> Result<Look, LookupError> {
        if !self.is_local_done {
            self.best = self.partition.local_greatest(self.local_from, room)?;
            self.is_local_done = true;
        }
        while let Some((section, from)) = self.places.front() {
            let most = (section.max_timestamp, Reverse(*from));
            if self.best.is_some_and(|best| (best.timestamp, Reverse(best.offset)) >= most) {
                break;
            }
            let Some(chunk) = &self.chunk else { return Ok(Look::NeedsBucket) };
            let mut best = self.best;
            let mut first = None;
            for batch in batches(chunk) {
                first.get_or_insert(batch.header().base_offset);
                best = greater(best, &batch, self.bounds, room)?;
            }
            self.best = best;
            // Only a chunk inside of which the log starts can hold less than its footer says.
            if first.is_some_and(|first| first < self.bounds.from) {
                self.go_on();
            } else {
                self.chunk = None;
                self.places.pop_front();
            }
        }
        Ok(Look::Found(self.best))
    }

    /// To what lies behind the chunk in its section, or to the next section.
    fn go_on(&mut self) {
        let next = self.chunk.take().and_then(|brought| brought.0).map(|found| found.next_offset);
        match (self.places.front_mut(), next) {
            (Some((section, from)), Some(next)) if next < section.end_offset => *from = next,
            _ => drop(self.places.pop_front()),
        }
    }

    /// Brings the chunk that [`Lookup::find`] needs. To be called without memory to decompress in.
    pub async fn bring(&mut self, cache: &Cache) -> Result<(), LookupError> {
        let Some((section, from)) = self.places.front().copied() else { return Ok(()) };
        let (of, object, age) =
            (self.partition.id(), &section.object, age(&self.partition, &section));
        let found = match self.query {
            TimeQuery::Since(timestamp) => cache.since(object, of, timestamp, from, age).await,
            TimeQuery::Greatest => cache.greatest(object, of, from, age).await,
        };
        match found {
            Ok(found) => {
                self.chunk = Some(Brought(found));
                Ok(())
            }
            Err(tier::ReadError::Missing { .. }) if !self.partition.refers_to(&section) => {
                Err(LookupError::Moved)
            }
            Err(source) => Err(LogError::Tier { of, offset: from, source }.into()),
        }
    }
}

fn batches(chunk: &Brought) -> impl Iterator<Item = Batch> + use<> {
    let bytes = chunk.0.as_ref().map(|found| found.batches.clone()).unwrap_or_default();
    BatchIter::new(bytes).map_while(Result::ok)
}

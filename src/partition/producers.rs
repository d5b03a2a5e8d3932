//! What a partition knows of its idempotent producers: the epoch and the last five batches of each
//! (Kafka's `ProducerStateManager`, `ProducerStateEntry` and `ProducerAppendInfo`).
//!
//! Sequences count records, start at 0 in every epoch and wrap from 2^31-1 to 0.
//!
//! What all partitions remember together is charged to [`Pool::Producers`](crate::budget::Pool).
//! Who is forgotten for want of room goes on as after expiry: with any sequence, in any epoch.

use std::collections::HashMap;

use crate::budget::{BytePool, Charge};
use crate::wal::Lsn;

/// How many batches of a producer are remembered: what a client may have in flight.
pub const WINDOW: usize = 5;

/// How many producers one partition remembers. At the bound the eighth that was silent longest is
/// forgotten; a forgotten producer may go on with any sequence, as after expiry.
pub const MAX_PRODUCERS: usize = 65_536;

/// What a producer is charged with: its state, and its slot in a table that is at least a third
/// full.
pub(super) const PRODUCER_BYTES: usize =
    size_of::<Producer>() + 3 * (size_of::<(i64, Box<Producer>)>() + 1);

/// A batch's place in its producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequenced {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The first record's sequence; negative in a control batch, which has none.
    pub base_sequence: i32,
    /// The last record's sequence.
    pub last_sequence: i32,
}

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct ProducerBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub last_offset: i64,
    /// `last_offset - base_offset`; a compacted batch may hold fewer records than that.
    pub offset_delta: i32,
    /// The batch's greatest timestamp: the append time where the topic stamps records.
    pub max_timestamp: i64,
    /// Where it became part of the WAL; a duplicate is answered when this is durable.
    pub lsn: Lsn,
}

/// One producer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub epoch: i16,
    /// When it appended last, on the log clock, in milliseconds.
    pub last_seen_ms: i64,
    /// How many sequence numbers without a gap end in the newest batch (saturating): tells a batch
    /// that left the window from one that was never here.
    pub run: u32,
    /// Oldest first, at most [`WINDOW`].
    batches: [ProducerBatch; WINDOW],
    count: u8,
}

impl Producer {
    pub(super) fn new(epoch: i16, last_seen_ms: i64, run: u32) -> Self {
        Self { epoch, last_seen_ms, run, batches: Default::default(), count: 0 }
    }

    /// The remembered batches, oldest first.
    pub(super) fn batches(&self) -> &[ProducerBatch] {
        self.batches.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Remembers a batch; the oldest of a full window is forgotten.
    pub(super) fn push(&mut self, batch: ProducerBatch) {
        if usize::from(self.count) == WINDOW {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        if let Some(slot) = self.batches.get_mut(usize::from(self.count)) {
            *slot = batch;
            self.count += 1;
        }
    }
}

/// What the sequence check says about a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be appended.
    Next,
    /// It was appended before.
    Duplicate(ProducerBatch),
}

/// Why a producer's batch must not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The sequence does not follow the last one.
    OutOfOrder { expected: i32, got: i32 },
    /// It was appended before, longer ago than the window reaches; known to be durable at `lsn`.
    OlderThanWindow { lsn: Lsn },
    /// A newer epoch has written.
    StaleEpoch { current: i16, got: i16 },
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    /// Boxed, so that the table is small before it grows and after many were forgotten.
    by_id: HashMap<i64, Box<Producer>>,
    /// [`PRODUCER_BYTES`] for each but one: the last that writes to a partition is always known.
    charge: Charge,
}

/// Who is forgotten: whoever was silent since before `before_ms`, and of those seen last in just
/// that millisecond so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent {
    before_ms: i64,
    then: usize,
}

impl Silent {
    /// The `count` that were silent longest of those who were `seen` last at these times; `None`
    /// of nobody.
    pub(super) fn longest(mut seen: Vec<i64>, count: usize) -> Option<Self> {
        let nth = count.min(seen.len()).checked_sub(1)?;
        let (earlier, before_ms, _) = seen.select_nth_unstable(nth);
        let before_ms = *before_ms;
        let then = 1 + earlier.iter().filter(|seen| **seen == before_ms).count();
        Some(Self { before_ms, then })
    }

    /// Whether one who was seen last at `seen_ms` is among them; to be asked once of each.
    fn takes(&mut self, seen_ms: i64) -> bool {
        let takes = seen_ms < self.before_ms || (seen_ms == self.before_ms && self.then > 0);
        self.then -= usize::from(takes && seen_ms == self.before_ms);
        takes
    }
}

impl Producers {
    /// Checks a client's batch against its producer's state.
    ///
    /// A producer that is not known may start with any sequence, as in Kafka since 2.5: its state
    /// may have expired while it was idle (`ProducerAppendInfo.checkSequence`).
    pub(super) fn check(&self, batch: Sequenced) -> Result<Verdict, Refusal> {
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            return Ok(Verdict::Next);
        };
        if batch.epoch < producer.epoch {
            return Err(Refusal::StaleEpoch { current: producer.epoch, got: batch.epoch });
        }
        if batch.epoch > producer.epoch {
            return first_of_epoch(batch);
        }
        let Some(newest) = producer.batches().last() else {
            // Only markers were seen in this epoch.
            return first_of_epoch(batch);
        };
        let same = |known: &&ProducerBatch| {
            known.base_sequence == batch.base_sequence && known.last_sequence == batch.last_sequence
        };
        if let Some(known) = producer.batches().iter().find(same) {
            return Ok(Verdict::Duplicate(*known));
        }
        let expected = following(newest.last_sequence, 1);
        if batch.base_sequence == expected {
            return Ok(Verdict::Next);
        }
        let oldest = producer.batches().first().unwrap_or(newest);
        // Counted back from the newest sequence, the whole batch lies in the gapless run and below
        // the window. Compared by distance, since the numbers wrap.
        let back_to_base = distance(batch.base_sequence, newest.last_sequence);
        let back_to_last = distance(batch.last_sequence, newest.last_sequence);
        let back_to_window = distance(oldest.base_sequence, newest.last_sequence);
        if back_to_base < producer.run
            && back_to_last > back_to_window
            && back_to_last <= back_to_base
        {
            return Err(Refusal::OlderThanWindow { lsn: oldest.lsn });
        }
        Err(Refusal::OutOfOrder { expected, got: batch.base_sequence })
    }

    /// Checks a batch that has no sequence (a marker): only the epoch counts.
    pub(super) fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<(), Refusal> {
        match self.by_id.get(&producer_id) {
            Some(producer) if epoch < producer.epoch => {
                Err(Refusal::StaleEpoch { current: producer.epoch, got: epoch })
            }
            _ => Ok(()),
        }
    }

    /// Takes note of an appended batch. Never refuses: replay goes through here too. Returns how
    /// many producers were forgotten for it.
    pub(super) fn appended(
        &mut self,
        of: Sequenced,
        batch: ProducerBatch,
        now_ms: i64,
        pool: &BytePool,
    ) -> usize {
        let fresh = || Producer::new(of.epoch, now_ms, 0);
        let mut forgotten = 0;
        let producer = if let Some(known) = self.by_id.get_mut(&of.producer_id) {
            known
        } else {
            forgotten = self.make_room(pool);
            self.by_id.entry(of.producer_id).or_insert_with(|| Box::new(fresh()))
        };
        if producer.epoch != of.epoch {
            **producer = fresh();
        }
        producer.last_seen_ms = now_ms;
        if of.base_sequence < 0 {
            return forgotten;
        }
        let follows = producer
            .batches()
            .last()
            .is_some_and(|newest| following(newest.last_sequence, 1) == of.base_sequence);
        let length = distance(of.base_sequence, of.last_sequence).saturating_add(1);
        producer.run = if follows { producer.run.saturating_add(length) } else { length };
        producer.push(batch);
        forgotten
    }

    /// Forgets who has not appended for `expiration_ms`; returns how many.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        self.keep(|p| now_ms.saturating_sub(p.last_seen_ms) < expiration_ms)
    }

    /// Forgets where their batches were in a log that is lost.
    pub(super) fn forget_log(&mut self) {
        for producer in self.by_id.values_mut() {
            producer.batches.iter_mut().for_each(|batch| batch.lsn = Lsn::ZERO);
        }
    }

    /// The log ends at `end` now: forgets whose last batch is cut off. They go on with any
    /// sequence.
    pub(super) fn cut(&mut self, end: i64) {
        self.keep(|producer| producer.batches().last().is_none_or(|last| last.last_offset < end));
    }

    /// Forgets those of `silent` that are here; returns how many.
    pub(super) fn forget(&mut self, silent: &mut Silent) -> usize {
        self.keep(|producer| !silent.takes(producer.last_seen_ms))
    }

    /// How many producers are known.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// When each of those who are charged was seen last; the one of a partition that has no other
    /// is not.
    pub(super) fn seen(&self) -> impl Iterator<Item = i64> + '_ {
        let charged = (self.len() > 1).then(|| self.by_id.values().map(|p| p.last_seen_ms));
        charged.into_iter().flatten()
    }

    /// Every producer, by rising id, so that a checkpoint is a function of the state.
    pub(super) fn sorted(&self) -> Vec<(i64, &Producer)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, producer)| (*id, &**producer)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Puts back what a checkpoint held; returns how many were forgotten for it.
    pub(super) fn restore(
        &mut self,
        producer_id: i64,
        producer: Producer,
        pool: &BytePool,
    ) -> usize {
        let forgotten = self.make_room(pool);
        self.by_id.insert(producer_id, Box::new(producer));
        forgotten
    }

    /// Sees to it that one more may be known; returns how many had to be forgotten.
    fn make_room(&mut self, pool: &BytePool) -> usize {
        let missing = (self.len() * PRODUCER_BYTES).saturating_sub(self.charge.bytes());
        if self.len() < MAX_PRODUCERS
            && let Some(charge) = pool.try_take(missing)
        {
            self.charge.merge(charge);
            return 0;
        }
        // An eighth at once, so that not every batch looks at all of them.
        let seen = self.by_id.values().map(|producer| producer.last_seen_ms).collect();
        let Some(mut silent) = Silent::longest(seen, (self.len() / 8).max(1)) else { return 0 };
        let before = self.len();
        self.by_id.retain(|_, producer| !silent.takes(producer.last_seen_ms));
        // The one to come is charged with what one of those was.
        self.settle(self.len() + 1);
        before - self.len()
    }

    fn keep(&mut self, mut keep: impl FnMut(&Producer) -> bool) -> usize {
        let before = self.len();
        self.by_id.retain(|_, producer| keep(producer));
        if self.len() < before {
            self.settle(self.len());
        }
        before - self.len()
    }

    /// Gives back what is not needed for `count` producers.
    fn settle(&mut self, count: usize) {
        let needed = count.saturating_sub(1) * PRODUCER_BYTES;
        drop(self.charge.split(self.charge.bytes().saturating_sub(needed)));
        if self.by_id.capacity() > 4 * count {
            self.by_id.shrink_to(count);
        }
    }
}

/// A new epoch starts at sequence 0.
fn first_of_epoch(batch: Sequenced) -> Result<Verdict, Refusal> {
    if batch.base_sequence == 0 {
        return Ok(Verdict::Next);
    }
    Err(Refusal::OutOfOrder { expected: 0, got: batch.base_sequence })
}

/// The sequence `by` records after `sequence` (`DefaultRecordBatch.incrementSequence`).
pub(super) fn following(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// How many records `to` comes after `from`, modulo 2^31.
fn distance(from: i32, to: i32) -> u32 {
    ((i64::from(to) - i64::from(from)) & i64::from(i32::MAX)) as u32
}

#[cfg(test)]
mod tests;

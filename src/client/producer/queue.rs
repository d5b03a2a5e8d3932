//! What waits: batches of each partition, in the order in which they were filled.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::NewRecord;
use super::super::partitioner::Sticky;
use crate::clock::Instant;

/// A record that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) tag: u64,
    pub(super) record: NewRecord,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
    /// What it is charged.
    pub(super) bytes: usize,
}

/// Records that are tried together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Pending>,
    /// What they are charged together.
    bytes: usize,
    /// Since when it waits.
    pub(super) since: Instant,
    /// Nothing is added any more.
    is_full: bool,
    /// Whether a try had no answer.
    pub(super) is_unknown: bool,
    /// What became of the last try.
    pub(super) last: Option<String>,
    /// How often its producer id was given up.
    pub(super) resets: u32,
}

impl Batch {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is to be sent now.
    fn is_ready(&self, now: Instant, linger: Duration) -> bool {
        self.is_full || self.last.is_some() || self.since + linger <= now
    }

    /// Its halves, of which the second is empty if there is only one record.
    pub(super) fn halves(mut self) -> (Batch, Batch) {
        let second = self.records.split_off(self.records.len().div_ceil(2));
        let of = |records: Vec<Pending>| Batch {
            bytes: records.iter().map(|it| it.bytes).sum(),
            records,
            since: self.since,
            is_full: true,
            is_unknown: self.is_unknown,
            last: self.last.clone(),
            resets: self.resets,
        };
        (of(std::mem::take(&mut self.records)), of(second))
    }

    /// Takes the records at these positions out.
    pub(super) fn take(&mut self, positions: &[usize]) -> Vec<(usize, Pending)> {
        let all = std::mem::take(&mut self.records).into_iter().enumerate();
        let (taken, kept): (Vec<_>, Vec<_>) = all.partition(|(at, _)| positions.contains(at));
        self.records = kept.into_iter().map(|(_, pending)| pending).collect();
        self.bytes = self.records.iter().map(|it| it.bytes).sum();
        self.is_full = true;
        taken
    }
}

/// Who a partition's leader knows us as, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
    /// The sequence of the next record.
    pub(super) sequence: i32,
}

impl Identity {
    /// Goes on behind so many records. Sequences go on with 0 after 2^31-1.
    pub(super) fn advance(&mut self, records: usize) {
        self.sequence = self.sequence.wrapping_add(records as i32) & i32::MAX;
    }
}

/// A partition's batches.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) batches: VecDeque<Batch>,
    /// Whether one is on its way.
    pub(super) is_sending: bool,
    /// Whether leaders are being looked for first.
    pub(super) is_held: bool,
    pub(super) identity: Option<Identity>,
}

/// The batches of a topic.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) by_partition: BTreeMap<i32, Queue>,
    pub(super) sticky: Sticky,
    batch_bytes: usize,
    /// Records that are not reported yet.
    open: usize,
    /// How many wait for everything to be sent.
    pub(super) flushing: usize,
    /// Whether the sender is to end.
    pub(super) is_closed: bool,
    /// Whether it has ended.
    pub(super) has_ended: bool,
}

impl Queues {
    pub(super) fn new(sticky: Sticky, batch_bytes: usize) -> Self {
        Self {
            by_partition: BTreeMap::new(),
            sticky,
            batch_bytes,
            open: 0,
            flushing: 0,
            is_closed: false,
            has_ended: false,
        }
    }

    /// Adds a record to its partition's last batch, or a new one. Whether the sender has to look.
    pub(super) fn push(&mut self, partition: i32, pending: Pending, now: Instant) -> bool {
        self.open += 1;
        let batch_bytes = self.batch_bytes;
        let batches = &mut self.by_partition.entry(partition).or_default().batches;
        let fits = |batch: &&mut Batch| {
            !batch.is_full && batch.last.is_none() && batch.bytes + pending.bytes <= batch_bytes
        };
        if let Some(batch) = batches.back_mut().filter(fits) {
            batch.bytes += pending.bytes;
            batch.records.push(pending);
            batch.is_full = batch.bytes >= batch_bytes;
            return batch.is_full;
        }
        if let Some(before) = batches.back_mut() {
            before.is_full = true;
        }
        batches.push_back(Batch {
            bytes: pending.bytes,
            is_full: pending.bytes >= batch_bytes,
            records: vec![pending],
            since: now,
            is_unknown: false,
            last: None,
            resets: 0,
        });
        true
    }

    /// Whether everything is reported, or never will be.
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0 || self.has_ended
    }

    /// Notes that so many records are reported.
    pub(super) fn reported(&mut self, records: usize) {
        self.open = self.open.saturating_sub(records);
    }

    /// The partitions whose first batch can be sent now.
    pub(super) fn ready(&self, now: Instant, linger: Duration) -> Vec<i32> {
        let hurries = self.flushing > 0 || self.is_closed;
        let queues = self.by_partition.iter().filter(|(_, it)| !it.is_sending && !it.is_held);
        let first = |queue: &Queue| {
            let batch = queue.batches.front();
            batch.is_some_and(|batch| hurries || batch.is_ready(now, linger))
        };
        queues.filter(|(_, queue)| first(queue)).map(|(index, _)| *index).collect()
    }

    /// When after `now` to look again for one that is ready, or too late.
    pub(super) fn next(
        &self,
        now: Instant,
        linger: Duration,
        delivery: Duration,
    ) -> Option<Instant> {
        let idle = self.by_partition.values().filter(|it| !it.is_sending);
        let first = idle.filter_map(|queue| Some((queue.is_held, queue.batches.front()?)));
        first
            .map(|(is_held, batch)| {
                let waits = !is_held && !batch.is_ready(now, linger);
                batch.since + if waits { linger.min(delivery) } else { delivery }
            })
            .filter(|next| *next > now)
            .min()
    }

    /// Takes out the first batches that waited for too long, of the partitions that can.
    pub(super) fn expired(&mut self, now: Instant, delivery: Duration) -> Vec<(i32, Batch)> {
        let mut expired = Vec::new();
        for (index, queue) in self.by_partition.iter_mut().filter(|(_, it)| !it.is_sending) {
            while let Some(late) = queue.batches.pop_front_if(|it| it.since + delivery <= now) {
                expired.push((*index, late));
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::{Clock, Random};

    const LINGER: Duration = Duration::from_millis(5);
    const DELIVERY: Duration = Duration::from_mins(2);

    fn queues() -> Queues {
        Queues::new(Sticky::new(100, Random::seeded(1)), 100)
    }

    fn pending(tag: u64, bytes: usize) -> Pending {
        let record = NewRecord { value: Some(Bytes::new()), ..NewRecord::default() };
        Pending { tag, record, timestamp: 0, bytes }
    }

    fn tags(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|it| it.tag).collect()
    }

    fn batches(queues: &Queues, partition: i32) -> Vec<Vec<u64>> {
        queues.by_partition[&partition].batches.iter().map(tags).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_full_before_it_would_be_too_large() {
        let (mut queues, now) = (queues(), Clock::system().now());
        assert!(queues.push(0, pending(0, 40), now));
        assert!(!queues.push(0, pending(1, 40), now), "it waits for more");
        assert!(queues.ready(now, LINGER).is_empty());
        assert!(queues.push(0, pending(2, 40), now), "the first is full");
        assert_eq!(queues.ready(now, LINGER), [0]);
        assert!(queues.push(0, pending(3, 60), now), "exactly full");
        // One that is alone above the bound has a batch of its own.
        assert!(queues.push(0, pending(4, 500), now));
        assert!(queues.push(0, pending(5, 1), now));
        assert_eq!(batches(&queues, 0), [vec![0, 1], vec![2, 3], vec![4], vec![5]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_not_full_leaves_when_it_waited_or_somebody_flushes() {
        let (mut queues, now) = (queues(), Clock::system().now());
        queues.push(3, pending(0, 10), now);
        assert!(queues.ready(now, LINGER).is_empty());
        assert_eq!(queues.next(now, LINGER, DELIVERY), Some(now + LINGER));
        assert_eq!(queues.ready(now + LINGER, LINGER), [3]);
        queues.flushing += 1;
        assert_eq!(queues.ready(now, LINGER), [3]);
        queues.by_partition.get_mut(&3).unwrap().is_held = true;
        assert!(queues.ready(now, LINGER).is_empty());
        assert_eq!(queues.next(now, LINGER, DELIVERY), Some(now + DELIVERY));
        queues.by_partition.get_mut(&3).unwrap().is_held = false;
        queues.by_partition.get_mut(&3).unwrap().is_sending = true;
        assert!(queues.ready(now + LINGER, LINGER).is_empty());
        assert_eq!(queues.next(now, LINGER, DELIVERY), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_too_long_is_taken_out_unless_it_is_on_its_way() {
        let (mut queues, now) = (queues(), Clock::system().now());
        queues.push(0, pending(0, 100), now);
        queues.push(0, pending(1, 100), now + LINGER);
        queues.push(1, pending(2, 100), now);
        queues.by_partition.get_mut(&1).unwrap().is_sending = true;
        assert!(queues.expired(now + DELIVERY - LINGER, DELIVERY).is_empty());
        let late = queues.expired(now + DELIVERY, DELIVERY);
        assert_eq!(late.iter().map(|(at, it)| (*at, tags(it))).collect::<Vec<_>>(), [(0, vec![0])]);
        assert!(!queues.is_idle());
        queues.reported(3);
        assert!(queues.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_halved_and_loses_records_in_order() {
        let (mut queues, now) = (queues(), Clock::system().now());
        for tag in 0..5 {
            queues.push(0, pending(tag, 20), now);
        }
        let batch = queues.by_partition.get_mut(&0).unwrap().batches.pop_front().unwrap();
        let (mut first, second) = batch.halves();
        assert_eq!((tags(&first), tags(&second)), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!((first.bytes(), second.bytes()), (60, 40));
        let taken = first.take(&[0, 2, 9]);
        assert_eq!(taken.iter().map(|(_, it)| it.tag).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((tags(&first), first.bytes()), (vec![1], 20));
        let (only, none) = first.halves();
        assert_eq!((tags(&only), tags(&none)), (vec![1], vec![]));
    }

    #[test]
    fn sequences_go_on_with_0_after_the_greatest() {
        let mut identity = Identity { id: 1, epoch: 0, sequence: i32::MAX - 1 };
        identity.advance(1);
        assert_eq!(identity.sequence, i32::MAX);
        identity.advance(3);
        assert_eq!(identity.sequence, 2);
    }
}

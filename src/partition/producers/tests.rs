use proptest::prelude::*;

use super::*;

const PRODUCER: i64 = 4711;
/// How many sequence numbers there are.
const SPACE: i64 = 1 << 31;

fn sequenced(epoch: i16, base: i64, len: i64) -> Sequenced {
    let number = |at: i64| at.rem_euclid(SPACE) as i32;
    Sequenced {
        producer_id: PRODUCER,
        epoch,
        base_sequence: number(base),
        last_sequence: number(base + len - 1),
    }
}

fn append(producers: &mut Producers, batch: Sequenced, last_offset: i64) {
    let remembered = ProducerBatch {
        base_sequence: batch.base_sequence,
        last_sequence: batch.last_sequence,
        last_offset,
        lsn: Lsn(last_offset as u64),
        ..ProducerBatch::default()
    };
    producers.appended(batch, remembered, 0, &pool(1 << 20));
}

fn pool(bytes: usize) -> BytePool {
    BytePool::new(crate::budget::Pool::Producers, bytes)
}

/// The rules over positions that do not wrap: everything that was appended in this epoch.
#[derive(Default)]
struct Model {
    epoch: i16,
    appended: Vec<(i64, i64)>,
    known: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Next,
    Duplicate(i64),
    Older,
    OutOfOrder,
    Stale,
}

impl Model {
    fn expects(&self, epoch: i16, base: i64, len: i64) -> Expected {
        if !self.known {
            return Expected::Next;
        }
        if epoch < self.epoch {
            return Expected::Stale;
        }
        if epoch > self.epoch {
            let zero = base.rem_euclid(SPACE) == 0;
            return if zero { Expected::Next } else { Expected::OutOfOrder };
        }
        let window = &self.appended[self.appended.len().saturating_sub(WINDOW)..];
        let (first, _) = self.appended[0];
        let end = self.appended.last().map_or(0, |(base, len)| base + len);
        if let Some(at) = window.iter().position(|known| *known == (base, len)) {
            let index = self.appended.len() - window.len() + at;
            return Expected::Duplicate(index as i64);
        }
        if base == end {
            return Expected::Next;
        }
        if base >= first && base + len <= window[0].0 {
            return Expected::Older;
        }
        Expected::OutOfOrder
    }

    fn append(&mut self, epoch: i16, base: i64, len: i64) {
        if epoch != self.epoch || !self.known {
            self.appended.clear();
        }
        (self.known, self.epoch) = (true, epoch);
        self.appended.push((base, len));
    }

    fn end(&self) -> i64 {
        self.appended.last().map_or(0, |(base, len)| base + len)
    }
}

proptest! {
    /// Batches near the end of a producer's sequence, some next, some again, some astray, against
    /// rules that know everything and never wrap.
    #[test]
    fn verdicts_are_those_of_a_model_that_forgets_nothing(
        start in prop::sample::select(vec![0, 5, SPACE - 30, SPACE - 1]),
        steps in prop::collection::vec((0u8..5, -60i64..20, 1i64..9), 1..60),
    ) {
        let (mut producers, mut model) = (Producers::default(), Model::default());
        for (step, (choice, shift, len)) in steps.into_iter().enumerate() {
            let again = model.appended.get(step % model.appended.len().max(1)).copied();
            let (epoch, base, len) = match choice {
                0 => (model.epoch, model.end() + shift, len),
                1 => again
                    .map_or((model.epoch, start, len), |(base, len)| (model.epoch, base, len)),
                2 if shift == 0 => (model.epoch + 1, 0, len),
                2 if shift < -55 => (model.epoch - 1, model.end(), len),
                _ if model.known => (model.epoch, model.end(), len),
                _ => (model.epoch, start, len),
            };
            let batch = sequenced(epoch, base, len);
            let found = match producers.check(batch) {
                Ok(Verdict::Next) => Expected::Next,
                Ok(Verdict::Duplicate(original)) => Expected::Duplicate(original.last_offset),
                Err(Refusal::OlderThanWindow { .. }) => Expected::Older,
                Err(Refusal::OutOfOrder { .. }) => Expected::OutOfOrder,
                Err(Refusal::StaleEpoch { .. }) => Expected::Stale,
            };
            prop_assert_eq!(&found, &model.expects(epoch, base, len), "{:?}", batch);
            if found == Expected::Next {
                model.append(epoch, base, len);
                append(&mut producers, batch, model.appended.len() as i64 - 1);
            }
        }
    }
}

#[test]
fn sequences_go_on_with_zero_after_the_largest() {
    assert_eq!(following(i32::MAX, 1), 0);
    assert_eq!(following(i32::MAX - 1, 3), 1);
    let mut producers = Producers::default();
    append(&mut producers, sequenced(0, SPACE - 3, 3), 2);
    assert_eq!(producers.check(sequenced(0, 0, 4)), Ok(Verdict::Next));
    let gap = producers.check(sequenced(0, 1, 4));
    assert_eq!(gap, Err(Refusal::OutOfOrder { expected: 0, got: 1 }));
}

#[test]
fn a_producer_that_is_not_known_starts_anywhere_and_a_new_epoch_at_zero() {
    let mut producers = Producers::default();
    assert_eq!(producers.check(sequenced(3, 70, 1)), Ok(Verdict::Next));
    append(&mut producers, sequenced(3, 70, 1), 0);
    let not_zero = producers.check(sequenced(4, 71, 1));
    assert_eq!(not_zero, Err(Refusal::OutOfOrder { expected: 0, got: 71 }));
    assert_eq!(producers.check(sequenced(4, 0, 1)), Ok(Verdict::Next));
    append(&mut producers, sequenced(4, 0, 1), 1);
    let stale = producers.check(sequenced(3, 71, 1));
    assert_eq!(stale, Err(Refusal::StaleEpoch { current: 4, got: 3 }));
    assert_eq!(producers.check_epoch(PRODUCER, 3), Err(Refusal::StaleEpoch { current: 4, got: 3 }));
    assert_eq!(producers.check_epoch(PRODUCER, 4), Ok(()));
}

#[test]
fn a_marker_moves_the_epoch_and_takes_no_place_in_the_window() {
    let mut producers = Producers::default();
    append(&mut producers, sequenced(0, 0, 2), 1);
    let marker = Sequenced { base_sequence: -1, last_sequence: -1, ..sequenced(1, 0, 1) };
    append(&mut producers, marker, 2);
    assert_eq!(producers.check(sequenced(1, 0, 1)), Ok(Verdict::Next));
    assert!(producers.check(sequenced(1, 2, 1)).is_err());
}

#[test]
fn what_was_silent_expires_and_the_rest_stays() {
    let pool = pool(1 << 20);
    let mut producers = Producers::default();
    for id in 0..10 {
        let batch = Sequenced { producer_id: id, ..sequenced(0, 0, 1) };
        producers.appended(batch, ProducerBatch::default(), id * 100, &pool);
    }
    assert_eq!(pool.used(), 9 * PRODUCER_BYTES);
    assert_eq!(producers.expire(1_000, 501), 5);
    assert_eq!(pool.used(), 4 * PRODUCER_BYTES);
    assert_eq!(producers.len(), 5);
    assert_eq!(producers.expire(1_000, 501), 0);
    let kept = producers.sorted().iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(kept, [5, 6, 7, 8, 9]);
}

#[test]
fn producers_are_bounded_and_the_longest_silent_go_first() {
    let pool = pool(1 << 30);
    let mut producers = Producers::default();
    for id in 0..=MAX_PRODUCERS as i64 {
        let batch = Sequenced { producer_id: id, ..sequenced(0, 0, 1) };
        producers.appended(batch, ProducerBatch::default(), id, &pool);
    }
    assert_eq!(producers.len(), MAX_PRODUCERS - MAX_PRODUCERS / 8 + 1);
    assert!(producers.sorted().first().is_some_and(|(id, _)| *id == MAX_PRODUCERS as i64 / 8));
}

/// Appends as `id` at `now_ms` and returns how many were forgotten for it.
fn seen(producers: &mut Producers, id: i64, now_ms: i64, pool: &BytePool) -> usize {
    let batch = Sequenced { producer_id: id, ..sequenced(0, 0, 1) };
    producers.appended(batch, ProducerBatch::default(), now_ms, pool)
}

fn ids(producers: &Producers) -> Vec<i64> {
    producers.sorted().iter().map(|(id, _)| *id).collect()
}

#[test]
fn partitions_share_the_memory_for_producers() {
    let pool = pool(20 * PRODUCER_BYTES);
    let (mut many, mut one) = (Producers::default(), Producers::default());
    for id in 0..21 {
        assert_eq!(seen(&mut many, id, 100 - id, &pool), 0);
    }
    assert_eq!(pool.used(), pool.capacity());
    // The one that writes last is always known, with an empty pool too.
    assert_eq!((seen(&mut one, 7, 500, &pool), seen(&mut one, 8, 501, &pool)), (0, 1));
    assert_eq!(ids(&one), [8]);
    // An eighth, those that were silent longest.
    assert_eq!(seen(&mut many, 50, 500, &pool), 2);
    assert_eq!(ids(&many), (0..19).chain([50]).collect::<Vec<_>>());
    assert_eq!(pool.used(), 19 * PRODUCER_BYTES);
    // A known one needs no room.
    assert_eq!((seen(&mut one, 9, 502, &pool), pool.used()), (0, pool.capacity()));
    assert_eq!(seen(&mut many, 50, 600, &pool), 0);
    drop((many, one));
    assert_eq!(pool.used(), 0);
}

#[test]
fn of_those_seen_last_in_one_millisecond_only_so_many_are_forgotten() {
    let pool = pool(1 << 20);
    let mut producers = Producers::default();
    for id in 0..10 {
        seen(&mut producers, id, if id == 3 { 10 } else { 20 }, &pool);
    }
    let mut silent = Silent::longest(producers.seen().collect(), 4).unwrap();
    assert_eq!(producers.forget(&mut silent), 4);
    assert!(!ids(&producers).contains(&3));
    assert_eq!(Silent::longest(Vec::new(), 4), None);
}

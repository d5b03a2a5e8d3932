//! When a checkpoint of the bucket is due: at most every 60 s while a `CommitTier`, a `LogStart` or
//! a `Drop` is in no checkpoint, and once after the last (DESIGN §6). A broker that only takes
//! records, or does nothing, makes none.

use std::time::Duration;

use crate::clock::Instant;
use crate::wal::Lsn;

/// The least time between the beginnings of two checkpoints.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(1);

/// The pause after the first failure; it doubles up to the time between two checkpoints.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Says when a checkpoint is due; the caller has the clock, and takes one at a time.
#[derive(Debug)]
pub struct Rhythm {
    /// The last record that must be covered.
    wanted: Lsn,
    covered: Lsn,
    /// No attempt begins before.
    not_before: Option<Instant>,
    failures: u32,
    interval: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self::every(CHECKPOINT_INTERVAL)
    }
}

impl Rhythm {
    /// With at least `interval` between the beginnings of two checkpoints.
    pub fn every(interval: Duration) -> Self {
        Self { wanted: Lsn::ZERO, covered: Lsn::ZERO, not_before: None, failures: 0, interval }
    }

    /// The last checkpoint, made by an earlier run, covers records up to here; zero if there is
    /// none or if it counts in another log.
    pub fn found(&mut self, covers: Lsn) {
        self.covered = self.covered.max(covers);
    }

    /// A `CommitTier`, `LogStart` or `Drop` is in the log under this number.
    pub fn note(&mut self, lsn: Lsn) {
        self.wanted = self.wanted.max(lsn);
    }

    /// Whether such a record is in no checkpoint.
    pub fn is_uncovered(&self) -> bool {
        self.covered < self.wanted
    }

    /// Records up to here are in a checkpoint.
    pub fn covered(&self) -> Lsn {
        self.covered
    }

    /// When the next attempt is to begin, which may have passed; `None` while nothing is
    /// uncovered.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.is_uncovered().then(|| self.not_before.unwrap_or(now))
    }

    /// The checkpoint begun at `began` was published and covers records up to `covers`.
    pub fn published(&mut self, began: Instant, covers: Lsn) {
        self.covered = self.covered.max(covers);
        self.not_before = Some(began + self.interval);
        self.failures = 0;
    }

    /// An attempt failed at `now`.
    pub fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(6));
        self.failures += 1;
        self.not_before = Some(now + pause.min(self.interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_due_at_once_then_every_minute_then_once_after_the_last() {
        let now = Clock::manual(0).now();
        let mut rhythm = Rhythm::default();
        assert_eq!(rhythm.due(now), None);
        rhythm.note(Lsn(3));
        assert_eq!(rhythm.due(now), Some(now));
        // A record that came while it was taken is not in it.
        rhythm.note(Lsn(5));
        rhythm.published(now, Lsn(4));
        assert_eq!(rhythm.due(now + seconds(2)), Some(now + seconds(60)));
        rhythm.published(now + seconds(60), Lsn(9));
        assert_eq!(rhythm.due(now + seconds(600)), None);
        assert!(!rhythm.is_uncovered());
        // After a rest the next is due at once.
        rhythm.note(Lsn(10));
        assert!(rhythm.due(now + seconds(600)).unwrap() <= now + seconds(600));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_with_growing_pauses_of_at_most_a_minute() {
        let now = Clock::manual(0).now();
        let mut rhythm = Rhythm::default();
        rhythm.note(Lsn(1));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            rhythm.failed(now);
            pauses.push(rhythm.due(now).unwrap().duration_since(now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        rhythm.published(now, Lsn(0));
        rhythm.failed(now);
        assert_eq!(rhythm.due(now), Some(now + seconds(1)));
    }

    #[test]
    fn what_an_earlier_run_covered_is_not_covered_again() {
        let mut rhythm = Rhythm::default();
        rhythm.found(Lsn(7));
        rhythm.note(Lsn(7));
        assert!(!rhythm.is_uncovered());
        rhythm.note(Lsn(8));
        assert!(rhythm.is_uncovered());
    }

    proptest! {
        /// Whoever follows it makes at most one a minute, and ends with everything covered.
        #[test]
        fn a_run_is_covered_by_few_checkpoints(
            gaps in proptest::collection::vec(0..100_u64, 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let start = runtime.block_on(async { Clock::manual(0).now() });
            let (mut rhythm, mut lsn, mut at) = (Rhythm::default(), 0, 0);
            let mut made = Vec::new();
            let records: Vec<u64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            for second in 0..at + 121 {
                for _ in records.iter().filter(|record| **record == second) {
                    lsn += 1;
                    rhythm.note(Lsn(lsn));
                }
                let now = start + seconds(second);
                if rhythm.due(now).is_some_and(|due| due <= now) {
                    made.push(second);
                    rhythm.published(now, Lsn(lsn));
                }
            }
            prop_assert!(!rhythm.is_uncovered());
            prop_assert!(made.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{made:?}");
            prop_assert!(*made.last().unwrap() <= at + 60);
        }
    }
}

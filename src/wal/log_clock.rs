//! The clock that everything in the log ages by (DESIGN D8): producer states, committed offsets,
//! batches without a timestamp. It is monotonic while the process runs, and its time is the append
//! time of every group, so that a start goes on from the newest one that it finds.
//!
//! **What that protects.** A wall clock that jumps, forward or back, while the process runs or
//! while it is down, never makes anything in the log older: the wall clock is asked once in the
//! life of a log, when it is made, and only differences count afterwards.
//!
//! **What it costs.** Time in which the process was down, or the machine was suspended, is not
//! counted, nor is what passed between the last group or checkpoint and a kill: a long down time
//! cannot be told from a jump, and not to count it only delays deletion. So this clock falls behind
//! the wall clock for good, and is never compared with it. What users see (`LogAppendTime`) and
//! what they have stamped is wall time.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Instant};

/// Milliseconds that start at the newest append time in the log, or at the wall clock for an empty
/// log, and move on with monotonic time.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    made: Instant,
    /// What it would have shown when it was made.
    shown: AtomicI64,
}

impl LogClock {
    /// A clock that shows `newest_ms` now; the wall time in a log that has no time yet.
    pub(super) fn starting_at(clock: &Clock, newest_ms: Option<i64>) -> Self {
        let shown = newest_ms.unwrap_or_else(|| clock.wall_ms());
        Self { clock: clock.clone(), made: clock.now(), shown: shown.into() }
    }

    /// Now.
    pub fn now_ms(&self) -> i64 {
        self.shown.load(Ordering::Relaxed).saturating_add(self.passed_ms())
    }

    /// Sets the clock on to `ms`, an append time or the clock of a checkpoint; never back.
    pub fn advance_to(&self, ms: i64) {
        self.shown.fetch_max(ms.saturating_sub(self.passed_ms()), Ordering::Relaxed);
    }

    fn passed_ms(&self) -> i64 {
        let passed = self.clock.now().saturating_duration_since(self.made);
        i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_empty_log_starts_at_the_wall_clock() {
        let clock = Clock::manual(7_000);
        let log_clock = LogClock::starting_at(&clock, None);
        clock.shift_wall(-5_000);
        assert_eq!(log_clock.now_ms(), 7_000);
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_monotonic_time_and_never_back() {
        let clock = Clock::manual(0);
        let log_clock = LogClock::starting_at(&clock, Some(5_000));
        clock.shift_wall(86_400_000);
        clock.sleep(Duration::from_millis(70)).await;
        assert_eq!(log_clock.now_ms(), 5_070);
        log_clock.advance_to(100);
        assert_eq!(log_clock.now_ms(), 5_070);
        log_clock.advance_to(6_000);
        assert_eq!(log_clock.now_ms(), 6_000);
    }
}

//! The clock that producer states age by (DESIGN D8): monotonic while the process runs, and across
//! a restart it goes on from the newest append time in the log. A wall clock's jump never makes
//! a state older, and neither does time in which the broker was down.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Instant};

/// Milliseconds that start at the newest append time in the log, or at the wall clock for an empty
/// log, and move on with monotonic time.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    made: Instant,
    /// What the clock showed when it was made; [`UNSET`] until somebody sets it or asks.
    shown: AtomicI64,
}

const UNSET: i64 = i64::MIN;

impl LogClock {
    /// A clock that is not set; replay sets it.
    pub fn new(clock: Clock) -> Self {
        let made = clock.now();
        Self { clock, made, shown: AtomicI64::new(UNSET) }
    }

    /// Now.
    pub fn now_ms(&self) -> i64 {
        let passed = self.passed_ms();
        let mut shown = self.shown.load(Ordering::Relaxed);
        if shown == UNSET {
            let wall = self.clock.wall_ms().saturating_sub(passed);
            let (set, seen) = (Ordering::Relaxed, Ordering::Relaxed);
            shown = match self.shown.compare_exchange(UNSET, wall, set, seen) {
                Ok(_) => wall,
                Err(other) => other,
            };
        }
        shown.saturating_add(passed)
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
        let log_clock = LogClock::new(clock.clone());
        assert_eq!(log_clock.now_ms(), 7_000);
        clock.shift_wall(-5_000);
        assert_eq!(log_clock.now_ms(), 7_000);
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_monotonic_time_and_never_back() {
        let clock = Clock::manual(0);
        let log_clock = LogClock::new(clock.clone());
        log_clock.advance_to(5_000);
        clock.shift_wall(86_400_000);
        clock.sleep(Duration::from_millis(70)).await;
        assert_eq!(log_clock.now_ms(), 5_070);
        log_clock.advance_to(100);
        assert_eq!(log_clock.now_ms(), 5_070);
        log_clock.advance_to(6_000);
        assert_eq!(log_clock.now_ms(), 6_000);
    }
}

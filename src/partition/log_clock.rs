//! The clock that producer states age by (DESIGN D8): monotonic while the process runs, and across
//! a restart it goes on from the newest append time in the log. A jump of the wall clock never makes
//! a state older, and neither does time in which the broker was down.

use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock, Instant};

/// Milliseconds that start at the newest append time in the log, or at the wall clock for an empty
/// log, and move on with monotonic time.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    /// What the clock showed at an instant; `None` until somebody sets it or asks.
    known: Mutex<Option<(i64, Instant)>>,
}

impl LogClock {
    /// A clock that is not set; replay sets it.
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::new(None) }
    }

    /// Now.
    pub fn now_ms(&self) -> i64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let (ms, at) = *known.get_or_insert_with(|| (self.clock.wall_ms(), now));
        shown(ms, at, now)
    }

    /// Sets the clock on to `ms`, an append time or the clock of a checkpoint; never back.
    pub fn advance_to(&self, ms: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let shows = known.map_or(ms, |(ms, at)| shown(ms, at, now));
        *known = Some((shows.max(ms), now));
    }
}

fn shown(ms: i64, at: Instant, now: Instant) -> i64 {
    let passed = now.saturating_duration_since(at).as_millis();
    ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
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

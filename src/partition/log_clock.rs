//! The clock that producer states age by (DESIGN D8): monotonic while the process runs, and across
//! a restart it goes on from the newest append time in the log. A jump of the wall clock never makes
//! a state older, and neither does time in which the broker was down.

use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock, Instant};

/// Milliseconds that start at the newest append time in the log and move on with monotonic time.
#[derive(Debug)]
pub struct LogClock {
    clock: Clock,
    /// What the clock showed at an instant.
    known: Mutex<(i64, Instant)>,
}

impl LogClock {
    /// A clock at 0, for a log without records; replay sets it on.
    pub fn new(clock: Clock) -> Self {
        let known = Mutex::new((0, clock.now()));
        Self { clock, known }
    }

    /// Now.
    pub fn now_ms(&self) -> i64 {
        let (ms, at) = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.clock.now().duration_since(at).as_millis();
        ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// Sets the clock on to `ms`, an append time or the clock of a checkpoint; never back.
    pub fn advance_to(&self, ms: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let passed = now.duration_since(known.1).as_millis();
        let shown = known.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
        *known = (shown.max(ms), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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

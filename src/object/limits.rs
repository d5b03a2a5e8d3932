//! The second layer of the store: how many operations are under way at once, and how many begin
//! in a second.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::{Clock, Instant};

/// The most operations under way at once. More wait, first come, first served; every one that is
/// under way ends within the bounds of the retry layer, so the wait is bounded too.
const CONCURRENT_OPERATIONS: usize = 64;

/// How far the operations of a quiet time may be made up for.
const BURST: Duration = Duration::from_millis(100);

/// The places for operations.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    places: Arc<Semaphore>,
    rate: Option<Arc<Rate>>,
    clock: Clock,
}

/// The generic cell rate algorithm: when the next operation is due if all came evenly.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    due: Mutex<Instant>,
}

impl Limits {
    /// Limits with at most so many operations a second, if there is such a bound.
    pub(super) fn new(clock: &Clock, per_second: Option<NonZeroU32>) -> Self {
        let rate = |per_second: NonZeroU32| {
            let interval = Duration::from_secs(1) / per_second.get();
            Arc::new(Rate { interval, due: Mutex::new(clock.now()) })
        };
        Self {
            places: Arc::new(Semaphore::new(CONCURRENT_OPERATIONS)),
            rate: per_second.map(rate),
            clock: clock.clone(),
        }
    }

    /// Waits for a place, held until the permit is dropped, and for its turn.
    pub(super) async fn admit(&self) -> SemaphorePermit<'_> {
        let place = self.places.acquire().await.expect("the semaphore is never closed");
        if let Some(rate) = &self.rate {
            // One that is given up while it waits has used its turn.
            self.clock.sleep(rate.take(self.clock.now())).await;
        }
        place
    }
}

impl Rate {
    /// Takes the next turn, and says how long to wait for it. With all places taken that is at most
    /// as many intervals as there are places.
    fn take(&self, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = (*due).max(earliest);
        *due = turn + self.interval;
        turn.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn operations_begin_at_the_rate_after_a_short_burst() {
        let clock = Clock::system();
        let limits = Limits::new(&clock, NonZeroU32::new(50));
        let start = clock.now();
        for _ in 0..100 {
            drop(limits.admit().await);
        }
        let took = clock.now().duration_since(start);
        assert_eq!(took.as_millis(), 1_980, "the first begins at once, the others 20 ms apart");
        clock.sleep(Duration::from_mins(1)).await;
        let start = clock.now();
        for _ in 0..6 {
            drop(limits.admit().await);
        }
        assert_eq!(clock.now().duration_since(start), Duration::ZERO, "100 ms are made up for");
    }
}

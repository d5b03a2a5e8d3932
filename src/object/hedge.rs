//! Hedged reads: what takes longer than nearly all reads of late is asked for a second time, and
//! the first answer counts. A store's slowest answers come from one server or connection of many.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::clock::Clock;

/// Of so many reads one may be asked for twice, so that an overloaded store is not loaded more.
const READS_PER_HEDGE: u32 = 20;

/// The most second requests that may be saved up.
const HEDGES_SAVED: u32 = 10;

/// The estimate before anything was measured.
const FIRST_ESTIMATE: Duration = Duration::from_millis(200);

/// The bounds of the estimate.
const ESTIMATES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3));

/// When to ask again.
#[derive(Debug)]
pub(super) struct Hedge {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// About the 95th percentile of how long reads take.
    estimate: Duration,
    /// Reads since the last second request, up to a bound.
    credit: u32,
}

impl Hedge {
    pub(super) fn new(clock: &Clock) -> Self {
        let state = State { estimate: FIRST_ESTIMATE, credit: 0 };
        Self { clock: clock.clone(), state: Mutex::new(state) }
    }

    /// Runs `ask`, once more beside it if it takes long and reads of late have paid for that;
    /// `hedged` is told. An answer that is an error does not end the other request.
    pub(super) async fn run<T, E, F, Fut>(&self, ask: F, hedged: impl FnOnce()) -> Result<T, E>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let start = self.clock.now();
        let patience = self.patience();
        let first = pin!(ask());
        let late = pin!(self.clock.sleep(patience));
        let first = match select(first, late).await {
            Either::Left((answer, _)) => {
                self.learn(self.clock.now().duration_since(start));
                return answer;
            }
            Either::Right(((), first)) => first,
        };
        let answer = if self.pay() {
            hedged();
            match select(first, pin!(ask())).await {
                Either::Left((Err(_), second)) => second.await,
                Either::Right((Err(_), first)) => first.await,
                Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
            }
        } else {
            first.await
        };
        self.learn(self.clock.now().duration_since(start));
        answer
    }

    /// How long to wait for the first answer; a read earns its part of a second request.
    fn patience(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credit = (state.credit + 1).min(READS_PER_HEDGE * HEDGES_SAVED);
        state.estimate
    }

    fn pay(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = state.credit.checked_sub(READS_PER_HEDGE);
        state.credit = paid.unwrap_or(state.credit);
        paid.is_some()
    }

    /// Moves the estimate up by a fifth for one above it and down by a hundredth for one below, so
    /// that it rests where 1 of 20 is above.
    fn learn(&self, took: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let factor = if took > state.estimate { 1.2 } else { 0.99 };
        let (least, most) = ESTIMATES;
        state.estimate = state.estimate.mul_f64(factor).clamp(least, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Runs reads of these times in milliseconds, each for its first and its second request; gives
    /// how many second requests there were and how long the last read took.
    async fn reads(times: impl IntoIterator<Item = (u64, u64)>) -> (u32, Duration) {
        let clock = Clock::system();
        let hedge = Hedge::new(&clock);
        let hedges = Cell::new(0);
        let mut last = Duration::ZERO;
        for (first, second) in times {
            let start = clock.now();
            let asked = Cell::new(0);
            let ask = || {
                asked.set(asked.get() + 1);
                let wait = if asked.get() == 1 { first } else { second };
                let clock = clock.clone();
                async move {
                    clock.sleep(Duration::from_millis(wait)).await;
                    Ok::<_, ()>(())
                }
            };
            hedge.run(ask, || hedges.set(hedges.get() + 1)).await.unwrap();
            last = clock.now().duration_since(start);
        }
        (hedges.get(), last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_takes_long_among_fast_ones_is_asked_for_again() {
        let fast = std::iter::repeat_n((10, 10), 300);
        let (hedges, took) = reads(fast.chain([(5_000, 10)])).await;
        assert_eq!(hedges, 1);
        assert_eq!(took, ESTIMATES.0 + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_of_twenty_is_asked_for_again() {
        let (hedges, _) = reads(std::iter::repeat_n((4_000, 4_000), 400)).await;
        assert_eq!(hedges, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_does_not_end_the_other_request() {
        let clock = Clock::system();
        let hedge = Hedge::new(&clock);
        for _ in 0..READS_PER_HEDGE {
            hedge.run(async || Ok::<_, ()>(0), || {}).await.unwrap();
        }
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            let (number, clock) = (asked.get(), clock.clone());
            async move {
                clock.sleep(Duration::from_millis(if number == 1 { 500 } else { 1 })).await;
                if number == 1 { Ok(number) } else { Err(number) }
            }
        };
        assert_eq!(hedge.run(ask, || {}).await, Ok(1));
    }
}

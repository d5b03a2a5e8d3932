//! Injected time and chance: the only room that reads a clock, sleeps or draws random numbers.
//!
//! Monotonic time is tokio's, so a test that pauses tokio's clock owns every sleep and deadline of
//! the process. Wall time is separate, because it may jump: it stamps data and never decides
//! safety (DESIGN D8).
#![allow(clippy::disallowed_methods, reason = "this is the room that the ban points to")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in monotonic time.
pub type Instant = tokio::time::Instant;

/// A handle to monotonic and wall time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Arc<Wall>,
}

/// Where wall time comes from.
#[derive(Debug)]
enum Wall {
    /// The operating system's clock.
    System,
    /// `base_ms` at `start`, moved on by monotonic time; tests shift it to play a clock jump.
    Manual { base_ms: AtomicI64, start: Instant },
}

/// The deadline of [`Clock::timeout`] passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

impl Clock {
    /// The operating system's clocks.
    pub fn system() -> Self {
        Self { wall: Arc::new(Wall::System) }
    }

    /// A wall clock that starts at `wall_ms` (milliseconds since the Unix epoch) and moves only
    /// with monotonic time and [`Clock::shift_wall`]; with tokio's paused clock it is exact.
    pub fn manual(wall_ms: i64) -> Self {
        let wall = Wall::Manual { base_ms: AtomicI64::new(wall_ms), start: Instant::now() };
        Self { wall: Arc::new(wall) }
    }

    /// Now, in monotonic time.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Now, in milliseconds since the Unix epoch, by the wall clock.
    pub fn wall_ms(&self) -> i64 {
        match &*self.wall {
            Wall::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or_else(|before| -millis(before.duration()), millis),
            Wall::Manual { base_ms, start } => {
                base_ms.load(Ordering::Relaxed).saturating_add(millis(start.elapsed()))
            }
        }
    }

    /// Moves a manual wall clock by `delta_ms`; the system clock is left alone.
    pub fn shift_wall(&self, delta_ms: i64) {
        if let Wall::Manual { base_ms, .. } = &*self.wall {
            base_ms.fetch_add(delta_ms, Ordering::Relaxed);
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Runs `future` for at most `limit`.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(limit, future).await.map_err(|_| Elapsed)
    }

    /// Runs `future` until `deadline` at the latest.
    pub async fn timeout_at<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(deadline, future).await.map_err(|_| Elapsed)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A source of random numbers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Random {
    /// `None` is the operating system's generator, `Some` a seeded sequence for tests.
    seeded: Option<Arc<AtomicU64>>,
}

impl Random {
    /// The operating system's generator.
    pub fn system() -> Self {
        Self { seeded: None }
    }

    /// A sequence that depends on `seed` alone, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Arc::new(AtomicU64::new(seed))) }
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        match &self.seeded {
            None => getrandom::u64().expect("the operating system has random numbers"),
            Some(state) => {
                // SplitMix64 (Steele, Lea, Flood 2014): one add, then a mix.
                const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
                let mut z = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ (z >> 31)
            }
        }
    }

    /// 128 random bits.
    pub fn u128(&self) -> u128 {
        (u128::from(self.u64()) << 64) | u128::from(self.u64())
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.u128().to_be_bytes()).into_uuid()
    }

    /// A number in `0..bound`; 0 for a bound of 0. The bias is below 2^-32 for bounds below 2^32.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.u64() % bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn manual_wall_time_moves_with_the_paused_clock_and_with_shifts() {
        let clock = Clock::manual(1_000);
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.wall_ms(), 3_000);
        clock.shift_wall(-2_500);
        assert_eq!(clock.wall_ms(), 500);
    }

    #[test]
    fn seeded_randomness_repeats_and_differs_by_seed() {
        let draw = |seed| Random::seeded(seed).u128();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}

//! Measures a bucket: how long it takes to answer, and how far its clock is from ours.

use std::time::Duration;

use bytes::Bytes;

use super::error::ObjectError;
use super::key::Key;
use super::store::Store;
use crate::clock::{Clock, Random};

/// How often each operation is timed.
const ROUNDS: usize = 8;

/// The size of the objects: what a small metadata entry has.
const OBJECT_BYTES: usize = 4_096;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How long writes of 4 KiB took, the shortest first; never empty.
    pub writes: Vec<Duration>,
    /// How long it took to read them back.
    pub reads: Vec<Duration>,
    /// By how many milliseconds the bucket's clock is ahead of ours, as far as times in whole
    /// seconds can tell.
    pub clock_ahead_ms: i64,
}

/// Measures the bucket. The objects lie under `probe/` and are removed.
pub async fn measure(
    store: &Store,
    clock: &Clock,
    random: &Random,
) -> Result<Measured, ObjectError> {
    let key = Key::new(format!("probe/{:032x}/measured", random.u128()));
    let body = Bytes::from(vec![b'x'; OBJECT_BYTES]);
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    let mut clock_ahead_ms = 0;
    for _ in 0..ROUNDS {
        let (begun, before_ms) = (clock.now(), clock.wall_ms());
        store.put(&key, body.clone()).await?;
        let (written, after_ms) = (clock.now(), clock.wall_ms());
        store.get(&key, OBJECT_BYTES as u64).await?;
        reads.push(clock.now().duration_since(written));
        writes.push(written.duration_since(begun));
        clock_ahead_ms = ahead(store.modified_ms(&key).await?, before_ms, after_ms);
    }
    store.delete(&key).await?;
    writes.sort_unstable();
    reads.sort_unstable();
    Ok(Measured { writes, reads, clock_ahead_ms })
}

/// A time that was taken between two of ours, and cut to whole seconds or not, shows only what lies
/// outside of what both allow.
fn ahead(theirs_ms: i64, before_ms: i64, after_ms: i64) -> i64 {
    if theirs_ms > after_ms {
        theirs_ms - after_ms
    } else if theirs_ms.saturating_add(999) < before_ms {
        theirs_ms + 999 - before_ms
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::FaultStore;
    use super::*;

    #[test]
    fn a_time_in_whole_seconds_within_what_is_possible_shows_no_difference() {
        assert_eq!(ahead(5_000, 5_200, 5_900), 0);
        assert_eq!(ahead(5_000, 4_900, 5_100), 0);
        assert_eq!(ahead(5_000, 7_000, 7_100), -1_001);
        assert_eq!(ahead(9_000, 7_000, 7_100), 1_900);
    }

    #[tokio::test]
    async fn a_bucket_is_measured_and_left_as_it_was() {
        let bucket = FaultStore::memory();
        let (clock, random) = (Clock::system(), Random::seeded(7));
        let measured = measure(&bucket.store(), &clock, &random).await.unwrap();
        assert_eq!((measured.writes.len(), measured.reads.len()), (ROUNDS, ROUNDS));
        assert!(measured.writes.is_sorted() && measured.reads.is_sorted());
        assert_eq!(bucket.writes(), ROUNDS as u64 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_whose_clock_is_off_is_seen() {
        let store = FaultStore::memory().store();
        let clock = Clock::system();
        let real_ms = clock.wall_ms();
        let behind = Clock::manual(real_ms - 3_600_000);
        let measured = measure(&store, &behind, &Random::seeded(7)).await.unwrap();
        let hour = 3_600_000..3_660_000;
        assert!(hour.contains(&measured.clock_ahead_ms), "{}", measured.clock_ahead_ms);
    }
}

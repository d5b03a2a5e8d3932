//! Pieces of an object: each once and whole, whatever becomes of attempts.

use super::*;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;
use crate::object::chaos::{Chaos, Weather};
use crate::object::testing::FaultStore;

fn body() -> Vec<u8> {
    (0..2_000u32).map(|at| (at * 7 % 251) as u8).collect()
}

fn key() -> Key {
    Key::new("k")
}

/// What of the object is in `pieces`.
fn expected(pieces: &[Range<u64>]) -> Vec<Bytes> {
    let body = body();
    let within = |at: u64| (at as usize).min(body.len());
    let cut = |piece: &Range<u64>| body[within(piece.start)..within(piece.end)].to_vec().into();
    pieces.iter().map(cut).collect()
}

async fn read(store: &Store, pieces: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
    let mut taken = Vec::new();
    let take = |piece| {
        taken.push(piece);
        true
    };
    store.get_pieces(&key(), pieces, take).await.map(|()| taken)
}

#[tokio::test]
async fn pieces_of_memory_and_of_files_are_what_the_object_has_there() {
    let temp = tempfile::tempdir().unwrap();
    for url in ["memory://".to_owned(), format!("file://{}", temp.path().display())] {
        let (clock, random) = (Clock::system(), Random::seeded(1));
        let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
        store.put(&key(), body().into()).await.unwrap();
        for pieces in [
            vec![],
            vec![0..10, 10..2_000],
            vec![3..4, 4..4],
            vec![0..10, 10..700, 700..701],
            vec![5..10, 20..30, 30..30, 1_999..2_000],
            vec![1_000..1_990, 1_995..2_010, 2_020..2_030],
        ] {
            assert_eq!(read(&store, &pieces).await.unwrap(), expected(&pieces), "{pieces:?}");
        }
        let other = store.get_pieces(&Key::new("other"), &[0..1, 1..2], |_| true).await;
        assert_eq!(other, Err(ObjectError::NotFound { key: Key::new("other") }));
    }
}

#[tokio::test]
async fn pieces_cost_one_get_and_end_when_no_more_is_wanted() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    store.put(&key(), body().into()).await.unwrap();
    let pieces = [0..10, 15..20, 20..30];
    assert_eq!(read(&store, &pieces).await.unwrap(), expected(&pieces));
    assert_eq!((bucket.gets(), bucket.ranges()[0].clone()), (1, 0..30));
    let mut taken = 0;
    let one = |_| {
        taken += 1;
        taken < 2
    };
    store.get_pieces(&key(), &pieces, one).await.unwrap();
    assert_eq!((taken, bucket.gets()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn each_piece_is_taken_and_asked_for_once_in_any_weather() {
    let pieces: Vec<Range<u64>> = (0..20).map(|at| at * 100..at * 100 + 100).collect();
    let (mut whole, mut resumed) = (0, 0);
    for seed in 0..100 {
        let bucket = FaultStore::memory();
        bucket.store().put(&key(), body().into()).await.unwrap();
        let weather = format!("refused=100 lost=50 cut=300 seed={seed}");
        let weather = Weather::parse(&weather).unwrap();
        let clock = Clock::system();
        let chaos = Chaos::new(Arc::new(bucket.clone()), None, None, &weather, &clock);
        let (random, registry) = (Random::seeded(seed), Registry::new());
        let backend = Arc::new(chaos);
        let store = Store::over("test://", backend, None, None, &clock, &random, &registry);
        let mut taken = Vec::new();
        let take = |piece| {
            taken.push(piece);
            true
        };
        let outcome = store.get_pieces(&key(), &pieces, take).await;
        assert_eq!(taken, expected(&pieces)[..taken.len()], "{seed}");
        whole += u64::from(outcome.is_ok() && taken.len() == pieces.len());
        let starts: Vec<u64> = bucket.ranges().iter().map(|range| range.start).collect();
        assert!(starts.is_sorted(), "{starts:?}");
        resumed += u64::from(starts.last().is_some_and(|start| *start > 0));
    }
    assert!(whole > 50 && resumed > 10, "{whole} {resumed}");
}

#[test]
fn of_two_attempts_the_first_that_has_a_piece_gives_it() {
    let mut taken = Vec::new();
    let take = |piece: Bytes| {
        taken.push(piece);
        true
    };
    let mut taker = Taker { taken: 0, bytes: 0, take };
    for (index, piece) in [(0, "a"), (0, "A"), (1, "b"), (2, "c"), (1, "B"), (2, "C"), (3, "D")] {
        assert!(taker.give(index, piece.into()));
    }
    assert_eq!(taker.bytes, 4);
    assert_eq!(taken, ["a", "b", "c", "D"]);
}

//! What every backend has to do, in the words of [`Store`].

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use tidegate::clock::Random;
use tidegate::object::probe::{self, ProbeError, Property};
use tidegate::object::{Key, ObjectError, PutNewError, Store, Writer, WriterId};

use crate::parts;

pub const LIMIT: u64 = 64 << 20;

/// Names of the shapes that are in use, and some that services treat in ways of their own.
const NAMES: &[&str] = &[
    "plain",
    "meta/00000000000000000007",
    "a/deep/er/name/of/many/parts",
    "ab/0123456789abcdef-0000000000000001.seg",
    "with=equals/and.dots/and_underscores",
];

/// What becomes of writers that create one object at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Races {
    /// One of them wins.
    AreWon,
    /// The store looks and then writes, so that two may win. The probe refuses it when it sees that,
    /// and names it.
    MayBeLost,
}

/// Fails unless `store` does all of it, with so many objects to list; nothing is left behind.
pub async fn holds(store: &Store, listed: usize, races: Races) {
    match probe::run(store, &Random::system()).await {
        Err(ProbeError::Broken { property: Property::CreateRace, .. })
            if races == Races::MayBeLost => {}
        probed => probed.unwrap(),
    }
    objects_come_back_as_they_were_written(store).await;
    parts_come_back_as_they_were_written(store).await;
    what_is_not_there_is_told_from_what_fails(store).await;
    if races == Races::AreWon {
        one_of_many_writers_wins(store).await;
    }
    parts::hold(store, listed).await;
}

async fn objects_come_back_as_they_were_written(store: &Store) {
    for name in NAMES {
        let key = Key::new(name);
        for body in [body(0), body(1), body(100_000), body(0)] {
            store.put(&key, body.clone()).await.unwrap();
            assert_eq!(store.get(&key, LIMIT).await.unwrap(), body, "{name}");
        }
        store.delete(&key).await.unwrap();
    }
    let (key, large) = (Key::new("large"), body(20 << 20));
    store.put(&key, large.clone()).await.unwrap();
    assert!(store.get(&key, LIMIT).await.unwrap() == large);
    store.delete(&key).await.unwrap();
}

async fn parts_come_back_as_they_were_written(store: &Store) {
    let (key, whole) = (Key::new("parts"), body(1_000_000));
    store.put(&key, whole.clone()).await.unwrap();
    for range in [0..1, 0..1_000_000, 999_999..1_000_000, 4_096..70_000] {
        let part = store.get_range(&key, range.clone()).await.unwrap();
        assert!(part == whole.slice(range.start as usize..range.end as usize), "{range:?}");
    }
    let beyond = store.get_range(&key, 999_990..2_000_000).await.unwrap();
    assert!(beyond == whole.slice(999_990..), "{}", beyond.len());
    store.delete(&key).await.unwrap();
}

async fn what_is_not_there_is_told_from_what_fails(store: &Store) {
    let key = Key::new("never/written");
    let not_found = ObjectError::NotFound { key: key.clone() };
    assert_eq!(store.get(&key, LIMIT).await.unwrap_err(), not_found);
    assert_eq!(store.get_range(&key, 0..10).await.unwrap_err(), not_found);
    store.delete(&key).await.unwrap();
    store.put(&key, body(10)).await.unwrap();
    let too_large = ObjectError::TooLarge { key: key.clone(), size: 10, limit: 9 };
    assert_eq!(store.get(&key, 9).await.unwrap_err(), too_large);
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key, LIMIT).await.unwrap_err(), not_found);
}

async fn one_of_many_writers_wins(store: &Store) {
    const KIND: [u8; 4] = *b"TEST";
    let key = Key::numbered("race", 1);
    let writer = |number: u8| {
        let id = WriterId { cluster: [9; 16], incarnation: [number; 16] };
        Writer::new(id, 0)
    };
    let bodies: Vec<_> = (0..12).map(|n| writer(n).seal(KIND, 1, &[n; 1_000])).collect();
    let outcomes = join_all(bodies.iter().map(|body| store.put_new(&key, body))).await;
    let winners: Vec<_> = (0..12).filter(|n| outcomes[*n].is_ok()).collect();
    let [winner] = winners.as_slice() else { panic!("{outcomes:?}") };
    let mut named = BTreeSet::new();
    for outcome in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let PutNewError::Fenced { writer: Some(writer), .. } = outcome else { panic!("{outcome}") };
        named.insert(writer.incarnation);
    }
    assert_eq!(named, [[*winner as u8; 16]].into(), "all losers name the winner");
    store.put_new(&key, &bodies[*winner]).await.unwrap();
    assert!(store.get(&key, LIMIT).await.unwrap().starts_with(&bodies[*winner].first_bytes()));
    store.delete(&key).await.unwrap();
}

/// Bytes that differ from place to place.
pub fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

//! Objects, numbered logs and their parts in bad weather: what they should be or an error, never
//! anything else. Time is tokio's paused clock, so lost answers cost nothing.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::*;
use crate::metrics::Registry;
use crate::object::testing::InMemory;
use crate::object::{
    CreateError, Key, NumberedLog, ObjectError, PutNewError, Store, Writer, WriterId,
};

/// All of it, each now and then.
pub(crate) const STORM: &str = "refused=80 lost=40 unanswered=40 cut=60 flipped=60 unlisted=100 \
                                late=200 latency=1..2000";

/// A bucket that several processes share.
pub(crate) fn memory() -> Arc<InMemory> {
    Arc::new(InMemory::new())
}

/// The store of one process, which sees the bucket through the weather.
pub(crate) fn store(bucket: &Arc<InMemory>, weather: &str, seed: u64) -> Store {
    let (clock, random) = (Clock::system(), Random::seeded(seed));
    let weather = Weather::parse(&format!("{weather} seed={seed}")).unwrap();
    let (backend, multipart) = (Arc::clone(bucket) as _, Some(Arc::clone(bucket) as _));
    let chaos = Chaos::new(backend, multipart, None, &weather, &clock);
    let (backend, multipart) = (Arc::new(chaos.clone()) as _, Some(Arc::new(chaos) as _));
    Store::over("memory://", backend, multipart, None, &clock, &random, &Registry::new())
}

fn writer(number: u8) -> Writer {
    Writer::new(WriterId { cluster: [1; 16], incarnation: [number; 16] }, 0)
}

#[test]
fn the_weather_is_read_or_refused_by_its_word() {
    let weather = Weather::parse("seed=3 refused=5 get.refused=6 put.latency=1..9").unwrap();
    assert_eq!(weather.seed, 3);
    assert_eq!(weather.odds[Operation::Get as usize], Odds { refused: 6, ..Odds::default() });
    let put = Odds { refused: 5, latency: (1, 9), ..Odds::default() };
    assert_eq!(weather.odds[Operation::Put as usize], put);
    for word in ["rain=1", "refused", "refused=x", "fly.refused=1", "latency=5"] {
        assert!(Weather::parse(word).unwrap_err().contains(word));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_weather() {
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let bucket = memory();
        let store = store(&bucket, "refused=600 flipped=500", seed);
        let mut outcomes = Vec::new();
        for n in 0..20 {
            let key = Key::numbered("k", n);
            outcomes.push((store.put(&key, "body".into()).await, store.get(&key, 9).await));
        }
        seen.push(outcomes);
    }
    assert!(seen[0] == seen[1] && seen[1] != seen[2]);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_weather_happens_to_what_it_is_for() {
    let bucket = memory();
    let key = Key::new("k");
    let calm = store(&bucket, "", 1);
    calm.put(&key, "body".into()).await.unwrap();
    let clock = Clock::system();
    for (weather, outcome) in [
        ("get.refused=1000", None),
        ("get.lost=1000", None),
        ("get.cut=1000", None),
        ("put.refused=1000 get_range.lost=1000 latency=50..50", Some(true)),
        ("get.flipped=1000", Some(false)),
    ] {
        let begun = clock.now();
        let read = store(&bucket, weather, 7).get(&key, 9).await;
        assert_eq!(read.as_ref().ok().map(|body| *body == "body"), outcome, "{weather} {read:?}");
        assert!(clock.now() > begun || outcome == Some(false), "{weather}");
    }
    let unanswered = store(&bucket, "put.unanswered=1000", 7);
    assert!(unanswered.put(&key, "new".into()).await.unwrap_err().is_retriable());
    assert_eq!(calm.get(&key, 9).await.unwrap(), "new");
    let lost = store(&bucket, "put.lost=1000", 7);
    assert!(lost.put(&key, "newer".into()).await.unwrap_err().is_retriable());
    assert_eq!(calm.get(&key, 9).await.unwrap(), "new");
    assert_eq!(store(&bucket, "unlisted=1000", 7).list("").next_page().await.unwrap(), None);
    let late = store(&bucket, "late=1000", 7);
    let mut listings = 1;
    while late.list("").next_page().await.unwrap().is_none() {
        listings += 1;
    }
    assert!((2..=4).contains(&listings), "{listings}");
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_owner_in_any_weather() {
    let (mut owned, mut fenced) = (0, 0);
    for seed in 0..150 {
        let bucket = memory();
        let key = Key::numbered("k", 1);
        let bodies: Vec<_> = (0..3).map(|n| writer(n).seal(*b"TEST", 1, &[n; 100])).collect();
        let outcomes = join_all((0..3).map(|n| {
            let store = store(&bucket, STORM, 3 * seed + n);
            let (key, body) = (&key, &bodies[n as usize]);
            async move { store.put_new(key, body).await }
        }))
        .await;
        let found = store(&bucket, "", 0).get(&key, 1 << 10).await.ok();
        for (body, outcome) in bodies.iter().zip(outcomes) {
            let is_mine = found.as_ref() == Some(&body.bytes);
            match outcome {
                Ok(()) => assert!(is_mine, "{seed}"),
                Err(PutNewError::Fenced { writer, .. }) => {
                    assert!(found.is_some() && !is_mine, "{seed}");
                    let owner = bodies.iter().find(|it| Some(&it.bytes) == found.as_ref());
                    assert_eq!(writer, owner.map(|it| it.head.writer), "{seed}");
                    fenced += 1;
                }
                Err(PutNewError::Unknown { .. }) => {}
                Err(error) => panic!("{seed}: {error}"),
            }
            owned += u64::from(is_mine);
        }
    }
    assert!(owned > 140 && fenced > 200, "{owned} {fenced}");
}

/// What a process knows to be its own after it has appended for a while.
async fn append(log: &NumberedLog, writer: &Writer) -> BTreeMap<u64, Bytes> {
    let mut mine = BTreeMap::new();
    let mut number = 1;
    while mine.len() < 4 && number < 60 {
        let body = log.seal(writer, number, &[writer.id().incarnation[0]; 9]);
        for _ in 0..5 {
            match log.create(&body).await {
                Ok(()) => {
                    mine.insert(number, body.bytes.clone());
                    break;
                }
                Err(CreateError::Put(PutNewError::Fenced { .. })) => break,
                Err(
                    CreateError::Put(PutNewError::Unknown { .. }) | CreateError::FloorUnread { .. },
                ) => {}
                Err(error) => panic!("{error}"),
            }
        }
        number += 1;
    }
    mine
}

#[tokio::test(start_paused = true)]
async fn a_log_is_one_for_all_who_write_and_read_it_in_any_weather() {
    let (mut entries, mut errors, mut reads) = (0, 0, 0);
    for seed in 0..25 {
        let bucket = memory();
        let open = |weather: &str, seed| {
            NumberedLog::with_floor(store(&bucket, weather, seed), "log", *b"TEST", 100)
        };
        let mine = join_all((0..3).map(|n| {
            let log = open(STORM, 1_000 + 3 * seed + n);
            async move { append(&log, &writer(n as u8)).await }
        }))
        .await;
        let calm = open("", 0);
        let truth = calm.read_on(1, 100).await.unwrap();
        let firsts: Vec<_> = truth.iter().map(|entry| &entry.first_bytes).collect();
        for (number, body) in mine.into_iter().flatten() {
            assert_eq!(*firsts[number as usize - 1], body.slice(..64), "{seed} {number}");
            entries += 1;
        }
        let stormy = open(STORM, 2_000 + seed);
        for _ in 0..10 {
            match stormy.read_on(1, 100).await {
                Ok(read) => {
                    assert!(read.iter().map(|entry| &entry.first_bytes).eq(firsts.clone()));
                    assert!(read.iter().zip(&truth).all(|(a, b)| a.payload == b.payload));
                    reads += 1;
                }
                Err(_) => errors += 1,
            }
        }
    }
    assert!(entries > 200 && reads > 50, "{entries} {reads} {errors}");
}

#[tokio::test(start_paused = true)]
async fn objects_of_parts_are_whole_or_not_there_in_any_weather() {
    let mut whole = 0;
    for seed in 0..100 {
        let bucket = memory();
        let store = store(&bucket, STORM, seed);
        let key = Key::new("k");
        let written = async {
            let mut upload = store.upload(&key).await?;
            for part in ["abc", "def", "gh"] {
                upload.part(Bytes::from_static(part.as_bytes())).await?;
            }
            upload.complete().await
        };
        let written = written.await;
        let found = self::store(&bucket, "", 0).get(&key, 99).await;
        match &found {
            Ok(body) => assert_eq!(*body, "abcdefgh", "{seed}"),
            Err(error) => assert_eq!(*error, ObjectError::NotFound { key }, "{seed}"),
        }
        assert!(written.is_err() || found.is_ok(), "{seed}");
        whole += u64::from(written.is_ok());
    }
    assert!(whole > 50, "{whole}");
}

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::clock::Random;
use crate::object::WriterId;
use crate::object::testing::{Fault, FaultStore, Faults};

type State = BTreeMap<u8, Vec<u8>>;

const CLUSTER: [u8; 16] = [1; 16];

fn writer(incarnation: u8) -> Writer {
    Writer::new(WriterId { cluster: CLUSTER, incarnation: [incarnation; 16] }, 0)
}

fn summary(covers: u64) -> Summary {
    Summary { identity: [7; 16], covers, metadata_number: 1, wall_ms: 0 }
}

async fn open(store: Store, incarnation: u8) -> BucketLog {
    let (mut log, _) = BucketLog::open(store, 1, writer(incarnation)).await.unwrap();
    log.entry_bytes = HEAD_BYTES + 30;
    log
}

/// The items that lead from one state to another; the first is that of the last checkpoint.
fn items(kind: Kind, before: &State, after: &State) -> Vec<Item> {
    let before = if kind == Kind::Base { &State::new() } else { before };
    let key = |key: &u8| Bytes::from(vec![*key]);
    let changed = after.iter().filter(|(at, part)| before.get(at) != Some(part));
    let parts = changed.map(|(at, part)| Item::Part { key: key(at), part: part.clone().into() });
    let gone = before.keys().filter(|at| !after.contains_key(at));
    parts.chain(gone.map(|at| Item::Removal { key: key(at) })).collect()
}

async fn publish(
    log: &mut BucketLog,
    before: &State,
    after: &State,
    covers: u64,
) -> Result<Kind, PublishError> {
    let mut publication = log.begin().await?;
    let kind = publication.kind();
    for item in items(kind, before, after) {
        publication.push(&item).await?;
    }
    publication.finish(summary(covers)).await?;
    Ok(kind)
}

fn reader(store: Store) -> CheckpointReader {
    CheckpointReader::new(store, 1, CLUSTER)
}

/// What the log says, and up to where.
async fn load(store: Store) -> Result<Option<(State, u64)>, LoadError> {
    let reader = reader(store);
    let found = reader.find().await?;
    let (mut items, mut state) = (reader.items(&found), State::new());
    while let Some(item) = items.next().await? {
        match item {
            Item::Part { key, part } => drop(state.insert(key[0], part.to_vec())),
            Item::Removal { key } => assert!(state.remove(&key[0]).is_some(), "{key:?}"),
        }
    }
    Ok(found.summary().map(|summary| (state, summary.covers)))
}

/// States that follow each other: parts are added, changed and removed, some larger than an entry.
fn states(seed: u64, count: usize) -> Vec<State> {
    let random = Random::seeded(seed);
    let mut states = vec![State::new()];
    while states.len() < count {
        let mut next = states.last().unwrap().clone();
        for _ in 0..=random.below(2) {
            let (key, len) = (random.below(6) as u8, random.below(70) as usize);
            if random.below(4) == 0 {
                next.remove(&key);
            } else {
                next.insert(key, vec![random.u64() as u8; len]);
            }
        }
        states.push(next);
    }
    states
}

#[tokio::test(start_paused = true)]
async fn an_empty_log_has_no_checkpoint() {
    let bucket = FaultStore::memory();
    assert_eq!(load(bucket.store()).await.unwrap(), None);
    let (_, last) = BucketLog::open(bucket.store(), 1, writer(1)).await.unwrap();
    assert_eq!(last, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_is_what_was_published_last_and_old_entries_are_gone() {
    for seed in 0..20 {
        let bucket = FaultStore::memory();
        let mut log = open(bucket.store(), 1).await;
        let (mut kinds, states) = (Vec::new(), states(seed, 40));
        for (at, pair) in states.windows(2).enumerate() {
            kinds.push(publish(&mut log, &pair[0], &pair[1], at as u64).await.unwrap());
            log.trim().await.unwrap();
            let found = load(bucket.store()).await.unwrap();
            assert_eq!(found, Some((pair[1].clone(), at as u64)), "seed {seed}");
        }
        assert_eq!(kinds[0], Kind::Base);
        assert!(kinds[1..].contains(&Kind::Base) && kinds.contains(&Kind::Delta), "{kinds:?}");
        // The floor is the last base, and nothing is left below it.
        let base = log.chain.unwrap().base;
        let found = reader(bucket.store()).find().await.unwrap();
        assert_eq!(found.first, base);
        for number in 1..base {
            assert!(log.log.read(number).await.unwrap().is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_base_follows_when_the_deltas_exceed_half_of_the_last_or_are_too_many() {
    let bucket = FaultStore::memory();
    let mut log = open(bucket.store(), 1).await;
    log.entry_bytes = ENTRY_BYTES;
    let large = State::from([(0, vec![1; 100_000])]);
    publish(&mut log, &State::new(), &large, 0).await.unwrap();
    for _ in 0..DELTAS_MAX {
        assert_eq!(publish(&mut log, &large, &large, 0).await.unwrap(), Kind::Delta);
    }
    assert_eq!(publish(&mut log, &large, &large, 0).await.unwrap(), Kind::Base);
    let other = State::from([(0, vec![2; 100_000])]);
    assert_eq!(publish(&mut log, &large, &other, 0).await.unwrap(), Kind::Delta);
    assert_eq!(publish(&mut log, &other, &large, 0).await.unwrap(), Kind::Base);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_the_log_says_the_last_state_or_the_one_on_its_way() {
    let states = states(3, 12);
    for step in 0..1_000 {
        let backend = FaultStore::memory();
        let faults = Faults::crash_at(step);
        let cut = FaultStore::new(Arc::new(backend.clone()), faults.clone());
        let mut acknowledged = None;
        if let Ok((mut log, _)) = BucketLog::open(cut.store(), 1, writer(1)).await {
            log.entry_bytes = HEAD_BYTES + 30;
            for (at, pair) in states.windows(2).enumerate() {
                if publish(&mut log, &pair[0], &pair[1], at as u64).await.is_err() {
                    break;
                }
                acknowledged = Some(at);
                let _cut = log.trim().await;
            }
        }
        let found = load(backend.store()).await.unwrap();
        let at = found.as_ref().map(|(_, at)| *at as usize);
        let next = acknowledged.map_or(0, |at| at + 1);
        assert!(at == acknowledged || at == Some(next), "{at:?} at step {step}");
        if let Some((state, at)) = found {
            assert_eq!(state, states[at as usize + 1], "step {step}");
        }
        if !faults.crashed() {
            assert!(step > 40, "the test cuts at {step} steps");
            return;
        }
        // The next run goes on.
        let mut log = open(backend.store(), 2).await;
        let last = &states[states.len() - 1];
        assert_eq!(publish(&mut log, last, last, 99).await.unwrap(), Kind::Base);
        log.trim().await.unwrap();
        assert_eq!(load(backend.store()).await.unwrap(), Some((last.clone(), 99)));
    }
    panic!("the run never ends");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_loses_no_checkpoint_and_none_is_there_twice() {
    let states = states(5, 4);
    for fault in [Fault::Before, Fault::After, Fault::Late] {
        for at in 0..10 {
            let bucket = FaultStore::memory();
            let mut log = open(bucket.store(), 1).await;
            publish(&mut log, &states[0], &states[1], 1).await.unwrap();
            // As many as one creation makes.
            let mut script = vec![None; at];
            script.extend([Some(fault); 4]);
            bucket.script_some(&script);
            let first = publish(&mut log, &states[1], &states[2], 2).await;
            bucket.script(&[]);
            bucket.release().await;
            let found = load(bucket.store()).await.unwrap().unwrap();
            match first {
                Ok(_) => assert_eq!(found, (states[2].clone(), 2)),
                Err(_) => assert_eq!(log.next_kind(), Kind::Base),
            }
            publish(&mut log, &states[2], &states[3], 3).await.unwrap();
            assert_eq!(load(bucket.store()).await.unwrap(), Some((states[3].clone(), 3)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_dropped_counts_for_nothing_and_the_next_is_a_base() {
    let bucket = FaultStore::memory();
    let mut log = open(bucket.store(), 1).await;
    let states = states(5, 3);
    publish(&mut log, &states[0], &states[1], 1).await.unwrap();
    let mut dropped = log.begin().await.unwrap();
    dropped.push(&Item::Part { key: "k".into(), part: vec![0; 500].into() }).await.unwrap();
    drop(dropped);
    assert_eq!(load(bucket.store()).await.unwrap(), Some((states[1].clone(), 1)));
    // Another is dropped while its entry is on the way.
    bucket.script(&[Fault::Hang]);
    let clock = crate::clock::Clock::system();
    let hanging = publish(&mut log, &states[1], &states[2], 2);
    clock.timeout(std::time::Duration::from_millis(1), hanging).await.unwrap_err();
    assert_eq!(publish(&mut log, &states[1], &states[2], 2).await.unwrap(), Kind::Base);
    assert_eq!(load(bucket.store()).await.unwrap(), Some((states[2].clone(), 2)));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_the_run_before_that_comes_late_is_stepped_over() {
    let bucket = FaultStore::memory();
    let states = states(5, 4);
    let mut old = open(bucket.store(), 1).await;
    publish(&mut old, &states[0], &states[1], 1).await.unwrap();
    bucket.script(&[Fault::Late, Fault::Before, Fault::Before, Fault::Before]);
    publish(&mut old, &states[1], &states[2], 2).await.unwrap_err();
    let mut new = open(bucket.store(), 2).await;
    bucket.release().await;
    let taken = publish(&mut new, &states[2], &states[3], 3).await.unwrap_err();
    assert!(matches!(taken, PublishError::Taken { .. }), "{taken}");
    load(bucket.store()).await.unwrap().unwrap();
    assert!(new.step_over().await.unwrap());
    assert_eq!(publish(&mut new, &states[2], &states[3], 3).await.unwrap(), Kind::Base);
    assert_eq!(load(bucket.store()).await.unwrap(), Some((states[3].clone(), 3)));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_log_another_writes_is_told_so_and_cannot_step_over() {
    let bucket = FaultStore::memory();
    let states = states(5, 4);
    let mut old = open(bucket.store(), 1).await;
    publish(&mut old, &states[0], &states[1], 1).await.unwrap();
    let mut new = open(bucket.store(), 2).await;
    publish(&mut new, &states[1], &states[2], 2).await.unwrap();
    let taken = publish(&mut old, &states[1], &states[3], 3).await.unwrap_err();
    assert!(matches!(taken, PublishError::Taken { .. }), "{taken}");
    assert!(taken.to_string().contains("c/1/"), "{taken}");
    assert!(!old.step_over().await.unwrap());
    // One that slept through a trim, so that its number is free, is told so too.
    let mut sleeper = open(bucket.store(), 3).await;
    for _ in 0..3 {
        let _delta = publish(&mut new, &states[2], &states[2], 4).await.unwrap();
    }
    new.chain = None;
    publish(&mut new, &states[2], &states[2], 4).await.unwrap();
    new.trim().await.unwrap();
    let taken = publish(&mut sleeper, &states[1], &states[3], 3).await.unwrap_err();
    assert!(matches!(taken, PublishError::Taken { .. }), "{taken}");
    assert!(!sleeper.step_over().await.unwrap());
}

/// A log of a base and three deltas, of several entries each.
async fn several() -> (FaultStore, u64) {
    let bucket = FaultStore::memory();
    let mut log = open(bucket.store(), 1).await;
    let mut state = State::from([(0, vec![0; 900])]);
    publish(&mut log, &State::new(), &state, 0).await.unwrap();
    for key in 1..4 {
        let before = state.clone();
        state.insert(key, vec![key; 50]);
        assert_eq!(publish(&mut log, &before, &state, 1).await.unwrap(), Kind::Delta);
    }
    (bucket, log.next)
}

#[tokio::test(start_paused = true)]
async fn damaged_missing_and_foreign_entries_are_named() {
    let (bucket, end) = several().await;
    let store = bucket.store();
    let key = |number| Key::numbered("c/1", number);
    for number in 1..end {
        let good = store.get(&key(number), 1_000).await.unwrap();
        let damaged: Vec<_> = good.iter().map(|byte| byte ^ 0x10).collect();
        let foreign = Writer::new(WriterId { cluster: [9; 16], incarnation: [1; 16] }, 0);
        let log = NumberedLog::new(store.clone(), "c/1", KIND, 1_000);
        let copied = store.get(&key(if number == 1 { 2 } else { 1 }), 1_000).await.unwrap();
        let mut bad = vec![Some(damaged.into()), Some(copied)];
        if number + 1 < end {
            bad.push(None);
        }
        for bad in bad {
            store.delete(&key(number)).await.unwrap();
            if let Some(bad) = bad {
                store.put(&key(number), bad).await.unwrap();
            }
            let error = load(bucket.store()).await.unwrap_err().to_string();
            assert!(error.contains(&key(number).to_string()), "{error}");
            BucketLog::open(bucket.store(), 1, writer(2)).await.unwrap_err();
        }
        store.delete(&key(number)).await.unwrap();
        let sealed = log.seal(&foreign, number, &good[64..]);
        log.create(&sealed).await.unwrap();
        let error = load(bucket.store()).await.unwrap_err();
        assert!(matches!(error, LoadError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(&key(number).to_string()), "{error}");
        store.put(&key(number), good).await.unwrap();
    }
    load(bucket.store()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_intact_and_does_not_follow_is_named() {
    let place = |first, base, previous| Place { first, base, previous };
    let end = End { summary: summary(1), items: 0 };
    let whole = |place| Head { place, end: Some(end) }.encode(b"");
    let part = |place| Head { place, end: None }.encode(b"");
    // Per case the payloads of entries 1 and on, and the entry that is named.
    let base = place(1, 1, 0);
    let cases = [
        (vec![whole(place(2, 2, 0))], 1),
        (vec![whole(place(1, 0, 0))], 1),
        (vec![whole(base), whole(base)], 2),
        (vec![whole(base), part(base)], 2),
        (vec![part(base), whole(place(2, 1, 1))], 2),
        (vec![whole(base), whole(place(2, 1, 1)), whole(place(3, 1, 1))], 3),
        (vec![whole(base), whole(place(2, 2, 0)), whole(place(3, 1, 1))], 3),
        (vec![Head { place: base, end: Some(End { items: 1, ..end }) }.encode(b"")], 1),
        (vec![Head { place: base, end: Some(end) }.encode(b"\x02")], 1),
    ];
    for (case, (payloads, named)) in cases.into_iter().enumerate() {
        let bucket = FaultStore::memory();
        let log = NumberedLog::new(bucket.store(), "c/1", KIND, 1_000);
        for (at, payload) in payloads.iter().enumerate() {
            log.create(&log.seal(&writer(1), at as u64 + 1, payload)).await.unwrap();
        }
        let error = load(bucket.store()).await.unwrap_err().to_string();
        assert!(error.contains(&log.key(named).to_string()), "case {case}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn entries_of_two_runs_make_no_checkpoint_together() {
    let bucket = FaultStore::memory();
    let log = NumberedLog::new(bucket.store(), "c/1", KIND, 1_000);
    let place = Place { first: 1, base: 1, previous: 0 };
    let end = End { summary: summary(1), items: 0 };
    let heads = [Head { place, end: None }, Head { place, end: Some(end) }];
    for (at, head) in heads.iter().enumerate() {
        let body = log.seal(&writer(at as u8), at as u64 + 1, &head.encode(b""));
        log.create(&body).await.unwrap();
    }
    let error = load(bucket.store()).await.unwrap_err();
    assert!(matches!(error, LoadError::Astray { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_log_without_its_base_is_refused() {
    let (bucket, end) = several().await;
    let log = NumberedLog::with_floor(bucket.store(), "c/1", KIND, 1_000);
    log.trim(&writer(1), end).await.unwrap();
    let error = load(bucket.store()).await.unwrap_err();
    assert!(matches!(error, LoadError::NoBase { .. }), "{error}");
    assert!(error.to_string().contains(&log.key(end).to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_too_large_is_refused_before_anything_is_written() {
    let bucket = FaultStore::memory();
    let mut log = open(bucket.store(), 1).await;
    let mut publication = log.begin().await.unwrap();
    let long = Item::Removal { key: vec![0; 70_000].into() };
    let error = publication.push(&long).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { bytes: 70_000 }), "{error}");
    assert_eq!(bucket.writes(), 0);
}

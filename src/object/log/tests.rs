use super::super::envelope::WriterId;
use super::super::testing::{Fault, FaultStore, Faults};
use super::*;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;

const KIND: [u8; 4] = *b"TEST";

fn writer(incarnation: u8) -> Writer {
    Writer::new(WriterId { cluster: [1; 16], incarnation: [incarnation; 16] }, 0)
}

fn floored(store: Store) -> NumberedLog {
    NumberedLog::with_floor(store, "log", KIND, 100)
}

async fn append(log: &NumberedLog, writer: &Writer, number: u64) -> Result<(), CreateError> {
    log.create(&log.seal(writer, number, &number.to_be_bytes())).await
}

/// What every store must do for a log.
async fn contract(store: Store) {
    let log = floored(store.clone());
    let (a, b) = (writer(1), writer(2));
    assert!(log.read(1).await.unwrap().is_none());
    assert!(log.read_on(1, 10).await.unwrap().is_empty());
    for number in 1..=40 {
        append(&log, &a, number).await.unwrap();
    }
    let fenced = append(&log, &b, 40).await.unwrap_err();
    assert!(matches!(fenced, CreateError::Put(PutNewError::Fenced { .. })), "{fenced}");
    let entries = log.read_on(2, 100).await.unwrap();
    assert_eq!(
        entries.iter().map(|e| e.head.number).collect::<Vec<_>>(),
        (2..=40).collect::<Vec<_>>()
    );
    assert_eq!(log.read_on(2, 5).await.unwrap().len(), 5);
    assert_eq!(entries[0].payload, 2u64.to_be_bytes().as_slice());
    assert_eq!(entries[0].head.writer, a.id());

    log.trim(&a, 11).await.unwrap();
    let other = floored(store);
    assert_eq!(other.floor().await.unwrap(), 11);
    assert!(other.read(10).await.unwrap().is_none());
    assert!(other.read(11).await.unwrap().is_some());
    let slept = append(&other, &b, 10).await.unwrap_err();
    assert!(matches!(slept, CreateError::BelowFloor { floor: 11, .. }), "{slept}");
}

#[tokio::test(start_paused = true)]
async fn a_log_in_memory_keeps_the_contract() {
    contract(FaultStore::memory().store()).await;
}

#[tokio::test]
async fn a_log_in_a_directory_keeps_the_contract() {
    let temp = tempfile::tempdir().unwrap();
    let url = format!("file://{}", temp.path().display());
    let (clock, random) = (Clock::system(), Random::seeded(1));
    contract(Store::open(&url, &clock, &random, &Registry::new()).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_through_a_trim_is_fenced_although_its_name_is_free() {
    let bucket = FaultStore::memory();
    let (old, new) = (floored(bucket.store()), floored(bucket.store()));
    let (a, b) = (writer(1), writer(2));
    append(&old, &a, 1).await.unwrap();
    append(&new, &b, 2).await.unwrap();
    append(&new, &b, 3).await.unwrap();
    new.trim(&b, 3).await.unwrap();
    let error = append(&old, &a, 2).await.unwrap_err();
    assert!(matches!(error, CreateError::BelowFloor { number: 2, floor: 3, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_old_writers_late_request_does_not_lower_the_floor() {
    let bucket = FaultStore::memory();
    let (old, new) = (floored(bucket.store()), floored(bucket.store()));
    let (a, b) = (writer(1), writer(2));
    for number in 1..=5 {
        append(&old, &a, number).await.unwrap();
    }
    bucket.script(&[Fault::Late, Fault::Before, Fault::Before, Fault::Before]);
    old.trim(&a, 2).await.unwrap_err();
    append(&new, &b, 6).await.unwrap();
    new.trim(&b, 6).await.unwrap();
    bucket.release().await;
    assert_eq!(floored(bucket.store()).floor().await.unwrap(), 6);
    assert_eq!(old.floor().await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_trim_cut_at_any_step_is_completed_by_the_next() {
    for step in 0..100 {
        let backend = FaultStore::memory();
        let log = floored(backend.store());
        for number in 1..=4 {
            append(&log, &writer(1), number).await.unwrap();
        }
        let faults = Faults::crash_at(step);
        let cut = FaultStore::new(std::sync::Arc::new(backend.clone()), faults.clone());
        let done = floored(cut.store()).trim(&writer(1), 4).await.is_ok();
        assert_eq!(done, !faults.crashed());
        if done {
            assert!(step > 5, "the test cuts at {step} steps");
            return;
        }
        let again = floored(backend.store());
        for number in 1..again.floor().await.unwrap() {
            append(&again, &writer(2), number).await.unwrap_err();
        }
        append(&again, &writer(2), 5).await.unwrap();
        again.trim(&writer(2), 5).await.unwrap();
        let mut left = Vec::new();
        for number in 1..=5 {
            left.extend(again.read(number).await.unwrap().map(|entry| entry.head.number));
        }
        assert_eq!(left, [5], "cut at step {step}");
    }
    panic!("the trim never ends");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_long_floor_is_found() {
    let bucket = FaultStore::memory();
    let log = floored(bucket.store());
    for number in 1..=20 {
        append(&log, &writer(1), number).await.unwrap();
        log.trim(&writer(1), number).await.unwrap();
        assert_eq!(floored(bucket.store()).floor().await.unwrap(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_entry_and_a_misplaced_one_are_refused() {
    let store = FaultStore::memory().store();
    let log = NumberedLog::new(store.clone(), "log", KIND, 100);
    for number in 1..=4 {
        append(&log, &writer(1), number).await.unwrap();
    }
    store.delete(&log.key(2)).await.unwrap();
    let gap = log.read_on(1, 10).await.unwrap_err();
    assert!(matches!(gap, ReadLogError::Gap { .. }), "{gap}");
    let third = store.get(&log.key(3), 200).await.unwrap();
    store.put(&log.key(2), third.clone()).await.unwrap();
    let misplaced = log.read(2).await.unwrap_err();
    assert!(matches!(misplaced, ReadLogError::Misplaced { number: 3, .. }), "{misplaced}");
    let mut corrupt = third.to_vec();
    corrupt[70] ^= 1;
    store.put(&log.key(3), corrupt.into()).await.unwrap();
    let error = log.read(3).await.unwrap_err();
    assert!(matches!(error, ReadLogError::Format { .. }), "{error}");
}

#[tokio::test]
async fn the_frozen_sample_of_a_floor_is_read() {
    let store = FaultStore::memory().store();
    let mut floor = b"TGPN\x01\0\0\0\xec\x97\xc4\xd0FLOR".to_vec();
    floor.extend_from_slice(&[1; 16]);
    floor.extend_from_slice(&[2; 16]);
    for value in [3_u64, 1, 9, 4] {
        floor.extend_from_slice(&value.to_be_bytes());
    }
    store.put(&Key::numbered("log/floor", 1), floor.into()).await.unwrap();
    assert_eq!(floored(store).floor().await.unwrap(), 9);
}

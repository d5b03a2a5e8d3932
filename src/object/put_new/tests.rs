use super::super::envelope::Writer;
use super::super::testing::{Fault, FaultStore};
use super::*;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;

fn writer(incarnation: u8) -> Writer {
    Writer::new(WriterId { cluster: [1; 16], incarnation: [incarnation; 16] }, 0)
}

fn key() -> Key {
    Key::new("k")
}

/// What `put_new` answers when the first writes meet `faults`, and what is in the bucket then.
async fn put_meeting(faults: &[Fault]) -> (Result<(), PutNewError>, bool) {
    let bucket = FaultStore::memory();
    bucket.script(faults);
    let store = bucket.store();
    let body = writer(1).seal(*b"TEST", 1, b"mine");
    let result = store.put_new(&key(), &body).await;
    let stored = store.get(&key(), 100).await.is_ok_and(|found| found == body.bytes);
    (result, stored)
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_recognised_as_success() {
    for faults in [
        vec![],
        vec![Fault::Before],
        vec![Fault::After],
        vec![Fault::Hang],
        vec![Fault::Before, Fault::After],
        vec![Fault::Hang, Fault::Before, Fault::After],
    ] {
        let (result, stored) = put_meeting(&faults).await;
        assert!(result.is_ok(), "{faults:?}: {result:?}");
        assert!(stored, "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_arrived_is_unknown_and_can_be_put_again() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let body = writer(1).seal(*b"TEST", 1, b"mine");
    bucket.script(&[Fault::Late, Fault::Before, Fault::Before, Fault::Before]);
    let error = store.put_new(&key(), &body).await.unwrap_err();
    assert!(matches!(error, PutNewError::Unknown { .. }), "{error}");

    bucket.release().await;
    store.put_new(&key(), &body).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_certain_only_if_nothing_was_tried_before() {
    let (result, stored) = put_meeting(&[Fault::Denied]).await;
    assert!(matches!(result, Err(PutNewError::Refused(_))), "{result:?}");
    assert!(!stored);
    let denied = [Fault::Late, Fault::Denied, Fault::Denied, Fault::Denied];
    let (result, _) = put_meeting(&denied).await;
    assert!(matches!(result, Err(PutNewError::Unknown { .. })), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn anothers_object_fences_and_stays() {
    for faults in [vec![], vec![Fault::Before], vec![Fault::After], vec![Fault::Hang]] {
        let bucket = FaultStore::memory();
        let store = bucket.store();
        let theirs = writer(2).seal(*b"TEST", 1, b"theirs");
        store.put_new(&key(), &theirs).await.unwrap();
        bucket.script(&faults);
        let error = store.put_new(&key(), &writer(1).seal(*b"TEST", 1, b"mine")).await.unwrap_err();
        let PutNewError::Fenced { writer: Some(by), .. } = error else { panic!("{error}") };
        assert_eq!(by.incarnation, [2; 16]);
        assert_eq!(store.get(&key(), 100).await.unwrap(), theirs.bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_body_of_the_same_writer_is_not_taken_for_this_one() {
    let store = FaultStore::memory().store();
    let writer = writer(1);
    store.put_new(&key(), &writer.seal(*b"TEST", 1, b"same")).await.unwrap();
    let error = store.put_new(&key(), &writer.seal(*b"TEST", 1, b"same")).await.unwrap_err();
    assert!(matches!(error, PutNewError::Fenced { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_kind_of_program_fences() {
    for content in ["", "x", "a much longer object that is none of ours, whatever it may be ......"]
    {
        let store = FaultStore::memory().store();
        store.put(&key(), content.into()).await.unwrap();
        let error = store.put_new(&key(), &writer(1).seal(*b"TEST", 1, b"mine")).await.unwrap_err();
        // An empty object has no byte to read, so a backend may answer with an error for ever.
        let unknown = content.is_empty() && matches!(error, PutNewError::Unknown { .. });
        assert!(unknown || matches!(error, PutNewError::Fenced { writer: None, .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_away_leaves_the_outcome_unknown() {
    let bucket = FaultStore::memory();
    bucket.set_away(true);
    let body = writer(1).seal(*b"TEST", 1, b"mine");
    let error = bucket.store().put_new(&key(), &body).await.unwrap_err();
    assert!(matches!(error, PutNewError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn a_directory_store_creates_once() {
    let temp = tempfile::tempdir().unwrap();
    let url = format!("file://{}", temp.path().display());
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
    let nested = Key::numbered("a/b", 1);
    let mine = writer(1).seal(*b"TEST", 1, b"mine");
    store.put_new(&nested, &mine).await.unwrap();
    store.put_new(&nested, &mine).await.unwrap();
    let error = store.put_new(&nested, &writer(2).seal(*b"TEST", 1, b"mine")).await.unwrap_err();
    assert!(matches!(error, PutNewError::Fenced { .. }), "{error}");
}

//! Uploads in parts, with faults at every step.

use super::*;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;
use crate::object::testing::{Fault, FaultStore};

async fn upload(store: &Store, key: &Key, parts: &[&'static str]) -> Result<(), ObjectError> {
    let mut upload = store.upload(key).await?;
    for part in parts {
        upload.part(Bytes::from_static(part.as_bytes())).await?;
    }
    upload.complete().await
}

#[tokio::test]
async fn the_object_is_its_parts_in_order_once_it_is_complete() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let url = format!("file://{}", temp.path().display());
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let file = Store::open(&url, &clock, &random, &registry).unwrap();
    let memory = Store::open("memory://", &clock, &random, &Registry::new()).unwrap();
    for store in [file, memory, FaultStore::memory().store()] {
        let key = Key::new("t/1/2");
        let mut upload = store.upload(&key).await.unwrap();
        upload.part("abc".into()).await.unwrap();
        upload.part("defg".into()).await.unwrap();
        let missing = store.get(&key, 10).await.unwrap_err();
        assert_eq!(missing, ObjectError::NotFound { key: key.clone() });
        upload.complete().await.unwrap();
        assert_eq!(store.get(&key, 10).await.unwrap(), "abcdefg");
        let mut given_up = store.upload(&Key::new("t/1/3")).await.unwrap();
        given_up.part("abc".into()).await.unwrap();
        given_up.abort().await.unwrap();
        store.get(&Key::new("t/1/3"), 10).await.unwrap_err();
    }
    let text = registry.encode();
    for line in [
        r#"object_requests_total{operation="begin_upload",outcome="ok"} 2"#,
        r#"object_requests_total{operation="put_part",outcome="ok"} 3"#,
        r#"object_requests_total{operation="complete_upload",outcome="ok"} 1"#,
        r#"object_requests_total{operation="abort_upload",outcome="ok"} 1"#,
        r#"object_bytes_total{operation="put_part"} 10"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let left: Vec<_> = std::fs::read_dir(temp.path().join("t/1")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_put_again_in_its_place() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let key = Key::new("k");
    for (steps, fault) in (0..5).flat_map(|at| [(at, Fault::Before), (at, Fault::Hang)]) {
        let mut script = vec![None; steps];
        script.push(Some(fault));
        bucket.script_some(&script);
        upload(&store, &key, &["abc", "def", "gh"]).await.unwrap();
        // A begin without an answer had no effect here, so nothing is left of it.
        assert_eq!(bucket.open_uploads(), 0);
        assert_eq!(store.get(&key, 10).await.unwrap(), "abcdefgh");
        store.delete(&key).await.unwrap();
    }
    // A part that was there is put once more, and is there once.
    bucket.script_some(&[None, Some(Fault::After), None, Some(Fault::After)]);
    upload(&store, &key, &["abc", "def"]).await.unwrap();
    assert_eq!(store.get(&key, 10).await.unwrap(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn a_part_is_on_its_way_while_the_next_is_prepared() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let key = Key::new("k");
    let mut upload = store.upload(&key).await.unwrap();
    bucket.script(&[Fault::Hang]);
    // The first part has no answer within the 10 s of an attempt, and is not waited for.
    let clock = Clock::system();
    let begun = clock.now();
    upload.part("abc".into()).await.unwrap();
    assert_eq!(clock.now(), begun);
    upload.part("def".into()).await.unwrap();
    assert!(clock.now().duration_since(begun).as_secs() >= 10, "one part is on its way at most");
    upload.complete().await.unwrap();
    assert_eq!(store.get(&key, 10).await.unwrap(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_not_taken_ends_the_upload() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let mut upload = store.upload(&Key::new("k")).await.unwrap();
    bucket.script(&[Fault::Before; 6]);
    upload.part("abc".into()).await.unwrap();
    let error = upload.part("def".into()).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert_eq!(upload.part("def".into()).await.unwrap_err(), error);
    assert_eq!(upload.complete().await.unwrap_err(), error);
    assert!(store.get(&Key::new("k"), 10).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_was_lost_is_unknown() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let key = Key::new("k");
    bucket.script_some(&[None, None, Some(Fault::After)]);
    let error = upload(&store, &key, &["abc"]).await.unwrap_err();
    assert_eq!(error, ObjectError::NotFound { key: key.clone() }, "the upload is gone");
    assert_eq!(store.get(&key, 10).await.unwrap(), "abc");
}

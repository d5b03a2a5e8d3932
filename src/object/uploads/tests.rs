//! Uploads that are cut at any point, and what becomes of them.

use proptest::prelude::*;

use super::*;
use crate::object::testing::{Fault, FaultStore};

fn noted(key: &str, id: &str) -> NotedUpload {
    NotedUpload { key: Key::new(key), id: id.to_owned() }
}

/// A broker's run: its store and its sweep.
async fn start(bucket: &FaultStore, dir: &DataDir) -> (Store, UploadSweep) {
    let store = bucket.store();
    let sweep = store.note_uploads(dir).await.unwrap();
    (store, sweep)
}

async fn in_file(dir: &DataDir) -> Vec<NotedUpload> {
    let bytes = dir.read(NOTES_FILE, NOTES_BYTES).await.unwrap();
    bytes.map_or(Vec::new(), |bytes| NotedUpload::decode(&bytes).unwrap())
}

#[test]
fn the_frozen_sample_is_written_and_read() {
    let list = [noted("t/1", "id-7"), noted("t/2", "")];
    let bytes = b"TGUP\x01\0\0\0\xaa\xc6\x8d\xc9\0\0\0\x02\0\x03t/1\0\x04id-7\0\x03t/2\0\0";
    assert_eq!(NotedUpload::encode(&list), bytes);
    assert_eq!(NotedUpload::decode(bytes).unwrap(), list);
    let cut = NOTES.seal(&[0, 0, 0, 1, 0, 3, b't']);
    assert!(matches!(NotedUpload::decode(&cut), Err(FormatError::Truncated { .. })));
}

proptest! {
    #[test]
    fn what_is_noted_is_read(
        uploads in prop::collection::vec(("[a-z/0-9]{1,40}", ".{0,40}"), 0..9),
    ) {
        let list: Vec<_> = uploads.iter().map(|(key, id)| noted(key, id)).collect();
        prop_assert_eq!(NotedUpload::decode(&NotedUpload::encode(&list)).unwrap(), list);
    }

    #[test]
    fn arbitrary_notes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..99)) {
        let _ = NotedUpload::decode(&body);
        let _ = NotedUpload::decode(&NOTES.seal(&body));
    }
}

#[tokio::test]
async fn an_upload_is_noted_before_its_first_part_until_it_has_ended() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let bucket = FaultStore::memory();
    let (store, sweep) = start(&bucket, &dir).await;
    let completed = store.upload(&Key::new("t/1")).await.unwrap();
    let aborted = store.upload(&Key::new("t/2")).await.unwrap();
    let names: Vec<_> = in_file(&dir).await.iter().map(|it| it.key.to_string()).collect();
    assert_eq!(names, ["t/1", "t/2"]);
    completed.complete().await.unwrap();
    aborted.abort().await.unwrap();
    assert!(sweep.sweep().await);
    assert_eq!(in_file(&dir).await, []);
}

#[tokio::test]
async fn what_a_kill_left_is_aborted_by_the_next_run_and_its_own_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let bucket = FaultStore::memory();
    let (store, _) = start(&bucket, &dir).await;
    let mut killed = store.upload(&Key::new("t/1")).await.unwrap();
    killed.part("abc".into()).await.unwrap();
    std::mem::forget(killed);
    store.upload(&Key::new("t/2")).await.unwrap().complete().await.unwrap();
    assert_eq!((in_file(&dir).await.len(), bucket.open_uploads()), (2, 1));

    let (store, sweep) = start(&bucket, &dir).await;
    let mut mine = store.upload(&Key::new("t/3")).await.unwrap();
    mine.part("def".into()).await.unwrap();
    assert!(sweep.sweep().await);
    assert_eq!((in_file(&dir).await.len(), bucket.open_uploads()), (1, 1));
    mine.complete().await.unwrap();
    assert_eq!(store.get(&Key::new("t/3"), 10).await.unwrap(), "def");
    assert_eq!(store.get(&Key::new("t/2"), 10).await.unwrap(), "", "it had been completed");
    assert!(store.get(&Key::new("t/1"), 10).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_dropped_is_aborted_once_the_bucket_is_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let bucket = FaultStore::memory();
    let (store, sweep) = start(&bucket, &dir).await;
    let shutdown = Shutdown::new();
    let running = task::spawn("sweep", sweep.run(shutdown.clone()));
    let clock = crate::clock::Clock::system();
    let mut dropped = store.upload(&Key::new("t/1")).await.unwrap();
    dropped.part("abc".into()).await.unwrap();
    bucket.set_away(true);
    drop(dropped);
    clock.sleep(Duration::from_mins(10)).await;
    assert_eq!(bucket.open_uploads(), 1);
    bucket.set_away(false);
    clock.sleep(Duration::from_mins(2)).await;
    assert_eq!(bucket.open_uploads(), 0);
    // Its parts were refused, and whoever wrote it did not know what to do but drop it.
    let mut failed = store.upload(&Key::new("t/2")).await.unwrap();
    bucket.script(&[Fault::Denied]);
    failed.part("abc".into()).await.unwrap();
    failed.complete().await.unwrap_err();
    clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(bucket.open_uploads(), 0);
    shutdown.drain();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_is_refused_is_not_tried_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let bucket = FaultStore::memory();
    let (store, sweep) = start(&bucket, &dir).await;
    drop(store.upload(&Key::new("t/1")).await.unwrap());
    bucket.script(&[Fault::Denied]);
    assert!(sweep.sweep().await);
    assert_eq!((in_file(&dir).await, bucket.open_uploads()), (Vec::new(), 1));
}

#[tokio::test]
async fn notes_that_cannot_be_read_are_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    dir.write(NOTES_FILE, "nonsense").await.unwrap();
    let bucket = FaultStore::memory();
    let (store, _) = start(&bucket, &dir).await;
    let upload = store.upload(&Key::new("t/1")).await.unwrap();
    assert_eq!(in_file(&dir).await.len(), 1);
    upload.abort().await.unwrap();
}

#[tokio::test]
async fn there_is_a_bound_on_what_is_noted() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let list: Vec<_> = (0..NOTED_MAX + 5).map(|n| noted(&format!("t/{n}"), "id")).collect();
    dir.write(NOTES_FILE, NotedUpload::encode(&list)).await.unwrap();
    let (_, sweep) = start(&FaultStore::memory(), &dir).await;
    let abandoned = sweep.notes.abandoned();
    assert_eq!((abandoned.len(), &abandoned[0].1.key), (NOTED_MAX, &Key::new("t/5")));
}

//! Objects on their way to a bucket that fails at every step.

use super::*;
use crate::object::testing::{Fault, FaultStore};
use crate::tier::Reader;
use crate::tier::writer::tests::{Part, head, partition, plain, read};

/// One part for all, and parts of which the pack below takes several.
const WHOLE: Sizes = Sizes { chunk: 300, part: 1 << 20 };
const PARTS: Sizes = Sizes { chunk: 300, part: 700 };

fn pack() -> Vec<Part> {
    vec![plain(partition(1, 0), 0, 4, 100), plain(partition(1, 1), 50, 6, 100)]
}

async fn upload(store: &Store, parts: &[Part], sizes: Sizes) -> Result<Uploaded, UploadError> {
    let mut upload = Upload::new(store, head(), sizes);
    for part in parts {
        upload.begin(part.of, part.start_offset)?;
        for batch in &part.batches {
            if let Err(error) = upload.push(batch).await {
                upload.give_up().await;
                return Err(error);
            }
        }
        let end = SectionEnd {
            end_offset: part.end_offset,
            epochs: &part.epochs,
            ..SectionEnd::default()
        };
        upload.end(&end)?;
    }
    upload.finish().await
}

async fn body(store: &Store) -> Option<Bytes> {
    store.get(&head().id.key(), 1 << 20).await.ok()
}

#[tokio::test]
async fn a_small_object_is_one_put_and_a_large_one_its_parts() {
    for (sizes, writes) in [(WHOLE, 1), (PARTS, 2 + 7)] {
        let bucket = FaultStore::memory();
        let store = bucket.store();
        let uploaded = upload(&store, &pack(), sizes).await.unwrap();
        assert_eq!(bucket.writes(), writes);
        assert_eq!(bucket.open_uploads(), 0);
        assert_eq!(read(&body(&store).await.unwrap()).unwrap(), pack());
        let footer = Reader::new(&store, uploaded.object).footer().await.unwrap();
        assert_eq!(footer, uploaded.footer);
        assert_eq!(bucket.gets(), 3, "it was asked back, and this test read it twice");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_as_uploaded_is_there_whatever_failed_on_the_way() {
    for sizes in [WHOLE, PARTS] {
        for at in 0..10 {
            for fault in [Fault::Before, Fault::After, Fault::Hang, Fault::Denied] {
                let bucket = FaultStore::memory();
                let store = bucket.store();
                let mut script = vec![None; at];
                script.push(Some(fault));
                bucket.script_some(&script);
                let uploaded = upload(&store, &pack(), sizes).await;
                let there = body(&store).await.is_some();
                assert!(uploaded.is_ok() == there, "{sizes:?} {at} {fault:?}");
                let is_final = sizes == WHOLE || fault == Fault::Denied;
                assert!(there || is_final, "{at} {fault:?}: parts are put again");
                // A begin whose answer was lost leaves an upload that nobody can name, and one that
                // could not be completed is the store's to give up.
                let lost = match fault {
                    Fault::After => at == 0 && sizes == PARTS,
                    Fault::Denied => at == 8 && sizes == PARTS,
                    _ => false,
                };
                assert_eq!(bucket.open_uploads(), usize::from(lost), "{at} {fault:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_for_good_leaves_no_parts() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    for at in 1..9 {
        let mut script = vec![None; at];
        script.extend([Some(Fault::Before); 6]);
        bucket.script_some(&script);
        let error = upload(&store, &pack(), PARTS).await.unwrap_err();
        assert!(matches!(error, UploadError::Bucket(_)), "{error}");
        assert!(body(&store).await.is_none());
        let completing = at == 8;
        assert_eq!(bucket.open_uploads(), usize::from(completing), "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_away_is_an_error() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    bucket.set_away(true);
    for sizes in [WHOLE, PARTS] {
        let error = upload(&store, &pack(), sizes).await.unwrap_err();
        assert!(matches!(error, UploadError::Bucket(_)), "{error}");
    }
}

#[tokio::test]
async fn an_object_that_is_kept_otherwise_is_not_uploaded() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let key = head().id.key();
    let uploaded = upload(&store, &pack(), WHOLE).await.unwrap();
    let whole = body(&store).await.unwrap();
    let end = whole.slice(whole.len() - uploaded.object.end_bytes as usize..);
    let is_there = || is_there(&store, &key, uploaded.object.bytes, &end);
    assert_eq!(is_there().await, Ok(true));
    let mut damaged = whole.to_vec();
    damaged[whole.len() - 50] ^= 1;
    for other in [damaged, whole[..whole.len() - 1].to_vec()] {
        store.put(&key, other.into()).await.unwrap();
        assert_eq!(is_there().await, Ok(false));
    }
    store.delete(&key).await.unwrap();
    assert_eq!(is_there().await, Ok(false));
}

#[tokio::test]
async fn what_is_no_object_is_not_sent() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let none = Upload::new(&store, head(), WHOLE).finish().await.unwrap_err();
    assert!(matches!(none, UploadError::Write(_)), "{none}");
    assert_eq!(bucket.writes(), 0);
}

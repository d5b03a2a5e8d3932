//! Whether a bucket takes objects in parts, as large tiered objects are written.

use bytes::{Bytes, BytesMut};

use super::super::error::ObjectError;
use super::super::key::Key;
use super::super::store::Store;
use super::super::upload::Upload;

/// The least size that stores ask of every part but the last.
const PART_BYTES: usize = 5 << 20;

/// The size of the last part, which may have any.
const LAST_BYTES: usize = 4096;

/// How much is read back at once.
const READ_BYTES: usize = 1 << 20;

/// How the promise was broken, if it was: an object of two parts is those parts, in order and not
/// before it is complete, and nothing becomes of parts that were given up. A store of files has no
/// parts of its own: nothing is asked of it.
pub(super) async fn parts(
    store: &Store,
    whole: &Key,
    given_up: &Key,
) -> Result<Option<String>, ObjectError> {
    let bodies = [body(PART_BYTES), body(LAST_BYTES)];
    let seen = match write(store, whole, &bodies).await {
        Ok(None) => read_back(store, whole, &bodies).await?,
        Ok(seen) => seen,
        Err(error) => Some(refused(error)?),
    };
    if seen.is_some() {
        return Ok(seen);
    }
    store.delete(whole).await?;
    match give_up(store, given_up, &bodies[1]).await {
        Ok(seen) => Ok(seen),
        Err(error) => refused(error).map(Some),
    }
}

/// What a store says that does not know parts; other errors say nothing of the promise.
fn refused(error: ObjectError) -> Result<String, ObjectError> {
    match error {
        ObjectError::Denied { operation, reason, .. } => {
            Ok(format!("it refused to {operation}: {reason}"))
        }
        ObjectError::NotFound { .. } => Ok("it did not know an upload just begun".to_owned()),
        error => Err(error),
    }
}

/// Bytes without a short period, so that parts in the wrong order or place are seen.
fn body(bytes: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes);
    for number in (bytes as u64..).take(bytes / 8) {
        body.extend_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    body.freeze()
}

async fn write(store: &Store, key: &Key, bodies: &[Bytes]) -> Result<Option<String>, ObjectError> {
    let mut upload = store.upload(key).await?;
    for body in bodies {
        if let Err(error) = upload.part(body.clone()).await {
            return ended(upload, error).await;
        }
    }
    if is_there(store, key).await? {
        let seen = "the object was there before its upload was completed";
        return upload.abort().await.map(|()| Some(seen.to_owned()));
    }
    upload.complete().await.map(|()| None)
}

/// The error of an upload that is given up, which is not to be lost if that fails too.
async fn ended(upload: Upload, error: ObjectError) -> Result<Option<String>, ObjectError> {
    drop(upload.abort().await);
    Err(error)
}

async fn read_back(
    store: &Store,
    key: &Key,
    bodies: &[Bytes],
) -> Result<Option<String>, ObjectError> {
    let differs = || Some("an object read back differs from its parts".to_owned());
    let mut position = 0_u64;
    for body in bodies {
        for piece in body.chunks(READ_BYTES) {
            let end = position + piece.len() as u64;
            let found = match store.get_range(key, position..end).await {
                Err(ObjectError::NotFound { .. }) => {
                    return Ok(Some("an object just completed was not found".to_owned()));
                }
                found => found?,
            };
            if found != piece {
                return Ok(differs());
            }
            position = end;
        }
    }
    let last = store.get_range(key, position - 1..position + 1).await?;
    Ok(if last.len() == 1 { None } else { differs() })
}

async fn give_up(store: &Store, key: &Key, body: &Bytes) -> Result<Option<String>, ObjectError> {
    let mut upload = store.upload(key).await?;
    if let Err(error) = upload.part(body.clone()).await {
        return ended(upload, error).await;
    }
    if store.drops_parts() {
        // One that kept them would make the object of them.
        upload.abort_and_complete().await?;
    } else {
        upload.abort().await?;
    }
    let left = "parts that were given up became an object";
    Ok(is_there(store, key).await?.then(|| left.to_owned()))
}

async fn is_there(store: &Store, key: &Key) -> Result<bool, ObjectError> {
    match store.get_range(key, 0..1).await {
        Ok(_) => Ok(true),
        Err(ObjectError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

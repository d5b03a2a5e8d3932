//! Objects that are written in parts, because they are too large to be held in one piece.
//!
//! No condition can be put on such a write, so it is for names that nothing else ever has. Until
//! [`Upload::complete`] the object is not there; an upload that is dropped before may leave its
//! parts in the bucket, where they cost until they are swept.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{MultipartId, MultipartUpload, PutMultipartOptions, PutPayload};

use super::error::{ObjectError, Operation};
use super::key::Key;
use super::retry::ATTEMPTS;
use super::store::Store;

/// An object that is being written in parts.
pub struct Upload {
    store: Store,
    key: Key,
    session: Session,
}

enum Session {
    /// Parts have numbers: one that failed is put again under its own.
    Numbered { backend: Arc<dyn MultipartStore>, id: MultipartId, parts: Vec<PartId> },
    /// Parts of a file, one behind the other.
    File(Box<dyn MultipartUpload>),
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to write an object in parts. All but the last should have the same size, of at least
    /// 5 MiB, for stores ask for that.
    pub async fn upload(&self, key: &Key) -> Result<Upload, ObjectError> {
        let (operation, path) = (Operation::BeginUpload, key.path());
        let session = if let Some(backend) = self.multipart() {
            let begin = || async move { backend.create_multipart(path).await };
            let id = self.run(operation, key, 0, ATTEMPTS, begin).await?;
            Session::Numbered { backend: Arc::clone(backend), id, parts: Vec::new() }
        } else {
            let backend = self.backend();
            let options = PutMultipartOptions::default;
            let begin = || async move { backend.put_multipart_opts(path, options()).await };
            Session::File(self.run(operation, key, 0, ATTEMPTS, begin).await?)
        };
        Ok(Upload { store: self.clone(), key: key.clone(), session })
    }
}

impl Upload {
    /// Writes the next part. After an error the upload can only be aborted.
    pub async fn part(&mut self, body: Bytes) -> Result<(), ObjectError> {
        let (store, key, operation) = (&self.store, &self.key, Operation::PutPart);
        let length = body.len();
        let payload = || PutPayload::from(body.clone());
        match &mut self.session {
            Session::Numbered { backend, id, parts } => {
                let (number, id, backend) = (parts.len(), &*id, &*backend);
                let put =
                    || async move { backend.put_part(key.path(), id, number, payload()).await };
                parts.push(store.run(operation, key, length as u64, ATTEMPTS, put).await?);
            }
            // What a disk refuses it would refuse again.
            Session::File(file) => {
                let put = || file.put_part(payload());
                store.run(operation, key, length as u64, 1, put).await?;
            }
        }
        store.moved(operation, length);
        Ok(())
    }

    /// Makes the object of its parts. After an error it is unknown whether it is there.
    pub async fn complete(self) -> Result<(), ObjectError> {
        let Self { store, key, session } = self;
        let operation = Operation::CompleteUpload;
        match session {
            Session::Numbered { backend, id, parts } => {
                let (backend, id, parts, path) = (&backend, &id, &parts, key.path());
                let complete = || async move {
                    backend.complete_multipart(path, id, parts.clone()).await.map(drop)
                };
                store.run(operation, &key, 0, ATTEMPTS, complete).await?;
            }
            Session::File(mut file) => {
                let mut complete = Some(async move { file.complete().await.map(drop) });
                let once = || complete.take().expect("there is one attempt");
                store.run(operation, &key, 0, 1, once).await?;
            }
        }
        store.synced_above(operation, &key).await
    }

    /// Gives the parts up.
    pub async fn abort(self) -> Result<(), ObjectError> {
        let Self { store, key, session } = self;
        let operation = Operation::AbortUpload;
        match session {
            Session::Numbered { backend, id, .. } => {
                let (backend, id, path) = (&backend, &id, key.path());
                let abort = || async move { backend.abort_multipart(path, id).await };
                store.run(operation, &key, 0, ATTEMPTS, abort).await
            }
            Session::File(mut file) => {
                let mut abort = Some(async move { file.abort().await });
                let once = || abort.take().expect("there is one attempt");
                store.run(operation, &key, 0, 1, once).await
            }
        }
    }
}

#[cfg(test)]
mod tests;

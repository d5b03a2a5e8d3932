//! Objects that are written in parts, because they are too large to be held in one piece.
//!
//! No condition can be put on such a write, so it is for names that nothing else ever has. Until
//! [`Upload::complete`] the object is not there; what is left of an upload that is dropped before,
//! or whose process is killed, is for [`super::uploads`].

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{MultipartId, MultipartUpload, PutMultipartOptions, PutPayload};
use tokio::task::{JoinError, JoinHandle};
use tracing::warn;

use super::error::{ObjectError, Operation};
use super::key::Key;
use super::retry::ATTEMPTS;
use super::store::Store;
use super::uploads::{NotedUpload, UnderWay};
use crate::clock::Clock;
use crate::log_limit::LogLimit;
use crate::task;

/// An object that is being written in parts.
pub struct Upload {
    store: Store,
    key: Key,
    session: Session,
}

enum Session {
    Numbered(Numbered),
    /// Parts of a file, one behind the other.
    File(Box<dyn MultipartUpload>),
}

/// Parts have numbers: one that failed is put again under its own.
struct Numbered {
    backend: Arc<dyn MultipartStore>,
    id: MultipartId,
    parts: Vec<PartId>,
    /// The part behind them, on its way.
    sending: Option<Sending>,
    /// Why there can be no more parts.
    failed: Option<ObjectError>,
    /// `None` where nobody owns a data directory.
    noted: Option<UnderWay>,
}

/// A part on its way; given up when this is dropped.
struct Sending(JoinHandle<Result<PartId, ObjectError>>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            let noted = match self.notes() {
                Some(notes) => {
                    Some(notes.add(NotedUpload { key: key.clone(), id: id.clone() }).await)
                }
                None => None,
            };
            let backend = Arc::clone(backend);
            let (parts, sending, failed) = (Vec::new(), None, None);
            Session::Numbered(Numbered { backend, id, parts, sending, failed, noted })
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
    /// Takes the next part. One part is on its way to a service while the caller prepares the next:
    /// this waits for the one before, and tells its error. After an error the upload can only be
    /// aborted.
    pub async fn part(&mut self, body: Bytes) -> Result<(), ObjectError> {
        let (store, key) = (&self.store, &self.key);
        match &mut self.session {
            Session::Numbered(session) => {
                session.settle().await?;
                session.send(store, key, body);
            }
            // What a disk refuses it would refuse again.
            Session::File(file) => {
                let (operation, length) = (Operation::PutPart, body.len());
                let put = || file.put_part(PutPayload::from(body.clone()));
                store.run(operation, key, length as u64, 1, put).await?;
                store.moved(operation, length);
            }
        }
        Ok(())
    }

    /// Makes the object of its parts. After an error it is unknown whether it is there. If a part
    /// was not taken nothing is asked for, and the others are given up.
    pub async fn complete(mut self) -> Result<(), ObjectError> {
        if let Session::Numbered(session) = &mut self.session
            && let Err(error) = session.settle().await
        {
            let key = self.key.clone();
            if let Err(error) = self.abort().await {
                static LIMIT: LogLimit = LogLimit::new();
                if let Some(more) = LIMIT.allow(&Clock::system()) {
                    warn!(
                        object = %key, %error, more,
                        "the parts of an upload are left in the bucket"
                    );
                }
            }
            return Err(error);
        }
        let Self { store, key, session } = self;
        let operation = Operation::CompleteUpload;
        match session {
            Session::Numbered(Numbered { backend, id, parts, noted, .. }) => {
                let (backend, id, parts, path) = (&backend, &id, &parts, key.path());
                let complete = || async move {
                    backend.complete_multipart(path, id, parts.clone()).await.map(drop)
                };
                store.run(operation, &key, 0, ATTEMPTS, complete).await?;
                if let Some(noted) = noted {
                    noted.ended();
                }
            }
            Session::File(mut file) => {
                let mut complete = Some(async move { file.complete().await.map(drop) });
                let once = || complete.take().expect("there is one attempt");
                store.run(operation, &key, 0, 1, once).await?;
            }
        }
        store.synced_above(operation, &key).await
    }

    /// Gives the parts up. After an error they are still in the bucket; if the upload is noted they
    /// are given up later.
    pub async fn abort(self) -> Result<(), ObjectError> {
        let Self { store, key, session } = self;
        match session {
            Session::Numbered(Numbered { id, sending, noted, .. }) => {
                drop(sending);
                store.abort_upload(&NotedUpload { key, id }).await?;
                if let Some(noted) = noted {
                    noted.ended();
                }
                Ok(())
            }
            Session::File(mut file) => {
                let mut abort = Some(async move { file.abort().await });
                let once = || abort.take().expect("there is one attempt");
                store.run(Operation::AbortUpload, &key, 0, 1, once).await
            }
        }
    }
}

impl Upload {
    /// Gives the parts up, and asks for the object of them all the same, of which nothing may come:
    /// for the probe. What is answered to that is of no account.
    pub(super) async fn abort_and_complete(mut self) -> Result<(), ObjectError> {
        let (store, key) = (self.store.clone(), self.key.clone());
        let Session::Numbered(session) = &mut self.session else { return self.abort().await };
        let settled = session.settle().await;
        let (backend, id) = (Arc::clone(&session.backend), session.id.clone());
        let parts = session.parts.clone();
        self.abort().await?;
        settled?;
        let (backend, id, parts, path) = (&backend, &id, &parts, key.path());
        let complete =
            || async move { backend.complete_multipart(path, id, parts.clone()).await.map(drop) };
        drop(store.run(Operation::CompleteUpload, &key, 0, 1, complete).await);
        Ok(())
    }
}

impl Numbered {
    /// Waits for the part on its way, if there is one.
    async fn settle(&mut self) -> Result<(), ObjectError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let sent = (&mut sending.0).await;
        self.sending = None;
        match sent.map_err(JoinError::try_into_panic) {
            Ok(Ok(part)) => {
                self.parts.push(part);
                Ok(())
            }
            Ok(Err(error)) => {
                self.failed = Some(error.clone());
                Err(error)
            }
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is shutting down: nobody is told any more.
            Err(Err(_cancelled)) => std::future::pending().await,
        }
    }

    /// Sends the next part, with no other on its way.
    fn send(&mut self, store: &Store, key: &Key, body: Bytes) {
        let (number, id, backend) = (self.parts.len(), self.id.clone(), Arc::clone(&self.backend));
        let (store, key) = (store.clone(), key.clone());
        let send = async move {
            let (operation, length, path) = (Operation::PutPart, body.len(), key.path());
            let (id, backend) = (&id, &backend);
            let put = || {
                let payload = PutPayload::from(body.clone());
                async move { backend.put_part(path, id, number, payload).await }
            };
            let part = store.run(operation, &key, length as u64, ATTEMPTS, put).await?;
            store.moved(operation, length);
            Ok(part)
        };
        self.sending = Some(Sending(task::spawn("upload part", send)));
    }
}

#[cfg(test)]
mod tests;

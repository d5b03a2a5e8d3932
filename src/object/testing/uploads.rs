//! Uploads in parts to a bucket under test.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, PutOptions, PutPayload, PutResult, Result};

use super::{Fault, FaultStore, denied, failure};

/// The parts of uploads under way, by upload.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<MultipartId, BTreeMap<usize, Bytes>>>>);

impl FaultStore {
    /// How many uploads were begun and neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.0.lock().unwrap().len()
    }

    /// A step of an upload, which meets the next fault.
    async fn upload_step<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.step()?;
        let fault = self.script.lock().unwrap().pop().flatten();
        match fault {
            None | Some(Fault::After) => {}
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Denied) => return Err(denied("an upload")),
            Some(_) => return Err(failure("fails before")),
        }
        let result = work.await;
        self.step()?;
        if fault == Some(Fault::After) { Err(failure("fails after")) } else { result }
    }

    fn taken(&self, path: &Path, id: &MultipartId) -> Result<BTreeMap<usize, Bytes>> {
        let taken = self.uploads.0.lock().unwrap().remove(id);
        taken.ok_or_else(|| gone(path))
    }
}

fn gone(path: &Path) -> object_store::Error {
    let (path, source) = (path.to_string(), "no such upload".into());
    object_store::Error::NotFound { path, source }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl MultipartStore for FaultStore {
    fn create_multipart<'s, 'p, 'a>(&'s self, _path: &'p Path) -> Answer<'a, MultipartId>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(self.upload_step(async move {
            let id = self.writes.load(Ordering::SeqCst).to_string();
            self.uploads.0.lock().unwrap().insert(id.clone(), BTreeMap::new());
            Ok(id)
        }))
    }

    fn put_part<'s, 'p, 'i, 'a>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
        number: usize,
        data: PutPayload,
    ) -> Answer<'a, PartId>
    where
        's: 'a,
        'p: 'a,
        'i: 'a,
        Self: 'a,
    {
        Box::pin(self.upload_step(async move {
            let mut uploads = self.uploads.0.lock().unwrap();
            uploads.get_mut(id).ok_or_else(|| gone(path))?.insert(number, data.into());
            Ok(PartId { content_id: number.to_string() })
        }))
    }

    fn complete_multipart<'s, 'p, 'i, 'a>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
        parts: Vec<PartId>,
    ) -> Answer<'a, PutResult>
    where
        's: 'a,
        'p: 'a,
        'i: 'a,
        Self: 'a,
    {
        Box::pin(self.upload_step(async move {
            let taken = self.taken(path, id)?;
            let mut body = BytesMut::new();
            for part in parts {
                let number = part.content_id.parse().map_err(failure)?;
                body.extend_from_slice(taken.get(&number).ok_or_else(|| gone(path))?);
            }
            let payload = PutPayload::from(body.freeze());
            self.backend.put_opts(path, payload, PutOptions::default()).await
        }))
    }

    fn abort_multipart<'s, 'p, 'i, 'a>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
    ) -> Answer<'a, ()>
    where
        's: 'a,
        'p: 'a,
        'i: 'a,
        Self: 'a,
    {
        Box::pin(self.upload_step(async move { self.taken(path, id).map(drop) }))
    }
}

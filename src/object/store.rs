//! The handle to the bucket: metering → limits → retry → backend.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use object_store::multipart::MultipartStore;
use object_store::{
    GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use super::backend::{self, OpenStoreError, Variables};
#[cfg(debug_assertions)]
use super::chaos;
use super::error::{ObjectError, Operation};
use super::hedge::Hedge;
use super::key::Key;
use super::limits::Limits;
use super::list::Pages;
use super::local::{self, LocalError};
use super::metrics::ObjectMetrics;
use super::retry::{ATTEMPTS, Retry};
use super::uploads::Notes;
use crate::clock::{Clock, Random};
use crate::config::{ObjectConfig, ObjectUrl};
use crate::failpoint;
use crate::metrics::Registry;

/// The size that a read of unknown size is given time for.
const EXPECTED_BYTES: u64 = 32 << 20;

/// A bucket, or the part of one below the prefix that `object.url` names. Cheap to clone; there is
/// one per process, because its limits and metrics are.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    place: String,
    backend: Arc<dyn ObjectStore>,
    /// The same where parts of an object have numbers, which those of a file have not.
    multipart: Option<Arc<dyn MultipartStore>>,
    /// Where it lists itself in pages; `None` where that is done here.
    pages: Option<Pages>,
    /// Where the objects are files, so that a name can be synced again; `None` elsewhere.
    directory: Option<PathBuf>,
    /// Directories whose names are known to be durable, all the way up to `directory`.
    rooted: Mutex<HashSet<PathBuf>>,
    /// Where uploads are noted, in the process that owns a data directory.
    notes: OnceLock<Arc<Notes>>,
    metrics: ObjectMetrics,
    limits: Limits,
    /// Asks twice for what takes long; `None` where nothing is gained by that.
    hedge: Option<Hedge>,
    retry: Retry,
    clock: Clock,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the bucket at `url` (`object.url`) with every other setting at its default: see
    /// [`Store::connect`].
    pub fn open(
        url: &str,
        clock: &Clock,
        random: &Random,
        registry: &Registry,
    ) -> Result<Self, OpenStoreError> {
        let malformed = || OpenStoreError::Malformed { url: url.to_owned() };
        let config = ObjectConfig::at(ObjectUrl::parse(url).ok_or_else(malformed)?);
        Self::connect(&config, &Variables::of_process(), clock, random, registry)
    }

    /// Opens the bucket of `config`: a directory, made if it does not exist, every object and its
    /// name synced before a write returns; memory, empty and gone with the process; or a bucket of
    /// a service, which is first spoken to by the first operation. `variables` are where clouds
    /// look for credentials.
    pub fn connect(
        config: &ObjectConfig,
        variables: &Variables,
        clock: &Clock,
        random: &Random,
        registry: &Registry,
    ) -> Result<Self, OpenStoreError> {
        let metrics = ObjectMetrics::new(registry);
        let backend = backend::open(config, variables, clock, metrics.throttles())?;
        #[cfg(debug_assertions)]
        let backend = match variables.get(chaos::VARIABLE).map(chaos::Weather::parse) {
            None => backend,
            Some(Ok(weather)) => chaos::over(backend, &weather, clock),
            Some(Err(reason)) => {
                return Err(OpenStoreError::Unusable { url: config.url.to_string(), reason });
            }
        };
        let limits = Limits::new(clock, config.requests_per_second);
        let inner = Inner {
            url: config.url.to_string(),
            place: backend.place,
            backend: backend.store,
            multipart: backend.multipart,
            pages: backend.pages,
            directory: backend.directory,
            rooted: Mutex::default(),
            notes: OnceLock::new(),
            metrics,
            limits,
            hedge: backend.is_remote.then(|| Hedge::new(clock)),
            retry: Retry::new(clock.clone(), random.clone()),
            clock: clock.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A store over a backend of the caller's.
    #[cfg(test)]
    pub(super) fn over(
        url: &str,
        backend: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
        directory: Option<PathBuf>,
        clock: &Clock,
        random: &Random,
        registry: &Registry,
    ) -> Self {
        let inner = Inner {
            url: url.to_owned(),
            place: url.to_owned(),
            backend,
            multipart,
            pages: None,
            directory,
            rooted: Mutex::default(),
            notes: OnceLock::new(),
            metrics: ObjectMetrics::new(registry),
            limits: Limits::new(clock, None),
            hedge: None,
            retry: Retry::new(clock.clone(), random.clone()),
            clock: clock.clone(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The URL that the store was opened with.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// What tells this bucket from every other: the URL, and where it is looked up if that is not
    /// the cloud's own place.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The whole of an object of at most `limit` bytes.
    pub async fn get(&self, key: &Key, limit: u64) -> Result<Bytes, ObjectError> {
        let backend = &self.inner.backend;
        let expected = limit.min(EXPECTED_BYTES);
        let read = self.run(Operation::Get, key, expected, ATTEMPTS, || async move {
            let found = backend.get_opts(key.path(), GetOptions::default()).await?;
            if found.meta.size > limit {
                return Ok(Err(found.meta.size));
            }
            Ok(Ok(whole(found).await?))
        });
        let too_large = |size| ObjectError::TooLarge { key: key.clone(), size, limit };
        let bytes = read.await?.map_err(too_large)?;
        self.inner.metrics.moved(Operation::Get, bytes.len());
        Ok(bytes)
    }

    /// The bytes of an object in `range`, fewer if the object ends before.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.read_range(key, range, ATTEMPTS).await
    }

    /// When an object was written, in milliseconds since the epoch by the bucket's clock.
    pub(super) async fn modified_ms(&self, key: &Key) -> Result<i64, ObjectError> {
        let backend = &self.inner.backend;
        let read = self.run(Operation::Get, key, 0, ATTEMPTS, || async move {
            let options = GetOptions::new().with_head(true);
            Ok(backend.get_opts(key.path(), options).await?.meta.last_modified)
        });
        Ok(read.await?.timestamp_millis())
    }

    /// The same with a bound of the caller's on the attempts.
    pub(super) async fn read_range(
        &self,
        key: &Key,
        range: Range<u64>,
        attempts: u32,
    ) -> Result<Bytes, ObjectError> {
        let backend = &self.inner.backend;
        let length = range.end.saturating_sub(range.start);
        let read = self.run(Operation::GetRange, key, length, attempts, || {
            let range = range.clone();
            let ask = move || {
                let options = GetOptions::new().with_range(Some(range.clone()));
                async move { whole(backend.get_opts(key.path(), options).await?).await }
            };
            async move { self.hedged(ask).await }
        });
        let bytes = read.await?;
        self.inner.metrics.moved(Operation::GetRange, bytes.len());
        Ok(bytes)
    }

    /// Reads by `ask`, and once more beside it if it takes long.
    pub(super) async fn hedged<T, F, Fut>(&self, ask: F) -> object_store::Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        // Whoever reads is not to be as large as two requests.
        match &self.inner.hedge {
            Some(hedge) => Box::pin(hedge.run(ask, || self.inner.metrics.hedged())).await,
            None => Box::pin(ask()).await,
        }
    }

    /// Writes an object, replacing what was there. After an error it is unknown which is there.
    pub async fn put(&self, key: &Key, body: Bytes) -> Result<(), ObjectError> {
        self.write(Operation::Put, key, body, ATTEMPTS, PutMode::Overwrite).await
    }

    /// Removes an object; one that is not there counts as removed. On a `file://` store the
    /// removal may be undone by a power loss.
    pub async fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let backend = &self.inner.backend;
        let remove = || async move { backend.delete(key.path()).await };
        match self.run(Operation::Delete, key, 0, ATTEMPTS, remove).await {
            Err(ObjectError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// One attempt to write an object if none of that name exists. Only a success says what
    /// happened; [`Store::put_new`] finds out the rest.
    pub(super) async fn create(&self, key: &Key, body: Bytes) -> Result<(), ObjectError> {
        self.write(Operation::Create, key, body, 1, PutMode::Create).await
    }

    async fn write(
        &self,
        operation: Operation,
        key: &Key,
        body: Bytes,
        attempts: u32,
        mode: PutMode,
    ) -> Result<(), ObjectError> {
        let backend = &self.inner.backend;
        let length = body.len();
        let write = self.run(operation, key, length as u64, attempts, || {
            let payload = PutPayload::from(body.clone());
            let options = PutOptions::from(mode.clone());
            async move { backend.put_opts(key.path(), payload, options).await.map(drop) }
        });
        write.await?;
        self.moved(operation, length);
        self.synced_above(operation, key).await
    }

    /// Counts the bytes of an operation that succeeded.
    pub(super) fn moved(&self, operation: Operation, bytes: usize) {
        self.inner.metrics.moved(operation, bytes);
    }

    /// [`Store::sync_above`] as a part of `operation`.
    pub(super) async fn synced_above(
        &self,
        operation: Operation,
        key: &Key,
    ) -> Result<(), ObjectError> {
        self.sync_above(key).await.map_err(|error| {
            let (key, reason) = (key.clone(), error.to_string());
            ObjectError::Unavailable { operation, key, attempts: 1, reason }
        })
    }

    pub(super) fn backend(&self) -> &dyn ObjectStore {
        &*self.inner.backend
    }

    /// Whether the store drops the parts of an upload that is given up. Azure has no such request:
    /// it keeps blocks for a week, and makes a blob of them whenever it is asked to.
    pub(super) fn drops_parts(&self) -> bool {
        !self.inner.url.starts_with("az://")
    }

    /// The backend if parts of its objects have numbers.
    pub(super) fn multipart(&self) -> Option<&Arc<dyn MultipartStore>> {
        self.inner.multipart.as_ref()
    }

    /// Where uploads are noted, if they are.
    pub(super) fn notes(&self) -> Option<&Arc<Notes>> {
        self.inner.notes.get()
    }

    /// Notes uploads from now on; those that had been noted before stay where they are.
    pub(super) fn set_notes(&self, notes: Arc<Notes>) -> Arc<Notes> {
        Arc::clone(self.inner.notes.get_or_init(|| notes))
    }

    /// The directory of the objects, if they are files.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.inner.directory.as_deref()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The backend if it lists itself in pages.
    pub(super) fn pages(&self) -> Option<&Pages> {
        self.inner.pages.as_ref()
    }

    /// Makes the directories above `key`'s durable, if the store is one of files. The backend syncs
    /// those that it makes, but not one that a process made which was killed before it could; so
    /// this is done once for each directory.
    pub(super) async fn sync_above(&self, key: &Key) -> Result<(), LocalError> {
        let inner = &self.inner;
        let (Some(root), Some(directory)) = (inner.directory.clone(), self.directory_of(key))
        else {
            return Ok(());
        };
        let rooted = || inner.rooted.lock().unwrap_or_else(PoisonError::into_inner);
        if rooted().contains(&directory) {
            return Ok(());
        }
        let below = directory.clone();
        let sync = move || {
            let mut above = below.ancestors().skip(1).take_while(|above| above.starts_with(&root));
            above.try_for_each(local::sync_dir)
        };
        local::blocking(sync).await?;
        rooted().insert(directory);
        Ok(())
    }

    /// Waits after the `attempt`-th failure of something tried again outside the retry layer.
    pub(super) async fn pause(&self, attempt: u32) {
        self.inner.retry.pause(attempt).await;
    }

    /// The directory on this machine that holds `key`'s name, if the store is one of files.
    pub(super) fn directory_of(&self, key: &Key) -> Option<PathBuf> {
        let file = self.inner.directory.as_ref()?.join(key.path().as_ref());
        file.parent().map(Path::to_owned)
    }

    /// One operation through all layers.
    pub(super) async fn run<T, F, Fut>(
        &self,
        operation: Operation,
        key: &Key,
        bytes: u64,
        attempts: u32,
        call: F,
    ) -> Result<T, ObjectError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        let inner = &self.inner;
        let start = inner.clock.now();
        let place = inner.limits.admit().await;
        let [before, after] = operation.places();
        failpoint::pass(before);
        let (attempts, result) = inner.retry.run(operation, key, bytes, attempts, call).await;
        failpoint::pass(after);
        drop(place);
        let elapsed = inner.clock.now().duration_since(start);
        inner.metrics.observe(operation, attempts, elapsed, result.as_ref().err());
        result
    }
}

/// The body of an answer, if it is as long as the answer says of itself.
async fn whole(found: GetResult) -> object_store::Result<Bytes> {
    let expected = found.range.end.saturating_sub(found.range.start);
    let bytes = found.bytes().await?;
    if bytes.len() as u64 == expected {
        return Ok(bytes);
    }
    let source = format!("the body ended after {} of {expected} bytes", bytes.len()).into();
    Err(object_store::Error::Generic { store: "bucket", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Store, OpenStoreError> {
        Store::open(url, &Clock::system(), &Random::seeded(1), &Registry::new())
    }

    #[tokio::test]
    async fn a_directory_keeps_its_objects_and_memory_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let url = format!("file://{}/some/bucket", temp.path().display());
        let key = Key::numbered("a", 7);
        open(&url).unwrap().put(&key, "body".into()).await.unwrap();
        assert_eq!(open(&url).unwrap().get(&key, 4).await.unwrap(), "body");
        open("memory://").unwrap().put(&key, "body".into()).await.unwrap();
        let missing = open("memory://").unwrap().get(&key, 4).await.unwrap_err();
        assert_eq!(missing, ObjectError::NotFound { key });
    }

    #[test]
    fn what_is_no_url_is_refused_in_words() {
        for url in ["", "bucket", "file://relative", "memory://x", "ftp://x"] {
            let refusal = open(url).unwrap_err().to_string();
            assert!(refusal.contains("must be file:// and an absolute path"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn an_object_beyond_the_limit_is_not_read() {
        let store = open("memory://").unwrap();
        let key = Key::new("k");
        store.put(&key, "12345".into()).await.unwrap();
        let error = store.get(&key, 4).await.unwrap_err();
        assert_eq!(error, ObjectError::TooLarge { key: key.clone(), size: 5, limit: 4 });
        assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "23");
        assert_eq!(store.get_range(&key, 1..30).await.unwrap(), "2345");
    }

    #[tokio::test]
    async fn operations_are_counted_by_outcome() {
        let registry = Registry::new();
        let store =
            Store::open("memory://", &Clock::system(), &Random::seeded(1), &registry).unwrap();
        let key = Key::new("k");
        store.put(&key, "12345".into()).await.unwrap();
        store.get(&key, 10).await.unwrap();
        store.create(&key, "other".into()).await.unwrap_err();
        store.delete(&key).await.unwrap();
        store.get(&key, 10).await.unwrap_err();
        let text = registry.encode();
        for line in [
            r#"object_requests_total{operation="put",outcome="ok"} 1"#,
            r#"object_requests_total{operation="get",outcome="ok"} 1"#,
            r#"object_requests_total{operation="get",outcome="not_found"} 1"#,
            r#"object_requests_total{operation="create",outcome="exists"} 1"#,
            r#"object_bytes_total{operation="get"} 5"#,
            r#"object_billed_requests_total{class="read"} 2"#,
            r#"object_billed_requests_total{class="write"} 2"#,
            r#"object_billed_requests_total{class="free"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

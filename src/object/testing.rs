//! A bucket and a data directory that fail on command, for the tests of this room and those above.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
pub(crate) use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use self::gets::Gets;
use self::uploads::Uploads;
use super::power::Journal;
use super::store::Store;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;

mod gets;
mod uploads;

/// The process is dead: nothing has an effect any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("killed by the test")]
pub(crate) struct Crashed;

/// When a process dies, shared by everything it writes with.
#[derive(Debug)]
pub(crate) struct Faults {
    /// The step before which the process dies.
    crash_at: u64,
    taken: AtomicU64,
    /// Records what the process writes.
    journal: Option<Arc<Journal>>,
}

impl Faults {
    /// A process that dies before its `step`-th step, counted from 0.
    pub(crate) fn crash_at(step: u64) -> Arc<Self> {
        Arc::new(Self { crash_at: step, taken: AtomicU64::new(0), journal: None })
    }

    /// A process that lives.
    pub(crate) fn none() -> Arc<Self> {
        Self::crash_at(u64::MAX)
    }

    /// A process that lives and whose writes are recorded.
    pub(crate) fn recorded(journal: &Arc<Journal>) -> Arc<Self> {
        let journal = Some(Arc::clone(journal));
        Arc::new(Self { crash_at: u64::MAX, taken: AtomicU64::new(0), journal })
    }

    /// Where writes are recorded, if they are.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// One step; an error once the process is dead.
    pub(crate) fn step(&self) -> std::result::Result<(), Crashed> {
        let step = self.taken.fetch_add(1, Ordering::SeqCst);
        if step >= self.crash_at { Err(Crashed) } else { Ok(()) }
    }

    /// Whether the process died.
    pub(crate) fn crashed(&self) -> bool {
        self.taken.load(Ordering::SeqCst) > self.crash_at
    }
}

/// What happens to the next writes, first come first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Before,
    /// It has its effect and fails.
    After,
    /// It has its effect only when [`FaultStore::release`] is called, and fails now.
    Late,
    /// It never answers and has no effect.
    Hang,
    /// It is refused.
    Denied,
}

/// A backend in front of another one, as one process sees it: several over one backend are
/// several processes that share a bucket.
#[derive(Debug, Clone)]
pub(crate) struct FaultStore {
    backend: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
    script: Arc<Mutex<Vec<Option<Fault>>>>,
    late: Arc<Mutex<Vec<(Path, PutPayload, PutOptions)>>>,
    away: Arc<AtomicBool>,
    /// Lets every writer of a race win, as broken stores do.
    ignores_conditions: bool,
    writes: Arc<AtomicU64>,
    gets: Gets,
    uploads: Uploads,
}

impl FaultStore {
    pub(crate) fn new(backend: Arc<dyn ObjectStore>, faults: Arc<Faults>) -> Self {
        Self {
            backend,
            faults,
            script: Arc::default(),
            late: Arc::default(),
            away: Arc::default(),
            ignores_conditions: false,
            writes: Arc::default(),
            gets: Gets::default(),
            uploads: Uploads::default(),
        }
    }

    /// A bucket in memory without faults.
    pub(crate) fn memory() -> Self {
        Self::new(Arc::new(InMemory::new()), Faults::none())
    }

    /// The same backend as seen by a store that does not look at conditions.
    pub(crate) fn ignoring_conditions(mut self) -> Self {
        self.ignores_conditions = true;
        self
    }

    /// The next writes meet these faults, in order.
    pub(crate) fn script(&self, faults: &[Fault]) {
        self.script_some(&faults.iter().copied().map(Some).collect::<Vec<_>>());
    }

    /// The next writes meet these faults or none, in order.
    pub(crate) fn script_some(&self, faults: &[Option<Fault>]) {
        *self.script.lock().unwrap() = faults.iter().rev().copied().collect();
    }

    /// Whether every operation fails from now on.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Lets the late writes arrive.
    pub(crate) async fn release(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (path, payload, options) in late {
            let _ = self.backend.put_opts(&path, payload, options).await;
        }
    }

    /// How many writes and deletions reached the backend or failed on their way.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// How many GETs were made.
    pub(crate) fn gets(&self) -> u64 {
        self.gets.made()
    }

    /// The ranges that GETs asked for, in order.
    pub(crate) fn ranges(&self) -> Vec<std::ops::Range<u64>> {
        self.gets.asked()
    }

    /// Whether GETs wait from now on.
    pub(crate) fn hold_gets(&self, held: bool) {
        self.gets.hold(held);
    }

    /// Lets the next `count` GETs fail.
    pub(crate) fn fail_gets(&self, count: u64) {
        self.gets.fail(count);
    }

    /// Waits until `count` GETs were made since the start.
    pub(crate) async fn gets_made(&self, count: u64) {
        self.gets.arrived(count).await;
    }

    /// A [`Store`] over this backend.
    pub(crate) fn store(&self) -> Store {
        let (clock, random) = (Clock::system(), Random::seeded(0x5eed));
        let (backend, multipart) = (Arc::new(self.clone()), Some(Arc::new(self.clone()) as _));
        Store::over("test://", backend, multipart, None, &clock, &random, &Registry::new())
    }

    fn step(&self) -> Result<()> {
        if self.away.load(Ordering::SeqCst) {
            return Err(failure("the bucket is away"));
        }
        self.faults.step().map_err(failure)
    }

    async fn put(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.step()?;
        let fault = self.script.lock().unwrap().pop().flatten();
        if self.ignores_conditions && options.mode == PutMode::Create {
            options.mode = PutMode::Overwrite;
        }
        match fault {
            Some(Fault::Before) => return Err(failure("fails before")),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Denied) => return Err(denied(path.as_ref())),
            Some(Fault::Late) => {
                self.late.lock().unwrap().push((path.clone(), payload, options));
                return Err(failure("comes late"));
            }
            Some(Fault::After) | None => {}
        }
        let (body, create) = (bytes::Bytes::from(payload.clone()), options.mode == PutMode::Create);
        let result = self.backend.put_opts(path, payload, options).await;
        if let Some(journal) = self.faults.journal().filter(|_| result.is_ok()) {
            journal.put(path.as_ref(), &body, create);
        }
        self.step()?;
        if fault == Some(Fault::After) {
            return Err(failure("fails after"));
        }
        result
    }
}

fn failure(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "test", source: why.into() }
}

fn denied(path: &str) -> object_store::Error {
    object_store::Error::PermissionDenied { path: path.to_owned(), source: "denied".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults over {}", self.backend)
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The trait's methods are async through boxed futures; this is what its macro would write.
impl ObjectStore for FaultStore {
    fn put_opts<'s, 'p, 'a>(
        &'s self,
        location: &'p Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'a, PutResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(self.put(location, payload, options))
    }

    fn put_multipart_opts<'s, 'p, 'a>(
        &'s self,
        _location: &'p Path,
        _options: PutMultipartOptions,
    ) -> Answer<'a, Box<dyn MultipartUpload>>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(async { Err(failure("not in use")) })
    }

    fn get_opts<'s, 'p, 'a>(
        &'s self,
        location: &'p Path,
        options: GetOptions,
    ) -> Answer<'a, GetResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            self.gets.pass(&options).await?;
            self.step()?;
            self.backend.get_opts(location, options).await
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.writes.fetch_add(1, Ordering::SeqCst);
                    this.step()?;
                    this.backend.delete(&location).await?;
                    this.step()?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.step() {
            Ok(()) => self.backend.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_delimiter<'s, 'p, 'a>(
        &'s self,
        _prefix: Option<&'p Path>,
    ) -> Answer<'a, ListResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(async { Err(failure("nothing lists so")) })
    }

    fn copy_opts<'s, 'f, 't, 'a>(
        &'s self,
        _from: &'f Path,
        _to: &'t Path,
        _options: CopyOptions,
    ) -> Answer<'a, ()>
    where
        's: 'a,
        'f: 'a,
        't: 'a,
        Self: 'a,
    {
        Box::pin(async { Err(failure("nothing copies")) })
    }
}

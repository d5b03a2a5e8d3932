use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::super::retry::ATTEMPTS;
use super::super::testing::{Fault, FaultStore, Faults, InMemory};
use super::*;
use crate::metrics::Registry;

#[tokio::test]
async fn the_directory_and_the_memory_store_pass() {
    let temp = tempfile::tempdir().unwrap();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    for url in ["memory://".to_owned(), format!("file://{}", temp.path().display())] {
        let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
        run(&store, &random).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_conditions_is_refused_by_name() {
    let store = FaultStore::memory().ignoring_conditions().store();
    let error = run(&store, &Random::seeded(1)).await.unwrap_err();
    let ProbeError::Broken { property, .. } = error else { panic!("{error}") };
    assert_eq!(property, Property::CreateRace);
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_per_url_and_renewed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let (clock, random) = (Clock::manual(1_000), Random::seeded(1));
    let bucket = FaultStore::memory();
    let store = bucket.store();
    ensure(&store, &dir, &clock, &random).await.unwrap();
    let writes = bucket.writes();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), Some(1_000));
    assert_eq!(passed_at("memory://other", &dir).await.unwrap(), None);

    bucket.set_away(true);
    ensure(&store, &dir, &clock, &random).await.unwrap();
    assert_eq!(bucket.writes(), writes);
    renew(&store, &dir, &clock, &random).await.unwrap_err();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), Some(1_000));

    let broken = FaultStore::memory().ignoring_conditions().store();
    renew(&broken, &dir, &clock, &random).await.unwrap_err();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), None);
}

#[tokio::test]
async fn the_frozen_sample_of_a_note_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let note = b"TGPB\x01\0\0\0\xc3\x0b\xa4\xb7\x00\x00\x01\x8b\xcf\xe5\x68\x00\
        memory://";
    dir.write(NOTE_FILE, &note[..]).await.unwrap();
    assert_eq!(passed_at("memory://", &dir).await.unwrap(), Some(1_700_000_000_000));
}

/// A store in memory that breaks one promise.
#[derive(Debug)]
struct Liar {
    breaks: Property,
    backend: InMemory,
    /// The first content of each name.
    first: Mutex<HashMap<Path, PutPayload>>,
}

impl std::fmt::Display for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a store without {}", self.breaks)
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

impl Liar {
    /// What a cache that is not told of writes would answer: the first content for ever.
    async fn stale(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let first = self.first.lock().unwrap().get(path).cloned();
        let Some(first) = first else { return self.backend.get_opts(path, options).await };
        let cache = InMemory::new();
        cache.put_opts(path, first, PutOptions::default()).await?;
        cache.get_opts(path, options).await
    }
}

impl ObjectStore for Liar {
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
        let first = || payload.clone();
        self.first.lock().unwrap().entry(location.clone()).or_insert_with(first);
        self.backend.put_opts(location, payload, options)
    }

    fn put_multipart_opts<'s, 'p, 'a>(
        &'s self,
        location: &'p Path,
        options: PutMultipartOptions,
    ) -> Answer<'a, Box<dyn MultipartUpload>>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        self.backend.put_multipart_opts(location, options)
    }

    fn get_opts<'s, 'p, 'a>(
        &'s self,
        location: &'p Path,
        mut options: GetOptions,
    ) -> Answer<'a, GetResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            match self.breaks {
                Property::ReadAfterWrite => return self.stale(location, options).await,
                Property::RangedGet => options.range = None,
                Property::CreateRace | Property::Delete | Property::Multipart => {}
            }
            self.backend.get_opts(location, options).await
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        if self.breaks == Property::Delete {
            locations
        } else {
            self.backend.delete_stream(locations)
        }
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        stream::empty().boxed()
    }

    fn list_with_delimiter<'s, 'p, 'a>(&'s self, prefix: Option<&'p Path>) -> Answer<'a, ListResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        self.backend.list_with_delimiter(prefix)
    }

    fn copy_opts<'s, 'f, 't, 'a>(
        &'s self,
        from: &'f Path,
        to: &'t Path,
        options: CopyOptions,
    ) -> Answer<'a, ()>
    where
        's: 'a,
        'f: 'a,
        't: 'a,
        Self: 'a,
    {
        self.backend.copy_opts(from, to, options)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_a_promise_is_refused_with_its_name() {
    for breaks in [Property::ReadAfterWrite, Property::RangedGet, Property::Delete] {
        let (backend, first) = (InMemory::new(), Mutex::default());
        let liar = Arc::new(Liar { breaks, backend, first });
        let (clock, random) = (Clock::system(), Random::seeded(1));
        let store = Store::over("test://", liar, None, None, &clock, &random, &Registry::new());
        let error = run(&store, &random).await.unwrap_err();
        let ProbeError::Broken { property, .. } = &error else { panic!("{error}") };
        assert_eq!(*property, breaks, "{error}");
        assert!(error.to_string().contains(&breaks.to_string()), "{error}");
    }
}

/// A store that knows parts, and how it does not keep its promise of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    Refuses,
    Forgets,
    Reverses,
    KeepsLast,
    MakesGivenUp,
}

#[derive(Debug)]
struct Parts {
    lie: Lie,
    bucket: FaultStore,
}

impl MultipartStore for Parts {
    fn create_multipart<'s, 'p, 'a>(&'s self, path: &'p Path) -> Answer<'a, MultipartId>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        if self.lie == Lie::Refuses {
            let source = "no such method".into();
            let path = path.to_string();
            return Box::pin(async { Err(object_store::Error::PermissionDenied { path, source }) });
        }
        self.bucket.create_multipart(path)
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
        self.bucket.put_part(path, id, number, data)
    }

    fn complete_multipart<'s, 'p, 'i, 'a>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
        mut parts: Vec<PartId>,
    ) -> Answer<'a, PutResult>
    where
        's: 'a,
        'p: 'a,
        'i: 'a,
        Self: 'a,
    {
        match self.lie {
            Lie::Reverses => parts.reverse(),
            Lie::KeepsLast => drop(parts.drain(..parts.len() - 1)),
            Lie::Forgets => {
                let none = PutResult { e_tag: None, version: None, extensions: <_>::default() };
                return Box::pin(async { Ok(none) });
            }
            Lie::None | Lie::Refuses | Lie::MakesGivenUp => {}
        }
        self.bucket.complete_multipart(path, id, parts)
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
        if self.lie == Lie::MakesGivenUp {
            return Box::pin(async { Ok(()) });
        }
        self.bucket.abort_multipart(path, id)
    }
}

/// What the probe says of the bucket at `url` that lies like this.
async fn examine_parts(url: &str, lie: Lie, bucket: &FaultStore) -> Vec<Verdict> {
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let parts = Arc::new(Parts { lie, bucket: bucket.clone() });
    let (backend, registry) = (Arc::new(bucket.clone()), Registry::new());
    let store = Store::over(url, backend, Some(parts), None, &clock, &random, &registry);
    examine(&store, &random).await.unwrap()
}

/// It has no request that drops blocks, and is no worse for that.
#[tokio::test(start_paused = true)]
async fn azure_may_keep_the_parts_of_what_is_given_up() {
    let verdicts = examine_parts("az://bkt", Lie::MakesGivenUp, &FaultStore::memory()).await;
    assert_eq!(verdicts.last().unwrap().property, Property::Multipart);
    assert!(verdicts.iter().all(|verdict| verdict.broken.is_none()), "{verdicts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_in_parts_is_those_parts_and_what_is_given_up_leaves_nothing() {
    for (lie, seen) in [
        (Lie::None, None),
        (Lie::Refuses, Some("refused to begin_upload")),
        (Lie::Forgets, Some("just completed was not found")),
        (Lie::Reverses, Some("differs from its parts")),
        (Lie::KeepsLast, Some("differs from its parts")),
        (Lie::MakesGivenUp, Some("given up became an object")),
    ] {
        let memory = Arc::new(InMemory::new());
        let bucket = FaultStore::new(Arc::clone(&memory) as _, Faults::none());
        let verdicts = examine_parts("test://", lie, &bucket).await;
        let [others @ .., parts] = verdicts.as_slice() else { panic!("{verdicts:?}") };
        assert!(others.iter().all(|verdict| verdict.broken.is_none()), "{verdicts:?}");
        assert_eq!(parts.property, Property::Multipart);
        match (seen, &parts.broken) {
            (None, None) => {
                assert_eq!(bucket.open_uploads(), 0);
                assert_eq!(memory.list(None).count().await, 0, "nothing is left in the bucket");
            }
            (Some(seen), Some(broken)) => assert!(broken.contains(seen), "{lie:?}: {broken}"),
            _ => panic!("{lie:?}: {parts:?}"),
        }
    }
}

/// A bucket that goes away in between says nothing of the promise, and no parts are left.
#[tokio::test(start_paused = true)]
async fn a_part_that_is_not_taken_is_no_broken_promise() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    let [whole, given_up] = ["whole", "given-up"].map(Key::new);
    let mut faults = vec![Some(Fault::Before); ATTEMPTS as usize + 1];
    faults[0] = None;
    bucket.script_some(&faults);
    let error = parts::parts(&store, &whole, &given_up).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert_eq!(bucket.open_uploads(), 0);
    assert_eq!(parts::parts(&store, &whole, &given_up).await.unwrap(), None);
    assert_eq!(bucket.open_uploads(), 0);
}

//! A bucket in bad weather: latency, refusals, lost answers, damaged bodies, listings that lag.
//! Seeded, so that the same calls in the same order meet the same.
//!
//! In builds with debug assertions only: tests of this room and those above put it between a
//! [`super::Store`] and its backend, and a test of the binary names the weather in the environment
//! ([`VARIABLE`]):
//!
//! ```text
//! seed=7 refused=50 latency=1..20 get_range.flipped=10
//! ```
//!
//! A number without an operation is for all of them. Odds are in parts of 1,000.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt, future};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::backend::Backend;
use super::error::Operation;
use super::list::Pages;
use crate::clock::{Clock, Random};

/// Where the binary of a build with debug assertions is told the weather.
#[cfg_attr(not(debug_assertions), allow(dead_code, reason = "only such builds have it"))]
pub(super) const VARIABLE: &str = "OBJECT_FAULTS_FOR_TESTS";

/// How many operations there are.
const OPERATIONS: usize = Operation::ALL.len();

/// What happens to one operation, and how often of 1,000 times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Odds {
    /// It has no effect and is answered 503.
    refused: u64,
    /// It has no effect and no answer.
    lost: u64,
    /// It has its effect and no answer.
    unanswered: u64,
    /// The body of a GET ends early, and nothing else says so.
    cut: u64,
    /// One bit of the body of a GET is another.
    flipped: u64,
    /// An entry is missing in one listing.
    unlisted: u64,
    /// An entry is missing in the first one to three listings that should have it.
    late: u64,
    /// How long it takes in milliseconds, at least and at most; most take near the least.
    latency: (u64, u64),
}

/// The weather of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weather {
    seed: u64,
    odds: [Odds; OPERATIONS],
}

impl Weather {
    /// Reads the weather from its description; an error says which word is none.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut weather = Self { seed: 0, odds: [Odds::default(); OPERATIONS] };
        for word in text.split_whitespace() {
            weather.set(word).ok_or_else(|| format!("\"{word}\" is no weather"))?;
        }
        Ok(weather)
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let (what, value) = word.split_once('=')?;
        if what == "seed" {
            self.seed = value.parse().ok()?;
            return Some(());
        }
        let (operation, what) = match what.split_once('.') {
            Some((operation, what)) => (Some(operation), what),
            None => (None, what),
        };
        let meant = |it: &Operation| operation.is_none_or(|name| it.name() == name);
        let mut is_known = false;
        for operation in Operation::ALL.into_iter().filter(meant) {
            let odds = &mut self.odds[operation as usize];
            let field = match what {
                "refused" => &mut odds.refused,
                "lost" => &mut odds.lost,
                "unanswered" => &mut odds.unanswered,
                "cut" => &mut odds.cut,
                "flipped" => &mut odds.flipped,
                "unlisted" => &mut odds.unlisted,
                "late" => &mut odds.late,
                "latency" => {
                    let (least, most) = value.split_once("..")?;
                    odds.latency = (least.parse().ok()?, most.parse().ok()?);
                    is_known = true;
                    continue;
                }
                _ => return None,
            };
            *field = value.parse().ok()?;
            is_known = true;
        }
        is_known.then_some(())
    }
}

/// A backend in bad weather; cheap to clone.
#[derive(Clone)]
pub(crate) struct Chaos {
    backend: Arc<dyn ObjectStore>,
    multipart: Option<Arc<dyn MultipartStore>>,
    pages: Option<Arc<dyn PaginatedListStore>>,
    odds: [Odds; OPERATIONS],
    dice: [Random; OPERATIONS],
    /// In how many listings an object will be missing yet.
    late: Arc<Mutex<HashMap<Path, u64>>>,
    clock: Clock,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad weather over {}", self.backend)
    }
}

/// Puts a backend into the weather.
#[cfg_attr(not(debug_assertions), allow(dead_code, reason = "only such builds have it"))]
pub(super) fn over(backend: Backend, weather: &Weather, clock: &Clock) -> Backend {
    let Backend { store, multipart, pages, directory, place, is_remote } = backend;
    let (lists, prefix) = match pages {
        Some(Pages { backend, prefix }) => (Some(backend), prefix),
        None => (None, Path::default()),
    };
    let chaos = Chaos::new(store, multipart, lists, weather, clock);
    let multipart = chaos.multipart.is_some().then(|| Arc::new(chaos.clone()) as _);
    let pages = chaos.pages.is_some();
    let pages = pages.then(|| Pages { backend: Arc::new(chaos.clone()), prefix });
    Backend { store: Arc::new(chaos), multipart, pages, directory, place, is_remote }
}

impl Chaos {
    pub(crate) fn new(
        backend: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
        pages: Option<Arc<dyn PaginatedListStore>>,
        weather: &Weather,
        clock: &Clock,
    ) -> Self {
        let dice = Operation::ALL.map(|operation| {
            let stream = Random::seeded(operation as u64).u64();
            Random::seeded(weather.seed ^ stream)
        });
        let (odds, late, clock) = (weather.odds, Arc::default(), clock.clone());
        Self { backend, multipart, pages, odds, dice, late, clock }
    }

    /// Whether something happens that has these odds.
    fn happens(&self, operation: Operation, odds: u64) -> bool {
        odds > 0 && self.dice[operation as usize].below(1_000) < odds
    }

    /// Does `work` as the weather lets it.
    async fn meet<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let odds = self.odds[operation as usize];
        let (least, most) = odds.latency;
        if most > 0 {
            let draw = self.dice[operation as usize].below(1_000);
            let tail = most.saturating_sub(least) * draw.pow(3) / 1_000_000_000;
            self.clock.sleep(Duration::from_millis(least + tail)).await;
        }
        if self.happens(operation, odds.refused) {
            let source = "503 Service Unavailable: SlowDown".into();
            return Err(object_store::Error::Generic { store: "bad weather", source });
        }
        if self.happens(operation, odds.lost) {
            return future::pending().await;
        }
        let answer = work.await;
        if self.happens(operation, odds.unanswered) {
            return future::pending().await;
        }
        answer
    }

    async fn got(&self, operation: Operation, answer: GetResult) -> Result<GetResult> {
        let odds = self.odds[operation as usize];
        let is_cut = self.happens(operation, odds.cut);
        let is_flipped = self.happens(operation, odds.flipped);
        if !is_cut && !is_flipped {
            return Ok(answer);
        }
        let (meta, range) = (answer.meta.clone(), answer.range.clone());
        let (attributes, extensions) = (answer.attributes.clone(), answer.extensions.clone());
        let dice = &self.dice[operation as usize];
        let mut body = answer.bytes().await?.to_vec();
        if is_cut {
            body.truncate(dice.below(body.len() as u64) as usize);
        }
        let at = dice.below(body.len() as u64) as usize;
        if is_flipped && let Some(byte) = body.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
        let body = stream::once(async { Ok(Bytes::from(body)) }).boxed();
        let payload = GetResultPayload::Stream(body);
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    /// Whether a listing has an object that is there.
    fn shows(&self, object: &ObjectMeta) -> bool {
        let odds = self.odds[Operation::List as usize];
        if self.happens(Operation::List, odds.unlisted) {
            return false;
        }
        if odds.late == 0 {
            return true;
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let left = late.entry(object.location.clone()).or_insert_with(|| {
            let dice = &self.dice[Operation::List as usize];
            if self.happens(Operation::List, odds.late) { 1 + dice.below(3) } else { 0 }
        });
        let is_shown = *left == 0;
        *left = left.saturating_sub(1);
        is_shown
    }

    fn parts(&self) -> Result<&Arc<dyn MultipartStore>> {
        let source = "parts of files have no numbers".into();
        self.multipart.as_ref().ok_or(object_store::Error::NotSupported { source })
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The traits' methods are async through boxed futures; this is what their macro would write.
impl ObjectStore for Chaos {
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
        let creates = options.mode == PutMode::Create;
        let operation = if creates { Operation::Create } else { Operation::Put };
        Box::pin(self.meet(operation, self.backend.put_opts(location, payload, options)))
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
        let begin = self.backend.put_multipart_opts(location, options);
        Box::pin(self.meet(Operation::BeginUpload, begin))
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
        let has_range = options.range.is_some();
        let operation = if has_range { Operation::GetRange } else { Operation::Get };
        Box::pin(self.meet(operation, async move {
            let is_head = options.head;
            let answer = self.backend.get_opts(location, options).await?;
            if is_head { Ok(answer) } else { self.got(operation, answer).await }
        }))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |location: Result<Path>| {
            let this = this.clone();
            async move {
                let location = location?;
                this.meet(Operation::Delete, this.backend.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            this.meet(Operation::List, async { Ok(()) }).await?;
            let objects = this.backend.list(prefix.as_ref());
            let shown = objects.try_filter(move |object| future::ready(this.shows(object)));
            Ok::<_, object_store::Error>(shown)
        };
        stream::once(listing).try_flatten().boxed()
    }

    fn list_with_delimiter<'s, 'p, 'a>(&'s self, prefix: Option<&'p Path>) -> Answer<'a, ListResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        Box::pin(self.meet(Operation::List, self.backend.list_with_delimiter(prefix)))
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
        Box::pin(self.meet(Operation::Put, self.backend.copy_opts(from, to, options)))
    }
}

impl MultipartStore for Chaos {
    fn create_multipart<'s, 'p, 'a>(&'s self, path: &'p Path) -> Answer<'a, MultipartId>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        let begin = async move { self.parts()?.create_multipart(path).await };
        Box::pin(self.meet(Operation::BeginUpload, begin))
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
        let put = async move { self.parts()?.put_part(path, id, number, data).await };
        Box::pin(self.meet(Operation::PutPart, put))
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
        let complete = async move { self.parts()?.complete_multipart(path, id, parts).await };
        Box::pin(self.meet(Operation::CompleteUpload, complete))
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
        let abort = async move { self.parts()?.abort_multipart(path, id).await };
        Box::pin(self.meet(Operation::AbortUpload, abort))
    }
}

impl PaginatedListStore for Chaos {
    fn list_paginated<'s, 'p, 'a>(
        &'s self,
        prefix: Option<&'p str>,
        options: PaginatedListOptions,
    ) -> Answer<'a, PaginatedListResult>
    where
        's: 'a,
        'p: 'a,
        Self: 'a,
    {
        let list = async move {
            let source = "this store knows no pages".into();
            let pages = self.pages.as_ref();
            let pages = pages.ok_or(object_store::Error::NotSupported { source })?;
            let mut page = pages.list_paginated(prefix, options).await?;
            page.result.objects.retain(|object| self.shows(object));
            Ok(page)
        };
        Box::pin(self.meet(Operation::List, list))
    }
}

#[cfg(test)]
pub(crate) mod tests;

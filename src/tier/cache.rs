//! What is kept in memory of tiered objects: chunks and footers.
//!
//! Objects never change, so what was loaded once is good for as long as there is room. Readers of
//! young data and readers that catch up, told apart by the age of what they read, have memory of
//! their own: a scan of the whole log takes nothing from those at its end.
//!
//! Least recently used goes first. (moka's own policy would refuse newcomers, and the end of a log
//! is made of nothing else.)
//!
//! **Invariant:** bytes are charged to a pool before they are asked for, and until nobody holds
//! them, in the cache or out of it. What answers hold that was evicted goes over to the pool of
//! those who hold it, as far as that has room.
//! **Invariant:** a load is made once however many wait for it, goes on when they stop waiting, and
//! its failure is remembered by nobody.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::budget::{BytePool, Charge};
use crate::metrics::Registry;
use crate::object::{ObjectError, Operation, Store};
use crate::protocol::types::TopicPartition;
use crate::task;

use super::footer::{Footer, Section};
use super::metrics;
use super::name::ObjectId;
use super::reader::{End, ObjectRef, ReadError, Reader, since_offset};

mod flights;
mod held;
mod part;
mod streams;

use self::flights::{Flight, Flights, Landing, Tower};
pub use self::held::Held;
use self::part::{Part, Run};
use self::streams::{FIRST_WINDOW, GREATEST_WINDOW, Place, Stream, Streams};

/// How many loads that nobody waits for are under way at once, at most.
const UNASKED_LOADS: usize = 16;
/// One of them for so much of the smaller pool: what they bring must stay until it is asked for.
const UNASKED_BYTES: usize = 4 << 20;

/// A chunk: its object, and its number there.
type ChunkKey = (ObjectId, u32);

/// Whose memory a read takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// What is read was written not long ago.
    Hot,
    /// The reader catches up.
    CatchUp,
}

/// What the cache may take.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Chunks for readers of young data, kept and on their way.
    pub hot: BytePool,
    /// Chunks for readers that catch up.
    pub catch_up: BytePool,
    /// Footers.
    pub footers: BytePool,
    /// What answers hold that is kept no longer: whoever takes an answer slowly holds this, and not
    /// what others load with.
    pub readers: BytePool,
    /// How many loads for readers that catch up are under way at once, at least 1.
    pub catch_up_loads: usize,
}

/// Some of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whole batches from the one on that holds the offset asked for, or the first behind it. None
    /// where compaction left none before `next_offset`.
    pub batches: Bytes,
    /// Where to read on.
    pub next_offset: i64,
}

/// The cache. Cheap to clone; there is one per process.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

struct Inner {
    store: Store,
    hot: Part<ChunkKey, Bytes>,
    catch_up: Part<ChunkKey, Bytes>,
    footers: Part<ObjectId, Footer>,
    catch_up_places: Semaphore,
    /// Loads under way that nobody waits for.
    unasked_places: Arc<Semaphore>,
    chunk_flights: Arc<Flights<ChunkKey, Arc<Run>>>,
    footer_flights: Arc<Flights<ObjectId, Arc<Held<Footer>>>>,
    streams: Streams,
}

impl Cache {
    /// An empty cache over `store`.
    pub fn new(store: Store, options: CacheOptions, registry: &Registry) -> Self {
        let [hot, catch_up, footers] = metrics::register(registry);
        let smaller = options.hot.capacity().min(options.catch_up.capacity());
        let unasked = (smaller / UNASKED_BYTES).clamp(1, UNASKED_LOADS);
        let inner = Inner {
            store,
            hot: Part::new(options.hot, &options.readers, hot),
            catch_up: Part::new(options.catch_up, &options.readers, catch_up),
            footers: Part::new(options.footers, &options.readers, footers),
            catch_up_places: Semaphore::new(options.catch_up_loads.max(1)),
            unasked_places: Arc::new(Semaphore::new(unasked)),
            chunk_flights: Arc::default(),
            footer_flights: Arc::default(),
            streams: Streams::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads a partition's log at `offset`: up to the end of one chunk. `None` if the object does
    /// not hold that offset. Cancelling the wait does not cancel the load.
    pub async fn read(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        offset: i64,
        age: Age,
    ) -> Result<Option<Found>, ReadError> {
        let footer = self.footer(object).await?;
        let found = footer.section(of).and_then(|section| {
            let number = footer.chunk_at(section, offset)?;
            Some((section, number))
        });
        let Some((section, number)) = found else { return Ok(None) };
        let next_offset = place_of(&footer, section, number + 1).1;
        let wanted = Wanted { object: *object, footer: &footer, section, number, age };
        let chunk = self.wanted(&wanted, true).await?;
        Ok(Some(Found { batches: since_offset(&held::slice(&chunk), offset), next_offset }))
    }

    /// As [`Cache::read`] without waiting: what is in the cache.
    pub fn at_hand(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        offset: i64,
        age: Age,
    ) -> Option<Found> {
        let inner = &self.inner;
        let footer = inner.footers.get(&object.id)?;
        let section = footer.section(of)?;
        let number = footer.chunk_at(section, offset)?;
        let chunk = inner.kept((object.id, number))?;
        inner.part(age).metrics.wanted(true);
        let wanted = Wanted { object: *object, footer: &footer, section, number, age };
        if let Some(stream) = inner.streams.take(wanted.place(number)) {
            inner.load_ahead(&wanted, stream);
        }
        let next_offset = place_of(&footer, section, number + 1).1;
        Some(Found { batches: since_offset(&held::slice(&chunk), offset), next_offset })
    }

    /// Begins what [`Cache::read`] would wait for, unless many such loads are under way. What is
    /// returned ends with the load, which goes on without it.
    pub fn begin(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        offset: i64,
        age: Age,
    ) -> Option<JoinHandle<()>> {
        let place = Arc::clone(&self.inner.unasked_places).try_acquire_owned().ok()?;
        let (this, object) = (self.clone(), *object);
        Some(task::spawn("tier load for later", async move {
            // Whoever comes for it is told what went wrong.
            drop(this.read(&object, of, offset, age).await);
            drop(place);
        }))
    }

    /// Reads the chunk with the first record of `timestamp` or later, from the chunk on that holds
    /// `from`; `None` if the section has none there. Nothing is loaded ahead: who looks for a time
    /// reads on elsewhere.
    pub async fn since(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        timestamp: i64,
        from: i64,
        age: Age,
    ) -> Result<Option<Found>, ReadError> {
        let since =
            |footer: &Footer, section: &Section| footer.chunk_since(section, timestamp, from);
        self.chunk_by(object, of, age, since).await
    }

    /// Reads the chunk with the greatest timestamp, from the chunk on that holds `from`, as
    /// [`Cache::since`] does.
    pub async fn greatest(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        from: i64,
        age: Age,
    ) -> Result<Option<Found>, ReadError> {
        let greatest = |footer: &Footer, section: &Section| footer.chunk_greatest(section, from);
        self.chunk_by(object, of, age, greatest).await
    }

    async fn chunk_by(
        &self,
        object: &ObjectRef,
        of: TopicPartition,
        age: Age,
        choose: impl FnOnce(&Footer, &Section) -> Option<u32>,
    ) -> Result<Option<Found>, ReadError> {
        let footer = self.footer(object).await?;
        let found = footer.section(of).and_then(|section| {
            let number = choose(&footer, section)?;
            Some((section, number))
        });
        let Some((section, number)) = found else { return Ok(None) };
        let next_offset = place_of(&footer, section, number + 1).1;
        let wanted = Wanted { object: *object, footer: &footer, section, number, age };
        let chunk = self.wanted(&wanted, false).await?;
        Ok(Some(Found { batches: held::slice(&chunk), next_offset }))
    }

    /// How many bytes readers hold that loads wait for: those that were evicted and for which the
    /// readers' pool had no room. Whoever takes its answer most slowly is to be closed for them.
    pub fn stuck(&self) -> usize {
        self.inner.hot.stuck() + self.inner.catch_up.stuck()
    }

    /// An object's footer.
    pub async fn footer(&self, object: &ObjectRef) -> Result<Arc<Held<Footer>>, ReadError> {
        let (part, id) = (&self.inner.footers, object.id);
        let kept = part.get(&id);
        part.metrics.wanted(kept.is_some());
        if let Some(footer) = kept {
            return Ok(footer);
        }
        let flight = {
            let mut tower = self.inner.footer_flights.lock();
            // It may have landed since.
            if let Some(footer) = part.get(&id) {
                return Ok(footer);
            }
            tower.of(&id).unwrap_or_else(|| {
                let (landing, flight) = tower.start(vec![id]);
                let load = Arc::clone(&self.inner).load_footer(*object, landing);
                task::spawn("tier footer load", load);
                flight
            })
        };
        landed(flight, object).await
    }

    /// A chunk that a reader wants, and what that reader will want next if `reads_on`.
    async fn wanted(
        &self,
        wanted: &Wanted<'_>,
        reads_on: bool,
    ) -> Result<Arc<Held<Bytes>>, ReadError> {
        let inner = &self.inner;
        let stream = reads_on.then(|| inner.streams.take(wanted.place(wanted.number))).flatten();
        let kept = inner.kept(wanted.key(wanted.number));
        inner.part(wanted.age).metrics.wanted(kept.is_some());
        if let Some(chunk) = kept {
            if let Some(stream) = stream {
                inner.load_ahead(wanted, stream);
            }
            return Ok(chunk);
        }
        let flight = {
            let mut tower = inner.chunk_flights.lock();
            if let Some(chunk) = inner.kept(wanted.key(wanted.number)) {
                return Ok(chunk);
            }
            let under_way = tower.of(&wanted.key(wanted.number));
            under_way.unwrap_or_else(|| inner.start(&mut tower, wanted, stream, reads_on))
        };
        let run = landed(flight, &wanted.object).await?;
        let at = wanted.number.wrapping_sub(run.first) as usize;
        Ok(Arc::clone(run.chunks.get(at).expect("a load brings the chunks that it is under")))
    }
}

/// Waits for a load.
async fn landed<V: Clone>(flight: Flight<V>, object: &ObjectRef) -> Result<V, ReadError> {
    flight.outcome().await.unwrap_or_else(|| {
        Err(ReadError::Bucket(ObjectError::Unavailable {
            operation: Operation::GetRange,
            key: object.id.key(),
            attempts: 1,
            reason: "its load ended without an outcome".to_owned(),
        }))
    })
}

/// A chunk that somebody wants.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    object: ObjectRef,
    footer: &'a Arc<Held<Footer>>,
    section: &'a Section,
    number: u32,
    age: Age,
}

impl Wanted<'_> {
    fn key(&self, number: u32) -> ChunkKey {
        (self.object.id, number)
    }

    fn keys(&self, run: &Range<u32>) -> Vec<ChunkKey> {
        run.clone().map(|number| self.key(number)).collect()
    }

    fn place(&self, number: u32) -> Place {
        place_of(self.footer, self.section, number)
    }

    /// How many bytes to load for a reader that was expected here, or was not.
    fn window(&self, stream: Option<Stream>, reads_on: bool, part: &Part<ChunkKey, Bytes>) -> u64 {
        let is_pack = self.footer.sections().len() > 1;
        let window = match stream {
            _ if !reads_on => 1,
            // Sections of a pack are small, and who begins one reads all of it.
            _ if is_pack && self.number == self.section.chunks.start => GREATEST_WINDOW,
            Some(stream) => stream.next_window(),
            None => FIRST_WINDOW,
        };
        // A run is in memory twice while it is taken apart.
        window.min(part.headroom as u64 / 2)
    }

    /// Chunks of the section from `first` on that have at most `window` bytes together and are
    /// wanted, or the first alone.
    fn run(&self, first: u32, window: u64, fits: impl Fn(u32) -> bool) -> Range<u32> {
        let (mut end, mut bytes) = (first, 0);
        while end < self.section.chunks.end
            && let Some(chunk) = self.footer.chunk(end)
        {
            bytes += u64::from(chunk.bytes);
            if end > first && (bytes > window || !fits(end)) {
                break;
            }
            end += 1;
        }
        first..end
    }

    fn run_bytes(&self, run: &Range<u32>) -> usize {
        let chunks = run.clone().filter_map(|number| self.footer.chunk(number));
        chunks.map(|chunk| chunk.bytes as usize).sum()
    }
}

/// Where a chunk begins in its partition, or where its section ends.
fn place_of(footer: &Footer, section: &Section, number: u32) -> Place {
    let chunk = footer.chunk(number).filter(|_| section.chunks.contains(&number));
    (section.of, chunk.map_or(section.end_offset, |chunk| chunk.first_offset))
}

impl Inner {
    fn part(&self, age: Age) -> &Part<ChunkKey, Bytes> {
        match age {
            Age::Hot => &self.hot,
            Age::CatchUp => &self.catch_up,
        }
    }

    fn kept(&self, key: ChunkKey) -> Option<Arc<Held<Bytes>>> {
        self.hot.get(&key).or_else(|| self.catch_up.get(&key))
    }

    fn is_kept(&self, key: ChunkKey) -> bool {
        self.hot.has(&key) || self.catch_up.has(&key)
    }

    /// Whether nobody has a chunk or is about to.
    fn is_wanting(&self, tower: &Tower<'_, ChunkKey, Arc<Run>>, key: ChunkKey) -> bool {
        tower.of(&key).is_none() && !self.is_kept(key)
    }

    /// Starts the load of a chunk that somebody waits for, and of those behind it for a reader that
    /// reads on.
    fn start(
        self: &Arc<Self>,
        tower: &mut Tower<'_, ChunkKey, Arc<Run>>,
        wanted: &Wanted<'_>,
        stream: Option<Stream>,
        reads_on: bool,
    ) -> Flight<Arc<Run>> {
        let window = wanted.window(stream, reads_on, self.part(wanted.age));
        let fits = |number| self.is_wanting(tower, wanted.key(number));
        let run = wanted.run(wanted.number, window, fits);
        if reads_on {
            self.expect(wanted, &run, window, stream.is_some());
        }
        let (landing, flight) = tower.start(wanted.keys(&run));
        self.load(wanted, run, landing, None);
        flight
    }

    /// Expects the reader for whom `run` is loaded: one that is known to read on in the middle of
    /// it, so that the next run is there when it gets to the end; any other at the end.
    fn expect(&self, wanted: &Wanted<'_>, run: &Range<u32>, window: u64, reads_on: bool) {
        let middle = run.start + run.len() as u32 / 2;
        let at = if reads_on && middle > run.start { middle } else { run.end };
        let ends = at == wanted.section.chunks.end;
        let loaded_to = if ends { 0 } else { run.end };
        self.streams.expect(wanted.place(at), Stream { window, loaded_to });
    }

    /// Loads what a reader will want that has come halfway through what was loaded for it, if there
    /// is room now.
    fn load_ahead(self: &Arc<Self>, wanted: &Wanted<'_>, stream: Stream) {
        let part = self.part(wanted.age);
        let window = wanted.window(Some(stream), true, part);
        let next = stream.loaded_to.max(wanted.number + 1);
        if next >= wanted.section.chunks.end {
            // It goes on in another object, whose chunks have other numbers.
            self.streams.expect(wanted.place(next), Stream { loaded_to: 0, ..stream });
            return;
        }
        let mut tower = self.chunk_flights.lock();
        let fits = |number| self.is_wanting(&tower, wanted.key(number));
        let run = wanted.run(next, window, fits);
        let charge = part.pool.try_take((2 * wanted.run_bytes(&run)).min(part.headroom));
        let (Some(charge), true) = (charge, fits(next)) else {
            self.streams.expect(wanted.place(next), stream);
            return;
        };
        self.expect(wanted, &run, window, true);
        let (landing, _) = tower.start(wanted.keys(&run));
        self.load(wanted, run, landing, Some(charge));
    }

    fn load(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        run: Range<u32>,
        landing: Landing<ChunkKey, Arc<Run>>,
        charge: Option<Charge>,
    ) {
        let (this, object, age) = (Arc::clone(self), wanted.object, wanted.age);
        let (footer, bytes) = (Arc::clone(wanted.footer), wanted.run_bytes(&run));
        task::spawn("tier load", async move {
            let part = this.part(age);
            let charge = match charge {
                Some(charge) => charge,
                None => part.take(2 * bytes).await,
            };
            // Whoever has a place waits for no bytes: those who have bytes wait for places.
            let place = match age {
                Age::Hot => None,
                Age::CatchUp => this.catch_up_places.acquire().await.ok(),
            };
            let read = Reader::new(&this.store, object).chunks(&footer, run.clone()).await;
            drop(place);
            let loaded = read.as_ref().map(|chunks| chunks.iter().map(Bytes::len).sum());
            part.metrics.loaded(loaded);
            let outcome =
                read.map(|chunks| Arc::new(part.keep_run(object.id, run, chunks, charge)));
            landing.land(outcome);
        });
    }

    async fn load_footer(
        self: Arc<Self>,
        object: ObjectRef,
        landing: Landing<ObjectId, Arc<Held<Footer>>>,
    ) {
        let part = &self.footers;
        let reader = Reader::new(&self.store, object);
        let mut bytes = object.end_bytes;
        let mut charge = part.take(2 * bytes as usize).await;
        let mut read = reader.end(bytes).await;
        if let Ok(End::Longer(needed)) = read {
            bytes = needed;
            drop(charge);
            charge = part.take(2 * bytes as usize).await;
            read = reader.end(bytes).await;
        }
        let footer = read.and_then(|end| reader.whole(end));
        part.metrics.loaded(footer.as_ref().map(Footer::memory_bytes));
        let outcome = footer.map(|footer| {
            let held = footer.memory_bytes();
            let rest = charge.split(held).unwrap_or(charge);
            part.keep(object.id, footer, held, rest)
        });
        part.settle();
        landing.land(outcome);
    }
}

#[cfg(test)]
mod tests;

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
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::budget::BytePool;
use crate::metrics::Registry;
use crate::object::{ObjectError, Operation, Store};
use crate::protocol::types::TopicPartition;
use crate::task;

use super::footer::{Footer, Section};
use super::metrics;
use super::name::ObjectId;
use super::reader::{ObjectRef, ReadError, since_offset};

mod flights;
mod held;
mod loads;
mod part;
mod streams;
mod wanted;

use self::flights::{Flight, Flights, Tower};
pub use self::held::Held;
use self::part::Part;
use self::streams::Streams;
use self::wanted::{Wanted, place_of};

/// How many loads that nobody waits for are under way at once, at most.
const UNASKED_LOADS: usize = 16;
/// One of them for so much of the smaller pool: what they bring must stay until it is asked for.
const UNASKED_BYTES: usize = 4 << 20;

/// A chunk: its object, and its number there.
type ChunkKey = (ObjectId, u32);
/// Its bytes.
type Chunk = Arc<Held<Bytes>>;
type ChunkTower<'a> = Tower<'a, ChunkKey, Chunk>;

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
    chunk_flights: Arc<Flights<ChunkKey, Chunk>>,
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
            hot: Part::new(options.hot, 1, &options.readers, hot),
            // Who catches up comes once.
            catch_up: Part::new(options.catch_up, 2, &options.readers, catch_up),
            footers: Part::new(options.footers, 0, &options.readers, footers),
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
                let (landing, flight) = tower.start(id, []);
                let load = Arc::clone(&self.inner).load_footer(*object, landing);
                task::spawn("tier footer load", load);
                flight
            })
        };
        landed(flight, object).await
    }

    /// A chunk that a reader wants, and what that reader will want next if `reads_on`.
    async fn wanted(&self, wanted: &Wanted<'_>, reads_on: bool) -> Result<Chunk, ReadError> {
        let (inner, key) = (&self.inner, wanted.key(wanted.number));
        let mut stream =
            reads_on.then(|| inner.streams.take(wanted.place(wanted.number))).flatten();
        let kept = inner.kept(key);
        inner.part(wanted.age).metrics.wanted(kept.is_some());
        let found = kept.map_or_else(
            || {
                let mut tower = inner.chunk_flights.lock();
                // It may have landed since.
                inner.kept(key).ok_or_else(|| {
                    let under_way = tower.of(&key);
                    under_way
                        .unwrap_or_else(|| inner.start(&mut tower, wanted, stream.take(), reads_on))
                })
            },
            Ok,
        );
        if let Some(stream) = stream {
            inner.load_ahead(wanted, stream);
        }
        match found {
            Ok(chunk) => Ok(chunk),
            Err(flight) => landed(flight, &wanted.object).await,
        }
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

impl Inner {
    fn part(&self, age: Age) -> &Part<ChunkKey, Bytes> {
        match age {
            Age::Hot => &self.hot,
            Age::CatchUp => &self.catch_up,
        }
    }

    fn kept(&self, key: ChunkKey) -> Option<Chunk> {
        self.hot.get(&key).or_else(|| self.catch_up.get(&key))
    }

    fn is_kept(&self, key: ChunkKey) -> bool {
        self.hot.has(&key) || self.catch_up.has(&key)
    }

    /// Whether nobody has a chunk or is about to.
    fn is_wanting(&self, tower: &ChunkTower<'_>, key: ChunkKey) -> bool {
        tower.of(&key).is_none() && !self.is_kept(key)
    }
}

#[cfg(test)]
mod tests;

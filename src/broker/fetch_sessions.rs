//! Fetch sessions (KIP-227): what a consumer fetches is kept between its requests, so that a
//! request lists only what changed in it, and a reply only what changed in the log.
//!
//! `api/fetch` is the only caller: [`FetchSessions::advance`] in a request's first stage,
//! [`FetchTurn::conclude`] or [`FetchSessions::create`] when the reply is made. A session belongs
//! to nobody: it outlives its connection, and whoever knows its id and epoch goes on with it, as in
//! Kafka's `FetchSessionCache`.
//!
//! **Invariants**
//! - There are at most `max.incremental.fetch.session.cache.slots` sessions, and what they hold is
//!   charged to a pool of the byte budget that only sessions use. Where a new session has no room,
//!   older ones make it by Kafka's rules, or the client gets none: session id 0, which is legal.
//! - A session's lock and the cache's are never held together.
//! - Losing a session loses no data: the client sends its whole list again.
//!
//! Kafka spreads its slots over eight caches and lets replicas evict consumers; here is one cache
//! and no replica fetches.

mod cache;
mod session;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::BrokerMetrics;
use crate::budget::{Budget, BytePool, Charge, Pool};
use crate::clock::{Clock, Instant, Random};
use crate::protocol::fetch::FetchPartitionResponse;
use crate::protocol::types::TopicId;
use cache::Cache;
use session::{Advanced, PartitionList, Session};

/// The session id that stands for none (Kafka's `FetchMetadata.INVALID_SESSION_ID`).
pub const NO_SESSION: i32 = 0;
/// The epoch of a request that asks for a session (Kafka's `FetchMetadata.INITIAL_EPOCH`).
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none, and closes the one it names (`FINAL_EPOCH`).
pub const FINAL_EPOCH: i32 = -1;

/// One session holds at most this part of the pool, so that one client cannot push out the others.
const PART_OF_POOL: usize = 4;

/// A topic of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionTopic {
    /// Its id; the zero id in a session that names topics by name.
    pub id: TopicId,
    /// Its name; `None` while an id has never been seen to belong to a topic.
    pub name: Option<Arc<str>>,
}

/// A topic and something for each of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<P> {
    /// The topic.
    pub topic: SessionTopic,
    /// Its partitions.
    pub partitions: Vec<P>,
}

impl<P> Listed<P> {
    fn has_partitions(&self) -> bool {
        !self.partitions.is_empty()
    }
}

/// What a client asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPartition {
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The partition's index.
    pub index: i32,
    /// How many bytes are wanted at most.
    pub max_bytes: i32,
    /// The leader epoch that the client believes in, below 0 for none.
    pub current_leader_epoch: i32,
    /// The epoch of the last record that the client has, below 0 for none.
    pub last_fetched_epoch: i32,
}

/// A partition of a full fetch, with what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// What was asked.
    pub asked: SessionPartition,
    /// The high watermark in the answer.
    pub high_watermark: i64,
    /// The log start offset in the answer.
    pub log_start_offset: i64,
}

/// Which session a request goes on with, and how.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The session's id.
    pub id: i32,
    /// The epoch that the client thinks is next.
    pub epoch: i32,
    /// Whether the request names topics by id.
    pub by_ids: bool,
    /// The connection's number.
    pub connection: u64,
}

/// Why a session does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchSessionError {
    /// There is no such session (any more).
    #[error("fetch session not found")]
    NotFound,
    /// The epoch is not the next one, or another connection went on with the session meanwhile.
    #[error("fetch session epoch is not the next one")]
    Epoch,
    /// The session names topics by id and the request by name, or the other way around.
    #[error("fetch session and request do not name topics alike")]
    TopicIds,
}

/// All sessions of the broker.
#[derive(Debug)]
pub struct FetchSessions {
    cache: Mutex<Cache>,
    slots: usize,
    pool: BytePool,
    clock: Clock,
    random: Random,
    metrics: BrokerMetrics,
}

impl FetchSessions {
    /// Room for `slots` sessions, which are charged to the budget's session pool.
    pub fn new(
        slots: usize,
        budget: &Budget,
        clock: Clock,
        random: Random,
        metrics: BrokerMetrics,
    ) -> Self {
        let pool = budget.pool(Pool::Sessions).clone();
        Self { cache: Mutex::new(Cache::default()), slots, pool, clock, random, metrics }
    }

    /// Ends a session, if it exists.
    pub fn close(&self, id: i32) {
        let mut cache = self.lock();
        cache.remove(id);
        self.note_size(&cache);
    }

    /// Takes a request's changes into its session. `None` when that leaves no partition: the
    /// session has ended, and what the request lists is answered without one.
    ///
    /// A session that has no memory for what is added ends as if it had been evicted.
    pub fn advance(
        &self,
        step: Step,
        asked: impl Iterator<Item = Listed<SessionPartition>>,
        forgotten: impl Iterator<Item = Listed<i32>>,
    ) -> Result<Option<FetchTurn>, FetchSessionError> {
        let session = self.lock().get(step.id).ok_or(FetchSessionError::NotFound)?;
        let bytes_max = self.session_bytes_max();
        match session.advance(step, asked, forgotten, &self.pool, bytes_max)? {
            Advanced::Partitions(partitions) => {
                let mut cache = self.lock();
                cache.touch(step.id, partitions, self.clock.now());
                self.note_size(&cache);
                let epoch = next_epoch(step.epoch);
                Ok(Some(FetchTurn { session, epoch, connection: step.connection }))
            }
            Advanced::Empty => {
                self.close(step.id);
                Ok(None)
            }
            Advanced::TooLarge => {
                self.close(step.id);
                self.metrics.fetch_session_evictions.inc();
                Err(FetchSessionError::NotFound)
            }
        }
    }

    /// Makes a session of a full fetch that was answered; its id, or [`NO_SESSION`] if there is no
    /// room. A partition that is listed twice counts once, as it was listed last.
    pub fn create(
        &self,
        by_ids: bool,
        connection: u64,
        fetched: impl Iterator<Item = Listed<FetchedPartition>>,
    ) -> i32 {
        let partitions = PartitionList::fetched(by_ids, fetched);
        let (count, now) = (partitions.len(), self.clock.now());
        let mut cache = self.lock();
        let Some(charge) = self.make_room(&mut cache, partitions.bytes(), count, now) else {
            self.metrics.fetch_sessions_refused.inc();
            return NO_SESSION;
        };
        let id = self.new_id(&cache);
        let epoch = next_epoch(INITIAL_EPOCH);
        let session = Session::new(id, partitions, epoch, connection, charge);
        cache.insert(id, Arc::new(session), count, now);
        self.note_size(&cache);
        id
    }

    /// A slot and memory for a session of so many bytes and partitions, made by evicting others if
    /// the rules allow that.
    fn make_room(
        &self,
        cache: &mut Cache,
        bytes: usize,
        partitions: usize,
        now: Instant,
    ) -> Option<Charge> {
        if bytes > self.session_bytes_max() {
            return None;
        }
        loop {
            if cache.len() < self.slots
                && let Some(charge) = self.pool.try_take(bytes)
            {
                return Some(charge);
            }
            if !cache.evict(partitions, now) {
                self.note_size(cache);
                return None;
            }
            self.metrics.fetch_session_evictions.inc();
        }
    }

    fn session_bytes_max(&self) -> usize {
        self.pool.capacity() / PART_OF_POOL
    }

    /// A random id above 0 that no session has.
    fn new_id(&self, cache: &Cache) -> i32 {
        loop {
            let id = 1 + self.random.below(i32::MAX as u64) as i32;
            if !cache.contains(id) {
                return id;
            }
        }
    }

    fn note_size(&self, cache: &Cache) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.fetch_sessions.set(gauge(cache.len()));
        self.metrics.fetch_session_partitions.set(gauge(cache.partitions()));
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's turn in its session: from the first stage to the reply.
#[derive(Debug)]
pub struct FetchTurn {
    session: Arc<Session>,
    /// The session's epoch after this request.
    epoch: i32,
    connection: u64,
}

impl FetchTurn {
    /// The session's id.
    pub fn session_id(&self) -> i32 {
        self.session.id()
    }

    /// How many partitions the session has now.
    pub fn partition_count(&self) -> usize {
        self.session.partition_count()
    }

    /// Everything that is to be fetched, in the session's order. Names that `name_of` knows of ids
    /// that had none stay with the session, so that a topic deleted later is told from one that
    /// never was.
    pub fn partitions(
        &self,
        name_of: impl Fn(TopicId) -> Option<Arc<str>>,
    ) -> Result<Vec<Listed<SessionPartition>>, FetchSessionError> {
        self.session.listed(self.epoch, name_of).ok_or(FetchSessionError::Epoch)
    }

    /// Ends when a newer request has gone on with the session: of all that a session stands for,
    /// one request at a time is kept while it waits for records.
    pub async fn overtaken(&self) {
        self.session.overtaken(self.epoch).await;
    }

    /// Compares the answers, one for each of [`FetchTurn::partitions`], with what the client was
    /// told before: which of them it must be told. Partitions with records go to the end of the
    /// session, so that others have their turn under the byte limit.
    ///
    /// `None` is all of them: the same connection sent further requests of the session before this
    /// one was answered, and what they changed is theirs to compare.
    pub fn conclude<'a>(
        &self,
        answers: impl Iterator<Item = &'a FetchPartitionResponse>,
    ) -> Result<Option<Vec<bool>>, FetchSessionError> {
        self.session.conclude(self.epoch, self.connection, answers)
    }
}

/// The epoch after `epoch`; it wraps to 1, since 0 asks for a new session.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

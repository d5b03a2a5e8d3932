//! One session: its partitions in the order in which they are fetched, and its epoch (Kafka's
//! `FetchSession` and `FetchContext`).

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    FINAL_EPOCH, FetchSessionError, FetchedPartition, Listed, SessionPartition, SessionTopic, Step,
    next_epoch,
};
use crate::budget::{BytePool, Charge};
use crate::protocol::fetch::FetchPartitionResponse;
use crate::protocol::types::TopicId;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    id: i32,
    /// Told whenever the epoch changes.
    moved: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    partitions: PartitionList,
    /// What the next request must have as its epoch; [`FINAL_EPOCH`] once the session has ended.
    epoch: i32,
    /// The connection of the last request.
    connection: u64,
    /// What `partitions` is charged to.
    charge: Charge,
}

/// What a request made of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advanced {
    /// It has so many partitions.
    Partitions(usize),
    /// It has none, and has ended.
    Empty,
    /// There is no memory for them, and it has ended.
    TooLarge,
}

impl Session {
    pub(super) fn new(
        id: i32,
        partitions: PartitionList,
        epoch: i32,
        connection: u64,
        charge: Charge,
    ) -> Self {
        let state = Mutex::new(State { partitions, epoch, connection, charge });
        Self { id, moved: Notify::new(), state }
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    pub(super) fn partition_count(&self) -> usize {
        self.lock().partitions.len()
    }

    /// Takes a request's changes in, if it is the next one.
    pub(super) fn advance(
        &self,
        step: Step,
        asked: impl Iterator<Item = Listed<SessionPartition>>,
        forgotten: impl Iterator<Item = Listed<i32>>,
        pool: &BytePool,
        bytes_max: usize,
    ) -> Result<Advanced, FetchSessionError> {
        let mut state = self.lock();
        if state.epoch != step.epoch {
            return Err(FetchSessionError::Epoch);
        }
        if state.partitions.by_ids != step.by_ids {
            return Err(FetchSessionError::TopicIds);
        }
        self.moved.notify_waiters();
        state.partitions.update(asked);
        state.partitions.forget(forgotten);
        let ended = if state.partitions.len() == 0 {
            Advanced::Empty
        } else if state.recharge(pool, bytes_max) {
            state.epoch = next_epoch(step.epoch);
            state.connection = step.connection;
            return Ok(Advanced::Partitions(state.partitions.len()));
        } else {
            Advanced::TooLarge
        };
        state.epoch = FINAL_EPOCH;
        state.partitions = PartitionList::new(step.by_ids);
        Ok(ended)
    }

    /// All partitions, if the epoch is still `epoch`.
    pub(super) fn listed(
        &self,
        epoch: i32,
        name_of: impl Fn(TopicId) -> Option<Arc<str>>,
    ) -> Option<Vec<Listed<SessionPartition>>> {
        let mut state = self.lock();
        (state.epoch == epoch).then(|| {
            state.partitions.resolve(name_of);
            state.partitions.listed()
        })
    }

    /// Ends when the epoch is no longer `epoch`.
    pub(super) async fn overtaken(&self, epoch: i32) {
        let mut moved = std::pin::pin!(self.moved.notified());
        // Registered before the look, so that no step after it is missed.
        moved.as_mut().enable();
        let is_last = self.lock().epoch == epoch;
        if is_last {
            moved.await;
        }
    }

    /// Which of the answers are news; `None` for all of them.
    pub(super) fn conclude<'a>(
        &self,
        epoch: i32,
        connection: u64,
        answers: impl Iterator<Item = &'a FetchPartitionResponse>,
    ) -> Result<Option<Vec<bool>>, FetchSessionError> {
        let mut state = self.lock();
        if state.epoch == epoch {
            return Ok(Some(state.partitions.note(answers)));
        }
        if state.connection == connection { Ok(None) } else { Err(FetchSessionError::Epoch) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes the charge what the partitions take; false if they take too much.
    fn recharge(&mut self, pool: &BytePool, bytes_max: usize) -> bool {
        let (bytes, charged) = (self.partitions.bytes(), self.charge.bytes());
        if bytes > charged {
            let more = (bytes <= bytes_max).then(|| pool.try_take(bytes - charged)).flatten();
            let Some(more) = more else { return false };
            self.charge.merge(more);
        } else {
            drop(self.charge.split(charged - bytes));
        }
        true
    }
}

/// The partitions of a session: their order is the order of the list, and there is no index, since
/// every request looks at all of them anyway.
#[derive(Debug)]
pub(super) struct PartitionList {
    by_ids: bool,
    topics: Vec<SessionTopic>,
    list: Vec<CachedPartition>,
}

/// One partition: what is asked of it, and what the client was told of it last.
#[derive(Clone, Copy, Debug)]
struct CachedPartition {
    asked: SessionPartition,
    high_watermark: i64,
    log_start_offset: i64,
    /// Position of its topic in the list's topics.
    topic: u32,
}

/// What a topic is known by.
#[derive(Debug, PartialEq, Eq, Hash)]
enum TopicKey {
    Id(TopicId),
    Name(Arc<str>),
}

/// Positions of topics in a list.
type TopicIndex = HashMap<TopicKey, u32>;

impl CachedPartition {
    fn key(&self) -> (u32, i32) {
        (self.topic, self.asked.index)
    }

    /// Compares an answer with the last one; whether the client must be told. After an error it is
    /// told of the partition again as soon as that is over.
    fn note(&mut self, answer: &FetchPartitionResponse) -> bool {
        let failed = answer.error_code != 0;
        let is_news = failed
            || answer.records_len > 0
            || answer.high_watermark != self.high_watermark
            || answer.log_start_offset != self.log_start_offset
            || answer.preferred_read_replica >= 0
            || answer.diverging_epoch.is_some();
        self.high_watermark = if failed { -1 } else { answer.high_watermark };
        self.log_start_offset = answer.log_start_offset;
        is_news
    }
}

impl PartitionList {
    /// No partitions.
    pub(super) fn new(by_ids: bool) -> Self {
        Self { by_ids, topics: Vec::new(), list: Vec::new() }
    }

    /// The partitions of a full fetch.
    pub(super) fn fetched(
        by_ids: bool,
        fetched: impl Iterator<Item = Listed<FetchedPartition>>,
    ) -> Self {
        let mut all = Self::new(by_ids);
        let mut index = TopicIndex::new();
        for Listed { topic, partitions } in fetched.filter(Listed::has_partitions) {
            let topic = all.topic(&mut index, topic);
            all.list.extend(partitions.into_iter().map(|partition| CachedPartition {
                asked: partition.asked,
                high_watermark: partition.high_watermark,
                log_start_offset: partition.log_start_offset,
                topic,
            }));
        }
        make_unique(&mut all.list);
        all.list.shrink_to_fit();
        all.topics.shrink_to_fit();
        all
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// What the list takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let name = |topic: &SessionTopic| topic.name.as_ref().map_or(0, |name| name.len() + 16);
        self.list.capacity() * size_of::<CachedPartition>()
            + self.topics.capacity() * size_of::<SessionTopic>()
            + self.topics.iter().map(name).sum::<usize>()
    }

    /// Adds partitions at the end, and changes what is asked of those that are there.
    fn update(&mut self, asked: impl Iterator<Item = Listed<SessionPartition>>) {
        let mut index = TopicIndex::new();
        let mut fresh = Vec::new();
        for Listed { topic, partitions } in asked.filter(Listed::has_partitions) {
            if index.is_empty() {
                index = self.index();
            }
            let topic = self.topic(&mut index, topic);
            fresh.extend(partitions.into_iter().map(|asked| CachedPartition {
                asked,
                high_watermark: -1,
                log_start_offset: -1,
                topic,
            }));
        }
        if fresh.is_empty() {
            return;
        }
        make_unique(&mut fresh);
        let order = sorted_positions(&fresh);
        let mut known = vec![false; fresh.len()];
        for cached in &mut self.list {
            let key = cached.key();
            if let Ok(at) = order.binary_search_by_key(&key, |at| fresh[*at as usize].key()) {
                let at = order[at] as usize;
                cached.asked = fresh[at].asked;
                known[at] = true;
            }
        }
        let new = fresh.into_iter().zip(known).filter(|(_, known)| !known);
        self.list.extend(new.map(|(partition, _)| partition));
        self.shrink();
    }

    /// Removes partitions, and topics without partitions.
    fn forget(&mut self, forgotten: impl Iterator<Item = Listed<i32>>) {
        let mut index = TopicIndex::new();
        let mut keys: Vec<(u32, i32)> = Vec::new();
        for Listed { topic, partitions } in forgotten {
            if index.is_empty() {
                index = self.index();
            }
            if let Some(topic) = index.get(&self.topic_key(&topic)) {
                keys.extend(partitions.into_iter().map(|partition| (*topic, partition)));
            }
        }
        if keys.is_empty() {
            return;
        }
        keys.sort_unstable();
        self.list.retain(|cached| keys.binary_search(&cached.key()).is_err());
        self.drop_unused_topics();
        self.shrink();
    }

    /// Names topics that were only known by id.
    fn resolve(&mut self, name_of: impl Fn(TopicId) -> Option<Arc<str>>) {
        if self.by_ids {
            for topic in self.topics.iter_mut().filter(|topic| topic.name.is_none()) {
                topic.name = name_of(topic.id);
            }
        }
    }

    /// Everything in order; neighbours of one topic stand under it together.
    fn listed(&self) -> Vec<Listed<SessionPartition>> {
        let groups = self.list.chunk_by(|one, next| one.topic == next.topic);
        groups
            .map(|group| Listed {
                topic: self.topics[group[0].topic as usize].clone(),
                partitions: group.iter().map(|cached| cached.asked).collect(),
            })
            .collect()
    }

    /// Notes an answer for each partition: which are news. Those with records go to the end.
    fn note<'a>(&mut self, answers: impl Iterator<Item = &'a FetchPartitionResponse>) -> Vec<bool> {
        let mut kept = Vec::with_capacity(self.list.len());
        let mut served = Vec::new();
        for (at, (cached, answer)) in self.list.iter_mut().zip(answers).enumerate() {
            kept.push(cached.note(answer));
            if answer.records_len > 0 {
                served.push(at);
            }
        }
        debug_assert_eq!(kept.len(), self.list.len(), "an answer for each partition");
        self.move_to_end(&served);
        kept
    }

    /// Moves the partitions at these rising positions to the end.
    fn move_to_end(&mut self, positions: &[usize]) {
        if positions.is_empty() {
            return;
        }
        let moved: Vec<CachedPartition> = positions.iter().map(|at| self.list[*at]).collect();
        let (mut at, mut next) = (0, positions.iter().peekable());
        self.list.retain(|_| {
            let goes = next.next_if(|position| **position == at).is_some();
            at += 1;
            !goes
        });
        self.list.extend(moved);
    }

    fn topic_key(&self, topic: &SessionTopic) -> TopicKey {
        if self.by_ids {
            return TopicKey::Id(topic.id);
        }
        TopicKey::Name(topic.name.clone().unwrap_or_default())
    }

    fn index(&self) -> TopicIndex {
        let positions = self.topics.iter().zip(0..);
        positions.map(|(topic, at)| (self.topic_key(topic), at)).collect()
    }

    /// The position of a topic, which is added if it is not there.
    fn topic(&mut self, index: &mut TopicIndex, topic: SessionTopic) -> u32 {
        let next = self.topics.len() as u32;
        let at = *index.entry(self.topic_key(&topic)).or_insert(next);
        if at == next {
            self.topics.push(topic);
        }
        at
    }

    fn drop_unused_topics(&mut self) {
        let mut places = vec![None; self.topics.len()];
        for cached in &self.list {
            places[cached.topic as usize] = Some(0);
        }
        for (place, new) in places.iter_mut().flatten().zip(0_u32..) {
            *place = new;
        }
        let mut at = 0;
        self.topics.retain(|_| {
            at += 1;
            places[at - 1].is_some()
        });
        for cached in &mut self.list {
            if let Some(new) = places[cached.topic as usize] {
                cached.topic = new;
            }
        }
    }

    /// Gives back what growing and forgetting left over, if it is much.
    fn shrink(&mut self) {
        if self.list.capacity() > self.list.len() + self.list.len() / 4 {
            self.list.shrink_to_fit();
        }
        self.topics.shrink_to_fit();
    }
}

fn sorted_positions(list: &[CachedPartition]) -> Vec<u32> {
    let mut positions: Vec<u32> = (0..list.len() as u32).collect();
    positions.sort_unstable_by_key(|at| (list[*at as usize].key(), *at));
    positions
}

/// Leaves one of the partitions that stand in the list several times: in the place of the first,
/// with what the last says.
fn make_unique(list: &mut Vec<CachedPartition>) {
    let order = sorted_positions(list);
    let same = |one: &u32, next: &u32| list[*one as usize].key() == list[*next as usize].key();
    let repeated: Vec<&[u32]> = order.chunk_by(same).filter(|run| run.len() > 1).collect();
    if repeated.is_empty() {
        return;
    }
    let mut kept = vec![true; list.len()];
    for run in repeated {
        list[run[0] as usize] = list[run[run.len() - 1] as usize];
        for at in &run[1..] {
            kept[*at as usize] = false;
        }
    }
    let mut kept = kept.into_iter();
    list.retain(|_| kept.next().unwrap_or(true));
}

//! Reads records of partitions, wherever their leaders are.
//!
//! Each leader is asked over a connection of its own, one Fetch at a time; a slow one holds up no
//! other. What came in is decoded as it is handed out.
//!
//! **Invariants:** a position is the offset behind what was handed out, so a record is handed out
//! once, in order, whatever becomes of leaders; [`Consumer::poll`] may be dropped at any of its
//! waits, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::PartitionData;

use self::batches::Batches;
use self::request::{Asked, Fetch};
use super::{
    Cluster, ClusterError, EARLIEST, LATEST, Leaders, ListedOffset, Listing, Place, Record, Target,
};
use crate::clock::Instant;
use crate::protocol::error::ErrorCode;
use crate::protocol::fetch::AbortedTransaction;

mod batches;
mod error;
mod request;

pub use error::ConsumerError;

/// No more is fetched while this much waits to be handed out.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long a leader is asked where a partition begins or ends before its trouble is told.
const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// Where a partition goes on when it has nothing at the position any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// With the first record that is there.
    Earliest,
    /// With the next record that comes.
    Latest,
    /// Not at all: it is an error.
    Error,
}

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Whether records of transactions are shown only once they are committed (`isolation.level`).
    pub is_committed: bool,
    /// What is done where nothing is left at the position (`auto.offset.reset`).
    pub reset: Reset,
    /// About the most bytes of one answer of a leader (`fetch.max.bytes`). A batch that is larger
    /// comes nevertheless.
    pub max_bytes: i32,
    /// About the most bytes of one partition in it (`max.partition.fetch.bytes`).
    pub partition_max_bytes: i32,
    /// The most records that one poll hands out (`max.poll.records`).
    pub max_records: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            is_committed: false,
            reset: Reset::Error,
            max_bytes: 16 << 20,
            partition_max_bytes: 1 << 20,
            max_records: 500,
        }
    }
}

/// A partition that is not heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The partition.
    pub place: Place,
    /// What is wrong with it, by the last try.
    pub fault: ClusterError,
    /// Since when.
    pub since: Instant,
}

/// Offsets that were passed over, since the partition had nothing at the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The partition.
    pub place: Place,
    /// The position.
    pub from: i64,
    /// Where it goes on.
    pub to: i64,
}

/// A partition that is read.
#[derive(Debug)]
struct Assigned {
    /// The offset of the next record that is handed out; [`EARLIEST`] or [`LATEST`] until a leader
    /// has said where that is.
    next: i64,
    /// Whether a leader is being asked where to go on.
    is_resetting: bool,
    /// Whether its leader must be looked for again before it is asked.
    is_stale: bool,
    trouble: Option<(ClusterError, Instant)>,
}

/// Something that was waited for.
enum Done {
    Fetched { node: i32, fetch: Box<Fetch>, answer: Result<FetchResponse, ClusterError> },
    Learnt { topics: Vec<String>, outcome: Result<(), ClusterError> },
    Listed { from: BTreeMap<Place, i64>, offsets: BTreeMap<Place, Listed> },
}

type Listed = Result<ListedOffset, ClusterError>;

/// Reads records of the partitions that it is given.
pub struct Consumer {
    /// Over these connections nothing but Fetch is asked.
    cluster: Cluster,
    leaders: Leaders,
    options: ConsumerOptions,
    assigned: BTreeMap<Place, Assigned>,
    /// What came in and is not handed out yet.
    waiting: VecDeque<Batches>,
    /// What is under way.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The nodes that are being asked.
    asked: BTreeSet<i32>,
    is_learning: bool,
    /// How many Fetches were sent: each begins with another partition.
    turn: usize,
    skipped: Vec<Skipped>,
    fault: Option<ConsumerError>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("assigned", &self.assigned).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Reads nothing yet. It uses connections of its own.
    pub fn new(cluster: &Cluster, options: ConsumerOptions) -> Self {
        Self {
            cluster: cluster.separate(),
            leaders: Leaders::new(cluster),
            options,
            assigned: BTreeMap::new(),
            waiting: VecDeque::new(),
            work: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            is_learning: false,
            turn: 0,
            skipped: Vec::new(),
            fault: None,
        }
    }

    /// Reads a partition from `offset` on, which may be [`EARLIEST`] or [`LATEST`].
    pub fn assign(&mut self, place: Place, offset: i64) {
        self.waiting.retain(|batches| batches.place != place);
        let fresh = Assigned { next: offset, is_resetting: false, is_stale: false, trouble: None };
        self.assigned.insert(place, fresh);
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, place: &Place) {
        self.assigned.remove(place);
        self.waiting.retain(|batches| batches.place != *place);
    }

    /// Reads nothing any longer.
    pub fn unassign_all(&mut self) {
        self.assigned.clear();
        self.waiting.clear();
    }

    /// The offset behind what was handed out of a partition. Nothing if it is not read, or if it is
    /// not known yet where it begins or ends.
    pub fn position(&self, place: &Place) -> Option<i64> {
        self.assigned.get(place).map(|it| it.next).filter(|next| *next >= 0)
    }

    /// The partitions that are read.
    pub fn assigned(&self) -> impl Iterator<Item = &Place> {
        self.assigned.keys()
    }

    /// The partition that was not heard of for longest, if there is any.
    pub fn trouble(&self) -> Option<Trouble> {
        let all =
            self.assigned.iter().filter_map(|(place, it)| Some((place, it.trouble.as_ref()?)));
        let (place, (fault, since)) = all.min_by_key(|(_, (_, since))| *since)?;
        Some(Trouble { place: place.clone(), fault: fault.clone(), since: *since })
    }

    /// What was passed over since this was asked last.
    pub fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }

    /// Hands out records, in the order of their offsets for each partition; none if none come
    /// within `wait`. What passes is tried again for ever, and is [`Consumer::trouble`] meanwhile.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Record>, ConsumerError> {
        let clock = self.cluster.clock().clone();
        let deadline = clock.now() + wait;
        loop {
            let records = self.hand_out()?;
            self.send();
            if !records.is_empty() {
                return Ok(records);
            }
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if self.work.is_empty() {
                clock.sleep_until(deadline).await;
                return Ok(records);
            }
            match clock.timeout_at(deadline, self.work.next()).await {
                Ok(Some(done)) => self.settle(done),
                Ok(None) | Err(_) => return Ok(records),
            }
        }
    }

    fn hand_out(&mut self) -> Result<Vec<Record>, ConsumerError> {
        let mut records = Vec::new();
        while records.len() < self.options.max_records {
            let Some(batches) = self.waiting.front_mut() else { break };
            // Not read any more, or from elsewhere, or come twice.
            let is_next = |it: &&mut Assigned| it.next == batches.next;
            let Some(assigned) = self.assigned.get_mut(&batches.place).filter(is_next) else {
                self.waiting.pop_front();
                continue;
            };
            let most = self.options.max_records - records.len();
            let read = batches.read(most, &mut records);
            assigned.next = batches.next;
            match read {
                Ok(true) => {}
                Ok(false) => drop(self.waiting.pop_front()),
                // What was read before it goes first.
                Err(_) if !records.is_empty() => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(records)
    }

    /// Asks everybody who is to be asked and is not yet.
    fn send(&mut self) {
        self.look_for_leaders();
        self.ask_for_resets();
        let waiting: usize = self.waiting.iter().map(Batches::bytes).sum();
        if waiting >= WAITING_BYTES_MAX {
            return;
        }
        let held: BTreeSet<&Place> = self.waiting.iter().map(|batches| &batches.place).collect();
        let mut by_node: BTreeMap<i32, Vec<(Place, Asked)>> = BTreeMap::new();
        for (place, assigned) in &self.assigned {
            let is_ready = assigned.next >= 0 && !assigned.is_stale && !assigned.is_resetting;
            if !is_ready || held.contains(place) {
                continue;
            }
            let Some(leader) = self.leaders.leader(&place.0, place.1) else { continue };
            if !self.asked.contains(&leader.node) {
                let asked = Asked { offset: assigned.next, epoch: leader.epoch };
                by_node.entry(leader.node).or_default().push((place.clone(), asked));
            }
        }
        for (node, mut places) in by_node {
            // Where an answer is full before all have their part, others are first the next time.
            let first = self.turn % places.len().max(1);
            places.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
            let fetch =
                Fetch::new(places.into_iter(), |topic| self.leaders.topic_id(topic), self.options);
            self.asked.insert(node);
            let cluster = self.cluster.clone();
            let work = async move {
                let build = |_| fetch.request();
                let asked = cluster.ask(Target::Node(node), fetch.versions(), build);
                let answer = Box::pin(asked).await;
                Done::Fetched { node, fetch: Box::new(fetch), answer }
            };
            self.work.push(work.boxed());
        }
    }

    fn look_for_leaders(&mut self) {
        let mut topics: BTreeSet<&str> = BTreeSet::new();
        let mut is_again = false;
        for ((topic, index), assigned) in &self.assigned {
            if assigned.is_stale || self.leaders.leader(topic, *index).is_none() {
                topics.insert(topic);
                is_again |= assigned.trouble.is_some();
            }
        }
        if self.is_learning || topics.is_empty() {
            return;
        }
        self.is_learning = true;
        let leaders = self.leaders.clone();
        let topics: Vec<String> = topics.into_iter().map(str::to_owned).collect();
        let work = async move {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let outcome = if is_again {
                Box::pin(leaders.refresh(&names)).await
            } else {
                Box::pin(leaders.learn(&names)).await
            };
            Done::Learnt { topics, outcome }
        };
        self.work.push(work.boxed());
    }

    /// Asks where partitions begin and end whose position is that.
    fn ask_for_resets(&mut self) {
        // After a fault its leader is looked for first, which pauses.
        let is_lost = |it: &Assigned| it.next < 0 && !it.is_resetting && !it.is_stale;
        let lost = self.assigned.iter_mut().filter(|(_, it)| is_lost(it));
        let mut from = BTreeMap::new();
        for (place, assigned) in lost {
            assigned.is_resetting = true;
            from.insert(place.clone(), assigned.next);
        }
        self.list(from.clone(), from);
    }

    /// Lists `wanted` timestamps; `from` are the positions that are left.
    fn list(&mut self, wanted: BTreeMap<Place, i64>, from: BTreeMap<Place, i64>) {
        if wanted.is_empty() {
            return;
        }
        let (leaders, is_committed) = (self.leaders.clone(), self.options.is_committed);
        let work = async move {
            let listing = Listing { is_committed, patience: RESET_PATIENCE };
            let offsets = Box::pin(leaders.list_offsets(&wanted, listing)).await;
            Done::Listed { from, offsets }
        };
        self.work.push(work.boxed());
    }

    fn settle(&mut self, done: Done) {
        match done {
            Done::Learnt { topics, outcome } => self.learnt(&topics, &outcome),
            Done::Listed { from, offsets } => self.listed(&from, offsets),
            Done::Fetched { node, fetch, answer } => {
                self.asked.remove(&node);
                self.fetched(&fetch, answer);
            }
        }
    }

    fn learnt(&mut self, topics: &[String], outcome: &Result<(), ClusterError>) {
        self.is_learning = false;
        let places: Vec<Place> =
            self.assigned.keys().filter(|(topic, _)| topics.contains(topic)).cloned().collect();
        for place in places {
            let code = self.leaders.code(&place.0);
            let is_led = self.leaders.leader(&place.0, place.1).is_some();
            let fault = match (outcome, code) {
                (Err(error), _) => Some(error.clone()),
                (Ok(()), 0) if is_led => None,
                (Ok(()), 0) => Some(refused(&place, ErrorCode::LeaderNotAvailable.code())),
                (Ok(()), code) => Some(refused(&place, code)),
            };
            match fault {
                Some(fault) => self.failed(&place, fault),
                None => {
                    if let Some(assigned) = self.assigned.get_mut(&place) {
                        assigned.is_stale = false;
                    }
                }
            }
        }
    }

    fn listed(&mut self, from: &BTreeMap<Place, i64>, offsets: BTreeMap<Place, Listed>) {
        for (place, listed) in offsets {
            let before = from.get(&place).copied().unwrap_or(LATEST);
            // Assigned elsewhere meanwhile, or not at all.
            let is_same = |it: &&mut Assigned| it.is_resetting && it.next == before;
            let Some(assigned) = self.assigned.get_mut(&place).filter(is_same) else { continue };
            assigned.is_resetting = false;
            match listed {
                Ok(ListedOffset { offset, .. }) => {
                    assigned.next = offset.max(0);
                    assigned.trouble = None;
                    if before >= 0 && before != offset {
                        self.skipped.push(Skipped { place, from: before, to: offset.max(0) });
                    }
                }
                Err(fault) => self.failed(&place, fault),
            }
        }
    }

    fn fetched(&mut self, fetch: &Fetch, answer: Result<FetchResponse, ClusterError>) {
        let asked = fetch.places();
        let whole = |code: i16| (code != 0).then_some(code);
        let mut told = match answer {
            Ok(answer) => match whole(answer.error_code) {
                None => fetch.answered(answer),
                Some(code) => {
                    for place in asked.keys() {
                        self.failed(place, refused(place, code));
                    }
                    return;
                }
            },
            Err(fault) => {
                for place in asked.keys() {
                    self.failed(place, fault.clone());
                }
                return;
            }
        };
        let mut lost = BTreeMap::new();
        for (place, Asked { offset, .. }) in asked {
            let Some(assigned) = self.assigned.get_mut(&place) else { continue };
            if assigned.next != offset {
                continue;
            }
            let out_of_range = ErrorCode::OffsetOutOfRange.code();
            match told.remove(&place) {
                Some(data) if data.error_code == 0 => {
                    assigned.trouble = None;
                    self.take_in(place, offset, data);
                }
                Some(data) if data.error_code == out_of_range => {
                    assigned.is_resetting = true;
                    lost.insert(place, offset);
                }
                Some(data) => self.failed(&place, refused(&place, data.error_code)),
                None => {
                    self.failed(&place, refused(&place, ErrorCode::UnknownServerError.code()));
                }
            }
        }
        self.out_of_range(lost);
    }

    fn take_in(&mut self, place: Place, offset: i64, data: PartitionData) {
        self.leaders.settled();
        let records = data.records.unwrap_or_default();
        if records.is_empty() {
            return;
        }
        let transaction = |it: &kafka_protocol::messages::fetch_response::AbortedTransaction| {
            AbortedTransaction { producer_id: it.producer_id.0, first_offset: it.first_offset }
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(transaction).collect();
        let aborted = self.options.is_committed.then_some(aborted);
        self.waiting.push_back(Batches::new(place, offset, records, aborted));
    }

    fn out_of_range(&mut self, lost: BTreeMap<Place, i64>) {
        let timestamp = match self.options.reset {
            Reset::Earliest => EARLIEST,
            Reset::Latest => LATEST,
            Reset::Error => {
                if let Some(((topic, partition), offset)) = lost.into_iter().next() {
                    self.fault = Some(ConsumerError::OutOfRange { topic, partition, offset });
                }
                return;
            }
        };
        let wanted = lost.keys().map(|place| (place.clone(), timestamp)).collect();
        self.list(wanted, lost);
    }

    /// Keeps what is wrong with a partition: for the next try if it passes, else as the end.
    fn failed(&mut self, place: &Place, fault: ClusterError) {
        // The last is what a server says that does not know itself; Kafka's consumer tries again.
        let unknown = Some(ErrorCode::UnknownServerError);
        if !fault.is_passing() && fault.code() != unknown {
            self.fault.get_or_insert(ConsumerError::Cluster(fault));
            return;
        }
        let now = self.cluster.clock().now();
        let Some(assigned) = self.assigned.get_mut(place) else { return };
        let since = assigned.trouble.take().map_or(now, |(_, since)| since);
        assigned.trouble = Some((fault, since));
        assigned.is_stale = true;
    }
}

fn refused((topic, index): &Place, code: i16) -> ClusterError {
    ClusterError::Refused { what: format!("partition {topic}-{index}"), code }
}

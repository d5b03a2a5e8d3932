//! Reads topics as a member of a consumer group, by the classic protocol: the members share out the
//! partitions, and the coordinator keeps how far each is read.
//!
//! ```text
//!        poll              joined                    the coordinator says so: committed first
//!  out ───────▶ joining ───────────▶ in ─────────────────────────────┐
//!   ▲              │ something is wrong                              │
//!   └──────────────┴─────────────────────────────────────────────────┘
//! ```
//!
//! There is no task behind it: heartbeats are sent while [`GroupConsumer::poll`] runs, so a member
//! that does not poll for a session's length is out.
//!
//! **Invariants:** before partitions go to another member, what is done with is committed: what
//! [`GroupConsumer::mark`] said, or everything that earlier polls handed out, as with Kafka's own
//! consumer when it commits by itself. What no poll has handed out is never committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use self::join::{Joined, Member, Outcome};
use super::{
    Cluster, ClusterError, Consumer, ConsumerError, ConsumerOptions, EARLIEST, LATEST, Place,
    Record, Reset, Skipped, Trouble,
};
use crate::clock::{Clock, Instant};
use crate::protocol::error::ErrorCode;

mod assignor;
mod join;

/// Before joining again when something was wrong; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a commit is tried (Kafka's `default.api.timeout.ms`).
const COMMIT_PATIENCE: Duration = Duration::from_mins(1);
/// How often the group's leader looks whether topics have more partitions.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How a group is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// The group.
    pub group: String,
    /// The topics.
    pub topics: BTreeSet<String>,
    /// The id of a static member (`group.instance.id`), which keeps its partitions while it is
    /// away for less than a session.
    pub instance_id: Option<String>,
    /// A member that is not heard of for so long is out (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// How long members have to join again when the group shares out anew
    /// (`max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
    /// How often a member says that it is there (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// Whether only what is marked is done with, and not everything that earlier polls handed out.
    pub is_marked: bool,
    /// How records are read. Its reset counts also where nothing is committed.
    pub consumer: ConsumerOptions,
}

impl GroupOptions {
    /// Reads `topics` as `group` from where nothing is committed on from their beginning, with the
    /// times of Kafka's own consumer.
    pub fn new(group: &str, topics: impl IntoIterator<Item = String>) -> Self {
        Self {
            group: group.to_owned(),
            topics: topics.into_iter().collect(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_mins(5),
            heartbeat_interval: Duration::from_secs(3),
            is_marked: false,
            consumer: ConsumerOptions { reset: Reset::Earliest, ..ConsumerOptions::default() },
        }
    }
}

/// Why a member cannot go on, or why its offsets are not committed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Records cannot be read.
    #[error("{0}")]
    Consumer(ConsumerError),
    /// A server refused for good, or there is none to ask.
    #[error("{0}")]
    Cluster(ClusterError),
    /// Another member has the same instance id.
    #[error(
        "group {group}: another member with the instance id {instance} has taken this one's place; \
         give each its own"
    )]
    Fenced {
        /// The group.
        group: String,
        /// The instance id.
        instance: String,
    },
    /// The partitions belong to others by now.
    #[error(
        "group {group}: the offsets are not committed, since the group has shared out its \
         partitions anew; another member reads these records again"
    )]
    Lost {
        /// The group.
        group: String,
    },
    /// Nothing is committed, and [`Reset::Error`] was asked for.
    #[error("group {group} has committed nothing of partition {topic}-{partition}")]
    NoOffset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The group's leader sent something else than partitions.
    #[error("group {group}: what its leader shares out cannot be read")]
    Assignment {
        /// The group.
        group: String,
    },
}

/// Where a member is.
enum Membership {
    Out { again: Instant },
    Joining(BoxFuture<'static, Outcome>),
    In(Box<Present>),
}

/// A member that has its partitions.
struct Present {
    generation: i32,
    /// Of the group's topics, if this member is its leader.
    counts: Option<BTreeMap<String, i32>>,
    next_look: Instant,
    next_beat: Instant,
    beat: Option<BoxFuture<'static, Beat>>,
    /// What the coordinator has.
    committed: BTreeMap<Place, i64>,
}

/// What a heartbeat brought.
struct Beat {
    member: Member,
    code: Result<i16, ClusterError>,
    /// Whether topics have more partitions than were shared out.
    has_more: bool,
}

/// Reads topics as a member of a group.
pub struct GroupConsumer {
    consumer: Consumer,
    member: Member,
    clock: Clock,
    membership: Membership,
    /// How far records are done with, where that is marked.
    marked: BTreeMap<Place, i64>,
    /// The last pause before joining again.
    pause: Option<Duration>,
    /// What is wrong with joining, and since when.
    trouble: Option<(ClusterError, Instant)>,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("GroupConsumer");
        shown.field("member", &self.member).field("consumer", &self.consumer);
        shown.finish_non_exhaustive()
    }
}

impl GroupConsumer {
    /// Joins with the first poll. It uses connections of its own.
    pub fn new(cluster: &Cluster, options: GroupOptions) -> Self {
        let clock = cluster.clock().clone();
        let consumer = Consumer::new(cluster, options.consumer);
        let member = Member {
            cluster: cluster.separate(),
            options: Arc::new(options),
            id: String::new(),
            coordinator: None,
        };
        let membership = Membership::Out { again: clock.now() };
        let marked = BTreeMap::new();
        Self { consumer, member, clock, membership, marked, pause: None, trouble: None }
    }

    /// The number of times that the group has shared out its partitions, while this is a member
    /// that has its part.
    pub fn generation(&self) -> Option<i32> {
        match &self.membership {
            Membership::In(present) => Some(present.generation),
            Membership::Out { .. } | Membership::Joining(_) => None,
        }
    }

    /// The partitions that this member has.
    pub fn assigned(&self) -> impl Iterator<Item = &Place> {
        self.consumer.assigned()
    }

    /// The offset behind what was handed out of a partition.
    pub fn position(&self, place: &Place) -> Option<i64> {
        self.consumer.position(place)
    }

    /// What keeps it from joining, or the partition that was not heard of for longest.
    pub fn trouble(&self) -> Option<(ClusterError, Instant)> {
        let of_consumer =
            || self.consumer.trouble().map(|Trouble { fault, since, .. }| (fault, since));
        self.trouble.clone().or_else(of_consumer)
    }

    /// What was passed over since this was asked last.
    pub fn take_skipped(&mut self) -> Vec<Skipped> {
        self.consumer.take_skipped()
    }

    /// Hands out records of this member's partitions; none if none come within `wait`, or if it is
    /// still joining then. What passes is tried again for ever, and is [`GroupConsumer::trouble`]
    /// meanwhile.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Record>, GroupError> {
        let deadline = self.clock.now() + wait;
        loop {
            let now = self.clock.now();
            match &mut self.membership {
                Membership::Out { again } if *again > now => {
                    let until = (*again).min(deadline);
                    self.clock.sleep_until(until).await;
                }
                Membership::Out { .. } => {
                    let joining = join::join(self.member.clone()).boxed();
                    self.membership = Membership::Joining(joining);
                    continue;
                }
                Membership::Joining(joining) => {
                    if let Ok(outcome) = self.clock.timeout_at(deadline, joining).await {
                        self.joined(outcome)?;
                        continue;
                    }
                }
                Membership::In(_) => {
                    let records = self.poll_in(deadline).await?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                }
            }
            if self.clock.now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    /// Reads until there are records, a heartbeat is due or has come back, or the deadline.
    async fn poll_in(&mut self, deadline: Instant) -> Result<Vec<Record>, GroupError> {
        let Membership::In(present) = &mut self.membership else { return Ok(Vec::new()) };
        let now = self.clock.now();
        if present.beat.is_none() && now >= present.next_beat {
            present.beat = Some(present.heartbeat(self.member.clone(), now));
        }
        let until = match &present.beat {
            Some(_) => deadline,
            None => deadline.min(present.next_beat),
        };
        let beat = async {
            match &mut present.beat {
                Some(beat) => beat.await,
                None => std::future::pending().await,
            }
        };
        let wait = until.saturating_duration_since(now);
        // A poll that is dropped loses nothing, and neither does a heartbeat, which is kept.
        let beat = tokio::select! {
            beat = beat => beat,
            polled = self.consumer.poll(wait) => return polled.map_err(GroupError::Consumer),
        };
        present.beat = None;
        present.next_beat = self.clock.now() + self.member.options.heartbeat_interval;
        self.beaten(beat).await?;
        Ok(Vec::new())
    }

    /// What a heartbeat's answer means.
    async fn beaten(&mut self, beat: Beat) -> Result<(), GroupError> {
        let Beat { member, code, has_more } = beat;
        self.member.coordinator = member.coordinator;
        match code.map(ErrorCode::from_code) {
            Ok(Some(ErrorCode::None)) if !has_more => self.trouble = None,
            Ok(Some(ErrorCode::None | ErrorCode::RebalanceInProgress)) => {
                // What cannot be committed is read again.
                let _ = self.commit().await;
                self.join_again();
            }
            Ok(Some(ErrorCode::UnknownMemberId)) => {
                self.member.id.clear();
                self.join_again();
            }
            Ok(Some(ErrorCode::IllegalGeneration)) => self.join_again(),
            Ok(Some(ErrorCode::FencedInstanceId)) => return Err(self.member.fenced()),
            Ok(Some(known)) if known.is_retriable() => self.look_elsewhere(),
            Ok(known) => {
                let code = known.map_or(-1, ErrorCode::code);
                return Err(GroupError::Cluster(self.member.refused(code)));
            }
            Err(fault) if fault.is_passing() => {
                let since = self.trouble.take().map_or(self.clock.now(), |(_, since)| since);
                self.trouble = Some((fault, since));
                self.look_elsewhere();
            }
            Err(fault) => return Err(GroupError::Cluster(fault)),
        }
        Ok(())
    }

    /// The coordinator is perhaps another node by now; it is asked soon.
    fn look_elsewhere(&mut self) {
        self.member.coordinator = None;
        if let Membership::In(present) = &mut self.membership {
            present.next_beat = self.clock.now() + LONGEST_PAUSE;
        }
    }

    fn join_again(&mut self) {
        self.consumer.unassign_all();
        self.marked.clear();
        self.membership = Membership::Out { again: self.clock.now() };
    }

    fn joined(&mut self, outcome: Outcome) -> Result<(), GroupError> {
        let now = self.clock.now();
        // What came of it is taken only once.
        self.membership = Membership::Out { again: now };
        match outcome {
            Outcome::In(joined) => {
                let Joined { member, generation, counts, offsets } = *joined;
                self.member = member;
                (self.pause, self.trouble) = (None, None);
                self.consumer.unassign_all();
                for (place, offset) in &offsets {
                    let from = if *offset >= 0 { *offset } else { self.beginning(place)? };
                    self.consumer.assign(place.clone(), from);
                }
                let next_beat = now + self.member.options.heartbeat_interval;
                self.membership = Membership::In(Box::new(Present {
                    generation,
                    counts,
                    next_look: now + LOOK_EVERY,
                    next_beat,
                    beat: None,
                    committed: offsets,
                }));
            }
            Outcome::Again { member, fault } => {
                self.member = *member;
                let mut again = now;
                if let Some(fault) = fault {
                    let last = self.pause.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
                    self.pause = Some(last);
                    again = now + last;
                    let since = self.trouble.take().map_or(now, |(_, since)| since);
                    self.trouble = Some((fault, since));
                }
                self.membership = Membership::Out { again };
            }
            Outcome::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Where a partition begins of which nothing is committed.
    fn beginning(&self, place: &Place) -> Result<i64, GroupError> {
        let options = &self.member.options;
        match options.consumer.reset {
            Reset::Earliest => Ok(EARLIEST),
            Reset::Latest => Ok(LATEST),
            Reset::Error => {
                let ((topic, partition), group) = (place.clone(), options.group.clone());
                Err(GroupError::NoOffset { group, topic, partition })
            }
        }
    }

    /// Says that a record, and with it all before it in its partition, is done with.
    pub fn mark(&mut self, record: &Record) {
        let place = (record.topic.clone(), record.partition);
        self.marked.insert(place, record.offset.saturating_add(1));
    }

    /// Commits what is done with: what is marked, or how far polls have handed out. Between polls
    /// it does nothing while the member is joining: it has committed before.
    pub async fn commit(&mut self) -> Result<(), GroupError> {
        let positions = if self.member.options.is_marked {
            self.marked.clone()
        } else {
            let places = self.consumer.assigned();
            let position = |place: &Place| Some((place.clone(), self.consumer.position(place)?));
            places.filter_map(position).collect()
        };
        self.commit_at(&positions).await
    }

    /// Commits offsets, each that of the next record that is to be read, as far as they are new.
    async fn commit_at(&mut self, offsets: &BTreeMap<Place, i64>) -> Result<(), GroupError> {
        let Membership::In(present) = &mut self.membership else { return Ok(()) };
        let is_new = |place: &Place, offset: i64| {
            present.committed.get(place).is_some_and(|committed| *committed != offset)
        };
        let fresh: BTreeMap<Place, i64> = offsets
            .iter()
            .filter(|(place, offset)| is_new(place, **offset))
            .map(|(place, offset)| (place.clone(), *offset))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        // They share a connection. What it brings the next one brings, too.
        if let Some(beat) = &mut present.beat {
            beat.await;
            present.beat = None;
            present.next_beat = self.clock.now();
        }
        let generation = present.generation;
        let deadline = self.clock.now() + COMMIT_PATIENCE;
        loop {
            let fault = match Box::pin(self.member.commit(generation, &fresh)).await {
                Ok(0) => {
                    present.committed.extend(fresh);
                    return Ok(());
                }
                Ok(code) => self.member.refused(code),
                Err(fault) => fault,
            };
            match fault.code() {
                Some(ErrorCode::UnknownMemberId) => {
                    self.member.id.clear();
                    return Err(self.lost());
                }
                Some(ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress) => {
                    return Err(self.lost());
                }
                Some(ErrorCode::FencedInstanceId) => return Err(self.member.fenced()),
                _ if fault.is_passing() && self.clock.now() < deadline => {
                    self.member.coordinator = None;
                    self.clock.sleep(FIRST_PAUSE).await;
                }
                _ => return Err(GroupError::Cluster(fault)),
            }
        }
    }

    fn lost(&mut self) -> GroupError {
        self.join_again();
        GroupError::Lost { group: self.member.options.group.clone() }
    }

    /// Leaves the group, so that its partitions go to others at once. It does not commit. A static
    /// member stays until its session is over.
    pub async fn leave(mut self) -> Result<(), ClusterError> {
        let is_static = self.member.options.instance_id.is_some();
        // What is under way has its connection; without it that is closed.
        self.membership = Membership::Out { again: self.clock.now() };
        if is_static || self.member.id.is_empty() {
            return Ok(());
        }
        Box::pin(self.member.leave()).await
    }
}

impl Present {
    fn heartbeat(&mut self, mut member: Member, now: Instant) -> BoxFuture<'static, Beat> {
        let generation = self.generation;
        let counts = self.counts.clone().filter(|_| now >= self.next_look);
        if counts.is_some() {
            self.next_look = now + LOOK_EVERY;
        }
        let work = async move {
            let code = member.heartbeat(generation).await;
            let mut has_more = false;
            if let Some(counts) = counts {
                let mut topics = member.options.topics.clone();
                topics.extend(counts.keys().cloned());
                // What cannot be told now is told the next time.
                has_more = member.counts(&topics).await.is_ok_and(|now| now != counts);
            }
            Beat { member, code, has_more }
        };
        work.boxed()
    }
}

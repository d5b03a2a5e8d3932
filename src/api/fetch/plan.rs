//! Which bytes answer a Fetch: partitions in the request's order share its byte limit.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::task::JoinHandle;

use super::log::{FromLog, charged, keep};
use super::parked::Parked;
use super::{Fetch, Refused, Target};
use crate::api::error::log_unreadable;
use crate::budget::{BytePool, Charge, Pool};
use crate::clock::Instant;
use crate::partition::{
    DiskRead, Isolation, Offsets, Plan, ReadError, ReadPiece, ReadPlan, ReadRequest, TierRead,
    TierStep,
};
use crate::protocol::error::ErrorCode;
use crate::server::service::Piece;
use crate::task;

/// What bounds an answer.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of records over all partitions; the first batch may be larger (KIP-74).
    pub(super) bytes: usize,
}

/// How much of an answer is taken out of memory when it is planned; what is beyond is taken when
/// the socket has room (DESIGN §3).
const AT_HAND_BYTES: usize = 1024 * 1024;

/// How many bytes of files are read while an answer is planned, unless the first read alone is
/// more: each looks for batches among what others wrote, up to 15 MB for a few hundred bytes, and
/// may find that none fits. Partitions beyond that are answered with nothing, for the next request
/// to begin with.
const WALKED_BYTES: usize = 16 << 20;

/// The answers for all partitions, in the request's order.
pub(super) struct Answers {
    pub(super) partitions: Vec<Answer>,
    /// Bytes of records in all of them.
    pub(super) bytes: usize,
    /// Whether some partition was read from the bucket. Its answer leaves with what it has: there
    /// is more to ask for.
    pub(super) is_behind: bool,
}

/// How long the bucket may be waited for.
pub(super) struct Patience<'a> {
    /// When the request must be answered.
    pub(super) deadline: Instant,
    /// What the request holds, which others may want.
    pub(super) parked: &'a Parked,
}

impl Patience<'_> {
    async fn ends(&self, fetch: &Fetch) {
        let broker = &fetch.cx.broker;
        tokio::select! {
            () = self.parked.wanted(&fetch.cx) => {}
            () = broker.clock().sleep_until(self.deadline) => {}
            () = broker.shutdown().draining() => {}
        }
    }
}

/// What reading one place of a log has come to.
enum Read {
    Answer(Answer),
    /// The log goes on elsewhere.
    Go(Plan),
    /// It has moved.
    Again,
}

/// A log is followed over at most so many places: sections that compaction has emptied, and what
/// lies on this machine. The client asks again.
const PLACES_MAX: usize = 64;

/// The answer for one partition.
pub(super) enum Answer {
    Refused(Refused),
    Records {
        offsets: Offsets,
        /// How far it was read; `None` where the bucket has what comes next.
        mark: Option<u64>,
        bytes: usize,
        pieces: Vec<Piece>,
    },
}

/// Like Apache Kafka, without the offsets that would be in range: clients ask `ListOffsets`.
const OUT_OF_RANGE: Answer = Answer::Refused(Refused::Error(ErrorCode::OffsetOutOfRange));

impl Answers {
    /// Whether some partition has news that is not records.
    pub(super) fn is_urgent(&self) -> bool {
        self.partitions.iter().any(|answer| !matches!(answer, Answer::Records { .. }))
    }

    /// Puts another answer in the place of one without records.
    fn set(&mut self, at: usize, answer: Answer) {
        if let Answer::Records { bytes, .. } = &answer {
            self.bytes += bytes;
        }
        if let Some(place) = self.partitions.get_mut(at) {
            *place = answer;
        }
    }

    /// How far each partition was read, for counting what came later.
    pub(super) fn marks(&self) -> impl Iterator<Item = Option<u64>> {
        self.partitions.iter().map(|answer| match answer {
            Answer::Records { mark, .. } => *mark,
            Answer::Refused(_) => None,
        })
    }
}

/// How much of the answer's byte limit is used.
struct Progress {
    answers: Answers,
    left: usize,
    /// How many bytes may still be at hand.
    at_hand: usize,
    /// How many bytes of files were read.
    walked: usize,
    /// The first partition of which the cache does not have what only the bucket has, by its place
    /// in the answer.
    missing: Option<(usize, TierRead)>,
    /// Loads that were begun for others of which the cache has nothing either.
    begun: Vec<JoinHandle<()>>,
}

impl Progress {
    fn new(limits: Limits, partitions: usize) -> Self {
        let answers =
            Answers { partitions: Vec::with_capacity(partitions), bytes: 0, is_behind: false };
        let (walked, missing, begun) = (0, None, Vec::new());
        Self { answers, left: limits.bytes, at_hand: AT_HAND_BYTES, walked, missing, begun }
    }

    /// Whether so many bytes of a file may be read now; if so they count.
    fn walks(&mut self, bytes: usize) -> bool {
        let fits = self.walked == 0 || self.walked.saturating_add(bytes) <= WALKED_BYTES;
        if fits {
            self.walked += bytes;
        }
        fits
    }

    fn request(&self, target: &Target, isolation: Isolation) -> ReadRequest {
        ReadRequest {
            offset: target.asked.fetch_offset,
            max_bytes: super::size(target.asked.max_bytes).min(self.left),
            isolation,
            at_least_one: self.answers.bytes == 0,
            at_hand_bytes: self.at_hand,
        }
    }

    fn add(&mut self, answer: Answer) {
        if let Answer::Records { bytes, pieces, .. } = &answer {
            self.answers.bytes += bytes;
            self.left = self.left.saturating_sub(*bytes);
            let at_hand = pieces.iter().filter(|piece| matches!(piece, Piece::Ready(_)));
            self.at_hand = self.at_hand.saturating_sub(at_hand.map(Piece::len).sum());
        }
        self.answers.partitions.push(answer);
    }
}

impl Fetch {
    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Reads what is in memory; `None` when some partition needs a disk or the bucket first.
    pub(super) fn read_memory(&self) -> Option<Answers> {
        let mut progress = Progress::new(self.limits, self.targets().count());
        for target in self.targets() {
            let answer = match begin(target, &progress.request(target, self.isolation)) {
                Ok(Plan::Done(plan)) => self.records(plan, None),
                Ok(Plan::NeedsDisk(_) | Plan::Tiered(_)) => return None,
                Err(answer) => answer,
            };
            progress.add(answer);
        }
        Some(progress.answers)
    }

    /// Reads, from disk and from the bucket where that is needed. The bucket is waited for only
    /// while the answer has nothing, for one partition, and no longer than until others have
    /// something: what waits for the cache's memory must hold none of it.
    pub(super) async fn read(&self, patience: &Patience<'_>) -> Answers {
        let (mut others_wake, mut is_late) = (true, false);
        loop {
            let mut progress = self.pass().await;
            let Some((at, missing)) = progress.missing.take() else { return progress.answers };
            if is_late || progress.answers.bytes > 0 || progress.answers.is_urgent() {
                // For the request that comes next: of what is under way only the footer may be.
                missing.begin(self.cx.broker.cache());
                return progress.answers;
            }
            let brought = first_of(std::mem::take(&mut progress.begun));
            let others = either(self.wait_for_records(&progress.answers), brought);
            let Some(target) = self.targets().nth(at) else { return progress.answers };
            let answer = tokio::select! {
                biased;
                answer = self.follow(Ok(Plan::Tiered(missing)), target, &mut progress) => answer,
                () = patience.ends(self) => {
                    // Others may have been brought meanwhile.
                    is_late = true;
                    continue;
                }
                // Once is enough: what they have is too little, or they are gone.
                () = others, if others_wake => {
                    others_wake = false;
                    continue;
                }
            };
            progress.answers.set(at, answer);
            return progress.answers;
        }
    }

    /// Reads what needs no wait for the bucket.
    async fn pass(&self) -> Progress {
        let mut progress = Progress::new(self.limits, self.targets().count());
        for target in self.targets() {
            let request = progress.request(target, self.isolation);
            let answer = match begin(target, &request) {
                Ok(Plan::Tiered(tier)) => self.at_hand(tier, &request, &mut progress),
                planned => self.follow(planned, target, &mut progress).await,
            };
            progress.add(answer);
        }
        progress
    }

    /// What the cache has of a partition. Of what it has not, one load is waited for if nothing
    /// else is there, and others are begun while the answer has room: what there is no room for is
    /// not wanted yet.
    fn at_hand(&self, tier: TierRead, request: &ReadRequest, progress: &mut Progress) -> Answer {
        progress.answers.is_behind = true;
        let cache = self.cx.broker.cache();
        let has_room = request.max_bytes.min(request.at_hand_bytes) > 0 || request.at_least_one;
        let found = if has_room { tier.at_hand(cache) } else { None };
        if let Some(plan) = found {
            return self.records(plan, None);
        }
        let mut nothing = self.records(tier.empty(), None);
        if let Answer::Records { mark, .. } = &mut nothing {
            *mark = None;
        }
        if !has_room {
            return nothing;
        }
        if progress.missing.is_some() {
            progress.begun.extend(tier.begin(cache));
        } else {
            progress.missing = Some((progress.answers.partitions.len(), tier));
        }
        nothing
    }

    /// Follows a partition's log over the places where it is.
    async fn follow(
        &self,
        mut planned: Result<Plan, Answer>,
        target: &Target,
        progress: &mut Progress,
    ) -> Answer {
        // Each round finds the log at another place; it moves at most as often as a look takes.
        for _ in 0..PLACES_MAX {
            let read = match planned {
                Ok(Plan::Done(plan)) => return self.records(plan, None),
                Ok(Plan::NeedsDisk(disk)) => self.read_disk(disk, target, progress).await,
                Ok(Plan::Tiered(tier)) if progress.answers.bytes > 0 => {
                    return self.records(tier.empty(), None);
                }
                Ok(Plan::Tiered(tier)) => self.read_tier(tier).await,
                Err(answer) => return answer,
            };
            planned = match read {
                Read::Answer(answer) => return answer,
                Read::Go(plan) => Ok(plan),
                Read::Again => begin(target, &progress.request(target, self.isolation)),
            };
        }
        self.nothing(target)
    }

    async fn read_disk(&self, disk: DiskRead, target: &Target, progress: &mut Progress) -> Read {
        let holds = progress.answers.bytes > 0;
        let memory = disk.memory();
        let charge = if progress.walks(disk.file_bytes()) {
            self.charge_next(holds, memory.meanwhile).await
        } else {
            None
        };
        let Some(charge) = charge else {
            // The client asks again for what this answer has no memory or time for.
            return Read::Answer(self.nothing(target));
        };
        Read::Answer(match task::blocking(move || disk.run()).await {
            Ok(Ok(plan)) => self.records(plan, Some(&keep(charge, memory.after))),
            Ok(Err(ReadError::Moved)) => return Read::Again,
            Ok(Err(error)) => refused(&error),
            Err(panicked) => unreadable(&panicked),
        })
    }

    /// Waits for what only the bucket has.
    async fn read_tier(&self, tier: TierRead) -> Read {
        match tier.run(self.cx.broker.cache()).await {
            Ok(TierStep::Done(plan)) => Read::Answer(self.records(plan, None)),
            Ok(TierStep::Next(plan)) => Read::Go(plan),
            Err(ReadError::Moved) => Read::Again,
            Err(error) => Read::Answer(refused(&error)),
        }
    }

    /// Charges a read from disk. An answer that `holds` memory already, charged or blocks of the
    /// log, does not wait for more: whoever waits for memory holds none of the same pool, and what
    /// a request that waits holds is not seen by the relief.
    async fn charge_next(&self, holds: bool, bytes: usize) -> Option<Charge> {
        let pool = self.send_pool();
        if holds {
            return pool.try_take(bytes.min(pool.capacity()));
        }
        Some(pool.take_up_to(bytes).await)
    }

    /// The answer for a partition of which nothing is read now.
    fn nothing(&self, target: &Target) -> Answer {
        let isolation = self.isolation;
        let nothing = ReadRequest {
            offset: target.asked.fetch_offset,
            max_bytes: 0,
            isolation,
            at_least_one: false,
            at_hand_bytes: 0,
        };
        match begin(target, &nothing) {
            Ok(Plan::Done(plan)) => self.records(plan, None),
            Ok(Plan::Tiered(tier)) => self.records(tier.empty(), None),
            Ok(Plan::NeedsDisk(_)) => unreachable!("no bytes need no disk"),
            Err(answer) => answer,
        }
    }

    fn send_pool(&self) -> &BytePool {
        self.cx.broker.budget().pool(Pool::Send)
    }

    fn records(&self, plan: ReadPlan, charge: Option<&Arc<Charge>>) -> Answer {
        let piece = |piece: ReadPiece| match (piece, charge) {
            (ReadPiece::Ready(bytes), None) => Piece::Ready(bytes),
            (ReadPiece::Ready(bytes), Some(charge)) => {
                Piece::Ready(charged(bytes, Arc::clone(charge)))
            }
            (ReadPiece::Later(later), _) => Piece::Deferred {
                len: later.len(),
                source: Box::new(FromLog {
                    later,
                    pool: self.send_pool().clone(),
                    cache: self.cx.broker.cache().clone(),
                }),
            },
        };
        Answer::Records {
            offsets: plan.offsets,
            mark: Some(plan.mark),
            bytes: plan.bytes,
            pieces: plan.pieces.into_iter().map(piece).collect(),
        }
    }
}

/// Ends when one of them does.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}

/// Ends when one of the loads has ended; never without one.
async fn first_of(begun: Vec<JoinHandle<()>>) {
    if begun.is_empty() {
        return std::future::pending().await;
    }
    drop(select_all(begun).await);
}

fn begin(target: &Target, request: &ReadRequest) -> Result<Plan, Answer> {
    let partition = target.found.as_ref().map_err(|refused| Answer::Refused(*refused))?;
    partition.read(request).map_err(|error| refused(&error))
}

fn refused(error: &ReadError) -> Answer {
    match error {
        ReadError::OutOfRange(_) => OUT_OF_RANGE,
        error => unreadable(error),
    }
}

fn unreadable(cause: &dyn std::error::Error) -> Answer {
    log_unreadable(cause);
    Answer::Refused(Refused::Error(ErrorCode::KafkaStorageError))
}

//! Which bytes answer a Fetch: partitions in the request's order share its byte limit.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tracing::error;

use super::{Fetch, Refused, Target};
use crate::budget::{BytePool, Charge, Pool};
use crate::partition::{
    Isolation, LaterRead, Offsets, Plan, ReadError, ReadPiece, ReadPlan, ReadRequest,
};
use crate::protocol::error::ErrorCode;
use crate::server::service::{BoxFuture, Deferred, Piece};
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

/// How many bytes of files are read while an answer is planned, unless the first read alone is more:
/// each looks for batches among what others wrote, up to 15 MB for a few hundred bytes, and may find
/// that none fits. Partitions beyond that are answered with nothing, for the next request to begin
/// with.
const WALKED_BYTES: usize = 16 << 20;

/// The answers for all partitions, in the request's order.
pub(super) struct Answers {
    pub(super) partitions: Vec<Answer>,
    /// Bytes of records in all of them.
    pub(super) bytes: usize,
}

/// The answer for one partition.
pub(super) enum Answer {
    Refused(Refused),
    Records { offsets: Offsets, mark: u64, bytes: usize, pieces: Vec<Piece> },
}

/// Like Apache Kafka, without the offsets that would be in range: clients ask `ListOffsets`.
const OUT_OF_RANGE: Answer = Answer::Refused(Refused::Error(ErrorCode::OffsetOutOfRange));

impl Answers {
    /// Whether some partition has news that is not records.
    pub(super) fn is_urgent(&self) -> bool {
        self.partitions.iter().any(|answer| !matches!(answer, Answer::Records { .. }))
    }

    /// How far each partition was read, for counting what came later.
    pub(super) fn marks(&self) -> impl Iterator<Item = Option<u64>> {
        self.partitions.iter().map(|answer| match answer {
            Answer::Records { mark, .. } => Some(*mark),
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
}

impl Progress {
    fn new(limits: Limits, partitions: usize) -> Self {
        let answers = Answers { partitions: Vec::with_capacity(partitions), bytes: 0 };
        Self { answers, left: limits.bytes, at_hand: AT_HAND_BYTES, walked: 0 }
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

    /// Reads what is in memory; `None` when some partition needs a disk to be read first.
    pub(super) fn read_memory(&self) -> Option<Answers> {
        let mut progress = Progress::new(self.limits, self.targets().count());
        for target in self.targets() {
            let answer = match begin(target, &progress.request(target, self.isolation)) {
                Ok(Plan::Done(plan)) => self.records(plan, None),
                Ok(Plan::NeedsDisk(_)) => return None,
                Err(answer) => answer,
            };
            progress.add(answer);
        }
        Some(progress.answers)
    }

    /// Reads, from disk where that is needed.
    pub(super) async fn read(&self) -> Answers {
        let mut progress = Progress::new(self.limits, self.targets().count());
        for target in self.targets() {
            let answer = match begin(target, &progress.request(target, self.isolation)) {
                Ok(Plan::Done(plan)) => self.records(plan, None),
                Ok(Plan::NeedsDisk(disk)) => {
                    let holds = progress.answers.bytes > 0;
                    let memory = disk.memory();
                    let charge = if progress.walks(disk.file_bytes()) {
                        self.charge_next(holds, memory.meanwhile).await
                    } else {
                        None
                    };
                    let Some(charge) = charge else {
                        // The client asks again for what this answer has no memory or time for.
                        progress.add(self.nothing(target));
                        continue;
                    };
                    match task::blocking(move || disk.run()).await {
                        Ok(Ok(plan)) => self.records(plan, Some(&keep(charge, memory.after))),
                        Ok(Err(ReadError::OutOfRange(_))) => OUT_OF_RANGE,
                        Ok(Err(ReadError::Log(cause))) => unreadable(&cause),
                        Err(panicked) => unreadable(&panicked),
                    }
                }
                Err(answer) => answer,
            };
            progress.add(answer);
        }
        progress.answers
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
                source: Box::new(FromLog { later, pool: self.send_pool().clone() }),
            },
        };
        Answer::Records {
            offsets: plan.offsets,
            mark: plan.mark,
            bytes: plan.bytes,
            pieces: plan.pieces.into_iter().map(piece).collect(),
        }
    }
}

fn begin(target: &Target, request: &ReadRequest) -> Result<Plan, Answer> {
    let partition = target.found.as_ref().map_err(|refused| Answer::Refused(*refused))?;
    partition.read(request).map_err(|_| OUT_OF_RANGE)
}

fn unreadable(cause: &dyn std::error::Error) -> Answer {
    error!(%cause, "log cannot be read");
    Answer::Refused(Refused::Error(ErrorCode::KafkaStorageError))
}

/// What of a charge is kept for `bytes`; all of it if it is no more.
fn keep(mut charge: Charge, bytes: usize) -> Arc<Charge> {
    let kept = charge.split(bytes);
    Arc::new(kept.unwrap_or(charge))
}

/// Bytes that give back their charge when the last slice of them is gone.
fn charged(bytes: Bytes, charge: Arc<Charge>) -> Bytes {
    struct Charged {
        bytes: Bytes,
        _charge: Arc<Charge>,
    }
    impl AsRef<[u8]> for Charged {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

/// Batches that are taken from memory or read from the WAL's files when the socket has room.
struct FromLog {
    later: LaterRead,
    pool: BytePool,
}

impl Deferred for FromLog {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            if let Some(batches) = self.later.in_memory() {
                return Ok(batches);
            }
            // A batch may be larger than the pool: it takes all of it.
            let memory = self.later.memory();
            let later = self.later;
            let held = self.pool.take_up_to(memory.meanwhile).await;
            let read = task::blocking(move || later.read()).await.map_err(io::Error::other)?;
            let batches = read.map_err(|cause| {
                error!(%cause, "log cannot be read");
                io::Error::other(cause)
            })?;
            let held = keep(held, memory.after);
            Ok(batches.into_iter().map(|bytes| charged(bytes, Arc::clone(&held))).collect())
        })
    }
}

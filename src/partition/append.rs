//! Appending a batch (DESIGN §3): checks, sequence, offsets and the WAL reservation under the lock,
//! the copy outside of it.

use std::sync::Arc;

use super::producers::{Refusal, Sequenced, Verdict};
use super::{FetchWait, Partition, record, state};
use crate::protocol::batch::{
    Batch, BatchHeader, TimestampType, patch_in_place, set_max_timestamp,
};
use crate::wal::{Admission, Class, Lsn, Reservation, ReserveError};

/// A batch to append, and what its topic asks.
#[derive(Clone, Copy, Debug)]
pub struct AppendRequest<'a> {
    /// The batch. The caller has checked it: `Batch::validate_for_produce`, or it built it.
    pub batch: &'a Batch,
    /// The greatest timestamp of its records, as the check found it. Where the header says
    /// something else it is corrected, as in Kafka's `LogValidator`.
    pub max_timestamp: i64,
    /// Now by the wall clock, in milliseconds: what `LogAppendTime` stamps.
    pub append_time_ms: i64,
    /// The topic's `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// The topic's `max.message.bytes`; not asked of internal appends.
    pub max_message_bytes: usize,
    /// The leader epoch that the caller believes in; `None` takes whatever it is.
    pub leader_epoch: Option<i32>,
    /// Whether a coordinator appends to its own topic, which may use the first reserve of the WAL.
    pub internal: bool,
}

impl<'a> AppendRequest<'a> {
    /// A coordinator's append of a batch that it built.
    pub fn internal(batch: &'a Batch, append_time_ms: i64) -> Self {
        Self {
            batch,
            max_timestamp: batch.header().max_timestamp,
            append_time_ms,
            timestamp_type: TimestampType::CreateTime,
            max_message_bytes: usize::MAX,
            leader_epoch: None,
            internal: true,
        }
    }
}

/// What became of an append. It may be acknowledged, and read, when `lsn` is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The offset of the last record.
    pub last_offset: i64,
    /// What must be durable before the answer leaves: the batch's record, or the original's.
    pub lsn: Lsn,
    /// The time stamped on the records; -1 where they keep their producer's.
    pub log_append_time: i64,
    /// The log start offset at the append.
    pub log_start_offset: i64,
    /// Whether the batch was appended before; then the offsets are the original's.
    pub duplicate: bool,
}

/// Why a batch was not appended. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The topic was deleted.
    #[error("the partition was deleted")]
    Closed,
    /// The caller's leader epoch is not the present one.
    #[error("leader epoch {expected} was expected, but it is {current}")]
    LeaderEpoch {
        /// What the caller believed.
        expected: i32,
        /// What it is.
        current: i32,
    },
    /// The batch is above the topic's limit, or fits no WAL file.
    #[error("the batch has {bytes} bytes, more than the {limit} that are allowed")]
    MessageTooLarge {
        /// The batch's size.
        bytes: usize,
        /// The topic's `max.message.bytes`, or what fits the WAL.
        limit: usize,
    },
    /// A producer's batch does not follow its last one.
    #[error("producer {producer_id} sent sequence {got} where {expected} follows")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The sequence that follows.
        expected: i32,
        /// The batch's base sequence.
        got: i32,
    },
    /// The batch was appended before, longer ago than the five batches that are remembered.
    /// `DUPLICATE_SEQUENCE_NUMBER` is true only when `lsn` is durable: clients take it as success.
    #[error("producer {producer_id} sent sequence {sequence} again, older than its last batches")]
    DuplicateSequence {
        /// The producer.
        producer_id: i64,
        /// The batch's base sequence.
        sequence: i32,
        /// What must be durable before this is answered.
        lsn: Lsn,
    },
    /// A newer epoch of the producer has written.
    #[error("producer {producer_id} has epoch {current}, the batch is of epoch {got}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// Its newest epoch.
        current: i16,
        /// The batch's.
        got: i16,
    },
    /// The WAL has no space ready. Wait with `Stream::wait_for_room` and append again.
    #[error("the write-ahead log has no room ready")]
    NoRoom,
    /// The WAL has stopped.
    #[error("the write-ahead log has stopped")]
    Poisoned,
    /// The admission covers less than the batch's record: a bug of the caller.
    #[error("a record of {bytes} bytes was appended with {admitted} admitted")]
    Unadmitted {
        /// What [`record::data_len`] says.
        bytes: usize,
        /// What the admission had left.
        admitted: usize,
    },
}

impl Partition {
    /// Resolves when readers see an append whose LSN is durable: at once, unless an earlier append
    /// of another connection is still being copied while the WAL has already synced its group. To
    /// be awaited before an acknowledgement, so that who was acknowledged reads what it wrote.
    pub async fn visible(self: &Arc<Self>, appended: &Appended) {
        loop {
            let (seen, mark) = {
                let state = self.lock_advanced();
                let seen = state.high_watermark() > appended.last_offset;
                (seen || state.closed, state.readable_bytes())
            };
            if seen {
                return;
            }
            FetchWait::new(&self.shared().metrics, [(Arc::clone(self), mark)], 1).await;
        }
    }

    /// Appends a batch. It does not wait: what it needs of the byte budget is in `admission`
    /// ([`record::data_len`] of the batch), and without room in the WAL it changes nothing.
    ///
    /// Offset order is the order in which callers get the lock; of one connection it is the order
    /// of its requests, since each is appended before the next is begun (DESIGN D11).
    pub fn append(
        self: &Arc<Self>,
        admission: &mut Admission,
        request: &AppendRequest<'_>,
    ) -> Result<Appended, AppendError> {
        let bytes = request.batch.bytes().len();
        if !request.internal && bytes > request.max_message_bytes {
            return Err(AppendError::MessageTooLarge { bytes, limit: request.max_message_bytes });
        }
        let mut state = self.lock_advanced();
        let original = check(&state, request)?;
        if let Some(original) = original {
            self.shared().metrics.duplicates.inc();
            return Ok(original);
        }
        let class = if request.internal { Class::Internal } else { Class::Data };
        let reservation = self
            .shared()
            .stream
            .reserve(admission, class, record::DATA, record::data_len(bytes), &self.owner)
            .map_err(|error| refused(&error))?;
        // From here to `fill` nothing fails and nothing waits: a reservation that is dropped
        // unfilled stops the WAL.
        let now_ms = self.shared().stream.log_clock().now_ms();
        let (place, appended) = place(&state, request, &reservation, now_ms);
        let forgotten = state.append(place, now_ms, &self.shared().producers);
        drop(state);
        let lsn = reservation.lsn();
        let filled = self.fill(reservation, request, &place);
        self.lock().filled(lsn, filled);
        // The group may have become durable between the two locks, before the batch could be seen.
        let durable = self.shared().stream.durable();
        if durable >= lsn {
            self.wake_waiters(durable);
        }
        let metrics = &self.shared().metrics;
        let records = request.batch.header().record_count.max(0) as u64;
        metrics.appended_records.inc_by(records);
        metrics.appended_bytes.inc_by(bytes as u64);
        self.counters.received(records, bytes as u64);
        if forgotten > 0 {
            metrics.forgotten_producers.inc_by(forgotten as u64);
        }
        Ok(appended)
    }

    /// Copies the batch into the WAL's memory, the one copy of a produced byte, and gives it its
    /// offset and epoch there.
    fn fill(
        &self,
        mut reservation: Reservation,
        request: &AppendRequest<'_>,
        place: &state::Appended,
    ) -> bytes::Bytes {
        let source = request.batch.bytes();
        reservation.put(&record::data_head(self.id()));
        reservation.put(source);
        let (_, batch) = reservation.payload_mut().split_at_mut(record::DATA_HEAD);
        patch_in_place(batch, place.base_offset, place.leader_epoch);
        self.shared().metrics.copied_bytes.inc_by(source.len() as u64);
        let (mut tail_crc, tail_len) = request.batch.tail_crc();
        let header = request.batch.header();
        if header.max_timestamp != place.max_timestamp
            || header.timestamp_type() != request.timestamp_type
        {
            tail_crc = set_max_timestamp(batch, request.timestamp_type, place.max_timestamp);
        }
        let payload = reservation.fill_with_tail_crc(tail_len, tail_crc);
        payload.slice(record::DATA_HEAD..)
    }
}

/// Whether the batch may be appended; `Some` if it was appended before.
fn check(
    state: &state::State,
    request: &AppendRequest<'_>,
) -> Result<Option<Appended>, AppendError> {
    if state.closed {
        return Err(AppendError::Closed);
    }
    let current = state.leader_epoch;
    if let Some(expected) = request.leader_epoch
        && expected != current
    {
        return Err(AppendError::LeaderEpoch { expected, current });
    }
    let Some(sequenced) = sequenced(request.batch.header()) else { return Ok(None) };
    let producer_id = sequenced.producer_id;
    let verdict = if sequenced.base_sequence < 0 {
        state.producers.check_epoch(producer_id, sequenced.epoch).map(|()| Verdict::Next)
    } else {
        state.producers.check(sequenced)
    };
    match verdict {
        Ok(Verdict::Next) => Ok(None),
        Ok(Verdict::Duplicate(original)) => Ok(Some(Appended {
            base_offset: original.last_offset - i64::from(original.offset_delta),
            last_offset: original.last_offset,
            lsn: original.lsn,
            log_append_time: stamped(request.timestamp_type, original.max_timestamp),
            log_start_offset: state.log_start(),
            duplicate: true,
        })),
        Err(Refusal::OutOfOrder { expected, got }) => {
            Err(AppendError::OutOfOrderSequence { producer_id, expected, got })
        }
        Err(Refusal::OlderThanWindow { lsn }) => {
            let sequence = sequenced.base_sequence;
            Err(AppendError::DuplicateSequence { producer_id, sequence, lsn })
        }
        Err(Refusal::StaleEpoch { current, got }) => {
            Err(AppendError::InvalidProducerEpoch { producer_id, current, got })
        }
    }
}

/// The offsets of a batch whose record is reserved.
fn place(
    state: &state::State,
    request: &AppendRequest<'_>,
    reservation: &Reservation,
    now_ms: i64,
) -> (state::Appended, Appended) {
    let header = request.batch.header();
    let base_offset = state.log_end();
    let last_offset = base_offset + i64::from(header.last_offset_delta);
    let max_timestamp = match request.timestamp_type {
        TimestampType::CreateTime => request.max_timestamp,
        TimestampType::LogAppendTime => request.append_time_ms,
    };
    let lsn = reservation.lsn();
    let place = state::Appended {
        base_offset,
        last_offset,
        leader_epoch: state.leader_epoch,
        max_timestamp,
        append_time_ms: now_ms,
        bytes: request.batch.bytes().len() as u32,
        producer: sequenced(header),
        lsn,
        location: reservation.location(),
    };
    let appended = Appended {
        base_offset,
        last_offset,
        lsn,
        log_append_time: stamped(request.timestamp_type, max_timestamp),
        log_start_offset: state.log_start(),
        duplicate: false,
    };
    (place, appended)
}

/// A batch's place in its producer's sequence; `None` without a producer id.
pub(super) fn sequenced(header: &BatchHeader) -> Option<Sequenced> {
    header.has_producer_id().then(|| Sequenced {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
    })
}

fn stamped(timestamp_type: TimestampType, max_timestamp: i64) -> i64 {
    match timestamp_type {
        TimestampType::CreateTime => -1,
        TimestampType::LogAppendTime => max_timestamp,
    }
}

fn refused(error: &ReserveError) -> AppendError {
    match error {
        ReserveError::NoRoom => AppendError::NoRoom,
        ReserveError::Poisoned(_) => AppendError::Poisoned,
        ReserveError::TooLarge { bytes, limit } => {
            AppendError::MessageTooLarge { bytes: *bytes, limit: *limit }
        }
        ReserveError::Unadmitted { bytes, admitted } => {
            AppendError::Unadmitted { bytes: *bytes, admitted: *admitted }
        }
    }
}

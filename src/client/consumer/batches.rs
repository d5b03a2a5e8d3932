//! What a leader gave of a partition, read record by record.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::ConsumerError;
use crate::client::{Place, Record};
use crate::protocol::batch::{Batch, BatchError, BatchHeader};
use crate::protocol::control::ControlType;
use crate::protocol::fetch::AbortedTransaction;
use crate::protocol::record::{Record as RawRecord, Records};

/// The most bytes that one batch's records may decompress to; as many as the broker unpacks.
pub(super) const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// More headers than this are no record's: each takes two bytes at least on the wire, and many
/// times that in memory.
const HEADERS_MAX: usize = 100_000;

/// Batches of one partition, as far as they are read.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) place: Place,
    /// The offset that is read next; what lies before it is not shown.
    pub(super) next: i64,
    /// Whole batches, and perhaps a part of one.
    left: Bytes,
    open: Option<OpenBatch>,
    aborted: Option<Aborted>,
}

/// A batch whose records are being read.
#[derive(Debug)]
struct OpenBatch {
    header: BatchHeader,
    /// Those of its records that are not read yet.
    payload: Bytes,
    count: i32,
}

/// Which transactions are not to be shown, as the reader comes past them.
#[derive(Debug)]
struct Aborted {
    /// Those that begin further on, in the order of their first offsets.
    later: VecDeque<AbortedTransaction>,
    /// The producers whose transaction is open here and will be aborted.
    now: BTreeSet<i64>,
}

impl Batches {
    /// `records` were fetched from `next` on. `aborted` are the aborted transactions among them if
    /// only what is committed is to be shown.
    pub(super) fn new(
        place: Place,
        next: i64,
        records: Bytes,
        aborted: Option<Vec<AbortedTransaction>>,
    ) -> Self {
        let aborted = aborted.map(|mut all| {
            all.sort_by_key(|it| it.first_offset);
            Aborted { later: all.into(), now: BTreeSet::new() }
        });
        Self { place, next, left: records, open: None, aborted }
    }

    /// The bytes that are kept for it.
    pub(super) fn bytes(&self) -> usize {
        self.left.len() + self.open.as_ref().map_or(0, |open| open.payload.len())
    }

    /// Appends up to `most` records, and says whether there may be more. What was appended before
    /// an error is good, and the same error comes again.
    pub(super) fn read(
        &mut self,
        most: usize,
        records: &mut Vec<Record>,
    ) -> Result<bool, ConsumerError> {
        let full = records.len().saturating_add(most);
        while records.len() < full {
            if self.open.is_some() {
                self.read_record(records)?;
            } else if !self.open_next()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads one record of the open batch, or closes it behind the last.
    fn read_record(&mut self, records: &mut Vec<Record>) -> Result<(), ConsumerError> {
        let Some(open) = &self.open else { return Ok(()) };
        let (header, payload) = (open.header, open.payload.clone());
        let Some(read) = Records::new(&payload, open.count).next() else {
            self.next = self.next.max(header.next_offset());
            self.open = None;
            return Ok(());
        };
        let index = header.record_count.saturating_sub(open.count);
        let raw = read.map_err(|source| self.unreadable(BatchError::Record { index, source }))?;
        let offset = header.offset_of(&raw);
        if offset >= self.next {
            records.push(self.record(&header, offset, &payload, &raw)?);
            self.next = offset.saturating_add(1);
        }
        if let Some(open) = &mut self.open {
            open.payload = payload.slice(raw.raw.len().min(payload.len())..);
            open.count -= 1;
        }
        Ok(())
    }

    fn record(
        &self,
        header: &BatchHeader,
        offset: i64,
        payload: &Bytes,
        raw: &RawRecord<'_>,
    ) -> Result<Record, ConsumerError> {
        let (topic, partition) = self.place.clone();
        if raw.headers.len() > HEADERS_MAX {
            let (headers, max) = (raw.headers.len(), HEADERS_MAX);
            return Err(ConsumerError::Headers { topic, partition, offset, headers, max });
        }
        let bytes = |part: Option<&[u8]>| part.map(|part| payload.slice_ref(part));
        let headers = raw
            .headers
            .clone()
            .map(|header| (String::from_utf8_lossy(header.key).into_owned(), bytes(header.value)));
        Ok(Record {
            topic,
            partition,
            offset,
            timestamp: header.timestamp_of(raw),
            key: bytes(raw.key),
            value: bytes(raw.value),
            headers: headers.collect(),
        })
    }

    /// Opens the next batch that is to be shown; false if there is none.
    fn open_next(&mut self) -> Result<bool, ConsumerError> {
        loop {
            let header = match BatchHeader::parse(&self.left) {
                Ok(header) if header.size() <= self.left.len() => header,
                // A server may cut the last batch off where the answer is full.
                Ok(_) | Err(BatchError::TooShort { .. }) => {
                    self.left.clear();
                    return Ok(false);
                }
                Err(BatchError::UnsupportedMagic { magic }) => {
                    let ((topic, partition), offset) = (self.place.clone(), self.next);
                    return Err(ConsumerError::OldFormat { topic, partition, offset, magic });
                }
                Err(fault) => return Err(self.unreadable(fault)),
            };
            let bytes = self.left.slice(..header.size());
            if header.last_offset() >= self.next {
                let batch = Batch::parse_one(bytes).map_err(|fault| self.unreadable(fault))?;
                batch.verify_crc().map_err(|fault| self.unreadable(fault))?;
                if self.is_shown(&batch)? {
                    let unpacked = batch.payload(UNPACKED_BYTES_MAX);
                    let payload = unpacked.map_err(|fault| self.unreadable(fault))?;
                    self.left = self.left.slice(header.size()..);
                    self.open = Some(OpenBatch { header, payload, count: header.record_count });
                    return Ok(true);
                }
                self.next = header.next_offset();
            }
            self.left = self.left.slice(header.size()..);
        }
    }

    /// Whether a batch's records are for applications: control records never are, and aborted ones
    /// not where only what is committed is to be shown (`CompletedFetch` of Kafka's consumer).
    fn is_shown(&mut self, batch: &Batch) -> Result<bool, ConsumerError> {
        let header = *batch.header();
        if let Some(aborted) = self.aborted.as_mut().filter(|_| header.has_producer_id()) {
            aborted.begin_until(header.last_offset());
            if header.is_control() {
                if is_abort(batch).map_err(|fault| self.unreadable(fault))?
                    && let Some(aborted) = &mut self.aborted
                {
                    aborted.now.remove(&header.producer_id);
                }
            } else if header.is_transactional() && aborted.now.contains(&header.producer_id) {
                return Ok(false);
            }
        }
        Ok(!header.is_control())
    }

    fn unreadable(&self, fault: BatchError) -> ConsumerError {
        let ((topic, partition), offset) = (self.place.clone(), self.next);
        ConsumerError::Unreadable { topic, partition, offset, fault }
    }
}

impl Aborted {
    /// Begins the transactions whose first offset is reached.
    fn begin_until(&mut self, offset: i64) {
        while let Some(next) = self.later.front().filter(|it| it.first_offset <= offset) {
            self.now.insert(next.producer_id);
            self.later.pop_front();
        }
    }
}

/// Whether a control batch says that its producer's transaction is aborted.
fn is_abort(batch: &Batch) -> Result<bool, BatchError> {
    let payload = batch.payload(UNPACKED_BYTES_MAX)?;
    let Some(first) = batch.records(&payload).next() else { return Ok(false) };
    let record = first.map_err(|source| BatchError::Record { index: 0, source })?;
    let kind = record.key.map(ControlType::parse);
    Ok(matches!(kind, Some(Ok(ControlType::Abort))))
}

#[cfg(test)]
mod tests;

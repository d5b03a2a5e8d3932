//! Taking the batches of many partitions out of the write-ahead log, in one pass over its files.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use super::{TierError, Waiting};
use crate::partition::WalSpan;
use crate::partition::record::{self, Record};
use crate::protocol::batch::BatchHeader;
use crate::protocol::types::TopicPartition;
use crate::wal::{Entry, FileNumber, Stream};

/// Batches of one partition.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Behind the last batch.
    next: i64,
    end: i64,
    /// All of them, one behind the other.
    pub(super) batches: BytesMut,
    /// When the youngest was appended, on the log clock.
    pub(super) append_time_ms: i64,
}

/// Reads what was planned of `waiting`, in their order. Blocks: for `task::blocking`. Memory is
/// their bytes, and what a read of the log takes.
pub(super) fn gather(stream: &Stream, waiting: &[Waiting]) -> Result<Vec<Gathered>, TierError> {
    let mut found: HashMap<TopicPartition, Gathered> = HashMap::with_capacity(waiting.len());
    let mut spans: BTreeMap<FileNumber, WalSpan> = BTreeMap::new();
    for Waiting { partition, untiered } in waiting {
        let batches = BytesMut::with_capacity(untiered.bytes as usize);
        let (next, end) = (untiered.from, untiered.to);
        found.insert(partition.id(), Gathered { next, end, batches, append_time_ms: 0 });
        for span in &untiered.spans {
            let all = spans.entry(span.file).or_insert(*span);
            (all.start, all.end) = (all.start.min(span.start), all.end.max(span.end));
        }
    }
    // A span may reach over batches that have a place in the file and are not written yet: what is
    // behind the last durable record is no record, or another that the file had before.
    let durable = stream.durable();
    for WalSpan { file, start, end } in spans.into_values() {
        let visit = |entry: Entry| {
            take(&mut found, &entry);
            if entry.lsn < durable { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        stream.read_span(file, start.into(), end.into(), visit)?;
    }
    let mut all = Vec::with_capacity(waiting.len());
    for Waiting { partition, untiered } in waiting {
        let of = partition.id();
        match found.remove(&of) {
            Some(gathered) if gathered.next == untiered.to => all.push(gathered),
            other => {
                let found = other.map_or(untiered.from, |gathered| gathered.next);
                return Err(TierError::Incomplete { of, expected: untiered.to, found });
            }
        }
    }
    Ok(all)
}

/// Takes a batch that was planned and follows the one before it. The WAL has checked the record.
fn take(found: &mut HashMap<TopicPartition, Gathered>, entry: &Entry) {
    if entry.kind != record::DATA {
        return;
    }
    let Ok(Record::Data { of, batch }) = Record::decode(entry.kind, entry.payload.clone()) else {
        return;
    };
    let Some(gathered) = found.get_mut(&of) else { return };
    let Ok(header) = BatchHeader::parse(&batch) else { return };
    if header.base_offset == gathered.next && header.base_offset < gathered.end {
        gathered.batches.extend_from_slice(&batch);
        gathered.next = header.next_offset();
        gathered.append_time_ms = entry.append_ms;
    }
}

impl Gathered {
    /// The batches, one by one.
    pub(super) fn into_batches(self) -> impl Iterator<Item = Bytes> {
        let mut rest = self.batches.freeze();
        std::iter::from_fn(move || {
            let header = BatchHeader::parse(&rest).ok()?;
            Some(rest.split_to(header.size().min(rest.len())))
        })
    }
}

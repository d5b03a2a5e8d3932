//! Sections that are read to be written again.

use std::ops::Range;

use bytes::Bytes;

use super::super::merge::{READ_BYTES, runs};
use crate::budget::{BytePool, Charge};
use crate::object::Store;
use crate::partition::TierRef;
use crate::protocol::types::TopicPartition;
use crate::tier::{Aborted, EpochStart, Footer, ReadError, Reader, Section};

/// A section of an object, whose footer has been read. It is not read through the cache: what is
/// read once and replaced is no reason to evict what others read.
pub(super) struct Source<'a> {
    reader: Reader<'a>,
    footer: Footer,
    section: Section,
}

impl<'a> Source<'a> {
    pub(super) async fn open(
        store: &'a Store,
        of: TopicPartition,
        tier: TierRef,
    ) -> Result<Self, ReadError> {
        let reader = Reader::new(store, tier.object);
        let footer = reader.footer().await?;
        let section = footer.section(of).cloned();
        let section = section.ok_or_else(|| ReadError::Missing { key: tier.object.id.key() })?;
        Ok(Self { reader, footer, section })
    }

    /// Chunks that are read at once.
    pub(super) fn runs(&self) -> Vec<Range<u32>> {
        runs(&self.footer, self.section.chunks.clone())
    }

    /// Reads a run. The caller has charged twice [`READ_BYTES`] for it; what a run of one large
    /// batch takes beyond that is charged here, and not waited for.
    pub(super) async fn read(
        &self,
        run: Range<u32>,
        pool: &BytePool,
    ) -> Result<(Vec<Bytes>, Charge), ReadError> {
        let chunks = run.clone().filter_map(|number| self.footer.chunk(number));
        let bytes: u64 = chunks.map(|chunk| u64::from(chunk.bytes)).sum();
        let more = usize::try_from(2 * bytes.saturating_sub(READ_BYTES)).unwrap_or(usize::MAX);
        let charge = pool.take_or_owe(more);
        Ok((self.reader.chunks(&self.footer, run).await?, charge))
    }
}

/// What a section says beside its batches, of several in a row.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) end_offset: i64,
    /// Every aborted transaction that touches one of them: its records are still there, and so is
    /// its marker.
    pub(super) aborted: Vec<Aborted>,
    pub(super) epochs: Vec<EpochStart>,
    /// The last one's producers.
    pub(super) producers: Bytes,
    pub(super) append_time_ms: i64,
}

impl Said {
    /// Adds the next section.
    pub(super) async fn note(
        &mut self,
        source: &Source<'_>,
        tier: &TierRef,
    ) -> Result<(), ReadError> {
        let Source { reader, footer, section } = source;
        self.end_offset = tier.end_offset;
        self.aborted.extend(footer.aborted_of(section));
        self.aborted.sort_by_key(|aborted| (aborted.last_offset, aborted.producer_id));
        self.aborted.dedup();
        let known = self.epochs.last().map_or(-1, |last| last.epoch);
        self.epochs.extend(footer.epochs_of(section).iter().filter(|start| start.epoch > known));
        self.producers = reader.producers(section).await?;
        self.append_time_ms = self.append_time_ms.max(tier.append_time_ms);
        Ok(())
    }
}

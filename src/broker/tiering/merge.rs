//! The merger: a partition's sections in packs become a segment, when there are enough of them or
//! they have been there long. Packs that nobody refers to any more are garbage.

use std::ops::Range;
use std::sync::Arc;

use super::flush::Section;
use super::{Broker, TierError};
use crate::failpoint;
use crate::partition::{Partition, TierKind, TierRef};
use crate::tier::{EpochStart, Footer, Origin, Reader, SectionEnd, Upload};

/// So many bytes of a partition in packs make a segment.
pub(in crate::broker) const MERGE_BYTES: u64 = 32 << 20;
/// A segment is not made larger.
const MERGE_BYTES_MAX: u64 = 256 << 20;
/// How much is read of an object at once.
pub(super) const READ_BYTES: u64 = 8 << 20;

impl Broker {
    /// Makes segments of what has been long enough in packs, or is enough.
    pub(super) async fn merge_packs(&self) -> Result<(), TierError> {
        let now_ms = self.stream.log_clock().now_ms();
        let age_ms = i64::try_from(self.delays.merge_age.as_millis()).unwrap_or(i64::MAX);
        let long_ago_ms = now_ms.saturating_sub(age_ms);
        for partition in self.partitions.all() {
            if self.shutdown.is_draining() {
                break;
            }
            while let Some(refs) = mergeable(&partition.tier_refs(), long_ago_ms) {
                let outcome = self.merge(&partition, &refs, now_ms).await;
                self.tiering.metrics.ended(Origin::Merged, outcome.is_ok());
                if !outcome? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Puts sections that follow each other into one object; false if the partition changed
    /// meanwhile.
    pub(super) async fn merge(
        &self,
        partition: &Arc<Partition>,
        refs: &[TierRef],
        now_ms: i64,
    ) -> Result<bool, TierError> {
        let (Some(first), Some(last)) = (refs.first(), refs.last()) else { return Ok(false) };
        failpoint::pass("merge: begun");
        let sizes = self.tiering.sizes();
        // What is read is there twice while it is taken apart.
        let _memory = self.tiering.pool.take_up_to(sizes.part + 2 * READ_BYTES as usize).await;
        let name = self.object_ids.begin();
        let head = self.head(name.id(), Origin::Merged);
        let mut upload = Upload::new(&self.tiering.store, head, sizes);
        let copied = self.copy_sections(&mut upload, partition, refs).await;
        if let Err(error) = copied {
            upload.give_up().await;
            return Err(error);
        }
        let uploaded = self.finish(upload).await?;
        let section = Section {
            partition: Arc::clone(partition),
            removed: refs.iter().map(TierRef::id).collect(),
            append_time_ms: last.append_time_ms,
        };
        self.commit(&name, &uploaded, vec![section], now_ms, TierKind::Segment).await?;
        let refers = partition.tier_refs().iter().any(|tier| tier.object.id == name.id());
        tracing::debug!(
            partition = %partition.id(),
            sections = refs.len(),
            from = first.start_offset,
            to = last.end_offset,
            "packs merged"
        );
        Ok(refers)
    }

    async fn copy_sections(
        &self,
        upload: &mut Upload<'_>,
        partition: &Arc<Partition>,
        refs: &[TierRef],
    ) -> Result<(), TierError> {
        let (Some(first), Some(last)) = (refs.first(), refs.last()) else { return Ok(()) };
        upload.begin(partition.id(), first.start_offset)?;
        let mut epochs: Vec<EpochStart> = Vec::new();
        for tier in refs {
            let reader = Reader::new(&self.tiering.store, tier.object);
            let footer = reader.footer().await?;
            let Some(section) = footer.section(partition.id()) else {
                return Err(crate::tier::ReadError::Missing { key: tier.object.id.key() }.into());
            };
            for run in runs(&footer, section.chunks.clone()) {
                for chunk in reader.chunks(&footer, run).await? {
                    for batch in batches(chunk) {
                        upload.push(&batch).await?;
                    }
                }
            }
            let known = epochs.last().map_or(-1, |last| last.epoch);
            epochs.extend(footer.epochs_of(section).iter().filter(|start| start.epoch > known));
        }
        let end_offset = last.end_offset;
        upload.end(&SectionEnd { end_offset, aborted: &[], epochs: &epochs, producers: &[] })?;
        Ok(())
    }
}

/// Sections in packs that follow each other and are to be merged: the first such run. What was
/// appended before `long_ago_ms` is not left in packs.
fn mergeable(refs: &[TierRef], long_ago_ms: i64) -> Option<Vec<TierRef>> {
    let mut runs: Vec<Vec<TierRef>> = Vec::new();
    let (mut run, mut bytes) = (Vec::new(), 0);
    for tier in refs {
        let is_pack = tier.kind == TierKind::Pack;
        if !is_pack || bytes >= MERGE_BYTES_MAX {
            runs.push(std::mem::take(&mut run));
            bytes = 0;
        }
        if is_pack {
            bytes += tier.bytes;
            run.push(*tier);
        }
    }
    runs.push(run);
    runs.into_iter().find(|run| {
        let bytes: u64 = run.iter().map(|tier| tier.bytes).sum();
        let is_old = |tier: &TierRef| tier.append_time_ms < long_ago_ms;
        bytes >= MERGE_BYTES || (run.len() > 1 && run.iter().any(is_old))
    })
}

/// Chunks that are read at once.
pub(super) fn runs(footer: &Footer, chunks: Range<u32>) -> Vec<Range<u32>> {
    let (mut runs, mut start, mut bytes) = (Vec::new(), chunks.start, 0);
    for number in chunks.clone() {
        let next = footer.chunk(number).map_or(0, |chunk| u64::from(chunk.bytes));
        if number > start && bytes + next > READ_BYTES {
            runs.push(start..number);
            (start, bytes) = (number, 0);
        }
        bytes += next;
    }
    runs.push(start..chunks.end);
    runs
}

/// The batches of a chunk.
pub(super) fn batches(mut chunk: bytes::Bytes) -> impl Iterator<Item = bytes::Bytes> {
    std::iter::from_fn(move || {
        let header = crate::protocol::batch::BatchHeader::parse(&chunk).ok()?;
        Some(chunk.split_to(header.size().min(chunk.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::{ObjectId, ObjectRef};

    fn refs(sections: &[(TierKind, u64, i64)]) -> Vec<TierRef> {
        let section = |(at, (kind, mib, append_time_ms)): (usize, &(TierKind, u64, i64))| {
            let id = ObjectId { incarnation: [1; 16], sequence: at as u64 };
            TierRef {
                object: ObjectRef { id, bytes: mib << 21, end_bytes: 500 },
                start_offset: 10 * at as i64,
                end_offset: 10 * at as i64 + 10,
                bytes: mib << 20,
                max_timestamp: -1,
                append_time_ms: *append_time_ms,
                kind: *kind,
            }
        };
        sections.iter().enumerate().map(section).collect()
    }

    fn found(sections: &[(TierKind, u64, i64)], long_ago_ms: i64) -> Option<Vec<i64>> {
        let found = mergeable(&refs(sections), long_ago_ms)?;
        Some(found.iter().map(|tier| tier.start_offset / 10).collect())
    }

    #[test]
    fn packs_are_merged_when_they_are_enough_or_old() {
        const PACK: TierKind = TierKind::Pack;
        const SEGMENT: TierKind = TierKind::Segment;
        assert_eq!(found(&[], 0), None);
        assert_eq!(found(&[(PACK, 31, 0)], 0), None);
        assert_eq!(found(&[(PACK, 32, 0)], 0), Some(vec![0]));
        assert_eq!(found(&[(PACK, 16, 0), (PACK, 16, 0)], 0), Some(vec![0, 1]));
        let apart = [(PACK, 16, 0), (SEGMENT, 64, 0), (PACK, 16, 0), (PACK, 15, 0)];
        assert_eq!(found(&apart, 0), None);
        assert_eq!(found(&apart, 1), Some(vec![2, 3]));
        assert_eq!(found(&[(PACK, 1, 0)], 1), None, "it would only be copied");
        let much: Vec<_> = (0..20).map(|_| (PACK, 31, 0)).collect();
        assert_eq!(found(&much, 0), Some((0..9).collect()));
    }
}

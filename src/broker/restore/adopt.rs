//! Which objects continue a log that the last checkpoint does not know to the end: those that the
//! flusher had brought into the bucket since.
//!
//! A section is adopted if it begins where the bucket's part of its log ends. Where several do, of
//! uploads that were cut and made again, the one counts from which the log reaches furthest, and of
//! two that reach as far the later one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, stream};

use super::RestoreError;
use crate::broker::tiering::merge::MERGE_BYTES;
use crate::object::Store;
use crate::partition::{Partitions, TierKind, TierRef};
use crate::protocol::types::TopicPartition;
use crate::tier::name::PREFIX;
use crate::tier::reader::FOOTER_GUESS;
use crate::tier::{Footer, ObjectId, ObjectRef, Origin, ReadError, Reader};

/// How many footers are read at once.
const CONCURRENT: usize = 8;

/// A section that may continue its partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// How the partition would refer to it.
    pub(super) tier: TierRef,
    /// Which of the broker's runs wrote it; a greater one is later.
    pub(super) run: usize,
}

impl Candidate {
    /// What decides between two that reach as far.
    fn age(&self) -> (usize, u64) {
        (self.run, self.tier.object.id.sequence)
    }
}

/// What a look through the bucket came to.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) candidates: BTreeMap<TopicPartition, Vec<Candidate>>,
    /// Objects that could not be read, each with the cause.
    pub(super) damaged: Vec<String>,
}

/// What is looked for.
pub(super) struct Search<'a> {
    pub(super) store: &'a Store,
    /// What the last checkpoint knows, and all partitions of the metadata.
    pub(super) partitions: &'a Partitions,
    pub(super) cluster: [u8; 16],
    /// The broker's runs, oldest first.
    pub(super) writers: &'a [[u8; 16]],
    /// Those whose objects are not adopted.
    pub(super) attempts: &'a [[u8; 16]],
    /// Objects that need no look: garbage, and those that have one section, which is referred to.
    pub(super) settled: HashSet<ObjectId>,
    /// When on the log clock what is adopted counts as appended.
    pub(super) append_time_ms: i64,
}

impl Search<'_> {
    /// Lists the bucket and looks at every object of the flusher that may have something new.
    pub(super) async fn run(&self) -> Result<Listed, RestoreError> {
        let mut listed = Listed::default();
        let mut listing = self.store.list(PREFIX);
        while let Some(page) = listing.next_page().await? {
            let wanted = page.iter().filter_map(|object| {
                let id = ObjectId::parse(&object.key.to_string())?;
                let run = self.writers.iter().position(|writer| *writer == id.incarnation)?;
                let found = ObjectRef { id, bytes: object.bytes, end_bytes: FOOTER_GUESS };
                let is_settled =
                    self.settled.contains(&id) || self.attempts.contains(&id.incarnation);
                (!is_settled).then_some((run, found))
            });
            let wanted: Vec<_> = wanted.collect();
            let looks = stream::iter(wanted).map(|(run, object)| async move {
                (run, object, Reader::new(self.store, object).footer().await)
            });
            let mut looks = looks.buffer_unordered(CONCURRENT);
            while let Some((run, object, footer)) = looks.next().await {
                match footer {
                    Ok(footer) => self.take(&mut listed, run, object, &footer),
                    // Deleted since it was listed.
                    Err(ReadError::Missing { .. }) => {}
                    Err(error @ ReadError::Corrupt { .. }) => {
                        listed.damaged.push(error.to_string());
                    }
                    Err(error @ ReadError::Bucket(_)) => return Err(error.into()),
                }
            }
        }
        Ok(listed)
    }

    /// Takes up the sections of an object of the flusher. What others wrote stands for objects that
    /// are there too.
    fn take(&self, listed: &mut Listed, run: usize, object: ObjectRef, footer: &Footer) {
        let head = footer.head();
        if head.origin != Origin::Flushed || head.cluster != self.cluster {
            return;
        }
        // The footer lies behind the last section.
        let end = footer.sections().last().map_or(0, |last| last.snapshot.range().end);
        let end_bytes = u32::try_from(object.bytes.saturating_sub(end)).unwrap_or(FOOTER_GUESS);
        let object = ObjectRef { end_bytes, ..object };
        for section in footer.sections() {
            // Of all the sections in the bucket few are new.
            let known = self.partitions.get(section.of).map(|partition| partition.bucket_end());
            let is_new = known.is_some_and(|end| end.is_none_or(|end| section.start_offset >= end));
            if !is_new {
                continue;
            }
            let bytes = footer.section_bytes(section);
            // Less than that is merged with its neighbours as a pack is.
            let is_segment = footer.sections().len() == 1 && bytes >= MERGE_BYTES;
            let kind = if is_segment { TierKind::Segment } else { TierKind::Pack };
            let tier = TierRef::to_section(object, footer, section, self.append_time_ms, kind);
            listed.candidates.entry(section.of).or_default().push(Candidate { tier, run });
        }
    }
}

/// The sections that continue a log whose part in the bucket ends at `bucket_end`, in their order.
/// A log that has nothing there is begun by a section that holds its start.
pub(super) fn continuation(
    bucket_end: Option<i64>,
    log_start: i64,
    candidates: &[Candidate],
) -> Vec<Candidate> {
    let mut sorted: Vec<_> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| Reverse(candidate.tier.start_offset));
    // By start, the best section that begins there, and how far the log reaches from it.
    let mut best: BTreeMap<i64, (i64, &Candidate)> = BTreeMap::new();
    for candidate in sorted {
        let TierRef { start_offset, end_offset, .. } = candidate.tier;
        let reach = best.get(&end_offset).map_or(end_offset, |(reach, _)| *reach);
        let is_better = best.get(&start_offset).is_none_or(|(other_reach, other)| {
            (reach, candidate.age()) > (*other_reach, other.age())
        });
        if is_better {
            best.insert(start_offset, (reach, candidate));
        }
    }
    let first = match bucket_end {
        Some(end) => best.get(&end),
        None => best
            .range(..=log_start)
            .map(|(_, first)| first)
            .filter(|(_, first)| first.tier.end_offset > log_start)
            .max_by_key(|(reach, first)| (*reach, first.age())),
    };
    let follow = |(_, before): &&(i64, &Candidate)| best.get(&before.tier.end_offset);
    std::iter::successors(first, follow).map(|(_, candidate)| **candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of the `run`th run under the name `sequence`.
    fn section(run: usize, sequence: u64, offsets: std::ops::Range<i64>) -> Candidate {
        let id = ObjectId { incarnation: [run as u8; 16], sequence };
        let tier = TierRef {
            object: ObjectRef { id, bytes: 100, end_bytes: 10 },
            start_offset: offsets.start,
            end_offset: offsets.end,
            bytes: 50,
            max_timestamp: 1,
            append_time_ms: 1,
            kind: TierKind::Pack,
        };
        Candidate { tier, run }
    }

    fn names(chosen: &[Candidate]) -> Vec<(usize, u64)> {
        chosen.iter().map(Candidate::age).collect()
    }

    #[test]
    fn sections_follow_each_other_without_a_gap() {
        let candidates = [
            section(0, 3, 30..40),
            section(0, 1, 10..20),
            section(0, 5, 60..70),
            section(0, 2, 20..30),
        ];
        assert_eq!(names(&continuation(Some(10), 0, &candidates)), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(names(&continuation(Some(20), 0, &candidates)), [(0, 2), (0, 3)]);
        assert_eq!(names(&continuation(Some(15), 0, &candidates)), []);
        assert_eq!(names(&continuation(Some(40), 0, &[])), []);
    }

    #[test]
    fn the_way_that_reaches_furthest_is_taken() {
        // An upload that was never referred to, and what was uploaded instead.
        let candidates = [
            section(0, 1, 10..30),
            section(1, 0, 10..20),
            section(1, 1, 20..50),
            section(0, 2, 30..40),
        ];
        assert_eq!(names(&continuation(Some(10), 0, &candidates)), [(1, 0), (1, 1)]);
        let same = [section(0, 1, 10..30), section(1, 0, 10..30), section(0, 2, 10..30)];
        assert_eq!(names(&continuation(Some(10), 0, &same)), [(1, 0)]);
    }

    #[test]
    fn a_log_with_nothing_in_the_bucket_begins_with_what_holds_its_start() {
        let candidates = [section(0, 1, 0..10), section(0, 2, 10..20), section(0, 3, 20..30)];
        assert_eq!(names(&continuation(None, 0, &candidates)), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(names(&continuation(None, 15, &candidates)), [(0, 2), (0, 3)]);
        assert_eq!(names(&continuation(None, 20, &candidates)), [(0, 3)]);
        assert_eq!(names(&continuation(None, 30, &candidates)), []);
        assert_eq!(names(&continuation(None, 0, &candidates[1..])), []);
    }
}

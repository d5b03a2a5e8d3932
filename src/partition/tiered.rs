//! What of a partition's log is in the bucket: its references to sections of tiered objects.
//!
//! The references follow from the WAL alone (DESIGN D3): a `CommitTier` record adds and removes
//! some, a `LogStart` record drops those below the log start, and the deletion of the topic drops
//! all. Which object holds what is not asked of the bucket.
//!
//! **Invariant:** references are sorted and leave no gap: each begins where the one before it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::objects::Objects;
use crate::tier::{Footer, ObjectId, ObjectRef, Section};
use crate::wal::Lsn;

/// What an object was made for, as its partitions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TierKind {
    /// It has sections of several partitions; the merger makes segments of them.
    Pack = 1,
    /// It has this partition's section alone.
    Segment = 2,
    /// As a segment, and compaction has gone over it.
    Compacted = 3,
}

/// A section of a tiered object, as its partition refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierRef {
    /// The object.
    pub object: ObjectRef,
    /// The section holds all that the partition has from this offset on.
    pub start_offset: i64,
    /// Up to this offset, which it does not hold.
    pub end_offset: i64,
    /// The bytes of its batches.
    pub bytes: u64,
    /// Their greatest timestamp, -1 if they have none.
    pub max_timestamp: i64,
    /// When its youngest batch was appended, on the log clock.
    pub append_time_ms: i64,
    /// What the object was made for.
    pub kind: TierKind,
}

/// What names a reference that is removed: the object, and where the section begins.
pub type TierRefId = (ObjectId, i64);

impl TierRef {
    /// The reference to `section` of `object`, whose footer is `footer`.
    pub fn to_section(
        object: ObjectRef,
        footer: &Footer,
        section: &Section,
        append_time_ms: i64,
        kind: TierKind,
    ) -> Self {
        Self {
            object,
            start_offset: section.start_offset,
            end_offset: section.end_offset,
            bytes: footer.section_bytes(section),
            max_timestamp: footer.max_timestamp(section),
            append_time_ms,
            kind,
        }
    }

    /// What names it.
    pub fn id(&self) -> TierRefId {
        (self.object.id, self.start_offset)
    }
}

/// What a `CommitTier` record changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierChange {
    /// What goes.
    pub removed: Vec<TierRefId>,
    /// What comes.
    pub added: Vec<TierRef>,
}

/// Length of a reference as it is stored.
pub(super) const REF_BYTES: usize = 77;
/// Length of the name of one.
const REF_ID_BYTES: usize = 32;

/// Writes a reference: object's incarnation 16 bytes and sequence u64, its size u64, the length of
/// its end u32, start and end offset i64, bytes u64, greatest timestamp i64, append time i64, kind
/// u8.
pub(super) fn put_ref(out: &mut Vec<u8>, tier: &TierRef) {
    put_id(out, tier.object.id);
    out.put_u64(tier.object.bytes);
    out.put_u32(tier.object.end_bytes);
    out.put_i64(tier.start_offset);
    out.put_i64(tier.end_offset);
    out.put_u64(tier.bytes);
    out.put_i64(tier.max_timestamp);
    out.put_i64(tier.append_time_ms);
    out.put_u8(tier.kind as u8);
}

fn put_id(out: &mut Vec<u8>, id: ObjectId) {
    out.put_slice(&id.incarnation);
    out.put_u64(id.sequence);
}

/// Reads what [`put_ref`] wrote; `None` if it is something else.
pub(super) fn get_ref(input: &mut impl Buf) -> Option<TierRef> {
    let id = get_id(input)?;
    let object =
        ObjectRef { id, bytes: input.try_get_u64().ok()?, end_bytes: input.try_get_u32().ok()? };
    let tier = TierRef {
        object,
        start_offset: input.try_get_i64().ok()?,
        end_offset: input.try_get_i64().ok()?,
        bytes: input.try_get_u64().ok()?,
        max_timestamp: input.try_get_i64().ok()?,
        append_time_ms: input.try_get_i64().ok()?,
        kind: match input.try_get_u8().ok()? {
            1 => TierKind::Pack,
            2 => TierKind::Segment,
            3 => TierKind::Compacted,
            _ => return None,
        },
    };
    (tier.start_offset >= 0 && tier.start_offset < tier.end_offset).then_some(tier)
}

fn get_id(input: &mut impl Buf) -> Option<ObjectId> {
    let mut incarnation = [0; 16];
    input.try_copy_to_slice(&mut incarnation).ok()?;
    Some(ObjectId { incarnation, sequence: input.try_get_u64().ok()? })
}

impl TierChange {
    /// How many bytes it takes in a record.
    pub(super) fn len(&self) -> usize {
        8 + self.removed.len() * REF_ID_BYTES + self.added.len() * REF_BYTES
    }

    /// Writes it: count of removed u32, count of added u32, the removed (object 24 bytes, start
    /// offset i64), the added.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.removed.len() as u32);
        out.put_u32(self.added.len() as u32);
        for (id, start_offset) in &self.removed {
            put_id(out, *id);
            out.put_i64(*start_offset);
        }
        for added in &self.added {
            put_ref(out, added);
        }
    }

    /// Reads what [`TierChange::put`] wrote; `None` if it is something else.
    pub(super) fn get(mut input: &[u8]) -> Option<Self> {
        let removed = input.try_get_u32().ok()? as usize;
        let added = input.try_get_u32().ok()? as usize;
        let bytes = removed.checked_mul(REF_ID_BYTES)?.checked_add(added.checked_mul(REF_BYTES)?);
        if bytes != Some(input.len()) {
            return None;
        }
        let mut change = TierChange::default();
        for _ in 0..removed {
            let id = get_id(&mut input)?;
            change.removed.push((id, input.try_get_i64().ok()?));
        }
        for _ in 0..added {
            change.added.push(get_ref(&mut input)?);
        }
        Some(change)
    }
}

/// A partition's references. They are counted in [`Objects`] from when they come until they go.
#[derive(Debug)]
pub(super) struct Tier {
    refs: VecDeque<TierRef>,
    bytes: u64,
    objects: Arc<Objects>,
}

impl Tier {
    pub(super) fn new(objects: &Arc<Objects>) -> Self {
        Self { refs: VecDeque::new(), bytes: 0, objects: Arc::clone(objects) }
    }

    /// Behind the last offset in the bucket; `None` if nothing is there.
    pub(super) fn end(&self) -> Option<i64> {
        self.refs.back().map(|last| last.end_offset)
    }

    /// Where the compacted sections that begin the log end; 0 if it begins with another.
    pub(super) fn compacted_end(&self) -> i64 {
        let compacted = self.refs.iter().take_while(|tier| tier.kind == TierKind::Compacted);
        compacted.last().map_or(0, |last| last.end_offset)
    }

    /// The bytes of all sections.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All references, oldest first.
    pub(super) fn refs(&self) -> impl ExactSizeIterator<Item = &TierRef> {
        self.refs.iter()
    }

    /// The reference whose section holds `offset`.
    pub(super) fn at(&self, offset: i64) -> Option<&TierRef> {
        let behind = self.refs.partition_point(|tier| tier.end_offset <= offset);
        self.refs.get(behind).filter(|tier| tier.start_offset <= offset)
    }

    /// Takes up a reference that a checkpoint held.
    pub(super) fn restore(&mut self, tier: TierRef) {
        self.insert(tier);
    }

    /// Applies a record. What lies wholly below the log start is not taken up.
    pub(super) fn apply(&mut self, change: &TierChange, log_start: i64, lsn: Lsn) {
        // What comes first, so that an object that stays in use is not garbage in between.
        for added in &change.added {
            self.objects.retain(&added.object);
        }
        if !change.removed.is_empty() {
            let (objects, bytes) = (&self.objects, &mut self.bytes);
            self.refs.retain(|tier| {
                let goes = change.removed.contains(&tier.id());
                if goes {
                    *bytes -= tier.bytes;
                    objects.release(&tier.object, lsn);
                }
                !goes
            });
        }
        for added in &change.added {
            if added.end_offset > log_start {
                self.insert(*added);
            }
            self.objects.release(&added.object, lsn);
        }
    }

    /// Drops the references that lie wholly below the log start.
    pub(super) fn trim(&mut self, log_start: i64, lsn: Lsn) {
        while let Some(first) = self.refs.pop_front_if(|first| first.end_offset <= log_start) {
            self.bytes -= first.bytes;
            self.objects.release(&first.object, lsn);
        }
        if self.refs.is_empty() {
            self.refs = VecDeque::new();
        }
    }

    /// Drops all references.
    pub(super) fn clear(&mut self, lsn: Lsn) {
        self.trim(i64::MAX, lsn);
    }

    /// Leaves what a change would add to whoever deletes garbage.
    pub(super) fn discard(&self, change: &TierChange) {
        change.added.iter().for_each(|added| self.objects.discard(added.object));
    }

    fn insert(&mut self, tier: TierRef) {
        self.objects.retain(&tier.object);
        self.bytes += tier.bytes;
        let at = self.refs.partition_point(|other| other.start_offset < tier.start_offset);
        self.refs.insert(at, tier);
    }
}

impl Drop for Tier {
    /// The view is gone: it was replaced by a later one, or its topic is not known.
    fn drop(&mut self) {
        self.clear(Lsn::ZERO);
    }
}

/// The references after changes that are not durable yet.
pub(super) fn latest<'a>(
    tier: &Tier,
    pending: impl Iterator<Item = &'a TierChange>,
    log_start: i64,
) -> Vec<TierRef> {
    let mut refs: Vec<TierRef> = tier.refs().copied().collect();
    for change in pending {
        refs.retain(|tier| !change.removed.contains(&tier.id()));
        refs.extend(&change.added);
    }
    refs.retain(|tier| tier.end_offset > log_start);
    refs.sort_by_key(|tier| tier.start_offset);
    refs
}

/// Whether references leave no gap.
pub(super) fn is_gapless(refs: &[TierRef]) -> bool {
    refs.windows(2)
        .all(|pair| matches!(pair, [before, next] if before.end_offset == next.start_offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(sequence: u64, offsets: std::ops::Range<i64>) -> TierRef {
        let id = ObjectId { incarnation: [0x1f; 16], sequence };
        TierRef {
            object: ObjectRef { id, bytes: 1_000, end_bytes: 200 },
            start_offset: offsets.start,
            end_offset: offsets.end,
            bytes: 700,
            max_timestamp: 5_000 + offsets.end,
            append_time_ms: 6_000,
            kind: TierKind::Segment,
        }
    }

    fn change(removed: &[TierRef], added: &[TierRef]) -> TierChange {
        let removed = removed.iter().map(TierRef::id).collect();
        TierChange { removed, added: added.to_vec() }
    }

    /// The bytes as the first release wrote them: a change here is a change of the format.
    #[test]
    fn a_change_is_stored_as_the_first_release_stored_it() {
        let (old, new) = (section(1, 0..10), section(2, 0..258));
        let change = change(&[old], &[new]);
        let mut bytes = Vec::new();
        change.put(&mut bytes);
        assert_eq!(bytes.len(), change.len());
        let hex = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let id = |sequence: u64| format!("{}{sequence:016x}", "1f".repeat(16));
        let added = "00000000000003e8000000c80000000000000000000000000000010200000000000002bc\
                     000000000000148a000000000000177002";
        let removed = format!("{}0000000000000000", id(1));
        assert_eq!(hex, format!("0000000100000001{removed}{}{added}", id(2)));
        assert_eq!(TierChange::get(&bytes), Some(change));
    }

    #[test]
    fn what_is_no_change_is_not_read_as_one() {
        let mut bytes = Vec::new();
        change(&[section(1, 0..10)], &[section(2, 0..258)]).put(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(TierChange::get(&bytes[..cut]), None, "{cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(TierChange::get(&longer), None);
        let mut kind = bytes.clone();
        *kind.last_mut().unwrap() = 9;
        assert_eq!(TierChange::get(&kind), None);
        let counts = [0xff; 8];
        assert_eq!(TierChange::get(&counts), None);
    }

    #[test]
    fn sections_come_and_go_and_their_objects_are_counted() {
        let objects = Arc::new(Objects::default());
        let mut tier = Tier::new(&objects);
        let (a, b, c) = (section(1, 0..10), section(2, 10..20), section(3, 20..30));
        tier.apply(&change(&[], &[a]), 0, Lsn(1));
        tier.apply(&change(&[], &[b]), 0, Lsn(2));
        tier.apply(&change(&[], &[c]), 0, Lsn(3));
        assert_eq!((tier.end(), tier.bytes(), objects.used()), (Some(30), 2_100, 3));
        assert_eq!(tier.at(9), Some(&a));
        assert_eq!(tier.at(10), Some(&b));
        assert_eq!((tier.at(-1), tier.at(30)), (None, None));
        let merged = section(4, 0..20);
        tier.apply(&change(&[a, b], &[merged]), 0, Lsn(4));
        assert_eq!(tier.refs().copied().collect::<Vec<_>>(), [merged, c]);
        assert_eq!(objects.garbage().len(), 2);
        tier.trim(20, Lsn(5));
        assert_eq!(tier.refs().copied().collect::<Vec<_>>(), [c]);
        assert_eq!((tier.bytes(), objects.garbage().len()), (700, 3));
        assert!(objects.garbage().iter().all(|garbage| garbage.dropped >= Lsn(4)));
        drop(tier);
        assert_eq!((objects.used(), objects.garbage().len()), (0, 4));
    }

    #[test]
    fn what_comes_below_the_log_start_is_garbage_at_once() {
        let objects = Arc::new(Objects::default());
        let mut tier = Tier::new(&objects);
        tier.apply(&change(&[], &[section(1, 0..10)]), 10, Lsn(7));
        assert_eq!((tier.end(), tier.bytes()), (None, 0));
        assert_eq!(objects.garbage().first().map(|garbage| garbage.dropped), Some(Lsn(7)));
    }

    #[test]
    fn a_gap_is_seen_with_changes_that_are_not_durable() {
        let objects = Arc::new(Objects::default());
        let mut tier = Tier::new(&objects);
        tier.apply(&change(&[], &[section(1, 0..10)]), 0, Lsn(1));
        let pending = [change(&[], &[section(2, 10..20)]), change(&[], &[section(3, 30..40)])];
        assert!(is_gapless(&latest(&tier, pending[..1].iter(), 0)));
        assert!(!is_gapless(&latest(&tier, pending.iter(), 0)));
        assert!(is_gapless(&latest(&tier, pending.iter(), 20)));
    }
}

//! Which partition to clean, and how much of it may be (`LogCleanerManager`, `LogToClean`).

use crate::partition::{TierKind, TierRef};

/// When a topic is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionLimits {
    /// `min.cleanable.dirty.ratio`: the share of dirty bytes above which a partition is cleaned.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: records that were appended less than this ago stay as they are.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: a partition with older dirty records is cleaned whatever the
    /// ratio is (KIP-354).
    pub max_lag_ms: i64,
}

/// What there is to clean in one partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirt {
    /// Where the last cleaning ended.
    pub first_dirty: i64,
    /// Where the next one must end: the start of the first section that is too young or reaches
    /// above the last stable offset, or the end of all.
    pub first_uncleanable: i64,
    /// Bytes below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes from there to the first uncleanable offset.
    pub dirty_bytes: u64,
    /// For how long the oldest of them has been overdue, in milliseconds.
    pub overdue_ms: i64,
}

impl Dirt {
    /// Looks at what of a partition is in the bucket; `None` if nothing is. The last cleaning ended
    /// where the sections end that begin the log and are compacted, or at `resumed`, in the middle
    /// of the one behind them, if it was cut there.
    ///
    /// Age is that of the append, on the clock of the log, where Kafka takes the records'
    /// timestamps: a producer that sets those can neither hurry compaction nor stop it, and a jump
    /// of the wall clock changes nothing. It is known of a section's youngest batch only. Records
    /// may therefore wait longer than `max.compaction.lag.ms` by what their section took to fill,
    /// at most `tier.max.age.ms`.
    pub fn of(
        refs: &[TierRef],
        resumed: Option<i64>,
        last_stable: i64,
        now_ms: i64,
        limits: CompactionLimits,
    ) -> Option<Self> {
        let start = refs.first()?.start_offset;
        let compacted = refs.iter().take_while(|tier| tier.kind == TierKind::Compacted);
        let cleaned = compacted.last().map_or(start, |last| last.end_offset);
        let next = refs.iter().find(|tier| tier.start_offset == cleaned);
        let is_next = |at: &i64| next.is_some_and(|next| (cleaned..next.end_offset).contains(at));
        let first_dirty = resumed.filter(is_next).unwrap_or(cleaned);
        let mut dirt = Self {
            first_dirty,
            first_uncleanable: first_dirty,
            clean_bytes: 0,
            dirty_bytes: 0,
            overdue_ms: 0,
        };
        for tier in refs {
            if tier.end_offset <= first_dirty {
                dirt.clean_bytes = dirt.clean_bytes.saturating_add(tier.bytes);
                continue;
            }
            let age_ms = now_ms.saturating_sub(tier.append_time_ms);
            let is_young = limits.min_lag_ms > 0 && age_ms < limits.min_lag_ms;
            if is_young || tier.end_offset > last_stable {
                break;
            }
            dirt.dirty_bytes = dirt.dirty_bytes.saturating_add(tier.bytes);
            dirt.first_uncleanable = tier.end_offset;
            let overdue_ms = age_ms.saturating_sub(limits.max_lag_ms.max(0));
            dirt.overdue_ms = dirt.overdue_ms.max(overdue_ms);
        }
        Some(dirt)
    }

    /// The share of dirty bytes among those that are not uncleanable; 0 of none.
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes.saturating_add(self.dirty_bytes);
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }

    /// Whether the partition is to be cleaned.
    pub fn is_due(&self, limits: CompactionLimits) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.ratio() > limits.min_dirty_ratio)
    }

    /// The dirtiest of the partitions that are to be cleaned.
    pub fn filthiest<T>(due: impl IntoIterator<Item = (T, Self)>) -> Option<(T, Self)> {
        due.into_iter().max_by(|(_, one), (_, other)| one.ratio().total_cmp(&other.ratio()))
    }
}

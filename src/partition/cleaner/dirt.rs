//! Which partition to clean, and how much of it may be (`LogCleanerManager`, `LogToClean`).

/// A section of a partition that may be rewritten: whole batches, all of them durable and tiered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first offset that it covers.
    pub start_offset: i64,
    /// The offset behind the last one that it covers.
    pub end_offset: i64,
    /// The bytes of its batches.
    pub bytes: u64,
    /// Their greatest timestamp in milliseconds, -1 for none.
    pub max_timestamp: i64,
    /// When the youngest of them was appended, in milliseconds of the log's clock.
    pub append_time_ms: i64,
}

/// When a topic is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionLimits {
    /// `min.cleanable.dirty.ratio`: the share of dirty bytes above which a partition is cleaned.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: records younger than this stay as they are.
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
    /// Where the next one must end: the start of the first span that is too young or reaches above
    /// the last stable offset, or the end of all.
    pub first_uncleanable: i64,
    /// Bytes below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes from there to the first uncleanable offset.
    pub dirty_bytes: u64,
    /// For how long the oldest of them has been overdue, in milliseconds.
    pub overdue_ms: i64,
}

impl Dirt {
    /// Looks at a partition's spans, which are sorted and without gaps. `cleaned` is the end of the
    /// last cleaning, if one is known; `None` if there is no span.
    ///
    /// The greatest timestamp of a span decides whether it is too young, as that of a segment does
    /// in Kafka. For `max.compaction.lag.ms` Kafka takes the first timestamp of a segment; here it
    /// is the time at which the span's youngest batch was appended, or its greatest timestamp if
    /// that is earlier: later by as long as the span took to fill, at most `tier.max.age.ms`.
    pub fn of(
        spans: &[Span],
        cleaned: Option<i64>,
        last_stable: i64,
        now_ms: i64,
        limits: CompactionLimits,
    ) -> Option<Self> {
        let (start, end) = (spans.first()?.start_offset, spans.last()?.end_offset);
        // Records below the clean point may be gone, and the point may be of another log.
        let first_dirty = cleaned.filter(|at| (start..=end).contains(at)).unwrap_or(start);
        let mut dirt = Self {
            first_dirty,
            first_uncleanable: first_dirty,
            clean_bytes: 0,
            dirty_bytes: 0,
            overdue_ms: 0,
        };
        for span in spans {
            if span.end_offset <= first_dirty {
                dirt.clean_bytes = dirt.clean_bytes.saturating_add(span.bytes);
                continue;
            }
            let age_ms = now_ms.saturating_sub(span.timestamp());
            let is_young = limits.min_lag_ms > 0 && age_ms < limits.min_lag_ms;
            if is_young || span.end_offset > last_stable {
                break;
            }
            dirt.dirty_bytes = dirt.dirty_bytes.saturating_add(span.bytes);
            dirt.first_uncleanable = span.end_offset;
            let waited_ms = now_ms.saturating_sub(span.timestamp().min(span.append_time_ms));
            let overdue_ms = waited_ms.saturating_sub(limits.max_lag_ms.max(0));
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

impl Span {
    /// Its greatest timestamp, or the time of its append if its records have none.
    fn timestamp(&self) -> i64 {
        if self.max_timestamp < 0 { self.append_time_ms } else { self.max_timestamp }
    }
}

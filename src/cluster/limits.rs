//! How large the metadata may become.

use tracing::warn;

use super::image::ClusterImage;
use super::snapshot::{IMAGE_BYTES, stored_bytes};

/// The most bytes of a stored image that changes make: far fewer than the most that are read.
pub(super) const MAX_IMAGE_BYTES: u64 = IMAGE_BYTES / 2;

/// What part of the memory budget the stored image may take: it is in memory once as the image,
/// and as bytes for a moment whenever it is written.
pub(super) const IMAGE_SHARE: u64 = 32;

/// The most partitions of all topics together (DESIGN D12 is made for this many).
pub(super) const MAX_PARTITIONS: i64 = 200_000;

/// How much of the memory budget there must be for each partition. One that was never written to
/// takes about 480 bytes, so all together take a tenth of the budget, beside its pools.
pub(super) const BUDGET_BYTES_PER_PARTITION: u64 = 5 << 10;

/// What changes may make of the cluster. A cluster that is larger already (its broker had more
/// memory, or was another) is opened; only what makes it larger is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many partitions all topics together may have.
    pub partitions: i64,
    /// How many bytes the stored image may take, far fewer than the most that are read.
    pub image_bytes: u64,
}

impl Limits {
    /// What a broker with a memory budget of so many bytes can hold.
    pub fn of_budget(bytes: u64) -> Self {
        let partitions = i64::try_from(bytes / BUDGET_BYTES_PER_PARTITION).unwrap_or(i64::MAX);
        let image_bytes = (bytes / IMAGE_SHARE).min(MAX_IMAGE_BYTES);
        Self { partitions: partitions.min(MAX_PARTITIONS), image_bytes }
    }

    /// Tells the operator of a cluster that is larger than this.
    pub(super) fn warn_if_exceeded(self, image: &ClusterImage) {
        let (partitions, limit) = (image.partition_count(), self.partitions);
        if partitions > limit {
            warn!(
                partitions,
                limit,
                "the cluster has more partitions than this broker's memory.budget.bytes is for; \
                 it gets no more until some are deleted or the budget is raised"
            );
        }
        let (bytes, limit) = (stored_bytes(image), self.image_bytes);
        if bytes > limit {
            warn!(
                bytes,
                limit,
                "the metadata takes more than this broker's part for it; topics can only be \
                 deleted until memory.budget.bytes is raised"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_a_part_of_the_budget_and_an_end() {
        let of = |budget| Limits::of_budget(budget).partitions;
        assert_eq!([of(0), of(64 << 20), of(1 << 30), of(u64::MAX)], [0, 13_107, 200_000, 200_000]);
    }

    #[test]
    fn the_image_has_a_part_of_the_budget_and_can_always_be_read_again() {
        let of = |budget| Limits::of_budget(budget).image_bytes;
        assert_eq!([of(64 << 20), of(1 << 30)], [2 << 20, 32 << 20]);
        // An entry more than allowed would still be read.
        assert!(of(u64::MAX) + super::super::load::ENTRY_BYTES as u64 <= IMAGE_BYTES);
    }
}

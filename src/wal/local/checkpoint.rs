//! Checkpoints: a base and deltas of what partitions know, beside the log.

/// The published checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {}

//! Log compaction: of each key the last record stays, offsets never change (Kafka's `Cleaner`,
//! `LogCleanerManager`, `MemoryRecords.filterTo`; KIP-58, KIP-354, KIP-534).
//!
//! ```text
//!  log start          first dirty           end of the pass     first uncleanable
//!      │    one record     │    keys are read      │   the next pass    │   not yet: unstable,
//!      │    per key        │    into the map       │   begins here      │   too young, not tiered
//!  ────┴───────────────────┴───────────────────────┴────────────────────┴──────────────▶ offsets
//!      └──────────── records are dropped ──────────┘
//! ```
//!
//! The broker's cleaner chooses a partition ([`Dirt`]), reads its dirty batches into a [`KeyScan`],
//! turns that into a [`Pass`], and sends every batch from the log start to the end of the pass
//! through it, in the order of the log. This module does neither input nor output, takes no lock
//! and knows no clock: batches come in, batches go out.
//!
//! **Invariants**
//! - A record is dropped only if a later one of its key is below the first uncleanable offset, if
//!   it is a tombstone whose time has come, or if it has no key.
//! - What is kept has the same offset, timestamp, key, value and headers, in the same order. A
//!   batch that loses nothing is passed on byte for byte.
//! - A batch that cannot be read is passed on byte for byte and counted; nothing in it makes any
//!   other record go, and no tombstone behind it does, for which it may hold an older value.
//! - Cleaning what is clean changes nothing: a pass may be cut anywhere and be done again.
//! - Memory is the map's, whose bytes the caller gives and charges, and one batch's:
//!   [`batch_memory`].

mod dirt;
mod key_map;
mod live;
mod pass;
mod scan;
mod sip;
#[cfg(test)]
mod tests;

pub use dirt::{CompactionLimits, Dirt};
pub use key_map::KeyMap;
pub use pass::{Cleaned, LastRecord, Pass, Retention};
pub use scan::KeyScan;

use bytes::Bytes;

use crate::protocol::batch::{Batch, BatchError};
use crate::protocol::compression::DecompressError;

/// The largest payload that is looked into, whatever the caller allows: what it may grow to when
/// it is written again still has a length that a batch's header can say.
const PAYLOAD_BYTES_MAX: usize = 512 << 20;

/// Bytes that cleaning one batch may hold at once, beside the batch as it came, where payloads are
/// bounded by `payload_max`: the records, and what is written of them, of which one byte in seven
/// may become ten.
pub fn batch_memory(payload_max: usize) -> usize {
    payload_max.saturating_mul(4)
}

/// The records of a batch, decompressed, once all of it is known to be sound: its checksum, its
/// payload, and offsets that rise and stay below the batch's last.
fn unpack(batch: &Batch, payload_max: usize) -> Result<Bytes, BatchError> {
    batch.verify_crc()?;
    let max = payload_max.min(PAYLOAD_BYTES_MAX);
    let payload = batch.payload(max)?;
    if payload.len() > max {
        let codec = batch.header().compression()?;
        return Err(DecompressError::TooLarge { codec, max }.into());
    }
    let mut least = 0;
    for (index, record) in (0i32..).zip(batch.records(&payload)) {
        let record = record.map_err(|source| BatchError::Record { index, source })?;
        let offset_delta = record.offset_delta;
        if offset_delta < least || offset_delta > batch.header().last_offset_delta {
            return Err(BatchError::OffsetDelta { index, offset_delta });
        }
        least = offset_delta.saturating_add(1);
    }
    Ok(payload)
}

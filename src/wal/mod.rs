//! The write-ahead log: one stream of numbered records for all partitions, whose sync is the commit
//! of everything the broker acknowledges (DESIGN §5).
//!
//! `partition` appends and reads, `broker` checkpoints and trims, `run` opens and closes. The room
//! knows record kinds as numbers and payloads as bytes; what they mean is the appender's business.
//!
//! ```text
//!  appenders ── admit ─ reserve ─ put ─ fill ──┐            (bytes: the only copy is into a block)
//!                                              ▼
//!              queue of groups   [ filling ] [ filled ] ──▶ WAL thread: write, sync, publish
//!                                                               │            │
//!              file:  header │ group │ group │ group │ free …   │            ├─▶ Owner::durable
//!              LSN:            1 2 3   4 5     6                ▼            └─▶ waiting tasks
//!                                     ▲ durable      ▲ reserved
//! ```
//!
//! **Room before offsets.** [`Stream::reserve`] hands out an LSN and a [`Location`] only in file
//! space that is allocated and synced; a second thread writes zeros ahead of the writer. Without
//! room nothing changes and [`Stream::wait_for_room`] waits while space is being prepared.
//!
//! **Memory.** A record is written by its appender into a recycled block and frozen; the same bytes
//! go to the file and to readers at the tail. In-flight bytes are charged to the WAL pool, durable
//! ones to the tail pool; the oldest are taken back through [`Owner::evict`], and what responses
//! still hold counts as send.
//!
//! **Invariants**
//! - LSNs are dense: 1, 2, 3, … in the order of reservation, also across restarts.
//! - A record is durable only when all records before it are.
//! - After the first failed sync nothing is ever durable again ([`Stream::poisoned`]).
//! - Bytes leave a file only after their generation and crc were checked.
//! - A file is used again only when a published checkpoint covers its records, a synced Trim record
//!   says that nobody needs them, and no [`Pin`] holds it.

mod admission;
mod block;
pub mod check;
pub mod disk;
mod durable;
mod format;
mod group;
pub mod local;
mod log_clock;
pub mod memory;
mod metrics;
mod read;
mod room;
mod stream;

use std::fmt;

pub use admission::{Admission, AdmitError, ReserveError, RoomError};
pub use durable::{Poisoned, WaitDurable};
pub use group::Reservation;
pub use log_clock::LogClock;
pub use metrics::Metrics;
pub use read::{CHUNK_BYTES, Entry, Pin, ReadError};
pub use stream::{Lingering, RECORD_OVERHEAD, Stream};

/// Numbers the records of the stream from 1 without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record: nothing.
    pub const ZERO: Lsn = Lsn(0);

    /// The LSN after this one.
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }

    /// The LSN before this one; [`Lsn::ZERO`] has none and stays.
    pub fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is, as a number. The room below `partition` gives meaning only to its own two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// The log's own record that names a published checkpoint. Replay does not hand it out.
    pub const CHECKPOINT: Kind = Kind(254);
    /// The log's own record that says below which LSN nobody needs bytes. Replay does not hand it
    /// out.
    pub const TRIM: Kind = Kind(255);

    /// Whether the log writes records of this kind itself; appenders must not.
    pub fn is_reserved(self) -> bool {
        matches!(self, Kind::CHECKPOINT | Kind::TRIM)
    }
}

/// Which of the reserved space a record may use (DESIGN §5: two files are a reserve).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Records of user topics: never from the reserve.
    Data,
    /// Records of internal topics: also from the first reserve file.
    Internal,
    /// Records that lead to space being freed (`CommitTier`, `Drop`, `Trim`, `Checkpoint`, the
    /// `LogStart` of retention): also from the last reserve file.
    Housekeeping,
}

impl Class {
    /// How many ready files must remain after this class took one.
    fn leaves(self) -> usize {
        match self {
            Class::Data => 2,
            Class::Internal => 1,
            Class::Housekeeping => 0,
        }
    }

    /// The class's name as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Class::Data => "data",
            Class::Internal => "internal",
            Class::Housekeeping => "housekeeping",
        }
    }
}

/// Numbers the uses of WAL files: rising, never reused; a recycled file gets a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(pub u64);

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file.
    pub file: FileNumber,
    /// Where the record's header starts in the file.
    pub position: u64,
    /// Length of the payload, without the header.
    pub len: u32,
}

impl Location {
    /// Where the record ends in the file.
    pub fn end(&self) -> u64 {
        self.position + RECORD_OVERHEAD as u64 + u64::from(self.len)
    }
}

/// Something whose records are in the stream (a partition).
///
/// Both calls come from the WAL's thread, without any lock of the WAL held, and must not block: a
/// short plain mutex is fine, waiting is not.
pub trait Owner: Send + Sync + fmt::Debug {
    /// Records of this owner have become durable; all records up to `durable` are.
    fn durable(&self, durable: Lsn);

    /// The memory of records up to `upto` is being taken back: drop their slices and read them from
    /// their locations from now on.
    fn evict(&self, upto: Lsn);
}

#[cfg(test)]
mod tests;

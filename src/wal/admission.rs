//! What an append may take of memory and of the log's files, and why it gets neither.

use std::sync::Arc;

use super::durable::Poisoned;
use crate::budget::{Charge, TooLarge};

/// Bytes of the WAL pool for one request, to be used up by its reservations. What is left when it
/// is dropped goes back to the pool.
#[derive(Debug)]
pub struct Admission {
    charge: Charge,
    is_charged: bool,
}

impl Admission {
    /// An admission of nothing, for records without payload.
    pub fn none() -> Self {
        Self::of(Charge::none())
    }

    /// An admission of whatever is asked, charged to nobody: for the few small records that lead to
    /// space being given back. Whoever waits for that space holds the pool.
    pub fn uncharged() -> Self {
        Self { charge: Charge::none(), is_charged: false }
    }

    pub(super) fn of(charge: Charge) -> Self {
        Self { charge, is_charged: true }
    }

    /// Payload bytes that can still be reserved with it, if it is charged.
    pub fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// What a reservation takes its bytes of, if it must.
    pub(super) fn charge(&mut self) -> Option<&mut Charge> {
        self.is_charged.then_some(&mut self.charge)
    }
}

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// More bytes than the WAL pool ever holds.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why no place was reserved. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// No file space is ready: leave the lock and go to [`super::Stream::wait_for_room`].
    #[error("no space is ready in the write-ahead log")]
    NoRoom,
    /// The log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The record fits no file.
    #[error("a record of {bytes} bytes is more than the {limit} that a file holds")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The admission covers less than the record: a bug of the caller.
    #[error("a record of {bytes} bytes was reserved with {admitted} admitted")]
    Unadmitted {
        /// Bytes of the payload.
        bytes: usize,
        /// What the admission had left.
        admitted: usize,
    },
}

/// Why there is no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// None can be had now: answer with a retriable error. Asking again later tries again.
    #[error("the write-ahead log is full: {reason}")]
    Full {
        /// What refused the space.
        reason: Arc<str>,
    },
    /// The log has stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// No file is ever large enough.
    #[error("a record of {bytes} bytes is more than the {limit} that a file holds")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The most there can be.
        limit: usize,
    },
}

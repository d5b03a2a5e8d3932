//! Which checkpoints of a log count: the last base and the deltas that follow from it.
//!
//! A run that was killed leaves a checkpoint without its end. It counts for nothing, and what
//! follows is a checkpoint that builds on the last whole one.

use super::format::{End, Head, Place, Summary};
use crate::object::WriterId;

/// A whole checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) end: End,
}

/// An entry that does not follow from those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Astray {
    /// It belongs to a checkpoint whose entries before it are not there.
    #[error("it goes on with the checkpoint of entry {first}, which does not stand before it")]
    Middle {
        /// The checkpoint's first entry.
        first: u64,
    },
    /// It is a delta to another checkpoint than the last.
    #[error("it builds on checkpoint {previous} of base {base}, which is not the last before it")]
    Delta {
        /// The checkpoint that it builds on.
        previous: u64,
        /// That one's base.
        base: u64,
    },
}

/// Goes through the entries of a log in order.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The last whole base and its deltas.
    pub(super) whole: Vec<Whole>,
    open: Option<(Place, WriterId)>,
}

impl Scan {
    /// The next entry.
    pub(super) fn push(
        &mut self,
        number: u64,
        writer: WriterId,
        head: &Head,
    ) -> Result<(), Astray> {
        let place = head.place;
        if place.first == number {
            self.begin(place)?;
            self.open = Some((place, writer));
        } else if self.open != Some((place, writer)) {
            return Err(Astray::Middle { first: place.first });
        }
        if let Some(end) = head.end {
            self.open = None;
            if place.is_base() {
                self.whole.clear();
            }
            self.whole.push(Whole { first: place.first, last: number, end });
        }
        Ok(())
    }

    fn begin(&self, place: Place) -> Result<(), Astray> {
        let is_next = |whole: &Whole| whole.first == place.previous;
        let base = self.whole.first().map(|base| base.first);
        if place.is_base() || base == Some(place.base) && self.whole.last().is_some_and(is_next) {
            return Ok(());
        }
        Err(Astray::Delta { previous: place.previous, base: place.base })
    }

    /// What the last whole checkpoint says of itself.
    pub(super) fn summary(&self) -> Option<Summary> {
        self.whole.last().map(|whole| whole.end.summary)
    }
}

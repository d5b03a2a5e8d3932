//! Responses that carry records, rewritten while they stream: `Fetch` and `ShareFetch`, whose size
//! nothing but the upstream's settings bounds.
//!
//! A [`Cursor`] is fed a body in chunks of any size and says how many leading bytes of what it sees
//! are final. Records are skipped by their length, neither held nor looked at. What it changes
//! keeps its length, since the frame's has been sent:
//!
//! | where | what becomes of it |
//! |---|---|
//! | `PreferredReadReplica`, `CurrentLeader` without a route | -1, as in [`super::rewrite`] |
//! | `NodeEndpoints`, behind all records | as in [`super::rewrite`]; a tag that nobody knows fills what is left. All of them are left out where the new ones need more room, or one byte less: a tag takes two |
//! | tags that the shape does not know | as long as before, zeros under a number that nobody knows; with less than six bytes in all they have no room for an address, and stay |
//!
//! Texts are not looked at, so that one that is not UTF-8 goes on. Whatever else [`super::rewrite`]
//! refuses is refused here, and before the last byte has gone on: no client has a whole frame then.

mod place;
mod tags;
mod tail;
mod walk;

use place::{Place, Stop};
use walk::Walk;

use super::{Routes, UpstreamNode};
use crate::protocol::guard::shape::{self, Message};
use crate::protocol::guard::{Fault, GuardError};

/// What is behind the last partition, the nodes' addresses above all, is held whole and may have
/// this many bytes: there are a thousand nodes in so many, and what Kafka lists are leaders that
/// have just moved. Also the most bytes that a [`Cursor`] ever leaves for the next chunk.
pub const HELD_BYTES_MAX: usize = 64 << 10;

/// The APIs with records in their responses: `Fetch` and `ShareFetch`.
const KEYS: [i16; 2] = [1, 78];

/// Why a response goes no further: it is not what Kafka answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The body is not a message of this API and version.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// What is behind the partitions is above [`HELD_BYTES_MAX`].
    #[error(
        "{api} v{version} response has {bytes} bytes behind its partitions, above the limit of \
         {HELD_BYTES_MAX}"
    )]
    TailTooLarge {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// How many bytes there are.
        bytes: usize,
    },
    /// What was left out behind the partitions cannot be filled: a single byte behind the message.
    #[error("{api} v{version} response has {bytes} byte behind its end")]
    Unfilled {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// How many bytes remain.
        bytes: usize,
    },
}

/// What a [`Cursor`] has done.
#[derive(Debug, Default)]
pub struct Streamed {
    /// How many places were changed.
    pub edits: usize,
    /// The brokers in the response, in its order; some may stand there twice.
    pub nodes: Vec<UpstreamNode>,
}

/// A place in a response that is on its way, and what lies ahead there.
///
/// After an error nothing more of the response may go on.
#[derive(Debug)]
pub struct Cursor {
    message: &'static Message,
    body_bytes: usize,
    walk: Walk,
}

impl Cursor {
    /// At the start of the response to `key` in `version`, of `body_bytes` behind its header;
    /// nothing if such responses are not rewritten in this way.
    pub fn new(key: i16, version: i16, body_bytes: usize) -> Option<Self> {
        let message = shape::response(key)
            .filter(|message| KEYS.contains(&message.key) && message.versions.contains(version))?;
        Some(Self { message, body_bytes, walk: Walk::new(message, version, body_bytes) })
    }

    /// Looks at the next bytes of the body, changes what must change in them, and says how many are
    /// final. The rest must be there again next time, followed by what has come since; these are at
    /// most [`HELD_BYTES_MAX`]. With the body's last byte among `bytes`, all of them are final; a
    /// body without any must be shown too.
    ///
    /// Bytes that have become final earlier must not be in `bytes`; those behind the body's end are
    /// not looked at.
    pub fn advance(
        &mut self,
        bytes: &mut [u8],
        routes: &impl Routes,
    ) -> Result<usize, StreamError> {
        let mut place = Place::new(bytes, self.walk.left());
        match self.walk.run(&mut place, routes) {
            Ok(()) | Err(Stop::Wait) => Ok(place.at()),
            Err(Stop::Fault(fault)) => Err(self.malformed(fault)),
            Err(Stop::Tail(error)) => Err(error),
        }
    }

    /// How many bytes of the body are not final yet.
    pub fn left(&self) -> usize {
        self.walk.left()
    }

    /// What was done so far: all, when nothing is left.
    pub fn finish(self) -> Streamed {
        self.walk.finish()
    }

    fn malformed(&self, fault: Fault) -> StreamError {
        let (version, field) = self.walk.reads();
        let offset = self.body_bytes - self.walk.left();
        GuardError::Malformed { api: self.message.name, version, field, offset, fault }.into()
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

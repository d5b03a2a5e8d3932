//! How Produce and Fetch name a topic: by its name up to version 12, by its id from 13 on
//! (KIP-516).

use bytes::BufMut;

use super::types::TopicId;
use super::wire::{Reader, WireError, put_nullable_string};

/// The first version of Produce, and of Fetch, that names topics by id.
pub const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// A topic as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// By name, up to version 12.
    Name(&'a str),
    /// By id, from version 13 on.
    Id(TopicId),
}

impl<'a> TopicRef<'a> {
    /// Reads a topic as `version` writes it.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: i16,
        flexible: bool,
    ) -> Result<TopicRef<'a>, WireError> {
        if version >= FIRST_TOPIC_ID_VERSION {
            return reader.topic_id("topic_id").map(TopicRef::Id);
        }
        reader.string("name", flexible).map(TopicRef::Name)
    }

    /// Writes the topic as `version` wants it. A name where an id belongs is written as the zero
    /// id, an id where a name belongs as the empty name: what the other side cannot find.
    pub(super) fn write(self, out: &mut impl BufMut, version: i16, flexible: bool) {
        match (self, version >= FIRST_TOPIC_ID_VERSION) {
            (TopicRef::Id(id), true) => out.put_slice(id.0.as_bytes()),
            (TopicRef::Name(_), true) => out.put_slice(TopicId::ZERO.0.as_bytes()),
            (TopicRef::Name(name), false) => put_nullable_string(out, flexible, Some(name)),
            (TopicRef::Id(_), false) => put_nullable_string(out, flexible, Some("")),
        }
    }

    /// At most what the topic takes on the wire.
    pub(super) fn max_len(self) -> usize {
        match self {
            TopicRef::Name(name) => name.len() + 3,
            TopicRef::Id(_) => 16,
        }
    }
}

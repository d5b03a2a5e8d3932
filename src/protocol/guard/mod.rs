//! The guard (DESIGN D9): no byte of a peer reaches the kafka-protocol crate before this has
//! walked over it.
//!
//! The crate reserves memory for as many array elements as the wire claims, so six bytes of
//! Metadata make it abort the process. The guard walks a body over the shape table without
//! allocating, refuses what is not well formed, and adds up what the decoded form will take. It is
//! called on the request paths of `api` and `proxy`, which charge [`Checked::decoded_bytes`] to the
//! byte budget, and by `client` on what servers answer it.
//!
//! **Invariant:** a body that passes is decoded by the crate without an error, to its last byte
//! that belongs to the message, within `decoded_bytes` of allocations. The fuzz target and the
//! property tests hold the guard to this.
//!
//! Where Apache Kafka and the crate differ, the guard takes what both accept:
//! - bytes after the message are tolerated, as Kafka does (`AbstractRequest.parseRequest`);
//! - tags may come twice or out of order, as in Kafka's generated readers; the last one counts;
//! - a negative length other than -1 is refused where null is allowed (Kafka reads it as null, the
//!   crate refuses it);
//! - a string that is not UTF-8 is refused (Kafka replaces the bad bytes, the crate refuses it);
//! - a known tagged field that does not fill its declared size is refused (both read past it);
//! - a tag above 2^31-1 is refused (Kafka cannot write one; the crate reads it as negative, and on
//!   writing the message again it counts the tag but leaves it out).

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Message, Request};

pub mod shape;
pub mod shapes;
mod walk;

pub use walk::Visitor;

/// How large a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a body; a larger one is refused before the walk.
    pub body_bytes: usize,
    /// The most bytes that the decoded body may allocate.
    pub decoded_bytes: usize,
}

impl Limits {
    /// The limits of control-plane requests: 8 MiB of body, 64 MiB decoded.
    pub const CONTROL: Limits = Limits { body_bytes: 8 << 20, decoded_bytes: 64 << 20 };

    /// The limits of a response to a request of our own: 64 MiB, also decoded.
    pub const RESPONSE: Limits = Limits { body_bytes: 64 << 20, decoded_bytes: 64 << 20 };

    /// The limits of a Produce body, whose size only the frame limit bounds.
    pub const fn produce(max_frame_bytes: usize) -> Limits {
        Limits { body_bytes: max_frame_bytes, decoded_bytes: 64 << 20 }
    }
}

/// What the walk found out about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// An upper bound of what the crate's decoded form allocates, in bytes.
    pub decoded_bytes: usize,
    /// The bytes that belong to the message; what follows is tolerated, as Kafka does.
    pub message_bytes: usize,
}

/// Why a body was refused. Apache Kafka closes the connection on all of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The API or version has no row in the shape table, so it is not decoded.
    #[error("api key {key} version {version} is not decoded here; see the advertised versions")]
    NotGuarded {
        /// The API key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// The body is above [`Limits::body_bytes`].
    #[error("{api} v{version} body of {bytes} bytes is above the limit of {limit}")]
    BodyTooLarge {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The body's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The decoded body would be above [`Limits::decoded_bytes`].
    #[error(
        "{api} v{version} body would take {bytes} bytes when decoded, above the limit of {limit} \
         (reached in field {field}); split the request"
    )]
    DecodedTooLarge {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The field in which the limit was passed.
        field: &'static str,
        /// What had been added up by then.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The body is not a message of this API and version.
    #[error("{api} v{version} body is malformed at byte {offset}, field {field}: {fault}")]
    Malformed {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The field that was read.
        field: &'static str,
        /// How many bytes of the body had been read.
        offset: usize,
        /// What is wrong.
        fault: Fault,
    },
    /// The crate refused what the guard had passed, or read another number of bytes: the shape
    /// table and the crate disagree, which is a bug here.
    #[error("{api} v{version} body passed the guard but not the decoder: {reason}")]
    Undecodable {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The decoder's words.
        reason: String,
    },
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The field goes on past the end.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// What the field needs.
        needed: usize,
        /// What the body, or the tag, still has.
        left: usize,
    },
    /// More elements or tags than the rest could hold.
    #[error("{count} elements of at least {least} bytes do not fit in the {left} bytes left")]
    Count {
        /// The claimed number.
        count: usize,
        /// The least encoded size of one.
        least: usize,
        /// What the body still has.
        left: usize,
    },
    /// A length below -1.
    #[error("length {length} is negative")]
    NegativeLength {
        /// The length.
        length: i32,
    },
    /// Null where this version has no null.
    #[error("null is not allowed here")]
    Null,
    /// A variable-length integer of more than 32 bits.
    #[error("variable-length integer goes on after its fifth byte")]
    Varint,
    /// A string above Kafka's limit of 32,767 bytes.
    #[error("string of {bytes} bytes is above the limit of 32767")]
    StringTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// A nullable structure's marker that is neither 1 nor -1.
    #[error("structure marker {marker} is neither 1 nor -1")]
    Marker {
        /// The marker.
        marker: i8,
    },
    /// A tag that belongs to a field of other versions.
    #[error("tag {tag} is not valid in this version")]
    Tag {
        /// The tag.
        tag: u32,
    },
    /// A tag above 2^31-1.
    #[error("tag {tag} is above 2147483647")]
    TagTooLarge {
        /// The tag.
        tag: u32,
    },
    /// A tagged field that ends before its declared size.
    #[error("tag {tag} has {left} bytes after its value")]
    TagSize {
        /// The tag.
        tag: u32,
        /// The bytes after the value.
        left: usize,
    },
}

/// Walks `body` over the shape of request `key` in `version`. Allocates nothing.
pub fn check(key: i16, version: i16, body: &[u8], limits: Limits) -> Result<Checked, GuardError> {
    walk_shape(shape::message(key), (key, version), body, limits, &mut ())
}

/// Walks `body` over the shape of the response to `key` in `version` and tells `visitor` what it
/// comes past. A response without a shape is refused.
pub fn visit_response(
    key: i16,
    version: i16,
    body: &[u8],
    limits: Limits,
    visitor: &mut impl Visitor,
) -> Result<Checked, GuardError> {
    walk_shape(shape::response(key), (key, version), body, limits, visitor)
}

fn walk_shape(
    message: Option<&'static shape::Message>,
    (key, version): (i16, i16),
    body: &[u8],
    limits: Limits,
    visitor: &mut impl Visitor,
) -> Result<Checked, GuardError> {
    let message = message
        .filter(|message| message.versions.contains(version))
        .ok_or(GuardError::NotGuarded { key, version })?;
    if body.len() > limits.body_bytes {
        return Err(GuardError::BodyTooLarge {
            api: message.name,
            version,
            bytes: body.len(),
            limit: limits.body_bytes,
        });
    }
    walk::walk(message, version, body, limits.decoded_bytes, visitor)
}

/// Checks a body and decodes it. Returns the request and the bound of what it allocated, in bytes.
///
/// The strings and byte fields of the request share `body`'s memory.
pub fn decode<R: Request>(
    version: i16,
    body: &Bytes,
    limits: Limits,
) -> Result<(R, usize), GuardError> {
    decode_message(shape::message(R::KEY), (R::KEY, version), body, limits)
}

/// Checks the body of a response to `R` and decodes it, as [`decode`] does with requests.
pub fn decode_response<R: Request>(
    version: i16,
    body: &Bytes,
    limits: Limits,
) -> Result<(R::Response, usize), GuardError> {
    decode_message(shape::response(R::KEY), (R::KEY, version), body, limits)
}

fn decode_message<M: Decodable + Message>(
    shape: Option<&'static shape::Message>,
    (key, version): (i16, i16),
    body: &Bytes,
    limits: Limits,
) -> Result<(M, usize), GuardError> {
    // The table may know a later version than the crate.
    let decodable = M::VERSIONS.min <= version && version <= M::VERSIONS.max;
    if !decodable {
        return Err(GuardError::NotGuarded { key, version });
    }
    let checked = walk_shape(shape, (key, version), body, limits, &mut ())?;
    let undecodable = |reason: String| {
        let api = shape.map_or("unknown", |message| message.name);
        GuardError::Undecodable { api, version, reason }
    };
    let mut rest = body.clone();
    let message =
        M::decode(&mut rest, version).map_err(|error| undecodable(format!("{error:#}")))?;
    let read = body.len() - rest.len();
    if read != checked.message_bytes {
        let expected = checked.message_bytes;
        return Err(undecodable(format!("{read} bytes read instead of {expected}")));
    }
    Ok((message, checked.decoded_bytes))
}

#[cfg(test)]
mod tests;

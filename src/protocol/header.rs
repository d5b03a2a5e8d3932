//! Request and response headers.
//!
//! ```text
//! request    i16 key | i16 version | i32 correlation id | nullable string client id | tags*
//! response   i32 correlation id | tags*
//! ```
//!
//! The client id's length is an i16 in all versions, so that any broker can read the header of any
//! `ApiVersions` request. The tags are there from the version on in which the API became flexible
//! (KIP-482), also in versions above the ones we know; the response to `ApiVersions` never has
//! them, because the client does not know yet what the broker speaks (KIP-511).

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::guard::shape;

/// The header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API; one that Kafka speaks, though not always one that we advertise.
    pub api_key: i16,
    /// The version; any value, also a negative one.
    pub api_version: i16,
    /// Chosen by the client; the response repeats it.
    pub correlation_id: i32,
    /// The client's name for itself. It shares the frame's memory.
    pub client_id: Option<StrBytes>,
}

/// Why a request header was refused. Apache Kafka closes the connection on all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends inside the header.
    #[error("request frame of {bytes} bytes ends inside its header")]
    Truncated {
        /// The frame's size.
        bytes: usize,
    },
    /// Kafka has no API with this key.
    #[error("unknown api key {key} (version {version}, correlation id {correlation_id})")]
    UnknownKey {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
        /// The correlation id.
        correlation_id: i32,
    },
    /// The client id or a tag is malformed.
    #[error("request header of api key {key} version {version} has a malformed {what}")]
    Malformed {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
        /// The part of the header.
        what: &'static str,
    },
}

/// Splits a request frame into its header and its body, which shares the frame's memory.
///
/// The version is not held against any table: the caller answers unsupported ones.
pub fn parse_request_header(frame: &Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
    let truncated = HeaderError::Truncated { bytes: frame.len() };
    let mut cursor = Cursor { rest: frame };
    let key = i16::from_be_bytes(cursor.fixed().ok_or(truncated)?);
    let version = i16::from_be_bytes(cursor.fixed().ok_or(truncated)?);
    let correlation_id = i32::from_be_bytes(cursor.fixed().ok_or(truncated)?);
    let Some(api) = shape::kafka_api(key) else {
        return Err(HeaderError::UnknownKey { key, version, correlation_id });
    };
    let client_id = match i16::from_be_bytes(cursor.fixed().ok_or(truncated)?) {
        -1 => None,
        length => {
            let malformed = HeaderError::Malformed { key, version, what: "client id" };
            let length = usize::try_from(length).map_err(|_| malformed)?;
            let id = frame.slice_ref(cursor.take(length).ok_or(truncated)?);
            Some(StrBytes::from_utf8(id).map_err(|_| malformed)?)
        }
    };
    if api.flexible.contains(version) {
        cursor.skip_tags().ok_or(HeaderError::Malformed { key, version, what: "tag section" })?;
    }
    let body = frame.slice_ref(cursor.rest);
    Ok((RequestHeader { api_key: key, api_version: version, correlation_id, client_id }, body))
}

/// The size of a response's header, in bytes.
pub fn response_header_bytes(key: i16, version: i16) -> usize {
    if response_is_flexible(key, version) { 5 } else { 4 }
}

/// Writes the header of the response to a request of this key and version.
pub fn put_response_header(out: &mut impl BufMut, correlation_id: i32, key: i16, version: i16) {
    out.put_i32(correlation_id);
    if response_is_flexible(key, version) {
        out.put_u8(0);
    }
}

/// Whether the header of the response has a tag section.
pub fn response_is_flexible(key: i16, version: i16) -> bool {
    key != ApiKey::ApiVersions as i16
        && shape::kafka_api(key).is_some_and(|api| api.flexible.contains(version))
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(head)
    }

    /// Each tag takes two bytes or more, so a false count ends with the frame.
    fn skip_tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.take(size as usize)?;
        }
        Some(())
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

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

/// Splits the frame of a response to `key` and `version` into the correlation id and the body,
/// which shares the frame's memory; nothing if the frame ends inside the header.
pub fn parse_response_header(frame: &Bytes, key: i16, version: i16) -> Option<(i32, Bytes)> {
    let mut cursor = Cursor { rest: frame };
    let correlation_id = i32::from_be_bytes(cursor.fixed()?);
    if response_is_flexible(key, version) {
        cursor.skip_tags()?;
    }
    Some((correlation_id, frame.slice_ref(cursor.rest)))
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::RequestHeader as CrateHeader;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    /// Every key and version that the crate knows.
    fn known() -> impl Iterator<Item = (ApiKey, i16)> {
        (0..=200_i16).filter_map(|key| ApiKey::try_from(key).ok()).flat_map(|key| {
            let versions = key.valid_versions();
            (versions.min..=versions.max).map(move |version| (key, version))
        })
    }

    fn encoded(key: ApiKey, version: i16, client_id: Option<&'static str>) -> BytesMut {
        let header = CrateHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(-7)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, key.request_header_version(version)).expect("encode");
        frame
    }

    #[test]
    fn headers_are_read_as_the_crate_writes_them() {
        let mut seen = 0;
        for (key, version) in known().filter(|(key, _)| shape::kafka_api(*key as i16).is_some()) {
            for client_id in [None, Some(""), Some("client-é")] {
                let mut frame = encoded(key, version, client_id);
                frame.put_slice(b"body");
                let (header, body) = parse_request_header(&frame.freeze()).expect("legal");
                assert_eq!((header.api_key, header.api_version), (key as i16, version));
                assert_eq!(header.correlation_id, -7);
                assert_eq!(header.client_id.as_deref(), client_id);
                assert_eq!(body, "body", "{key:?} v{version}");
                seen += 1;
            }
        }
        assert!(seen > 500, "{seen}");
    }

    #[test]
    fn response_headers_are_as_the_crate_writes_them() {
        for (key, version) in known().filter(|(key, _)| shape::kafka_api(*key as i16).is_some()) {
            let mut ours = BytesMut::new();
            put_response_header(&mut ours, 9, key as i16, version);
            let flexible = key.response_header_version(version) >= 1;
            let wanted: &[u8] = if flexible { &[0, 0, 0, 9, 0] } else { &[0, 0, 0, 9] };
            assert_eq!(ours, wanted, "{key:?} v{version}");
            assert_eq!(response_header_bytes(key as i16, version), wanted.len());
        }
    }

    #[test]
    fn response_headers_are_read_as_the_crate_writes_them() {
        for (key, version) in known().filter(|(key, _)| shape::kafka_api(*key as i16).is_some()) {
            let mut frame = BytesMut::new();
            let header = kafka_protocol::messages::ResponseHeader::default().with_correlation_id(9);
            header.encode(&mut frame, key.response_header_version(version)).expect("encode");
            frame.put_slice(b"body");
            let read = parse_response_header(&frame.freeze(), key as i16, version).expect("legal");
            assert_eq!(read, (9, Bytes::from_static(b"body")), "{key:?} v{version}");
        }
        let parse = |bytes: &[u8]| parse_response_header(&Bytes::copy_from_slice(bytes), 3, 9);
        assert_eq!(parse(&[0, 0, 0, 9, 1, 5, 2, 1, 2, b'b']), Some((9, Bytes::from_static(b"b"))));
        for cut in [[0, 0, 0].as_slice(), &[0, 0, 0, 9], &[0, 0, 0, 9, 1, 5, 9, 1]] {
            assert_eq!(parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn api_versions_above_ours_still_has_a_readable_header() {
        let mut frame = encoded(ApiKey::ApiVersions, 3, Some("new"));
        frame[2..4].copy_from_slice(&99_i16.to_be_bytes());
        let (header, body) = parse_request_header(&frame.freeze()).expect("legal");
        assert_eq!((header.api_version, header.client_id.as_deref()), (99, Some("new")));
        assert!(body.is_empty());
        assert_eq!(response_header_bytes(ApiKey::ApiVersions as i16, 99), 4);
    }

    #[test]
    fn unknown_tags_in_the_header_are_skipped() {
        let mut frame = encoded(ApiKey::Metadata, 9, None);
        frame.truncate(frame.len() - 1);
        frame.put_slice(&[2, 5, 3, 1, 2, 3, 0x81, 0x01, 0, b'b']);
        let (_, body) = parse_request_header(&frame.freeze()).expect("legal");
        assert_eq!(body, "b");
    }

    #[test]
    fn every_prefix_of_a_header_is_refused() {
        let mut frame = encoded(ApiKey::Metadata, 9, Some("me"));
        frame.truncate(frame.len() - 1);
        frame.put_slice(&[1, 5, 3, 1, 2, 3]);
        let frame = frame.freeze();
        assert!(parse_request_header(&frame).is_ok());
        for bytes in 0..frame.len() {
            assert!(parse_request_header(&frame.slice(..bytes)).is_err(), "{bytes}");
        }
        // The three bytes on which the crate's own parser panics.
        let short = Bytes::from_static(&[0, 3, 0]);
        assert_eq!(parse_request_header(&short), Err(HeaderError::Truncated { bytes: 3 }));
    }

    #[test]
    fn malformed_headers_are_named() {
        let parse = |bytes: &'static [u8]| parse_request_header(&Bytes::from_static(bytes));
        let (key, version) = (3, 9);
        let malformed = |what| Err(HeaderError::Malformed { key, version, what });
        assert_eq!(parse(&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xfe, 0]), malformed("client id"));
        assert_eq!(parse(&[0, 3, 0, 9, 0, 0, 0, 1, 0, 1, 0xff, 0]), malformed("client id"));
        let tags: &[u8] = &[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(parse_request_header(&Bytes::copy_from_slice(tags)), malformed("tag section"));
        let (key, version, correlation_id) = (4, 1, 7);
        assert_eq!(
            parse(&[0, 4, 0, 1, 0, 0, 0, 7, 0, 0]),
            Err(HeaderError::UnknownKey { key, version, correlation_id })
        );
    }
}

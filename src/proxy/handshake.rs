//! `ApiVersions` (key 18; KIP-35, KIP-511, KIP-584) between a client and its upstream.
//!
//! The client's request goes to the upstream, so that the upstream knows its client, and so that
//! one that authenticates sees the requests in the order it wants (`SaslServerAuthenticator` takes
//! one `ApiVersions` before a `SaslHandshake`). What comes back is cut down to what the proxy knows
//! too; features and everything else stay as they are.
//!
//! A request of a version that the proxy does not know goes on in one that nobody knows: the
//! upstream answers error 35 in version 0 with the versions it has, and stays where it is. One
//! below 0 goes on as it is: nobody knows it either, and its header is an older one.

use bytes::{BufMut, Bytes, BytesMut};

use super::policy;
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;
use crate::protocol::wire::{Reader, WireError, put_length};

/// The key of `ApiVersions`.
pub(super) const KEY: i16 = 18;
/// The first flexible version.
const FLEXIBLE: i16 = 3;
/// The version that no broker has.
const UNKNOWN: i16 = i16::MAX;

/// The version in which a client's request goes to the upstream.
pub(super) fn asked(version: i16) -> i16 {
    match policy::find(KEY) {
        Some(row) if version > row.versions.max => UNKNOWN,
        _ => version,
    }
}

/// What an upstream advertises.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    /// The error code; the list is that of version 0 where it is 35.
    pub(super) error: i16,
    /// Key and versions of each API.
    pub(super) apis: Vec<(i16, VersionRange)>,
    /// What follows them.
    rest: &'a [u8],
    flexible: bool,
}

/// Reads the response to a request that went upstream in `version`.
pub(super) fn read(version: i16, body: &[u8]) -> Result<Listing<'_>, WireError> {
    let mut reader = Reader::new(body);
    let error = reader.i16("error_code")?;
    let flexible = version >= FLEXIBLE && error != ErrorCode::UnsupportedVersion as i16;
    let count = reader.count("api_keys", flexible, 6)?;
    let mut apis = Vec::with_capacity(count);
    for _ in 0..count {
        let key = reader.i16("api_key")?;
        let versions = VersionRange::new(reader.i16("min_version")?, reader.i16("max_version")?);
        if flexible {
            reader.skip_tagged_fields("api_keys")?;
        }
        apis.push((key, versions));
    }
    let start = body.len() - reader.remaining();
    let rest = body.get(start..).unwrap_or_default();
    Ok(Listing { error, apis, rest, flexible })
}

impl Listing<'_> {
    /// Whether the list is of all that the upstream has.
    pub(super) fn is_whole(&self) -> bool {
        self.error == ErrorCode::None as i16
    }

    /// The response for the client: what its upstream and the proxy have in common.
    pub(super) fn common(&self) -> Bytes {
        let common = policy::advertised(self.apis.iter().copied());
        let mut out = BytesMut::with_capacity(16 + 7 * common.len() + self.rest.len());
        out.put_i16(self.error);
        put_length(&mut out, self.flexible, common.len());
        for (key, versions) in common {
            out.put_i16(key);
            out.put_i16(versions.min);
            out.put_i16(versions.max);
            if self.flexible {
                out.put_u8(0);
            }
        }
        out.put_slice(self.rest);
        out.freeze()
    }
}

//! `ApiVersions` (key 18, versions 0 to 4; KIP-35, KIP-511, KIP-584), answered by the door itself.
//!
//! A version above ours is answered in version 0 with error 35. Unlike Apache Kafka, which lists
//! only the range of `ApiVersions` then, the answer lists every API, for clients that look no
//! further.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::service::{ApiVersions, Response};
use crate::protocol::error::ErrorCode;
use crate::protocol::guard::{self, GuardError, Limits};

/// The first version in which the client says what it is.
const NAMES_CLIENT: i16 = 3;
/// The first version that lists features whose least level is 0 (KAFKA-17011).
const LISTS_LEVEL_ZERO: i16 = 4;

/// Answers a request of `version`, which is advertised.
pub(super) fn respond(
    version: i16,
    body: &Bytes,
    versions: &ApiVersions,
) -> Result<Response, GuardError> {
    let (request, _) = guard::decode::<ApiVersionsRequest>(version, body, Limits::CONTROL)?;
    let named = version < NAMES_CLIENT
        || (is_valid(&request.client_software_name) && is_valid(&request.client_software_version));
    if !named {
        let error = ErrorCode::InvalidRequest;
        return Ok(encode(version, error, ApiVersionsResponse::default()));
    }
    Ok(encode(version, ErrorCode::None, listing(version, versions)))
}

/// Answers a request of a version that is not advertised.
pub(super) fn respond_to_unsupported(versions: &ApiVersions) -> Response {
    encode(0, ErrorCode::UnsupportedVersion, listing(0, versions))
}

fn listing(version: i16, versions: &ApiVersions) -> ApiVersionsResponse {
    let api_keys = versions.apis.iter().map(|&(key, min, max)| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    });
    let response = ApiVersionsResponse::default().with_api_keys(api_keys.collect());
    if version < NAMES_CLIENT {
        return response;
    }
    let supported = versions.supported_features.iter();
    let supported = supported.filter(|(_, min, _)| *min > 0 || version >= LISTS_LEVEL_ZERO);
    let supported = supported.map(|(name, min, max)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_min_version(*min)
            .with_max_version(*max)
    });
    let finalized = versions.finalized_features.iter().map(|(name, min, max)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_min_version_level(*min)
            .with_max_version_level(*max)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(versions.finalized_features_epoch)
}

fn encode(version: i16, error: ErrorCode, response: ApiVersionsResponse) -> Response {
    let response = response.with_error_code(error as i16);
    let mut body = BytesMut::with_capacity(response.compute_size(version).unwrap_or_default());
    response.encode(&mut body, version).expect("the fields that are set exist in the version");
    let mut response = Response::from_bytes(body.freeze());
    if error != ErrorCode::None {
        response.errors.push((error as i16, 1));
    }
    response
}

/// KIP-511: letters and digits, inside also `-` and `.`; not empty.
fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests;

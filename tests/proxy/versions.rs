//! `ApiVersions`: what the upstream and the proxy have in common.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidegate::protocol::versions::VersionRange;
use tidegate::proxy::policy::{self, Class};

use crate::client::Client;
use crate::harness::Wire;

const UNSUPPORTED_VERSION: i16 = 35;
const PRODUCE: i16 = 0;
const API_VERSIONS: i16 = 18;

/// Every API with its lowest and highest version.
pub type Versions = BTreeMap<i16, (i16, i16)>;

fn request(version: i16) -> ApiVersionsRequest {
    let request = ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request
        .with_client_software_name(StrBytes::from_static_str("harness"))
        .with_client_software_version(StrBytes::from_static_str("1.0"))
}

fn versions(answer: &ApiVersionsResponse) -> Versions {
    let range = |api: &kafka_protocol::messages::api_versions_response::ApiVersion| {
        (api.api_key, (api.min_version, api.max_version))
    };
    answer.api_keys.iter().map(range).collect()
}

/// What a node says in a version of `ApiVersions`.
pub fn of(client: &mut Client, version: i16) -> Versions {
    let answer = client.ask(version, &request(version));
    assert_eq!(answer.error_code, 0, "{answer:?}");
    versions(&answer)
}

/// What a client of the proxy is told: for each API both ends of what both sides know; nothing that
/// the proxy does not know, and nothing between brokers.
fn expected(upstream: &Versions) -> Versions {
    let known = |(key, (min, max)): (&i16, &(i16, i16))| {
        let row = policy::find(*key)?;
        if row.class(row.versions.max) == Class::Refuse {
            return None;
        }
        let VersionRange { min: ours_min, max: ours_max } = row.versions;
        // Older librdkafka goes without compression where Produce 0 is not listed (KAFKA-18659).
        let min = if *key == PRODUCE { 0 } else { *min };
        let common = (min.max(ours_min), (*max).min(ours_max));
        (common.0 <= common.1).then_some((*key, common))
    };
    upstream.iter().filter_map(known).collect()
}

/// The intersection, in every version of `ApiVersions`.
pub fn are_what_both_sides_know(direct: &mut Client, proxied: &mut Client) {
    let (_, max) = of(direct, 0)[&API_VERSIONS];
    for version in 0..=max.min(4) {
        assert_eq!(of(proxied, version), expected(&of(direct, version)), "version {version}");
    }
}

/// A version that nobody has is answered in version 0 with an error and what is known (KIP-511).
pub fn of_a_newer_client_are_answered(address: &str) {
    let mut wire = Wire::connect(address);
    let mut rest = BytesMut::new();
    rest.put_i16(API_VERSIONS);
    rest.put_i16(99);
    rest.put_i32(7);
    rest.put_i16(-1);
    // Tags, and what only that version could read.
    rest.put_slice(&[0, 1, 2, 3]);
    let mut frame = BytesMut::new();
    frame.put_i32(rest.len() as i32);
    frame.put(rest);
    wire.send_raw(&frame).unwrap();
    let mut answer = wire.receive_frame().expect("an answer");
    assert_eq!(&answer.split_to(4)[..], 7_i32.to_be_bytes());
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, UNSUPPORTED_VERSION);
    assert!(versions(&answer).contains_key(&API_VERSIONS), "{answer:?}");
    // The client asks again on the same connection.
    assert_eq!(wire.call(0, &request(0)).error_code, 0);
}

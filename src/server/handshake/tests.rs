//! `ApiVersions` over a connection, decoded by the crate as a client would.

use bytes::BufMut;
use kafka_protocol::protocol::Decodable;
use tokio::io::AsyncWriteExt;

use super::super::script::{World, frame};
use super::*;

const KEY: i16 = 18;

/// Sends a request of `version` and decodes the answer as `answered`.
async fn ask(world: &World, version: i16, body: &[u8], answered: i16) -> ApiVersionsResponse {
    let mut client = world.connect();
    client.io.write_all(&frame(KEY, version, 5, body)).await.unwrap();
    let (id, mut body) = client.receive().await;
    assert_eq!(id, 5);
    let response = ApiVersionsResponse::decode(&mut body, answered).unwrap();
    assert!(body.is_empty(), "version {version} has {} bytes too many", body.len());
    response
}

/// Header tags, then the body of version 3 and above.
fn named(name: &str, version: &str) -> Vec<u8> {
    let mut body = vec![0];
    for text in [name, version] {
        body.put_u8(text.len() as u8 + 1);
        body.put_slice(text.as_bytes());
    }
    body.put_u8(0);
    body
}

fn levels(response: &ApiVersionsResponse) -> Vec<(&str, i16, i16)> {
    let features = response.supported_features.iter();
    features.map(|it| (it.name.as_str(), it.min_version, it.max_version)).collect()
}

#[tokio::test]
async fn every_version_lists_the_apis() {
    let world = World::new();
    for version in 0..=4 {
        let body = if version < 3 { Vec::new() } else { named("apache-kafka-java", "4.3.0") };
        let response = ask(&world, version, &body, version).await;
        assert_eq!(response.error_code, 0);
        let keys = response.api_keys.iter();
        let rows: Vec<_> = keys.map(|it| (it.api_key, it.min_version, it.max_version)).collect();
        assert_eq!(rows, world.script.versions.lock().unwrap().apis);
    }
}

#[tokio::test]
async fn version_3_leaves_out_features_that_start_at_level_0() {
    let world = World::new();
    let response = ask(&world, 3, &named("x", "1"), 3).await;
    assert_eq!(levels(&response), [("metadata.version", 1, 25)]);
    let response = ask(&world, 4, &named("x", "1"), 4).await;
    assert_eq!(levels(&response), [("group.version", 0, 1), ("metadata.version", 1, 25)]);
    let finalized = &response.finalized_features[0];
    assert_eq!(response.finalized_features_epoch, 7);
    assert_eq!((finalized.min_version_level, finalized.max_version_level), (25, 25));
}

#[tokio::test]
async fn features_are_asked_for_with_every_request() {
    let world = World::new();
    world.script.versions.lock().unwrap().finalized_features_epoch = 8;
    assert_eq!(ask(&world, 3, &named("x", "1"), 3).await.finalized_features_epoch, 8);
}

#[tokio::test]
async fn an_unknown_version_is_answered_in_version_0_with_the_list() {
    let world = World::new();
    for version in [5, 99, i16::MAX] {
        let response = ask(&world, version, &[0, 1, 2, 3], 0).await;
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), 4);
    }
    let errors = "tidegate_server_errors_total{api=\"ApiVersions\",code=\"UNSUPPORTED_VERSION\"}";
    assert_eq!(world.metric(errors).as_deref(), Some("3"));
}

#[tokio::test]
async fn a_client_name_outside_kip_511_is_an_invalid_request() {
    let world = World::new();
    for (name, version) in
        [("", "1"), ("x", ""), ("a b", "1"), ("-a", "1"), ("a.", "1"), ("a", "é")]
    {
        let response = ask(&world, 3, &named(name, version), 3).await;
        assert_eq!((response.error_code, response.api_keys.len()), (42, 0), "{name:?} {version:?}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_closes() {
    let world = World::new();
    for body in [[0].as_slice(), &[0, 200], &[0, 2, b'x', 2, b'1', 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let mut client = world.connect();
        client.io.write_all(&frame(KEY, 3, 5, body)).await.unwrap();
        let (rest, cause) = client.end().await;
        assert_eq!((rest.len(), cause.label()), (0, "malformed"), "{body:?}");
    }
    assert_eq!(world.charged(), 0);
}

#[test]
fn client_names_follow_kip_511() {
    for good in ["a", "7", "apache-kafka-java", "v1.2.3", "a--.b", "librdkafka", "A-1"] {
        assert!(is_valid(good), "{good}");
    }
    for bad in ["", "-", ".", "a-", "-a", "a_b", "a b", "ä", "a\n"] {
        assert!(!is_valid(bad), "{bad}");
    }
}

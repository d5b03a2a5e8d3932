//! Apache Kafka's own responses as a proxy rewrites them: nothing of where Kafka was goes on, and
//! what names no node goes on byte for byte, whole and as a stream.

use bytes::Bytes;
use tidegate::protocol::guard::Limits;
use tidegate::protocol::header::response_header_bytes;
use tidegate::proxy::policy::{Class, class};
use tidegate::proxy::rewrite::stream::Cursor;
use tidegate::proxy::rewrite::{Address, Rewritten, Routes, rewrite};

use crate::goldens::samples;

/// Where the samples' Kafka was, and its node id.
const KAFKA: &[u8] = b"127.0.0.1";
const NODE: i32 = 1;

/// A route to Kafka's node, or none.
struct Table(Option<Address>);

impl Routes for Table {
    fn route(&self, node: i32) -> Option<Address> {
        self.0.clone().filter(|_| node == NODE)
    }
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Keys, versions and bodies of what is rewritten.
fn bodies() -> impl Iterator<Item = (i16, i16, Bytes)> {
    let rewritten =
        samples().filter(|(key, version, _)| class(*key, *version) == Some(Class::Rewrite));
    rewritten.map(|(key, version, mut frame)| {
        let body = frame.split_off(response_header_bytes(key, version));
        (key, version, body)
    })
}

fn rewritten(key: i16, version: i16, body: &Bytes, routes: &Table) -> (Rewritten, Bytes) {
    let found = rewrite(key, version, body, Limits::CONTROL, routes);
    let found = found.unwrap_or_else(|error| panic!("key {key} version {version}: {error}"));
    let bytes = Bytes::from(found.pieces.concat());
    (found, bytes)
}

#[test]
fn kafkas_own_responses_lose_its_address_and_nothing_else() {
    let door = Address { host: "door.example".to_owned(), port: 9_193 };
    let (routed, unrouted) = (Table(Some(door)), Table(None));
    let mut named = Vec::new();
    for (key, version, body) in bodies() {
        let (found, bytes) = rewritten(key, version, &body, &routed);
        assert!(!has(&bytes, KAFKA), "key {key} version {version}");
        assert_eq!(has(&bytes, b"door.example"), has(&body, KAFKA), "key {key} version {version}");
        if !has(&body, KAFKA) {
            assert_eq!((found.edits, bytes), (0, body), "key {key} version {version}");
            continue;
        }
        named.push(key);
        assert!(found.nodes.iter().all(|node| node.id == NODE && node.host.as_bytes() == KAFKA));
        assert!(!found.nodes.is_empty() && found.edits > 0);
        let (_, bytes) = rewritten(key, version, &body, &unrouted);
        assert!(!has(&bytes, KAFKA), "key {key} version {version}");
    }
    assert!(named.contains(&3), "Metadata at least: {named:?}");
}

#[test]
fn kafkas_own_fetches_are_streamed_as_they_came() {
    let mut versions = Vec::new();
    for (key, version, body) in bodies().filter(|(key, _, _)| *key == 1) {
        for chunk in [1, 7, body.len()] {
            let mut cursor = Cursor::new(key, version, body.len()).expect("it has records");
            let (mut held, mut sent) = (Vec::new(), Vec::new());
            for bytes in body.chunks(chunk) {
                held.extend_from_slice(bytes);
                let done = cursor.advance(&mut held, &Table(None)).expect("a response of Kafka");
                sent.extend(held.drain(..done));
            }
            assert_eq!((cursor.left(), cursor.finish().edits), (0, 0));
            assert_eq!(sent, body, "version {version}");
        }
        versions.push(version);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions, (11..=18).collect::<Vec<i16>>());
}

//! The broker itself: versions, addresses, producer ids, coordinators, and what closes a
//! connection.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProducerId, TransactionalId,
};
use tidegate::protocol::versions::APIS;

use crate::peer::{Peer, text};

/// Every version of Kafka's that we advertise; bad client names; a version nobody has.
pub fn api_versions(peer: &mut Peer) {
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = request
                .with_client_software_name(text("harness"))
                .with_client_software_version(text("1.0"));
        }
        let answer = peer.get(version, &request);
        peer.note(format!("v{version} error"), &answer.error_code.to_string());
        for api in &APIS {
            let (key, ours) = (api.key as i16, api.advertised);
            let theirs = answer.api_keys.iter().find(|listed| listed.api_key == key);
            let within = theirs.is_some_and(|theirs| {
                theirs.min_version <= ours.min && ours.max <= theirs.max_version
            });
            peer.note(format!("v{version} has {} {ours}", api.name), &within.to_string());
        }
    }
    for (name, version) in [("", "1"), ("a b", "1"), ("-a", "1"), ("ok.-9", "1"), ("a", "")] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        let answer = peer.get(3, &request);
        let shown = format!("{} {}", answer.error_code, answer.api_keys.is_empty());
        peer.note(format!("software {name:?} {version:?}"), &shown);
    }
    // The header of a flexible version has a section of tags.
    let frame = frame(18, 99, &[0]);
    let answer = peer.ask_raw("version 99", &frame).expect("an answer of version 0");
    peer.note("version 99 error", &format!("{:?}", answer.get(4..6)));
    let listed = answer.windows(6).any(|row| row == [0, 18, 0, 0, 0, 4]);
    peer.note("version 99 lists ApiVersions 0-4", &listed.to_string());
}

fn frame(key: i16, version: i16, body: &[u8]) -> BytesMut {
    let mut rest = BytesMut::new();
    rest.put_i16(key);
    rest.put_i16(version);
    rest.put_i32(7);
    rest.put_i16(1);
    rest.put_u8(b'c');
    rest.put_slice(body);
    let mut frame = BytesMut::new();
    frame.put_i32(rest.len() as i32);
    frame.put(rest);
    frame
}

/// Versions and bytes to which there is no answer.
pub fn closed_connections(peer: &mut Peer) {
    for version in 0..=2 {
        // acks 1, timeout 1000, no topics.
        peer.ask_raw(
            format!("Produce v{version}"),
            &frame(0, version, &[0, 1, 0, 0, 3, 232, 0, 0, 0, 0]),
        );
    }
    for (key, version) in [(1, 3), (2, 0), (3, 99), (8, 1), (9, 0), (19, 1), (23, 1), (4, 0)] {
        peer.ask_raw(format!("key {key} v{version}"), &frame(key, version, &[0; 16]));
    }
    peer.ask_raw("unknown key", &frame(999, 0, &[]));
    peer.ask_raw("negative key", &frame(-3, 0, &[]));
    peer.ask_raw("negative version", &frame(3, -1, &[0; 4]));
    peer.ask_raw("metadata cut short", &frame(3, 1, &[0, 0]));
    peer.ask_raw("metadata with a giant count", &frame(3, 4, &[0x7f, 0xff, 0xff, 0xff, 0, 0]));
    peer.ask_raw("metadata with bytes left over", &frame(3, 1, &[0, 0, 0, 0, 1, 2, 3]));
    peer.ask_raw("negative length", &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    peer.ask_raw("giant length", &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    peer.ask_raw("empty frame", &[0, 0, 0, 0]);
    peer.ask_raw("half a header", &[0, 0, 0, 3, 0, 3, 0]);
}

/// All versions and endpoint types.
pub fn describe_cluster(peer: &mut Peer) {
    for version in 0..=2 {
        for asked in [false, true] {
            let request =
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(asked);
            peer.ask(format!("operations {asked}"), version, &request);
        }
    }
    for version in 1..=2 {
        for endpoint in [0, 2, 9] {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint);
            peer.ask(format!("endpoint type {endpoint}"), version, &request);
        }
    }
    let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
    peer.ask("fenced brokers", 2, &request);
}

/// Plain ids, ids with a known producer, bad timeouts, transactional ids.
pub fn init_producer_id(peer: &mut Peer) {
    let plain = || InitProducerIdRequest::default().with_transactional_id(None);
    peer.until("producer ids", |peer| (peer.get(0, &plain()).error_code == 0).then_some(()));
    for version in 0..=5 {
        let request = plain().with_transaction_timeout_ms(60_000);
        peer.ask("plain", version, &request);
        peer.ask("no timeout", version, &plain());
        peer.ask("timeout 0", version, &plain().with_transaction_timeout_ms(0));
    }
    let known = peer.get(5, &plain()).producer_id;
    for version in 3..=5 {
        for (id, epoch) in [(known.0, 0), (known.0, 7), (77, 3), (-1, 3), (77, -1), (-5, -5)] {
            let shown = if id == known.0 { "a known one".to_owned() } else { id.to_string() };
            let request = plain().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
            peer.ask(format!("bump of {shown}, {epoch}"), version, &request);
        }
    }
    let transactional = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("tx"))))
        .with_transaction_timeout_ms(60_000);
    peer.until("transactions", |peer| {
        let retriable = [14, 15, 16];
        (!retriable.contains(&peer.get(5, &transactional).error_code)).then_some(())
    });
    peer.ask("transactional id", 5, &transactional);
    let empty = transactional.with_transactional_id(Some(TransactionalId(text(""))));
    peer.ask("empty transactional id", 5, &empty);
}

/// All versions, key types and odd keys.
pub fn find_coordinator(peer: &mut Peer) {
    let one = |key: &str| FindCoordinatorRequest::default().with_key(text(key));
    peer.until("coordinator", |peer| (peer.get(3, &one("g")).error_code == 0).then_some(()));
    let transaction = one("t").with_key_type(1);
    peer.until("transactions' coordinator", |peer| {
        (peer.get(3, &transaction).error_code != 15).then_some(())
    });
    for version in 0..=3 {
        peer.ask("group", version, &one("g"));
        peer.ask("empty group", version, &one(""));
    }
    for version in 1..=3 {
        peer.ask("unknown type", version, &one("g").with_key_type(9));
        peer.ask("share type", version, &one("g").with_key_type(2));
        peer.ask("a transaction", version, &one("t").with_key_type(1));
    }
    let several = |keys: &[&str]| {
        let keys = keys.iter().map(|key| text(key)).collect();
        FindCoordinatorRequest::default().with_coordinator_keys(keys)
    };
    for version in 4..=6 {
        peer.ask("groups", version, &several(&["g", "h", "g"]));
        peer.ask("no keys", version, &several(&[]));
        peer.ask("unknown type", version, &several(&["g"]).with_key_type(9));
        peer.ask("share type", version, &several(&["nonsense"]).with_key_type(2));
        peer.ask("a transaction", version, &several(&["t"]).with_key_type(1));
    }
}

//! Any bytes as a request: its header is read, its body guarded and, if it passes, decoded.
//!
//! Held here: nothing panics; what the guard passes is decoded and survives a round trip; decoding
//! allocates at most what the guard said; our own codec of Produce takes what the guard and the
//! crate take, and reads the same.
//!
//! Input: `i16 key | i16 version | body`, as in tests/wire/corpus, whose files are seeds too.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest as CrateProduce;
use kafka_protocol::protocol::Request;
use tidegate::protocol::guard::{GuardError, Limits, decode};
use tidegate::protocol::header::parse_request_header;
use tidegate::protocol::produce::{MAX_VERSION, MIN_VERSION, ProduceRequest};
use tidegate::protocol::topic::TopicRef;

use super::within;

#[path = "../../wire/requests.rs"]
#[allow(dead_code)]
pub(super) mod shared;

struct Decode<'a> {
    version: i16,
    body: &'a Bytes,
}

impl shared::Visit for Decode<'_> {
    type Out = ();

    fn visit<R: Request + Debug + PartialEq>(self) {
        let limits = Limits::CONTROL;
        let (result, peak) =
            tidegate_fuzz_meter::peak_of(|| decode::<R>(self.version, self.body, limits));
        match result {
            Ok((request, bound)) => {
                super::LARGEST.fetch_max(peak, std::sync::atomic::Ordering::Relaxed);
                assert!(peak <= bound, "{peak} bytes allocated, {bound} announced");
                shared::assert_round_trip(&request, self.version, limits);
            }
            Err(GuardError::Undecodable { reason, .. }) => panic!("{reason}"),
            Err(_) => assert!(peak == 0, "{peak} bytes allocated for a refused body"),
        }
    }
}

/// Our codec of Produce beside the crate's.
fn compare_produce(version: i16, body: &Bytes) {
    if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
        return;
    }
    // It keeps slices of the body and nothing of its own.
    let ours = within(64, || ProduceRequest::parse(version, body.clone()));
    let Ok((theirs, _)) = decode::<CrateProduce>(version, body, Limits::CONTROL) else { return };
    let ours = ours.expect("what the guard takes is taken");
    assert_eq!(ours.acks, theirs.acks);
    assert_eq!(ours.timeout_ms, theirs.timeout_ms);
    let id = theirs.transactional_id.as_ref().map(|id| id.as_str());
    assert_eq!(ours.transactional_id.as_deref(), id);
    assert_eq!(ours.topic_count(), theirs.topic_data.len());
    let mut partitions = ours.partitions();
    for (position, topic) in theirs.topic_data.iter().enumerate() {
        for partition in &topic.partition_data {
            let found = partitions.next().expect("as many partitions as the crate found");
            match found.topic {
                TopicRef::Name(name) => assert_eq!(name, topic.name.as_str()),
                TopicRef::Id(id) => assert_eq!(id.0, topic.topic_id),
            }
            assert_eq!((found.topic_position, found.index), (position, partition.index));
            assert_eq!(found.records, partition.records);
        }
    }
    assert!(partitions.next().is_none());
}

pub(super) fn run(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let _ = within(256, || parse_request_header(&frame));
    let Some((key, rest)) = data.split_first_chunk() else { return };
    let Some((version, body)) = rest.split_first_chunk() else { return };
    let (key, version) = (i16::from_be_bytes(*key), i16::from_be_bytes(*version));
    let body = Bytes::copy_from_slice(body);
    if key == 0 {
        compare_produce(version, &body);
    }
    shared::dispatch(key, Decode { version, body: &body });
}

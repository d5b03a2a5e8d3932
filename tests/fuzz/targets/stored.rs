//! Any bytes as what we keep ourselves: payloads of the log, records of groups, markers, heads of
//! objects, notes of uploads, entries of checkpoints in the bucket.
//!
//! Held here: nothing panics, memory is a small multiple of the bytes, and what is read is written
//! again as something that reads the same.

use bytes::Bytes;
use tidegate::broker::bucket_log;
use tidegate::group::record::{GroupValue, Key, OffsetValue, group_key, offset_key};
use tidegate::object::{Head, NotedUpload};
use tidegate::partition::record::{self, Record};
use tidegate::protocol::control::{ControlType, EndTxnMarker};
use tidegate::wal::Kind;

use super::within;

/// A member of a group is some 200 bytes and takes 24 on the wire at least; what is read twice is
/// there twice, and a list that grows is there in two sizes.
const FACTOR: usize = 64;
const STATE: usize = 4 << 10;

fn log_record(kind: Kind, payload: &Bytes) {
    let Ok(found) = Record::decode(kind, payload.clone()) else { return };
    let again = match &found {
        Record::Data { of, batch } => [&record::data_head(*of)[..], batch].concat(),
        Record::CommitTier { of, change } => record::commit_tier(*of, change),
        Record::LogStart { of, offset } => record::log_start(*of, *offset),
        Record::Drop { topic } => record::drop_topic(*topic),
        Record::EpochStart { of, epoch, offset } => record::epoch_start(*of, *epoch, *offset),
    };
    assert_eq!(again, payload[..]);
}

fn group_records(bytes: &Bytes) {
    match Key::decode(bytes) {
        Ok(Key::Offset { group, topic, partition }) => {
            let again = Key::decode(&offset_key(&group, &topic, partition));
            assert_eq!(again, Ok(Key::Offset { group, topic, partition }));
        }
        Ok(Key::Group { group }) => {
            assert_eq!(Key::decode(&group_key(&group)), Ok(Key::Group { group }));
        }
        _ => {}
    }
    if let Ok(value) = OffsetValue::decode(bytes) {
        assert_eq!(OffsetValue::decode(&value.encode()), Ok(value));
    }
    if let Ok(value) = GroupValue::decode(bytes) {
        assert_eq!(GroupValue::decode(&value.encode()), Ok(value));
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    within(STATE + FACTOR * data.len(), || {
        log_record(Kind(kind), &bytes);
        group_records(&bytes);
        let _ = Head::parse(&bytes);
        if let Ok(list) = NotedUpload::decode(&bytes) {
            assert_eq!(NotedUpload::decode(&NotedUpload::encode(&list)), Ok(list));
        }
        if let Ok(items) = bucket_log::read_alone(&bytes) {
            assert!(items <= bytes.len() / 3);
        }
        let _ = ControlType::parse(&bytes);
        let (key, value) = bytes.split_at(bytes.len().min(4));
        if let Ok(marker) = EndTxnMarker::parse(key, value) {
            assert!(!marker.batch(0, 1, 1).is_empty());
        }
    });
}

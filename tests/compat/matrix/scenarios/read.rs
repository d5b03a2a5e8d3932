//! What every client wrote, read by every other. The checksum of a batch covers all that its
//! producer wrote, so a batch whose checksum holds is, byte for byte, what was sent.

use serde_json::Value;

use super::produce::{CODEC_RECORDS, codec_topic};
use crate::matrix::clients::CLIENTS;
use crate::matrix::context::Context;
use crate::matrix::log;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

pub fn everything(context: &Context<'_>) {
    let mut wire = context.wire();
    for writer in &CLIENTS {
        let topics: Vec<String> = CODECS
            .iter()
            .map(|codec| codec_topic(writer.id, codec))
            .filter(|topic| log::exists(&mut wire, topic))
            .collect();
        // `records` checks the checksum of every batch.
        let stored: Vec<Value> =
            topics.iter().flat_map(|topic| log::records(&mut wire, topic, 0)).collect();
        if stored.is_empty() {
            continue;
        }
        assert_eq!(stored.len(), topics.len() * CODEC_RECORDS, "records of {}", writer.id);
        let partitions: Vec<(&str, i32)> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
        let mut reader = context.assign(writer.id, &partitions);
        reader.reads_all(&stored);
        reader.close();
    }
}

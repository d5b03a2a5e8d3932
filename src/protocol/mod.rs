//! What Kafka bytes mean. No I/O, no clock.

pub mod types;

pub mod batch;
pub mod compression;
pub mod control;
pub mod crc;
pub mod fetch;
pub mod leader;
pub mod produce;
pub mod record;
pub mod topic;
pub mod varint;
pub mod wire;

//! What Kafka bytes mean. No I/O, no clock.

pub mod types;

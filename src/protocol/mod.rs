//! What Kafka bytes mean. No I/O, no clock, no state: functions from bytes to values and back.
//!
//! `server` and `client` use it for frames and headers, `api` and `proxy` for bodies, `partition`
//! and `tier` for batches. A frame is a length and that many bytes ([`frame`]); a request's bytes
//! are a header ([`header`]) and a body. Bodies of the control plane pass the [`guard`] and are
//! decoded by the kafka-protocol crate; Produce and Fetch have codecs of their own, because they
//! carry record batches, which stay opaque bytes from the socket to the store (DESIGN D2).
//!
//! **Invariant:** everything here that reads bytes of a peer bounds what it reads before it
//! allocates, and answers malformed bytes with a typed error, never with a panic.

pub mod batch;
pub mod compression;
pub mod control;
pub mod crc;
pub mod error;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod header;
pub mod leader;
pub mod produce;
pub mod record;
pub mod topic;
pub mod types;
pub mod varint;
pub mod versions;
pub mod wire;

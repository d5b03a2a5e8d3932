//! The proxy back end: it stands in front of an existing Apache Kafka, and clients see its nodes
//! under addresses of ours.
//!
//! So far it knows what is to be done with each request and how responses are rewritten; nothing
//! starts a proxy yet.
//!
//! - [`policy`]: what is forwarded, rewritten and refused, and what is advertised.
//! - [`rewrite`]: puts the addresses that clients are to use in the place of the upstream's.

pub mod policy;
pub mod rewrite;

//! The proxy back end: it stands in front of an existing Apache Kafka, and clients see its nodes
//! under addresses of ours.
//!
//! [`ProxyService`] is the back end behind the front door. It holds the virtual clusters of the
//! process, each in front of one upstream cluster, and nothing of any record.
//!
//! ```text
//! client ─ server ─ Connection ─ Link ─ upstream node
//!                       │          └ replies in turn ─ as they came, or through rewrite
//!                       └ Cluster: routes, topology, what upstreams serve
//! ```
//!
//! - [`policy`]: what is forwarded, rewritten and refused, and what is advertised.
//! - [`rewrite`]: puts the addresses that clients are to use in the place of the upstream's.
//!
//! **Invariants**
//! - A client connection has one upstream connection of its own, to the node that it asked for; so
//!   order, fetch sessions, transactions and authentication are the upstream's.
//! - What was not negotiated with this upstream connection is not sent to it.
//! - A response that could name a node and cannot be read does not reach a client.
//! - A byte is read once and written once; what waits is charged to the byte budget.

mod buffers;
mod cluster;
mod connection;
mod handshake;
mod link;
mod metrics;
pub mod policy;
mod refresh;
mod response;
pub mod rewrite;
mod service;
mod tokens;
mod topology;

pub use service::{ProxyListener, ProxyService};

#[cfg(test)]
mod tests;

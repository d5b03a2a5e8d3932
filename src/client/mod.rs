//! Connections that this process opens to other Kafka servers.
//!
//! The proxy connects to its upstreams by a [`Connector`], and `doctor` does.
//!
//! **Invariants:** every wait has a deadline by the injected clock; every error
//! says in words what is likely wrong, since whoever reads it often runs neither side.

mod connect;

pub use connect::{CONNECT_TIMEOUT, ConnectError, Connector, Stage};

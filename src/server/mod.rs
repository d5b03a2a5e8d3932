//! The front door: everything between a socket and a [`Service`].
//!
//! The assembly binds a [`Door`] over a service and runs it until the process drains. The broker
//! and the proxy are services; neither sees a socket, a frame or a correlation id.
//!
//! What it owns: the listeners, one task per connection, the read buffers, and [`Connections`], the
//! registry by which others can have the slowest connections closed when memory is short. What it
//! deliberately lacks: knowledge of any API but `ApiVersions`, and a queue between the task that
//! reads a request and the one that handles it, because they are the same.
//!
//! ```text
//! Door ─ Listener (accept, limits) ─ Connection ┬ Reader    frames, charged before they are read
//!                                               ├ Service   first stage, strictly in order (D11)
//!                                               ├ Replies   finish in any order, leave in order
//!                                               └ Writer    vectored, fetched as the socket takes
//! ```
//!
//! **Invariants**
//! - The first stage of a connection's request begins when that of the request before it has ended.
//! - Responses leave in the order of their requests.
//! - A connection holds bounded memory: what it reads is charged to a pool first (DESIGN D10), what
//!   it owes is bounded by number and bytes, and what it sends is fetched as the socket takes it.
//! - Every wait for a peer has a deadline.
//! - A panic in the service ends one connection.

mod apis;
mod buffers;
mod cause;
mod connection;
mod connections;
mod context;
mod door;
mod ending;
mod handshake;
mod listener;
mod log_request;
mod metrics;
mod pipes;
mod reader;
mod replies;
#[cfg(test)]
mod script;
mod secure;
pub mod service;
mod writer;

pub use connections::Connections;
pub use context::Limits;
pub use door::{Door, DoorOptions};
pub use listener::ListenerOptions;
pub use log_request::LogRequest;
pub use pipes::Pipes;
pub use service::Service;

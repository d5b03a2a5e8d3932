//! The upstream's addresses in a response, replaced by those that clients are to use.
//!
//! Nothing is decoded and encoded again: a walk over the response's shape notes what must change as
//! edits of ranges of bytes, and everything else goes on as it came, slices of the same memory. The
//! fields are those of `research/proxy.md` section 2.1; the script that writes the shapes ends when
//! a release of Kafka has a host in a response that is not known to it.
//!
//! Node ids stay what they are. What leads to a node without a route is taken away rather than
//! passed on, as far as clients know how to go on without it:
//!
//! | where | without a route |
//! |---|---|
//! | `Metadata`, `DescribeCluster`, `DescribeQuorum`, `NodeEndpoints` (KIP-951, KIP-932) | the node, or its listener, is left out |
//! | `CurrentLeader` (KIP-951) | leader and epoch -1: no hint |
//! | `PreferredReadReplica` (KIP-392) | -1: the leader |
//! | `FindCoordinator` | `COORDINATOR_NOT_AVAILABLE`, no node; clients ask again |
//!
//! Tags that the shape does not know, at any level, and bytes behind the message do not go on:
//! nobody knows what they say, and a client that would know does without them.

mod edits;
pub mod stream;
mod visit;

use bytes::Bytes;

use crate::protocol::guard::{self, GuardError, Limits, shape};

/// Where clients find a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A host name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Knows where clients find the upstream's nodes.
pub trait Routes {
    /// The address of a node; nothing as long as it has none.
    fn route(&self, node: i32) -> Option<Address>;
}

/// A broker as the upstream told where it is. Never for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamNode {
    /// Its id, not negative.
    pub id: i32,
    /// Its host, not empty.
    pub host: String,
    /// Its port, from 1 to 65535.
    pub port: i32,
}

/// A response without addresses of the upstream.
#[derive(Debug)]
pub struct Rewritten {
    /// The body, to be written one piece after the other.
    pub pieces: Vec<Bytes>,
    /// How many places were changed.
    pub edits: usize,
    /// The brokers in it that can be connected to, in its order; some may stand there twice.
    /// Controllers are not listed (`DescribeQuorum`, and `DescribeCluster` when asked for them).
    pub nodes: Vec<UpstreamNode>,
}

/// Rewrites the body of a response to `key` in `version`. An error says that the upstream's
/// response is not what Kafka answers: nothing of it must go to a client, since what it says could
/// be an address. What is noted on the way stays in proportion to what the decoded form would take,
/// which `limits` bound.
pub fn rewrite(
    key: i16,
    version: i16,
    body: &Bytes,
    limits: Limits,
    routes: &impl Routes,
) -> Result<Rewritten, GuardError> {
    let flexible = shape::response(key).is_some_and(|message| message.flexible.contains(version));
    let mut visit = visit::Visit::new(key, routes, flexible);
    let checked = guard::visit_response(key, version, body, limits, &mut visit)?;
    let (mut edits, nodes) = visit.finish();
    if checked.message_bytes < body.len() {
        // Nobody knows what it says.
        edits.remove(checked.message_bytes..body.len());
    }
    Ok(Rewritten { edits: edits.len(), pieces: edits.apply(body), nodes })
}

#[cfg(test)]
mod odd;
#[cfg(test)]
mod tests;

//! Where the upstream's nodes are, by node id and never by address: an id may come back elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::rewrite::UpstreamNode;

/// Where a node of the upstream listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A host name or an address, as the upstream advertises it.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

/// What is known of the upstream's nodes. One that is no longer mentioned is kept: it may be down.
#[derive(Debug)]
pub(super) struct Topology {
    nodes: Mutex<BTreeMap<i32, Place>>,
    /// How often something changed.
    changes: watch::Sender<u64>,
}

impl Topology {
    /// Knows nothing.
    pub(super) fn new() -> Self {
        Self { nodes: Mutex::default(), changes: watch::Sender::default() }
    }

    /// Takes over what the upstream says of its nodes. Returns those that are new or elsewhere.
    pub(super) fn learn(&self, seen: &[UpstreamNode]) -> Vec<(i32, Place)> {
        let mut changed = Vec::new();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        for node in seen {
            let Ok(port) = u16::try_from(node.port) else { continue };
            if node.id < 0 || node.host.is_empty() || port == 0 {
                continue;
            }
            let known = nodes.get(&node.id);
            if known.is_some_and(|known| known.port == port && known.host == node.host) {
                continue;
            }
            let place = Place { host: node.host.clone(), port };
            nodes.insert(node.id, place.clone());
            changed.push((node.id, place));
        }
        drop(nodes);
        if !changed.is_empty() {
            self.changes.send_modify(|changes| *changes += changed.len() as u64);
        }
        changed
    }

    /// Where a node is.
    pub(super) fn place(&self, id: i32) -> Option<Place> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Where all nodes are.
    pub(super) fn places(&self) -> Vec<Place> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many nodes are known.
    pub(super) fn len(&self) -> usize {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until it is known where a node is.
    pub(super) async fn find(&self, id: i32) -> Place {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(place) = self.place(id) {
                return place;
            }
            // The sender lives as long as this.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn node(id: i32, host: &str, port: i32) -> UpstreamNode {
        UpstreamNode { id, host: host.to_owned(), port }
    }

    #[test]
    fn what_changed_is_told_once() {
        let topology = Topology::new();
        let place = Place { host: "a".to_owned(), port: 9 };
        assert_eq!(topology.learn(&[node(1, "a", 9), node(1, "a", 9)]), [(1, place.clone())]);
        assert_eq!(topology.learn(&[node(1, "a", 9)]), []);
        assert_eq!(topology.place(1), Some(place));
        assert_eq!(topology.learn(&[node(1, "a", 10)]).len(), 1);
        assert_eq!((topology.len(), topology.place(1).map(|place| place.port)), (1, Some(10)));
    }

    #[test]
    fn what_is_no_place_is_not_taken_for_one() {
        let topology = Topology::new();
        let wrong = [node(-1, "a", 9), node(1, "", 9), node(1, "a", 0), node(1, "a", 65_536)];
        assert_eq!(topology.learn(&wrong), []);
        assert_eq!(topology.places(), []);
    }

    #[test]
    fn who_waits_for_a_node_hears_of_it() {
        let topology = Topology::new();
        let mut waiting = std::pin::pin!(topology.find(2));
        assert!(waiting.as_mut().now_or_never().is_none());
        topology.learn(&[node(1, "a", 9)]);
        assert!(waiting.as_mut().now_or_never().is_none());
        topology.learn(&[node(2, "b", 9)]);
        assert_eq!(waiting.now_or_never().map(|place| place.host), Some("b".to_owned()));
    }
}

//! A virtual cluster: what its connections share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

use super::metrics::{Families, Held, Metrics};
use super::policy;
use super::response::ReceiveError;
use super::rewrite::{Address, Routes, UpstreamNode};
use super::topology::{Place, Topology};
use crate::budget::{Budget, BytePool, Pool};
use crate::client::{ConnectError, Connector};
use crate::clock::{Clock, Random};
use crate::config::{Host, Nodes, VirtualCluster};
use crate::protocol::versions::VersionRange;
use crate::security::tls::{Stream, TlsConnector, TlsError};
use crate::server::service::Disconnect;

/// The APIs and versions that a connection may use: what its upstream and the proxy both know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// By key.
    apis: Vec<(i16, VersionRange)>,
}

impl Negotiated {
    /// Whether the connection may use `key` in `version`.
    pub(super) fn serves(&self, key: i16, version: i16) -> bool {
        let place = self.apis.binary_search_by_key(&key, |(key, _)| *key);
        let row = place.ok().and_then(|place| self.apis.get(place));
        row.is_some_and(|(_, versions)| versions.contains(version))
    }
}

/// What clients are told of the upstream's nodes.
#[derive(Debug)]
pub(super) struct VirtualNodes {
    nodes: Nodes,
    /// The ports that the system chose, where the configuration left them to it.
    bound: Mutex<std::collections::HashMap<i32, u16>>,
}

impl Routes for VirtualNodes {
    fn route(&self, node: i32) -> Option<Address> {
        let (host, port) = self.nodes.advertised(node)?;
        if port != 0 {
            return Some(Address { host, port });
        }
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Address { host, port: *bound.get(&node)? })
    }
}

/// A virtual cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: VirtualCluster,
    pub(super) clock: Clock,
    pub(super) random: Random,
    /// Pays for responses on their way to clients.
    pub(super) send: BytePool,
    pub(super) routes: VirtualNodes,
    pub(super) topology: Topology,
    pub(super) metrics: Metrics,
    /// Asks for the upstream's nodes before it is time.
    pub(super) refresh: Notify,
    pub(super) connector: Connector,
    /// What most connections have negotiated.
    usual: Mutex<Option<Arc<Negotiated>>>,
}

impl Cluster {
    /// The cluster of a configuration; nothing is connected.
    pub(super) fn new(
        config: VirtualCluster,
        budget: &Budget,
        clock: Clock,
        random: Random,
        families: &Families,
    ) -> Result<Self, TlsError> {
        let tls = config.upstream.tls.as_ref();
        let tls = tls.map(|tls| TlsConnector::new(tls, clock.clone())).transpose()?;
        let routes = VirtualNodes { nodes: config.nodes.clone(), bound: Mutex::default() };
        Ok(Self {
            connector: Connector::new(tls, clock.clone()),
            metrics: families.of(&config.name),
            send: budget.pool(Pool::Send).clone(),
            topology: Topology::new(),
            refresh: Notify::new(),
            usual: Mutex::default(),
            config,
            clock,
            random,
            routes,
        })
    }

    /// The port on which the node `id` was bound.
    pub(super) fn bound(&self, id: i32, port: u16) {
        self.routes.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(id, port);
    }

    /// What a connection to an upstream with these APIs may use; shared by those with the same.
    pub(super) fn negotiated(&self, upstream: &[(i16, VersionRange)]) -> Arc<Negotiated> {
        let mut apis = policy::usable(upstream.iter().copied());
        apis.sort_unstable_by_key(|(key, _)| *key);
        let negotiated = Negotiated { apis };
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        match &*usual {
            Some(usual) if **usual == negotiated => Arc::clone(usual),
            _ => Arc::clone(usual.insert(Arc::new(negotiated))),
        }
    }

    /// Takes over what a response says of nodes.
    pub(super) fn learn(&self, nodes: &[UpstreamNode]) {
        if nodes.is_empty() {
            return;
        }
        for (id, Place { host, port }) in self.topology.learn(nodes) {
            self.metrics.topology_changes.inc();
            let (cluster, route) = (&*self.config.name, self.routes.route(id));
            let Some(Address { host: to, port: at }) = route else {
                info!(cluster, node = id, upstream = %format_args!("{host}:{port}"),
                    "upstream node found that has no route; declare its id in node.ids");
                continue;
            };
            info!(cluster, node = id, upstream = %format_args!("{host}:{port}"),
                clients = %format_args!("{to}:{at}"), "upstream node found");
        }
        self.metrics.nodes.set(self.topology.len() as i64);
    }

    /// Why a response did not come, for its client.
    pub(super) fn failed(&self, error: &ReceiveError) -> Disconnect {
        match error {
            ReceiveError::Ended(error) => {
                self.metrics.ended.inc();
                Disconnect::Done(format!("the upstream connection ended: {error}"))
            }
            ReceiveError::Malformed(what) => {
                self.metrics.malformed.inc();
                let cluster = &self.config.name;
                Disconnect::Unavailable(format!("upstream of \"{cluster}\": {what}"))
            }
            ReceiveError::TooLarge(error) => {
                let cluster = &self.config.name;
                Disconnect::Unavailable(format!("response of \"{cluster}\": {error}"))
            }
        }
    }

    /// Connects to a node, waiting until it is known where it is.
    pub(super) async fn connect_node(&self, id: i32) -> Result<Stream, Disconnect> {
        let cluster = &self.config.name;
        let place = if let Some(place) = self.topology.place(id) {
            place
        } else {
            self.refresh.notify_one();
            let _held = Held::new(&self.metrics.held);
            let found = self.clock.timeout(self.config.node_hold, self.topology.find(id)).await;
            found.map_err(|_| {
                Disconnect::Unavailable(format!(
                    "upstream of \"{cluster}\": node {id} is not known; is it down?"
                ))
            })?
        };
        let connected = self.connector.connect(&place.host, place.port).await;
        connected.map_err(|error| {
            // It may be elsewhere by now.
            self.refresh.notify_one();
            self.unreachable(&format!("node {id}"), &error)
        })
    }

    /// Connects to any node: the configured ones in turn, then those that were learned.
    pub(super) async fn connect_any(&self) -> Result<Stream, Disconnect> {
        let bootstrap = &self.config.upstream.bootstrap;
        let mut places: Vec<Place> = bootstrap.iter().map(place_of).collect();
        let first = self.random.below(places.len() as u64) as usize;
        places.rotate_left(first);
        places.extend(self.topology.places());
        let mut last = None;
        let mut tried: Vec<Place> = Vec::new();
        for place in places {
            if tried.contains(&place) {
                continue;
            }
            match self.connector.connect(&place.host, place.port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
            tried.push(place);
        }
        let nothing = || Disconnect::Unavailable("upstream.bootstrap.servers is empty".to_owned());
        Err(last.map_or_else(nothing, |error| self.unreachable("any node", &error)))
    }

    fn unreachable(&self, whom: &str, error: &ConnectError) -> Disconnect {
        self.metrics.connect_errors.inc();
        let cluster = &self.config.name;
        Disconnect::Unavailable(format!("upstream of \"{cluster}\": {whom} at {error}"))
    }

    /// How old a client's connection may become: up to a fifth less than configured, so that those
    /// that came together do not all go together.
    pub(super) fn connection_age(&self) -> Option<Duration> {
        let age = self.config.connection_age_max?;
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let jitter = self.random.below(millis / 5 + 1);
        Some(age.saturating_sub(Duration::from_millis(jitter)))
    }
}

fn place_of(endpoint: &crate::config::Endpoint) -> Place {
    Place { host: host_of(&endpoint.host), port: endpoint.port }
}

/// A host as a resolver takes it.
fn host_of(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        host => host.to_string(),
    }
}

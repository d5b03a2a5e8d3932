//! The proxy behind the front door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;

use super::cluster::Cluster;
use super::connection::{Connection, Target};
use super::metrics::Families;
use super::policy;
use super::refresh;
use crate::budget::Budget;
use crate::clock::{Clock, Random};
use crate::config::{Nodes, VirtualCluster};
use crate::metrics::Registry;
use crate::security::CertificateMetrics;
use crate::security::tls::TlsError;
use crate::server::Service;
use crate::server::service::{ApiVersions, Disconnect, Reply, Request, Session};

/// A listener of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyListener {
    /// Its name at the door.
    pub name: Arc<str>,
    /// The virtual cluster.
    pub cluster: usize,
    /// The node behind it; nothing for the bootstrap listener.
    pub node: Option<i32>,
}

/// The virtual clusters of a process.
#[derive(Debug)]
pub struct ProxyService {
    clusters: Vec<Arc<Cluster>>,
    listeners: BTreeMap<Arc<str>, ProxyListener>,
    certificates: CertificateMetrics,
}

impl ProxyService {
    /// The service of `clusters`; nothing is connected yet. An error names the certificate that
    /// cannot be used.
    pub fn new(
        clusters: &[VirtualCluster],
        budget: &Budget,
        clock: &Clock,
        random: &Random,
        registry: &Registry,
    ) -> Result<Self, TlsError> {
        let certificates = CertificateMetrics::new(registry);
        let families = Families::new(registry);
        let make = |config: &VirtualCluster| {
            let (clock, random) = (clock.clone(), random.clone());
            let cluster = Cluster::new(config.clone(), budget, clock, random, &families)?;
            if let Some(tls) = cluster.connector.tls() {
                tls.tell_expiry(&certificates, &config.name);
            }
            Ok(Arc::new(cluster))
        };
        let clusters: Vec<_> = clusters.iter().map(make).collect::<Result<_, TlsError>>()?;
        let named = |listener: ProxyListener| (Arc::clone(&listener.name), listener);
        let listeners = clusters.iter().enumerate();
        let listeners = listeners.flat_map(|(place, it)| listeners_of(place, &it.config));
        let listeners = listeners.map(named).collect();
        Ok(Self { clusters, listeners, certificates })
    }

    /// Where the ends of the certificates of listeners are told, too.
    pub fn certificates(&self) -> &CertificateMetrics {
        &self.certificates
    }

    /// The name of a virtual cluster's bootstrap listener.
    pub fn bootstrap_name(cluster: &str) -> Arc<str> {
        Arc::from(format!("{cluster}/bootstrap"))
    }

    /// The listeners that the door is to have.
    pub fn listeners(&self) -> impl Iterator<Item = &ProxyListener> {
        self.listeners.values()
    }

    /// Notes which ports were bound.
    pub fn bound(&self, addresses: &[(Arc<str>, SocketAddr)]) {
        for (name, address) in addresses {
            let Some(listener) = self.listeners.get(name) else { continue };
            if let (Some(cluster), Some(node)) =
                (self.clusters.get(listener.cluster), listener.node)
            {
                cluster.bound(node, address.port());
            }
        }
    }

    /// Keeps what is known of the upstreams' nodes up to date, until it is dropped.
    pub async fn refresh(&self) {
        join_all(self.clusters.iter().map(refresh::run)).await;
    }

    /// The cluster and the node that a connection is for.
    fn target(&self, session: &Session) -> Option<(&Arc<Cluster>, Target)> {
        let listener = self.listeners.get(&session.listener)?;
        let cluster = self.clusters.get(listener.cluster)?;
        let node = match &cluster.config.nodes {
            Nodes::Ports { .. } => listener.node,
            Nodes::Names { prefix, suffix, .. } => {
                named_node(session.server_name.as_deref()?, prefix, suffix)
            }
        };
        Some((cluster, node.map_or(Target::Bootstrap, Target::Node)))
    }
}

/// The listeners of a virtual cluster: one to bootstrap, one for each node that has a port.
fn listeners_of(place: usize, config: &VirtualCluster) -> Vec<ProxyListener> {
    let name = ProxyService::bootstrap_name(&config.name);
    let bootstrap = ProxyListener { name, cluster: place, node: None };
    let mut listeners = vec![bootstrap];
    if let Nodes::Ports { ids, .. } = &config.nodes {
        let nodes = ids.iter().cloned().flatten();
        listeners.extend(nodes.map(|node| ProxyListener {
            name: Arc::from(format!("{}/node-{node}", config.name)),
            cluster: place,
            node: Some(node),
        }));
    }
    listeners
}

/// The id in a node's name.
fn named_node(name: &str, prefix: &str, suffix: &str) -> Option<i32> {
    let name = name.to_ascii_lowercase();
    let id = name.strip_prefix(&prefix.to_ascii_lowercase())?;
    let id = id.strip_suffix(&suffix.to_ascii_lowercase())?;
    id.parse().ok().filter(|id| *id >= 0)
}

impl Service for ProxyService {
    type Connection = Option<Connection>;

    const ANSWERS_API_VERSIONS: bool = true;

    fn api_versions(&self) -> ApiVersions {
        ApiVersions {
            apis: policy::known().map(|(key, range)| (key, range.min, range.max)).collect(),
            supported_features: Vec::new(),
            finalized_features: Vec::new(),
            finalized_features_epoch: -1,
        }
    }

    fn connect(&self, session: &Arc<Session>) -> Option<Connection> {
        let (cluster, target) = self.target(session)?;
        Some(Connection::new(Arc::clone(cluster), target))
    }

    async fn call(
        &self,
        connection: &Arc<Option<Connection>>,
        session: &Arc<Session>,
        request: Request,
    ) -> Result<Reply, Disconnect> {
        match &**connection {
            Some(connection) => connection.call(request).await,
            // A listener of ours leads nowhere only where names decide.
            None => Err(Disconnect::Unavailable(format!(
                "the client sent no name by TLS (SNI), so that nobody can say which broker of \
                 listener \"{}\" it is for; it has to connect by name, not by IP address",
                session.listener
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_the_id_of_its_node() {
        let node = |name| named_node(name, "broker-", ".kafka.example.com");
        assert_eq!(node("broker-7.kafka.example.com"), Some(7));
        assert_eq!(node("Broker-12.Kafka.example.com"), Some(12));
        for other in
            ["kafka.example.com", "broker-.kafka.example.com", "broker--1.kafka.example.com"]
        {
            assert_eq!(node(other), None, "{other}");
        }
    }
}

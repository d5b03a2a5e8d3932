//! The proxy's configuration: the same process and admin keys as the broker's, and one
//! [`VirtualCluster`] for each cluster that is put before an upstream one.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::listener::{Endpoint, Host};
use super::tls::{ClientTls, ServerTls};
use super::{AdminConfig, Notes, ProcessConfig};

/// Everything that can be configured of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The process as a whole.
    pub process: ProcessConfig,
    /// The HTTP door for operators.
    pub admin: AdminConfig,
    /// What holds for all listeners.
    pub limits: ProxyLimits,
    /// The clusters that clients see; never empty, names unique, no two on one port.
    pub clusters: Vec<VirtualCluster>,
    /// What the user should hear about at start. A listener is named by its cluster.
    pub notes: Notes,
}

/// What holds for all listeners.
#[derive(Clone, Debug)]
pub struct ProxyLimits {
    /// `socket.request.max.bytes`: the largest frame, without its length.
    pub request_bytes_max: u32,
    /// `connections.max.idle.ms`; `None` is for ever.
    pub connection_idle_max: Option<Duration>,
    /// `max.connections`, over all listeners.
    pub connections_max: u32,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: u32,
}

/// A cluster as clients see it, and the one behind it.
#[derive(Clone, Debug)]
pub struct VirtualCluster {
    /// Its name in `virtual.clusters`.
    pub name: String,
    /// The cluster behind it.
    pub upstream: Upstream,
    /// `proxy.listener`: where clients bootstrap. Port 0 is any free port.
    pub listener: Endpoint,
    /// TLS on this cluster's listeners, the bootstrap one and those of nodes.
    pub tls: Option<ServerTls>,
    /// How clients reach each node.
    pub nodes: Nodes,
    /// `metadata.refresh.ms`: how often the upstream is asked where its nodes are.
    pub metadata_refresh: Duration,
    /// `node.hold.ms`: how long a connection to a node that is not known yet is held.
    pub node_hold: Duration,
    /// `connection.max.age.ms`, before its jitter; `None` is for ever.
    pub connection_age_max: Option<Duration>,
}

/// The cluster behind a virtual one.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `upstream.bootstrap.servers`; never empty, no port 0, no [`Host::Any`].
    pub bootstrap: Vec<Endpoint>,
    /// TLS towards it.
    pub tls: Option<ClientTls>,
    /// Whether clients authenticate to it by SASL, which is passed through: then the proxy itself
    /// cannot ask it for anything but `ApiVersions`.
    pub sasl: bool,
}

/// How clients reach the node with a given id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Each declared node has a port: a base plus its id.
    Ports {
        /// `node.ids`: the declared ids; ranges in ascending order that neither meet nor overlap,
        /// none of them negative.
        ids: Vec<RangeInclusive<i32>>,
        /// `node.port.base`: node n is bound on this plus n, which is a port for every declared
        /// id. 0 has the system choose a port for each.
        bind_base: u16,
        /// `node.advertised.host`: what clients are told. Never [`Host::Any`].
        advertised_host: Host,
        /// `node.advertised.port.base`: clients are told this plus the id. 0, only where
        /// `bind_base` is 0, stands for the port that was bound.
        advertised_base: u16,
    },
    /// Each node has a host name on one TLS listener, which tells them apart by SNI: `prefix`, the
    /// id, `suffix`.
    Names {
        /// What stands before the id in `node.advertised.pattern`.
        prefix: String,
        /// What stands between the id and the port.
        suffix: String,
        /// The port that clients are told.
        port: u16,
    },
}

impl Nodes {
    /// The port to bind for `id`, 0 for any free one. `None` where the node has no port of its
    /// own: it is not declared, or has a name.
    pub fn bind_port(&self, id: i32) -> Option<u16> {
        match self {
            Nodes::Ports { ids, bind_base, .. } => port(ids, *bind_base, id),
            Nodes::Names { .. } => None,
        }
    }

    /// Whether the system chooses a port for each node.
    pub fn bind_port_is_chosen(&self) -> bool {
        matches!(self, Nodes::Ports { bind_base: 0, .. })
    }

    /// What clients are told for `id`, port 0 standing for the one that was bound. `None` for an
    /// id that is negative or not declared.
    pub fn advertised(&self, id: i32) -> Option<(String, u16)> {
        match self {
            Nodes::Ports { ids, advertised_host, advertised_base, .. } => {
                Some((advertised_host.to_string(), port(ids, *advertised_base, id)?))
            }
            Nodes::Names { prefix, suffix, port } => {
                (id >= 0).then(|| (format!("{prefix}{id}{suffix}"), *port))
            }
        }
    }
}

/// `base` plus `id`, for a declared one.
fn port(ids: &[RangeInclusive<i32>], base: u16, id: i32) -> Option<u16> {
    if !ids.iter().any(|range| range.contains(&id)) {
        return None;
    }
    if base == 0 {
        return Some(0);
    }
    u16::try_from(i32::from(base).checked_add(id)?).ok()
}

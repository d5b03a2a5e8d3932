//! Which ports of this machine are wanted twice.

use std::ops::RangeInclusive;

use super::super::super::{Endpoint, Host, Nodes, VirtualCluster};
use super::super::values::Values;

/// A part of a virtual cluster that binds ports.
struct Claim<'a> {
    cluster: &'a str,
    /// Without a node it is the bootstrap listener.
    first_node: Option<i32>,
    host: &'a Host,
    ports: RangeInclusive<u16>,
}

impl Claim<'_> {
    /// What wants `port`, in words.
    fn who(&self, port: u16) -> String {
        match self.first_node {
            None => format!("the bootstrap listener of virtual cluster {}", self.cluster),
            Some(first) => {
                let node = i64::from(first) + i64::from(port) - i64::from(*self.ports.start());
                format!("node {node} of virtual cluster {}", self.cluster)
            }
        }
    }

    /// The first port that both want.
    fn shared_port(&self, other: &Claim<'_>) -> Option<u16> {
        let first = *self.ports.start().max(other.ports.start());
        let last = *self.ports.end().min(other.ports.end());
        (first <= last && self.host.overlaps(other.host)).then_some(first)
    }
}

/// Refuses ports that are wanted twice, by two virtual clusters, by one, or by one and the admin
/// listener, and upstreams that are the cluster itself.
pub(super) fn check(process: &mut Values, clusters: &[VirtualCluster], admin: &Endpoint) {
    let claims: Vec<Vec<Claim<'_>>> = clusters.iter().map(claims).collect();
    for (at, own) in claims.iter().enumerate() {
        inside(process, own);
        for other in claims.iter().skip(at + 1) {
            between(process, own, other);
        }
        admins(process, own, admin);
    }
    for (cluster, own) in clusters.iter().zip(&claims) {
        loops(process, cluster, own);
    }
}

fn claims(cluster: &VirtualCluster) -> Vec<Claim<'_>> {
    let Endpoint { host, port } = &cluster.listener;
    let claim = |first_node, ports| Claim { cluster: &cluster.name, first_node, host, ports };
    let mut found = Vec::new();
    if *port != 0 {
        found.push(claim(None, *port..=*port));
    }
    if let Nodes::Ports { ids, .. } = &cluster.nodes {
        for range in ids {
            let port = |id: &i32| cluster.nodes.bind_port(*id).filter(|port| *port != 0);
            if let (Some(first), Some(last)) = (port(range.start()), port(range.end())) {
                found.push(claim(Some(*range.start()), first..=last));
            }
        }
    }
    found
}

/// Nodes cannot meet one another, but the bootstrap listener can stand among them.
fn inside(process: &mut Values, own: &[Claim<'_>]) {
    let Some((listener, nodes)) = own.split_first().filter(|(it, _)| it.first_node.is_none())
    else {
        return;
    };
    if let Some((node, port)) =
        nodes.iter().find_map(|node| Some((node, listener.shared_port(node)?)))
    {
        let what = format!("{} and {} need port {port}", listener.who(port), node.who(port));
        process.conflict(what, "give another proxy.listener or node.port.base");
    }
}

fn between(process: &mut Values, own: &[Claim<'_>], other: &[Claim<'_>]) {
    let pairs = own.iter().flat_map(|one| other.iter().map(move |two| (one, two)));
    let mut shared = pairs.filter_map(|(one, two)| Some((one, two, one.shared_port(two)?)));
    if let Some((one, two, port)) = shared.next() {
        let what = format!("{} and {} need port {port}", one.who(port), two.who(port));
        let fix = format!(
            "give one of them another proxy.listener or node.port.base, or fewer node.ids \
             (virtual.cluster.{}.proxy.listener, for one)",
            two.cluster
        );
        process.conflict(what, fix);
    }
}

fn admins(process: &mut Values, own: &[Claim<'_>], admin: &Endpoint) {
    if admin.port == 0 || !process.are_good(&["admin.listener"]) {
        return;
    }
    let wanted =
        Claim { cluster: "", first_node: None, host: &admin.host, ports: admin.port..=admin.port };
    if let Some((claim, port)) =
        own.iter().find_map(|claim| Some((claim, claim.shared_port(&wanted)?)))
    {
        let what =
            format!("{} and {} need port {port}", process.told("admin.listener"), claim.who(port));
        process.conflict(what, "give the admin listener another port");
    }
}

/// A proxy that is its own upstream would connect to itself without end.
fn loops(process: &mut Values, cluster: &VirtualCluster, own: &[Claim<'_>]) {
    for server in &cluster.upstream.bootstrap {
        let is_own = |claim: &&Claim<'_>| {
            let here = claim.host.is_wildcard() && server.host.is_loopback();
            claim.ports.contains(&server.port) && (here || *claim.host == server.host)
        };
        if let Some(claim) = own.iter().find(is_own) {
            let what = format!(
                "upstream.bootstrap.servers of virtual cluster {} has {server}, which is {}",
                cluster.name,
                claim.who(server.port)
            );
            process.conflict(what, "give a broker of the Kafka cluster behind the proxy");
        }
    }
}

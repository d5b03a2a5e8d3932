//! What the start of a proxy says to the person who started it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::config::{
    ClientAuth, Endpoint, Host, Nodes, ProxyConfig, ServerTls, Upstream, VirtualCluster,
};

/// A few lines on where the running proxy is, which addresses clients are told, and what is behind
/// it. The first begins with "ready", for scripts that wait for it.
///
/// `bound` has the address of each cluster's bootstrap listener, in the order of `config.clusters`,
/// and `admin` the one of the admin listener: what was really bound, also where port 0 was asked
/// for.
pub fn proxy_banner(config: &ProxyConfig, bound: &[SocketAddr], admin: SocketAddr) -> String {
    let mut out = format!("ready: tidegate {}, proxy\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, text: &str| {
        writeln!(out, "  {label:<11} {text}").expect("text can always be written to a String");
    };
    for (cluster, bound) in config.clusters.iter().zip(bound) {
        if config.clusters.len() > 1 {
            line("cluster", &cluster.name);
        }
        line("clients", &clients(cluster, *bound));
        for nodes in nodes(cluster) {
            line("nodes", &nodes);
        }
        line("upstream", &upstream(&cluster.upstream));
    }
    line("admin", &format!("http://{admin}/metrics, /livez, /readyz"));
    out
}

/// What clients put into `bootstrap.servers`.
fn clients(cluster: &VirtualCluster, bound: SocketAddr) -> String {
    let spoken = spoken(cluster);
    let host = match (&cluster.nodes, &cluster.listener.host) {
        (Nodes::Names { port, .. }, _) => {
            return format!(
                "any name that leads here but the nodes' own, port {port} ({spoken}), listening \
                 on {bound}"
            );
        }
        (Nodes::Ports { advertised_host, .. }, listener) if listener.is_wildcard() => {
            advertised_host.clone()
        }
        (Nodes::Ports { .. }, listener) => listener.clone(),
    };
    let told = Endpoint { host, port: bound.port() };
    let listening = if told.to_string() == bound.to_string() {
        String::new()
    } else {
        format!(", listening on {bound}")
    };
    format!("bootstrap.servers={told} ({spoken}){listening}")
}

/// What is spoken on the listeners.
fn spoken(cluster: &VirtualCluster) -> String {
    let tls = match cluster.tls.as_ref().map(|tls| tls.client_auth) {
        None => "plaintext",
        Some(ClientAuth::None) => "TLS",
        Some(ClientAuth::Requested) => "TLS, client certificates requested",
        Some(ClientAuth::Required) => "TLS, client certificates required",
    };
    with_sasl(tls, &cluster.upstream)
}

fn with_sasl(tls: &str, upstream: &Upstream) -> String {
    let sasl = if upstream.sasl { ", SASL passed through" } else { "" };
    format!("{tls}{sasl}")
}

/// The addresses of the declared nodes, a line for each range.
fn nodes(cluster: &VirtualCluster) -> Vec<String> {
    match &cluster.nodes {
        Nodes::Names { prefix, suffix, port } => {
            vec![format!("any id at {prefix}<id>{suffix}:{port}, told apart by TLS (SNI)")]
        }
        Nodes::Ports { ids, bind_base, advertised_host, advertised_base } => ids
            .iter()
            .map(|range| {
                let told = ports(advertised_host, *advertised_base, range);
                let listening = ports(&cluster.listener.host, *bind_base, range);
                let listening = if told == listening {
                    String::new()
                } else {
                    format!(", listening on {listening}")
                };
                format!("{} at {told}{listening}", of_range(range))
            })
            .collect(),
    }
}

fn ports(host: &Host, base: u16, range: &RangeInclusive<i32>) -> String {
    let at = |id: i32| {
        let port = u16::try_from(i32::from(base).saturating_add(id)).unwrap_or(0);
        Endpoint { host: host.clone(), port }.to_string()
    };
    if base == 0 {
        let host = Endpoint { host: host.clone(), port: 0 }.to_string();
        return format!("{} and any free port each", host.trim_end_matches(":0"));
    }
    if range.start() == range.end() {
        return at(*range.start());
    }
    format!("{}-{}", at(*range.start()), i64::from(base) + i64::from(*range.end()))
}

fn of_range(range: &RangeInclusive<i32>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

fn upstream(upstream: &Upstream) -> String {
    let tls = match upstream.tls.as_ref().map(|tls| tls.verify_hostname) {
        None => "plaintext",
        Some(true) => "TLS",
        Some(false) => "TLS, host names not verified",
    };
    format!("{} ({})", servers(upstream), with_sasl(tls, upstream))
}

fn servers(upstream: &Upstream) -> String {
    upstream.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What the start of a proxy warns of, a sentence each; empty for a configuration that surprises
/// nobody.
pub fn proxy_warnings(config: &ProxyConfig) -> Vec<String> {
    let mut out = Vec::new();
    for cluster in &config.clusters {
        let name = if config.clusters.len() > 1 {
            format!("virtual cluster {}: ", cluster.name)
        } else {
            String::new()
        };
        let by_hostname = config.notes.advertised_by_hostname.contains(&cluster.name);
        let found = of_listener(cluster)
            .into_iter()
            .chain(of_advertised(cluster, by_hostname))
            .chain(of_identity(cluster))
            .chain(of_upstream(&cluster.upstream));
        out.extend(found.map(|warning| format!("{name}{warning}")));
    }
    if !config.admin.listener.host.is_loopback() {
        out.push(format!(
            "the admin listener on {} has no authentication and is open to other machines",
            config.admin.listener
        ));
    }
    out
}

/// What crosses the network to clients in the clear.
fn of_listener(cluster: &VirtualCluster) -> Option<String> {
    let VirtualCluster { listener, tls, upstream, .. } = cluster;
    if listener.host.is_loopback() || tls.is_some() {
        return None;
    }
    Some(if upstream.sasl {
        format!(
            "the listener on {listener} is open to other machines without TLS: what clients \
             authenticate with, and all records, cross the network in the clear; set \
             listener.security.protocol=SASL_SSL"
        )
    } else {
        format!(
            "the listener on {listener} is plaintext and open to other machines: whoever reaches \
             it can do whatever the upstream lets this proxy do; keep it on a private network"
        )
    })
}

/// Addresses that clients are told and may not reach.
fn of_advertised(cluster: &VirtualCluster, by_hostname: bool) -> Option<String> {
    let Nodes::Ports { advertised_host, .. } = &cluster.nodes else { return None };
    let bind = &cluster.listener.host;
    let (is_local, is_told_local) = (bind.is_loopback(), advertised_host.is_loopback());
    if by_hostname {
        return Some(format!(
            "node.advertised.host is not set, so clients are told to connect to this machine's \
             host name, \"{advertised_host}\"; where that does not lead here from their side, set \
             node.advertised.host"
        ));
    }
    if !is_local && is_told_local {
        return Some(format!(
            "the listener on {} is open to other machines and tells clients to connect to \
             \"{advertised_host}\", which on another machine is that machine itself; set \
             node.advertised.host",
            cluster.listener
        ));
    }
    (is_local && !is_told_local).then(|| {
        format!(
            "clients are told to connect to \"{advertised_host}\", but the listeners are on \
             {bind}, which only this machine reaches; set proxy.listener to an address that leads \
             here, unless something on this machine forwards to it"
        )
    })
}

/// Who the upstream takes clients for.
fn of_identity(cluster: &VirtualCluster) -> Vec<String> {
    let mut out = Vec::new();
    let asks = |tls: &ServerTls| tls.client_auth != ClientAuth::None;
    if cluster.tls.as_ref().is_some_and(asks) {
        out.push(
            "clients' certificates are checked here and not passed on: the upstream takes all \
             clients for the proxy, so its ACLs cannot tell them apart by certificate"
                .to_owned(),
        );
    }
    if cluster.upstream.sasl {
        out.push(
            "SASL is passed through, so the proxy cannot ask the upstream where its nodes are: it \
             learns that from answers to clients, and holds connections to nodes that it has not \
             heard of for up to node.hold.ms"
                .to_owned(),
        );
    }
    out
}

/// What is weaker towards the upstream than it may seem.
fn of_upstream(upstream: &Upstream) -> Vec<String> {
    let mut out = Vec::new();
    if upstream.tls.as_ref().is_some_and(|tls| !tls.verify_hostname) {
        out.push(
            "the host names in the upstream's certificates are not verified: whoever has any \
             certificate that is trusted can take its place; leave out \
             upstream.ssl.endpoint.identification.algorithm"
                .to_owned(),
        );
    }
    let is_local = upstream.bootstrap.iter().all(|server| server.host.is_loopback());
    if upstream.sasl && upstream.tls.is_none() && !is_local {
        out.push(format!(
            "the way to {} has no TLS: what clients authenticate with crosses it in the clear",
            servers(upstream)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const SERVERS: (&str, &str) = ("upstream.bootstrap.servers", "k1:9092,k2:9092");
    const SSL: (&str, &str) = ("listener.security.protocol", "SSL");
    const STORE: (&str, &str) = ("ssl.keystore.location", "/k.pem");

    fn config(flags: &[(&str, &str)]) -> ProxyConfig {
        let flags: Vec<_> = std::iter::once(SERVERS).chain(flags.iter().copied()).collect();
        Sources::of_flags(&flags).load_proxy().unwrap()
    }

    fn lines(flags: &[(&str, &str)], bound: &[&str]) -> Vec<String> {
        let bound: Vec<SocketAddr> = bound.iter().map(|address| address.parse().unwrap()).collect();
        let text = proxy_banner(&config(flags), &bound, "127.0.0.1:9464".parse().unwrap());
        assert!(text.starts_with("ready: tidegate "), "{text}");
        text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }

    fn warned(flags: &[(&str, &str)], words: &[&str]) {
        let found = proxy_warnings(&config(flags));
        assert_eq!(found.len(), words.len(), "{found:#?}");
        for (warning, words) in found.iter().zip(words) {
            assert!(warning.contains(words), "{warning}");
        }
    }

    #[test]
    fn the_banner_says_where_to_connect_what_nodes_are_called_and_what_is_behind() {
        assert_eq!(
            lines(&[], &["127.0.0.1:19092"]),
            [
                "clients     bootstrap.servers=127.0.0.1:19092 (plaintext)",
                "nodes       0-9 at 127.0.0.1:19093-19102",
                "upstream    k1:9092,k2:9092 (plaintext)",
                "admin       http://127.0.0.1:9464/metrics, /livez, /readyz",
            ]
        );
    }

    #[test]
    fn the_banner_tells_addresses_for_clients_from_those_that_were_bound() {
        let flags = [
            ("virtual.clusters", "a,b"),
            ("virtual.cluster.a.proxy.listener", "0.0.0.0:1000"),
            ("virtual.cluster.a.node.ids", "3,7-8"),
            ("virtual.cluster.a.node.advertised.host", "p.example.com"),
            ("virtual.cluster.a.node.advertised.port.base", "2000"),
            ("virtual.cluster.b.proxy.listener", "[::1]:0"),
            ("virtual.cluster.b.node.port.base", "0"),
        ];
        assert_eq!(
            lines(&flags, &["0.0.0.0:1000", "[::1]:40001"]),
            [
                "cluster     a",
                "clients     bootstrap.servers=p.example.com:1000 (plaintext), listening on \
                 0.0.0.0:1000",
                "nodes       3 at p.example.com:2003, listening on 0.0.0.0:1004",
                "nodes       7-8 at p.example.com:2007-2008, listening on 0.0.0.0:1008-1009",
                "upstream    k1:9092,k2:9092 (plaintext)",
                "cluster     b",
                "clients     bootstrap.servers=[::1]:40001 (plaintext)",
                "nodes       0-9 at [::1] and any free port each",
                "upstream    k1:9092,k2:9092 (plaintext)",
                "admin       http://127.0.0.1:9464/metrics, /livez, /readyz",
            ]
        );
    }

    #[test]
    fn the_banner_says_what_is_spoken_on_either_side() {
        let flags = [
            ("listener.security.protocol", "SASL_SSL"),
            STORE,
            ("ssl.truststore.location", "/ca.pem"),
            ("ssl.client.auth", "required"),
            ("node.advertised.pattern", "b{id}.example.com:443"),
            ("upstream.security.protocol", "SASL_SSL"),
            ("upstream.ssl.endpoint.identification.algorithm", ""),
        ];
        let found = lines(&flags, &["127.0.0.1:19092"]);
        assert_eq!(
            found[..3],
            [
                "clients     any name that leads here but the nodes' own, port 443 (TLS, client \
                 certificates required, SASL passed through), listening on 127.0.0.1:19092",
                "nodes       any id at b<id>.example.com:443, told apart by TLS (SNI)",
                "upstream    k1:9092,k2:9092 (TLS, host names not verified, SASL passed through)",
            ]
        );
    }

    #[test]
    fn a_proxy_for_this_machine_alone_gets_no_warning() {
        warned(&[], &[]);
        warned(&[SSL, STORE, ("proxy.listener", "10.0.0.1:9092")], &[]);
    }

    #[test]
    fn open_listeners_and_addresses_that_clients_cannot_reach_are_warned_of() {
        let told = |host| ("node.advertised.host", host);
        let open = ("proxy.listener", "0.0.0.0:9092");
        warned(
            &[open],
            &["on 0.0.0.0:9092 is plaintext and open", "this machine's host name, \"localhost\""],
        );
        let plain = "is plaintext and open to other machines";
        warned(&[open, told("localhost")], &[plain, "on another machine is that machine itself"]);
        warned(&[open, told("p.example.com")], &[plain]);
        let elsewhere = "told to connect to \"p.example.com\", but the listeners are on 127.0.0.1";
        warned(&[told("p.example.com")], &[elsewhere]);
        warned(&[("admin.listener", ":9464")], &["admin listener on :9464 has no authentication"]);
    }

    #[test]
    fn what_the_upstream_does_not_learn_and_what_is_not_verified_is_warned_of() {
        let mutual =
            [SSL, STORE, ("ssl.client.auth", "requested"), ("ssl.truststore.location", "/ca.pem")];
        warned(&mutual, &["the upstream takes all clients for the proxy"]);
        let sasl = |protocol| {
            [("listener.security.protocol", protocol), ("upstream.security.protocol", protocol)]
        };
        let learned = "holds connections to nodes that it has not heard of for up to node.hold.ms";
        let [down, up] = sasl("SASL_PLAINTEXT");
        warned(&[down, up], &[learned, "the way to k1:9092,k2:9092 has no TLS"]);
        let open = ("proxy.listener", "10.0.0.1:9092");
        let clear = "what clients authenticate with, and all records, cross the network";
        warned(&[down, up, open], &[clear, learned, "has no TLS"]);
        let unverified = [
            ("upstream.security.protocol", "SSL"),
            ("upstream.ssl.endpoint.identification.algorithm", ""),
        ];
        warned(&unverified, &["certificates are not verified"]);
    }

    #[test]
    fn a_warning_names_its_cluster_where_there_are_several() {
        let flags =
            [("virtual.clusters", "a,b"), ("virtual.cluster.b.proxy.listener", "10.0.0.1:9092")];
        warned(&flags, &["virtual cluster b: the listener on 10.0.0.1:9092 is plaintext"]);
    }
}

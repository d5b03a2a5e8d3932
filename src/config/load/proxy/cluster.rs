//! One virtual cluster.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::super::{Endpoint, Host, Nodes, Notes, Upstream, VirtualCluster};
use super::super::tls;
use super::super::values::Values;
use super::scopes::Scope;

const BOOTSTRAP: &str = "upstream.bootstrap.servers";
const LISTENER: &str = "proxy.listener";
const IDS: &str = "node.ids";
const BASE: &str = "node.port.base";
const ADVERTISED_HOST: &str = "node.advertised.host";
const ADVERTISED_BASE: &str = "node.advertised.port.base";
const PATTERN: &str = "node.advertised.pattern";
const MAX_AGE: &str = "connection.max.age.ms";

/// The most nodes that may be declared: each has a socket from the start.
const NODES_MAX: i64 = 10_000;
/// The shortest life of a connection: below it a client is busy with nothing but connecting.
const AGE_MS_MIN: i64 = 1_000;
/// The longest id, in digits.
const ID_DIGITS_MAX: usize = 10;
/// The longest host name, and the longest part of one.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The cluster of `scope`, or `None` where its problems leave none.
pub(super) fn cluster(
    scope: &mut Scope,
    hostname: &str,
    notes: &mut Notes,
) -> Option<VirtualCluster> {
    let bootstrap = bootstrap(scope);
    let values = &mut scope.values;
    let (upstream_tls, listener_tls) = (tls::client(values), tls::server(values));
    let sasl = tls::UPSTREAM.has_sasl(values);
    check_sasl(values);
    let has_pattern = values.text_if_given(PATTERN).is_some();
    let listener = listener(values);
    let nodes = match &listener {
        _ if has_pattern => names(values),
        Some(listener) => ports(scope, listener, hostname, notes),
        None => None,
    };
    let values = &mut scope.values;
    let age_ms = values.number(MAX_AGE);
    if age_ms != -1 && age_ms < AGE_MS_MIN {
        values.refuse(MAX_AGE, "must be -1 for ever, or at least 1s");
    }
    Some(VirtualCluster {
        name: scope.name.clone(),
        upstream: Upstream { bootstrap, tls: upstream_tls, sasl },
        listener: listener?,
        tls: listener_tls,
        nodes: nodes?,
        metadata_refresh: values.duration("metadata.refresh.ms"),
        node_hold: values.duration("node.hold.ms"),
        connection_age_max: u64::try_from(age_ms).ok().map(Duration::from_millis),
    })
}

fn bootstrap(scope: &mut Scope) -> Vec<Endpoint> {
    let items = scope.values.list(BOOTSTRAP).to_vec();
    let is_given = scope.values.is_set(BOOTSTRAP);
    if items.is_empty() && scope.values.are_good(&[BOOTSTRAP]) {
        let what = if is_given {
            scope.values.told(BOOTSTRAP)
        } else {
            format!("{} is not set", scope.written(BOOTSTRAP))
        };
        let fix = "give the host:port of brokers of the Kafka cluster behind the proxy, several \
                   separated by commas (--upstream)";
        scope.values.conflict(what, fix);
    }
    let usable = |item: &String| {
        let endpoint = Endpoint::parse(item)?;
        (endpoint.port != 0 && !endpoint.host.is_wildcard()).then_some(endpoint)
    };
    let found: Option<Vec<_>> = items.iter().map(usable).collect();
    found.unwrap_or_else(|| {
        let expected = "must be host:port, such as kafka-1.example.com:9092, several separated \
                        by commas, without a protocol before them";
        scope.values.refuse(BOOTSTRAP, expected);
        Vec::new()
    })
}

/// What clients say to authenticate reaches the upstream as it is.
fn check_sasl(values: &mut Values) {
    let (upstream, listener) = (tls::UPSTREAM, tls::LISTENER);
    let both = [listener.protocol, upstream.protocol];
    if !values.are_good(&both) || upstream.has_sasl(values) == listener.has_sasl(values) {
        return;
    }
    let with = |side: &tls::TlsKeys, sasl| match (side.has_tls(values), sasl) {
        (false, false) => "PLAINTEXT",
        (true, false) => "SSL",
        (false, true) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    };
    let fix = format!(
        "SASL is passed through, so both sides have it or neither: set {}={} if clients \
         authenticate to the upstream by SASL, else {}={}",
        if upstream.has_sasl(values) { listener.protocol } else { upstream.protocol },
        if upstream.has_sasl(values) { with(&listener, true) } else { with(&upstream, true) },
        if upstream.has_sasl(values) { upstream.protocol } else { listener.protocol },
        if upstream.has_sasl(values) { with(&upstream, false) } else { with(&listener, false) },
    );
    let what = values.both(listener.protocol, upstream.protocol);
    values.conflict(what, fix);
}

fn listener(values: &mut Values) -> Option<Endpoint> {
    let listener = Endpoint::parse(values.text(LISTENER));
    if listener.is_none() {
        let expected = "must be host:port, such as 0.0.0.0:19092 or [::1]:19092, without a \
                        protocol before it";
        values.refuse(LISTENER, expected);
    }
    listener
}

/// Nodes that have names.
fn names(values: &mut Values) -> Option<Nodes> {
    for key in [IDS, BASE, ADVERTISED_HOST, ADVERTISED_BASE] {
        if values.is_own(key) {
            let what = values.both(key, PATTERN);
            values.conflict(what, format!("names stand for every id: leave out {key}, or them"));
        }
    }
    if !tls::LISTENER.has_tls(values) && values.are_good(&[tls::LISTENER.protocol]) {
        let what = values.both(PATTERN, tls::LISTENER.protocol);
        let tls = if tls::LISTENER.has_sasl(values) { "SASL_SSL" } else { "SSL" };
        let fix = format!(
            "without TLS nobody says which name it connects to: set {}={tls}, or give each node \
             a port ({IDS}, {BASE})",
            tls::LISTENER.protocol
        );
        values.conflict(what, fix);
    }
    let nodes = pattern(values.text(PATTERN));
    if nodes.is_none() {
        let expected = "must be host:port with {id} once in the host, such as \
                        broker-{id}.kafka.example.com:9093";
        values.refuse(PATTERN, expected);
    }
    nodes
}

fn pattern(text: &str) -> Option<Nodes> {
    let (prefix, rest) = text.split_once("{id}")?;
    let (suffix, port) = rest.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))?;
    let longest = format!("{prefix}{}{suffix}", "9".repeat(ID_DIGITS_MAX));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A host of digits and dots is an address, which is not sent as a name.
    let is_name = longest.len() <= HOST_BYTES_MAX
        && longest.split('.').all(label)
        && longest.bytes().any(|b| b.is_ascii_alphabetic());
    (is_name && port != 0).then(|| Nodes::Names {
        prefix: prefix.to_ascii_lowercase(),
        suffix: suffix.to_ascii_lowercase(),
        port,
    })
}

/// Nodes that have ports.
fn ports(
    scope: &mut Scope,
    listener: &Endpoint,
    hostname: &str,
    notes: &mut Notes,
) -> Option<Nodes> {
    let values = &mut scope.values;
    let ids = ids(values);
    let advertised_host = match values.text_if_given(ADVERTISED_HOST).map(Host::parse) {
        None if listener.host.is_wildcard() => {
            notes.advertised_by_hostname.push(scope.name.clone());
            Some(Host::Name(hostname.to_owned()))
        }
        None => Some(listener.host.clone()),
        Some(Some(host)) if !host.is_wildcard() => Some(host),
        Some(_) => {
            let expected = "must be a name or address that clients can connect to, an IPv6 \
                            address in brackets, without a port";
            values.refuse(ADVERTISED_HOST, expected);
            None
        }
    };
    let bind_base = bind_base(scope, listener)?;
    let values = &mut scope.values;
    let advertised_base = match values.number_if_set(ADVERTISED_BASE).map(|base| base as u16) {
        None => bind_base,
        Some(base) if (base == 0) == (bind_base == 0) => base,
        Some(_) => {
            let what = values.both(ADVERTISED_BASE, BASE);
            values.conflict(what, "0 is any free port, which nothing can be mapped to in advance");
            return None;
        }
    };
    let ids = ids?;
    let fits = check_range(scope, BASE, bind_base, &ids)
        && (advertised_base == bind_base
            || check_range(scope, ADVERTISED_BASE, advertised_base, &ids));
    let advertised_host = advertised_host?;
    fits.then_some(Nodes::Ports { ids, bind_base, advertised_host, advertised_base })
}

/// The first port of nodes, which follows the bootstrap listener's unless it is given.
fn bind_base(scope: &mut Scope, listener: &Endpoint) -> Option<u16> {
    if !scope.values.are_good(&[BASE]) {
        return None;
    }
    if let Some(base) = scope.values.number_if_set(BASE) {
        return Some(base as u16);
    }
    let base = listener.port.checked_add(1).filter(|_| listener.port != 0);
    if base.is_none() {
        let what = format!("{} without {BASE}", scope.values.told(LISTENER));
        let fix = format!("no port follows it: give {}, or 0 for free ports", scope.written(BASE));
        scope.values.conflict(what, fix);
    }
    base
}

/// Whether every declared node has a port that exists.
fn check_range(
    scope: &mut Scope,
    key: &'static str,
    base: u16,
    ids: &[RangeInclusive<i32>],
) -> bool {
    let last = ids.last().map_or(0, |range| *range.end());
    let port = i64::from(base) + i64::from(last);
    if base == 0 || port <= i64::from(u16::MAX) {
        return true;
    }
    let from = if scope.values.is_set(key) {
        scope.values.told(key)
    } else {
        format!("{key} = {base} (from {})", scope.values.told(LISTENER))
    };
    let what = format!("{} and {from}", scope.values.told(IDS));
    let highest = u16::MAX - base;
    scope.values.conflict(
        what,
        format!(
            "node {last} would be on port {port} and the last port is 65535: declare ids up to \
             {highest}, or give a lower {}",
            scope.written(key)
        ),
    );
    false
}

/// The declared ids in ascending order; ranges that meet or overlap become one.
fn ids(values: &mut Values) -> Option<Vec<RangeInclusive<i32>>> {
    if !values.are_good(&[IDS]) {
        return None;
    }
    let items: Option<Vec<_>> = values.list(IDS).iter().map(|item| id_range(item)).collect();
    let Some(mut items) = items.filter(|items| !items.is_empty()) else {
        let expected = "must be ids of brokers such as 1, 2 or 0-9, several separated by commas";
        values.refuse(IDS, expected);
        return None;
    };
    items.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<i32>> = Vec::with_capacity(items.len());
    for item in items {
        match merged.last_mut() {
            Some(last) if *item.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(item.end());
            }
            _ => merged.push(item),
        }
    }
    let size =
        |range: &RangeInclusive<i32>| i64::from(*range.end()) - i64::from(*range.start()) + 1;
    let count: i64 = merged.iter().map(size).sum();
    if count > NODES_MAX {
        let expected = format!(
            "declares {count} nodes; each has a port and a socket from the start, so at most \
             {NODES_MAX} can be declared"
        );
        values.refuse(IDS, &expected);
        return None;
    }
    Some(merged)
}

/// Reads `n` or `n-m`.
fn id_range(text: &str) -> Option<RangeInclusive<i32>> {
    let id = |text: &str| {
        let text = text.trim();
        text.parse::<i32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (id(first)?, id(last)?);
    (first <= last).then_some(first..=last)
}

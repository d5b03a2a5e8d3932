//! `listeners` and what belongs to it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::listener::{NAMED_FORM, Named};
use super::super::{AdminConfig, Endpoint, Host, Listener, Notes, SecurityProtocol, ServerConfig};
use super::tls;
use super::values::Values;

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const PROTOCOLS: &str = "listener.security.protocol.map";
const CONTROLLERS: &str = "controller.listener.names";

/// The front door's part of the configuration.
pub(super) fn server(
    values: &mut Values,
    hostname: &str,
    admin: &AdminConfig,
    notes: &mut Notes,
) -> ServerConfig {
    let idle_ms = values.number("connections.max.idle.ms");
    ServerConfig {
        listeners: listeners(values, hostname, admin, notes),
        request_bytes_max: values.number("socket.request.max.bytes") as u32,
        connection_idle_max: u64::try_from(idle_ms).ok().map(Duration::from_millis),
        connections_max: values.number("max.connections") as u32,
        connections_per_ip_max: values.number("max.connections.per.ip") as u32,
        fetch_bytes_max: values.number("fetch.max.bytes") as u32,
        fetch_sessions_max: values.number("max.incremental.fetch.session.cache.slots") as u32,
    }
}

fn listeners(
    values: &mut Values,
    hostname: &str,
    admin: &AdminConfig,
    notes: &mut Notes,
) -> Vec<Listener> {
    let protocols = protocols(values);
    let left_out: Vec<_> =
        values.list(CONTROLLERS).iter().map(|name| name.to_ascii_uppercase()).collect();
    let mut bound = named(values, LISTENERS);
    bound.retain(|listener| !left_out.contains(&listener.name));
    let mut advertised = named(values, ADVERTISED);
    advertised.retain(|listener| !left_out.contains(&listener.name));

    if bound.is_empty() {
        values.refuse(LISTENERS, "must have a listener that controller.listener.names leaves in");
    }
    check_ports(values, &bound, admin);
    check_advertised(values, &bound, &advertised);
    let listeners: Vec<Listener> = bound
        .into_iter()
        .map(|Named { name, endpoint: bind }| {
            let protocol = protocol(values, &protocols, &name);
            let tls = match protocol {
                SecurityProtocol::Ssl => tls::of_listener(values, &name),
                SecurityProtocol::Plaintext => None,
            };
            let given = advertised.iter().find(|given| given.name == name);
            let advertised = match given {
                Some(given) => given.endpoint.clone(),
                None if bind.host.is_wildcard() => {
                    notes.advertised_by_hostname.push(name.clone());
                    Endpoint { host: Host::Name(hostname.to_owned()), port: bind.port }
                }
                None => bind.clone(),
            };
            Listener { name, protocol, tls, bind, advertised }
        })
        .collect();
    note_unused(values, &listeners, notes);
    listeners
}

/// TLS settings of listeners that do not speak it, or are not here, have no effect; one
/// configuration often serves several kinds of brokers.
fn note_unused(values: &mut Values, listeners: &[Listener], notes: &mut Notes) {
    let speak = |name: &str| {
        let found = listeners.iter().find(|listener| listener.name.eq_ignore_ascii_case(name));
        found.is_some_and(|listener| listener.protocol == SecurityProtocol::Ssl)
    };
    notes.without_effect.extend(values.take_of_other_listeners(speak));
    notes.without_effect.sort_unstable();
    if listeners.iter().any(|listener| listener.protocol == SecurityProtocol::Ssl) {
        return;
    }
    for key in tls::LISTENER.names().into_iter().filter(|key| values.is_set(key)) {
        notes.overruled.push(format!("{key} has no effect because no listener speaks SSL"));
    }
}

/// The items of `listeners` or `advertised.listeners`; each name may stand once.
fn named(values: &mut Values, key: &'static str) -> Vec<Named> {
    let items: Vec<_> = values.list(key).iter().map(|item| Named::parse(item)).collect();
    let Some(items) = items.into_iter().collect::<Option<Vec<_>>>() else {
        values.refuse(key, NAMED_FORM);
        return Vec::new();
    };
    for (at, item) in items.iter().enumerate() {
        if items.iter().take(at).any(|earlier| earlier.name == item.name) {
            values.refuse(
                key,
                "must name each listener once; give each its own name, and its \
                                protocol in listener.security.protocol.map",
            );
        }
    }
    items
}

/// The protocol of every listener name.
fn protocols(values: &mut Values) -> BTreeMap<String, String> {
    let pair = |item: &String| {
        let (name, protocol) = item.split_once(':')?;
        Some((name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase()))
    };
    let pairs: Option<BTreeMap<_, _>> = values.list(PROTOCOLS).iter().map(pair).collect();
    pairs.unwrap_or_else(|| {
        values.refuse(PROTOCOLS, "must be NAME:PROTOCOL, several separated by commas");
        BTreeMap::new()
    })
}

fn protocol(
    values: &mut Values,
    protocols: &BTreeMap<String, String>,
    name: &str,
) -> SecurityProtocol {
    if !values.are_good(&[PROTOCOLS]) {
        return SecurityProtocol::Plaintext;
    }
    match protocols.get(name).map(String::as_str) {
        Some("PLAINTEXT") => {}
        Some("SSL") => return SecurityProtocol::Ssl,
        Some(other) => values.refuse(
            LISTENERS,
            &format!(
                "listener {name} would speak {other}; only PLAINTEXT and SSL are supported so far"
            ),
        ),
        None => values.refuse(
            LISTENERS,
            &format!("listener {name} has no protocol; add {name}:PLAINTEXT to {PROTOCOLS}"),
        ),
    }
    SecurityProtocol::Plaintext
}

fn check_ports(values: &mut Values, bound: &[Named], admin: &AdminConfig) {
    for (at, listener) in bound.iter().enumerate() {
        if let Some(earlier) =
            bound.iter().take(at).find(|earlier| earlier.endpoint.collides_with(&listener.endpoint))
        {
            let (one, other) = (&earlier.name, &listener.name);
            let expected = format!("listeners {one} and {other} need different ports");
            values.refuse(LISTENERS, &expected);
        }
        if listener.endpoint.collides_with(&admin.listener) && values.are_good(&["admin.listener"])
        {
            let what = values.both("admin.listener", LISTENERS);
            values.conflict(what, format!("listener {} needs another port", listener.name));
        }
    }
}

fn check_advertised(values: &mut Values, bound: &[Named], advertised: &[Named]) {
    let names: Vec<_> = bound.iter().map(|listener| listener.name.as_str()).collect();
    for item in advertised {
        if item.endpoint.host.is_wildcard() {
            let expected = format!(
                "listener {} must be an address that clients can connect to, not a wildcard; \
                 give this machine's name or address",
                item.name
            );
            values.refuse(ADVERTISED, &expected);
        }
        if values.are_good(&[LISTENERS]) && !names.contains(&item.name.as_str()) {
            let expected = format!(
                "listener {} is not in listeners, which has {}",
                item.name,
                names.join(", ")
            );
            values.refuse(ADVERTISED, &expected);
        }
    }
}

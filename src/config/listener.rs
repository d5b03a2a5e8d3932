//! Where clients connect, and where they are told to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tls::ServerTls;

/// A place that Kafka clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, unique among listeners, in upper case.
    pub name: String,
    /// What is spoken on it.
    pub protocol: SecurityProtocol,
    /// Certificates and whom to trust; there exactly with [`SecurityProtocol::Ssl`].
    pub tls: Option<ServerTls>,
    /// Where the process listens. Port 0 is any free port.
    pub bind: Endpoint,
    /// What clients of this listener are told to connect to. Never [`Host::Any`]. Port 0 stands
    /// for the port that was bound.
    pub advertised: Endpoint,
}

/// What is spoken on a listener: Kafka's `security.protocol`, as far as it is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither TLS nor SASL.
    Plaintext,
    /// TLS without SASL.
    Ssl,
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecurityProtocol::Plaintext => f.write_str("PLAINTEXT"),
            SecurityProtocol::Ssl => f.write_str("SSL"),
        }
    }
}

/// The machine part of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Every address of the machine: the empty host of `PLAINTEXT://:9092`.
    Any,
    /// An address.
    Ip(IpAddr),
    /// A name to be resolved.
    Name(String),
}

impl fmt::Display for Host {
    /// As on Kafka's wire: an IPv6 address without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => Ok(()),
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl Host {
    /// Whether it stands for every address: the empty host, `0.0.0.0` or `::`.
    pub fn is_wildcard(&self) -> bool {
        match self {
            Host::Any => true,
            Host::Ip(ip) => ip.is_unspecified(),
            Host::Name(_) => false,
        }
    }

    /// Whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        match self {
            Host::Any => false,
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.to_ascii_lowercase().ends_with(".localhost")
            }
        }
    }

    /// Whether a port of one is a port of the other on this machine. Names are compared as text.
    pub(super) fn overlaps(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Any, _) | (_, Host::Any) => true,
            (Host::Ip(a), Host::Ip(b)) => {
                a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
            }
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        }
    }

    /// Reads a host; an IPv6 address stands in brackets, nothing is every address.
    pub(super) fn parse(text: &str) -> Option<Host> {
        if text.is_empty() {
            return Some(Host::Any);
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let ip = bracketed.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
            return Some(Host::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Host::Ip(IpAddr::V4(ip)));
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let name = text.len() <= 253 && text.bytes().all(legal) && !number;
        name.then(|| Host::Name(text.to_owned()))
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl Endpoint {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // "+1" parses as a number; a port is digits.
        let port = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { host: Host::parse(host)?, port })
    }

    /// The socket addresses to bind. Empty for a name, which has to be resolved. [`Host::Any`] is
    /// the wildcard of both families; where one socket is enough the first that binds is taken.
    pub fn bind_addrs(&self) -> Vec<SocketAddr> {
        let at = |ip: IpAddr| SocketAddr::new(ip, self.port);
        match &self.host {
            Host::Any => vec![at(Ipv6Addr::UNSPECIFIED.into()), at(Ipv4Addr::UNSPECIFIED.into())],
            Host::Ip(ip) => vec![at(*ip)],
            Host::Name(_) => Vec::new(),
        }
    }

    /// Whether both cannot be bound by one process. Names are compared as text.
    pub(super) fn collides_with(&self, other: &Endpoint) -> bool {
        self.port != 0 && self.port == other.port && self.host.overlaps(&other.host)
    }
}

/// One item of `listeners` or `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// In upper case, as Kafka has it.
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
}

/// What an item of `listeners` has to be.
pub(super) const NAMED_FORM: &str = "must be NAME://host:port, such as PLAINTEXT://127.0.0.1:9092 \
                                     or PLAINTEXT://[::1]:9092, several separated by commas";

impl Named {
    /// Reads `NAME://host:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once("://")?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(legal) {
            return None;
        }
        Some(Self { name: name.to_ascii_uppercase(), endpoint: Endpoint::parse(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_names_or_the_whole_machine() {
        for text in ["127.0.0.1:9092", "[::1]:0", "broker-1.example.com:65535", ":9092"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "9092",
            "a:",
            "a:+1",
            "a:65536",
            "::1:9092",
            "[::1:9092",
            "a b:1",
            "1.2.3:4",
            "256.0.0.1:1",
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_host_is_written_for_the_wire_without_brackets() {
        assert_eq!(Endpoint::parse("[fe80::1]:1").unwrap().host.to_string(), "fe80::1");
    }

    #[test]
    fn loopback_and_wildcard_are_told_from_reachable_addresses() {
        let host = |text: &str| Endpoint::parse(&format!("{text}:1")).unwrap().host;
        for loopback in ["127.1.2.3", "[::1]", "LocalHost", "a.localhost"] {
            assert!(host(loopback).is_loopback(), "{loopback}");
        }
        for wildcard in ["", "0.0.0.0", "[::]"] {
            assert!(host(wildcard).is_wildcard() && !host(wildcard).is_loopback(), "{wildcard}");
        }
        assert!(!host("10.0.0.1").is_loopback() && !host("10.0.0.1").is_wildcard());
    }

    #[test]
    fn endpoints_collide_as_sockets_do() {
        let collide = |a, b| {
            let (a, b) = (Endpoint::parse(a).unwrap(), Endpoint::parse(b).unwrap());
            assert_eq!(a.collides_with(&b), b.collides_with(&a));
            a.collides_with(&b)
        };
        assert!(collide("127.0.0.1:1", "127.0.0.1:1"));
        assert!(collide("0.0.0.0:1", "127.0.0.1:1"));
        assert!(collide(":1", "[::1]:1"));
        assert!(collide("a:1", "A:1"));
        assert!(!collide("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!collide("0.0.0.0:1", "[::]:1"));
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!collide("127.0.0.1:1", "127.0.0.1:2"));
    }

    #[test]
    fn the_whole_machine_is_bound_by_either_wildcard() {
        let addrs = Endpoint::parse(":9092").unwrap().bind_addrs();
        assert_eq!(addrs, ["[::]:9092".parse().unwrap(), "0.0.0.0:9092".parse().unwrap()]);
        assert!(Endpoint::parse("name:1").unwrap().bind_addrs().is_empty());
    }
}

//! The proxy's tables of keys: those of the process, and those that each virtual cluster has.

use super::key::Default::{From, Is};
use super::key::Kind::{Bytes, Choice, Duration, Int, List, Pem, Text};
use super::key::{Default, Key, Kind};
use super::keys::MEMORY_BUDGET_BYTES_MIN;
use super::process_keys;

const I64: i64 = i64::MAX;
const PORT: i64 = u16::MAX as i64;

/// What a key of one virtual cluster begins with; the cluster's name and the key follow.
pub(super) const CLUSTER_PREFIX: &str = "virtual.cluster.";

/// Kafka's values of `security.protocol`.
const PROTOCOLS: Kind = Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]);

const fn key(name: &'static str, kind: Kind, default: Default, effect: &'static str) -> Key {
    Key::new(name, kind, default, effect)
}

/// Every key that each virtual cluster has, in the order of the reference.
pub(super) const CLUSTER_KEYS: &[Key] = &[
    key(
        "upstream.bootstrap.servers",
        List,
        From("none: it has to be given"),
        "Brokers of the Kafka cluster behind the proxy: host:port, several separated by commas. \
         The others are learned from it.",
    ),
    key(
        "upstream.security.protocol",
        PROTOCOLS,
        Is("PLAINTEXT"),
        "What the upstream's listener speaks. SASL is passed through from the clients, who must \
         then use it too (listener.security.protocol); the proxy has no credentials, so it learns \
         where nodes are from what the upstream tells clients.",
    ),
    key(
        "upstream.ssl.truststore.location",
        Text,
        Is(""),
        "With TLS to the upstream: a file of the certificates in PEM that sign the brokers' ones. \
         Without it and upstream.ssl.truststore.certificates the system's are trusted.",
    ),
    key(
        "upstream.ssl.truststore.certificates",
        Pem,
        Is(""),
        "The same as text, instead of upstream.ssl.truststore.location.",
    ),
    key(
        "upstream.ssl.keystore.location",
        Text,
        Is(""),
        "With TLS to the upstream, where that asks for certificates (mTLS): a file with the \
         proxy's certificate, those that lead to its signer, and its key, in PEM. The upstream \
         sees this identity for all clients.",
    ),
    key(
        "upstream.ssl.keystore.certificate.chain",
        Pem,
        Is(""),
        "The certificates of upstream.ssl.keystore.location by themselves, with \
         upstream.ssl.keystore.key.",
    ),
    key(
        "upstream.ssl.keystore.key",
        Pem,
        Is(""),
        "The key of upstream.ssl.keystore.certificate.chain, not encrypted.",
    ),
    key(
        "upstream.ssl.endpoint.identification.algorithm",
        Text,
        Is("https"),
        "https = the upstream's certificates must be for the host names that are connected to; \
         empty = they need not, and whoever has any trusted certificate can take its place.",
    ),
    key(
        "proxy.listener",
        Text,
        Is("127.0.0.1:19092"),
        "Where clients bootstrap: the host:port to listen on. An IPv6 address stands in brackets, \
         an empty host means every address of the machine.",
    ),
    key(
        "node.ids",
        List,
        Is("0-9"),
        "The ids that the upstream's brokers have or may get, as 1, 2 or 0-9, several separated \
         by commas. Each has a port from the start, so that clients and firewalls know it before \
         the broker is there. A broker with another id cannot be reached through the proxy.",
    ),
    key(
        "node.port.base",
        Int { min: 0, max: PORT },
        From("the port of proxy.listener plus 1"),
        "Broker n is on this port plus n. 0 takes any free port for each.",
    ),
    key(
        "node.advertised.host",
        Text,
        From("the host of proxy.listener; this machine's host name where that is every address"),
        "The host that clients are told for every broker. Set it whenever clients reach the proxy \
         by another address than the one it listens on: containers, NAT, load balancers.",
    ),
    key(
        "node.advertised.port.base",
        Int { min: 0, max: PORT },
        From("node.port.base"),
        "Clients are told this port plus n for broker n. Set it where a load balancer or container \
         maps ports.",
    ),
    key(
        "node.advertised.pattern",
        Text,
        Is(""),
        "Names instead of ports: host:port with {id} in the host for the broker's id, such as \
         broker-{id}.kafka.example.com:9093. All names, and one more to bootstrap with, lead to \
         proxy.listener, which tells them apart by TLS (SNI). node.* keys for ports and ids are \
         not to be set then.",
    ),
    key(
        "listener.security.protocol",
        PROTOCOLS,
        Is("PLAINTEXT"),
        "What clients speak with the proxy: with or without TLS, and with SASL if the upstream \
         has it.",
    ),
    key(
        "ssl.keystore.location",
        Text,
        Is(""),
        "With TLS on the listeners: a file with the certificate, those that lead to its signer, \
         and its key, in PEM. It must be for every name that clients connect to. A changed file \
         is used without a restart.",
    ),
    process_keys::SSL_KEYSTORE_CERTIFICATE_CHAIN,
    process_keys::SSL_KEYSTORE_KEY,
    process_keys::SSL_TRUSTSTORE_LOCATION,
    process_keys::SSL_TRUSTSTORE_CERTIFICATES,
    key(
        "ssl.client.auth",
        process_keys::CLIENT_AUTH,
        Is("none"),
        "Whether clients have to show a certificate. Who they are by it stays with the proxy; the \
         upstream is not told.",
    ),
    key(
        "metadata.refresh.ms",
        Duration { min: 100, max: 3_600_000 },
        Is("30000"),
        "How often the upstream is asked where its brokers are. What it tells clients is heeded \
         at once; with SASL that is all there is.",
    ),
    key(
        "node.hold.ms",
        Duration { min: 0, max: 600_000 },
        Is("30000"),
        "How long a client's connection to a broker that the upstream has not told of yet is held \
         before it is closed.",
    ),
    key(
        "connection.max.age.ms",
        Duration { min: -1, max: I64 },
        Is("-1"),
        "How long a client's connection may last, less up to a fifth by chance: it is closed \
         between two requests, and the client connects again. It spreads clients over several \
         proxies behind a load balancer. -1 is for ever.",
    ),
];

/// Every key of the proxy's process, in the order of the reference.
pub(super) const PROXY_KEYS: &[Key] = &[
    key(
        "virtual.clusters",
        List,
        Is("default"),
        "The names of the clusters that clients see, each with an upstream and ports of its own: \
         lower-case letters, digits and hyphens.",
    ),
    process_keys::ADMIN_LISTENER,
    process_keys::LOG_LEVEL,
    process_keys::LOG_FORMAT,
    key(
        "memory.budget.bytes",
        Bytes { min: MEMORY_BUDGET_BYTES_MIN as i64, max: I64 },
        From("a quarter of the smaller of memory and cgroup limit, at least 64MiB"),
        "All memory that requests and responses may hold on their way, split into pools. What \
         finds its pool empty waits, and its sender with it.",
    ),
    process_keys::SHUTDOWN_DEADLINE_MS,
    process_keys::SOCKET_REQUEST_MAX_BYTES,
    key(
        "connections.max.idle.ms",
        Duration { min: -1, max: I64 },
        Is("1200000"),
        "A connection that is silent for this long is closed. It is longer than what clients (9 \
         min) and brokers (10 min) have, so that these decide. -1 is never.",
    ),
    process_keys::MAX_CONNECTIONS,
    process_keys::MAX_CONNECTIONS_PER_IP,
];

/// The key of this name in one of the tables.
pub(super) fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.iter().find(|key| key.name == name)
}

/// The cluster's name and the key, where `name` is one of a virtual cluster's.
pub(super) fn of_cluster(name: &str) -> Option<(&str, &'static Key)> {
    let (cluster, key) = name.strip_prefix(CLUSTER_PREFIX)?.split_once('.')?;
    Some((cluster, find(CLUSTER_KEYS, key)?))
}

//! The keys that broker and proxy have in common, word for word: those of any process.

use super::key::Default::Is;
use super::key::Key;
use super::key::Kind;
use super::key::Kind::{Bytes, Choice, Duration, Int, Pem, Text};

const I32: i64 = i32::MAX as i64;

pub(super) const ADMIN_LISTENER: Key = Key::new(
    "admin.listener",
    Text,
    Is("127.0.0.1:9464"),
    "The host:port of /metrics, /livez, /readyz and /log-level. It has no authentication: keep it \
     on loopback or on a network that only your monitoring reaches. What changes something, as PUT \
     /log-level does, it answers on loopback only.",
);

pub(super) const LOG_LEVEL: Key = Key::new(
    "log.level",
    Text,
    Is("info"),
    "What is logged: a level (error, warn, info, debug, trace, off), or levels by module, \
     such as info,tidegate::server=debug. PUT /log-level on admin.listener changes it until the \
     process ends.",
);

pub(super) const LOG_FORMAT: Key = Key::new(
    "log.format",
    Choice(&["text", "json"]),
    Is("text"),
    "How log lines are written to standard error: text for people, or one JSON object a line.",
);

pub(super) const SHUTDOWN_DEADLINE_MS: Key = Key::new(
    "shutdown.deadline.ms",
    Duration { min: 0, max: 3_600_000 },
    Is("30000"),
    "How long a stop waits for requests in flight before it cuts them off.",
);

pub(super) const SOCKET_REQUEST_MAX_BYTES: Key = Key::new(
    "socket.request.max.bytes",
    Bytes { min: 1_024, max: I32 },
    Is("104857600"),
    "The largest request; a larger one closes the connection.",
);

pub(super) const MAX_CONNECTIONS: Key = Key::new(
    "max.connections",
    Int { min: 1, max: I32 },
    Is("2147483647"),
    "The most connections at a time, over all listeners; the open file limit bounds them too.",
);

pub(super) const MAX_CONNECTIONS_PER_IP: Key = Key::new(
    "max.connections.per.ip",
    Int { min: 1, max: I32 },
    Is("2147483647"),
    "The most connections at a time from one address.",
);

pub(super) const SSL_KEYSTORE_CERTIFICATE_CHAIN: Key = Key::new(
    "ssl.keystore.certificate.chain",
    Pem,
    Is(""),
    "The certificates of ssl.keystore.location by themselves, with ssl.keystore.key.",
);

pub(super) const SSL_KEYSTORE_KEY: Key = Key::new(
    "ssl.keystore.key",
    Pem,
    Is(""),
    "The key of ssl.keystore.certificate.chain, not encrypted.",
);

pub(super) const SSL_TRUSTSTORE_LOCATION: Key = Key::new(
    "ssl.truststore.location",
    Text,
    Is(""),
    "With ssl.client.auth: a file of the certificates in PEM that sign the clients' ones.",
);

pub(super) const SSL_TRUSTSTORE_CERTIFICATES: Key = Key::new(
    "ssl.truststore.certificates",
    Pem,
    Is(""),
    "The same as text, instead of ssl.truststore.location.",
);

/// The values of `ssl.client.auth`.
pub(super) const CLIENT_AUTH: Kind = Choice(&["none", "requested", "required"]);

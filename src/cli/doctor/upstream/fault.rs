//! Why a server of the upstream could not be asked, and what helps.

use std::fmt;

use super::super::report::{Trouble, trouble};
use crate::client::{ClientError, ConnectError, Stage};
use crate::security::tls::HandshakeError;

/// Why a server could not be asked.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no connection.
    Connect(ConnectError),
    /// There is no answer.
    Answer(ClientError),
}

/// What the server is to the proxy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// It has to start from it, and there is no other.
    Bootstrap,
    /// It may start from it, or from another that answers.
    OneOfSeveral,
    /// The upstream says that it is a node.
    Node,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The server is named before it already.
            Fault::Connect(ConnectError::Unresolved { reason, .. }) => {
                write!(f, "the name cannot be resolved: {reason}")
            }
            Fault::Connect(ConnectError::Refused { address, .. }) => {
                write!(f, "{address} refused the connection")
            }
            Fault::Connect(ConnectError::TimedOut { stage, .. }) => {
                write!(f, "{stage} took too long")
            }
            Fault::Connect(ConnectError::Unreachable { address, reason, .. }) => {
                write!(f, "{address} cannot be reached: {reason}")
            }
            Fault::Connect(ConnectError::Tls { fault, .. }) => fault.fmt(f),
            Fault::Answer(error) => error.fmt(f),
        }
    }
}

const PROTOCOL: &str = "upstream.security.protocol";

impl Fault {
    /// Cause, effect and fix.
    pub(super) fn explain(&self, role: Standing) -> Trouble {
        let effect = match role {
            Standing::Bootstrap => {
                "the proxy learns nothing of the upstream, and clients get no answer"
            }
            Standing::OneOfSeveral => "the proxy starts from the others, while one of them answers",
            Standing::Node => "clients that need this node get a connection that ends at the proxy",
        };
        let (cause, fix) = match self {
            Fault::Connect(error) => of_connection(error, role),
            Fault::Answer(error) => of_answer(error),
        };
        trouble(cause, effect, fix)
    }
}

/// Cause and fix of what kept a connection from coming about.
fn of_connection(error: &ConnectError, role: Standing) -> (String, String) {
    let address = match role {
        Standing::Bootstrap | Standing::OneOfSeveral => "correct upstream.bootstrap.servers",
        Standing::Node => {
            "correct advertised.listeners of that broker, or use another listener of it"
        }
    };
    let (cause, fix) = match error {
        ConnectError::Unresolved { .. } => (
            "the resolver of this machine does not know the name".to_owned(),
            format!("make the name known here, or {address}"),
        ),
        ConnectError::Refused { .. } => (
            "nothing listens there, or a firewall rejects it".to_owned(),
            format!("start the broker, open the port, or {address}"),
        ),
        ConnectError::TimedOut { stage: Stage::Handshake, .. } => (
            "what listens there does not answer TLS".to_owned(),
            format!("set {PROTOCOL} to what that listener speaks, or use the port of its TLS one"),
        ),
        ConnectError::TimedOut { .. } | ConnectError::Unreachable { .. } => (
            "the machine is down, no network leads there, or a firewall drops what is sent"
                .to_owned(),
            format!("look at the network between here and there, or {address}"),
        ),
        ConnectError::Tls { fault, .. } => of_handshake(fault),
    };
    (cause, fix)
}

fn of_handshake(fault: &HandshakeError) -> (String, String) {
    let truststore = "upstream.ssl.truststore.location";
    let (cause, fix) = match fault {
        HandshakeError::Plaintext | HandshakeError::Closed => (
            "that listener has no TLS".to_owned(),
            format!("set {PROTOCOL}=PLAINTEXT (or SASL_PLAINTEXT), or use the port of its TLS one"),
        ),
        HandshakeError::Untrusted => (
            format!("nobody in {truststore}, or in the system's store without it, has signed it"),
            format!("set {truststore} to the certificate of its CA in PEM"),
        ),
        HandshakeError::WrongName { .. } | HandshakeError::InvalidName(_) => (
            "the certificate was issued for other names than the one that was connected to"
                .to_owned(),
            "use a name that it has, or have it issued for this one; with an empty \
             upstream.ssl.endpoint.identification.algorithm names are not looked at"
                .to_owned(),
        ),
        HandshakeError::Expired(_) | HandshakeError::NotYetValid(_) => (
            "the certificate is out of its time, or this machine's clock is wrong".to_owned(),
            "renew the certificate, or set the clock".to_owned(),
        ),
        HandshakeError::Certificate(_) | HandshakeError::Protocol(_) => (
            "the two sides cannot agree on TLS".to_owned(),
            "look at the broker's certificate, ssl.enabled.protocols and ssl.cipher.suites; TLS \
             1.2 and 1.3 are spoken here"
                .to_owned(),
        ),
        HandshakeError::Alert(_) => (
            "the broker refused, mostly because of the certificate it was shown or not shown"
                .to_owned(),
            "set upstream.ssl.keystore.location to a certificate that the broker trusts".to_owned(),
        ),
        HandshakeError::Failed(_) => {
            ("the connection broke".to_owned(), "try again; look at the broker's log".to_owned())
        }
    };
    (cause, fix)
}

/// Cause and fix of what kept an answer from coming.
fn of_answer(error: &ClientError) -> (String, String) {
    let (cause, fix) = match error {
        ClientError::Tls => (
            "that listener has TLS",
            "set upstream.security.protocol=SSL (or SASL_SSL), or the port of its plaintext one",
        ),
        ClientError::Http => {
            ("that is not a Kafka listener", "correct the port: Kafka's is 9092 by default")
        }
        ClientError::Alert(_) => (
            "the broker wants a certificate, or another one",
            "set upstream.ssl.keystore.location to a certificate that the broker trusts",
        ),
        ClientError::Closed { .. } | ClientError::Truncated { .. } => (
            "that listener has TLS, or is not a Kafka one, or its limit of connections is reached",
            "set upstream.security.protocol to what that listener speaks; look at the broker's log",
        ),
        ClientError::TimedOut { .. } => (
            "the broker is stuck, or that is not a Kafka listener",
            "look at the broker's log and load",
        ),
        ClientError::Length { .. }
        | ClientError::Correlation { .. }
        | ClientError::Header { .. }
        | ClientError::Body(_) => {
            ("that is not a Kafka listener, or a broken one", "correct the host and port")
        }
        ClientError::Refused { .. } | ClientError::Request { .. } => (
            "the broker does not answer what every client asks",
            "look at the broker's log; brokers before Kafka 0.11 are too old",
        ),
        ClientError::Failed(_) | ClientError::Broken => {
            ("the connection broke", "try again; look at the broker's log")
        }
    };
    (cause.to_owned(), fix.to_owned())
}

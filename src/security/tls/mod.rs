//! TLS 1.2 and 1.3 by rustls, on both sides of a connection.
//!
//! [`TlsAcceptor`] and [`TlsConnector`] are made from the configuration's plain data, once, and an
//! error there names the file and the fix. While the process runs, the files are looked at again
//! with a handshake, at most every ten seconds: what changed serves this and later connections; a
//! change that cannot be used is logged with its file and reason, and the certificates before it
//! stay. Connections that are open keep what they began with.
//!
//! Certificates and keys are PEM, as Kafka's `ssl.keystore.type=PEM` has them: a chain, the own
//! certificate first, and a key in PKCS#8, PKCS#1 or SEC1, in one file or two.
//!
//! When the certificates that serve end is a metric ([`TlsAcceptor::tell_expiry`]).
//!
//! **Invariants:** a handshake is never bounded here, since only the caller knows its deadline; no
//! part of a key reaches a log or an error; the name of a server is checked unless the
//! configuration switches that off.

mod acceptor;
mod connector;
mod error;
mod expiry;
mod live;
mod material;
mod stream;
mod time;
mod verifier;

pub use acceptor::TlsAcceptor;
pub use connector::TlsConnector;
pub use error::{AcceptError, HandshakeError, TlsError, alert_in};
pub use stream::Stream;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

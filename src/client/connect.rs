//! From a host and a port to a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use crate::clock::{Clock, Instant};
use crate::security::tls::{HandshakeError, Stream, TlsConnector};

/// How long a connection may take to come about, from its name to the end of TLS's handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without a byte the kernel asks whether the server is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{host}:{port}: the name cannot be resolved: {reason}")]
    Unresolved {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The resolver's words.
        reason: String,
    },
    /// Nothing listens there.
    #[error("{host}:{port}: {address} refused the connection; is the server running?")]
    Refused {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The address that was tried last.
        address: SocketAddr,
    },
    /// It took too long.
    #[error("{host}:{port}: {stage} took longer than {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What was waited for.
        stage: Stage,
    },
    /// The network does not lead there, or the socket failed.
    #[error("{host}:{port}: {address} cannot be reached: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The address that was tried last.
        address: SocketAddr,
        /// The operating system's words.
        reason: String,
    },
    /// The server answered and there is no TLS with it.
    #[error("{host}:{port}: {fault}")]
    Tls {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What is wrong.
        fault: HandshakeError,
    },
}

/// What takes time when a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding the addresses of a name.
    Resolving,
    /// TCP's handshake, with every address of the name.
    Connecting,
    /// TLS's handshake.
    Handshake,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Resolving => "resolving the name",
            Stage::Connecting => "connecting",
            Stage::Handshake => "the TLS handshake",
        })
    }
}

/// Opens connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Option<TlsConnector>,
    clock: Clock,
}

/// What is connected to, for errors.
#[derive(Clone, Copy)]
struct Target<'a> {
    host: &'a str,
    port: u16,
}

impl Connector {
    /// A connector that speaks TLS if it is given one.
    pub fn new(tls: Option<TlsConnector>, clock: Clock) -> Self {
        Self { tls, clock }
    }

    /// Its TLS, if it speaks that.
    pub fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }

    /// Whether connections are in TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects to `host`, a name or an IP address without brackets, within [`CONNECT_TIMEOUT`].
    ///
    /// Every address of a name is tried in the resolver's order, each with its part of the time
    /// that is left, until one accepts. A fault of TLS ends it: the server was reached.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Stream, ConnectError> {
        let target = Target { host, port };
        let deadline = self.clock.now() + CONNECT_TIMEOUT;
        let found = self.clock.timeout_at(deadline, lookup_host((host, port))).await;
        let found = found.map_err(|_| target.timed_out(Stage::Resolving))?;
        let addresses: Vec<SocketAddr> =
            found.map_err(|error| target.unresolved(error.to_string()))?.collect();
        let stream = self.connect_to_any(target, &addresses, deadline).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        match self.clock.timeout_at(deadline, Box::pin(tls.connect(host, stream))).await {
            Ok(shaken) => shaken.map_err(|fault| target.tls(fault)),
            Err(_) => Err(target.timed_out(Stage::Handshake)),
        }
    }

    /// Connects to one of `addresses`, without TLS.
    #[cfg(test)]
    pub(super) async fn connect_to_any_of(
        &self,
        host: &str,
        addresses: &[SocketAddr],
    ) -> Result<TcpStream, ConnectError> {
        let deadline = self.clock.now() + CONNECT_TIMEOUT;
        self.connect_to_any(Target { host, port: 0 }, addresses, deadline).await
    }

    async fn connect_to_any(
        &self,
        target: Target<'_>,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, ConnectError> {
        let mut last = target.unresolved("it has no address".to_owned());
        for (tried, &address) in addresses.iter().enumerate() {
            let now = self.clock.now();
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(now) / left;
            last = match self.clock.timeout_at(now + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    prepare(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => target.failed(address, &error),
                Err(_) => target.timed_out(Stage::Connecting),
            };
        }
        Err(last)
    }
}

/// Without these a connection works less well, but it works.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

impl Target<'_> {
    fn host(&self) -> String {
        self.host.to_owned()
    }

    fn unresolved(&self, reason: String) -> ConnectError {
        ConnectError::Unresolved { host: self.host(), port: self.port, reason }
    }

    fn timed_out(&self, stage: Stage) -> ConnectError {
        ConnectError::TimedOut { host: self.host(), port: self.port, stage }
    }

    fn tls(&self, fault: HandshakeError) -> ConnectError {
        ConnectError::Tls { host: self.host(), port: self.port, fault }
    }

    fn failed(&self, address: SocketAddr, error: &io::Error) -> ConnectError {
        let (host, port) = (self.host(), self.port);
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return ConnectError::Refused { host, port, address };
        }
        ConnectError::Unreachable { host, port, address, reason: error.to_string() }
    }
}

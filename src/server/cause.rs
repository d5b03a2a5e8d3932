//! Why a connection was closed or refused: closed enums, since they are metric labels.

use std::io;

use super::secure::HANDSHAKE_TIMEOUT;
use super::service::Disconnect;
use crate::protocol::frame::FrameError;
use crate::protocol::guard::GuardError;
use crate::protocol::header::HeaderError;
use crate::security::tls::AcceptError;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    /// The peer closed its side and has its answers.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer closed its side in the middle of a frame.
    #[error("the peer closed the connection inside a frame")]
    Truncated,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Failed(io::ErrorKind),
    /// Nothing came and nothing was owed for `connections.max.idle.ms`.
    #[error("the connection was idle")]
    Idle,
    /// A frame came more slowly than the least rate.
    #[error("a frame of {length} bytes came too slowly")]
    SlowFrame {
        /// The frame's announced length.
        length: usize,
    },
    /// The peer took no byte of its responses in the time it has for that.
    #[error("the peer does not read its responses")]
    SlowReader,
    /// The connection made the least progress when memory was short.
    #[error("memory was short and this connection progressed least")]
    Relieved,
    /// A frame's length is negative or above the limit, or the start of another protocol.
    #[error("{0}")]
    Frame(FrameError),
    /// A request's header cannot be read.
    #[error("{0}")]
    Header(HeaderError),
    /// The body of a request that the door answers itself cannot be read.
    #[error("{0}")]
    Body(GuardError),
    /// A request's API or version is not served.
    #[error("API key {key} version {version} is not supported")]
    Unsupported {
        /// The API key asked for.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// The service closed the connection.
    #[error("{0}")]
    Service(Disconnect),
    /// The service panicked.
    #[error("internal error in {api}")]
    Panicked {
        /// The API whose handling panicked.
        api: &'static str,
    },
    /// Bytes of a response could not be fetched, or were not what was announced.
    #[error("a response could not be completed: {0}")]
    Deferred(String),
    /// There is no TLS with the peer.
    #[error("{0}")]
    Handshake(AcceptError),
    /// The peer took too long to agree on TLS.
    #[error("the TLS handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    SlowHandshake,
    /// The process is stopping and the connection has its answers.
    #[error("the broker is stopping")]
    Drained,
    /// The process is stopping and the deadline of the drain has passed.
    #[error("the broker is stopping and its deadline has passed")]
    Cut,
}

impl Cause {
    /// Every label, for the metrics.
    pub(super) const LABELS: [&'static str; 20] = [
        "peer_closed",
        "truncated",
        "failed",
        "idle",
        "slow_frame",
        "slow_reader",
        "relieved",
        "frame_length",
        "http",
        "tls",
        "plaintext",
        "tls_handshake",
        "malformed",
        "unsupported",
        "service",
        "done",
        "panic",
        "deferred",
        "drained",
        "cut",
    ];

    /// The cause as a metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Cause::PeerClosed | Cause::Handshake(AcceptError::Closed) => "peer_closed",
            Cause::Truncated => "truncated",
            Cause::Failed(_) | Cause::Handshake(AcceptError::Failed(_)) => "failed",
            Cause::Idle => "idle",
            Cause::SlowFrame { .. } => "slow_frame",
            Cause::SlowReader => "slow_reader",
            Cause::Relieved => "relieved",
            Cause::Frame(FrameError::Http) => "http",
            Cause::Frame(FrameError::Tls) => "tls",
            Cause::Frame(_) => "frame_length",
            Cause::Header(HeaderError::UnknownKey { .. }) | Cause::Unsupported { .. } => {
                "unsupported"
            }
            Cause::Header(_) | Cause::Body(_) => "malformed",
            Cause::Service(Disconnect::Done(_)) => "done",
            Cause::Service(_) => "service",
            Cause::Panicked { .. } => "panic",
            Cause::Deferred(_) => "deferred",
            Cause::Handshake(AcceptError::Plaintext) => "plaintext",
            Cause::Handshake(_) | Cause::SlowHandshake => "tls_handshake",
            Cause::Drained => "drained",
            Cause::Cut => "cut",
        }
    }

    /// Whether the peer may still be owed bytes that lie in the kernel, so that the socket must
    /// not be reset by closing it over unread input.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(
            self,
            Cause::Drained
                | Cause::Service(_)
                | Cause::Header(_)
                | Cause::Body(_)
                | Cause::Unsupported { .. }
                | Cause::Panicked { .. }
        )
    }
}

/// Why a connection was refused right after it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// There are as many connections as there may be.
    #[error("the limit of {0} connections is reached; raise max.connections")]
    Connections(usize),
    /// There are as many connections from this address as there may be.
    #[error(
        "the limit of {0} connections from one address is reached; raise max.connections.per.ip"
    )]
    PerAddress(usize),
}

impl Refusal {
    /// The refusal as a metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Refusal::Connections(_) => "max_connections",
            Refusal::PerAddress(_) => "max_connections_per_ip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_in_the_list_once() {
        let mut labels = Cause::LABELS.to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Cause::LABELS.len());
        for cause in
            [Cause::Idle, Cause::Failed(io::ErrorKind::Other), Cause::Cut, Cause::SlowHandshake]
        {
            assert!(Cause::LABELS.contains(&cause.label()));
        }
    }
}

//! What operators are told of certificates.

use prometheus::IntGaugeVec;

use crate::metrics::Registry;

/// Whose certificate it is, in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// What clients are shown.
    Server,
    /// What servers are shown.
    Client,
}

/// The metrics of all certificates of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    expiry: IntGaugeVec,
}

impl CertificateMetrics {
    /// Registers them. Without a certificate there is no series.
    pub fn new(registry: &Registry) -> Self {
        Self {
            expiry: registry.gauges(
                "security_certificate_expiry_seconds",
                "When the certificate in use ends, in seconds since 1970: of a chain the one that \
                 ends first. By who shows it (server to clients, client to upstreams) and its \
                 listener or virtual cluster.",
                &["side", "name"],
            ),
        }
    }

    /// Notes when the certificate of a listener or virtual cluster ends.
    pub(super) fn note(&self, side: Side, name: &str, seconds: i64) {
        let side = match side {
            Side::Server => "server",
            Side::Client => "client",
        };
        self.expiry.with_label_values(&[side, name]).set(seconds);
    }
}

//! Who is at the other end of a connection, and that nobody between listens: so far TLS.
//!
//! `server` accepts by it, `client` connects by it. Certificates, keys and whom to trust are named
//! by `config`; this room reads the files, and reads them again when they change.

mod metrics;
pub mod tls;

pub use metrics::CertificateMetrics;

//! TLS with servers that we connect to.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::error::{HandshakeError, TlsError};
use super::live::Live;
use super::material::{Material, Sources, system_trusted};
use super::stream::{Stream, UNSENT_MAX};
use super::time;
use super::verifier::ServerVerifier;
use crate::clock::Clock;
use crate::config::ClientTls;
use crate::security::CertificateMetrics;
use crate::security::metrics::Side;

/// Agrees on TLS with servers; cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    pub(super) live: Arc<Live<ClientConfig>>,
}

impl TlsConnector {
    /// Reads whom to trust, and the own certificate if there is one, which blocks for as long as
    /// the files take. Whom the system trusts is read when a truststore or keystore in a file
    /// changes, else once.
    pub fn new(tls: &ClientTls, clock: Clock) -> Result<Self, TlsError> {
        let sources =
            Sources { keystore: tls.keystore.clone(), truststore: tls.truststore.clone() };
        let verify_hostname = tls.verify_hostname;
        let wall = time::of(&clock);
        let build =
            Box::new(move |material: &Material| configure(material, verify_hostname, &wall));
        Ok(Self { live: Arc::new(Live::new(sources, build, clock)?) })
    }

    /// Has `metrics` say when the own certificate ends, if there is one, that the upstreams of the
    /// virtual cluster `name` are shown, now and after it was renewed.
    pub fn tell_expiry(&self, metrics: &CertificateMetrics, name: &str) {
        let (metrics, name) = (metrics.clone(), name.to_owned());
        let tell = move |seconds| metrics.note(Side::Client, &name, seconds);
        self.live.tell_expiry(Box::new(tell));
    }

    /// Agrees on TLS with the server at the other end of `stream`, which is to be `host`: a DNS
    /// name or an IP address. Takes as long as the server does: the caller has a deadline.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<Stream, HandshakeError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HandshakeError::InvalidName(host.to_owned()))?;
        let config = self.live.current().await;
        let connector = tokio_rustls::TlsConnector::from(config);
        let limit = |session: &mut ClientConnection| session.set_buffer_limit(Some(UNSENT_MAX));
        let connected = connector.connect_with(name, stream, limit).await;
        let connected = connected.map_err(|error| HandshakeError::new(host, &error))?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(connected))))
    }
}

fn configure(
    material: &Material,
    verify_hostname: bool,
    wall: &Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let trusted = match material.trusted()? {
        Some(trusted) => trusted,
        None => system_trusted()?,
    };
    let algorithms = provider.signature_verification_algorithms;
    let verifier = ServerVerifier { trusted, verify_hostname, algorithms };
    let identity = material.identity(&provider)?;
    let builder = ClientConfig::builder_with_details(provider, Arc::clone(wall))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has ciphers of both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

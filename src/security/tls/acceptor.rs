//! TLS with clients that connect to us.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::error::{AcceptError, TlsError};
use super::live::Live;
use super::material::{Material, Sources};
use super::stream::{Stream, UNSENT_MAX};
use super::time;
use crate::clock::Clock;
use crate::config::{ClientAuth, ServerTls};
use crate::security::CertificateMetrics;
use crate::security::metrics::Side;

/// Agrees on TLS with clients; cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsAcceptor {
    pub(super) live: Arc<Live<ServerConfig>>,
}

impl TlsAcceptor {
    /// Reads certificates, key and whom to trust, which blocks for as long as the files take.
    pub fn new(tls: &ServerTls, clock: Clock) -> Result<Self, TlsError> {
        let sources =
            Sources { keystore: Some(tls.keystore.clone()), truststore: tls.truststore.clone() };
        let client_auth = tls.client_auth;
        let wall = time::of(&clock);
        let build = Box::new(move |material: &Material| configure(material, client_auth, &wall));
        Ok(Self { live: Arc::new(Live::new(sources, build, clock)?) })
    }

    /// Has `metrics` say when the certificate ends that clients of the listener or virtual cluster
    /// `name` are shown, now and after it was renewed.
    pub fn tell_expiry(&self, metrics: &CertificateMetrics, name: &str) {
        let (metrics, name) = (metrics.clone(), name.to_owned());
        let tell = move |seconds| metrics.note(Side::Server, &name, seconds);
        self.live.tell_expiry(Box::new(tell));
    }

    /// Agrees on TLS with the client at the other end of `stream`. Takes as long as the client
    /// does: the caller has a deadline.
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, AcceptError> {
        let config = self.live.current().await;
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let limit = |session: &mut ServerConnection| session.set_buffer_limit(Some(UNSENT_MAX));
        let accepted = acceptor.accept_with(stream, limit).await;
        let accepted = accepted.map_err(|error| AcceptError::new(&error))?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(accepted))))
    }
}

fn configure(
    material: &Material,
    client_auth: ClientAuth,
    wall: &Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let identity = material.identity(&provider)?.expect("a server's sources have a keystore");
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(wall))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has ciphers of both versions");
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Requested | ClientAuth::Required => {
            let trusted = material.trusted()?.ok_or(TlsError::NoTruststore)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted.roots, provider);
            let verifier = match client_auth {
                ClientAuth::Requested => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().expect("a truststore that was read has certificates");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    Ok(Arc::new(config))
}

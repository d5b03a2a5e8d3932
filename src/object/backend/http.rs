//! How services are spoken to: HTTP/1.1 over TLS by rustls, and every answer that asks for less is
//! counted.

use std::pin::Pin;
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{Certificate, ClientOptions, HeaderValue, RetryConfig};

use super::super::metrics::Throttles;
use super::{OpenStoreError, Opening, files};

/// How long a connection may take to come about; the rest of an attempt has the third layer's
/// deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a server says that it gets too much: too many requests, service unavailable (S3:
/// `SlowDown`).
const THROTTLED: [u16; 2] = [429, 503];

/// No second attempt: the third layer makes those.
pub(super) fn no_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// The options of a client for `endpoint`, or for the cloud's own.
pub(super) fn options(
    opening: &Opening<'_>,
    endpoint: Option<&str>,
) -> Result<ClientOptions, OpenStoreError> {
    // The client library takes the process's provider; it is an error only if there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    let agent = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_user_agent(agent)
        .with_allow_http(is_plain);
    if is_plain {
        // A container without the system's certificates can reach a store that has no TLS.
        options = options.with_no_system_certificates(true);
    }
    let Some(path) = &opening.config.ca_file else {
        return Ok(options);
    };
    let refused = |reason: String| {
        let setting = "object.tls.ca.file";
        OpenStoreError::File { setting, path: path.clone(), reason }
    };
    let pem = files::read(path).map_err(|error| refused(error.to_string()))?;
    let found = Certificate::from_pem_bundle(pem.as_bytes());
    let found = found.map_err(|error| refused(super::reason(&error)))?;
    if found.is_empty() {
        return Err(refused(
            "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned(),
        ));
    }
    Ok(found.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// Makes clients that count throttling answers.
#[derive(Debug)]
pub(super) struct Connector {
    throttles: Throttles,
}

impl Connector {
    pub(super) fn new(throttles: &Throttles) -> Self {
        Self { throttles: throttles.clone() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Counting { client, throttles: self.throttles.clone() }))
    }
}

#[derive(Debug)]
struct Counting {
    client: HttpClient,
    throttles: Throttles,
}

/// The trait's method is async through a boxed future; this is what its macro would write.
impl HttpService for Counting {
    fn call<'s, 'a>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let response = self.client.execute(request).await?;
            if THROTTLED.contains(&response.status().as_u16()) {
                self.throttles.count();
            }
            Ok(response)
        })
    }
}

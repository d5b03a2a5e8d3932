//! The HTTP door for operators: `/metrics` for Prometheus, `/livez` and `/readyz` for Kubernetes.
//!
//! `run` binds it first ([`Admin::bind`]) and serves it last to stop, so that a start that waits
//! and a drain that takes its time can be watched. What the pages say comes down as values: the
//! metrics [`Registry`] and a [`Health`] that everybody who knows something is handed.
//!
//! | page | 200 | 503 |
//! |---|---|---|
//! | `/livez` | the process does its work or waits for it | a fatal cause is set; the cause |
//! | `/readyz` | nothing is against sending clients here | the reasons, a line each |
//! | `/metrics` | Prometheus' text format 0.0.4 | |
//! | `/log-level` | what is logged; a PUT changes it until the process ends | |
//!
//! **Invariant:** nothing a peer does here costs more than [`door`]'s few sockets: one request per
//! connection, of bounded size, in bounded time, and the newest connection is always served. There
//! is no authentication, so a page that changes something answers on loopback only.

mod door;
mod health;
mod logging;
mod metrics;
pub mod process;

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use tokio::net::{TcpListener, lookup_host};

use self::door::{Door, Peer};
pub use self::health::Health;
pub use self::logging::LogLevel;
use self::metrics::Scrapes;
use crate::clock::Clock;
use crate::config::{Endpoint, Host};
use crate::metrics::Registry;
use crate::shutdown::Shutdown;

/// The admin listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "admin listener {endpoint}: {source}; set admin.listener to a free address of this machine"
)]
pub struct BindError {
    endpoint: Endpoint,
    source: io::Error,
}

/// The admin listener, bound and not yet served: connections wait in the kernel.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the pages tell of, and what they change.
#[derive(Clone, Debug)]
pub struct Known {
    /// The metrics.
    pub registry: Registry,
    /// Whether the process lives and is ready.
    pub health: Health,
    /// What is logged.
    pub log_level: LogLevel,
}

/// What the pages read.
#[derive(Clone, Debug)]
struct Pages {
    scrapes: Scrapes,
    health: Health,
    log_level: LogLevel,
}

impl Admin {
    /// Binds the first address of `endpoint` that can be bound.
    pub async fn bind(endpoint: &Endpoint) -> Result<Self, BindError> {
        let refused = |source| BindError { endpoint: endpoint.clone(), source };
        let addresses = match &endpoint.host {
            Host::Name(name) => {
                lookup_host((name.as_str(), endpoint.port)).await.map_err(refused)?.collect()
            }
            Host::Any | Host::Ip(_) => endpoint.bind_addrs(),
        };
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages until `shutdown` drains: requests under way are finished unless it aborts.
    pub async fn serve(self, known: Known, clock: Clock, shutdown: Shutdown) {
        let Known { registry, health, log_level } = known;
        let door = Door::new(self.listener, clock.clone());
        let pages = Pages { scrapes: Scrapes::new(registry, clock), health, log_level };
        let service = router(pages).into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(door, service).with_graceful_shutdown(shutdown.draining());
        // What is left of a connection when the process aborts ends with it or with its lifetime.
        tokio::select! {
            served = async { serving.await } => drop(served),
            () = shutdown.aborted() => {}
        }
    }
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/log-level", get(logging::show).put(logging::change))
        .with_state(pages)
        .layer(map_response(one_request_per_connection))
}

/// A text page.
type Page = (StatusCode, [(HeaderName, &'static str); 1], String);

fn plain(status: StatusCode, text: String) -> Page {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}

async fn metrics(State(pages): State<Pages>) -> Page {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    match pages.scrapes.gather().await {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, format)], text),
        Err(error) => {
            let cause = format!("metrics cannot be gathered: {error}\n");
            plain(StatusCode::INTERNAL_SERVER_ERROR, cause)
        }
    }
}

async fn livez(State(pages): State<Pages>) -> Page {
    match pages.health.fatal() {
        None => plain(StatusCode::OK, "ok\n".to_owned()),
        Some(cause) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")),
    }
}

async fn readyz(State(pages): State<Pages>) -> Page {
    let reasons = pages.health.reasons();
    if reasons.is_empty() {
        return plain(StatusCode::OK, "ok\n".to_owned());
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

/// Ends the connection with its response: an idle one would hold a place for nothing.
async fn one_request_per_connection(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;

//! The Kafka cluster behind a proxy: whether it can be reached and spoken to, what the proxy can
//! pass on of what it speaks, and whether every one of its nodes can be served.
//!
//! It is asked what any client may ask: its versions and, where that takes no credentials, its
//! nodes. Nothing is changed there.

mod fault;
mod nodes;
mod versions;

use futures_util::StreamExt as _;
use futures_util::stream;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use self::fault::{Fault, Standing};
use super::report::{Report, trouble};
use crate::client::{Client, Connector};
use crate::clock::Clock;
use crate::config::{ProxyConfig, ServerTls, VirtualCluster};
use crate::protocol::versions::VersionRange;
use crate::security::tls::{TlsAcceptor, TlsConnector};

/// How many servers are asked at a time.
const CONCURRENT: usize = 8;
/// What the upstream knows us by.
const CLIENT_ID: &str = "tidegate-doctor";

/// A server that was asked what it speaks.
type Asked = Result<(Client, ApiVersionsResponse), Fault>;

/// Looks at the upstream of every virtual cluster.
pub(super) async fn examine(report: &mut Report, config: &ProxyConfig, clock: &Clock) {
    for cluster in &config.clusters {
        let of = match config.clusters.len() {
            1 => String::new(),
            _ => format!(" ({})", cluster.name),
        };
        if let Some(tls) = &cluster.tls {
            listeners(report, &format!("listener certificate{of}"), tls, clock);
        }
        if let Some(connector) = connector(report, &format!("upstream{of}"), cluster, clock) {
            Examination { cluster, connector, clock, of }.run(report).await;
        }
    }
}

/// Reads the certificate that clients are shown.
fn listeners(report: &mut Report, part: &str, tls: &ServerTls, clock: &Clock) {
    match TlsAcceptor::new(tls, clock.clone()) {
        Ok(_) => report.fine(part, "certificate and key can be used"),
        Err(error) => report.problem(
            part,
            error.to_string(),
            trouble(
                "what ssl.keystore.* or ssl.truststore.* names cannot be used for TLS",
                "the proxy does not start",
                "correct what is named; files are in PEM",
            ),
        ),
    }
}

fn connector(
    report: &mut Report,
    part: &str,
    cluster: &VirtualCluster,
    clock: &Clock,
) -> Option<Connector> {
    let tls = cluster.upstream.tls.as_ref().map(|tls| TlsConnector::new(tls, clock.clone()));
    match tls.transpose() {
        Ok(tls) => Some(Connector::new(tls, clock.clone())),
        Err(error) => {
            report.problem(
                part,
                error.to_string(),
                trouble(
                    "what upstream.ssl.* names cannot be used for TLS",
                    "the proxy does not start",
                    "correct what is named; files are in PEM",
                ),
            );
            None
        }
    }
}

/// One upstream that is looked at.
struct Examination<'a> {
    cluster: &'a VirtualCluster,
    connector: Connector,
    clock: &'a Clock,
    /// The virtual cluster in brackets, where there are several.
    of: String,
}

impl Examination<'_> {
    async fn run(&self, report: &mut Report) {
        let Some((mut client, versions)) = self.bootstrap(report).await else { return };
        let part = format!("versions{}", self.of);
        versions::compare(report, &part, &versions);
        if spoken(&versions, ApiKey::Metadata as i16).is_empty() {
            controller(report, &part);
            return;
        }
        if self.cluster.upstream.sasl {
            let found = "SASL is passed through, so the proxy has no credentials to ask where the \
                         upstream's nodes are: they were not looked at";
            report.fine(&format!("nodes{}", self.of), found);
            return;
        }
        nodes::examine(report, self, &mut client, &versions).await;
    }

    /// Asks every bootstrap server what it speaks; the first answer.
    async fn bootstrap(&self, report: &mut Report) -> Option<(Client, ApiVersionsResponse)> {
        let servers = &self.cluster.upstream.bootstrap;
        let asked = servers.iter().map(|server| self.ask(server.host.to_string(), server.port));
        let asked: Vec<Asked> = stream::iter(asked).buffered(CONCURRENT).collect().await;
        let part = format!("upstream{}", self.of);
        let is_any = asked.iter().any(Result::is_ok);
        let mut first = None;
        for (server, asked) in servers.iter().zip(asked) {
            match asked {
                Ok(answer) => {
                    let tls = if self.connector.is_tls() { " in TLS" } else { "" };
                    report.fine(&part, format!("{server} answers{tls}"));
                    first = first.or(Some(answer));
                }
                Err(fault) if is_any => {
                    let trouble = fault.explain(Standing::OneOfSeveral);
                    report.warn(&part, format!("{server}: {fault}"), trouble);
                }
                Err(fault) => {
                    let trouble = fault.explain(Standing::Bootstrap);
                    report.problem(&part, format!("{server}: {fault}"), trouble);
                }
            }
        }
        first
    }

    /// Connects and asks what the server speaks, which takes no credentials.
    async fn ask(&self, host: String, port: u16) -> Asked {
        let stream = Box::pin(self.connector.connect(&host, port)).await.map_err(Fault::Connect)?;
        let mut client = Client::new(stream, CLIENT_ID, self.clock.clone());
        let versions = Box::pin(client.api_versions()).await.map_err(Fault::Answer)?;
        Ok((client, versions))
    }
}

/// A listener of a `KRaft` controller speaks Kafka's protocol too, but not for clients.
fn controller(report: &mut Report, part: &str) {
    report.problem(
        part,
        "the upstream does not speak Metadata",
        trouble(
            "that is the listener of a controller, not of a broker",
            "clients cannot use it",
            "give listeners of brokers in upstream.bootstrap.servers",
        ),
    );
}

/// The versions of one API that a server says it speaks.
fn spoken(versions: &ApiVersionsResponse, key: i16) -> VersionRange {
    let row = versions.api_keys.iter().find(|row| row.api_key == key);
    row.map_or(VersionRange::EMPTY, |row| VersionRange::new(row.min_version, row.max_version))
}

#[cfg(test)]
mod tests;

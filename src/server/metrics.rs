//! What the front door counts. Handles are resolved once and held.

use std::collections::HashMap;
use std::sync::OnceLock;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::apis::ApiTable;
use super::cause::{Cause, Refusal};
use crate::metrics::{LATENCY_SECONDS, Registry};
use crate::protocol::error::ErrorCode;

/// What is counted for one API.
#[derive(Debug)]
pub(super) struct ApiMetrics {
    name: &'static str,
    requests: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    latency: Histogram,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Why a connection's reads paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// The connection has as much in flight as it may have.
    InFlight,
    /// The pool for small frames is used up.
    SmallPool,
    /// The pool for large frames is used up.
    ReceivePool,
}

/// The handles of the front door.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) open: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) accept_errors: IntCounter,
    in_flight: IntGauge,
    pub(super) copied_in: IntCounter,
    pub(super) copied_out: IntCounter,
    refused: IntCounterVec,
    closed: HashMap<&'static str, IntCounter>,
    pauses: [Histogram; 3],
    families: ApiFamilies,
    /// By the API's place in the table; made with its first request, so that an idle server does
    /// not have twenty series for each API that nobody uses.
    apis: Vec<(&'static str, OnceLock<ApiMetrics>)>,
    errors: IntCounterVec,
}

impl Metrics {
    /// Registers the handles, with a set per API of `table`.
    pub(super) fn new(registry: &Registry, table: &ApiTable) -> Self {
        let closed = registry.counters(
            "server_connections_closed_total",
            "Connections that ended, by cause.",
            &["cause"],
        );
        let pauses = registry.histograms(
            "server_read_pause_seconds",
            "Times for which a connection was not read, by what it waited for.",
            &["cause"],
            LATENCY_SECONDS,
        );
        let copied = registry.counters(
            "server_copied_bytes_total",
            "Bytes that the front door copied in user space, by direction.",
            &["direction"],
        );
        Self {
            open: registry.gauge("server_connections_open", "Connections open now."),
            accepted: registry
                .counter("server_connections_accepted_total", "Connections accepted."),
            accept_errors: registry.counter(
                "server_accept_errors_total",
                "Failures to accept a connection, such as no file descriptor left.",
            ),
            in_flight: registry.gauge(
                "server_requests_in_flight",
                "Requests received whose response is not yet written.",
            ),
            copied_in: copied.with_label_values(&["in"]),
            copied_out: copied.with_label_values(&["out"]),
            refused: registry.counters(
                "server_connections_refused_total",
                "Connections refused after they were accepted, by limit.",
                &["cause"],
            ),
            closed: Cause::LABELS
                .iter()
                .map(|&label| (label, closed.with_label_values(&[label])))
                .collect(),
            pauses: ["in_flight", "small_pool", "receive_pool"]
                .map(|label| pauses.with_label_values(&[label])),
            families: ApiFamilies::new(registry),
            apis: table.names().map(|name| (name, OnceLock::new())).collect(),
            errors: registry.counters(
                "server_errors_total",
                "Error codes in responses, by API and Kafka's name of the code.",
                &["api", "code"],
            ),
        }
    }

    fn api(&self, at: usize) -> Option<&ApiMetrics> {
        let (name, made) = self.apis.get(at)?;
        Some(made.get_or_init(|| self.families.of(name)))
    }

    /// A connection ended.
    pub(super) fn closed(&self, cause: &Cause) {
        if let Some(counter) = self.closed.get(cause.label()) {
            counter.inc();
        }
    }

    /// A connection was refused.
    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.label()]).inc();
    }

    /// Reads went on after a pause of `seconds`.
    pub(super) fn paused(&self, pause: Pause, seconds: f64) {
        let [in_flight, small, receive] = &self.pauses;
        match pause {
            Pause::InFlight => in_flight.observe(seconds),
            Pause::SmallPool => small.observe(seconds),
            Pause::ReceivePool => receive.observe(seconds),
        }
    }

    /// A request of `bytes` (with its length prefix) came in; it is in flight until what this
    /// returns is dropped.
    pub(super) fn request(&self, api: usize, bytes: usize) -> InFlight {
        if let Some(api) = self.api(api) {
            api.requests.inc();
            api.received.inc_by(bytes as u64);
        }
        InFlight::new(&self.in_flight)
    }

    /// A response of `bytes` (with its length prefix) is written.
    pub(super) fn response(&self, api: usize, bytes: usize, seconds: f64) {
        if let Some(api) = self.api(api) {
            api.sent.inc_by(bytes as u64);
            api.latency.observe(seconds);
        }
    }

    /// A response holds these error codes.
    pub(super) fn errors(&self, api: usize, errors: &[(i16, u32)]) {
        let Some(api) = self.api(api) else { return };
        for (code, times) in errors {
            let code = ErrorCode::from_code(*code).map_or("UNLISTED", ErrorCode::name);
            self.errors.with_label_values(&[api.name, code]).inc_by(u64::from(*times));
        }
    }
}

/// What is counted by API.
#[derive(Debug)]
struct ApiFamilies {
    requests: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    latency: HistogramVec,
}

impl ApiFamilies {
    fn new(registry: &Registry) -> Self {
        let counters = |name, help| registry.counters(name, help, &["api"]);
        Self {
            requests: counters("server_requests_total", "Requests received, by API."),
            received: counters(
                "server_received_bytes_total",
                "Bytes of requests received, by API.",
            ),
            sent: counters(
                "server_sent_bytes_total",
                "Bytes of responses written to sockets, by API.",
            ),
            latency: registry.histograms(
                "server_request_duration_seconds",
                "Time from the last byte of a request to the last byte of its response, by API.",
                &["api"],
                LATENCY_SECONDS,
            ),
        }
    }

    fn of(&self, name: &'static str) -> ApiMetrics {
        ApiMetrics {
            name,
            requests: self.requests.with_label_values(&[name]),
            received: self.received.with_label_values(&[name]),
            sent: self.sent.with_label_values(&[name]),
            latency: self.latency.with_label_values(&[name]),
        }
    }
}

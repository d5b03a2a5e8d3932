//! What is measured of a virtual cluster.

use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use crate::metrics::Registry;

/// From a tenth of what one read and one write take, to what a slow upstream adds by itself.
const ADDED_SECONDS: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.05, 0.25, 1.0,
];

/// The metrics of all virtual clusters.
#[derive(Debug)]
pub(super) struct Families {
    clients: IntGaugeVec,
    upstreams: IntGaugeVec,
    held: IntGaugeVec,
    nodes: IntGaugeVec,
    connects: IntCounterVec,
    errors: IntCounterVec,
    requests: IntCounterVec,
    bytes: IntCounterVec,
    rewrites: IntCounterVec,
    topology_changes: IntCounterVec,
    added: HistogramVec,
    paused_seconds: CounterVec,
}

/// The handles of one virtual cluster.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) clients: IntGauge,
    pub(super) upstreams: IntGauge,
    /// Connections that are held until a node is known.
    pub(super) held: IntGauge,
    pub(super) nodes: IntGauge,
    pub(super) connected: IntCounter,
    pub(super) connect_errors: IntCounter,
    /// Upstream connections that ended with responses owed.
    pub(super) ended: IntCounter,
    pub(super) malformed: IntCounter,
    pub(super) requests: IntCounter,
    pub(super) request_bytes: IntCounter,
    pub(super) response_bytes: IntCounter,
    pub(super) rewrites: IntCounter,
    pub(super) topology_changes: IntCounter,
    pub(super) added: Histogram,
    pub(super) paused_seconds: Counter,
}

impl Families {
    /// Registers the metrics.
    pub(super) fn new(registry: &Registry) -> Self {
        let label = &["cluster"];
        let gauges = |name, help| registry.gauges(name, help, label);
        let counters = |name, help| registry.counters(name, help, label);
        Self {
            clients: gauges("proxy_client_connections", "Connections of clients open now."),
            upstreams: gauges("proxy_upstream_connections", "Connections to upstreams open now."),
            held: gauges(
                "proxy_held_connections",
                "Connections to nodes of which it is not known yet where they are.",
            ),
            nodes: gauges("proxy_nodes", "Upstream nodes of which it is known where they are."),
            connects: counters("proxy_upstream_connects_total", "Connections made to upstreams."),
            errors: registry.counters(
                "proxy_upstream_errors_total",
                "Upstreams that could not be connected to, ended a connection with responses owed, \
                 or sent what is no response.",
                &["cluster", "kind"],
            ),
            requests: counters("proxy_requests_total", "Requests sent on to upstreams."),
            bytes: registry.counters(
                "proxy_bytes_total",
                "Bytes of frames that went through, by what they were.",
                &["cluster", "frame"],
            ),
            rewrites: counters("proxy_rewrites_total", "Places changed in responses."),
            topology_changes: counters(
                "proxy_topology_changes_total",
                "Times that an upstream node was new or was found elsewhere.",
            ),
            added: registry.histograms(
                "proxy_added_seconds",
                "Time for which a request and what came first of its response were held here.",
                label,
                ADDED_SECONDS,
            ),
            paused_seconds: registry.float_counters(
                "proxy_upstream_paused_seconds_total",
                "Time for which upstreams were not read since clients did not take what came.",
                label,
            ),
        }
    }

    /// The handles of the virtual cluster `name`.
    pub(super) fn of(&self, name: &str) -> Metrics {
        let label = &[name];
        let error = |kind| self.errors.with_label_values(&[name, kind]);
        let bytes = |frame| self.bytes.with_label_values(&[name, frame]);
        Metrics {
            clients: self.clients.with_label_values(label),
            upstreams: self.upstreams.with_label_values(label),
            held: self.held.with_label_values(label),
            nodes: self.nodes.with_label_values(label),
            connected: self.connects.with_label_values(label),
            connect_errors: error("connect"),
            ended: error("ended"),
            malformed: error("malformed"),
            requests: self.requests.with_label_values(label),
            request_bytes: bytes("request"),
            response_bytes: bytes("response"),
            rewrites: self.rewrites.with_label_values(label),
            topology_changes: self.topology_changes.with_label_values(label),
            added: self.added.with_label_values(label),
            paused_seconds: self.paused_seconds.with_label_values(label),
        }
    }
}

/// One in a gauge for as long as it lives.
#[derive(Debug)]
pub(super) struct Held(IntGauge);

impl Held {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

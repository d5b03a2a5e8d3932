//! The metrics registry: names, registration and the text encoding. What is counted belongs to the
//! `metrics.rs` of the room that counts it; what is read only when somebody asks comes from a
//! [`Source`].

mod page;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use page::{Family, Kind, Page, Source, labels};
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, TextEncoder,
};

/// A registry of the metrics of one process (or one test). Rooms build their handles from it once
/// and hold them; cheap to clone.
///
/// Names are `tidegate_<room>_<what>_<unit>[_total]`; the prefix is added here. A name registered
/// twice is a bug and panics at start.
#[derive(Clone)]
pub struct Registry {
    inner: prometheus::Registry,
    others: Arc<Mutex<Others>>,
}

/// What the registry has beside the metrics that are counted.
#[derive(Default)]
struct Others {
    sources: Vec<Arc<dyn Source>>,
    described: Vec<Description>,
}

/// What a metric is, for the reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Description {
    /// Its whole name.
    pub name: String,
    /// Counter, gauge or histogram.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
    /// The configuration key that it depends on; empty if it is always there.
    pub switch: &'static str,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// What our own metrics begin with.
const PREFIX: &str = "tidegate";

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        let inner = prometheus::Registry::new_custom(Some(PREFIX.to_owned()), None)
            .expect("the prefix is a valid metric name");
        Self { inner, others: Arc::default() }
    }

    /// Adds what `source` tells.
    pub fn add(&self, source: Arc<dyn Source>) {
        let described = source.families().into_iter().map(|family| Description {
            name: family.name.to_owned(),
            kind: family.kind.name(),
            labels: family.labels.iter().map(|&label| label.to_owned()).collect(),
            help: family.help.to_owned(),
            switch: family.switch,
        });
        let mut others = self.lock();
        others.described.extend(described);
        others.sources.push(source);
    }

    /// Every metric that there is or may be, by name.
    pub fn described(&self) -> Vec<Description> {
        let mut described = self.lock().described.clone();
        described.sort();
        described
    }

    fn lock(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics in Prometheus' text exposition format 0.0.4. Asks every [`Source`], so it may
    /// block: for `task::blocking`.
    pub fn encode(&self) -> String {
        let sources = self.lock().sources.clone();
        let mut page = Page::default();
        for source in &sources {
            source.collect(&mut page);
        }
        let mut text = page.into_text();
        TextEncoder::new()
            .encode_utf8(&self.inner.gather(), &mut text)
            .expect("the text encoder writes to memory");
        text
    }

    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(Kind::Counter, IntCounter::new(name, help))
    }

    /// Counters by label.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(Kind::Counter, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(Kind::Gauge, IntGauge::new(name, help))
    }

    /// Gauges of whole numbers by label.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(Kind::Gauge, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of fractions (seconds, ratios).
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Kind::Gauge, Gauge::new(name, help))
    }

    /// Gauges of fractions by label.
    pub fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(Kind::Gauge, GaugeVec::new(Opts::new(name, help), labels))
    }

    /// Counters of fractions (seconds) by label.
    pub fn float_counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.register(Kind::Counter, CounterVec::new(Opts::new(name, help), labels))
    }

    /// A histogram with the given upper bounds.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Kind::Histogram, Histogram::with_opts(opts))
    }

    /// Histograms by label with the given upper bounds.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Kind::Histogram, HistogramVec::new(opts, labels))
    }

    fn register<C>(&self, kind: Kind, made: prometheus::Result<C>) -> C
    where
        C: Collector + Clone + 'static,
    {
        let metric = made.expect("metric name and labels are valid");
        let described = metric.desc().into_iter().map(|desc| Description {
            name: format!("{PREFIX}_{}", desc.fq_name),
            kind: kind.name(),
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
            switch: "",
        });
        self.lock().described.extend(described);
        self.inner.register(Box::new(metric.clone())).expect("each metric is registered once");
        metric
    }
}

/// Upper bounds in seconds for latencies from 100 µs to 30 s.
pub const LATENCY_SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

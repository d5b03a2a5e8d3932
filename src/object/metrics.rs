//! The first layer of the store: counts every operation from the outside, waiting and retries
//! included.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::error::{ObjectError, Operation};
use crate::metrics::{LATENCY_SECONDS, Registry};

/// How an operation ended, as a metric label.
const OUTCOMES: [&str; 5] = ["ok", "not_found", "exists", "denied", "unavailable"];

/// Metric handles of the bucket, by operation.
#[derive(Debug)]
pub(super) struct ObjectMetrics {
    families: Families,
    /// Made with the first request, so that what is never asked for has no series.
    operations: [OnceLock<OperationMetrics>; Operation::ALL.len()],
    billed: IntCounterVec,
    throttles: Throttles,
    hedges: IntCounter,
}

/// What is counted by operation.
#[derive(Debug)]
struct Families {
    requests: IntCounterVec,
    retries: IntCounterVec,
    bytes: IntCounterVec,
    seconds: HistogramVec,
}

/// Counts answers that ask for fewer requests; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Throttles(IntCounter);

impl Throttles {
    /// Counts one.
    pub(super) fn count(&self) {
        self.0.inc();
    }
}

#[derive(Debug)]
struct OperationMetrics {
    requests: [IntCounter; 5],
    retries: IntCounter,
    billed: IntCounter,
    bytes: IntCounter,
    seconds: Histogram,
}

impl ObjectMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let requests = registry.counters(
            "object_requests_total",
            "Operations on the bucket by outcome.",
            &["operation", "outcome"],
        );
        let retries = registry.counters(
            "object_retries_total",
            "Attempts on the bucket that were not an operation's first.",
            &["operation"],
        );
        let bytes = registry.counters(
            "object_bytes_total",
            "Bytes of objects read or written by operations that succeeded.",
            &["operation"],
        );
        let seconds = registry.histograms(
            "object_latency_seconds",
            "Time per operation on the bucket, waiting and retries included.",
            &["operation"],
            LATENCY_SECONDS,
        );
        let billed = registry.counters(
            "object_billed_requests_total",
            "Requests by the class that clouds bill them in, every attempt counted: write is PUT, \
             POST and LIST, read is GET and HEAD, free is DELETE.",
            &["class"],
        );
        let throttles = registry.counter(
            "object_throttles_total",
            "Answers of the bucket's service that asked for fewer requests (429, 503).",
        );
        let hedges = registry.counter(
            "object_hedges_total",
            "Reads that were asked for a second time because the first answer took long.",
        );
        for class in CLASSES {
            // Costs are sums over the classes: each is there from the start.
            billed.with_label_values(&[class]);
        }
        let families = Families { requests, retries, bytes, seconds };
        let operations = std::array::from_fn(|_| OnceLock::new());
        Self { families, operations, billed, throttles: Throttles(throttles), hedges }
    }

    fn of(&self, operation: Operation) -> &OperationMetrics {
        self.operations[operation as usize].get_or_init(|| {
            let (families, name) = (&self.families, operation.name());
            let outcome = |outcome| families.requests.with_label_values(&[name, outcome]);
            OperationMetrics {
                requests: OUTCOMES.map(outcome),
                retries: families.retries.with_label_values(&[name]),
                billed: self.billed.with_label_values(&[billing_class(operation)]),
                bytes: families.bytes.with_label_values(&[name]),
                seconds: families.seconds.with_label_values(&[name]),
            }
        })
    }

    /// Where the backend counts answers that ask for fewer requests.
    pub(super) fn throttles(&self) -> &Throttles {
        &self.throttles
    }

    /// Counts a second request for the same bytes.
    pub(super) fn hedged(&self) {
        self.hedges.inc();
        self.of(Operation::GetRange).billed.inc();
    }

    /// Counts one operation that has ended.
    pub(super) fn observe(
        &self,
        operation: Operation,
        attempts: u32,
        elapsed: Duration,
        error: Option<&ObjectError>,
    ) {
        let metrics = self.of(operation);
        metrics.requests[outcome(error)].inc();
        metrics.retries.inc_by(u64::from(attempts.saturating_sub(1)));
        metrics.billed.inc_by(u64::from(attempts));
        metrics.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts the bytes of an operation that succeeded.
    pub(super) fn moved(&self, operation: Operation, bytes: usize) {
        self.of(operation).bytes.inc_by(bytes as u64);
    }
}

/// Every class of [`billing_class`].
const CLASSES: [&str; 3] = ["write", "read", "free"];

/// S3's request classes, which the other clouds have too.
fn billing_class(operation: Operation) -> &'static str {
    match operation {
        Operation::Put
        | Operation::Create
        | Operation::BeginUpload
        | Operation::PutPart
        | Operation::CompleteUpload
        | Operation::List => "write",
        Operation::Get | Operation::GetRange => "read",
        Operation::Delete | Operation::AbortUpload => "free",
    }
}

/// The index in [`OUTCOMES`].
fn outcome(error: Option<&ObjectError>) -> usize {
    match error {
        None => 0,
        Some(ObjectError::NotFound { .. }) => 1,
        Some(ObjectError::AlreadyExists { .. }) => 2,
        Some(ObjectError::Denied { .. }) => 3,
        // The store itself never answers that an object is too large.
        Some(ObjectError::Unavailable { .. } | ObjectError::TooLarge { .. }) => 4,
    }
}

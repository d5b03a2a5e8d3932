//! The first layer of the store: counts every operation from the outside, waiting and retries
//! included.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::error::{ObjectError, Operation};
use crate::metrics::{LATENCY_SECONDS, Registry};

/// How an operation ended, as a metric label.
const OUTCOMES: [&str; 5] = ["ok", "not_found", "exists", "denied", "unavailable"];

/// Metric handles of the bucket, by operation.
#[derive(Debug)]
pub(super) struct ObjectMetrics {
    operations: [OperationMetrics; Operation::ALL.len()],
    throttles: Throttles,
    hedges: IntCounter,
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
        let operations = Operation::ALL.map(|operation| {
            let name = operation.name();
            OperationMetrics {
                requests: OUTCOMES.map(|outcome| requests.with_label_values(&[name, outcome])),
                retries: retries.with_label_values(&[name]),
                billed: billed.with_label_values(&[billing_class(operation)]),
                bytes: bytes.with_label_values(&[name]),
                seconds: seconds.with_label_values(&[name]),
            }
        });
        let throttles = registry.counter(
            "object_throttles_total",
            "Answers of the bucket's service that asked for fewer requests (429, 503).",
        );
        let hedges = registry.counter(
            "object_hedges_total",
            "Reads that were asked for a second time because the first answer took long.",
        );
        Self { operations, throttles: Throttles(throttles), hedges }
    }

    /// Where the backend counts answers that ask for fewer requests.
    pub(super) fn throttles(&self) -> &Throttles {
        &self.throttles
    }

    /// Counts a second request for the same bytes.
    pub(super) fn hedged(&self) {
        self.hedges.inc();
        self.operations[Operation::GetRange as usize].billed.inc();
    }

    /// Counts one operation that has ended.
    pub(super) fn observe(
        &self,
        operation: Operation,
        attempts: u32,
        elapsed: Duration,
        error: Option<&ObjectError>,
    ) {
        let metrics = &self.operations[operation as usize];
        metrics.requests[outcome(error)].inc();
        metrics.retries.inc_by(u64::from(attempts.saturating_sub(1)));
        metrics.billed.inc_by(u64::from(attempts));
        metrics.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts the bytes of an operation that succeeded.
    pub(super) fn moved(&self, operation: Operation, bytes: usize) {
        self.operations[operation as usize].bytes.inc_by(bytes as u64);
    }
}

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

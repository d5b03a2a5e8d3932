//! Gathering `/metrics`, one scrape at a time and beside the async workers: it looks at all there
//! is.

use std::sync::Arc;

use prometheus::Gauge;
use tokio::sync::Mutex;
use tokio::task::JoinError;

use crate::clock::Clock;
use crate::metrics::Registry;
use crate::task;

/// Whoever wants the metrics asks here. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    registry: Registry,
    clock: Clock,
    seconds: Gauge,
    /// Held by the scrape under way: who asks often waits for himself, and not the clients for him.
    one: Arc<Mutex<()>>,
}

impl Scrapes {
    pub(super) fn new(registry: Registry, clock: Clock) -> Self {
        let seconds = registry.float_gauge(
            "metrics_scrape_seconds",
            "How long gathering the metrics took the last time before this one.",
        );
        Self { registry, clock, seconds, one: Arc::default() }
    }

    /// The metrics in Prometheus' text format; an error if gathering them panicked.
    pub(super) async fn gather(&self) -> Result<String, JoinError> {
        let place = Arc::clone(&self.one).lock_owned().await;
        let this = self.clone();
        task::blocking(move || {
            let began = this.clock.now();
            let text = this.registry.encode();
            let took = this.clock.now().saturating_duration_since(began);
            this.seconds.set(took.as_secs_f64());
            drop(place);
            text
        })
        .await
    }
}

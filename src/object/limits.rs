//! The second layer of the store: how many operations are under way at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// The most operations under way at once. More wait, first come, first served; every one that is
/// under way ends within the bounds of the retry layer, so the wait is bounded too.
const CONCURRENT_OPERATIONS: usize = 64;

/// The places for operations.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    places: Arc<Semaphore>,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONCURRENT_OPERATIONS)) }
    }

    /// Waits for a place, held until the permit is dropped.
    pub(super) async fn admit(&self) -> SemaphorePermit<'_> {
        self.places.acquire().await.expect("the semaphore is never closed")
    }
}

//! The time by which certificates are judged: the injected clock's.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::clock::Clock;

#[derive(Debug)]
struct WallTime(Clock);

/// Wall time for rustls.
pub(super) fn of(clock: &Clock) -> Arc<dyn TimeProvider> {
    Arc::new(WallTime(clock.clone()))
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.wall_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

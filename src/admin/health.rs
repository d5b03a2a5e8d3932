//! Whether the process lives and is ready, as the parts that know tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The state of the process for `/livez` and `/readyz`; cheap to clone.
///
/// `run` hands it to whoever can tell something. A process is ready when nobody gives a reason
/// against it, and lives until a fatal cause is set; a fatal cause stays.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the process is not ready, by the name of who says so.
    reasons: BTreeMap<&'static str, String>,
    /// Why the process must end.
    fatal: Option<String>,
}

impl Health {
    /// The name of the reason that [`Health::starting`] begins with.
    pub const START: &'static str = "start";

    /// A process that has just begun: not ready until `clear(Health::START)`.
    pub fn starting() -> Self {
        let reasons = BTreeMap::from([(Self::START, "starting".to_owned())]);
        Self { state: Arc::new(watch::Sender::new(State { reasons, fatal: None })) }
    }

    /// `name` says why the process is not ready. An earlier reason of `name` is replaced.
    pub fn set(&self, name: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.state.send_if_modified(|state| {
            let changed = state.reasons.get(name) != Some(&reason);
            state.reasons.insert(name, reason);
            changed
        });
    }

    /// `name` has nothing more against the process being ready.
    pub fn clear(&self, name: &'static str) {
        self.state.send_if_modified(|state| state.reasons.remove(name).is_some());
    }

    /// The process must end because of `cause` (a poisoned write-ahead log, a lost identity). The
    /// first cause stays.
    pub fn set_fatal(&self, cause: impl Into<String>) {
        let cause = cause.into();
        self.state.send_if_modified(|state| {
            let first = state.fatal.is_none();
            state.fatal.get_or_insert(cause);
            first
        });
    }

    /// The fatal cause, if there is one.
    pub fn fatal(&self) -> Option<String> {
        self.state.borrow().fatal.clone()
    }

    /// Resolves with the fatal cause when there is one.
    pub async fn until_fatal(&self) -> String {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| state.fatal.is_some()).await;
        let state = state.expect("self holds the sender");
        state.fatal.clone().unwrap_or_default()
    }

    /// Why the process is not ready, a line each as `name: reason`; empty if it is.
    pub fn reasons(&self) -> Vec<String> {
        let state = self.state.borrow();
        let fatal = state.fatal.iter().map(|cause| format!("fatal: {cause}"));
        fatal
            .chain(state.reasons.iter().map(|(name, reason)| format!("{name}: {reason}")))
            .collect()
    }

    /// Resolves when nothing is against the process being ready.
    pub async fn until_ready(&self) {
        let mut state = self.state.subscribe();
        let ready = state.wait_for(|state| state.reasons.is_empty() && state.fatal.is_none()).await;
        drop(ready.expect("self holds the sender"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_ready_when_nobody_objects() {
        let health = Health::starting();
        assert_eq!(health.reasons(), ["start: starting"]);
        health.set("bucket", "no answer");
        health.set("bucket", "access denied");
        health.clear(Health::START);
        assert_eq!(health.reasons(), ["bucket: access denied"]);
        health.clear("bucket");
        assert!(health.reasons().is_empty());
    }

    #[tokio::test]
    async fn the_first_fatal_cause_stays_and_wakes_who_waits() {
        let health = Health::starting();
        let waits = {
            let health = health.clone();
            async move { health.until_fatal().await }
        };
        let set = async {
            health.set_fatal("disk lost");
            health.set_fatal("later trouble");
        };
        let (cause, ()) = tokio::join!(waits, set);
        assert_eq!(cause, "disk lost");
        assert_eq!(health.fatal().as_deref(), Some("disk lost"));
        assert_eq!(health.reasons(), ["fatal: disk lost", "start: starting"]);
    }

    #[tokio::test]
    async fn readiness_can_be_waited_for() {
        let health = Health::starting();
        let (ready, clear) = (health.until_ready(), async { health.clear(Health::START) });
        tokio::join!(ready, clear);
    }
}

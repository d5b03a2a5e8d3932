//! Loads under way: whoever wants what one of them brings waits for it, and none ends because
//! somebody stopped waiting.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::super::reader::ReadError;

type Outcome<V> = Option<Result<V, ReadError>>;

/// The loads under way, by what they bring.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: Mutex<HashMap<K, Flight<V>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

/// A load under way, as one who waits for it has it.
#[derive(Debug, Clone)]
pub(super) struct Flight<V>(watch::Receiver<Outcome<V>>);

impl<V: Clone> Flight<V> {
    /// What the load brought; `None` if it ended without saying, by a panic.
    pub(super) async fn outcome(mut self) -> Outcome<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The loads, while nobody else can look at them.
pub(super) struct Tower<'a, K, V> {
    flights: &'a Arc<Flights<K, V>>,
    under_way: MutexGuard<'a, HashMap<K, Flight<V>>>,
}

impl<K: Copy + Eq + Hash, V> Flights<K, V> {
    pub(super) fn lock(self: &Arc<Self>) -> Tower<'_, K, V> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        Tower { flights: self, under_way }
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Tower<'_, K, V> {
    /// The load that brings `key`.
    pub(super) fn of(&self, key: &K) -> Option<Flight<V>> {
        self.under_way.get(key).cloned()
    }

    /// A load that will bring `keys`, none of which is under way.
    pub(super) fn start(&mut self, keys: Vec<K>) -> (Landing<K, V>, Flight<V>) {
        let (sender, receiver) = watch::channel(None);
        let flight = Flight(receiver);
        self.under_way.extend(keys.iter().map(|key| (*key, flight.clone())));
        (Landing { flights: Arc::clone(self.flights), keys, sender }, flight)
    }
}

/// The end of a load: once it is dropped the load is not under way any more.
pub(super) struct Landing<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    keys: Vec<K>,
    sender: watch::Sender<Outcome<V>>,
}

impl<K: Eq + Hash, V> Landing<K, V> {
    /// Tells everybody who waits. What was brought is in the cache already, so that nobody finds
    /// it neither there nor under way.
    pub(super) fn land(self, outcome: Result<V, ReadError>) {
        self.sender.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            under_way.remove(key);
        }
    }
}

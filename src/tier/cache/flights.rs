//! Loads under way: whoever wants something that one of them brings waits for that alone, and none
//! ends because somebody stopped waiting.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::super::reader::ReadError;

type Outcome<V> = Option<Result<V, ReadError>>;

/// What is under way.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: Mutex<HashMap<K, Flight<V>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

/// Something under way, as one who waits for it has it.
#[derive(Debug, Clone)]
pub(super) struct Flight<V>(watch::Receiver<Outcome<V>>);

impl<V: Clone> Flight<V> {
    /// What came; `None` if the load ended without saying, by a panic.
    pub(super) async fn outcome(mut self) -> Outcome<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// What is under way, while nobody else can look at it.
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

impl<K: Eq + Hash, V> Flights<K, V> {
    /// These are not under way any more.
    fn end<'a>(&self, keys: impl Iterator<Item = &'a K>)
    where
        K: 'a,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        keys.for_each(|key| drop(under_way.remove(key)));
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Tower<'_, K, V> {
    /// What brings `key`.
    pub(super) fn of(&self, key: &K) -> Option<Flight<V>> {
        self.under_way.get(key).cloned()
    }

    /// A load that will bring `first` and `others`, none of which is under way, and the first's
    /// flight.
    pub(super) fn start(
        &mut self,
        first: K,
        others: impl IntoIterator<Item = K>,
    ) -> (Landing<K, V>, Flight<V>) {
        let mut landing = Landing { flights: Arc::clone(self.flights), awaited: HashMap::new() };
        let mut start = |key| {
            let (sender, receiver) = watch::channel(None);
            self.under_way.insert(key, Flight(receiver.clone()));
            landing.awaited.insert(key, sender);
            Flight(receiver)
        };
        let flight = start(first);
        others.into_iter().for_each(|key| drop(start(key)));
        (landing, flight)
    }
}

/// What a load is to bring: once this is dropped the rest of it is not under way any more.
pub(super) struct Landing<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    awaited: HashMap<K, watch::Sender<Outcome<V>>>,
}

impl<K: Eq + Hash, V> Landing<K, V> {
    /// Tells everybody who waits for `key`. It is in the cache already, so that nobody finds it
    /// neither there nor under way.
    pub(super) fn land(&mut self, key: &K, value: V) {
        if let Some(sender) = self.awaited.remove(key) {
            sender.send_replace(Some(Ok(value)));
            self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }

    /// Tells everybody who waits for what has not come why it will not. It is not under way any
    /// more by then: whoever has been told and asks again begins a load of its own.
    pub(super) fn fail(mut self, error: &ReadError) {
        let awaited = std::mem::take(&mut self.awaited);
        self.flights.end(awaited.keys());
        for sender in awaited.into_values() {
            sender.send_replace(Some(Err(error.clone())));
        }
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.end(self.awaited.keys());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::object::Key;

    /// Looks for a load at the moment at which its failure is told.
    struct AsksAgain {
        flights: Arc<Flights<u8, ()>>,
        joins_what_failed: AtomicBool,
    }

    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            let joins = self.flights.lock().of(&1).is_some();
            self.joins_what_failed.store(joins, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_told_of_a_failure_and_asks_again_does_not_find_the_load_that_failed() {
        let flights = Arc::<Flights<u8, ()>>::default();
        let (landing, flight) = flights.lock().start(1, []);
        let joins_what_failed = AtomicBool::new(true);
        let asks = Arc::new(AsksAgain { flights, joins_what_failed });
        let waker = Waker::from(Arc::clone(&asks));
        let mut outcome = pin!(flight.outcome());
        assert!(outcome.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let error = ReadError::Missing { key: Key::new("object") };
        landing.fail(&error);
        assert!(!asks.joins_what_failed.load(Ordering::Relaxed));
        assert!(outcome.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
}

//! Who reads a partition from one chunk to the next, and how far ahead of that reader to load.
//!
//! Nobody says that it will read on, so it is told from where reads happen: after a load, the place
//! is noted where a reader that goes on will come by. One that does has its window doubled.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::protocol::types::TopicPartition;

/// The first and the greatest number of bytes loaded for a reader at once.
pub(super) const FIRST_WINDOW: u64 = 1 << 20;
pub(super) const GREATEST_WINDOW: u64 = 8 << 20;

/// More places are not remembered: the oldest are forgotten, and such a reader starts over.
const MAX_PLACES: usize = 4_096;

/// A place in a partition's log: the first offset of a chunk, or where an object ends.
pub(super) type Place = (TopicPartition, i64);

/// What was done for the reader that will come by a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    /// How many bytes were loaded at once for it.
    pub(super) window: u64,
    /// The first chunk of the object that was not; 0 if the place is in another object.
    pub(super) loaded_to: u32,
    /// Whether somebody saw to that other object.
    pub(super) is_left: bool,
}

impl Stream {
    fn is_leaving(&self) -> bool {
        self.loaded_to == 0 && !self.is_left
    }

    /// How many bytes to load next.
    pub(super) fn next_window(self) -> u64 {
        self.window.saturating_mul(2).min(GREATEST_WINDOW)
    }
}

/// The places where readers are expected.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    expected: HashMap<Place, Stream>,
    /// Every place once, oldest first; those that a reader came by are gone from the map alone.
    order: VecDeque<Place>,
}

impl Streams {
    /// What is known of the reader that has come by; it is expected there no longer.
    pub(super) fn take(&self, place: Place) -> Option<Stream> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.expected.remove(&place)
    }

    /// Whether a reader is expected in another object there, to which nobody has seen.
    pub(super) fn is_leaving(&self, place: Place) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.expected.get(&place).is_some_and(Stream::is_leaving)
    }

    /// Sees to that object, which is done once.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = places.expected.get_mut(&place).filter(|stream| stream.is_leaving());
        stream.map(|stream| stream.is_left = true).is_some()
    }

    /// Expects a reader.
    pub(super) fn expect(&self, place: Place, stream: Stream) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.expected.insert(place, stream).is_some() {
            return;
        }
        places.order.push_back(place);
        while places.order.len() > MAX_PLACES {
            if let Some(oldest) = places.order.pop_front() {
                places.expected.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::writer::tests::partition;

    #[test]
    fn a_window_doubles_up_to_the_greatest() {
        let mut stream = Stream { window: FIRST_WINDOW, loaded_to: 0, is_left: false };
        let mut windows = Vec::new();
        for _ in 0..5 {
            windows.push(stream.window >> 20);
            stream.window = stream.next_window();
        }
        assert_eq!(windows, [1, 2, 4, 8, 8]);
    }

    #[test]
    fn the_oldest_places_are_forgotten() {
        let streams = Streams::default();
        let stream = Stream { window: FIRST_WINDOW, loaded_to: 1, is_left: false };
        for offset in 0..=MAX_PLACES as i64 {
            streams.expect((partition(1, 0), offset), stream);
        }
        assert_eq!(streams.take((partition(1, 0), 0)), None);
        assert_eq!(streams.take((partition(1, 1), 1)), None);
        assert_eq!(streams.take((partition(1, 0), 1)), Some(stream));
        assert_eq!(streams.take((partition(1, 0), 1)), None);
        let places = streams.places.lock().unwrap();
        assert!(places.expected.len() < MAX_PLACES && places.order.len() <= MAX_PLACES);
    }
}

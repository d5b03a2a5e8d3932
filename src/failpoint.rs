//! Places in the code where a test steps in, to make happen there what otherwise only another
//! thread at the wrong moment does. Outside tests a place is nothing.
//!
//! A test arms a place for its own thread, so that tests beside each other do not meet; whoever
//! comes by on another thread passes.

#[cfg(test)]
pub(crate) use armed::{arm, pass};

/// Code comes by `place`.
#[cfg(not(test))]
#[inline]
pub(crate) fn pass(_place: &'static str) {}

#[cfg(test)]
mod armed {
    use std::cell::RefCell;
    use std::collections::HashMap;

    type Step = Box<dyn FnMut()>;

    thread_local! {
        static STEPS: RefCell<HashMap<&'static str, Step>> = RefCell::default();
    }

    /// Runs `step` whenever this thread comes by `place`, until the guard is dropped. A step that
    /// comes by its own place passes it.
    pub(crate) fn arm(place: &'static str, step: impl FnMut() + 'static) -> Armed {
        STEPS.with_borrow_mut(|steps| steps.insert(place, Box::new(step)));
        Armed { place }
    }

    /// Keeps a place armed.
    #[must_use]
    pub(crate) struct Armed {
        place: &'static str,
    }

    impl Drop for Armed {
        fn drop(&mut self) {
            STEPS.with_borrow_mut(|steps| steps.remove(self.place));
        }
    }

    /// Code comes by `place`.
    pub(crate) fn pass(place: &'static str) {
        let step = STEPS.with_borrow_mut(|steps| steps.remove(place));
        if let Some(mut step) = step {
            step();
            STEPS.with_borrow_mut(|steps| steps.insert(place, step));
        }
    }
}

//! Places in the code where a test steps in, to make happen there what otherwise only another
//! thread at the wrong moment does, or a power button. Outside tests a place is nothing.
//!
//! A unit test arms a place for its own thread, so that tests beside each other do not meet;
//! whoever comes by on another thread passes. A test of the whole process names a place in
//! [`VARIABLE`], and the process kills itself (SIGKILL) when it comes by. That is for debug builds
//! only: a release build knows no such variable and refuses to start with it, as with any setting
//! that does not exist.

#[cfg(test)]
pub(crate) use armed::{arm, pass};
#[cfg(all(debug_assertions, not(test)))]
pub(crate) use kill::pass;

/// The environment variable that names the place where a debug build kills itself: `place`, or
/// `place#3` for the third time that any thread comes by, or `place > other` for the first time at
/// the other after that. It is no setting.
#[cfg(debug_assertions)]
pub(crate) const VARIABLE: Option<&str> = Some("TIDEGATE_FAILPOINT");
/// No variable kills a release build.
#[cfg(not(debug_assertions))]
pub(crate) const VARIABLE: Option<&str> = None;

/// Code comes by `place`.
#[cfg(not(any(debug_assertions, test)))]
#[inline]
pub(crate) fn pass(_place: &'static str) {}

#[cfg(debug_assertions)]
#[cfg_attr(test, allow(dead_code, reason = "a unit test kills nothing; it tests the reading"))]
mod kill {
    use std::collections::VecDeque;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    static FATAL: OnceLock<Option<Fatal>> = OnceLock::new();

    /// Where the process ends: the places that are still to be passed, and how often each.
    struct Fatal(Mutex<VecDeque<(String, u64)>>);

    impl Fatal {
        fn parse(text: &str) -> Self {
            let place = |text: &str| match text.rsplit_once('#') {
                Some((place, times)) => (place.to_owned(), times.parse().unwrap_or(1)),
                None => (text.to_owned(), 1),
            };
            Self(Mutex::new(text.split(" > ").map(place).collect()))
        }

        /// Whether the process ends here and now.
        fn is_now(&self, place: &str) -> bool {
            let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((_, times)) = left.front_mut().filter(|(next, _)| next == place) else {
                return false;
            };
            *times = times.saturating_sub(1);
            if *times > 0 {
                return false;
            }
            left.pop_front();
            left.is_empty()
        }
    }

    /// Code comes by `place`.
    pub(crate) fn pass(place: &'static str) {
        let fatal = FATAL.get_or_init(|| {
            let named = std::env::var(super::VARIABLE?).ok()?;
            Some(Fatal::parse(&named))
        });
        if fatal.as_ref().is_some_and(|fatal| fatal.is_now(place)) {
            // The signal is there before the call returns; should it be refused, this ends too.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_ends_the_process_at_the_time_that_is_named_and_others_never() {
            let first = Fatal::parse("upload: sent");
            assert!(!first.is_now("upload: begun"));
            assert!(first.is_now("upload: sent"));
            let third = Fatal::parse("upload: sent#3");
            assert!(!third.is_now("upload: sent"));
            assert!(!third.is_now("upload: begun"));
            assert!(!third.is_now("upload: sent"));
            assert!(third.is_now("upload: sent"));
            let after = Fatal::parse("merge: begun#2 > upload: sent#2");
            let passed = ["upload: sent", "merge: begun", "upload: sent", "merge: begun"];
            assert!(passed.into_iter().all(|place| !after.is_now(place)));
            assert!(!after.is_now("merge: begun"));
            assert!(!after.is_now("upload: sent"));
            assert!(after.is_now("upload: sent"));
        }
    }
}

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

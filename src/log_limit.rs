//! Log lines that a peer can cause at will, or that come again for as long as something is wrong,
//! are written at most once in a while.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::{Clock, Instant};

/// How long a line stays quiet after it was written.
const QUIET: Duration = Duration::from_secs(10);

/// Says when a repeating line may be written.
#[derive(Debug, Default)]
pub struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// The first line may be written at once.
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { last: None, suppressed: 0 }) }
    }

    /// `Some(lines left out since the last one)` if the line may be written now.
    pub fn allow(&self, clock: &Clock) -> Option<u64> {
        let now = clock.now();
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if state.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_written_once_and_again_after_a_while_with_what_was_left_out() {
        let (limit, clock) = (LogLimit::default(), Clock::system());
        assert_eq!(limit.allow(&clock), Some(0));
        assert_eq!(limit.allow(&clock), None);
        assert_eq!(limit.allow(&clock), None);
        clock.sleep(QUIET).await;
        assert_eq!(limit.allow(&clock), Some(2));
    }
}

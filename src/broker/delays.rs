//! How long what goes on beside the requests waits where that is minutes or hours: merges, the
//! bucket's checkpoints, garbage, the sweep. A test of the binary cannot wait so long, so a build
//! with debug assertions takes other times, in milliseconds, from its environment ([`VARIABLE`]):
//!
//! ```text
//! merge.look=20 merge.age=1 sweep.first=50
//! ```

use std::time::Duration;

use super::bucket_log::CHECKPOINT_INTERVAL;
use super::garbage::rules::DELETE_DELAY;

/// Where a build with debug assertions is told other times. It is no setting.
#[cfg(debug_assertions)]
const VARIABLE: &str = "DELAYS_FOR_TESTS";

/// Times between looks, and ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delays {
    /// How often it is looked at what waits for the bucket.
    pub(super) flush_look: Duration,
    /// In place of `tier.max.age.ms`.
    pub(super) flush_age: Option<Duration>,
    /// How often the merger looks.
    pub(super) merge_look: Duration,
    /// What is older than this, on the log clock, is not left in packs.
    pub(super) merge_age: Duration,
    /// How often it is looked whether a checkpoint in the bucket is due.
    pub(super) checkpoint_look: Duration,
    /// The least time between two of them.
    pub(super) checkpoint: Duration,
    /// How often the garbage is looked at.
    pub(super) garbage_look: Duration,
    /// How long readers may still want what nobody refers to any more.
    pub(super) garbage_age: Duration,
    /// How long after the start the first sweep begins, and after one that failed the next.
    pub(super) first_sweep: Duration,
    /// How often orphans are looked for.
    pub(super) sweep: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            flush_look: Duration::from_secs(1),
            flush_age: None,
            merge_look: Duration::from_secs(30),
            merge_age: Duration::from_hours(12),
            checkpoint_look: Duration::from_secs(1),
            checkpoint: CHECKPOINT_INTERVAL,
            garbage_look: Duration::from_secs(10),
            garbage_age: DELETE_DELAY,
            first_sweep: Duration::from_mins(5),
            sweep: Duration::from_hours(24),
        }
    }
}

impl Delays {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        #[cfg(debug_assertions)]
        if let Ok(text) = std::env::var(VARIABLE) {
            match Self::parse(&text) {
                Ok(delays) => return delays,
                Err(word) => tracing::error!(word, "no delay; all are as long as ever"),
            }
        }
        Self::default()
    }

    /// Reads other times; an error is the word that is none.
    #[cfg(debug_assertions)]
    fn parse(text: &str) -> Result<Self, &str> {
        let mut delays = Self::default();
        for word in text.split_whitespace() {
            delays.set(word).ok_or(word)?;
        }
        Ok(delays)
    }

    #[cfg(debug_assertions)]
    fn set(&mut self, word: &str) -> Option<()> {
        let (name, ms) = word.split_once('=')?;
        let delay = match name {
            "flush.look" => &mut self.flush_look,
            "flush.age" => self.flush_age.insert(Duration::ZERO),
            "merge.look" => &mut self.merge_look,
            "merge.age" => &mut self.merge_age,
            "checkpoint.look" => &mut self.checkpoint_look,
            "checkpoint" => &mut self.checkpoint,
            "garbage.look" => &mut self.garbage_look,
            "garbage.age" => &mut self.garbage_age,
            "sweep.first" => &mut self.first_sweep,
            "sweep" => &mut self.sweep,
            _ => return None,
        };
        *delay = Duration::from_millis(ms.parse().ok()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_what_is_none_is_named() {
        let read = Delays::parse("garbage.age=5 sweep.first=7").unwrap();
        let ms = Duration::from_millis;
        let expected = Delays { garbage_age: ms(5), first_sweep: ms(7), ..Delays::default() };
        assert_eq!(read, expected);
        for word in ["sweeps=1", "sweep", "sweep=soon"] {
            assert_eq!(Delays::parse(&format!("sweep=1 {word}")), Err(word));
        }
    }
}

//! The bucket: whether it can be reached, what it promises, how fast it is, whether the clocks
//! agree.

use std::time::Duration;

use super::report::{Report, trouble};
use crate::clock::{Clock, Random};
use crate::config::ObjectConfig;
use crate::metrics::Registry;
use crate::object::measure::{Measured, measure};
use crate::object::probe::{self, Property, Verdict};
use crate::object::{ObjectError, Store, Variables};

const PART: &str = "bucket";

/// A small object that takes longer makes every metadata change slow.
const SLOW: Duration = Duration::from_secs(1);

/// A difference between the clocks that is worth a word.
const SKEW_WARNING_MS: i64 = 10_000;

/// A difference near the 15 minutes beyond which S3 refuses requests.
const SKEW_PROBLEM_MS: i64 = 5 * 60_000;

/// Looks at the bucket of `config`.
pub(super) async fn examine(
    report: &mut Report,
    config: &ObjectConfig,
    clock: &Clock,
    random: &Random,
) {
    let variables = Variables::of_process();
    let store = match Store::connect(config, &variables, clock, random, &Registry::new()) {
        Ok(store) => store,
        Err(error) => {
            let effect = "the broker does not start";
            let fix = "correct the setting, variable or file that is named";
            let cause = "the bucket's configuration does not hold";
            report.problem(PART, error.to_string(), trouble(cause, effect, fix));
            return;
        }
    };
    let reached = examine_store(report, &store, clock, random).await;
    if let Err(error) = reached {
        unreachable(report, &error);
    }
}

/// Looks at an opened bucket; an error is one that leaves nothing more to look at.
async fn examine_store(
    report: &mut Report,
    store: &Store,
    clock: &Clock,
    random: &Random,
) -> Result<(), ObjectError> {
    for verdict in probe::examine(store, random).await? {
        tell_promise(report, store, &verdict);
    }
    let measured = measure(store, clock, random).await?;
    tell_latency(report, &measured);
    tell_skew(report, measured.clock_ahead_ms);
    Ok(())
}

fn tell_promise(report: &mut Report, store: &Store, verdict: &Verdict) {
    let Verdict { property, broken } = verdict;
    let place = store.place();
    let Some(seen) = broken else {
        report.fine(PART, format!("\"{place}\" keeps {property}"));
        return;
    };
    let effect = match property {
        Property::CreateRace => "two brokers could both believe that they own the cluster",
        Property::ReadAfterWrite => "changes of metadata could be lost, or seen only in part",
        Property::RangedGet => "old records could not be read",
        Property::Delete => "what retention deletes could come back, and is paid for",
        Property::Multipart => {
            "logs could not be brought to the bucket, or come back other than they were"
        }
    };
    report.problem(
        PART,
        format!("\"{place}\" does not keep {property}: {seen}"),
        trouble(
            "this store, or its release, does not do what Amazon S3 documents",
            format!("{effect}; the broker does not start"),
            "take another store, or a release of it that has this corrected",
        ),
    );
}

fn unreachable(report: &mut Report, error: &ObjectError) {
    let (cause, effect, fix) = match error {
        ObjectError::Unavailable { .. } => (
            "the service cannot be reached, is overloaded, or does not know the region or the keys",
            "a broker that starts waits, with /readyz 503; one that runs refuses metadata changes",
            "check the network, object.endpoint, object.s3.region and the service itself",
        ),
        _ => (
            "the bucket does not exist, or the credentials do not allow this",
            "the broker does not start",
            "create the bucket, or allow reading, writing and deleting objects in it",
        ),
    };
    report.problem(PART, error.to_string(), trouble(cause, effect, fix));
}

fn tell_latency(report: &mut Report, measured: &Measured) {
    let median = |times: &[Duration]| times.get(times.len() / 2).copied().unwrap_or_default();
    let (write, read) = (median(&measured.writes), median(&measured.reads));
    let found = format!(
        "a write of 4 KiB takes {:.1} ms, a read {:.1} ms",
        write.as_secs_f64() * 1e3,
        read.as_secs_f64() * 1e3
    );
    if write.max(read) < SLOW {
        report.fine(PART, found);
        return;
    }
    let cause = "the bucket is far away, or its service is overloaded";
    let effect = "creating topics and reading old records take at least as long";
    let fix = "take a bucket in the broker's region, or a faster service";
    report.warn(PART, found, trouble(cause, effect, fix));
}

fn tell_skew(report: &mut Report, ahead_ms: i64) {
    let amount = ahead_ms.abs();
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let found = format!("its clock is {:.1} s {way} this machine's", amount as f64 / 1e3);
    let cause = "one of the two clocks is not kept by NTP";
    let effect = "S3 refuses requests when the clocks are 15 minutes apart";
    let fix = "set this machine's clock, and keep it by NTP";
    if amount >= SKEW_PROBLEM_MS {
        report.problem(PART, found, trouble(cause, effect, fix));
    } else if amount >= SKEW_WARNING_MS {
        report.warn(PART, found, trouble(cause, effect, fix));
    } else {
        report.fine(PART, "its clock and this machine's agree");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::testing::FaultStore;

    async fn told(store: &Store) -> (bool, String) {
        let mut report = Report::default();
        let (clock, random) = (Clock::system(), Random::seeded(1));
        if let Err(error) = examine_store(&mut report, store, &clock, &random).await {
            unreachable(&mut report, &error);
        }
        (report.is_healthy(), report.to_string())
    }

    #[tokio::test]
    async fn a_sound_bucket_has_a_finding_for_promises_latency_and_clock() {
        let (healthy, text) = told(&FaultStore::memory().store()).await;
        assert!(healthy, "{text}");
        for words in [
            "keeps one winner per conditional create",
            "keeps read after write",
            "keeps ranged reads",
            "keeps deletion",
            "keeps uploads in parts",
            "a write of 4 KiB takes",
            "its clock and this machine's agree",
        ] {
            assert!(text.contains("ok       bucket: ") && text.contains(words), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_that_is_broken_and_a_bucket_that_is_away_are_problems() {
        let (healthy, text) = told(&FaultStore::memory().ignoring_conditions().store()).await;
        assert!(!healthy && text.contains("does not keep one winner per conditional"), "{text}");
        assert!(text.contains("two brokers could both"), "{text}");
        assert!(text.contains("keeps deletion"), "the others are told too: {text}");
        let away = FaultStore::memory();
        away.set_away(true);
        let (healthy, text) = told(&away.store()).await;
        assert!(!healthy && text.contains("the bucket is away"), "{text}");
        assert!(text.contains("/readyz 503"), "{text}");
    }

    #[test]
    fn slow_answers_and_clocks_apart_are_told() {
        let mut report = Report::default();
        let slow = vec![Duration::from_secs(2)];
        let measured = Measured { writes: slow.clone(), reads: slow, clock_ahead_ms: 0 };
        tell_latency(&mut report, &measured);
        tell_skew(&mut report, -20_000);
        assert!(report.is_healthy());
        tell_skew(&mut report, 600_000);
        assert!(!report.is_healthy());
        let text = report.to_string();
        for words in ["takes 2000.0 ms", "20.0 s behind this", "600.0 s ahead of this"] {
            assert!(text.contains(words), "{text}");
        }
    }
}

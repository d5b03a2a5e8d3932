//! SIGKILL before and after every durable step of what brings logs into the bucket (issue 5, Must
//! show 2): nothing is lost, nothing stands twice.
//!
//! The process kills itself at a named place (`src/failpoint.rs`), which only debug builds do: this
//! suite starts the binary that Cargo built for it, whatever `TIDEGATE_BIN` names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::harness::bucket::{Bucket, Class};
use crate::harness::{Broker, Wire};
use crate::tiering::{KIB, LATEST, LATEST_TIERED, Log, TIERED, create_topic_with, eager};

/// Every place where the process is killed. Most are passed by each object; what follows `#` is the
/// time of all in the run.
const PLACES: &[&str] = &[
    "bucket: before create",
    "bucket: after create",
    "bucket: before put",
    "bucket: after put",
    "bucket: before begin",
    "bucket: after begin",
    "bucket: before part",
    "bucket: after part",
    "bucket: before part#2",
    "bucket: before complete",
    "bucket: after complete",
    "tier: before the object is uploaded",
    "tier: after the object was uploaded",
    "tier: a section was committed",
    "tier: a section was committed#3",
    "tier: all sections are committed",
    "checkpoint: scope",
    "checkpoint: written",
    "checkpoint: published",
    "trim: synced",
];

/// Places that only tests of their own room step into.
const OF_UNIT_TESTS: &[&str] = &["oldest needed: looked at a partition"];

const PARTITIONS: i32 = 4;
/// Rounds of writing until the place must have been passed.
const ROUNDS: usize = 3;
/// Walks beside each other, each with a broker of its own.
const WALKS: usize = 3;

#[test]
fn killed_at_any_step_a_broker_loses_nothing_and_has_nothing_twice() {
    let left = Mutex::new(PLACES.iter());
    std::thread::scope(|scope| {
        for _ in 0..WALKS {
            scope.spawn(|| {
                let mut walk = Walk::begin();
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(place) = next else { break };
                    walk.is_killed_at(place);
                }
                walk.end();
            });
        }
    });
}

struct Walk {
    bucket: Bucket,
    broker: Broker,
    logs: Vec<Log>,
}

impl Walk {
    fn begin() -> Self {
        let bucket = Bucket::start();
        let mut options = bucket.options(eager());
        options.binary = PathBuf::from(env!("CARGO_BIN_EXE_tidegate"));
        let mut broker = Broker::start_with(options);
        let mut wire = broker.connect();
        create_topic_with(&mut wire, "a", PARTITIONS, &[]);
        let log = |partition| Log::new(&mut wire, "a", partition, 64 * KIB);
        let logs = (0..PARTITIONS).map(log).collect();
        broker.kill();
        Self { bucket, broker, logs }
    }

    /// Has the broker killed at `place` while it works, and looks at what is left.
    fn is_killed_at(&mut self, place: &str) {
        println!("killed at {place}");
        self.broker.begin_again_until(place);
        if self.broker.is_ready_at_last() {
            let was_cut = (0..ROUNDS).any(|_| self.work().is_none());
            if !was_cut {
                // The last checkpoint is the stop's.
                self.broker.terminate();
            }
        }
        self.broker.wait_for_the_failpoint();
        self.broker.restart();
        let mut wire = self.broker.connect();
        for log in &mut self.logs {
            let end = log.offset(&mut wire, LATEST);
            assert!((log.end..=log.end + 1).contains(&end), "{end} after {}, {place}", log.end);
            // What was under way is sent again, as its producer does.
            log.write(&mut wire, 1);
            log.verify_all(&mut wire);
        }
        self.broker.kill();
    }

    /// Writes little, which goes into the bucket in one request, then much, which goes in parts;
    /// `None` when the broker has ended meanwhile.
    fn work(&mut self) -> Option<()> {
        for batches in [1, 40] {
            let mut wire = Wire::try_connect(&self.broker.address())?;
            for log in &mut self.logs {
                log.write_until_cut(&mut wire, batches).then_some(())?;
            }
            let mut is_cut = false;
            self.broker.wait_until("all is in the bucket, or the broker has ended", |_| {
                let tiered = self.logs.iter().map(|log| {
                    let end = log.try_offset(&mut wire, LATEST_TIERED)?;
                    Some(end == log.end - 1)
                });
                let tiered: Option<Vec<bool>> = tiered.collect();
                is_cut = tiered.is_none();
                tiered.is_none_or(|tiered| tiered.iter().all(|it| *it))
            });
            (!is_cut).then_some(())?;
        }
        Some(())
    }

    /// What is there when all is over.
    fn end(mut self) {
        self.broker.restart();
        let mut wire = self.broker.connect();
        for log in &self.logs {
            log.verify_all(&mut wire);
        }
        assert!(self.bucket.requests(Class::Write, TIERED) > 0);
        assert_eq!(self.broker.stop(), Some(0));
    }
}

/// A place that is added is walked, too.
#[test]
fn every_failpoint_of_the_sources_is_walked() {
    let mut found = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 5, "{found:?}");
    let walked = PLACES.iter().map(|place| place.split('#').next().unwrap());
    let known: BTreeSet<String> =
        walked.chain(OF_UNIT_TESTS.iter().copied()).map(str::to_owned).collect();
    let missing: Vec<_> = found.difference(&known).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
            continue;
        }
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let places = text.split("failpoint::pass(\"").skip(1);
        found.extend(places.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
}

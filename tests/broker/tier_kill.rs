//! SIGKILL before and after every durable step of what is done with logs in the bucket (issue 5,
//! Must show 2): nothing is lost, nothing stands twice, and nothing is left in the bucket that
//! nobody refers to.
//!
//! The process kills itself at a named place (`src/failpoint.rs`), and waits milliseconds where it
//! else waits minutes (`src/broker/delays.rs`), which only debug builds do: this suite starts the
//! binary that Cargo built for it, whatever `TIDEGATE_BIN` names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kafka_protocol::messages::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;

use crate::harness::bucket::Bucket;
use crate::harness::{Broker, DELAYS, FAILPOINT, Wire};
use crate::requests::{NONE, topic_name};
use crate::tiering::{EARLIEST, KIB, LATEST, LATEST_TIERED, Log, TIERED, create_topic_with, eager};

/// What a broker does with its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Brings them into the bucket, in one request or in parts, and takes checkpoints beside them.
    Flush,
    /// Makes segments of packs, each of which goes in one request.
    Merge,
    /// The same in parts.
    MergeMuch,
    /// Compacts in one request.
    Compact,
    /// Compacts in parts.
    CompactMuch,
    /// Takes checkpoints in the bucket, and removes those before them.
    Checkpoint,
    /// Moves log starts, and deletes what lies below.
    Collect,
    /// Deletes topics, and what they had.
    DeleteTopic,
    /// Looks for what an earlier run brought into the bucket and nobody refers to.
    Sweep,
}

/// Every place where the process is killed, in lots that are walked one after the other. What
/// follows `#` is the time of all in the run; what follows `>` counts from there on.
const LOTS: &[(Work, &[&str])] = &[
    (
        Work::Flush,
        &[
            "bucket: before create",
            "bucket: after create",
            "bucket: before put",
            "bucket: after put",
            "bucket: before begin",
            "bucket: after begin",
            "bucket: before part",
            "bucket: after part",
            "bucket: before part#2",
        ],
    ),
    (
        Work::Flush,
        &[
            "bucket: before complete",
            "bucket: after complete",
            "tier: before the object is uploaded",
            "tier: after the object was uploaded",
            "tier: a section was committed",
            "tier: a section was committed#3",
            "tier: all sections are committed",
        ],
    ),
    (
        Work::Flush,
        &[
            "checkpoint: scope",
            "checkpoint: written",
            "checkpoint: published",
            "trim: synced",
            "writers: noted",
        ],
    ),
    (
        Work::Merge,
        &[
            "merge: begun",
            "merge: begun > tier: before the object is uploaded",
            "merge: begun > bucket: before put",
            "merge: begun > bucket: after put",
            "merge: begun > tier: after the object was uploaded",
            "merge: begun > tier: a section was committed",
            "merge: begun > tier: all sections are committed",
            "merge: begun > tier: all sections are committed#2",
            "merge: begun > checkpoint: written",
        ],
    ),
    (
        Work::MergeMuch,
        &[
            "merge: begun > bucket: before begin",
            "merge: begun > bucket: after begin",
            "merge: begun > bucket: before part",
            "merge: begun > bucket: after part",
            "merge: begun > bucket: before complete",
            "merge: begun > bucket: after complete",
        ],
    ),
    (
        Work::Compact,
        &[
            "compaction: begun",
            "compaction: begun > tier: before the object is uploaded",
            "compaction: begun > bucket: before put",
            "compaction: begun > bucket: after put",
            "compaction: begun > tier: after the object was uploaded",
            "compaction: begun > tier: a section was committed",
            "compaction: begun > tier: all sections are committed",
            "compaction: begun > tier: all sections are committed#2",
            "compaction: begun > checkpoint: written",
        ],
    ),
    (
        Work::CompactMuch,
        &[
            "compaction: begun > bucket: before begin",
            "compaction: begun > bucket: after begin",
            "compaction: begun > bucket: before part",
            "compaction: begun > bucket: after part",
            "compaction: begun > bucket: before complete",
            "compaction: begun > bucket: after complete",
        ],
    ),
    (
        Work::Checkpoint,
        &[
            "bucket checkpoint: begun",
            "bucket checkpoint: begun > bucket: before create",
            "bucket checkpoint: begun > bucket: after create",
            "bucket checkpoint: published",
            "bucket checkpoint: begun#2",
            "bucket checkpoint: begun#2 > bucket: before create",
            "bucket checkpoint: begun#2 > bucket: after create",
            "bucket checkpoint: published#2",
            "bucket checkpoint: begun#3 > bucket: before create",
            "bucket checkpoint: begun#3 > bucket: after create",
            "bucket checkpoint: published#3",
        ],
    ),
    (
        Work::Checkpoint,
        &[
            // What follows a base: the floor is raised, and what lies below it goes.
            "bucket checkpoint: published > bucket: before create",
            "bucket checkpoint: published > bucket: after create",
            "bucket checkpoint: published > bucket: before delete",
            "bucket checkpoint: published > bucket: after delete",
            "bucket checkpoint: published > bucket: after delete#2",
        ],
    ),
    (
        Work::Collect,
        &[
            "log start: appended",
            "log start: durable",
            "log start: durable > bucket checkpoint: begun",
            "log start: durable > bucket checkpoint: published",
            "garbage: begun",
            "garbage: begun > bucket: before delete",
            "garbage: begun > bucket: after delete",
            "garbage: begun > bucket: after delete#2",
            "garbage: begun > garbage: forgotten",
            "garbage: forgotten > checkpoint: written",
            "garbage: forgotten > checkpoint: published",
            "garbage: forgotten > bucket checkpoint: published",
        ],
    ),
    (
        Work::DeleteTopic,
        &[
            "topic deletion: committed",
            "topic deletion: halfway",
            "topic deletion: closed",
            "topic deletion: dropped",
            "topic deletion: dropped > bucket checkpoint: published",
            "topic deletion: dropped > garbage: begun",
            "topic deletion: dropped > bucket: after delete",
            "topic deletion: dropped > garbage: forgotten",
        ],
    ),
    (
        Work::Sweep,
        &[
            "sweep: begun",
            "sweep: begun > bucket: before delete",
            "sweep: begun > bucket: after delete",
            "sweep: begun > bucket: after delete#2",
            "sweep: begun > garbage: forgotten",
        ],
    ),
];

/// Places that only tests of their own room step into.
const OF_UNIT_TESTS: &[&str] = &["oldest needed: looked at a partition"];

/// Rounds of work until the place must have been passed.
const ROUNDS: usize = 12;
/// Walks beside each other, each with a broker of its own.
const WALKS: usize = 3;
/// Goes into a bucket in parts, of which the smallest has 5 MiB.
const MUCH: i64 = 48;

/// While a broker works it looks all the time whether there is anything to do.
const BUSY: &str = "flush.look=10 checkpoint.look=10 checkpoint=10 garbage.look=10";
/// What comes is brought into the bucket at once, in many objects.
const EAGER: &str = "flush.age=1";
const MERGING: &str = "merge.look=10 merge.age=1";
/// What is left of that goes.
const TIDY: &str = "sweep.first=10 garbage.age=1";

/// How often compaction looks.
const COMPACTION: &str = "TIDEGATE_LOG_CLEANER_BACKOFF_MS";
const OFTEN: &str = "10";
const NEVER: &str = "86400000";

#[test]
fn killed_at_any_step_a_broker_loses_nothing_and_has_nothing_twice() {
    let left = Mutex::new(LOTS.iter());
    std::thread::scope(|scope| {
        for _ in 0..WALKS {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some((work, places)) = next else { break };
                    let mut walk = Walk::begin(*work);
                    places.iter().for_each(|place| walk.is_killed_at(place));
                }
            });
        }
    });
}

struct Walk {
    work: Work,
    bucket: Bucket,
    broker: Broker,
    logs: Vec<Log>,
    /// How many topics were created.
    topics: u32,
}

impl Walk {
    fn begin(work: Work) -> Self {
        let bucket = Bucket::start();
        // What is written in a second goes together, if it is not to go at once.
        let mut options = bucket.options(eager());
        options.binary = PathBuf::from(env!("CARGO_BIN_EXE_tidegate"));
        let mut broker = Broker::start_with(options);
        let mut wire = broker.connect();
        let mut logs = Vec::new();
        if work != Work::DeleteTopic {
            let is_compacted = matches!(work, Work::Compact | Work::CompactMuch);
            let policy = if is_compacted { "compact" } else { "delete" };
            let configs = [("cleanup.policy", policy), ("min.cleanable.dirty.ratio", "0")];
            let partitions = if work == Work::Flush { 4 } else { 2 };
            create_topic_with(&mut wire, "a", partitions, &configs);
            logs.extend((0..partitions).map(|number| Log::new(&mut wire, "a", number, 64 * KIB)));
            if is_compacted {
                logs[1].keys = 3;
            }
        }
        if work == Work::CompactMuch {
            logs[0].write_patiently(&broker, &mut wire, 3 * MUCH);
        }
        broker.kill();
        Self { work, bucket, broker, logs, topics: 0 }
    }

    /// Has the broker killed at `place` while it works, and looks at what is left.
    fn is_killed_at(&mut self, place: &str) {
        println!("{:?} is killed at {place}", self.work);
        match self.work {
            Work::Flush => self.work_until(place, BUSY),
            Work::Merge | Work::MergeMuch => {
                self.pack();
                self.work_until(place, &format!("{BUSY} {EAGER} {MERGING}"));
            }
            Work::Compact | Work::CompactMuch => {
                self.run(&format!("{BUSY} {EAGER}"), |walk| {
                    walk.write(1).and_then(|()| walk.write(1)).expect("the broker runs");
                });
                self.work_until(place, BUSY);
            }
            Work::Checkpoint => self.work_until(place, &format!("{BUSY} {EAGER}")),
            Work::Collect | Work::DeleteTopic | Work::Sweep => {
                match self.work {
                    Work::Sweep => self.leave_orphans(),
                    Work::DeleteTopic => self.run(&format!("{BUSY} {EAGER}"), Self::create_topics),
                    _ => {}
                }
                self.work_until(place, &format!("{BUSY} {EAGER} {TIDY}"));
            }
        }
        self.settle();
        for log in &self.logs {
            if log.keys == i64::MAX {
                log.verify_all(&mut self.broker.connect());
            } else {
                log.verify_compacted(&mut self.broker.connect());
            }
        }
        assert_eq!(self.broker.stop(), Some(0));
        self.look_into_the_bucket(place);
    }

    fn work_until(&mut self, place: &str, delays: &str) {
        let env = [(FAILPOINT, place), (DELAYS, delays), (COMPACTION, OFTEN)];
        self.broker.begin_again_with(&env);
        if self.broker.is_ready_at_last() {
            let was_cut = (0..ROUNDS).any(|_| self.work().is_none());
            if !was_cut {
                // The last checkpoint is the stop's.
                self.broker.terminate();
            }
        }
        self.broker.wait_for_the_failpoint();
    }

    /// Starts the broker, which neither merges nor compacts, has it do something, and kills it.
    fn run(&mut self, delays: &str, step: impl FnOnce(&mut Self)) {
        self.broker.begin_again_with(&[(DELAYS, delays), (COMPACTION, NEVER)]);
        self.broker.become_ready();
        step(self);
        self.broker.kill();
    }

    /// Makes two packs, the second of which is still to be brought.
    fn pack(&mut self) {
        let batches = if self.work == Work::MergeMuch { MUCH } else { 1 };
        let never = format!("flush.look={NEVER}");
        self.run(&never, |walk| walk.produce(batches).expect("the broker runs"));
        self.run(&format!("{BUSY} {EAGER}"), |walk| {
            walk.wait_until_tiered().expect("the broker runs");
        });
        self.run(&never, |walk| walk.produce(batches).expect("the broker runs"));
    }

    /// Makes topics that are in the bucket.
    fn create_topics(&mut self) {
        let mut wire = self.broker.connect();
        for _ in 0..2 {
            self.topics += 1;
            let name = format!("gone-{}", self.topics);
            create_topic_with(&mut wire, &name, 1, &[]);
            self.logs.push(Log::new(&mut wire, &name, 0, KIB));
        }
        self.write(1).expect("the broker runs");
    }

    /// Two objects that are in the bucket, and no record says so.
    fn leave_orphans(&mut self) {
        for _ in 0..2 {
            self.work_until("tier: after the object was uploaded", &format!("{BUSY} {EAGER}"));
        }
    }

    /// A round of work; `None` when the broker has ended meanwhile.
    fn work(&mut self) -> Option<()> {
        match self.work {
            Work::Flush => {
                // What goes in one request, and what goes in parts.
                self.write(1)?;
                self.write(MUCH / 2)
            }
            Work::Merge | Work::MergeMuch => self.wait_until_done("merged"),
            Work::Compact | Work::CompactMuch => self.wait_until_done("compacted"),
            Work::Checkpoint | Work::Sweep => self.write(1),
            Work::Collect => {
                self.write(1)?;
                self.write(1)?;
                let mut wire = Wire::try_connect(&self.broker.address())?;
                let mut logs = self.logs.iter_mut();
                logs.all(|log| log.delete_until_cut(&mut wire, log.end - 1)).then_some(())
            }
            Work::DeleteTopic => {
                let mut wire = Wire::try_connect(&self.broker.address())?;
                let mut logs = self.logs.iter();
                logs.all(|log| delete_topic(&mut wire, &log.topic)).then_some(())?;
                self.wait_until_none_is_left()
            }
        }
    }

    /// Writes so many batches to each partition, and waits until they are in the bucket.
    fn write(&mut self, batches: i64) -> Option<()> {
        self.produce(batches)?;
        self.wait_until_tiered()
    }

    fn produce(&mut self, batches: i64) -> Option<()> {
        let mut wire = Wire::try_connect(&self.broker.address())?;
        self.logs.iter_mut().all(|log| log.write_until_cut(&mut wire, batches)).then_some(())
    }

    /// Waits until each partition has an object that was made of others.
    fn wait_until_done(&self, origin: &str) -> Option<()> {
        let name = format!("tidegate_broker_tier_sections_total{{origin=\"{origin}\"}}");
        let mut is_cut = false;
        self.broker.wait_until("each partition has one, or the broker has ended", |broker| {
            let done = broker.try_metrics().map(|metrics| metrics.find(&name).unwrap_or(0.0));
            is_cut = done.is_none();
            done.is_none_or(|done| done >= self.logs.len() as f64)
        });
        (!is_cut).then_some(())
    }

    /// Waits until nothing is in the bucket.
    fn wait_until_none_is_left(&self) -> Option<()> {
        let mut is_cut = false;
        self.broker.wait_until("the bucket is empty, or the broker has ended", |broker| {
            is_cut = broker.try_metrics().is_none();
            is_cut || self.bucket.objects(TIERED).is_empty()
        });
        (!is_cut).then_some(())
    }

    fn wait_until_tiered(&self) -> Option<()> {
        let (mut is_cut, mut wire) = (false, Wire::try_connect(&self.broker.address())?);
        self.broker.wait_until("all is in the bucket, or the broker has ended", |_| {
            let tiered = self.logs.iter().map(|log| {
                let end = log.try_offset(&mut wire, LATEST_TIERED)?;
                Some(end == log.end - 1)
            });
            let tiered: Option<Vec<bool>> = tiered.collect();
            is_cut = tiered.is_none();
            tiered.is_none_or(|tiered| tiered.iter().all(|it| *it))
        });
        (!is_cut).then_some(())
    }

    /// Starts the broker, which begins nothing new, sends again what was under way as its producer
    /// does, and waits until all is as it should be.
    fn settle(&mut self) {
        let delays = format!("{BUSY} {EAGER} {TIDY} merge.look={NEVER}");
        self.broker.begin_again_with(&[(DELAYS, &delays), (COMPACTION, NEVER)]);
        self.broker.become_ready();
        let mut wire = self.broker.connect();
        if self.work == Work::DeleteTopic {
            for log in self.logs.drain(..) {
                delete_topic(&mut wire, &log.topic);
            }
        }
        for log in &mut self.logs {
            let end = log.offset(&mut wire, LATEST);
            assert!((log.end..=log.end + 1).contains(&end), "{end} after {}", log.end);
            let start = log.offset(&mut wire, EARLIEST);
            let is_asked = self.work == Work::Collect && start == log.end - 1;
            assert!(start == log.start || is_asked, "{start} after {}", log.start);
            log.start = start;
            log.write(&mut wire, 1);
        }
        self.wait_until_tiered().expect("the broker runs");
        self.broker.wait_until("orphans and garbage are gone", |broker| {
            let metrics = broker.metrics();
            metrics.get("tidegate_broker_orphan_sweeps_total") > 0.0
                && metrics.get("tidegate_broker_garbage_objects") == 0.0
                && self.bucket.open_uploads() == 0
                && (self.work != Work::DeleteTopic || self.bucket.objects(TIERED).is_empty())
        });
    }

    /// Nothing is missing, damaged or left over.
    fn look_into_the_bucket(&self, place: &str) {
        let (code, report, log) = self.broker.run(&["bucket", "check", "--json"]);
        assert_eq!(code, Some(0), "{place}: {report}{log}");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["problems"], serde_json::json!([]), "{place}");
        assert_eq!(report["orphans"], 0, "{place}: {report}");
        let objects = self.bucket.objects(TIERED);
        assert_eq!(report["objects"], objects.len(), "{place}: {report} {objects:?}");
    }
}

/// Deletes a topic that may be gone already; false when the broker has ended.
fn delete_topic(wire: &mut Wire, topic: &str) -> bool {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let topic = DeleteTopicState::default().with_name(Some(topic_name(topic)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let Some(response) = wire.try_call(6, &request) else { return false };
    let code = response.responses[0].error_code;
    assert!([NONE, UNKNOWN_TOPIC_OR_PARTITION].contains(&code), "{code}");
    true
}

/// A place that is added is walked, too.
#[test]
fn every_failpoint_of_the_sources_is_walked() {
    let mut found = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 5, "{found:?}");
    let places = LOTS.iter().flat_map(|(_, places)| places.iter());
    let places = places.chain(crate::restore::PLACES);
    let walked =
        places.flat_map(|place| place.split(" > ")).map(|it| it.split('#').next().unwrap());
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

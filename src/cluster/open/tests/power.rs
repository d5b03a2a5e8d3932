//! The power fails after any of the operations that a life and the next start write to the data
//! directory and to a bucket of files: what was not synced is lost, kept or torn. Every time the
//! broker must start, with everything that was acknowledged.

use std::path::Path;

use super::super::super::testing::OFTEN;
use super::*;
use crate::object::power::{BUCKET, Crash, DATA, Files, Journal, Op};

/// One of so many states is recovered once more, with the power failing meanwhile.
const AGAIN_EVERY: usize = 53;

/// What a broker had been told, and what its WAL holds durably, from an operation on.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// How many operations there were before.
    after: usize,
    told: Told,
    wal: WalState,
}

/// A machine whose writes are recorded.
struct Watched {
    machine: Machine,
    bucket: FaultStore,
    faults: Arc<Faults>,
    journal: Arc<Journal>,
    heard: Vec<Heard>,
}

impl Watched {
    async fn over(journal: Arc<Journal>, seed: u64, heard: Heard) -> Self {
        let (machine, backend) = machine_with(&journal.files(), seed, heard.wal).await;
        let faults = Faults::recorded(&journal);
        let bucket = FaultStore::new(backend, faults.clone());
        Self { machine, bucket, faults, journal, heard: vec![heard] }
    }

    fn hear(&mut self, tell: impl FnOnce(&mut Told)) {
        let mut heard = self.heard.last().unwrap().clone();
        tell(&mut heard.told);
        // The WAL may depend at once on what it was told.
        self.machine.wal.metadata_number = heard.told.number;
        self.machine.wal.has_records |= heard.told.number > 0;
        self.heard.push(Heard { after: self.journal.len(), wal: self.machine.wal, ..heard });
    }

    async fn start(&mut self) -> Cluster {
        let options = self.machine.prepare(&self.bucket.store(), &self.faults).await.unwrap();
        self.hear(|_| {});
        let cluster = Cluster::open_with(&options, self.machine.wal, OFTEN).await.unwrap();
        let image = cluster.image();
        self.hear(|told| {
            told.cluster_id = Some(image.cluster_id());
            told.number = image.number();
        });
        cluster
    }

    /// A life as in the tests that kill processes, heard of step by step.
    async fn live(&mut self) {
        let cluster = self.start().await;
        for name in ["a", "b", "c", "d"] {
            attempt(&cluster, create(name)).await.unwrap();
            let number = cluster.image().number();
            self.hear(|told| {
                told.present.push(name);
                told.number = number;
            });
        }
        self.hear(|told| told.present.retain(|name| *name != "b"));
        attempt(&cluster, delete("b")).await.unwrap();
        let number = cluster.image().number();
        self.hear(|told| {
            told.deleted.push("b");
            told.number = number;
        });
        let producer_id = cluster.next_producer_id().await.unwrap();
        self.hear(|told| told.producer_id = producer_id);
        cluster.close().await;
    }

    /// What had been heard when `count` operations were done.
    fn heard(&self, count: usize) -> &Heard {
        self.heard.iter().rev().find(|heard| heard.after <= count).unwrap_or(&self.heard[0])
    }
}

/// A machine and a bucket with these files.
#[allow(clippy::disallowed_methods, reason = "plays a disk that is found so, durable or not")]
async fn machine_with(files: &Files, seed: u64, wal: WalState) -> (Machine, Arc<InMemory>) {
    let mut machine = Machine::new(seed);
    machine.wal = wal;
    let backend: Arc<InMemory> = Arc::default();
    let bucket = FaultStore::new(backend.clone(), Faults::none()).store();
    for (path, content) in files {
        let root = path.iter().next().unwrap();
        let name = path.strip_prefix(root).unwrap();
        if root == Path::new(DATA) {
            std::fs::write(machine.temp.path().join(name), content).unwrap();
        } else if root == Path::new(BUCKET) && !name.to_str().unwrap().contains('#') {
            let key = Key::new(name.to_str().unwrap());
            bucket.put(&key, content.clone().into()).await.unwrap();
        }
    }
    (machine, backend)
}

async fn check_files(files: &Files, heard: &Heard, seed: u64) {
    let (mut machine, backend) = machine_with(files, seed, heard.wal).await;
    let bucket = FaultStore::new(backend, Faults::none());
    check(&mut machine, &bucket, &heard.told, seed).await;
}

/// Checks the states after a loss of power after each operation from the `from`-th on, and gives
/// the states of which some are to be recovered once more.
async fn fail_everywhere(watched: &Watched, from: usize, crashes: &[Crash]) -> Vec<(Files, Heard)> {
    let ops = watched.journal.ops();
    let mut image = watched.journal.before();
    let mut again = Vec::new();
    for count in 0..=ops.len() {
        if let Some(last) = count.checked_sub(1) {
            image.apply(&ops[last]);
        }
        if count < from {
            continue;
        }
        for (index, crash) in crashes.iter().enumerate() {
            let crash = match crash {
                Crash::Torn(seed) => Crash::Torn(seed ^ count as u64),
                other => *other,
            };
            let files = image.crashed(crash);
            let heard = watched.heard(count);
            check_files(&files, heard, (count * 10 + index) as u64).await;
            if (count + index) % AGAIN_EVERY == 0 {
                again.push((files, Heard { after: 0, ..heard.clone() }));
            }
        }
    }
    again
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_of_power_at_any_step_a_broker_starts_again() {
    let mut watched = Watched::over(Journal::over(Files::new()), 1, Heard::default()).await;
    watched.live().await;
    watched.start().await.close().await;
    let crashes = [Crash::Lost, Crash::Torn(1 << 32), Crash::Torn(2 << 32)];
    let again = fail_everywhere(&watched, 0, &crashes).await;
    assert!(watched.journal.len() > 100, "only {} operations", watched.journal.len());
    for (files, heard) in again {
        let mut restarted = Watched::over(Journal::over(files), 99, heard).await;
        restarted.start().await.close().await;
        fail_everywhere(&restarted, 0, &[Crash::Lost, Crash::Torn(3 << 32)]).await;
    }
}

/// A killed process leaves what it wrote in the system's cache. The next one builds on that, and
/// then the power fails: nothing that it built may be lost with what was below.
#[tokio::test(start_paused = true)]
async fn what_a_killed_process_did_not_sync_takes_nothing_with_it() {
    let mut watched = Watched::over(Journal::over(Files::new()), 1, Heard::default()).await;
    watched.live().await;
    let ops = watched.journal.ops();
    let leaves_a_name = |count: &usize| {
        let last = count.checked_sub(1).and_then(|last| ops.get(last));
        matches!(last, Some(Op::MakeDir(_) | Op::Rename(..) | Op::Link(..)))
    };
    // The first ones are each different, the later ones are commits.
    let kills = (0..60).chain((60..ops.len()).step_by(4)).filter(leaves_a_name);
    for count in kills {
        let journal = watched.journal.killed(count);
        let heard = watched.heard(count).clone();
        let mut restarted = Watched::over(journal, 1_000 + count as u64, heard).await;
        restarted.start().await.close().await;
        fail_everywhere(&restarted, count, &[Crash::Lost]).await;
    }
}

use super::super::testing::{Machine, attempt, commit, create, delete, names};
use super::*;
use crate::metrics::Registry;
use crate::object::Key;
use crate::object::testing::{Fault, FaultStore, Faults, InMemory};

mod power;

/// What the formats' tables say, made by hand: what one release wrote the next must read.
const FROZEN_IDENTITY: &str = "
    54474944010000004673b0961d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
";
const FROZEN_INCARNATIONS: &str = "
    5447494e01000000b146bc17000000011f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
";
const FROZEN_FIRST_ENTRY: &str = "
    5447504e010000004639e3ef4d455441c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c11f1f1f1f1f1f1f1f1f1f1f1f
    1f1f1f1f0000000000000007000000000000000100010000018bcfe56800000000040001000100000010c1c1
    c1c1c1c1c1c1c1c1c1c1c1c1c1c1000200010000000200010003000100000014000000011d1d1d1d1d1d1d1d
    1d1d1d1d1d1d1d1d0004000100000014000000011f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
";
const FROZEN_SNAPSHOT_HINT: &str = "
    5447534c01000000026434d50000000000000001
";
const FROZEN_SNAPSHOT: &str = "
    5447494d010000004263b81200000000000000015447504e010000004639e3ef4d455441c1c1c1c1c1c1c1c1
    c1c1c1c1c1c1c1c11f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f00000000000000070000000000000001c1c1c1c1
    c1c1c1c1c1c1c1c1c1c1c1c1000100000000000100000000000500000001000000011d1d1d1d1d1d1d1d1d1d
    1d1d1d1d1d1d1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f000000000000000100000000
";

/// What every store must do for a cluster.
async fn contract(open_store: impl Fn() -> Store) {
    let mut machine = Machine::new(1);
    let lives = Faults::none();
    let cluster = machine.start(&open_store(), &lives).await.unwrap();
    let first = cluster.image();
    assert_eq!(first.number(), 1);
    commit(&cluster, create("a")).await.unwrap();
    let epoch = |cluster: &Cluster| {
        let image = cluster.image();
        image.leader_epoch(image.topic("a").unwrap(), 2).unwrap()
    };
    assert_eq!(epoch(&cluster), 2);
    cluster.close().await;

    for start in 3..10 {
        let cluster = machine.start(&open_store(), &lives).await.unwrap();
        let image = cluster.image();
        assert_eq!(image.cluster_id(), first.cluster_id());
        assert_eq!(image.number(), start);
        assert_eq!(epoch(&cluster), start as i32);
        assert_eq!(names(&image), ["a"]);
        cluster.check_fenced().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_memory_keeps_the_contract() {
    let bucket = FaultStore::memory();
    contract(|| bucket.store()).await;
}

#[tokio::test]
async fn a_cluster_in_a_directory_keeps_the_contract() {
    let temp = tempfile::tempdir().unwrap();
    let url = format!("file://{}", temp.path().display());
    let (clock, random) = (Clock::system(), Random::seeded(1));
    contract(|| Store::open(&url, &clock, &random, &Registry::new()).unwrap()).await;
}

/// What a process that was killed had been told.
#[derive(Debug, Clone, Default)]
struct Told {
    cluster_id: Option<ClusterId>,
    /// Entries known to be in the log.
    number: u64,
    producer_id: i64,
    present: Vec<&'static str>,
    deleted: Vec<&'static str>,
}

/// A life with something of everything: open, changes, copies, snapshots, close.
async fn live(machine: &mut Machine, store: &Store, faults: &Arc<Faults>, told: &mut Told) {
    let Ok(cluster) = machine.start(store, faults).await else { return };
    told.cluster_id = Some(cluster.image().cluster_id());
    let mut changes = async || {
        for name in ["a", "b", "c", "d"] {
            attempt(&cluster, create(name)).await?;
            told.present.push(name);
        }
        told.present.retain(|name| *name != "b");
        attempt(&cluster, delete("b")).await?;
        told.deleted.push("b");
        told.producer_id = cluster.next_producer_id().await?;
        Ok::<_, super::super::CommitError>(())
    };
    let _killed_before = changes().await;
    told.number = cluster.image().number();
    cluster.close().await;
}

/// What must be true of a start after a death.
async fn check(machine: &mut Machine, bucket: &FaultStore, told: &Told, step: u64) {
    let cluster = machine
        .open(bucket)
        .await
        .unwrap_or_else(|error| panic!("killed at step {step}, refused after it: {error}"));
    let image = cluster.image();
    if let Some(cluster_id) = told.cluster_id {
        assert_eq!(image.cluster_id(), cluster_id, "step {step}");
    }
    assert!(image.number() > told.number, "step {step}");
    let present = names(&image);
    for name in &told.present {
        assert!(present.iter().any(|found| found == name), "step {step}: {name} is lost");
    }
    for name in &told.deleted {
        assert!(!present.iter().any(|found| found == name), "step {step}: {name} is back");
    }
    // The topics were created one after the other, so what is there is a beginning of that.
    let created = present.iter().filter(|name| *name != "b").count();
    assert_eq!(present.iter().filter(|n| *n != "b").collect::<Vec<_>>(), {
        ["a", "c", "d"].iter().take(created).collect::<Vec<_>>()
    });
    assert!(cluster.next_producer_id().await.unwrap() > told.producer_id, "step {step}");
    cluster.check_fenced().await.unwrap();
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_of_its_life_a_broker_starts_again() {
    for step in 0..2_000 {
        let backend: Arc<InMemory> = Arc::default();
        let mut machine = Machine::new(step);
        let faults = Faults::crash_at(step);
        let killed = FaultStore::new(backend.clone(), faults.clone());
        let mut told = Told::default();
        live(&mut machine, &killed.store(), &faults, &mut told).await;
        let bucket = FaultStore::new(backend, Faults::none());
        check(&mut machine, &bucket, &told, step).await;
        // Once more from what the bucket holds: the last snapshot and the entries after it.
        machine.remove_file("metadata").await;
        check(&mut machine, &bucket, &told, step).await;
        if !faults.crashed() {
            assert!(step > 60, "a life has only {step} steps");
            return;
        }
    }
    panic!("a life never ends");
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_of_a_restart_a_broker_starts_again() {
    for step in 0..2_000 {
        let backend: Arc<InMemory> = Arc::default();
        let bucket = FaultStore::new(backend.clone(), Faults::none());
        let mut machine = Machine::new(step);
        let mut told = Told::default();
        live(&mut machine, &bucket.store(), &Faults::none(), &mut told).await;
        machine.wal.has_records = true;
        machine.wal.metadata_number = told.number;
        let faults = Faults::crash_at(step);
        let killed = FaultStore::new(backend, faults.clone());
        let restarted = machine.start(&killed.store(), &faults).await;
        drop(restarted);
        check(&mut machine, &bucket, &told, step).await;
        if !faults.crashed() {
            assert!(step > 10, "a restart has only {step} steps");
            return;
        }
    }
    panic!("a restart never ends");
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_of_a_take_over_a_broker_can_take_over_again() {
    for step in 0..2_000 {
        let backend: Arc<InMemory> = Arc::default();
        let bucket = FaultStore::new(backend.clone(), Faults::none());
        let mut machine = Machine::new(step);
        let first = machine.open(&bucket).await.unwrap();
        let mut copy = machine.copy(step + 10_000);
        let second = copy.open(&bucket).await.unwrap();
        first.check_fenced().await.unwrap_err();
        drop(first);
        machine.take_over = true;
        let faults = Faults::crash_at(step);
        let killed = FaultStore::new(backend, faults.clone());
        drop(machine.start(&killed.store(), &faults).await);
        machine.open(&bucket).await.unwrap();
        assert!(!machine.has_file("fenced"), "step {step}");
        second.check_fenced().await.unwrap_err();
        if !faults.crashed() {
            assert!(step > 10, "a take-over has only {step} steps");
            return;
        }
    }
    panic!("a take-over never ends");
}

#[tokio::test(start_paused = true)]
async fn a_late_request_of_a_dead_run_makes_no_second_cluster() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let lost = [Fault::Late, Fault::Before, Fault::Before, Fault::Before];
    bucket.script(&lost);
    let error = machine.open(&bucket).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    bucket.release().await;
    let cluster = machine.open(&bucket).await.unwrap();
    assert_eq!(cluster.image().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_that_is_tried_again_begins_one_run() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let options = machine.prepare(&bucket.store(), &Faults::none()).await.unwrap();
    bucket.set_away(true);
    assert!(Cluster::open(&options, machine.wal).await.unwrap_err().is_retriable());
    bucket.set_away(false);
    bucket.script(&[Fault::Late, Fault::Before, Fault::Before, Fault::Before]);
    assert!(Cluster::open(&options, machine.wal).await.unwrap_err().is_retriable());
    bucket.release().await;
    let cluster = Cluster::open(&options, machine.wal).await.unwrap();
    assert_eq!(cluster.image().number(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_directory_is_refused_on_a_used_bucket() {
    let bucket = FaultStore::memory();
    Machine::new(1).open(&bucket).await.unwrap();
    let refusal = Machine::new(2).refusal(&bucket).await;
    assert!(matches!(refusal, Refusal::EmptyDirectory { .. }), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn a_used_directory_is_refused_on_another_bucket() {
    let mut machine = Machine::new(1);
    machine.open(&FaultStore::memory()).await.unwrap().close().await;
    let empty = machine.refusal(&FaultStore::memory()).await;
    assert!(matches!(empty, Refusal::ShorterBucket { .. }), "{empty}");

    let foreign = FaultStore::memory();
    Machine::new(2).open(&foreign).await.unwrap().close().await;
    let refusal = machine.refusal(&foreign).await;
    assert!(matches!(refusal, Refusal::ForeignBucket { .. }), "{refusal}");

    // Also when the copy, by which that was noticed, is gone.
    machine.remove_file("metadata").await;
    let refusal = machine.refusal(&foreign).await;
    assert!(matches!(refusal, Refusal::AnotherDirectory { .. }), "{refusal}");
    machine.wal.has_records = true;
    let refusal = machine.refusal(&FaultStore::memory()).await;
    assert!(matches!(refusal, Refusal::EmptyBucket { .. }), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_bucket_is_refused() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let cluster = machine.open(&bucket).await.unwrap();
    for name in ["a", "b", "c"] {
        commit(&cluster, create(name)).await.unwrap();
    }
    cluster.close().await;
    machine.wal = WalState { has_records: true, metadata_number: 4, ..machine.wal };
    bucket.store().delete(&Key::numbered("meta", 4)).await.unwrap();
    let by_copy = machine.refusal(&bucket).await;
    assert!(matches!(by_copy, Refusal::ShorterBucket { needed: 4, .. }), "{by_copy}");
    machine.remove_file("metadata").await;
    bucket.store().delete(&Key::new("meta-snapshot/latest")).await.unwrap();
    let by_wal = machine.refusal(&bucket).await;
    assert!(matches!(by_wal, Refusal::ShorterBucket { needed: 4, .. }), "{by_wal}");
}

#[tokio::test(start_paused = true)]
async fn a_copied_directory_is_refused_after_either_ran() {
    let bucket = FaultStore::memory();
    let mut original = Machine::new(1);
    original.open(&bucket).await.unwrap().close().await;
    let mut copy = original.copy(2);
    original.open(&bucket).await.unwrap().close().await;
    let refusal = copy.refusal(&bucket).await;
    assert!(matches!(refusal, Refusal::UnknownIncarnation { .. }), "{refusal}");
    copy.take_over = true;
    let refusal = copy.refusal(&bucket).await;
    assert!(matches!(refusal, Refusal::UnknownIncarnation { .. }), "{refusal}");
    original.open(&bucket).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_wal_is_refused_and_not_made_anew() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    machine.open(&bucket).await.unwrap().close().await;
    machine.wal = WalState::default();
    let refusal = machine.refusal(&bucket).await;
    assert!(matches!(refusal, Refusal::WalLost { .. }), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn another_node_id_is_refused() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    machine.open(&bucket).await.unwrap().close().await;
    machine.node_id = 2;
    let refusal = machine.refusal(&bucket).await;
    assert!(matches!(refusal, Refusal::UnknownBroker { .. }), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn without_a_copy_a_start_reads_the_snapshot_and_what_follows() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let cluster = machine.open(&bucket).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        commit(&cluster, create(name)).await.unwrap();
    }
    cluster.close().await;
    machine.remove_file("metadata").await;
    // Proof that they are not read; a bucket never loses them.
    for number in 1..=2 {
        bucket.store().delete(&Key::numbered("meta", number)).await.unwrap();
    }
    let cluster = machine.open(&bucket).await.unwrap();
    assert_eq!(names(&cluster.image()), ["a", "b", "c", "d"]);
    assert_eq!(cluster.image().number(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_frozen_samples_of_a_new_cluster_are_read() {
    let sample = |text: &str| -> Vec<u8> {
        let digit = |c: char| c.to_digit(16).unwrap() as u8;
        let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(digit).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    };
    let mut machine = Machine::new(1);
    machine.wal.identity = Some([0x1d; 16]);
    let dir = machine.dir().await;
    dir.write("identity", sample(FROZEN_IDENTITY)).await.unwrap();
    dir.write("incarnations", sample(FROZEN_INCARNATIONS)).await.unwrap();
    let bucket = FaultStore::memory();
    let put = async |key: Key, text| bucket.store().put(&key, sample(text).into()).await.unwrap();
    put(Key::numbered("meta", 1), FROZEN_FIRST_ENTRY).await;
    put(Key::new("meta-snapshot/latest"), FROZEN_SNAPSHOT_HINT).await;
    put(Key::numbered("meta-snapshot", 1), FROZEN_SNAPSHOT).await;
    let cluster = machine.open(&bucket).await.unwrap();
    assert_eq!(cluster.image().number(), 2);
    assert_eq!(cluster.image().cluster_id().0, [0xc1; 16]);
    assert_eq!(cluster.image().broker(1).unwrap().identity.0, [0x1d; 16]);
    // Only the snapshot says so, which shows that it was found and read.
    assert_eq!(cluster.image().next_producer_id(), (1 << 48) + 5);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_copy_or_snapshot_only_costs_the_short_cut() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let cluster = machine.open(&bucket).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        commit(&cluster, create(name)).await.unwrap();
    }
    cluster.close().await;
    machine.change_file("metadata", 100, |byte| byte ^ 1).await;
    let latest = Key::new("meta-snapshot/latest");
    bucket.store().put(&latest, "nonsense".into()).await.unwrap();
    let cluster = machine.open(&bucket).await.unwrap();
    assert_eq!(names(&cluster.image()), ["a", "b", "c", "d"]);
    cluster.close().await;

    machine.change_file("metadata", 4, |major| major + 2).await;
    let error = machine.open(&bucket).await.unwrap_err();
    assert!(error.to_string().contains("use a newer release"), "{error}");
}

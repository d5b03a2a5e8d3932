use super::super::testing::{Machine, commit, create, names};
use super::super::{CheckError, Cluster};
use super::*;
use crate::object::testing::{FaultStore, Faults};

/// A process that restores into the machine's directory and may be killed.
async fn begin(
    machine: &mut Machine,
    bucket: &FaultStore,
    faults: &std::sync::Arc<Faults>,
) -> Result<OpenRestore, OpenError> {
    let options = machine.prepare(&bucket.store(), faults).await?;
    OpenRestore::begin(&options, machine.wal).await
}

fn refused(error: OpenError) -> Refusal {
    match error {
        OpenError::Refused(refusal) => *refusal,
        other => panic!("not a refusal: {other}"),
    }
}

fn epoch(cluster: &Cluster) -> i32 {
    let image = cluster.image();
    image.leader_epoch(image.topic("a").unwrap(), 0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_open_restore_fences_the_old_directory_for_good_and_lets_nobody_start() {
    let bucket = FaultStore::memory();
    let (mut old, mut new) = (Machine::new(1), Machine::new(2));
    let before = old.open(&bucket).await.unwrap();
    commit(&before, create("a")).await.unwrap();
    let (first_epoch, first_producer) = (epoch(&before), before.next_producer_id().await.unwrap());
    old.wal.has_records = true;

    let lives = Faults::none();
    let restore = begin(&mut new, &bucket, &lives).await.unwrap();
    assert_eq!(names(restore.image()), ["a"]);
    assert!(matches!(before.check_fenced().await, Err(CheckError::Fenced(_))));
    assert!(matches!(new.refusal(&bucket).await, Refusal::RestoreOpen { node_id: 1, .. }));
    for take_over in [false, true] {
        old.take_over = take_over;
        assert!(matches!(old.refusal(&bucket).await, Refusal::AnotherDirectory { .. }));
    }

    // It is gone on with by another process, and no more by the one before.
    let again = begin(&mut new, &bucket, &lives).await.unwrap();
    assert!(matches!(refused(restore.close().await.unwrap_err()), Refusal::Restore(_)));
    let runs = again.runs_since(0, false).await.unwrap();
    assert_eq!(
        runs.iter().map(|(_, is_attempt)| *is_attempt).collect::<Vec<_>>(),
        [false, true, true]
    );
    let last = (again.options.prepared.incarnation(), true);
    assert_eq!(runs.last(), Some(&last));
    let number = again.image().number();
    assert_eq!(again.runs_since(number - 1, true).await.unwrap(), [last]);
    assert_eq!(again.runs_since(number, true).await.unwrap(), []);
    again.close().await.unwrap();

    let own = refused(begin(&mut new, &bucket, &lives).await.unwrap_err());
    assert!(matches!(own, Refusal::Restore(RestoreRefusal::Own { .. })), "{own}");
    let after = new.open(&bucket).await.unwrap();
    assert_eq!(names(&after.image()), ["a"]);
    assert!(epoch(&after) > first_epoch);
    assert!(after.next_producer_id().await.unwrap() > first_producer);
    assert!(matches!(old.refusal(&bucket).await, Refusal::AnotherDirectory { .. }));
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_a_restore_is_begun_again() {
    for step in 1..40 {
        let bucket = FaultStore::memory();
        let (mut old, mut new) = (Machine::new(1), Machine::new(2));
        old.open(&bucket).await.unwrap().close().await;
        let killed = Faults::crash_at(step);
        if let Ok(restore) = begin(&mut new, &bucket, &killed).await {
            drop(restore.close().await);
        }
        match begin(&mut new, &bucket, &Faults::none()).await {
            Ok(restore) => restore.close().await.unwrap(),
            Err(error) => {
                let refusal = refused(error);
                assert!(matches!(refusal, Refusal::Restore(RestoreRefusal::Own { .. })));
            }
        }
        new.open(&bucket).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_empty_directory_takes_the_place_of_one_in_a_bucket_with_a_cluster() {
    let bucket = FaultStore::memory();
    let lives = Faults::none();
    let mut new = Machine::new(2);
    let none = refused(begin(&mut new, &bucket, &lives).await.unwrap_err());
    assert!(matches!(none, Refusal::Restore(RestoreRefusal::NoCluster { .. })), "{none}");
    Machine::new(1).open(&bucket).await.unwrap();
    new.node_id = 2;
    let unknown = refused(begin(&mut new, &bucket, &lives).await.unwrap_err());
    assert!(matches!(unknown, Refusal::UnknownBroker { node_id: 2, .. }), "{unknown}");
    new.node_id = 1;
    new.wal.has_records = true;
    let used = refused(begin(&mut new, &bucket, &lives).await.unwrap_err());
    assert!(matches!(used, Refusal::Restore(RestoreRefusal::NotEmpty { .. })), "{used}");
    // What a start that was refused leaves behind is empty.
    new.wal.has_records = false;
    assert!(matches!(new.refusal(&bucket).await, Refusal::EmptyDirectory { .. }));
    let restore = begin(&mut new, &bucket, &lives).await.unwrap();
    // The directory of an open restore may be lost, too.
    begin(&mut Machine::new(3), &bucket, &lives).await.unwrap().close().await.unwrap();
    refused(restore.close().await.unwrap_err());
}

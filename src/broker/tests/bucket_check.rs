//! What `tidegate bucket check` finds in a bucket that a broker has filled.

use super::bucket::{until, until_covered};
use super::{Bench, append};
use crate::broker::bucket_check::{self, BucketReport, CheckError, Problem, ProblemKind};
use crate::object::testing::FaultStore;
use crate::partition::{Partition, TierChange, TierRef};
use crate::tier::ObjectId;
use crate::tier::format::HEAD_BYTES;

#[tokio::test(start_paused = true)]
async fn the_check_finds_what_is_missing_damaged_misplaced_and_orphaned() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 2).await;
    for producer in 0..5 {
        append(&broker, &partition, producer);
        append(&broker, &broker.partition_of("t", 1), producer);
    }
    // The flusher makes a pack of what has waited long enough.
    until(&bench, async || partition.tiered_end() == Some(5)).await;
    until_covered(&bench, &broker).await;
    let refs = partition.tier_refs();
    assert_eq!(refs.len(), 1);
    broker.stop().await;
    let store = &broker.bucket.store;
    let check = async || bucket_check::check(store, 1, |_, _| {}).await.unwrap();
    let kinds = |report: &BucketReport| {
        report.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>()
    };

    let report = check().await;
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.partitions, report.objects, report.chunks), (2, 1, 2));
    let (mut told, all) = (Vec::new(), refs[0].object.bytes);
    bucket_check::check(store, 1, |done, all| told.push((done, all))).await.unwrap();
    assert_eq!(told, [(0, all), (all, all)]);
    assert_eq!((report.orphans, report.garbage), (0, 0));
    assert!(report.checkpoint_ms.is_some());

    let key = refs[0].object.id.key();
    let good = store.get(&key, 1 << 20).await.unwrap();
    for at in [0, HEAD_BYTES + 3, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        store.put(&key, bad.into()).await.unwrap();
        let report = check().await;
        assert_eq!(kinds(&report), [ProblemKind::Corrupt], "byte {at}: {report:?}");
        assert!(report.problems[0].what.contains(&key.to_string()));
        assert!(report.problems[0].what.contains("t-0, t-1"));
    }
    store.delete(&key).await.unwrap();
    let report = check().await;
    assert_eq!(kinds(&report), [ProblemKind::Missing], "{report:?}");
    store.put(&key, good).await.unwrap();

    let orphan = ObjectId { incarnation: [9; 16], sequence: 3 }.key();
    store.put(&orphan, "123".into()).await.unwrap();
    let report = check().await;
    assert!(report.is_sound());
    assert_eq!((report.orphans, report.orphan_bytes), (1, 3));
    assert_eq!(report.orphan_names, [orphan.to_string()]);

    let other = bucket_check::check(store, 7, |_, _| {}).await.unwrap_err();
    assert!(matches!(other, CheckError::NoBroker { node_id: 7 }), "{other}");
    let empty = FaultStore::memory().store();
    let none = bucket_check::check(&empty, 1, |_, _| {}).await.unwrap_err();
    assert!(matches!(none, CheckError::NoCluster { .. }), "{none}");
}

#[tokio::test(start_paused = true)]
async fn the_check_tells_references_that_their_objects_do_not_keep() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let partition = broker.topic("t", 1).await;
    for producer in 0..5 {
        append(&broker, &partition, producer);
    }
    until(&bench, async || partition.tiered_end() == Some(5)).await;
    // The log has grown, and somebody says that the same object holds what is new.
    append(&broker, &partition, 9);
    let held = partition.tier_refs()[0];
    let wrong = TierRef { start_offset: 5, end_offset: 6, ..held };
    let change = TierChange { removed: Vec::new(), added: vec![wrong] };
    let mut admission = broker.stream.try_admit(Partition::commit_len(&change)).unwrap();
    let lsn = partition.commit_tier(&mut admission, change, 0).unwrap();
    broker.stream.wait_durable_blocking(lsn).unwrap();
    broker.view_changed(lsn);
    until_covered(&bench, &broker).await;
    broker.stop().await;
    let report = bucket_check::check(&broker.bucket.store, 1, |_, _| {}).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let Problem { kind, detail, .. } = &report.problems[0];
    assert_eq!(*kind, ProblemKind::Corrupt);
    assert!(detail.contains("it has offsets 0 to 4"), "{detail}");
    assert!(detail.contains("refers to 5 to 5"), "{detail}");
}

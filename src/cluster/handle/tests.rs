use futures_util::future::join_all;

use super::super::image::FIRST_PRODUCER_ID;
use super::super::rules::Refusal;
use super::super::testing::{Machine, commit, create, delete, names};
use super::super::{ALL_BROKERS, NewTopic, TopicRef};
use super::*;
use crate::object::testing::{Fault, FaultStore};

/// A bucket and a cluster of one broker in it.
async fn opened() -> (FaultStore, Machine, Cluster) {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    let cluster = machine.open(&bucket).await.unwrap();
    (bucket, machine, cluster)
}

#[tokio::test(start_paused = true)]
async fn changes_that_wait_go_into_one_entry_in_order() {
    let (_bucket, _machine, cluster) = opened().await;
    let before = cluster.image().number();
    let names_asked = ["a", "b", "a", "c", "b"];
    let asked = names_asked.map(|name| commit(&cluster, create(name)));
    let outcomes = join_all(asked).await;
    let refused: Vec<_> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, true, false, true]);
    let exists = ChangeError::TopicExists { name: "a".to_owned() };
    assert_eq!(outcomes[2].as_ref().unwrap_err(), &exists);
    assert_eq!(cluster.image().number(), before + 1);
    assert_eq!(names(&cluster.image()), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn the_changes_of_one_commit_see_each_other() {
    let (_bucket, _machine, cluster) = opened().await;
    let grow = |count| Change::CreatePartitions { topic: TopicRef::Name("a".into()), count };
    let changes =
        vec![create("a"), grow(5), grow(5), delete("a"), delete("a"), create("a"), grow(4)];
    let committed = cluster.commit(changes).await.unwrap();
    let refused: Vec<_> = committed.outcomes.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, true, false, true, false, false]);
    let Ok(Outcome::Topic(deleted)) = &committed.outcomes[3] else { panic!() };
    assert_eq!(deleted.partition_count(), 5);
    let topic = committed.image.topic("a").unwrap();
    assert_eq!(topic.partition_count(), 4);
    assert_ne!(topic.id, deleted.id);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_refused_for_its_reason_and_writes_nothing() {
    let (bucket, _machine, cluster) = opened().await;
    commit(&cluster, create("a.b")).await.unwrap();
    let writes = bucket.writes();
    let topic = |change: fn(&mut NewTopic)| {
        let Change::CreateTopic(mut new) = create("t") else { panic!() };
        change(&mut new);
        Change::CreateTopic(new)
    };
    let long = "x".repeat(70_000);
    let refusals = [
        (create("bad name"), "has other characters"),
        (create("a_b"), "collides with the existing topic \"a.b\""),
        (create("a.b"), "already exists"),
        (topic(|new| new.partitions = 0), "must be at least 1"),
        (topic(|new| new.partitions = i32::MAX), "at most 1000 are allowed"),
        (topic(|new| new.replication_factor = 0), "must be at least 1"),
        (delete("t"), "topic \"t\" does not exist"),
        (
            Change::CreatePartitions { topic: TopicRef::Name("a.b".into()), count: 3 },
            "must be at least 4",
        ),
        (
            Change::CreatePartitions { topic: TopicRef::Name("a.b".into()), count: 1_001 },
            "at most 1000 are allowed",
        ),
        (
            Change::SetTopicConfigs {
                topic: TopicRef::Name("a.b".into()),
                configs: [("k".to_owned(), Some(long))].into(),
            },
            "at most 65535 are allowed",
        ),
        (Change::AllocateProducerIds { count: 0 }, "producer ids"),
    ];
    for (change, why) in refusals {
        let error = commit(&cluster, change.clone()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(cluster.check(&[change]).remove(0).unwrap_err(), error);
    }
    assert_eq!(bucket.writes(), writes);
    assert!(cluster.check(&[create("fine")]).remove(0).is_ok());
    assert!(cluster.image().topic("fine").is_none());
}

#[tokio::test(start_paused = true)]
async fn configs_are_set_for_one_broker_and_for_all() {
    let (_bucket, _machine, cluster) = opened().await;
    let set = |node_id, value: Option<&str>| Change::SetBrokerConfigs {
        node_id,
        configs: [("k".to_owned(), value.map(str::to_owned))].into(),
    };
    let changes = vec![set(1, Some("own")), set(ALL_BROKERS, Some("all")), set(2, None)];
    let committed = cluster.commit(changes).await.unwrap();
    assert!(committed.outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::BrokerConfigs))));
    let value = |node_id| cluster.image().broker_configs(node_id).get("k").cloned();
    assert_eq!(value(1).as_deref(), Some("own"));
    assert_eq!(value(ALL_BROKERS).as_deref(), Some("all"));
    assert_eq!(value(2), None);
    commit(&cluster, set(1, None)).await.unwrap();
    assert_eq!((value(1), value(ALL_BROKERS).as_deref()), (None, Some("all")));
}

#[tokio::test(start_paused = true)]
async fn changes_are_checked_as_if_those_before_them_were_made() {
    let (bucket, _machine, cluster) = opened().await;
    let writes = bucket.writes();
    let large = |name: &str| {
        let Change::CreateTopic(new) = create(name) else { panic!() };
        Change::CreateTopic(NewTopic { partitions: 400, ..new })
    };
    let changes = [large("a"), large("a"), large("b"), large("c"), create("d.e"), create("d_e")];
    let checked = cluster.check(&changes);
    assert_eq!(bucket.writes(), writes);
    let committed = cluster.commit(changes.to_vec()).await.unwrap();
    for (checked, made) in checked.into_iter().zip(committed.outcomes) {
        match (checked, made) {
            (Ok(Outcome::Topic(checked)), Ok(Outcome::Topic(made))) => {
                assert_eq!(checked.name, made.name);
                assert_eq!(checked.partition_count(), made.partition_count());
            }
            (checked, made) => assert_eq!(checked.unwrap_err(), made.unwrap_err()),
        }
    }
    assert_eq!(names(&cluster.image()), ["a", "b", "d.e"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_checked_fits_one_entry_together() {
    let (_bucket, _machine, cluster) = opened().await;
    let configs = |count| (0..count).map(|i| (format!("k{i}"), Some("x".repeat(60_000)))).collect();
    commit(&cluster, create("a")).await.unwrap();
    let set = |count| Change::SetTopicConfigs {
        topic: TopicRef::Name("a".into()),
        configs: configs(count),
    };
    let checked = cluster.check(&[set(100), set(100), set(100), set(1)]);
    let refused: Vec<_> = checked.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, true, false]);
    assert_eq!(checked[2].as_ref().unwrap_err(), &ChangeError::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn metadata_above_the_limit_is_refused_and_what_makes_it_smaller_is_not() {
    let bucket = FaultStore::memory();
    let mut machine = Machine::new(1);
    machine.limits.image_bytes = 10_000;
    let cluster = machine.open(&bucket).await.unwrap();
    let set = |name: &str, value: Option<usize>| Change::SetTopicConfigs {
        topic: TopicRef::Name(name.to_owned()),
        configs: [("k".to_owned(), value.map(|bytes| "x".repeat(bytes)))].into(),
    };
    commit(&cluster, create("a")).await.unwrap();
    commit(&cluster, create("b")).await.unwrap();
    commit(&cluster, set("a", Some(9_000))).await.unwrap();
    let refused = commit(&cluster, set("b", Some(1_000))).await.unwrap_err();
    assert!(matches!(refused, ChangeError::ImageTooLarge { limit: 10_000, .. }), "{refused}");
    assert!(refused.to_string().contains("1/32 of memory.budget.bytes"), "{refused}");
    assert!(cluster.image().topic("b").unwrap().configs.is_empty());
    cluster.close().await;

    machine.limits.image_bytes = 5_000;
    let cluster = machine.open(&bucket).await.unwrap();
    let too_large = |outcome| matches!(outcome, Err(ChangeError::ImageTooLarge { .. }));
    assert!(too_large(commit(&cluster, create("c")).await));
    let grow = Change::CreatePartitions { topic: TopicRef::Name("b".to_owned()), count: 4 };
    assert!(too_large(commit(&cluster, grow).await));
    commit(&cluster, set("a", Some(8_000))).await.unwrap();
    commit(&cluster, delete("b")).await.unwrap();
    commit(&cluster, set("a", None)).await.unwrap();
    commit(&cluster, create("c")).await.unwrap();
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_is_published_before_its_commit_is_answered() {
    let (_bucket, _machine, cluster) = opened().await;
    let mut images = cluster.subscribe();
    images.mark_unchanged();
    let committed = cluster.commit(vec![create("a")]).await.unwrap();
    assert!(images.has_changed().unwrap());
    assert_eq!(images.borrow_and_update().number(), committed.image.number());
    assert!(Arc::ptr_eq(&cluster.image(), &committed.image));
}

#[tokio::test(start_paused = true)]
async fn with_the_bucket_away_a_commit_ends_in_time_and_may_take_effect_later() {
    let (bucket, _machine, cluster) = opened().await;
    bucket.set_away(true);
    let start = cluster.inner.shared.clock.now();
    let error = cluster.commit(vec![create("a")]).await.unwrap_err();
    assert_eq!(error, CommitError::Unavailable);
    let mut images = cluster.subscribe();
    assert_eq!(cluster.inner.shared.clock.now() - start, COMMIT_TIMEOUT);
    assert!(cluster.image().topic("a").is_none());

    bucket.set_away(false);
    images.wait_for(|image| image.topic("a").is_some()).await.unwrap();
    commit(&cluster, create("b")).await.unwrap();
    assert_eq!(cluster.image().number(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_waits_for_any_more_is_not_begun() {
    let (bucket, _machine, cluster) = opened().await;
    bucket.set_away(true);
    let asked = [cluster.commit(vec![create("a")]), cluster.commit(vec![create("b")])];
    join_all(asked).await;
    assert_eq!(cluster.commit(vec![create("c")]).await.unwrap_err(), CommitError::Unavailable);
    bucket.set_away(false);
    commit(&cluster, create("d")).await.unwrap();
    assert_eq!(names(&cluster.image()), ["a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_repeat_or_lose_a_change() {
    let (bucket, mut machine, cluster) = opened().await;
    for (index, fault) in [Fault::After, Fault::Before, Fault::Hang].into_iter().enumerate() {
        bucket.script(&[fault]);
        commit(&cluster, create(&format!("t{index}"))).await.unwrap();
    }
    assert_eq!(cluster.image().number(), 4);
    drop(cluster);
    let reopened = machine.open(&bucket).await.unwrap();
    assert_eq!(names(&reopened.image()), ["t0", "t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_bucket_is_answered_at_once_and_changes_nothing() {
    let (bucket, _machine, cluster) = opened().await;
    bucket.script(&[Fault::Denied]);
    let error = cluster.commit(vec![create("a")]).await.unwrap_err();
    assert!(matches!(error, CommitError::Refused { .. }), "{error}");
    commit(&cluster, create("b")).await.unwrap();
    assert_eq!(names(&cluster.image()), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_fences_the_first() {
    let (bucket, mut machine, cluster) = opened().await;
    let mut copy = machine.copy(2);
    cluster.check_fenced().await.unwrap();
    let second = copy.open(&bucket).await.unwrap();

    let Err(CheckError::Fenced(fence)) = cluster.check_fenced().await else { panic!() };
    assert_eq!((fence.node_id, fence.entry), (1, 2));
    assert!(machine.has_file("fenced"));
    assert_eq!(cluster.fenced().await, fence);
    let error = cluster.commit(vec![create("a")]).await.unwrap_err();
    assert_eq!(error, CommitError::Fenced(fence));
    cluster.close().await;
    assert!(matches!(machine.refusal(&bucket).await, Refusal::Fenced { entry: 2, .. }));

    // Taken back: the second is fenced in turn, and the first needs no word any more.
    machine.take_over = true;
    let third = machine.open(&bucket).await.unwrap();
    assert!(!machine.has_file("fenced"));
    assert!(matches!(second.check_fenced().await, Err(CheckError::Fenced(_))));
    third.close().await;
    machine.take_over = false;
    machine.open(&bucket).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_replaced_learns_it_by_its_next_commit() {
    let (bucket, machine, cluster) = opened().await;
    let second = machine.copy(2).open(&bucket).await.unwrap();
    commit(&second, create("theirs")).await.unwrap();
    let error = cluster.commit(vec![create("ours")]).await.unwrap_err();
    assert!(matches!(error, CommitError::Fenced(_)), "{error}");
    assert!(machine.has_file("fenced"));
    assert_eq!(names(&second.image()), ["theirs"]);
    assert!(second.check_fenced().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes() {
    let (bucket, _machine, cluster) = opened().await;
    let writes = bucket.writes();
    for _ in 0..1_000 {
        cluster.inner.shared.clock.sleep(Duration::from_secs(10)).await;
        cluster.check_fenced().await.unwrap();
    }
    cluster.close().await;
    assert_eq!(bucket.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_never_given_twice_and_come_from_memory() {
    let (bucket, mut machine, cluster) = opened().await;
    let mut given = Vec::new();
    for _ in 0..500 {
        given.push(cluster.next_producer_id().await.unwrap());
    }
    assert_eq!(given[0], FIRST_PRODUCER_ID);
    let mut images = cluster.subscribe();
    let half_used =
        |image: &Arc<ClusterImage>| image.next_producer_id() == FIRST_PRODUCER_ID + 2_000;
    images.wait_for(half_used).await.unwrap();
    assert_eq!(cluster.image().number(), 3);

    // With the next block at hand a bucket that is away is not noticed.
    bucket.set_away(true);
    for _ in 0..1_500 {
        given.push(cluster.next_producer_id().await.unwrap());
    }
    assert!(cluster.next_producer_id().await.is_err());
    bucket.set_away(false);
    given.push(cluster.next_producer_id().await.unwrap());
    cluster.close().await;
    let reopened = machine.open(&bucket).await.unwrap();
    given.push(reopened.next_producer_id().await.unwrap());
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_a_block_take_one() {
    let (_bucket, _machine, cluster) = opened().await;
    let ids = join_all((0..400).map(|_| cluster.next_producer_id())).await;
    let distinct: std::collections::HashSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(distinct.len(), 400);
    assert_eq!(cluster.image().next_producer_id(), FIRST_PRODUCER_ID + 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_closed_cluster_says_so() {
    let (_bucket, _machine, cluster) = opened().await;
    cluster.close().await;
    assert_eq!(cluster.commit(vec![create("a")]).await.unwrap_err(), CommitError::Closed);
}

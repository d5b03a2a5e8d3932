use super::harness::*;
use crate::group::types::*;
use crate::group::*;

const DAY: u64 = 24 * 60 * 60;

#[tokio::test(start_paused = true)]
async fn gotcha_36_a_commit_comes_back_with_metadata_and_leader_epoch() {
    let bench = Bench::new().await;
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    let results = bench.commit(&member, 42).await.unwrap();
    assert_eq!(results, [TopicResults { name: "orders".into(), partitions: vec![(0, Ok(()))] }]);
    let expected =
        FetchedOffset { partition: 0, offset: 42, leader_epoch: 5, metadata: "m".into() };
    assert_eq!(bench.committed_at("orders", 0).await, expected);
    assert_eq!(bench.metric("tidegate_group_offset_commits_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_partitions_without_an_offset_are_no_error() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    let none =
        |partition| FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: "".into() };
    assert_eq!(bench.committed_at("orders", 1).await, none(1));
    assert_eq!(bench.committed_at("nowhere", 7).await, none(7));
    let all = OffsetFetchRequest { group: "g".into(), topics: None };
    let all = bench.coordinator.fetch_offsets(all).await.unwrap();
    assert_eq!((all.len(), all[0].partitions.len()), (1, 1));
    let unknown = OffsetFetchRequest { group: "unknown".into(), topics: None };
    assert_eq!(bench.coordinator.fetch_offsets(unknown).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_group_follows_its_members_and_offsets() {
    let bench = Bench::new().await;
    let groups = &bench.coordinator;
    assert_eq!((groups.count(), groups.size("g")), (0, GroupSize::default()));
    for (partition, metadata) in [(0, "xyz"), (1, "m"), (0, "x")] {
        let mut request = Client::simple().commit_request("orders", partition, 1);
        request.topics[0].partitions[0].metadata = metadata.into();
        drop(groups.commit(request).await.unwrap());
    }
    let size = GroupSize { members: 0, offsets: 2, metadata_bytes: 2 };
    assert_eq!((groups.count(), groups.size("g")), (1, size));
    let topics = vec![("orders".into(), vec![0, 7])];
    let delete = OffsetDeleteRequest { group: "g".into(), topics };
    drop(groups.delete_offsets(delete).await.unwrap());
    bench.stable(&mut [&mut Client::new("c")]).await;
    let size = GroupSize { members: 1, offsets: 1, metadata_bytes: 1 };
    assert_eq!((groups.count(), groups.size("g")), (1, size));
    assert_eq!(groups.size("h"), GroupSize::default());
    let bench = bench.restart().await;
    assert_eq!(bench.coordinator.size("g"), size);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_metadata_is_limited_partition_by_partition() {
    let bench = Bench::new().await;
    let commit = |metadata: String| {
        let mut request = Client::simple().commit_request("orders", 0, 1);
        let fine = request.topics[0].partitions[0].clone();
        let large = CommitPartition { partition: 1, metadata: metadata.into(), ..fine };
        request.topics[0].partitions.push(large);
        bench.coordinator.commit(request)
    };
    let results = commit("x".repeat(4_097)).await.unwrap();
    assert_eq!(results[0].partitions, [(0, Ok(())), (1, Err(Error::OffsetMetadataTooLarge))]);
    // Kafka counts UTF-16 units: 4096 of these are 8192 bytes.
    let results = commit("ü".repeat(4_096)).await.unwrap();
    assert_eq!(results[0].partitions, [(0, Ok(())), (1, Ok(()))]);
    assert_eq!(bench.committed_at("orders", 1).await.metadata.len(), 8_192);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_unknown_topics_and_partitions_are_refused_by_themselves() {
    let bench = Bench::new().await;
    let mut request = Client::simple().commit_request("orders", 4, 1);
    request.topics.extend(Client::simple().commit_request("nowhere", 0, 1).topics);
    request.topics.extend(Client::simple().commit_request("other", 3, 9).topics);
    let results = bench.coordinator.commit(request).await.unwrap();
    let errors: Vec<_> = results.into_iter().map(|topic| topic.partitions[0].1.clone()).collect();
    let unknown = || Err(Error::UnknownTopicOrPartition);
    assert_eq!(errors, [unknown(), unknown(), Ok(())]);
    assert_eq!(bench.committed_at("other", 3).await.offset, 9);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_a_simple_consumer_commits_only_to_an_empty_group() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    drop(bench.commit(&simple, 1).await.unwrap());
    assert_eq!(bench.state().await, State::Empty);
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    assert_eq!(bench.commit(&simple, 2).await, Err(Error::UnknownMemberId));
    assert_eq!(bench.committed().await, 1);
    drop(bench.leave(&member.id, None).await.unwrap());
    drop(bench.commit(&simple, 3).await.unwrap());
    assert_eq!(bench.committed().await, 3);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_commits_are_fenced_by_member_and_generation() {
    let bench = Bench::new().await;
    let mut member = Client::new("c");
    member.generation = 1;
    assert_eq!(bench.commit(&member, 1).await, Err(Error::GroupIdNotFound));
    let mut older = member.commit_request("orders", 0, 1);
    older.group_id_not_found = false;
    assert_eq!(bench.coordinator.commit(older).await, Err(Error::IllegalGeneration));
    bench.stable(&mut [&mut member]).await;
    let stale = Client { generation: 0, ..member.clone() };
    assert_eq!(bench.commit(&stale, 1).await, Err(Error::IllegalGeneration));
    let stranger = Client { id: "x".into(), ..member.clone() };
    assert_eq!(bench.commit(&stranger, 1).await, Err(Error::UnknownMemberId));
    drop(bench.commit(&member, 1).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn gotcha_34_commits_are_taken_before_the_join_completes_and_not_after() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a, &mut b]).await;
    let rejoin = bench.join(&a);
    drop(bench.commit(&b, 5).await.unwrap());
    let b_join = bench.join(&b);
    a.joined(rejoin.await.unwrap());
    b.joined(b_join.await.unwrap());
    assert_eq!(bench.commit(&b, 6).await, Err(Error::RebalanceInProgress));
    assert_eq!(bench.committed().await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_and_seen_when_it_is_durable() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    drop(bench.commit(&simple, 1).await.unwrap());
    bench.log.hold();
    let mut second = bench.commit(&simple, 2);
    let mut third = bench.commit(&simple, 3);
    assert_eq!(now(&mut second).await, None);
    assert_eq!(now(&mut third).await, None, "the task has not waited for the second");
    let mut fetch = Box::pin(bench.committed());
    assert!(futures_util::poll!(&mut fetch).is_pending());
    bench.log.release();
    drop((second.await.unwrap(), third.await.unwrap()));
    assert_eq!(fetch.await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_log_refuses_changes_nothing() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    drop(bench.commit(&simple, 1).await.unwrap());
    bench.log.refuse(Some(AppendRefused::Unavailable));
    assert_eq!(bench.commit(&simple, 2).await, Err(Error::CoordinatorNotAvailable));
    bench.log.refuse(Some(AppendRefused::TooLarge));
    assert_eq!(bench.commit(&simple, 2).await, Err(Error::InvalidCommitOffsetSize));
    assert_eq!(bench.committed().await, 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_deleted_topic_are_not_those_of_its_successor() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 10).await.unwrap());
    bench.topics.delete("orders");
    assert_eq!(bench.committed().await, -1);
    bench.topics.create("orders", 99, 4);
    assert_eq!(bench.committed().await, -1);
    let bench = bench.restart().await;
    assert_eq!(bench.committed().await, -1);
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
    assert_eq!(bench.log.records("g").last().unwrap().value, None);
    drop(bench.commit(&Client::simple(), 3).await.unwrap());
    assert_eq!(bench.committed().await, 3);
}

#[tokio::test(start_paused = true)]
async fn gotcha_36_offsets_of_a_consumer_group_age_from_when_it_is_empty() {
    let bench = Bench::new().await;
    let mut member = Client { session_ms: 1_800_000, ..Client::new("c") };
    bench.stable(&mut [&mut member]).await;
    drop(bench.commit(&member, 1).await.unwrap());
    for _ in 0..8 * DAY / 1_000 {
        bench.pass(1_000).await;
        assert_eq!(bench.heartbeat(&member).await, Ok(()));
    }
    assert_eq!(bench.coordinator.expire_offsets().await, 0, "a member is subscribed to the topic");
    drop(bench.leave(&member.id, None).await.unwrap());
    bench.pass(7 * DAY - 1).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    bench.pass(1).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
    assert_eq!(bench.metric("tidegate_group_offsets_expired_total"), 1);
    assert_eq!(bench.describe_error().await, Some(Error::GroupIdNotFound));
    tokio::task::yield_now().await;
    assert_eq!(bench.list().unwrap(), []);
    let records = bench.log.records("g");
    let last = records.last().unwrap();
    assert_eq!((&last.key, &last.value), (&record::group_key("g"), &None), "the group's tombstone");
}

#[tokio::test(start_paused = true)]
async fn a_stable_group_loses_old_offsets_of_topics_that_nobody_reads() {
    let bench = Bench::new().await;
    let mut member = Client { session_ms: 1_800_000, ..Client::new("c") };
    bench.stable(&mut [&mut member]).await;
    drop(bench.commit(&member, 1).await.unwrap());
    drop(bench.coordinator.commit(member.commit_request("other", 0, 2)).await.unwrap());
    for _ in 0..=7 * DAY / 1_000 {
        bench.pass(1_000).await;
        assert_eq!(bench.heartbeat(&member).await, Ok(()));
    }
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
    assert_eq!(bench.committed_at("other", 0).await.offset, -1);
    assert_eq!(bench.committed().await, 1);
}

#[tokio::test(start_paused = true)]
async fn simple_offsets_age_from_their_commit_or_by_the_retention_asked_for() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    let mut short = Client::simple().commit_request("other", 0, 2);
    short.retention_ms = Some(60_000);
    drop(bench.coordinator.commit(short).await.unwrap());
    bench.pass(59).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    bench.pass(1).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
    assert_eq!(bench.committed().await, 1);
    bench.pass(7 * DAY).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_expires_nothing() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    bench.clock.shift_wall(30 * DAY as i64 * 1_000);
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    // What is written after the jump does not carry it over a restart.
    drop(bench.coordinator.commit(Client::simple().commit_request("other", 0, 2)).await.unwrap());
    let bench = bench.restart().await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    bench.clock.shift_wall(-60 * DAY as i64 * 1_000);
    let bench = bench.restart().await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    assert_eq!(bench.committed().await, 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_age_by_append_times_across_restarts() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    bench.pass(4 * DAY).await;
    // Anything appended tells the log how late it is.
    drop(bench.coordinator.commit(Client::simple().commit_request("other", 0, 2)).await.unwrap());
    let bench = bench.restart().await;
    bench.pass(3 * DAY - 1).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    bench.pass(1).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 1);
    assert_eq!(bench.committed_at("other", 0).await.offset, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_a_long_empty_group_has_the_full_retention() {
    let bench = Bench::new().await;
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    drop(bench.commit(&member, 1).await.unwrap());
    drop(bench.leave(&member.id, None).await.unwrap());
    bench.pass(6 * DAY).await;
    drop(bench.commit(&Client::simple(), 5).await.unwrap());
    bench.pass(2 * DAY).await;
    assert_eq!(bench.coordinator.expire_offsets().await, 0);
    assert_eq!(bench.committed().await, 5);
}

#[tokio::test(start_paused = true)]
async fn gotcha_37_only_empty_groups_are_deleted() {
    let bench = Bench::new().await;
    let name = "g".into();
    assert_eq!(bench.coordinator.delete(&name).await, Err(Error::GroupIdNotFound));
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    drop(bench.commit(&member, 1).await.unwrap());
    assert_eq!(bench.coordinator.delete(&name).await, Err(Error::NonEmptyGroup));
    drop(bench.leave(&member.id, None).await.unwrap());
    assert_eq!(bench.coordinator.delete(&name).await, Ok(()));
    assert_eq!(bench.committed().await, -1);
    assert_eq!(bench.coordinator.delete(&name).await, Err(Error::GroupIdNotFound));
    let bench = bench.restart().await;
    assert_eq!(bench.list().unwrap(), []);
    // The id is free again.
    bench.stable(&mut [&mut Client::new("d")]).await;
    assert_eq!(bench.committed().await, -1);
}

#[tokio::test(start_paused = true)]
async fn deleting_many_offsets_takes_several_batches() {
    let bench = Bench::new().await;
    bench.topics.create("wide", 3, 2_500);
    let mut request = Client::simple().commit_request("wide", 0, 1);
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..2_500).map(|partition| CommitPartition { partition, ..first.clone() }).collect();
    drop(bench.coordinator.commit(request).await.unwrap());
    bench.coordinator.delete(&"g".into()).await.unwrap();
    assert_eq!(bench.log.batches(), [2_500, 1_000, 1_000, 500]);
}

#[tokio::test(start_paused = true)]
async fn gotcha_37_offsets_of_subscribed_topics_are_not_deleted() {
    let bench = Bench::new().await;
    let delete = |topics: Vec<(Name, Vec<i32>)>| {
        bench.coordinator.delete_offsets(OffsetDeleteRequest { group: "g".into(), topics })
    };
    let both = || vec![("orders".into(), vec![0]), ("other".into(), vec![0, 1])];
    assert_eq!(delete(both()).await, Err(Error::GroupIdNotFound));
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    drop(bench.commit(&member, 1).await.unwrap());
    drop(bench.coordinator.commit(member.commit_request("other", 0, 2)).await.unwrap());
    let results = delete(both()).await.unwrap();
    assert_eq!(results[0].partitions, [(0, Err(Error::GroupSubscribedToTopic))]);
    assert_eq!(results[1].partitions, [(0, Ok(())), (1, Ok(()))]);
    assert_eq!(bench.committed().await, 1);
    assert_eq!(bench.committed_at("other", 0).await.offset, -1);
    drop(bench.leave(&member.id, None).await.unwrap());
    assert_eq!(delete(both()).await.unwrap()[0].partitions, [(0, Ok(()))]);
    assert_eq!(bench.committed().await, -1);
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_group_with_another_protocol_are_deleted_only_when_it_is_empty() {
    let bench = Bench::new().await;
    let mut worker = Client { protocol_type: "connect".into(), ..Client::new("w") };
    bench.stable(&mut [&mut worker]).await;
    let topics = vec![("orders".into(), vec![0])];
    let request = OffsetDeleteRequest { group: "g".into(), topics };
    assert_eq!(bench.coordinator.delete_offsets(request).await, Err(Error::NonEmptyGroup));
}

#[tokio::test(start_paused = true)]
async fn gotcha_37_unknown_groups_are_not_described() {
    let bench = Bench::new().await;
    assert_eq!(bench.describe_error().await, Some(Error::GroupIdNotFound));
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    let described = bench.describe().await;
    assert_eq!((described.state.name(), &*described.protocol_name), ("Stable", "range"));
    let first = &described.members[0];
    assert_eq!((&*first.client_id, &*first.client_host), ("c", "/127.0.0.1"));
    assert_eq!((&first.metadata, &first.assignment[..]), (&subscription("orders"), &b"a0"[..]));
    drop(bench.join_new(&mut Client::new("d")).await);
    let described = bench.describe().await;
    assert_eq!((described.state, &*described.protocol_name), (State::PreparingRebalance, ""));
    assert_eq!(described.members[0].metadata, "");
}

#[tokio::test(start_paused = true)]
async fn gotcha_37_groups_are_listed_by_state_and_type_in_any_case() {
    let bench = Bench::new().await;
    bench.stable(&mut [&mut Client::new("c")]).await;
    let mut simple = Client::simple().commit_request("orders", 0, 1);
    simple.group = "simple".into();
    drop(bench.coordinator.commit(simple).await.unwrap());
    let list = |states: &[&str], types: &[&str]| {
        let names = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
        let request = ListRequest { states: names(states), types: names(types) };
        let mut found = bench.coordinator.list(&request).unwrap();
        found.sort_by(|a, b| a.group.cmp(&b.group));
        found.iter().map(|it| format!("{} {}", it.group, it.protocol_type)).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["g consumer", "simple "]);
    assert_eq!(list(&["STABLE"], &[]), ["g consumer"]);
    assert_eq!(list(&["empty", "dead"], &["Classic"]), ["simple "]);
    assert_eq!(list(&[], &["consumer"]), Vec::<String>::new());
    assert_eq!(list(&["Dead"], &[]), Vec::<String>::new());
}

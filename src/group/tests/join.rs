use std::time::Duration;

use super::harness::*;
use crate::group::types::*;
use crate::group::*;

#[test]
fn groups_are_located_as_kafka_locates_them() {
    // Utils.abs(group.hashCode()) % 50, printed by Kafka 4.3.1's kafka-clients.
    let located = [
        ("", 0),
        ("my-group", 12),
        ("connect-cluster", 13),
        ("grüppe", 12),
        ("polygenelubricants", 0), // Integer.MIN_VALUE
        ("😀-group", 43),
        ("console-consumer-12345", 6),
    ];
    for (group, partition) in located {
        assert_eq!(partition_for(group, 50), partition, "{group}");
    }
}

#[tokio::test(start_paused = true)]
async fn gotcha_31_a_loading_coordinator_is_retriable_and_knows_no_unknown_members() {
    let bench = Bench::new().await;
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    bench.log.fail_loads(1);
    let cold = Bench::cold(bench.config, bench.log, bench.topics, bench.clock);
    assert_eq!(cold.heartbeat(&member).await, Ok(()));
    assert_eq!(cold.sync(&member, &[]).await, Err(Error::RebalanceInProgress));
    assert_eq!(cold.commit(&member, 1).await, Err(Error::CoordinatorLoadInProgress));
    assert_eq!(cold.describe_error().await, Some(Error::CoordinatorLoadInProgress));
    // The first load fails; after the pause the next one works.
    cold.pass(2).await;
    cold.load().await;
    assert_eq!(cold.heartbeat(&member).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn gotcha_32_a_pending_member_holds_a_rebalance_up_until_its_session_ends() {
    let bench = Bench::new().await;
    let (mut a, pending) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a]).await;
    let Err(Error::MemberIdRequired(id)) = bench.join(&pending).await else { panic!() };
    assert!(id.starts_with("b-"));
    assert_eq!(bench.state().await, State::Stable);
    let before = bench.clock.now();
    a.joined(bench.join(&a).await.unwrap());
    assert_eq!(bench.clock.now() - before, Duration::from_secs(10));
    let late = bench.join(&Client { id, ..pending }).await;
    assert_eq!(late, Err(Error::UnknownMemberId));
}

#[tokio::test(start_paused = true)]
async fn gotcha_32_versions_below_4_join_in_one_step() {
    let bench = Bench::new().await;
    let mut old = Client { version: 3, ..Client::new("old") };
    let response = bench.join(&old).await.unwrap();
    assert!(response.member_id.starts_with("old-"));
    assert_eq!(response.members.len(), 1);
    assert_eq!(old.joined(response).generation, 1);
}

#[tokio::test(start_paused = true)]
async fn gotcha_32_limits_of_a_join() {
    let config = GroupConfig { max_size: 1, ..GroupConfig::default() };
    let bench = Bench::with(config).await;
    for session_ms in [5_999, 1_800_001, -1] {
        let client = Client { session_ms, ..Client::new("c") };
        assert_eq!(bench.join(&client).await, Err(Error::InvalidSessionTimeout));
    }
    let mut none = Client::new("c");
    none.protocols.clear();
    assert_eq!(bench.join(&none).await, Err(Error::InconsistentGroupProtocol));
    let mut request = none.join_request();
    request.group = "".into();
    assert_eq!(bench.coordinator.join(request).await, Err(Error::InvalidGroupId));
    assert_eq!(bench.list().unwrap(), [], "refused joins leave no group behind");

    bench.stable(&mut [&mut Client::new("first")]).await;
    assert_eq!(bench.join(&Client::new("second")).await, Err(Error::GroupMaxSizeReached));
}

#[tokio::test(start_paused = true)]
async fn gotcha_32_protocols_must_have_one_in_common() {
    let bench = Bench::new().await;
    bench.stable(&mut [&mut Client::new("a")]).await;
    let mut other = Client::new("b");
    other.protocols = vec![("sticky", subscription("orders"))];
    assert_eq!(bench.join(&other).await, Err(Error::InconsistentGroupProtocol));
    let connect = Client { protocol_type: "connect".into(), ..Client::new("w") };
    assert_eq!(bench.join(&connect).await, Err(Error::InconsistentGroupProtocol));
}

#[tokio::test(start_paused = true)]
async fn most_votes_choose_the_protocol_among_the_common_ones() {
    let bench = Bench::new().await;
    let with = |id, names: &[&'static str]| {
        let protocols = names.iter().map(|name| (*name, subscription(name))).collect();
        Client { protocols, ..Client::new(id) }
    };
    let mut clients = [
        with("a", &["range", "sticky", "lone"]),
        with("b", &["sticky", "range"]),
        with("c", &["sticky", "range"]),
    ];
    let mut joins = Vec::new();
    for client in &mut clients {
        joins.push(bench.join_new(client).await);
    }
    for join in joins {
        let response = join.await.unwrap();
        assert_eq!(response.protocol_name.as_deref(), Some("sticky"));
        assert_eq!(response.protocol_type.as_deref(), Some("consumer"));
        for member in response.members {
            assert_eq!(member.metadata, subscription("sticky"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn gotcha_32_the_initial_delay_is_extended_while_members_come() {
    let bench = Bench::new().await;
    let start = bench.clock.now();
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let first = bench.join_new(&mut a).await;
    bench.pass(2).await;
    let second = bench.join_new(&mut b).await;
    assert_eq!(first.await.unwrap().members.len(), 2);
    assert_eq!(second.await.unwrap().generation, 1);
    assert_eq!(bench.clock.now() - start, Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let bench = Bench::new().await;
    let start = bench.clock.now();
    let mut a = Client { rebalance_ms: 4_000, ..Client::new("a") };
    let first = bench.join_new(&mut a).await;
    let mut joins = Vec::new();
    for _ in 0..3 {
        let mut more = Client { rebalance_ms: 4_000, ..Client::new("more") };
        joins.push(bench.join_new(&mut more).await);
        bench.pass(1).await;
    }
    assert_eq!(first.await.unwrap().members.len(), 4);
    assert_eq!(bench.clock.now() - start, Duration::from_secs(4), "3, and 1 of 3 more");
}

#[tokio::test(start_paused = true)]
async fn gotcha_33_a_rebalance_waits_for_all_up_to_the_longest_timeout() {
    let bench = Bench::new().await;
    let mut a = Client { session_ms: 100_000, ..Client::new("a") };
    let mut b = Client { session_ms: 100_000, rebalance_ms: 90_000, ..Client::new("b") };
    bench.stable(&mut [&mut a, &mut b]).await;
    let mut rejoin = bench.join(&a);
    assert_eq!(now(&mut rejoin).await, None);
    assert_eq!(bench.heartbeat(&b).await, Err(Error::RebalanceInProgress));
    let start = bench.clock.now();
    let response = rejoin.await.unwrap();
    assert_eq!(bench.clock.now() - start, Duration::from_secs(90));
    assert_eq!((response.generation, response.members.len()), (2, 1));
    assert_eq!(bench.heartbeat(&b).await, Err(Error::UnknownMemberId));
}

#[tokio::test(start_paused = true)]
async fn gotcha_33_the_leader_sees_all_members_and_others_none() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let (a_join, b_join) = (bench.join_new(&mut a).await, bench.join_new(&mut b).await);
    let (first, second) = (a_join.await.unwrap(), b_join.await.unwrap());
    assert_eq!(first.leader, Some(a.id.clone()));
    assert_eq!(second.leader, Some(a.id.clone()));
    let mut ids: Vec<_> = first.members.iter().map(|member| member.member_id.clone()).collect();
    ids.sort();
    assert_eq!(ids, [a.id, b.id]);
    assert!(first.members.iter().all(|member| member.metadata == subscription("orders")));
    assert_eq!(second.members, []);
}

#[tokio::test(start_paused = true)]
async fn gotcha_34_a_parked_join_is_a_sign_of_life() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    b.rebalance_ms = 50_000;
    b.session_ms = 50_000;
    bench.stable(&mut [&mut a, &mut b]).await;
    // The session of a is 10 s, but it is parked for 40.
    let mut parked = bench.join(&a);
    bench.pass(40).await;
    assert_eq!(now(&mut parked).await, None);
    b.joined(bench.join(&b).await.unwrap());
    assert_eq!(parked.await.unwrap().members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_join_of_a_new_member_is_given_up_after_five_minutes() {
    let bench = Bench::new().await;
    let mut slow = Client { rebalance_ms: 1_000_000, session_ms: 1_000_000, ..Client::new("slow") };
    bench.stable(&mut [&mut slow]).await;
    let start = bench.clock.now();
    let join = bench.join_new(&mut Client::new("new")).await;
    assert_eq!(join.await, Err(Error::UnknownMemberId));
    assert_eq!(bench.clock.now() - start, Duration::from_mins(5));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_away_before_it_knew_its_id_is_not_in_the_generation() {
    let bench = Bench::new().await;
    let stays = bench.join(&Client { version: 1, ..Client::new("stays") });
    for _ in 0..20 {
        drop(bench.join(&Client { version: 1, ..Client::new("gone") }));
    }
    assert_eq!(stays.await.unwrap().members.len(), 1);
    assert_eq!(bench.metric("tidegate_group_members"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_waits_for_ends_with_the_session() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    drop(bench.join_new(&mut a).await);
    bench.pass(4).await;
    assert_eq!(bench.state().await, State::CompletingRebalance);
    bench.pass(10).await;
    assert_eq!(bench.state().await, State::Empty);
}

#[tokio::test(start_paused = true)]
async fn rejoining_unchanged_gives_the_generation_again_except_to_a_stable_leader() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let (a_join, b_join) = (bench.join_new(&mut a).await, bench.join_new(&mut b).await);
    a.joined(a_join.await.unwrap());
    b.joined(b_join.await.unwrap());
    // Between join and sync both get what they may have missed.
    assert_eq!(bench.join(&a).await.unwrap().members.len(), 2);
    assert_eq!(bench.join(&b).await.unwrap().generation, 1);
    bench.assign_all(&[&mut a, &mut b]).await;
    let again = bench.join(&b).await.unwrap();
    assert_eq!((again.generation, again.members.len()), (1, 0));
    // New metadata is a rebalance, as is a leader that rejoins.
    let mut changed = b.clone();
    changed.protocols = vec![("range", subscription("other"))];
    let mut parked = bench.join(&changed);
    assert_eq!(now(&mut parked).await, None);
    assert_eq!(bench.join(&a).await.unwrap().generation, 2);
    assert_eq!(parked.await.unwrap().generation, 2);
    assert_eq!(bench.metric("tidegate_group_rebalances_total{reason=\"member_updated\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_join_of_a_member_replaces_the_first() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    let first = bench.join_new(&mut a).await;
    let second = bench.join(&a);
    assert_eq!(first.await, Err(Error::RebalanceInProgress));
    assert_eq!(second.await.unwrap().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_above_its_lowered_limit_loses_the_last_to_rejoin() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a, &mut b]).await;
    let config = GroupConfig { max_size: 1, ..bench.config.clone() };
    let bench = Bench { config, ..bench }.restart().await;
    assert_eq!(bench.state().await, State::PreparingRebalance);
    let stays = bench.join(&b);
    assert_eq!(bench.join(&a).await, Err(Error::GroupMaxSizeReached));
    assert_eq!(stays.await.unwrap().members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_what_is_parked_and_what_comes() {
    let bench = Bench::new().await;
    let parked = bench.join_new(&mut Client::new("a")).await;
    bench.coordinator.close();
    assert_eq!(parked.await, Err(Error::CoordinatorNotAvailable));
    assert_eq!(bench.join(&Client::new("b")).await, Err(Error::CoordinatorNotAvailable));
    assert_eq!(bench.list(), Err(Error::CoordinatorNotAvailable));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_record_can_hold_is_refused() {
    let bench = Bench::new().await;
    let client = Client::new(&"x".repeat(40_000));
    assert_eq!(bench.join(&client).await, Err(Error::InvalidRequest));
    let name: Name = "g".repeat(40_000).into();
    assert_eq!(bench.coordinator.delete(&name).await, Err(Error::InvalidGroupId));
}

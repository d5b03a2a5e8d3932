use std::time::Duration;

use super::harness::*;
use crate::group::types::*;
use crate::group::*;

/// Two members between join and sync; the first leads.
async fn joined(bench: &Bench) -> (Client, Client) {
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let (a_join, b_join) = (bench.join_new(&mut a).await, bench.join_new(&mut b).await);
    a.joined(a_join.await.unwrap());
    b.joined(b_join.await.unwrap());
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn gotcha_33_followers_are_parked_until_the_leader_syncs() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    let mut parked = bench.sync(&b, &[]);
    assert_eq!(now(&mut parked).await, None);
    let leaders = bench.sync(&a, &[(&a, "for a"), (&b, "for b")]).await.unwrap();
    assert_eq!(leaders.assignment, "for a");
    assert_eq!(leaders.protocol_name.as_deref(), Some("range"));
    assert_eq!(leaders.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(parked.await.unwrap().assignment, "for b");
    // Asked again, the stable group answers at once.
    assert_eq!(bench.sync(&b, &[]).await.unwrap().assignment, "for b");
}

#[tokio::test(start_paused = true)]
async fn gotcha_33_a_member_that_the_leader_forgot_gets_an_empty_assignment() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    let parked = bench.sync(&b, &[]);
    let stranger = Client { id: "stranger".into(), ..Client::new("x") };
    drop(bench.sync(&a, &[(&a, "all"), (&stranger, "none of it")]).await.unwrap());
    assert_eq!(parked.await.unwrap().assignment, "");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_answered_before_the_assignment_is_durable() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    bench.log.hold();
    let mut follower = bench.sync(&b, &[]);
    let mut leader = bench.sync(&a, &[(&b, "for b")]);
    let mut describe = bench.coordinator.describe(&"g".into());
    bench.pass(30).await;
    assert_eq!(now(&mut leader).await, None);
    assert_eq!(now(&mut follower).await, None);
    assert_eq!(now(&mut describe).await, None);
    bench.log.release();
    assert_eq!(leader.await.unwrap().assignment, "");
    assert_eq!(follower.await.unwrap().assignment, "for b");
    assert_eq!(describe.await.unwrap().state, State::Stable);
}

#[tokio::test(start_paused = true)]
async fn sessions_begin_when_the_assignment_is_durable() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    bench.log.hold();
    let follower = bench.sync(&b, &[]);
    let leader = bench.sync(&a, &[]);
    bench.pass(9).await;
    bench.log.release();
    drop((leader.await.unwrap(), follower.await.unwrap()));
    bench.pass(9).await;
    assert_eq!(bench.heartbeat(&a).await, Ok(()));
    assert_eq!(bench.heartbeat(&b).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_refused_assignment_changes_nothing() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    let mut parked = bench.sync(&b, &[]);
    for (refusal, error) in [
        (AppendRefused::Unavailable, Error::CoordinatorNotAvailable),
        (AppendRefused::TooLarge, Error::GroupTooLarge),
    ] {
        bench.log.refuse(Some(refusal));
        assert_eq!(bench.sync(&a, &[(&b, "x")]).await, Err(error));
        assert_eq!(bench.state().await, State::CompletingRebalance);
        assert_eq!(now(&mut parked).await, None);
    }
    bench.log.refuse(None);
    drop(bench.sync(&a, &[(&b, "y")]).await.unwrap());
    assert_eq!(parked.await.unwrap().assignment, "y");
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_refuses_the_waiting_and_the_group_comes_back_as_the_log_has_it() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    bench.stable(&mut [&mut a]).await;
    let kept = a.clone();
    a.joined(bench.join(&a).await.unwrap());
    assert_eq!(a.generation, 2);
    bench.log.hold();
    let mut sync = bench.sync(&a, &[(&a, "lost")]);
    let mut commit = bench.commit(&kept, 7);
    assert_eq!(now(&mut sync).await, None);
    assert_eq!(now(&mut commit).await, Some(Err(Error::IllegalGeneration)));
    bench.log.lose();
    assert_eq!(sync.await, Err(Error::CoordinatorNotAvailable));
    bench.pass(2).await;
    bench.load().await;
    assert_eq!(bench.heartbeat(&a).await, Err(Error::IllegalGeneration));
    assert_eq!(bench.heartbeat(&kept).await, Ok(()));
    assert_eq!(bench.sync(&kept, &[]).await.unwrap().assignment, "a0");
}

#[tokio::test(start_paused = true)]
async fn members_that_never_sync_are_expelled_after_the_rebalance_timeout() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    (a.rebalance_ms, b.rebalance_ms) = (12_000, 12_000);
    let (a_join, b_join) = (bench.join_new(&mut a).await, bench.join_new(&mut b).await);
    a.joined(a_join.await.unwrap());
    b.joined(b_join.await.unwrap());
    drop(bench.sync(&a, &[(&b, "x")]).await.unwrap());
    for _ in 0..2 {
        bench.pass(5).await;
        assert_eq!(bench.heartbeat(&a).await, Ok(()));
        assert_eq!(bench.heartbeat(&b).await, Ok(()));
    }
    bench.pass(3).await;
    assert_eq!(bench.heartbeat(&b).await, Err(Error::UnknownMemberId));
    assert_eq!(bench.heartbeat(&a).await, Err(Error::RebalanceInProgress));
    assert_eq!(bench.metric("tidegate_group_rebalances_total{reason=\"sync_expired\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_never_syncs_does_not_hold_the_others_for_ever() {
    let bench = Bench::new().await;
    let (mut a, b) = joined(&bench).await;
    let parked = bench.sync(&b, &[]);
    // The leader's session ends first: the follower is to rejoin.
    assert_eq!(parked.await, Err(Error::RebalanceInProgress));
    assert_eq!(bench.sync(&a, &[]).await, Err(Error::UnknownMemberId));
    let response = bench.join(&b).await.unwrap();
    assert_eq!((response.leader, response.generation), (Some(b.id), 2));
    a.id = "".into();
    assert!(matches!(bench.join(&a).await, Err(Error::MemberIdRequired(_))));
}

#[tokio::test(start_paused = true)]
async fn sync_checks_member_generation_protocol_and_state() {
    let bench = Bench::new().await;
    let (a, b) = joined(&bench).await;
    let send = |change: &dyn Fn(&mut SyncRequest)| {
        let mut request = a.sync_request(&[]);
        change(&mut request);
        bench.coordinator.sync(request)
    };
    assert_eq!(send(&|it| it.member_id = "x".into()).await, Err(Error::UnknownMemberId));
    assert_eq!(send(&|it| it.generation = 0).await, Err(Error::IllegalGeneration));
    assert_eq!(send(&|it| it.group = "unknown".into()).await, Err(Error::UnknownMemberId));
    assert_eq!(send(&|it| it.group = "".into()).await, Err(Error::InvalidGroupId));
    let inconsistent = Err(Error::InconsistentGroupProtocol);
    assert_eq!(send(&|it| it.protocol_type = Some("connect".into())).await, inconsistent);
    assert_eq!(send(&|it| it.protocol_name = Some("sticky".into())).await, inconsistent);
    let parked = bench.sync(&b, &[]);
    let mut changed = a.clone();
    changed.protocols = vec![("range", subscription("other"))];
    let rejoin = bench.join(&changed);
    assert_eq!(parked.await, Err(Error::RebalanceInProgress));
    assert_eq!(send(&|_| {}).await, Err(Error::RebalanceInProgress));
    drop(rejoin);
}

#[tokio::test(start_paused = true)]
async fn gotcha_34_heartbeats_follow_the_state_of_the_group() {
    let bench = Bench::new().await;
    let (mut a, b) = joined(&bench).await;
    assert_eq!(bench.heartbeat(&a).await, Ok(()), "between join and sync");
    assert_eq!(bench.heartbeat(&Client::new("x")).await, Err(Error::UnknownMemberId));
    drop(bench.sync(&a, &[]).await.unwrap());
    drop(bench.sync(&b, &[]).await.unwrap());
    a.generation -= 1;
    assert_eq!(bench.heartbeat(&a).await, Err(Error::IllegalGeneration));
    a.generation += 1;
    drop(bench.join(&a));
    assert_eq!(bench.heartbeat(&b).await, Err(Error::RebalanceInProgress));
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_removed_after_its_session() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    b.session_ms = 30_000;
    bench.stable(&mut [&mut a, &mut b]).await;
    bench.pass(9).await;
    assert_eq!(bench.heartbeat(&b).await, Ok(()));
    bench.pass(2).await;
    assert_eq!(bench.heartbeat(&b).await, Err(Error::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&a).await, Err(Error::UnknownMemberId));
    assert_eq!(bench.join(&b).await.unwrap().leader, Some(b.id));
    assert_eq!(bench.metric("tidegate_group_rebalances_total{reason=\"session_expired\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_commits_keep_a_member_alive() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    bench.stable(&mut [&mut a]).await;
    for round in 0..10 {
        bench.clock.sleep(Duration::from_millis(9_900)).await;
        if round % 2 == 0 {
            assert_eq!(bench.heartbeat(&a).await, Ok(()));
        } else {
            drop(bench.commit(&a, round).await.unwrap());
        }
    }
    assert_eq!(bench.state().await, State::Stable);
}

#[tokio::test(start_paused = true)]
async fn groups_and_members_are_counted_by_state() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a, &mut b]).await;
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Stable\"}"), 1);
    assert_eq!(bench.metric("tidegate_group_members"), 2);
    bench.pass(60).await;
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Stable\"}"), 0);
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Empty\"}"), 1);
    assert_eq!(bench.metric("tidegate_group_members"), 0);
}

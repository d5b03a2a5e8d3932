use super::harness::*;
use crate::group::types::*;
use crate::group::*;

/// The same instance after a restart of its client: without the member id.
fn restarted(member: &Client) -> Client {
    Client { id: "".into(), client_id: "restarted".into(), generation: -1, ..member.clone() }
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    let bench = Bench::new().await;
    let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
    bench.stable(&mut [&mut lead, &mut member]).await;
    let mut again = restarted(&member);
    again.session_ms = 20_000;
    let response = bench.join(&again).await.unwrap();
    assert_eq!((response.generation, response.skip_assignment), (1, false));
    assert_eq!(response.leader, Some(lead.id.clone()));
    again.joined(response);
    assert_ne!(again.id, member.id);
    assert_eq!(bench.sync(&again, &[]).await.unwrap().assignment, "a1");
    assert_eq!(bench.heartbeat(&lead).await, Ok(()), "no rebalance");

    assert_eq!(bench.heartbeat(&member).await, Err(Error::FencedInstanceId));
    assert_eq!(bench.sync(&member, &[]).await, Err(Error::FencedInstanceId));
    assert_eq!(bench.commit(&member, 1).await, Err(Error::FencedInstanceId));
    assert_eq!(bench.join(&member).await, Err(Error::FencedInstanceId));
    let left = bench.leave(&member.id, Some("i-2")).await.unwrap();
    assert_eq!(left[0].result, Err(Error::FencedInstanceId));

    let described = bench.describe().await;
    let found = described.members.iter().find(|it| it.member_id == again.id).unwrap();
    assert_eq!(&*found.client_id, "restarted", "client id and timeouts are the new client's");
    bench.pass(9).await;
    assert_eq!(bench.heartbeat(&lead).await, Ok(()));
    bench.pass(9).await;
    assert_eq!(bench.heartbeat(&lead).await, Ok(()));
    assert_eq!(bench.heartbeat(&again).await, Ok(()), "18 s of a session of 20 s");
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_a_static_leader_that_comes_back_may_skip_the_assignment() {
    for version in [9, 8] {
        let bench = Bench::new().await;
        let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
        bench.stable(&mut [&mut lead, &mut member]).await;
        let mut again = Client { version, ..restarted(&lead) };
        let response = bench.join(&again).await.unwrap();
        if version == 9 {
            assert!(response.skip_assignment);
            assert_eq!(response.leader, Some(response.member_id.clone()));
            assert_eq!(response.members.len(), 2);
        } else {
            // Told of its former id, an older client takes itself for a follower.
            assert!(!response.skip_assignment);
            assert_eq!(response.leader, Some(lead.id));
            assert_eq!(response.members, []);
        }
        again.joined(response);
        assert_eq!(bench.sync(&again, &[]).await.unwrap().assignment, "a0");
    }
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_replacement_between_join_and_sync_is_a_rebalance() {
    // KAFKA-9801: the leader may assign to the old id.
    let bench = Bench::new().await;
    let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
    let (first, second) = (bench.join(&lead), bench.join(&member));
    lead.joined(first.await.unwrap());
    member.joined(second.await.unwrap());
    let parked = bench.sync(&member, &[]);
    let mut back = bench.join(&restarted(&member));
    assert_eq!(now(&mut back).await, None);
    assert_eq!(parked.await, Err(Error::FencedInstanceId));
    assert_eq!(bench.heartbeat(&lead).await, Err(Error::RebalanceInProgress));
    assert_eq!(bench.join(&lead).await.unwrap().members.len(), 2);
    assert_eq!(back.await.unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_replacement_of_a_parked_join_fences_it() {
    let bench = Bench::new().await;
    let member = Client::fixed("i-1");
    let parked = bench.join(&member);
    let back = bench.join(&member);
    assert_eq!(parked.await, Err(Error::FencedInstanceId));
    assert_eq!(back.await.unwrap().members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_replacement_that_changes_the_chosen_protocol_is_a_rebalance() {
    let bench = Bench::new().await;
    let both = vec![("range", subscription("orders")), ("sticky", subscription("orders"))];
    let mut lead = Client { protocols: both, ..Client::fixed("i-1") };
    bench.stable(&mut [&mut lead]).await;
    let mut again = restarted(&lead);
    again.protocols.reverse();
    let response = bench.join(&again).await.unwrap();
    assert_eq!((response.generation, response.protocol_name.as_deref()), (2, Some("sticky")));
}

#[tokio::test(start_paused = true)]
async fn gotcha_35_a_static_member_leaves_with_its_session_or_by_its_instance_id() {
    let bench = Bench::new().await;
    let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
    lead.session_ms = 100_000;
    bench.stable(&mut [&mut lead, &mut member]).await;
    bench.pass(11).await;
    assert_eq!(bench.heartbeat(&member).await, Err(Error::UnknownMemberId));
    assert_eq!(bench.heartbeat(&lead).await, Err(Error::RebalanceInProgress));

    let left = bench.leave("", Some("i-1")).await.unwrap();
    assert_eq!(left[0].result, Ok(()));
    assert_eq!(bench.heartbeat(&lead).await, Err(Error::UnknownMemberId));
    let left = bench.leave("", Some("i-1")).await.unwrap();
    assert_eq!(left[0].result, Err(Error::UnknownMemberId));
}

#[tokio::test(start_paused = true)]
async fn a_static_member_keeps_its_place_when_it_misses_a_rebalance() {
    let bench = Bench::new().await;
    let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
    (lead.rebalance_ms, member.rebalance_ms) = (5_000, 5_000);
    member.session_ms = 60_000;
    bench.stable(&mut [&mut lead, &mut member]).await;
    let response = bench.join(&lead).await.unwrap();
    assert_eq!(response.members.len(), 2, "its session still runs");
}

#[tokio::test(start_paused = true)]
async fn a_refused_replacement_leaves_the_old_member_in_its_place() {
    let bench = Bench::new().await;
    let (mut lead, mut member) = (Client::fixed("i-1"), Client::fixed("i-2"));
    bench.stable(&mut [&mut lead, &mut member]).await;
    bench.log.refuse(Some(AppendRefused::Unavailable));
    assert_eq!(bench.join(&restarted(&lead)).await, Err(Error::CoordinatorNotAvailable));
    bench.log.refuse(None);
    assert_eq!(bench.heartbeat(&lead).await, Ok(()));
    assert_eq!(bench.sync(&lead, &[]).await.unwrap().assignment, "a0");
    assert_eq!(bench.describe().await.members.len(), 2);
    assert_eq!(bench.join(&restarted(&lead)).await.unwrap().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_instance_with_a_member_id_is_unknown() {
    let bench = Bench::new().await;
    bench.stable(&mut [&mut Client::fixed("i-1")]).await;
    let stranger = Client { id: "i-9-x".into(), ..Client::fixed("i-9") };
    assert_eq!(bench.join(&stranger).await, Err(Error::UnknownMemberId));
}

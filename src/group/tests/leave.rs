use super::harness::*;
use crate::group::types::*;

#[tokio::test(start_paused = true)]
async fn leaving_rebalances_the_rest_and_the_last_empties_the_group() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a, &mut b]).await;
    let left = bench.leave(&a.id, None).await.unwrap();
    assert_eq!((&left[0].member_id, &left[0].result), (&a.id, &Ok(())));
    assert_eq!(bench.heartbeat(&a).await, Err(Error::UnknownMemberId));
    b.joined(bench.join(&b).await.unwrap());
    assert!(b.leads());
    drop(bench.leave(&b.id, None).await.unwrap());
    let described = bench.describe().await;
    assert_eq!((described.state, &*described.protocol_type), (State::Empty, "consumer"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_member_and_rebalances_once() {
    let bench = Bench::new().await;
    let (mut a, mut b, mut c) = (Client::fixed("i-1"), Client::fixed("i-2"), Client::new("c"));
    bench.stable(&mut [&mut a, &mut b, &mut c]).await;
    let leaving = |id: &str, instance: Option<&str>| LeavingMember {
        member_id: id.into(),
        instance_id: instance.map(Into::into),
        reason: Some("scaled down".into()),
    };
    let members = vec![
        leaving("", Some("i-1")),
        leaving(&b.id, Some("i-1")),
        leaving(&b.id, Some("i-2")),
        leaving("unknown", None),
        leaving("", None),
    ];
    let left = bench.coordinator.leave(LeaveRequest { group: "g".into(), members }).await.unwrap();
    let results: Vec<_> = left.into_iter().map(|member| member.result).collect();
    let unknown = || Err(Error::UnknownMemberId);
    assert_eq!(results, [Ok(()), unknown(), Ok(()), unknown(), unknown()]);
    assert_eq!(bench.metric("tidegate_group_rebalances_total{reason=\"member_left\"}"), 1);
    assert_eq!(bench.join(&c).await.unwrap().members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_an_unknown_group_is_an_error_of_each_member() {
    let bench = Bench::new().await;
    let left = bench.leave("m", None).await.unwrap();
    assert_eq!(left[0].result, Err(Error::UnknownMemberId));
    assert_eq!(bench.list().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_while_its_join_is_parked_is_answered() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    let parked = bench.join_new(&mut a).await;
    drop(bench.leave(&a.id, None).await.unwrap());
    assert_eq!(parked.await, Err(Error::UnknownMemberId));
}

#[tokio::test(start_paused = true)]
async fn a_pending_member_may_leave() {
    let bench = Bench::new().await;
    let Err(Error::MemberIdRequired(id)) = bench.join(&Client::new("a")).await else { panic!() };
    assert_eq!(bench.list().unwrap().len(), 1);
    assert_eq!(bench.leave(&id, None).await.unwrap()[0].result, Ok(()));
    tokio::task::yield_now().await;
    assert_eq!(bench.list().unwrap(), [], "nothing is left of the group");
}

#[tokio::test(start_paused = true)]
async fn a_leave_is_answered_when_the_empty_group_is_durable() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    bench.stable(&mut [&mut a]).await;
    bench.log.hold();
    let mut leave = bench.leave(&a.id, None);
    assert_eq!(now(&mut leave).await, None);
    bench.log.release();
    assert_eq!(leave.await.unwrap()[0].result, Ok(()));
}

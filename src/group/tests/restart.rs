use bytes::Bytes;

use super::harness::*;
use crate::group::record::{GroupValue, MemberValue, OffsetValue, group_key, offset_key};
use crate::group::types::*;
use crate::group::*;

#[tokio::test(start_paused = true)]
async fn a_restart_causes_no_rebalance_and_loses_no_commit() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::fixed("i-1"));
    bench.stable(&mut [&mut a, &mut b]).await;
    drop(bench.commit(&b, 77).await.unwrap());
    bench.pass(9).await;
    let before = bench.describe().await;
    let bench = bench.restart().await;
    assert_eq!(bench.describe().await, before);
    // Nine seconds of a session of ten had passed; each has a full one now.
    bench.pass(9).await;
    assert_eq!(bench.heartbeat(&a).await, Ok(()));
    assert_eq!(bench.heartbeat(&b).await, Ok(()));
    assert_eq!(bench.sync(&b, &[]).await.unwrap().assignment, "a1");
    assert_eq!(bench.commit(&a, 78).await.unwrap().len(), 1);
    assert_eq!(bench.committed().await, 78);
    // The leader is still the leader: its join is a rebalance, that of the other is not.
    assert_eq!(bench.join(&b).await.unwrap().generation, 1);
    let mut leaders = bench.join(&a);
    assert_eq!(now(&mut leaders).await, None);
    assert_eq!(bench.heartbeat(&b).await, Err(Error::RebalanceInProgress));
}

#[tokio::test(start_paused = true)]
async fn members_that_do_not_come_back_after_a_restart_expire() {
    let bench = Bench::new().await;
    bench.stable(&mut [&mut Client::new("a")]).await;
    let bench = bench.restart().await;
    bench.pass(11).await;
    assert_eq!(bench.state().await, State::Empty);
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Empty\"}"), 1);
    let bench = bench.restart().await;
    assert_eq!(bench.state().await, State::Empty);
    assert_eq!(&*bench.describe().await.protocol_type, "consumer");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_durable_is_gone_and_was_never_answered() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    bench.stable(&mut [&mut a]).await;
    drop(bench.commit(&a, 1).await.unwrap());
    bench.log.hold();
    let mut lost = bench.commit(&a, 2);
    assert_eq!(now(&mut lost).await, None);
    let bench = bench.restart().await;
    assert_eq!(bench.committed().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_static_replacement_survives_a_restart() {
    let bench = Bench::new().await;
    let mut old = Client::fixed("i-1");
    bench.stable(&mut [&mut old]).await;
    let mut new = Client { id: "".into(), ..old.clone() };
    new.joined(bench.join(&new.clone()).await.unwrap());
    let bench = bench.restart().await;
    assert_eq!(bench.heartbeat(&new).await, Ok(()));
    assert_eq!(bench.heartbeat(&old).await, Err(Error::FencedInstanceId));
}

#[tokio::test(start_paused = true)]
async fn a_group_between_join_and_sync_comes_back_in_its_last_stable_generation() {
    let bench = Bench::new().await;
    let mut a = Client::new("a");
    bench.stable(&mut [&mut a]).await;
    let first = a.clone();
    a.joined(bench.join(&a.clone()).await.unwrap());
    let bench = bench.restart().await;
    assert_eq!(bench.heartbeat(&a).await, Err(Error::IllegalGeneration));
    assert_eq!(bench.heartbeat(&first).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn records_of_other_kinds_and_kafkas_own_are_read() {
    let bench = Bench::new().await;
    let member = MemberValue {
        member_id: "kafkas".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: -1,
        session_timeout_ms: 30_000,
        subscription: subscription("orders"),
        assignment: Bytes::from_static(b"its"),
    };
    let group = GroupValue {
        protocol_type: "consumer".into(),
        generation: 9,
        protocol: Some("range".into()),
        leader: Some("not there".into()),
        state_timestamp_ms: -1,
        members: vec![member],
    };
    let offset = OffsetValue {
        offset: 4,
        leader_epoch: 1,
        metadata: "".into(),
        commit_timestamp_ms: 0,
        expire_timestamp_ms: None,
        topic_id: None,
    };
    let unknown = Bytes::from_static(&[0, 3, 0, 1, b'g']);
    bench.log.push("g", Record { key: unknown, value: Some(Bytes::new()) });
    bench.log.push("g", Record { key: group_key("g"), value: Some(group.encode()) });
    let key = offset_key("g", "orders", 0);
    bench.log.push("g", Record { key, value: Some(offset.encode()) });
    let bench = bench.restart().await;
    let mut member = Client { id: "kafkas".into(), generation: 9, ..Client::new("c") };
    assert_eq!(bench.heartbeat(&member).await, Ok(()));
    assert_eq!(bench.committed().await, 4);
    member.joined(bench.join(&member.clone()).await.unwrap());
    assert!(member.leads(), "a leader that is no member is replaced");
    assert_eq!(member.generation, 10);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_record_keeps_its_partition_from_loading() {
    let bench = Bench::new().await;
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    let newer = Bytes::from_static(&[0, 9]);
    bench.log.push("g", Record { key: offset_key("g", "orders", 1), value: Some(newer) });
    let cold = Bench::cold(bench.config, bench.log.crash(), bench.topics, bench.clock);
    for _ in 0..3 {
        assert_eq!(cold.describe_error().await, Some(Error::CoordinatorLoadInProgress));
        cold.pass(2).await;
    }
    assert!(cold.metric("tidegate_group_load_failures_total") >= 3);
}

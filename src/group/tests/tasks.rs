use super::harness::*;
use crate::group::types::*;

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_has_no_task_and_an_unknown_one_leaves_nothing() {
    let bench = Bench::new().await;
    assert_eq!(tasks(), 0);
    let mut member = Client::new("c");
    bench.stable(&mut [&mut member]).await;
    assert_eq!(tasks(), 1);
    drop(bench.leave(&member.id, None).await.unwrap());
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
    // Reading starts none, a commit only for its own time.
    assert_eq!(bench.state().await, State::Empty);
    assert_eq!(bench.committed().await, -1);
    assert_eq!(tasks(), 0);
    drop(bench.commit(&Client::simple(), 1).await.unwrap());
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
    assert_eq!(bench.list().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_starts_tasks_only_for_groups_with_members() {
    let bench = Bench::new().await;
    bench.stable(&mut [&mut Client::new("c")]).await;
    let mut simple = Client::simple().commit_request("orders", 0, 1);
    simple.group = "simple".into();
    drop(bench.coordinator.commit(simple).await.unwrap());
    let bench = bench.restart().await;
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 1);
    assert_eq!(bench.list().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_and_the_rest_is_handled_in_order() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    bench.log.stall(true);
    let mut commits: Vec<_> = (0..5_000).map(|offset| bench.commit(&simple, offset)).collect();
    let last = commits.pop().unwrap();
    assert_eq!(last.await, Err(Error::CoordinatorLoadInProgress));
    bench.log.stall(false);
    let mut taken = 0;
    for (offset, commit) in commits.into_iter().enumerate() {
        if commit.await.is_ok() {
            taken += 1;
            assert_eq!(taken, offset + 1, "nothing is taken after what was refused");
        }
    }
    assert!((4_000..4_999).contains(&taken));
    assert_eq!(bench.committed().await, taken as i64 - 1);
    let refused = bench.metric("tidegate_group_requests_refused_total");
    assert_eq!(refused, 5_000 - taken as i64);
}

#[tokio::test(start_paused = true)]
async fn sessions_run_on_while_the_log_has_no_room() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    bench.stable(&mut [&mut a, &mut b]).await;
    bench.log.stall(true);
    let commit = bench.commit(&a, 1);
    let heartbeat = bench.heartbeat(&b);
    bench.pass(30).await;
    bench.log.stall(false);
    drop(commit.await.unwrap());
    // It came in time, and is not to blame for the log.
    assert_eq!(heartbeat.await, Ok(()));
    assert_eq!(bench.state().await, State::Stable);
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_read_again_only_when_its_former_tasks_have_ended() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    bench.log.hold();
    let mut first = bench.commit(&simple, 1);
    assert_eq!(now(&mut first).await, None);
    // Another group of the same partition hangs in an append.
    let twin = (0..1_000).map(|i| format!("g{i}")).find(|it| same_partition(it)).unwrap();
    let mut request = simple.commit_request("orders", 0, 9);
    request.group = twin.as_str().into();
    bench.log.stall(true);
    let mut hanging = bench.coordinator.commit(request.clone());
    let queued = bench.coordinator.commit(request);
    assert_eq!(now(&mut hanging).await, None);
    bench.log.lose();
    assert_eq!(first.await, Err(Error::CoordinatorNotAvailable));
    bench.pass(10).await;
    assert_eq!(bench.list(), Err(Error::CoordinatorLoadInProgress));
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Empty\"}"), 0);
    bench.log.stall(false);
    assert!(hanging.await.is_ok());
    assert_eq!(queued.await, Err(Error::CoordinatorNotAvailable));
    bench.load().await;
    let listed = bench.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(*listed[0].group, *twin, "what the former task appended is read");
    assert_eq!(bench.metric("tidegate_group_groups{state=\"Empty\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_answers_what_is_parked_and_the_group_is_read_again() {
    let bench = Bench::new().await;
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    let joins = [bench.join_new(&mut a).await, bench.join_new(&mut b).await];
    for (client, join) in [&mut a, &mut b].into_iter().zip(joins) {
        client.joined(join.await.unwrap());
    }
    assert!(a.leads());
    let mut parked = bench.sync(&b, &[]);
    assert_eq!(now(&mut parked).await, None);
    bench.log.panic_once();
    let mut leader = bench.sync(&a, &[(&a, "a0"), (&b, "a1")]);
    let mut queued = bench.commit(&a, 1);
    assert_eq!(now(&mut leader).await, Some(Err(Error::CoordinatorNotAvailable)));
    assert_eq!(now(&mut parked).await, Some(Err(Error::CoordinatorNotAvailable)));
    assert_eq!(now(&mut queued).await, Some(Err(Error::CoordinatorNotAvailable)));
    assert_eq!(bench.metric("tidegate_group_members"), 0);
    assert_eq!(bench.pool.used(), 0);
    bench.pass(2).await;
    bench.load().await;
    // Nothing of it is in the log: the members come as new ones.
    bench.stable(&mut [&mut Client::new("a"), &mut Client::new("b")]).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_due_does_not_wait_for_a_timer() {
    let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    let bench = Bench::with(config).await;
    let mut member = Client::new("c");
    let mut join = bench.join_new(&mut member).await;
    // The paused clock never moves while a task is ready: an answer without the passing of time.
    assert!(now(&mut join).await.is_some_and(|joined| joined.is_ok()));
}

fn same_partition(group: &str) -> bool {
    crate::group::partition_for(group, PARTITIONS) == crate::group::partition_for("g", PARTITIONS)
}

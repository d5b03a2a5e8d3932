//! What groups may hold, and what a hostile client makes of it.

use bytes::Bytes;

use super::harness::*;
use crate::budget::{BytePool, Pool};
use crate::clock::Clock;
use crate::group::types::*;

/// A coordinator whose groups may hold `bytes`.
async fn bench(bytes: usize) -> Bench {
    let full = Bench::new().await;
    let pool = BytePool::new(Pool::Groups, bytes);
    let bench = Bench::with_pool(full.config, full.log, full.topics, full.clock, pool);
    bench.load().await;
    bench
}

fn with_metadata(client_id: &str, bytes: usize) -> Client {
    let mut client = Client::new(client_id);
    let mut metadata = subscription("orders").to_vec();
    metadata.resize(bytes, 0);
    client.protocols = vec![("range", Bytes::from(metadata))];
    client
}

#[tokio::test(start_paused = true)]
async fn members_beyond_the_pool_are_refused_and_those_there_are_go_on() {
    let bench = bench(256 << 10).await;
    let mut first = with_metadata("first", 100_000);
    bench.stable(&mut [&mut first]).await;
    let held = bench.pool.used();
    assert!((100_000..120_000).contains(&held), "{held}");
    let refused = Err(Error::GroupMemoryExhausted);
    let second = Client { version: 3, ..with_metadata("second", 200_000) };
    assert_eq!(bench.join(&second).await.map(drop), refused);
    assert_eq!(bench.pool.used(), held, "what a refused join needed is not kept");
    assert_eq!(bench.metric("tidegate_group_memory_refusals_total"), 1);
    assert_eq!(bench.state().await, State::Stable);
    // Nothing is left; the member may do all that needs no more than it has.
    let rest = bench.pool.try_take(bench.pool.capacity() - held).unwrap();
    assert_eq!(bench.heartbeat(&first).await, Ok(()));
    first.joined(bench.join(&first).await.unwrap());
    first.protocols = with_metadata("", 50_000).protocols;
    let mut again = bench.join(&first);
    bench.pass(1).await;
    first.joined(now(&mut again).await.unwrap().unwrap());
    assert_eq!(
        bench.sync(&first, &[(&first, "a0")]).await.map(|synced| synced.assignment),
        Ok("a0".into())
    );
    assert_eq!(bench.commit(&first, 1).await.map(drop), Ok(()));
    let rest = (rest, bench.pool.try_take(bench.pool.capacity() - bench.pool.used()));
    // A new group is not begun, not even for its offsets.
    let mut other = first.join_request();
    (other.group, other.member_id) = ("other".into(), "".into());
    assert_eq!(bench.coordinator.join(other).await.map(drop), refused);
    let mut other = Client::simple().commit_request("orders", 0, 1);
    other.group = "other".into();
    assert_eq!(bench.coordinator.commit(other).await.map(drop), Err(Error::GroupMemoryExhausted));
    assert_eq!(bench.list().unwrap().len(), 1);
    drop(rest);
    drop(bench.leave(&first.id, None).await.unwrap());
    bench.coordinator.delete(&"g".into()).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(bench.pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn assignments_and_offsets_are_charged() {
    let bench = bench(256 << 10).await;
    let mut member = Client { version: 3, ..with_metadata("c", 1_000) };
    member.joined(bench.join(&member).await.unwrap());
    let large = "a".repeat(300_000);
    let refused = bench.sync(&member, &[(&member, &large)]).await;
    assert_eq!(refused, Err(Error::GroupMemoryExhausted));
    assert!(bench.sync(&member, &[(&member, "a0")]).await.is_ok());
    bench.topics.create("many", 3, 10_000);
    let mut taken = 0;
    let refused = loop {
        let mut request = member.commit_request("many", taken, 1);
        request.topics[0].partitions[0].metadata = "m".repeat(4_000).as_str().into();
        match bench.coordinator.commit(request).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::GroupMemoryExhausted);
    assert!((40..64).contains(&taken), "{taken}");
    // One that is there is replaced.
    let mut request = member.commit_request("many", 0, 2);
    request.topics[0].partitions[0].metadata = "n".repeat(4_000).as_str().into();
    assert!(bench.coordinator.commit(request).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_log_has_is_loaded_beyond_the_pool() {
    let first = Bench::new().await;
    let mut member = with_metadata("c", 100_000);
    first.stable(&mut [&mut member]).await;
    first.coordinator.close();
    let pool = BytePool::new(Pool::Groups, 64 << 10);
    let (log, clock): (_, Clock) = (first.log.crash(), first.clock.clone());
    let bench = Bench::with_pool(first.config, log, first.topics, clock, pool);
    bench.load().await;
    assert_eq!(bench.heartbeat(&member).await, Ok(()));
    assert_eq!(
        bench.commit(&Client { generation: 1, ..member.clone() }, 1).await.map(drop),
        Err(Error::GroupMemoryExhausted)
    );
    let mut other = Client::simple().commit_request("orders", 0, 1);
    other.group = "other".into();
    assert_eq!(
        bench.coordinator.commit(other.clone()).await.map(drop),
        Err(Error::GroupMemoryExhausted)
    );
    drop(bench.leave(&member.id, None).await.unwrap());
    assert!(bench.coordinator.commit(other).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn ids_given_out_never_outnumber_the_members_a_group_may_have() {
    let config = GroupConfig { max_size: 2, ..GroupConfig::default() };
    let bench = Bench::with(config).await;
    let mut clients: Vec<Client> = (0..3).map(|i| Client::new(&format!("c{i}"))).collect();
    for client in &mut clients {
        let Err(Error::MemberIdRequired(id)) = bench.join(client).await else { panic!("no id") };
        client.id = id;
        bench.pass(1).await;
    }
    let held = bench.pool.used();
    for _ in 0..100 {
        drop(bench.join(&Client::new("c3")).await);
    }
    assert_eq!(bench.pool.used(), held);
    // The oldest id is unknown now, and its client asks anew.
    assert_eq!(bench.join(&clients[0]).await.map(drop), Err(Error::UnknownMemberId));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_repeats_itself_does_not_multiply() {
    let bench = Bench::new().await;
    let simple = Client::simple();
    drop(bench.commit(&simple, 1).await.unwrap());
    let again = Some(vec![("orders".into(), vec![0; 3]), ("orders".into(), vec![0, 1, 1])]);
    let request = OffsetFetchRequest { group: "g".into(), topics: again };
    let fetched = bench.coordinator.fetch_offsets(request).await.unwrap();
    let offsets: Vec<Vec<i64>> =
        fetched.iter().map(|it| it.partitions.iter().map(|at| at.offset).collect()).collect();
    assert_eq!(offsets, [vec![1], vec![-1, -1]]);
    let request = OffsetDeleteRequest {
        group: "g".into(),
        topics: vec![("orders".into(), vec![0; 100]); 100],
    };
    drop(bench.coordinator.delete_offsets(request).await.unwrap());
    assert_eq!(bench.log.batches(), [1, 1]);
    // The group's id is in the key of every record.
    let mut request = simple.commit_request("orders", 0, 1);
    request.group = "g".repeat(30_000).as_str().into();
    request.topics[0].partitions = vec![request.topics[0].partitions[0].clone(); 1_000];
    let refused = bench.coordinator.commit(request).await;
    assert_eq!(refused, Err(Error::InvalidCommitOffsetSize));
}

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn is_ready(wait: &mut FetchWait) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(wait).poll(&mut context) == Poll::Ready(())
}

fn mark(partition: &Arc<Partition>) -> u64 {
    let offset = partition.offsets().high_watermark;
    match partition.read(&from(offset, 1)).unwrap() {
        Plan::Done(plan) => plan.mark,
        Plan::NeedsDisk(_) | Plan::Tiered(_) => panic!("nothing is read at the end"),
    }
}

#[tokio::test]
async fn a_wait_ends_when_its_partitions_have_the_bytes_together() {
    let broker = Broker::new();
    let partitions = [broker.partition(0), broker.partition(1)];
    let size = batch(1, 500).bytes().len() as u64;
    let marked = partitions.clone().map(|partition| (Arc::clone(&partition), mark(&partition)));
    let mut wait = FetchWait::new(broker.metrics(), marked, 3 * size);
    for at in [0, 1] {
        broker.append(&partitions[at], &batch(1, 500)).await;
        broker.flush().await;
        assert!(!is_ready(&mut wait));
    }
    broker.append(&partitions[0], &batch(1, 500)).await;
    wait.await;
    assert_eq!(broker.metrics().waiters.get(), 0);
}

#[tokio::test]
async fn what_came_between_read_and_wait_counts() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let before = mark(&partition);
    broker.append(&partition, &batch(1, 500)).await;
    broker.flush().await;
    let after = mark(&partition);
    let mut late = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), before)], 1);
    let mut fresh = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), after)], 1);
    assert!(is_ready(&mut late));
    assert!(!is_ready(&mut fresh));
    assert_eq!(broker.metrics().waiters.get(), 2);
}

#[tokio::test]
async fn appended_bytes_wake_nobody_before_they_are_durable() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.disk.hold();
    let mut wait = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), 0)], 1);
    broker.append(&partition, &batch(1, 500)).await;
    assert!(!is_ready(&mut wait));
    broker.disk.release();
    wait.await;
}

#[tokio::test]
async fn closing_wakes_and_a_closed_partition_does_not_let_wait() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let mut wait = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), 0)], 1);
    assert!(!is_ready(&mut wait));
    assert_eq!(broker.partitions.close_topic(topic()), 1);
    assert!(is_ready(&mut wait));
    let mut late = FetchWait::new(broker.metrics(), [(partition, 0)], 1);
    assert!(is_ready(&mut late));
}

#[tokio::test]
async fn a_dropped_wait_leaves_nothing_behind() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let wait = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), 0)], 1);
    assert!(partition.has_waiters.load(Ordering::SeqCst));
    drop(wait);
    assert!(!partition.has_waiters.load(Ordering::SeqCst));
    assert_eq!(partition.lock().waiting.capacity(), 0);
}

/// However often a request names a partition, it is one of those who wait there.
#[tokio::test]
async fn a_partition_named_often_has_one_waiter_of_the_request() {
    let broker = Broker::new();
    let (partition, other) = (broker.partition(0), broker.partition(1));
    let named = vec![(Arc::clone(&partition), 0); 1_000];
    let mut wait = FetchWait::new(broker.metrics(), named, 1);
    let beside = FetchWait::new(broker.metrics(), [(Arc::clone(&partition), 0), (other, 0)], 1);
    assert_eq!(partition.lock().waiting.len(), 2);
    drop(beside);
    assert_eq!(partition.lock().waiting.len(), 1);
    assert!(!is_ready(&mut wait));
    broker.append(&partition, &batch(1, 500)).await;
    wait.await;
    assert_eq!(partition.lock().waiting.len(), 0);
}

/// Many requests leave a partition at once when it has records: each must go without a look at the
/// others, and the place they took must go with them.
#[tokio::test]
async fn waiters_that_leave_take_their_place_with_them() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let wait = || FetchWait::new(broker.metrics(), [(Arc::clone(&partition), 0)], 1);
    let last = wait();
    let mut waits: Vec<FetchWait> = (0..5_000).map(|_| wait()).collect();
    assert!(waits.iter_mut().all(|wait| !is_ready(wait)));
    drop(waits);
    assert_eq!(partition.lock().waiting.len(), 1);
    assert!(partition.lock().waiting.capacity() <= 64, "{}", partition.lock().waiting.capacity());
    drop(last);
    assert_eq!(partition.lock().waiting.capacity(), 0);
}

/// Every wait that is begun beside appends ends: the WAL's thread and the waiter never miss each
/// other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost() {
    let broker = Arc::new(Broker::new());
    let partition = broker.partition(0);
    let appender = {
        let (broker, partition) = (Arc::clone(&broker), Arc::clone(&partition));
        crate::task::spawn("appender", async move {
            for _ in 0..300 {
                let appended = broker.append(&partition, &batch(1, 10)).await;
                broker.stream.wait_durable(appended.lsn).await.unwrap();
            }
        })
    };
    while partition.offsets().high_watermark < 300 {
        let seen = mark(&partition);
        if partition.offsets().high_watermark < 300 {
            FetchWait::new(broker.metrics(), [(Arc::clone(&partition), seen)], 1).await;
        }
    }
    appender.await.unwrap();
}

//! What happens beside a checkpoint or a trim while it is under way.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use futures_util::future::join;

use super::{Bench, append};
use crate::broker::Broker;
use crate::cluster::Change;
use crate::failpoint;
use crate::task;
use crate::wal::Lsn;

#[tokio::test]
async fn a_checkpoint_does_not_cover_a_topic_that_is_made_while_it_begins() {
    let bench = Bench::new();
    let broker = bench.start().await;
    let change = Change::CreateTopic(broker.default_topic("late"));
    let committed = broker.cluster.commit(vec![change]).await.unwrap();
    let armed = {
        let broker = Arc::clone(&broker);
        failpoint::arm("checkpoint: scope", move || {
            let image = &committed.image;
            broker.open_topic(image, image.topic("late").unwrap());
            append(&broker, &broker.partition_of("late", 0), 1);
        })
    };
    broker.checkpoint().await.unwrap();
    drop(armed);
    assert_eq!(broker.partition_of("late", 0).offsets().log_end, 1);
    broker.kill().await;

    let broker = bench.start().await;
    assert_eq!(broker.partition_of("late", 0).offsets().log_end, 1);
    broker.stop().await;
}

/// The thread that a checkpoint is taken on is held, so that the first has found out what it will
/// publish and not yet published it.
#[test]
fn a_checkpoint_begins_when_the_one_before_is_published() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let bench = Bench::with(&[("object.url", "memory://")]);
        let broker = bench.start().await;
        broker.topic("t", 1).await;
        let begun = Rc::new(Cell::new(0));
        let _armed = {
            let begun = Rc::clone(&begun);
            failpoint::arm("checkpoint: scope", move || begun.set(begun.get() + 1))
        };
        let (let_go, held) = mpsc::channel::<()>();
        let holding = task::blocking(move || held.recv().unwrap_err());
        let mut both = Box::pin(join(broker.checkpoint(), broker.checkpoint()));
        // Many more turns than it takes to come to the thread.
        for _ in 0..1_000 {
            tokio::select! {
                biased;
                _ = &mut both => panic!("the thread is held"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(begun.get(), 1);
        drop(let_go);
        holding.await.unwrap();
        let (first, second) = both.await;
        first.unwrap();
        second.unwrap();
        assert_eq!(begun.get(), 2);
        broker.stop().await;
    });
}

/// Appends to partitions 0 and 1 of topic "t", in this order, as soon as a look for the oldest
/// needed byte has passed partition 0. Returns the floor and the first record of the two.
fn floor_beside_appends(broker: &Arc<Broker>, partitions: i32) -> (Lsn, Lsn) {
    let first = Rc::new(Cell::new(None));
    let armed = {
        let (broker, first) = (Arc::clone(broker), Rc::clone(&first));
        failpoint::arm("oldest needed: looked at a partition", move || {
            if first.get().is_some() {
                return;
            }
            let lsn = append(&broker, &broker.partition_of("t", 0), 1).lsn;
            append(&broker, &broker.partition_of("t", partitions - 1), 2);
            first.set(Some(lsn));
        })
    };
    let floor = broker.trim_floor();
    drop(armed);
    (floor, first.get().unwrap())
}

#[tokio::test]
async fn the_trim_floor_does_not_pass_what_is_appended_where_it_has_looked() {
    let bench = Bench::new();
    let broker = bench.start().await;
    broker.topic("t", 2).await;
    let (floor, first) = floor_beside_appends(&broker, 2);
    assert!(floor <= first, "{floor} is above {first}");
    // Nothing is appended meanwhile: the floor is the oldest byte that is needed.
    assert_eq!(broker.trim_floor(), first);
    broker.stop().await;
}

#[tokio::test]
async fn the_trim_floor_without_a_needed_byte_does_not_pass_the_first_append() {
    let bench = Bench::new();
    let broker = bench.start().await;
    broker.topic("t", 1).await;
    let (floor, first) = floor_beside_appends(&broker, 1);
    assert!(floor <= first, "{floor} is above {first}");
    assert_eq!(broker.trim_floor(), first);
    broker.stop().await;
}

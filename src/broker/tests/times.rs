//! DESIGN D8: a wall clock that jumps may delay deletion and never causes it.

use std::sync::Arc;

use super::{Bench, append};
use crate::broker::Broker;
use crate::group::Error;
use crate::group::types::{CommitPartition, CommitRequest, CommitTopic, OffsetFetchRequest};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Commits offset 7 of partition 0 of topic "t".
async fn commit(broker: &Broker, group: &str) {
    let partition =
        CommitPartition { partition: 0, offset: 7, leader_epoch: -1, metadata: "".into() };
    let request = || CommitRequest {
        group: group.into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        retention_ms: None,
        group_id_not_found: true,
        topics: vec![CommitTopic { name: "t".into(), partitions: vec![partition.clone()] }],
    };
    while let Err(error) = broker.groups().commit(request()).await {
        assert_eq!(error, Error::CoordinatorLoadInProgress);
        tokio::task::yield_now().await;
    }
}

/// The committed offset, -1 for none.
async fn committed(broker: &Broker, group: &str) -> i64 {
    loop {
        let topics = Some(vec![("t".into(), vec![0])]);
        let request = OffsetFetchRequest { group: group.into(), topics };
        match broker.groups().fetch_offsets(request).await {
            Ok(topics) => return topics[0].partitions[0].offset,
            Err(error) => assert_eq!(error, Error::CoordinatorLoadInProgress),
        }
        tokio::task::yield_now().await;
    }
}

async fn write(broker: &Arc<Broker>, name: &str, producer: i64) {
    commit(broker, name).await;
    append(broker, &broker.partition_of("t", 0), producer);
}

#[tokio::test]
async fn a_jump_and_a_restart_expire_nothing() {
    let bench = Bench::new();
    let mut broker = bench.start().await;
    broker.topic("t", 1).await;
    broker.ensure_offsets_topic().await.unwrap();
    write(&broker, "before", 1).await;
    for (restart, is_killed) in [true, false, true, true].into_iter().enumerate() {
        let jump = if restart == 2 { -90 * DAY_MS } else { 30 * DAY_MS };
        bench.clock.shift_wall(jump);
        write(&broker, &format!("after {restart}"), 10 + restart as i64).await;
        if is_killed {
            broker.kill().await;
        } else {
            broker.stop().await;
        }
        broker = bench.start().await;
        assert_eq!(committed(&broker, "before").await, 7, "restart {restart}");
        for later in 0..=restart {
            assert_eq!(committed(&broker, &format!("after {later}")).await, 7);
        }
        assert_eq!(broker.groups().expire_offsets().await, 0, "restart {restart}");
        let partition = broker.partition_of("t", 0);
        assert_eq!(partition.expire_producers(DAY_MS), 0, "restart {restart}");
        assert_eq!(partition.producer_count(), 2 + restart);
    }
    broker.stop().await;
}

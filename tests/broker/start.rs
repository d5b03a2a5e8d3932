//! Starting, stopping and starting again.

use std::sync::Barrier;

use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, LeaveGroupRequest};

use crate::harness::Broker;
use crate::requests::{NONE, text};

#[test]
fn a_fresh_broker_is_ready_and_drains_on_sigterm() {
    let mut broker = Broker::start();
    assert_eq!(broker.admin("/readyz").0, 200);
    assert_eq!(broker.admin("/livez").0, 200);
    assert_eq!(broker.stop(), Some(0));
    let log = broker.log();
    assert!(!log.contains("wal.max.bytes is unlimited"), "it knows its volume at once: {log}");
}

#[test]
fn the_log_has_no_colours_where_it_is_not_read_at_a_terminal() {
    let mut broker = Broker::start();
    broker.wait_for_log("listening");
    assert_eq!(broker.stop(), Some(0));
    let log = broker.log();
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn memory_by_pool_is_a_metric_from_the_start_on() {
    let metrics = Broker::start().metrics();
    for pool in ["small", "receive", "wal", "tail", "send", "sessions", "upload", "recovery"] {
        let capacity = format!("tidegate_memory_limit_bytes{{pool=\"{pool}\"}}");
        assert!(metrics.get(&capacity) > 0.0, "{pool}");
        assert_eq!(metrics.get(&format!("tidegate_memory_used_bytes{{pool=\"{pool}\"}}")), 0.0);
    }
}

#[test]
fn the_first_use_of_groups_by_many_clients_at_once_fails_nowhere() {
    const CLIENTS: usize = 16;
    const NOT_YET: [i16; 2] = [14, 15];
    const UNKNOWN_MEMBER_ID: i16 = 25;
    let broker = Broker::start();
    let together = Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (broker, together) = (&broker, &together);
            scope.spawn(move || {
                let mut wire = broker.connect();
                together.wait();
                if client == 0 {
                    let find = FindCoordinatorRequest::default()
                        .with_coordinator_keys(vec![text("group")]);
                    assert_eq!(wire.call(4, &find).coordinators[0].error_code, NONE);
                }
                // Until the coordinator is there, clients are told to ask again.
                let group = GroupId(text(&format!("group-{client}")));
                let leave = LeaveGroupRequest::default().with_group_id(group);
                let answered = (0..100_000)
                    .map(|_| wire.call(2, &leave).error_code)
                    .find(|code| !NOT_YET.contains(code));
                assert_eq!(answered, Some(UNKNOWN_MEMBER_ID));
            });
        }
    });
    assert_eq!(broker.metric("tidegate_group_load_failures_total"), 0.0);
    assert!(!broker.log().contains("ERROR"), "{}", broker.log());
}

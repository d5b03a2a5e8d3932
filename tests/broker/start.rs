//! Starting, stopping and starting again.

use crate::harness::Broker;

#[test]
fn a_fresh_broker_is_ready_and_drains_on_sigterm() {
    let mut broker = Broker::start();
    assert_eq!(broker.admin("/readyz").0, 200);
    assert_eq!(broker.admin("/livez").0, 200);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn the_log_has_no_colours_where_it_is_not_read_at_a_terminal() {
    let mut broker = Broker::start();
    assert_eq!(broker.stop(), Some(0));
    let log = broker.log();
    assert!(log.contains("listening"));
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn memory_by_pool_is_a_metric_from_the_start_on() {
    let metrics = Broker::start().metrics();
    for pool in ["small", "receive", "wal", "tail", "send", "upload", "recovery"] {
        let capacity = format!("tidegate_broker_memory_capacity_bytes{{pool=\"{pool}\"}}");
        assert!(metrics.get(&capacity) > 0.0, "{pool}");
        assert_eq!(
            metrics.get(&format!("tidegate_broker_memory_used_bytes{{pool=\"{pool}\"}}")),
            0.0
        );
    }
}

//! Starting, stopping and starting again.

use crate::harness::Broker;

#[test]
fn a_fresh_broker_is_ready_and_drains_on_sigterm() {
    let mut broker = Broker::start();
    assert_eq!(broker.admin("/readyz").0, 200);
    assert_eq!(broker.admin("/livez").0, 200);
    assert_eq!(broker.stop(), Some(0));
}

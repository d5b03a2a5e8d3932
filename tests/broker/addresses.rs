//! Where the broker listens, and what it tells clients.

use kafka_protocol::messages::MetadataRequest;

use crate::harness::{Broker, Options, Wire, free_port};

#[test]
fn a_listener_without_a_host_takes_both_address_families() {
    let port = free_port();
    let listeners = format!("PLAINTEXT://:{port}");
    let advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let options = Options::new().set("listeners", listeners);
    let _broker = Broker::start_with(options.set("advertised.listeners", advertised));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let response = Wire::connect(&address).call(12, &MetadataRequest::default());
        assert_eq!(response.brokers[0].port, i32::from(port), "by {address}");
    }
}

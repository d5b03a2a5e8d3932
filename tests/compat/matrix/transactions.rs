//! Transactions of real clients, which need Apache Kafka as the upstream: at Kafka itself and
//! through the proxy.

use serde_json::{Value, json};

use super::clients::{CLIENTS, Client};
use super::context::Context;
use super::driver::Driver;
use super::log;
use super::stand::Stand;

/// Whose transactions: Java's of three ages, librdkafka's and franz-go's.
const TRANSACTING: &[&str] = &["java-4.4", "java-3.9", "java-2.8", "confluent", "franz-go"];

#[test]
fn transactions_come_out_the_same_through_the_proxy() {
    for stand in [Stand::kafka(), Stand::proxied()] {
        transactions(&stand);
        let strangers = stand.strangers();
        assert!(strangers.is_empty(), "clients were told the upstream's address: {strangers:?}");
    }
}

fn transactions(stand: &Stand) {
    let address = stand.address();
    let clients: Vec<&'static Client> =
        CLIENTS.iter().filter(|client| TRANSACTING.contains(&client.id)).collect();
    assert_eq!(clients.len(), TRANSACTING.len());
    std::thread::scope(|threads| {
        for client in clients {
            let address = &address;
            threads.spawn(move || {
                let driver = Driver::start(client.command(address));
                what_is_committed_is_read(&Context::new(client, &driver, address, "txn-ends"));
                a_successor_ends_what_was_left_open(&Context::new(
                    client,
                    &driver,
                    address,
                    "txn-successor",
                ));
            });
        }
    });
}

fn record(topic: &str, value: &str) -> Value {
    json!({"topic": topic, "value": value, "partition": 0})
}

/// Transactions of a new producer with the scenario's transactional id.
fn transact(context: &Context<'_>, transactions: &[Value]) {
    let id = context.name("id");
    context.driver.call("transact", json!({"transactional_id": id, "transactions": transactions}));
}

/// The values that a consumer of committed records reads, up to the one that is last.
fn committed_values(context: &Context<'_>, topic: &str, count: usize) -> Vec<String> {
    let fields = json!({"assign": [[topic, 0]], "isolation": "read_committed"});
    let mut reader = context.open("reader", fields);
    let values = reader.take(count);
    reader.finds_nothing();
    reader.close();
    values.iter().map(|record| record["value"].as_str().unwrap().to_owned()).collect()
}

/// Commits, aborts, and commits with a group's offset.
fn what_is_committed_is_read(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    let group = context.name("group");
    let sent = |value: &str, end: &str| json!({"records": [record(&topic, value)], "end": end});
    let mut with_offset = sent("third", "commit");
    with_offset["group"] = json!(group);
    with_offset["offsets"] = json!([[topic, 0, 41, ""]]);
    transact(context, &[sent("first", "commit"), sent("second", "abort"), with_offset]);
    assert_eq!(committed_values(context, &topic, 2), ["first", "third"]);
    assert_eq!(log::committed(&mut context.wire(), &group, &topic, 0).0, 41);
    // Each record has a marker behind it.
    assert_eq!(log::end_offsets(&mut context.wire(), &[&topic], 1), [6]);
}

/// What a producer left open is aborted when the next one with its id begins.
fn a_successor_ends_what_was_left_open(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    let sent = |value: &str, end: &str| json!({"records": [record(&topic, value)], "end": end});
    transact(context, &[sent("left", "none")]);
    transact(context, &[sent("successor", "commit")]);
    assert_eq!(committed_values(context, &topic, 1), ["successor"]);
    assert_eq!(log::end_offsets(&mut context.wire(), &[&topic], 1), [4]);
}

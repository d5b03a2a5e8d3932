//! Where consumers go on.

use serde_json::{Value, json};

use crate::matrix::context::{Context, QUIET_MS, Reader, wait_until};
use crate::matrix::log;

/// The time of the first record; each is a second after the one before.
const FIRST_TIME: i64 = 1_700_000_000_000;

/// Appends `count` records to partition 0, numbered from `first` on. They are our own: not every
/// client can set a record's time.
fn send(context: &Context<'_>, topic: &str, first: i64, count: i64) {
    let records: Vec<(i64, String)> =
        (first..first + count).map(|at| (FIRST_TIME + 1_000 * at, at.to_string())).collect();
    log::append(&mut context.wire(), topic, 0, &records);
}

/// A topic of ten records and a reader that has read them.
fn at_end<'a>(context: &'a Context<'_>) -> (String, Reader<'a>) {
    let topic = context.topic("records", 1);
    send(context, &topic, 0, 10);
    let mut reader = context.assign("reader", &[(&topic, 0)]);
    reader.take(10);
    (topic, reader)
}

fn first_after(reader: &mut Reader<'_>, count: usize) -> Value {
    reader.take(count)[0]["offset"].clone()
}

pub fn beginning(context: &Context<'_>) {
    let (topic, mut reader) = at_end(context);
    reader.seek(&topic, 0, &json!("beginning"));
    assert_eq!(first_after(&mut reader, 10), 0);
    reader.close();
}

pub fn end(context: &Context<'_>) {
    let (topic, mut reader) = at_end(context);
    reader.seek(&topic, 0, &json!("beginning"));
    reader.take(1);
    reader.seek(&topic, 0, &json!("end"));
    reader.finds_nothing();
    // Not every client has looked for the end by then, and no command tells when it has.
    let mut next = 10;
    wait_until("a record behind the end is read", || {
        send(context, &topic, next, 1);
        next += 1;
        let records = reader.poll(1, QUIET_MS);
        let first = records.first().map(|record| record["offset"].as_i64().unwrap());
        first.inspect(|first| assert!((10..next).contains(first), "{first}")).is_some()
    });
    reader.close();
}

pub fn offset(context: &Context<'_>) {
    let (topic, mut reader) = at_end(context);
    reader.seek(&topic, 0, &json!(6));
    assert_eq!(first_after(&mut reader, 4), 6);
    reader.close();
}

pub fn timestamp(context: &Context<'_>) {
    let (topic, mut reader) = at_end(context);
    let between = FIRST_TIME + 3_500;
    reader.call("seek_time", json!({"topic": topic, "partition": 0, "timestamp": between}));
    assert_eq!(first_after(&mut reader, 6), 4, "the first record not before that time");
    reader.close();
}

pub fn pause(context: &Context<'_>) {
    let topic = context.topic("records", 2);
    let pair: Vec<Value> = (0..2)
        .map(|partition| json!({"topic": topic, "partition": partition, "value": "v"}))
        .collect();
    context.send(json!({}), &pair);
    let mut reader = context.assign("reader", &[(&topic, 0), (&topic, 1)]);
    reader.take(2);
    reader.call("pause", json!({"topic": topic, "partition": 0}));
    // A fetch that waits at the broker ends first: not every client drops what it brings.
    reader.finds_nothing();
    context.send(json!({}), &pair);
    let records = reader.take(1);
    assert_eq!(records[0]["partition"], 1);
    reader.finds_nothing();
    reader.call("resume", json!({"topic": topic, "partition": 0}));
    let records = reader.take(1);
    assert_eq!(records[0]["partition"], 0);
    reader.close();
}

pub fn past_retention(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    send(context, &topic, 0, 20);
    let group = context.name("group");
    let mut wire = context.wire();
    log::commit(&mut wire, &group, &topic, 0, 5);
    log::delete_records(&mut wire, &topic, 0, 12);
    let mut reader = context.join("reader", &group, &topic);
    assert_eq!(first_after(&mut reader, 8), 12, "the earliest record that is left");
    reader.close();
}

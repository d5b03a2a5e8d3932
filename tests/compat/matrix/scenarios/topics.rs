//! Many topics, and one that is replaced.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::matrix::context::{Context, wait_until};
use crate::matrix::log;

const TOPICS: usize = 100;
const PARTITIONS: i32 = 10;

pub fn many(context: &Context<'_>) {
    let names: Vec<String> = (0..TOPICS).map(|at| context.name(&format!("{at}"))).collect();
    let mut wire = context.wire();
    log::create_topics(&mut wire, &names, PARTITIONS, &[]);
    let records: Vec<Value> = names
        .iter()
        .flat_map(|topic| {
            (0..PARTITIONS).map(move |partition| {
                let value = format!("{topic}-{partition}");
                json!({"topic": topic, "partition": partition, "value": value})
            })
        })
        .collect();
    // In parts, because kcat needs a process for each partition.
    records.chunks(100).for_each(|records| drop(context.send(json!({}), records)));
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    let ends = log::end_offsets(&mut wire, &topics, PARTITIONS);
    assert_eq!(ends, vec![1; records.len()], "each partition has its record");
    let group = context.name("group");
    let mut reader = context.open("reader", json!({"group": group, "topics": names}));
    for record in reader.take(records.len()) {
        let topic = record["topic"].as_str().unwrap();
        assert_eq!(record["value"], format!("{topic}-{}", record["partition"]));
    }
    assert_eq!(reader.read.len(), records.len(), "none is read twice");
    reader.close();
    log::delete_topics(&mut wire, &names);
}

/// Records that are read before the topic is deleted, and that many further ones after it.
const ENOUGH: i64 = 20;

pub fn recreated(context: &Context<'_>) {
    let topic = context.topic("records", 1);
    let names = [topic.clone()];
    let group = context.name("group");
    let mut wire = context.wire();
    let mut reader = context.join("reader", &group, &topic);
    let load = context.load(&topic, "");
    wait_until("the reader follows the load", || {
        reader.poll_once();
        reader.read.len() as i64 >= ENOUGH
    });
    log::delete_topics(&mut wire, &names);
    log::create_topics(&mut wire, &names, 1, &[]);
    // A consumer whose position is behind the new end may start over or wait for its offset, which
    // is behind all that it read of the old topic.
    wait_until("the producer goes on with the new topic", || {
        reader.poll_once();
        let stored: HashSet<(i64, String)> =
            log::records(&mut wire, &topic, 0).iter().map(offset_and_value).collect();
        let read = reader.read.iter().map(offset_and_value);
        let old = read.filter(|read| !stored.contains(read)).map(|(offset, _)| offset).max();
        stored.len() as i64 >= old.unwrap_or(0) + ENOUGH
    });
    load.stop();
    let last = log::records(&mut wire, &topic, 0).pop().unwrap();
    let last = &last["value"];
    wait_until(&format!("the reader goes on with the new topic, up to {last}"), || {
        reader.poll_once().iter().any(|record| record["value"] == *last)
            || reader.read.iter().any(|record| record["value"] == *last)
    });
    reader.close();
}

fn offset_and_value(record: &Value) -> (i64, String) {
    (record["offset"].as_i64().unwrap(), record["value"].as_str().unwrap().to_owned())
}

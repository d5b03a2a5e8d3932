//! Commits, judged by what the coordinator answers.

use serde_json::json;

use crate::matrix::context::{Context, wait_until};
use crate::matrix::log::{append, committed};

/// A topic with `count` records.
fn filled(context: &Context<'_>, count: usize) -> String {
    let topic = context.topic("records", 1);
    let records: Vec<(i64, String)> = (0..count as i64).map(|at| (at, at.to_string())).collect();
    append(&mut context.wire(), &topic, 0, &records);
    topic
}

pub fn manual(context: &Context<'_>) {
    let topic = filled(context, 10);
    let group = context.name("group");
    let mut reader = context.join("first", &group, &topic);
    reader.take(10);
    let mut wire = context.wire();
    assert_eq!(committed(&mut wire, &group, &topic, 0).0, -1, "nothing is committed unasked");
    reader.call("commit", json!({"offsets": [[topic, 0, 7, ""]]}));
    assert_eq!(committed(&mut wire, &group, &topic, 0).0, 7);
    reader.close();
    let mut reader = context.join("second", &group, &topic);
    let records = reader.take(3);
    assert_eq!(records[0]["offset"], 7, "the group goes on where it was");
    reader.close();
    assert_eq!(committed(&mut wire, &group, &topic, 0).0, 7);
}

pub fn metadata(context: &Context<'_>) {
    let topic = filled(context, 5);
    let group = context.name("group");
    let mut reader = context.join("reader", &group, &topic);
    reader.take(5);
    let note = format!("seen by {}", context.client.id);
    reader.call("commit", json!({"offsets": [[topic, 0, 4, note]]}));
    let (offset, metadata) = committed(&mut context.wire(), &group, &topic, 0);
    // confluent-kafka sends the zero that ends the text in C (its py_to_c_parts).
    assert_eq!((offset, metadata.trim_end_matches('\0')), (4, note.as_str()));
    reader.close();
}

pub fn automatic(context: &Context<'_>) {
    let topic = filled(context, 10);
    let group = context.name("group");
    let fields = json!({"group": group, "topics": [topic], "auto_commit": true});
    let mut reader = context.open("reader", fields);
    reader.take(10);
    let mut wire = context.wire();
    wait_until("the commit of what was read", || {
        reader.poll_once();
        committed(&mut wire, &group, &topic, 0).0 == 10
    });
    reader.close();
}

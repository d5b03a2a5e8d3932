//! The main job: an idempotent producer writes while two consumers of one group read, and the
//! broker is killed with SIGKILL meanwhile. Every acknowledged record is in the log once, offsets
//! have no gaps, and the group ends without lag.
//!
//! Short form: 100,000 records, two kills. `TIDEGATE_LONG=1`: 1,000,000 records, five kills.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde_json::Value;

use crate::clients::{Client, Lines};
use crate::harness::{Broker, Options};
use crate::judge::{Position, committed_offsets, end_offset, judge, partition_count};

const TOPIC: &str = "main-job";
const GROUP: &str = "main-job-readers";
const PARTITIONS: i32 = 4;
/// A group that commits nothing for this long has lost something.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn java_clients_survive_kills() {
    main_job(Client::Java);
}

#[test]
fn confluent_kafka_survives_kills() {
    main_job(Client::Confluent);
}

#[test]
fn franz_go_survives_kills() {
    main_job(Client::FranzGo);
}

fn main_job(client: Client) {
    let long = std::env::var_os("TIDEGATE_LONG").is_some();
    let (records, kills) = if long { (1_000_000, 5) } else { (100_000, 2) };
    let options = Options::new().set("num.partitions", PARTITIONS);
    let mut broker = Broker::start_with(options);
    assert_eq!(partition_count(&mut broker.connect(), TOPIC), PARTITIONS);
    let scratch = tempfile::tempdir().unwrap();
    let address = broker.address();

    let (committed, commits) = channel();
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let (consumer, lines) = client.consumer(&address, TOPIC, GROUP);
        let sender = committed.clone();
        std::thread::spawn(move || follow_commits(lines, &sender));
        consumers.push(consumer);
    }
    let (producer, lines) = client.producer(&address, TOPIC, records, scratch.path());
    let mut acked = HashMap::new();
    let mut killed = 0;
    for line in lines.map_while(Result::ok) {
        let Some((value, position)) = acknowledgement(&line) else { continue };
        acked.insert(value, position);
        if killed < kills && acked.len() >= records * (killed + 1) / (kills + 1) {
            killed += 1;
            broker.kill();
            broker.restart();
        }
    }
    assert_eq!(producer.wait(), Some(0), "the producer ends well");
    assert_eq!(killed, kills);
    assert_eq!(acked.len(), records, "every record is acknowledged");

    let mut wire = broker.connect();
    judge(&mut wire, TOPIC, &acked);
    let ends: Vec<i64> = (0..PARTITIONS).map(|at| end_offset(&mut wire, TOPIC, at)).collect();
    let mut at = vec![0; ends.len()];
    while at != ends {
        let (partition, offset): (i32, i64) =
            commits.recv_timeout(PATIENCE).expect("the group ends without lag");
        let known = &mut at[partition as usize];
        *known = offset.max(*known);
    }
    assert_eq!(committed_offsets(&mut wire, GROUP, TOPIC, PARTITIONS), ends);
}

/// Value and position of a `producer_send_success` line.
fn acknowledgement(line: &str) -> Option<(u64, Position)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["name"] != "producer_send_success" {
        return None;
    }
    let partition = line["partition"].as_i64()? as i32;
    let position = Position { partition, offset: line["offset"].as_i64()? };
    Some((line["value"].as_str()?.parse().ok()?, position))
}

/// Sends on what a consumer committed, until it ends or nobody listens any more.
fn follow_commits(lines: Lines, sender: &Sender<(i32, i64)>) {
    for line in lines.map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if line["name"] != "offsets_committed" || line["success"] != true {
            continue;
        }
        for at in line["offsets"].as_array().into_iter().flatten() {
            let (Some(partition), Some(offset)) = (at["partition"].as_i64(), at["offset"].as_i64())
            else {
                continue;
            };
            if sender.send((partition as i32, offset)).is_err() {
                return;
            }
        }
    }
}

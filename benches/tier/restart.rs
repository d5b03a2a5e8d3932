//! The time to ready with as many sections as 10 GiB over 1,000 partitions have.

use std::time::{Duration, Instant};

use crate::harness::Broker;
use crate::topics::{self, PRODUCE_VERSION, Place};
use crate::{Plan, spread, wire};

const PARTITIONS: i32 = 1_000;
/// 10 GiB in packs of 128 MiB. What a partition has in them is not enough for a segment of its own,
/// so they stay.
const PACKS: usize = 80;
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn run(plan: &Plan) {
    let place = Place::new();
    let options = place.options_with_files().set("tier.max.age.ms", 1_000);
    let mut broker = Broker::start_with(options.set("wal.max.bytes", "512MiB"));
    topics::create(&broker, "many", PARTITIONS, topics::NOTHING_LOCAL);
    let request = topics::produce_all("many", PARTITIONS, &wire::single_record(100));
    let mut connection = broker.connect();
    for pack in 1..=PACKS {
        connection.call(PRODUCE_VERSION, &request);
        while sections(&broker) < f64::from(PARTITIONS) * pack as f64 {
            std::thread::sleep(POLL);
        }
    }
    println!("{} sections of {PARTITIONS} partitions in the bucket", sections(&broker));
    drop(connection);
    let (mut stopped, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..plan.pairs {
        assert_eq!(broker.stop(), Some(0));
        stopped.push(time_to_ready(&mut broker));
        broker.kill();
        killed.push(time_to_ready(&mut broker));
    }
    println!("  exec to ready after a stop, s: {}", spread(stopped));
    println!("  exec to ready after a kill -9, s: {}", spread(killed));
    println!("  resident then, MiB: {}", broker.resident() >> 20);
}

/// Sections in the bucket. There is no such metric before the first.
fn sections(broker: &Broker) -> f64 {
    const NAME: &str = "tidegate_broker_tier_sections_total{origin=\"flushed\"} ";
    let (_, text) = broker.admin("/metrics");
    let told = text.lines().find_map(|line| line.strip_prefix(NAME)?.parse().ok());
    told.unwrap_or(0.0)
}

fn time_to_ready(broker: &mut Broker) -> f64 {
    let begun = Instant::now();
    broker.restart();
    begun.elapsed().as_secs_f64()
}

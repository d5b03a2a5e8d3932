//! Requests to the bucket per GiB, at 10 MiB a second.

use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;

use crate::harness::wire::request_frame;
use crate::harness::{Broker, Metrics};
use crate::topics::{self, PRODUCE_VERSION, Place, Reader};
use crate::{Plan, wire};

pub(crate) const PARTITIONS: [i32; 3] = [10, 1_000, 10_000];
/// Bytes of batches in a second.
const RATE: usize = 10 << 20;
const BATCH_BYTES_MAX: usize = 64 << 10;
const GIB: f64 = 1_073_741_824.0;

const WRITES: &str = "tidegate_object_billed_requests_total{class=\"write\"}";
const READS: &str = "tidegate_object_billed_requests_total{class=\"read\"}";
const FETCHED: &str = "tidegate_object_bytes_total{operation=\"get_range\"}";
const SERVED: &str = "tidegate_partition_tiered_bytes_total";
const FOOTERS: &str = "tidegate_tier_cache_loads_total{cache=\"footers\",outcome=\"ok\"}";

pub(crate) fn run(plan: &Plan, partitions: i32) {
    let place = Place::new();
    let options = || place.options_with_files().set("wal.max.bytes", "2GiB");
    let mut broker = Broker::start_with(options());
    topics::create(&broker, "spread", partitions, topics::NOTHING_LOCAL);
    let batch = (RATE / partitions as usize).min(BATCH_BYTES_MAX);
    let records = wire::batch_of(batch).unwrap();
    let request = topics::produce_all("spread", partitions, &records);
    let frame = request_frame(PRODUCE_VERSION, &request, 1);
    let pass = batch * partitions as usize;
    let passes = (plan.mib << 20) / pass;
    let before = broker.metrics();
    let begun = Instant::now();
    let mut connection = broker.connect();
    for number in 0..passes {
        let due = Duration::from_secs_f64((number * pass) as f64 / RATE as f64);
        std::thread::sleep((begun + due).saturating_duration_since(Instant::now()));
        connection.send_raw(&frame).unwrap();
        let answer = connection.receive::<ProduceRequest>(PRODUCE_VERSION, 1);
        let answers = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        assert!(answers.clone().all(|partition| partition.error_code == 0), "{answer:?}");
    }
    let wall = begun.elapsed();
    let gib = (passes * pass) as f64 / GIB;
    let after = broker.metrics();
    let since = |name: &str, before: &Metrics, after: &Metrics| after.get(name) - before.get(name);
    println!("{partitions} partitions: {gib:.3} GiB through in {:.0} s", wall.as_secs_f64());
    println!("  PUT-class requests per GiB written: {:.1}", since(WRITES, &before, &after) / gib);
    tell_objects(&after);
    println!("  resident at most, MiB: {}", broker.resident_max() >> 20);
    assert_eq!(broker.stop(), Some(0));
    drop(broker);

    let broker = Broker::start_with(options());
    let before = broker.metrics();
    let begun = Instant::now();
    let mut reader = Reader::new(&broker, "spread", 0);
    for partition in 0..partitions {
        reader.turn_to(partition);
        reader.read_to(records.count * passes as i64);
    }
    let after = broker.metrics();
    let since = |name: &str| since(name, &before, &after);
    let served = since(SERVED);
    println!(
        "  read back in {:.0} s: {:.3} GiB, of which {:.3} from the bucket, in {:.0} GET per GiB, {:.0} \
         of them for footers; GET bytes {:.3} x what was served",
        begun.elapsed().as_secs_f64(),
        reader.bytes as f64 / GIB,
        served / GIB,
        since(READS) / (served / GIB),
        since(FOOTERS),
        since(FETCHED) / served,
    );
}

fn tell_objects(metrics: &Metrics) {
    for origin in ["flushed", "merged", "compacted"] {
        let value = |what: &str, more: &str| {
            metrics.get(&format!("tidegate_broker_tier_{what}_total{{origin=\"{origin}\"{more}}}"))
        };
        println!(
            "  {origin}: {} objects, {} sections, {:.3} GiB",
            value("objects", ",outcome=\"ok\""),
            value("sections", ""),
            value("bytes", "") / GIB,
        );
    }
}

//! A partition much larger than the memory budget: written and read from its start.
//!
//! The short form is for every run; `TIDEGATE_LONG=1` writes 4 GiB, best with a release build (see
//! the head of this suite).

use kafka_protocol::messages::ProduceRequest;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, batches, create_topic, fetched, produce_request, produced, record,
};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;
const SHORT: u64 = 512 * MIB;
const LONG: u64 = 4096 * MIB;
/// Large enough for speed, small enough for several in one Fetch.
const BATCH_BYTES: usize = 256 << 10;
const DEPTH: usize = 5;

const DISK_READ: &str = "tidegate_partition_disk_read_bytes_total";
const DISK_SERVED: &str = "tidegate_partition_disk_bytes_total";

#[test]
fn a_partition_of_many_times_the_budget_is_written_and_read_within_the_budget() {
    let total = if std::env::var_os("TIDEGATE_LONG").is_some() { LONG } else { SHORT };
    let count = total / BATCH_BYTES as u64;
    let (options, _folder) = Options::new().set("memory.budget.bytes", BUDGET).on_disk();
    let broker = Broker::start_with(options);
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let idle = broker.resident();

    write(&mut wire, count as usize);
    let served = read(&mut wire, count as i64);
    assert!(served >= total);

    let grown = broker.resident_max() - idle;
    println!("{grown} bytes above the idle process of {idle}");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes above the idle process");
    let metrics = broker.metrics();
    let (read, served) = (metrics.get(DISK_READ), metrics.get(DISK_SERVED));
    println!("{read} bytes read to serve {served}");
    assert!(served * 2.0 >= total as f64, "most of it was read from disk, not {served}");
    assert!(read <= served * 1.2, "{read} bytes were read to serve {served}");
}

fn write(wire: &mut Wire, count: usize) {
    let request = produce_request("a", 0, -1, record(BATCH_BYTES));
    let mut ids = Vec::new();
    for at in 0..count + DEPTH {
        if let Some(answered) = at.checked_sub(DEPTH) {
            let response = wire.receive::<ProduceRequest>(PRODUCE, ids[answered]);
            assert_eq!(produced(&response).error_code, NONE);
        }
        if at < count {
            ids.push(wire.send(PRODUCE, &request));
        }
    }
}

/// Reads offsets 0 to `end`, which must be gapless; how many bytes came.
fn read(wire: &mut Wire, end: i64) -> u64 {
    let (mut next, mut bytes) = (0, 0);
    while next < end {
        let fetch = Fetch { max_bytes: 8 << 20, ..Fetch::parked(next, 1) };
        let records = fetched(wire.call(FETCH, &fetch.request("a")));
        bytes += records.len() as u64;
        for (offset, _) in batches(&records) {
            assert_eq!(offset, next);
            next += 1;
        }
    }
    bytes
}

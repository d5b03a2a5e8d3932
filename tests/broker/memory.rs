//! A partition much larger than the memory budget: written and read from its start.
//!
//! The short form is for every run; `TIDEGATE_LONG=1` writes 4 GiB, best with a release build (see
//! the head of this suite).

use kafka_protocol::messages::ProduceRequest;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, batches, create_topic, fetched, produce, produce_request,
    produced, record,
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

/// Small batches far apart: to find one that fits, what lies between is read, and then not taken.
#[test]
fn a_fetch_of_quiet_partitions_reads_little_of_the_log_at_once() {
    const QUIET: i32 = 20;
    const ROUNDS: i64 = 40;
    let broker = Broker::start_with(Options::new().set("memory.budget.bytes", BUDGET));
    let mut wire = broker.connect();
    create_topic(&mut wire, "quiet", QUIET);
    create_topic(&mut wire, "busy", 1);
    // 8 MiB over which the batches of each quiet partition are spread, less than 4 KiB of them.
    for _ in 0..ROUNDS {
        for partition in 0..QUIET {
            let response = wire.call(PRODUCE, &produce_request("quiet", partition, -1, record(1)));
            assert_eq!(produced(&response).error_code, NONE);
        }
        assert_eq!(produce(&mut wire, "busy", record(200 << 10)).0, NONE);
    }
    // Enough to have them out of memory.
    for _ in 0..128 {
        assert_eq!(produce(&mut wire, "busy", record(BATCH_BYTES)).0, NONE);
    }
    let mut left: Vec<i32> = (0..QUIET).collect();
    while !left.is_empty() {
        let mut request = Fetch { max_bytes: 1 << 20, ..Fetch::at(1) }.request("quiet");
        let partition = request.topics[0].partitions[0].clone().with_partition_max_bytes(100);
        request.topics[0].partitions =
            left.iter().map(|index| partition.clone().with_partition(*index)).collect();
        let before = broker.metrics().get(DISK_READ);
        let response = wire.call(FETCH, &request);
        let passed = broker.metrics().get(DISK_READ) - before;
        println!("{passed} bytes of files read for {} partitions", left.len());
        assert!(passed <= (24 * MIB) as f64, "{passed} bytes of files read");
        let partitions = response.responses[0].partitions.iter();
        let served = partitions.filter(|partition| {
            assert_eq!(partition.error_code, NONE);
            partition.records.as_ref().is_some_and(|records| !records.is_empty())
        });
        let served: Vec<i32> = served.map(|partition| partition.partition_index).collect();
        assert!(!served.is_empty(), "somebody goes on");
        left.retain(|index| !served.contains(index));
    }
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

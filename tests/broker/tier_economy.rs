//! How many requests tiered storage costs (issue 5, Must show 4): counted where they arrive, so
//! that nothing is forgotten: parts, creates, completes, packs, checkpoints, metadata.
//!
//! The short form writes as fast as it can; `TIDEGATE_LONG=1` writes a GiB at 10 MiB/s over 10,
//! 1,000 and 10,000 partitions, best with a release build (see the head of this suite).

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::bucket::{Bucket, Class};
use crate::harness::{Broker, Options, Wire};
use crate::requests::{FETCH, Fetch, fetched};
use crate::tiering::{EARLIEST_LOCAL, KIB, LATEST_TIERED, Log, MIB, TIERED, create_topic_with};

const BATCH: usize = 64 * KIB;
const GIB: u64 = 1024 * MIB;
/// A third of it, 128 MiB, makes a pack; half of it stays on this machine.
const WAL: u64 = 384 * MIB;
/// The upload's share of it is two parts of 48 MiB.
const BUDGET: u64 = GIB;
const WRITES_PER_GIB: u64 = 64;
/// What a request of a reader that catches up brings at least, on average.
const BYTES_PER_GET: u64 = 4 * MIB;

const BILLED: &str = "tidegate_object_billed_requests_total";

fn start(bucket: &Bucket) -> (Broker, TempDir) {
    let options = Options::new().set("memory.budget.bytes", BUDGET).set("wal.max.bytes", WAL);
    let (options, folder) = bucket.options(options).on_disk();
    (Broker::start_with(options), folder)
}

/// Writes `bytes` bytes to `partitions` partitions in turn, at 10 MiB/s if it is long.
fn write(broker: &Broker, partitions: i32, bytes: u64, is_paced: bool) -> Vec<Log> {
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", partitions, &[]);
    let mut logs: Vec<Log> =
        (0..partitions).map(|partition| Log::new(&mut wire, "a", partition, BATCH)).collect();
    let rounds = bytes / BATCH as u64 / partitions as u64;
    let (begun, mut written) = (Instant::now(), 0);
    for _ in 0..rounds {
        for log in &mut logs {
            log.write_patiently(broker, &mut wire, 1);
            written += BATCH as u64;
            if is_paced {
                let due = Duration::from_millis(written * 100 / MIB);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
    }
    logs
}

/// The requests that bring `bytes` bytes over `partitions` partitions into the bucket.
fn assert_writes_are_few(partitions: i32, bytes: u64, is_paced: bool) {
    let bucket = Bucket::start();
    let (broker, _folder) = start(&bucket);
    let (before, counted) = (bucket.requests(Class::Write, ""), broker.metrics());
    let logs = write(&broker, partitions, bytes, is_paced);
    // What is left is less than a pack, and waits for more or for its age.
    broker.wait_until("what is enough for an object is in the bucket", |broker| {
        broker.metric("tidegate_broker_tier_lag_bytes") < (WAL / 3) as f64
            && bucket.bytes(Class::Write, TIERED) + WAL / 3 >= bytes
    });
    let writes = bucket.requests(Class::Write, "") - before;
    let came = bucket.bytes(Class::Write, TIERED);
    println!("{partitions} partitions: {writes} requests for {} MiB", came / MIB);
    assert!(writes * GIB <= WRITES_PER_GIB * came, "{writes} requests for {came} bytes");
    let label = format!("{BILLED}{{class=\"write\"}}");
    let told = broker.metrics().get(&label) - counted.get(&label);
    assert!(told >= writes as f64, "the broker counts {told} of {writes}");

    // Idle for as long as a consumer waits in vain, five seconds by the broker's clock. What was
    // due before, such as segments out of packs, may take a few of them.
    let mut wire = broker.connect();
    let fetch = Fetch { offset: logs[0].end, min_bytes: 1, max_wait_ms: 5_000, max_bytes: 1 << 20 };
    let is_still = (0..12).any(|_| {
        let data = bucket.requests(Class::Write, TIERED);
        assert!(fetched(wire.call(FETCH, &fetch.request("a"))).is_empty());
        bucket.requests(Class::Write, TIERED) == data
    });
    assert!(is_still, "nothing is brought when idle");
}

#[test]
fn few_requests_bring_ten_and_a_thousand_partitions_into_the_bucket() {
    if std::env::var_os("TIDEGATE_LONG").is_some() {
        for partitions in [10, 1_000, 10_000] {
            assert_writes_are_few(partitions, GIB, true);
        }
        return;
    }
    assert_writes_are_few(10, 512 * MIB, false);
    assert_writes_are_few(1_000, 512 * MIB, false);
}

#[test]
fn a_catch_up_reader_of_a_large_partition_costs_a_request_per_four_mebibytes() {
    let bucket = Bucket::start();
    let (mut broker, _folder) = start(&bucket);
    let bytes = if std::env::var_os("TIDEGATE_LONG").is_some() { 4 * GIB } else { 512 * MIB };
    let log = write(&broker, 1, bytes, false).remove(0);
    let mut wire = broker.connect();
    broker.wait_until("most of it is in the bucket", |_| {
        let tiered = log.offset(&mut wire, LATEST_TIERED) + 1;
        (log.end - tiered) as u64 * (BATCH as u64) < WAL / 2
    });
    // A start knows nothing of what was read before.
    broker.kill();
    broker.restart();
    let mut wire: Wire = broker.connect();
    let local = log.offset(&mut wire, EARLIEST_LOCAL);
    let served = local as u64 * BATCH as u64;
    assert!(served >= bytes / 4, "{served} bytes are in the bucket alone");
    let gets = bucket.requests(Class::Read, TIERED);
    let came = bucket.bytes(Class::Read, TIERED);
    log.verify(&mut wire, 0, local);
    let gets = bucket.requests(Class::Read, TIERED) - gets;
    let came = bucket.bytes(Class::Read, TIERED) - came;
    let footers =
        broker.metrics().get("tidegate_tier_cache_loaded_bytes_total{cache=\"footers\"}") as u64;
    let objects = bucket.objects(TIERED).len() as u64;
    println!("{gets} requests for {} MiB and {footers} bytes of footers", served / MIB);
    assert!(gets <= served.div_ceil(BYTES_PER_GET) + objects, "{gets} requests");
    // The last read may run ahead of what was asked for.
    let most = served + served / 20 + 2 * BYTES_PER_GET;
    assert!(came - footers <= most, "{came} bytes came, {footers} of footers, for {served}");
}

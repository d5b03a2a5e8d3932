//! Peers that are merely slow, on purpose or not: they must not stop anybody else (DESIGN D10).

use crate::harness::{Broker, Options, Wire};
use crate::hostile::assert_pools_are_empty;
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, all_topics, assert_served, batches, create_topic, fetched,
    produce, record,
};

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;
const BATCH_BYTES: usize = 512 * KIB;

fn broker() -> (Broker, Wire) {
    let broker = Broker::start_with(Options::new().set("memory.budget.bytes", BUDGET));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    (broker, wire)
}

#[test]
fn readers_that_do_not_read_stop_neither_a_producer_nor_another_reader() {
    const READERS: usize = 50;
    let (broker, mut wire) = broker();
    let before = broker.resident();
    for offset in 0..100 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
    }
    // From the disk, from memory, and of what is yet to come.
    let stalled: Vec<Wire> = (0..READERS)
        .map(|reader| {
            let mut wire = broker.connect();
            for offset in [reader, 90, 100] {
                wire.send(FETCH, &Fetch::parked(offset as i64, 1).request("a"));
            }
            wire
        })
        .collect();
    for offset in 100..200 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
    }
    let mut next = 0;
    while next < 200 {
        let fetch = Fetch { max_bytes: 8 << 20, ..Fetch::at(next) };
        for (offset, _) in batches(&fetched(wire.call(FETCH, &fetch.request("a")))) {
            assert_eq!(offset, next);
            next += 1;
        }
    }
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown <= BUDGET + BUDGET / 10, "{grown} bytes more are resident");
    drop(stalled);
    assert_pools_are_empty(&broker);
}

#[test]
fn large_fetches_that_wait_give_way_to_a_producer() {
    const PARTITIONS: i32 = 2_000;
    const PEERS: usize = 100;
    let (broker, mut wire) = broker();
    create_topic(&mut wire, "wide", PARTITIONS);
    let mut request = Fetch::parked(0, i32::MAX).request("wide");
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..PARTITIONS).map(|index| partition.clone().with_partition(index)).collect();
    // Together they become far more than the pool of large requests has.
    let _waiting: Vec<Wire> = (0..PEERS)
        .map(|_| {
            let mut wire = broker.connect();
            wire.send(FETCH, &request);
            wire
        })
        .collect();
    for offset in 0..20 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
    }
}

#[test]
fn halves_of_large_requests_do_not_stop_a_producer_of_large_requests() {
    const PEERS: usize = 100;
    let (broker, mut wire) = broker();
    let before = broker.resident();
    let _halves: Vec<Wire> = (0..PEERS)
        .map(|_| {
            let mut wire = broker.connect();
            // 8 MiB are announced, of which the broker keeps room for all once 64 KiB came.
            let mut half = (8_i32 << 20).to_be_bytes().to_vec();
            half.resize(200 * KIB, 0);
            let _ = wire.send_raw(&half);
            wire
        })
        .collect();
    for offset in 0..20 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
    }
    assert_served(&mut broker.connect());
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes more are resident");
}

#[test]
fn metadata_that_nobody_reads_stays_within_the_budget_and_stops_no_producer() {
    const PEERS: usize = 200;
    const REQUESTS: usize = 64;
    const PARTITIONS: i32 = 3_000;
    let (broker, mut wire) = broker();
    create_topic(&mut wire, "many", PARTITIONS);
    assert_served(&mut wire);
    let before = broker.resident();
    let stalled: Vec<Wire> = (0..PEERS)
        .map(|peer| {
            let mut wire = broker.connect();
            // Behind an answer that waits for records, and as fast as the peer could read.
            if peer % 2 == 0 {
                wire.send(FETCH, &Fetch::parked(0, i32::MAX).request("a"));
            }
            for _ in 0..REQUESTS {
                // The broker may close while we send.
                if wire.try_send(METADATA, &all_topics()).is_err() {
                    break;
                }
            }
            wire
        })
        .collect();
    for offset in 0..50 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
        let topics = broker.connect().call(METADATA, &all_topics()).topics;
        assert_eq!(topics.iter().map(|topic| topic.partitions.len()).max(), Some(3_000));
    }
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes more are resident");
    drop(stalled);
    assert_pools_are_empty(&broker);
}

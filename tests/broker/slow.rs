//! Peers that are merely slow, on purpose or not: they must not stop anybody else (DESIGN D10).

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use crate::harness::{Broker, Options, Wire};
use crate::hostile::assert_pools_are_empty;
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, PRODUCE, all_topics, assert_served, batches, create_topic,
    fetched, produce, produce_request, record,
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

/// A fetch of all partitions of a new topic `wide`, which waits for as long as no test runs.
fn wide_fetch(wire: &mut Wire, partitions: i32) -> FetchRequest {
    create_topic(wire, "wide", partitions);
    let mut request = Fetch::parked(0, i32::MAX).request("wide");
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..partitions).map(|index| partition.clone().with_partition(index)).collect();
    request
}

/// A producer of large batches is answered, one after another.
fn assert_produced(wire: &mut Wire, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        assert_eq!(produce(wire, "a", record(BATCH_BYTES)), (NONE, offset));
    }
}

#[test]
fn readers_that_do_not_read_stop_neither_a_producer_nor_another_reader() {
    const READERS: usize = 50;
    let (broker, mut wire) = broker();
    let before = broker.resident();
    assert_produced(&mut wire, 0..100);
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
    assert_produced(&mut wire, 100..200);
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
    let request = wide_fetch(&mut wire, PARTITIONS);
    // Together they become far more than the pool of large requests has.
    let _waiting: Vec<Wire> = (0..PEERS)
        .map(|_| {
            let mut wire = broker.connect();
            wire.send(FETCH, &request);
            wire
        })
        .collect();
    assert_produced(&mut wire, 0..20);
}

/// Small fetches by the dozen on each connection, of which only the first can be answered next.
#[test]
fn small_fetches_that_wait_behind_others_give_way() {
    const PARTITIONS: i32 = 300;
    const PEERS: usize = 40;
    const REQUESTS: usize = 60;
    let (broker, mut wire) = broker();
    let request = wide_fetch(&mut wire, PARTITIONS);
    let before = broker.resident();
    let clients: Vec<_> = (0..PEERS)
        .map(|_| {
            let (mut wire, request) = (broker.connect(), request.clone());
            std::thread::spawn(move || {
                let sent: Vec<i32> = (0..REQUESTS).map(|_| wire.send(FETCH, &request)).collect();
                (wire, sent)
            })
        })
        .collect();
    let mut waiting: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_produced(&mut wire, 0..20);
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    // Whoever came when the pool was not empty gives way now.
    let halves: Vec<Wire> = (0..80)
        .map(|_| {
            let mut wire = broker.connect();
            wire.send_raw(&[vec![0, 0, 0xf0, 0], vec![0; 32 * KIB]].concat()).unwrap();
            wire
        })
        .collect();
    // Those that gave way were answered, and with them the one that was charged to nothing.
    for (wire, sent) in &mut waiting {
        let answer = wire.receive::<FetchRequest>(FETCH, sent[0]);
        assert_eq!(answer.responses[0].partitions.len(), PARTITIONS as usize);
    }
    assert!(grown <= BUDGET / 2, "{grown} bytes more are resident");
    drop((waiting, halves));
    assert_pools_are_empty(&broker);
}

#[test]
fn halves_of_large_requests_do_not_stop_a_producer_of_large_requests() {
    const PEERS: usize = 100;
    let (broker, mut wire) = broker();
    let before = broker.resident();
    let _halves: Vec<Wire> = (0..PEERS)
        .map(|_| {
            let mut wire = broker.connect();
            // 6 MiB are announced, of which the broker keeps room for all once 64 KiB came.
            let mut half = (6_i32 << 20).to_be_bytes().to_vec();
            half.resize(200 * KIB, 0);
            let _ = wire.send_raw(&half);
            wire
        })
        .collect();
    assert_produced(&mut wire, 0..20);
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

#[test]
fn answers_to_producers_that_nobody_reads_stay_within_the_budget_and_stop_no_producer() {
    const PEERS: usize = 40;
    const REQUESTS: usize = 16;
    const PARTITIONS: usize = 10_000;
    let (broker, mut wire) = broker();
    let request = produce_nothing(PARTITIONS);
    let refused = broker.connect().call(PRODUCE, &request);
    assert_eq!(refused.responses[0].partition_responses.len(), PARTITIONS);
    let before = broker.resident();
    let stalled: Vec<Wire> = (0..PEERS)
        .map(|_| {
            let mut wire = broker.connect();
            for _ in 0..REQUESTS {
                // The broker may close while we send.
                if wire.try_send(PRODUCE, &request).is_err() {
                    break;
                }
            }
            wire
        })
        .collect();
    for offset in 0..20 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, offset));
        let refused = broker.connect().call(PRODUCE, &request);
        assert_eq!(refused.responses[0].partition_responses.len(), PARTITIONS);
    }
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes more are resident");
    drop(stalled);
    assert_pools_are_empty(&broker);
}

#[test]
fn a_produce_of_more_partitions_than_there_is_memory_for_is_refused() {
    let (broker, mut wire) = broker();
    let before = broker.resident();
    // Less than half a MiB, and more than the pool of large requests when it is taken apart.
    let request = produce_nothing(80_000);
    for _ in 0..8 {
        let mut wire = broker.connect();
        wire.send(PRODUCE, &request);
        assert!(wire.is_closed_by_broker());
    }
    broker.wait_for_log("80000 partitions in one request");
    let grown = broker.resident_max() - before;
    println!("{grown} bytes more are resident");
    assert!(grown <= BUDGET / 4, "{grown} bytes more are resident");
    assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, 0));
    assert_pools_are_empty(&broker);
}

/// A Produce without records: six bytes a partition, each answered with many more.
fn produce_nothing(partitions: usize) -> ProduceRequest {
    let mut request = produce_request("a", 0, -1, Bytes::new());
    let nothing = request.topic_data[0].partition_data[0].clone().with_records(None);
    request.topic_data[0].partition_data = vec![nothing; partitions];
    request
}

//! A thousand hostile connections beside a working producer (issue 3, M5): the producer sees no
//! error, and memory stays bounded.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kafka_protocol::messages::ProduceRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::protocol::batch::ProducerRef;

use crate::harness::{Broker, Options, Wire};
use crate::hostile::{assert_pools_are_empty, frame};
use crate::mutations::{corpus, mutation};
use crate::requests::{
    FETCH, Fetch, METADATA, NONE, PRODUCE, all_topics, api_versions, assert_served, batch, batches,
    create_topic, fetched, noise, produce_request, produced, producer_id,
};

const MIB: u64 = 1 << 20;
const RSS_GROWTH_MAX: u64 = 64 * MIB;
const HOSTILE: usize = 1_000;
const THREADS: usize = 4;
/// Requests that the producer keeps in flight, as Kafka's does.
const DEPTH: usize = 5;
/// Batches that must be acknowledged before the storm, and again after its last connection came.
const CALM: usize = 50;
const RECORD_BYTES: usize = 200;

/// An idempotent producer on a raw connection.
struct Producer {
    wire: Wire,
    id: ProducerRef,
    sent: Vec<i32>,
    acked: usize,
}

impl Producer {
    fn new(broker: &Broker) -> Self {
        let mut wire = broker.connect();
        create_topic(&mut wire, "work", 1);
        let id = producer_id(&mut wire);
        Self { wire, id, sent: Vec::new(), acked: 0 }
    }

    /// Has one more batch acknowledged.
    fn turn(&mut self) {
        while self.sent.len() < self.acked + DEPTH {
            let sequence = self.sent.len() as i32;
            let batch = batch(ProducerRef { sequence, ..self.id }, RECORD_BYTES);
            self.sent.push(self.wire.send(PRODUCE, &produce_request("work", 0, -1, batch)));
        }
        let response = self.wire.receive::<ProduceRequest>(PRODUCE, self.sent[self.acked]);
        let partition = produced(&response);
        assert_eq!((partition.error_code, partition.base_offset), (NONE, self.acked as i64));
        self.acked += 1;
    }
}

/// One hostile connection. What must stay open is returned.
fn attack(broker: &Broker, corpus: &[(String, Vec<u8>)], number: usize) -> Wire {
    let mut wire = broker.connect();
    let seed = 1_000_000 + number as u64;
    // The broker may close the connection at any byte.
    let _ = match number % 10 {
        0 => wire.send_raw(&corpus[number % corpus.len()].1),
        1 | 2 => (0..8).try_for_each(|more| wire.send_raw(&mutation(corpus, seed * 8 + more))),
        // Half frames: of a length, of a small request, of a large one, with nothing after them.
        3 => wire.send_raw(&[0, 0]),
        4 => wire.send_raw(&half(60_000, 30_000)),
        5 => wire.send_raw(&half(8 << 20, 100_000)),
        // Storms whose answers nobody reads.
        6 => (0..200).try_for_each(|_| wire.try_send(4, &api_versions())),
        7 => (0..100).try_for_each(|_| wire.try_send(METADATA, &all_topics())),
        // As many as may be in flight.
        8 => (0..64).try_for_each(|_| wire.try_send(FETCH, &Fetch::parked(0, 1).request("idle"))),
        _ => wire.send_raw(&noise(seed, 300)),
    };
    wire
}

/// A frame of `length` bytes of which `sent` come.
fn half(length: i32, sent: usize) -> Vec<u8> {
    let mut bytes = frame(0, 9, true, &vec![0; sent]);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Both processes have a thousand sockets; a soft limit of 1,024 files is common.
fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn assert_producer_is_not_harmed(options: Options) {
    allow_many_files();
    let corpus = corpus();
    let mut broker = Broker::start_with(options);
    let mut bystander = broker.connect();
    create_topic(&mut bystander, "idle", 1);
    let mut producer = Producer::new(&broker);
    (0..CALM).for_each(|_| producer.turn());
    let before = broker.resident();

    let (over, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let held: Vec<Wire> = std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                    let mine = numbers.take_while(|number| *number < HOSTILE);
                    mine.map(|number| attack(&broker, &corpus, number)).collect::<Vec<Wire>>()
                })
            })
            .collect();
        let work = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                producer.turn();
            }
        });
        let held = attackers.into_iter().flat_map(|attacker| attacker.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        work.join().unwrap();
        held
    });
    assert_eq!(held.len(), HOSTILE);
    (0..CALM).for_each(|_| producer.turn());
    assert_served(&mut bystander);
    assert!(broker.is_running());
    let grown = broker.resident_max().saturating_sub(before);
    println!("{grown} bytes more are resident");
    assert!(grown <= RSS_GROWTH_MAX, "{grown} bytes more are resident");

    drop(held);
    let count = producer.acked;
    assert_log_holds_at_least(&broker, count);
    drop(producer);
    assert_pools_are_empty(&broker);
    let panics = "tidegate_server_connections_closed_total{cause=\"panic\"}";
    assert_eq!(broker.metrics().get(panics), 0.0);
}

/// What was acknowledged is there, once and without a gap.
fn assert_log_holds_at_least(broker: &Broker, count: usize) {
    let mut wire = broker.connect();
    let mut next = 0;
    loop {
        let records = fetched(wire.call(FETCH, &Fetch::at(next).request("work")));
        for (offset, _) in batches(&records) {
            assert_eq!(offset, next);
            next += 1;
        }
        if records.is_empty() {
            break;
        }
    }
    assert!(next >= count as i64, "{next} records of {count} that were acknowledged");
}

#[test]
fn peers_that_send_on_behind_parked_requests_do_not_hold_all_memory() {
    const IN_FLIGHT_MAX: usize = 64;
    let broker = Broker::start_with(Options::new().set("memory.budget.bytes", "64MiB"));
    let mut producer = Producer::new(&broker);
    create_topic(&mut broker.connect(), "idle", 1);
    producer.turn();
    // Three times as many connections as the pool for small requests has read buffers.
    let _held: Vec<Wire> = (0..192)
        .map(|_| {
            let mut wire = broker.connect();
            for _ in 0..IN_FLIGHT_MAX {
                wire.send(FETCH, &Fetch::parked(0, 1).request("idle"));
            }
            wire.send_raw(&half(60_000, 30_000)).unwrap();
            wire
        })
        .collect();
    (0..CALM).for_each(|_| producer.turn());
    assert_served(&mut broker.connect());
}

#[test]
fn a_thousand_hostile_connections_do_not_harm_a_producer() {
    assert_producer_is_not_harmed(Options::new());
}

#[test]
fn a_thousand_hostile_connections_do_not_harm_a_producer_under_the_least_budget() {
    assert_producer_is_not_harmed(Options::new().set("memory.budget.bytes", "64MiB"));
}

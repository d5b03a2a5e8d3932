//! Bytes that nobody reads are not kept, and connections that nobody uses cost little.
//!
//! Short form: 1,000 idle connections. `TIDEGATE_LONG=1`: 10,000.

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest};
use tidegate::protocol::batch::BatchBuilder;

use crate::client::{Client, Leaks};
use crate::harness::proxy::{Proxy, ProxyOptions};
use crate::harness::{Broker, Options, Wire, raise_limit_of_files, until};
use crate::work::{self, Topic};

const NODE: i32 = 1;
const MIB: u64 = 1 << 20;

/// Readers that do not read, and the answers of a MiB each that they have asked for.
const READERS: usize = 16;
const ANSWERS: usize = 32;
/// What the answers may take of the proxy; there are 512 MiB of them.
const HELD_MAX: u64 = 64 * MIB;

#[test]
fn readers_that_do_not_read_take_little_memory_and_lose_nothing() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address());
    let mut client = Client::new(proxy.address(), &Leaks::of([broker.address()]));
    let topic = Topic::create(&mut client, &proxy.address(), "unread", 1);
    let (_, leader) = client.leader(&topic.name, 0);
    let mut batch = BatchBuilder::new();
    batch.append(0, None, Some(&vec![b'v'; 1_000_000]), &[]);
    let batch = batch.build();
    let answer = work::send(&mut client, &leader, &topic, 9, batch.clone());
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let read = work::read(&mut client, &leader, &topic, 12, 0);
    assert_eq!(read.records.unwrap().len(), batch.len());

    let before = proxy.resident();
    let mut readers: Vec<(Wire, Vec<i32>)> = (0..READERS)
        .map(|_| {
            let mut wire = Wire::connect(&leader);
            let sent = (0..ANSWERS).map(|_| wire.send(12, &work::fetch(&topic, 12, 0))).collect();
            (wire, sent)
        })
        .collect();
    let held = at_rest(|| proxy.resident()).saturating_sub(before);
    assert!(held < HELD_MAX, "{} MiB are held", held / MIB);
    for (wire, sent) in &mut readers {
        for id in sent {
            let mut answer = wire.receive::<FetchRequest>(12, *id);
            let records = answer.responses.remove(0).partitions.remove(0).records;
            assert_eq!(records.unwrap().len(), batch.len());
        }
    }
    let most = proxy.resident_max().saturating_sub(before);
    assert!(most < HELD_MAX, "{} MiB were held", most / MIB);
}

/// A figure once it no longer grows.
fn at_rest(look: impl Fn() -> u64) -> u64 {
    let (mut most, mut same) = (0, 0);
    until("the proxy is at rest", || {
        let now = look();
        same = if now > most { 0 } else { same + 1 };
        most = most.max(now);
        (same > 50).then_some(most)
    })
}

#[test]
fn idle_connections_cost_little_and_go_on_working() {
    let long = std::env::var_os("TIDEGATE_LONG").is_some();
    let count: usize = if long { 10_000 } else { 1_000 };
    let needed = 2 * count as u64 + 200;
    let files = raise_limit_of_files(needed);
    assert!(files >= needed, "{files} open files; raise the limit (ulimit -Hn {needed})");
    let settings = Options::new().set("max.connections", 2 * count);
    let broker = Broker::start_with(settings.set("max.connections.per.ip", 2 * count));
    let options = ProxyOptions::new(broker.address()).set("max.connections", 2 * count);
    let proxy = Proxy::start_with(&options.set("max.connections.per.ip", 2 * count));
    // What the first connection needs belongs to none.
    let answers = |wire: &mut Wire| {
        assert_eq!(wire.call(0, &ApiVersionsRequest::default()).error_code, 0);
    };
    answers(&mut proxy.connect_to(NODE));
    let before = proxy.resident();
    let mut idle: Vec<Wire> = (0..count).map(|_| proxy.connect_to(NODE)).collect();
    idle.iter_mut().for_each(answers);
    let each = at_rest(|| proxy.resident()).saturating_sub(before) / count as u64;
    println!("{count} idle connections: {each} bytes each");
    assert!(each < 64 << 10, "{each} bytes each");
    idle.iter_mut().for_each(answers);
    assert!(proxy.sockets() >= 2 * count);
    drop(idle);
    until("they are gone", || (proxy.sockets() < 100).then_some(()));
}

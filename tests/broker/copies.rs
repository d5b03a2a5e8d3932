//! How often a byte is copied in user space, counted by the broker itself.

use crate::harness::{Broker, Metrics};
use crate::requests::{FETCH, Fetch, NONE, batches, create_topic, fetched, produce, record};

const COPIED_IN: &str = r#"tidegate_server_copied_bytes_total{direction="in"}"#;
const COPIED_OUT: &str = r#"tidegate_server_copied_bytes_total{direction="out"}"#;
const WAL_COPIED: &str = "tidegate_wal_copied_bytes_total";
const APPENDED: &str = "tidegate_partition_appended_bytes_total";
const PARTITION_COPIED: &str = "tidegate_partition_copied_bytes_total";
const SENT: &str = r#"tidegate_server_sent_bytes_total{api="Fetch"}"#;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What was counted between two moments.
struct Since<'a>(&'a Metrics, &'a Metrics);

impl Since<'_> {
    fn get(&self, name: &str) -> f64 {
        self.1.get(name) - self.0.get(name)
    }
}

/// Produces `count` batches of about `bytes` bytes one by one: copies made by the front door, and
/// by the log, per byte appended.
fn copies_per_produced_byte(bytes: usize, count: usize) -> (f64, f64) {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    // The first requests of a connection are read with a small buffer.
    for _ in 0..4 {
        assert_eq!(produce(&mut wire, "a", record(bytes)).0, NONE);
    }
    let before = broker.metrics();
    for _ in 0..count {
        assert_eq!(produce(&mut wire, "a", record(bytes)).0, NONE);
    }
    let after = broker.metrics();
    let since = Since(&before, &after);
    let appended = since.get(APPENDED);
    assert!(appended >= (bytes * count) as f64);
    assert_eq!(since.get(PARTITION_COPIED), appended, "the copy into the log is the partition's");
    let copies = (since.get(COPIED_IN) / appended, since.get(WAL_COPIED) / appended);
    println!("copies at the door and into the log: {copies:?}");
    copies
}

#[test]
fn a_produced_byte_of_a_large_batch_is_copied_once() {
    let (door, log) = copies_per_produced_byte(MIB - KIB, 16);
    // The log's record adds a few bytes of its own; the door copies at most 64 KiB of each frame
    // into the frame's own buffer, before it is known that there is room for all of it.
    assert!((1.0..1.001).contains(&log), "{log} copies per byte into the log");
    assert!(door <= 1.0 / 16.0 + 0.001, "{door} copies per byte at the door");
}

#[test]
fn a_produced_byte_of_a_16_kib_batch_is_copied_once() {
    let (door, log) = copies_per_produced_byte(16 * KIB, 64);
    assert!((1.0..1.01).contains(&log), "{log} copies per byte into the log");
    assert!(door <= 0.01, "{door} copies per byte at the door");
}

/// Produces `count` batches of about `bytes` bytes and reads them while they are in memory: bytes
/// copied by the front door per byte sent.
fn copies_per_fetched_byte(bytes: usize, count: usize) -> f64 {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    for _ in 0..count {
        assert_eq!(produce(&mut wire, "a", record(bytes)).0, NONE);
    }
    let before = broker.metrics();
    let fetch = Fetch { max_bytes: (2 * bytes * count) as i32, ..Fetch::at(0) };
    let read = fetched(wire.call(FETCH, &fetch.request("a")));
    assert_eq!(batches(&read).len(), count);
    let sent = |broker: &Broker| broker.metrics().get(SENT) - before.get(SENT);
    broker.wait_until("the response is counted", |broker| sent(broker) >= read.len() as f64);
    let after = broker.metrics();
    let since = Since(&before, &after);
    since.get(COPIED_OUT) / since.get(SENT)
}

#[test]
fn no_byte_of_a_fetched_batch_is_copied_from_16_kib_up() {
    // Only the response's own header is put together.
    for (bytes, count) in [(16 * KIB, 64), (128 * KIB, 16), (MIB - KIB, 8)] {
        let copies = copies_per_fetched_byte(bytes, count);
        assert!(copies > 0.0, "the header is counted");
        assert!(copies < 0.001, "{copies} copies per byte for batches of {bytes} bytes");
    }
}

#[test]
fn a_byte_of_a_small_fetched_batch_is_copied_at_most_once() {
    let copies = copies_per_fetched_byte(500, 200);
    assert!((0.9..=1.0).contains(&copies), "{copies} copies per byte");
}

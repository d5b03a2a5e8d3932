//! What a scenario works with: its client, the broker, and names of its own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::clients::Client;
use super::driver::Driver;
use super::log;
use crate::harness::Wire;

/// How long something may take that clients do by themselves: rebalances, metadata, retries.
const PATIENCE: Duration = Duration::from_mins(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a poll waits in the client when there may be nothing to come.
pub const QUIET_MS: u64 = 1_000;
const POLL_MS: u64 = 300;

/// A scenario of a client.
pub struct Context<'a> {
    /// The client.
    pub client: &'static Client,
    /// Its driver.
    pub driver: &'a Driver,
    address: &'a str,
    scenario: &'static str,
}

impl<'a> Context<'a> {
    /// The scenario `scenario` of `client`, whose broker is at `address`.
    pub fn new(
        client: &'static Client,
        driver: &'a Driver,
        address: &'a str,
        scenario: &'static str,
    ) -> Self {
        Self { client, driver, address, scenario }
    }

    /// A connection of ours to the broker.
    pub fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// A name for a topic, group or handle that no other scenario or client has.
    pub fn name(&self, what: &str) -> String {
        format!("{}.{}.{what}", self.scenario, self.client.id)
    }

    /// Creates a topic of this scenario and returns its name.
    pub fn topic(&self, what: &str, partitions: i32) -> String {
        let name = self.name(what);
        log::create_topics(&mut self.wire(), std::slice::from_ref(&name), partitions, &[]);
        name
    }

    /// Sends records with `acks=all` and default settings, changed by `settings`; each answer is
    /// `[partition, offset]` or the error's text.
    pub fn produce(&self, mut settings: Value, records: &[Value]) -> Vec<Value> {
        settings["records"] = json!(records);
        if settings["acks"].is_null() {
            settings["acks"] = json!("all");
        }
        let answer = self.driver.call("produce", settings);
        let sent = answer["sent"].as_array().unwrap().clone();
        assert_eq!(sent.len(), records.len(), "every record has an answer");
        sent
    }

    /// Sends records, all of which have to be taken.
    pub fn send(&self, settings: Value, records: &[Value]) -> Vec<Value> {
        let sent = self.produce(settings, records);
        let refused: Vec<&Value> = sent.iter().filter(|sent| !sent.is_array()).collect();
        assert!(refused.is_empty(), "refused: {refused:?}");
        sent
    }

    /// A reader of whole partitions, from their beginning, outside of any group.
    pub fn assign(&self, what: &str, partitions: &[(&str, i32)]) -> Reader<'a> {
        self.open(what, json!({"assign": partitions}))
    }

    /// A member of `group`, that begins at the earliest record and does not commit by itself.
    pub fn join(&self, what: &str, group: &str, topic: &str) -> Reader<'a> {
        self.open(what, json!({"group": group, "topics": [topic]}))
    }

    /// A reader with any fields of `open`.
    pub fn open(&self, what: &str, mut fields: Value) -> Reader<'a> {
        let handle = self.name(what);
        fields["handle"] = json!(handle);
        self.driver.call("open", fields);
        Reader { driver: self.driver, handle, read: Vec::new(), positions: HashSet::new() }
    }

    /// Starts a producer that sends `prefix` + 0, 1, … to `topic` until it is stopped.
    pub fn load(&self, topic: &str, prefix: &str) -> Load<'_> {
        let handle = self.name(&format!("load.{topic}"));
        self.driver.call("load", json!({"handle": handle, "topic": topic, "prefix": prefix}));
        Load { driver: self.driver, handle }
    }
}

/// Waits until `condition` holds, looking again and again: only for what no event tells.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_or(what, condition, String::new);
}

/// [`wait_until`] that tells what `found` says if it waited in vain.
pub fn wait_until_or(
    what: &str,
    mut condition: impl FnMut() -> bool,
    found: impl FnOnce() -> String,
) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what} {}", found());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A consumer of the client.
pub struct Reader<'a> {
    driver: &'a Driver,
    handle: String,
    /// All that it has read.
    pub read: Vec<Value>,
    positions: HashSet<(String, i64, i64)>,
}

impl Reader<'_> {
    fn with_handle(&self, mut fields: Value) -> Value {
        fields["handle"] = json!(self.handle);
        fields
    }

    /// Does a command of this reader.
    pub fn call(&self, op: &str, fields: Value) -> Value {
        self.driver.call(op, self.with_handle(fields))
    }

    /// Reads on for a moment, or until there are `count` more records; returns those.
    pub fn poll(&mut self, count: usize, ms: u64) -> Vec<Value> {
        let answer = self.call("poll", json!({"count": count, "ms": ms}));
        let records = answer["records"].as_array().unwrap().clone();
        for record in &records {
            self.positions.insert(position(record));
        }
        self.read.extend(records.iter().cloned());
        records
    }

    /// Reads on for a moment; for group members, which have to keep polling.
    pub fn poll_once(&mut self) -> Vec<Value> {
        self.poll(1_000, POLL_MS)
    }

    /// [`Reader::poll_once`] of a client that may report an error.
    pub fn try_poll_once(&mut self) -> Result<(), String> {
        let fields = self.with_handle(json!({"count": 1_000, "ms": POLL_MS}));
        let answer = self.driver.try_call("poll", fields)?;
        self.read.extend(answer["records"].as_array().unwrap().iter().cloned());
        Ok(())
    }

    /// Reads `count` more records.
    pub fn take(&mut self, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        wait_until(&format!("{} reads {count} records", self.handle), || {
            taken.extend(self.poll(count - taken.len(), QUIET_MS));
            taken.len() >= count
        });
        taken
    }

    /// Finds that nothing more is there to be read.
    pub fn finds_nothing(&mut self) {
        let records = self.poll(1, QUIET_MS);
        assert!(records.is_empty(), "unexpected: {records:?}");
    }

    /// Reads until it has read everything in `expected`, and finds the same in each record.
    pub fn reads_all(&mut self, expected: &[Value]) {
        let wanted: HashSet<_> = expected.iter().map(position).collect();
        wait_until(&format!("{} reads all of {}", self.handle, expected.len()), || {
            wanted.is_subset(&self.positions) || {
                self.poll_once();
                false
            }
        });
        for expected in expected {
            let same = position(expected);
            let read = self.read.iter().find(|record| position(record) == same).unwrap();
            assert_eq!(read, expected, "what was read and what stands in the log");
        }
    }

    /// Whether it has read the record at this position of the log.
    pub fn has_read(&self, position: &(String, i64, i64)) -> bool {
        self.positions.contains(position)
    }

    /// Moves on to a place: `"beginning"`, `"end"` or an offset.
    pub fn seek(&self, topic: &str, partition: i32, to: &Value) {
        self.call("seek", json!({"topic": topic, "partition": partition, "to": to}));
    }

    /// Ends the consumer and returns what it read, and may have committed, since the last poll:
    /// not every client waits to be asked.
    pub fn close(self) -> Vec<Value> {
        let answer = self.call("close", json!({}));
        answer["records"].as_array().cloned().unwrap_or_default()
    }
}

/// Where a record stands: topic, partition, offset.
pub fn position(record: &Value) -> (String, i64, i64) {
    let topic = record["topic"].as_str().unwrap().to_owned();
    (topic, record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap())
}

/// A producer at work.
pub struct Load<'a> {
    driver: &'a Driver,
    handle: String,
}

/// An acknowledged value, and where its producer was told it is, if the client tells.
pub struct Acked {
    /// The number behind the prefix.
    pub number: i64,
    /// Partition and offset; -1 each if the client does not tell.
    pub at: (i64, i64),
}

impl Load<'_> {
    /// Stops it and returns what was acknowledged.
    pub fn stop(self) -> Vec<Acked> {
        let answer = self.driver.call("stop", json!({"handle": self.handle}));
        let acked = answer["acked"].as_array().unwrap().iter().map(|acked| Acked {
            number: acked[0].as_i64().unwrap(),
            at: (acked[1].as_i64().unwrap(), acked[2].as_i64().unwrap()),
        });
        acked.collect()
    }
}

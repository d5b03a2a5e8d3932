//! The broker is killed (SIGKILL) and started while a client writes and reads. Every acknowledged
//! record stands where its producer was told, and the consumer reads all of the log.

use serde_json::{Value, json};

use crate::matrix::context::{Context, Load, Reader, position, wait_until};
use crate::matrix::log;

/// Records that are written before the kill, and at least as many after it.
const ENOUGH: i64 = 50;

/// A client at work while the broker is restarted.
pub struct Working<'a> {
    topic: String,
    load: Load<'a>,
    reader: Reader<'a>,
}

/// Starts a producer and a consumer, and waits until both are at work.
pub fn begin<'a>(context: &'a Context<'_>) -> Working<'a> {
    let topic = context.topic("records", 1);
    let group = context.name("group");
    let fields = json!({"group": group, "topics": [topic], "auto_commit": true});
    let mut reader = context.open("reader", fields);
    let load = context.load(&topic, "");
    wait_until("the reader follows the load", || {
        reader.poll_once();
        reader.read.len() as i64 >= ENOUGH
    });
    Working { topic, load, reader }
}

impl Working<'_> {
    /// Waits until both work again, and judges the log.
    pub fn end(mut self, context: &Context<'_>) {
        let mut wire = context.wire();
        let at_restart = log::end_offsets(&mut wire, &[&self.topic], 1)[0];
        wait_until("the producer goes on after the restart", || {
            self.reader.poll_once();
            log::end_offsets(&mut wire, &[&self.topic], 1)[0] >= at_restart + ENOUGH
        });
        let acked = self.load.stop();
        assert!(!acked.is_empty(), "there was a load");
        let stored = log::records(&mut wire, &self.topic, 0);
        for acked in acked {
            let value = Value::from(acked.number.to_string());
            let stands = match acked.at {
                (_, -1) => stored.iter().any(|record| record["value"] == value),
                (_, offset) => stored[offset as usize]["value"] == value,
            };
            assert!(stands, "{value} was acknowledged at {:?} and is not there", acked.at);
        }
        wait_until("the consumer reads all of the log", || {
            self.reader.poll_once();
            stored.iter().all(|record| self.reader.has_read(&position(record)))
        });
        self.reader.close();
    }
}

//! A driver: a small program around one client library that does as it is told.
//!
//! It reads one JSON command a line from standard input and answers each with one JSON line on
//! standard output: `{"id": 7, …}` for command 7, with `"error": "…"` if it could not be done.
//! Commands run side by side; those of one handle are sent one after another. A driver ends when
//! its standard input does. It decides nothing: scenarios live here, and they judge the log.
//!
//! | op | fields | answer |
//! |---|---|---|
//! | `version` | | `version` of the library |
//! | `produce` | `acks` `codec` `idempotent` `max_bytes` `partitioner` `records` | `sent`: per record `[partition, offset]` (-1 if the client does not tell) or the error's text |
//! | `load` | `handle` `topic` `prefix` | none; sends the values prefix + 0, 1, … until `stop` |
//! | `stop` | `handle` | `acked`: `[n, partition, offset]` each |
//! | `transact` | `transactional_id` `transactions` of `records`, `end` (`commit`, `abort`, `none`) and perhaps `group` and its `offsets` | none; one producer does all, and what it leaves open stays open |
//! | `open` | `handle` `group` `topics`, or `assign` of `[topic, partition]`; `instance` `strategy` `auto_commit` `max_bytes` `reset` `isolation` | none |
//! | `poll` | `handle` `count` `ms` | `records`: as soon as there are `count`, or after `ms` |
//! | `commit` | `handle` `offsets` of `[topic, partition, offset, metadata]` | none |
//! | `seek` | `handle` `topic` `partition` `to`: `beginning`, `end` or an offset | none |
//! | `seek_time` | `handle` `topic` `partition` `timestamp` | none |
//! | `pause` `resume` | `handle` `topic` `partition` | none |
//! | `close` | `handle` | `records` that it read by itself since the last poll, if it did |
//!
//! A record to send has `topic`, `value` and `repeat` (the value is that many times the text),
//! `key`, `headers` of `[name, value]`, `partition` and `timestamp`, each of which may be null. A
//! record that was read has `topic`, `partition`, `offset`, `timestamp`, `key`, `value` and
//! `headers`; a key or value over 256 bytes is given as `crc32:`, its
//! CRC-32 as eight hex digits, `:` and its length.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A driver that is silent for this long on a command hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who waits for which answer; `None` once the driver has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Value>>>>>;

/// A running driver; killed when dropped.
pub struct Driver {
    child: Mutex<Child>,
    commands: Mutex<(u64, ChildStdin)>,
    waiting: Waiting,
}

impl Driver {
    /// Starts the program.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let followed = Arc::clone(&waiting);
        std::thread::spawn(move || follow(stdout, &followed));
        Self { child: Mutex::new(child), commands: Mutex::new((0, stdin)), waiting }
    }

    /// Does a command and returns its answer, or the error that the client reported.
    pub fn try_call(&self, op: &str, mut fields: Value) -> Result<Value, String> {
        let (sender, receiver) = channel();
        {
            let mut commands = self.commands.lock().unwrap();
            commands.0 += 1;
            let id = commands.0;
            fields["id"] = json!(id);
            fields["op"] = json!(op);
            let mut waiting = self.waiting.lock().unwrap();
            waiting.as_mut().ok_or("the driver has ended")?.insert(id, sender);
            drop(waiting);
            let line = format!("{fields}\n");
            commands.1.write_all(line.as_bytes()).map_err(|error| format!("{op}: {error}"))?;
        }
        let answer = receiver.recv_timeout(PATIENCE);
        let answer = answer.map_err(|error| format!("{op}: no answer, {error}"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{op}: {}", error.as_str().unwrap_or("unnamed error"))),
            None => Ok(answer),
        }
    }

    /// Does a command that has to succeed.
    pub fn call(&self, op: &str, fields: Value) -> Value {
        self.try_call(op, fields).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Hands each answer to the thread that waits for it, until the driver ends.
fn follow(stdout: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(answer) = serde_json::from_str::<Value>(&line) else {
            eprintln!("driver: {line}");
            continue;
        };
        let Some(id) = answer["id"].as_u64() else { continue };
        let sender = waiting.lock().unwrap().as_mut().and_then(|waiting| waiting.remove(&id));
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }
    // Dropping the senders tells everybody who still waits.
    *waiting.lock().unwrap() = None;
}

//! The driver of the rdkafka crate. The contract is described in tests/compat/matrix/driver.rs.
//!
//! ```text
//! rdkafka driver BOOTSTRAP
//! ```

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

const TEXT_BYTES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error>;
type Answer = Result<Value, Failure>;

/// What became of each record, by its number: the position or the error.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<HashMap<usize, Result<(i32, i64), String>>>>);

impl ClientContext for Outcomes {}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        self.0.lock().unwrap().insert(*number, outcome);
    }
}

struct Reader(BaseConsumer);

struct Load {
    stopped: Arc<AtomicBool>,
    work: JoinHandle<Vec<Value>>,
}

struct Driver {
    bootstrap: String,
    readers: Mutex<HashMap<String, Arc<Reader>>>,
    loads: Mutex<HashMap<String, Load>>,
}

fn main() {
    let bootstrap = std::env::args().nth(2).expect("usage: rdkafka driver BOOTSTRAP");
    let driver = Arc::new(Driver { bootstrap, readers: Mutex::default(), loads: Mutex::default() });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let command: Value = serde_json::from_str(&line).expect("commands are JSON");
        let driver = Arc::clone(&driver);
        std::thread::spawn(move || {
            let mut answer = driver.carry_out(&command).unwrap_or_else(|error| {
                eprintln!("rdkafka: {command}: {error}");
                json!({"error": error.to_string()})
            });
            answer["id"] = command["id"].clone();
            let mut out = std::io::stdout().lock();
            writeln!(out, "{answer}").and_then(|()| out.flush()).expect("somebody listens");
        });
    }
}

fn field<'v>(command: &'v Value, name: &str) -> &'v str {
    command[name].as_str().unwrap_or_default()
}

fn partition(command: &Value) -> (&str, i32) {
    (field(command, "topic"), command["partition"].as_i64().unwrap_or(0) as i32)
}

fn one_partition(command: &Value) -> TopicPartitionList {
    let (topic, partition) = partition(command);
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}

impl Driver {
    fn carry_out(&self, command: &Value) -> Answer {
        match field(command, "op") {
            "version" => {
                let library = rdkafka::util::get_rdkafka_version().1;
                Ok(json!({"version": format!("{} (librdkafka {library})", env!("RDKAFKA_CRATE"))}))
            }
            "produce" => self.produce(command),
            "load" => self.load(command),
            "stop" => self.stop(command),
            "open" => self.open(command),
            "close" => {
                let reader = self.readers.lock().unwrap().remove(field(command, "handle"));
                Ok(json!({"records": reader.ok_or("no such consumer")?.close()?}))
            }
            op => self.read(op, command),
        }
    }

    fn producer(&self, command: &Value) -> Result<ThreadedProducer<Outcomes>, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("acks", command["acks"].as_str().unwrap_or("all"));
        config.set("compression.type", command["codec"].as_str().unwrap_or("none"));
        config.set("linger.ms", "20");
        config.set(
            "enable.idempotence",
            command["idempotent"].as_bool().unwrap_or(false).to_string(),
        );
        if let Some(bytes) = command["max_bytes"].as_i64() {
            config.set("message.max.bytes", bytes.to_string());
        }
        if command["partitioner"] == "murmur2" {
            config.set("partitioner", "murmur2_random");
        }
        Ok(config.create_with_context(Outcomes::default())?)
    }

    fn produce(&self, command: &Value) -> Answer {
        let producer = self.producer(command)?;
        let records = command["records"].as_array().ok_or("no records")?;
        for (number, record) in records.iter().enumerate() {
            send(&producer, number, record)?;
        }
        producer.flush(PATIENCE)?;
        let mut outcomes = producer.context().0.lock().unwrap();
        let sent = (0..records.len()).map(|number| match outcomes.remove(&number) {
            Some(Ok((partition, offset))) => json!([partition, offset]),
            Some(Err(error)) => json!(error),
            None => json!("nothing was told"),
        });
        Ok(json!({"sent": sent.collect::<Vec<_>>()}))
    }

    fn load(&self, command: &Value) -> Answer {
        let producer = self.producer(&json!({}))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let (topic, prefix) =
            (field(command, "topic").to_owned(), field(command, "prefix").to_owned());
        let work = std::thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let value = format!("{prefix}{number}");
                let record = BaseRecord::<str, str, _>::with_opaque_to(&topic, Box::new(number));
                if producer.send(record.payload(&value)).is_ok() {
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            producer.flush(PATIENCE).expect("the load is delivered");
            let outcomes = producer.context().0.lock().unwrap();
            outcomes
                .iter()
                .filter_map(|(number, outcome)| {
                    let (partition, offset) = outcome.as_ref().ok()?;
                    Some(json!([number, partition, offset]))
                })
                .collect()
        });
        let handle = field(command, "handle").to_owned();
        self.loads.lock().unwrap().insert(handle, Load { stopped, work });
        Ok(json!({}))
    }

    fn stop(&self, command: &Value) -> Answer {
        let load =
            self.loads.lock().unwrap().remove(field(command, "handle")).ok_or("no such load")?;
        load.stopped.store(true, Ordering::Relaxed);
        let acked = load.work.join().map_err(|_| "the load panicked")?;
        Ok(json!({"acked": acked}))
    }

    fn open(&self, command: &Value) -> Answer {
        let handle = field(command, "handle");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("group.id", command["group"].as_str().unwrap_or(handle));
        config.set("auto.offset.reset", command["reset"].as_str().unwrap_or("earliest"));
        config.set(
            "enable.auto.commit",
            command["auto_commit"].as_bool().unwrap_or(false).to_string(),
        );
        config.set("auto.commit.interval.ms", "500");
        config.set("heartbeat.interval.ms", "500");
        config.set("session.timeout.ms", "30000");
        config.set("check.crcs", "true");
        if command["strategy"] == "cooperative" {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        if let Some(instance) = command["instance"].as_str() {
            config.set("group.instance.id", instance);
        }
        if let Some(bytes) = command["max_bytes"].as_i64() {
            config.set("max.partition.fetch.bytes", bytes.to_string());
            config.set("fetch.max.bytes", (2 * bytes).to_string());
        }
        let client: BaseConsumer = config.create()?;
        if let Some(assign) = command["assign"].as_array() {
            let mut list = TopicPartitionList::new();
            for at in assign {
                let topic = at[0].as_str().ok_or("no topic")?;
                let partition = at[1].as_i64().ok_or("no partition")? as i32;
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
            client.assign(&list)?;
        } else {
            let topics = command["topics"].as_array().ok_or("no topics")?;
            let topics: Vec<&str> = topics.iter().filter_map(Value::as_str).collect();
            client.subscribe(&topics)?;
        }
        let reader = Arc::new(Reader(client));
        self.readers.lock().unwrap().insert(handle.to_owned(), reader);
        Ok(json!({}))
    }

    fn read(&self, op: &str, command: &Value) -> Answer {
        let reader = self.readers.lock().unwrap().get(field(command, "handle")).cloned();
        let reader = reader.ok_or("no such consumer")?;
        match op {
            "poll" => return Ok(json!({"records": reader.poll(command)})),
            "commit" => reader.commit(command)?,
            "seek" => {
                let to = match &command["to"] {
                    Value::String(end) if end == "end" => Offset::End,
                    Value::String(_) => Offset::Beginning,
                    to => Offset::Offset(to.as_i64().ok_or("no offset")?),
                };
                reader.seek(command, to)?;
            }
            "seek_time" => {
                let (topic, partition) = partition(command);
                let mut asked = TopicPartitionList::new();
                let time = command["timestamp"].as_i64().ok_or("no timestamp")?;
                asked.add_partition_offset(topic, partition, Offset::Offset(time))?;
                let found = reader.0.offsets_for_times(asked, PATIENCE)?;
                let to = found.find_partition(topic, partition).ok_or("no answer")?.offset();
                reader.seek(command, to)?;
            }
            "pause" => reader.0.pause(&one_partition(command))?,
            "resume" => reader.0.resume(&one_partition(command))?,
            _ => return Err(format!("unknown op {op}").into()),
        }
        Ok(json!({}))
    }
}

fn send(
    producer: &ThreadedProducer<Outcomes>,
    number: usize,
    record: &Value,
) -> Result<(), Failure> {
    let key = record["key"].as_str();
    let repeat = record["repeat"].as_u64().unwrap_or(1) as usize;
    let value = record["value"].as_str().map(|value| value.repeat(repeat));
    let mut message =
        BaseRecord::<str, str, _>::with_opaque_to(field(record, "topic"), Box::new(number));
    message.key = key;
    message.payload = value.as_deref();
    message.partition = record["partition"].as_i64().map(|partition| partition as i32);
    message.timestamp = record["timestamp"].as_i64();
    for header in record["headers"].as_array().into_iter().flatten() {
        let headers = message.headers.take().unwrap_or_else(OwnedHeaders::new);
        let header = Header { key: field_at(header, 0), value: header[1].as_str() };
        message.headers = Some(headers.insert(header));
    }
    producer.send(message).map_err(|(error, _)| error)?;
    Ok(())
}

fn field_at(pair: &Value, at: usize) -> &str {
    pair[at].as_str().unwrap_or_default()
}

impl Reader {
    fn poll(&self, command: &Value) -> Vec<Value> {
        let count = command["count"].as_u64().unwrap_or(1) as usize;
        let deadline = Instant::now() + Duration::from_millis(command["ms"].as_u64().unwrap_or(0));
        let mut records: Vec<Value> = Vec::new();
        while records.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.0.poll(left.min(Duration::from_millis(100))) {
                Some(Ok(message)) => records.push(described(&message)),
                Some(Err(error)) => eprintln!("rdkafka: {error}"),
                None => {}
            }
        }
        records
    }

    /// Leaves the group. Dropping the consumer would do that too, but it throws away the messages
    /// that it takes from its queue meanwhile, whose offsets it commits.
    fn close(&self) -> Result<Vec<Value>, Failure> {
        let mut records = Vec::new();
        self.0.close_queue()?;
        while !self.0.closed() {
            if let Some(Ok(message)) = self.0.poll(Duration::from_millis(100)) {
                records.push(described(&message));
            }
        }
        Ok(records)
    }

    fn commit(&self, command: &Value) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        for at in command["offsets"].as_array().into_iter().flatten() {
            let partition = at[1].as_i64().ok_or("no partition")? as i32;
            let mut element = list.add_partition(field_at(at, 0), partition);
            element.set_offset(Offset::Offset(at[2].as_i64().ok_or("no offset")?))?;
            element.set_metadata(field_at(at, 3));
        }
        Ok(self.0.commit(&list, CommitMode::Sync)?)
    }

    fn seek(&self, command: &Value, to: Offset) -> Result<(), Failure> {
        let (topic, partition) = partition(command);
        Ok(self.0.seek(topic, partition, to, PATIENCE)?)
    }
}

fn described(message: &rdkafka::message::BorrowedMessage<'_>) -> Value {
    let headers: Vec<Value> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| json!([header.key, text(header.value)]))
        .collect();
    json!({
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp().to_millis(),
        "key": text(message.key()),
        "value": text(message.payload()),
        "headers": headers,
    })
}

/// A key or value as answers have it.
fn text(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    if bytes.len() <= TEXT_BYTES {
        return json!(String::from_utf8_lossy(bytes));
    }
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    json!(format!("crc32:{:08x}:{}", crc.sum(), bytes.len()))
}

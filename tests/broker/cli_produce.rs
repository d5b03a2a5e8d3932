//! `tidegate produce`, `bench` and `demo` against a broker: what they write, what they say, and
//! what becomes of records when answers are lost and brokers die.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::protocol::batch::BatchIter;
use tidegate::protocol::compression::Compression;

use crate::harness::cli::{Cli, Ran};
use crate::harness::{Broker, Options, Wire, send_signal, until};
use crate::requests::{FETCH, Fetch, create_topic, fetched};

/// Records of long ago stay, and groups begin at once.
fn options() -> Options {
    Options::new()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("log.retention.check.interval.ms", 86_400_000)
}

fn start() -> (Broker, Cli, Wire) {
    let broker = Broker::start_with(options());
    let (cli, wire) = (Cli::new(&broker.address()), broker.connect());
    (broker, cli, wire)
}

/// A record as it is in the log.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Found {
    fn value(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap()).unwrap()
    }
}

/// All records of a partition, and the codecs of its batches.
fn log(wire: &mut Wire, topic: &str, partition: i32) -> (Vec<Found>, Vec<Compression>) {
    let (mut found, mut codecs, mut next) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut request = Fetch::at(next).request(topic);
        request.topics[0].partitions[0].partition = partition;
        let records = fetched(wire.call(FETCH, &request));
        if records.is_empty() {
            return (found, codecs);
        }
        for batch in BatchIter::new(records) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header();
            codecs.push(header.compression().unwrap());
            let payload = batch.payload(100 << 20).unwrap();
            for record in batch.records(&payload) {
                let record = record.unwrap();
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let headers = record.headers.clone();
                found.push(Found {
                    offset: header.offset_of(&record),
                    timestamp: header.timestamp_of(&record),
                    key: owned(record.key),
                    value: owned(record.value),
                    headers: headers.map(|it| (it.key.to_vec(), owned(it.value))).collect(),
                });
            }
            next = header.next_offset();
        }
    }
}

fn records(wire: &mut Wire, topic: &str, partition: i32) -> Vec<Found> {
    log(wire, topic, partition).0
}

fn values(wire: &mut Wire, topic: &str, partition: i32) -> Vec<String> {
    records(wire, topic, partition).iter().map(|it| it.value().to_owned()).collect()
}

/// A command that reads what it is given and is not waited for.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(address: &str, args: &[&str]) -> Self {
        let mut command = Command::new(Options::new().binary);
        command.args(args).env("TIDEGATE_BOOTSTRAP_SERVER", address);
        command.env_remove("TIDEGATE_COMMAND_CONFIG");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, out) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, out }
    }

    fn give(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next line of what it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn interrupt(&self) {
        send_signal(self.child.id(), Signal::INT);
    }

    /// Waits for its end, giving it nothing more. What it printed is what was not read yet.
    fn end(mut self) -> Ran {
        drop(self.input.take());
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            stderr.read_to_string(&mut err).unwrap();
            err
        });
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code();
        Ran { code, out, err: reader.join().unwrap() }
    }
}

/// Runs a command with this on its standard input.
fn given(address: &str, args: &[&str], input: &str) -> Ran {
    let mut running = Running::start(address, args);
    let mut stdin = running.input.take().unwrap();
    let input = input.to_owned();
    // One that ends without reading all of it is told by its exit code.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let ran = running.end();
    writer.join().unwrap();
    ran
}

/// A key or a value that there is.
#[allow(clippy::unnecessary_wraps, reason = "it stands beside those that are none")]
fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

#[test]
fn every_line_is_a_record_as_the_flags_say_in_every_codec() {
    let (broker, _cli, mut wire) = start();
    for codec in Compression::ALL {
        let topic = format!("lines-{}", codec.name());
        create_topic(&mut wire, &topic, 1);
        let args = ["produce", &topic, "-K", ":", "-Z", "NULL", "-H", "a=b", "-H", "a=c=d"];
        let more = ["--timestamp", "@1700000000000", "--compression", codec.name()];
        let args = [&args[..], &more, &["--print-offsets"]].concat();
        let ran = given(&broker.address(), &args, "k:v:w\nl:NULL\r\n:\nm:last");
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "0\t0\n0\t1\n0\t2\n0\t3\n"), "{ran:?}");
        assert_eq!(ran.err, format!("4 records delivered to {topic}\n"));
        let (found, codecs) = log(&mut wire, &topic, 0);
        assert!(codecs.iter().all(|it| *it == codec), "{codecs:?}");
        let expected = [("k", bytes("v:w")), ("l", None), ("", bytes("")), ("m", bytes("last"))];
        let header = |value| (b"a".to_vec(), bytes(value));
        for (at, (key, value)) in expected.into_iter().enumerate() {
            let expected = Found {
                offset: at as i64,
                timestamp: 1_700_000_000_000,
                key: bytes(key),
                value,
                headers: vec![header("b"), header("c=d")],
            };
            assert_eq!(found[at], expected);
        }
        assert_eq!(found.len(), 4);
    }
}

#[test]
fn keys_go_where_kafkas_producer_sends_them_and_a_flag_goes_before() {
    let (broker, _cli, mut wire) = start();
    create_topic(&mut wire, "keyed", 6);
    let ran = given(&broker.address(), &["produce", "keyed", "-K\\t"], "abc\t1\nabcd\t2\na\t3\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (partition, value) in [(3, "1"), (2, "2"), (4, "3")] {
        assert_eq!(values(&mut wire, "keyed", partition), [value], "{partition}");
    }
    let ran = given(&broker.address(), &["produce", "keyed", "-p", "5", "-k", "abc"], "4\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(records(&mut wire, "keyed", 5)[0].key, bytes("abc"));
}

#[test]
fn a_file_of_many_lines_arrives_whole_with_every_kind_of_acks() {
    let (broker, cli, mut wire) = start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    // Many times what one batch and one request take.
    let lines: Vec<String> =
        (0..50_000).map(|at| format!("{at} {}", "x".repeat(at % 200))).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    for acks in ["0", "1", "all"] {
        let topic = format!("acks-{acks}");
        create_topic(&mut wire, &topic, 3);
        let ran = cli.done(&["produce", &topic, path.to_str().unwrap(), "--acks", acks]);
        assert!(ran.err.starts_with("50000 records "), "{ran:?}");
        assert_eq!(ran.err.contains("nobody confirms"), acks == "0", "{ran:?}");
        let mut all = Vec::new();
        let arrived = until("every record arrives", || {
            all = (0..3).map(|partition| values(&mut wire, &topic, partition)).collect();
            let count = all.iter().map(Vec::len).sum::<usize>();
            (count == lines.len() || acks != "0").then_some(count)
        });
        assert_eq!(arrived, lines.len());
        assert!(all.iter().all(|partition| !partition.is_empty()), "every partition has some");
        let found: BTreeSet<&String> = all.iter().flatten().collect();
        assert_eq!(found, lines.iter().collect());
    }
    let _ = broker;
}

#[test]
fn objects_are_records_with_all_that_they_had() {
    let (broker, _cli, mut wire) = start();
    create_topic(&mut wire, "copy", 3);
    let object = json!({
        "topic": "orders", "partition": 2, "offset": 77, "timestamp": 1_700_000_000_123_i64,
        "key": {"base64": "/wA="}, "value": null,
        "headers": [{"key": "h", "value": "v"}, {"key": "h", "value": null}],
    });
    let text = format!("{object}\n\n{}\n", json!({"partition": 2, "value": "text"}));
    let ran = given(&broker.address(), &["produce", "copy", "--format", "json"], &text);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = records(&mut wire, "copy", 2);
    let headers = vec![(b"h".to_vec(), bytes("v")), (b"h".to_vec(), None)];
    let key = Some(vec![0xff, 0]);
    let timestamp = 1_700_000_000_123;
    assert_eq!(found[0], Found { offset: 0, timestamp, key, value: None, headers });
    assert_eq!((found[1].value(), found.len()), ("text", 2));
    let anew = ["produce", "copy", "--format", "json", "--repartition"];
    let ran = given(&broker.address(), &anew, "{\"partition\":0,\"key\":\"a\",\"value\":\"1\"}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let everywhere: usize = (0..3).map(|at| records(&mut wire, "copy", at).len()).sum();
    assert_eq!(everywhere, 3);
    let hash = tidegate::client::partition_of_key(b"a", 3);
    assert!(records(&mut wire, "copy", hash).iter().any(|it| it.key == bytes("a")));
}

#[test]
fn a_topic_is_copied_by_consuming_and_producing_objects() {
    let (broker, cli, mut wire) = start();
    let names = ["orders", "copied"];
    for name in names {
        create_topic(&mut wire, name, 3);
    }
    let object = |at: i64| {
        let value =
            if at % 7 == 0 { Value::Null } else { json!(format!("value \"{at}\"\n\u{fc}")) };
        let key = if at % 5 == 0 { json!({"base64": "/wA="}) } else { json!(format!("k{at}")) };
        let headers =
            json!([{"key": "h", "value": null}, {"key": "h", "value": {"base64": "gA=="}}]);
        json!({"partition": at % 3, "timestamp": 1_700_000_000_000 + at, "key": key,
            "value": value, "headers": if at % 2 == 0 { headers } else { json!([]) }})
    };
    let objects: Vec<String> = (0..100).map(|at| object(at).to_string()).collect();
    let args = |topic| ["produce", topic, "--format", "json"];
    let ran = given(&broker.address(), &args("orders"), &objects.join("\n"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let consume = |topic| cli.done(&["consume", topic, "--format", "json"]).out;
    let ran = given(&broker.address(), &args("copied"), &consume("orders"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let [originals, copies] = names.map(|name| {
        let printed = consume(name).replace(&format!("\"topic\":\"{name}\""), "\"topic\":\"\"");
        printed.lines().map(str::to_owned).collect::<BTreeSet<String>>()
    });
    assert_eq!((originals.len(), &originals), (100, &copies));
}

#[test]
fn a_refused_record_is_named_by_its_line_and_the_others_are_delivered() {
    let (broker, cli, mut wire) = start();
    cli.done(&["topic", "create", "small", "-p1", "-c", "max.message.bytes=2000"]);
    let (large, long) = ("y".repeat(3000), "z".repeat(5000));
    let text = format!("a\nb\n{large}\nc\n{long}\nd\n");
    let ran = given(&broker.address(), &["produce", "small", "--max-line-bytes", "4000"], &text);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("line 5: it has more than 4000 bytes"), "{ran:?}");
    let refused = ran.err.lines().find(|line| line.contains("line 3:")).unwrap();
    assert!(refused.contains("MESSAGE_TOO_LARGE") && refused.contains("config set"), "{refused}");
    assert!(ran.err.ends_with("4 records delivered to small\n"), "{ran:?}");
    assert_eq!(values(&mut wire, "small", 0), ["a", "b", "c", "d"]);

    cli.done(&["topic", "create", "compacted", "-p1", "-c", "cleanup.policy=compact"]);
    let text = "{\"key\":\"k\",\"value\":\"1\"}\n{\"value\":\"2\"}\nnothing\n\
                {\"key\":\"l\",\"value\":\"3\"}\n{\"value\":\"4\"}\n";
    let ran = given(&broker.address(), &["produce", "compacted", "--format", "json"], text);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in ["line 2: ", "line 5: "] {
        let refused = ran.err.lines().find(|it| it.contains(line)).unwrap();
        assert!(refused.contains("INVALID_RECORD") && refused.contains("a key"), "{refused}");
    }
    assert!(ran.err.contains("line 3: ") && ran.err.contains("--format json wants"), "{ran:?}");
    assert!(ran.err.ends_with("2 records delivered to compacted\n"), "{ran:?}");
    assert_eq!(values(&mut wire, "compacted", 0), ["1", "3"]);

    let ran = given(&broker.address(), &["produce", "small", "-K:"], &"none\n".repeat(30));
    assert_eq!(ran.err.matches("--key-separator").count(), 20, "{ran:?}");
    assert!(ran.err.contains("10 further records"), "{ran:?}");
}

#[test]
fn what_cannot_be_produced_is_told_with_what_helps() {
    let (broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    let missing = cli.refused(1, &["produce", "ordres"]);
    assert!(missing.contains("did you mean orders?"), "{missing}");
    assert!(missing.contains("tidegate topic create ordres"), "{missing}");
    for (args, word) in [
        (&["orders", "/no/such/file"][..], "check the path"),
        (&["orders", "/"], "is a directory"),
        (&["orders", "--format", "json", "-K", ":"], "--key-separator"),
        (&["orders", "--timestamp", "soon"], "YYYY"),
    ] {
        let refused = cli.refused(2, &[&["produce"], args].concat());
        assert!(refused.contains(word), "{args:?}: {refused}");
    }
    let ran = given(&broker.address(), &["produce", "orders", "-p1"], "a\n");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("line 1: topic orders has no partition 1; it has 1"), "{ran:?}");
    let ran = cli.done(&["produce", "orders"]);
    assert_eq!(ran.err, "0 records delivered to orders\n");
    assert!(records(&mut wire, "orders", 0).is_empty());
}

#[test]
fn an_interrupt_delivers_what_was_read_and_says_how_far_that_was() {
    let (broker, _cli, mut wire) = start();
    create_topic(&mut wire, "typed", 1);
    let mut running = Running::start(&broker.address(), &["produce", "typed", "--print-offsets"]);
    running.give("a\nb\n");
    assert_eq!((running.line(), running.line()), ("0\t0\n".to_owned(), "0\t1\n".to_owned()));
    running.interrupt();
    let input = running.input.take();
    let ran = running.end();
    drop(input);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("interrupted behind line 2"), "{ran:?}");
    assert_eq!(values(&mut wire, "typed", 0), ["a", "b"]);
}

/// Something between producers and a broker that loses the first answers to Produce: it closes the
/// connection instead.
struct Loser {
    address: String,
    lost: Arc<AtomicUsize>,
}

impl Loser {
    fn bind() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    fn serve((listener, address): (TcpListener, String), target: &str, losses: usize) -> Self {
        let lost = Arc::new(AtomicUsize::new(0));
        let (target, counted) = (target.to_owned(), Arc::clone(&lost));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(node) = TcpStream::connect(&target) else { continue };
                relay(client, node, &counted, losses);
            }
        });
        Self { address, lost }
    }
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn relay(client: TcpStream, node: TcpStream, lost: &Arc<AtomicUsize>, losses: usize) {
    let keys = Arc::new(Mutex::new(VecDeque::new()));
    let (mut from, mut to) = (client.try_clone().unwrap(), node.try_clone().unwrap());
    let asked = Arc::clone(&keys);
    std::thread::spawn(move || {
        while let Some(frame) = frame(&mut from) {
            asked.lock().unwrap().push_back(i16::from_be_bytes([frame[4], frame[5]]));
            if to.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to, lost) = (node, client, Arc::clone(lost));
    std::thread::spawn(move || {
        while let Some(frame) = frame(&mut from) {
            let is_produce = keys.lock().unwrap().pop_front() == Some(0);
            let is_lost = is_produce
                && lost
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                        (count < losses).then_some(count + 1)
                    })
                    .is_ok();
            if is_lost || to.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_batch_whose_answer_is_lost_is_not_written_twice() {
    let bound = Loser::bind();
    let options = options().set("advertised.listeners", format!("PLAINTEXT://{}", bound.1));
    let broker = Broker::start_with(options);
    let mut wire = broker.connect();
    create_topic(&mut wire, "once", 2);
    let loser = Loser::serve(bound, &broker.address(), 5);
    let lines: Vec<String> = (0..20_000).map(|at| format!("line {at}")).collect();
    let ran = given(&loser.address, &["produce", "once", "--print-offsets"], &lines.join("\n"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(loser.lost.load(Ordering::SeqCst), 5);
    let logs = [0, 1].map(|partition| values(&mut wire, "once", partition));
    assert_eq!(logs[0].len() + logs[1].len(), lines.len());
    let found: BTreeSet<&String> = logs.iter().flatten().collect();
    assert_eq!(found, lines.iter().collect());
    // What it printed is where they are: each partition's offsets in their order, without a gap.
    for (partition, log) in logs.iter().enumerate() {
        let prefix = format!("{partition}\t");
        let told: Vec<&str> = ran.out.lines().filter_map(|it| it.strip_prefix(&prefix)).collect();
        let expected: Vec<String> = (0..log.len()).map(|offset| offset.to_string()).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_broker_that_dies_in_the_middle_loses_nothing_and_gets_nothing_twice() {
    let (mut broker, _cli, mut wire) = start();
    create_topic(&mut wire, "dies", 1);
    drop(wire);
    let mut running = Running::start(&broker.address(), &["produce", "dies", "--print-offsets"]);
    let lines: Vec<String> = (0..30_000).map(|at| format!("line {at}")).collect();
    let mut expected = 0;
    for (round, part) in lines.chunks(10_000).enumerate() {
        // What is printed must be read beside what is written.
        let mut input = running.input.take().unwrap();
        let text = part.join("\n") + "\n";
        let writer = std::thread::spawn(move || {
            input.write_all(text.as_bytes()).unwrap();
            input
        });
        // Once some of the part is acknowledged, and perhaps not all.
        assert_eq!(running.line(), format!("0\t{expected}\n"));
        if round < 2 {
            broker.kill();
            broker.begin_again();
        }
        for at in expected + 1..expected + part.len() {
            assert_eq!(running.line(), format!("0\t{at}\n"));
        }
        running.input = Some(writer.join().unwrap());
        if round < 2 {
            broker.become_ready();
        }
        expected += part.len();
    }
    let ran = running.end();
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(values(&mut broker.connect(), "dies", 0), lines);
}

#[test]
fn the_numbers_of_a_measurement_add_up_and_its_topic_goes() {
    let (_broker, cli, mut wire) = start();
    let load = ["bench", "--rate", "500", "--duration", "1s", "--record-bytes", "200"];
    let sides = ["--producers", "2", "--consumers", "3", "--compression", "lz4"];
    let measured = cli.json(&[&load[..], &sides].concat());
    // Each of the planned records is sent, however late.
    for records in [&measured["sent"], &measured["produced"]["records"]] {
        assert_eq!(*records, 500, "{measured}");
    }
    assert_eq!((&measured["consumed"]["records"], &measured["missing"]), (&json!(500), &json!(0)));
    assert_eq!(measured["errors"], json!([]));
    for side in ["produced", "consumed"] {
        let flow = &measured[side];
        let number = |field: &str| flow[field].as_f64().unwrap();
        let per_second = 500.0 / number("seconds");
        assert!((number("records_per_second") - per_second).abs() < per_second / 100.0, "{flow}");
        let mib = number("records_per_second") * 200.0 / 1_048_576.0;
        assert!((number("mib_per_second") - mib).abs() < 0.01, "{flow}");
        let latency = |field: &str| flow["latency_ms"][field].as_f64().unwrap();
        let quantiles = ["p50", "p95", "p99", "p999", "max"].map(latency);
        assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{flow}");
    }
    assert_eq!(cli.json(&["topic", "list"])["topics"], json!([]));

    // A topic that was there stays, and what others wrote is not counted.
    create_topic(&mut wire, "mine", 1);
    let lines = cli.done(&["produce", "mine", "Cargo.toml"]);
    let others: i64 = lines.err.split(' ').next().unwrap().parse().unwrap();
    let into = ["--topic", "mine", "--duration", "200ms", "--record-bytes", "1000"];
    // What is planned is sent, however late.
    let into = [&into[..], &["--rate", "500"]].concat();
    let measured = cli.json(&[&["bench"], &into[..]].concat());
    let produced = measured["produced"]["records"].as_i64().unwrap();
    assert!(produced > 0, "{measured}");
    assert_eq!(measured["consumed"]["records"], produced);
    let topic = &cli.json(&["topic", "describe", "mine"])["topics"][0];
    // One more to begin with.
    assert_eq!(topic["partitions"][0]["end_offset"], others + produced + 1);
    assert!(cli.refused(1, &["bench", "--topic", "mnie"]).contains("did you mean mine?"));
    let table = cli.done(&["bench", "--topic", "mine", "--duration", "50ms", "--consumers", "0"]);
    assert!(table.out.contains("RECORDS/S") && !table.out.contains("consumed"), "{table:?}");
}

#[test]
fn an_interrupted_measurement_says_what_it_saw_and_leaves_nothing() {
    let (broker, cli, _wire) = start();
    let args = ["bench", "--duration", "1h", "--rate", "100", "--format", "json"];
    let running = Running::start(&broker.address(), &args);
    until("something is measured", || {
        let topics = cli.json(&["topic", "describe"]);
        let partitions = topics["topics"][0]["partitions"].as_array()?.clone();
        let written: i64 = partitions.iter().filter_map(|it| it["end_offset"].as_i64()).sum();
        (written > 20).then_some(())
    });
    running.interrupt();
    let ran = running.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let measured: Value = serde_json::from_str(&ran.out).unwrap();
    let produced = measured["produced"]["records"].as_i64().unwrap();
    assert!(produced >= 20, "{measured}");
    assert_eq!((&measured["sent"], &measured["missing"]), (&json!(produced), &json!(0)));
    assert_eq!(cli.json(&["topic", "list"])["topics"], json!([]));
}

#[test]
fn the_demo_fills_topics_has_groups_and_says_what_to_try() {
    let (broker, cli, mut wire) = start();
    let address = broker.address();
    let mut running = Running::start(&address, &["demo", "--rate", "100", "-b", &address]);
    let mut told = String::new();
    while !told.contains("Ctrl-C") {
        let line = running.line();
        assert!(!line.is_empty(), "it goes on: {told}");
        told.push_str(&line);
    }
    for command in [
        format!("  tidegate consume -b {address} demo.orders --from end --follow\n"),
        format!("  tidegate group describe -b {address} demo-reports\n"),
        format!("  tidegate top -b {address}\n"),
    ] {
        assert!(told.contains(&command), "{told}");
    }
    until("both groups have read something", || {
        let committed = |group: &str| {
            let ran = cli.run(&["group", "describe", group, "--format", "json"]);
            let groups: Value = serde_json::from_str(&ran.out).ok()?;
            let offsets = groups["groups"][0]["offsets"].as_array()?.clone();
            let read: i64 = offsets.iter().filter_map(|it| it["committed_offset"].as_i64()).sum();
            Some(read)
        };
        (committed("demo-billing")? > 50 && committed("demo-reports")? > 5).then_some(())
    });
    running.interrupt();
    let ran = running.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let orders: Vec<Found> = (0..3).flat_map(|at| records(&mut wire, "demo.orders", at)).collect();
    assert!(orders.len() > 50, "{}", orders.len());
    for order in &orders {
        let value: Value = serde_json::from_str(order.value()).unwrap();
        assert_eq!(order.key, value["customer_id"].as_str().and_then(bytes));
    }
    let customers = records(&mut wire, "demo.customers", 0);
    let keys: BTreeSet<_> = customers.into_iter().map(|it| it.key).collect();
    assert_eq!(keys.len(), 50);
    let policy = cli.json(&["topic", "config", "get", "demo.customers"]);
    assert_eq!(policy["configs"][0]["value"], "compact");

    let ran = cli.done(&["demo", "--clean", "--duration", "1s"]);
    assert!(ran.err.contains("topics and groups are deleted"), "{ran:?}");
    let names = |of: &str, what: &str| {
        let rows = cli.json(&[of, "list"])[what].as_array().unwrap().clone();
        rows.iter().map(ToString::to_string).filter(|it| it.contains("demo")).count()
    };
    assert_eq!((names("topic", "topics"), names("group", "groups")), (0, 0));
}

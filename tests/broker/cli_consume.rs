//! `tidegate consume` against a broker: where it begins and ends, what it prints, groups, and what
//! it says when something is odd.

use std::collections::BTreeSet;

use kafka_protocol::messages::JoinGroupRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId};
use serde_json::{Value, json};
use tidegate::protocol::batch::BatchBuilder;
use tidegate::protocol::compression::Compression;
use tidegate::protocol::record::Header;

use crate::harness::cli::{Cli, Ran};
use crate::harness::{Broker, Options, Wire, until};
use crate::requests::{PRODUCE, create_topic, produce_request, produced, text};

/// Tries until a coordinator has loaded its partition.
const LOAD_TRIES: usize = 10_000;

fn start() -> (Broker, Cli, Wire) {
    // Records of long ago stay.
    let options = Options::new()
        .set("group.initial.rebalance.delay.ms", 0)
        .set("offsets.topic.num.partitions", 2)
        .set("log.retention.check.interval.ms", 86_400_000);
    let broker = Broker::start_with(options);
    let (cli, wire) = (Cli::new(&broker.address()), broker.connect());
    (broker, cli, wire)
}

fn append(wire: &mut Wire, topic: &str, partition: i32, batch: BatchBuilder, codec: Compression) {
    let batch = batch.build_compressed(codec);
    let response = wire.call(PRODUCE, &produce_request(topic, partition, -1, batch));
    assert_eq!(produced(&response).error_code, 0);
}

/// Appends a record for each timestamp, with that as its value.
fn write(wire: &mut Wire, topic: &str, partition: i32, timestamps: &[i64]) {
    let mut batch = BatchBuilder::new();
    for time in timestamps {
        batch.append(*time, None, Some(time.to_string().as_bytes()), &[]);
    }
    append(wire, topic, partition, batch, Compression::None);
}

/// What was printed, sorted: partitions are read at once.
fn lines(ran: &Ran) -> Vec<&str> {
    let mut lines: Vec<&str> = ran.out.lines().collect();
    lines.sort_unstable();
    lines
}

/// A topic with five records in one partition and two in the other.
fn logged(wire: &mut Wire) {
    create_topic(wire, "logged", 2);
    write(wire, "logged", 0, &[1_000, 2_000, 3_000, 4_000, 5_000]);
    write(wire, "logged", 1, &[1_500, 3_500]);
}

#[test]
fn it_begins_and_ends_where_it_is_told() {
    let (_broker, cli, mut wire) = start();
    logged(&mut wire);
    let consume = |args: &[&str]| {
        let all = [&["consume", "logged", "--format", "%p:%o=%v\\n"], args].concat();
        let ran = cli.done(&all);
        lines(&ran).join(" ")
    };
    let everything = "0:0=1000 0:1=2000 0:2=3000 0:3=4000 0:4=5000 1:0=1500 1:1=3500";
    assert_eq!(consume(&[]), everything);
    assert_eq!(consume(&["--from", "beginning", "--to", "end"]), everything);
    assert_eq!(consume(&["--from", "end"]), "");
    assert_eq!(consume(&["--from", "1"]), "0:1=2000 0:2=3000 0:3=4000 0:4=5000 1:1=3500");
    assert_eq!(consume(&["--from", "-1"]), "0:4=5000 1:1=3500");
    assert_eq!(consume(&["--from", "-3"]), "0:2=3000 0:3=4000 0:4=5000 1:0=1500 1:1=3500");
    assert_eq!(consume(&["--from", "@3000"]), "0:2=3000 0:3=4000 0:4=5000 1:1=3500");
    assert_eq!(consume(&["--from", "1970-01-01T00:00:04.500Z"]), "0:4=5000");
    assert_eq!(consume(&["--to", "1"]), "0:0=1000 1:0=1500");
    assert_eq!(consume(&["--to", "99"]), everything);
    assert_eq!(consume(&["--to", "@3000"]), "0:0=1000 0:1=2000 1:0=1500");
    assert_eq!(consume(&["--from", "@2000", "--to", "@4000"]), "0:1=2000 0:2=3000 1:1=3500");
    assert_eq!(consume(&["--from", "2", "--to", "1"]), "");
    assert_eq!(consume(&["--partition", "1"]), "1:0=1500 1:1=3500");
    assert_eq!(consume(&["-p", "1", "-p", "0"]), everything);
    assert_eq!(consume(&["-p", "0", "--max-records", "2"]), "0:0=1000 0:1=2000");
    assert_eq!(consume(&["-p", "0", "-n", "9", "--from", "3"]), "0:3=4000 0:4=5000");
    let bare = cli.done(&["consume", "logged:1"]);
    assert_eq!((bare.out.as_str(), bare.err.as_str()), ("1500\n3500\n", ""));
    // An offset that is not there is said, and what is there is printed.
    let late = cli.done(&["consume", "logged", "--from", "3"]);
    assert_eq!(lines(&late), ["4000", "5000"]);
    assert!(late.err.contains("partition logged-1 ends at offset 2, before 3"), "{late:?}");
}

#[test]
fn a_record_is_printed_with_all_that_it_has_in_every_codec() {
    let (_broker, cli, mut wire) = start();
    for codec in Compression::ALL {
        let topic = format!("of-{}", codec.name());
        create_topic(&mut wire, &topic, 1);
        let mut batch = BatchBuilder::new();
        let header = |key: &'static [u8], value| Header { key, value };
        let headers =
            [header(b"h", Some(&b"1"[..])), header(b"h", None), header(b"bin", Some(&[0xff]))];
        batch.append(1_700_000_000_000, Some(b"key"), Some("v\u{e4}lue".as_bytes()), &headers);
        batch.append(1_700_000_000_001, None, Some(&[0xff, 0, b'x']), &[]);
        batch.append(1_700_000_000_002, Some(b""), None, &[]);
        append(&mut wire, &topic, 0, batch, codec);
        let ran = cli.done(&["consume", &topic, "--format", "json"]);
        let told: Vec<Value> =
            ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let record = |offset: i64, key: Value, value: Value, headers: Value| {
            json!({"topic": topic, "partition": 0, "offset": offset,
                   "timestamp": 1_700_000_000_000 + offset, "key": key, "value": value,
                   "headers": headers})
        };
        let headers = json!([{"key": "h", "value": "1"}, {"key": "h", "value": null},
                             {"key": "bin", "value": {"base64": "/w=="}}]);
        let expected = [
            record(0, json!("key"), json!("v\u{e4}lue"), headers),
            record(1, Value::Null, json!({"base64": "/wB4"}), json!([])),
            record(2, json!(""), Value::Null, json!([])),
        ];
        assert_eq!(told, expected, "{codec:?}");
        let format = "%t %p %o %T [%k] [%v] %K %V %h%%\\x3b\\n";
        let hex = ["--value-format", "hex", "--key-format", "base64"];
        let ran =
            cli.done(&[&["consume", &topic, "--from", "1", "--format", format], &hex[..]].concat());
        let expected = format!(
            "{topic} 0 1 1700000000001 [] [ff0078] -1 3 %;\n\
             {topic} 0 2 1700000000002 [] [] 0 -1 %;\n"
        );
        assert_eq!(ran.out, expected);
    }
}

#[test]
fn following_goes_on_until_it_is_told_to_end() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "live", 1);
    write(&mut wire, "live", 0, &[1, 2]);
    let all = cli.begin(&["consume", "live", "--follow", "--from", "beginning"]);
    assert_eq!([all.line(), all.line()], ["1", "2"]);
    write(&mut wire, "live", 0, &[3]);
    assert_eq!(all.line(), "3");
    let ended = all.interrupt();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""));

    // Without --from it is what comes from now on.
    let fresh = cli.begin(&["consume", "live", "-f"]);
    let mut next = 3;
    let first = until("a fresh record is printed", || {
        next += 1;
        write(&mut wire, "live", 0, &[next]);
        fresh.lines().into_iter().next()
    });
    assert!(first.parse::<i64>().unwrap() > 3, "{first}");
    assert_eq!(fresh.interrupt().code, Some(0));

    // An end that is yet to come ends it.
    let end = (next + 1).to_string();
    let until_there = cli.begin(&["consume", "live", "-f", "--from", "0", "--to", &end]);
    for _ in 0..next {
        until_there.line();
    }
    write(&mut wire, "live", 0, &[7_777, 8_888]);
    assert_eq!(until_there.line(), "7777");
    assert_eq!(until_there.ended().code, Some(0));
}

#[test]
fn a_broker_that_restarts_is_read_on() {
    let (mut broker, cli, mut wire) = start();
    create_topic(&mut wire, "live", 1);
    write(&mut wire, "live", 0, &[1]);
    let follow = ["consume", "live", "--follow", "--from", "beginning"];
    let alone = cli.begin(&follow);
    let member = cli.begin(&[&follow[..], &["--group", "stays"]].concat());
    assert_eq!([alone.line(), member.line()], ["1", "1"]);
    broker.kill();
    broker.restart();
    write(&mut broker.connect(), "live", 0, &[2]);
    assert_eq!([alone.line(), member.line()], ["2", "2"]);
    for reader in [alone, member] {
        let ended = reader.interrupt();
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
    }
    let described = cli.json(&["group", "describe", "stays"]);
    assert_eq!(described["groups"][0]["offsets"][0]["committed_offset"], 2);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "large", 1);
    for _ in 0..20 {
        let mut batch = BatchBuilder::new();
        for _ in 0..100 {
            batch.append(0, None, Some(&[b'x'; 1_000]), &[]);
        }
        append(&mut wire, "large", 0, batch, Compression::Zstd);
    }
    let ran = cli.run_until_first_line(&["consume", "large"]);
    assert_eq!((ran.code, ran.out.len(), ran.err.as_str()), (Some(0), 1_001, ""));
    // Nothing of what nobody read is committed.
    let ran = cli.run_until_first_line(&["consume", "large", "--group", "head"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let rest = cli.done(&["consume", "large", "--group", "head"]);
    let count = rest.out.lines().count();
    assert!((1..=2_000).contains(&count), "{count}");
    let everything = cli.done(&["consume", "large", "--format", "%o\\n"]);
    assert_eq!(everything.out.lines().count(), 2_000);
}

#[test]
fn a_group_goes_on_where_it_stands() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "logged", 1);
    write(&mut wire, "logged", 0, &[1, 2, 3, 4, 5]);
    let consume = |args: &[&str]| {
        let ran = cli.done(&[&["consume", "logged", "--group", "billing"], args].concat());
        assert_eq!(ran.err, "", "{args:?}");
        ran.out
    };
    let committed = || {
        let described = cli.json(&["group", "describe", "billing"]);
        let group = &described["groups"][0];
        (group["state"].clone(), group["offsets"][0]["committed_offset"].clone())
    };
    assert_eq!(consume(&["-n", "3"]), "1\n2\n3\n");
    // It has left, with what it printed.
    assert_eq!(committed(), (json!("Empty"), json!(3)));
    assert_eq!(consume(&[]), "4\n5\n");
    assert_eq!(consume(&[]), "");
    assert_eq!(committed(), (json!("Empty"), json!(5)));
    write(&mut wire, "logged", 0, &[6]);
    // Where it stands goes before where it is to begin.
    let follows = cli.begin(&["consume", "logged", "-f", "-g", "billing", "--from", "end"]);
    assert_eq!(follows.line(), "6");
    assert_eq!(follows.interrupt().code, Some(0));
    assert_eq!(committed(), (json!("Empty"), json!(6)));
    let fresh = cli.done(&["consume", "logged", "--group", "fresh", "--from", "end"]);
    assert_eq!(fresh.out, "");
}

#[test]
fn two_members_share_a_topic_and_nothing_is_read_twice() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "shared", 4);
    let args = ["consume", "shared", "-f", "-g", "both", "--from", "beginning"];
    let args = [&args[..], &["--format", "%p:%o\\n"]].concat();
    let mut rounds = 0;
    let mut round = |wire: &mut Wire| {
        for partition in 0..4 {
            write(wire, "shared", partition, &[rounds]);
        }
        rounds += 1;
        rounds
    };
    round(&mut wire);
    let first = cli.begin(&args);
    let mut printed: Vec<String> = (0..4).map(|_| first.line()).collect();
    let second = cli.begin(&args);
    let of_second = until("the second member has records", || {
        round(&mut wire);
        let lines = second.lines();
        (!lines.is_empty()).then_some(lines)
    });
    printed.extend(of_second);
    let members = cli.json(&["group", "describe", "both"]);
    let members = members["groups"][0]["members"].as_array().unwrap().clone();
    let shares: BTreeSet<String> =
        members.iter().map(|member| member["assignment"]["shared"].to_string()).collect();
    assert_eq!(shares, ["[0,1]", "[2,3]"].map(str::to_owned).into());
    let rounds = round(&mut wire);
    for member in [second, first] {
        let ended = member.interrupt();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        printed.extend(ended.out.lines().map(str::to_owned));
    }
    let left = cli.done(&["consume", "shared", "-g", "both", "--format", "%p:%o\\n"]);
    printed.extend(left.out.lines().map(str::to_owned));
    printed.sort();
    let all = (0..4).flat_map(|partition| (0..rounds).map(move |at| format!("{partition}:{at}")));
    let mut all: Vec<String> = all.collect();
    all.sort();
    assert_eq!(printed, all);
}

#[test]
fn what_retention_has_taken_is_said_and_passed_over() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "logged", 1);
    write(&mut wire, "logged", 0, &[1, 2, 3, 4, 5]);
    let group = ["consume", "logged", "--group", "late", "-n", "1"];
    assert_eq!(cli.done(&group).out, "1\n");
    cli.done(&["topic", "delete-records", "logged", "--to-offset", "3", "--execute"]);
    assert_eq!(cli.done(&["consume", "logged"]).out, "4\n5\n");
    let early = cli.done(&["consume", "logged", "--from", "1"]);
    assert_eq!(early.out, "4\n5\n");
    let said = "partition logged-0 begins at offset 3; what was before it is gone";
    assert!(early.err.contains(said), "{early:?}");
    let late = cli.done(&group);
    assert_eq!(late.out, "4\n");
    let said = "partition logged-0: offset 1 is gone, reading goes on at 3";
    assert!(late.err.contains(said), "{late:?}");
}

#[test]
fn what_cannot_be_is_named_with_what_helps() {
    let (_broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 2);
    let missing = cli.refused(1, &["consume", "ordesr"]);
    assert!(missing.contains("topic ordesr is not there; did you mean orders?"), "{missing}");
    let missing = cli.refused(1, &["consume", "ordesr", "--group", "g"]);
    assert!(missing.contains("topic ordesr is not there; did you mean orders?"), "{missing}");
    let partition = cli.refused(1, &["consume", "orders", "-p", "2"]);
    assert!(partition.contains("has no partition 2; it has 2, from 0 on"), "{partition}");
    let format = cli.refused(2, &["consume", "orders", "--format", "%k %q"]);
    assert!(format.contains("%q is none of") && format.contains("\n  %k %q\n     ^"), "{format}");
    for (args, hint) in [
        (&["orders", "-g", "g", "-p", "1"][..], "cannot be used with"),
        (&["orders:1", "-g", "g"], "leave --group out"),
        (&["orders", "-g", "g", "--from", "7"], "group reset-offsets"),
        (&["orders:1", "-p", "0"], "leave --partition out"),
        (&["orders", "-f", "--to", "end"], "leave one of them out"),
        (&["orders", "--format", "json", "--key-format", "hex"], "base64"),
    ] {
        let refused = cli.refused(2, &[&["consume"], args].concat());
        assert!(refused.contains(hint), "{args:?}: {refused}");
    }
}

#[test]
fn a_group_that_does_not_come_together_is_given_up() {
    let (broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    write(&mut wire, "orders", 0, &[1]);
    // A member that joins and then says nothing: the others wait for it to join again.
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("stuck")]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, 0);
    let mut request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("stuck")))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))]);
    let mut joined = wire.call(9, &request);
    for _ in 0..LOAD_TRIES {
        if joined.error_code == 0 {
            break;
        }
        request.member_id = joined.member_id;
        joined = wire.call(9, &request);
    }
    let asked = ["consume", "orders", "--group", "stuck", "--timeout", "9s"];
    let given_up = cli.refused(1, &asked);
    let said = "nothing came for 10 s: group stuck has not shared out its partitions; \
                `tidegate group describe stuck`";
    assert!(given_up.contains(said), "{given_up}");
    drop(broker);
}

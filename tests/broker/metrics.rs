//! Metrics and logs as operators get them.

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest};

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, create_topic, fetched, produce, produce_request, produced, record,
    text, topic_name,
};

/// What an idle broker may show at most, so that many of them are no burden to a Prometheus.
const SERIES_MAX: usize = 500;

#[test]
fn an_idle_broker_has_few_series() {
    let metrics = Broker::start().metrics();
    let series = metrics.series();
    println!("an idle broker has {series} series");
    assert!(series <= SERIES_MAX, "{series}");
    assert_eq!(metrics.get("tidegate_metrics_omitted{what=\"topics\"}"), 0.0);
}

/// Commits an offset of partition 0 for a group without members.
fn commit(wire: &mut Wire, group: &str, topic: &str, offset: i64) {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    crate::harness::until("the coordinator is there", || {
        (wire.call(4, &find).coordinators[0].error_code == NONE).then_some(())
    });
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    // Until its groups are loaded it says so.
    crate::harness::until("the commit is taken", || {
        let response = wire.call(8, &request);
        (response.topics[0].partitions[0].error_code == NONE).then_some(())
    });
}

#[test]
fn what_clients_do_at_a_topic_is_told_by_topic() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "apples", 1);
    let batch = record(300);
    assert_eq!(produce(&mut wire, "apples", batch.clone()), (NONE, 0));
    assert_eq!(produce(&mut wire, "apples", batch.clone()), (NONE, 1));
    let no_batch = produce_request("apples", 0, -1, batch.slice(..40));
    assert_ne!(produced(&wire.call(PRODUCE, &no_batch)).error_code, NONE);
    let read = fetched(wire.call(FETCH, &Fetch::at(0).request("apples")));
    assert_eq!(read.len(), 2 * batch.len());
    // Out of range: asked, and not failed.
    let beyond = wire.call(FETCH, &Fetch::at(99).request("apples"));
    assert_ne!(beyond.responses[0].partitions[0].error_code, NONE);
    commit(&mut wire, "pickers", "apples", 1);
    let metrics = broker.metrics();
    let of = |name: &str| metrics.get(&format!("tidegate_topic_{name}{{topic=\"apples\"}}"));
    let bytes = read.len() as f64;
    assert_eq!((of("received_records_total"), of("received_bytes_total")), (2.0, bytes));
    assert_eq!((of("produce_requests_total"), of("produce_failures_total")), (3.0, 1.0));
    assert_eq!((of("fetch_requests_total"), of("fetch_failures_total")), (2.0, 0.0));
    assert_eq!((of("sent_bytes_total"), of("partitions")), (bytes, 1.0));
    let all = |name: &str| metrics.get(&format!("tidegate_partition_{name}"));
    assert_eq!((all("produces_total"), all("produce_failures_total")), (3.0, 1.0));
    assert_eq!((all("fetches_total"), all("fetched_bytes_total")), (2.0, bytes));
    let labels = "{group=\"pickers\",topic=\"apples\"}";
    assert_eq!(metrics.get(&format!("tidegate_consumer_group_lag_records{labels}")), 1.0);
    let seconds = metrics.get(&format!("tidegate_consumer_group_lag_seconds{labels}"));
    assert!((0.0..3_600.0).contains(&seconds), "{seconds}");
    assert!(metrics.find("kafka_brokers").is_none(), "nobody asked for other programs' names");
}

#[test]
fn names_of_other_programs_come_when_they_are_asked_for() {
    let broker = Broker::start_with(Options::new().set("metrics.compat", "kafka-exporter,jmx"));
    let mut wire = broker.connect();
    create_topic(&mut wire, "apples", 1);
    let batch = record(300);
    assert_eq!(produce(&mut wire, "apples", batch.clone()), (NONE, 0));
    commit(&mut wire, "pickers", "apples", 0);
    let metrics = broker.metrics();
    let address = format!("kafka_broker_info{{id=\"1\",address=\"{}\"}}", broker.address());
    let of_partition = "{topic=\"apples\",partition=\"0\"}";
    let lag = "kafka_consumergroup_lag{consumergroup=\"pickers\",topic=\"apples\",partition=\"0\"}";
    let bytes_in = "kafka_server_brokertopicmetrics_bytesin_total{topic=\"apples\"}";
    let connections = "kafka_server_socket_server_metrics_connection_count\
                       {listener=\"all\",networkProcessor=\"0\"}";
    assert_eq!(metrics.get(&address), 1.0);
    assert_eq!(metrics.get(&format!("kafka_topic_partition_current_offset{of_partition}")), 1.0);
    assert_eq!(metrics.get(&format!("kafka_log_log_size{of_partition}")), batch.len() as f64);
    assert_eq!((metrics.get(lag), metrics.get(bytes_in)), (1.0, batch.len() as f64));
    assert_eq!(metrics.get(connections), 1.0);
}

#[test]
fn the_log_is_json_where_that_is_wanted() {
    let mut broker = Broker::start_with(Options::new().set("log.format", "json"));
    broker.wait_for_log("listening");
    assert_eq!(broker.stop(), Some(0));
    let log = broker.log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let listening = lines.iter().find(|line| line["message"] == "listening").expect("it listens");
    assert_eq!(listening["level"], "INFO");
    assert_eq!(listening["listener"], "PLAINTEXT");
    assert_eq!(listening["address"], broker.address());
}

#[test]
fn the_log_level_is_changed_while_the_broker_runs() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "one", 1);
    broker.wait_for_log("topic=\"one\"");
    assert_eq!(broker.admin("/log-level"), (200, "info\n".to_owned()));
    assert_eq!(broker.admin_put("/log-level", "error"), (200, "error\n".to_owned()));
    create_topic(&mut wire, "two", 1);
    assert_eq!(broker.admin_put("/log-level", "nonsense").0, 400);
    assert_eq!(broker.admin_put("/log-level", "info").0, 200);
    create_topic(&mut wire, "three", 1);
    broker.wait_for_log("topic=\"three\"");
    assert!(!broker.log().contains("topic=\"two\""), "{}", broker.log());
}

/// A request's bytes: header version 1 with the client id "odd", and this body.
fn odd_request(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let head = [key.to_be_bytes(), version.to_be_bytes()].concat();
    let client_id = [&[0, 3][..], b"odd"].concat();
    let frame = [&head, &correlation_id.to_be_bytes()[..], &client_id, body].concat();
    [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], &frame].concat()
}

#[test]
fn a_line_about_a_request_says_which_it_was_and_whose() {
    // One that Kafka does not have, one that is not served, one whose body is not what it says.
    let cases = [
        ("unknown", 32_000, 7, &[][..]),
        ("AddPartitionsToTxn", 24, 0, &[]),
        ("Metadata", 3, 1, &[0x7f, 0xff, 0xff, 0xff]),
    ];
    for (api, key, version, body) in cases {
        let broker = Broker::start_with(Options::new().set("log.format", "json"));
        let mut wire = broker.connect();
        wire.send_raw(&odd_request(key, version, 4_711, body)).unwrap();
        assert!(wire.is_closed_by_broker());
        let line = crate::harness::until("the line is written", || {
            let log = broker.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let mut lines = lines.filter(|line: &serde_json::Value| line["level"] == "WARN");
            lines.find(|line| line["correlation_id"] == 4_711)
        });
        let closed = line["message"].as_str().unwrap();
        assert!(closed.starts_with("connection closed: "), "{line}");
        assert_eq!((&line["api"], &line["version"]), (&api.into(), &version.into()), "{line}");
        // What follows an unknown key need not be a client id.
        let client_id = if api == "unknown" { "" } else { "odd" };
        assert_eq!(
            (&line["client_id"], &line["listener"]),
            (&client_id.into(), &"PLAINTEXT".into())
        );
        assert!(line["connection"].is_u64(), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
}

/// Whoever sends nonsense all the time fills no disk with lines about it.
#[test]
fn lines_about_refused_requests_are_few() {
    let mut broker = Broker::start();
    let began = std::time::Instant::now();
    for number in 0..50 {
        let mut wire = broker.connect();
        wire.send_raw(&odd_request(32_000, 0, number, &[])).unwrap();
        assert!(wire.is_closed_by_broker());
    }
    assert_eq!(broker.stop(), Some(0));
    let log = broker.log();
    let lines = log.lines().filter(|line| line.contains("connection closed: ")).count();
    // One, and another each ten seconds.
    let most = 1 + began.elapsed().as_secs() / 10;
    assert!((1..=most).contains(&(lines as u64)), "{lines} lines, not {most}:\n{log}");
}

#[test]
fn what_a_request_made_the_broker_log_names_the_request() {
    let broker = Broker::start_with(Options::new().set("log.format", "json"));
    create_topic(&mut broker.connect(), "one", 1);
    let line = crate::harness::until("the line is written", || {
        let log = broker.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line: &serde_json::Value| line["message"] == "topic created")
    });
    assert_eq!((&line["topic"], &line["api"]), (&"one".into(), &"CreateTopics".into()), "{line}");
    assert!(line["connection"].is_u64() && line["correlation_id"].is_i64(), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

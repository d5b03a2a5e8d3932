//! The test suites of others, against a broker of ours.
//!
//! Short form: each once. `TIDEGATE_LONG=1`: franz-go's ten times, with and without chaos.

use std::process::{Command, Stdio};

use crate::clients::folder;
use crate::harness::{Broker, Options};

/// Of franz-go's tests those of features that are not there yet: transactions, share groups, the
/// consumer protocol of KIP-848, SASL; and those of the client's insides that have to be done within
/// one to seven seconds.
const KGO_LEFT_OUT: &str = "TestTxnEtl|TestShare|Test848|TestSCRAM|\
    TestAudit|TestRing|TestDirectPartitionPurge|TestIssue648|TestIssue769";
/// The default of 500,000 records is for a cluster.
const KGO_RECORDS: &str = "10000";

/// Of kafka-python's integration tests those that are left out, and why.
const KAFKA_PYTHON_LEFT_OUT: [(&str, &str); 5] = [
    ("test_kafka_consumer__blocking", "has to read within half a second of the clock on the wall"),
    ("test_transactional_producer_messages", "transactions"),
    ("test_transactional_producer_offsets", "transactions"),
    ("test_create_describe_delete_acls", "ACLs"),
    ("test_alter_replica_log_dirs", "a broker has one data directory"),
];

/// Runs to the end; what it printed is shown if it fails.
fn pass(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}\n{errors}");
}

fn kgo(broker: &Broker, chaos: bool) {
    let suite = folder().join("kgo");
    let mut command = Command::new(suite.join("kgo.test"));
    command.current_dir(suite);
    command.args(["-test.skip", KGO_LEFT_OUT, "-test.count=1", "-test.timeout=10m"]);
    command.env("KGO_SEEDS", broker.address()).env("KGO_TEST_RF", "1");
    command.env("KGO_TEST_RECORDS", KGO_RECORDS).env("KGO_LOG_LEVEL", "none");
    if chaos {
        // Kills its connections every 0.5 to 1.5 s.
        command.env("KGO_TEST_CHAOS", "1");
    }
    pass(&mut command);
}

#[test]
fn franz_go_kgo_with_and_without_chaos() {
    let rounds = if std::env::var_os("TIDEGATE_LONG").is_some() { 10 } else { 1 };
    let broker = Broker::start();
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            scope.spawn(|| kgo(&broker, false));
            scope.spawn(|| kgo(&broker, true));
        });
    }
}

#[test]
fn kafka_python_integration() {
    let options = Options::new()
        .set("num.partitions", 4)
        .set("group.min.session.timeout.ms", "1s")
        // One of the tests asks where this comes from, and expects a file.
        .set("advertised.listeners", "PLAINTEXT://127.0.0.1:{port}");
    let broker = Broker::start_with(options);
    let suite = folder().join("kafka-python-suite");
    let mut command = Command::new(suite.join("bin/python"));
    command.current_dir(suite.join("source"));
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "external_broker"]);
    command.args(["--timeout", "120", "--show-capture", "no"]);
    let left_out = KAFKA_PYTHON_LEFT_OUT.map(|(test, _)| format!("not {test}"));
    command.args(["-k", &left_out.join(" and ")]);
    for file in ["consumer", "producer", "admin"] {
        command.arg(format!("test/integration/test_{file}_integration.py"));
    }
    let shim = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/suites");
    command.env("PYTHONPATH", format!("{shim}:.")).env("PYTHONDONTWRITEBYTECODE", "1");
    // The version that the client takes the broker's APIs for.
    command.env("KAFKA_VERSION", "4.1.0");
    command.env("KAFKA_URI", format!("kafka://{}", broker.address()));
    pass(&mut command);
}

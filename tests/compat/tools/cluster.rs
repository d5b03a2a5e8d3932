//! Tools for the cluster: its APIs, features, quorum, leaders and replicas.

use serde_json::json;
use tidegate::protocol::versions::APIS;

use super::bench::{Bench, words};

/// `BrokerApiVersionsCommand`.
pub fn api_versions(bench: &mut Bench<'_>) {
    let said = bench.run("BrokerApiVersionsCommand", &[]);
    assert!(said.starts_with(&format!("{} (id: 1 ", bench.broker.address())), "{said}");
    for api in &APIS {
        let line = said.lines().find(|line| {
            line.trim_start().starts_with(&format!("{}({}): ", api.name, api.key as i16))
        });
        let (min, max) = (api.advertised.min, api.advertised.max);
        let range = if min == max { format!("{min} [") } else { format!("{min} to {max} [") };
        assert!(line.is_some_and(|line| line.contains(&range)), "{} {range}\n{said}", api.name);
    }
    let served = said.lines().filter(|line| line.contains("[usable: ")).count();
    assert_eq!(served, APIS.len(), "{said}");
}

/// `ClientCompatibilityTest`.
pub fn client_compatibility(bench: &mut Bench<'_>) {
    bench.create("compatible", 1);
    let expected = [
        ("offsets-for-times-supported", "true"),
        ("cluster-id-supported", "true"),
        // Fetch has returned a batch above the limit since version 3.
        ("expect-record-too-large-exception", "false"),
        ("num-cluster-nodes", "1"),
        ("create-topics-supported", "true"),
        // There are no ACLs yet.
        ("describe-acls-supported", "false"),
        ("describe-configs-supported", "true"),
        ("idempotent-producer-supported", "true"),
    ];
    let expected = expected.map(|(name, value)| (format!("--{name}"), value));
    let mut args = vec!["--topic", "compatible"];
    args.extend(expected.iter().flat_map(|(name, value)| [&name[..], value]));
    let said = bench.run("ClientCompatibilityTest", &args);
    assert!(said.contains("SUCCESS."), "{said}");
}

/// `FeatureCommand`. Tidegate has none of Kafka's features, which switch what brokers of several
/// releases must agree on.
pub fn features(bench: &mut Bench<'_>) {
    const TOOL: &str = "FeatureCommand";
    assert_eq!(bench.run(TOOL, &["describe"]), "");
    let said = bench.refused(TOOL, &["upgrade", "--feature", "metadata.version=29"]);
    assert!(said.contains("Could not upgrade metadata.version to 29."), "{said}");
    assert!(said.contains("no such feature"), "{said}");
    let said = bench.refused(TOOL, &["upgrade", "--release-version", "4.3"]);
    assert!(said.contains("Could not upgrade"), "{said}");
    let said = bench.refused(TOOL, &["downgrade", "--feature", "transaction.version=1"]);
    assert!(said.contains("Could not downgrade transaction.version to 1."), "{said}");
    let said = bench.refused(TOOL, &["disable", "--feature", "transaction.version"]);
    assert!(said.contains("Could not disable transaction.version."), "{said}");
    assert_eq!(bench.run(TOOL, &["describe"]), "");
}

/// `MetadataQuorumCommand`.
pub fn metadata_quorum(bench: &mut Bench<'_>) {
    const TOOL: &str = "MetadataQuorumCommand";
    let number = |said: &str, name: &str| -> i64 { words(said, name)[1].parse().unwrap() };
    let before = bench.run(TOOL, &["describe", "--status"]);
    assert_eq!(number(&before, "LeaderId:"), 1, "{before}");
    assert_eq!(number(&before, "MaxFollowerLag:"), 0, "{before}");
    assert!(number(&before, "LeaderEpoch:") > 0, "{before}");
    assert!(words(&before, "CurrentVoters:").join(" ").contains("\"id\": 1"), "{before}");
    assert_eq!(words(&before, "CurrentObservers:")[1..], ["[]"], "{before}");
    bench.create("counted", 1);
    let after = bench.run(TOOL, &["describe", "--status"]);
    assert_eq!(
        number(&after, "HighWatermark:"),
        number(&before, "HighWatermark:") + 1,
        "a topic is one entry of the metadata log\n{after}"
    );
    let cluster = words(&after, "ClusterId:")[1];
    assert!(bench.broker.log().contains(&format!("cluster_id={cluster}")), "{after}");
    let replicas = bench.run(TOOL, &["describe", "--replication"]);
    // NodeId DirectoryId LogEndOffset Lag LastFetchTimestamp LastCaughtUpTimestamp Status
    let leader = words(&replicas, "Leader");
    assert_eq!((leader[0], leader[3]), ("1", "0"), "{replicas}");
    assert_eq!(leader[2], words(&after, "HighWatermark:")[1], "{replicas}");
}

/// `LeaderElectionCommand`.
pub fn leader_election(bench: &mut Bench<'_>) {
    const TOOL: &str = "LeaderElectionCommand";
    bench.create("led", 2);
    for kind in ["preferred", "unclean"] {
        let one = ["--election-type", kind, "--topic", "led", "--partition", "1"];
        let said = bench.run(TOOL, &one);
        assert!(said.contains("Valid replica already elected for partitions led-1"), "{said}");
        let all = bench.run(TOOL, &["--election-type", kind, "--all-topic-partitions"]);
        assert_eq!(all, "", "all partitions, {kind}");
    }
    let unknown = ["--election-type", "preferred", "--topic", "led", "--partition", "7"];
    let said = bench.refused(TOOL, &unknown);
    assert!(said.contains("led-7"), "{said}");
}

/// `ReassignPartitionsCommand`.
pub fn reassignment(bench: &mut Bench<'_>) {
    const TOOL: &str = "reassign.ReassignPartitionsCommand";
    bench.create("placed", 2);
    bench.write("placed", 0, &[1, 2]);
    let topics = json!({"topics": [{"topic": "placed"}], "version": 1}).to_string();
    let topics = bench.file("topics.json", &topics);
    let generate = ["--generate", "--topics-to-move-json-file", &topics, "--broker-list", "1"];
    let said = bench.run(TOOL, &generate);
    let (_, proposed) = said.split_once("Proposed partition reassignment configuration\n").unwrap();
    assert!(proposed.contains("\"replicas\":[1]"), "{said}");
    let plan = bench.file("plan.json", proposed);
    let said = bench.run(TOOL, &["--execute", "--reassignment-json-file", &plan]);
    assert!(said.contains("Successfully started partition reassignments for placed-0"), "{said}");
    let said = bench.run(TOOL, &["--verify", "--reassignment-json-file", &plan]);
    assert!(said.contains("Reassignment of partition placed-0 is completed."), "{said}");
    assert_eq!(bench.run(TOOL, &["--list"]), "No partition reassignments found.\n");
    let elsewhere = proposed.replace("[1]", "[2]");
    let elsewhere = bench.file("elsewhere.json", &elsewhere);
    let said = bench.refused(TOOL, &["--execute", "--reassignment-json-file", &elsewhere]);
    assert!(said.contains("Unknown broker id 2"), "{said}");
    assert_eq!(crate::judge::read_partition(&mut bench.wire, "placed", 0).len(), 2);
}

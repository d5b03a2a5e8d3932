//! Apache Kafka's command-line tools, each judged by what it says and by what it does. What comes
//! out is the table `tools` of README.md.
//!
//! `TIDEGATE_TOOL=LogDirs` runs those whose name begins so, and leaves the table alone.
#![allow(clippy::print_stderr, reason = "faults belong to the output of a test")]

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

mod bench;
mod cluster;
mod consume;
mod groups;
mod jvm;
mod parity;
mod producing;
mod records;
mod topics;

use crate::harness::tables;
use bench::Bench;
use jvm::Jvm;

/// A tool and the test that shows what it is good for.
struct Tool {
    /// Its class, without the package.
    name: &'static str,
    /// What of it is judged.
    covers: &'static str,
    test: fn(&mut Bench<'_>),
}

const fn tool(name: &'static str, covers: &'static str, test: fn(&mut Bench<'_>)) -> Tool {
    Tool { name, covers, test }
}

/// Every tool that is judged.
const TOOLS: &[Tool] = &[
    tool("TopicCommand", "create, list, describe, alter, delete", topics::topics),
    tool("ConfigCommand", "describe, add, append, delete; topics and brokers", topics::configs),
    tool("GetOffsetShell", "earliest, latest, by time; filters", topics::offsets),
    tool("DeleteRecordsCommand", "to an offset, to the end", topics::delete_records),
    tool("LogDirsCommand", "describe", topics::log_dirs),
    tool("ConsumerGroupCommand", "list, describe, every reset, delete", groups::consumer_groups),
    tool("GroupsCommand", "list, filters", groups::groups),
    tool("ConsoleProducer", "keys, headers, standard input", records::console_producer),
    tool("ConsoleConsumer", "groups, partitions, offsets, formats", records::console_consumer),
    tool("VerifiableProducer", "acknowledgements", records::verifiable_producer),
    tool("VerifiableConsumer", "assignment, commits", records::verifiable_consumer),
    tool("ProducerPerformance", "records sent", records::producer_performance),
    tool("ConsumerPerformance", "records read", records::consumer_performance),
    tool("LogCompactionTester", "the whole run; at most half is left", records::log_compaction),
    tool("EndToEndLatency", "round trips", records::end_to_end_latency),
    tool("BrokerApiVersionsCommand", "every API and version", cluster::api_versions),
    tool("ClientCompatibilityTest", "the whole run", cluster::client_compatibility),
    tool("FeatureCommand", "describe; upgrades are refused", cluster::features),
    tool("MetadataQuorumCommand", "status, replication", cluster::metadata_quorum),
    tool("LeaderElectionCommand", "one partition, all", cluster::leader_election),
    tool("ReassignPartitionsCommand", "generate, execute, verify, list", cluster::reassignment),
];

#[test]
fn every_tool_says_and_does_what_it_does_with_apache_kafka() {
    let asked = std::env::var("TIDEGATE_TOOL").unwrap_or_default();
    let mut jvm = Jvm::start();
    let mut table = "| tool | what of it | result |\n|---|---|---|\n".to_owned();
    let mut faults = String::new();
    for tool in TOOLS.iter().filter(|tool| tool.name.starts_with(&asked)) {
        let begun = Instant::now();
        let judged = catch_unwind(AssertUnwindSafe(|| (tool.test)(&mut Bench::new(&mut jvm))));
        let result = if judged.is_ok() { "pass" } else { "fail" };
        eprintln!("{} {result} in {:.1} s", tool.name, begun.elapsed().as_secs_f32());
        if judged.is_err() {
            let _ = writeln!(faults, "{}", tool.name);
        }
        let _ = writeln!(table, "| {} | {} | {result} |", tool.name, tool.covers);
    }
    assert!(faults.is_empty(), "what failed is above:\n{faults}\n{table}");
    if asked.is_empty() {
        tables::check("tools", &table);
    }
}

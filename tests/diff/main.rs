//! Tidegate beside Apache Kafka: the same requests go to both, and the answers are compared field
//! by field. Run by `tests/run`, which installs Kafka's jars under `target/clients`; `cargo test`
//! alone leaves this suite out (`test = false` in Cargo.toml).
//!
//! A scenario sends requests through a [`Peer`], which keeps every answer as a tree. [`masks`] says
//! what may differ between two sides, which is more for two brokers (epochs, wording, sizes) than
//! for two ways to the same one. Where a side means to differ, [`announced`] says so with the
//! reason, and an entry there that no longer differs fails the test like a difference that is not
//! announced.
//!
//! [`ways`] compares Kafka with Kafka behind something that carries bytes: the proxy, or a relay
//! that shows what the masks are worth.
#![allow(unreachable_pub, reason = "modules of one test binary")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod admin;
mod announced;
mod batch;
mod cluster;
mod configs;
mod corpus;
mod fetch;
mod groups;
mod hostile;
mod kafka_only;
mod masks;
mod membership;
mod offsets;
mod peer;
mod produce;
mod sessions;
mod sharing;
mod side;
mod topics;
mod tree;
mod ways;

use crate::harness::kafka::Kafka;
use crate::harness::{Broker, Options};
use crate::masks::Masks;
use crate::peer::Peer;
use crate::side::Side;

/// A function that sends requests; each answer is compared.
type Scenario = fn(&mut Peer);

/// All scenarios, in the order in which both brokers run them.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("api versions", cluster::api_versions),
    ("closed connections", cluster::closed_connections),
    ("bad headers", hostile::headers),
    ("bad fields", hostile::fields),
    ("produce bad records", hostile::records),
    ("describe cluster", cluster::describe_cluster),
    ("metadata", topics::metadata),
    ("find coordinator", cluster::find_coordinator),
    ("create topics", topics::create_topics),
    ("create topics by version", topics::create_topics_by_version),
    ("delete topics", topics::delete_topics),
    ("create partitions", topics::create_partitions),
    ("metadata creates topics", topics::auto_create),
    ("produce by version", produce::by_version),
    ("produce refusals", produce::refusals),
    ("produce topic settings", produce::topic_settings),
    ("produce sequences", produce::sequences),
    ("fetch", fetch::fetch),
    ("fetch by version", fetch::by_version),
    ("fetch limits", fetch::limits),
    ("fetch sessions", fetch::sessions),
    ("incremental fetches", sessions::incremental),
    ("incremental fetches in turn", sessions::order),
    ("incremental fetches refused", sessions::refused),
    ("incremental fetches of deleted topics", sessions::deleted_topics),
    ("list offsets", offsets::list_offsets),
    ("offset for leader epoch", offsets::offset_for_leader_epoch),
    ("delete records", offsets::delete_records),
    ("log dirs", admin::log_dirs),
    ("topic partitions", admin::topic_partitions),
    ("elect leaders", admin::elect_leaders),
    ("reassignments", admin::reassignments),
    ("describe quorum", admin::describe_quorum),
    ("update features", admin::update_features),
    ("config resources", admin::config_resources),
    ("init producer id", cluster::init_producer_id),
    ("group membership", membership::two_members),
    ("join by version", membership::join_by_version),
    ("join refusals", membership::refusals),
    ("static members", membership::static_members),
    ("offset commit and fetch", groups::commit_and_fetch),
    ("offset delete", groups::offset_delete),
    ("describe and list groups", groups::describe_and_list),
    ("delete groups", groups::delete_groups),
    ("describe configs", configs::describe_configs),
    ("alter topic configs", configs::alter_topic_configs),
    ("replace topic configs", configs::replace_topic_configs),
    ("alter broker configs", configs::alter_broker_configs),
];

/// Scenarios of what Tidegate does not serve yet: two Kafkas run them after the others.
const KAFKA_ONLY: &[(&str, Scenario)] = &[
    ("transactions", kafka_only::transactions),
    ("consumer groups", kafka_only::consumer_groups),
    ("share groups", sharing::share_group),
    ("quotas", kafka_only::quotas),
    ("credentials", kafka_only::credentials),
];

/// Settings that both brokers get, by Kafka's names.
const SETTINGS: &[(&str, &str)] = &[
    ("num.partitions", "2"),
    ("auto.create.topics.enable", "true"),
    ("offsets.topic.num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.retention.ms", "-1"),
];

/// How src/config/kafka.txt is written, and that it is what Kafka says.
#[test]
fn the_table_of_configs_is_kafkas() {
    let table = configs::table(&Kafka::start(&[]).address());
    if let Some(path) = std::env::var_os("TIDEGATE_CONFIGS") {
        std::fs::write(path, &table).unwrap();
        return;
    }
    assert_eq!(table, include_str!("../../src/config/kafka.txt"), "write it with TIDEGATE_CONFIGS");
}

#[test]
fn tidegate_answers_as_apache_kafka_does() {
    let options = SETTINGS.iter().fold(Options::new(), |all, (key, value)| all.set(key, value));
    let broker = Broker::start_with(options);
    let ours = Side { announced: announced::ANNOUNCED, ..Side::at(&broker.address()) };
    let mut peer = Peer::connect(&ours);
    run(&mut peer, SCENARIOS);
    let answers = peer.into_answers();
    let theirs = &ways::direct().answers[..answers.len()];
    let report = side::compare(theirs, &answers, Masks::Brokers, &ours);
    assert!(report.faults.is_empty(), "of {} answers:\n{}", report.answers, report.faults);
}

/// Runs scenarios in their order.
fn run(peer: &mut Peer, scenarios: &[(&'static str, Scenario)]) {
    for (name, scenario) in scenarios {
        peer.begin(name);
        scenario(peer);
    }
}

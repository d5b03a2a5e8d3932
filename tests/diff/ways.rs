//! Apache Kafka directly and through something that stands in front of it.
//!
//! Two Kafkas that were formatted alike are asked the same in the same order, one directly and one
//! through what is tested: so neither sees what the other was told, every request may change
//! something, and what all of a cluster lists can be compared whole. One Kafka for both would need
//! names of its own for each side, and could compare no list and no id that is counted up.

use std::io::Write as _;
use std::sync::OnceLock;

use crate::corpus;
use crate::corpus::schema::Messages;
use crate::harness::installation;
use crate::harness::kafka::{Kafka, KafkaOptions};
use crate::harness::proxy::Proxy;
use crate::harness::relay::Relay;
use crate::masks::Masks;
use crate::peer::{Answer, Peer};
use crate::side::{self, Side};
use crate::tree::Tree;
use crate::{KAFKA_ONLY, SCENARIOS, SETTINGS};

/// All that one side was asked.
#[derive(Debug)]
pub struct Run {
    /// What the scenarios were answered, and then the corpus.
    pub answers: Vec<Answer>,
    /// Raw responses of the scenarios that Tidegate has too.
    samples: String,
    /// Requests of the corpus.
    generated: usize,
    /// APIs in some version that were answered.
    spoken: usize,
    leaks: Vec<String>,
}

/// What Apache Kafka answers when it is reached directly; asked once.
pub fn direct() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let kafka = start();
        let run = run(&Side::direct(&kafka));
        // How tests/wire/goldens was made.
        if let Some(path) = std::env::var_os("TIDEGATE_GOLDENS") {
            std::fs::write(path, &run.samples).unwrap();
        }
        run
    })
}

/// A Kafka that advertises an address that nothing else uses. It never looks for what retention
/// deletes: by default it does after half a minute, when either of two may be further.
fn start() -> Kafka {
    let options = KafkaOptions::of_defaults()
        .set("share.coordinator.state.topic.num.partitions", 1)
        .set("log.initial.task.delay.ms", 86_400_000);
    let set = |options: KafkaOptions, (key, value): &(&str, &str)| options.set(key, value);
    Kafka::start_with(SETTINGS.iter().fold(options, set))
}

fn run(side: &Side) -> Run {
    let mut peer = Peer::connect(side);
    crate::run(&mut peer, SCENARIOS);
    let samples = peer.samples();
    crate::run(&mut peer, KAFKA_ONLY);
    let corpus = corpus::run(side, messages());
    let leaks = [peer.leaks(), &corpus.leaks].concat();
    let (generated, spoken) = (corpus.requests, corpus.spoken);
    let answers = peer.into_answers().into_iter().chain(corpus.answers).collect();
    Run { answers, samples, generated, spoken, leaks }
}

/// Kafka's own definitions, from the jar that it runs from.
fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| Messages::of_jars(&installation("java")))
}

/// Compares a side with Kafka itself, which advertises what `expected` makes of its answers.
fn check(name: &str, side: &Side, expected: fn(&Tree) -> Tree) {
    let (direct, other) = std::thread::scope(|scope| {
        let direct = scope.spawn(direct);
        let other = run(side);
        (direct.join().expect("the direct run"), other)
    });
    let answers: Vec<Answer> = direct.answers.iter().map(|answer| answer.map(expected)).collect();
    let report = side::compare(&answers, &other.answers, Masks::Kafkas, side);
    // Not captured: whoever runs the suite sees how much was compared.
    let _ = writeln!(
        std::io::stdout(),
        "{name}: {} answers with {} fields alike, {} of them to generated requests, which {} API \
         versions answered; {} announced differences, {} leaks",
        report.answers,
        report.fields,
        other.generated,
        other.spoken,
        side.announced.len(),
        other.leaks.len(),
    );
    let faults = report.faults + &other.leaks.join("\n");
    assert!(faults.is_empty(), "{name}:\n{faults}");
}

/// The comparison itself: a relay changes nothing, so that nothing may differ. It shows what the
/// masks and the order of the requests are worth, and needs a third Kafka: a long form.
#[test]
fn a_relay_changes_nothing() {
    if std::env::var_os("TIDEGATE_LONG").is_none() {
        return;
    }
    let kafka = start();
    let relay = Relay::bind("127.0.0.1");
    relay.serve(&kafka.address());
    check("relay", &Side { doors: vec![relay.address()], ..Side::direct(&kafka) }, Tree::clone);
}

#[test]
fn the_proxy_changes_addresses_only() {
    let kafka = start();
    let proxy = Proxy::start(kafka.address());
    check("proxy", &Side::behind(&proxy, &kafka), |answer| corpus::advertised(messages(), answer));
}

//! What the clients talk to: a Tidegate broker, an Apache Kafka, or that one through the proxy.

use crate::harness::kafka::{Kafka, KafkaOptions};
use crate::harness::proxy::Proxy;
use crate::harness::relay::Relay;
use crate::harness::{Broker, Options};

/// Settings of all of them, by Kafka's names.
const SETTINGS: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "100"),
    // Records have times of their own.
    ("log.retention.ms", "-1"),
];

/// A broker for every client of the matrix.
pub enum Stand {
    /// Tidegate itself.
    Tidegate(Broker),
    /// Apache Kafka.
    Kafka(Kafka),
    /// Apache Kafka behind a proxy.
    Proxied(Proxied),
}

/// An upstream that clients may reach through the proxy only: it tells them the relay's address,
/// which knows who comes.
pub struct Proxied {
    kafka: Kafka,
    relay: Relay,
    proxy: Proxy,
}

impl Stand {
    /// Starts Tidegate.
    pub fn tidegate() -> Self {
        let set = |options: Options, (key, value): &(&str, &str)| options.set(key, value);
        Self::Tidegate(Broker::start_with(SETTINGS.iter().fold(Options::new(), set)))
    }

    /// Starts Apache Kafka.
    pub fn kafka() -> Self {
        Self::Kafka(Kafka::start_with(kafka_options()))
    }

    /// Starts Apache Kafka and a proxy.
    pub fn proxied() -> Self {
        let relay = Relay::bind("127.0.2.1");
        let kafka = Kafka::start_with(kafka_options().advertise(vec![relay.address()]));
        relay.serve(&kafka.address());
        let proxy = Proxy::start(relay.address());
        relay.expect_only(proxy.pid());
        Self::Proxied(Proxied { kafka, relay, proxy })
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        match self {
            Self::Tidegate(broker) => broker.address(),
            Self::Kafka(kafka) => kafka.address(),
            Self::Proxied(proxied) => proxied.proxy.address(),
        }
    }

    /// Kills the broker (SIGKILL) and starts it again.
    pub fn kill_and_restart(&mut self) {
        match self {
            Self::Tidegate(broker) => {
                broker.kill();
                broker.restart();
            }
            Self::Kafka(kafka) | Self::Proxied(Proxied { kafka, .. }) => {
                kafka.kill_node(1);
                kafka.start_node(1);
            }
        }
    }

    /// What the broker, or the proxy, has logged.
    pub fn log(&self) -> String {
        match self {
            Self::Tidegate(broker) => broker.log(),
            Self::Kafka(kafka) => kafka.log(1),
            Self::Proxied(proxied) => proxied.proxy.log(),
        }
    }

    /// Connections to the upstream's own address that are not the proxy's.
    pub fn strangers(&self) -> Vec<String> {
        match self {
            Self::Tidegate(_) | Self::Kafka(_) => Vec::new(),
            Self::Proxied(proxied) => proxied.relay.strangers(),
        }
    }
}

fn kafka_options() -> KafkaOptions {
    let set = |options: KafkaOptions, (key, value): &(&str, &str)| options.set(key, value);
    SETTINGS.iter().fold(KafkaOptions::new(), set)
}

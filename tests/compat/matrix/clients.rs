//! The clients: a column each, and how its driver is started.

use std::process::Command;

use crate::clients::folder;

/// A client of the table.
pub struct Client {
    /// In topics, groups and results.
    pub id: &'static str,
    /// The column's head, behind which the driver puts the version.
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    /// The one Java driver beside the client's own jars.
    Java,
    /// A module of tests/compat/python.
    Python(&'static str),
    /// A script of tests/compat/kafkajs.
    Node(&'static str),
    /// A program in the folder of clients.
    Program,
}

/// Every client, in the order of the columns.
pub static CLIENTS: [Client; 12] = [
    Client { id: "java-4.4", name: "Java", kind: Kind::Java },
    Client { id: "java-3.9", name: "Java", kind: Kind::Java },
    Client { id: "java-2.8", name: "Java", kind: Kind::Java },
    Client { id: "confluent", name: "confluent-kafka", kind: Kind::Python("driver_confluent") },
    Client { id: "kcat", name: "kcat", kind: Kind::Python("driver_kcat") },
    Client { id: "rdkafka", name: "Rust rdkafka", kind: Kind::Program },
    Client { id: "kafka-python", name: "kafka-python", kind: Kind::Python("driver_kafka_python") },
    Client { id: "aiokafka", name: "aiokafka", kind: Kind::Python("driver_aiokafka") },
    Client { id: "kafkajs", name: "kafkajs", kind: Kind::Node("driver.js") },
    Client { id: "franz-go", name: "franz-go", kind: Kind::Program },
    Client { id: "sarama", name: "sarama", kind: Kind::Program },
    Client { id: "kafka-go", name: "segmentio kafka-go", kind: Kind::Program },
];

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat");

impl Client {
    /// The driver's command, for a broker at `bootstrap`.
    pub fn command(&self, bootstrap: &str) -> Command {
        let folder = folder();
        let mut command = match self.kind {
            Kind::Java => {
                let mut command = Command::new("java");
                command.args(["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
                let own = folder.join(self.id);
                let driver = folder.join("java-driver");
                command.arg(format!("{}:{}/*", driver.display(), own.display()));
                command.arg("Driver");
                command
            }
            Kind::Python(module) => {
                let mut command = Command::new(folder.join("python/bin/python"));
                command.arg("-B").arg(format!("{SOURCES}/python/{module}.py"));
                command
            }
            Kind::Node(script) => {
                let mut command = Command::new("node");
                command.arg(folder.join("kafkajs").join(script));
                command
            }
            Kind::Program => {
                let mut command = Command::new(folder.join(self.id));
                command.arg("driver");
                command
            }
        };
        command.arg(bootstrap);
        command
    }
}

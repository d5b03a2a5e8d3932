//! What clients lack, and where that is said.

/// Where it is said that `client` lacks what `scenario` needs; nothing if it does not lack it.
pub fn source(client: &str, scenario: &str) -> Option<&'static str> {
    ABSENT.iter().find(|row| row.0 == client && row.1 == scenario).map(|row| row.2)
}

/// Client, scenario, source.
#[rustfmt::skip]
const ABSENT: &[(&str, &str, &str)] = &[
    ("kcat", "commit-manual", "kcat(1) has no option for it; its group mode commits by itself"),
    ("kcat", "commit-metadata", "kcat(1) has no option for it; its group mode commits by itself"),
    ("kcat", "pause", "kcat(1) has no option for it"),
    ("kafka-python", "headers-null", "KafkaProducer.send refuses it: all headers must be (str, bytes)"),
    ("aiokafka", "group-cooperative", "aiokafka.coordinator.assignors has range, roundrobin and sticky, all eager"),
    ("kafkajs", "group-cooperative", "tulios/kafkajs#1771"),
    ("kafkajs", "group-static", "tulios/kafkajs#884"),
    ("kafkajs", "headers-null", "its encoder takes the length of every value (src/protocol/recordBatch/record/v0)"),
    ("sarama", "murmur2", "its hash partitioners are FNV-1a and CRC-32 (partitioner.go)"),
    ("kafka-go", "headers-null", "its reader gives null for an empty value"),
    ("kafka-go", "nulls", "its reader gives null for an empty key or value"),
    ("kafka-go", "group-cooperative", "segmentio/kafka-go#985"),
    ("kafka-go", "group-static", "segmentio/kafka-go#493"),
    ("kafka-go", "idempotent", "segmentio/kafka-go#233"),
    ("kafka-go", "commit-metadata", "Reader.CommitMessages and Generation.CommitOffsets take offsets only"),
    ("kafka-go", "pause", "Reader has no such method; it fetches until it is closed"),
];

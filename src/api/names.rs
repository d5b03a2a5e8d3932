//! Small conversions between our names and the crate's.

use std::sync::Arc;

use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

/// About what a text of a message takes in memory beside its struct, for estimates.
pub(super) const TEXT_BYTES: usize = 64;

/// Text for a message.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name for a message.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Text of a message as a name that the coordinator keeps.
pub(super) fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// [`shared`] for text that may be missing.
pub(super) fn optional(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(shared)
}

/// A broker's id for a message.
pub(super) fn broker_id(id: i32) -> BrokerId {
    BrokerId(id)
}

/// What a principal may do, as the bit fields of `authorized_operations` (KIP-430). Without
/// authorization everybody may do everything that the resource knows.
pub(super) mod operations {
    const READ: i32 = 1 << 3;
    const WRITE: i32 = 1 << 4;
    const CREATE: i32 = 1 << 5;
    const DELETE: i32 = 1 << 6;
    const ALTER: i32 = 1 << 7;
    const DESCRIBE: i32 = 1 << 8;
    const CLUSTER_ACTION: i32 = 1 << 9;
    const DESCRIBE_CONFIGS: i32 = 1 << 10;
    const ALTER_CONFIGS: i32 = 1 << 11;
    const IDEMPOTENT_WRITE: i32 = 1 << 12;

    /// The bit field of a request that did not ask.
    pub(crate) const NOT_ASKED: i32 = i32::MIN;
    /// Every operation on a topic.
    pub(crate) const TOPIC: i32 =
        READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    /// Every operation on a group.
    pub(crate) const GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    /// Every operation on the cluster.
    pub(crate) const CLUSTER: i32 = CREATE
        | ALTER
        | DESCRIBE
        | CLUSTER_ACTION
        | DESCRIBE_CONFIGS
        | ALTER_CONFIGS
        | IDEMPOTENT_WRITE;
}

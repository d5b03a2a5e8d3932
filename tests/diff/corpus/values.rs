//! What stands in the fields of generated requests.

use uuid::Uuid;

use super::schema::{Field, Message};
use super::writer::Flavor;
use crate::batch::Batch;
use crate::topics::UNKNOWN_ID;

/// The topic that requests are about.
pub const TOPIC: &str = "corpus";

/// The longest string that every version can carry.
const LONG: usize = i16::MAX as usize;

/// What one side calls the things that requests are about.
#[derive(Debug)]
pub struct Values {
    /// The id of [`TOPIC`].
    pub topic_id: Uuid,
}

impl Values {
    /// An id.
    pub fn id(&self, field: &Field, flavor: Flavor, element: usize) -> Uuid {
        match flavor {
            Flavor::Defaults | Flavor::Nulls | Flavor::Least => Uuid::nil(),
            Flavor::Largest => Uuid::max(),
            Flavor::Two if element == 0 => UNKNOWN_ID,
            Flavor::Two => Uuid::from_u128(0x4d5a_7000_0000_4000_8000_0000_0000_0001),
            _ if field.name.starts_with("TopicId") => self.topic_id,
            _ => Uuid::from_u128(0x4d5a_7000_0000_4000_8000_0000_0000_0002),
        }
    }
}

/// Whether a field that may be null is null in a request that says something: a request says
/// who it is for only where the wrong one would be refused.
pub fn is_null(message: &Message, field: &Field) -> bool {
    let is_instance = ["GroupInstanceId", "InstanceId"].contains(&&*field.name);
    is_instance || message.name == "JoinGroupRequest" && field.name == "Reason"
}

/// A boolean.
pub fn truth(field: &Field, flavor: Flavor) -> bool {
    match flavor {
        Flavor::Defaults | Flavor::Nulls => {
            field.default.as_ref().is_some_and(|it| it == true || it == "true")
        }
        Flavor::One | Flavor::Tagged => !field.name.eq_ignore_ascii_case("ValidateOnly"),
        // What there is not must not be there afterwards.
        Flavor::Two | Flavor::Least => false,
        Flavor::Largest => true,
    }
}

/// A number of so many bits.
pub fn number(version: i16, field: &Field, flavor: Flavor, element: usize, bits: u32) -> i64 {
    let is_unsigned = field.of().0.starts_with('u');
    let largest = if is_unsigned { (1 << bits) - 1 } else { i64::MAX >> (64 - bits) };
    let least = if is_unsigned { 0 } else { i64::MIN >> (64 - bits) };
    match flavor {
        // A request must be answered soon.
        _ if field.name == "MaxWaitMs" && flavor != Flavor::Least => 0,
        Flavor::Defaults | Flavor::Nulls => default(field),
        Flavor::One | Flavor::Tagged => plausible(version, &field.name),
        Flavor::Two => match &*field.name {
            "Acks" => -1,
            name if name.contains("Partition") || name == "Index" => 40 + element as i64,
            name if name.contains("imeoutMs") => plausible(version, name),
            _ => 76 + element as i64,
        },
        Flavor::Largest => largest,
        Flavor::Least => least,
    }
}

/// A string.
pub fn text(
    message: &Message,
    version: i16,
    field: &Field,
    flavor: Flavor,
    element: usize,
) -> String {
    let key = message.api_key;
    match flavor {
        Flavor::Defaults | Flavor::Nulls => match &field.default {
            Some(serde_json::Value::String(text)) if text != "null" => text.clone(),
            _ => String::new(),
        },
        Flavor::Least => String::new(),
        Flavor::Largest => "x".repeat(LONG),
        Flavor::Two if key == 3 => format!("no topic {element}"),
        Flavor::Two => format!("unknown-{element}"),
        Flavor::One | Flavor::Tagged => {
            let own = if flavor == Flavor::One { "one" } else { "tagged" };
            let own = format!("{own}-{version}");
            known(message, field, &own)
        }
    }
}

/// What there is, or what may be made with a name of its own.
fn known(message: &Message, field: &Field, own: &str) -> String {
    let key = message.api_key;
    let fixed = match (&*field.entity_type, &*field.name) {
        // Made by CreateTopics, and then deleted.
        ("topicName", _) if matches!(key, 19 | 20) => return format!("made-{own}"),
        ("topicName", _) | (_, "ResourceName" | "ResourceNameFilter") => TOPIC,
        ("groupId", _) | (_, "GroupId" | "CoordinatorKeys") => {
            return format!("group-{key}-{own}");
        }
        ("transactionalId", _) => return format!("transaction-{key}-{own}"),
        (_, "Key") if key == 10 => return format!("group-{key}-{own}"),
        (_, "MemberId") => "",
        (_, "ProtocolType") => "consumer",
        (_, "ProtocolName" | "Name") if matches!(key, 11 | 14) => "range",
        (_, "Name") if matches!(key, 19 | 33 | 44) => "retention.ms",
        (_, "Value") => "86400000",
        (_, "ServerAssignor") => "uniform",
        (_, "SubscribedTopicRegex") => "corpus.*",
        (_, "Mechanism") => "PLAIN",
        (_, "Principal" | "PrincipalFilter") => "User:alice",
        (_, "PrincipalType" | "OwnerPrincipalType") => "User",
        (_, "Feature") => "metadata.version",
        _ => "x",
    };
    fixed.to_owned()
}

/// Bytes, which may be records.
pub fn bytes(of: &str, flavor: Flavor) -> Vec<u8> {
    let batch = || Batch::values(2, 10).build().to_vec();
    match (of, flavor) {
        ("records", Flavor::One | Flavor::Tagged) => batch(),
        ("records", Flavor::Two) => [batch(), batch()].concat(),
        (_, Flavor::Defaults | Flavor::Nulls | Flavor::Least) => Vec::new(),
        (_, Flavor::Largest) => vec![0xff; 5_000],
        _ => vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}

fn default(field: &Field) -> i64 {
    match &field.default {
        Some(serde_json::Value::Number(number)) => number.as_i64().unwrap_or_default(),
        Some(serde_json::Value::String(text)) => match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).expect("a number"),
            None => text.parse().unwrap_or_default(),
        },
        _ => 0,
    }
}

/// A number that a client might send.
fn plausible(version: i16, name: &str) -> i64 {
    match name {
        "MinBytes" | "ReplicationFactor" | "NumPartitions" | "Acks" | "Mechanism" => 1,
        "MaxBytes" | "PartitionMaxBytes" => 1 << 20,
        "Count" | "ResourceType" => 2,
        "Iterations" => 8_192,
        // Nobody is put out of a group before the end.
        "SessionTimeoutMs" | "RebalanceTimeoutMs" => 600_000,
        "TransactionTimeoutMs" | "TimeoutMs" | "timeoutMs" => 30_000,
        "ReplicaId"
        | "CurrentLeaderEpoch"
        | "SessionEpoch"
        | "LastFetchedEpoch"
        | "GenerationId"
        | "GenerationIdOrMemberEpoch"
        | "CommittedLeaderEpoch"
        | "Timestamp"
        | "RetentionTimeMs"
        | "ProducerEpoch" => -1,
        // No broker and no voter that there is.
        "BrokerId" | "BrokerIds" | "Replicas" | "VoterId" => 77,
        "BatchSize" | "MaxRecords" => 10,
        "ResponsePartitionLimit" => 100,
        "UpgradeType" => i64::from(version > 0),
        _ if name.contains("roducerId") => -1,
        _ => 0,
    }
}

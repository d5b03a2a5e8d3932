//! What may differ between two answers that are alike.

use crate::tree::Tree;

/// Who is compared, and so what may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Masks {
    /// Two brokers that behave alike, each with its own epochs, wording and sizes.
    Brokers,
    /// Two Kafkas of one version that were asked the same, or one that is reached in two ways.
    Kafkas,
}

impl Masks {
    /// The answer without what may differ.
    pub fn of(self, tree: &Tree) -> Tree {
        self.value("", tree, Inside::default())
    }

    fn value(self, name: &str, tree: &Tree, inside: Inside) -> Tree {
        match tree {
            Tree::Leaf(text) => Tree::Leaf(self.leaf(name, text, inside).to_owned()),
            Tree::List(elements) => {
                let value = |element| self.value(name, element, inside);
                Tree::List(elements.iter().map(value).collect())
            }
            Tree::Struct(fields) => {
                let inside = inside.of(fields);
                let kept = fields.iter().filter(|(name, _)| !self.leaves_out(name));
                let value = |(name, value): &(String, Tree)| {
                    (name.clone(), self.value(name, value, inside))
                };
                Tree::Struct(kept.map(value).collect())
            }
        }
    }

    fn leaves_out(self, name: &str) -> bool {
        name == "throttle_time_ms" || self == Masks::Brokers && name == "unknown_tagged_fields"
    }

    fn leaf<'a>(self, name: &str, text: &'a str, inside: Inside) -> &'a str {
        match self {
            Masks::Brokers if name == "records" => text.split(EXACT).next(),
            Masks::Brokers => chosen_by_a_broker(name, text),
            Masks::Kafkas => chosen_by_a_kafka(name, text, inside),
        }
        .unwrap_or(text)
    }
}

/// What a field is part of.
#[derive(Clone, Copy, Debug, Default)]
struct Inside {
    /// One of Kafka's own topics: how many batches its records are in is a matter of time.
    own_topic: bool,
    /// The metadata log, which grows for as long as the process runs.
    metadata_log: bool,
}

impl Inside {
    fn of(self, fields: &[(String, Tree)]) -> Self {
        let is_own = |(name, value): &(String, Tree)| {
            let named = |text: &str| text.starts_with("\"__");
            name == "name" && matches!(value, Tree::Leaf(text) if named(text))
        };
        Self {
            own_topic: self.own_topic || fields.iter().any(is_own),
            metadata_log: self.metadata_log
                || fields.iter().any(|(name, _)| name == "current_voters"),
        }
    }
}

/// Stands between what records are and their bytes.
pub const EXACT: &str = "exact ";

fn is_given(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number >= 0)
}

/// What two brokers choose for themselves.
fn chosen_by_a_broker(name: &str, text: &str) -> Option<&'static str> {
    let given = is_given(text);
    Some(match name {
        "leader_epoch" | "epoch" if given => "an epoch",
        "producer_id" if given => "a producer id",
        "log_append_time_ms" | "last_fetch_timestamp" | "last_caught_up_timestamp" if given => {
            "a time"
        }
        "session_id" if given && text != "0" => "a session",
        "port" if given => "a port",
        "log_dir" => "a directory",
        "total_bytes" | "usable_bytes" if given => "bytes of a volume",
        "log_end_offset" if given => "an end",
        "cluster_id" if text != "None" => "a cluster",
        "error_message" | "batch_index_error_message" if text.len() > 4 => "words",
        _ => return None,
    })
}

/// What even two processes of one Kafka choose for themselves.
fn chosen_by_a_kafka<'a>(name: &str, text: &'a str, inside: Inside) -> Option<&'a str> {
    let given = is_given(text);
    Some(match name {
        // The range of timestamps that are taken is one around now.
        "batch_index_error_message" => text.split("within [").next()?,
        "high_watermark" if inside.metadata_log => "an end",
        "partition_size" if inside.own_topic => "a size",
        "producer_id" if given => "a producer id",
        "log_append_time_ms"
        | "last_fetch_timestamp"
        | "last_caught_up_timestamp"
        | "transaction_start_time_ms"
            if given =>
        {
            "a time"
        }
        "session_id" if given && text != "0" => "a session",
        "usable_bytes" if given => "bytes of a volume",
        // Where the metadata log is depends on how long the process runs.
        "log_end_offset" | "finalized_features_epoch" if given => "an end",
        // How often an assignment was looked for before it was there.
        "member_epoch" | "group_epoch" | "assignment_epoch" if given => "an epoch of a group",
        // A checksum over the random id of the client, among others.
        "subscription_id" if text != "0" => "a subscription",
        "client_host" if text != "\"\"" => "a client's host",
        _ => return None,
    })
}

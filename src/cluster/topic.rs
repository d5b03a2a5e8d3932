//! A topic as the metadata knows it, and what a topic may be called.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::types::TopicId;

/// The most characters of a topic's name (Kafka's `Topic.MAX_NAME_LENGTH`: a name, a dash and a
/// partition must fit a file name).
pub const MAX_NAME_CHARS: usize = 249;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The id of this incarnation of the topic.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// What the creator asked for; it has no effect on durability (DESIGN D13).
    pub replication_factor: i16,
    /// Configuration set on the topic itself.
    pub configs: BTreeMap<String, String>,
    /// What is added to the number of a metadata entry to give a leader epoch: 0, or at an import
    /// what puts the epochs above those of the cluster that the topic came from.
    pub epoch_base: i32,
    /// Runs of partitions that got their ownership together; in order, without a gap, never empty.
    pub spans: Vec<Span>,
}

/// Partitions next to each other that got their present ownership by one metadata entry: from the
/// end of the span before to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition after its last one, above the end of the span before. An end and not a count,
    /// so that a partition of a topic that was grown thousands of times is found in a few steps.
    pub end: i32,
    /// The broker that owns them.
    pub owner: i32,
    /// The number of the entry.
    pub entry: u64,
}

impl Topic {
    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// Who owns a partition and since which entry; `None` if there is no such partition.
    pub fn span(&self, partition: i32) -> Option<Span> {
        if partition < 0 {
            return None;
        }
        let before = self.spans.partition_point(|span| span.end <= partition);
        self.spans.get(before).copied()
    }
}

/// Why a name is not a topic's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters.
    #[error("topic name is empty")]
    Empty,
    /// A name that file systems give another meaning.
    #[error("topic name must not be \".\" or \"..\"")]
    Dots,
    /// Too many characters.
    #[error("topic name has {chars} characters and at most {MAX_NAME_CHARS} are allowed")]
    TooLong {
        /// How many it has.
        chars: usize,
    },
    /// A character that Kafka does not allow.
    #[error(
        "topic name \"{}\" has other characters than ASCII letters, digits, '.', '_' and '-'",
        name.escape_default()
    )]
    Characters {
        /// The name.
        name: String,
    },
}

/// Checks a name by the rules of Kafka's `Topic.validate`.
pub fn validate_name(name: &str) -> Result<(), NameError> {
    let chars = name.chars().count();
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if chars > MAX_NAME_CHARS => Err(NameError::TooLong { chars }),
        _ if name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) => Ok(()),
        _ => Err(NameError::Characters { name: name.to_owned() }),
    }
}

/// What two names have in common that differ only in `.` and `_`; `None` if the name has neither
/// and so collides with nothing. Kafka's metric names cannot tell such names apart, so it refuses
/// the second (`Topic.hasCollision`).
pub(super) fn collision_key(name: &str) -> Option<Arc<str>> {
    name.contains(['.', '_']).then(|| name.replace('.', "_").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249), "__consumer_offsets"] {
            assert_eq!(validate_name(good), Ok(()), "{good}");
        }
        assert_eq!(validate_name(""), Err(NameError::Empty));
        assert_eq!(validate_name("."), Err(NameError::Dots));
        assert_eq!(validate_name(".."), Err(NameError::Dots));
        assert_eq!(validate_name(&"x".repeat(250)), Err(NameError::TooLong { chars: 250 }));
        for bad in ["a b", "a/b", "ä", "a\n", "a,b"] {
            assert!(matches!(validate_name(bad), Err(NameError::Characters { .. })), "{bad}");
        }
    }

    #[test]
    fn names_collide_when_they_differ_in_dots_and_underscores() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a.b"), collision_key("a.c"));
        assert_eq!(collision_key("a-b"), None);
    }

    /// A topic with a span for each end and entry.
    fn topic(spans: impl IntoIterator<Item = (i32, u64)>) -> Topic {
        let span = |(end, entry)| Span { end, owner: 1, entry };
        Topic {
            id: TopicId::ZERO,
            name: "t".into(),
            replication_factor: 1,
            configs: BTreeMap::new(),
            epoch_base: 0,
            spans: spans.into_iter().map(span).collect(),
        }
    }

    #[test]
    fn a_partition_finds_its_span() {
        let topic = topic([(3, 7), (5, 9)]);
        let entries = [-1, 0, 2, 3, 4, 5, i32::MAX].map(|p| topic.span(p).map(|span| span.entry));
        assert_eq!(entries, [None, Some(7), Some(7), Some(9), Some(9), None, None]);
        assert_eq!(topic.partition_count(), 5);
    }

    #[test]
    fn a_partition_of_a_topic_grown_by_ones_is_found_without_a_look_at_all_spans() {
        const SPANS: i32 = 100_000;
        let topic = topic((1..=SPANS).map(|end| (end, end as u64)));
        // Were each look-up linear, these would be five thousand million steps.
        for partition in 0..SPANS {
            let span = topic.span(partition).unwrap();
            assert_eq!((span.end, topic.partition_count()), (partition + 1, SPANS));
        }
        assert_eq!(topic.span(SPANS), None);
    }
}

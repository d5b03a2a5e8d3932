//! An answer as a tree, read from its `Debug` text: fields by name, lists in an order of their own,
//! and nothing that may differ between two brokers that behave alike.

use std::fmt::{self, Write as _};

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A number, a text, an id, `None`.
    Leaf(String),
    /// A list.
    List(Vec<Tree>),
    /// A message or a part of one.
    Struct(Vec<(String, Tree)>),
}

/// Two answers that part somewhere.
#[derive(Debug)]
pub struct Difference {
    /// Scenario and label of the request.
    pub place: String,
    /// The field, without list indexes: `topics.partitions.error_code`.
    pub field: String,
    /// What Kafka answered there.
    pub kafka: String,
    /// What Tidegate answered there.
    pub ours: String,
}

impl Difference {
    /// The place as it is in every version: `fetch: v12 no topics` as `fetch: no topics`.
    pub fn place_without_version(&self) -> String {
        let is_version =
            |word: &&str| word.strip_prefix('v').is_some_and(|rest| rest.parse::<i16>().is_ok());
        let words: Vec<&str> = self.place.split(' ').filter(|word| !is_version(word)).collect();
        words.join(" ")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, field, kafka, ours } = self;
        write!(f, "{place}: {field}\n    kafka    {kafka}\n    tidegate {ours}")
    }
}

/// Fields that name an element of a list.
const IDENTITY: &[&str] = &[
    "name",
    "topic",
    "topic_id",
    "partition_index",
    "partition",
    "index",
    "group_id",
    "member_id",
    "key",
    "api_key",
    "broker_id",
    "resource_name",
    "resource_type",
];

impl Tree {
    /// Reads the `Debug` text of a message.
    pub fn of_debug(text: &str) -> Self {
        let mut reader = Reader { rest: text };
        let tree = reader.value();
        assert!(reader.rest.is_empty(), "unread: {}", reader.rest);
        tree
    }

    /// Notes where `ours` parts from this answer of Kafka's.
    pub fn compare(&self, ours: &Tree, place: &str, found: &mut Vec<Difference>) {
        self.compare_at(ours, place, String::new(), found);
    }

    fn compare_at(&self, ours: &Tree, place: &str, field: String, found: &mut Vec<Difference>) {
        match (self, ours) {
            (Tree::Struct(theirs), Tree::Struct(ours)) if names(theirs) == names(ours) => {
                for ((name, theirs), (_, ours)) in theirs.iter().zip(ours) {
                    let separator = if field.is_empty() { "" } else { "." };
                    let below = format!("{field}{separator}{name}");
                    theirs.compare_at(ours, place, below, found);
                }
            }
            (Tree::List(theirs), Tree::List(ours)) if theirs.len() == ours.len() => {
                for (theirs, ours) in theirs.iter().zip(ours) {
                    theirs.compare_at(ours, place, field.clone(), found);
                }
            }
            (theirs, ours) if theirs == ours => {}
            (theirs, ours) => found.push(Difference {
                place: place.to_owned(),
                field,
                kafka: theirs.to_string(),
                ours: ours.to_string(),
            }),
        }
    }

    /// Text by which an element of a list is put in order.
    fn identity(&self) -> String {
        let Tree::Struct(fields) = self else { return String::new() };
        let named = fields.iter().filter(|(name, _)| IDENTITY.contains(&name.as_str()));
        let mut text = String::new();
        for (_, value) in named {
            let _ = write!(text, "{value:>12} ");
        }
        text
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Leaf(text) => f.pad(text),
            Tree::List(elements) => {
                f.write_str("[")?;
                for element in elements {
                    write!(f, "{element}, ")?;
                }
                f.write_str("]")
            }
            Tree::Struct(fields) => {
                f.write_str("{")?;
                for (name, value) in fields {
                    write!(f, "{name}: {value}, ")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn names(fields: &[(String, Tree)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| name.as_str()).collect()
}

/// A leaf without what two brokers may choose for themselves.
fn masked(name: &str, value: Tree) -> Tree {
    let Tree::Leaf(text) = &value else { return value };
    let given = text.parse::<i64>().is_ok_and(|number| number >= 0);
    let mask = match name {
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
        _ => return value,
    };
    Tree::Leaf(mask.to_owned())
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Tree {
        if self.skip("[") {
            return self.list();
        }
        if self.rest.starts_with('"') || self.rest.starts_with("b\"") {
            return Tree::Leaf(self.quoted().to_owned());
        }
        if self.skip("{") {
            let end = self.rest.find('}').expect("a map ends");
            let text = self.take(end).to_owned();
            self.skip("}");
            return Tree::Leaf(format!("{{{text}}}"));
        }
        let word = self.word();
        if self.skip(" { ") {
            return self.fields();
        }
        if self.skip("(") {
            let inner = self.value();
            assert!(self.skip(")"), "a tuple of one: {}", self.rest);
            return inner;
        }
        Tree::Leaf(word.to_owned())
    }

    fn list(&mut self) -> Tree {
        let mut elements = Vec::new();
        while !self.skip("]") {
            elements.push(self.value());
            self.skip(", ");
        }
        elements.sort_by_cached_key(Tree::identity);
        Tree::List(elements)
    }

    fn fields(&mut self) -> Tree {
        let mut fields = Vec::new();
        while !self.skip("}") {
            let name = self.word().to_owned();
            assert!(self.skip(": "), "a field: {}", self.rest);
            let value = masked(&name, self.value());
            if !["unknown_tagged_fields", "throttle_time_ms"].contains(&name.as_str()) {
                fields.push((name, value));
            }
            let _ = self.skip(", ") || self.skip(" ");
        }
        Tree::Struct(fields)
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find([',', ']', '}', ')', '(', ' ', ':']);
        self.take(end.unwrap_or(self.rest.len()))
    }

    fn quoted(&mut self) -> &'a str {
        let open = self.rest.find('"').expect("a quote");
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(open + 1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return self.take(at + 1),
                _ => {}
            }
        }
        panic!("a text without end: {}", self.rest)
    }

    fn skip(&mut self, text: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(text) else { return false };
        self.rest = rest;
        true
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

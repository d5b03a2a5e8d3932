//! An answer as a tree: fields by name, lists in an order of their own.

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
    /// What the first side, a Kafka, answered there.
    pub kafka: String,
    /// What the other side answered there.
    pub other: String,
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
        let Self { place, field, kafka, other } = self;
        write!(f, "{place}: {field}\n    kafka {kafka}\n    other {other}")
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

    /// A list, put in order where its elements have names.
    pub fn list(mut elements: Vec<Tree>) -> Self {
        elements.sort_by_cached_key(Tree::identity);
        Tree::List(elements)
    }

    /// How many leaves it has.
    pub fn leaves(&self) -> usize {
        match self {
            Tree::Leaf(_) => 1,
            Tree::List(elements) => elements.iter().map(Tree::leaves).sum(),
            Tree::Struct(fields) => fields.iter().map(|(_, value)| value.leaves()).sum(),
        }
    }

    /// Notes where `other` parts from this answer.
    pub fn compare(&self, other: &Tree, place: &str, found: &mut Vec<Difference>) {
        self.compare_at(other, place, String::new(), found);
    }

    fn compare_at(&self, other: &Tree, place: &str, field: String, found: &mut Vec<Difference>) {
        match (self, other) {
            (Tree::Struct(theirs), Tree::Struct(other)) if names(theirs) == names(other) => {
                for ((name, theirs), (_, other)) in theirs.iter().zip(other) {
                    let separator = if field.is_empty() { "" } else { "." };
                    let below = format!("{field}{separator}{name}");
                    theirs.compare_at(other, place, below, found);
                }
            }
            (Tree::List(theirs), Tree::List(other)) if theirs.len() == other.len() => {
                for (theirs, other) in theirs.iter().zip(other) {
                    theirs.compare_at(other, place, field.clone(), found);
                }
            }
            (theirs, other) if theirs == other => {}
            (theirs, other) => found.push(Difference {
                place: place.to_owned(),
                field,
                kafka: theirs.to_string(),
                other: other.to_string(),
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
        Tree::list(elements)
    }

    fn fields(&mut self) -> Tree {
        let mut fields = Vec::new();
        while !self.skip("}") {
            let name = self.word().to_owned();
            assert!(self.skip(": "), "a field: {}", self.rest);
            let value = self.value();
            fields.push((name, value));
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

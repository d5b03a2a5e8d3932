//! One of the two that are compared: how it is reached, what it calls its nodes, and where it means
//! to differ.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::announced::{self, Announced};
use crate::harness::kafka::Kafka;
use crate::harness::proxy::Proxy;
use crate::masks::Masks;
use crate::peer::Answer;
use crate::tree::{Difference, Tree};

/// `DescribeConfigs`, whose answers are what an operator has configured.
const DESCRIBE_CONFIGS: i16 = 32;

/// One of the two.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// The addresses that lead to it, which connections take in turn.
    pub doors: Vec<String>,
    /// The addresses by which it tells where its nodes are.
    pub nodes: Vec<(String, u16)>,
    /// Texts that are its own, and what they are shown as.
    pub words: Vec<(String, &'static str)>,
    /// Addresses that it must not tell.
    pub hidden: Vec<(String, u16)>,
    /// Where it means to differ from the side that it is compared with.
    pub announced: &'static [Announced],
}

impl Side {
    /// A side that is reached under the address by which it tells where its node is.
    pub fn at(address: &str) -> Self {
        Self { doors: vec![address.to_owned()], nodes: vec![parts(address)], ..Self::default() }
    }

    /// A Kafka that is reached directly.
    pub fn direct(kafka: &Kafka) -> Self {
        let mut side = Self::at(&kafka.address());
        side.nodes.push(parts(&kafka.controller_address(1)));
        side.words = words(kafka);
        side
    }

    /// A Kafka behind a proxy, which must tell nothing of where it is.
    pub fn behind(proxy: &Proxy, kafka: &Kafka) -> Self {
        Self {
            doors: vec![proxy.address(), proxy.node_address(1)],
            nodes: vec![parts(&proxy.node_address(1))],
            words: words(kafka),
            hidden: vec![parts(&kafka.address()), parts(&kafka.controller_address(1))],
            announced: announced::PROXY,
        }
    }

    /// The door of the `nth` connection.
    pub fn door(&self, nth: usize) -> &str {
        &self.doors[nth % self.doors.len()]
    }

    /// The answer with names in the place of this side's own addresses and words.
    pub fn named(&self, tree: Tree) -> Tree {
        match tree {
            Tree::Leaf(text) => Tree::Leaf(self.text(text)),
            Tree::List(elements) => {
                Tree::List(elements.into_iter().map(|element| self.named(element)).collect())
            }
            Tree::Struct(fields) => {
                let is_node = address(&fields).is_some_and(|known| self.is_node(&known));
                let named = fields.into_iter().map(|(name, value)| {
                    let value = match (is_node, &*name) {
                        (true, "host" | "port") => Tree::Leaf(format!("the node's {name}")),
                        _ => self.named(value),
                    };
                    (name, value)
                });
                Tree::Struct(named.collect())
            }
        }
    }

    fn text(&self, mut text: String) -> String {
        for (word, name) in &self.words {
            if text.contains(word) {
                text = text.replace(word, name);
            }
        }
        text
    }

    fn is_node(&self, (host, port): &(String, i32)) -> bool {
        self.nodes.iter().any(|node| node.0 == *host && i32::from(node.1) == *port)
    }

    /// What an answer tells that is hidden. The configs of a broker are told as they are.
    pub fn leak(&self, key: i16, frame: &Bytes, answer: &Tree) -> Option<String> {
        if key == DESCRIBE_CONFIGS {
            return None;
        }
        let has = |text: &str| frame.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        let host = self.hidden.iter().find(|(host, _)| has(host)).map(|(host, _)| host.clone());
        host.or_else(|| self.hidden_port(answer))
    }

    fn hidden_port(&self, tree: &Tree) -> Option<String> {
        match tree {
            Tree::Leaf(_) => None,
            Tree::List(elements) => elements.iter().find_map(|element| self.hidden_port(element)),
            Tree::Struct(fields) => fields.iter().find_map(|(name, value)| match value {
                Tree::Leaf(text) => {
                    let is_hidden = |(_, port): &(String, u16)| *text == port.to_string();
                    (name == "port" && self.hidden.iter().any(is_hidden)).then(|| text.clone())
                }
                inner => self.hidden_port(inner),
            }),
        }
    }
}

fn parts(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').expect("host and port");
    (host.to_owned(), port.parse().expect("a port"))
}

/// What a Kafka's configs have of the place where it runs.
fn words(kafka: &Kafka) -> Vec<(String, &'static str)> {
    let folder = kafka.folder().display().to_string();
    vec![
        (folder, "FOLDER"),
        (kafka.address(), "BROKER"),
        (kafka.controller_address(1), "CONTROLLER"),
    ]
}

/// The host and port that a structure has.
fn address(fields: &[(String, Tree)]) -> Option<(String, i32)> {
    let leaf = |wanted| {
        fields.iter().find_map(|(name, value)| match value {
            Tree::Leaf(text) if name == wanted => Some(text),
            _ => None,
        })
    };
    Some((leaf("host")?.trim_matches('"').to_owned(), leaf("port")?.parse().ok()?))
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Report {
    /// Answers that were compared.
    pub answers: usize,
    /// Fields of them.
    pub fields: usize,
    /// Differences that nothing announces, and announcements that nothing shows.
    pub faults: String,
}

/// Compares what two sides answered to the same requests.
pub fn compare(first: &[Answer], second: &[Answer], masks: Masks, second_side: &Side) -> Report {
    let labels = |answers: &[Answer]| answers.iter().map(Answer::place).collect::<Vec<_>>();
    assert_eq!(labels(first), labels(second), "one side was asked something else");
    let mut report = Report { answers: first.len(), ..Report::default() };
    let mut differences = Vec::new();
    for (first, second) in first.iter().zip(second) {
        let (masked, other) = (masks.of(&first.tree), masks.of(&second.tree));
        report.fields += masked.leaves();
        masked.compare(&other, &first.place(), &mut differences);
    }
    report.faults = judge(&differences, second_side.announced);
    report
}

/// Differences that nothing announces, and announcements that nothing shows.
fn judge(differences: &[Difference], announced: &[Announced]) -> String {
    let mut faults = String::new();
    for difference in differences {
        if !announced.iter().any(|entry| entry.covers(difference)) {
            let _ = writeln!(faults, "{difference}");
        }
    }
    for entry in announced {
        if !differences.iter().any(|difference| entry.covers(difference)) {
            let _ = writeln!(faults, "announced, but alike: {entry:?}");
        }
    }
    faults
}

//! Every API and version of Kafka's own definitions, in legal, boundary and broken forms, against
//! one side: what it answers is kept, whether anybody means to serve it or not.
//!
//! Each request is sent together with an `ApiVersions` request behind it, so that no answer is an
//! outcome like any other and never waited for.

pub mod schema;

mod reader;
mod values;
mod writer;

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::messages::{FindCoordinatorRequest, InitProducerIdRequest};

use self::schema::{Message, Messages};
use self::values::{TOPIC, Values};
use self::writer::{Body, Flavor};
use crate::batch::Batch;
use crate::harness::Wire;
use crate::peer::{Answer, Peer, text};
use crate::produce;
use crate::side::Side;
use crate::tree::Tree;

const API_VERSIONS: i16 = 18;

/// Requests that Kafka never answers, with the first version of which that is true: no transaction
/// at all, and a kind of match that does not exist.
const NEVER_ANSWERED: &[(&str, i16, Flavor)] = &[
    ("AddPartitionsToTxnRequest", 4, Flavor::Defaults),
    ("AddPartitionsToTxnRequest", 4, Flavor::Nulls),
    ("DescribeClientQuotasRequest", 0, Flavor::Largest),
];

/// Correlation ids of a request and of the one behind it.
const ASKED: i32 = 0x7fff_fff0;
const BEHIND: i32 = -5;

/// What was asked and answered.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every answer, in the order of the requests.
    pub answers: Vec<Answer>,
    /// Requests that were sent.
    pub requests: usize,
    /// APIs in some version that were answered at least once.
    pub spoken: usize,
    /// Answers that told what is hidden.
    pub leaks: Vec<String>,
}

/// What is advertised by somebody who knows these messages and stands before one who answers
/// `ApiVersions` so: what brokers answer, up to the newest version that both know.
pub fn advertised(messages: &Messages, answer: &Tree) -> Tree {
    let Tree::Struct(fields) = answer else { return answer.clone() };
    let narrowed = fields.iter().map(|(name, value)| match value {
        Tree::List(rows) if name == "api_keys" => {
            let rows = rows.iter().filter_map(|row| common(messages, row));
            (name.clone(), Tree::List(rows.collect()))
        }
        other => (name.clone(), other.clone()),
    });
    Tree::Struct(narrowed.collect())
}

fn common(messages: &Messages, row: &Tree) -> Option<Tree> {
    let Tree::Struct(fields) = row else { return None };
    let number = |wanted: &str| {
        fields.iter().find_map(|(name, value)| match value {
            Tree::Leaf(text) if name == wanted => text.parse::<i16>().ok(),
            _ => None,
        })
    };
    let key = number("api_key")?;
    let request = messages.requests().into_iter().find(|message| message.api_key == key)?;
    let (_, newest) = request.stable().filter(|_| request.is_for_brokers())?;
    let (min, max) = (number("min_version")?, number("max_version")?.min(newest));
    let fields = fields.iter().map(|(name, value)| match &**name {
        "min_version" => (name.clone(), Tree::Leaf(min.to_string())),
        "max_version" => (name.clone(), Tree::Leaf(max.to_string())),
        _ => (name.clone(), value.clone()),
    });
    (min <= max).then(|| Tree::Struct(fields.collect()))
}

/// Sends everything to a side.
pub fn run(side: &Side, messages: &Messages) -> Outcome {
    let mut peer = Peer::connect(side);
    peer.begin("corpus");
    let topic_id = peer.create(TOPIC, 2, &[]).id;
    for _ in 0..3 {
        produce::write(&mut peer, TOPIC, 0, &Batch::values(3, 100));
    }
    warm_up(&mut peer);
    let mut corpus = Corpus {
        side,
        messages,
        values: Values { topic_id },
        peer,
        wire: Wire::connect(side.door(0)),
        opened: 0,
        outcome: Outcome::default(),
        at: String::new(),
    };
    for message in messages.requests() {
        corpus.api(message);
    }
    corpus.unknown_keys();
    let leaks = corpus.peer.leaks().to_vec();
    corpus.outcome.leaks.extend(leaks);
    std::mem::take(&mut corpus.outcome)
}

/// Waits for what a cluster makes when it is first asked for: coordinators, and ids of producers.
fn warm_up(peer: &mut Peer) {
    let key = |kind, key: String| {
        FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![text(&key)])
    };
    // A group, a topic's id as Kafka writes it, a partition.
    let share = "group:AAAAAAAAAAAAAAAAEjRWeA:0".to_owned();
    for (kind, name) in [(0, "group".to_owned()), (1, "transaction".to_owned()), (2, share)] {
        peer.until("coordinators", |peer| {
            let found = peer.get(6, &key(kind, name.clone()));
            (found.coordinators[0].error_code == 0).then_some(())
        });
    }
    let ids = InitProducerIdRequest::default().with_transactional_id(None);
    peer.until("producer ids", |peer| (peer.get(0, &ids).error_code == 0).then_some(()));
}

/// A frame with its length: key, version, correlation id, a client id, and tags if there are any.
fn frame(key: i16, version: i16, id: i32, tags: &[u8], body: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_i16(key);
    rest.put_i16(version);
    rest.put_i32(id);
    rest.put_i16(6);
    rest.put_slice(b"corpus");
    rest.put_slice(tags);
    rest.put_slice(body);
    let mut frame = Vec::with_capacity(rest.len() + 4);
    frame.put_i32(rest.len() as i32);
    frame.put_slice(&rest);
    frame
}

struct Corpus<'a> {
    side: &'a Side,
    messages: &'a Messages,
    values: Values,
    peer: Peer,
    wire: Wire,
    opened: usize,
    outcome: Outcome,
    at: String,
}

/// Whoever waits for an answer in vain says for which.
impl Drop for Corpus<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- asked last: {} ---", self.at);
        }
    }
}

impl Corpus<'_> {
    /// All versions of an API, and those on either side of them.
    fn api(&mut self, message: &Message) {
        let (min, max) = message.stable().expect("an API that is spoken");
        for version in min..=max {
            let before = self.outcome.answers.len();
            self.version(message, version);
            let is_answer = |answer: &Answer| matches!(answer.tree, Tree::Struct(_));
            let spoken = self.outcome.answers[before..].iter().any(is_answer);
            self.outcome.spoken += usize::from(spoken);
        }
        let outside = BTreeSet::from([i16::MIN, -1, min - 1, max + 1, max + 2, i16::MAX]);
        for version in outside.into_iter().filter(|version| !(min..=max).contains(version)) {
            let nearest = version.clamp(min, max);
            let body = writer::write(message, nearest, Flavor::Defaults, &self.values);
            self.ask(message, version, "not a version", &body.bytes);
        }
    }

    /// All forms of one version.
    fn version(&mut self, message: &Message, version: i16) {
        for flavor in Flavor::ALL {
            let is_silent = NEVER_ANSWERED.iter().any(|(name, since, silent)| {
                *name == message.name && *since <= version && *silent == flavor
            });
            let has_no_tags = flavor == Flavor::Tagged && !message.is_flexible(version);
            if is_silent || has_no_tags {
                continue;
            }
            let body = writer::write(message, version, flavor, &self.values);
            self.ask(message, version, &format!("{flavor:?}"), &body.bytes);
        }
        let body = writer::write(message, version, Flavor::Two, &self.values);
        for (label, broken) in broken(message.is_flexible(version), &body) {
            self.ask(message, version, label, &broken);
        }
    }

    /// Keys of no API, and of some that Kafka has dropped.
    fn unknown_keys(&mut self) {
        for key in [4, 5, 6, 7, 93, 999, -1, -2, i16::MIN, i16::MAX] {
            for version in [0, 1, -1] {
                let sent = frame(key, version, ASKED, &[], &[0; 8]);
                self.exchange(&format!("key {key} v{version}"), &sent, None);
            }
        }
    }

    fn ask(&mut self, message: &Message, version: i16, label: &str, body: &[u8]) {
        let tags: &[u8] = if message.is_flexible(version) { &[0] } else { &[] };
        let sent = frame(message.api_key, version, ASKED, tags, body);
        let name = message.name.trim_end_matches("Request");
        let label = format!("{name} v{version} {label}");
        // A version that is not known is answered in the first one, to ApiVersions only.
        let response = self.messages.response(message.api_key);
        let (_, max) = message.stable().expect("an API that is spoken");
        let known = (0..=max).contains(&version);
        let version = if message.api_key == API_VERSIONS && !known { 0 } else { version };
        self.exchange(&label, &sent, Some((response, version)));
    }

    /// Sends a request and the one behind it, and keeps what comes of it.
    fn exchange(&mut self, label: &str, sent: &[u8], response: Option<(&Message, i16)>) {
        self.outcome.requests += 1;
        label.clone_into(&mut self.at);
        let behind = frame(API_VERSIONS, 0, BEHIND, &[], &[]);
        // A side that closes early may take no more bytes: that is seen when nothing is answered.
        let _ = self.wire.send_raw(&[sent, &behind].concat());
        let first = self.wire.receive_frame();
        let tree = match first {
            None => Tree::Leaf("closed".to_owned()),
            Some(frame) if frame.get(..4) == Some(&BEHIND.to_be_bytes()) => {
                self.keep(label, Tree::Leaf("no answer".to_owned()));
                return;
            }
            Some(frame) => self.answer(label, &frame, response),
        };
        let is_closed = matches!(tree, Tree::Leaf(_));
        self.keep(label, tree);
        if is_closed || self.is_closed_behind(label) {
            self.opened += 1;
            self.wire = Wire::connect(self.side.door(self.opened));
        }
    }

    /// Whether the side closed the connection after its answer; else the next answer is there.
    fn is_closed_behind(&mut self, label: &str) -> bool {
        let Some(frame) = self.wire.receive_frame() else {
            self.keep(label, Tree::Leaf("closed after the answer".to_owned()));
            return true;
        };
        assert_eq!(frame.get(..4), Some(&BEHIND.to_be_bytes()[..]), "{label}: answers in order");
        false
    }

    fn answer(&mut self, label: &str, frame: &Bytes, response: Option<(&Message, i16)>) -> Tree {
        let Some((message, version)) = response else {
            return Tree::Leaf(format!("answered {frame:x}"));
        };
        let mut body = frame.clone();
        assert_eq!(body.get_i32(), ASKED, "{label}: the correlation id");
        // Clients read the header of ApiVersions' response before they know what is spoken.
        if message.is_flexible(version) && message.api_key != API_VERSIONS {
            assert_eq!(body.get_u8(), 0, "{label}: tags in the header");
        }
        let tree = match reader::read(message, version, &body) {
            Ok(tree) => tree,
            Err(fault) => Tree::Leaf(format!("{fault}: {frame:x}")),
        };
        let leak = self.side.leak(message.api_key, frame, &tree);
        self.outcome.leaks.extend(leak.map(|leak| format!("{label}: {leak}")));
        tree
    }

    fn keep(&mut self, label: &str, tree: Tree) {
        let tree = self.side.named(self.peer.without_ids_in(tree));
        self.outcome.answers.push(Answer::new("corpus", label.to_owned(), tree));
    }
}

/// What is made of a legal body that no client sends.
fn broken(flexible: bool, body: &Body) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = &body.bytes;
    let mut all = vec![
        ("a byte behind it", [&bytes[..], &[0]].concat()),
        ("many bytes behind it", [&bytes[..], &[7; 100]].concat()),
    ];
    if let Some(last) = bytes.len().checked_sub(1) {
        all.push(("nothing", Vec::new()));
        all.push(("cut in the middle", bytes[..last / 2].to_vec()));
        all.push(("a byte less", bytes[..last].to_vec()));
    }
    let Some((at, width)) = body.length_at else { return all };
    let lengths: [(&str, &[u8]); 3] = match (flexible, width) {
        (true, _) => [
            ("a giant length", &[0xff, 0xff, 0xff, 0xff, 0x07]),
            ("a negative length", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            ("a length without end", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80]),
        ],
        (false, 2) => [
            ("a giant length", &[0x7f, 0xff]),
            ("a negative length", &[0xff, 0xfe]),
            ("the least length", &[0x80, 0]),
        ],
        (false, _) => [
            ("a giant length", &[0x7f, 0xff, 0xff, 0xff]),
            ("a negative length", &[0xff, 0xff, 0xff, 0xfe]),
            ("the least length", &[0x80, 0, 0, 0]),
        ],
    };
    for (label, length) in lengths {
        all.push((label, [&bytes[..at], length, &bytes[at + width..]].concat()));
    }
    all
}

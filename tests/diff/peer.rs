//! Connections to one of the two sides, and every answer it gave.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchResponse, MetadataRequest, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use uuid::Uuid;

use crate::batch;
use crate::harness::Wire;
use crate::masks::EXACT;
use crate::offsets;
use crate::side::Side;
use crate::topics::UNKNOWN_ID;
use crate::tree::Tree;

/// How long a change may take until it is seen.
const VISIBLE: Duration = Duration::from_mins(1);

/// The largest response that is kept as a sample.
const SAMPLE_BYTES_MAX: usize = 250;

/// An answer, ready to be compared.
#[derive(Debug)]
pub struct Answer {
    scenario: &'static str,
    label: String,
    /// What was answered.
    pub tree: Tree,
}

impl Answer {
    /// An answer of a scenario.
    pub fn new(scenario: &'static str, label: String, tree: Tree) -> Self {
        Self { scenario, label, tree }
    }

    /// The same with another tree.
    pub fn map(&self, tree: impl Fn(&Tree) -> Tree) -> Self {
        Self { scenario: self.scenario, label: self.label.clone(), tree: tree(&self.tree) }
    }

    /// Scenario and label.
    pub fn place(&self) -> String {
        format!("{}: {}", self.scenario, self.label)
    }
}

/// A request whose answer is still to come.
pub struct Sent<R> {
    connection: usize,
    version: i16,
    request: std::marker::PhantomData<R>,
}

/// One side.
pub struct Peer {
    side: Side,
    opened: usize,
    wires: Vec<Wire>,
    at: usize,
    scenario: &'static str,
    masks: Vec<(String, String)>,
    ids: Vec<Uuid>,
    frames: BTreeMap<(i16, i16), Bytes>,
    answers: Vec<Answer>,
    leaks: Vec<String>,
}

/// A topic as a broker knows it.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// The leader epoch of its partition 0.
    pub epoch: i32,
}

impl Peer {
    /// Connects.
    pub fn connect(side: &Side) -> Self {
        Self {
            side: side.clone(),
            opened: 0,
            wires: vec![Wire::connect(side.door(0))],
            at: 0,
            scenario: "",
            masks: vec![(UNKNOWN_ID.to_string(), "an-unknown-id".to_owned())],
            ids: Vec::new(),
            frames: BTreeMap::new(),
            answers: Vec::new(),
            leaks: Vec::new(),
        }
    }

    fn open(&mut self) -> Wire {
        self.opened += 1;
        Wire::connect(self.side.door(self.opened))
    }

    /// Begins a scenario with connections of its own.
    pub fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        self.wires = vec![self.open()];
        self.at = 0;
        self.ids.clear();
    }

    /// Every answer.
    pub fn into_answers(self) -> Vec<Answer> {
        self.answers
    }

    /// Answers that told what is hidden.
    pub fn leaks(&self) -> &[String] {
        &self.leaks
    }

    /// A raw response of each API and version: the longest that is not long.
    pub fn samples(&self) -> String {
        let mut text = String::new();
        for ((key, version), frame) in self.frames.iter().filter(|(_, frame)| !frame.is_empty()) {
            let _ = writeln!(text, "{key} {version} {frame:x}");
        }
        text
    }

    /// Goes on with another connection, opened if need be.
    pub fn on(&mut self, connection: usize) -> &mut Self {
        while self.wires.len() <= connection {
            let wire = self.open();
            self.wires.push(wire);
        }
        self.at = connection;
        self
    }

    /// Shows `text` as `name` in every answer from now on.
    pub fn mask(&mut self, text: &str, name: &str) {
        self.masks.push((text.to_owned(), name.to_owned()));
    }

    /// Sends a request and keeps the answer; `None` when the broker closed the connection.
    pub fn ask<R: Request>(
        &mut self,
        label: impl Display,
        version: i16,
        request: &R,
    ) -> Option<R::Response>
    where
        R::Response: Debug + Clone + 'static,
    {
        let sent = self.send(version, request);
        self.receive(label, &sent)
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Sent<R> {
        self.wires[self.at].send(version, request);
        Sent { connection: self.at, version, request: std::marker::PhantomData }
    }

    /// Keeps the answer to a request that was sent; `None` when the broker closed the connection.
    pub fn receive<R: Request>(
        &mut self,
        label: impl Display,
        sent: &Sent<R>,
    ) -> Option<R::Response>
    where
        R::Response: Debug + Clone + 'static,
    {
        let version = sent.version;
        let response = self.response::<R>(sent.connection, version);
        let label = format!("v{version} {label}");
        match &response {
            None => self.note(label, "closed"),
            Some(response) => self.keep(label, response.clone()),
        }
        response
    }

    /// Sends a request whose answer is not compared.
    pub fn get<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Debug,
    {
        self.wires[self.at].send(version, request);
        self.response::<R>(self.at, version).expect("an answer")
    }

    /// Sends bytes as they are and keeps the raw answer's length, or that there was none.
    pub fn ask_raw(&mut self, label: impl Display, frame: &[u8]) -> Option<Bytes> {
        let at = self.at;
        self.wires[at].send_raw(frame).unwrap();
        let answer = self.wires[at].receive_frame();
        if answer.is_none() {
            self.wires[at] = self.open();
        }
        self.note(label, if answer.is_some() { "answered" } else { "closed" });
        answer
    }

    /// Keeps a line of text as an answer.
    pub fn note(&mut self, label: impl Display, text: &str) {
        let tree = Tree::Leaf(text.to_owned());
        self.answers.push(Answer { scenario: self.scenario, label: label.to_string(), tree });
    }

    fn response<R: Request>(&mut self, connection: usize, version: i16) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        let Some(mut frame) = self.wires[connection].receive_frame() else {
            self.wires[connection] = self.open();
            return None;
        };
        let whole = frame.clone();
        let known = self.frames.entry((R::KEY, version)).or_default();
        if (known.len() + 1..=SAMPLE_BYTES_MAX).contains(&frame.len()) {
            *known = frame.clone();
        }
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes after the response", frame.len());
        if !self.side.hidden.is_empty() {
            let leak = self.side.leak(R::KEY, &whole, &Tree::of_debug(&format!("{response:?}")));
            let scenario = self.scenario;
            self.leaks.extend(leak.map(|leak| format!("{scenario}: key {}: {leak}", R::KEY)));
        }
        Some(response)
    }

    /// Keeps an answer, or a part of one.
    pub fn keep<M: Debug + 'static>(&mut self, label: String, mut response: M) {
        if let Some(fetched) = (&mut response as &mut dyn Any).downcast_mut::<FetchResponse>() {
            for partition in fetched.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.records = partition.records.take().map(|bytes| {
                    let shown = batch::described(&bytes);
                    [&*shown, EXACT.as_bytes(), batch::exact(&bytes).as_bytes()].concat().into()
                });
            }
        }
        let mut text = format!("{response:?}");
        for (known, name) in &self.masks {
            text = text.replace(known, name);
        }
        let shown = self.without_ids(&text);
        let tree = self.side.named(Tree::of_debug(&shown));
        self.answers.push(Answer { scenario: self.scenario, label, tree });
    }

    /// The answer with its random ids as numbers, as a scenario's answers have them.
    pub fn without_ids_in(&mut self, tree: Tree) -> Tree {
        match tree {
            Tree::Leaf(text) => {
                let shown =
                    self.masks.iter().fold(text, |text, (known, name)| text.replace(known, name));
                Tree::Leaf(self.without_ids(&shown))
            }
            Tree::List(elements) => {
                let elements = elements.into_iter().map(|element| self.without_ids_in(element));
                Tree::List(elements.collect())
            }
            Tree::Struct(fields) => {
                let shown =
                    fields.into_iter().map(|(name, value)| (name, self.without_ids_in(value)));
                Tree::Struct(shown.collect())
            }
        }
    }

    /// Random ids as numbers in the order in which the scenario sees them.
    fn without_ids(&mut self, text: &str) -> String {
        const LENGTH: usize = 36;
        let mut shown = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let id = rest.get(..LENGTH).filter(|id| id.matches('-').count() == 4);
            let id = id.and_then(|id| id.parse::<Uuid>().ok()).filter(|id| !id.is_nil());
            let Some(id) = id else {
                shown.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            };
            let seen = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                self.ids.push(id);
                self.ids.len() - 1
            });
            let _ = write!(shown, "id{seen}");
            rest = &rest[LENGTH..];
        }
        shown
    }

    /// Creates a topic and waits until it can be used.
    pub fn create(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let config = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let asked = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request =
            CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let response = self.get(7, &request);
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        self.wait_for_topic(topic, partitions)
    }

    /// Waits until `topic` has `partitions` partitions with a leader.
    pub fn wait_for_topic(&mut self, topic: &str, partitions: i32) -> Topic {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        let found = self.until(&format!("topic {topic}"), |peer| {
            let found = peer.get(12, &request).topics.remove(0);
            let usable = found.error_code == 0
                && found.partitions.len() as i32 == partitions
                && found.partitions.iter().all(|partition| partition.leader_id.0 >= 0);
            usable.then_some(found)
        });
        // The metadata is ahead of the partition's leader by a moment.
        let asked: Vec<(i32, i64)> = (0..partitions).map(|index| (index, -1)).collect();
        self.until(&format!("leaders of {topic}"), |peer| {
            let mut answer = peer.get(7, &offsets::list(topic, &asked)).topics.remove(0);
            answer.partitions.retain(|partition| partition.error_code != 0);
            answer.partitions.is_empty().then_some(())
        });
        self.mask(&found.topic_id.to_string(), &format!("id-of-{topic}"));
        Topic { id: found.topic_id, epoch: found.partitions[0].leader_epoch }
    }

    /// Asks until there is an answer.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(begun.elapsed() < VISIBLE, "{what}: not within a minute");
        }
    }
}

/// Text for a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name for a message.
pub fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

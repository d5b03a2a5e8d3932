//! One of the two brokers: connections to it, and every answer it gave.

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
use crate::offsets;
use crate::topics::UNKNOWN_ID;
use crate::tree::Tree;

/// How long a change may take until it is seen.
const VISIBLE: Duration = Duration::from_mins(1);

/// The largest response that is kept as a sample.
const SAMPLE_BYTES_MAX: usize = 250;

/// An answer, ready to be compared.
pub struct Answer {
    scenario: &'static str,
    label: String,
    /// What was answered.
    pub tree: Tree,
}

impl Answer {
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

/// A broker.
pub struct Peer {
    address: String,
    wires: Vec<Wire>,
    at: usize,
    scenario: &'static str,
    masks: Vec<(String, String)>,
    ids: Vec<Uuid>,
    frames: BTreeMap<(i16, i16), Bytes>,
    answers: Vec<Answer>,
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
    pub fn connect(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            wires: vec![Wire::connect(address)],
            at: 0,
            scenario: "",
            masks: vec![(UNKNOWN_ID.to_string(), "an-unknown-id".to_owned())],
            ids: Vec::new(),
            frames: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    /// Begins a scenario with connections of its own.
    pub fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        self.wires = vec![Wire::connect(&self.address)];
        self.at = 0;
        self.ids.clear();
    }

    /// Every answer.
    pub fn into_answers(self) -> Vec<Answer> {
        self.answers
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
            self.wires.push(Wire::connect(&self.address));
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
    pub fn get<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.wires[self.at].send(version, request);
        self.response::<R>(self.at, version).expect("an answer")
    }

    /// Sends bytes as they are and keeps the raw answer's length, or that there was none.
    pub fn ask_raw(&mut self, label: impl Display, frame: &[u8]) -> Option<Bytes> {
        let at = self.at;
        self.wires[at].send_raw(frame).unwrap();
        let answer = self.wires[at].receive_frame();
        if answer.is_none() {
            self.wires[at] = Wire::connect(&self.address);
        }
        self.note(label, if answer.is_some() { "answered" } else { "closed" });
        answer
    }

    /// Keeps a line of text as an answer.
    pub fn note(&mut self, label: impl Display, text: &str) {
        let tree = Tree::Leaf(text.to_owned());
        self.answers.push(Answer { scenario: self.scenario, label: label.to_string(), tree });
    }

    fn response<R: Request>(&mut self, connection: usize, version: i16) -> Option<R::Response> {
        let wire = &mut self.wires[connection];
        let Some(mut frame) = wire.receive_frame() else {
            *wire = Wire::connect(&self.address);
            return None;
        };
        let known = self.frames.entry((R::KEY, version)).or_default();
        if (known.len() + 1..=SAMPLE_BYTES_MAX).contains(&frame.len()) {
            *known = frame.clone();
        }
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes after the response", frame.len());
        Some(response)
    }

    /// Keeps an answer, or a part of one.
    pub fn keep<M: Debug + 'static>(&mut self, label: String, mut response: M) {
        if let Some(fetched) = (&mut response as &mut dyn Any).downcast_mut::<FetchResponse>() {
            for partition in fetched.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.records = partition.records.take().map(|bytes| batch::described(&bytes));
            }
        }
        let mut text = format!("{response:?}");
        for (known, name) in &self.masks {
            text = text.replace(known, name);
        }
        let tree = Tree::of_debug(&self.without_ids(&text));
        self.answers.push(Answer { scenario: self.scenario, label, tree });
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

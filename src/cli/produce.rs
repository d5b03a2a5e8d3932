//! `tidegate produce`: lines become records of a topic, on any cluster that speaks the Kafka
//! protocol.

mod input;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

pub use self::input::Form;
use self::input::{Line, Lines, Reading};
use super::connection::Connection;
use super::interrupt::Interrupts;
use super::output::{Failure, complain, note};
use super::session::{Session, carry_on};
use super::when;
use crate::client::{Acks, NewRecord, ProduceError, Producer, ProducerOptions, Report};
use crate::protocol::compression::Compression;
use crate::protocol::error::ErrorCode;
use crate::task;

/// Lines that are read ahead.
const READ_AHEAD: usize = 1024;
/// So often a topic is looked for again that is not there, for less than a second.
const MISSING_TRIES: u32 = 3;
/// So many refused records are told one by one.
const TOLD_MAX: u64 = 20;

/// What is produced, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: String,
    /// The file with the lines; standard input without it.
    pub file: Option<PathBuf>,
    /// What a line is.
    pub form: Form,
    /// What stands between key and value of a line.
    pub key_separator: Option<String>,
    /// The key of every record.
    pub key: Option<String>,
    /// Headers of every record.
    pub headers: Vec<(String, String)>,
    /// The text of a value that is none.
    pub null_value: Option<String>,
    /// The partition of every record.
    pub partition: Option<i32>,
    /// Whether the partitions of objects are left out.
    pub repartition: bool,
    /// The time of every record, as it was typed.
    pub timestamp: Option<String>,
    /// The codec of batches.
    pub compression: Compression,
    /// What is waited for.
    pub acks: Acks,
    /// The longest line.
    pub line_bytes_max: usize,
    /// Whether partition and offset of each record are printed.
    pub print_offsets: bool,
}

/// Produces what is read and gives the exit code: 0 all is delivered, 1 not all, 2 asked wrongly.
pub fn produce(connection: &Connection, wanted: &Wanted) -> ExitCode {
    carry_on(connection, async |session: &Session| {
        let delivery = connection.timeout;
        run(session, wanted, delivery).await
    })
}

async fn run(
    session: &Session,
    wanted: &Wanted,
    delivery: Option<Duration>,
) -> Result<(), Failure> {
    let reading = reading(wanted)?;
    let (input, length): (Box<dyn io::Read + Send>, _) = match &wanted.file {
        None => (Box::new(io::stdin()), None),
        Some(path) => {
            let (file, length) = input::open(path)?;
            (Box::new(file), Some(length))
        }
    };
    Box::pin(session.within(known(session, &wanted.topic))).await?;
    let bar = bar(length);
    let tally = Arc::new(Tally::new(wanted, bar.clone()));
    let defaults = ProducerOptions::default();
    let options = ProducerOptions {
        acks: wanted.acks,
        compression: wanted.compression,
        delivery_timeout: delivery.unwrap_or(defaults.delivery_timeout),
        ..defaults
    };
    let told = Arc::clone(&tally);
    let on_report = move |report: Report| told.report(report);
    let (cluster, leaders) = (session.cluster(), session.leaders());
    let producer = Producer::new(cluster, leaders, &wanted.topic, options, on_report);
    let mut interrupts = Interrupts::listen()?;
    let is_typed = length.is_none() && io::stdin().is_terminal();
    if is_typed {
        note("each line is a record; Ctrl-D ends");
    }
    let lines = Lines::new(input, wanted.line_bytes_max);
    let read = read(lines, reading, wanted.line_bytes_max, bar.clone())?;
    let is_interrupted = feed(producer, read, &tally, &mut interrupts).await?;
    bar.finish_and_clear();
    tally.end(is_interrupted && !is_typed)
}

/// Sees to it that the topic is there.
async fn known(session: &Session, topic: &str) -> Result<(), Failure> {
    let leaders = session.leaders();
    leaders.learn(&[topic]).await.map_err(Failure::failed)?;
    let is_missing = || leaders.code(topic) == ErrorCode::UnknownTopicOrPartition.code();
    // One that was just created is not known to every node at once.
    for _ in 0..MISSING_TRIES {
        if is_missing() {
            leaders.refresh(&[topic]).await.map_err(Failure::failed)?;
        }
    }
    if is_missing() {
        let Failure::Failed(reason) = session.missing_topic(topic).await else {
            return Err(Failure::Told);
        };
        let creates = format!("`tidegate topic create {topic}` creates it");
        return Err(Failure::Failed(format!("{reason}; {creates}")));
    }
    // Until it has leaders.
    session.topics(&[topic.to_owned()]).await?;
    leaders.refresh_if_leaderless(topic).await.map_err(Failure::failed)
}

fn reading(wanted: &Wanted) -> Result<Reading, Failure> {
    let is_of_lines = [
        ("--key", wanted.key.is_some()),
        ("--key-separator", wanted.key_separator.is_some()),
        ("--null-value", wanted.null_value.is_some()),
    ];
    let odd = is_of_lines.into_iter().find(|(_, is_given)| *is_given && wanted.form == Form::Json);
    if let Some((flag, _)) = odd {
        let reason = format!("{flag} is for --format lines; an object says its key and value");
        return Err(Failure::Usage(reason));
    }
    let timestamp = wanted.timestamp.as_deref().map(|text| {
        let wrong = || Failure::Usage(format!("--timestamp \"{text}\" {}", when::DATETIME));
        when::datetime(text).filter(|ms| *ms >= 0).ok_or_else(wrong)
    });
    let headers = wanted.headers.iter();
    let headers = headers.map(|(key, value)| (key.clone(), Some(Bytes::from(value.clone()))));
    Ok(Reading {
        form: wanted.form,
        key_separator: wanted.key_separator.clone(),
        key: wanted.key.clone().map(Bytes::from),
        headers: headers.collect(),
        null_value: wanted.null_value.clone(),
        partition: wanted.partition,
        repartition: wanted.repartition,
        timestamp: timestamp.transpose()?,
    })
}

/// How far a file is read, for a terminal.
fn bar(length: Option<u64>) -> ProgressBar {
    let is_shown = length.is_some() && io::stderr().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
    ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style))
}

/// A line's number, from 1, and its record or what is wrong with it.
type Numbered = (u64, Result<NewRecord, String>);

/// Reads on a thread of its own: a terminal may have no line for a long time. It ends with the
/// input, when nobody takes what it reads, or with the process.
fn read(
    mut lines: Lines<Box<dyn io::Read + Send>>,
    reading: Reading,
    max: usize,
    bar: ProgressBar,
) -> Result<mpsc::Receiver<Numbered>, Failure> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let work = move || {
        for number in 1.. {
            let (read, is_last) = match lines.next() {
                Ok(None) => return,
                Ok(Some((line, bytes))) => {
                    bar.inc(bytes);
                    (record(&reading, line, max), false)
                }
                Err(error) => (Some(Err(format!("it cannot be read: {error}"))), true),
            };
            let Some(read) = read else { continue };
            if sender.blocking_send((number, read)).is_err() || is_last {
                return;
            }
        }
    };
    task::thread("produce-input", work)
        .map_err(|error| Failure::failed(format!("read: {error}")))?;
    Ok(receiver)
}

/// The record of a line, or what is wrong with it; nothing if it has none.
fn record(reading: &Reading, line: Line, max: usize) -> Option<Result<NewRecord, String>> {
    match line {
        Line::Whole(line) => reading.record(line).transpose(),
        Line::TooLong => Some(Err(format!(
            "it has more than {max} bytes; --max-line-bytes takes longer ones, as far as the \
             topic's max.message.bytes does"
        ))),
    }
}

/// Produces what is read, until the end or an interrupt, which is told; what was read by then is
/// delivered. A second interrupt gives that up.
async fn feed(
    producer: Producer,
    mut read: mpsc::Receiver<Numbered>,
    tally: &Tally,
    interrupts: &mut Interrupts,
) -> Result<bool, Failure> {
    let mut is_interrupted = false;
    loop {
        let item = tokio::select! {
            item = read.recv() => item,
            () = interrupts.next(), if !is_interrupted => {
                is_interrupted = true;
                // What it holds is still received.
                read.close();
                continue;
            }
        };
        let Some((number, record)) = item else { break };
        tally.line(number);
        let record = match record {
            Ok(record) => record,
            Err(reason) => {
                tally.refused(number, &reason);
                continue;
            }
        };
        let sent = tokio::select! {
            sent = producer.send(number, record.clone()) => sent,
            () = interrupts.next() => {
                if is_interrupted {
                    return Err(given_up(tally));
                }
                is_interrupted = true;
                read.close();
                tokio::select! {
                    sent = producer.send(number, record) => sent,
                    () = interrupts.next() => return Err(given_up(tally)),
                }
            }
        };
        if let Err(error) = sent {
            tally.refused(number, &explained(&error));
        }
    }
    tokio::select! {
        () = producer.close() => Ok(is_interrupted),
        () = async {
            interrupts.next().await;
            if !is_interrupted {
                is_interrupted = true;
                interrupts.next().await;
            }
        } => Err(given_up(tally)),
    }
}

fn given_up(tally: &Tally) -> Failure {
    let delivered = tally.state().delivered;
    Failure::Failed(format!("given up; {delivered} records are known to be delivered"))
}

/// Why a record is not delivered, and what helps.
fn explained(error: &ProduceError) -> String {
    let hint = error.code().and_then(|code| {
        Some(match code {
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                "the topic's max.message.bytes takes no larger ones; `tidegate topic config set` \
                 changes it"
            }
            ErrorCode::InvalidRecord => {
                "a compacted topic takes records with a key only; --key-separator or --key gives \
                 one"
            }
            ErrorCode::InvalidTimestamp => {
                "the topic's message.timestamp.before.max.ms and .after.max.ms bound timestamps"
            }
            ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => {
                "who you are to the cluster may not do this; see --command-config"
            }
            ErrorCode::NotEnoughReplicas => "fewer replicas are in sync than min.insync.replicas",
            _ => return None,
        })
    });
    hint.map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

/// What became of records so far.
#[derive(Debug, Default)]
struct Counts {
    delivered: u64,
    refused: u64,
    /// The number of the last line that was taken.
    line: u64,
    /// Whether the reader of standard output is gone.
    is_unread: bool,
}

/// Tells what becomes of records, and counts.
#[derive(Debug)]
struct Tally {
    topic: String,
    is_confirmed: bool,
    print_offsets: bool,
    bar: ProgressBar,
    counts: Mutex<Counts>,
}

impl Tally {
    fn new(wanted: &Wanted, bar: ProgressBar) -> Self {
        Self {
            topic: wanted.topic.clone(),
            is_confirmed: wanted.acks != Acks::None,
            print_offsets: wanted.print_offsets,
            bar,
            counts: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, number: u64) {
        self.state().line = number;
    }

    fn report(&self, Report { tag, outcome }: Report) {
        let delivered = match outcome {
            Ok(delivered) => delivered,
            Err(error) => return self.refused(tag, &explained(&error)),
        };
        let mut counts = self.state();
        counts.delivered += 1;
        if self.print_offsets && !counts.is_unread {
            let line = format!("{}\t{}\n", delivered.partition, delivered.offset);
            counts.is_unread = io::stdout().lock().write_all(line.as_bytes()).is_err();
        }
    }

    fn refused(&self, line: u64, reason: &str) {
        let mut counts = self.state();
        counts.refused += 1;
        if counts.refused <= TOLD_MAX {
            self.bar.suspend(|| complain(format_args!("line {line}: {reason}")));
        }
    }

    /// Says how many there were of each.
    fn end(&self, is_cut_off: bool) -> Result<(), Failure> {
        let counts = self.state();
        if let Some(untold) = counts.refused.checked_sub(TOLD_MAX).filter(|untold| *untold > 0) {
            complain(format_args!("{untold} further records are refused"));
        }
        let records = |count: u64| if count == 1 { "record" } else { "records" };
        let (delivered, topic) = (counts.delivered, &self.topic);
        let done = if self.is_confirmed { "delivered" } else { "sent, which nobody confirms," };
        note(format_args!("{delivered} {} {done} to {topic}", records(delivered)));
        if is_cut_off {
            complain(format_args!("interrupted behind line {}", counts.line));
        }
        if counts.refused > 0 || is_cut_off { Err(Failure::Told) } else { Ok(()) }
    }
}

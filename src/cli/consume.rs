//! `tidegate consume`: records, printed as they are read, until an end or for as long as they come.

mod bounds;
mod format;
mod printer;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) use self::bounds::{Start, Stop};
use self::format::Forms;
pub(super) use self::format::{BytesForm, Format};
use self::printer::Printer;
use self::source::Source;
use super::args::consume::{Consume, Isolation};
use super::connection::{Connection, Opened};
use super::output::{Failure, end, note, warn};
use super::session::Session;
use super::{places, run_to_end};
use crate::client::{
    Consumer, ConsumerOptions, GroupConsumer, GroupOptions, LATEST, Leaders, Listing, Place,
    Record, Reset,
};
use crate::clock::{Clock, Instant};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(500);
/// Without `--follow` it is given up when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a group's offsets are committed (Kafka's `auto.commit.interval.ms`).
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// How long committing and leaving at the end may take, each.
const FAREWELL: Duration = Duration::from_secs(10);

/// Prints records and gives the exit code: 0 done, 1 failed, 2 asked wrongly.
pub fn consume(connection: &Connection, asked: &Consume) -> ExitCode {
    let work = async {
        check(asked)?;
        Box::pin(run(connection.open()?, asked)).await
    };
    run_to_end(work).map_or_else(|code| code, end)
}

/// Refuses what has no sense together.
fn check(asked: &Consume) -> Result<(), Failure> {
    let usage = |words: &str| Err(Failure::Usage(words.to_owned()));
    let has_forms = [asked.key_format, asked.value_format] != [BytesForm::Text; 2];
    if has_forms && asked.format == Format::Json {
        return usage(
            "--key-format and --value-format are for format strings; in JSON what is no text is \
             {\"base64\": \"..\"}",
        );
    }
    if asked.follow && matches!(asked.to, Some(Stop::End | Stop::Time(_))) {
        return usage(
            "--follow goes on with what is yet to come, so --to must be an offset with it; leave \
             one of them out",
        );
    }
    if asked.group.is_none() {
        return Ok(());
    }
    if !matches!(asked.from, None | Some(Start::Beginning | Start::End)) {
        return usage(
            "with --group --from must be beginning or end, which counts where the group has \
             committed nothing; `tidegate group reset-offsets` moves a group",
        );
    }
    for text in &asked.topics {
        if !places::parse(text)?.partitions.is_empty() {
            return Err(Failure::Usage(format!(
                "\"{text}\" names partitions, and the members of a group share out all; name the \
                 topic, or leave --group out"
            )));
        }
    }
    Ok(())
}

async fn run(opened: Opened, asked: &Consume) -> Result<(), Failure> {
    let session = Session::new(opened.clone());
    let begun = Box::pin(opened.within(Reading::begin(&session, asked, opened.timeout))).await?;
    let Some(mut reading) = begun else { return Ok(()) };
    let outcome = Box::pin(reading.run()).await;
    let count = reading.printer.count();
    let left = Box::pin(reading.leave()).await;
    if io::stderr().is_terminal() {
        note(format_args!("{count} record{}", if count == 1 { "" } else { "s" }));
    }
    outcome.and(left)
}

/// Reading under way.
struct Reading<'a> {
    asked: &'a Consume,
    clock: Clock,
    source: Source,
    /// Where the partitions of a group end is asked when it has them.
    leaders: Leaders,
    listing: Listing,
    /// Where partitions end for this command; none where they do not.
    ends: BTreeMap<Place, Option<i64>>,
    printer: Printer,
    /// What may take how long without `--follow`.
    patience: Duration,
    /// When something came last.
    last: Instant,
    /// The sum of all positions then.
    read: i64,
    /// Whether it was said that something is out of reach.
    is_told: bool,
    generation: Option<i32>,
    next_commit: Instant,
    signals: [Signal; 2],
}

impl<'a> Reading<'a> {
    /// Finds what is to be read; nothing if there is nothing.
    async fn begin(
        session: &Session,
        asked: &'a Consume,
        timeout: Duration,
    ) -> Result<Option<Self>, Failure> {
        let clock = session.cluster().clock().clone();
        let is_committed = asked.isolation == Isolation::ReadCommitted;
        let listing = Listing { is_committed, patience: SILENCE };
        let leaders = Leaders::new(session.cluster());
        let options =
            ConsumerOptions { is_committed, reset: Reset::Earliest, ..ConsumerOptions::default() };
        let default = if asked.follow { Start::End } else { Start::Beginning };
        let from = asked.from.unwrap_or(default);
        let (source, ends) = match &asked.group {
            Some(group) => {
                let source = group_source(session, asked, group, (from, options)).await?;
                (source, BTreeMap::new())
            }
            None => match partitions(session, asked, &leaders, listing, (from, options)).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let now = clock.now();
        // Members may wait for each other longer than records are waited for.
        let patience = if asked.group.is_some() { timeout.max(SILENCE) } else { SILENCE };
        let forms = Forms { key: asked.key_format, value: asked.value_format };
        let signals = [signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?];
        Ok(Some(Self {
            asked,
            clock,
            source,
            leaders,
            listing,
            ends,
            printer: Printer::new(asked.format.clone(), forms, asked.max_records),
            patience,
            last: now,
            read: 0,
            is_told: false,
            generation: None,
            next_commit: now + COMMIT_EVERY,
            signals,
        }))
    }

    /// Reads and prints until the end, or until it is told to end.
    async fn run(&mut self) -> Result<(), Failure> {
        loop {
            let [interrupt, terminate] = &mut self.signals;
            // A poll that is dropped loses nothing.
            let records = tokio::select! {
                polled = self.source.poll(POLL) => polled?,
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            };
            self.tell_skipped();
            self.print(&records)?;
            if !self.printer.is_open() {
                return Ok(());
            }
            if self.clock.now() >= self.next_commit {
                self.source.commit().await?;
                self.next_commit = self.clock.now() + COMMIT_EVERY;
            }
            self.look_at_generation().await?;
            if self.is_done() {
                return Ok(());
            }
            self.look_at_silence()?;
        }
    }

    /// Prints what lies before the ends.
    fn print(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut place = (String::new(), 0);
        let mut end = None;
        let mut wanted = Vec::new();
        for record in records {
            if (place.0.as_str(), place.1) != (record.topic.as_str(), record.partition) {
                place = (record.topic.clone(), record.partition);
                end = self.ends.get(&place).copied().flatten();
            }
            if end.is_none_or(|end| record.offset < end) {
                wanted.push(record);
            }
        }
        let written = self.printer.print(&wanted)?;
        let mut printed = wanted.into_iter().take(written).peekable();
        while let Some(record) = printed.next() {
            let same =
                |next: &&Record| (next.partition, &next.topic) == (record.partition, &record.topic);
            // The last of a partition stands for those before it.
            if !printed.peek().is_some_and(same) {
                self.source.mark(record);
            }
        }
        Ok(())
    }

    /// Where the partitions end that a group has given to this member.
    async fn look_at_generation(&mut self) -> Result<(), Failure> {
        let generation = self.source.generation();
        if generation == self.generation {
            return Ok(());
        }
        self.generation = generation;
        self.last = self.clock.now();
        if self.asked.follow || generation.is_none() {
            return Ok(());
        }
        let fresh = self.source.assigned().into_iter().filter(|it| !self.ends.contains_key(it));
        let fresh: Vec<Place> = fresh.collect();
        let ends = bounds::list(&self.leaders, self.listing, &fresh, LATEST).await?;
        self.ends.extend(ends.into_iter().map(|(place, end)| (place, Some(end))));
        Ok(())
    }

    /// Whether every partition is read to its end. Of a group that is known once it has shared out
    /// its partitions.
    fn is_done(&mut self) -> bool {
        if self.asked.group.is_some() && (self.asked.follow || self.generation.is_none()) {
            return false;
        }
        let mut is_done = true;
        for place in self.source.assigned() {
            let end = self.ends.get(&place).copied().flatten();
            let position = self.source.position(&place);
            let is_read = end.zip(position).is_some_and(|(end, position)| position >= end);
            if is_read {
                self.source.end(&place);
            }
            is_done &= is_read;
        }
        is_done
    }

    /// Gives up, or says what is out of reach, when nothing came for long.
    fn look_at_silence(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        let trouble = self.source.trouble();
        // Records that are not shown count, too.
        let places = self.source.assigned();
        let positions = places.iter().filter_map(|place| self.source.position(place));
        let read = positions.fold(0, i64::wrapping_add);
        if std::mem::replace(&mut self.read, read) != read {
            self.last = now;
        }
        if self.asked.follow {
            match trouble {
                Some((fault, since)) if now >= since + SILENCE && !self.is_told => {
                    self.is_told = true;
                    warn(format_args!("{fault}; it is tried on"));
                }
                Some(_) => {}
                None => self.is_told = false,
            }
            return Ok(());
        }
        if now < self.last + self.patience {
            return Ok(());
        }
        let why = match (trouble, &self.asked.group, self.generation) {
            (Some((fault, _)), _, _) => fault.to_string(),
            (None, Some(group), None) => format!(
                "group {group} has not shared out its partitions; \
                 `tidegate group describe {group}` shows whom it waits for"
            ),
            (None, _, _) => {
                "the leaders answer without records before the ends of the partitions; \
                             --follow waits for ever"
                    .to_owned()
            }
        };
        let seconds = self.patience.as_secs();
        Err(Failure::Failed(format!("nothing came for {seconds} s: {why}")))
    }

    fn tell_skipped(&mut self) {
        for skipped in self.source.take_skipped() {
            let ((topic, partition), from, to) = (skipped.place, skipped.from, skipped.to);
            warn(format_args!(
                "partition {topic}-{partition}: offset {from} is gone, reading goes on at {to}"
            ));
        }
    }

    /// Commits what was printed and leaves, if it is of a group.
    async fn leave(self) -> Result<(), Failure> {
        let Self { mut source, clock, .. } = self;
        let late = |_| {
            Failure::Failed(format!(
                "the group's coordinator did not answer for {} s; what was printed last is \
                 perhaps not committed",
                FAREWELL.as_secs()
            ))
        };
        let committed = clock.timeout(FAREWELL, source.commit()).await;
        let committed = committed.map_err(late).and_then(|outcome| outcome);
        // Without this the group waits for the end of the session, and no more is lost.
        let _ = clock.timeout(FAREWELL, source.leave()).await;
        committed
    }
}

fn signals(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("wait for signals: {error}")))
}

/// A member of a group that reads the topics, which must be there.
async fn group_source(
    session: &Session,
    asked: &Consume,
    group: &str,
    (from, options): (Start, ConsumerOptions),
) -> Result<Source, Failure> {
    let names: BTreeSet<String> = asked.topics.iter().map(|it| it.trim().to_owned()).collect();
    session.topics(&names.iter().cloned().collect::<Vec<String>>()).await?;
    let reset = if from == Start::End { Reset::Latest } else { Reset::Earliest };
    let consumer = ConsumerOptions { reset, ..options };
    let options = GroupOptions { is_marked: true, consumer, ..GroupOptions::new(group, names) };
    Ok(Source::Group(Box::new(GroupConsumer::new(session.cluster(), options))))
}

/// Partitions with something to read, and where each ends; nothing if there is none.
async fn partitions(
    session: &Session,
    asked: &Consume,
    leaders: &Leaders,
    listing: Listing,
    (from, options): (Start, ConsumerOptions),
) -> Result<Option<(Source, BTreeMap<Place, Option<i64>>)>, Failure> {
    let list: Vec<String> = asked.partition.iter().map(ToString::to_string).collect();
    let named = asked.topics.iter().map(|text| {
        if list.is_empty() {
            return Ok(text.clone());
        }
        if places::parse(text)?.partitions.is_empty() {
            return Ok(format!("{text}:{}", list.join(",")));
        }
        Err(Failure::Usage(format!("\"{text}\" names partitions already; leave --partition out")))
    });
    let named: Vec<String> = named.collect::<Result<_, _>>()?;
    let (_, places) = places::find(session, &named).await?;
    let places: Vec<Place> = places.into_iter().collect();
    let sought = bounds::find(leaders, listing, &places, (from, asked.to), asked.follow);
    let (found, odd) = Box::pin(sought).await?;
    odd.into_iter().for_each(warn);
    let mut consumer = Consumer::new(session.cluster(), options);
    let mut ends = BTreeMap::new();
    for (place, bounds) in found {
        if bounds.until.is_none_or(|until| bounds.from < until) {
            consumer.assign(place.clone(), bounds.from);
            ends.insert(place, bounds.until);
        }
    }
    Ok((!ends.is_empty()).then(|| (Source::Alone(Box::new(consumer)), ends)))
}

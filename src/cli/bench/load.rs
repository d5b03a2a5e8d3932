//! The producers and consumers of a measurement.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use super::super::output::{Failure, complain};
use super::super::session::{LATEST, Place, Session};
use super::outcome::{Latencies, Measured, Outcome};
use super::{RECORD_BYTES_LEAST, Wanted};
use crate::client::{
    Cluster, Consumer, ConsumerOptions, Leaders, NewRecord, Producer, ProducerOptions, Report,
};
use crate::clock::{Clock, Instant, Random};
use crate::task;

/// How long one poll of a consumer waits.
const POLL: Duration = Duration::from_millis(100);
/// Consumers that see nothing new for so long, once all is produced, see nothing more.
const GRACE: Duration = Duration::from_secs(10);
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// What records are cut from.
const FILLING_BYTES: usize = 64 << 10;
/// The tag of a record that is not counted.
const UNCOUNTED: u64 = u64::MAX;

/// What is put on a cluster.
#[derive(Debug)]
pub(super) struct Load {
    topic: String,
    record_bytes: u32,
    rate: Option<NonZeroU32>,
    duration: Duration,
    producers: u32,
    consumers: u32,
    options: ProducerOptions,
    clock: Clock,
    /// Whose records these are.
    run: u128,
    bar: ProgressBar,
}

/// What both sides count while they run.
#[derive(Debug, Default)]
struct Counters {
    produced: AtomicU64,
    consumed: AtomicU64,
}

/// What a producer saw.
#[derive(Debug)]
struct Written {
    latencies: Latencies,
    errors: BTreeMap<String, u64>,
    delivered: u64,
    last: Option<Instant>,
}

/// What a consumer saw.
#[derive(Debug)]
struct Seen {
    latencies: Latencies,
    records: u64,
    last: Option<Instant>,
    fault: Option<String>,
}

impl Load {
    pub(super) fn new(
        session: &Session,
        wanted: &Wanted,
        topic: &str,
        delivery: Option<Duration>,
        is_shown: bool,
    ) -> Self {
        let defaults = ProducerOptions::default();
        let options = ProducerOptions {
            acks: wanted.acks,
            compression: wanted.compression,
            delivery_timeout: delivery.unwrap_or(defaults.delivery_timeout),
            // Together no more than one would have, unless each could not hold some requests.
            buffer_bytes: (defaults.buffer_bytes / wanted.producers as usize)
                .max(4 * (wanted.record_bytes as usize).max(defaults.request_bytes)),
            ..defaults
        };
        let target =
            if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(wanted.duration.as_millis() as u64), target);
        let style = ProgressStyle::with_template("{bar:30} {msg}");
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        Self {
            topic: topic.to_owned(),
            record_bytes: wanted.record_bytes,
            rate: wanted.rate,
            duration: wanted.duration,
            producers: wanted.producers,
            consumers: wanted.consumers,
            options,
            clock: session.clock().clone(),
            run: Random::system().u128(),
            bar,
        }
    }

    /// Measures until the time is over or `stopped` says so, and everything that was sent is
    /// reported and read.
    pub(super) async fn run(
        self,
        session: &Session,
        stopped: watch::Receiver<bool>,
    ) -> Result<Outcome, Failure> {
        let load = Arc::new(self);
        let leaders = session.leaders();
        let places = Box::pin(session.within(load.places(session))).await?;
        let counters = Arc::new(Counters::default());
        let (ended, all_sent) = watch::channel(None);
        // Connections are made, and producers known, before time begins.
        let written = (0..load.producers).map(|_| Arc::new(Mutex::new(Written::new())));
        let written: Vec<Arc<Mutex<Written>>> = written.collect();
        let begin = watch::channel(None);
        let producers = written
            .iter()
            .map(|written| load.producer(session.cluster(), leaders, written, &begin.1, &counters));
        let producers: Vec<Producer> = producers.collect();
        load.warm_up(&producers).await?;
        let start = load.clock.now();
        begin.0.send_replace(Some(start));
        let readers = load.readers(session.cluster(), &places, start, &counters, &all_sent);
        let show = load.show(start, &counters, all_sent.clone());
        let show = task::spawn("bench-progress", show);
        let work = producers.into_iter().zip(0..).map(|(producer, number)| {
            let (load, stopped) = (Arc::clone(&load), stopped.clone());
            let work = async move { load.produce(producer, number, start, stopped).await };
            task::spawn("bench-producer", work)
        });
        let sent: u64 = join_all(work).await.into_iter().map(Result::unwrap_or_default).sum();
        let produced = counters.produced.load(Ordering::Relaxed);
        ended.send_replace(Some(produced));
        let seen: Vec<Seen> = join_all(readers).await.into_iter().flatten().collect();
        let _ = show.await;
        load.bar.finish_and_clear();
        Ok(load.outcome(places.len(), start, sent, &written, &seen))
    }

    /// The partitions, and where they end now.
    async fn places(&self, session: &Session) -> Result<BTreeMap<Place, i64>, Failure> {
        let leaders = session.leaders();
        // One that was made is known by now.
        if leaders.code(&self.topic) != 0 {
            session.topics(std::slice::from_ref(&self.topic)).await?;
            leaders.learn(&[&self.topic]).await.map_err(Failure::failed)?;
        }
        let partitions = leaders.partitions(&self.topic).into_iter();
        let asked = partitions.map(|index| ((self.topic.clone(), index), LATEST)).collect();
        let ends = Box::pin(session.offsets(&asked)).await;
        let end = |(place, end): (Place, Result<i64, String>)| Ok((place, end?));
        ends.into_iter().map(end).collect::<Result<_, String>>().map_err(Failure::Failed)
    }

    fn producer(
        self: &Arc<Self>,
        cluster: &Cluster,
        leaders: &Leaders,
        written: &Arc<Mutex<Written>>,
        begin: &watch::Receiver<Option<Instant>>,
        counters: &Arc<Counters>,
    ) -> Producer {
        let (written, begin, counters) = (Arc::clone(written), begin.clone(), Arc::clone(counters));
        let clock = self.clock.clone();
        let on_report = move |Report { tag, outcome }: Report| {
            let (now, Some(start)) = (clock.now(), *begin.borrow()) else {
                // The records before the beginning count only where they fail.
                if let Err(error) = outcome {
                    written.lock().unwrap_or_else(PoisonError::into_inner).fail(&error.to_string());
                }
                return;
            };
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(_) if tag == UNCOUNTED => {}
                Ok(_) => {
                    let planned = start + Duration::from_nanos(tag);
                    written.latencies.record(now.saturating_duration_since(planned));
                    written.delivered += 1;
                    written.last = Some(now);
                    counters.produced.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => written.fail(&error.to_string()),
            }
        };
        Producer::new(cluster, leaders, &self.topic, self.options.clone(), on_report)
    }

    async fn warm_up(&self, producers: &[Producer]) -> Result<(), Failure> {
        let value = Bytes::from(vec![0; self.record_bytes as usize]);
        let warm = producers.iter().map(async |producer| {
            let record = NewRecord { value: Some(value.clone()), ..NewRecord::default() };
            producer.send(UNCOUNTED, record).await?;
            producer.flush().await;
            Ok::<(), crate::client::ProduceError>(())
        });
        join_all(warm).await.into_iter().collect::<Result<(), _>>().map_err(Failure::failed)
    }

    /// Produces for as long as it is to; how many records it sent.
    async fn produce(
        &self,
        producer: Producer,
        number: u32,
        start: Instant,
        mut stopped: watch::Receiver<bool>,
    ) -> u64 {
        let filling = Filling::new(self.record_bytes, self.run);
        let end = start + self.duration;
        let pace = self.rate.map(|rate| Pace::new(rate, self.producers, number));
        let mut sent = 0;
        while !*stopped.borrow() {
            let now = self.clock.now();
            let planned = pace.map_or(now, |pace| start + pace.planned(sent));
            if planned >= end {
                break;
            }
            if planned > now {
                // The stop ends the wait, and the loop.
                tokio::select! {
                    () = self.clock.sleep_until(planned) => {}
                    _ = stopped.changed() => {}
                }
                continue;
            }
            let tag = planned.saturating_duration_since(start).as_nanos() as u64;
            let value = Some(filling.record(sent, tag));
            let record = NewRecord { value, ..NewRecord::default() };
            // A record that waits for room when it is to stop was never sent.
            let handed = tokio::select! {
                handed = producer.send(tag, record) => handed,
                _ = stopped.changed() => break,
            };
            if let Err(error) = handed {
                complain(error);
                break;
            }
            sent += 1;
        }
        producer.close().await;
        sent
    }

    fn readers(
        self: &Arc<Self>,
        cluster: &Cluster,
        places: &BTreeMap<Place, i64>,
        start: Instant,
        counters: &Arc<Counters>,
        all_sent: &watch::Receiver<Option<u64>>,
    ) -> Vec<tokio::task::JoinHandle<Seen>> {
        let count = self.consumers.min(u32::try_from(places.len()).unwrap_or(u32::MAX)) as usize;
        let reader = |number: usize| {
            let options = ConsumerOptions { max_records: 10_000, ..ConsumerOptions::default() };
            let mut consumer = Consumer::new(cluster, options);
            let mine = places.iter().skip(number).step_by(count);
            mine.for_each(|(place, offset)| consumer.assign(place.clone(), *offset));
            let (load, counters) = (Arc::clone(self), Arc::clone(counters));
            let all_sent = all_sent.clone();
            let work = async move { load.consume(consumer, start, &counters, all_sent).await };
            task::spawn("bench-consumer", work)
        };
        (0..count).map(reader).collect()
    }

    /// Reads until everything is read that was produced.
    async fn consume(
        &self,
        mut consumer: Consumer,
        start: Instant,
        counters: &Counters,
        all_sent: watch::Receiver<Option<u64>>,
    ) -> Seen {
        let (latencies, mut quiet_since) = (Latencies::new(), self.clock.now());
        let mut seen = Seen { latencies, records: 0, last: None, fault: None };
        loop {
            let total = *all_sent.borrow();
            let is_quiet = self.clock.now() >= quiet_since + GRACE;
            let is_enough = |total| counters.consumed.load(Ordering::Relaxed) >= total || is_quiet;
            if total.is_some_and(is_enough) {
                return seen;
            }
            let records = match consumer.poll(POLL).await {
                Ok(records) => records,
                Err(error) => {
                    seen.fault = Some(error.to_string());
                    return seen;
                }
            };
            let now = self.clock.now();
            let planned = records.iter().filter_map(|it| planned(it.value.as_deref()?, self.run));
            let mut mine = 0;
            for nanos in planned {
                let planned = start + Duration::from_nanos(nanos);
                seen.latencies.record(now.saturating_duration_since(planned));
                mine += 1;
            }
            if mine > 0 || total.is_none() {
                quiet_since = now;
            }
            if mine > 0 {
                seen.last = Some(now);
                seen.records += mine;
                counters.consumed.fetch_add(mine, Ordering::Relaxed);
            }
        }
    }

    /// Shows how far it is until everything is sent.
    fn show(
        self: &Arc<Self>,
        start: Instant,
        counters: &Arc<Counters>,
        mut all_sent: watch::Receiver<Option<u64>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (load, counters) = (Arc::clone(self), Arc::clone(counters));
        async move {
            loop {
                let passed = start.elapsed();
                load.bar.set_position(passed.as_millis() as u64);
                let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let (produced, consumed) = (of(&counters.produced), of(&counters.consumed));
                load.bar.set_message(format!("{produced} produced, {consumed} consumed"));
                tokio::select! {
                    () = load.clock.sleep(SHOW_EVERY) => {}
                    _ = all_sent.changed() => return,
                }
            }
        }
    }

    fn outcome(
        &self,
        partitions: usize,
        start: Instant,
        sent: u64,
        written: &[Arc<Mutex<Written>>],
        seen: &[Seen],
    ) -> Outcome {
        let until = |last: Option<Instant>| last.map_or(Duration::ZERO, |last| last - start);
        let mut latencies = Latencies::new();
        let mut errors = BTreeMap::new();
        let (mut records, mut last) = (0, None);
        for written in written {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.add(&written.latencies);
            records += written.delivered;
            last = last.max(written.last);
            for (reason, count) in &written.errors {
                *errors.entry(reason.clone()).or_insert(0) += count;
            }
        }
        let produced = Measured { records, time: until(last), latencies };
        let mut latencies = Latencies::new();
        let (mut records, mut last) = (0, None);
        for seen in seen {
            latencies.add(&seen.latencies);
            records += seen.records;
            last = last.max(seen.last);
            if let Some(fault) = &seen.fault {
                complain(format_args!("a consumer ended: {fault}"));
            }
        }
        let consumed = Measured { records, time: until(last), latencies };
        let consumed = (self.consumers > 0).then_some(&consumed);
        Outcome::new(&self.topic, partitions, self.record_bytes, sent, &produced, consumed)
            .with_errors(errors)
    }
}

impl Written {
    fn new() -> Self {
        Self { latencies: Latencies::new(), errors: BTreeMap::new(), delivered: 0, last: None }
    }

    fn fail(&mut self, reason: &str) {
        *self.errors.entry(reason.to_owned()).or_insert(0) += 1;
    }
}

/// When each record of a producer is to leave.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two records of the producer, in seconds.
    interval: f64,
    /// Before the first one.
    first: f64,
}

impl Pace {
    fn new(rate: NonZeroU32, producers: u32, number: u32) -> Self {
        let rate = f64::from(rate.get());
        Self { interval: f64::from(producers) / rate, first: f64::from(number) / rate }
    }

    fn planned(self, record: u64) -> Duration {
        Duration::from_secs_f64(self.interval.mul_add(record as f64, self.first))
    }
}

/// What values are made of: whose they are, when they were to be written, and letters that
/// compress by about a quarter.
#[derive(Debug)]
struct Filling {
    run: u128,
    /// The letters of a record.
    bytes: usize,
    letters: Bytes,
}

impl Filling {
    fn new(record_bytes: u32, run: u128) -> Self {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bytes = record_bytes.saturating_sub(RECORD_BYTES_LEAST) as usize;
        let random = Random::seeded(run as u64);
        let letter = |_| LETTERS.get(random.below(64) as usize).copied().unwrap_or(b'A');
        let letters = (0..bytes + FILLING_BYTES).map(letter).collect();
        Self { run, bytes, letters }
    }

    fn record(&self, number: u64, planned_nanos: u64) -> Bytes {
        let from = number.wrapping_mul(7919) as usize % FILLING_BYTES;
        let mut value = BytesMut::with_capacity(RECORD_BYTES_LEAST as usize + self.bytes);
        value.put_u128(self.run);
        value.put_u64(planned_nanos);
        value.put_slice(self.letters.get(from..from + self.bytes).unwrap_or_default());
        value.freeze()
    }
}

/// When a record of this run was to be written, in nanoseconds from the beginning; nothing for one
/// of others.
fn planned(value: &[u8], run: u128) -> Option<u64> {
    let (whose, rest) = value.split_first_chunk::<16>()?;
    let planned = rest.first_chunk::<8>()?;
    (u128::from_be_bytes(*whose) == run).then(|| u64::from_be_bytes(*planned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_size_and_says_whose_it_is_and_when_it_was_planned() {
        for bytes in [RECORD_BYTES_LEAST, 25, 100_000] {
            let filling = Filling::new(bytes, 7);
            for number in [0, 1, u64::MAX] {
                let value = filling.record(number, 9);
                assert_eq!(value.len(), bytes as usize);
                assert_eq!(planned(&value, 7), Some(9));
                assert_eq!(planned(&value, 8), None);
            }
        }
        assert_eq!(planned(b"short", 7), None);
        assert_eq!(planned(&[0; 1024], 7), None);
    }

    #[test]
    fn producers_share_a_rate_and_take_turns() {
        let rate = NonZeroU32::new(1000).unwrap();
        let mut all: Vec<Duration> = (0..4)
            .flat_map(|number| (0..250).map(move |it| Pace::new(rate, 4, number).planned(it)))
            .collect();
        all.sort();
        for (at, planned) in all.iter().enumerate() {
            let expected = Duration::from_millis(at as u64);
            assert!(planned.abs_diff(expected) < Duration::from_micros(1), "{planned:?}");
        }
    }
}

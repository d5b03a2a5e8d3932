//! What a reader that catches up takes from a producer and from readers at the end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Broker;
use crate::topics::{self, Place, Reader};
use crate::{Plan, wire};

/// The time between two requests of the producer.
const PACE: Duration = Duration::from_millis(10);
/// What each of them has.
const BYTES: usize = 16 << 10;
/// What a limited reader reads in a second.
const LIMIT: f64 = 50e6;
/// The memory budget, and of it what readers that catch up have (`budget.rs`).
const BUDGET: usize = 2 << 30;
const CATCH_UP: usize = BUDGET / 64 * 2;
const OLD_MIB: usize = 768;
const YOUNG_MIB: usize = 192;

/// What a phase has measured.
struct Phase {
    produce: Vec<f64>,
    consume: Vec<f64>,
    /// Bytes the consumer at the end read.
    consumed: usize,
    /// Bytes of the one that catches up.
    caught_up: usize,
    /// Of what was read, bytes that memory had.
    from_memory: f64,
    hot_evicted: f64,
}

pub(crate) fn run(plan: &Plan) {
    let place = Place::new();
    let options = || {
        let options = place.options_with_files().set("tier.max.age.ms", 5_000);
        options.set("wal.max.bytes", "4GiB").set("memory.budget.bytes", BUDGET)
    };
    let mut past = options();
    past.preload = Some(place.past());
    let mut broker = Broker::start_with(past);
    topics::create(&broker, "old", 1, topics::NOTHING_LOCAL);
    let (records, batches) = topics::fill(&broker, "old", OLD_MIB);
    topics::wait_until_tiered(&broker, (OLD_MIB as u64) << 20);
    assert_eq!(broker.stop(), Some(0));
    let old_end = records * (batches / 2) as i64;
    let mut broker = Broker::start_with(options());
    topics::create(&broker, "young", 1, topics::NOTHING_LOCAL);
    topics::fill(&broker, "young", YOUNG_MIB);
    topics::wait_until_tiered(&broker, (YOUNG_MIB as u64) << 20);
    assert_eq!(broker.stop(), Some(0));
    let broker = Broker::start_with(options());
    topics::create(&broker, "tail", 1, &[]);
    // So that there is something hot that could be evicted.
    Reader::new(&broker, "young", 0).read_to(records * 256);
    let hot = broker.metrics().get("tidegate_tier_cache_bytes{cache=\"hot\"}");
    println!(
        "tail: {:.0} MiB in the hot cache, {OLD_MIB} MiB an hour old in the bucket",
        hot / f64::from(1 << 20)
    );

    let length = Duration::from_secs(plan.seconds);
    let phase = |limit| measure(&broker, length, limit, old_end);
    phase(None); // the first requests are slower
    let full = phase(Some(f64::INFINITY));
    let cached = CATCH_UP as f64;
    tell("catch-up without limit", &full);
    println!(
        "  it read {:.1} x the cache of readers that catch up",
        full.caught_up as f64 / cached
    );
    let (mut produce, mut consume) = (Vec::new(), Vec::new());
    for pair in 0..plan.pairs {
        let (quiet, limited) = if pair % 2 == 0 {
            (phase(None), phase(Some(LIMIT)))
        } else {
            let limited = phase(Some(LIMIT));
            (phase(None), limited)
        };
        tell("quiet", &quiet);
        tell("catch-up at 50 MB/s", &limited);
        produce.push(p99(&limited.produce) / p99(&quiet.produce));
        consume.push(p99(&limited.consume) / p99(&quiet.consume));
    }
    println!("  produce p99, ratio to quiet: {}", crate::spread(produce));
    println!("  consumer's p99, ratio to quiet: {}", crate::spread(consume));
}

fn tell(name: &str, phase: &Phase) {
    println!(
        "  {name}: produce p50 {:.2} p99 {:.2} ms, consumer p50 {:.2} p99 {:.2} ms; caught up {} MiB; \
         of {} bytes at the end {:.4} from memory; evicted hot bytes {}",
        percentile(&phase.produce, 0.5),
        p99(&phase.produce),
        percentile(&phase.consume, 0.5),
        p99(&phase.consume),
        phase.caught_up >> 20,
        phase.consumed,
        phase.from_memory / phase.consumed as f64,
        phase.hot_evicted,
    );
}

/// Runs producer and consumer for a while, and with a limit the reader that catches up.
fn measure(broker: &Broker, length: Duration, limit: Option<f64>, old_end: i64) -> Phase {
    let before = broker.metrics();
    let records = wire::batch_of(BYTES).unwrap();
    let mut consumer = Reader::new(broker, "tail", 0);
    let begun_at = end_of_tail(broker, &records);
    consumer.offset = begun_at;
    let sent: Mutex<Vec<Instant>> = Mutex::default();
    let is_over = AtomicBool::new(false);
    let count = (length.as_nanos() / PACE.as_nanos()) as usize;
    let (mut produce, mut consume, mut caught_up) = (Vec::new(), Vec::new(), 0);
    thread::scope(|scope| {
        let reader = limit.map(|limit| {
            let is_over = &is_over;
            scope.spawn(move || catch_up(broker, limit, old_end, is_over))
        });
        let producer = scope.spawn(|| {
            let mut connection = topics::connect(broker);
            let mut frame = wire::produce("tail", 0, &records);
            let begun = Instant::now();
            let mut took = Vec::with_capacity(count);
            for at in 0..count as u32 {
                thread::sleep((begun + PACE * at).saturating_duration_since(Instant::now()));
                let now = Instant::now();
                sent.lock().unwrap().push(now);
                let answer = wire::produced(connection.call(&mut frame).unwrap()).unwrap();
                assert_eq!(answer.error, 0);
                took.push(now.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
        while consume.len() < count {
            let lasts = consumer.poll();
            let now = Instant::now();
            for last in lasts {
                let number = (last - begun_at) / records.count;
                let sent = sent.lock().unwrap()[number as usize];
                consume.push((now - sent).as_secs_f64() * 1e3);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        produce = producer.join().unwrap();
        caught_up = reader.map_or(0, |reader| reader.join().unwrap());
    });
    let after = broker.metrics();
    let since = |name| after.get(name) - before.get(name);
    Phase {
        produce,
        consume,
        consumed: consumer.bytes,
        caught_up,
        from_memory: since("tidegate_partition_tail_bytes_total"),
        hot_evicted: since(EVICTED),
    }
}

const EVICTED: &str = "tidegate_tier_cache_evicted_bytes_total{cache=\"hot\"}";

/// Appends one batch and tells where the next begins.
fn end_of_tail(broker: &Broker, records: &wire::Records) -> i64 {
    let mut frame = wire::produce("tail", 0, records);
    let mut connection = topics::connect(broker);
    wire::produced(connection.call(&mut frame).unwrap()).unwrap().base_offset + records.count
}

/// Reads the old topic again and again.
fn catch_up(broker: &Broker, limit: f64, end: i64, is_over: &AtomicBool) -> usize {
    let mut reader = Reader::new(broker, "old", 0);
    let begun = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        reader.poll();
        if reader.offset >= end {
            reader.turn_to(0);
        }
        let due = Duration::from_secs_f64(reader.bytes as f64 / limit);
        thread::sleep((begun + due).saturating_duration_since(Instant::now()));
    }
    reader.bytes
}

fn p99(figures: &[f64]) -> f64 {
    percentile(figures, 0.99)
}

fn percentile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN)
}

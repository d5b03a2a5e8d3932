//! Reading a log from the bucket, and its objects without a broker.

use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};

use crate::harness::servers::{ACCESS_KEY, SECRET_KEY, Server};
use crate::harness::{Broker, Options};
use crate::topics::{self, Place, Reader};
use crate::{Plan, spread};

/// What the probe asks for at once: the most that the broker does.
const RANGE_BYTES: u64 = 8 << 20;
/// How many GETs of the probe are under way: the broker has the one that is waited for and the next.
const DEPTHS: [usize; 2] = [1, 2];
const TOPIC: &str = "read";

/// The bucket is a directory; the log is an hour old.
pub(crate) fn from_files(plan: &Plan) {
    let place = Place::new();
    let store = LocalFileSystem::new_with_prefix(place.bucket()).unwrap();
    let mut options = place.options_with_files();
    options.preload = Some(place.past());
    let end = write(options, plan);
    measure("file://", &Broker::start_with(place.options_with_files()), &store, end, plan);
}

/// The bucket is in versitygw; the log is an hour old.
pub(crate) fn from_s3(plan: &Plan) {
    let Some(server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    // The probe's own client needs one; another may have been installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new();
    let store = AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_bucket_name("bkt")
        .with_region("us-east-1")
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap();
    let options = || {
        let mut options = place.options().set("object.url", "s3://bkt/tier");
        options = options.set("object.endpoint", server.endpoint());
        let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        options.env.extend(keys.map(|(name, value)| (name.to_owned(), value.to_owned())));
        options
    };
    let mut writing = options();
    writing.preload = Some(place.past());
    let end = write(writing, plan);
    measure("s3://", &Broker::start_with(options()), &store, end, plan);
}

/// Writes the log, and stops the broker so that none of it is in memory. The offset up to which
/// only the bucket has it.
fn write(options: Options, plan: &Plan) -> i64 {
    let options = options.set("tier.max.age.ms", 20_000).set("wal.max.bytes", "4GiB");
    let mut broker = Broker::start_with(options);
    topics::create(&broker, TOPIC, 1, topics::NOTHING_LOCAL);
    let begun = Instant::now();
    let (records, batches) = topics::fill(&broker, TOPIC, plan.mib);
    let wall = begun.elapsed();
    topics::wait_until_tiered(&broker, (plan.mib as u64) << 20);
    println!(
        "{} MiB written in {:.1} s, in the bucket after {:.1} s",
        plan.mib,
        wall.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(broker.stop(), Some(0));
    // The last files of the write-ahead log stay.
    records * (batches * 3 / 4) as i64
}

fn measure(name: &str, broker: &Broker, store: &dyn ObjectStore, end: i64, plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let (mut rates, mut probes, mut cpus) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
    let before = broker.metrics();
    let mut read = 0;
    for pair in 0..plan.pairs {
        let consume = || {
            let (cpu, begun) = (topics::cpu(broker), Instant::now());
            let mut reader = Reader::new(broker, TOPIC, 0);
            reader.read_to(end);
            let wall = begun.elapsed().as_secs_f64();
            let gib = reader.bytes as f64 / f64::from(1 << 30);
            (reader.bytes, gib / wall, topics::cpu(broker).since(&cpu).as_secs_f64() / gib)
        };
        let probe = |bytes| DEPTHS.map(|depth| runtime.block_on(raw(store, bytes, depth)));
        // A B, B A
        let ((bytes, rate, cpu), raw) = if pair % 2 == 0 {
            let consumed = consume();
            (consumed, probe(consumed.0))
        } else {
            let raw = probe(end as usize * 1_024);
            (consume(), raw)
        };
        read += bytes;
        rates.push(rate);
        cpus.push(cpu);
        for (at, rate_of_probe) in raw.into_iter().enumerate() {
            probes[at].push(rate_of_probe);
            ratios[at].push(rate / rate_of_probe);
        }
    }
    let after = broker.metrics();
    let tiered = "tidegate_partition_tiered_bytes_total";
    let from_bucket = (after.get(tiered) - before.get(tiered)) / read as f64;
    let gib = read as f64 / f64::from(1 << 30);
    let gets = "tidegate_object_requests_total{operation=\"get_range\",outcome=\"ok\"}";
    println!(
        "catch-up over {name}, {} pairs, {:.3} of the bytes from the bucket",
        plan.pairs, from_bucket
    );
    println!("  consumer, GiB/s: {}", spread(rates));
    println!("  broker's CPU, s/GiB: {}", spread(cpus));
    println!("  GET per GiB: {:.0}", (after.get(gets) - before.get(gets)) / gib);
    for ((depth, probe), ratio) in DEPTHS.iter().zip(probes).zip(ratios) {
        println!(
            "  probe with {depth} in flight, GiB/s: {}; ratio {}",
            spread(probe),
            spread(ratio)
        );
    }
}

/// Reads as many bytes of the same objects, in GiB a second.
async fn raw(store: &dyn ObjectStore, bytes: usize, depth: usize) -> f64 {
    let mut objects: Vec<_> = store.list(None).try_collect().await.unwrap();
    objects.sort_by(|one, other| one.location.cmp(&other.location));
    let ranges = objects.iter().filter(|object| object.size > RANGE_BYTES).flat_map(|object| {
        let starts = (0..object.size).step_by(RANGE_BYTES as usize);
        starts.map(|start| (&object.location, start..object.size.min(start + RANGE_BYTES)))
    });
    let mut wanted = bytes as u64;
    let ranges: Vec<(&Path, _)> = ranges
        .take_while(|(_, range)| {
            let goes_on = wanted > 0;
            wanted = wanted.saturating_sub(range.end - range.start);
            goes_on
        })
        .collect();
    let begun = Instant::now();
    let gets = futures_util::stream::iter(ranges)
        .map(|(path, range)| async { store.get_range(path, range).await.unwrap().len() });
    let read = gets.buffered(depth).fold(0, async |sum, len| sum + len).await;
    read as f64 / f64::from(1 << 30) / begun.elapsed().as_secs_f64()
}

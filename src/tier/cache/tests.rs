//! The cache over a bucket whose GETs are counted, held and failed.

use std::future::Future;
use std::pin::pin;

use futures_util::FutureExt;

use super::*;
use crate::budget::Pool;
use crate::object::testing::FaultStore;
use crate::tier::writer::Sizes;
use crate::tier::writer::tests::{Part as Log, batch, head, partition, plain, write_as};

const MIB: usize = 1 << 20;

/// A cache, its bucket, and the pools that it takes from.
struct Rig {
    bucket: FaultStore,
    registry: Registry,
    hot: BytePool,
    catch_up: BytePool,
    readers: BytePool,
    cache: Cache,
}

fn rig(hot: usize, catch_up: usize, catch_up_loads: usize) -> Rig {
    rig_with(hot, catch_up, catch_up_loads, 0)
}

/// As [`rig`], with so much memory for what readers hold and nobody keeps.
fn rig_with(hot: usize, catch_up: usize, catch_up_loads: usize, readers: usize) -> Rig {
    let (bucket, registry) = (FaultStore::memory(), Registry::new());
    let pool = |bytes| BytePool::new(Pool::Upload, bytes);
    let (hot, catch_up, readers) = (pool(hot), pool(catch_up), pool(readers));
    let options = CacheOptions {
        hot: hot.clone(),
        catch_up: catch_up.clone(),
        footers: pool(MIB),
        readers: readers.clone(),
        catch_up_loads,
    };
    let cache = Cache::new(bucket.store(), options, &registry);
    Rig { bucket, registry, hot, catch_up, readers, cache }
}

impl Rig {
    /// Puts an object with these sections and chunks of at most `chunk` bytes in the bucket.
    async fn stored(&self, sequence: u64, sections: &[Log], chunk: usize) -> (ObjectRef, Vec<u8>) {
        let sizes = Sizes { chunk, part: 1 << 30 };
        let mut head = head();
        head.id.sequence = sequence;
        let (bytes, finished) = write_as(head, sections, sizes).unwrap();
        let end_bytes = finished.end.len() as u32;
        let id = finished.footer.head().id;
        let object = ObjectRef { id, bytes: finished.bytes, end_bytes };
        self.bucket.store().put(&id.key(), bytes.clone().into()).await.unwrap();
        (object, bytes)
    }

    fn counted(&self, line: &str) -> bool {
        let text = self.registry.encode();
        let found =
            text.lines().any(|counted| counted.strip_prefix("tidegate_tier_cache_") == Some(line));
        if !found {
            println!("{line} is not in\n{text}");
        }
        found
    }

    /// The sizes of the GETs since the first `skip`, without those of footers.
    fn chunk_gets(&self, skip: usize, object: &ObjectRef) -> Vec<usize> {
        let end = object.bytes - u64::from(object.end_bytes);
        let ranges = self.bucket.ranges();
        let chunks = ranges[skip..].iter().filter(|range| range.start < end);
        chunks.map(|range| (range.end - range.start) as usize).collect()
    }
}

/// A log of chunks of a mebibyte, one batch of one record each.
fn long(of: TopicPartition, start: i64, chunks: i64) -> Log {
    let batches = (start..start + chunks).map(|offset| batch(offset, 1, offset, MIB - 200));
    let end_offset = start + chunks;
    Log { end_offset, batches: batches.collect(), ..plain(of, start, 1, 0) }
}

const LONG: usize = MIB;

fn of() -> TopicPartition {
    partition(1, 0)
}

/// Polls a future that must wait.
fn must_wait<F: Future>(future: std::pin::Pin<&mut F>) {
    assert!(future.now_or_never().is_none());
}

#[tokio::test]
async fn every_offset_is_found_and_what_was_read_is_not_read_again() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let log = plain(of(), 10, 20, 100);
    let (object, _) = rig.stored(1, std::slice::from_ref(&log), 700).await;
    for age in [Age::CatchUp, Age::Hot] {
        for offset in log.start_offset..log.end_offset {
            let found = rig.cache.read(&object, of(), offset, age).await.unwrap().unwrap();
            let at = ((offset - log.start_offset) / 3) as usize;
            assert!(found.batches.starts_with(&log.batches[at]), "{offset}");
            assert!(found.next_offset > offset);
            let next = ((found.next_offset - log.start_offset) / 3) as usize;
            assert_eq!(found.batches, log.batches[at..next].concat());
        }
    }
    assert_eq!(rig.bucket.gets(), 2, "the footer, and all chunks at once");
    for offset in [0, log.start_offset - 1, log.end_offset] {
        assert_eq!(rig.cache.read(&object, of(), offset, Age::Hot).await, Ok(None));
    }
    let other = rig.cache.read(&object, partition(2, 0), 10, Age::Hot).await;
    assert_eq!(other, Ok(None));
    assert!(rig.counted(r#"misses_total{cache="catch_up"} 1"#));
    assert!(rig.counted(r#"hits_total{cache="catch_up"} 59"#));
    assert!(rig.counted(r#"hits_total{cache="hot"} 60"#));
    assert!(rig.counted(r#"misses_total{cache="footers"} 1"#));
    assert!(rig.counted(r#"loads_total{cache="catch_up",outcome="ok"} 1"#));
    assert!(rig.counted(r#"loads_total{cache="hot",outcome="ok"} 0"#));
}

#[tokio::test]
async fn a_time_is_found_with_one_footer_and_one_chunk() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let log = long(of(), 0, 4);
    let (object, _) = rig.stored(1, std::slice::from_ref(&log), LONG).await;
    let found = rig.cache.since(&object, of(), 2, 0, Age::CatchUp).await.unwrap().unwrap();
    assert_eq!(found, Found { batches: log.batches[2].clone(), next_offset: 3 });
    assert_eq!(rig.bucket.gets(), 2);
    assert_eq!(rig.chunk_gets(0, &object), [log.batches[2].len()]);
    assert_eq!(rig.cache.since(&object, of(), 4, 0, Age::CatchUp).await, Ok(None));
    assert_eq!(rig.cache.since(&object, partition(2, 0), 0, 0, Age::CatchUp).await, Ok(None));
}

#[tokio::test]
async fn a_load_is_made_once_and_outlives_those_who_wait_for_it() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let (object, _) = rig.stored(1, &[plain(of(), 0, 4, 100)], 300).await;
    rig.bucket.hold_gets(true);
    {
        let mut given_up = pin!(rig.cache.read(&object, of(), 0, Age::Hot));
        must_wait(given_up.as_mut());
        rig.bucket.gets_made(1).await;
        must_wait(given_up.as_mut());
    }
    let mut first = pin!(rig.cache.read(&object, of(), 0, Age::Hot));
    let mut second = pin!(rig.cache.read(&object, of(), 6, Age::CatchUp));
    must_wait(first.as_mut());
    must_wait(second.as_mut());
    assert_eq!(rig.bucket.gets(), 1, "all wait for one footer");
    rig.bucket.hold_gets(false);
    let (first, second) = futures_util::future::join(first, second).await;
    assert_eq!(first.unwrap().unwrap().next_offset, 3);
    assert_eq!(second.unwrap().unwrap().next_offset, 9);
    assert_eq!(rig.bucket.gets(), 2, "and for one run of chunks");

    let (object, _) = rig.stored(2, &[plain(of(), 0, 4, 100)], 300).await;
    rig.cache.footer(&object).await.unwrap();
    rig.bucket.hold_gets(true);
    {
        let mut given_up = pin!(rig.cache.read(&object, of(), 0, Age::Hot));
        must_wait(given_up.as_mut());
        rig.bucket.gets_made(4).await;
    }
    let mut later = pin!(rig.cache.read(&object, of(), 0, Age::Hot));
    must_wait(later.as_mut());
    rig.bucket.hold_gets(false);
    later.await.unwrap().unwrap();
    rig.cache.read(&object, of(), 9, Age::Hot).await.unwrap().unwrap();
    assert_eq!(rig.bucket.gets(), 4, "nobody asked for it again");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_everybodys_who_waits_and_nobodys_afterwards() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let (object, _) = rig.stored(1, &[plain(of(), 0, 4, 100)], 300).await;
    for what in ["the footer", "the chunks"] {
        rig.bucket.fail_gets(6);
        let first = rig.cache.read(&object, of(), 0, Age::Hot);
        let second = rig.cache.read(&object, of(), 3, Age::Hot);
        let before = rig.bucket.gets();
        let (first, second) = futures_util::future::join(first, second).await;
        assert!(matches!(first, Err(ReadError::Bucket(_))), "{first:?}");
        assert_eq!(first, second);
        assert_eq!(rig.bucket.gets() - before, 6);
        assert_eq!(rig.hot.used(), 0, "{what}");
        rig.cache.footer(&object).await.unwrap();
    }
    rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap().unwrap();
    assert!(rig.counted(r#"loads_total{cache="footers",outcome="failed"} 1"#));
    assert!(rig.counted(r#"loads_total{cache="hot",outcome="failed"} 1"#));
}

#[tokio::test]
async fn what_is_damaged_or_gone_is_not_served_and_not_kept() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let log = plain(of(), 0, 4, 100);
    let (object, bytes) = rig.stored(1, std::slice::from_ref(&log), 300).await;
    let (store, key) = (rig.bucket.store(), object.id.key());
    rig.cache.footer(&object).await.unwrap();
    let mut damaged = bytes.clone();
    damaged[200] ^= 1;
    store.put(&key, damaged.into()).await.unwrap();
    let error = rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    store.delete(&key).await.unwrap();
    let error = rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap_err();
    assert_eq!(error, ReadError::Missing { key: key.clone() });
    store.put(&key, bytes.into()).await.unwrap();
    let found = rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap().unwrap();
    assert_eq!(found.batches, log.batches[0]);
    assert!(rig.counted(r#"loads_total{cache="hot",outcome="corrupt"} 1"#));
    assert!(rig.counted(r#"loads_total{cache="hot",outcome="missing"} 1"#));
}

#[tokio::test]
async fn bytes_are_charged_before_they_are_asked_for() {
    let rig = rig(16 * MIB, 16 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 2)], LONG).await;
    rig.cache.footer(&object).await.unwrap();
    let all = rig.hot.take(16 * MIB).await.unwrap();
    let mut read = pin!(rig.cache.read(&object, of(), 0, Age::Hot));
    must_wait(read.as_mut());
    // Another load, which takes from another pool, comes later and is done before.
    rig.cache.read(&object, of(), 1, Age::CatchUp).await.unwrap().unwrap();
    assert_eq!(rig.chunk_gets(0, &object).len(), 1, "none without room for it");
    rig.bucket.hold_gets(true);
    drop(all);
    rig.bucket.gets_made(3).await;
    assert!(rig.hot.used() >= MIB - 200, "{}", rig.hot.used());
    rig.bucket.hold_gets(false);
    let found = read.await.unwrap().unwrap();
    assert_eq!(rig.hot.used(), found.batches.len(), "what it took to take it apart is given back");
}

#[tokio::test]
async fn a_chunk_larger_than_all_the_room_is_read() {
    let rig = rig(MIB, MIB, 1);
    let log = Log {
        end_offset: 3,
        batches: (0..3).map(|offset| batch(offset, 1, offset, 2 * MIB)).collect(),
        ..plain(of(), 0, 1, 0)
    };
    let (object, _) = rig.stored(1, std::slice::from_ref(&log), LONG).await;
    for offset in 0..3 {
        let found = rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap();
        assert!(found.batches == log.batches[offset as usize]);
    }
    assert_eq!(rig.catch_up.used(), 0, "and not kept");
}

/// Reads a log from `offset` to its end, a chunk at a time, and gives how many bytes there were.
async fn scan(rig: &Rig, object: &ObjectRef, mut offset: i64, age: Age) -> usize {
    let mut bytes = 0;
    while let Some(found) = rig.cache.read(object, of(), offset, age).await.unwrap() {
        bytes += found.batches.len();
        offset = found.next_offset;
    }
    bytes
}

#[tokio::test]
async fn a_reader_that_goes_on_gets_more_at_once_and_another_does_not() {
    let rig = rig(MIB, 128 * MIB, 4);
    let (first, second) = (long(of(), 0, 24), long(of(), 24, 9));
    let (object, _) = rig.stored(1, std::slice::from_ref(&first), LONG).await;
    let one = first.batches[0].len();
    let sizes = |skip, object: &ObjectRef| -> Vec<usize> {
        rig.chunk_gets(skip, object).iter().map(|bytes| bytes / one).collect()
    };
    // Here and there.
    for offset in [5, 23, 11] {
        rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap();
    }
    assert_eq!(sizes(0, &object), [1, 1, 1]);
    let rig = self::rig(MIB, 128 * MIB, 4);
    let (object, _) = rig.stored(1, std::slice::from_ref(&first), LONG).await;
    let (next, _) = rig.stored(2, std::slice::from_ref(&second), LONG).await;
    let bytes = scan(&rig, &object, 0, Age::CatchUp).await;
    assert_eq!(bytes, 24 * one);
    let sizes = |skip, object: &ObjectRef| -> Vec<usize> {
        rig.chunk_gets(skip, object).iter().map(|bytes| bytes / one).collect()
    };
    assert_eq!(sizes(0, &object), [1, 2, 4, 8, 8, 1]);
    // And on in the next object.
    let skip = rig.bucket.ranges().len();
    scan(&rig, &next, 24, Age::CatchUp).await;
    assert_eq!(sizes(skip, &next), [8, 1]);
    assert!(rig.counted(r#"evictions_total{cache="catch_up"} 0"#));
}

#[tokio::test]
async fn the_next_run_is_loaded_while_the_reader_is_in_this_one() {
    let rig = rig(MIB, 128 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 16)], LONG).await;
    rig.cache.read(&object, of(), 0, Age::CatchUp).await.unwrap();
    rig.cache.read(&object, of(), 1, Age::CatchUp).await.unwrap();
    assert_eq!(rig.bucket.gets(), 3);
    rig.bucket.hold_gets(true);
    // In the middle of the second run, which is there.
    rig.cache.read(&object, of(), 2, Age::CatchUp).await.unwrap();
    rig.bucket.gets_made(4).await;
    let mut next = pin!(rig.cache.read(&object, of(), 3, Age::CatchUp));
    must_wait(next.as_mut());
    // It has come to the first chunk of a run that is on its way, and the one behind is begun.
    rig.bucket.gets_made(5).await;
    rig.bucket.hold_gets(false);
    next.await.unwrap().unwrap();
    assert_eq!(rig.bucket.gets(), 5);
}

#[tokio::test]
async fn a_section_of_a_pack_is_one_get_for_who_begins_it() {
    let rig = rig(MIB, 64 * MIB, 4);
    let sections = [long(partition(0, 0), 0, 2), long(of(), 0, 5), long(partition(2, 0), 0, 1)];
    let (object, _) = rig.stored(1, &sections, LONG).await;
    scan(&rig, &object, 0, Age::CatchUp).await;
    let one = sections[0].batches[0].len();
    assert_eq!(rig.chunk_gets(0, &object), [5 * one]);
}

#[tokio::test]
async fn a_scan_takes_nothing_from_the_readers_of_young_data() {
    let rig = rig(16 * MIB, 8 * MIB, 4);
    let (young, _) = rig.stored(1, &[long(of(), 100, 5)], LONG).await;
    let (old, _) = rig.stored(2, &[long(of(), 0, 40)], LONG).await;
    scan(&rig, &young, 100, Age::Hot).await;
    let before = rig.bucket.gets();
    scan(&rig, &old, 0, Age::CatchUp).await;
    assert!(rig.bucket.gets() > before);
    let before = rig.bucket.gets();
    scan(&rig, &young, 100, Age::Hot).await;
    assert_eq!(rig.bucket.gets(), before, "all of it is still there");
    assert!(rig.counted(r#"evictions_total{cache="hot"} 0"#));
    assert!(!rig.counted(r#"evictions_total{cache="catch_up"} 0"#));
    assert!(rig.catch_up.used() <= 8 * MIB);
}

#[tokio::test]
async fn what_readers_hold_is_charged_until_they_let_go() {
    let rig = rig(MIB, 8 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 16)], LONG).await;
    let held = rig.cache.read(&object, of(), 0, Age::CatchUp).await.unwrap().unwrap().batches;
    let slice = held.slice(100..200);
    let bytes = held.len();
    drop(held);
    for offset in 1..16 {
        rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap();
    }
    assert!(rig.counted(&format!(r#"pinned_bytes{{cache="catch_up"}} {bytes}"#)));
    let used = rig.catch_up.used();
    drop(slice);
    assert_eq!(rig.catch_up.used(), used - bytes);
    assert!(rig.counted(r#"pinned_bytes{cache="catch_up"} 0"#));
}

#[tokio::test]
async fn a_reader_that_lets_nothing_go_keeps_nobody_from_loading() {
    let rig = rig(MIB, 8 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 12)], LONG).await;
    let mut held = Vec::new();
    for offset in 0..6 {
        held.push(rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap());
    }
    // Two more fit at a time, whatever was kept before; with those held one has to wait.
    rig.cache.read(&object, of(), 6, Age::CatchUp).await.unwrap().unwrap();
    rig.cache.read(&object, of(), 7, Age::CatchUp).await.unwrap().unwrap();
    for offset in 8..10 {
        held.push(rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap());
    }
    let mut waits = pin!(rig.cache.read(&object, of(), 10, Age::CatchUp));
    must_wait(waits.as_mut());
    let before = rig.bucket.gets();
    // Long done if it could be.
    rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap().unwrap();
    must_wait(waits.as_mut());
    assert!(rig.bucket.gets() <= before + 1);
    held.truncate(5);
    waits.await.unwrap().unwrap();
}

#[tokio::test]
async fn readers_that_catch_up_load_no_more_at_once_than_they_may() {
    let rig = rig(16 * MIB, 64 * MIB, 2);
    let (object, _) = rig.stored(1, &[long(of(), 0, 9)], LONG).await;
    rig.cache.footer(&object).await.unwrap();
    rig.bucket.hold_gets(true);
    let reads = [0, 3, 6].map(|offset| rig.cache.read(&object, of(), offset, Age::CatchUp));
    let mut reads = pin!(futures_util::future::join_all(reads));
    must_wait(reads.as_mut());
    rig.bucket.gets_made(3).await;
    // One for young data comes after the third, and is not held up by it.
    let mut young = pin!(rig.cache.read(&object, of(), 8, Age::Hot));
    must_wait(young.as_mut());
    rig.bucket.gets_made(4).await;
    assert_eq!(rig.bucket.gets(), 4);
    rig.bucket.hold_gets(false);
    assert!(reads.await.into_iter().all(|read| read.unwrap().is_some()));
    young.await.unwrap().unwrap();
    assert_eq!(rig.bucket.gets(), 5);
}

#[tokio::test]
async fn what_answers_hold_is_charged_to_those_who_hold_it() {
    let rig = rig_with(MIB, 8 * MIB, 4, 64 * MIB);
    let (object, _) = rig.stored(1, &[long(of(), 0, 40)], LONG).await;
    let mut held = Vec::new();
    for offset in 0..40 {
        // Nobody waits, although all are held.
        held.push(rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap());
    }
    let one = held[0].batches.len();
    assert!(rig.readers.used() >= 32 * one && rig.readers.used().is_multiple_of(one));
    assert_eq!(rig.cache.stuck(), 0);
    held.truncate(5);
    assert_eq!(rig.readers.used(), 5 * one);
    drop(held);
    assert_eq!(rig.readers.used(), 0);
    assert!(rig.counted(r#"pinned_bytes{cache="catch_up"} 0"#));
}

#[tokio::test]
async fn what_loads_wait_for_is_told_when_the_readers_have_no_room_either() {
    let rig = rig_with(MIB, 8 * MIB, 4, MIB / 2);
    let (object, _) = rig.stored(1, &[long(of(), 0, 12)], LONG).await;
    let mut held = Vec::new();
    for offset in 0..8 {
        held.push(rig.cache.read(&object, of(), offset, Age::CatchUp).await.unwrap().unwrap());
    }
    let mut waits = pin!(rig.cache.read(&object, of(), 8, Age::CatchUp));
    must_wait(waits.as_mut());
    // Long done if it could be.
    rig.cache.read(&object, of(), 0, Age::Hot).await.unwrap().unwrap();
    must_wait(waits.as_mut());
    assert!(rig.cache.stuck() > 0);
    held.clear();
    waits.await.unwrap().unwrap();
    assert_eq!(rig.cache.stuck(), 0);
}

#[tokio::test]
async fn a_reader_that_never_waits_is_read_ahead_for() {
    let rig = rig(MIB, 128 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 16)], LONG).await;
    assert_eq!(rig.cache.at_hand(&object, of(), 0, Age::CatchUp), None);
    rig.cache.begin(&object, of(), 0, Age::CatchUp);
    rig.bucket.gets_made(2).await;
    rig.cache.read(&object, of(), 0, Age::CatchUp).await.unwrap();
    rig.cache.read(&object, of(), 1, Age::CatchUp).await.unwrap();
    assert_eq!(rig.bucket.gets(), 3);
    // In the middle of the second run.
    let found = rig.cache.at_hand(&object, of(), 2, Age::CatchUp).unwrap();
    assert_eq!(found.next_offset, 3);
    rig.bucket.gets_made(4).await;
    rig.cache.read(&object, of(), 3, Age::CatchUp).await.unwrap().unwrap();
    rig.bucket.gets_made(5).await;
    assert_eq!(rig.bucket.gets(), 5);
}

#[tokio::test]
async fn a_reader_near_the_end_of_an_object_finds_the_next_one_loaded() {
    let rig = rig(MIB, 128 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 3)], LONG).await;
    let (next, _) = rig.stored(2, &[long(of(), 3, 20)], LONG).await;
    let behind = || Some((next, Age::CatchUp));
    // Who read one chunk may not read on.
    rig.cache.read(&object, of(), 0, Age::CatchUp).await.unwrap();
    rig.cache.read_on(of(), 3, behind);
    rig.cache.read(&object, of(), 1, Age::CatchUp).await.unwrap();
    rig.cache.read_on(of(), 3, behind);
    assert_eq!(rig.bucket.gets(), 3);
    // In the last run.
    rig.cache.read(&object, of(), 2, Age::CatchUp).await.unwrap();
    rig.cache.read_on(of(), 3, || None);
    rig.cache.read_on(of(), 3, behind);
    rig.bucket.gets_made(5).await;
    // Once is enough.
    rig.cache.read_on(of(), 3, || panic!("it was seen to"));
    rig.cache.read(&next, of(), 3, Age::CatchUp).await.unwrap().unwrap();
    rig.bucket.gets_made(6).await;
    let one = long(of(), 0, 1).batches[0].len();
    assert_eq!(rig.chunk_gets(3, &next), [4 * one, 8 * one], "and its window went on to grow");
    assert!(rig.counted(r#"misses_total{cache="footers"} 2"#));
}

#[tokio::test]
async fn a_chunk_is_served_while_those_behind_it_are_on_their_way() {
    let rig = rig(MIB, 128 * MIB, 4);
    let log = long(of(), 0, 8);
    let (object, bytes) = rig.stored(1, std::slice::from_ref(&log), LONG).await;
    let footer = rig.cache.footer(&object).await.unwrap();
    let third = footer.chunk(2).unwrap().range();
    let mut damaged = bytes;
    damaged[third.start as usize + 100] ^= 1;
    rig.bucket.store().put(&object.id.key(), damaged.into()).await.unwrap();
    rig.cache.read(&object, of(), 0, Age::CatchUp).await.unwrap().unwrap();
    // What comes before the damage in a run is whole, and whoever waits for it does not hear of it.
    let found = rig.cache.read(&object, of(), 1, Age::CatchUp).await.unwrap().unwrap();
    assert_eq!(found.batches, log.batches[1]);
    let error = rig.cache.read(&object, of(), 2, Age::CatchUp).await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
    assert_eq!(rig.chunk_gets(0, &object)[1], 2 * log.batches[0].len());
}

#[tokio::test]
async fn two_runs_of_eight_mebibytes_fit_where_a_reader_has_them_to_spare() {
    let rig = rig(MIB, 32 * MIB, 4);
    let (object, _) = rig.stored(1, &[long(of(), 0, 48)], LONG).await;
    let bytes = scan(&rig, &object, 0, Age::CatchUp).await;
    let one = long(of(), 0, 1).batches[0].len();
    assert_eq!(bytes, 48 * one);
    let runs: Vec<usize> = rig.chunk_gets(0, &object).iter().map(|bytes| bytes / one).collect();
    assert_eq!(runs, [1, 2, 4, 8, 8, 8, 8, 8, 1]);
}

#[tokio::test]
async fn readers_at_the_end_hit_while_others_catch_up_with_ten_times_the_cache() {
    let rig = rig_with(16 * MIB, 8 * MIB, 4, 8 * MIB);
    let (young, _) = rig.stored(1, &[long(of(), 1_000, 5)], LONG).await;
    let (old, _) = rig.stored(2, &[long(of(), 0, 80)], LONG).await;
    scan(&rig, &young, 1_000, Age::Hot).await;
    let (mut reads, mut offset) = (0, 0);
    let misses = |rig: &Rig| {
        let text = rig.registry.encode();
        let line = text.lines().find(|line| line.contains(r#"misses_total{cache="hot"}"#)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = misses(&rig);
    while let Some(found) = rig.cache.read(&old, of(), offset, Age::CatchUp).await.unwrap() {
        offset = found.next_offset;
        for at in 1_000..1_005 {
            rig.cache.read(&young, of(), at, Age::Hot).await.unwrap().unwrap();
            reads += 1;
        }
    }
    assert_eq!(reads, 5 * 80);
    assert_eq!(misses(&rig), before, "all of them hit");
    assert!(rig.counted(r#"evictions_total{cache="hot"} 0"#));
}

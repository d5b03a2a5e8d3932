use proptest::prelude::*;

use super::*;
use crate::protocol::batch::BatchHeader;
use crate::protocol::record::Record;

/// A record of the log as the naive model keeps it: offset and timestamp.
type Kept = (i64, i64);

async fn append_all(broker: &Broker, batches: &[(Vec<i64>, Compression)]) -> Vec<Kept> {
    let partition = broker.partition(0);
    let mut log = Vec::new();
    for (timestamps, codec) in batches {
        let appended = broker.append(&partition, &timed(timestamps, 900, *codec)).await;
        log.extend((appended.base_offset..).zip(timestamps.iter().copied()));
        // Another partition's bytes lie between, so that there are several stretches.
        broker.append(&broker.partition(1), &batch(1, 40_000)).await;
    }
    broker.flush().await;
    log
}

fn batches() -> impl Strategy<Value = Vec<(Vec<i64>, Compression)>> {
    let codec = prop::sample::select(Compression::ALL.to_vec());
    prop::collection::vec((prop::collection::vec(-1..60i64, 1..6), codec), 1..25)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_look_up_by_time_finds_the_record_itself(
        batches in batches(), evict in 0..101usize, delete in 0..60usize,
    ) {
        run(async {
            let broker = Broker::new();
            let log = append_all(&broker, &batches).await;
            let partition = broker.partition(0);
            let lsns: Vec<_> = broker.wal_records().iter().map(|record| record.lsn).collect();
            partition.owner.evict(lsns[(lsns.len() - 1) * evict / 100]);
            let start = log.len() * delete / 100;
            broker.delete_records(&partition, start as i64).await;
            let kept = &log[start..];
            for timestamp in 0..62 {
                let found = offset_for_timestamp(&partition, timestamp, MOST).unwrap();
                let expected = kept.iter().find(|(_, at)| *at >= timestamp).copied();
                assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected);
                assert!(found.is_none_or(|found| found.leader_epoch == EPOCH));
            }
            let found = offset_of_max_timestamp(&partition, MOST).unwrap();
            let greatest = kept.iter().map(|(_, at)| *at).max().filter(|at| *at >= 0);
            let expected = greatest.and_then(|at| kept.iter().find(|kept| kept.1 == at).copied());
            assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected);
        });
    }

    #[test]
    fn a_load_visits_every_batch_once_in_order(batches in batches(), evict in 0..101usize) {
        run(async {
            let broker = Broker::new();
            let log = append_all(&broker, &batches).await;
            let partition = broker.partition(0);
            let lsns: Vec<_> = broker.wal_records().iter().map(|record| record.lsn).collect();
            partition.owner.evict(lsns[(lsns.len() - 1) * evict / 100]);
            let mut visited = Vec::new();
            let visit = |batch: &Batch, append_ms: i64| {
                assert!((1_000_000..2_000_000).contains(&append_ms), "{append_ms}");
                let payload = batch.payload(1 << 20).unwrap();
                let header = *batch.header();
                let kept = |record: Record<'_>| {
                    (header.offset_of(&record), header.timestamp_of(&record))
                };
                visited.extend(batch.records(&payload).map(|record| kept(record.unwrap())));
                Ok::<_, LogError>(())
            };
            let end = partition.load(0, log.len() as i64, visit).unwrap();
            assert_eq!(end, log.len() as i64);
            assert_eq!(visited, log);
        });
    }
}

#[tokio::test]
async fn a_stamped_batch_is_found_by_its_append_time() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for append_time_ms in [500, 700] {
        let sent = timed(&[1, 2, 3], 10, Compression::Lz4);
        let timestamp_type = TimestampType::LogAppendTime;
        let stamped =
            AppendRequest { append_time_ms, timestamp_type, ..request(&sent, &broker.clock) };
        broker.try_append(&partition, &stamped).await.unwrap();
    }
    broker.flush().await;
    let found = |timestamp| {
        let found = offset_for_timestamp(&partition, timestamp, MOST).unwrap();
        found.map(|found| (found.offset, found.timestamp))
    };
    assert_eq!(found(3), Some((0, 500)));
    assert_eq!(found(501), Some((3, 700)));
    assert_eq!(found(701), None);
    broker.delete_records(&partition, 2).await;
    assert_eq!(found(3), Some((2, 500)));
}

#[tokio::test]
async fn the_greatest_timestamp_of_deleted_records_does_not_count() {
    let broker = Broker::new();
    append_all(&broker, &[(vec![14, 0, 3], Compression::Zstd), (vec![2], Compression::None)]).await;
    let partition = broker.partition(0);
    broker.delete_records(&partition, 1).await;
    let found = offset_of_max_timestamp(&partition, MOST).unwrap();
    assert_eq!(found.map(|found| (found.offset, found.timestamp)), Some((2, 3)));
}

#[tokio::test]
async fn a_batch_that_cannot_be_decompressed_is_answered_by_its_header() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let sent = timed(&[10, 20, 30], 10, Compression::Gzip);
    let mut bytes = sent.bytes().to_vec();
    let end = bytes.len();
    bytes[70..end].fill(0xee);
    crate::protocol::batch::set_max_timestamp(&mut bytes, TimestampType::CreateTime, 40);
    let damaged = Batch::parse_one(bytes.into()).unwrap();
    broker.append(&partition, &damaged).await;
    broker.flush().await;
    let found = offset_for_timestamp(&partition, 15, MOST).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (2, 40));
    assert_eq!(offset_for_timestamp(&partition, 41, MOST).unwrap(), None);
}

#[tokio::test]
async fn a_look_up_that_needs_more_room_says_so_unless_there_is_no_more() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &timed(&[10, 20, 30], 900, Compression::Gzip)).await;
    broker.flush().await;
    let little = Room { bytes: 1_000, is_most: false, ..MOST };
    let found = offset_for_timestamp(&partition, 15, little);
    assert!(matches!(found, Err(LookupError::NeedsRoom { bytes: 1_000 })), "{found:?}");
    let found = offset_for_timestamp(&partition, 15, Room { is_most: true, ..little });
    assert_eq!(found.unwrap().unwrap().offset, 2, "what the header says");
    let found = offset_for_timestamp(&partition, 15, MOST);
    assert_eq!(found.unwrap().unwrap().offset, 1, "the record itself");
}

#[tokio::test]
async fn a_look_up_says_before_it_reads_more_than_there_is_room_for() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let small = broker.append(&partition, &timed(&[5], 100, Compression::None)).await;
    broker.append(&partition, &timed(&[9], 100_000, Compression::None)).await;
    let large = broker.append(&partition, &timed(&[10, 20, 30], 30_000, Compression::None)).await;
    broker.append(&partition, &timed(&[6], 100, Compression::None)).await;
    broker.flush().await;
    let little = Room { read: 80_000, ..MOST };
    let found = |timestamp, room| {
        let found = offset_for_timestamp(&partition, timestamp, room);
        found.map(|found| found.map(|found| found.offset))
    };
    assert!(matches!(found(15, little), Ok(Some(3))), "what is in memory is not read");
    partition.owner.evict(small.lsn);
    assert!(matches!(found(15, Room { read: 0, ..MOST }), Ok(Some(3))), "nor read for another");
    partition.owner.evict(large.lsn);
    let read = broker.metrics().disk_read_bytes.get();
    let needed = match found(15, little) {
        Err(LookupError::NeedsRead { bytes }) => bytes,
        other => panic!("{other:?}"),
    };
    assert!((90_000..91_000).contains(&needed), "{needed}");
    assert_eq!(broker.metrics().disk_read_bytes.get(), read);
    let best = offset_of_max_timestamp(&partition, little);
    assert!(matches!(best, Err(LookupError::NeedsRead { bytes }) if bytes == needed), "{best:?}");
    assert!(matches!(found(15, Room { read: needed, ..MOST }), Ok(Some(3))));
}

#[tokio::test]
async fn nothing_above_the_high_watermark_is_found() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    assert_eq!(offset_of_max_timestamp(&partition, MOST).unwrap(), None);
    broker.append(&partition, &timed(&[10], 10, Compression::None)).await;
    broker.flush().await;
    broker.disk.hold();
    broker.append(&partition, &timed(&[90], 10, Compression::None)).await;
    assert_eq!(offset_for_timestamp(&partition, 11, MOST).unwrap(), None);
    let found = offset_of_max_timestamp(&partition, MOST).unwrap();
    assert_eq!(found.map(|found| (found.offset, found.timestamp)), Some((0, 10)));
    broker.disk.release();
}

#[tokio::test]
async fn a_load_ends_with_the_visitors_error() {
    #[derive(Debug)]
    struct Stop;
    impl From<LogError> for Stop {
        fn from(_: LogError) -> Self {
            Stop
        }
    }
    let broker = Broker::new();
    append_all(&broker, &[(vec![1], Compression::None), (vec![2], Compression::None)]).await;
    let mut visited = Vec::new();
    let stopped = broker.partition(0).load(0, 2, |batch, _| {
        visited.push(BatchHeader::parse(batch.bytes()).unwrap().base_offset);
        Err(Stop)
    });
    assert!(matches!(stopped, Err(Stop)));
    assert_eq!(visited, [0]);
}

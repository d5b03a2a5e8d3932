use proptest::prelude::*;

use super::*;
use crate::protocol::batch::BatchHeader;

/// A batch of the log as the naive model keeps it.
#[derive(Clone, Debug)]
struct Kept {
    base_offset: i64,
    end_offset: i64,
    bytes: Bytes,
}

/// What a reader must get: whole batches from the one that holds the offset, as many as fit, the
/// first in any case.
fn naive(log: &[Kept], until: i64, offset: i64, max_bytes: usize) -> Vec<Bytes> {
    let mut taken: Vec<Bytes> = Vec::new();
    let mut room = max_bytes;
    for kept in log.iter().filter(|kept| kept.end_offset > offset && kept.base_offset < until) {
        if kept.bytes.len() > room && !taken.is_empty() {
            break;
        }
        room = room.saturating_sub(kept.bytes.len());
        taken.push(kept.bytes.clone());
    }
    taken
}

/// As the log holds it.
fn patched(sent: &Batch, base_offset: i64) -> Bytes {
    let mut bytes = sent.bytes().to_vec();
    crate::protocol::batch::patch_in_place(&mut bytes, base_offset, EPOCH);
    bytes.into()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn out_of_range(partition: &Arc<Partition>, offset: i64) -> OffsetOutOfRange {
    match partition.read(&from(offset, 1 << 20)) {
        Err(ReadError::OutOfRange(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Partition 0 appends this many records of this many bytes in all.
    Append(usize, usize),
    /// Another partition does.
    Other(usize),
    /// Everything up to this share of the log leaves memory.
    Evict(usize),
    /// Records below this share of the log are deleted.
    Delete(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![10..400usize, 2_000..6_000usize, 15_000..80_000usize];
    let step = prop_oneof![
        6 => (1..5usize, size.clone()).prop_map(|(records, size)| Step::Append(records, size)),
        2 => size.prop_map(Step::Other),
        2 => (0..101usize).prop_map(Step::Evict),
        1 => (0..60usize).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..50)
}

/// Plays the steps; everything is durable at the end.
async fn play(broker: &Broker, steps: &[Step]) -> (Arc<Partition>, Vec<Kept>) {
    let (partition, other) = (broker.partition(0), broker.partition(1));
    let (mut log, mut lsns): (Vec<Kept>, Vec<Lsn>) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Append(records, size) => {
                let sent = batch(*records, *size);
                let appended = broker.append(&partition, &sent).await;
                let (base_offset, end_offset) = (appended.base_offset, appended.last_offset + 1);
                log.push(Kept { base_offset, end_offset, bytes: patched(&sent, base_offset) });
                lsns.push(appended.lsn);
            }
            Step::Other(size) => {
                broker.append(&other, &batch(1, *size)).await;
            }
            Step::Evict(share) => {
                broker.flush().await;
                if let Some(lsn) = lsns.get(lsns.len() * share / 100) {
                    partition.owner.evict(*lsn);
                }
            }
            Step::Delete(share) => {
                broker.flush().await;
                let before = partition.offsets().high_watermark * *share as i64 / 100;
                broker.delete_records(&partition, before).await;
            }
        }
    }
    broker.flush().await;
    (partition, log)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The second read walks on from where the first ended, as a consumer does.
    #[test]
    fn any_range_is_the_concatenation_of_whole_batches(
        steps in steps(),
        reads in prop::collection::vec(
            (0..101i64, prop_oneof![1..500usize, 1_000..300_000usize]),
            1..8,
        ),
    ) {
        run(async {
            let broker = Broker::new();
            let (partition, log) = play(&broker, &steps).await;
            let offsets = partition.offsets();
            for (share, max_bytes) in reads {
                let width = offsets.high_watermark - offsets.log_start;
                let mut next = offsets.log_start + width * share / 100;
                while next < offsets.high_watermark {
                    let got = read(&partition, &from(next, max_bytes)).unwrap();
                    let all = naive(&log, offsets.high_watermark, next, max_bytes);
                    // Stretches on disk may end an answer early, never before its first batch.
                    assert!(!got.is_empty() && all.starts_with(&got), "from {next}");
                    let last = BatchHeader::parse(got.last().unwrap()).unwrap();
                    next = last.next_offset();
                }
            }
            let end = read(&partition, &from(offsets.high_watermark, 1_000)).unwrap();
            assert!(end.is_empty());
        });
    }
}

#[tokio::test]
async fn the_tail_answers_up_to_the_last_batch_that_fits() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..10 {
        broker.append(&partition, &batch(2, 1_000)).await;
    }
    broker.flush().await;
    let size = batch(2, 1_000).bytes().len();
    let count = |offset, max_bytes| read(&partition, &from(offset, max_bytes)).unwrap().len();
    assert_eq!(count(0, 3 * size), 3);
    assert_eq!(count(1, 3 * size + 1), 3);
    assert_eq!(count(0, 1), 1);
    assert_eq!(count(19, 1 << 20), 1);
    let strict = ReadRequest { at_least_one: false, ..from(0, 1) };
    assert!(read(&partition, &strict).unwrap().is_empty());
    partition.owner.evict(broker.stream.durable());
    assert!(read(&partition, &strict).unwrap().is_empty());
    assert_eq!(count(1, 1), 1);
}

#[tokio::test]
async fn nothing_above_the_high_watermark_is_shown() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &batch(2, 100)).await;
    broker.flush().await;
    broker.disk.hold();
    broker.append(&partition, &batch(3, 100)).await;
    let offsets = partition.offsets();
    assert_eq!((offsets.high_watermark, offsets.log_end), (2, 5));
    assert_eq!(read(&partition, &from(0, 1 << 20)).unwrap().len(), 1);
    assert!(read(&partition, &from(2, 1 << 20)).unwrap().is_empty());
    assert!(read(&partition, &from(5, 1 << 20)).unwrap().is_empty());
    let beyond = out_of_range(&partition, 6);
    assert_eq!((beyond.offset, beyond.offsets), (6, offsets));
    broker.disk.release();
    broker.flush().await;
    assert_eq!(read(&partition, &from(3, 1 << 20)).unwrap().len(), 1);
}

#[tokio::test]
async fn below_the_log_start_is_out_of_range() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..4 {
        broker.append(&partition, &batch(2, 5_000)).await;
    }
    broker.flush().await;
    assert_eq!(broker.delete_records(&partition, 5).await, 5);
    assert_eq!(broker.delete_records(&partition, 3).await, 5);
    let below = out_of_range(&partition, 4);
    assert_eq!(below.offsets.log_start, 5);
    // The batch that holds the log start is served whole.
    let got = read(&partition, &from(5, 1_000)).unwrap();
    assert_eq!(BatchHeader::parse(&got[0]).unwrap().base_offset, 4);
    assert_eq!(broker.delete_records(&partition, -1).await, 8);
    assert!(read(&partition, &from(8, 1_000)).unwrap().is_empty());
    assert_eq!(partition.size_bytes(), 0);
    let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
    let above = partition.delete_records(&mut admission, 9);
    assert_eq!(above, Err(LogStartError::OutOfRange { offset: 9, high_watermark: 8 }));
}

/// Issue 3: bytes read per byte served, for one partition.
#[tokio::test]
async fn a_partition_alone_reads_at_most_a_fifth_more_than_it_serves() {
    for size in [300, 3_000, 30_000] {
        let broker = Broker::with_files_of(4 << 20);
        let partition = broker.partition(0);
        // As under load, a group has more than one record.
        broker.disk.hold();
        for _ in 0..(900_000 / size) {
            broker.append(&partition, &batch(1, size)).await;
        }
        broker.disk.release();
        broker.flush().await;
        partition.owner.evict(broker.stream.durable());
        let end = partition.offsets().high_watermark;
        let mut next = 0;
        while next < end {
            let got = read(&partition, &from(next, 100_000)).unwrap();
            next = BatchHeader::parse(got.last().unwrap()).unwrap().next_offset();
        }
        let (served, passed) =
            (broker.metrics().disk_bytes.get(), broker.metrics().disk_read_bytes.get());
        assert_eq!(served, partition.size_bytes());
        assert!(passed * 10 <= served * 12, "{size}: {passed} read for {served}");
    }
}

/// A quiet partition beside a busy one: what lies between its batches is not read.
#[tokio::test]
async fn large_holes_are_not_read() {
    let broker = Broker::with_files_of(4 << 20);
    let (quiet, busy) = (broker.partition(0), broker.partition(1));
    for _ in 0..10 {
        broker.append(&quiet, &batch(1, 100)).await;
        broker.append(&busy, &batch(1, 320_000)).await;
    }
    broker.flush().await;
    quiet.owner.evict(broker.stream.durable());
    assert_eq!(quiet.lock().index.from(0, 10).count(), 1);
    let got = read(&quiet, &from(0, 1 << 20)).unwrap();
    assert_eq!(got.len(), 10);
    let (served, passed) =
        (broker.metrics().disk_bytes.get(), broker.metrics().disk_read_bytes.get());
    assert!(passed < 2 * served, "{passed} read for {served}");
    // They are small and were found among much else.
    assert_eq!(broker.metrics().fetch_copied_bytes.get(), served);
    let mut loaded = 0;
    let count = |_: &Batch, _| {
        loaded += 1;
        Ok::<_, LogError>(())
    };
    quiet.load(0, i64::MAX, count).unwrap();
    assert_eq!(loaded, 10);
}

/// What lies between the batches is in memory too while they are looked for.
#[tokio::test]
async fn a_read_is_charged_for_what_lies_between() {
    let broker = Broker::with_files_of(4 << 20);
    let (quiet, busy) = (broker.partition(0), broker.partition(1));
    for _ in 0..16 {
        broker.append(&quiet, &batch(1, 100)).await;
        broker.append(&busy, &batch(1, 200_000)).await;
    }
    broker.flush().await;
    for partition in [&quiet, &busy] {
        partition.owner.evict(broker.stream.durable());
    }
    let cut = |partition: &Arc<Partition>, request: &ReadRequest| match partition.read(request) {
        Ok(Plan::NeedsDisk(disk)) => (disk.file_bytes(), disk.memory()),
        plan => panic!("a stretch must be cut: {plan:?}"),
    };
    let (read, memory) = cut(&quiet, &from(3, 1 << 20));
    assert!((3_000_000..3_200_000).contains(&read), "{read} bytes are read");
    assert!((1 << 20..3 << 20).contains(&memory.meanwhile), "{memory:?}");
    assert!((1_600..4_096).contains(&memory.after), "{memory:?}: its batches are copied");
    let (read, memory) = cut(&busy, &from(3, 1));
    assert!((200_000..210_000).contains(&read), "{read} bytes are read");
    // Its batch is a part of what is read.
    assert_eq!((memory.meanwhile, memory.after), (read, read));

    // What is left for later is charged alike.
    let Plan::Done(plan) = quiet.read(&from(0, 1 << 20)).unwrap() else {
        panic!("nothing has to be cut");
    };
    let [ReadPiece::Later(later)] = &plan.pieces[..] else { panic!("it is one stretch") };
    assert!((1 << 20..3 << 20).contains(&later.memory().meanwhile), "{:?}", later.memory());
    assert_eq!(later.memory().after, later.len());
}

/// A catch-up reader's answer is a few file reads whose lengths are known before.
#[tokio::test]
async fn whole_stretches_are_left_for_later() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..60 {
        broker.append(&partition, &batch(1, 16_000)).await;
    }
    broker.flush().await;
    partition.owner.evict(broker.stream.durable());
    let Plan::Done(plan) = partition.read(&from(0, 1 << 20)).unwrap() else {
        panic!("nothing has to be cut");
    };
    assert!(plan.pieces.iter().all(|piece| matches!(piece, ReadPiece::Later(_))));
    assert!(plan.pieces.len() <= 8, "{} reads", plan.pieces.len());
    assert_eq!(broker.metrics().disk_read_bytes.get(), 0);
}

/// Plans a read of everything, of which about 100 KB may be at hand.
fn plan_with_little_at_hand(partition: &Arc<Partition>) -> Vec<ReadPiece> {
    let request = ReadRequest { at_hand_bytes: 100_000, ..from(0, 16 << 20) };
    let Plan::Done(plan) = partition.read(&request).unwrap() else {
        panic!("nothing has to be cut");
    };
    assert_eq!(plan.bytes, plan.pieces.iter().map(ReadPiece::len).sum::<usize>());
    plan.pieces
}

#[tokio::test]
async fn what_is_in_memory_beyond_a_little_is_left_for_later() {
    const COUNT: usize = 24;
    // Nothing evicted meanwhile; up to the middle of a piece; everything.
    for evicted in [0, 9, COUNT] {
        let broker = Broker::new();
        let partition = broker.partition(0);
        for size in [30_000, 300, 200_000, 5_000].into_iter().cycle().take(COUNT) {
            broker.append(&partition, &batch(3, size)).await;
        }
        broker.flush().await;
        let sent: Vec<Bytes> =
            partition.lock().tail.iter().map(|chunk| chunk.bytes.clone()).collect();
        let pieces = plan_with_little_at_hand(&partition);
        let at_hand = |piece: &&ReadPiece| matches!(piece, ReadPiece::Ready(_));
        let held: usize = pieces.iter().filter(at_hand).map(ReadPiece::len).sum();
        assert!(held > 0 && held <= 100_000, "{held} bytes are at hand");
        if let Some(last) = evicted.checked_sub(1) {
            let lsn = partition.lock().tail[last].lsn;
            partition.owner.evict(lsn);
        }
        let (mut got, mut from_memory) = (Vec::new(), 0);
        for piece in pieces {
            assert!(piece.len() <= 256 << 10, "{} bytes at once", piece.len());
            match piece {
                ReadPiece::Ready(bytes) => got.push(bytes),
                ReadPiece::Later(later) => {
                    let batches = later.in_memory();
                    from_memory += usize::from(batches.is_some());
                    got.extend(batches.unwrap_or_else(|| later.read().unwrap()));
                }
            }
        }
        assert!(got == sent, "{evicted} evicted");
        assert_eq!(from_memory > 0, evicted < COUNT, "{from_memory} pieces came from memory");
    }
}

#[tokio::test]
async fn what_was_left_for_later_and_is_gone_is_an_error() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..8 {
        broker.append(&partition, &batch(1, 90_000)).await;
    }
    broker.flush().await;
    let pieces = plan_with_little_at_hand(&partition);
    broker.delete_records(&partition, -1).await;
    assert_eq!(partition.offsets().log_start, 8);
    let ReadPiece::Later(later) = pieces.last().unwrap() else { panic!("it is not at hand") };
    assert!(later.in_memory().is_some(), "the memory is still there");
    partition.owner.evict(broker.stream.durable());
    assert!(later.in_memory().is_none());
    assert!(matches!(later.read().unwrap_err(), LogError::Missing { .. }));
}

#[tokio::test]
async fn damaged_bytes_are_not_served() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.append(&partition, &batch(1, 1_000)).await;
    broker.flush().await;
    partition.owner.evict(broker.stream.durable());
    let location = broker.wal_records().remove(0).location;
    for name in broker.disk.list().unwrap() {
        broker.disk.flip_bit(&name, location.position + 500, 3);
    }
    let refused = read(&partition, &from(0, 1_000)).unwrap_err();
    assert!(matches!(refused, ReadError::Log(LogError::Wal(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn retention_takes_whole_stretches_by_time_and_by_size() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for timestamp in [100, 300, 200, -1, 900] {
        let sent = timed(&[timestamp], 70_000, Compression::None);
        broker.append(&partition, &sent).await;
    }
    broker.flush().await;
    let by_time = |now_ms, limit| {
        let limits = RetentionLimits { retention_ms: Some(limit), retention_bytes: None };
        partition.retention_candidate(now_ms, limits)
    };
    assert_eq!(by_time(1_000, 900), None);
    assert_eq!(by_time(1_000, 899), Some(1));
    // The second is younger than the third, and keeps it.
    assert_eq!(by_time(1_000, 750), Some(1));
    // The fourth has no timestamp and ages from its append, whatever the wall clock says.
    assert_eq!(by_time(1_000, 600), Some(3));
    assert_eq!(by_time(90_000_000_000_000, 600), Some(3));
    broker.clock.sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(by_time(90_000_000_000_000, 600), Some(3));
    broker.clock.sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(by_time(90_000_000_000_000, 600), Some(5));
    let by_size = |limit| {
        let limits = RetentionLimits { retention_ms: None, retention_bytes: Some(limit) };
        partition.retention_candidate(1_000, limits)
    };
    let one = partition.size_bytes() / 5;
    assert_eq!(by_size(5 * one), None);
    assert_eq!(by_size(4 * one + 1), None);
    assert_eq!(by_size(4 * one), Some(1));
    assert_eq!(by_size(0), Some(5));
    let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
    let (start, lsn) = partition.retain_from(&mut admission, 3).unwrap();
    broker.stream.wait_durable(lsn).await.unwrap();
    assert_eq!((start, partition.offsets().log_start), (3, 3));
    assert_eq!(by_time(1_000, 700), None);
}

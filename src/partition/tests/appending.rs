use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::protocol::batch::BatchHeader;

#[tokio::test]
async fn offsets_follow_and_epoch_and_bytes_are_patched() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let first = broker.append(&partition, &batch(3, 300)).await;
    let second = broker.append(&partition, &batch(2, 100)).await;
    assert_eq!((first.base_offset, first.last_offset), (0, 2));
    assert_eq!((second.base_offset, second.last_offset), (3, 4));
    assert!(first.lsn < second.lsn && !second.duplicate);
    assert_eq!((second.log_append_time, second.log_start_offset), (-1, 0));
    broker.flush().await;
    let bytes = read(&partition, &from(0, 1 << 20)).unwrap().concat();
    for (stored, sent) in BatchIter::new(bytes.into()).zip([batch(3, 300), batch(2, 100)]) {
        let stored = stored.unwrap();
        stored.verify_crc().unwrap();
        assert_eq!(stored.header().partition_leader_epoch, EPOCH);
        assert_eq!(stored.bytes().slice(16..), sent.bytes().slice(16..));
    }
}

#[tokio::test]
async fn log_append_time_is_stamped_and_answered() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let sent = sequenced(9, 0, 0);
    let stamped = AppendRequest {
        timestamp_type: TimestampType::LogAppendTime,
        append_time_ms: 77_000,
        ..request(&sent, &broker.clock)
    };
    let appended = broker.try_append(&partition, &stamped).await.unwrap();
    assert_eq!(appended.log_append_time, 77_000);
    broker.flush().await;
    let stored = read(&partition, &from(0, 1 << 20)).unwrap().concat();
    let stored = Batch::parse_one(stored.into()).unwrap();
    stored.verify_crc().unwrap();
    assert_eq!(stored.header().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(stored.header().max_timestamp, 77_000);
    let later = AppendRequest { append_time_ms: 99_000, ..stamped };
    let again = broker.try_append(&partition, &later).await.unwrap();
    assert_eq!((again.duplicate, again.log_append_time, again.base_offset), (true, 77_000, 0));
}

#[tokio::test]
async fn a_wrong_max_timestamp_is_corrected() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    let sent = batch(2, 100);
    let found = AppendRequest { max_timestamp: 4, ..request(&sent, &broker.clock) };
    broker.try_append(&partition, &found).await.unwrap();
    broker.flush().await;
    let stored = read(&partition, &from(0, 1 << 20)).unwrap().concat();
    let stored = Batch::parse_one(stored.into()).unwrap();
    stored.verify_crc().unwrap();
    assert_eq!(stored.header().max_timestamp, 4);
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_original_and_its_lsn() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.disk.hold();
    let original = broker.append(&partition, &sequenced(9, 0, 0)).await;
    broker.append(&partition, &sequenced(9, 0, 1)).await;
    let again = broker.append(&partition, &sequenced(9, 0, 0)).await;
    assert_eq!(again, Appended { duplicate: true, ..original });
    assert!(broker.stream.durable() < again.lsn);
    assert_eq!(partition.offsets().log_end, 2);
    assert_eq!(broker.metrics().duplicates.get(), 1);
    broker.disk.release();
    broker.stream.wait_durable(again.lsn).await.unwrap();
}

#[tokio::test]
async fn refusals_change_nothing() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for sequence in 0..7 {
        broker.append(&partition, &sequenced(9, 3, sequence)).await;
    }
    let before = (partition.offsets().log_end, broker.stream.reserved());
    let refused = async |batch: Batch, max_message_bytes, leader_epoch| {
        let request =
            AppendRequest { max_message_bytes, leader_epoch, ..request(&batch, &broker.clock) };
        broker.try_append(&partition, &request).await.unwrap_err()
    };
    assert_eq!(
        refused(sequenced(9, 3, 9), 1 << 20, None).await,
        AppendError::OutOfOrderSequence { producer_id: 9, expected: 7, got: 9 }
    );
    assert_eq!(
        refused(sequenced(9, 2, 7), 1 << 20, None).await,
        AppendError::InvalidProducerEpoch { producer_id: 9, current: 3, got: 2 }
    );
    assert!(matches!(
        refused(sequenced(9, 3, 1), 1 << 20, None).await,
        AppendError::DuplicateSequence { producer_id: 9, sequence: 1, .. }
    ));
    let bytes = batch(1, 1_000).bytes().len();
    assert_eq!(
        refused(batch(1, 1_000), 500, None).await,
        AppendError::MessageTooLarge { bytes, limit: 500 }
    );
    assert!(matches!(
        refused(batch(1, 300 << 10), 1 << 20, None).await,
        AppendError::MessageTooLarge { .. }
    ));
    assert_eq!(
        refused(batch(1, 10), 500, Some(4)).await,
        AppendError::LeaderEpoch { expected: 4, current: EPOCH }
    );
    partition.close();
    assert_eq!(refused(batch(1, 10), 500, None).await, AppendError::Closed);
    assert_eq!((partition.offsets().log_end, broker.stream.reserved()), before);
}

#[tokio::test(start_paused = true)]
async fn an_append_without_room_changes_nothing_and_succeeds_later() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.disk.set_capacity(broker.disk.used());
    let sent = batch(1, 100_000);
    let mut refused = 0;
    let mut appended = 0;
    while refused == 0 {
        let mut admission = broker.stream.admit(record::data_len(101_000)).await.unwrap();
        match partition.append(&mut admission, &request(&sent, &broker.clock)) {
            Ok(_) => appended += 1,
            Err(error) => {
                assert_eq!(error, AppendError::NoRoom);
                refused += 1;
            }
        }
    }
    assert_eq!(partition.offsets().log_end, appended);
    broker.disk.set_capacity(u64::MAX / 4);
    // The first wait may still report the full disk.
    let len = record::data_len(sent.bytes().len());
    while broker.stream.wait_for_room(Class::Data, len).await.is_err() {
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
    }
    assert_eq!(broker.append(&partition, &sent).await.base_offset, appended);
}

#[tokio::test]
async fn a_poisoned_log_takes_nothing() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    broker.disk.fail_syncs();
    let lost = broker.append(&partition, &batch(1, 10)).await;
    assert!(broker.stream.wait_durable(lost.lsn).await.is_err());
    let mut admission = crate::wal::Admission::none();
    let sent = batch(1, 10);
    let refused = partition.append(&mut admission, &request(&sent, &broker.clock));
    assert_eq!(refused, Err(AppendError::Poisoned));
    assert_eq!(partition.offsets().high_watermark, 0);
}

/// Issue 3: one user-space copy per produced byte, none per fetched byte.
#[tokio::test]
async fn a_produced_byte_is_copied_once_and_a_fetched_one_never() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    for _ in 0..4 {
        broker.append(&partition, &batch(1, 16 << 10)).await;
    }
    broker.flush().await;
    let metrics = broker.metrics();
    assert_eq!(metrics.copied_bytes.get(), metrics.appended_bytes.get());
    let [one, two] = [0, 0].map(|_| read(&partition, &from(0, 1 << 20)).unwrap());
    assert_eq!(one.len(), 4);
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one.as_ptr(), two.as_ptr());
    }
    assert_eq!(metrics.copied_bytes.get(), metrics.appended_bytes.get());
    assert_eq!(metrics.tail_bytes.get(), 2 * metrics.appended_bytes.get());
    assert_eq!(metrics.disk_read_bytes.get(), 0);
}

/// The WAL may sync a group whose earlier batch its appender has not yet handed to the partition.
#[tokio::test]
async fn the_high_watermark_waits_for_a_batch_that_is_being_copied() {
    let broker = Broker::new();
    let partition = broker.partition(0);
    // Else the log's own thread may sync the batches before the first one is taken back.
    broker.disk.hold();
    let first = broker.append(&partition, &batch(1, 100)).await;
    let second = broker.append(&partition, &batch(1, 100)).await;
    let bytes = {
        let mut state = partition.lock();
        let bytes = std::mem::take(&mut state.tail[0].bytes);
        state.unfill(first.lsn);
        bytes
    };
    broker.disk.release();
    broker.flush().await;
    assert_eq!(partition.offsets().high_watermark, 0);
    let mut visible = Box::pin(partition.visible(&second));
    assert!((&mut visible).now_or_never().is_none());
    partition.lock().filled(first.lsn, bytes);
    partition.wake_waiters(broker.stream.durable());
    visible.await;
    assert_eq!(partition.offsets().high_watermark, 2);
    assert_eq!(read(&partition, &from(0, 1 << 20)).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_appends_keep_offsets_in_lsn_order() {
    let broker = Arc::new(Broker::new());
    let partition = broker.partition(0);
    let appender = |task: usize| {
        let (broker, partition) = (Arc::clone(&broker), Arc::clone(&partition));
        crate::task::spawn("appender", async move {
            let mut all = Vec::new();
            for at in 0..50 {
                let batch = batch(1 + (task + at) % 3, 50 + 997 * ((task * at) % 5));
                all.push(broker.append(&partition, &batch).await);
            }
            all
        })
    };
    let tasks: Vec<_> = (0..4).map(appender).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    broker.flush().await;
    all.sort_by_key(|appended| appended.lsn);
    let mut next = 0;
    for appended in &all {
        assert_eq!(appended.base_offset, next);
        next = appended.last_offset + 1;
    }
    assert_eq!(partition.offsets().high_watermark, next);
    let stored = read(&partition, &from(0, 8 << 20)).unwrap().concat();
    let headers = BatchIter::new(stored.into()).map(|batch| *batch.unwrap().header());
    let ends: Vec<_> = headers.map(|header: BatchHeader| header.last_offset()).collect();
    assert_eq!(ends, all.iter().map(|appended| appended.last_offset).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn an_epoch_ends_where_its_successor_has_its_first_batch(
        steps in prop::collection::vec((0..3i32, 1..4usize), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = Broker::new();
            let partition = broker.partition(0);
            let (mut epoch, mut batches) = (EPOCH, Vec::new());
            for (rise, records) in steps {
                epoch += rise;
                partition.set_leader_epoch(epoch);
                let appended = broker.append(&partition, &batch(records, 50)).await;
                batches.push((epoch, appended.base_offset));
            }
            broker.flush().await;
            let end = partition.offsets().high_watermark;
            for asked in EPOCH..=epoch {
                let known = batches.iter().map(|(e, _)| *e).filter(|e| *e <= asked).max();
                let next = batches.iter().find(|(e, _)| *e > asked);
                let expected = (known.unwrap_or(asked), next.map_or(end, |(_, offset)| *offset));
                assert_eq!(partition.epoch_end_offset(asked), Some(expected));
            }
            assert_eq!(partition.epoch_end_offset(epoch + 1), None);
        });
    }
}

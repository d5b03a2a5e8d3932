//! Histories of a broker against models that forget nothing: whatever is produced, brought into the
//! bucket, merged, compacted, deleted, forgotten here and restarted, in any order, a reader finds
//! what was written, byte for byte, or of a compacted log the records that count.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::broker::NewTopic;
use crate::broker::tiering::clean::CleanerState;
use crate::protocol::compression::Compression;

/// Two partitions of a plain topic, and one of a compacted topic.
const LOGS: usize = 3;
const PLAIN: usize = 2;

/// More than any history has.
const ROUNDS_MAX: usize = 10_000;

#[derive(Debug, Clone)]
enum Step {
    Produce {
        at: usize,
        keys: Vec<u8>,
        size: usize,
        codec: Compression,
    },
    /// What waits of these goes out as one object.
    Flush {
        of: [bool; LOGS],
    },
    /// Some neighbouring sections become one.
    Merge {
        at: usize,
        first: usize,
        count: usize,
    },
    Compact,
    /// The log starts at so many hundredths of it.
    Delete {
        at: usize,
        share: i64,
    },
    /// The bucket has everything, and this machine nothing.
    Forget,
    Restart,
    Fetch {
        at: usize,
        share: i64,
        max_bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let codecs = prop_oneof![Just(Compression::None), Just(Compression::Lz4)];
    let keys = prop::collection::vec(0..6_u8, 1..6);
    let produce = (0..LOGS, keys, 1..20_000_usize, codecs);
    prop_oneof![
        8 => produce.prop_map(|(at, keys, size, codec)| Step::Produce { at, keys, size, codec }),
        3 => any::<[bool; LOGS]>().prop_map(|of| Step::Flush { of }),
        2 => (0..LOGS, 0..6_usize, 2..4_usize)
            .prop_map(|(at, first, count)| Step::Merge { at, first, count }),
        2 => Just(Step::Compact),
        1 => (0..PLAIN, 0..101_i64).prop_map(|(at, share)| Step::Delete { at, share }),
        1 => Just(Step::Forget),
        1 => Just(Step::Restart),
        6 => (0..LOGS, 0..100_i64, 1..60_000_usize)
            .prop_map(|(at, share, max_bytes)| Step::Fetch { at, share, max_bytes }),
    ]
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// What was written to a log, and is not deleted.
#[derive(Debug, Default)]
struct Known {
    log_start: i64,
    end: i64,
    batches: Vec<Bytes>,
    /// Key and value by offset.
    records: BTreeMap<i64, Pair>,
}

impl Known {
    /// The batches that end behind `offset`.
    fn from(&self, offset: i64) -> impl Iterator<Item = &Bytes> {
        self.batches.iter().filter(move |batch| header(batch).last_offset() >= offset)
    }

    /// The offset of the last record of each key.
    fn last(&self) -> BTreeMap<&[u8], i64> {
        self.records.iter().map(|(offset, (key, _))| (&key[..], *offset)).collect()
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

fn partition(broker: &Broker, at: usize) -> Arc<Partition> {
    let (topic, index) = if at < PLAIN { ("plain", at) } else { ("compacted", 0) };
    broker.partition_of(topic, index as i32)
}

async fn create(broker: &Broker) {
    broker.topic("plain", PLAIN as i32).await;
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    let topic = NewTopic {
        partitions: 1,
        configs: configs.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        ..broker.default_topic("compacted")
    };
    broker.create_topics(vec![topic]).await.remove(0).unwrap();
}

async fn produce(broker: &Broker, at: usize, keys: &[u8], batch: Batch, known: &mut Known) {
    let partition = partition(broker, at);
    let appended = broker.append(&partition, &batch).await;
    assert_eq!(appended.base_offset, known.end);
    let mut bytes = batch.bytes().to_vec();
    let epoch = partition.leader_epoch();
    crate::protocol::batch::patch_in_place(&mut bytes, appended.base_offset, epoch);
    let batch = Batch::parse_one(bytes.into()).unwrap();
    known.records.extend(records(&batch));
    known.end += keys.len() as i64;
    known.batches.push(batch.bytes().clone());
}

/// The records of a batch.
fn records(batch: &Batch) -> Vec<(i64, Pair)> {
    let payload = batch.payload(1 << 20).unwrap();
    let records = batch.records(&payload).map(Result::unwrap);
    records
        .map(|record| {
            let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
            (batch.header().offset_of(&record), (key, value))
        })
        .collect()
}

async fn play(bench: &Bench, broker: Arc<Broker>, step: &Step, logs: &mut [Known]) -> Arc<Broker> {
    let now_ms = broker.stream.log_clock().now_ms();
    match step {
        Step::Produce { at, keys, size, codec } => {
            let mut builder = BatchBuilder::new();
            for (place, key) in keys.iter().enumerate() {
                let value = vec![(logs[*at].end as usize + place) as u8; size / keys.len()];
                builder.append(1_000, Some(&[*key]), Some(&value), &[]);
            }
            let batch = Batch::parse_one(builder.build_compressed(*codec)).unwrap();
            produce(&broker, *at, keys, batch, &mut logs[*at]).await;
        }
        Step::Flush { of } => {
            let wanted: Vec<_> =
                (0..LOGS).filter(|at| of[*at]).map(|at| partition(&broker, at).id()).collect();
            let mut waiting = waiting(&broker);
            waiting.retain(|it| wanted.contains(&it.partition.id()));
            if !waiting.is_empty() {
                broker.flush(waiting, now_ms).await.unwrap();
            }
        }
        Step::Merge { at, first, count } => {
            let partition = partition(&broker, *at);
            let refs: Vec<_> =
                partition.tier_refs().into_iter().skip(*first).take(*count).collect();
            if refs.len() > 1 && refs.iter().all(|tier| tier.kind != TierKind::Compacted) {
                assert!(broker.merge(&partition, &refs, now_ms).await.unwrap());
            }
        }
        Step::Compact => broker.clean_all(&mut CleanerState::default()).await,
        Step::Delete { at, share } => {
            let (partition, known) = (partition(&broker, *at), &mut logs[*at]);
            let before = known.log_start + (known.end - known.log_start) * share / 100;
            let mut admission = broker.stream.admit(record::LOG_START_LEN).await.unwrap();
            let (start, lsn) = partition.delete_records(&mut admission, before).unwrap();
            broker.stream.wait_durable(lsn).await.unwrap();
            assert_eq!(start, before);
            known.log_start = start;
        }
        Step::Forget => {
            let waiting = waiting(&broker);
            if !waiting.is_empty() {
                broker.flush(waiting, now_ms).await.unwrap();
            }
            broker.partitions.forget_files(FileNumber(u64::MAX));
        }
        Step::Restart => {
            broker.kill().await;
            return bench.start().await;
        }
        Step::Fetch { at, share, max_bytes } => {
            let known = &logs[*at];
            let offset = known.log_start + (known.end - known.log_start) * share / 100;
            fetch(&broker, *at, offset, *max_bytes, known).await;
        }
    }
    broker
}

/// One answer, held against the model: where to read on.
async fn fetch(broker: &Broker, at: usize, offset: i64, max_bytes: usize, known: &Known) -> i64 {
    let request = ReadRequest {
        offset,
        max_bytes,
        isolation: Isolation::ReadCommitted,
        at_least_one: true,
        at_hand_bytes: 1 << 20,
    };
    let plan = follow(broker, partition(broker, at).read(&request).unwrap()).await;
    assert_eq!((plan.offsets.log_start, plan.offsets.log_end), (known.log_start, known.end));
    let mut found = Vec::new();
    for piece in plan.pieces {
        let pieces = match piece {
            ReadPiece::Ready(bytes) => vec![bytes],
            ReadPiece::Later(later) => later.read().unwrap(),
        };
        for mut rest in pieces {
            while !rest.is_empty() {
                found.push(rest.split_to(header(&rest).size()));
            }
        }
    }
    let bytes: usize = found.iter().map(Bytes::len).sum();
    assert!(found.len() <= 1 || bytes <= max_bytes, "{bytes} bytes of {max_bytes}");
    let next = found.last().map_or(offset, |batch| header(batch).next_offset());
    if at < PLAIN {
        assert!(known.from(offset).take(found.len()).eq(found.iter()), "{at} from {offset}");
    } else {
        check_compacted(&found, offset, next, known);
    }
    assert!(next > offset || offset == known.end || at >= PLAIN, "{at} from {offset}");
    next
}

/// Every record is one that was written, in order, and none is missing that is the last of its key.
fn check_compacted(found: &[Bytes], offset: i64, next: i64, known: &Known) {
    let mut seen = Vec::new();
    for batch in found {
        let batch = Batch::parse_one(batch.clone()).unwrap();
        batch.verify_crc().unwrap();
        for (at, record) in records(&batch) {
            assert_eq!(known.records.get(&at), Some(&record), "the record at {at}");
            assert!(seen.last().is_none_or(|last| *last < at), "{at} after {seen:?}");
            seen.push(at);
        }
    }
    let mut needed = known.last().into_values().filter(|at| (offset..next).contains(at));
    assert!(needed.all(|at| seen.contains(&at)), "from {offset} to {next}: {seen:?}");
}

async fn read_to_the_end(broker: &Broker, logs: &[Known]) {
    for (at, known) in logs.iter().enumerate() {
        let mut next = known.log_start;
        for _ in 0..ROUNDS_MAX {
            if next == known.end {
                break;
            }
            let behind = fetch(broker, at, next, 30_000, known).await;
            assert!(behind > next, "log {at} stops at {next} of {}", known.end);
            next = behind;
        }
        assert_eq!(next, known.end, "log {at}");
        // A log that starts within a batch, and one that is read from every offset.
        for offset in (known.log_start..known.end).step_by(7) {
            fetch(broker, at, offset, 1, known).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_finds_what_was_written_whatever_became_of_it(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let mut broker = bench.start().await;
            create(&broker).await;
            let mut logs: Vec<Known> = (0..LOGS).map(|_| Known::default()).collect();
            for step in &steps {
                broker = play(&bench, broker, step, &mut logs).await;
            }
            read_to_the_end(&broker, &logs).await;
            for step in [Step::Forget, Step::Compact, Step::Forget] {
                broker = play(&bench, broker, &step, &mut logs).await;
                read_to_the_end(&broker, &logs).await;
            }
            broker = play(&bench, broker, &Step::Restart, &mut logs).await;
            read_to_the_end(&broker, &logs).await;
            broker.stop().await;
        });
    }
}

//! Partitions over the WAL in memory.

mod appending;
mod finding;
mod reading;
mod replaying;
mod tiering;
mod waiting;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::budget::{Budget, Pool};
use crate::clock::{Clock, Random};
use crate::metrics::Registry;
use crate::protocol::batch::{Batch, BatchBuilder, BatchIter, ProducerRef, TimestampType};
use crate::protocol::compression::Compression;
use crate::protocol::types::TopicId;
use crate::wal::disk::Disk;
use crate::wal::local::{self, Env, OpenError, Opened, Options};
use crate::wal::memory::MemoryDisk;
use crate::wal::{Class, FileNumber};

const EPOCH: i32 = 5;
const MOST: Room = Room { read: usize::MAX, bytes: MAX_DECOMPRESSED_BYTES, is_most: true };

/// A WAL in memory and the partitions over it.
struct Broker {
    stream: Stream,
    disk: Arc<MemoryDisk>,
    clock: Clock,
    partitions: Partitions,
}

impl Broker {
    /// Files of 256 KiB, so that tests fill several.
    fn new() -> Self {
        Self::with_files_of(256 << 10)
    }

    fn with_files_of(file_bytes: u64) -> Self {
        let clock = Clock::manual(1_000_000);
        let disk = MemoryDisk::new();
        let stream = open(&disk, file_bytes, &clock).unwrap().stream;
        let partitions = Partitions::new(shared(&stream));
        Self { stream, disk, clock, partitions }
    }

    /// Stops and starts again over what the disk holds.
    async fn restart(self) -> Self {
        let Self { stream, disk, clock, partitions } = self;
        stream.close().await.unwrap();
        drop((stream, partitions));
        let opened = loop {
            // The log's threads hold the directory for a moment after they have ended.
            match open(&disk, 256 << 10, &clock) {
                Err(OpenError::Locked) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        };
        let partitions = Partitions::new(shared(&opened.stream));
        let mut replay = Replay::new(&partitions, |id| id == topic());
        for checkpoint in &opened.recovered.checkpoints {
            checkpoint.parts().for_each(|part| replay.load_part(&part.unwrap()).unwrap());
        }
        opened.recovered.replay.for_each(|entry| replay.apply(entry.unwrap().into()).unwrap());
        drop(replay);
        Self { stream: opened.stream, disk, clock, partitions }
    }

    fn partition(&self, partition: i32) -> Arc<Partition> {
        self.partitions.get_or_create(of(partition), EPOCH)
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.partitions.shared().metrics
    }

    /// Appends and waits for room where there is none, as the api does.
    async fn try_append(
        &self,
        partition: &Arc<Partition>,
        request: &AppendRequest<'_>,
    ) -> Result<Appended, AppendError> {
        let len = record::data_len(request.batch.bytes().len());
        loop {
            let mut admission = self.stream.admit(len).await.unwrap();
            match partition.append(&mut admission, request) {
                Err(AppendError::NoRoom) => {}
                other => return other,
            }
            drop(admission);
            self.stream.wait_for_room(Class::Data, len).await.unwrap();
        }
    }

    async fn append(&self, partition: &Arc<Partition>, batch: &Batch) -> Appended {
        self.try_append(partition, &request(batch, &self.clock)).await.unwrap()
    }

    /// Everything reserved so far is durable afterwards.
    async fn flush(&self) {
        self.stream.flush().await.unwrap();
    }

    /// Moves the log start and waits until it has moved.
    async fn delete_records(&self, partition: &Arc<Partition>, before: i64) -> i64 {
        let mut admission = self.stream.admit(record::LOG_START_LEN).await.unwrap();
        let (start, lsn) = partition.delete_records(&mut admission, before).unwrap();
        self.stream.wait_durable(lsn).await.unwrap();
        start
    }

    /// Every record of the WAL, in order.
    fn wal_records(&self) -> Vec<ReplayedRecord> {
        /// Where the first group of a file is.
        const FIRST_GROUP: u64 = 8192;
        let mut records: Vec<ReplayedRecord> = Vec::new();
        for file in 1.. {
            let before = records.len();
            // The walk ends with an error where nothing was written.
            let _ = self.stream.read_span(FileNumber(file), FIRST_GROUP, u64::MAX, |entry| {
                records.push(entry.into());
                ControlFlow::Continue(())
            });
            if records.len() == before {
                break;
            }
        }
        records.retain(|record| !record.kind.is_reserved());
        records
    }
}

fn open(disk: &Arc<MemoryDisk>, file_bytes: u64, clock: &Clock) -> Result<Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(disk);
    let env = Env {
        clock: clock.clone(),
        random: Random::seeded(7),
        budget: Budget::new(64 << 20),
        metrics: crate::wal::Metrics::new(&Registry::new()),
    };
    let mut options = Options::new([7; 16]);
    options.file_bytes = file_bytes;
    options.first_file_bytes = file_bytes;
    options.step_bytes = 128 << 10;
    local::open(&disk, &options, &env)
}

fn shared(stream: &Stream) -> Arc<Shared> {
    shared_with(stream, 1 << 20)
}

/// As [`shared`], with room for producers of `bytes`.
fn shared_with(stream: &Stream, bytes: usize) -> Arc<Shared> {
    let metrics = Arc::new(Metrics::new(&Registry::new()));
    let producers = BytePool::new(Pool::Producers, bytes);
    Arc::new(Shared { stream: stream.clone(), metrics, producers, objects: Arc::default() })
}

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(0xfeed))
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

fn request<'a>(batch: &'a Batch, clock: &Clock) -> AppendRequest<'a> {
    AppendRequest {
        batch,
        max_timestamp: batch.header().max_timestamp,
        append_time_ms: clock.wall_ms(),
        timestamp_type: TimestampType::CreateTime,
        max_message_bytes: 1 << 20,
        leader_epoch: None,
        internal: false,
    }
}

/// A batch with one record per timestamp, each with a value of `size` bytes.
fn timed(timestamps: &[i64], size: usize, codec: Compression) -> Batch {
    built(BatchBuilder::new(), timestamps, size, codec)
}

fn built(mut builder: BatchBuilder, timestamps: &[i64], size: usize, codec: Compression) -> Batch {
    for timestamp in timestamps {
        let value: Vec<u8> = (0..size).map(|at| (at as i64 ^ timestamp) as u8).collect();
        builder.append(*timestamp, None, Some(&value), &[]);
    }
    Batch::parse_one(builder.build_compressed(codec)).unwrap()
}

/// A batch of `records` records of about `size` bytes in all.
fn batch(records: usize, size: usize) -> Batch {
    timed(&vec![10; records], size / records, Compression::None)
}

/// A batch of one record of an idempotent producer.
fn sequenced(id: i64, epoch: i16, sequence: i32) -> Batch {
    let builder = BatchBuilder::new().producer(ProducerRef { id, epoch, sequence });
    built(builder, &[10], 8, Compression::None)
}

/// Reads and resolves everything at once, as if the socket took it.
fn read(partition: &Arc<Partition>, request: &ReadRequest) -> Result<Vec<Bytes>, ReadError> {
    let plan = match partition.read(request)? {
        Plan::Done(plan) => plan,
        Plan::NeedsDisk(disk) => disk.run()?,
        Plan::Tiered(_) => panic!("the bucket has nothing"),
    };
    assert_eq!(plan.bytes, plan.pieces.iter().map(ReadPiece::len).sum::<usize>());
    let mut all = Vec::new();
    for piece in plan.pieces {
        match piece {
            ReadPiece::Ready(bytes) => all.push(bytes),
            ReadPiece::Later(later) => all.extend(later.read()?),
        }
    }
    assert_eq!(plan.bytes, all.iter().map(Bytes::len).sum::<usize>());
    Ok(all)
}

/// Every batch, read on and on as a consumer does.
fn read_all(partition: &Arc<Partition>) -> Vec<Bytes> {
    let Offsets { log_start: mut next, high_watermark, .. } = partition.offsets();
    let mut all = Vec::new();
    while next < high_watermark {
        let got = read(partition, &from(next, 50_000)).unwrap().concat();
        for batch in BatchIter::new(got.into()).map(Result::unwrap) {
            next = batch.header().next_offset();
            all.push(batch.bytes().clone());
        }
    }
    all
}

fn from(offset: i64, max_bytes: usize) -> ReadRequest {
    let isolation = Isolation::ReadUncommitted;
    ReadRequest { offset, max_bytes, isolation, at_least_one: true, at_hand_bytes: 1 << 20 }
}

fn look_up(
    partition: &Arc<Partition>,
    query: TimeQuery,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    match partition.look_up(query).find(room)? {
        Look::Found(found) => Ok(found),
        Look::NeedsBucket => panic!("the bucket has nothing"),
    }
}

fn offset_for_timestamp(
    partition: &Arc<Partition>,
    timestamp: i64,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    look_up(partition, TimeQuery::Since(timestamp), room)
}

fn offset_of_max_timestamp(
    partition: &Arc<Partition>,
    room: Room,
) -> Result<Option<FoundOffset>, LookupError> {
    look_up(partition, TimeQuery::Greatest, room)
}

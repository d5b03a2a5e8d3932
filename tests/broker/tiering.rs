//! What the tests of tiered storage share: logs whose every byte is known without being kept, and
//! the questions that are asked of them.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, ListOffsetsRequest, ProduceRequest,
};
use tidegate::protocol::batch::{BatchBuilder, BatchIter, ProducerRef};

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, KAFKA_STORAGE_ERROR, NONE, PRODUCE, batches, noise, produce_request, produced,
    producer_id, text, topic_name,
};

pub const KIB: usize = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// Where tiered objects are in the bucket.
pub const TIERED: &str = "t";

/// `ListOffsets`: the log start.
pub const EARLIEST: i64 = -2;
/// `ListOffsets`: the end of the log.
pub const LATEST: i64 = -1;
/// `ListOffsets`: the first offset that is on the broker's disk.
pub const EARLIEST_LOCAL: i64 = -4;
/// `ListOffsets`: the last offset in the bucket.
pub const LATEST_TIERED: i64 = -5;

/// Requests that a writer keeps in flight, as Kafka's does.
const DEPTH: usize = 5;
/// Between the times of two records.
const STEP_MS: i64 = 10;
/// How often a Fetch may come back empty before the data counts as missing.
const EMPTY_MAX: usize = 20;
/// Before it come the base offset, the length and the leader epoch, which are the broker's.
const BROKERS_BYTES: usize = 16;

/// Bytes without a pattern, of which every value is a part.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| noise(5, 2 << 20));

/// A partition, and what was written to it: batches of one record, so that each offset is the
/// number of a batch, whose bytes follow from that number.
#[derive(Clone, Debug)]
pub struct Log {
    pub topic: String,
    pub partition: i32,
    /// The size of a batch's value.
    pub bytes: usize,
    /// How many were acknowledged.
    pub end: i64,
    /// Where the log begins.
    pub start: i64,
    /// So many keys take turns.
    pub keys: i64,
    /// The idempotent producer of all of them: each offset is also the sequence of its batch.
    producer: ProducerRef,
    begun_ms: i64,
}

impl Log {
    pub fn new(wire: &mut Wire, topic: &str, partition: i32, bytes: usize) -> Self {
        assert!(bytes <= NOISE.len() / 2);
        let producer = producer_id(wire);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let begun_ms = now.as_millis() as i64 - 3_600_000;
        let (topic, end, start, keys) = (topic.to_owned(), 0, 0, i64::MAX);
        Self { topic, partition, bytes, end, start, keys, producer, begun_ms }
    }

    /// The time of the record at `offset`.
    pub fn time(&self, offset: i64) -> i64 {
        self.begun_ms + offset * STEP_MS
    }

    fn value(&self, offset: i64) -> &'static [u8] {
        let seed = (offset as usize).wrapping_mul(7_919).wrapping_add(self.partition as usize * 31);
        let from = seed % (NOISE.len() - self.bytes);
        &NOISE[from..from + self.bytes]
    }

    /// The batch at `offset`, as a producer sends it.
    pub fn batch(&self, offset: i64) -> Bytes {
        let producer = ProducerRef { sequence: offset as i32, ..self.producer };
        let mut builder = BatchBuilder::new().producer(producer);
        let key = (offset % self.keys).to_be_bytes();
        builder.append(self.time(offset), Some(&key), Some(self.value(offset)), &[]);
        builder.build()
    }

    /// Writes the next `count` batches, which must be taken.
    pub fn write(&mut self, wire: &mut Wire, count: i64) {
        let refused = self.write_until_refused(wire, count);
        assert_eq!(refused, None, "{} of partition {}", self.end, self.partition);
    }

    /// Writes `count` batches, or those until one is refused: with which code. Those after it that
    /// were under way must be refused too, for none may overtake.
    pub fn write_until_refused(&mut self, wire: &mut Wire, count: i64) -> Option<i16> {
        let (first, mut refused, mut ids) = (self.end, None, Vec::new());
        for at in 0..count as usize + DEPTH {
            if let Some(answered) = at.checked_sub(DEPTH)
                && let Some(id) = ids.get(answered)
            {
                let response = wire.receive::<ProduceRequest>(PRODUCE, *id);
                let answer = produced(&response);
                if answer.error_code == NONE {
                    assert_eq!((answer.base_offset, refused), (self.end, None));
                    self.end += 1;
                } else {
                    refused = refused.or(Some(answer.error_code));
                }
            }
            if at < count as usize && refused.is_none() {
                let batch = self.batch(first + at as i64);
                let request = produce_request(&self.topic, self.partition, -1, batch);
                ids.push(wire.send(PRODUCE, &request));
            }
        }
        refused
    }

    /// Writes the next `count` batches, each of them again until it is taken: only a full log may
    /// refuse one, and only for a while.
    pub fn write_patiently(&mut self, broker: &Broker, wire: &mut Wire, count: i64) {
        let end = self.end + count;
        broker.wait_until("every batch is taken", |_| {
            // As a client that backs off: what is refused is counted once for each look.
            let refused = self.write_until_refused(wire, end - self.end);
            assert!(matches!(refused, None | Some(KAFKA_STORAGE_ERROR)), "{refused:?}");
            self.end == end
        });
    }

    /// Reads from `from` to `to` and compares every byte.
    pub fn verify(&self, wire: &mut Wire, from: i64, to: i64) {
        let mut next = from;
        while next < to {
            next = self.verify_some(wire, next);
        }
    }

    /// Reads the whole log and compares every byte.
    pub fn verify_all(&self, wire: &mut Wire) {
        assert_eq!(self.offset(wire, LATEST), self.end, "the end of partition {}", self.partition);
        assert_eq!(self.offset(wire, EARLIEST), self.start, "partition {}", self.partition);
        self.verify(wire, self.start, self.end);
    }

    /// Reads the whole log, of which compaction may have left only the last record of each key.
    pub fn verify_compacted(&self, wire: &mut Wire) {
        let (mut next, mut needed) = (0, (self.end - self.keys).max(0));
        while next < self.end {
            for batch in BatchIter::new(self.read(wire, next)).map(Result::unwrap) {
                let payload = batch.payload(usize::MAX).unwrap();
                for record in batch.records(&payload).map(Result::unwrap) {
                    let offset = batch.header().offset_of(&record);
                    assert!((next..=needed).contains(&offset), "{offset}: {next}, {needed}");
                    needed += i64::from(offset == needed);
                    let wanted = (offset % self.keys).to_be_bytes();
                    assert_eq!(record.key, Some(&wanted[..]), "{offset}");
                    assert!(record.value == Some(self.value(offset)), "{offset}");
                }
                next = batch.header().next_offset();
            }
        }
        assert_eq!((next, needed), (self.end, self.end), "partition {}", self.partition);
    }

    /// Reads some of what begins at `from` and compares every byte: where it ends.
    pub fn verify_some(&self, wire: &mut Wire, from: i64) -> i64 {
        let records = self.read(wire, from);
        self.compare(from, &records)
    }

    /// Compares every byte of what a Fetch from `from` gave: where it ends.
    pub fn compare(&self, from: i64, records: &Bytes) -> i64 {
        let (mut next, mut at) = (from, 0);
        for (offset, size) in batches(records) {
            assert_eq!(offset, next, "partition {}", self.partition);
            let (found, wanted) = (&records[at..at + size], self.batch(offset));
            let same = found[BROKERS_BYTES..] == wanted[BROKERS_BYTES..];
            assert!(same, "the batch at {offset} of partition {} differs", self.partition);
            (next, at) = (next + 1, at + size);
        }
        next
    }

    /// Some of what begins at `from`.
    fn read(&self, wire: &mut Wire, from: i64) -> Bytes {
        (0..EMPTY_MAX)
            .map(|_| self.fetch(wire, from))
            .find(|records| !records.is_empty())
            .unwrap_or_else(|| panic!("nothing at {from} of partition {}", self.partition))
    }

    /// One Fetch, as it is answered.
    fn fetch(&self, wire: &mut Wire, offset: i64) -> Bytes {
        let fetch = Fetch { offset, min_bytes: 1, max_wait_ms: 5_000, max_bytes: 4 << 20 };
        let mut request = fetch.request(&self.topic);
        request.topics[0].partitions[0].partition = self.partition;
        let response = wire.call(FETCH, &request.with_isolation_level(1));
        let topic = response.responses.into_iter().next().expect("the topic asked for");
        let partition = topic.partitions.into_iter().next().expect("the partition asked for");
        assert_eq!(partition.error_code, NONE, "{offset} of partition {}", self.partition);
        partition.records.unwrap_or_default()
    }

    /// Reads a few batches at `count` offsets in no order.
    pub fn verify_at_random(&self, wire: &mut Wire, seed: u64, count: usize) {
        let chances = noise(seed, count * 8);
        for chance in chances.chunks_exact(8) {
            let chance = u64::from_be_bytes(chance.try_into().unwrap());
            self.verify_some(wire, (chance % self.end as u64) as i64);
        }
    }

    /// An answer of `ListOffsets`.
    pub fn offset(&self, wire: &mut Wire, timestamp: i64) -> i64 {
        self.try_offset(wire, timestamp).expect("the broker answers")
    }

    /// [`Log::offset`] of a broker that may end: `None` when it has.
    pub fn try_offset(&self, wire: &mut Wire, timestamp: i64) -> Option<i64> {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(self.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_timeout_ms(30_000)
            .with_topics(vec![topic]);
        let response = wire.try_call(10, &request)?;
        let answer = &response.topics[0].partitions[0];
        assert_eq!(answer.error_code, NONE, "{timestamp} of partition {}", self.partition);
        Some(answer.offset)
    }

    /// Writes the next `count` batches one by one to a broker that may end: false when it has. What
    /// was under way then may be in the log or not.
    pub fn write_until_cut(&mut self, wire: &mut Wire, count: i64) -> bool {
        for _ in 0..count {
            let batch = self.batch(self.end);
            let request = produce_request(&self.topic, self.partition, -1, batch);
            let Some(response) = wire.try_call(PRODUCE, &request) else { return false };
            let answer = produced(&response);
            assert_eq!((answer.error_code, answer.base_offset), (NONE, self.end));
            self.end += 1;
        }
        true
    }

    /// Deletes what lies before `before` of a broker that may end: false when it has.
    pub fn delete_until_cut(&mut self, wire: &mut Wire, before: i64) -> bool {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(self.partition)
            .with_offset(before);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request =
            DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let Some(response) = wire.try_call(2, &request) else { return false };
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (NONE, before));
        self.start = before;
        true
    }

    /// Whether the bucket has all of it.
    pub fn is_tiered(&self, wire: &mut Wire) -> bool {
        self.offset(wire, LATEST_TIERED) == self.end - 1
    }
}

/// Waits until the bucket has all of `logs`.
pub fn wait_until_tiered(broker: &Broker, logs: &[Log]) {
    let mut wire = broker.connect();
    broker.wait_until("the bucket has all of it", |_| {
        logs.iter().all(|log| log.is_tiered(&mut wire))
    });
}

/// Creates a topic with settings of its own.
pub fn create_topic_with(wire: &mut Wire, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = wire.call(7, &request);
    assert_eq!(response.topics[0].error_code, NONE, "{:?}", response.topics[0].error_message);
}

/// The smallest write-ahead log and the smallest memory.
pub fn small() -> Options {
    Options::new().set("wal.max.bytes", WAL_MAX).set("memory.budget.bytes", BUDGET)
}

/// [`small`], with logs that go to the bucket as soon as they may.
pub fn eager() -> Options {
    small().set("tier.max.age.ms", 1_000)
}

/// The smallest limit of the write-ahead log.
pub const WAL_MAX: u64 = 64 * MIB;
/// The smallest memory budget.
pub const BUDGET: u64 = 64 * MIB;

/// Fails when the write-ahead log takes more of the disk than it may.
pub fn assert_wal_is_bounded(broker: &Broker) {
    let bytes = broker.wal_bytes();
    assert!(bytes > 0 && bytes <= WAL_MAX, "{bytes} bytes of write-ahead log");
}

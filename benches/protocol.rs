//! The data plane's codecs: what one Produce request and one Fetch response cost before any lock,
//! disk or socket.

use std::hint::black_box;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::protocol::batch::{
    Batch, BatchBuilder, ProduceRules, ProducerRef, TimestampBounds, patch_into,
};
use tidegate::protocol::compression::Compression;
use tidegate::protocol::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};
use tidegate::protocol::produce::ProduceRequest;
use tidegate::protocol::topic::TopicRef;

/// The version that current librdkafka sends; its body is flexible and names topics.
const PRODUCE_VERSION: i16 = 10;

/// Why nothing here can fail.
const OURS: &str = "the bytes were built here";

/// A batch of 1 KiB records of at most `size` bytes.
fn batch(size: usize, codec: Compression) -> Bytes {
    let producer = ProducerRef { id: 1, epoch: 0, sequence: 0 };
    let mut builder = BatchBuilder::new().producer(producer);
    let value: Vec<u8> =
        (0..1010u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    while builder.size() + 1024 <= size {
        builder.append(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build_compressed(codec)
}

/// A request with one topic, whose partitions have one batch each.
fn request(partitions: u8, records: &Bytes) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_i16(-1);
    out.put_i32(30_000);
    out.put_u8(2);
    out.put_u8(6);
    out.put_slice(b"bench");
    out.put_u8(partitions + 1);
    for index in 0..partitions {
        out.put_i32(i32::from(index));
        let mut length = records.len() + 1;
        while length >= 0x80 {
            out.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        out.put_u8(length as u8);
        out.put_slice(records);
        out.put_u8(0);
    }
    out.put_slice(&[0, 0]);
    out.freeze()
}

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce/parse");
    for (name, partitions, size) in
        [("1 x 1 MiB", 1, 1 << 20), ("1 x 16 KiB", 1, 16 << 10), ("64 x 16 KiB", 64, 16 << 10)]
    {
        let body = request(partitions, &batch(size, Compression::None));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = ProduceRequest::parse(PRODUCE_VERSION, body.clone()).expect(OURS);
                for partition in request.partitions() {
                    black_box(Batch::parse_one(partition.records.expect(OURS)).expect(OURS));
                }
            });
        });
    }
    group.finish();
}

fn validate(criterion: &mut Criterion) {
    let rules = ProduceRules {
        version: PRODUCE_VERSION,
        transactional_allowed: false,
        keys_required: false,
        timestamps: Some(TimestampBounds::ANY),
    };
    let mut group = criterion.benchmark_group("batch");
    for (name, size) in [("1 MiB", 1 << 20), ("16 KiB", 16 << 10)] {
        let plain = Batch::parse_one(batch(size, Compression::None)).expect(OURS);
        group.throughput(Throughput::Bytes(plain.bytes().len() as u64));
        group.bench_function(format!("validate/{name}"), |bencher| {
            bencher.iter(|| black_box(&plain).validate_for_produce(&rules).expect(OURS));
        });
        group.bench_function(format!("verify crc/{name}"), |bencher| {
            bencher.iter(|| black_box(&plain).verify_crc().expect(OURS));
        });
        let mut target = vec![0; plain.bytes().len()];
        group.bench_function(format!("patch copy/{name}"), |bencher| {
            bencher.iter(|| patch_into(black_box(&mut target), plain.bytes(), 1 << 40, 7));
        });
        group.bench_function(format!("combined crc/{name}"), |bencher| {
            bencher.iter(|| black_box(&plain).patched_crc(0, 1 << 40, 7));
        });
    }
    group.finish();
}

fn fetch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch/encode");
    for count in [1, 100] {
        let partitions: Vec<_> = (0..count)
            .map(|index| FetchPartitionResponse {
                high_watermark: 1 << 40,
                last_stable_offset: 1 << 40,
                log_start_offset: 0,
                records_len: 16 << 10,
                ..FetchPartitionResponse::error(index, 0)
            })
            .collect();
        let topics = [FetchTopicResponse { topic: TopicRef::Name("b"), partitions: &partitions }];
        let response = FetchResponse {
            throttle_time_ms: 0,
            error_code: 0,
            session_id: 0,
            topics: &topics,
            node_endpoints: &[],
        };
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} partitions"), |bencher| {
            bencher.iter_batched(
                || (),
                |()| black_box(&response).encode(12).expect(OURS),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, produce, validate, fetch);
criterion_main!(benches);

//! Few bytes that decompress to many (research: bad input, "Decompression bombs").
//!
//! Only where records are read (a compacted topic, a look-up by time) is anything decompressed,
//! and there to 64 MiB at most; everywhere else compressed records stay what was sent.

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidegate::protocol::compression::{Compression, compress};

use crate::forge::{compressed, record};
use crate::harness::{Broker, Options, Wire};
use crate::hostile::Scene;
use crate::records::create_compacted;
use crate::requests::{self, FETCH, Fetch, NONE, create_topic, fetched, produce, topic_name};

const MIB: usize = 1 << 20;
/// What a batch may decompress to.
const BOUND: usize = 64 * MIB;
/// Output that is grown and then moved is there twice for a moment.
const RSS_GROWTH_MAX: u64 = 160 << 20;
const INVALID_RECORD: i16 = 87;

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| *codec != Compression::None)
}

/// A good record with a value of `bytes` zeros, compressed.
fn zeros(codec: Compression, bytes: usize) -> Bytes {
    compress(codec, &record(0, &vec![0; bytes]))
}

/// A broker that takes batches of 8 MiB (Snappy reaches 1:21 only), with a compacted topic `c`.
fn scene() -> (Scene, Wire) {
    let scene = Scene::with(Options::new().set("message.max.bytes", 8 * MIB));
    let mut wire = scene.broker.connect();
    create_compacted(&mut wire, "c");
    (scene, wire)
}

fn assert_grown_at_most(broker: &Broker, before: u64, most: u64) {
    let grown = broker.resident_max().saturating_sub(before);
    println!("{grown} bytes more are resident");
    assert!(grown <= most, "{grown} bytes more are resident");
}

/// Holds that a compacted topic refuses these payloads, without memory that they only claim.
fn assert_refused(codec: Compression, payloads: &[Vec<u8>]) {
    let (scene, mut wire) = scene();
    for (at, payload) in payloads.iter().enumerate() {
        let answer = produce(&mut wire, "c", compressed(codec, 1, payload));
        assert_eq!(answer, (INVALID_RECORD, -1), "payload {at}");
    }
    assert!(fetched(wire.call(FETCH, &Fetch::at(0).request("c"))).is_empty());
    scene.assert_unharmed();
}

/// Holds that a payload of 80 MiB is refused with the words for that, and bounded memory.
fn assert_bomb_is_bounded(codec: Compression) {
    let (scene, mut wire) = scene();
    let bomb = zeros(codec, 80 * MIB);
    println!("{} bytes become 80 MiB", bomb.len());
    let before = scene.broker.resident();
    for _ in 0..3 {
        let answer = produce(&mut wire, "c", compressed(codec, 1, &bomb));
        assert_eq!(answer, (INVALID_RECORD, -1));
    }
    assert_grown_at_most(&scene.broker, before, RSS_GROWTH_MAX);
    // One below the bound is a batch like any other.
    let large = compressed(codec, 1, &zeros(codec, BOUND - MIB));
    assert_eq!(produce(&mut wire, "c", large), (NONE, 0));
    assert_grown_at_most(&scene.broker, before, RSS_GROWTH_MAX);
    crate::requests::assert_served(&mut wire);
    crate::hostile::assert_pools_are_empty(&scene.broker);
}

#[test]
fn a_gzip_bomb_is_bounded() {
    assert_bomb_is_bounded(Compression::Gzip);
}

#[test]
fn a_snappy_bomb_is_bounded() {
    assert_bomb_is_bounded(Compression::Snappy);
}

#[test]
fn an_lz4_bomb_is_bounded() {
    assert_bomb_is_bounded(Compression::Lz4);
}

#[test]
fn a_zstd_bomb_is_bounded() {
    assert_bomb_is_bounded(Compression::Zstd);
}

#[test]
fn a_gzip_of_many_members_is_one_bomb() {
    let member = zeros(Compression::Gzip, MIB);
    let (scene, mut wire) = scene();
    let before = scene.broker.resident();
    let bomb = compressed(Compression::Gzip, 1, &member.repeat(100));
    assert_eq!(produce(&mut wire, "c", bomb), (INVALID_RECORD, -1));
    assert_grown_at_most(&scene.broker, before, RSS_GROWTH_MAX);
}

/// A raw Snappy block that claims to become `len` bytes.
fn snappy_claiming(len: u32, rest: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    tidegate::protocol::varint::put_u32(&mut block, len);
    block.put_slice(rest);
    block
}

fn xerial(blocks: &[u8]) -> Vec<u8> {
    let mut stream = b"\x82SNAPPY\x00".to_vec();
    stream.put_i32(1);
    stream.put_i32(1);
    stream.put_slice(blocks);
    stream
}

#[test]
fn a_raw_snappy_block_that_claims_4_gib_is_refused() {
    let payloads: Vec<Vec<u8>> = [u32::MAX, 1 << 31, 80 << 20, 1_000]
        .into_iter()
        .flat_map(|len| [snappy_claiming(len, &[]), snappy_claiming(len, &[0xfe, 1, 0, 0, b'x'])])
        .collect();
    assert_refused(Compression::Snappy, &payloads);
}

#[test]
fn lengths_of_xerial_blocks_that_lie_are_refused() {
    let mut payloads: Vec<Vec<u8>> = [i32::MAX, -1, i32::MIN, 100, 0]
        .into_iter()
        .map(|len| xerial(&[&len.to_be_bytes()[..], &[1, 2, 3]].concat()))
        .collect();
    // A block that is all there and claims 4 GiB; a header cut off; a length cut off; no block.
    let claiming = snappy_claiming(u32::MAX, &[0; 8]);
    payloads.push(xerial(&[&(claiming.len() as i32).to_be_bytes()[..], &claiming].concat()));
    payloads.push(b"\x82SNAPPY\x00\0\0".to_vec());
    payloads.push(xerial(&[0, 0]));
    payloads.push(xerial(&[]));
    assert_refused(Compression::Snappy, &payloads);
}

#[test]
fn lz4_frames_that_lie_about_their_sizes_are_refused() {
    let magic = [0x04, 0x22, 0x4d, 0x18];
    let frame = |flags: u8, sizes: u8, rest: &[u8]| [&magic, &[flags, sizes][..], rest].concat();
    let huge = [0xff, 0xff, 0xff, 0x7f];
    assert_refused(
        Compression::Lz4,
        &[
            // A block of 2 GiB, stored and not; a block above the frame's block size.
            frame(0x60, 0x40, &[&[0][..], &huge].concat()),
            frame(0x60, 0x40, &[&[0][..], &[0xff; 4]].concat()),
            frame(0x60, 0x40, &[&[0, 1, 0, 1, 0][..], &vec![0; 65_537]].concat()),
            // A content size of 2^63, and none of it; no end mark; an unknown block size.
            frame(0x68, 0x40, &[&[0xff; 7][..], &[0x7f, 0], &[0; 4]].concat()),
            frame(0x60, 0x40, &[0]),
            frame(0x60, 0x10, &[0, 0, 0, 0, 0]),
            // Blocks that need the ones before, and a dictionary.
            frame(0x40, 0x40, &[0, 0, 0, 0, 0]),
            frame(0x61, 0x40, &[0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ],
    );
}

#[test]
fn zstd_frames_that_lie_about_their_sizes_are_refused() {
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let frame = |rest: &[u8]| [&magic, rest].concat();
    assert_refused(
        Compression::Zstd,
        &[
            // A window of 2^41 bytes, one of 2^28 and one of 2^27, with nothing in them.
            frame(&[0x00, 0xff, 1, 0, 0]),
            frame(&[0x00, 0x90, 1, 0, 0]),
            frame(&[0x00, 0x88, 1, 0, 0]),
            // One segment of 2^62 bytes.
            frame(&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0]),
            // A block that repeats one byte 2 MiB times, above the greatest block.
            frame(&[0x00, 0x88, 0x03, 0, 0xff, b'x']),
            // A skippable frame of 4 GiB.
            vec![0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff],
        ],
    );
}

#[test]
fn nothing_is_decompressed_where_records_are_not_read() {
    let (scene, mut wire) = scene();
    let mut end = 0;
    for codec in codecs() {
        for payload in [zeros(codec, 80 * MIB), Bytes::from_static(b"not compressed at all")] {
            let batch = compressed(codec, 1, &payload);
            assert_eq!(produce(&mut wire, "a", batch.clone()), (NONE, end), "{codec:?}");
            let fetch = Fetch { max_bytes: 16 << 20, ..Fetch::at(end) };
            let read = fetched(wire.call(FETCH, &fetch.request("a")));
            assert!(read[21..] == batch[21..], "{codec:?}: the bytes that were sent");
            end += 1;
        }
    }
    // The bombs themselves lie in the log's memory; what they could become does not.
    assert_grown_at_most(&scene.broker, scene.resident(), 64 << 20);
}

#[test]
fn a_look_up_by_time_in_a_bomb_is_bounded() {
    let (scene, mut wire) = scene();
    create_topic(&mut wire, "b", 1);
    for (offset, codec) in (0..).zip(codecs()) {
        let bomb = compressed(codec, 1, &zeros(codec, 80 * MIB));
        assert_eq!(produce(&mut wire, "b", bomb), (NONE, offset));
    }
    let before = scene.broker.resident();
    for _ in 0..4 {
        assert_eq!(found_by_time(&mut wire, "b"), (NONE, 0), "what the batch's header says");
    }
    assert_grown_at_most(&scene.broker, before, RSS_GROWTH_MAX);
}

/// Error and offset of a look-up of time 1 in partition 0.
fn found_by_time(wire: &mut Wire, topic: &str) -> (i16, i64) {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(1);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let found = wire.call(7, &ListOffsetsRequest::default().with_topics(vec![topic]));
    let found = &found.topics[0].partitions[0];
    (found.error_code, found.offset)
}

#[test]
fn look_ups_by_time_on_many_connections_have_one_bound_together() {
    let budget = 256 * MIB;
    let scene = Scene::with(Options::new().set("memory.budget.bytes", budget));
    let mut wire = scene.broker.connect();
    create_topic(&mut wire, "b", 1);
    // It decompresses within the bound for one, and to a quarter of the budget.
    let bomb = compressed(Compression::Gzip, 1, &zeros(Compression::Gzip, 60 * MIB));
    assert_eq!(produce(&mut wire, "b", bomb), (NONE, 0));
    let before = scene.broker.resident();
    std::thread::scope(|threads| {
        for _ in 0..64 {
            threads.spawn(|| {
                let mut wire = scene.broker.connect();
                assert_eq!(found_by_time(&mut wire, "b"), (NONE, 0));
            });
        }
    });
    // The pool for it has a sixteenth; the allocator keeps some of what its threads gave back.
    assert_grown_at_most(&scene.broker, before, budget as u64);
}

/// Without a codec a look-up still has a whole batch in memory, if it comes from the disk: here
/// more than the pool for it, of which each takes all.
#[test]
fn look_ups_by_time_in_a_batch_above_their_pool_take_turns() {
    let options = Options::new().set("memory.budget.bytes", 64 * MIB);
    let (options, _folder) = options.set("message.max.bytes", 8 * MIB).on_disk();
    let scene = Scene::with(options);
    let mut wire = scene.broker.connect();
    create_topic(&mut wire, "b", 1);
    create_topic(&mut wire, "other", 1);
    assert_eq!(produce(&mut wire, "b", requests::record(7 * MIB)), (NONE, 0));
    // The memory of the log's tail is for others now.
    for offset in 0..25 {
        assert_eq!(produce(&mut wire, "other", requests::record(MIB / 2)), (NONE, offset));
    }
    let read = || scene.broker.metric("tidegate_partition_disk_read_bytes_total");
    let before = read();
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                let mut wire = scene.broker.connect();
                assert_eq!(found_by_time(&mut wire, "b"), (NONE, 0));
            });
        }
    });
    assert!(read() - before >= (16 * 7 * MIB) as f64, "it was read from the disk");
    let used = "tidegate_memory_used_bytes{pool=\"unpack\"}";
    scene.broker.wait_until("the pool is empty", |broker| broker.metrics().get(used) == 0.0);
}

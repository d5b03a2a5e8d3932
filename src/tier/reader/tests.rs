//! Reading from a bucket: how many GETs it takes, and what damage does.

use super::*;
use crate::object::testing::FaultStore;
use crate::tier::writer::Sizes;
use crate::tier::writer::tests::{Part, partition, plain, write};

const SIZES: Sizes = Sizes { chunk: 300, part: 1 << 20 };

fn parts() -> Vec<Part> {
    let second = Part { producers: b"state".to_vec(), ..plain(partition(1, 1), 50, 6, 100) };
    vec![plain(partition(1, 0), 0, 4, 100), second]
}

/// An object in a bucket, its bytes, and what refers to it.
async fn stored() -> (FaultStore, Vec<u8>, ObjectRef) {
    let (bytes, finished) = write(&parts(), SIZES).unwrap();
    let bucket = FaultStore::memory();
    let object = ObjectRef {
        id: finished.footer.head().id,
        bytes: finished.bytes,
        end_bytes: finished.end.len() as u32,
    };
    bucket.store().put(&object.id.key(), bytes.clone().into()).await.unwrap();
    (bucket, bytes, object)
}

#[tokio::test]
async fn opening_costs_one_get_and_a_second_when_the_guess_was_too_low() {
    let (bucket, _, object) = stored().await;
    let store = bucket.store();
    for (end_bytes, gets) in [(object.end_bytes, 1), (FOOTER_GUESS, 1), (u32::MAX, 1), (0, 2)] {
        let before = bucket.gets();
        let object = ObjectRef { end_bytes, ..object };
        let footer = Reader::new(&store, object).footer().await.unwrap();
        assert_eq!(footer.sections().len(), 2);
        assert_eq!(bucket.gets() - before, gets, "{end_bytes}");
    }
}

#[tokio::test]
async fn chunks_of_a_run_come_in_one_get_and_each_is_whole() {
    let (bucket, bytes, object) = stored().await;
    let store = bucket.store();
    let reader = Reader::new(&store, object);
    let footer = reader.footer().await.unwrap();
    let all = 0..footer.chunks_of(&footer.sections()[0]).len() as u32
        + footer.chunks_of(&footer.sections()[1]).len() as u32;
    for start in all.clone() {
        for end in start..=all.end + 1 {
            let before = bucket.gets();
            let read = reader.chunks(&footer, start..end).await.unwrap();
            assert_eq!(bucket.gets() - before, u64::from(end > start));
            assert_eq!(read.len() as u32, end.min(all.end) - start);
            for (number, chunk) in (start..).zip(read) {
                let range = footer.chunk(number).unwrap().range();
                assert_eq!(chunk, bytes[range.start as usize..range.end as usize]);
            }
        }
    }
    let [first, second] = footer.sections() else { panic!("it has two sections") };
    assert_eq!(reader.producers(first).await.unwrap(), "");
    assert_eq!(reader.producers(second).await.unwrap(), "state");
    assert_eq!(reader.head(&footer).await.unwrap(), *footer.head());
}

#[tokio::test]
async fn damaged_bytes_are_not_served() {
    let (bucket, bytes, object) = stored().await;
    let store = bucket.store();
    let reader = Reader::new(&store, object);
    let footer = reader.footer().await.unwrap();
    let chunks = 0..footer.sections()[1].chunks.end;
    let start_of_footer = bytes.len() - object.end_bytes as usize;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        store.put(&object.id.key(), damaged.into()).await.unwrap();
        assert_eq!(reader.footer().await.is_ok(), at < start_of_footer, "{at}");
        let mut failures = u32::from(reader.head(&footer).await.is_err());
        for number in chunks.clone() {
            let read = reader.chunks(&footer, number..number + 1).await;
            let range = footer.chunk(number).unwrap().range();
            assert_eq!(read.is_err(), range.contains(&(at as u64)), "{at}");
            failures += u32::from(matches!(read, Err(ReadError::Corrupt { .. })));
        }
        for section in footer.sections() {
            failures += u32::from(reader.producers(section).await.is_err());
        }
        assert_eq!(failures, u32::from(at < start_of_footer), "{at}");
    }
}

#[tokio::test]
async fn an_object_that_is_gone_or_another_says_so() {
    let (bucket, bytes, object) = stored().await;
    let store = bucket.store();
    let other = ObjectId { sequence: object.id.sequence + 1, ..object.id };
    let elsewhere = ObjectRef { id: other, ..object };
    let error = Reader::new(&store, elsewhere).footer().await.unwrap_err();
    assert_eq!(error, ReadError::Missing { key: other.key() });
    store.put(&other.key(), bytes.clone().into()).await.unwrap();
    let error = Reader::new(&store, elsewhere).footer().await.unwrap_err();
    let source = TierFormatError::OtherObject { found: object.id };
    assert_eq!(error, ReadError::Corrupt { key: other.key(), source });
    // One that is longer than it should be is not the one either.
    let longer = [&bytes[..], &bytes[..]].concat();
    store.put(&object.id.key(), longer.into()).await.unwrap();
    let longer = ObjectRef { bytes: 2 * object.bytes, ..object };
    let error = Reader::new(&store, longer).footer().await.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
}

#[test]
fn a_chunk_is_cut_before_the_batch_that_a_reader_wants() {
    let part = plain(partition(1, 0), 10, 3, 5);
    let chunk = Bytes::from(part.batches.concat());
    for (offset, skipped) in [(0, 0), (10, 0), (12, 0), (13, 1), (18, 2), (19, 3)] {
        let rest = part.batches.get(skipped..).unwrap_or_default().concat();
        assert_eq!(since_offset(&chunk, offset), rest, "{offset}");
    }
    assert_eq!(since_offset(&chunk.slice(..70), 11), chunk.slice(..70));
    assert_eq!(since_offset(&chunk.slice(..70), 13), "");
}

//! What every backend has to do with objects in parts, with listings, and with tiered objects.

use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate::budget::{BytePool, Pool};
use tidegate::clock::{Clock, Random};
use tidegate::metrics::Registry;
use tidegate::object::{DataDir, Key, Listed, ObjectError, Store};
use tidegate::protocol::batch::BatchBuilder;
use tidegate::protocol::types::{TopicId, TopicPartition};
use tidegate::tier::{
    Age, CHUNK_BYTES, Cache, CacheOptions, Head, ObjectId, Origin, Reader, SectionEnd, Sizes,
    Upload, Uploaded,
};

use crate::contract::{LIMIT, body};

/// What S3 takes at least for a part that is not the last.
const PART: usize = 5 << 20;

/// Fails unless `store` does all of it, with so many objects to list; nothing is left behind.
pub async fn hold(store: &Store, listed: usize) {
    an_object_is_its_parts_once_it_is_complete(store).await;
    listings_show_what_is_there(store, listed).await;
    a_tiered_object_is_read_as_it_was_written(store).await;
}

async fn an_object_is_its_parts_once_it_is_complete(store: &Store) {
    let (key, whole) = (Key::new("t/ab/in-parts"), body(2 * PART + 100_000));
    let mut upload = store.upload(&key).await.unwrap();
    for at in (0..whole.len()).step_by(PART) {
        upload.part(whole.slice(at..whole.len().min(at + PART))).await.unwrap();
    }
    let not_found = ObjectError::NotFound { key: key.clone() };
    assert_eq!(store.get(&key, LIMIT).await.unwrap_err(), not_found);
    upload.complete().await.unwrap();
    assert!(store.get(&key, LIMIT).await.unwrap() == whole);
    let seam = PART as u64 - 10..PART as u64 + 10;
    let found = store.get_range(&key, seam).await.unwrap();
    assert_eq!(found, whole.slice(PART - 10..PART + 10));
    store.delete(&key).await.unwrap();

    let mut given_up = store.upload(&key).await.unwrap();
    given_up.part(body(100)).await.unwrap();
    given_up.abort().await.unwrap();
    assert_eq!(store.get(&key, LIMIT).await.unwrap_err(), not_found);
}

async fn list(store: &Store, prefix: &str) -> Vec<Vec<Listed>> {
    let mut listing = store.list(prefix);
    let mut pages = Vec::new();
    while let Some(page) = listing.next_page().await.unwrap() {
        pages.push(page);
    }
    pages
}

/// No promise that anything rests on; but all of these keep it while nobody else writes.
async fn listings_show_what_is_there(store: &Store, count: usize) {
    assert_eq!(list(store, "list").await.len(), 0);
    let clock = Clock::system();
    let names: Vec<_> = (0..count).map(|n| format!("list/{:02x}/{n:020}", n % 3)).collect();
    let beside = ["lis/x", "lists/x"].map(str::to_owned);
    let before_ms = clock.wall_ms() - 2_000;
    stream::iter(names.iter().chain(&beside))
        .map(|name| async move { store.put(&Key::new(name), name.clone().into()).await })
        .buffer_unordered(32)
        .try_collect::<()>()
        .await
        .unwrap();
    let pages = list(store, "list").await;
    assert!(pages.iter().all(|page| page.len() <= 1_000), "a page is bounded");
    let mut sorted = names.clone();
    sorted.sort();
    let found = pages.concat();
    assert!(found.iter().map(|listed| listed.key.to_string()).eq(sorted));
    for listed in found {
        assert_eq!(listed.bytes, 28, "{listed:?}");
        assert!((before_ms..=clock.wall_ms() + 1_000).contains(&listed.modified_ms), "{listed:?}");
    }
    let one = list(store, "list/01").await.concat();
    assert_eq!(one.len(), (count + 1) / 3);
    stream::iter(names.iter().chain(&beside))
        .map(|name| async move { store.delete(&Key::new(name)).await })
        .buffer_unordered(32)
        .try_collect::<()>()
        .await
        .unwrap();
    assert_eq!(list(store, "list").await.len(), 0);
}

/// Batches of one record of 300,000 bytes each, from `start` on.
fn batches(start: i64, count: i64) -> Vec<Bytes> {
    let batch = |offset: i64| {
        let mut builder = BatchBuilder::new();
        let value = body(300_000 + offset as usize).slice(offset as usize..);
        builder.append(1_700_000_000_000 + offset, None, Some(&value), &[]);
        let mut batch = builder.build().to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        Bytes::from(batch)
    };
    (start..start + count).map(batch).collect()
}

async fn upload(store: &Store, sections: &[(TopicPartition, i64, Vec<Bytes>)]) -> Uploaded {
    let id = ObjectId { incarnation: Random::system().u128().to_be_bytes(), sequence: 1 };
    let created_ms = Clock::system().wall_ms();
    let head = Head { cluster: [1; 16], id, created_ms, origin: Origin::Flushed };
    let mut upload = Upload::new(store, head, Sizes { chunk: CHUNK_BYTES, part: PART });
    for (of, start, batches) in sections {
        upload.begin(*of, *start).unwrap();
        for batch in batches {
            upload.push(batch).await.unwrap();
        }
        let end_offset = start + batches.len() as i64;
        upload.end(&SectionEnd { end_offset, ..SectionEnd::default() }).unwrap();
    }
    upload.finish().await.unwrap()
}

async fn a_tiered_object_is_read_as_it_was_written(store: &Store) {
    let topic = TopicId(Random::system().uuid());
    let partition = |partition| TopicPartition { topic, partition };
    let sections = [(partition(0), 0, batches(0, 20)), (partition(1), 70, batches(70, 24))];
    let uploaded = upload(store, &sections).await;
    let object = uploaded.object;
    assert!(object.bytes > 2 * PART as u64, "it goes in parts");
    let reader = Reader::new(store, object);
    let footer = reader.footer().await.unwrap();
    assert_eq!(footer, uploaded.footer);
    assert_eq!(reader.head(&footer).await.unwrap(), *footer.head());
    let pool = || BytePool::new(Pool::Upload, 16 << 20);
    let (hot, catch_up, footers, readers) = (pool(), pool(), pool(), pool());
    let options = CacheOptions { hot, catch_up, footers, readers, catch_up_loads: 4 };
    let cache = Cache::new(store.clone(), options, &Registry::new());
    for ((of, start, batches), age) in sections.iter().zip([Age::Hot, Age::CatchUp]) {
        let (mut read, mut offset) = (Vec::new(), *start);
        while offset < start + batches.len() as i64 {
            let found = cache.read(&object, *of, offset, age).await.unwrap().unwrap();
            read.extend_from_slice(&found.batches);
            offset = found.next_offset;
        }
        assert!(read == batches.concat(), "{of}");
    }
    store.delete(&object.id.key()).await.unwrap();
    let gone = Reader::new(store, object).footer().await;
    assert!(gone.is_err(), "{gone:?}");
}

/// A run of a broker is killed with an upload under way and one that it has completed; the next run
/// gives up the one and leaves the other. `killed` and `next` are stores of one bucket.
pub async fn of_a_kill_are_given_up(killed: &Store, next: &Store, data: &Path) {
    let dir = DataDir::open(data).await.unwrap();
    let _not_run = killed.note_uploads(&dir).await.unwrap();
    let (cut, whole) = (Key::new("t/cd/cut"), Key::new("t/cd/whole"));
    let mut under_way = killed.upload(&cut).await.unwrap();
    under_way.part(body(PART)).await.unwrap();
    under_way.part(body(100)).await.unwrap();
    let mut completed = killed.upload(&whole).await.unwrap();
    completed.part(body(1_000)).await.unwrap();
    completed.complete().await.unwrap();

    let sweep = next.note_uploads(&dir).await.unwrap();
    let mut mine = next.upload(&Key::new("t/cd/mine")).await.unwrap();
    mine.part(body(500)).await.unwrap();
    assert!(sweep.sweep().await);
    mine.complete().await.unwrap();
    assert!(under_way.complete().await.is_err(), "its parts are gone");
    let not_found = ObjectError::NotFound { key: cut.clone() };
    assert_eq!(next.get(&cut, LIMIT).await.unwrap_err(), not_found);
    assert_eq!(next.get(&whole, LIMIT).await.unwrap(), body(1_000));
    assert_eq!(next.get(&Key::new("t/cd/mine"), LIMIT).await.unwrap(), body(500));
    for key in [whole, Key::new("t/cd/mine")] {
        next.delete(&key).await.unwrap();
    }
}

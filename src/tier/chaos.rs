//! Tiered objects in bad weather: written whole or not at all, read as they were written or not at
//! all. Time is tokio's paused clock, so lost answers cost nothing.

use super::writer::tests::{Part, head, partition, plain, read};
use super::{
    Age, Cache, CacheOptions, ObjectRef, Reader, SectionEnd, Sizes, Upload, UploadError, Uploaded,
};
use crate::budget::{BytePool, Pool};
use crate::metrics::Registry;
use crate::object::Store;
use crate::object::chaos::tests::{STORM, memory, store};

fn pack() -> Vec<Part> {
    vec![plain(partition(1, 0), 0, 4, 100), plain(partition(1, 1), 50, 6, 100)]
}

async fn upload(store: &Store, part: usize) -> Result<Uploaded, UploadError> {
    let mut upload = Upload::new(store, head(), Sizes { chunk: 300, part });
    for section in pack() {
        upload.begin(section.of, section.start_offset)?;
        for batch in &section.batches {
            upload.push(batch).await?;
        }
        let end = SectionEnd {
            end_offset: section.end_offset,
            epochs: &section.epochs,
            ..SectionEnd::default()
        };
        upload.end(&end)?;
    }
    upload.finish().await
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_as_uploaded_is_there_in_any_weather() {
    let mut uploads = 0;
    for seed in 0..120 {
        let bucket = memory();
        let size = if seed % 2 == 0 { 700 } else { 1 << 20 };
        let uploaded = upload(&store(&bucket, STORM, seed), size).await;
        let calm = store(&bucket, "", 0);
        let body = calm.get(&head().id.key(), 1 << 20).await;
        // An object that nobody was told of may be there all the same, and is whole.
        if let Ok(body) = &body {
            assert_eq!(read(body).unwrap(), pack(), "{seed}");
        }
        let Ok(uploaded) = uploaded else { continue };
        assert!(body.is_ok(), "{seed}");
        let footer = Reader::new(&calm, uploaded.object).footer().await.unwrap();
        assert_eq!(footer, uploaded.footer, "{seed}");
        uploads += 1;
    }
    assert!(uploads > 60, "{uploads}");
}

fn cache(store: Store) -> Cache {
    let pool = |bytes| BytePool::new(Pool::Upload, bytes);
    let options = CacheOptions {
        hot: pool(1 << 20),
        catch_up: pool(1 << 20),
        footers: pool(1 << 20),
        catch_up_loads: 2,
    };
    Cache::new(store, options, &Registry::new())
}

/// Reads a section from its beginning, and says what came and whether all of it did.
async fn read_on(cache: &Cache, object: &ObjectRef, part: &Part, age: Age) -> (Vec<u8>, bool) {
    let (mut bytes, mut offset) = (Vec::new(), part.start_offset);
    while offset < part.end_offset {
        match cache.read(object, part.of, offset, age).await {
            Ok(Some(found)) => {
                bytes.extend_from_slice(&found.batches);
                offset = found.next_offset;
            }
            Ok(None) => panic!("the object has {offset}"),
            Err(_) => return (bytes, false),
        }
    }
    (bytes, true)
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_what_was_written_in_any_weather() {
    let bucket = memory();
    let calm = store(&bucket, "", 0);
    let uploaded = upload(&calm, 1 << 20).await.unwrap();
    let (mut whole, mut cut, mut chunks, mut damaged) = (0, 0, 0, 0);
    for seed in 0..60 {
        let stormy = store(&bucket, STORM, seed);
        let reader = Reader::new(&stormy, uploaded.object);
        match reader.footer().await {
            Ok(footer) => assert_eq!(footer, uploaded.footer, "{seed}"),
            Err(_) => damaged += 1,
        }
        let numbers = (0..).take_while(|number| uploaded.footer.chunk(*number).is_some());
        let truth = Reader::new(&calm, uploaded.object);
        for number in numbers {
            match reader.chunks(&uploaded.footer, number..number + 1).await {
                Ok(read) => {
                    let known = truth.chunks(&uploaded.footer, number..number + 1).await.unwrap();
                    assert_eq!(read, known, "{seed} {number}");
                    chunks += 1;
                }
                Err(_) => damaged += 1,
            }
        }
        for (part, age) in pack().iter().zip([Age::Hot, Age::CatchUp]) {
            let cache = cache(stormy.clone());
            let known = part.batches.concat();
            let (bytes, is_whole) = read_on(&cache, &uploaded.object, part, age).await;
            assert!(known.starts_with(&bytes) && (!is_whole || bytes == known), "{seed}");
            whole += usize::from(is_whole);
            cut += usize::from(!is_whole);
            // An error is remembered by nobody: the same cache gives all of it in the end.
            let mut again = false;
            for _ in 0..50 {
                let (bytes, is_whole) = read_on(&cache, &uploaded.object, part, age).await;
                assert!(known.starts_with(&bytes), "{seed}");
                again |= is_whole;
            }
            assert!(again, "{seed}");
        }
    }
    assert!(
        whole > 20 && cut > 5 && chunks > 100 && damaged > 10,
        "{whole} {cut} {chunks} {damaged}"
    );
}

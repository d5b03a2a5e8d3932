//! Listings of stores that know no pages.

use super::*;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;
use crate::object::testing::FaultStore;

async fn all(store: &Store, prefix: &str) -> Vec<Vec<Listed>> {
    let mut listing = store.list(prefix);
    let mut pages = Vec::new();
    while let Some(page) = listing.next_page().await.unwrap() {
        pages.push(page);
    }
    pages
}

/// Not through the store, which would sync each of them.
#[allow(clippy::disallowed_methods, reason = "the test's own files")]
fn write(path: &std::path::Path, body: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
}

#[tokio::test]
async fn a_directory_and_memory_are_listed_in_order_by_pages() {
    let temp = tempfile::tempdir().unwrap();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    for url in ["memory://".to_owned(), format!("file://{}", temp.path().display())] {
        let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
        assert_eq!(all(&store, "t").await, Vec::<Vec<Listed>>::new());
        let before = clock.wall_ms() - 1_000;
        let mut names: Vec<_> = (0..2_003).map(|n| format!("t/{:02x}/{n}", n % 7)).collect();
        names.sort();
        for name in names.iter().rev().map(String::as_str).chain(["tt/1", "m/1"]) {
            if url == "memory://" {
                store.put(&Key::new(name), name.to_owned().into()).await.unwrap();
            } else {
                write(&temp.path().join(name), name);
            }
        }
        let pages = all(&store, "t").await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 3]);
        let found: Vec<_> = pages.into_iter().flatten().collect();
        assert!(found.iter().map(|listed| listed.key.to_string()).eq(names.iter().cloned()));
        for listed in found {
            assert_eq!(listed.bytes, listed.key.to_string().len() as u64);
            assert!((before..clock.wall_ms() + 1_000).contains(&listed.modified_ms), "{listed:?}");
        }
        assert_eq!(all(&store, "").await.concat().len(), 2_005);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_failed_can_be_asked_for_again() {
    let bucket = FaultStore::memory();
    let store = bucket.store();
    for n in 0..1_001 {
        store.put(&Key::numbered("t", n), "x".into()).await.unwrap();
    }
    let mut listing = store.list("t");
    assert_eq!(listing.next_page().await.unwrap().unwrap().len(), PAGE_OBJECTS);
    bucket.set_away(true);
    assert!(listing.next_page().await.unwrap_err().is_retriable());
    bucket.set_away(false);
    let page = listing.next_page().await.unwrap().unwrap();
    assert_eq!(
        page.iter().map(|listed| &listed.key).collect::<Vec<_>>(),
        [&Key::numbered("t", 1_000)]
    );
    assert_eq!(listing.next_page().await.unwrap(), None);
}

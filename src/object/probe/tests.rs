use super::super::testing::FaultStore;
use super::*;
use crate::metrics::Registry;

#[tokio::test]
async fn the_directory_and_the_memory_store_pass() {
    let temp = tempfile::tempdir().unwrap();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    for url in ["memory://".to_owned(), format!("file://{}", temp.path().display())] {
        let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
        run(&store, &random).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_conditions_is_refused_by_name() {
    let store = FaultStore::memory().ignoring_conditions().store();
    let error = run(&store, &Random::seeded(1)).await.unwrap_err();
    let ProbeError::Broken { property, .. } = error else { panic!("{error}") };
    assert_eq!(property, Property::CreateRace);
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_per_url_and_renewed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let (clock, random) = (Clock::manual(1_000), Random::seeded(1));
    let bucket = FaultStore::memory();
    let store = bucket.store();
    ensure(&store, &dir, &clock, &random).await.unwrap();
    let writes = bucket.writes();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), Some(1_000));
    assert_eq!(passed_at("memory://other", &dir).await.unwrap(), None);

    bucket.set_away(true);
    ensure(&store, &dir, &clock, &random).await.unwrap();
    assert_eq!(bucket.writes(), writes);
    renew(&store, &dir, &clock, &random).await.unwrap_err();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), Some(1_000));

    let broken = FaultStore::memory().ignoring_conditions().store();
    renew(&broken, &dir, &clock, &random).await.unwrap_err();
    assert_eq!(passed_at(store.url(), &dir).await.unwrap(), None);
}

#[tokio::test]
async fn the_frozen_sample_of_a_note_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).await.unwrap();
    let note = b"TGPB\x01\0\0\0\xc3\x0b\xa4\xb7\x00\x00\x01\x8b\xcf\xe5\x68\x00\
        memory://";
    dir.write(NOTE_FILE, &note[..]).await.unwrap();
    assert_eq!(passed_at("memory://", &dir).await.unwrap(), Some(1_700_000_000_000));
}

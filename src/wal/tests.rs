//! The contract of the log, for every implementation.

use std::sync::{Arc, Mutex};

use super::memory;
use super::*;

#[derive(Debug, Default)]
struct Watcher {
    durable: Mutex<Vec<Lsn>>,
    evicted: Mutex<Vec<Lsn>>,
}

impl Owner for Watcher {
    fn durable(&self, durable: Lsn) {
        self.durable.lock().unwrap().push(durable);
    }

    fn evict(&self, upto: Lsn) {
        self.evicted.lock().unwrap().push(upto);
    }
}

#[tokio::test]
async fn a_record_is_durable_and_read_back_where_it_was_placed() {
    let (stream, disk) = memory::stream();
    let watcher = Arc::new(Watcher::default());
    let owner: Arc<dyn Owner> = watcher.clone();
    disk.hold();
    let mut admission = stream.admit(5).await.unwrap();
    let mut reservation = stream.reserve(&mut admission, Class::Data, Kind(1), 5, &owner).unwrap();
    reservation.put(b"hello");
    let (lsn, location) = (reservation.lsn(), reservation.location());
    assert_eq!(&reservation.fill()[..], b"hello");
    assert_eq!(stream.durable(), Lsn::ZERO);
    disk.release();
    stream.wait_durable(lsn).await.unwrap();
    assert_eq!(stream.durable(), Lsn(1));
    assert_eq!(*watcher.durable.lock().unwrap(), [Lsn(1)]);
    assert_eq!(&stream.read_record(location).unwrap()[..], b"hello");
    stream.close().await.unwrap();
}

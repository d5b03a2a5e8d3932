//! The contract of the log, for every implementation.

mod contract;
mod corrupt;
mod crash;
mod faults;
mod sim;

use std::sync::{Arc, Mutex};

use super::*;

const DATA: Kind = Kind(1);

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

/// Appends as a partition does: admission, reservation, room where there is none, bytes.
async fn append(
    stream: &Stream,
    class: Class,
    owner: &Arc<dyn Owner>,
    payload: &[u8],
) -> (Lsn, Location) {
    let mut admission = stream.admit(payload.len()).await.unwrap();
    loop {
        match stream.reserve(&mut admission, class, DATA, payload.len(), owner) {
            Ok(mut reservation) => {
                reservation.put(payload);
                let placed = (reservation.lsn(), reservation.location());
                assert_eq!(&reservation.fill()[..], payload);
                return placed;
            }
            Err(ReserveError::NoRoom) => stream.wait_for_room(class, payload.len()).await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_record_is_durable_and_read_back_where_it_was_placed() {
    let (stream, disk) = memory::stream();
    let watcher = Arc::new(Watcher::default());
    let owner: Arc<dyn Owner> = watcher.clone();
    disk.hold();
    let (lsn, location) = append(&stream, Class::Data, &owner, b"hello").await;
    assert_eq!(stream.durable(), Lsn::ZERO);
    disk.release();
    stream.wait_durable(lsn).await.unwrap();
    assert_eq!(stream.durable(), Lsn(1));
    assert_eq!(*watcher.durable.lock().unwrap(), [Lsn(1)]);
    assert_eq!(&stream.read_record(location).unwrap()[..], b"hello");
    stream.close().await.unwrap();
}

//! Failing syncs, full disks, full memory, and how often the disk is synced.

use std::sync::Arc;
use std::time::Duration;

use super::{DATA, Watcher, append};
use crate::budget::{Budget, Pool};
use crate::clock::Clock;
use crate::wal::disk::Disk;
use crate::wal::local::{self, CheckpointKind, SyncMode};
use crate::wal::memory::{self, MemoryDisk};
use crate::wal::{Admission, AdmitError, Class, Lsn, Owner, ReserveError, RoomError, Stream};

fn owner() -> Arc<dyn Owner> {
    Arc::new(Watcher::default())
}

/// Waits until what other threads do has made `done` true.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let (stream, disk) = memory::stream();
    let owner = owner();
    let (first, location) = append(&stream, Class::Data, &owner, b"before").await;
    stream.wait_durable(first).await.unwrap();
    disk.hold();
    let (second, _) = append(&stream, Class::Data, &owner, b"lost").await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let wait = stream.wait_durable(second);
            crate::task::spawn("waiter", wait)
        })
        .collect();
    tokio::task::yield_now().await;
    disk.fail_syncs();
    for wait in waiting {
        wait.await.unwrap().unwrap_err();
    }
    let poisoned = stream.wait_poisoned().await;
    assert!(poisoned.reason.contains("injected sync error"), "{poisoned}");
    assert_eq!(stream.poisoned(), Some(poisoned.clone()));
    assert_eq!(stream.durable(), first, "it never moves again");
    stream.wait_durable(first).await.unwrap();
    assert!(matches!(stream.admit(1).await, Err(AdmitError::Poisoned(_))));
    let mut admission = stream.try_admit(1).unwrap();
    let refused = stream.reserve(&mut admission, Class::Housekeeping, DATA, 1, &owner);
    assert!(matches!(refused, Err(ReserveError::Poisoned(_))));
    assert!(matches!(stream.wait_for_room(Class::Data, 1).await, Err(RoomError::Poisoned(_))));
    assert_eq!(&stream.read_record(location).unwrap()[..], b"before", "reads go on");
    assert_eq!(stream.close().await, Err(poisoned));
}

#[tokio::test]
async fn a_reservation_dropped_unfilled_stops_the_log() {
    let (stream, _disk) = memory::stream();
    let owner = owner();
    let mut admission = stream.admit(10).await.unwrap();
    let lost = stream.reserve(&mut admission, Class::Data, DATA, 10, &owner).unwrap();
    let after = stream.wait_durable(lost.lsn());
    drop(lost);
    after.await.unwrap_err();
    assert!(stream.poisoned().is_some());
}

#[tokio::test]
async fn one_appender_makes_exactly_one_sync_per_append() {
    let (stream, _disk) = memory::stream();
    let owner = owner();
    for _ in 0..100 {
        let (lsn, _) = append(&stream, Class::Data, &owner, &[1; 200]).await;
        stream.wait_durable(lsn).await.unwrap();
    }
    assert_eq!(stream.metrics().syncs(), 100);
    assert_eq!(stream.metrics().copied_bytes(), 100 * 200, "one copy per byte");
}

#[tokio::test]
async fn many_appenders_share_their_syncs() {
    const APPENDERS: u64 = 64;
    const EACH: u64 = 50;
    let (stream, disk) = memory::stream();
    // Room is made by syncs, too: were one of them held, nobody could append.
    stream.wait_for_room(Class::Data, (APPENDERS * EACH * 200) as usize).await.unwrap();
    disk.hold();
    let tasks: Vec<_> = (0..APPENDERS)
        .map(|_| {
            let stream = stream.clone();
            crate::task::spawn("appender", async move {
                let owner = owner();
                for _ in 0..EACH {
                    let (lsn, _) = append(&stream, Class::Data, &owner, &[1; 100]).await;
                    stream.wait_durable(lsn).await.unwrap();
                }
            })
        })
        .collect();
    let total = APPENDERS * EACH;
    // A sync takes as long as all appenders need to have a record on its way.
    while stream.durable() < Lsn(total) {
        until(|| {
            let (durable, reserved) = (stream.durable().0, stream.reserved().0);
            reserved - durable >= APPENDERS.min(total - durable)
                || tasks.iter().any(tokio::task::JoinHandle::is_finished)
        })
        .await;
        let before = disk.syncs();
        disk.release_one();
        until(|| disk.syncs() > before || stream.durable() == Lsn(total)).await;
    }
    disk.release();
    for task in tasks {
        task.await.unwrap();
    }
    let syncs = stream.metrics().syncs();
    assert!(syncs * 10 <= total, "{syncs} syncs for {total} appends");
}

/// Appends until there is no room; how many records there were.
async fn append_until_full(stream: &Stream, class: Class) -> usize {
    let owner = owner();
    let mut count = 0;
    loop {
        let mut admission = stream.admit(1000).await.unwrap();
        match stream.reserve(&mut admission, class, DATA, 1000, &owner) {
            Ok(reservation) => {
                drop(reservation.fill());
                count += 1;
            }
            Err(ReserveError::NoRoom) => match stream.wait_for_room(class, 1000).await {
                Ok(()) => {}
                Err(RoomError::Full { .. }) => return count,
                Err(error) => panic!("{error}"),
            },
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_data_keeps_its_reserve_and_recovers_by_itself() {
    let disk = MemoryDisk::new();
    disk.set_capacity(4 << 20);
    let stream = memory::open(&disk).unwrap().stream;
    let owner = owner();
    let (first, location) = append(&stream, Class::Data, &owner, b"first").await;
    assert!(append_until_full(&stream, Class::Data).await > 1000);
    let reserved = stream.reserved();
    stream.wait_durable(reserved).await.unwrap();
    assert!(disk.used() < 4 << 20, "refused before the disk is full");
    assert_eq!(append_until_full(&stream, Class::Data).await, 0);
    assert_eq!(stream.reserved(), reserved, "a refusal changes nothing");
    assert_eq!(&stream.read_record(location).unwrap()[..], b"first", "reads go on");
    // Internal topics get one reserve file, data nothing of it, housekeeping the last one.
    assert!(append_until_full(&stream, Class::Internal).await > 10);
    assert_eq!(append_until_full(&stream, Class::Data).await, 0);
    append(&stream, Class::Housekeeping, &owner, b"drop").await;
    assert_eq!(append_until_full(&stream, Class::Internal).await, 0);
    // More space, and after a while somebody asks again.
    disk.set_capacity(6 << 20);
    assert_eq!(append_until_full(&stream, Class::Data).await, 0, "not tried again at once");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(append_until_full(&stream, Class::Data).await > 500);
    // Or files are given back.
    let last = stream.reserved();
    stream.flush().await.unwrap();
    stream.trim(last).await.unwrap();
    let log = stream.clone();
    let done = crate::task::blocking(move || {
        log.checkpoint(CheckpointKind::Base, last, std::iter::empty())
    });
    done.await.unwrap().unwrap();
    assert!(append_until_full(&stream, Class::Data).await > 1000);
    assert!(first < stream.reserved());
    stream.close().await.unwrap();
}

// In real time: a paused clock runs ahead while the log's own threads work.
#[tokio::test]
async fn a_full_log_is_waited_for_until_the_deadline_or_until_there_is_room() {
    let disk = MemoryDisk::new();
    disk.set_capacity(4 << 20);
    let stream = memory::open(&disk).unwrap().stream;
    assert!(append_until_full(&stream, Class::Data).await > 1000);
    let clock = Clock::system();
    let deadline = clock.now() + Duration::from_millis(50);
    let full = stream.wait_for_space(Class::Data, 1000, deadline).await;
    assert!(matches!(full, Err(RoomError::Full { .. })), "{full:?}");
    assert!(clock.now() >= deadline);
    let full = stream.wait_for_space(Class::Data, 1000, deadline).await;
    assert!(matches!(full, Err(RoomError::Full { .. })), "not waited for again: {full:?}");
    let waiting = stream.wait_for_space(Class::Data, 1000, clock.now() + Duration::from_hours(1));
    let freeing = async {
        let last = stream.reserved();
        stream.flush().await.unwrap();
        stream.trim(last).await.unwrap();
        let log = stream.clone();
        let done = crate::task::blocking(move || {
            log.checkpoint(CheckpointKind::Base, last, std::iter::empty())
        });
        done.await.unwrap().unwrap();
    };
    let (room, ()) = futures_util::future::join(waiting, freeing).await;
    room.unwrap();
    stream.close().await.unwrap();
}

#[tokio::test]
async fn who_holds_the_pool_keeps_no_record_out_that_gives_space_back() {
    let disk = MemoryDisk::new();
    let stream = memory::open(&disk).unwrap().stream;
    let mut held = Vec::new();
    while let Some(admission) = stream.try_admit(1000) {
        held.push(admission);
    }
    let (mut admission, owner) = (Admission::uncharged(), owner());
    for _ in 0..2 {
        let reservation =
            stream.reserve(&mut admission, Class::Housekeeping, DATA, 5000, &owner).unwrap();
        let lsn = reservation.lsn();
        drop(reservation.fill());
        stream.wait_durable(lsn).await.unwrap();
    }
    let mut none = Admission::none();
    let refused = stream.reserve(&mut none, Class::Housekeeping, DATA, 1, &owner).unwrap_err();
    assert_eq!(refused, ReserveError::Unadmitted { bytes: 1, admitted: 0 });
    drop(held);
    stream.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_full_opens_again_and_again() {
    let disk = MemoryDisk::new();
    disk.set_capacity(4 << 20);
    let mut stream = memory::open(&disk).unwrap().stream;
    append_until_full(&stream, Class::Data).await;
    for _ in 0..8 {
        let end = stream.reserved();
        stream.close().await.unwrap();
        stream = memory::open(&disk).unwrap().stream;
        assert_eq!(stream.durable(), end);
        assert_eq!(append_until_full(&stream, Class::Data).await, 0);
    }
    append(&stream, Class::Housekeeping, &owner(), b"drop").await;
}

/// Recovery copies the last group into a file of the reserve, which on a full disk cannot grow.
#[tokio::test(start_paused = true)]
async fn a_record_that_could_not_be_recovered_on_a_full_disk_is_refused() {
    let disk = MemoryDisk::new();
    let stream = memory::open(&disk).unwrap().stream;
    append(&stream, Class::Data, &owner(), b"first").await;
    until(|| disk.used() >= 3 * (256 << 10)).await;
    disk.set_capacity(disk.used());
    let large = vec![1; 250_000];
    let mut admission = stream.admit(large.len()).await.unwrap();
    let placed = stream.reserve(&mut admission, Class::Data, DATA, large.len(), &owner());
    assert!(matches!(placed, Err(ReserveError::NoRoom)));
    let room = stream.wait_for_room(Class::Data, large.len()).await;
    assert!(matches!(room, Err(RoomError::Full { .. })), "{room:?}");
    // The disk has room again: the reserve grows first.
    disk.set_capacity(64 << 20);
    tokio::time::advance(Duration::from_secs(2)).await;
    stream.wait_for_room(Class::Data, large.len()).await.unwrap();
    let (last, _) = append(&stream, Class::Data, &owner(), &large).await;
    stream.wait_durable(last).await.unwrap();
    disk.set_capacity(disk.used());
    stream.close().await.unwrap();
    assert_eq!(memory::open(&disk).unwrap().stream.durable(), last);
}

#[tokio::test]
async fn memory_of_durable_records_is_taken_back_when_the_tail_is_full() {
    let disk: Arc<dyn Disk> = MemoryDisk::new();
    let budget = Budget::new(16 << 20);
    let env = local::Env { budget: budget.clone(), ..memory::env() };
    let stream = local::open(&disk, &memory::options(), &env).unwrap().stream;
    let watcher = Arc::new(Watcher::default());
    let owner: Arc<dyn Owner> = watcher.clone();
    let tail = budget.pool(Pool::Tail);
    let record = vec![1; 100_000];
    let mut held = None;
    for _ in 0..100 {
        let (lsn, location) = append(&stream, Class::Data, &owner, &record).await;
        stream.wait_durable(lsn).await.unwrap();
        held.get_or_insert(location);
        assert!(tail.used() <= tail.capacity());
    }
    stream.close().await.unwrap();
    let evicted = watcher.evicted.lock().unwrap().clone();
    assert!(!evicted.is_empty() && evicted.is_sorted());
    assert!(*evicted.last().unwrap() >= Lsn(40), "{evicted:?}");
    assert_eq!(stream.lingering().bytes, 0);
    assert_eq!(budget.pool(Pool::Wal).used(), 0);
    assert_eq!(budget.pool(Pool::Send).used(), 0);
}

#[tokio::test]
async fn blocks_that_only_responses_hold_count_as_send() {
    let disk: Arc<dyn Disk> = MemoryDisk::new();
    let budget = Budget::new(16 << 20);
    let env = local::Env { budget: budget.clone(), ..memory::env() };
    let stream = local::open(&disk, &memory::options(), &env).unwrap().stream;
    let owner = owner();
    let mut slices = Vec::new();
    for _ in 0..150 {
        let mut admission = stream.admit(100_000).await.unwrap();
        stream.wait_for_room(Class::Data, 100_000).await.unwrap();
        let reserved = stream.reserve(&mut admission, Class::Data, DATA, 100_000, &owner);
        let reservation = reserved.unwrap();
        let lsn = reservation.lsn();
        slices.push(reservation.fill());
        stream.wait_durable(lsn).await.unwrap();
    }
    stream.close().await.unwrap();
    let lingering = stream.lingering();
    assert!(lingering.bytes > 5 << 20, "{lingering:?}");
    let send = budget.pool(Pool::Send);
    assert_eq!(lingering.bytes - lingering.uncharged, send.used());
    assert!(lingering.uncharged > 0, "more than the send pool holds: {lingering:?}");
    assert!(slices.iter().all(|slice| slice.iter().all(|byte| *byte == 0)));
    slices.clear();
    assert_eq!(stream.lingering().bytes, 0);
    assert_eq!(send.used(), 0);
}

#[tokio::test]
async fn a_request_waits_for_the_bytes_of_those_before_it() {
    let (stream, disk) = memory::stream();
    let owner = owner();
    let pool = memory::env().budget.pool(Pool::Wal).capacity();
    disk.hold();
    append(&stream, Class::Data, &owner, &[0; 1000]).await;
    let mut all = stream.admit(pool - 1000).await.unwrap();
    assert!(stream.try_admit(1000).is_none());
    drop(stream.reserve(&mut all, Class::Data, DATA, 10, &owner).unwrap().fill());
    drop(all);
    assert!(stream.try_admit(pool).is_none(), "records on their way are charged");
    disk.release();
    stream.admit(pool).await.unwrap();
    assert!(matches!(stream.admit(pool + 1).await, Err(AdmitError::TooLarge(_))));
}

/// A log that is synced in intervals of `interval`.
fn open_interval(disk: &Arc<MemoryDisk>, interval: Duration) -> Stream {
    let disk: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(disk);
    let options = local::Options { sync: SyncMode::Interval(interval), ..memory::options() };
    local::open(&disk, &options, &memory::env()).unwrap().stream
}

#[tokio::test]
async fn with_syncs_in_intervals_a_record_is_durable_once_written() {
    let disk = MemoryDisk::new();
    let stream = open_interval(&disk, Duration::from_hours(1));
    let (lsn, _) = append(&stream, Class::Data, &owner(), b"record").await;
    stream.wait_durable(lsn).await.unwrap();
    assert_eq!((stream.synced(), stream.metrics().syncs()), (Lsn::ZERO, 0));
    stream.sync_now().await.unwrap();
    assert_eq!((stream.synced(), stream.metrics().syncs()), (lsn, 1));
    disk.fail_syncs();
    let (lsn, _) = append(&stream, Class::Data, &owner(), b"record").await;
    stream.wait_durable(lsn).await.unwrap();
    stream.sync_now().await.unwrap_err();
    assert!(stream.poisoned().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_interval_brings_the_sync_and_only_if_there_is_something_to_sync() {
    let stream = open_interval(&MemoryDisk::new(), Duration::from_millis(50));
    let (lsn, _) = append(&stream, Class::Data, &owner(), b"record").await;
    stream.wait_durable(lsn).await.unwrap();
    let clock = Clock::system();
    clock.sleep(Duration::from_millis(60)).await;
    until(|| stream.synced() == lsn).await;
    clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(stream.metrics().syncs(), 1);
}

#[tokio::test]
async fn a_wait_can_be_given_up_at_any_time() {
    let (stream, disk) = memory::stream();
    disk.hold();
    let (lsn, _) = append(&stream, Class::Data, &owner(), b"record").await;
    let mut given_up = stream.wait_durable(lsn);
    assert!(futures_util::poll!(&mut given_up).is_pending());
    drop(given_up);
    let mut kept = stream.wait_durable(lsn);
    assert!(futures_util::poll!(&mut kept).is_pending());
    disk.release();
    kept.await.unwrap();
}

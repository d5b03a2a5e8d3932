//! The crash suite: a workload on the recording disk, then a crash after every operation of it,
//! with what was not synced lost, kept or torn, and again a crash after every operation of the
//! recovery. Every time the log must open with everything that was acknowledged, in order, and
//! nothing else, and must go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::sim::{Crash, Image, Op, SimDisk};
use super::{Watcher, append};
use crate::clock::Random;
use crate::wal::disk::Disk;
use crate::wal::local::{self, CheckpointKind, Opened, Options, SyncMode};
use crate::wal::{Class, Location, Lsn, Owner, Stream, memory};

/// The recovery is crashed after each of its operations in one of so many states.
const AGAIN_EVERY: usize = 29;

/// `TIDEGATE_CRASH_SEEDS=100` runs as many workloads instead of the given number.
fn seeds(first: u64, usual: u64) -> impl Iterator<Item = u64> {
    let asked = std::env::var("TIDEGATE_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    first..first + asked.unwrap_or(usual)
}

fn options(sync: SyncMode) -> Options {
    Options {
        sync,
        file_bytes: 48 << 10,
        step_bytes: 8 << 10,
        first_file_bytes: 20 << 10,
        group_bytes: 8 << 10,
        ..Options::new(*b"the crash suite.")
    }
}

fn open(disk: &Arc<SimDisk>, sync: SyncMode) -> Opened {
    try_open(disk, sync).unwrap_or_else(|error| panic!("{error} ({error:?})"))
}

fn try_open(disk: &Arc<SimDisk>, sync: SyncMode) -> Result<Opened, local::OpenError> {
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    // Every life has salts of its own, as with real chance.
    let mut env = memory::env();
    env.random = Random::system();
    local::open(&disk, &options(sync), &env)
}

/// What the workload knows about its records.
#[derive(Default)]
struct Known {
    payloads: BTreeMap<Lsn, Bytes>,
    locations: BTreeMap<Lsn, Location>,
}

fn payload(random: &Random, id: u64) -> Bytes {
    let len = match random.below(8) {
        0 => random.below(6000),
        1 => 0,
        _ => random.below(300),
    };
    let bytes = id.to_le_bytes().into_iter().chain((0..len).map(|at| (at * 7 + id) as u8));
    bytes.collect()
}

struct Workload {
    disk: Arc<SimDisk>,
    sync: SyncMode,
    random: Random,
    stream: Stream,
    owners: Vec<Arc<dyn Owner>>,
    known: Known,
    next_id: u64,
}

impl Workload {
    fn new(seed: u64, sync: SyncMode) -> Self {
        let disk = SimDisk::new();
        let opened = open(&disk, sync);
        let owners = (0..3).map(|_| Arc::new(Watcher::default()) as Arc<dyn Owner>).collect();
        Self {
            disk,
            sync,
            random: Random::seeded(seed),
            stream: opened.stream,
            owners,
            known: Known::default(),
            next_id: 1,
        }
    }

    async fn run(&mut self, steps: usize) {
        for step in 0..steps {
            match self.random.below(40) {
                0..36 => self.append().await,
                36 | 37 => self.checkpoint().await,
                38 => self.trim().await,
                _ if step > 10 => self.reopen().await,
                _ => {}
            }
        }
        self.stream.close().await.unwrap();
    }

    async fn append(&mut self) {
        let count = 1 + self.random.below(4);
        let mut last = Lsn::ZERO;
        for _ in 0..count {
            let bytes = payload(&self.random, self.next_id);
            self.next_id += 1;
            let owner = &self.owners[self.random.below(3) as usize];
            let (lsn, location) = append(&self.stream, Class::Data, owner, &bytes).await;
            self.disk.note(Op::Reserved(lsn));
            self.known.payloads.insert(lsn, bytes);
            self.known.locations.insert(lsn, location);
            last = lsn;
        }
        if self.random.below(3) > 0 {
            self.acked(last).await;
        }
    }

    async fn acked(&self, lsn: Lsn) {
        self.stream.wait_durable(lsn).await.unwrap();
        if self.sync != SyncMode::Always {
            self.stream.sync_now().await.unwrap();
        }
        self.disk.note(Op::Acked(lsn));
    }

    async fn checkpoint(&mut self) {
        let stream = self.stream.clone();
        let kind = stream.next_checkpoint();
        let covers = stream.durable();
        let parts = checkpoint_parts(covers);
        let done = crate::task::blocking(move || stream.checkpoint(kind, covers, parts));
        done.await.unwrap().unwrap();
        self.disk.note(Op::AckedCheckpoint(covers));
    }

    async fn trim(&mut self) {
        let durable = self.stream.durable().0;
        let floor = Lsn(durable.saturating_sub(self.random.below(60)));
        self.disk.note(Op::AskedTrim(floor));
        self.stream.trim(floor).await.unwrap();
    }

    async fn reopen(&mut self) {
        let reserved = self.stream.reserved();
        self.acked(reserved).await;
        self.stream.close().await.unwrap();
        // The last handle must be gone before the directory can be locked again.
        let closed = std::mem::replace(&mut self.stream, memory::stream().0);
        drop(closed);
        let opened = loop {
            match try_open(&self.disk, self.sync) {
                Ok(opened) => break opened,
                Err(local::OpenError::Locked) => tokio::task::yield_now().await,
                Err(error) => panic!("{error} ({error:?})"),
            }
        };
        for entry in opened.recovered.replay {
            let entry = entry.unwrap();
            self.known.locations.insert(entry.lsn, entry.location);
        }
        self.stream = opened.stream;
    }
}

fn checkpoint_parts(covers: Lsn) -> impl Iterator<Item = Bytes> {
    (0..covers.0 % 5).map(move |index| Bytes::from(format!("part {index} of {covers}")))
}

/// What must be true after a crash that came after `ops`.
#[derive(Debug, Default)]
struct Promised {
    acked: Lsn,
    reserved: Lsn,
    checkpoint: Lsn,
    floor: Lsn,
}

fn promised(ops: &[Op]) -> Promised {
    let mut promised = Promised::default();
    for op in ops {
        match op {
            Op::Acked(lsn) => promised.acked = *lsn,
            Op::Reserved(lsn) => promised.reserved = *lsn,
            Op::AckedCheckpoint(covers) => promised.checkpoint = *covers,
            Op::AskedTrim(floor) => promised.floor = promised.floor.max(*floor),
            _ => {}
        }
    }
    promised
}

/// Opens a crashed disk and checks it against what was promised; then appends. Returns the disk,
/// which has recorded all that.
fn check(disk: &Arc<SimDisk>, sync: SyncMode, known: &Known, promised: &Promised, what: &str) {
    let Opened { stream, recovered } =
        try_open(disk, sync).unwrap_or_else(|error| panic!("{what}: {error} ({error:?})"));
    let end = recovered.end;
    assert!(end >= promised.acked, "{what}: acknowledged {} but found {end}", promised.acked);
    assert!(recovered.covered >= promised.checkpoint, "{what}: a checkpoint is gone");
    let mut expected = recovered.covered;
    if let Some(last) = recovered.checkpoints.last() {
        assert_eq!(last.covers, recovered.covered);
        let parts: Vec<_> = last.parts().map(Result::unwrap).collect();
        assert!(parts.into_iter().eq(checkpoint_parts(last.covers)), "{what}: checkpoint");
        assert_eq!(recovered.checkpoints[0].kind, CheckpointKind::Base);
    }
    for entry in recovered.replay {
        let entry = entry.unwrap_or_else(|error| panic!("{what}: {error}"));
        // The log's own records are not handed out, so that only these may be missed.
        while expected.next() < entry.lsn {
            expected = expected.next();
            assert!(!known.payloads.contains_key(&expected), "{what}: record {expected} is gone");
        }
        expected = entry.lsn;
        assert_eq!(Some(&entry.payload), known.payloads.get(&entry.lsn), "{what}: {}", entry.lsn);
        let again = stream.read_record(entry.location).unwrap();
        assert_eq!(again, entry.payload);
    }
    for lsn in (expected.0 + 1..=end.0).map(Lsn) {
        assert!(!known.payloads.contains_key(&lsn), "{what}: record {lsn} is gone");
    }
    let kept = known.locations.iter().filter(|(lsn, _)| **lsn >= promised.floor);
    for (lsn, location) in kept.take_while(|(lsn, _)| **lsn <= recovered.covered) {
        let read = stream.read_record(*location);
        let read = read.unwrap_or_else(|error| panic!("{what}: record {lsn}: {error}"));
        assert_eq!(read, known.payloads[lsn], "{what}: record {lsn}");
    }
    go_on(&stream, end, what);
}

/// Appends to a recovered log and reads it back.
fn go_on(stream: &Stream, end: Lsn, what: &str) {
    let owner: Arc<dyn Owner> = Arc::new(Watcher::default());
    let mut admission = stream.try_admit(3000).unwrap();
    let kind = super::DATA;
    let reserved = stream.reserve(&mut admission, Class::Housekeeping, kind, 3000, &owner);
    if let Ok(mut reservation) = reserved {
        assert_eq!(reservation.lsn(), end.next(), "{what}: LSNs are dense");
        let (lsn, location) = (reservation.lsn(), reservation.location());
        reservation.payload_mut().fill(7);
        drop(reservation.fill());
        stream.wait_durable_blocking(lsn).unwrap();
        assert!(stream.read_record(location).unwrap().iter().all(|byte| *byte == 7));
    }
}

fn crashes(seed: u64) -> Vec<Crash> {
    vec![
        Crash::Lost,
        Crash::Kept,
        Crash::Torn(seed),
        Crash::Torn(seed ^ 0xABCD),
        Crash::Torn(!seed),
    ]
}

async fn suite(seed: u64, steps: usize, sync: SyncMode) {
    let mut workload = Workload::new(seed, sync);
    workload.run(steps).await;
    let Workload { disk, known, .. } = workload;
    let ops = disk.ops();
    let mut states = 0;
    let mut image = disk.before();
    for count in 0..=ops.len() {
        if let Some(last) = count.checked_sub(1) {
            image.apply(&ops[last]);
        }
        let promised = promised(&ops[..count]);
        for crash in crashes(seed.wrapping_add(count as u64)) {
            let what = format!("seed {seed}, crash {crash:?} after {count} operations");
            let crashed = image.crashed(crash);
            check(&crashed, sync, &known, &promised, &what);
            states += 1;
            if count % AGAIN_EVERY == 0 {
                states += crash_again(&image, crash, sync, &known, &promised, &what);
            }
        }
    }
    println!("seed {seed}: {} operations, {states} states", ops.len());
}

/// Crashes the recovery after each of its operations.
fn crash_again(
    image: &Image,
    crash: Crash,
    sync: SyncMode,
    known: &Known,
    promised: &Promised,
    what: &str,
) -> usize {
    let first = image.crashed(crash);
    let opened = try_open(&first, sync).unwrap();
    let end = opened.recovered.end;
    drop(opened);
    let ops = first.ops();
    // What the first recovery could have served must stay.
    let promised_then = Promised { acked: end, ..*promised };
    let mut synced = 0;
    let mut image = first.before();
    for again in 0..=ops.len() {
        // The recovery ends with the sync of the fresh file's header.
        if let Some(last) = again.checked_sub(1) {
            image.apply(&ops[last]);
        }
        synced += usize::from(again > 0 && matches!(ops[again - 1], Op::Sync { .. }));
        for second in [Crash::Lost, Crash::Kept, Crash::Torn(again as u64)] {
            let what = format!("{what}, then {second:?} after {again}");
            let crashed = image.crashed(second);
            let served = again == ops.len() && synced >= 2;
            check(&crashed, sync, known, if served { &promised_then } else { promised }, &what);
        }
    }
    3 * (ops.len() + 1)
}

#[tokio::test]
async fn every_crash_recovers_to_a_legal_state() {
    for seed in seeds(1, 2) {
        suite(seed, 50, SyncMode::Always).await;
    }
}

#[tokio::test]
async fn every_crash_keeps_what_was_synced_when_syncs_come_in_intervals() {
    let interval = SyncMode::Interval(std::time::Duration::from_millis(1));
    for seed in seeds(9, 1) {
        suite(seed, 50, interval).await;
    }
}

//! A disk that fills up (issue 3, M2): refusals come before the disk is full, reading goes on, and
//! writing resumes by itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, KAFKA_STORAGE_ERROR, NONE, batches, create_topic, fetched, produce, record,
};

const MIB: u64 = 1 << 20;
const DISK: u64 = 96 * MIB;
const BALLAST: u64 = 32 * MIB;
const BATCH_BYTES: usize = 512 << 10;

/// A small file system in memory, unmounted when dropped.
struct Tmpfs(TempDir);

impl Tmpfs {
    /// Mounts one of `bytes` bytes. It is never skipped: without the right to mount it fails.
    fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .status()
            .expect("run mount");
        assert!(mounted.success(), "this test mounts a tmpfs: run it as root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills `bytes` bytes with a file.
    fn ballast(&self, bytes: u64) -> PathBuf {
        let path = self.path().join("ballast");
        let file = File::create(&path).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since a broker that was killed in a panic may still be ending.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Produces until the broker refuses; how many batches it took.
fn fill(wire: &mut Wire) -> i64 {
    let batch = record(BATCH_BYTES);
    for offset in 0..(DISK / BATCH_BYTES as u64) as i64 {
        match produce(wire, "a", batch.clone()) {
            (NONE, base_offset) => assert_eq!(base_offset, offset),
            (code, _) => {
                assert_eq!(code, KAFKA_STORAGE_ERROR);
                return offset;
            }
        }
    }
    panic!("more fits than the disk has");
}

fn count(wire: &mut Wire) -> i64 {
    let mut next = 0;
    loop {
        let fetch = Fetch { max_bytes: 8 << 20, ..Fetch::at(next) };
        let found = batches(&fetched(wire.call(FETCH, &fetch.request("a"))));
        if found.is_empty() {
            return next;
        }
        for (offset, _) in found {
            assert_eq!(offset, next);
            next += 1;
        }
    }
}

#[test]
fn produce_is_refused_before_the_disk_is_full_and_resumes_when_space_returns() {
    let disk = Tmpfs::mount(DISK);
    let ballast = disk.ballast(BALLAST);
    // The disk is the bound here, not the log's own.
    let options = Options::new().set("wal.max.bytes", 4 * DISK);
    let mut broker = Broker::start_with(options.data_dir(disk.path().join("data")));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);

    let taken = fill(&mut wire);
    assert!(taken >= 8, "the disk has room for more than {taken} batches");
    let free = disk.free();
    assert!(free > 0, "the refusal comes before the disk is full");
    assert!(disk.free() < BALLAST, "and not before it is needed");
    // Refused again and again, it neither fills the disk nor stops.
    for _ in 0..20 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (KAFKA_STORAGE_ERROR, -1));
    }
    assert_eq!(disk.free(), free);
    assert_eq!(broker.admin("/livez").0, 200);
    assert_eq!(count(&mut wire), taken, "what was acknowledged can be read, and nothing else");

    std::fs::remove_file(ballast).unwrap();
    let batch = record(BATCH_BYTES);
    let mut resumed = None;
    broker.wait_until("producing resumes by itself", |_| {
        let (code, offset) = produce(&mut wire, "a", batch.clone());
        assert!(code == NONE || code == KAFKA_STORAGE_ERROR, "code {code}");
        resumed = (code == NONE).then_some(offset);
        resumed.is_some()
    });
    assert_eq!(resumed, Some(taken), "a refused batch took no offset");
    for more in 1..8 {
        assert_eq!(produce(&mut wire, "a", record(BATCH_BYTES)), (NONE, taken + more));
    }

    broker.kill();
    broker.restart();
    assert_eq!(count(&mut broker.connect()), taken + 8);
    assert_eq!(broker.stop(), Some(0), "a stop needs no space that is not there");
}

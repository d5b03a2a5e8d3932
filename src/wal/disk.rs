//! The files of the log behind a trait, so that tests can lose, tear and refuse writes.
#![allow(clippy::disallowed_methods, reason = "this is the room that the ban points to")]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

/// A flat directory of files. Calls may block.
///
/// Durability follows POSIX: bytes and length of a file are safe after its [`DiskFile::sync`],
/// creations, renames and removals after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates the directory if need be and takes its lock; the guard holds it. A directory that is
    /// locked already gives [`io::ErrorKind::WouldBlock`].
    fn lock(&self) -> io::Result<Box<dyn LockGuard>>;
    /// The names of the files; empty if the directory does not exist.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; an existing one is an error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading, and for writing where `writable`.
    fn open(&self, name: &str, writable: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing what is called `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Free and total bytes of the file system.
    fn space(&self) -> io::Result<Space>;
}

/// Holds the lock of a directory until it is dropped.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Available to this process.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// A file of a [`Disk`].
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Appends to `into` the bytes from `position` on, `len` of them or as many as there are.
    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()>;
    /// Writes all slices one after the other from `position` on.
    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Takes room for the bytes from `from` to `until` without writing them; they read as zeros.
    /// [`io::ErrorKind::Unsupported`] where the disk cannot.
    fn allocate(&self, _from: u64, _until: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes everything written so far durable, with the length of the file.
    fn sync(&self) -> io::Result<()>;
    /// The length of the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
}

/// The name of the lock file in a directory.
const LOCK_FILE: &str = "lock";

impl RealDisk {
    /// The directory `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { dir: dir.into() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[derive(Debug)]
struct RealLock {
    /// The lock lives as long as this is open.
    _file: File,
}

impl LockGuard for RealLock {}

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        crate::object::create_dir(&self.dir).map_err(|error| error.source)?;
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(self.path(LOCK_FILE))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.retain(|name| name != LOCK_FILE);
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.create_new(true).read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(writable).open(self.path(name))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.dir)
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.dir)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

/// The most slices that one write takes (`IOV_MAX` of Linux).
const MAX_SLICES: usize = 1024;

impl DiskFile for RealFile {
    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()> {
        let end = into.len() + len;
        into.reserve_exact(len);
        let mut position = position;
        while into.len() < end {
            let before = into.len();
            // The spare capacity may be larger than what was asked for; the surplus is cut off.
            let spare = rustix::buffer::spare_capacity(into);
            match rustix::io::pread(&self.file, spare, position) {
                Ok(0) => break,
                Ok(read) => position += read as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    into.truncate(before);
                    return Err(error.into());
                }
            }
        }
        into.truncate(end);
        Ok(())
    }

    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut left = slices;
        let mut position = position;
        while left.iter().any(|slice| !slice.is_empty()) {
            let now = left.get(..MAX_SLICES).unwrap_or(left);
            match rustix::io::pwritev(&self.file, now, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn allocate(&self, from: u64, until: u64) -> io::Result<()> {
        let len = until.saturating_sub(from);
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), from, len) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            done => Ok(done?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

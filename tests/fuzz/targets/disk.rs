//! The log's files in memory. Reading takes memory as it does from a real disk: all that is asked
//! for at once, so that a length nobody checked is seen.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use tidegate::wal::disk::{Disk, DiskFile, LockGuard, Space};

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct Contents(Mutex<Vec<u8>>);

/// A flat directory.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: Mutex<BTreeMap<String, Arc<Contents>>>,
}

impl Folder {
    /// A directory with these files.
    pub(super) fn of(files: &Files) -> Arc<Self> {
        let contents = |bytes: &Vec<u8>| Arc::new(Contents(Mutex::new(bytes.clone())));
        let files = files.iter().map(|(name, bytes)| (name.clone(), contents(bytes))).collect();
        Arc::new(Self { files: Mutex::new(files) })
    }

    /// A copy of all files.
    pub(super) fn copy(&self) -> Files {
        let copy = |(name, contents): (&String, &Arc<Contents>)| {
            (name.clone(), contents.0.lock().expect("no panic under it").clone())
        };
        self.files().iter().map(copy).collect()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Contents>>> {
        self.files.lock().expect("no panic under it")
    }
}

#[derive(Debug)]
struct Unlocked;

impl LockGuard for Unlocked {}

impl Disk for Folder {
    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        Ok(Box::new(Unlocked))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(Contents::default());
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files().get(name).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}

impl DiskFile for Contents {
    fn read(&self, into: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()> {
        into.reserve_exact(len);
        let bytes = self.0.lock().expect("no panic under it");
        let from = usize::try_from(position).map_or(bytes.len(), |from| from.min(bytes.len()));
        let until = from.saturating_add(len).min(bytes.len());
        into.extend_from_slice(&bytes[from..until]);
        Ok(())
    }

    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().expect("no panic under it");
        let mut at = position as usize;
        for slice in slices {
            let end = at + slice.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic under it").len() as u64)
    }
}

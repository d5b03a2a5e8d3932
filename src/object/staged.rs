//! What a kill leaves of objects that are files.
//!
//! The client library writes an object to a file beside it, `<name>#<number>`, and renames that. Of
//! a process that was killed such a file remains: it shows in no listing and takes its room.
#![allow(clippy::disallowed_methods, reason = "the bucket's files are this room's")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{info, warn};

use crate::task;

/// A file whose time tells the moment by the file system's clock, which need not be this machine's.
/// Its own name is that of a file that is not complete.
const MOMENT: &str = "tidegate-start#0";

/// Now, by the clock that stamps the files of `directory`; `None` if that cannot be known.
pub(super) async fn moment(directory: PathBuf) -> Option<SystemTime> {
    let stamp = move || -> io::Result<SystemTime> {
        let path = directory.join(MOMENT);
        let modified = File::create(&path).and_then(|file| file.metadata()?.modified());
        fs::remove_file(&path)?;
        modified
    };
    task::blocking(stamp).await.ok()?.ok()
}

/// Removes what is not complete below `directory` and was last written before `began`. Whoever
/// writes such a file all the same (another process, which must not be there) gets an error.
pub(super) async fn remove_older(directory: PathBuf, began: SystemTime) {
    let place = directory.display().to_string();
    let removed = task::blocking(move || remove(directory, began)).await;
    match removed {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(files)) => info!(files, "objects that were not complete were removed"),
        Ok(Err(error)) => warn!(%error, place, "objects that are not complete may be left"),
    }
}

/// How many were removed. An error is the last of those met; the rest is removed all the same.
fn remove(directory: PathBuf, began: SystemTime) -> io::Result<usize> {
    let mut directories = vec![directory];
    let mut removed = 0;
    let mut failed = None;
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        for entry in entries {
            let looked = entry.and_then(|entry| {
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                    return Ok(false);
                }
                Ok(is_staged(&entry.file_name()) && remove_if_older(&entry.path(), began)?)
            });
            match looked {
                Ok(is_gone) => removed += usize::from(is_gone),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed = Some(error),
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

fn remove_if_older(path: &Path, began: SystemTime) -> io::Result<bool> {
    if fs::symlink_metadata(path)?.modified()? >= began {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}

/// Whether a file has the name that the library gives to one that is not complete. Names of objects
/// have no `#`, which is encoded.
fn is_staged(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.split_once('#')).map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, Random};
    use crate::metrics::Registry;
    use crate::object::{DataDir, Key, Store};
    use crate::shutdown::Shutdown;

    fn files(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn what_a_kill_left_of_a_file_is_removed_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let bucket = temp.path().join("bucket");
        let url = format!("file://{}", bucket.display());
        let (clock, random) = (Clock::system(), Random::seeded(1));
        let store = Store::open(&url, &clock, &random, &Registry::new()).unwrap();
        store.put(&Key::new("t/1/whole"), "body".into()).await.unwrap();
        store.put(&Key::new("t/1/a#1"), "its # is encoded".into()).await.unwrap();
        let mut killed = store.upload(&Key::new("t/1/cut")).await.unwrap();
        killed.part("abc".into()).await.unwrap();
        std::mem::forget(killed);
        let all = files(&bucket);
        assert_eq!(all, ["a%231", "cut#1", "whole"]);
        // As if the kill had been a while ago, for a file system whose clock is coarse.
        let aged = File::options().append(true).open(bucket.join("t/1/cut#1")).unwrap();
        aged.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();

        let dir = DataDir::open(temp.path().join("data")).await.unwrap();
        let sweep = store.note_uploads(&dir).await.unwrap();
        let mut mine = store.upload(&Key::new("t/1/mine")).await.unwrap();
        mine.part("def".into()).await.unwrap();
        assert_eq!(files(&bucket), ["a%231", "cut#1", "mine#1", "whole"]);
        let shutdown = Shutdown::new();
        let swept = async {
            while files(&bucket).contains(&"cut#1".to_owned()) {
                tokio::task::yield_now().await;
            }
            shutdown.drain();
        };
        tokio::join!(sweep.run(shutdown.clone()), swept);
        mine.complete().await.unwrap();
        assert_eq!(files(&bucket), ["a%231", "mine", "whole"]);
    }
}

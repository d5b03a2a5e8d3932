//! Uploads in parts that nobody will complete.
//!
//! A store keeps the parts of an upload until it is completed or aborted, and bills them; none of
//! them shows in a listing of objects, and the client library cannot list uploads. So each upload
//! is noted in the data directory before its first part is sent (file `uploads`), and what a run
//! finds there at its start, or drops while it runs, is aborted in the background. An upload that
//! was completed after all is gone, and aborting it does nothing to its object.
//!
//! | bytes  | field  | meaning                                                              |
//! |--------|--------|----------------------------------------------------------------------|
//! | 0..12  | header | [`Format`], magic `TGUP`, version 1.0                                |
//! | 12..16 | count  | of uploads, u32                                                      |
//! | 16..   | upload | for each: length u16 and bytes of its key, then of its id, in UTF-8  |
//!
//! What is not noted is left to the bucket's own rule (`AbortIncompleteMultipartUpload`): the
//! uploads of a data directory that is lost, and one whose beginning was answered too late, which
//! has no parts.
//!
//! Where objects are files, an object that is not complete is a file beside it, which is found by
//! its name ([`super::staged`]).

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::JoinError;
use tracing::{debug, info, warn};

use super::cursor::{Cursor, Truncated};
use super::error::{ObjectError, Operation};
use super::format::{Format, FormatError};
use super::key::Key;
use super::local::{DataDir, LocalError};
use super::retry::ATTEMPTS;
use super::staged;
use super::store::Store;
use crate::shutdown::Shutdown;
use crate::task;

const NOTES: Format = Format { magic: *b"TGUP", name: "list of uploads", major: 1, minor: 0 };

/// The name of the notes in the data directory.
const NOTES_FILE: &str = "uploads";

/// The most bytes of the notes.
const NOTES_BYTES: u64 = 4 << 20;

/// The most uploads that are noted; there are a handful unless the bucket is away for long. One
/// more takes the place of the oldest that is abandoned, which is left to the bucket's own rule.
const NOTED_MAX: usize = 512;

/// How long until what could not be aborted is tried again.
const TRY_AGAIN: Duration = Duration::from_mins(1);

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedUpload {
    /// The object that it would make.
    pub key: Key,
    /// What the store calls it.
    pub id: String,
}

impl NotedUpload {
    /// The bytes of a list. A key or an id above 65,535 bytes, which no store has, is left out.
    pub fn encode(list: &[Self]) -> Vec<u8> {
        let mut body = vec![0; 4];
        let mut count = 0_u32;
        for NotedUpload { key, id } in list {
            let key = key.to_string();
            let (Ok(key_length), Ok(id_length)) =
                (u16::try_from(key.len()), u16::try_from(id.len()))
            else {
                continue;
            };
            body.extend_from_slice(&key_length.to_be_bytes());
            body.extend_from_slice(key.as_bytes());
            body.extend_from_slice(&id_length.to_be_bytes());
            body.extend_from_slice(id.as_bytes());
            count += 1;
        }
        body[..4].copy_from_slice(&count.to_be_bytes());
        NOTES.seal(&body)
    }

    /// Reads a list.
    pub fn decode(bytes: &[u8]) -> Result<Vec<Self>, FormatError> {
        let mut cursor = Cursor::new(NOTES.open(bytes)?);
        let mut read = || {
            let count = cursor.u32()?;
            let mut list = Vec::new();
            for _ in 0..count {
                let (key, id) = (text(&mut cursor)?, text(&mut cursor)?);
                list.push(Self { key: Key::as_written(&key), id });
            }
            Ok(list)
        };
        read().map_err(|source| FormatError::Truncated { name: NOTES.name, source })
    }
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Truncated> {
    let length = cursor.u16()?;
    let text = cursor.take(usize::from(length))?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The uploads of a store, in memory and in the data directory.
#[derive(Debug)]
pub(super) struct Notes {
    dir: DataDir,
    state: Mutex<State>,
    /// Which state the file has; held while it is written.
    written: tokio::sync::Mutex<u64>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts changes.
    revision: u64,
    next: u64,
    noted: BTreeMap<u64, Noted>,
}

#[derive(Debug, Clone)]
struct Noted {
    upload: NotedUpload,
    /// Whether somebody still writes to it.
    is_under_way: bool,
}

/// An upload that is noted for as long as this lives, and aborted when it is dropped before
/// [`UnderWay::ended`].
#[derive(Debug)]
pub(super) struct UnderWay {
    notes: Arc<Notes>,
    number: u64,
}

impl UnderWay {
    /// Nothing is left of the upload.
    pub(super) fn ended(self) {
        self.notes.forget(self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.notes.state();
        // One that has ended is no longer there.
        let Some(noted) = state.noted.get_mut(&self.number) else { return };
        noted.is_under_way = false;
        drop(state);
        self.notes.changed.notify_one();
    }
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an upload. When this returns it is noted durably, unless the disk did not take it:
    /// then it goes on all the same, because a full disk gets its room back by uploads.
    pub(super) async fn add(self: &Arc<Self>, upload: NotedUpload) -> UnderWay {
        let number = self.insert(upload, true);
        let under_way = UnderWay { notes: Arc::clone(self), number };
        if let Err(error) = self.save().await {
            warn!(%error, "an upload is not noted; a kill would leave its parts in the bucket");
        }
        under_way
    }

    fn insert(&self, upload: NotedUpload, is_under_way: bool) -> u64 {
        let mut state = self.state();
        if state.noted.len() >= NOTED_MAX {
            let oldest = state.noted.iter().find(|(_, noted)| !noted.is_under_way);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                state.noted.remove(&oldest);
            }
        }
        let number = state.next;
        state.next += 1;
        state.revision += 1;
        state.noted.insert(number, Noted { upload, is_under_way });
        number
    }

    fn forget(&self, number: u64) {
        let mut state = self.state();
        state.revision += 1;
        state.noted.remove(&number);
        drop(state);
        // An upload that has ended may be noted for a while: aborting it does nothing.
        self.changed.notify_one();
    }

    fn abandoned(&self) -> Vec<(u64, NotedUpload)> {
        let state = self.state();
        let abandoned = state.noted.iter().filter(|(_, noted)| !noted.is_under_way);
        abandoned.map(|(number, noted)| (*number, noted.upload.clone())).collect()
    }

    /// Brings the file to the present state. It goes on when this is dropped, lest two write it.
    async fn save(self: &Arc<Self>) -> Result<(), LocalError> {
        let notes = Arc::clone(self);
        let save = async move {
            let mut written = notes.written.lock().await;
            let (revision, list) = {
                let state = notes.state();
                let list = state.noted.values().map(|noted| noted.upload.clone());
                (state.revision, list.collect::<Vec<_>>())
            };
            if *written != revision {
                notes.dir.write(NOTES_FILE, NotedUpload::encode(&list)).await?;
                *written = revision;
            }
            Ok(())
        };
        match task::spawn("upload notes", save).await.map_err(JoinError::try_into_panic) {
            Ok(saved) => saved,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(Err(_cancelled)) => Ok(()),
        }
    }
}

/// Gives up what uploads have left behind; made by [`Store::note_uploads`].
#[derive(Debug)]
pub struct UploadSweep {
    store: Store,
    notes: Arc<Notes>,
    /// Where the objects are files: the directory, and when this run began by its clock.
    files: Option<(PathBuf, SystemTime)>,
}

impl Store {
    /// Notes uploads in `dir` from now on, and finds there those of the run before. To be called
    /// once and before anything is written, by the process that owns the directory;
    /// [`UploadSweep::run`] does the rest.
    pub async fn note_uploads(&self, dir: &DataDir) -> Result<UploadSweep, LocalError> {
        let found = dir.read(NOTES_FILE, NOTES_BYTES).await?;
        let found = found.map_or(Ok(Vec::new()), |bytes| NotedUpload::decode(&bytes));
        let left = found.unwrap_or_else(|error| {
            warn!(%error, "uploads of an earlier run are left to the bucket's own rule");
            Vec::new()
        });
        let notes = Notes {
            dir: dir.clone(),
            state: Mutex::default(),
            written: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        };
        for upload in left {
            notes.insert(upload, false);
        }
        let files = match self.directory() {
            Some(directory) => {
                let began = staged::moment(directory.to_owned()).await;
                began.map(|began| (directory.to_owned(), began))
            }
            None => None,
        };
        let notes = self.set_notes(Arc::new(notes));
        Ok(UploadSweep { store: self.clone(), notes, files })
    }
}

impl UploadSweep {
    /// Runs until the drain.
    pub async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            () = self.sweep_for_ever() => {}
            () = shutdown.draining() => {}
        }
    }

    async fn sweep_for_ever(&mut self) {
        if let Some((directory, began)) = self.files.take() {
            staged::remove_older(directory, began).await;
        }
        loop {
            if self.sweep().await {
                self.notes.changed.notified().await;
            } else {
                // What is noted meanwhile waits too; it is not urgent.
                self.store.clock().sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Aborts what is abandoned; false if some of it has to be tried again.
    pub async fn sweep(&self) -> bool {
        let mut is_done = true;
        for (number, upload) in self.notes.abandoned() {
            match self.store.abort_upload(&upload).await {
                Ok(()) => {
                    info!(object = %upload.key, "the parts of an upload were removed");
                    self.notes.forget(number);
                }
                Err(error) if error.is_retriable() => {
                    debug!(%error, "the parts of an upload are still in the bucket");
                    is_done = false;
                }
                Err(error) => {
                    warn!(%error, "the parts of an upload are left to the bucket's own rule");
                    self.notes.forget(number);
                }
            }
        }
        if let Err(error) = self.notes.save().await {
            warn!(%error, "uploads that have ended are still noted");
            is_done = false;
        }
        is_done
    }
}

impl Store {
    /// Aborts an upload; one that is not there counts as aborted.
    pub(super) async fn abort_upload(&self, upload: &NotedUpload) -> Result<(), ObjectError> {
        // A store without numbered parts has no uploads of its own.
        let Some(backend) = self.multipart() else { return Ok(()) };
        let (path, id) = (upload.key.path(), &upload.id);
        let abort = || async move { backend.abort_multipart(path, id).await };
        match self.run(Operation::AbortUpload, &upload.key, 0, ATTEMPTS, abort).await {
            Err(ObjectError::NotFound { .. }) => Ok(()),
            aborted => aborted,
        }
    }
}

#[cfg(test)]
mod tests;

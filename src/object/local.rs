//! Small files of the data directory, each replaced as a whole and synced before it counts.
//!
//! **Invariant:** a file that was replaced holds, after a crash at any step, either all of its old
//! or all of its new content; once [`DataDir::write`] has returned it is the new one for good.
#![allow(clippy::disallowed_methods, reason = "files of the data directory are this room's")]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

#[cfg(test)]
use super::power::{self, Op};
use crate::task;

/// A file of the data directory could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} \"{}\": {source}", path.display())]
pub struct LocalError {
    /// What was to be done.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The operating system's answer.
    #[source]
    pub source: io::Error,
}

/// The data directory as a place of small files; cheap to clone. Two writers of one file are the
/// caller's mistake: the directory's lock is the WAL's.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
    #[cfg(test)]
    faults: Option<std::sync::Arc<super::testing::Faults>>,
}

impl DataDir {
    /// Opens `root`, made and synced with its parents if it does not exist.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, LocalError> {
        let this = Self {
            root: root.into(),
            #[cfg(test)]
            faults: None,
        };
        this.opened().await
    }

    /// The same for a process that `faults` may kill.
    #[cfg(test)]
    pub(crate) async fn open_with(
        root: impl Into<PathBuf>,
        faults: std::sync::Arc<super::testing::Faults>,
    ) -> Result<Self, LocalError> {
        Self { root: root.into(), faults: Some(faults) }.opened().await
    }

    async fn opened(self) -> Result<Self, LocalError> {
        blocking(move || {
            create_dir(&self.root)?;
            // A process that was killed may have left a name that is not durable, on which this
            // one would build.
            self.sync_names()?;
            Ok(self)
        })
        .await
    }

    /// Where the directory is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The content of `name`, of which at most `limit` bytes are expected; `None` if there is no
    /// such file.
    pub async fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>, LocalError> {
        let path = self.root.join(name);
        self.step(&path)?;
        blocking(move || {
            let failed = |source| LocalError { action: "read", path: path.clone(), source };
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let mut content = Vec::new();
            file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
            if content.len() as u64 > limit {
                let told = format!("it has more than the {limit} bytes expected");
                return Err(failed(io::Error::new(ErrorKind::InvalidData, told)));
            }
            Ok(Some(Bytes::from(content)))
        })
        .await
    }

    /// Whether there is a file `name`.
    pub async fn exists(&self, name: &str) -> Result<bool, LocalError> {
        let path = self.root.join(name);
        self.step(&path)?;
        blocking(move || {
            path.try_exists().map_err(|source| LocalError { action: "look for", path, source })
        })
        .await
    }

    /// Replaces `name` by `content`: a temporary file is written and synced, renamed, and the
    /// directory is synced.
    pub async fn write(&self, name: &str, content: impl Into<Bytes>) -> Result<(), LocalError> {
        let path = self.root.join(name);
        let content = content.into();
        let this = self.clone();
        blocking(move || {
            let temporary = path.with_extension("tmp");
            let file = this.write_file(&temporary, &content)?;
            this.sync_file(&file, &temporary)?;
            this.rename(&temporary, &path)?;
            this.sync_names()
        })
        .await
    }

    /// Removes `name`, if it exists, and syncs the directory.
    pub async fn remove(&self, name: &str) -> Result<(), LocalError> {
        let path = self.root.join(name);
        let this = self.clone();
        blocking(move || {
            if this.remove_file(&path)? {
                this.sync_names()?;
            }
            Ok(())
        })
        .await
    }

    /// Removes the directory `name` with all that is in it, if it exists, and syncs the directory.
    /// Cut, it may be repeated.
    pub async fn remove_dir(&self, name: &str) -> Result<(), LocalError> {
        let path = self.root.join(name);
        let this = self.clone();
        blocking(move || {
            this.step(&path)?;
            match fs::remove_dir_all(&path) {
                Ok(()) => this.sync_names(),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(source) => Err(LocalError { action: "remove", path, source }),
            }
        })
        .await
    }

    fn write_file(&self, path: &Path, content: &[u8]) -> Result<File, LocalError> {
        self.step(path)?;
        let failed = |action, source| LocalError { action, path: path.to_owned(), source };
        let mut file = File::create(path).map_err(|source| failed("create", source))?;
        file.write_all(content).map_err(|source| failed("write", source))?;
        #[cfg(test)]
        self.note(|| Op::Write(recorded(path), content.to_vec()));
        Ok(file)
    }

    fn sync_file(&self, file: &File, path: &Path) -> Result<(), LocalError> {
        self.step(path)?;
        let failed = |source| LocalError { action: "sync", path: path.to_owned(), source };
        file.sync_all().map_err(failed)?;
        #[cfg(test)]
        self.note(|| Op::Sync(recorded(path)));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), LocalError> {
        self.step(from)?;
        let failed = |source| LocalError { action: "rename", path: from.to_owned(), source };
        fs::rename(from, to).map_err(failed)?;
        #[cfg(test)]
        self.note(|| Op::Rename(recorded(from), recorded(to)));
        Ok(())
    }

    /// False if there is no such file.
    fn remove_file(&self, path: &Path) -> Result<bool, LocalError> {
        self.step(path)?;
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => {
                return Err(LocalError { action: "remove", path: path.to_owned(), source });
            }
        }
        #[cfg(test)]
        self.note(|| Op::Remove(recorded(path)));
        Ok(true)
    }

    /// Makes the names in the directory durable.
    fn sync_names(&self) -> Result<(), LocalError> {
        self.step(&self.root)?;
        sync_dir(&self.root)?;
        #[cfg(test)]
        self.note(|| Op::SyncDir(power::DATA.into()));
        Ok(())
    }

    /// Records an operation for a test that wants to know.
    #[cfg(test)]
    fn note(&self, op: impl FnOnce() -> Op) {
        if let Some(journal) = self.faults.as_ref().and_then(|faults| faults.journal()) {
            journal.note(op());
        }
    }

    /// A place where a test may kill the process.
    #[cfg_attr(
        not(test),
        allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests inject faults")
    )]
    fn step(&self, path: &Path) -> Result<(), LocalError> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            let killed = |source| LocalError { action: "reach", path: path.to_owned(), source };
            faults.step().map_err(|crashed| killed(io::Error::other(crashed)))?;
        }
        let _ = path;
        Ok(())
    }
}

/// A file of the data directory, as tests record it.
#[cfg(test)]
fn recorded(path: &Path) -> PathBuf {
    Path::new(power::DATA).join(path.file_name().unwrap())
}

/// Whether a directory whose sync fails so is one in which this process makes nothing: it may not
/// read it, or its file system takes no changes.
fn is_not_ours(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}

/// Makes `path` and what is missing above it, each synced into its parent. One that is there is
/// synced into its parent all the same, because a process may have been killed right after making
/// it; where that parent cannot be read or written (a volume in a read-only image), somebody else
/// made it.
pub(crate) fn create_dir(path: &Path) -> Result<(), LocalError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    if path.is_dir() {
        return match sync_dir(parent) {
            Err(error) if is_not_ours(error.source.kind()) => Ok(()),
            synced => synced,
        };
    }
    if parent != path && !parent.is_dir() {
        create_dir(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(source) => {
            return Err(LocalError { action: "create directory", path: path.to_owned(), source });
        }
    }
    sync_dir(parent)
}

/// Makes the names in the directory `path` durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), LocalError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| LocalError {
        action: "sync directory",
        path: path.to_owned(),
        source,
    })
}

/// Runs `work` where it may block. Dropping the future does not stop it: a replacement that has
/// begun goes on to its end.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, LocalError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, LocalError> + Send + 'static,
{
    match task::blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(LocalError {
                action: "use",
                path: PathBuf::from("."),
                source: io::Error::other("the runtime is shutting down"),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Faults;
    use super::*;

    #[tokio::test]
    async fn a_file_is_replaced_as_a_whole_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path().join("a/b")).await.unwrap();
        assert_eq!(dir.read("x", 10).await.unwrap(), None);
        dir.write("x", "one").await.unwrap();
        dir.write("x", "two").await.unwrap();
        assert_eq!(dir.read("x", 3).await.unwrap().unwrap(), "two");
        assert!(dir.read("x", 2).await.is_err());
        dir.remove("x").await.unwrap();
        dir.remove("x").await.unwrap();
        assert_eq!(dir.read("x", 10).await.unwrap(), None);
    }

    #[tokio::test]
    async fn killed_at_any_step_a_replacement_leaves_the_old_or_the_new_content() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        dir.write("x", "old").await.unwrap();
        let mut seen = Vec::new();
        for step in 0..4 {
            // The first step is the sync at the opening.
            let faults = Faults::crash_at(step + 1);
            let killed = DataDir::open_with(temp.path(), faults).await.unwrap();
            killed.write("x", "new").await.unwrap_err();
            seen.push(dir.read("x", 10).await.unwrap().unwrap());
        }
        assert_eq!(seen, ["old", "old", "old", "new"]);
    }
}

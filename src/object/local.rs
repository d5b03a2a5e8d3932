//! Small files of the data directory, each replaced as a whole and synced before it counts.
//!
//! **Invariant:** a file that was replaced holds, after a crash at any step, either all of its old
//! or all of its new content; once [`DataDir::write`] has returned it is the new one for good.
#![allow(clippy::disallowed_methods, reason = "files of the data directory are this room's")]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

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
        let root = root.into();
        let made = root.clone();
        blocking(move || create_dir(&made)).await?;
        Ok(Self {
            root,
            #[cfg(test)]
            faults: None,
        })
    }

    /// The same directory, whose every step asks `faults` first.
    #[cfg(test)]
    pub(crate) fn with_faults(mut self, faults: std::sync::Arc<super::testing::Faults>) -> Self {
        self.faults = Some(faults);
        self
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
            let failed = |action, path: &Path, source| {
                Err(LocalError { action, path: path.to_owned(), source })
            };
            this.step(&path)?;
            let mut file = match File::create(&temporary) {
                Ok(file) => file,
                Err(error) => return failed("create", &temporary, error),
            };
            if let Err(error) = file.write_all(&content) {
                return failed("write", &temporary, error);
            }
            this.step(&path)?;
            if let Err(error) = file.sync_all() {
                return failed("sync", &temporary, error);
            }
            this.step(&path)?;
            if let Err(error) = fs::rename(&temporary, &path) {
                return failed("rename", &temporary, error);
            }
            this.step(&path)?;
            sync_dir(&this.root)
        })
        .await
    }

    /// Removes `name`, if it exists, and syncs the directory.
    pub async fn remove(&self, name: &str) -> Result<(), LocalError> {
        let path = self.root.join(name);
        let this = self.clone();
        blocking(move || {
            this.step(&path)?;
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(LocalError { action: "remove", path, source }),
            }
            this.step(&path)?;
            sync_dir(&this.root)
        })
        .await
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

/// Makes `path` and what is missing above it, each synced into its parent.
pub(super) fn create_dir(path: &Path) -> Result<(), LocalError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
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
            let killed = dir.clone().with_faults(Faults::crash_at(step));
            killed.write("x", "new").await.unwrap_err();
            seen.push(dir.read("x", 10).await.unwrap().unwrap());
        }
        assert_eq!(seen, ["old", "old", "old", "new"]);
    }
}

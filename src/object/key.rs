//! Names of objects.

use std::fmt;

use object_store::path::Path;

/// The name of an object in the bucket, below the prefix that `object.url` gives.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Path);

impl Key {
    /// The key of `name`; parts are separated by `/`.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Path::from(name.as_ref()))
    }

    /// The key `<prefix>/<number>` with the number in 20 digits, so that names sort as numbers do.
    pub fn numbered(prefix: &str, number: u64) -> Self {
        Self::new(format!("{prefix}/{number:020}"))
    }

    /// The key whose name was written down: what is encoded in it is not encoded again.
    pub(super) fn as_written(name: &str) -> Self {
        Self(Path::parse(name).unwrap_or_else(|_| Path::from(name)))
    }

    /// The name of an object that a backend shows.
    pub(super) fn of(path: &Path) -> Self {
        Self(path.clone())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_ref(), f)
    }
}

//! What a data directory knows about itself: its identity, the runs that were begun from it, and
//! whether another took its place.
//!
//! | file            | content                                                              |
//! |-----------------|----------------------------------------------------------------------|
//! | `identity`      | header of [`Format`] (magic `TGID`, version 1.0), identity 16         |
//! | `incarnations`  | header (magic `TGIN`, version 1.0), count u32, each: incarnation 16   |
//! | `metadata`      | the copy of the image, see `snapshot.rs`                             |
//! | `fenced`        | a line for the reader; only that the file exists counts              |
//!
//! **Invariant:** the identity is synced before the WAL's first file names it, and that is synced
//! before the identity is bound in the metadata. **Invariant:** an incarnation is noted here before
//! its entry is put, so that one found in the metadata but not here came from somewhere else.

use super::ids::{Identity, Incarnation};
use crate::clock::Random;
use crate::object::{Cursor, DataDir, Format, FormatError, LocalError, Truncated};

const IDENTITY: Format = Format { magic: *b"TGID", name: "identity", major: 1, minor: 0 };
const INCARNATIONS: Format =
    Format { magic: *b"TGIN", name: "list of incarnations", major: 1, minor: 0 };

const IDENTITY_FILE: &str = "identity";
const INCARNATIONS_FILE: &str = "incarnations";
const FENCED_FILE: &str = "fenced";
pub(super) const METADATA_FILE: &str = "metadata";

/// The most bytes of the small files here.
const SMALL_FILE_BYTES: u64 = 64 * 1024;

/// How many incarnations are kept. The list grows only by runs that ended before their entry was
/// in the bucket and is cut back by the first whose is; at the bound the oldest is dropped, and
/// should a request of that run arrive still, the next start is refused.
const KEPT_INCARNATIONS: usize = 1024;

/// The data directory cannot say which one it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A file is corrupt, or of a newer release.
    #[error(
        "data directory \"{directory}\": {source}; use the release that wrote it, or restore the \
         bucket into an empty directory with `tidegate bucket restore`"
    )]
    Format {
        /// The directory.
        directory: String,
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// A file is intact but too short.
    #[error("data directory \"{directory}\": {file}: {source}")]
    Truncated {
        /// The directory.
        directory: String,
        /// The file.
        file: &'static str,
        /// What is missing.
        #[source]
        source: Truncated,
    },
    /// The directory was in use but the file `identity` is gone.
    #[error(
        "data directory \"{directory}\" was in use (it has the file {file}) but its file \
         identity is missing; put it back, or restore the bucket into an empty directory with \
         `tidegate bucket restore`"
    )]
    Lost {
        /// The directory.
        directory: String,
        /// The file that shows it.
        file: &'static str,
    },
}

/// A data directory that knows its identity, and the incarnation of this run. Cheap to clone; made
/// once per run, before the WAL is opened.
#[derive(Debug, Clone)]
pub struct Prepared {
    identity: Identity,
    incarnation: Incarnation,
    wal_must_exist: bool,
}

impl Prepared {
    /// What the first file of the WAL must name.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The random bits of this run.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether a run was begun from this directory before, so that its WAL was there and must not
    /// be made anew.
    pub fn wal_must_exist(&self) -> bool {
        self.wal_must_exist
    }
}

/// Reads the directory's identity, or makes and syncs one if the directory was never used; draws
/// the bits of this run. To be called under the directory's lock and before the WAL is made.
pub async fn prepare(dir: &DataDir, random: &Random) -> Result<Prepared, IdentityError> {
    let noted = noted(dir).await?;
    let has_metadata = dir.exists(METADATA_FILE).await?;
    let identity = if let Some(bytes) = dir.read(IDENTITY_FILE, SMALL_FILE_BYTES).await? {
        parse_identity(dir, &bytes)?
    } else {
        let traces = [
            (!noted.is_empty(), INCARNATIONS_FILE),
            (has_metadata, METADATA_FILE),
            (is_fenced(dir).await?, FENCED_FILE),
        ];
        make_identity(dir, random, traces).await?
    };
    let incarnation = Incarnation(random.u128().to_be_bytes());
    let wal_must_exist = !noted.is_empty() || has_metadata;
    Ok(Prepared { identity, incarnation, wal_must_exist })
}

fn parse_identity(dir: &DataDir, bytes: &[u8]) -> Result<Identity, IdentityError> {
    let directory = || dir.root().display().to_string();
    let body = IDENTITY
        .open(bytes)
        .map_err(|source| IdentityError::Format { directory: directory(), source })?;
    let file = IDENTITY_FILE;
    let truncated = |source| IdentityError::Truncated { directory: directory(), file, source };
    Ok(Identity(Cursor::new(body).array().map_err(truncated)?))
}

/// Makes an identity, unless one of the traces is there of a use that had one.
async fn make_identity(
    dir: &DataDir,
    random: &Random,
    traces: [(bool, &'static str); 3],
) -> Result<Identity, IdentityError> {
    if let Some((_, file)) = traces.into_iter().find(|(found, _)| *found) {
        return Err(IdentityError::Lost { directory: dir.root().display().to_string(), file });
    }
    let identity = Identity(random.u128().to_be_bytes());
    dir.write(IDENTITY_FILE, IDENTITY.seal(&identity.0)).await?;
    Ok(identity)
}

/// The incarnations whose entries this directory has put or meant to put.
pub(super) async fn noted(dir: &DataDir) -> Result<Vec<Incarnation>, IdentityError> {
    let Some(bytes) = dir.read(INCARNATIONS_FILE, SMALL_FILE_BYTES).await? else {
        return Ok(Vec::new());
    };
    let directory = || dir.root().display().to_string();
    let body = INCARNATIONS
        .open(&bytes)
        .map_err(|source| IdentityError::Format { directory: directory(), source })?;
    let mut cursor = Cursor::new(body);
    let mut read = || {
        let mut noted = Vec::new();
        for _ in 0..cursor.u32()? {
            noted.push(Incarnation(cursor.array()?));
        }
        Ok(noted)
    };
    let file = INCARNATIONS_FILE;
    read().map_err(|source| IdentityError::Truncated { directory: directory(), file, source })
}

/// Replaces the list of incarnations.
pub(super) async fn write_noted(dir: &DataDir, noted: &[Incarnation]) -> Result<(), LocalError> {
    let kept = noted.len().saturating_sub(KEPT_INCARNATIONS);
    let kept = noted.get(kept..).unwrap_or_default();
    let mut body = (kept.len() as u32).to_be_bytes().to_vec();
    for incarnation in kept {
        body.extend_from_slice(&incarnation.0);
    }
    dir.write(INCARNATIONS_FILE, INCARNATIONS.seal(&body)).await
}

/// Whether another broker took this directory's place while it ran.
pub(super) async fn is_fenced(dir: &DataDir) -> Result<bool, LocalError> {
    dir.exists(FENCED_FILE).await
}

/// Notes that another broker took this directory's place.
pub(super) async fn write_fenced(dir: &DataDir, why: &str) -> Result<(), LocalError> {
    dir.write(FENCED_FILE, format!("{why}\n")).await
}

/// The directory is the broker's again.
pub(super) async fn clear_fenced(dir: &DataDir) -> Result<(), LocalError> {
    dir.remove(FENCED_FILE).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::testing::Faults;

    #[tokio::test]
    async fn an_identity_is_made_once_and_each_run_has_its_own_incarnation() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        let random = Random::seeded(1);
        let first = prepare(&dir, &random).await.unwrap();
        let second = prepare(&dir, &random).await.unwrap();
        assert_eq!(first.identity(), second.identity());
        assert_ne!(first.incarnation(), second.incarnation());
        assert!(!second.wal_must_exist());
        write_noted(&dir, &[second.incarnation()]).await.unwrap();
        assert!(prepare(&dir, &random).await.unwrap().wal_must_exist());
        assert_eq!(noted(&dir).await.unwrap(), [second.incarnation()]);
    }

    #[tokio::test]
    async fn a_list_at_its_bound_drops_the_oldest() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        let random = Random::seeded(1);
        let all: Vec<_> = (0..1_025).map(|_| Incarnation(random.u128().to_be_bytes())).collect();
        write_noted(&dir, &all).await.unwrap();
        assert_eq!(noted(&dir).await.unwrap(), all[1..]);
    }

    #[tokio::test]
    async fn a_used_directory_without_its_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        let random = Random::seeded(1);
        let one = INCARNATIONS.seal(&[&[0, 0, 0, 1][..], &[7; 16]].concat());
        for name in [INCARNATIONS_FILE, METADATA_FILE, FENCED_FILE] {
            dir.write(name, one.clone()).await.unwrap();
            let error = prepare(&dir, &random).await.unwrap_err();
            assert!(matches!(error, IdentityError::Lost { file, .. } if file == name), "{error}");
            dir.remove(name).await.unwrap();
        }
        prepare(&dir, &random).await.unwrap();
    }

    #[tokio::test]
    async fn killed_at_any_step_it_can_be_prepared_again() {
        for step in 0..10 {
            let temp = tempfile::tempdir().unwrap();
            let dir = DataDir::open(temp.path()).await.unwrap();
            // The first step is the sync at the opening.
            let faults = Faults::crash_at(step + 1);
            let killed = DataDir::open_with(temp.path(), faults).await.unwrap();
            let first = prepare(&killed, &Random::seeded(1)).await;
            let second = prepare(&dir, &Random::seeded(2)).await.unwrap();
            if let Ok(first) = first {
                assert_eq!(first.identity(), second.identity());
            }
        }
    }
}

//! Reads the cluster's metadata: the copy in the data directory or the last snapshot in the
//! bucket, and every entry after it.
//!
//! The copy is trusted only with the entry that it ends with: the bucket must hold that very
//! object, or it is not the bucket that the copy was made from.

use bytes::Bytes;
use tracing::warn;

use super::identity::METADATA_FILE;
use super::image::{ApplyError, ClusterImage};
use super::record::{Record, RecordError, decode_entry};
use super::rules::Refusal;
use super::snapshot::{self, IMAGE_BYTES, Snapshot, SnapshotError};
use crate::object::{
    Cursor, DataDir, ENVELOPE_BYTES, Entry, Format, FormatError, Key, LocalError, NumberedLog,
    ObjectError, ReadLogError, Store,
};

/// Where the metadata log is in the bucket.
const LOG_PREFIX: &str = "meta";
/// Where its snapshots are.
const SNAPSHOT_PREFIX: &str = "meta-snapshot";
/// What the payloads of its entries are.
const LOG_KIND: [u8; 4] = *b"META";
/// The most bytes of an entry's payload.
pub(super) const ENTRY_BYTES: usize = 16 << 20;
/// How many entries are asked for at once.
const READ_AHEAD: usize = 32;

/// Which snapshot is the last: header (magic `TGSL`, version 1.0) and its number, u64. The object
/// `meta-snapshot/latest` is overwritten, also by a writer that does not know yet that it is
/// fenced; it is a hint, and an old one only makes a start read more entries.
const LATEST: Format = Format { magic: *b"TGSL", name: "snapshot hint", major: 1, minor: 0 };
const LATEST_BYTES: u64 = 4096;

/// The metadata cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadLogError),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The data directory's copy cannot be read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A copy or a snapshot was written by a newer release.
    #[error("{place}: {source}")]
    Snapshot {
        /// Which it is.
        place: String,
        /// What is wrong.
        #[source]
        source: SnapshotError,
    },
    /// An entry cannot be understood.
    #[error("object \"{key}\": {source}")]
    Record {
        /// The entry.
        key: Key,
        /// What is wrong.
        #[source]
        source: RecordError,
    },
    /// An entry contradicts those before it.
    #[error("object \"{key}\": {source}")]
    Apply {
        /// The entry.
        key: Key,
        /// What is wrong.
        #[source]
        source: ApplyError,
    },
    /// An entry was written for another cluster.
    #[error("object \"{key}\" was written by {writer}, not for the cluster that the log is of")]
    ForeignEntry {
        /// The entry.
        key: Key,
        /// Who wrote it.
        writer: crate::object::WriterId,
    },
    /// The bucket is not the one that the data directory was used with.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

impl LoadError {
    /// Whether trying again may succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            LoadError::Log(ReadLogError::Object(error)) | LoadError::Object(error) => {
                error.is_retriable()
            }
            _ => false,
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The state after the last entry, and that entry; 0 bytes before the first.
    pub(super) snapshot: Snapshot,
    /// The number of the snapshot in the bucket that is known, 0 for none.
    pub(super) snapshotted: u64,
}

/// The metadata log of a bucket.
pub(super) fn metadata_log(store: &Store) -> NumberedLog {
    NumberedLog::new(store.clone(), LOG_PREFIX, LOG_KIND, ENTRY_BYTES as u64)
}

/// Reads everything there is.
pub(super) async fn load(
    store: &Store,
    log: &NumberedLog,
    dir: &DataDir,
) -> Result<Loaded, LoadError> {
    let mut snapshotted = 0;
    let base = match local_copy(dir).await? {
        Some(copy) => {
            check_copy(store, log, dir, &copy).await?;
            Some(copy)
        }
        None => bucket_snapshot(store, log).await?.inspect(|s| snapshotted = s.image.number()),
    };
    let snapshot = read_from(log, base).await?;
    Ok(Loaded { snapshot, snapshotted })
}

/// Reads a bucket's metadata without any data directory; an image of no entry if there is none.
pub async fn read_image(store: &Store) -> Result<ClusterImage, LoadError> {
    let log = metadata_log(store);
    let base = bucket_snapshot(store, &log).await?;
    Ok(read_from(&log, base).await?.image)
}

/// Applies every entry after `base`.
async fn read_from(log: &NumberedLog, base: Option<Snapshot>) -> Result<Snapshot, LoadError> {
    let empty = || Snapshot { image: ClusterImage::empty(), entry: [0; ENVELOPE_BYTES] };
    let mut snapshot = base.unwrap_or_else(empty);
    loop {
        let next = snapshot.image.number().saturating_add(1);
        let entries = log.read_on(next, READ_AHEAD).await?;
        for entry in &entries {
            apply(log, &mut snapshot, entry)?;
        }
        if entries.len() < READ_AHEAD {
            return Ok(snapshot);
        }
    }
}

/// Applies the next entry of the log and gives its records.
pub(super) fn apply(
    log: &NumberedLog,
    snapshot: &mut Snapshot,
    entry: &Entry,
) -> Result<Vec<Record>, LoadError> {
    let key = || log.key(entry.head.number);
    let (_, records) =
        decode_entry(&entry.payload).map_err(|source| LoadError::Record { key: key(), source })?;
    snapshot
        .image
        .apply_entry(entry.head.number, &records)
        .map_err(|source| LoadError::Apply { key: key(), source })?;
    let writer = entry.head.writer;
    if writer.cluster != snapshot.image.cluster_id().0 {
        return Err(LoadError::ForeignEntry { key: key(), writer });
    }
    snapshot.entry = first_bytes(&entry.first_bytes);
    Ok(records)
}

/// An entry's first bytes as a stored image keeps them.
pub(super) fn first_bytes(bytes: &Bytes) -> [u8; ENVELOPE_BYTES] {
    *bytes.first_chunk().expect("an entry has at least its envelope")
}

/// Replaces the data directory's copy.
pub(super) async fn write_copy(dir: &DataDir, snapshot: &Snapshot) -> Result<(), LocalError> {
    dir.write(METADATA_FILE, snapshot::encode(snapshot)).await
}

/// Writes a snapshot into the bucket and names it the last.
pub(super) async fn write_snapshot(store: &Store, snapshot: &Snapshot) -> Result<(), ObjectError> {
    let number = snapshot.image.number();
    let key = Key::numbered(SNAPSHOT_PREFIX, number);
    store.put(&key, snapshot::encode(snapshot).into()).await?;
    store.put(&latest_key(), LATEST.seal(&number.to_be_bytes()).into()).await
}

async fn local_copy(dir: &DataDir) -> Result<Option<Snapshot>, LoadError> {
    let Some(bytes) = dir.read(METADATA_FILE, IMAGE_BYTES).await? else {
        return Ok(None);
    };
    let place = format!("\"{}\"", dir.root().join(METADATA_FILE).display());
    readable(place, &bytes)
}

/// A stored image, if it is intact. One that is not is only a short cut lost; one of a newer
/// release says that this release must not go on.
fn readable(place: String, bytes: &[u8]) -> Result<Option<Snapshot>, LoadError> {
    match snapshot::decode(bytes) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(
            source @ (SnapshotError::Format(
                FormatError::Newer { .. } | FormatError::RequiredFlags { .. },
            )
            | SnapshotError::Contents(ApplyError::FeatureLevel { .. })),
        ) => Err(LoadError::Snapshot { place, source }),
        Err(error) => {
            warn!(place, %error, "metadata image is not readable; reading the log instead");
            Ok(None)
        }
    }
}

/// Refuses a bucket in which the entry that the copy ends with is not that entry.
async fn check_copy(
    store: &Store,
    log: &NumberedLog,
    dir: &DataDir,
    copy: &Snapshot,
) -> Result<(), LoadError> {
    let bucket = store.url().to_owned();
    let directory = dir.root().display().to_string();
    let needed = copy.image.number();
    let Some(entry) = log.read(needed).await? else {
        return Err(LoadError::Refused(Box::new(Refusal::ShorterBucket {
            bucket,
            directory,
            needed,
        })));
    };
    if entry.first_bytes != copy.entry.as_slice() {
        let expected = copy.image.cluster_id();
        let found = super::ids::ClusterId(entry.head.writer.cluster);
        let refusal = Refusal::ForeignBucket { bucket, directory, expected, found };
        return Err(LoadError::Refused(Box::new(refusal)));
    }
    Ok(())
}

/// The snapshot that the bucket names as the last, if it is one of this log.
async fn bucket_snapshot(store: &Store, log: &NumberedLog) -> Result<Option<Snapshot>, LoadError> {
    let Some(hint) = found(store.get(&latest_key(), LATEST_BYTES).await)? else {
        return Ok(None);
    };
    let number = LATEST.open(&hint).ok().and_then(|body| Cursor::new(body).u64().ok());
    let Some(number) = number else {
        warn!("the hint at the last metadata snapshot is not readable; reading the whole log");
        return Ok(None);
    };
    let key = Key::numbered(SNAPSHOT_PREFIX, number);
    let Some(bytes) = found(store.get(&key, IMAGE_BYTES).await)? else {
        return Ok(None);
    };
    let Some(snapshot) = readable(format!("object \"{key}\""), &bytes)? else {
        return Ok(None);
    };
    let Some(entry) = log.read(snapshot.image.number()).await? else {
        // The log is never deleted, so this is not a new bucket but one that has lost something.
        return Err(ReadLogError::Gap { key: log.key(snapshot.image.number()) }.into());
    };
    let is_ours = entry.first_bytes == snapshot.entry.as_slice();
    if !is_ours {
        warn!(number, "metadata snapshot is not of this log; reading the whole log");
    }
    Ok(is_ours.then_some(snapshot))
}

fn latest_key() -> Key {
    Key::new(format!("{SNAPSHOT_PREFIX}/latest"))
}

fn found(result: Result<Bytes, ObjectError>) -> Result<Option<Bytes>, ObjectError> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

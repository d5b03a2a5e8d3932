//! The names that this run gives to tiered objects, and whose names may be swept.
//!
//! The file `writers` of the data directory lists the runs whose objects may lie in the bucket
//! without anybody referring to them: header of [`Format`] (magic `TGWR`, version 1.0), count u32,
//! each: incarnation 16; this run's comes last. A run is in it before its first object is written.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failpoint;
use crate::object::{Cursor, DataDir, Format, FormatError, LocalError, Truncated};
use crate::tier::ObjectId;

use super::rules::Writers;

const WRITERS: Format = Format { magic: *b"TGWR", name: "list of writers", major: 1, minor: 0 };
const WRITERS_FILE: &str = "writers";

/// How many runs are kept; beyond that the oldest is dropped, and what it left behind stays until
/// `tidegate bucket check` tells of it.
const KEPT_WRITERS: usize = 4096;

const WRITERS_BYTES: u64 = 1 << 20;

/// The data directory cannot say whose objects it may sweep.
#[derive(Debug, thiserror::Error)]
pub enum WritersError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// It is corrupt, or of a newer release.
    #[error("file \"{WRITERS_FILE}\" of the data directory: {0}; remove it, and orphans stay")]
    Format(#[from] FormatError),
    /// It is too short.
    #[error("file \"{WRITERS_FILE}\" of the data directory: {0}; remove it, and orphans stay")]
    Truncated(#[from] Truncated),
}

/// Reads the list of writers; empty if there is none.
pub async fn read_writers(dir: &DataDir) -> Result<Vec<[u8; 16]>, WritersError> {
    let Some(bytes) = dir.read(WRITERS_FILE, WRITERS_BYTES).await? else { return Ok(Vec::new()) };
    let mut cursor = Cursor::new(WRITERS.open(&bytes)?);
    let mut writers = Vec::new();
    for _ in 0..cursor.u32()? {
        writers.push(cursor.array()?);
    }
    Ok(writers)
}

/// Replaces the list of writers, oldest first.
pub async fn write_writers(dir: &DataDir, writers: &[[u8; 16]]) -> Result<(), WritersError> {
    let kept = writers.get(writers.len().saturating_sub(KEPT_WRITERS)..).unwrap_or_default();
    let body = [&(kept.len() as u32).to_be_bytes()[..], &kept.concat()].concat();
    Ok(dir.write(WRITERS_FILE, WRITERS.seal(&body)).await?)
}

/// Gives out the names of this run's objects; cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectIds {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: [u8; 16],
    earlier: Vec<[u8; 16]>,
    sequences: Mutex<Sequences>,
}

#[derive(Debug, Default)]
struct Sequences {
    next: u64,
    in_flight: BTreeSet<u64>,
}

/// A name that is in flight: until this is dropped its object is no orphan. To be held until every
/// commit that refers to the object is durable or will never be.
#[derive(Debug)]
pub struct InFlight {
    id: ObjectId,
    shared: Arc<Shared>,
}

impl InFlight {
    /// The name.
    pub fn id(&self) -> ObjectId {
        self.id
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.lock().in_flight.remove(&self.id.sequence);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sequences> {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectIds {
    /// The names of the run `own`, which is noted in the data directory first.
    pub async fn open(dir: &DataDir, own: [u8; 16]) -> Result<Self, WritersError> {
        let mut earlier = read_writers(dir).await?;
        earlier.retain(|writer| *writer != own);
        write_writers(dir, &[&earlier[..], &[own]].concat()).await?;
        failpoint::pass("writers: noted");
        let shared = Shared { own, earlier, sequences: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A name that was never used.
    pub fn begin(&self) -> InFlight {
        let mut sequences = self.shared.lock();
        let sequence = sequences.next;
        sequences.next += 1;
        sequences.in_flight.insert(sequence);
        let id = ObjectId { incarnation: self.shared.own, sequence };
        InFlight { id, shared: Arc::clone(&self.shared) }
    }

    /// Whether a name is in flight.
    pub fn is_in_flight(&self, id: ObjectId) -> bool {
        id.incarnation == self.shared.own && self.shared.lock().in_flight.contains(&id.sequence)
    }

    /// Whose objects may be swept at this moment.
    pub fn writers(&self) -> Writers {
        let sequences = self.shared.lock();
        Writers {
            own: self.shared.own,
            smallest_in_flight: sequences.in_flight.first().copied().unwrap_or(sequences.next),
            earlier: self.shared.earlier.iter().copied().collect(),
        }
    }

    /// Every run whose objects may be swept some day, oldest first, this one last.
    pub fn incarnations(&self) -> Vec<[u8; 16]> {
        [&self.shared.earlier[..], &[self.shared.own]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_in_flight_until_they_are_let_go_and_earlier_runs_are_known() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        let first = ObjectIds::open(&dir, [1; 16]).await.unwrap();
        let (a, b) = (first.begin(), first.begin());
        assert_eq!((a.id().sequence, b.id().sequence), (0, 1));
        assert_eq!(first.writers().smallest_in_flight, 0);
        drop(a);
        assert_eq!(first.writers().smallest_in_flight, 1);
        assert!(first.is_in_flight(b.id()));
        let id = b.id();
        drop(b);
        assert!(!first.is_in_flight(id));
        assert_eq!(first.writers().smallest_in_flight, 2);

        let second = ObjectIds::open(&dir, [2; 16]).await.unwrap();
        assert_eq!(second.incarnations(), [[1; 16], [2; 16]]);
        assert!(second.writers().may_sweep(id));
        assert!(!first.writers().may_sweep(ObjectId { incarnation: [2; 16], sequence: 0 }));
        assert_eq!(read_writers(&dir).await.unwrap(), [[1; 16], [2; 16]]);
    }

    #[tokio::test]
    async fn the_frozen_sample_is_read_and_a_long_list_loses_its_oldest() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).await.unwrap();
        write_writers(&dir, &[[7; 16]]).await.unwrap();
        let written = dir.read(WRITERS_FILE, 100).await.unwrap().unwrap();
        assert_eq!(written[..8], *b"TGWR\x01\0\0\0");
        assert_eq!(written[12..], [&[0, 0, 0, 1][..], &[7; 16]].concat());
        let many: Vec<_> = (0..5_000_u128).map(u128::to_be_bytes).collect();
        write_writers(&dir, &many).await.unwrap();
        assert_eq!(read_writers(&dir).await.unwrap(), many[5_000 - KEPT_WRITERS..]);
    }
}

//! Asks a bucket whether it keeps the promises that everything here rests on.
//!
//! Self-hosted object stores have let several writers win one conditional create, so a bucket is
//! tried before it is used, and again every day. What passed is noted in the data directory under
//! the bucket's place ([`Store::place`], file `probe`):
//!
//! | bytes  | field   | meaning                                             |
//! |--------|---------|-----------------------------------------------------|
//! | 0..12  | header  | [`Format`], magic `TGPB`, version 1.0               |
//! | 12..20 | wall    | when it passed, milliseconds since the epoch, i64   |
//! | 20..   | place   | the bucket's URL and endpoint, UTF-8                |

use std::fmt;

use bytes::Bytes;
use futures_util::future::join_all;

use super::cursor::{Cursor, Truncated};
use super::error::ObjectError;
use super::format::Format;
use super::key::Key;
use super::local::{DataDir, LocalError};
use super::store::Store;
use crate::clock::{Clock, Random};

const NOTE: Format = Format { magic: *b"TGPB", name: "probe result", major: 1, minor: 0 };

/// The name of the note in the data directory.
const NOTE_FILE: &str = "probe";

/// The most bytes of a note.
const NOTE_BYTES: u64 = 64 * 1024;

/// How many writers race for one name.
const RACERS: u64 = 16;

/// How many races are run: a store that is wrong is often wrong only some of the time.
const RACES: u64 = 4;

/// A promise that a bucket must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// Of several concurrent creations of one name exactly one succeeds and stays.
    CreateRace,
    /// What was written is what is read next, also after it was replaced.
    ReadAfterWrite,
    /// A part of an object can be read.
    RangedGet,
    /// What was deleted is gone.
    Delete,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::CreateRace => "one winner per conditional create (If-None-Match: *)",
            Property::ReadAfterWrite => "read after write",
            Property::RangedGet => "ranged reads",
            Property::Delete => "deletion",
        })
    }
}

/// The bucket did not pass.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A promise is broken; the bucket must not be used.
    #[error(
        "the bucket at \"{url}\" does not keep {property}: {seen}; use another store or release"
    )]
    Broken {
        /// The bucket.
        url: String,
        /// The promise.
        property: Property,
        /// What was seen.
        seen: String,
    },
    /// The bucket did not answer, so nothing is known.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The result cannot be noted.
    #[error(transparent)]
    Note(#[from] LocalError),
}

/// Passes if the bucket of this URL passed before, else runs the probe and notes that it passed.
/// A note never expires here, so that a start with the bucket away does not wait for it; the
/// broker's daily loop calls [`renew`].
pub async fn ensure(
    store: &Store,
    dir: &DataDir,
    clock: &Clock,
    random: &Random,
) -> Result<(), ProbeError> {
    match passed_at(store.place(), dir).await? {
        Some(_) => Ok(()),
        None => renew(store, dir, clock, random).await,
    }
}

/// Runs the probe and notes that it passed. If a promise is broken the note is removed, so that
/// the next start asks again.
pub async fn renew(
    store: &Store,
    dir: &DataDir,
    clock: &Clock,
    random: &Random,
) -> Result<(), ProbeError> {
    let result = run(store, random).await;
    match &result {
        Ok(()) => {
            let mut body = clock.wall_ms().to_be_bytes().to_vec();
            body.extend_from_slice(store.place().as_bytes());
            dir.write(NOTE_FILE, NOTE.seal(&body)).await?;
        }
        Err(ProbeError::Broken { .. }) => dir.remove(NOTE_FILE).await?,
        Err(_) => {}
    }
    result
}

/// When the bucket at `url` last passed, in milliseconds since the epoch; `None` if it did not, or
/// the note cannot be read.
pub async fn passed_at(url: &str, dir: &DataDir) -> Result<Option<i64>, LocalError> {
    let Some(bytes) = dir.read(NOTE_FILE, NOTE_BYTES).await? else {
        return Ok(None);
    };
    Ok(NOTE.open(&bytes).ok().and_then(|body| parse(body, url).ok().flatten()))
}

fn parse(body: &[u8], url: &str) -> Result<Option<i64>, Truncated> {
    let mut cursor = Cursor::new(body);
    let wall_ms = cursor.i64()?;
    Ok((cursor.take(cursor.remaining())? == url.as_bytes()).then_some(wall_ms))
}

/// Runs the probe. Its objects lie under `probe/` and are removed.
pub async fn run(store: &Store, random: &Random) -> Result<(), ProbeError> {
    let prefix = format!("probe/{:032x}", random.u128());
    let key = |name: String| Key::new(format!("{prefix}/{name}"));
    for race in 0..RACES {
        create_race(store, &key(format!("race-{race}"))).await?;
    }
    let object = key("object".to_owned());
    read_after_write(store, &object).await?;
    ranged_get(store, &object).await?;
    deletion(store, &object).await?;
    for race in 0..RACES {
        store.delete(&key(format!("race-{race}"))).await?;
    }
    Ok(())
}

async fn create_race(store: &Store, key: &Key) -> Result<(), ProbeError> {
    let body = |racer: u64| Bytes::from(format!("racer {racer:04}"));
    let racers = (0..RACERS).map(|racer| store.create(key, body(racer)));
    let mut winners = Vec::new();
    for (racer, outcome) in (0..RACERS).zip(join_all(racers).await) {
        match outcome {
            Ok(()) => winners.push(body(racer)),
            // An answer that was lost may be the winner's: at most one winner is still required.
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Unavailable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let found = store.get(key, NOTE_BYTES).await?;
    let late = match store.create(key, body(RACERS)).await {
        Ok(()) => true,
        Err(ObjectError::AlreadyExists { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let seen = match winners.as_slice() {
        _ if late => "a name that exists was created again".to_owned(),
        [] => return Ok(()),
        [winner] if *winner == found => return Ok(()),
        [_] => "the object is not the winner's".to_owned(),
        several => format!("{} of {RACERS} concurrent creates succeeded", several.len()),
    };
    Err(broken(store, Property::CreateRace, seen))
}

async fn read_after_write(store: &Store, key: &Key) -> Result<(), ProbeError> {
    for body in ["first content", "second content, longer", "0123456789"] {
        store.put(key, Bytes::from(body)).await?;
        match store.get(key, NOTE_BYTES).await {
            Ok(found) if found == body => {}
            Ok(_) => {
                let seen = "an object read back differs from what was written".to_owned();
                return Err(broken(store, Property::ReadAfterWrite, seen));
            }
            Err(ObjectError::NotFound { .. }) => {
                let seen = "an object just written was not found".to_owned();
                return Err(broken(store, Property::ReadAfterWrite, seen));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn ranged_get(store: &Store, key: &Key) -> Result<(), ProbeError> {
    let found = store.get_range(key, 3..7).await?;
    if found != "3456" {
        let seen = format!("bytes 3..7 of an object of 10 came back as {} bytes", found.len());
        return Err(broken(store, Property::RangedGet, seen));
    }
    Ok(())
}

async fn deletion(store: &Store, key: &Key) -> Result<(), ProbeError> {
    store.delete(key).await?;
    match store.get(key, NOTE_BYTES).await {
        Err(ObjectError::NotFound { .. }) => Ok(()),
        Ok(_) => {
            let seen = "an object just deleted was read".to_owned();
            Err(broken(store, Property::Delete, seen))
        }
        Err(error) => Err(error.into()),
    }
}

fn broken(store: &Store, property: Property, seen: String) -> ProbeError {
    ProbeError::Broken { url: store.place().to_owned(), property, seen }
}

#[cfg(test)]
mod tests;

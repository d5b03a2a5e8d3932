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

mod parts;

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
    /// An object can be written in parts, and parts that are given up leave nothing.
    Multipart,
}

impl Property {
    /// Every promise, in the order in which they are asked for.
    pub const ALL: [Self; 5] =
        [Self::CreateRace, Self::ReadAfterWrite, Self::RangedGet, Self::Delete, Self::Multipart];
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::CreateRace => "one winner per conditional create (If-None-Match: *)",
            Property::ReadAfterWrite => "read after write",
            Property::RangedGet => "ranged reads",
            Property::Delete => "deletion",
            Property::Multipart => "uploads in parts",
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

/// What was seen of one promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The promise.
    pub property: Property,
    /// How it was broken; `None` if it was kept.
    pub broken: Option<String>,
}

/// Runs the probe: an error for the first promise that is broken.
pub async fn run(store: &Store, random: &Random) -> Result<(), ProbeError> {
    let verdicts = examine(store, random).await?;
    let broken = verdicts.into_iter().find_map(|Verdict { property, broken }| {
        let url = store.place().to_owned();
        broken.map(|seen| ProbeError::Broken { url, property, seen })
    });
    broken.map_or(Ok(()), Err)
}

/// Asks for every promise. The objects lie under `probe/` and are removed. A bucket that stops to
/// answer after it has broken a promise is asked no more.
pub async fn examine(store: &Store, random: &Random) -> Result<Vec<Verdict>, ObjectError> {
    let prefix = format!("probe/{:032x}", random.u128());
    let key = |name: String| Key::new(format!("{prefix}/{name}"));
    let races: Vec<_> = (0..RACES).map(|race| key(format!("race-{race}"))).collect();
    let [object, whole, given_up] =
        ["object", "whole", "given-up"].map(|name| key(name.to_owned()));
    let mut verdicts: Vec<Verdict> = Vec::new();
    for property in Property::ALL {
        if property == Property::Multipart && store.multipart().is_none() {
            // Files are written in one go, or beside each other, without a promise of the store's.
            continue;
        }
        let seen = match property {
            Property::CreateRace => create_races(store, &races).await,
            Property::ReadAfterWrite => read_after_write(store, &object).await,
            Property::RangedGet => ranged_get(store, &object).await,
            Property::Delete => deletion(store, &object).await,
            Property::Multipart => parts::parts(store, &whole, &given_up).await,
        };
        match seen {
            Ok(broken) => verdicts.push(Verdict { property, broken }),
            Err(error) => return told(verdicts, error),
        }
    }
    for race in &races {
        if let Err(error) = store.delete(race).await {
            return told(verdicts, error);
        }
    }
    Ok(verdicts)
}

/// What is known of a bucket that stopped to answer: a promise that it has broken, or nothing.
fn told(verdicts: Vec<Verdict>, error: ObjectError) -> Result<Vec<Verdict>, ObjectError> {
    let is_broken = verdicts.iter().any(|verdict| verdict.broken.is_some());
    if is_broken { Ok(verdicts) } else { Err(error) }
}

async fn create_races(store: &Store, races: &[Key]) -> Result<Option<String>, ObjectError> {
    for key in races {
        let seen = create_race(store, key).await?;
        if seen.is_some() {
            return Ok(seen);
        }
    }
    Ok(None)
}

/// How the promise was broken, if it was; the same below.
async fn create_race(store: &Store, key: &Key) -> Result<Option<String>, ObjectError> {
    let body = |racer: u64| Bytes::from(format!("racer {racer:04}"));
    let racers = (0..RACERS).map(|racer| store.create(key, body(racer)));
    let mut winners = Vec::new();
    for (racer, outcome) in (0..RACERS).zip(join_all(racers).await) {
        match outcome {
            Ok(()) => winners.push(body(racer)),
            // An answer that was lost may be the winner's: at most one winner is still required.
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let found = store.get(key, NOTE_BYTES).await?;
    let late = match store.create(key, body(RACERS)).await {
        Ok(()) => true,
        Err(ObjectError::AlreadyExists { .. }) => false,
        Err(error) => return Err(error),
    };
    Ok(match winners.as_slice() {
        _ if late => Some("a name that exists was created again".to_owned()),
        [] => None,
        [winner] if *winner == found => None,
        [_] => Some("the object is not the winner's".to_owned()),
        several => Some(format!("{} of {RACERS} concurrent creates succeeded", several.len())),
    })
}

async fn read_after_write(store: &Store, key: &Key) -> Result<Option<String>, ObjectError> {
    for body in ["first content", "second content, longer", "0123456789"] {
        store.put(key, Bytes::from(body)).await?;
        let seen = match store.get(key, NOTE_BYTES).await {
            Ok(found) if found == body => continue,
            Ok(_) => "an object read back differs from what was written",
            Err(ObjectError::NotFound { .. }) => "an object just written was not found",
            Err(error) => return Err(error),
        };
        return Ok(Some(seen.to_owned()));
    }
    Ok(None)
}

async fn ranged_get(store: &Store, key: &Key) -> Result<Option<String>, ObjectError> {
    let found = store.get_range(key, 3..7).await?;
    let told = || format!("bytes 3..7 of an object of 10 came back as {} bytes", found.len());
    Ok((found != "3456").then(told))
}

async fn deletion(store: &Store, key: &Key) -> Result<Option<String>, ObjectError> {
    store.delete(key).await?;
    match store.get(key, NOTE_BYTES).await {
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Ok(_) => Ok(Some("an object just deleted was read".to_owned())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

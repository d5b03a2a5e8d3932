//! `tidegate wal check`: walks every file of a directory, changes nothing, and says what is there.

use std::fmt;

use super::disk::Disk;
use super::local::{self, OpenError};
use super::{FileNumber, Lsn};

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// The files that hold the log, oldest first.
    pub files: Vec<FileReport>,
    /// Names of files that hold nothing of it.
    pub free: Vec<String>,
    /// The checkpoints that a start would load: file name, records covered up to, and why one
    /// cannot be read.
    pub checkpoints: Vec<(String, Lsn, Option<String>)>,
    /// Records up to here had been synced.
    pub proven: Lsn,
    /// The last good record.
    pub end: Lsn,
    /// Why a start would refuse, if it would.
    pub refusal: Option<OpenError>,
}

/// What a check has found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name.
    pub name: String,
    /// Its number.
    pub number: FileNumber,
    /// The first LSN in it.
    pub first: Lsn,
    /// The last good LSN in it that counts; before `first` if there is none.
    pub last: Lsn,
    /// Good groups.
    pub groups: u64,
    /// Where the last good record ends.
    pub bytes: u64,
    /// What comes after the last good record.
    pub ending: Ending,
}

/// How the records of a file end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was written is good.
    Whole,
    /// Records that were never proven synced are cut off at this byte: a crash does that, and a
    /// start drops them.
    Torn(u64),
    /// Records that had been synced are damaged or missing from this byte on.
    Corrupt(u64),
}

/// Checks the log on `disk`, every record of it. Blocks. An error is one that keeps the check from
/// being made at all.
pub fn check(disk: &dyn Disk) -> Result<Report, OpenError> {
    let analysed = local::analyse(local::layout(disk, false)?);
    let floor = analysed.as_ref().map_or(Lsn::ZERO, |analysis| analysis.floor);
    let refusal = analysed.err();
    let mut layout = local::layout(disk, false)?;
    // Files below the floor are free already, and may be half overwritten.
    let below = floor.min(layout.checkpoints.covered().next());
    while layout.chain.get(1).is_some_and(|second| second.header.first_lsn <= below) {
        layout.free.push(layout.chain.remove(0).into_free());
    }
    let mut proven = layout.checkpoints.reaches();
    let mut files = Vec::new();
    let mut end = Lsn::ZERO;
    for (index, found) in layout.chain.iter().enumerate() {
        let about = |source| OpenError::io(format!("read \"{}\"", found.name), source);
        let next = layout.chain.get(index + 1).map(|next| next.header.first_lsn);
        let scan = local::scan(found, next, |_| {}).map_err(about)?;
        let behind = local::proven_behind(found, scan.stopped_at).map_err(about)?;
        proven = proven.max(found.header.proven).max(found.header.first_lsn.previous());
        proven = proven.max(scan.proven).max(behind.unwrap_or_default());
        end = scan.next_lsn.previous();
        let ending = match next {
            Some(next) if scan.next_lsn < next => Ending::Corrupt(scan.stopped_at),
            None if proven > end => Ending::Corrupt(scan.stopped_at),
            None if scan.torn || behind.is_some() => Ending::Torn(scan.stopped_at),
            _ => Ending::Whole,
        };
        files.push(FileReport {
            name: found.name.clone(),
            number: found.header.number,
            first: found.header.first_lsn,
            last: end,
            groups: scan.groups,
            bytes: scan.end,
            ending,
        });
    }
    let checkpoints = layout.checkpoints.current.iter().map(|checkpoint| {
        let damage = checkpoint.parts().find_map(Result::err).map(|error| error.to_string());
        (checkpoint.name.clone(), checkpoint.covers, damage)
    });
    let checkpoints = checkpoints.collect();
    let free = layout.free.iter().map(|free| free.name.clone()).collect();
    Ok(Report { files, free, checkpoints, proven, end, refusal })
}

impl Report {
    /// Whether nothing is damaged. A torn tail is no damage.
    pub fn is_sound(&self) -> bool {
        let corrupt = |file: &FileReport| matches!(file.ending, Ending::Corrupt(_));
        let damaged = self.checkpoints.iter().any(|(_, _, damage)| damage.is_some());
        self.refusal.is_none() && !damaged && !self.files.iter().any(corrupt)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            let FileReport { name, number, first, last, groups, bytes, .. } = file;
            if last < first {
                write!(f, "{name}: file {number}, no records from {first} on")?;
            } else {
                write!(f, "{name}: file {number}, records {first} to {last}, ")?;
                write!(f, "{groups} groups, {bytes} bytes")?;
            }
            match file.ending {
                Ending::Whole => writeln!(f)?,
                Ending::Torn(at) => writeln!(f, ", torn tail at byte {at}")?,
                Ending::Corrupt(at) => writeln!(f, ", CORRUPT at byte {at}")?,
            }
        }
        for (name, covers, damage) in &self.checkpoints {
            match damage {
                None => writeln!(f, "{name}: covers records up to {covers}")?,
                Some(damage) => writeln!(f, "{name}: CORRUPT: {damage}")?,
            }
        }
        if !self.free.is_empty() {
            writeln!(f, "free: {}", self.free.join(", "))?;
        }
        writeln!(f, "proven synced up to record {}, last record {}", self.proven, self.end)?;
        match &self.refusal {
            Some(refusal) => writeln!(f, "a start refuses: {refusal}"),
            None => writeln!(f, "a start accepts it"),
        }
    }
}

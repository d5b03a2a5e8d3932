//! The disk of the data directory: how long a sync takes, how much room there is.

use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Duration;

use super::report::{Report, trouble};
use crate::clock::Clock;
use crate::config::{WalConfig, WalSync};
use crate::wal::disk::{Disk, RealDisk};

const PART: &str = "disk";

/// The file that is written and removed.
const FILE: &str = "tidegate-doctor.tmp";

/// How often a write is synced.
const ROUNDS: u64 = 32;

/// The bytes of each write.
const BLOCK_BYTES: usize = 4_096;

/// A sync that takes longer is felt by every producer.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// Below this the write-ahead log soon has no room for another file.
const LEAST_BYTES: u64 = 1 << 30;

/// Looks at the disk of `data_dir`, or of the directory in which a start would make it.
pub(super) fn examine(report: &mut Report, data_dir: &Path, wal: &WalConfig, clock: &Clock) {
    let mut above = data_dir.ancestors();
    let Some(directory) = above.find(|directory| directory.is_dir()) else {
        return;
    };
    let place = directory.display();
    match sync_times(directory, clock) {
        Ok(times) => tell_sync(report, directory, &times, wal),
        Err(error) => report.problem(
            PART,
            format!("\"{place}\" cannot be written: {error}"),
            trouble(
                "the file system is read-only or full, or this user may not write there",
                "the broker does not start",
                "give the directory to the user of the broker, or set data.dir",
            ),
        ),
    }
    match RealDisk::new(directory).space() {
        Ok(space) => tell_space(report, directory, space.free, wal),
        Err(error) => report.warn(
            PART,
            format!("the free space of \"{place}\" is not known: {error}"),
            trouble(
                "the file system does not say",
                "a full disk is noticed late",
                "set wal.max.bytes",
            ),
        ),
    }
}

/// How long syncs of appended blocks take, the shortest first.
fn sync_times(directory: &Path, clock: &Clock) -> io::Result<Vec<Duration>> {
    let disk = RealDisk::new(directory);
    let written = write_and_sync(&*disk, clock);
    match disk.remove(FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => written,
    }
}

fn write_and_sync(disk: &dyn Disk, clock: &Clock) -> io::Result<Vec<Duration>> {
    let file = disk.create(FILE)?;
    let block = [0_u8; BLOCK_BYTES];
    // As in the log, room is there before what is timed.
    file.allocate(0, ROUNDS * BLOCK_BYTES as u64)?;
    file.sync()?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begun = clock.now();
        file.write(&mut [IoSlice::new(&block)], round * BLOCK_BYTES as u64)?;
        file.sync()?;
        times.push(clock.now().duration_since(begun));
    }
    times.sort_unstable();
    Ok(times)
}

fn tell_sync(report: &mut Report, directory: &Path, times: &[Duration], wal: &WalConfig) {
    let (Some(median), Some(slowest)) = (times.get(times.len() / 2), times.last()) else {
        return;
    };
    let found = format!(
        "a sync in \"{}\" takes {:.2} ms, the slowest of {} took {:.2} ms",
        directory.display(),
        median.as_secs_f64() * 1e3,
        times.len(),
        slowest.as_secs_f64() * 1e3
    );
    if *median <= SLOW_SYNC || wal.sync != WalSync::Always {
        report.fine(PART, found);
        return;
    }
    report.warn(
        PART,
        found,
        trouble(
            "the disk is slow, shared or busy",
            "every acknowledgement waits for a sync, so producers wait at least as long",
            "take a local SSD for data.dir, or wal.sync=interval if a power cut may lose records",
        ),
    );
}

fn tell_space(report: &mut Report, directory: &Path, available: u64, wal: &WalConfig) {
    let found = format!("{} MiB are free in \"{}\"", available >> 20, directory.display());
    if available < LEAST_BYTES {
        report.problem(
            PART,
            found,
            trouble(
                "the disk is full, or nearly so",
                "producers are refused with a retriable error when the log finds no room",
                "make room, or set data.dir to a larger disk",
            ),
        );
        return;
    }
    match wal.bytes_max.filter(|most| *most > available) {
        None => report.fine(PART, found),
        Some(most) => report.warn(
            PART,
            found,
            trouble(
                format!("wal.max.bytes allows {} MiB", most >> 20),
                "the disk is full before the log is at its limit, unless it takes that now",
                "lower wal.max.bytes, or make room",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: WalConfig = WalConfig { sync: WalSync::Always, bytes_max: Some(4 << 30) };

    #[test]
    fn a_directory_is_measured_and_left_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        examine(&mut report, &temp.path().join("not/yet"), &ALWAYS, &Clock::system());
        let text = report.to_string();
        assert!(text.contains("a sync in") && text.contains("MiB are free"), "{text}");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_writable_is_a_problem() {
        let mut report = Report::default();
        examine(&mut report, Path::new("/proc/not/here"), &ALWAYS, &Clock::system());
        assert!(!report.is_healthy());
        assert!(report.to_string().contains("problem  disk: \"/proc\" cannot be written"));
    }

    #[test]
    fn slow_syncs_and_little_room_are_told() {
        let told = |tell: &dyn Fn(&mut Report)| {
            let mut report = Report::default();
            tell(&mut report);
            report.to_string()
        };
        let place = Path::new("/d");
        let slow = [Duration::from_millis(30); 3];
        let text = told(&|report| tell_sync(report, place, &slow, &ALWAYS));
        assert!(text.starts_with("warning  disk: a sync in \"/d\" takes 30.00 ms"), "{text}");
        let every = WalSync::Interval(Duration::from_secs(1));
        let relaxed = WalConfig { sync: every, bytes_max: None };
        let text = told(&|report| tell_sync(report, place, &slow, &relaxed));
        assert!(text.starts_with("ok"), "{text}");
        let text = told(&|report| tell_space(report, place, 3 << 30, &ALWAYS));
        assert!(text.contains("wal.max.bytes allows 4096 MiB"), "{text}");
        let text = told(&|report| tell_space(report, place, 5 << 20, &relaxed));
        assert!(text.starts_with("problem  disk: 5 MiB are free"), "{text}");
    }
}

//! What the kernel says of a process and of the machine, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wire::fault;

/// The unit of `utime` and `stime` (`USER_HZ`), the same on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// The size of one write of [`warm_page_cache`].
const WARM_BLOCK: usize = 4 << 20;

/// CPU time a process has used, in both of the kernel's accounts.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    /// `utime` + `stime`: complete, also of threads that have ended, in ticks of 10 ms.
    ticks: Duration,
    /// Nanoseconds by thread, of the threads that live.
    threads: HashMap<String, u64>,
}

impl Cpu {
    /// Reads the CPU time of a process; `pid` may be `self`.
    pub(crate) fn of(pid: &str) -> io::Result<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name is in parentheses and may hold anything; fields are counted after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            return Err(fault(format!("/proc/{pid}/stat has no CPU times")));
        };
        let mut threads = HashMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            // A thread may end between the two reads.
            let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let run = schedstat.split_whitespace().next().and_then(|run| run.parse().ok());
            threads.insert(task.file_name().to_string_lossy().into_owned(), run.unwrap_or(0));
        }
        Ok(Cpu { ticks: TICK * (user + system), threads })
    }

    /// CPU time since `before`: by nanoseconds, or by ticks if they show that a thread has ended
    /// meanwhile and taken its nanoseconds with it.
    pub(crate) fn since(&self, before: &Cpu) -> Duration {
        let ticks = self.ticks.saturating_sub(before.ticks);
        let of_thread = |(id, run): (&String, &u64)| {
            run.saturating_sub(before.threads.get(id).copied().unwrap_or(0))
        };
        let exact = Duration::from_nanos(self.threads.iter().map(of_thread).sum());
        if ticks > exact + 2 * TICK { ticks } else { exact }
    }

    /// All CPU time since the process began.
    pub(crate) fn total(&self) -> Duration {
        self.since(&Cpu { ticks: Duration::ZERO, threads: HashMap::new() })
    }
}

/// Memory of a process that is resident.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resident {
    /// Now (`VmRSS`), in bytes.
    pub(crate) now: u64,
    /// The most there ever was (`VmHWM`), in bytes.
    pub(crate) peak: u64,
}

impl Resident {
    /// Reads the resident memory of a process.
    pub(crate) fn of(pid: &str) -> io::Result<Resident> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Resident { now: kib(&status, "VmRSS:"), peak: kib(&status, "VmHWM:") })
    }
}

/// The figure, given in KiB, after `name` at the beginning of a line; in bytes, 0 if absent.
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let figure = line.and_then(|line| line.split_whitespace().next());
    figure.and_then(|figure| figure.parse::<u64>().ok()).map_or(0, |figure| figure << 10)
}

/// Writes a file of `bytes` below `folder` and deletes it.
///
/// A virtual machine returns free memory to its host (free page reporting), and then the first
/// touch of a page costs ten times as much as the write into it. The pages of a file just deleted
/// are what the kernel hands out next for files that grow, so this takes the host's cost out of a
/// measurement that begins at once. Anonymous memory does not do: it comes from other free lists.
pub(crate) fn warm_page_cache(folder: &Path, bytes: usize) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    let block = vec![1_u8; WARM_BLOCK];
    for _ in 0..bytes / WARM_BLOCK {
        file.write_all(&block)?;
    }
    Ok(())
}

/// One line about processor, memory and kernel.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = kib(&meminfo, "MemTotal:") >> 30;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} x {model}, {memory} GiB, Linux {}", kernel.trim())
}

/// The load averages, as a hint at noisy neighbours.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Today in UTC, as `2026-11-21`.
pub(crate) fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut days = now.as_secs() / 86_400;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

//! A server as a process of its own, with a directory of its own: dropping it stops the process and
//! deletes the directory, and so does an interrupted run.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::machine::{Cpu, Resident};
use super::wire::fault;

/// How long a server may take to whatever is waited for.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long it may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// The step of the polls for either.
const POLL: Duration = Duration::from_millis(1);
/// Ports are taken from here, below the range that clients' sockets get theirs from.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    /// When it was started.
    pub(crate) begun: Instant,
    child: Child,
    directory: TempDir,
}

impl Process {
    /// Starts a server, whose output goes to the file `log` in its directory.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        directory: TempDir,
    ) -> io::Result<Process> {
        let log = File::create(directory.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let child = command.spawn().map_err(|error| {
            fault(format!("start {name}: {}: {error}", command.get_program().display()))
        })?;
        running().push((child.id(), directory.path().to_owned()));
        Ok(Process { name, begun, child, directory })
    }

    /// Its process id, as a folder of `/proc` is named.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// The CPU time it has used.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(&self.id())
    }

    /// Its resident memory.
    pub(crate) fn resident(&self) -> io::Result<Resident> {
        Resident::of(&self.id())
    }

    /// The folder of its files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The end of what it logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_000)..]).into_owned()
    }

    /// One step of a poll that began at `since`: fails, with `reason`, when the server has ended
    /// or time is up.
    pub(crate) fn step(&mut self, since: Instant, reason: &str) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(fault(format!("{} ended with {status}", self.name)));
        }
        if since.elapsed() > START_LIMIT {
            return Err(fault(format!("{}: {reason}", self.name)));
        }
        std::thread::sleep(POLL);
        Ok(())
    }

    fn stop(&mut self) {
        let asked = Pid::from_raw(self.child.id() as i32)
            .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        let begun = Instant::now();
        while asked && begun.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        running().retain(|(id, _)| *id != self.child.id());
    }
}

/// The servers of this run and their directories, for [`stop_on_signal`].
static RUNNING: Mutex<Vec<(u32, PathBuf)>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<(u32, PathBuf)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that a run that is interrupted leaves no server and no directory behind.
pub(crate) fn stop_on_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        for (id, directory) in running().iter() {
            if let Some(pid) = Pid::from_raw(*id as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = fs::remove_dir_all(directory);
        }
        std::process::exit(130);
    });
    Ok(())
}

/// The first of `count` ports in a row on which nobody listens now.
pub(crate) fn free_ports(count: u16) -> io::Result<u16> {
    // Two runs at a time begin at different places.
    let offset = std::process::id() as u16 % (PORTS.end - PORTS.start);
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut rotated = (PORTS.start + offset..PORTS.end - count).chain(PORTS.start..PORTS.end);
    rotated
        .find(|first| (*first..*first + count).all(free))
        .ok_or_else(|| fault(format!("no {count} free ports in {PORTS:?}")))
}

//! What defaults depend on: how much memory the process may use, and what the machine is called.
#![allow(clippy::disallowed_methods, reason = "config is one of the rooms that read files")]

use std::path::Path;

/// The machine (or container) that the process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The smaller of its memory and the limits of the process's control groups, in bytes.
    pub memory_bytes: u64,
    /// Its host name.
    pub hostname: String,
}

impl Default for Machine {
    /// What is assumed where nothing can be found out: 4 GiB, `localhost`.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, hostname: "localhost".to_owned() }
    }
}

impl Machine {
    /// Asks this machine.
    pub fn detect() -> Self {
        Self::detect_in(Path::new("/"))
    }

    /// Asks the files below `root`, which stands for `/`.
    fn detect_in(root: &Path) -> Self {
        let assumed = Self::default();
        let limits = [ram(root), cgroup_limit(root)];
        let hostname = read(&root.join("proc/sys/kernel/hostname")).filter(|name| !name.is_empty());
        Self {
            memory_bytes: limits.into_iter().flatten().min().unwrap_or(assumed.memory_bytes),
            hostname: hostname.unwrap_or(assumed.hostname),
        }
    }
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn ram(root: &Path) -> Option<u64> {
    let text = read(&root.join("proc/meminfo"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the process's control groups and of those above them, version 1 or 2.
///
/// A line of `/proc/self/cgroup` is `id:controllers:path`; version 2 has id 0 and no controllers.
/// In a container the path may be the host's and not exist here: then the limit stands at the top.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    let limit_of = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            least_upwards(&root.join("sys/fs/cgroup"), path, "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            least_upwards(&root.join("sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    };
    groups.lines().filter_map(limit_of).min()
}

/// The least number in the files `name` from `top`/`path` up to `top`. "max" is no number.
fn least_upwards(top: &Path, path: &str, name: &str) -> Option<u64> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    (0..=parts.len())
        .filter_map(|depth| {
            let group = parts.iter().take(depth).fold(top.to_owned(), |path, part| path.join(part));
            read(&group.join(name))?.parse().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Machine::detect_in(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:     2097152 kB\nMemFree: 1 kB\n");

    #[test]
    fn without_a_control_group_it_is_the_ram() {
        let found = machine(&[MEMINFO, ("proc/sys/kernel/hostname", "box\n")]);
        assert_eq!(found, Machine { memory_bytes: 2 << 30, hostname: "box".to_owned() });
        assert_eq!(machine(&[]), Machine::default());
    }

    #[test]
    fn version_2_takes_the_least_limit_on_the_way_up() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a.slice/b.scope\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/a.slice/memory.max", "536870912\n"),
        ];
        assert_eq!(machine(&files).memory_bytes, 512 << 20);
    }

    #[test]
    fn version_2_in_a_container_has_the_limit_at_the_top() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/../../pod\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(machine(&files).memory_bytes, 256 << 20);
    }

    #[test]
    fn version_1_looks_at_the_memory_controller_only() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&files).memory_bytes, 128 << 20);
    }

    #[test]
    fn a_limit_above_the_ram_is_none() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&files).memory_bytes, 2 << 30);
    }
}

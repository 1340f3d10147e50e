//! What the kernel says about memory: kills counted and limits set by the cgroups of this process, v1 and v2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

/// Where the kernel shows cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// Counts the kernel's memory kills in the cgroup of this process.
#[derive(Debug, Clone)]
pub struct OomCounter {
    files: Vec<PathBuf>,
}

impl OomCounter {
    /// Returns a counter for this process.
    #[must_use]
    pub fn here() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(&own, Path::new(ROOT))
    }

    /// Returns a counter for the process whose `/proc/PID/cgroup` holds `own`, with cgroups mounted at `root`.
    #[must_use]
    pub fn of(own: &str, root: &Path) -> Self {
        let files = folders(own, root).into_iter().flat_map(|folder| {
            // v1, then v2. A limit on a folder further up counts its kills in this file too where it is hierarchical.
            [
                folder.join("memory.oom_control"),
                folder.join("memory.events"),
            ]
        });
        Self {
            files: files.filter(|file| file.exists()).collect(),
        }
    }

    /// Returns how many processes of the cgroup the kernel has killed for memory so far; 0 where nothing counts.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let kills = self.files.iter().filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        });
        kills.sum()
    }
}

/// A limit on the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit.
    pub bytes: u64,
    /// Of which so much is used already, by this process and all others below the limit.
    pub used_bytes: u64,
    /// What sets it.
    pub set_by: &'static str,
}

/// Returns the limit of this process that leaves the least room: of its cgroups, or `ulimit -v`; `None` where there is
/// none.
#[must_use]
pub fn memory_limit() -> Option<MemoryLimit> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let address_space = getrlimit(Resource::As).current.map(|bytes| MemoryLimit {
        bytes,
        used_bytes: address_space_used(),
        set_by: "ulimit -v",
    });
    let limits = cgroup_limits(&own, Path::new(ROOT)).chain(address_space);
    limits.min_by_key(|limit| limit.bytes.saturating_sub(limit.used_bytes))
}

/// Returns the size of this process's address space: the first number of `/proc/self/statm`, in pages.
fn address_space_used() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn cgroup_limits(own: &str, root: &Path) -> impl Iterator<Item = MemoryLimit> {
    let root = root.to_owned();
    let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    folders(own, &root)
        .into_iter()
        .flat_map(move |folder| {
            // Limits hold for everything below, so every folder up to the root is asked.
            let up = folder.ancestors().take_while(|up| up.starts_with(&root));
            up.map(Path::to_owned).collect::<Vec<_>>()
        })
        .flat_map(|up| {
            [
                (
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "cgroup v1",
                ),
                ("memory.max", "memory.current", "cgroup v2"),
            ]
            .map(|(limit, used, set_by)| (up.join(limit), up.join(used), set_by))
        })
        .filter_map(move |(limit, used, set_by)| {
            Some(MemoryLimit {
                bytes: number(limit)?,
                used_bytes: number(used).unwrap_or(0),
                set_by,
            })
        })
        // v1 says "no limit" with a number just below 2^63.
        .filter(|limit| limit.bytes < 1 << 60)
}

/// Returns the folders of the memory cgroups named by `own`, the text of a `/proc/PID/cgroup`.
fn folders(own: &str, root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if hierarchy == "0" && controllers.is_empty() {
            folders.push(root.join(path));
            folders.push(root.join("unified").join(path));
        } else if controllers.split(',').any(|one| one == "memory") {
            folders.push(root.join("memory").join(path));
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_and_limits_are_read_from_v1_and_v2() {
        let root = tempfile::tempdir().unwrap();
        let v1 = root.path().join("memory/shop/app");
        fs::create_dir_all(&v1).unwrap();
        fs::write(
            v1.join("memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        )
        .unwrap();
        fs::write(v1.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(
            root.path().join("memory/shop/memory.limit_in_bytes"),
            "67108864\n",
        )
        .unwrap();
        let own = "5:memory:/shop/app\n1:name=systemd:/\n0::/\n";
        assert_eq!(OomCounter::of(own, root.path()).kills(), 3);
        fs::write(
            root.path().join("memory/shop/memory.usage_in_bytes"),
            "1048576\n",
        )
        .unwrap();
        let found: Vec<_> = cgroup_limits(own, root.path()).collect();
        let limit = MemoryLimit {
            bytes: 67_108_864,
            used_bytes: 1_048_576,
            set_by: "cgroup v1",
        };
        assert_eq!(found, [limit]);

        let v2 = root.path().join("pod");
        fs::create_dir_all(&v2).unwrap();
        fs::write(
            v2.join("memory.events"),
            "low 0\noom 2\noom_kill 2\noom_group_kill 0\n",
        )
        .unwrap();
        fs::write(v2.join("memory.max"), "max\n").unwrap();
        assert_eq!(OomCounter::of("0::/pod\n", root.path()).kills(), 2);
        assert_eq!(cgroup_limits("0::/pod\n", root.path()).count(), 0);
        fs::write(v2.join("memory.max"), "1000\n").unwrap();
        fs::write(v2.join("memory.current"), "400\n").unwrap();
        let found: Vec<_> = cgroup_limits("0::/pod\n", root.path()).collect();
        let limit = MemoryLimit {
            bytes: 1000,
            used_bytes: 400,
            set_by: "cgroup v2",
        };
        assert_eq!(found, [limit]);
    }
}

//! What the kernel says about memory: kills counted and limits set by the cgroups of this process, v1 and v2.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// Returns the least memory limit of the cgroups of this process in bytes; `None` where there is none.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_of(&own, Path::new(ROOT))
}

fn limit_of(own: &str, root: &Path) -> Option<u64> {
    let limits = folders(own, root).into_iter().flat_map(|folder| {
        // Limits hold for everything below, so every folder up to the root is asked.
        let up: Vec<PathBuf> = folder
            .ancestors()
            .take_while(|up| up.starts_with(root))
            .map(Path::to_owned)
            .collect();
        up.into_iter()
            .flat_map(|up| [up.join("memory.limit_in_bytes"), up.join("memory.max")])
    });
    limits
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        // v1 says "no limit" with a number just below 2^63.
        .filter(|limit| *limit < 1 << 60)
        .min()
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
        assert_eq!(limit_of(own, root.path()), Some(67_108_864));

        let v2 = root.path().join("pod");
        fs::create_dir_all(&v2).unwrap();
        fs::write(
            v2.join("memory.events"),
            "low 0\noom 2\noom_kill 2\noom_group_kill 0\n",
        )
        .unwrap();
        fs::write(v2.join("memory.max"), "max\n").unwrap();
        assert_eq!(OomCounter::of("0::/pod\n", root.path()).kills(), 2);
        assert_eq!(limit_of("0::/pod\n", root.path()), None);
    }
}

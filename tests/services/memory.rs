//! The kernel's own memory kills, in a cgroup of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::shop::{PLAN, Running, Shop, assert_same, resource};

/// What the run gets: far less than three chunks of 16 MiB, which is what it begins with, and enough for three of 4 MiB
/// after two deaths.
const LIMIT_BYTES: &str = "27000000";
const BUDGET: &str = "defaults: { memory: { in_flight: 256MiB }, chunk: { bytes: 64MiB } }\n";

/// A memory cgroup, removed with this value.
struct Cgroup {
    folder: PathBuf,
    members: &'static str,
}

impl Cgroup {
    /// Returns a cgroup with a memory limit; `None` where this machine lets nobody make one.
    fn limited() -> Option<Self> {
        let name = format!("rekindle-test-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "tasks"),
            ("/sys/fs/cgroup", "memory.max", "cgroup.procs"),
        ];
        kinds.into_iter().find_map(|(root, limit, members)| {
            let folder = Path::new(root).join(&name);
            fs::create_dir(&folder).ok()?;
            let cgroup = Self { folder, members };
            // Without the controller the file is not there, and a file made by hand would limit nothing.
            let limit = cgroup.folder.join(limit);
            (limit.exists() && fs::write(limit, LIMIT_BYTES).is_ok()).then_some(cgroup)
        })
    }

    /// Returns `command` so that it and its children run inside.
    fn inside(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(self.folder.join(self.members))
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_run_killed_by_the_kernel_for_memory_ends_by_itself_with_a_smaller_budget() {
    let Some(cgroup) = Cgroup::limited() else {
        println!("left out: this machine lets nobody make a memory cgroup");
        return;
    };
    let mut shop = Shop::open("oom").await;
    shop.table("large").await;
    shop.database
        .execute(
            "INSERT INTO large SELECT seq, 0, CONCAT('large:', seq), \
             CONCAT(seq, REPEAT('z', 900000)) FROM seq_1_to_150"
                .to_owned(),
        )
        .await;
    shop.plan(&resource("large"), BUDGET);
    let done = Running::start(cgroup.inside(&shop.command(&format!("run {PLAN}")))).finish();
    let done = done.exits(0);
    assert!(
        done.stderr
            .contains("the working process ended: killed by the kernel for memory"),
        "{done}"
    );

    let status = shop.status();
    let attempts = status["attempts"].as_array().expect("attempts");
    let budgets: Vec<_> = attempts
        .iter()
        .map(|one| one["in_flight_bytes"].as_u64().expect("a budget"))
        .collect();
    assert!((2..=13).contains(&budgets.len()), "{status}");
    assert!(
        budgets.windows(2).all(|pair| pair[1] == pair[0] / 2),
        "{budgets:?}"
    );
    for killed in &attempts[..attempts.len() - 1] {
        assert_eq!(killed["end"], "killed by the kernel for memory");
    }
    let killed = attempts.len() - 1;
    let history = shop.rekindle(&format!("history {PLAN}")).exits(0).stdout;
    println!("{history}");
    let deaths = format!("{killed}, {killed} for memory");
    assert!(history.contains(&deaths), "{history}");
    let run = status["run"].as_str().expect("a run");
    let story = shop.rekindle(&format!("show {run} {PLAN}")).exits(0).stdout;
    let named = "attempt ends: killed by the kernel for memory";
    assert_eq!(story.matches(named).count(), killed, "{story}");
    let wanted = (1..=150)
        .map(|id| {
            let value = format!("{id}{}", "z".repeat(900_000));
            (format!("kv:large:{id}").into_bytes(), value.into_bytes())
        })
        .collect();
    assert_same(&wanted, &shop.redis_content());
}

//! Programs that are started for one call and end with it, in a process group of their own.
//!
//! ```text
//! run -> group (no stdin) -> its end, and the last 64 KiB it printed without known secrets
//! ```

mod output;

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

pub use self::output::{Redacted, Tail, keep, log, remove_halves};
use crate::supervisor::CHILD_VARIABLE;

/// How long output may still come after the program ended: something it left behind holds the pipes.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a call ended.
#[derive(Debug)]
pub struct Ran {
    /// How the program ended, if it did.
    pub ended: Result<ExitStatus, Trouble>,
    /// The end of what it printed, without known secrets.
    pub output: String,
}

/// Why it is not known how a program ended.
#[derive(Debug)]
pub enum Trouble {
    /// There was none.
    NotStarted(io::Error),
    /// The operating system does not say.
    LostSight(io::Error),
    /// It took too long and was killed.
    TimedOut,
}

/// Runs `command` for at most `within`. Dropping the future, or a time-out, ends the program and whatever it started.
pub async fn run(command: Command, within: Duration, redacted: &Redacted) -> Ran {
    run_reading(command, Stdio::null(), within, redacted).await
}

/// Runs `command` like [`run`], with `input` as its stdin, which it has for as long as it lives, also where we are killed.
pub async fn run_reading(
    mut command: Command,
    input: Stdio,
    within: Duration,
    redacted: &Redacted,
) -> Ran {
    command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ours alone: the program must not take itself for a worker of ours.
        .env_remove(CHILD_VARIABLE)
        // So that whatever it starts ends with it, and so that a Ctrl-C on the terminal is ours to pass on.
        .process_group(0)
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ran {
                ended: Err(Trouble::NotStarted(error)),
                output: String::new(),
            };
        }
    };
    let mut group = Group {
        id: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
        child,
    };
    let tail = Arc::new(Mutex::new(Tail::new(redacted.clone())));
    let ended = timeout(within, group.watch(&tail)).await;
    drop(group);
    Ran {
        ended: match ended {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(Trouble::LostSight(error)),
            Err(_) => Err(Trouble::TimedOut),
        },
        output: tail.lock().unwrap_or_else(PoisonError::into_inner).text(),
    }
}

/// Returns the file beside the state file at `state` that keeps what `what` printed.
#[must_use]
pub fn log_beside(state: &Path, what: &str) -> PathBuf {
    let mut file = state.as_os_str().to_owned();
    file.push(format!(".{what}.log"));
    file.into()
}

/// Returns the file that a command of a step has locked while it is at work: one for all steps of the state file at `state`, of
/// which no two are at work at a time.
#[must_use]
pub fn lock_beside(state: &Path) -> PathBuf {
    let mut file = state.as_os_str().to_owned();
    file.push(".command.lock");
    file.into()
}

/// A program and whatever it started; all of it ends with this value.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    /// Returns how the program ended, having read what it printed.
    async fn watch(&mut self, tail: &Arc<Mutex<Tail>>) -> io::Result<ExitStatus> {
        let mut readers = JoinSet::new();
        if let Some(out) = self.child.stdout.take() {
            readers.spawn(read(out, Arc::clone(tail)));
        }
        if let Some(err) = self.child.stderr.take() {
            readers.spawn(read(err, Arc::clone(tail)));
        }
        let status = self.child.wait().await?;
        let quiet = async { while readers.join_next().await.is_some() {} };
        timeout(LAST_WORDS, quiet).await.ok();
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nobody is left of most groups: the program has ended.
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, tail: Arc<Mutex<Tail>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        tail.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&buffer[..count]);
    }
}

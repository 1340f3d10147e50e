//! Commands of the plan's author: what `sh` makes of them.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use tokio::process::Command;

use super::Scene;
use crate::{
    error::{EdgeError, ErrorKind},
    plan::Hidden,
    process::{self, Ran, Redacted, Trouble, keep},
    report::human::printable,
};

/// How long a command may take that only looks.
const LOOK: Duration = Duration::from_mins(1);

/// What `sh` is told to do. The script comes by the environment, which only its owner can read: arguments are on show
/// for everybody, and a variable of the plan may hold a password. `sh` itself forgets it before it begins.
const EVALUATE: &str = "eval \"unset REKINDLE_SCRIPT\n$REKINDLE_SCRIPT\"";

/// The same below a `sh` that keeps its stdin until the script is over, whatever that replaces itself by. What a script leaves
/// in the background does not get it.
const EVALUATE_BELOW: &str =
    "sh -c 'eval \"unset REKINDLE_SCRIPT\n$REKINDLE_SCRIPT\"' </dev/null\nexit $?";

/// How long between two looks at a command that an earlier process left behind.
const LEFT: Duration = Duration::from_millis(100);

/// Runs the commands of one step, one at a time: a `sh` around a command that does something has the lock of all steps as its
/// stdin. So it is held for as long as the command lives, also where the process that began it was killed, and nothing is asked or
/// begun beside it: by no step, whatever its number is by then, no other run and no `undo`.
pub(super) struct Runner {
    /// The folder of the plan: nothing depends on where somebody typed `rekindle`.
    pub folder: PathBuf,
    /// Keeps the end of what was printed.
    pub log: PathBuf,
    /// What a command at work has for its stdin.
    pub lock: PathBuf,
    pub redacted: Redacted,
    /// How long a command may take that does something.
    pub within: Duration,
    /// Whether nothing will be done (a dry run): nothing is written then, and nobody is waited for.
    pub only_looks: bool,
}

impl Runner {
    /// Runs a command that does something; `what` is its key in the plan.
    ///
    /// # Errors
    ///
    /// `Refused` for every end but exit code 0. Whether to try again is a person's to decide, who knows what it does.
    pub async fn act(&self, scene: &Scene, what: &str, script: &Hidden) -> Result<(), EdgeError> {
        let lock = self.held().await?;
        let ran = self.run(scene, script, self.within, Some(lock)).await;
        if ran.ended.is_ok() {
            fs::remove_file(&self.lock).ok();
        }
        self.keep(&ran);
        let how = match &ran.ended {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.code().map_or_else(
                || "was killed by a signal".to_owned(),
                |code| format!("ended with exit code {code}"),
            ),
            Err(trouble) => said(trouble, self.within),
        };
        Err(EdgeError::new(
            ErrorKind::Refused,
            format!(
                "`{what}` {how}; what it printed is in {}",
                self.log.display()
            ),
        ))
    }

    /// Runs a command that only looks; returns whether it ended with 0.
    ///
    /// # Errors
    ///
    /// Where its end is no answer: it was not found (126, 127), was killed, took too long, or `ssh` did not get through
    /// (255); `Refused` where a command that an earlier process began does not end.
    pub async fn holds(
        &self,
        scene: &Scene,
        what: &str,
        script: &Hidden,
    ) -> Result<bool, EdgeError> {
        self.alone().await?;
        let ran = self.run(scene, script, LOOK, None).await;
        let (kind, how) = match &ran.ended {
            Ok(status) => match status.code() {
                Some(0) => return Ok(true),
                Some(code @ (126 | 127)) => {
                    (ErrorKind::Missing, format!("ended with exit code {code}"))
                }
                Some(255) => (ErrorKind::Connection, "ended with exit code 255".to_owned()),
                Some(_) => return Ok(false),
                None => (ErrorKind::Busy, "was killed by a signal".to_owned()),
            },
            Err(trouble @ Trouble::TimedOut) => (ErrorKind::Timeout, said(trouble, LOOK)),
            Err(trouble) => (ErrorKind::Refused, said(trouble, LOOK)),
        };
        let text = format!("`{what}` {how}, which says neither yes nor no");
        if self.only_looks {
            return Err(EdgeError::new(kind, text));
        }
        self.keep(&ran);
        Err(EdgeError::new(
            kind,
            format!("{text}; what it printed is in {}", self.log.display()),
        ))
    }

    /// Waits until no command is at work that an earlier process began, for as long as a command may take.
    ///
    /// # Errors
    ///
    /// `Refused` where it does not end.
    pub async fn alone(&self) -> Result<(), EdgeError> {
        match OpenOptions::new().read(true).open(&self.lock) {
            Ok(file) => {
                self.free(&file).await?;
                if !self.only_looks {
                    fs::remove_file(&self.lock).ok();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.no_lock(error)),
        }
    }

    /// Returns the lock, which is ours.
    async fn held(&self) -> Result<File, EdgeError> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).map_err(|error| self.no_lock(error))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock)
            .map_err(|error| self.no_lock(error))?;
        self.free(&file).await.map(|()| file)
    }

    /// Locks `file` once nobody else has it locked.
    async fn free(&self, file: &File) -> Result<(), EdgeError> {
        let begun = Instant::now();
        let mut is_said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock)
                    if !self.only_looks && begun.elapsed() < self.within =>
                {
                    if !is_said {
                        is_said = true;
                        tracing::warn!(
                            lock = %self.lock.display(),
                            "a command of a step that an earlier process began is still at work: it is waited for"
                        );
                    }
                    tokio::time::sleep(LEFT).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(EdgeError::new(
                        ErrorKind::Refused,
                        format!(
                            "a command of a step that an earlier process began is still at work (`fuser {}` names it)",
                            self.lock.display()
                        ),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(self.no_lock(error)),
            }
        }
    }

    fn no_lock(&self, error: io::Error) -> EdgeError {
        let text = format!("cannot lock {}", self.lock.display());
        EdgeError::new(ErrorKind::Refused, text).because(error)
    }

    async fn run(
        &self,
        scene: &Scene,
        script: &Hidden,
        within: Duration,
        lock: Option<File>,
    ) -> Ran {
        let (evaluate, input) = match lock {
            Some(lock) => (EVALUATE_BELOW, Stdio::from(lock)),
            None => (EVALUATE, Stdio::null()),
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", evaluate])
            .env("REKINDLE_SCRIPT", script.text.expose_secret())
            .env("REKINDLE_RUN", scene.run.as_str())
            .current_dir(&self.folder);
        process::run_reading(command, input, within, &self.redacted).await
    }

    fn keep(&self, ran: &Ran) {
        // A log is read on a terminal, which takes orders from control characters.
        let lines: Vec<_> = ran.output.lines().map(printed).collect();
        let mut text = lines.join("\n");
        if ran.output.ends_with('\n') {
            text.push('\n');
        }
        if let Err(error) = keep(&self.log, &text) {
            tracing::warn!(%error, path = %self.log.display(), "the output of a step is not kept");
        }
    }
}

/// Returns a line as it may be shown; tabs stay.
fn printed(line: &str) -> String {
    let parts: Vec<_> = line.split('\t').map(printable).collect();
    parts.join("\t")
}

fn said(trouble: &Trouble, within: Duration) -> String {
    match trouble {
        Trouble::NotStarted(error) => format!("cannot be started ({error})"),
        Trouble::LostSight(error) => format!("was lost sight of ({error})"),
        Trouble::TimedOut => {
            format!(
                "did not end within {} s and was killed",
                within.as_secs_f64()
            )
        }
    }
}

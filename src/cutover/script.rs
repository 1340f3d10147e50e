//! Commands of the plan's author: what `sh` makes of them.

use std::{path::PathBuf, time::Duration};

use secrecy::ExposeSecret;
use tokio::process::Command;

use super::Scene;
use crate::{
    error::{EdgeError, ErrorKind},
    plan::Hidden,
    process::{self, Ran, Redacted, Trouble, keep},
};

/// How long a command may take that only looks.
const LOOK: Duration = Duration::from_mins(1);

/// What `sh` is told to do. The script comes by the environment, which only its owner can read: arguments are on show
/// for everybody, and a variable of the plan may hold a password. `sh` itself forgets it before it begins.
const EVALUATE: &str = "eval \"unset REKINDLE_SCRIPT\n$REKINDLE_SCRIPT\"";

/// Runs the commands of one step.
pub(super) struct Runner {
    /// The folder of the plan: nothing depends on where somebody typed `rekindle`.
    pub folder: PathBuf,
    /// Keeps the end of what was printed.
    pub log: PathBuf,
    pub redacted: Redacted,
    /// How long a command may take that does something.
    pub within: Duration,
}

impl Runner {
    /// Runs a command that does something; `what` is its key in the plan.
    ///
    /// # Errors
    ///
    /// `Refused` for every end but exit code 0. Whether to try again is a person's to decide, who knows what it does.
    pub async fn act(&self, scene: &Scene, what: &str, script: &Hidden) -> Result<(), EdgeError> {
        let ran = self.run(scene, script, self.within).await;
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
    /// (255).
    pub async fn holds(
        &self,
        scene: &Scene,
        what: &str,
        script: &Hidden,
    ) -> Result<bool, EdgeError> {
        let ran = self.run(scene, script, LOOK).await;
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
        self.keep(&ran);
        Err(EdgeError::new(
            kind,
            format!(
                "`{what}` {how}, which says neither yes nor no; what it printed is in {}",
                self.log.display()
            ),
        ))
    }

    async fn run(&self, scene: &Scene, script: &Hidden, within: Duration) -> Ran {
        let mut command = Command::new("sh");
        command
            .args(["-c", EVALUATE])
            .env("REKINDLE_SCRIPT", script.text.expose_secret())
            .env("REKINDLE_RUN", scene.run.as_str())
            .current_dir(&self.folder);
        process::run(command, within, &self.redacted).await
    }

    fn keep(&self, ran: &Ran) {
        if let Err(error) = keep(&self.log, &ran.output) {
            tracing::warn!(%error, path = %self.log.display(), "the output of a step is not kept");
        }
    }
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

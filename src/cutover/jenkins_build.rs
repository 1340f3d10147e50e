//! `jenkins_build`: a freestyle job that is made to run the plan's command, built once, and followed to its end.
//!
//! Jenkins answers a request for a build with nothing that says which one it becomes. So each build is given the run and
//! the step as a parameter, and looked for by it before another one is asked for: in the queue, then among the builds.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use xxhash_rust::xxh3::xxh3_64;

use super::{Action, Observed, Reversed, Scene, Told};
use crate::{
    error::{EdgeError, ErrorKind},
    ids::RunId,
    machine::Facts,
    plan::{JenkinsBuild, JobShell},
    process::{Redacted, keep},
    remote::jenkins::{Build, Ended, Found, Jenkins, OwnJob, Verdict, shell_steps},
};

/// The parameter that says which run and step asked for a build.
const TOKEN: &str = "REKINDLE_RUN";

/// The fact that says which builds do not count: those that failed, and were asked for by an earlier try.
const AFTER: &str = "builds_after";

pub(super) struct JobBuild {
    job: OwnJob,
    build: JenkinsBuild,
    log: PathBuf,
    redacted: Redacted,
}

impl JobBuild {
    pub(super) fn new(
        jenkins: Arc<Jenkins>,
        build: JenkinsBuild,
        plan: String,
        log: PathBuf,
        redacted: Redacted,
    ) -> Self {
        Self {
            job: OwnJob::new(jenkins, build.job.clone(), plan, &[TOKEN]),
            build,
            log,
            redacted,
        }
    }

    /// Returns the latest build that this step asked for, by itself or before its state file was lost.
    async fn found(&self, scene: &Scene, after: u64) -> Result<Option<Found>, EdgeError> {
        self.job.found(&self.tokens(scene), after).await
    }

    /// Returns what builds of this step are known by: its own, and those of runs in whose place its run came.
    fn tokens(&self, scene: &Scene) -> Vec<String> {
        let runs = std::iter::once(&scene.run).chain(&scene.instead_of);
        // As earlier releases named them, too.
        let both = runs.flat_map(|run| [self.token(scene, run), format!("{run}.{}", scene.step)]);
        both.collect()
    }

    /// Returns what a build of this step of `run` is known by: with its command, as a plan that is edited while no state file
    /// is there may have another step in this one's place.
    fn token(&self, scene: &Scene, run: &RunId) -> String {
        let command = match &self.build.shell {
            JobShell::Given(command) => &command.typed,
            JobShell::From(other) => other,
        };
        let print = xxh3_64(command.as_bytes()) >> 32;
        format!("{run}.{}.{print:08x}", scene.step)
    }

    /// Returns what the job should run.
    async fn commands(&self) -> Result<Vec<String>, EdgeError> {
        let other = match &self.build.shell {
            JobShell::Given(command) => return Ok(vec![command.text.expose_secret().to_owned()]),
            JobShell::From(other) => other,
        };
        let missing = |what: &str| {
            let text = format!("job `{other}` of `shell_from` {what}");
            EdgeError::new(ErrorKind::Missing, text)
        };
        let config = self.job.jenkins().config(other).await?;
        let commands = shell_steps(&config.ok_or_else(|| missing("is not there"))?);
        if commands.is_empty() {
            return Err(missing("has no step \"Execute shell\""));
        }
        Ok(commands)
    }

    /// Refuses what surely cannot be built: a job of somebody else's, one to copy from that is not there.
    async fn can_be_made(&self) -> Result<(), EdgeError> {
        self.job.definition().await?;
        self.commands().await.map(drop)
    }

    /// Follows a build to its end.
    async fn follow(&self, number: u64, told: Told<'_>) -> Result<String, EdgeError> {
        let Ended { verdict, printed } = self.job.ended(number, &self.redacted, told).await?;
        if let Err(error) = keep(&self.log, &printed) {
            tracing::warn!(%error, path = %self.log.display(), "the console of a build is not kept");
        }
        match verdict {
            Verdict::Success => Ok(succeeded(number)),
            Verdict::Other(result) => Err(EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "build {number} of job `{}` ended with {result}; its console is in {}",
                    self.build.job,
                    self.log.display()
                ),
            )),
        }
    }
}

fn succeeded(number: u64) -> String {
    format!("build {number} succeeded")
}

fn after(facts: Option<&Facts>) -> u64 {
    facts
        .and_then(|facts| facts.get(AFTER)?.parse().ok())
        .unwrap_or(0)
}

#[async_trait]
impl Action for JobBuild {
    async fn observe(&self, scene: &Scene, facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        let found = self.found(scene, after(facts)).await?;
        Ok(match found {
            None => Observed::NotDone("no build of this run".to_owned()),
            Some(Found::Queued(why)) => {
                Observed::NotDone(format!("its build waits in the queue: {why}"))
            }
            Some(Found::Build(Build { number, verdict })) => match verdict {
                Some(Verdict::Success) => Observed::Done(succeeded(number)),
                Some(Verdict::Other(result)) => {
                    Observed::NotDone(format!("build {number} ended with {result}"))
                }
                None => Observed::NotDone(format!("build {number} is at work")),
            },
        })
    }

    async fn intend(&self, scene: &Scene, had: Option<&Facts>) -> Result<Facts, EdgeError> {
        self.can_be_made().await?;
        let mut before = after(had);
        // A build that failed is not the one that is wanted now; one that is at work is.
        if let Some(Found::Build(Build {
            number,
            verdict: Some(Verdict::Other(_)),
        })) = self.found(scene, before).await?
        {
            before = number;
        }
        Ok(Facts::from([(AFTER.to_owned(), before.to_string())]))
    }

    async fn is_possible(&self, _scene: &Scene) -> Result<(), EdgeError> {
        self.can_be_made().await
    }

    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        let after = after(Some(facts));
        let found = self.found(scene, after).await?;
        if found.is_none() {
            self.job.runs(&self.commands().await?).await?;
            self.job.ask(&[&self.token(scene, &scene.run)]).await?;
        }
        let begun = self
            .job
            .begun(&self.tokens(scene), after, found, told)
            .await;
        // A person finds out whether somebody cancelled it.
        let number = begun.map_err(|error| match error.kind {
            ErrorKind::Failed => EdgeError {
                kind: ErrorKind::Refused,
                ..error
            },
            _ => error,
        })?;
        self.follow(number, told).await
    }

    async fn undo(
        &self,
        _scene: &Scene,
        _facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        Ok(Reversed::Nothing(
            "what a build did is not known here: reverse it by hand".to_owned(),
        ))
    }
}

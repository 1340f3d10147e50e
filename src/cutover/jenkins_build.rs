//! `jenkins_build`: a freestyle job that is made to run the plan's command, built once, and followed to its end.
//!
//! Jenkins answers a request for a build with nothing that says which one it becomes. So each build is given the run and
//! the step as a parameter, and looked for by it before another one is asked for: in the queue, then among the builds.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use super::{Action, Observed, Reversed, Scene, Told};
use crate::{
    error::{EdgeError, ErrorKind},
    failpoint,
    ids::RunId,
    machine::Facts,
    plan::{JenkinsBuild, JobShell},
    process::{Redacted, Tail, keep},
    remote::jenkins::{
        Build, Found, Jenkins, Verdict, freestyle, has_parameter, is_ours, shell_steps,
    },
};

/// The parameter that says which run and step asked for a build.
const TOKEN: &str = "REKINDLE_RUN";

/// The fact that says which builds do not count: those that failed, and were asked for by an earlier try.
const AFTER: &str = "builds_after";

/// How often a build is looked at, in milliseconds.
const LOOK_MS: u32 = 1_000;

/// For how many looks a build that was asked for may be neither in the queue nor among the builds: half a minute, for a
/// controller that is busy. A build that was cancelled in the queue is given up after it.
const GRACE: u32 = 30;

pub(super) struct JobBuild {
    jenkins: Arc<Jenkins>,
    build: JenkinsBuild,
    plan: String,
    log: PathBuf,
    redacted: Redacted,
}

impl JobBuild {
    pub(super) const fn new(
        jenkins: Arc<Jenkins>,
        build: JenkinsBuild,
        plan: String,
        log: PathBuf,
        redacted: Redacted,
    ) -> Self {
        Self {
            jenkins,
            build,
            plan,
            log,
            redacted,
        }
    }

    /// Returns the latest build that this step asked for, by itself or before its state file was lost.
    async fn found(&self, scene: &Scene, after: u64) -> Result<Option<Found>, EdgeError> {
        for run in std::iter::once(&scene.run).chain(&scene.instead_of) {
            let token = token(scene, run);
            let job = &self.build.job;
            let found = self.jenkins.find(job, TOKEN, &token, after).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Returns the definition that the job should have, and the one it has.
    async fn definitions(&self) -> Result<(String, Option<String>), EdgeError> {
        let job = &self.build.job;
        let had = self.jenkins.config(job).await?;
        if had.as_ref().is_some_and(|had| !is_ours(had)) {
            return Err(EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "job `{job}` is there already and was not made by rekindle: it is not overwritten; name another one"
                ),
            ));
        }
        let commands = match &self.build.shell {
            JobShell::Given(command) => vec![command.text.expose_secret().to_owned()],
            JobShell::From(other) => {
                let missing = |what: &str| {
                    let text = format!("job `{other}` of `shell_from` {what}");
                    EdgeError::new(ErrorKind::Missing, text)
                };
                let config = self.jenkins.config(other).await?;
                let commands = shell_steps(&config.ok_or_else(|| missing("is not there"))?);
                if commands.is_empty() {
                    return Err(missing("has no step \"Execute shell\""));
                }
                commands
            }
        };
        Ok((freestyle(&self.plan, &[TOKEN], &commands), had))
    }

    /// Makes the job be as it should, and asks for a build.
    async fn ask(&self, scene: &Scene) -> Result<(), EdgeError> {
        let job = &self.build.job;
        let (wanted, had) = self.definitions().await?;
        let is_so = had.as_ref().is_some_and(|had| {
            has_parameter(had, TOKEN) && shell_steps(had) == shell_steps(&wanted)
        });
        if !is_so {
            self.jenkins.define(job, &wanted, had.is_some()).await?;
        }
        let token = token(scene, &scene.run);
        self.jenkins.build(job, &[(TOKEN, &token)]).await
    }

    /// Follows a build to its end.
    async fn follow(&self, number: u64, told: Told<'_>) -> Result<String, EdgeError> {
        let job = &self.build.job;
        let mut tail = Tail::new(self.redacted.clone());
        let mut start = 0;
        loop {
            let state = self.jenkins.state(job, number).await?;
            // After the state: what a build that ended still had to say is there by now.
            let (text, next) = self.jenkins.console(job, number, start).await?;
            start = next;
            tail.push(text.as_bytes());
            let printed = tail.text();
            if let Some(line) = printed.lines().rev().find(|line| !line.trim().is_empty()) {
                told(format!("build {number} of `{job}`: {line}"));
            }
            let Some(state) = state else {
                let gone = format!("build {number} of job `{job}` is gone");
                return Err(EdgeError::new(ErrorKind::Refused, gone));
            };
            if let Some(verdict) = state.verdict {
                if let Err(error) = keep(&self.log, &printed) {
                    tracing::warn!(%error, path = %self.log.display(), "the console of a build is not kept");
                }
                return match verdict {
                    Verdict::Success => Ok(succeeded(number)),
                    Verdict::Other(result) => Err(EdgeError::new(
                        ErrorKind::Refused,
                        format!(
                            "build {number} of job `{job}` ended with {result}; its console is in {}",
                            self.log.display()
                        ),
                    )),
                };
            }
            pause().await;
        }
    }
}

/// Returns what a build of this step of `run` is known by.
fn token(scene: &Scene, run: &RunId) -> String {
    format!("{run}.{}", scene.step)
}

/// Waits until a build is looked at again.
async fn pause() {
    let look = failpoint::number("jenkins_look_ms", LOOK_MS);
    sleep(Duration::from_millis(look.into())).await;
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
        // Refused before anything is done: a job of somebody else's, one to copy from that is not there.
        self.definitions().await?;
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
        self.definitions().await.map(drop)
    }

    async fn perform(
        &self,
        scene: &Scene,
        facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        let after = after(Some(facts));
        let mut found = self.found(scene, after).await?;
        if found.is_none() {
            self.ask(scene).await?;
        }
        let mut missed = 0;
        loop {
            match &found {
                Some(Found::Build(build)) => return self.follow(build.number, told).await,
                Some(Found::Queued(why)) => {
                    missed = 0;
                    told(format!("waits in the queue: {why}"));
                }
                None => {
                    missed += 1;
                    if missed > failpoint::number("jenkins_grace", GRACE) {
                        return Err(EdgeError::new(
                            ErrorKind::Refused,
                            "the build that was asked for is neither in the queue nor among the builds: it was cancelled, \
                             or Jenkins drops the parameter",
                        ));
                    }
                }
            }
            pause().await;
            found = self.found(scene, after).await?;
        }
    }

    async fn undo(&self, _scene: &Scene, _facts: Option<&Facts>) -> Result<Reversed, EdgeError> {
        Ok(Reversed::Nothing(
            "what a build did is not known here: reverse it by hand".to_owned(),
        ))
    }
}

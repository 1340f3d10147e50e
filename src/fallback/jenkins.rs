//! The shop's console in a job of Jenkins: one freestyle job of ours, told by a parameter what to start.
//!
//! A call is known by a token of its own, because Jenkins does not say which build a request becomes: an answer that was
//! lost is found again, and nothing is built twice as long as this process lives. After that it may be, which does no harm.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use super::{Call, Publisher, heading, said::last_line};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::JobConfig,
    process::{Redacted, Tail, log},
    remote::jenkins::{
        Build, Found, Jenkins, Verdict, freestyle, has_parameter, is_ours, shell_steps,
    },
};

/// The parameter that says which call it is.
const TOKEN: &str = "REKINDLE_CALL";

/// The parameter with what the console is asked for.
const ARGUMENTS: &str = "REKINDLE_ARGUMENTS";

/// How often a build is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long a build that was asked for may be neither in the queue nor among the builds.
const GRACE: Duration = Duration::from_secs(30);

pub(super) struct JenkinsPublisher {
    jenkins: Jenkins,
    config: JobConfig,
    asked: Call,
    plan: String,
    output: PathBuf,
    redacted: Redacted,
    place: String,
    /// Begins the tokens of this process.
    token: String,
    /// The last build that failed: whoever calls again wants another one.
    failed: AtomicU64,
}

impl JenkinsPublisher {
    pub(super) fn new(
        config: &JobConfig,
        asked: Call,
        plan: &str,
        output: PathBuf,
        redacted: Redacted,
    ) -> Result<Self, EdgeError> {
        let server = &config.jenkins;
        let jenkins = Jenkins::new(
            server.url.expose_secret(),
            &server.shown,
            server.user.clone(),
            server.tls.as_ref(),
        )?;
        Ok(Self {
            place: format!("job `{}` of {}", config.job, jenkins.place()),
            jenkins,
            config: config.clone(),
            asked,
            plan: plan.to_owned(),
            output,
            redacted,
            token: format!("{:016x}", fastrand::u64(..)),
            failed: AtomicU64::new(0),
        })
    }

    /// Makes the job be as it should.
    async fn defined(&self) -> Result<(), EdgeError> {
        let job = &self.config.job;
        let had = self.jenkins.config(job).await?;
        if had.as_ref().is_some_and(|had| !is_ours(had)) {
            return Err(EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "{} is there already and was not made by rekindle: it is not overwritten; name another one",
                    self.place
                ),
            ));
        }
        // Not quoted: the words of the call are letters, digits and a few signs that no shell minds.
        let console = self.config.jenkins.console.text.expose_secret();
        let wanted = freestyle(
            &self.plan,
            &[TOKEN, ARGUMENTS],
            &[format!("{console} ${ARGUMENTS}")],
        );
        let is_so = had.as_ref().is_some_and(|had| {
            has_parameter(had, TOKEN)
                && has_parameter(had, ARGUMENTS)
                && shell_steps(had) == shell_steps(&wanted)
        });
        if is_so {
            return Ok(());
        }
        self.jenkins.define(job, &wanted, had.is_some()).await
    }

    /// Returns the build with this token, having asked for it where nobody did.
    async fn built(&self, token: &str, arguments: &str) -> Result<u64, EdgeError> {
        let job = &self.config.job;
        let after = self.failed.load(Ordering::Relaxed);
        let mut found = self.jenkins.find(job, TOKEN, token, after).await?;
        if found.is_none() {
            self.defined().await?;
            let parameters = [(TOKEN, token), (ARGUMENTS, arguments)];
            self.jenkins.build(job, &parameters).await?;
        }
        let mut seen = Instant::now();
        loop {
            match found {
                Some(Found::Build(build)) => return Ok(build.number),
                Some(Found::Queued(_)) => seen = Instant::now(),
                None if seen.elapsed() > GRACE => {
                    return Err(EdgeError::new(
                        ErrorKind::Failed,
                        format!(
                            "{}: the build that was asked for is neither in the queue nor among the builds",
                            self.place
                        ),
                    ));
                }
                None => {}
            }
            sleep(LOOK).await;
            found = self.jenkins.find(job, TOKEN, token, after).await?;
        }
    }

    /// Follows a build to its end.
    async fn ended(&self, number: u64) -> Result<(), EdgeError> {
        let job = &self.config.job;
        let mut tail = Tail::new(self.redacted.clone());
        let mut start = 0;
        loop {
            let state = self.jenkins.state(job, number).await?;
            // After the state: what a build that ended still had to say is there by now.
            let (text, next) = self.jenkins.console(job, number, start).await?;
            start = next;
            tail.push(text.as_bytes());
            let verdict = match state {
                Some(Build { verdict, .. }) => verdict,
                None => Some(Verdict::Other("nothing: it is gone".to_owned())),
            };
            if let Some(verdict) = verdict {
                let printed = tail.text();
                let how = match &verdict {
                    Verdict::Success => "SUCCESS",
                    Verdict::Other(result) => result,
                };
                let heading = heading(&format!("build {number} of {job}"), how);
                if let Err(error) = log(&self.output, &heading, &printed) {
                    tracing::warn!(%error, path = %self.output.display(), "the console of a build is not kept");
                }
                return match verdict {
                    Verdict::Success => Ok(()),
                    Verdict::Other(result) => Err(EdgeError::new(
                        ErrorKind::Failed,
                        format!(
                            "{}: build {number} ended with {result}{} (its output is in {})",
                            self.place,
                            last_line(&printed)
                                .map(|line| format!("; its last line: {line}"))
                                .unwrap_or_default(),
                            self.output.display()
                        ),
                    )),
                };
            }
            sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl Publisher for JenkinsPublisher {
    fn place(&self) -> &str {
        &self.place
    }

    async fn call(&self, ids: &[String]) -> Result<(), EdgeError> {
        Call::check(ids, &self.place)?;
        let arguments = self.asked.words(ids).join(" ");
        // A call of other ids is another build.
        let hash = xxhash_rust::xxh3::xxh3_64(arguments.as_bytes());
        let token = format!("{}{hash:016x}", self.token);
        let number = self.built(&token, &arguments).await?;
        let ended = self.ended(number).await;
        if let Err(error) = &ended
            && error.kind == ErrorKind::Failed
        {
            self.failed.store(number, Ordering::Relaxed);
        }
        ended
    }

    fn shown(&self, ids: &[String]) -> String {
        format!(
            "{}: {} {}",
            self.place,
            self.config.jenkins.console.typed,
            self.asked.words(ids).join(" ")
        )
    }
}

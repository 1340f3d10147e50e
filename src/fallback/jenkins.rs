//! The shop's console in a job of Jenkins: one freestyle job of ours, told by a parameter what to start.
//!
//! A call is known by a token of its own, because Jenkins does not say which build a request becomes: an answer that was
//! lost is found again, and nothing is built twice as long as this process lives. After that it may be, which does no harm.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use secrecy::ExposeSecret;

use super::{Call, Publisher, heading, said::last_line};
use crate::{
    error::{EdgeError, ErrorKind},
    plan::JobConfig,
    process::{Redacted, log},
    remote::jenkins::{Ended, Jenkins, OwnJob, Verdict},
};

/// The parameter that says which call it is.
const TOKEN: &str = "REKINDLE_CALL";

/// The parameter with what the console is asked for.
const ARGUMENTS: &str = "REKINDLE_ARGUMENTS";

pub(super) struct JenkinsPublisher {
    job: OwnJob,
    config: JobConfig,
    asked: Call,
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
            job: OwnJob::new(
                Arc::new(jenkins),
                config.job.clone(),
                plan.to_owned(),
                &[TOKEN, ARGUMENTS],
            ),
            config: config.clone(),
            asked,
            output,
            redacted,
            token: format!("{:016x}", fastrand::u64(..)),
            failed: AtomicU64::new(0),
        })
    }

    /// Returns the build with this token, having asked for it where nobody did.
    async fn built(&self, token: &str, arguments: &str) -> Result<u64, EdgeError> {
        let after = self.failed.load(Ordering::Relaxed);
        let tokens = [token.to_owned()];
        let found = self.job.found(&tokens, after).await?;
        if found.is_none() {
            // Not quoted: the words of the call are letters, digits and a few signs that no shell minds.
            let console = self.config.jenkins.console.text.expose_secret();
            self.job.runs(&[format!("{console} ${ARGUMENTS}")]).await?;
            self.job.ask(&[token, arguments]).await?;
        }
        self.job.begun(&tokens, after, found, |_| {}).await
    }

    /// Follows a build to its end.
    async fn ended(&self, number: u64) -> Result<(), EdgeError> {
        let Ended { verdict, printed } = self.job.ended(number, &self.redacted, |_| {}).await?;
        let how = match &verdict {
            Verdict::Success => "SUCCESS",
            Verdict::Other(result) => result,
        };
        let heading = heading(&format!("build {number} of {}", self.config.job), how);
        if let Err(error) = log(&self.output, &heading, &printed) {
            tracing::warn!(%error, path = %self.output.display(), "the console of a build is not kept");
        }
        match verdict {
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

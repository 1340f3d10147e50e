//! One freestyle job of ours: made as it should be, asked for a build that is known by a parameter, followed to its end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{Build, Found, Jenkins, Verdict, freestyle, has_parameter, is_ours, shell_steps};
use crate::{
    error::{EdgeError, ErrorKind},
    process::{Redacted, Tail},
};

/// How often a build is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long a build that was asked for may be neither in the queue nor among the builds.
const GRACE: Duration = Duration::from_secs(30);

/// A job whose builds are told apart by its first parameter: Jenkins does not say which build a request becomes.
pub struct OwnJob {
    jenkins: Arc<Jenkins>,
    name: String,
    plan: String,
    parameters: &'static [&'static str],
}

/// How a build ended, and the end of what it printed, without secrets.
pub struct Ended {
    /// How it ended; of one that is gone nobody knows.
    pub verdict: Verdict,
    /// The end of its console.
    pub printed: String,
}

impl OwnJob {
    /// Returns job `name` of `jenkins`, made for `plan`. Connects to nothing. There is at least one parameter.
    #[must_use]
    pub const fn new(
        jenkins: Arc<Jenkins>,
        name: String,
        plan: String,
        parameters: &'static [&'static str],
    ) -> Self {
        Self {
            jenkins,
            name,
            plan,
            parameters,
        }
    }

    /// Returns the Jenkins that it is a job of.
    #[must_use]
    pub fn jenkins(&self) -> &Jenkins {
        &self.jenkins
    }

    /// Returns its definition; `None` where there is no such job yet.
    ///
    /// # Errors
    ///
    /// `Refused` where somebody else made it: it is never overwritten.
    pub async fn definition(&self) -> Result<Option<String>, EdgeError> {
        let had = self.jenkins.config(&self.name).await?;
        if had.as_ref().is_some_and(|had| !is_ours(had)) {
            return Err(EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "job `{}` of {} is there already and was not made by rekindle: it is not overwritten; name another one",
                    self.name,
                    self.jenkins.place()
                ),
            ));
        }
        Ok(had)
    }

    /// Makes it run `commands`, one after the other, where it does not yet.
    pub async fn runs(&self, commands: &[String]) -> Result<(), EdgeError> {
        let had = self.definition().await?;
        let wanted = freestyle(&self.plan, self.parameters, commands);
        let is_so = had.as_ref().is_some_and(|had| {
            let mut parameters = self.parameters.iter();
            parameters.all(|name| has_parameter(had, name))
                && shell_steps(had) == shell_steps(&wanted)
        });
        if is_so {
            return Ok(());
        }
        self.jenkins
            .define(&self.name, &wanted, had.is_some())
            .await
    }

    /// Asks for a build with these values of its parameters, the first of which it is known by. After an error it may have been
    /// asked for all the same.
    pub async fn ask(&self, values: &[&str]) -> Result<(), EdgeError> {
        let named: Vec<_> = self
            .parameters
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect();
        self.jenkins.build(&self.name, &named).await
    }

    /// Returns the latest build after number `after` that is known by the first of `tokens` of which there is one.
    pub async fn found(&self, tokens: &[String], after: u64) -> Result<Option<Found>, EdgeError> {
        for token in tokens {
            let known_by = self.parameters.first().copied().unwrap_or_default();
            let found = self
                .jenkins
                .find(&self.name, known_by, token, after)
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Waits until the build that was asked for has begun, and returns its number. `found` is what the last look saw, `told`
    /// hears why it waits.
    ///
    /// # Errors
    ///
    /// `Failed` where it is nowhere to be seen any more.
    pub async fn begun(
        &self,
        tokens: &[String],
        after: u64,
        mut found: Option<Found>,
        told: impl Fn(String) + Send,
    ) -> Result<u64, EdgeError> {
        let mut seen = Instant::now();
        loop {
            match found {
                Some(Found::Build(build)) => return Ok(build.number),
                Some(Found::Queued(why)) => {
                    seen = Instant::now();
                    told(format!("waits in the queue: {why}"));
                }
                None if seen.elapsed() > GRACE => {
                    return Err(EdgeError::new(
                        ErrorKind::Failed,
                        format!(
                            "job `{}` of {}: the build that was asked for is neither in the queue nor among the builds: it was \
                             cancelled, or Jenkins drops the parameter",
                            self.name,
                            self.jenkins.place()
                        ),
                    ));
                }
                None => {}
            }
            sleep(LOOK).await;
            found = self.found(tokens, after).await?;
        }
    }

    /// Follows build `number` to its end. `told` hears the last line that it printed.
    pub async fn ended(
        &self,
        number: u64,
        redacted: &Redacted,
        told: impl Fn(String) + Send,
    ) -> Result<Ended, EdgeError> {
        let mut tail = Tail::new(redacted.clone());
        let mut start = 0;
        loop {
            let state = self.jenkins.state(&self.name, number).await?;
            // After the state: what a build that ended still had to say is there by now.
            if state.is_some() {
                let (text, next) = self.jenkins.console(&self.name, number, start).await?;
                start = next;
                tail.push(text.as_bytes());
            }
            let printed = tail.text();
            if let Some(line) = printed.lines().rev().find(|line| !line.trim().is_empty()) {
                told(format!("build {number} of `{}`: {line}", self.name));
            }
            let verdict = match state {
                Some(Build { verdict, .. }) => verdict,
                None => Some(Verdict::Other("nothing: it is gone".to_owned())),
            };
            if let Some(verdict) = verdict {
                return Ok(Ended { verdict, printed });
            }
            sleep(LOOK).await;
        }
    }
}

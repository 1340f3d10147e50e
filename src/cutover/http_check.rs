//! `http_check`: a page that answers as it should.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use secrecy::ExposeSecret;

use super::{Action, Observed, Reversed, Scene, Told};
use crate::{
    error::EdgeError,
    machine::Facts,
    plan::{Hidden, HttpCheck},
    remote::http,
};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// How often the page is asked for.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct PageCheck {
    client: Client,
    url: Hidden,
    shown: String,
    status: u16,
}

impl PageCheck {
    pub(super) fn new(check: &HttpCheck) -> Result<Self, EdgeError> {
        Ok(Self {
            client: http::client(&check.shown, check.tls.as_ref(), ANSWER)?,
            url: check.url.clone(),
            shown: check.shown.clone(),
            status: check.status,
        })
    }

    /// Asks once. A server that cannot be reached is a page that does not answer as it should.
    async fn ask(&self) -> Observed {
        let answer = self.client.get(self.url.text.expose_secret()).send().await;
        match answer {
            Ok(answer) if answer.status().as_u16() == self.status => {
                Observed::Done(format!("{} answers {}", self.shown, self.status))
            }
            Ok(answer) => Observed::NotDone(format!(
                "{} answers {}, not {}",
                self.shown,
                answer.status().as_u16(),
                self.status
            )),
            Err(error) => Observed::NotDone(http::unanswered(&self.shown, error).to_string()),
        }
    }
}

#[async_trait]
impl Action for PageCheck {
    async fn observe(&self, _scene: &Scene, _facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        Ok(self.ask().await)
    }

    async fn perform(
        &self,
        _scene: &Scene,
        _facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        loop {
            match self.ask().await {
                Observed::Done(how) => return Ok(how),
                Observed::NotDone(why) => told(why),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn undo(
        &self,
        _scene: &Scene,
        _facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        Ok(Reversed::Nothing("looking changes nothing".to_owned()))
    }
}

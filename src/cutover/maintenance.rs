//! `maintenance` and `maintenance_off`: one page, put up and taken away.

use async_trait::async_trait;

use super::{Action, Observed, Reversed, Scene, Told, script::Runner};
use crate::{
    error::{EdgeError, ErrorKind},
    machine::Facts,
    plan::Maintenance,
};

/// Puts the page up, or takes it away; undoing is the other one.
pub(super) struct PageSwitch {
    page: Maintenance,
    up: bool,
    runner: Runner,
}

impl PageSwitch {
    pub(super) const fn new(page: Maintenance, up: bool, runner: Runner) -> Self {
        Self { page, up, runner }
    }

    async fn is_up(&self, scene: &Scene) -> Result<bool, EdgeError> {
        self.runner.holds(scene, "check", &self.page.check).await
    }

    /// Makes the page be up, or not, and makes sure.
    async fn switch(&self, scene: &Scene, up: bool) -> Result<String, EdgeError> {
        let (what, script) = if up {
            ("on", &self.page.on)
        } else {
            ("off", &self.page.off)
        };
        self.runner.act(scene, what, script).await?;
        let is_up = self.is_up(scene).await?;
        if is_up == up {
            return Ok(words(up).to_owned());
        }
        Err(EdgeError::new(
            ErrorKind::Refused,
            format!(
                "`{what}` ended with exit code 0, and `check` says that {}",
                words(is_up)
            ),
        ))
    }
}

const fn words(is_up: bool) -> &'static str {
    if is_up {
        "the page is up"
    } else {
        "the page is not up"
    }
}

#[async_trait]
impl Action for PageSwitch {
    async fn observe(&self, scene: &Scene, _facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        let is_up = self.is_up(scene).await?;
        let said = words(is_up).to_owned();
        Ok(if is_up == self.up {
            Observed::Done(said)
        } else {
            Observed::NotDone(said)
        })
    }

    async fn perform(
        &self,
        scene: &Scene,
        _facts: &Facts,
        _told: Told<'_>,
    ) -> Result<String, EdgeError> {
        self.switch(scene, self.up).await
    }

    async fn undo(
        &self,
        scene: &Scene,
        _facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        if self.is_up(scene).await? != self.up {
            return Ok(Reversed::Undone(words(!self.up).to_owned()));
        }
        self.switch(scene, !self.up).await.map(Reversed::Undone)
    }
}

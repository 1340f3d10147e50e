//! `shell`: a command of the plan's author, which can be observed (`check`) or repeated.

use async_trait::async_trait;

use super::{Action, Observed, Reversed, Scene, Told, script::Runner};
use crate::{
    error::{EdgeError, ErrorKind},
    machine::Facts,
    plan::Shell,
};

pub(super) struct ShellAction {
    shell: Shell,
    runner: Runner,
}

impl ShellAction {
    pub(super) const fn new(shell: Shell, runner: Runner) -> Self {
        Self { shell, runner }
    }
}

#[async_trait]
impl Action for ShellAction {
    async fn observe(&self, scene: &Scene, _facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        let Some(check) = &self.shell.check else {
            return Ok(Observed::NotDone("it may be run again".to_owned()));
        };
        Ok(if self.runner.holds(scene, "check", check).await? {
            Observed::Done("`check` says so".to_owned())
        } else {
            Observed::NotDone("`check` says that it is not done".to_owned())
        })
    }

    fn can_tell(&self) -> bool {
        self.shell.check.is_some()
    }

    async fn perform(
        &self,
        scene: &Scene,
        _facts: &Facts,
        _told: Told<'_>,
    ) -> Result<String, EdgeError> {
        self.runner.act(scene, "run", &self.shell.run).await?;
        match &self.shell.check {
            Some(check) if !self.runner.holds(scene, "check", check).await? => Err(EdgeError::new(
                ErrorKind::Refused,
                "`run` ended with exit code 0, and `check` says that it is not done",
            )),
            Some(_) => Ok("`run` ended with 0, and `check` says so".to_owned()),
            None => Ok("`run` ended with 0".to_owned()),
        }
    }

    async fn undo(
        &self,
        scene: &Scene,
        _facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        let Some(undo) = &self.shell.undo else {
            // What it is in the middle of is not pulled away from under it.
            self.runner.alone().await?;
            return Ok(Reversed::Nothing(
                "the plan has no `undo` for it: reverse it by hand".to_owned(),
            ));
        };
        self.runner.act(scene, "undo", undo).await?;
        Ok(Reversed::Undone("`undo` ended with 0".to_owned()))
    }
}

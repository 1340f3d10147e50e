//! `approve`: a person looks, and types `rekindle approve PLAN`.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;

use super::{Action, Observed, Reversed, Scene, Told};
use crate::{control, error::EdgeError, machine::Facts};

/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(200);

pub(super) struct Approve {
    question: String,
    state_path: PathBuf,
}

impl Approve {
    pub(super) const fn new(question: String, state_path: PathBuf) -> Self {
        Self {
            question,
            state_path,
        }
    }

    /// Returns who approved this step of this run.
    fn answer(&self, scene: &Scene) -> Option<String> {
        control::approved(&self.state_path, &scene.run, scene.step)
            .map(|approval| format!("approved by {}", approval.by))
    }
}

#[async_trait]
impl Action for Approve {
    async fn observe(&self, scene: &Scene, _facts: Option<&Facts>) -> Result<Observed, EdgeError> {
        Ok(self.answer(scene).map_or_else(
            || Observed::NotDone(format!("nobody has answered: {}", self.question)),
            Observed::Done,
        ))
    }

    async fn perform(
        &self,
        scene: &Scene,
        _facts: &Facts,
        told: Told<'_>,
    ) -> Result<String, EdgeError> {
        told(format!("a person is asked: {}", self.question));
        loop {
            if let Some(answer) = self.answer(scene) {
                return Ok(answer);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn undo(
        &self,
        _scene: &Scene,
        _facts: Option<&Facts>,
        _told: Told<'_>,
    ) -> Result<Reversed, EdgeError> {
        Ok(Reversed::Nothing("an answer changes nothing".to_owned()))
    }
}

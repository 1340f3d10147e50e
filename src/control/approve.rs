//! The answer of a person whom a step asked.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::{beside, put, text};
use crate::ids::{RunId, StepId};

const SUFFIX: &str = ".approve";

/// Who approved which step of which run, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The run.
    pub run: RunId,
    /// The step that asked.
    pub step: StepId,
    /// Milliseconds since 1970 by that machine's clock.
    pub at_ms: i64,
    /// User and host, for people.
    pub by: String,
}

/// Puts the answer beside the state file at `state`. It stays there: it counts for no other step and no other run, and
/// the run that takes note of it may die before that is journaled.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn approve(state: &Path, approval: &Approval) -> io::Result<()> {
    put(&beside(state, SUFFIX), &serde_json::to_string(approval)?)
}

/// Returns the approval of this step of this run. A file that cannot be understood is none.
#[must_use]
pub fn approved(state: &Path, run: &RunId, step: StepId) -> Option<Approval> {
    let approval: Approval = serde_json::from_str(&text(&beside(state, SUFFIX))?).ok()?;
    (approval.run == *run && approval.step == step).then_some(approval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_own_step_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("shop.sqlite");
        let (run, other) = (RunId::from_text("7F3K2M"), RunId::from_text("7F3K2N"));
        assert_eq!(approved(&state, &run, StepId(2)), None);
        let approval = Approval {
            run: run.clone(),
            step: StepId(2),
            at_ms: 5,
            by: "ada".to_owned(),
        };
        approve(&state, &approval).unwrap();
        assert_eq!(approved(&state, &run, StepId(2)), Some(approval));
        assert_eq!(approved(&state, &run, StepId(1)), None);
        assert_eq!(approved(&state, &other, StepId(2)), None);
        std::fs::write(folder.path().join("shop.sqlite.approve"), "{").unwrap();
        assert_eq!(approved(&state, &run, StepId(2)), None);
    }
}

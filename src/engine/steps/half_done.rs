//! A cutover that is half done is gone on with, or taken back, before another one begins.

use crate::{
    failure::{Exit, Failure, without_scope},
    ids::{RunId, StepNumber},
    machine::{Ledger, RunLedger, RunState},
};

/// What the titles of steps begin with that take the name from an instance.
const RENAMES: &str = "rds_rename ";

/// Refuses a run (`goes_on`: the one that is gone on with; `is_new`: what is unfinished would be given up) where an earlier
/// one took the name from an instance, and was given up or reversed in part: another run would take what that one left
/// for the world as it should be, and nobody would give the name back.
///
/// # Errors
///
/// A [`Failure`] with exit code 3 that names the run and its step.
pub(in crate::engine) fn refuse_half_done(
    ledger: &Ledger,
    goes_on: Option<&RunId>,
    is_new: bool,
    typed: &str,
) -> Result<(), Failure> {
    let runs = ledger.runs.iter().rev();
    for run in runs.filter(|run| run.scope.is_whole() && goes_on != Some(&run.id)) {
        let would_be_given_up = is_new && !run.state.is_over();
        let is_left = run.state == RunState::Cancelled || run.is_being_reversed();
        if (would_be_given_up || is_left)
            && let Some(step) = renamed(run)
        {
            let plan = without_scope(typed);
            let next = if is_left {
                format!("`rekindle undo {plan}` gives the name back")
            } else {
                format!(
                    "`rekindle run {plan}` goes on with it; or `rekindle undo {plan}` gives the name back, then begin anew"
                )
            };
            return Err(Failure::new(
                Exit::Refused,
                format!("run {} is half done", run.id),
                "nothing was begun",
                next,
            )
            .why(format!("{step} is done or was begun, and is not reversed")));
        }
        if run.state == RunState::Done {
            // Whatever was before it came to an end with it.
            return Ok(());
        }
    }
    Ok(())
}

/// Returns what people call the step of `run` that took a name and did not give it back.
pub(super) fn renamed(run: &RunLedger) -> Option<String> {
    let mut steps = run.steps.iter().enumerate();
    steps
        .find(|(_, step)| step.planned.title.starts_with(RENAMES) && run.has_to_reverse(step))
        .map(|(index, step)| super::name(&run.steps, StepNumber::at(index), step))
}

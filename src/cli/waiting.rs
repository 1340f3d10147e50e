//! Runs of a plan that wait beside the one that a command is about: which, and what goes on with each.

use super::{connect, status};
use crate::{
    machine::{Ledger, RunLedger},
    report::human::moment,
};

/// Returns a sentence for each run that is not over, but for `taken`, the latest first. `plan` is what is typed of the plan alone.
pub fn beside(ledger: &Ledger, taken: &RunLedger, plan: &str) -> Vec<String> {
    let resumed = ledger.unfinished(None).map(|run| &run.id);
    let waiting = ledger.runs.iter().rev();
    waiting
        .filter(|run| !run.state.is_over() && run.id != taken.id)
        .map(|run| {
            let by = if resumed == Some(&run.id) {
                format!("`rekindle resume {plan}`")
            } else if run.scope.rows.is_empty() {
                format!("`rekindle run {plan}{}`", connect::scope_flags(&run.scope))
            } else {
                format!("`rekindle dead-letters retry {plan}`")
            };
            format!(
                "run {} ({}, begun {}) waits, too: {by} goes on with it",
                run.id,
                status::scope(run),
                moment(run.opened_ms)
            )
        })
        .collect()
}

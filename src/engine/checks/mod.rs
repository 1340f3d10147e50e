//! What only the servers of a plan can find wrong with it. They are asked once, and change nothing by it; then each rule looks
//! at the answers and notes its problems: one rule per file.
//!
//! ```text
//! plan, places -> ask -> Answers -rules-> diagnostics
//! ```

mod ask;
mod catch_up;
mod coverage;
mod cursor;
mod database;
mod eviction;
mod ids;
mod ignored;
mod indexes;
mod names;
mod program;
mod queues;
mod replica;
mod rights;
mod room;
mod source;
mod stores;
mod targets;

pub use ask::{Answers, Described, TargetAnswer, ask};
pub use coverage::{Coverage, Uncovered};
pub use room::no_room;

use crate::plan::{Code, Diagnostic, Places, Plan};

/// What a rule looks at.
pub(super) struct Scene<'a> {
    pub plan: &'a Plan,
    pub places: &'a Places,
    pub answers: &'a Answers,
}

/// A rule: notes what it finds.
type Rule = fn(&Scene<'_>, &mut Vec<Diagnostic>);

const RULES: [Rule; 15] = [
    source::check,
    rights::check,
    names::check,
    cursor::check,
    catch_up::check,
    ids::check,
    program::check,
    targets::check,
    queues::check,
    eviction::check,
    replica::check,
    database::check,
    indexes::check,
    stores::check,
    coverage::check,
];

/// Returns what is wrong with `plan` by what its servers answered, errors and warnings, in the order of the file; what has no
/// place in it comes last.
#[must_use]
pub fn check(plan: &Plan, places: &Places, answers: &Answers) -> Vec<Diagnostic> {
    let scene = Scene {
        plan,
        places,
        answers,
    };
    let mut problems = Vec::new();
    for rule in RULES {
        rule(&scene, &mut problems);
    }
    ignored::check(&scene, &mut problems);
    for problem in &mut problems {
        name_defaults(places, problem);
    }
    let place = |problem: &Diagnostic| problem.places.first().map(|place| place.span);
    problems.sort_by_key(|problem| (place(problem).is_none(), place(problem)));
    problems
}

/// Says which variables have no value, where that may be why the server of the plan is the wrong one, or wants a password: what
/// `init` writes has defaults without one.
fn name_defaults(places: &Places, problem: &mut Diagnostic) {
    let may_be_why = matches!(
        problem.code,
        Code::SourceCredentials
            | Code::SourceUnreachable
            | Code::SourceRefused
            | Code::TargetCredentials
            | Code::TargetUnreachable
            | Code::TargetRefused
            | Code::NoDatabase
            | Code::OtherDatabase
    );
    let names = places.defaulted(problem.places.first().map(|place| place.span));
    if !may_be_why || names.is_empty() {
        return;
    }
    let (are, defaults_were) = if names.len() == 1 {
        ("is", "default was")
    } else {
        ("are", "defaults were")
    };
    let said = format!(
        "`{}` {are} unset or empty, so the plan's {defaults_were} used",
        names.join("`, `"),
    );
    problem.help = Some(match problem.help.take() {
        Some(help) => format!("{said}; {help}"),
        None => said,
    });
}
